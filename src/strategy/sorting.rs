//! The values of all inputs in ascending order, coordinate by coordinate; NaN counts as infinity.
//!
//! A sorting network exchanges whole blocks of coordinates at a time. No branch depends on a value, so LLVM turns it
//! into vector minima and maxima.

use super::{
    FoldError,
    number::{BF16, F16, F32, F64, Wire},
    source::Input,
};
use crate::weights::{DType, Piece};
use bytes::Bytes;
use std::{collections::BTreeSet, ops::Range};

/// Coordinates sorted at a time.
const BLOCK: usize = 256;

/// The exchanges that put the right values into some places of a sorted sequence: Batcher's odd-even merge sort (Knuth,
/// The Art of Computer Programming, volume 3, 5.2.2, algorithm M), without the exchanges that none of these places
/// needs.
pub(super) struct Network(Vec<(usize, usize)>);

impl Network {
    /// For `inputs` values of which the sorted ones at these places are wanted.
    pub(super) fn new(inputs: usize, wanted: Range<usize>) -> Self {
        let mut exchanges = Vec::new();
        let highest = inputs.next_power_of_two() / 2;
        let mut p = highest;
        while p > 0 {
            let (mut q, mut r, mut d) = (highest, 0, p);
            loop {
                exchanges.extend((0..inputs.saturating_sub(d)).filter(|i| i & p == r).map(|i| (i, i + d)));
                if q == p {
                    break;
                }
                (d, q, r) = (q - p, q / 2, p);
            }
            p /= 2;
        }
        let mut needed: BTreeSet<usize> = wanted.collect();
        let mut kept: Vec<_> = (exchanges.into_iter().rev())
            .filter(|&(low, high)| {
                let touches = needed.contains(&low) || needed.contains(&high);
                if touches {
                    needed.extend([low, high]);
                }
                touches
            })
            .collect();
        kept.reverse();
        Self(kept)
    }

    /// That changes nothing.
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    fn sort<T: Copy + PartialOrd>(&self, rows: &mut [[T; BLOCK]]) {
        for &(low, high) in &self.0 {
            let (before, after) = rows.split_at_mut(high);
            for (low, high) in before[low].iter_mut().zip(&mut after[0]) {
                let (a, b) = (*low, *high);
                // Written so that each compiles to one instruction, and so that equal values such as 0 and -0 either
                // both move or both stay.
                *low = if b < a { b } else { a };
                *high = if b < a { a } else { b };
            }
        }
    }
}

/// NaN has no place in an order, so it counts as infinity: among the most extreme values, which order statistics
/// tolerate.
#[expect(clippy::eq_op, reason = "only NaN is not itself")]
fn ordered<T: Copy + PartialEq + From<f32>>(value: T) -> T {
    if value == value { value } else { T::from(f32::INFINITY) }
}

/// The number halfway between two.
pub(super) fn middle(low: f64, high: f64) -> f64 {
    // Halve first only if the sum would overflow: halving a subnormal number rounds.
    match (low + high) / 2.0 {
        middle if middle.is_finite() => middle,
        _ => low / 2.0 + high / 2.0,
    }
}

/// Memory of one thread.
#[derive(Default)]
pub(super) struct Scratch {
    single: Vec<[f32; BLOCK]>,
    double: Vec<[f64; BLOCK]>,
    out: Vec<f64>,
}

/// Computes a coordinate's result from its sorted values.
pub(super) trait Pick: Sync {
    /// The result for each coordinate. `rows` has a row for each input; in a row the network's wanted places are
    /// sorted, coordinate by coordinate.
    fn pick<T: Copy + Into<f64>>(&self, rows: &[&[T]], out: &mut [f64]);
}

/// Sorts a piece of a float tensor, and gives what `pick` makes of it to `sink` block by block, as [`Mean::piece`] does.
///
/// [`Mean::piece`]: super::mean::Mean::piece
pub(super) fn piece(
    dtype: DType,
    piece: &Piece,
    inputs: &[Input<'_>],
    (network, pick): (&Network, &impl Pick),
    scratch: &mut Scratch,
    sink: &mut dyn FnMut(usize, &mut [f64]),
) -> Result<(), FoldError> {
    let read = inputs.iter().map(|input| input.read(piece)).collect::<Result<Vec<_>, _>>()?;
    let Scratch { single, double, out } = scratch;
    match dtype {
        DType::F64 => blocks::<F64, _>(&read, 8, network, pick, double, out, sink),
        DType::F32 => blocks::<F32, _>(&read, 4, network, pick, single, out, sink),
        DType::F16 => blocks::<F16, _>(&read, 2, network, pick, single, out, sink),
        DType::BF16 => blocks::<BF16, _>(&read, 2, network, pick, single, out, sink),
        _ => unreachable!("{dtype} is not averaged"),
    }
    Ok(())
}

fn blocks<W: Wire, P: Pick>(
    read: &[Bytes],
    size: usize,
    network: &Network,
    pick: &P,
    rows: &mut Vec<[W::Value; BLOCK]>,
    out: &mut Vec<f64>,
    sink: &mut dyn FnMut(usize, &mut [f64]),
) where
    W::Value: PartialOrd + Default + From<f32> + Into<f64>,
{
    rows.resize(read.len(), [W::Value::default(); BLOCK]);
    out.resize(BLOCK, 0.0);
    let elements = read.first().map_or(0, |bytes| bytes.len() / size);
    for start in (0..elements).step_by(BLOCK) {
        let length = BLOCK.min(elements - start);
        for (bytes, row) in read.iter().zip(rows.iter_mut()) {
            let values = W::values(&bytes[start * size..(start + length) * size]);
            row.iter_mut().zip(values).for_each(|(place, value)| *place = ordered(value));
        }
        network.sort(rows);
        let sorted: Vec<&[W::Value]> = rows.iter().map(|row| &row[..length]).collect();
        pick.pick(&sorted, &mut out[..length]);
        sink(start, &mut out[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All sequences of zeros and ones: a network that sorts them sorts everything (Knuth, 5.3.4, theorem Z).
    #[test]
    fn every_sequence_of_zeros_and_ones_is_sorted_where_it_is_wanted() {
        for inputs in 1..=12usize {
            for (from, to) in [(0, inputs), (inputs / 2, inputs / 2 + 1), ((inputs - 1) / 2, inputs / 2 + 1)] {
                let network = Network::new(inputs, from..to);
                for bits in 0..1u32 << inputs {
                    let mut rows: Vec<[f32; BLOCK]> = (0..inputs).map(|i| [(bits >> i & 1) as f32; BLOCK]).collect();
                    network.sort(&mut rows);
                    let zeros = inputs - bits.count_ones() as usize;
                    for (place, row) in rows.iter().enumerate().take(to).skip(from) {
                        assert_eq!(row[0], if place < zeros { 0.0 } else { 1.0 }, "{inputs} {bits:b} {place}");
                    }
                }
            }
        }
    }
}
