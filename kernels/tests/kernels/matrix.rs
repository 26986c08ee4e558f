//! Matrix products of every shape and stride against plain loops.

use crate::plain::{Sum, assert_close, bits, nan, values};
use peerfold_kernels::matrix::{Matrix, MatrixMut, Onto, Threads, multiply};
use proptest::prelude::*;

/// How a matrix lies in memory.
#[derive(Debug, Clone, Copy)]
struct Lies {
    transposed: bool,
    /// Elements between neighbours.
    apart: usize,
    /// Elements after each row, or column.
    gap: usize,
}

const DENSE: Lies = Lies { transposed: false, apart: 1, gap: 0 };
const TURNED: Lies = Lies { transposed: true, apart: 1, gap: 0 };

fn strides([rows, columns]: [usize; 2], lies: Lies) -> [usize; 2] {
    let inner = if lies.transposed { rows } else { columns };
    let outer = (inner * lies.apart + lies.gap).max(1);
    if lies.transposed { [lies.apart, outer] } else { [outer, lies.apart] }
}

fn len(sides: [usize; 2], strides: [usize; 2]) -> usize {
    if sides.contains(&0) { 0 } else { (sides[0] - 1) * strides[0] + (sides[1] - 1) * strides[1] + 1 }
}

fn assert_product([rows, depth, columns]: [usize; 3], lies: [Lies; 3], onto: Onto, threads: Threads) {
    let what = format!("{rows} × {depth} × {columns}, {lies:?}, {onto:?}");
    let sides = [[rows, columns], [rows, depth], [depth, columns]];
    let [out, left, right] = [0, 1, 2].map(|number| strides(sides[number], lies[number]));
    let (lhs, rhs) = (values(len(sides[1], left), 1), values(len(sides[2], right), 2));
    let before = match onto {
        Onto::Nothing => nan(len(sides[0], out)),
        Onto::Sum => values(len(sides[0], out), 3),
    };
    let mut after = before.clone();
    multiply(
        MatrixMut::new(&mut after, sides[0], out),
        onto,
        Matrix::new(&lhs, sides[1], left),
        Matrix::new(&rhs, sides[2], right),
        threads,
    );
    let (mut result, mut plain, mut rest) = (Vec::new(), Vec::new(), after.clone());
    for row in 0..rows {
        for column in 0..columns {
            let place = row * out[0] + column * out[1];
            let mut sum = Sum::default();
            if onto == Onto::Sum {
                sum.add(f64::from(before[place]));
            }
            for inner in 0..depth {
                let left = lhs[row * left[0] + inner * left[1]];
                sum.add(f64::from(left) * f64::from(rhs[inner * right[0] + column * right[1]]));
            }
            result.push(after[place]);
            plain.push(sum);
            rest[place] = before[place];
        }
    }
    assert_close(&result, &plain, &what);
    assert_eq!(bits(&rest), bits(&before), "written between the elements: {what}");
}

fn lies() -> impl Strategy<Value = Lies> {
    let apart = prop_oneof![3 => Just(1_usize), 1 => 2..4_usize];
    (any::<bool>(), apart, prop_oneof![Just(0_usize), 1..6_usize]).prop_map(|(transposed, apart, gap)| Lies {
        transposed,
        apart,
        gap,
    })
}

