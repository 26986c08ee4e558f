//! Copying tensors into another order of dimensions.

use super::{
    instructions::{self, vectorized},
    parts,
};

/// Rows and columns that are turned at a time, so that both sides stay in the closest cache.
const BLOCK: usize = 16;

/// A dimension: how many elements, and how far apart they lie in the source and in the copy.
#[derive(Debug, Clone, Copy)]
struct Dim {
    size: usize,
    from: usize,
    to: usize,
}

/// Copies the elements of a tensor of these sides, which lie `strides` apart in `x`, to `out` row-major.
///
/// Panics if an element lies outside of `x`, or `out` has another length.
pub fn to_row_major(x: &[f32], sides: &[usize], strides: &[usize], out: &mut [f32]) {
    assert_eq!((sides.len(), sides.iter().product()), (strides.len(), out.len()), "{sides:?} by {strides:?}");
    if out.is_empty() {
        return;
    }
    let dims = merged(sides, strides);
    let last: usize = dims.iter().map(|dim| (dim.size - 1) * dim.from).sum();
    assert!(last < x.len(), "{sides:?} by {strides:?} is beyond {}", x.len());
    let Some(&outermost) = dims.first() else {
        out[0] = x[0];
        return;
    };
    let per_part = parts::units(outermost.to);
    parts::each(out, per_part * outermost.to, |number, out| {
        let mut dims = dims.clone();
        dims[0].size = out.len() / outermost.to;
        copy(instructions::best(), &x[number * per_part * outermost.from..], &dims, out);
    });
}

/// Without dimensions of one element, and with those that lie together as one.
fn merged(sides: &[usize], strides: &[usize]) -> Vec<Dim> {
    let mut dims: Vec<Dim> = Vec::with_capacity(sides.len());
    for (&size, &from) in sides.iter().zip(strides).filter(|(size, _)| **size != 1) {
        match dims.last_mut() {
            Some(last) if last.from == size * from => *last = Dim { size: last.size * size, from, to: 1 },
            _ => dims.push(Dim { size, from, to: 1 }),
        }
    }
    for place in (1..dims.len()).rev() {
        dims[place - 1].to = dims[place].to * dims[place].size;
    }
    dims
}

vectorized! {
    fn copy<'a>(x: &'a [f32], dims: &'a [Dim], out: &'a mut [f32]) {
        // The copy runs along the last dimension; of the others that which lies closest in the source is turned with it.
        let Some((&columns, others)) = dims.split_last() else { return };
        let turned = if columns.from == 1 { None } else { (0..others.len()).min_by_key(|&place| others[place].from) };
        let one = Dim { size: 1, from: 0, to: 0 };
        let rows = turned.map_or(one, |place| others[place]);
        let is_outer = |place: &usize| Some(*place) != turned;
        let outer: Vec<Dim> = (0..others.len()).filter(is_outer).map(|place| others[place]).collect();
        for index in 0..outer.iter().map(|dim| dim.size).product() {
            let (mut rest, mut from, mut to) = (index, 0, 0);
            for dim in outer.iter().rev() {
                from += rest % dim.size * dim.from;
                to += rest % dim.size * dim.to;
                rest /= dim.size;
            }
            turn(&x[from..], rows, columns, &mut out[to..]);
        }
    }
}

#[inline(always)]
fn turn(x: &[f32], rows: Dim, columns: Dim, out: &mut [f32]) {
    if columns.from == 1 {
        for row in 0..rows.size {
            out[row * rows.to..][..columns.size].copy_from_slice(&x[row * rows.from..][..columns.size]);
        }
        return;
    }
    for first_row in (0..rows.size).step_by(BLOCK) {
        for first in (0..columns.size).step_by(BLOCK) {
            let here = BLOCK.min(columns.size - first);
            for row in first_row..rows.size.min(first_row + BLOCK) {
                let out = out[row * rows.to + first..][..here].iter_mut();
                let x = &x[row * rows.from + first * columns.from..];
                // A stride of 0 repeats one element.
                for (column, out) in out.enumerate() {
                    *out = x[column * columns.from];
                }
            }
        }
    }
}
