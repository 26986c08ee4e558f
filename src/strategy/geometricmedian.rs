//! The geometric median of the updates (RFA).

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    mean::Rounding,
    parameters::{ACCEPT_FAILURES, MAX_SHARE, ParameterInfo, Parameters, StrategyError, StrategyInfo},
    reduce::{squared_difference, squared_distances, sum_of, sums},
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
///
/// The paper begins at the mean and stops when the sum of the distances stands still. An attacker who is far enough
/// away makes that sum so large that nothing else shows in it, at a mean that the attacker has drawn as far away as it
/// likes. So if the mean is out of all proportion far from the closest updates that together count for more than half,
/// v begins among those. And if the sum is out of all proportion to the distances nearest to v, those distances must
/// settle too. Otherwise this does what the paper does.
struct GeometricMedian {
    eps: f64,
    ftol: f64,
    maxiter: u64,
}

/// v begins among the closest updates if the mean is this many times further from them than they are from each other
/// and from 0. From nearer, a hundred iterations converge as long as the attackers count for less than about two
/// fifths.
const FAR_OFF: f64 = 1e6;
/// The stricter stopping rule applies if the mean distance is this many times the distance within which half of the
/// updates lie.
const DOMINATED: f64 = 1e4;
/// Under the stricter rule, the fraction of that distance by which the nearest half's distances may still change.
const SETTLED: f64 = 1e-3;

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let rule = GeometricMedian {
        eps: parameters.number("eps", 1e-5, "a number above 0", |eps| eps > 0.0)?,
        ftol: parameters.number("ftol", 1e-10, "a number from 0", |ftol| ftol >= 0.0)?,
        maxiter: parameters.whole("maxiter", 100, 1)?,
    };
    Ok(Combined::strategy(rule, parameters.common()?))
}

impl Combination for GeometricMedian {
    const INFO: StrategyInfo = INFO;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        let all = at.source.by_author();
        let alphas = at.source.examples(&all, at.common.max_share)?;
        let alphas = shares(&alphas);
        let inputs: Vec<Input<'_>> = all.iter().map(|&number| at.source.input(number)).collect();
        let mut v = self.start(at, &inputs, &alphas)?;
        for _ in 0..self.maxiter {
            let pulls = alphas.iter().zip(&v.distances).map(|(alpha, distance)| alpha / distance.max(self.eps));
            let pulls: Vec<f64> = pulls.collect();
            if pulls.iter().all(|&pull| pull == 0.0) {
                // All distances overflow.
                break;
            }
            let next = Point::new(at, &inputs, shares(&pulls))?;
            let settled = self.settled(&alphas, &v, &next);
            v = next;
            if settled {
                break;
            }
        }
        Ok(Plan::mean(at.source, &all, &v.weights, Rounding::Once))
    }
}

impl GeometricMedian {
    /// The mean, or that of the updates closest together if it is far off from them.
    fn start(&self, at: &At<'_>, inputs: &[Input<'_>], alphas: &[f64]) -> Result<Point, FoldError> {
        let mean = Point::new(at, inputs, alphas.to_vec())?;
        let squares = squared_distances(at.source.layout(), inputs)?;
        let half = squares.iter().map(|squares| half_within(alphas, squares)).enumerate();
        let closest = half.min_by(|(_, a), (_, b)| a.total_cmp(b));
        let Some((center, radius)) = closest.filter(|(_, radius)| radius.is_finite()) else {
            let what = "the distance between the halves of the updates".to_owned();
            return Err(FoldError::NotFinite { strategy: INFO.name, what });
        };
        let length = sums::<()>(at.source.layout(), &inputs[center..=center], 1, |(), rows, sums| {
            sums[0] += sum_of(rows.row(0), rows.row(0), |a, b| a * b);
        })?;
        let scale = radius.max(length[0]).sqrt().max(self.eps);
        if half_within(alphas, &mean.distances) <= FAR_OFF * scale {
            return Ok(mean);
        }
        let inside = squares[center].iter().zip(alphas);
        let inside = inside.map(|(&square, &alpha)| if square <= radius { alpha } else { 0.0 });
        Point::new(at, inputs, shares(&inside.collect::<Vec<f64>>()))
    }

    fn settled(&self, alphas: &[f64], before: &Point, now: &Point) -> bool {
        let (sum, sum_before) = (now.objective(alphas), before.objective(alphas));
        let near = half_within(alphas, &now.distances).max(self.eps);
        let moves = now.distances.iter().zip(&before.distances).filter(|(distance, _)| **distance <= near);
        let most = moves.map(|(now, before)| (now - before).abs()).fold(0.0, f64::max);
        (sum - sum_before).abs() <= self.ftol * sum && (sum <= DOMINATED * near || most <= SETTLED * near)
    }
}

/// A v, as the weights with which the updates give it, and its distances from them.
struct Point {
    weights: Vec<f64>,
    distances: Vec<f64>,
}

impl Point {
    fn new(at: &At<'_>, inputs: &[Input<'_>], weights: Vec<f64>) -> Result<Self, FoldError> {
        let distances = distances_from(at, inputs, &weights)?;
        Ok(Self { weights, distances })
    }

    /// The sum of the finite distances.
    fn objective(&self, alphas: &[f64]) -> f64 {
        let finite = alphas.iter().zip(&self.distances).filter(|(_, distance)| distance.is_finite());
        finite.map(|(alpha, distance)| alpha * distance).sum()
    }
}

/// The smallest of these distances within which more than half of the weight lies.
fn half_within(alphas: &[f64], distances: &[f64]) -> f64 {
    let mut sorted: Vec<(f64, f64)> = distances.iter().copied().zip(alphas.iter().copied()).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut within = 0.0;
    let half = sorted.into_iter().find(|(_, alpha)| {
        within += alpha;
        within > 0.5
    });
    half.map_or(f64::INFINITY, |(distance, _)| distance)
}

fn shares(weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// ‖v − w_k‖ of each input, v their mean with these weights, which add up to 1; infinite where no number is that long.
fn distances_from(at: &At<'_>, inputs: &[Input<'_>], weights: &[f64]) -> Result<Vec<f64>, FoldError> {
    let squares = sums::<Vec<f64>>(at.source.layout(), inputs, inputs.len(), |v, rows, sums| {
        v.clear();
        v.resize(rows.length(), 0.0);
        for (number, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
            v.iter_mut().zip(rows.row(number)).for_each(|(v, w)| *v += weight * w);
        }
        for (number, sum) in sums.iter_mut().enumerate() {
            *sum += sum_of(rows.row(number), v, squared_difference);
        }
    })?;
    let distance = |square: f64| if square.is_nan() { f64::INFINITY } else { square.sqrt() };
    Ok(squares.into_iter().map(distance).collect())
}
