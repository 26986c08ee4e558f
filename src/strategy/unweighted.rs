//! Unweighted: the mean of x and the update.

use super::{
    FoldError, Round, Strategy,
    mixing::{
        FEDASYNC_A, MIXING_ALPHA, Mixed, Mixing, NUM_CLIENTS, SEND_GRADIENTS, SERVER_ARTIFICIAL_DELAY, STALENESS_ALPHA,
        Settings, Step, TOTAL_SAMPLES, USE_SAMPLE_WEIGHING, USE_STALENESS,
    },
    parameters::{ACCEPT_FAILURES, ASYNC_REFERENCE, ParameterInfo, Parameters, StrategyError, StrategyInfo},
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "unweighted",
    aliases: &[],
    summary: "one update after the other: x = (x + w)/2",
    paper: "flower-async",
    parameters: &[
        SEND_GRADIENTS,
        ParameterInfo { meaning: "flower-async's; this rule doesn't use it", ..USE_STALENESS },
        ParameterInfo { meaning: "flower-async's; this rule doesn't use it", ..USE_SAMPLE_WEIGHING },
        ParameterInfo { meaning: "flower-async's; this rule doesn't use it", ..TOTAL_SAMPLES },
        STALENESS_ALPHA,
        NUM_CLIENTS,
        MIXING_ALPHA,
        FEDASYNC_A,
        SERVER_ARTIFICIAL_DELAY,
        ACCEPT_FAILURES,
        ASYNC_REFERENCE,
    ],
    build,
};

/// x ← (x + w)/2 for each update in the round's order: the later, the heavier.
struct Unweighted;

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    Ok(Mixed::strategy(Unweighted, Settings::of(parameters)?))
}

impl Mixing for Unweighted {
    const INFO: StrategyInfo = INFO;
    const STEP: Step = Step::Half;

    fn rates(&self, round: &Round<'_>) -> Result<Vec<f64>, FoldError> {
        Ok(vec![0.5; round.updates.len()])
    }
}
