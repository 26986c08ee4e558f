//! FedAvg: the mean of the updates, weighted by their examples.

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    mean::Rounding,
    parameters::{
        ACCEPT_FAILURES, Common, MAX_SHARE, ParameterInfo, Parameters, REFERENCE, Reference, StrategyError,
        StrategyInfo,
    },
};

pub(super) const INPLACE: ParameterInfo = ParameterInfo {
    name: "inplace",
    default: "true with reference flwr-1.41",
    meaning: "which of Flower's two means to repeat, only with reference flwr-1.41 (flwr-1.6 knows false only)",
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedavg",
    aliases: &[],
    summary: "mean of the weights, weighted by examples: Σ n_k·w_k / N",
    paper: "McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data",
    parameters: &[INPLACE, MAX_SHARE, ACCEPT_FAILURES, REFERENCE],
    build,
};

/// w = Σ n_k·w_k / N, N = Σ n_k (McMahan et al. 2017, algorithm 1). It has no memory.
struct FedAvg {
    rounding: Rounding,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let common = parameters.common()?;
    Ok(Combined::strategy(FedAvg { rounding: rounding(parameters, &common)? }, common))
}

/// Which of Flower 1.41's two means `inplace` selects.
pub(super) fn rounding(parameters: &Parameters<'_>, common: &Common) -> Result<Rounding, StrategyError> {
    Ok(match (common.reference, parameters.flag(INPLACE.name)?) {
        (_, None) | (Some(Reference::Flwr141), Some(true)) => common.rounding_of_fedavg(),
        (Some(Reference::Flwr141 | Reference::Flwr16), Some(false)) => Rounding::SumThenDivide,
        _ => return Err(parameters.rejected(INPLACE.name, "reference = flwr-1.41 beside it")),
    })
}

impl Combination for FedAvg {
    const INFO: StrategyInfo = INFO;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        mean_by_examples(at, self.rounding)
    }
}

/// The mean of all updates, weighted by examples.
pub(super) fn mean_by_examples<'a>(at: &At<'a>, rounding: Rounding) -> Result<Plan<'a>, FoldError> {
    let all: Vec<usize> = (0..at.source.updates().len()).collect();
    Ok(Plan::mean(at.source, &all, &at.source.examples(&all, at.common.max_share)?, rounding))
}
