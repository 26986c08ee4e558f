//! FedTrimmedAvg: the mean of each coordinate without its extremes.

use super::{
    Strategy,
    coordinates::{Coordinates, Sorted},
    registry::{ACCEPT_FAILURES, ParameterInfo, Parameters, REFERENCE, StrategyError, StrategyInfo},
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
    single: bool,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let common = parameters.common()?;
    let beta = parameters.number("beta", 0.2, "a number from 0 to below 0.5", |beta| (0.0..0.5).contains(&beta))?;
    Ok(Box::new(Sorted::new(FedTrimmedAvg { beta, single: common.reference.is_some() }, common)))
}

impl Coordinates for FedTrimmedAvg {
    const INFO: StrategyInfo = INFO;

    fn wanted(&self, updates: usize) -> Range<usize> {
        let cut = (self.beta * updates as f64) as usize;
        cut..updates - cut
    }

    fn pick(&self, updates: usize) -> impl Pick {
        MeanOf { places: self.wanted(updates), single: self.single }
    }
}

/// The mean of the values at some places, summed in ascending order.
struct MeanOf {
    places: Range<usize>,
    /// Whether values that fit an f32 are summed in f32, as numpy does.
    single: bool,
}

impl Pick for MeanOf {
    fn pick<T: Copy + Into<f64>>(&self, rows: &[&[T]], out: &mut [f64]) {
        let rows = &rows[self.places.clone()];
        let (count, double) = (rows.len() as f64, size_of::<T>() == size_of::<f64>());
        if double {
            return mean_of_doubles(rows, out);
        }
        out.fill(-0.0);
        for row in rows {
            let pairs = out.iter_mut().zip(*row);
            if self.single {
                pairs.for_each(|(out, &value)| *out = f64::from((*out + value.into()) as f32));
            } else {
                pairs.for_each(|(out, &value)| *out += value.into());
            }
        }
        out.iter_mut().for_each(|out| *out /= count);
    }
}

/// f64 has no wider type to be summed in: the differences to the smallest value are summed, so that equal values are
/// their own mean.
fn mean_of_doubles<T: Copy + Into<f64>>(rows: &[&[T]], out: &mut [f64]) {
    let (Some(lowest), Some(highest)) = (rows.first(), rows.last()) else { return };
    for (at, out) in out.iter_mut().enumerate() {
        let (low, high): (f64, f64) = (lowest[at].into(), highest[at].into());
        let values = || rows.iter().map(|row| row[at].into());
        let sum: f64 = values().map(|value: f64| value - low).sum();
        let mean = low + sum / rows.len() as f64;
        // Differences of the largest numbers may overflow; shares of them don't.
        let mean = if mean.is_finite() { mean } else { values().map(|value| value / rows.len() as f64).sum() };
        *out = mean.clamp(low, high);
    }
}
