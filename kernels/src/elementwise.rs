//! Operations of two tensors element by element, one of them repeated along some dimensions.

use super::{
    instructions::{best, vectorized},
    parts,
};

/// What is done to two elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `a + b`
    Add,
    /// `a - b`
    Subtract,
    /// `b - a`
    SubtractFrom,
    /// `a · b`
    Multiply,
    /// `a / b`
    Divide,
    /// `b / a`
    DivideInto,
}

/// A dimension of the whole tensor, and whether the other one is repeated along it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dim {
    /// Elements of the whole one.
    pub size: usize,
    /// Whether the other has one element only.
    pub repeated: bool,
}

/// `out = operation(whole, other)`. `whole` is row-major over the dimensions, `other` over those along which it is not
/// repeated. Panics if a length doesn't fit.
pub fn apply(operation: Operation, whole: &[f32], other: &[f32], dims: &[Dim], out: &mut [f32]) {
    let dims = merged(dims);
    let product = |dims: &[Dim], all: bool| -> usize {
        dims.iter().filter(|dim| all || !dim.repeated).map(|dim| dim.size).product()
    };
    assert_eq!((whole.len(), whole.len()), (product(&dims, true), out.len()), "elements over {dims:?}");
    assert_eq!(other.len(), product(&dims, false), "elements of the other over {dims:?}");
    if out.is_empty() {
        return;
    }
    let (outer, row) = match dims.split_last() {
        Some((&row, outer)) => (outer, row),
        None => (dims.as_slice(), Dim { size: 1, repeated: true }),
    };
    // Along a single run parts are cut from the run.
    if outer.is_empty() {
        let part = parts::units(1);
        return parts::each(out, part, |number, out| {
            let first = number * part;
            let other = if row.repeated { other } else { &other[first..][..out.len()] };
            rows(best(), operation, &whole[first..][..out.len()], other, &[], Dim { size: out.len(), ..row }, 0, out);
        });
    }
    let at_once = parts::units(row.size);
    parts::each(out, at_once * row.size, |number, out| {
        let first = number * at_once;
        rows(best(), operation, &whole[first * row.size..][..out.len()], other, outer, row, first, out);
    });
}

/// Without dimensions of one element, and with neighbours of a kind as one.
fn merged(dims: &[Dim]) -> Vec<Dim> {
    let mut merged: Vec<Dim> = Vec::with_capacity(dims.len());
    for &dim in dims.iter().filter(|dim| dim.size != 1) {
        match merged.last_mut() {
            Some(last) if last.repeated == dim.repeated => last.size *= dim.size,
            _ => merged.push(dim),
        }
    }
    merged
}

vectorized! {
    fn rows<'a>(
        operation: Operation,
        whole: &'a [f32],
        other: &'a [f32],
        outer: &'a [Dim],
        row: Dim,
        first: usize,
        out: &'a mut [f32],
    ) {
        match operation {
            Operation::Add => each_row(whole, other, outer, row, first, out, |a, b| a + b),
            Operation::Subtract => each_row(whole, other, outer, row, first, out, |a, b| a - b),
            Operation::SubtractFrom => each_row(whole, other, outer, row, first, out, |a, b| b - a),
            Operation::Multiply => each_row(whole, other, outer, row, first, out, |a, b| a * b),
            Operation::Divide => each_row(whole, other, outer, row, first, out, |a, b| a / b),
            Operation::DivideInto => each_row(whole, other, outer, row, first, out, |a, b| b / a),
        }
    }
}

#[inline(always)]
fn each_row(
    whole: &[f32],
    other: &[f32],
    outer: &[Dim],
    row: Dim,
    first: usize,
    out: &mut [f32],
    operation: impl Fn(f32, f32) -> f32 + Copy,
) {
    let lines = out.chunks_exact_mut(row.size).zip(whole.chunks_exact(row.size));
    for (number, (out, whole)) in lines.enumerate() {
        let (mut rest, mut place, mut stride) = (first + number, 0, if row.repeated { 1 } else { row.size });
        for dim in outer.iter().rev() {
            if !dim.repeated {
                place += rest % dim.size * stride;
                stride *= dim.size;
            }
            rest /= dim.size;
        }
        if row.repeated {
            let other = other[place];
            for (out, &whole) in out.iter_mut().zip(whole) {
                *out = operation(whole, other);
            }
        } else {
            for ((out, &whole), &other) in out.iter_mut().zip(whole).zip(&other[place..][..row.size]) {
                *out = operation(whole, other);
            }
        }
    }
}
