//! FaultTolerantFedAvg: FedAvg, if enough updates have come.

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    fedavg::mean_by_examples,
    parameters::{ACCEPT_FAILURES, MAX_SHARE, ParameterInfo, Parameters, REFERENCE, StrategyError, StrategyInfo},
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "faulttolerantfedavg",
    aliases: &[],
    summary: "fedavg if results / (results + failures) is at least a rate, else nothing",
    paper: "Flower, FaultTolerantFedAvg; McMahan et al. 2017",
    parameters: &[
        ParameterInfo {
            name: "min_completion_rate_fit",
            default: "0.5",
            meaning: "share of the updates that must be usable, a number from 0 to 1",
        },
        ParameterInfo {
            name: "min_completion_rate_evaluate",
            default: "0.5",
            meaning: "Flower's, for its evaluation; the fold doesn't use it",
        },
        MAX_SHARE,
        ACCEPT_FAILURES,
        REFERENCE,
    ],
    build,
};

struct FaultTolerantFedAvg {
    rate: f64,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let rate = |name| parameters.number(name, 0.5, "a number from 0 to 1", |rate| (0.0..=1.0).contains(&rate));
    rate("min_completion_rate_evaluate")?;
    let rule = FaultTolerantFedAvg { rate: rate("min_completion_rate_fit")? };
    Ok(Combined::strategy(rule, parameters.common()?))
}

impl Combination for FaultTolerantFedAvg {
    const INFO: StrategyInfo = INFO;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        let (results, failures) = (at.source.updates().len(), at.round.failures);
        if (results as f64) / (results as f64 + failures as f64) < self.rate {
            return Err(FoldError::Incomplete { results, failures, rate: self.rate });
        }
        mean_by_examples(at, at.common.rounding_of_aggregate())
    }
}
