//! Sums whose order follows from the lengths alone.

use super::{
    buffer::Buffer,
    instructions::{self, vectorized},
    parts,
};

/// Elements (8 KiB) that are copied at a time from the closest cache.
const ROWS_AT_ONCE: usize = 2048;

/// `out[c] = Σ x[r, c]` over the rows of a matrix [rows, out.len()].
pub fn columns(x: &[f32], out: &mut [f32]) {
    let columns = out.len();
    out.fill(0.0);
    if columns == 0 {
        return;
    }
    let rows = x.len() / columns;
    let per_part = parts::units(columns).max(rows.div_ceil(64));
    let mut partials = Buffer::filled(rows.div_ceil(per_part) * columns, 0.0);
    parts::each(&mut partials, columns, |number, partial| {
        let first = number * per_part;
        let last = rows.min(first + per_part);
        add_rows(instructions::best(), &x[first * columns..last * columns], partial);
    });
    add_rows(instructions::best(), &partials, out);
}

/// `out[o, i] = Σ x[o, m, i]` over the middle dimension of [outer, middle, inner], in its order.
///
/// Panics if a length doesn't fit.
pub fn middle(x: &[f32], [outer, middle, inner]: [usize; 3], out: &mut [f32]) {
    assert_eq!((x.len(), out.len()), (outer * middle * inner, outer * inner));
    if inner == 1 {
        let at_once = parts::units(middle);
        return parts::each(out, at_once, |number, out| {
            for (place, out) in out.iter_mut().enumerate() {
                *out = all(&x[(number * at_once + place) * middle..][..middle]);
            }
        });
    }
    // Parts are columns of one matrix [middle, inner] after the other.
    for (x, out) in x.chunks_exact((middle * inner).max(1)).zip(out.chunks_exact_mut(inner.max(1))) {
        let part = parts::units(middle).max(16);
        parts::each(out, part, |number, out| {
            out.fill(0.0);
            for row in x.chunks_exact(inner) {
                add(instructions::best(), &row[number * part..][..out.len()], out);
            }
        });
    }
    if middle == 0 {
        out.fill(0.0);
    }
}

/// The sum of all elements.
pub fn all(x: &[f32]) -> f32 {
    const COLUMNS: usize = 64;
    let whole = x.len() / COLUMNS * COLUMNS;
    let mut sums = [0.0; COLUMNS];
    columns(&x[..whole], &mut sums);
    let rest: f32 = x[whole..].iter().sum();
    sums.iter().sum::<f32>() + rest
}

/// Adds `row` to each row of a matrix [rows, row.len()].
pub fn add_to_rows(row: &[f32], out: &mut [f32]) {
    for out in out.chunks_exact_mut(row.len().max(1)) {
        out.iter_mut().zip(row).for_each(|(out, row)| *out += *row);
    }
}

/// Makes each row of a matrix [rows, row.len()] this row.
pub fn fill_rows(row: &[f32], out: &mut [f32]) {
    let len = row.len().min(out.len());
    out[..len].copy_from_slice(&row[..len]);
    // Each copy doubles what is done, so that they are few and long.
    let mut done = len;
    while done < out.len() && done > 0 {
        let next = done.min(out.len() - done).min(ROWS_AT_ONCE.next_multiple_of(len));
        out.copy_within(..next, done);
        done += next;
    }
}

vectorized! {
    fn add<'a>(x: &'a [f32], out: &'a mut [f32]) {
        for (out, x) in out.iter_mut().zip(x) {
            *out += *x;
        }
    }
}

vectorized! {
    fn add_rows<'a>(x: &'a [f32], out: &'a mut [f32]) {
        for row in x.chunks_exact(out.len()) {
            for (out, x) in out.iter_mut().zip(row) {
                *out += *x;
            }
        }
    }
}
