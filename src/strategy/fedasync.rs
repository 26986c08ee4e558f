//! FedAsync: each update is mixed into x, the less the staler it is.

use super::{
    FoldError, Round, Strategy,
    mixing::{
        FEDASYNC_A, MIXING_ALPHA, Mixed, Mixing, NUM_CLIENTS, SEND_GRADIENTS, SERVER_ARTIFICIAL_DELAY, STALENESS_ALPHA,
        Settings, Step, TOTAL_SAMPLES, USE_SAMPLE_WEIGHING, USE_STALENESS,
    },
    parameters::{ACCEPT_FAILURES, ASYNC_REFERENCE, ParameterInfo, Parameters, StrategyError, StrategyInfo},
};

const STALENESS_FUNCTION: &str = "staleness_function";

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedasync",
    aliases: &[],
    summary: "one update after the other: x = (1 - α_t)·x + α_t·w, α_t = α·s(τ)",
    paper: "Xie et al. 2020, Asynchronous Federated Optimization",
    parameters: &[
        ParameterInfo {
            default: "0.6; 0.9 with reference flower-async",
            meaning: "α, a number from 0 to 1: how much a fresh update counts",
            ..MIXING_ALPHA
        },
        USE_STALENESS,
        ParameterInfo {
            name: STALENESS_FUNCTION,
            default: "polynomial",
            meaning: "s(τ): constant is 1, polynomial (τ+1)^-a, hinge 1 up to τ = b, then 1/(a·(τ-b)+1)",
        },
        ParameterInfo { meaning: "a of the polynomial, a number from 0", ..FEDASYNC_A },
        ParameterInfo { name: "hinge_a", default: "10", meaning: "a of the hinge, a number from 0" },
        ParameterInfo { name: "hinge_b", default: "4", meaning: "b of the hinge, a number from 0" },
        USE_SAMPLE_WEIGHING,
        TOTAL_SAMPLES,
        SEND_GRADIENTS,
        STALENESS_ALPHA,
        NUM_CLIENTS,
        SERVER_ARTIFICIAL_DELAY,
        ACCEPT_FAILURES,
        ASYNC_REFERENCE,
    ],
    build,
};

/// x ← (1 − α_t)·x + α_t·w, α_t = α·s(τ)[·n_k/N_total] in [0, 1] (Xie et al. 2020, algorithm 1 and section 5.2), for each
/// update in the round's order: the later, the heavier.
struct FedAsync {
    alpha: f64,
    staleness: Staleness,
    settings: Settings,
}

#[derive(Debug, Clone, Copy)]
enum Staleness {
    Constant,
    Polynomial { a: f64 },
    Hinge { a: f64, b: f64 },
}

impl Staleness {
    fn weight(self, tau: f64) -> f64 {
        match self {
            Staleness::Constant => 1.0,
            Staleness::Polynomial { a } => (tau + 1.0).powf(-a),
            Staleness::Hinge { b, .. } if tau <= b => 1.0,
            Staleness::Hinge { a, b } => 1.0 / (a * (tau - b) + 1.0),
        }
    }
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let settings = Settings::of(parameters)?;
    let from_0 = |name, default| parameters.number(name, default, "a number from 0", |number| number >= 0.0);
    let (a, hinge_a, hinge_b) = (from_0(FEDASYNC_A.name, 0.5)?, from_0("hinge_a", 10.0)?, from_0("hinge_b", 4.0)?);
    let staleness = match parameters.choice(STALENESS_FUNCTION, &["polynomial", "constant", "hinge"])? {
        _ if !settings.use_staleness => Staleness::Constant,
        "constant" => Staleness::Constant,
        "hinge" => Staleness::Hinge { a: hinge_a, b: hinge_b },
        _ => Staleness::Polynomial { a },
    };
    let default = if settings.common.reference.is_some() { 0.9 } else { 0.6 };
    let alpha =
        parameters.number(MIXING_ALPHA.name, default, "a number from 0 to 1", |alpha| (0.0..=1.0).contains(&alpha))?;
    Ok(Mixed::strategy(FedAsync { alpha, staleness, settings }, settings))
}

impl Mixing for FedAsync {
    const INFO: StrategyInfo = INFO;
    const STEP: Step = Step::Mix;

    fn rates(&self, round: &Round<'_>) -> Result<Vec<f64>, FoldError> {
        let samples = self.settings.sample_weights(round)?;
        let rate = |tau: f64, sample: f64| (self.alpha * self.staleness.weight(tau) * sample).clamp(0.0, 1.0);
        Ok(round.updates.iter().zip(samples).map(|(update, sample)| rate(update.staleness, sample)).collect())
    }
}
