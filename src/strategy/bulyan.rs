//! Bulyan: of the updates that Krum picks, the mean of the values close to the median.

use super::{
    FoldError, Reference, Strategy,
    combination::At,
    coordinates::{Coordinates, Sorted},
    registry::{ACCEPT_FAILURES, ParameterInfo, Parameters, REFERENCE, StrategyError, StrategyInfo},
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

/// The mean of so many values nearest to the median.
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

/// Of ascending values. Of two that are equally far the lower one is nearer.
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
        Reference::Flwr16 => introselect(&mut near, count - 1),
        _ => near.sort_by(|a, b| a.0.total_cmp(&b.0)),
    }
    let sum = near[1..count].iter().fold(near[0].1, |sum, &(_, value)| round(sum + value));
    round(sum / count as f64)
}

/// Leaves the element of this rank in its place, nothing larger before and nothing smaller after it, with the exchanges
/// of numpy 1.26's `introselect` on floating-point numbers: a quickselect with the median of three as pivot. What numpy
/// does against inputs made to defeat that pivot is left out: it is about speed.
fn introselect(v: &mut [(f64, f64)], rank: usize) {
    let (mut low, mut high) = (0, v.len() - 1);
    if rank < 3 {
        for at in 0..=rank {
            let mut least = at;
            (at + 1..v.len()).for_each(|other| least = if v[other].0 < v[least].0 { other } else { least });
            v.swap(at, least);
        }
        return;
    }
    if rank == high {
        let mut most = 0;
        (1..v.len()).for_each(|other| most = if v[other].0 < v[most].0 { most } else { other });
        v.swap(rank, most);
        return;
    }
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        for (a, b) in [(high, middle), (high, low), (low, middle)] {
            if v[a].0 < v[b].0 {
                v.swap(a, b);
            }
        }
        v.swap(middle, low + 1);
        let (pivot, mut from, mut to) = (v[low].0, low + 1, high);
        loop {
            from += 1;
            while v[from].0 < pivot {
                from += 1;
            }
            to -= 1;
            while pivot < v[to].0 {
                to -= 1;
            }
            if to < from {
                break;
            }
            v.swap(from, to);
        }
        v.swap(low, to);
        if to >= rank {
            high = to.saturating_sub(1);
        }
        if to <= rank {
            low = from;
        }
    }
    if high == low + 1 && v[high].0 < v[low].0 {
        v.swap(high, low);
    }
}

#[cfg(test)]
mod tests {
    use super::introselect;

    /// Whole numbers, a rank, and what `numpy.argpartition` of numpy 1.26.4 gave for them as f32.
    type Case = (&'static [u8], usize, &'static [usize]);

