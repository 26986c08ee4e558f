//! D-PSGD: the node's own update and its neighbours', mixed by Metropolis weights.

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    mean::Rounding,
    parameters::{ACCEPT_FAILURES, Parameters, StrategyError, StrategyInfo},
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "dpsgd",
    aliases: &[],
    summary: "x_i = Σ W_ij·x_j, W_ij = 1/(1 + max(d_i, d_j)), d the number of peers that a node knows",
    paper: "Lian et al. 2017, Can Decentralized Algorithms Outperform Centralized Algorithms?; weights: Xiao et al. 2004",
    parameters: &[ACCEPT_FAILURES],
    build,
};

/// x_i ← Σ_j W_ij·x_j (Lian et al. 2017, algorithm 1) with W_ij = 1/(1 + max(d_i, d_j)) for j ≠ i and W_ii = 1 − Σ_j
/// W_ij (Metropolis; Xiao and Boyd 2004): doubly stochastic whatever the graph. d_j is what j claims; an author that
/// claims nothing counts as having as many neighbours as this node. The own update is the first, if none says that it
/// is.
struct DPsgd;

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    Ok(Combined::strategy(DPsgd, parameters.common()?))
}

impl Combination for DPsgd {
    const INFO: StrategyInfo = INFO;
    const DEGREES: bool = true;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        let updates = at.source.updates();
        let own = updates.iter().position(|update| update.own).unwrap_or(0);
        // At least those present; otherwise the node's own weight could fall below 0.
        let degree = updates[own].degree.unwrap_or(0).max(updates.len() as u64 - 1);
        let weight = |update: &super::Update<'_>| 1.0 / (1.0 + update.degree.unwrap_or(0).max(degree) as f64);
        let mut weights: Vec<f64> = updates.iter().map(weight).collect();
        let others = at.source.by_author().into_iter().filter(|&number| number != own);
        weights[own] = 1.0 - others.map(|number| weights[number]).sum::<f64>();
        let all: Vec<usize> = (0..updates.len()).collect();
        Ok(Plan::mean(at.source, &all, &weights, Rounding::Once))
    }
}
