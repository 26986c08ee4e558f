//! A safe interface to the `gemm` crate's matrix products.

use gemm::Parallelism;

/// A matrix in a slice: element (row, column) lies at `row * strides[0] + column * strides[1]`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    sides: [usize; 2],
    strides: [usize; 2],
}

/// The same to be written.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    values: &'a mut [f32],
    sides: [usize; 2],
    strides: [usize; 2],
}

/// Where the product goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onto {
    /// It replaces what is there.
    Nothing,
    /// It is added to what is there.
    Sum,
}

/// Which threads work on a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The caller alone.
    One,
    /// The pool in which it is called. Each element is summed by one thread, in the same order: the bits are the same.
    All,
}

/// One past the last element, or 0 if there is none.
fn extent(sides: [usize; 2], strides: [usize; 2]) -> usize {
    let last = [0, 1].map(|axis| sides[axis].checked_sub(1).and_then(|last| last.checked_mul(strides[axis])));
    match (sides.contains(&0), last) {
        (true, _) => 0,
        (false, [Some(row), Some(column)]) => row.checked_add(column).map_or(usize::MAX, |last| last.saturating_add(1)),
        (false, _) => usize::MAX,
    }
}

impl<'a> Matrix<'a> {
    /// `sides` and `strides` are of rows and columns. Panics if an element lies outside of the slice.
    pub fn new(values: &'a [f32], sides: [usize; 2], strides: [usize; 2]) -> Self {
        assert!(extent(sides, strides) <= values.len(), "{sides:?} by {strides:?} is beyond {}", values.len());
        Self { values, sides, strides }
    }

    /// Rows one after the other.
    pub fn rows(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::new(values, [rows, columns], [columns, 1])
    }

    /// Rows become columns.
    #[must_use]
    pub fn transposed(self) -> Self {
        let ([rows, columns], [row, column]) = (self.sides, self.strides);
        Self { values: self.values, sides: [columns, rows], strides: [column, row] }
    }
}

impl<'a> MatrixMut<'a> {
    /// `sides` and `strides` are of rows and columns. Panics if an element lies outside of the slice, or two share a
    /// place.
    pub fn new(values: &'a mut [f32], sides: [usize; 2], strides: [usize; 2]) -> Self {
        assert!(extent(sides, strides) <= values.len(), "{sides:?} by {strides:?} is beyond {}", values.len());
        let apart = |inner: usize, outer: usize| {
            sides[inner] <= 1
                || (strides[inner] > 0 && (sides[outer] <= 1 || strides[outer] >= sides[inner] * strides[inner]))
        };
        let columns_apart = apart(0, 1) && (sides[1] <= 1 || strides[1] > 0);
        let rows_apart = apart(1, 0) && (sides[0] <= 1 || strides[0] > 0);
        let distinct = sides.contains(&0) || columns_apart || rows_apart;
        assert!(distinct, "elements of {sides:?} by {strides:?} overlap");
        Self { values, sides, strides }
    }

    /// Rows one after the other.
    pub fn rows(values: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::new(values, [rows, columns], [columns, 1])
    }
}

/// `out = lhs · rhs`, or `out += lhs · rhs`. Panics if the sides don't fit.
///
/// Quickest where `lhs` has its rows' elements, or `rhs` its columns' elements, next to each other as `out` has.
pub fn multiply(out: MatrixMut<'_>, onto: Onto, lhs: Matrix<'_>, rhs: Matrix<'_>, threads: Threads) {
    let [rows, columns] = out.sides;
    let depth = lhs.sides[1];
    assert_eq!((lhs.sides[0], rhs.sides), (rows, [depth, columns]), "the sides of a product don't fit");
    if rows == 0 || columns == 0 {
        return;
    }
    let parallelism = match threads {
        Threads::All if rayon::current_num_threads() > 1 => Parallelism::Rayon(0),
        _ => Parallelism::None,
    };
    let stride = |stride: usize| stride as isize;
    // SAFETY: The three matrices lie within their slices and no two elements of `out` share a place, which `new` has
    // checked; `out` is borrowed for writing, so it shares no memory with the others. A slice is at most isize::MAX bytes
    // long, so no stride of a side above one, and no offset, overflows an isize.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            depth,
            out.values.as_mut_ptr(),
            stride(out.strides[1]),
            stride(out.strides[0]),
            onto == Onto::Sum,
            lhs.values.as_ptr(),
            stride(lhs.strides[1]),
            stride(lhs.strides[0]),
            rhs.values.as_ptr(),
            stride(rhs.strides[1]),
            stride(rhs.strides[0]),
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