    #[test]
    fn selects_with_the_exchanges_of_numpy() {
        let cases: &[Case] = &[
            (&[3, 1, 2, 0], 3, &[3, 1, 2, 0]),
            (&[28, 30, 37, 17], 3, &[0, 1, 3, 2]),
            (&[3, 16, 23, 34], 1, &[0, 1, 2, 3]),
            (&[2, 3, 0, 1, 4], 0, &[2, 1, 0, 3, 4]),
            (&[39, 45, 14, 16, 26], 1, &[2, 3, 0, 1, 4]),
            (&[58, 10, 53, 47, 50], 0, &[1, 0, 2, 3, 4]),
            (&[5, 4, 2, 1, 3, 0], 3, &[3, 5, 2, 4, 1, 0]),
            (&[3, 57, 33, 54, 16, 21], 5, &[0, 5, 2, 3, 4, 1]),
            (&[11, 3, 22, 40, 7, 52], 2, &[1, 4, 0, 3, 2, 5]),
            (&[1, 3, 0, 6, 2, 4, 5], 4, &[0, 2, 4, 1, 5, 6, 3]),
            (&[46, 0, 2, 30, 20, 26, 55], 1, &[1, 2, 0, 3, 4, 5, 6]),
            (&[31, 19, 17, 48, 9, 18, 7], 1, &[6, 4, 2, 3, 1, 5, 0]),
            (&[6, 7, 5, 1, 3, 4, 2, 0], 1, &[7, 3, 2, 1, 4, 5, 6, 0]),
            (&[3, 19, 8, 47, 31, 30, 17, 30], 7, &[0, 1, 2, 7, 4, 5, 6, 3]),
            (&[14, 46, 0, 18, 55, 52, 5, 50], 6, &[6, 0, 2, 3, 1, 7, 5, 4]),
            (&[2, 0, 5, 8, 4, 7, 3, 1, 6], 6, &[1, 0, 7, 6, 4, 2, 8, 5, 3]),
            (&[11, 40, 56, 41, 38, 27, 58, 13, 21], 5, &[7, 0, 8, 5, 4, 1, 3, 2, 6]),
            (&[39, 6, 9, 41, 50, 38, 56, 22, 19], 7, &[5, 8, 2, 7, 1, 0, 3, 4, 6]),
            (&[8, 5, 7, 4, 6, 0, 1, 3, 9, 2], 7, &[6, 9, 7, 3, 1, 5, 4, 2, 0, 8]),
            (&[6, 36, 10, 56, 40, 59, 37, 43, 22, 48], 1, &[0, 2, 1, 3, 4, 5, 6, 7, 8, 9]),
            (&[9, 21, 42, 29, 50, 56, 24, 25, 33, 38], 4, &[1, 6, 0, 7, 3, 8, 9, 5, 2, 4]),
            (&[6, 7, 4, 0, 2, 5, 1, 9, 3, 8, 10], 6, &[6, 5, 2, 3, 4, 8, 0, 7, 1, 9, 10]),
            (&[33, 56, 36, 55, 34, 19, 19, 59, 35, 11, 49], 9, &[6, 5, 9, 0, 8, 4, 2, 10, 3, 1, 7]),
            (&[0, 9, 41, 24, 20, 4, 11, 51, 49, 49, 34], 1, &[0, 5, 2, 3, 4, 1, 6, 7, 8, 9, 10]),
            (&[0, 3, 5, 8, 2, 9, 7, 4, 10, 11, 1, 6], 3, &[0, 10, 4, 1, 7, 2, 11, 6, 8, 9, 3, 5]),
            (&[26, 26, 18, 3, 44, 0, 45, 11, 38, 20, 14, 55], 5, &[10, 7, 5, 3, 2, 9, 0, 6, 8, 1, 4, 11]),
            (&[53, 11, 28, 20, 27, 0, 40, 20, 51, 12, 20, 2], 9, &[5, 11, 9, 2, 4, 1, 3, 7, 10, 6, 8, 0]),
            (&[11, 4, 10, 7, 12, 5, 1, 8, 2, 0, 6, 3, 9], 3, &[6, 9, 8, 11, 1, 5, 10, 7, 3, 12, 4, 2, 0]),
            (&[12, 32, 12, 15, 2, 58, 13, 11, 36, 8, 53, 46, 20], 5, &[7, 0, 2, 9, 4, 6, 1, 5, 8, 3, 10, 11, 12]),
            (&[21, 44, 25, 17, 40, 8, 47, 25, 56, 15, 22, 52, 42], 0, &[5, 1, 2, 3, 4, 0, 6, 7, 8, 9, 10, 11, 12]),
            (&[5, 2, 12, 0, 13, 1, 7, 3, 8, 10, 6, 9, 11, 4], 7, &[5, 13, 7, 3, 1, 0, 10, 6, 8, 11, 9, 2, 12, 4]),
            (
                &[29, 28, 2, 49, 50, 1, 37, 33, 22, 29, 52, 35, 29, 43],
                9,
                &[9, 0, 2, 12, 11, 5, 1, 7, 8, 6, 10, 4, 3, 13],
            ),
            (
                &[31, 49, 33, 37, 29, 35, 36, 53, 14, 21, 33, 20, 40, 49],
                2,
                &[8, 11, 9, 3, 4, 5, 6, 7, 0, 2, 10, 1, 12, 13],
            ),
            (
                &[2, 6, 7, 8, 5, 9, 0, 13, 10, 1, 12, 3, 11, 14, 4],
                0,
                &[6, 1, 2, 3, 4, 5, 0, 7, 8, 9, 10, 11, 12, 13, 14],
            ),
            (
                &[8, 14, 17, 51, 19, 9, 23, 41, 26, 14, 7, 3, 29, 11, 35],
                10,
                &[0, 11, 10, 5, 9, 1, 2, 13, 4, 6, 8, 12, 14, 3, 7],
            ),
            (
                &[22, 30, 3, 32, 10, 27, 6, 16, 25, 29, 1, 55, 25, 12, 11],
                10,
                &[6, 14, 2, 13, 4, 10, 7, 8, 0, 12, 5, 11, 9, 3, 1],
            ),
            (
                &[5, 12, 15, 10, 9, 7, 13, 4, 14, 6, 8, 11, 1, 0, 3, 2],
                9,
                &[12, 15, 14, 13, 7, 9, 0, 5, 10, 4, 3, 11, 1, 6, 2, 8],
            ),
            (
                &[3, 1, 12, 43, 25, 25, 36, 4, 58, 29, 53, 45, 14, 18, 36, 50],
                14,
                &[1, 0, 7, 12, 9, 5, 6, 2, 14, 4, 13, 3, 11, 15, 10, 8],
            ),
            (
                &[29, 6, 59, 51, 42, 23, 8, 46, 12, 19, 52, 37, 17, 30, 36, 6],
                4,
                &[15, 1, 6, 8, 12, 5, 9, 0, 4, 3, 10, 11, 2, 13, 14, 7],
            ),
            (
                &[9, 6, 3, 5, 1, 10, 14, 2, 12, 16, 8, 7, 4, 13, 11, 15, 0],
                4,
                &[16, 7, 4, 2, 12, 3, 1, 11, 10, 0, 9, 6, 5, 13, 14, 15, 8],
            ),
            (
                &[58, 13, 23, 3, 29, 32, 45, 26, 14, 1, 54, 9, 46, 55, 19, 8, 41],
                6,
                &[15, 11, 9, 3, 1, 8, 14, 7, 4, 2, 5, 16, 12, 13, 10, 6, 0],
            ),
            (
                &[2, 57, 54, 6, 43, 24, 3, 48, 51, 1, 6, 4, 57, 55, 50, 41, 5],
                4,
                &[6, 0, 11, 9, 16, 5, 4, 7, 1, 3, 10, 2, 12, 13, 14, 15, 8],
            ),
            (
                &[13, 1, 15, 5, 0, 11, 17, 4, 8, 7, 6, 2, 10, 9, 16, 3, 12, 14],
                7,
                &[4, 1, 7, 11, 15, 3, 10, 9, 8, 13, 5, 16, 12, 0, 14, 6, 2, 17],
            ),
            (
                &[46, 23, 24, 40, 58, 47, 8, 20, 32, 26, 13, 4, 38, 22, 19, 56, 49, 30],
                16,
                &[10, 17, 2, 14, 13, 11, 6, 7, 1, 9, 8, 12, 3, 0, 16, 5, 15, 4],
            ),
            (
                &[33, 55, 36, 21, 34, 41, 48, 58, 15, 6, 18, 34, 53, 54, 29, 2, 57, 13],
                2,
                &[15, 9, 17, 3, 4, 5, 6, 7, 8, 1, 10, 11, 12, 13, 14, 0, 16, 2],
            ),
            (
                &[10, 17, 8, 11, 18, 15, 4, 12, 13, 7, 0, 2, 3, 1, 6, 14, 5, 9, 16],
                12,
                &[10, 9, 2, 17, 16, 14, 6, 13, 12, 11, 0, 3, 7, 5, 8, 15, 18, 4, 1],
            ),
            (
                &[47, 11, 50, 22, 3, 2, 5, 4, 38, 9, 31, 10, 45, 50, 50, 14, 26, 49, 48],
                0,
                &[5, 1, 2, 3, 4, 0, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18],
            ),
            (
                &[39, 3, 38, 3, 34, 55, 24, 49, 17, 0, 31, 55, 43, 13, 15, 15, 34, 35, 35],
                3,
                &[3, 9, 1, 13, 15, 14, 6, 4, 8, 17, 10, 16, 18, 12, 11, 7, 5, 2, 0],
            ),
            (
                &[14, 17, 3, 1, 0, 6, 5, 10, 9, 4, 13, 2, 18, 16, 19, 11, 7, 15, 12, 8],
                6,
                &[4, 3, 11, 6, 9, 2, 5, 16, 19, 1, 10, 8, 12, 13, 14, 15, 7, 17, 18, 0],
            ),
            (
                &[7, 30, 25, 4, 17, 35, 3, 10, 16, 15, 59, 53, 20, 35, 26, 14, 9, 41, 42, 59],
                7,
                &[6, 0, 16, 3, 15, 7, 9, 8, 4, 12, 2, 13, 1, 14, 5, 11, 10, 17, 18, 19],
            ),
            (
                &[53, 55, 47, 48, 19, 36, 34, 24, 35, 26, 5, 26, 41, 50, 31, 1, 31, 22, 44, 40],
                1,
                &[15, 10, 2, 3, 4, 5, 6, 7, 8, 9, 1, 11, 12, 13, 14, 0, 16, 17, 18, 19],
            ),
            (
                &[1, 18, 5, 16, 15, 0, 19, 13, 12, 17, 6, 2, 7, 14, 8, 4, 10, 20, 11, 9, 3],
                17,
                &[5, 0, 11, 20, 2, 10, 15, 12, 16, 14, 19, 18, 8, 7, 13, 4, 3, 9, 17, 1, 6],
            ),
            (
                &[57, 17, 54, 25, 26, 13, 3, 46, 20, 39, 31, 27, 22, 7, 43, 53, 44, 28, 53, 59, 28],
                2,
                &[6, 13, 5, 3, 4, 2, 0, 7, 8, 9, 10, 11, 12, 1, 14, 15, 16, 17, 18, 19, 20],
            ),
            (
                &[14, 39, 54, 27, 53, 6, 7, 28, 12, 18, 39, 56, 49, 15, 57, 0, 1, 51, 11, 48, 25],
                11,
                &[9, 0, 18, 16, 15, 5, 6, 13, 8, 20, 3, 7, 10, 1, 14, 11, 12, 17, 2, 19, 4],
            ),
            (
                &[0, 3, 2, 15, 14, 10, 9, 1, 12, 20, 17, 21, 13, 5, 4, 6, 7, 19, 8, 18, 16, 11],
                19,
                &[13, 0, 2, 18, 16, 5, 6, 7, 15, 14, 1, 21, 8, 12, 4, 20, 3, 10, 19, 17, 9, 11],
            ),
            (
                &[49, 35, 0, 47, 54, 18, 5, 13, 18, 22, 29, 20, 25, 22, 12, 37, 43, 35, 50, 9, 13, 9],
                3,
                &[2, 6, 19, 21, 14, 5, 20, 7, 8, 11, 13, 9, 12, 10, 1, 15, 16, 17, 18, 4, 3, 0],
            ),
            (
                &[17, 31, 12, 8, 0, 56, 18, 51, 36, 50, 1, 24, 46, 47, 12, 23, 56, 27, 46, 6, 40, 2],
                14,
                &[4, 10, 21, 2, 3, 19, 14, 0, 15, 6, 1, 11, 17, 8, 20, 12, 18, 13, 9, 5, 16, 7],
            ),
            (
                &[6, 13, 9, 20, 7, 8, 10, 17, 4, 14, 19, 16, 1, 15, 5, 11, 0, 12, 3, 22, 2, 18, 21],
                21,
                &[16, 0, 2, 20, 4, 5, 6, 18, 8, 9, 17, 1, 12, 13, 14, 15, 11, 21, 10, 7, 3, 22, 19],
            ),
            (
                &[20, 51, 14, 37, 31, 10, 59, 58, 10, 21, 50, 5, 46, 17, 36, 29, 32, 17, 31, 31, 6, 43, 34],
                10,
                &[8, 11, 2, 20, 17, 5, 13, 0, 9, 15, 4, 19, 18, 16, 22, 14, 6, 12, 1, 10, 3, 21, 7],
            ),
            (
                &[59, 14, 43, 10, 27, 53, 26, 25, 52, 18, 0, 2, 11, 33, 57, 57, 39, 17, 49, 22, 32, 47, 2],
                12,
                &[10, 11, 22, 3, 12, 9, 1, 17, 19, 6, 7, 4, 20, 13, 16, 2, 21, 18, 8, 5, 15, 14, 0],
            ),
        ];
        for &(values, rank, expected) in cases {
            let mut got: Vec<(f64, f64)> = values.iter().zip(0..).map(|(&v, at)| (v.into(), f64::from(at))).collect();
            introselect(&mut got, rank);
            let got: Vec<usize> = got.into_iter().map(|(_, at)| at as usize).collect();
            assert_eq!(got, expected, "{values:?} rank {rank}");
        }
    }
}
