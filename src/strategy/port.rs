//! Port: updates that are fresh and move in the common direction count more.

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    mean::Rounding,
    memory::Kept,
    parameters::{ACCEPT_FAILURES, MAX_SHARE, ParameterInfo, Parameters, StrategyError, StrategyInfo},
    reduce::{sum_of, sums},
    source::Input,
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "port",
    aliases: &[],
    summary: "mean with weights n_k/N·(a·(1 + cos θ)/2 + b·S/(S + τ)), θ between an update's move and the last one of x",
    paper: "Su and Li 2022, How Asynchronous can Federated Learning Be?",
    parameters: &[
        ParameterInfo { name: "staleness_bound", default: "10", meaning: "S, a number above 0" },
        ParameterInfo { name: "similarity_weight", default: "1", meaning: "a, a number from 0" },
        ParameterInfo { name: "staleness_weight", default: "1", meaning: "b, a number above 0" },
        MAX_SHARE,
        ACCEPT_FAILURES,
    ],
    build,
};

/// x ← Σ p_k·w_k, p_k ∝ (n_k/N)·(a(1 + cos θ_k)/2 + b·S/(S + τ_k)), θ_k the angle between w_k − x and x − x', x' the x
/// before the last fold; cos θ = 1 before there is one, or if one of them has no length (Su and Li 2022, section IV, and
/// its authors' program plato).
struct Port {
    bound: f64,
    similarity: f64,
    staleness: f64,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let above_0 = |name, default| parameters.number(name, default, "a number above 0", |number| number > 0.0);
    let rule = Port {
        bound: above_0("staleness_bound", 10.0)?,
        similarity: parameters.number("similarity_weight", 1.0, "a number from 0", |a| a >= 0.0)?,
        staleness: above_0("staleness_weight", 1.0)?,
    };
    Ok(Combined::strategy(rule, parameters.common()?))
}

impl Combination for Port {
    const INFO: StrategyInfo = INFO;
    const MEMORY: bool = true;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        let all: Vec<usize> = (0..at.source.updates().len()).collect();
        let examples = at.source.examples(&all, at.common.max_share)?;
        let cosines = match at.kept.first().and_then(|kept| kept.weights.as_ref()) {
            Some(before) => cosines(at, Input::Kept(before))?,
            None => vec![1.0; all.len()],
        };
        let weight = |tau: f64, cosine: f64| {
            self.similarity * (1.0 + cosine) / 2.0 + self.staleness * self.bound / (self.bound + tau)
        };
        let figures = at.source.updates().iter().zip(cosines).zip(examples);
        let weights: Vec<f64> =
            figures.map(|((update, cosine), examples)| examples * weight(update.staleness, cosine)).collect();
        let before =
            Kept { author: Vec::new(), epoch: 0, num_examples: 0, fold: at.folds, weights: Some(at.x().clone()) };
        Ok(Plan { kept: vec![before], ..Plan::mean(at.source, &all, &weights, Rounding::Once) })
    }
}

/// cos θ of each update.
fn cosines(at: &At<'_>, before: Input<'_>) -> Result<Vec<f64>, FoldError> {
    let mut inputs = vec![Input::Kept(at.x()), before];
    inputs.extend(at.source.inputs());
    let updates = inputs.len() - 2;
    // ‖x − x'‖², then of each update the product with it and ‖Δ‖².
    let figures = sums::<[Vec<f64>; 2]>(at.source.layout(), &inputs, 1 + 2 * updates, |[moved, delta], rows, sums| {
        moved.clear();
        moved.extend(rows.row(0).iter().zip(rows.row(1)).map(|(x, before)| x - before));
        sums[0] += sum_of(moved, moved, |a, b| a * b);
        for number in 0..updates {
            delta.clear();
            delta.extend(rows.row(number + 2).iter().zip(rows.row(0)).map(|(w, x)| w - x));
            sums[1 + 2 * number] += sum_of(moved, delta, |a, b| a * b);
            sums[2 + 2 * number] += sum_of(delta, delta, |a, b| a * b);
        }
    })?;
    let moved = figures[0].sqrt();
    let cosine = |pair: &[f64]| {
        let lengths = moved * pair[1].sqrt();
        if lengths > 0.0 { (pair[0] / lengths).clamp(-1.0, 1.0) } else { 1.0 }
    };
    Ok(figures[1..].chunks_exact(2).map(cosine).collect())
}
