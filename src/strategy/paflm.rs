//! PAFLM's weighting of asynchronous updates.

use super::{
    FoldError, Round, Strategy,
    mixing::{
        FEDASYNC_A, MIXING_ALPHA, Mixed, Mixing, NUM_CLIENTS, SEND_GRADIENTS, SERVER_ARTIFICIAL_DELAY, STALENESS_ALPHA,
        Settings, Step, TOTAL_SAMPLES, USE_SAMPLE_WEIGHING, USE_STALENESS,
    },
    parameters::{ACCEPT_FAILURES, ASYNC_REFERENCE, ParameterInfo, Parameters, StrategyError, StrategyInfo},
};

pub(super) const PARAMETERS: &[ParameterInfo] = &[
    ParameterInfo { meaning: "base of the weight, a number above 0", ..STALENESS_ALPHA },
    ParameterInfo { meaning: "how many clients τ is counted against, a number above 0", ..NUM_CLIENTS },
    USE_STALENESS,
    USE_SAMPLE_WEIGHING,
    TOTAL_SAMPLES,
    SEND_GRADIENTS,
    MIXING_ALPHA,
    FEDASYNC_A,
    SERVER_ARTIFICIAL_DELAY,
    ACCEPT_FAILURES,
    ASYNC_REFERENCE,
];

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "paflm",
    aliases: &["asyncfededpaflm"],
    summary: "one update after the other: x += η·(w - x), η = staleness_alpha^(τ/num_clients - 1); flower-async calls it \
              AsyncFedED",
    paper: "Lu et al. 2020, Privacy-Preserving Asynchronous Federated Learning Mechanism for Edge Network Computing",
    parameters: PARAMETERS,
    build,
};

/// x ← x + η·(w − x), η = staleness_alpha^(τ/num_clients − 1)[·n_k/N_total], for each update in the round's order. η is
/// above 1 for fresh updates, as in the reference.
struct Paflm {
    alpha: f64,
    clients: Option<f64>,
    settings: Settings,
}

pub(super) fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let settings = Settings::of(parameters)?;
    let above_0 = |name, default| parameters.number(name, default, "a number above 0", |number| number > 0.0);
    let clients = above_0(NUM_CLIENTS.name, 1.0)?;
    let rule = Paflm {
        alpha: above_0(STALENESS_ALPHA.name, 0.9)?,
        clients: parameters.is_set(NUM_CLIENTS.name).then_some(clients),
        settings,
    };
    Ok(Mixed::strategy(rule, settings))
}

impl Mixing for Paflm {
    const INFO: StrategyInfo = INFO;
    const STEP: Step = Step::Towards;

    fn rates(&self, round: &Round<'_>) -> Result<Vec<f64>, FoldError> {
        let samples = self.settings.sample_weights(round)?;
        let clients = self.clients.unwrap_or(round.updates.len() as f64);
        let weight = |tau: f64| match self.settings.use_staleness {
            true => self.alpha.powf(1.0 / clients * tau - 1.0),
            false => 1.0,
        };
        Ok(round.updates.iter().zip(samples).map(|(update, sample)| weight(update.staleness) * sample).collect())
    }
}
