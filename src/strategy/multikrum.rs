//! Multi-Krum: the mean of the updates that stand closest to the others.

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    parameters::{ACCEPT_FAILURES, MAX_SHARE, ParameterInfo, Parameters, REFERENCE, StrategyError, StrategyInfo},
    selection::{self, NUM_MALICIOUS_CLIENTS, NUM_MALICIOUS_NODES},
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "multikrum",
    aliases: &[],
    summary: "mean, weighted by examples, of the updates with the lowest scores of krum",
    paper: "Blanchard et al. 2017, Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
    parameters: &[
        NUM_MALICIOUS_CLIENTS,
        NUM_MALICIOUS_NODES,
        ParameterInfo {
            name: "num_nodes_to_select",
            default: "1",
            meaning: "how many of the best, a whole number from 1; more than there are: all",
        },
        MAX_SHARE,
        ACCEPT_FAILURES,
        REFERENCE,
    ],
    build,
};

/// The m lowest of Krum's scores (Blanchard et al. 2017, section 4.1), all from one table of distances.
struct MultiKrum {
    malicious: usize,
    select: usize,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let select = parameters.whole("num_nodes_to_select", 1, 1)?;
    let rule = MultiKrum {
        malicious: selection::malicious(parameters)?,
        select: usize::try_from(select).unwrap_or(usize::MAX),
    };
    Ok(Combined::strategy(rule, parameters.common()?))
}

impl Combination for MultiKrum {
    const INFO: StrategyInfo = INFO;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        selection::enough(at, INFO.name, self.malicious, 2, false)?;
        let all: Vec<usize> = (0..at.source.updates().len()).collect();
        let mut best = selection::by_score(at, &selection::distances(at)?, &all, self.malicious);
        best.truncate(self.select);
        let weights = at.source.examples(&best, at.common.max_share)?;
        Ok(Plan::mean(at.source, &best, &weights, selection::rounding(at.common)))
    }
}
