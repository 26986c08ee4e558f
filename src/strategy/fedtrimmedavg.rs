//! FedTrimmedAvg: the mean of each coordinate without its extremes.

use super::{
    FoldError, Strategy,
    combination::At,
    coordinates::{Coordinates, Sorted},
    numpy::partition,
    parameters::{ACCEPT_FAILURES, ParameterInfo, Parameters, REFERENCE, StrategyError, StrategyInfo},
    sorting::Pick,
};
use std::ops::Range;

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedtrimmedavg",
    aliases: &[],
    summary: "mean of each coordinate without the int(beta·n) lowest and as many highest values; not weighted",
    paper: "Yin et al. 2018, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
    parameters: &[
        ParameterInfo {
            name: "beta",
            default: "0.2",
            meaning: "share that is cut on each side, a number from 0 to below 0.5; below 1/n nothing is cut",
        },
        ACCEPT_FAILURES,
        REFERENCE,
    ],
    build,
};

/// The coordinate-wise trimmed mean (Yin et al. 2018, definition 2): inside the honest updates' range in each coordinate
/// as long as at most int(βn) updates are an attacker's.
struct FedTrimmedAvg {
    beta: f64,
    /// Whether the values are summed in numpy's order and roundings.
    as_numpy: bool,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let common = parameters.common()?;
    let beta = parameters.number("beta", 0.2, "a number from 0 to below 0.5", |beta| (0.0..0.5).contains(&beta))?;
    Ok(Box::new(Sorted::new(FedTrimmedAvg { beta, as_numpy: common.reference.is_some() }, common)))
}

impl Coordinates for FedTrimmedAvg {
    const INFO: StrategyInfo = INFO;

    fn among(&self, at: &At<'_>) -> Result<Vec<usize>, FoldError> {
        Ok(if self.as_numpy { (0..at.source.updates().len()).collect() } else { at.source.by_author() })
    }

    fn wanted(&self, updates: usize) -> Range<usize> {
        if self.as_numpy { 0..0 } else { self.places(updates) }
    }

    fn pick(&self, updates: usize) -> impl Pick {
        MeanOf { places: self.places(updates), as_numpy: self.as_numpy }
    }
}

impl FedTrimmedAvg {
    fn places(&self, updates: usize) -> Range<usize> {
        let cut = (self.beta * updates as f64) as usize;
        cut..updates - cut
    }
}

/// The mean of the values at some places of their order.
struct MeanOf {
    places: Range<usize>,
    /// Whether the values come unsorted, and are summed in the order in which numpy's `partition` leaves them, in f32 if
    /// they fit one.
    as_numpy: bool,
}

impl Pick for MeanOf {
    fn pick<T: Copy + Into<f64>>(&self, rows: &[&[T]], out: &mut [f64]) {
        if self.as_numpy {
            return mean_as_numpy(rows, &self.places, out);
        }
        let rows = &rows[self.places.clone()];
        let (count, double) = (rows.len() as f64, size_of::<T>() == size_of::<f64>());
        if double {
            return mean_of_doubles(rows, out);
        }
        out.fill(-0.0);
        for row in rows {
            let pairs = out.iter_mut().zip(*row);
            pairs.for_each(|(out, &value)| *out += value.into());
        }
        out.iter_mut().for_each(|out| *out /= count);
    }
}

/// `numpy.mean(numpy.partition(values, (first, last), axis=0)[first:last + 1], axis=0)` of these places.
fn mean_as_numpy<T: Copy + Into<f64>>(rows: &[&[T]], places: &Range<usize>, out: &mut [f64]) {
    let round = |value: f64| if size_of::<T>() < size_of::<f64>() { f64::from(value as f32) } else { value };
    let (first, last) = (places.start, places.end - 1);
    let ranks = if first == last { vec![first] } else { vec![first, last] };
    let mut values = Vec::with_capacity(rows.len());
    for (at, out) in out.iter_mut().enumerate() {
        values.clear();
        values.extend(rows.iter().map(|row| (row[at].into(), ())));
        partition(&mut values, &ranks);
        let kept = &values[places.clone()];
        let sum = kept[1..].iter().fold(kept[0].0, |sum, &(value, ())| round(sum + value));
        *out = round(sum / kept.len() as f64);
    }
}

/// There is no wider type in which to sum f64, so the differences to the smallest value are summed. That makes equal
/// values their own mean.
fn mean_of_doubles<T: Copy + Into<f64>>(rows: &[&[T]], out: &mut [f64]) {
    let (Some(lowest), Some(highest)) = (rows.first(), rows.last()) else { return };
    for (at, out) in out.iter_mut().enumerate() {
        let (low, high): (f64, f64) = (lowest[at].into(), highest[at].into());
        let values = || rows.iter().map(|row| row[at].into());
        let sum: f64 = values().map(|value: f64| value - low).sum();
        let mean = low + sum / rows.len() as f64;
        // Differences of the largest numbers may overflow; fractions of them don't.
        let mean = if mean.is_finite() { mean } else { values().map(|value| value / rows.len() as f64).sum() };
        *out = mean.clamp(low, high);
    }
}
