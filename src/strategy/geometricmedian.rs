//! The geometric median of the updates (RFA).

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    mean::Rounding,
    reduce::{squared_difference, sum_of, sums},
    registry::{ACCEPT_FAILURES, MAX_SHARE, ParameterInfo, Parameters, StrategyError, StrategyInfo},
    source::Input,
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "geometricmedian",
    aliases: &["rfa"],
    summary: "the point with the smallest sum of distances to the updates, weighted by examples; smoothed Weiszfeld",
    paper: "Pillutla et al. 2022, Robust Aggregation for Federated Learning",
    parameters: &[
        ParameterInfo { name: "eps", default: "1e-5", meaning: "smoothing, a number above 0: the smallest distance" },
        ParameterInfo {
            name: "ftol",
            default: "1e-10",
            meaning: "it ends when the sum of distances changes by less than this share, a number from 0",
        },
        ParameterInfo { name: "maxiter", default: "100", meaning: "most iterations, a whole number from 1" },
        MAX_SHARE,
        ACCEPT_FAILURES,
    ],
    build,
};

/// v_0 = Σ n_k·w_k / N; then v = Σ β_k·w_k / Σ β_k, β_k = n_k / max(ε, ‖v − w_k‖) (Pillutla et al. 2022, algorithm 2).
/// Each iteration reads all updates once.
struct GeometricMedian {
    eps: f64,
    ftol: f64,
    maxiter: u64,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let rule = GeometricMedian {
        eps: parameters.number("eps", 1e-5, "a number above 0", |eps| eps > 0.0)?,
        ftol: parameters.number("ftol", 1e-10, "a number from 0", |ftol| ftol >= 0.0)?,
        maxiter: parameters.whole("maxiter", 100, 1)?,
    };
    Ok(Box::new(Combined::new(rule, parameters.common()?)))
}

impl Combination for GeometricMedian {
    const INFO: StrategyInfo = INFO;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        let all = at.source.by_author();
        let alphas = at.source.examples(&all, at.common.max_share)?;
        let alphas = shares(&alphas);
        let inputs: Vec<Input<'_>> = all.iter().map(|&number| at.source.input(number)).collect();
        let mut weights = alphas.clone();
        let mut before = f64::INFINITY;
        for _ in 0..self.maxiter {
            let distances = distances(at, &inputs, &weights)?;
            let objective: f64 = alphas.iter().zip(&distances).map(|(alpha, distance)| alpha * distance).sum();
            if !objective.is_finite() {
                let what = "the sum of the distances".to_owned();
                return Err(FoldError::NotFinite { strategy: INFO.name, what });
            }
            if (before - objective).abs() <= self.ftol * objective {
                break;
            }
            before = objective;
            let pulls = alphas.iter().zip(distances).map(|(alpha, distance)| alpha / distance.max(self.eps));
            weights = shares(&pulls.collect::<Vec<f64>>());
        }
        Ok(Plan::mean(at.source, &all, &weights, Rounding::Once))
    }
}

fn shares(weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// ‖v − w_k‖ of each input, v their mean with these weights, which add up to 1.
fn distances(at: &At<'_>, inputs: &[Input<'_>], weights: &[f64]) -> Result<Vec<f64>, FoldError> {
    let squares = sums::<Vec<f64>>(at.source.layout(), inputs, inputs.len(), |v, rows, sums| {
        v.clear();
        v.resize(rows.length(), 0.0);
        for (number, &weight) in weights.iter().enumerate() {
            v.iter_mut().zip(rows.row(number)).for_each(|(v, w)| *v += weight * w);
        }
        for (number, sum) in sums.iter_mut().enumerate() {
            *sum += sum_of(rows.row(number), v, squared_difference);
        }
    })?;
    Ok(squares.into_iter().map(f64::sqrt).collect())
}
