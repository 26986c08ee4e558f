//! Arithmetic of two tensors, one of them repeated, and sums along a dimension.

use crate::plain::{bits, values};
use peerfold_kernels::{
    elementwise::{Dim, Operation, apply},
    sums,
};
use proptest::prelude::*;

const OPERATIONS: [Operation; 6] = [
    Operation::Add,
    Operation::Subtract,
    Operation::SubtractFrom,
    Operation::Multiply,
    Operation::Divide,
    Operation::DivideInto,
];

fn plain(operation: Operation, a: f32, b: f32) -> f32 {
    match operation {
        Operation::Add => a + b,
        Operation::Subtract => a - b,
        Operation::SubtractFrom => b - a,
        Operation::Multiply => a * b,
        Operation::Divide => a / b,
        Operation::DivideInto => b / a,
    }
}

/// Element by element, each with its place in the other one counted anew.
fn expected(operation: Operation, whole: &[f32], other: &[f32], dims: &[Dim]) -> Vec<f32> {
    let of = |index: usize| {
        let (mut rest, mut place, mut stride) = (index, 0, 1);
        for dim in dims.iter().rev() {
            if !dim.repeated {
                place += rest % dim.size * stride;
                stride *= dim.size;
            }
            rest /= dim.size;
        }
        plain(operation, whole[index], other[place])
    };
    (0..whole.len()).map(of).collect()
}

fn lengths(dims: &[Dim]) -> (usize, usize) {
    let kept = dims.iter().filter(|dim| !dim.repeated);
    (dims.iter().map(|dim| dim.size).product(), kept.map(|dim| dim.size).product())
}

proptest! {
    #[test]
    fn each_element_meets_its_own(sides in prop::collection::vec((1usize..6, any::<bool>()), 0..6)) {
        let dims: Vec<Dim> = sides.into_iter().map(|(size, repeated)| Dim { size, repeated }).collect();
        let (whole, other) = lengths(&dims);
        let (whole, other) = (values(whole, 1), values(other, 2));
        for operation in OPERATIONS {
            let mut out = vec![f32::NAN; whole.len()];
            apply(operation, &whole, &other, &dims, &mut out);
            prop_assert_eq!(bits(&out), bits(&expected(operation, &whole, &other, &dims)));
        }
    }

    #[test]
    fn the_middle_is_summed(sides in prop::array::uniform3(0usize..20)) {
        let [outer, middle, inner] = sides;
        let x = values(outer * middle * inner, 3);
        let mut out = vec![f32::NAN; outer * inner];
        sums::middle(&x, sides, &mut out);
        for (place, &sum) in out.iter().enumerate() {
            let (first, last) = (place / inner, place % inner);
            let of = |row: usize| f64::from(x[(first * middle + row) * inner + last]);
            prop_assert!((f64::from(sum) - (0..middle).map(of).sum::<f64>()).abs() < 1e-4);
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let dims = [(33, false), (41, true), (3, false), (70, true)].map(|(size, repeated)| Dim { size, repeated });
    let rows = [(500, true), (300, false)].map(|(size, repeated)| Dim { size, repeated });
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut all = Vec::new();
            for dims in [&dims[..], &rows, &[Dim { size: 100_000, repeated: true }]] {
                let (whole, other) = lengths(dims);
                let mut out = vec![0.0; whole];
                apply(Operation::Divide, &values(whole, 1), &values(other, 2), dims, &mut out);
                assert_eq!(bits(&out), bits(&expected(Operation::Divide, &values(whole, 1), &values(other, 2), dims)));
                all.extend(out);
            }
            for sides in [[3, 70, 1000], [200, 700, 1], [1, 30, 5000]] {
                let mut out = vec![0.0; sides[0] * sides[2]];
                sums::middle(&values(sides.iter().product(), 4), sides, &mut out);
                all.extend(out);
            }
            bits(&all)
        })
    };
    let one = run(1);
    assert!([2, 3, 8].into_iter().all(|threads| run(threads) == one));
}
