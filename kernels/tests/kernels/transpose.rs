//! Copies of tensors into another order of dimensions against plain loops.

use crate::plain::{bits, nan, values};
use peerfold_kernels::transpose::to_row_major;
use proptest::prelude::*;

/// A tensor's sides and strides, and how many elements its memory has.
#[derive(Debug, Clone)]
struct Strided {
    sides: Vec<usize>,
    strides: Vec<usize>,
    len: usize,
}

/// Dimensions in memory from the innermost: (side, what it is as a dimension of the tensor, repeated, gap).
fn strided(dims: &[(usize, u32, bool, usize)]) -> Strided {
    let (mut next, mut placed) = (1, Vec::new());
    for &(side, order, repeated, gap) in dims {
        let stride = if repeated { 0 } else { next };
        if !repeated {
            next = (next * side.max(1)) + gap;
        }
        placed.push((order, side, stride));
    }
    placed.sort();
    let len = placed.iter().map(|&(_, side, stride)| side.saturating_sub(1) * stride).sum::<usize>() + 1;
    let (sides, strides) = placed.into_iter().map(|(_, side, stride)| (side, stride)).unzip();
    Strided { sides, strides, len }
}

fn plain(tensor: &Strided, x: &[f32]) -> Vec<f32> {
    let count: usize = tensor.sides.iter().product();
    let element = |mut index: usize| {
        let mut from = 0;
        for (side, stride) in tensor.sides.iter().zip(&tensor.strides).rev() {
            from += index % side * stride;
            index /= side;
        }
        x[from]
    };
    (0..count).map(element).collect()
}

fn assert_copied(tensor: &Strided) {
    let x: Vec<f32> = (0..tensor.len).map(|place| place as f32).collect();
    let plain = plain(tensor, &x);
    let mut out = nan(plain.len());
    to_row_major(&x, &tensor.sides, &tensor.strides, &mut out);
    assert!(bits(&out) == bits(&plain), "{tensor:?}");
}

fn tensors() -> impl Strategy<Value = Strided> {
    let side = prop_oneof![8 => 1..8_usize, 2 => Just(1_usize), 1 => 15..35_usize];
    let gap = prop_oneof![3 => Just(0_usize), 1 => 1..4_usize];
    let dims = prop::collection::vec((side, any::<u32>(), prop::bool::weighted(0.15), gap), 0..5);
    dims.prop_map(|dims| strided(&dims))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_dimensions_is_copied_row_major(tensor in tensors()) {
        assert_copied(&tensor);
    }
}

#[test]
fn tensors_of_several_parts_are_copied_row_major() {
    for dims in [
        &[(101, 2, false, 0), (701, 1, false, 0)][..],
        &[(701, 2, false, 0), (101, 1, false, 3)],
        &[(19, 1, false, 0), (900, 2, false, 0), (7, 0, false, 0)],
        &[(900, 2, false, 0), (19, 1, false, 0), (7, 0, false, 5)],
        &[(5, 3, false, 0), (40, 0, false, 0), (30, 2, false, 0), (13, 1, false, 0)],
        &[(3, 0, true, 0), (200, 2, false, 0), (100, 1, false, 0)],
        &[(200, 0, false, 0), (300, 1, true, 0)],
        &[(70_001, 0, false, 0)],
        &[(70_001, 0, true, 0)],
        &[(3, 4, false, 0), (70_001, 0, false, 0)],
    ] {
        assert_copied(&strided(dims));
    }
    // One dimension with gaps.
    assert_copied(&Strided { sides: vec![70_001], strides: vec![3], len: 210_001 });
}

#[test]
fn without_dimensions_there_is_one_element_and_without_elements_none() {
    let mut out = [0.0];
    to_row_major(&[7.0, 8.0], &[], &[], &mut out);
    assert_eq!(out, [7.0]);
    to_row_major(&[7.0, 8.0], &[1, 1, 1], &[9, 9, 9], &mut out);
    assert_eq!(out, [7.0]);
    to_row_major(&[], &[3, 0, 2], &[2, 2, 1], &mut []);
}

#[test]
fn tensors_beyond_their_memory_are_refused() {
    let refused = |len: usize, sides: &[usize], strides: &[usize], out: usize| {
        std::panic::catch_unwind(|| to_row_major(&values(len, 1), sides, strides, &mut nan(out))).is_err()
    };
    assert!(!refused(6, &[2, 3], &[1, 2], 6));
    assert!(refused(5, &[2, 3], &[1, 2], 6));
    assert!(refused(6, &[2, 3], &[1, 2], 5));
    assert!(refused(6, &[2, 3], &[1, 2, 3], 6));
    assert!(refused(0, &[], &[], 1));
    assert!(refused(0, &[1], &[1], 1));
}
