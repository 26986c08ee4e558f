//! FedMedian: the median of each coordinate.

use super::{
    Strategy,
    coordinates::{Coordinates, Sorted},
    parameters::{ACCEPT_FAILURES, Parameters, REFERENCE, StrategyError, StrategyInfo},
    sorting::{Pick, middle},
};
use std::ops::Range;

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedmedian",
    aliases: &[],
    summary: "median of each coordinate, of an even number the mean of the two middle ones; not weighted",
    paper: "Yin et al. 2018, Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
    parameters: &[ACCEPT_FAILURES, REFERENCE],
    build,
};

/// The coordinate-wise median (Yin et al. 2018, definition 1): inside the honest updates' range in each coordinate as
/// long as fewer than half of the updates are an attacker's. All versions of Flower give these bits.
struct FedMedian;

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    Ok(Box::new(Sorted::new(FedMedian, parameters.common()?)))
}

impl Coordinates for FedMedian {
    const INFO: StrategyInfo = INFO;

    fn wanted(&self, updates: usize) -> Range<usize> {
        (updates - 1) / 2..updates / 2 + 1
    }

    fn pick(&self, updates: usize) -> impl Pick {
        Median { low: (updates - 1) / 2, high: updates / 2 }
    }
}

/// The mean of the values at two places, which may be one.
struct Median {
    low: usize,
    high: usize,
}

impl Pick for Median {
    fn pick<T: Copy + Into<f64>>(&self, rows: &[&[T]], out: &mut [f64]) {
        let pairs = rows[self.low].iter().zip(rows[self.high]);
        out.iter_mut().zip(pairs).for_each(|(out, (&low, &high))| *out = middle(low.into(), high.into()));
    }
}
