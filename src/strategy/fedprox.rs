//! FedProx: FedAvg, with a proximal term in local training.

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    fedavg::{self, INPLACE, mean_by_examples},
    mean::Rounding,
    parameters::{ACCEPT_FAILURES, MAX_SHARE, ParameterInfo, Parameters, REFERENCE, StrategyError, StrategyInfo},
};

const PROXIMAL_MU: &str = "proximal_mu";

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedprox",
    aliases: &[],
    summary: "folds as fedavg; local training adds μ/2·‖w - w_start‖² to its loss",
    paper: "Li et al. 2020, Federated Optimization in Heterogeneous Networks",
    parameters: &[
        ParameterInfo {
            name: PROXIMAL_MU,
            default: "0.01",
            meaning: "μ of local training, a number from 0; the fold doesn't use it",
        },
        INPLACE,
        MAX_SHARE,
        ACCEPT_FAILURES,
        REFERENCE,
    ],
    build,
};

/// The fold is FedAvg's (Li et al. 2020, algorithm 2); the term is the trainer's.
struct FedProx {
    rounding: Rounding,
}

/// μ of local training.
pub(super) fn proximal_mu(parameters: &Parameters<'_>) -> Result<f64, StrategyError> {
    parameters.number(PROXIMAL_MU, 0.01, "a number from 0", |mu| mu >= 0.0)
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    proximal_mu(parameters)?;
    let common = parameters.common()?;
    Ok(Combined::strategy(FedProx { rounding: fedavg::rounding(parameters, &common)? }, common))
}

impl Combination for FedProx {
    const INFO: StrategyInfo = INFO;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        mean_by_examples(at, self.rounding)
    }
}
