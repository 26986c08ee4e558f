//! Sums over all coordinates: lengths, products and distances of whole vectors.

use super::{
    FoldError,
    engine::{self, Plane},
    number::decode,
    source::Input,
};
use crate::weights::{Layout, Piece};

/// Coordinates of each vector processed at a time: 2 KiB, so that about twenty vectors fit into a core's cache.
const BLOCK: usize = 256;
/// Partial sums of a sum, so that it isn't one long chain of additions.
const LANES: usize = 8;

/// A run of coordinates of all inputs, in f64.
pub(super) struct Rows<'r> {
    values: &'r [f64],
    length: usize,
}

impl<'r> Rows<'r> {
    /// The coordinates of one input.
    pub(super) fn row(&self, input: usize) -> &'r [f64] {
        &self.values[input * BLOCK..input * BLOCK + self.length]
    }

    /// The number of coordinates, at most 256.
    pub(super) fn length(&self) -> usize {
        self.length
    }
}

/// Memory of one thread.
struct Scratch<S> {
    values: Vec<f64>,
    own: S,
}

/// Passes once over all inputs and computes `sums` sums over all coordinates of float tensors: `work` adds the
/// contribution of a run of coordinates. The order of the additions follows from the layout.
pub(super) fn sums<S: Default>(
    layout: &Layout,
    inputs: &[Input<'_>],
    sums: usize,
    work: impl Fn(&mut S, &Rows<'_>, &mut [f64]) + Sync,
) -> Result<Vec<f64>, FoldError> {
    let scratch = || Scratch { values: vec![0.0; inputs.len() * BLOCK], own: S::default() };
    let piece = |scratch: &mut Scratch<S>, piece: &Piece, _: &mut [&mut [u8]]| {
        let dtype = layout.tensors()[piece.tensor].dtype;
        if !dtype.is_float() {
            return Ok(Vec::new());
        }
        let read = inputs.iter().map(|input| input.read(piece)).collect::<Result<Vec<_>, _>>()?;
        let size = dtype.size() as usize;
        let elements = (piece.range.end - piece.range.start) as usize / size;
        let mut partial = vec![0.0; sums];
        for start in (0..elements).step_by(BLOCK) {
            let length = BLOCK.min(elements - start);
            for (bytes, values) in read.iter().zip(scratch.values.chunks_exact_mut(BLOCK)) {
                decode(dtype, &bytes[start * size..(start + length) * size], &mut values[..length]);
            }
            work(&mut scratch.own, &Rows { values: &scratch.values, length }, &mut partial);
        }
        Ok(partial)
    };
    let none: [Plane; 0] = [];
    let done = engine::run(layout, inputs, &none, scratch, piece)?;
    let mut total = vec![0.0; sums];
    for partial in done.partials {
        total.iter_mut().zip(partial).for_each(|(total, partial)| *total += partial);
    }
    Ok(total)
}

/// Σ f(a, b) over pairs of elements.
#[inline(always)]
pub(super) fn sum_of(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            lanes[lane] += f(a[lane], b[lane]);
        }
    }
    lanes.iter().sum::<f64>() + rest_a.iter().zip(rest_b).map(|(&a, &b)| f(a, b)).sum::<f64>()
}

/// (a − b)².
pub(super) fn squared_difference(a: f64, b: f64) -> f64 {
    (a - b) * (a - b)
}

/// ‖w_i − w_j‖² of all pairs, computed from differences: with ‖w_i‖² + ‖w_j‖² − 2·w_i·w_j they would be lost in
/// rounding. Everything is infinitely far from a vector that isn't finite.
pub(super) fn squared_distances(layout: &Layout, inputs: &[Input<'_>]) -> Result<Vec<Vec<f64>>, FoldError> {
    let pairs: Vec<(usize, usize)> =
        (0..inputs.len()).flat_map(|i| (i + 1..inputs.len()).map(move |j| (i, j))).collect();
    let sums = sums::<()>(layout, inputs, pairs.len(), |_, rows, sums| {
        for (sum, &(i, j)) in sums.iter_mut().zip(&pairs) {
            *sum += sum_of(rows.row(i), rows.row(j), squared_difference);
        }
    })?;
    let mut distances = vec![vec![0.0; inputs.len()]; inputs.len()];
    for (&(i, j), sum) in pairs.iter().zip(sums) {
        let sum = if sum.is_nan() { f64::INFINITY } else { sum };
        (distances[i][j], distances[j][i]) = (sum, sum);
    }
    Ok(distances)
}