fn onto() -> impl Strategy<Value = Onto> {
    prop_oneof![Just(Onto::Nothing), Just(Onto::Sum)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_product_equals_the_plain_one(
        sides in [0..24_usize, 0..24_usize, 0..24_usize],
        lies in [lies(), lies(), lies()],
        onto in onto(),
    ) {
        assert_product(sides, lies, onto, Threads::All);
        assert_product(sides, lies, onto, Threads::One);
    }
}

#[test]
fn large_products_equal_the_plain_one() {
    for sides in [[130, 67, 201], [1, 700, 300], [300, 700, 1], [9, 5000, 5], [257, 1, 129], [1, 3000, 1]] {
        for lies in [[DENSE; 3], [DENSE, TURNED, DENSE], [DENSE, DENSE, TURNED], [TURNED, DENSE, TURNED]] {
            for onto in [Onto::Nothing, Onto::Sum] {
                assert_product(sides, lies, onto, Threads::All);
            }
        }
    }
}

#[test]
fn a_product_over_no_depth_is_zero() {
    let mut out = nan(6);
    let product = |out: &mut [f32], onto| {
        let (lhs, rhs) = (Matrix::rows(&[], 2, 0), Matrix::rows(&[], 0, 3));
        multiply(MatrixMut::rows(out, 2, 3), onto, lhs, rhs, Threads::All);
    };
    product(&mut out, Onto::Nothing);
    assert_eq!(out, [0.0; 6]);
    out.fill(7.0);
    product(&mut out, Onto::Sum);
    assert_eq!(out, [7.0; 6]);
}

#[test]
fn products_without_elements_leave_everything_as_it_is() {
    for [rows, columns] in [[0, 3], [3, 0], [0, 0], [1, 0], [0, 1]] {
        let mut out = [7.0; 4];
        let (lhs, rhs) =
            (Matrix::rows(&[1.0; 6][..rows * 2], rows, 2), Matrix::rows(&[1.0; 6][..columns * 2], 2, columns));
        multiply(MatrixMut::rows(&mut out, rows, columns), Onto::Nothing, lhs, rhs, Threads::All);
        assert_eq!(out, [7.0; 4]);
        multiply(MatrixMut::rows(&mut [], rows, columns), Onto::Sum, lhs, rhs, Threads::One);
    }
}

#[test]
fn rows_may_be_repeated_in_what_is_multiplied() {
    let mut out = nan(6);
    let rhs = [1.0, 2.0, 3.0];
    let lhs = [1.0, 10.0];
    multiply(
        MatrixMut::rows(&mut out, 2, 3),
        Onto::Nothing,
        Matrix::new(&lhs, [2, 4], [1, 0]),
        Matrix::new(&rhs, [4, 3], [0, 1]),
        Threads::All,
    );
    assert_eq!(out, [4.0, 8.0, 12.0, 40.0, 80.0, 120.0]);
}

#[test]
fn matrices_beyond_their_slices_are_refused() {
    for (len, sides, strides) in [
        (5, [2, 3], [3, 1]),
        (6, [2, 3], [4, 1]),
        (6, [2, 3], [1, 3]),
        (0, [1, 1], [1, 1]),
        (6, [usize::MAX, 2], [1, usize::MAX]),
        (6, [2, 2], [usize::MAX, usize::MAX]),
        (6, [2, 2], [1, usize::MAX]),
    ] {
        assert!(
            std::panic::catch_unwind(|| Matrix::new(&[1.0; 6][..len], sides, strides)).is_err(),
            "{sides:?}, {strides:?}"
        );
        let mut values = [1.0; 6];
        let values = std::panic::AssertUnwindSafe(&mut values[..len]);
        assert!(
            std::panic::catch_unwind(move || {
                let values = values;
                let _ = MatrixMut::new(values.0, sides, strides);
            })
            .is_err(),
            "{sides:?}, {strides:?}"
        );
    }
}

#[test]
fn matrices_whose_elements_share_a_place_are_not_written() {
    for (sides, strides) in
        [([2, 3], [1, 1]), ([2, 3], [0, 1]), ([3, 2], [1, 0]), ([2, 2], [0, 0]), ([3, 3], [2, 1]), ([1, 2], [1, 0])]
    {
        let refused = std::panic::catch_unwind(|| {
            let mut values = [1.0; 16];
            let _ = MatrixMut::new(&mut values, sides, strides);
        });
        assert!(refused.is_err(), "{sides:?}, {strides:?}");
        Matrix::new(&[1.0; 16], sides, strides);
    }
    // One row or column may lie as it likes.
    let mut values = [1.0; 16];
    let _ = MatrixMut::new(&mut values, [1, 4], [0, 1]);
    let _ = MatrixMut::new(&mut values, [4, 1], [1, 0]);
    let _ = MatrixMut::new(&mut values, [1, 1], [0, 0]);
}

#[test]
fn sides_that_do_not_fit_are_refused() {
    for [rows, columns, left, right] in [[3, 3, 4, 4], [2, 2, 4, 4], [2, 3, 4, 3]] {
        let refused = std::panic::catch_unwind(|| {
            let mut out = [0.0; 9];
            let (lhs, rhs) = (Matrix::rows(&[1.0; 8], 2, left), Matrix::rows(&[1.0; 12], right, 3));
            multiply(MatrixMut::rows(&mut out, rows, columns), Onto::Nothing, lhs, rhs, Threads::One);
        });
        assert!(refused.is_err(), "{rows} × {columns} of 2 × {left} and {right} × 3");
    }
}
