//! ASO-Fed's fold: each update moves x by its share of all examples that are known.

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    memory::{Kept, newest_by_author},
    mixing::TOTAL_SAMPLES,
    parameters::{ACCEPT_FAILURES, ParameterInfo, Parameters, StrategyError, StrategyInfo},
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "asofed",
    aliases: &[],
    summary: "x += Σ (n_k/N)·(w_k - x), N the examples of everybody who was ever heard of",
    paper: "Chen et al. 2020, Asynchronous Online Federated Learning for Edge Devices with Non-IID Data",
    parameters: &[
        ParameterInfo {
            default: "the newest claims of all authors so far",
            meaning: "N, a number above 0",
            ..TOTAL_SAMPLES
        },
        ACCEPT_FAILURES,
    ],
    build,
};

/// x ← x + Σ (n_k/N)·Δ_k, Δ_k = w_k − x (Chen et al. 2020, equation 4, on the folding side). An author who is missing
/// in a round keeps its part of x.
struct AsoFed {
    total: Option<f64>,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let total = parameters.number(TOTAL_SAMPLES.name, 1.0, "a number above 0", |total| total > 0.0)?;
    let total = parameters.is_set(TOTAL_SAMPLES.name).then_some(total);
    Ok(Combined::strategy(AsoFed { total }, parameters.common()?))
}

impl Combination for AsoFed {
    const INFO: StrategyInfo = INFO;
    const MEMORY: bool = true;
    const STEPS: bool = true;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        let updates = at.source.updates();
        let news = at.source.by_author().into_iter().map(|number| Kept {
            author: updates[number].author.to_bytes(),
            epoch: updates[number].epoch,
            num_examples: updates[number].num_examples,
            fold: at.folds,
            weights: None,
        });
        let kept = newest_by_author(at.kept, news);
        let known: f64 = kept.iter().map(|kept| kept.num_examples as f64).sum();
        // A configured total may be smaller than the sum of those present.
        let here: f64 = at.source.by_author().into_iter().map(|number| updates[number].num_examples as f64).sum();
        let total = self.total.unwrap_or(known).max(here);
        if total == 0.0 {
            return Err(FoldError::NoExamples);
        }
        let coefficients = updates.iter().map(|update| update.num_examples as f64 / total).collect();
        Ok(Plan { kept, ..Plan::towards(at.source, at.x(), coefficients) })
    }
}
