//! Bulyan: of the updates that Krum picks, the mean of the values close to the median.

use super::{
    FoldError, Reference, Strategy,
    combination::At,
    coordinates::{Coordinates, Sorted},
    numpy::partition,
    parameters::{ACCEPT_FAILURES, ParameterInfo, Parameters, REFERENCE, StrategyError, StrategyInfo},
    selection::{self, NUM_MALICIOUS_CLIENTS, NUM_MALICIOUS_NODES},
    sorting::{Pick, middle},
};
use std::ops::Range;

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "bulyan",
    aliases: &[],
    summary: "n - 2f updates by krum, one after the other; of each coordinate the mean of the n - 4f closest to their \
              median",
    paper: "El Mhamdi et al. 2018, The Hidden Vulnerability of Distributed Learning in Byzantium",
    parameters: &[
        NUM_MALICIOUS_CLIENTS,
        NUM_MALICIOUS_NODES,
        ParameterInfo { name: "to_keep", default: "0", meaning: "Flower's, of its krum; only 0" },
        ACCEPT_FAILURES,
        REFERENCE,
    ],
    build,
};

/// θ = n − 2f picks of Krum, each removed before the next; then per coordinate the mean of the β = θ − 2f values that
/// are nearest to the median of the picks (El Mhamdi et al. 2018, section 4). n ≥ 4f + 3.
///
/// Flower's newer API takes the θ best of one table of scores.
struct Bulyan {
    malicious: usize,
    reference: Option<Reference>,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let common = parameters.common()?;
    if parameters.whole("to_keep", 0, 0)? != 0 {
        return Err(parameters.rejected("to_keep", "0: the picks are single ones"));
    }
    let rule = Bulyan { malicious: selection::malicious(parameters)?, reference: common.reference };
    Ok(Box::new(Sorted::new(rule, common)))
}

impl Coordinates for Bulyan {
    const INFO: StrategyInfo = INFO;

    fn among(&self, at: &At<'_>) -> Result<Vec<usize>, FoldError> {
        selection::enough(at, INFO.name, self.malicious, 4, true)?;
        let distances = selection::distances(at)?;
        let mut rest: Vec<usize> = (0..at.source.updates().len()).collect();
        let count = rest.len() - 2 * self.malicious;
        if self.reference == Some(Reference::Flwr141Message) {
            let mut best = selection::by_score(at, &distances, &rest, self.malicious);
            best.truncate(count);
            return Ok(best);
        }
        let mut picked = Vec::with_capacity(count);
        while picked.len() < count {
            let best = selection::best(at, &distances, &rest, self.malicious);
            rest.retain(|&number| number != best);
            picked.push(best);
        }
        Ok(picked)
    }

    fn wanted(&self, updates: usize) -> Range<usize> {
        if self.reference.is_some() { 0..0 } else { 0..updates }
    }

    fn pick(&self, updates: usize) -> impl Pick {
        NearMedian { count: updates - 2 * self.malicious, reference: self.reference }
    }
}

/// The mean of this many values nearest to the median.
struct NearMedian {
    count: usize,
    reference: Option<Reference>,
}

impl Pick for NearMedian {
    fn pick<T: Copy + Into<f64>>(&self, rows: &[&[T]], out: &mut [f64]) {
        let round = |value: f64| if size_of::<T>() < size_of::<f64>() { f64::from(value as f32) } else { value };
        let mut values = Vec::with_capacity(rows.len());
        for (at, out) in out.iter_mut().enumerate() {
            values.clear();
            values.extend(rows.iter().map(|row| -> f64 { row[at].into() }));
            *out = match self.reference {
                None => mean_near_median(&values, self.count),
                Some(reference) => mean_as_numpy(&mut values, self.count, reference, round),
            };
        }
    }
}

/// For ascending values. If two are equally far away, the lower one counts as nearer.
fn mean_near_median(sorted: &[f64], count: usize) -> f64 {
    let median = middle(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    let mut first = 0;
    while first + count < sorted.len() && sorted[first + count] - median < median - sorted[first] {
        first += 1;
    }
    let near = &sorted[first..first + count];
    // Differences to the first, so that equal values are their own mean.
    let mean = near[0] + near.iter().map(|value| value - near[0]).sum::<f64>() / count as f64;
    let mean = if mean.is_finite() { mean } else { near.iter().map(|value| value / count as f64).sum() };
    mean.clamp(near[0], near[count - 1])
}

/// The sum's order is that in which numpy's `argpartition` leaves the nearest: numpy 1.26, with Flower 1.6, selects by
/// exchanges; numpy 2, with Flower 1.41, sorts as few.
fn mean_as_numpy(values: &mut [f64], count: usize, reference: Reference, round: impl Fn(f64) -> f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    let median = round(round(low + high) / 2.0);
    let mut near: Vec<(f64, f64)> = values.iter().map(|&value| (round(median - value).abs(), value)).collect();
    match reference {
        Reference::Flwr16 => partition(&mut near, &[count - 1]),
        _ => near.sort_by(|a, b| a.0.total_cmp(&b.0)),
    }
    let sum = near[1..count].iter().fold(near[0].1, |sum, &(_, value)| round(sum + value));
    round(sum / count as f64)
}
