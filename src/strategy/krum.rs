//! Krum: the update that stands closest to the others.

use super::{
    FoldError, Reference, Strategy,
    combination::{At, Combination, Combined, Plan},
    mean::Rounding,
    parameters::{ACCEPT_FAILURES, MAX_SHARE, ParameterInfo, Parameters, REFERENCE, StrategyError, StrategyInfo},
    selection::{self, NUM_MALICIOUS_CLIENTS, NUM_MALICIOUS_NODES},
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "krum",
    aliases: &[],
    summary: "the update with the lowest sum of squared distances to its n - f - 2 closest others",
    paper: "Blanchard et al. 2017, Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
    parameters: &[
        NUM_MALICIOUS_CLIENTS,
        NUM_MALICIOUS_NODES,
        ParameterInfo {
            name: "num_clients_to_keep",
            default: "0",
            meaning: "above 0: the mean, weighted by examples, of so many of the best (Multi-Krum)",
        },
        MAX_SHARE,
        ACCEPT_FAILURES,
        REFERENCE,
    ],
    build,
};

/// score(i) = Σ ‖w_i − w_j‖² over the c = max(1, n − f − 2) closest others j; the lowest wins (Blanchard et al. 2017,
/// section 4). With f attackers it needs n ≥ 2f + 3 updates.
struct Krum {
    malicious: usize,
    keep: usize,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let keep = parameters.whole("num_clients_to_keep", 0, 0)?;
    let rule = Krum { malicious: selection::malicious(parameters)?, keep: usize::try_from(keep).unwrap_or(usize::MAX) };
    Ok(Combined::strategy(rule, parameters.common()?))
}

impl Combination for Krum {
    const INFO: StrategyInfo = INFO;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        selection::enough(at, INFO.name, self.malicious, 2, false)?;
        let all: Vec<usize> = (0..at.source.updates().len()).collect();
        let distances = selection::distances(at)?;
        let best = selection::by_score(at, &distances, &all, self.malicious);
        if self.keep == 0 {
            let one = match at.common.reference {
                Some(Reference::Flwr141Message) => best[0],
                _ => selection::best(at, &distances, &all, self.malicious),
            };
            return Ok(Plan::mean(at.source, &[one], &[1.0], Rounding::Once));
        }
        let kept = match at.common.reference {
            // Flower slices the worst-first list from n - keep, which below 0 counts from the end.
            Some(Reference::Flwr16 | Reference::Flwr141) => {
                let count = if self.keep > best.len() { self.keep - best.len() } else { self.keep };
                best.iter().take(count).rev().copied().collect()
            }
            _ => best[..self.keep.min(best.len())].to_vec(),
        };
        let weights = at.source.examples(&kept, at.common.max_share)?;
        Ok(Plan::mean(at.source, &kept, &weights, selection::rounding(at.common)))
    }
}
