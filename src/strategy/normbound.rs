//! Norm bound: FedAvg of differences that are cut to a length.

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    parameters::{ACCEPT_FAILURES, MAX_SHARE, ParameterInfo, Parameters, StrategyError, StrategyInfo},
    qfedavg::squared_distances_to_x,
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "normbound",
    aliases: &[],
    summary: "x plus the mean, weighted by examples, of Δ·min(1, M/‖Δ‖), Δ = w - x",
    paper: "Sun et al. 2019, Can You Really Backdoor Federated Learning?",
    parameters: &[
        ParameterInfo {
            name: "norm_bound",
            default: "10",
            meaning: "M, a number above 0: no update moves x by more than its share of it",
        },
        MAX_SHARE,
        ACCEPT_FAILURES,
    ],
    build,
};

/// x ← x + Σ (n_k/N)·Δ_k·min(1, M/‖Δ_k‖) (Sun et al. 2019, section 3).
struct NormBound {
    bound: f64,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let bound = parameters.number("norm_bound", 10.0, "a number above 0", |bound| bound > 0.0)?;
    Ok(Combined::strategy(NormBound { bound }, parameters.common()?))
}

impl Combination for NormBound {
    const INFO: StrategyInfo = INFO;
    const MEMORY: bool = true;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        let all: Vec<usize> = (0..at.source.updates().len()).collect();
        let weights = at.source.examples(&all, at.common.max_share)?;
        let total: f64 = at.source.by_author().into_iter().map(|number| weights[number]).sum();
        let cuts = squared_distances_to_x(at)?.into_iter().map(|square| cut(self.bound, square));
        Ok(Plan::towards(at.source, at.x(), cuts.zip(weights).map(|(cut, weight)| weight / total * cut).collect()))
    }
}

/// min(1, bound/length) of a vector whose squared length this is; 0 if the length overflows.
pub(super) fn cut(bound: f64, square: f64) -> f64 {
    let length = square.sqrt();
    if length <= bound { 1.0 } else { bound / length }
}
