//! Maximum and average pooling against plain loops.

use crate::plain::{Sum, assert_close, bits, each_window, nan, positions, values};
use peerfold_kernels::{
    pooling::{NOWHERE, Pooling},
    window::Window,
};
use proptest::prelude::*;

fn maxima(pooling: &Pooling, images: &[f32]) -> (Vec<f32>, Vec<i32>) {
    let (mut output, mut places) = (nan(pooling.output_len()), vec![i32::MIN; pooling.output_len()]);
    pooling.maxima(images, &mut output, &mut places);
    (output, places)
}

/// Whole numbers from -2 to 2: many are equal.
fn steps(len: usize, seed: u64) -> Vec<f32> {
    values(len, seed).into_iter().map(|value| (value * 2.5).trunc()).collect()
}

fn assert_maxima_are_the_plain_ones(pooling: &Pooling, images: &[f32]) {
    let (output, places) = maxima(pooling, images);
    let pixels = pooling.input[0] * pooling.input[1];
    let gradient = values(output.len(), 9);
    let mut plain_gradient = vec![Sum::default(); images.len()];
    each_window(pooling, |position, _, seen, _| {
        let (value, place) = (output[position], places[position]);
        let what = format!("position {position} of {pooling:?}");
        let Some(&first) = seen.first() else {
            assert_eq!((value, place), (f32::NEG_INFINITY, NOWHERE), "{what}");
            return;
        };
        let pixel = |element: usize| (element / pooling.channels % pixels) as i32;
        if seen.iter().any(|&element| images[element].is_nan()) {
            assert!(value.is_nan(), "{what}");
            let taken = seen.iter().find(|&&element| pixel(element) == place);
            assert!(taken.is_some_and(|&element| images[element].is_nan()), "{what}: {place} is not NaN");
            plain_gradient[*taken.unwrap()].add(f64::from(gradient[position]));
            return;
        }
        let greatest =
            seen.iter().fold(first, |best, &element| if images[element] > images[best] { element } else { best });
        assert_eq!(value.to_bits(), images[greatest].to_bits(), "{what}");
        assert_eq!(place, pixel(greatest), "{what}");
        plain_gradient[greatest].add(f64::from(gradient[position]));
    });
    let mut of_images = nan(images.len());
    pooling.maxima_gradient(&gradient, &places, &mut of_images);
    assert_close(&of_images, &plain_gradient, &format!("gradient of the maxima of {pooling:?}"));
}

fn assert_means_are_the_plain_ones(pooling: &Pooling, images: &[f32]) {
    for count_padding in [false, true] {
        let mut plain = vec![Sum::default(); pooling.output_len()];
        let mut plain_gradient = vec![Sum::default(); images.len()];
        let gradient = values(pooling.output_len(), 10);
        each_window(pooling, |position, at, seen, _| {
            let Window { kernel, stride, padding, dilation } = pooling.window;
            let counted = |axis: usize| {
                let inside = |tap: &usize| {
                    at[axis] * stride[axis] + tap * dilation[axis] < pooling.input[axis] + 2 * padding[axis]
                };
                (0..kernel[axis]).filter(inside).count()
            };
            let count = if count_padding { counted(0) * counted(1) } else { seen.len() };
            for &element in seen {
                plain[position].add(f64::from(images[element]) / count as f64);
                plain_gradient[element].add(f64::from(gradient[position]) / count as f64);
            }
        });
        let what = format!("{pooling:?}, padding counted: {count_padding}");
        let mut output = nan(plain.len());
        pooling.means(images, count_padding, &mut output);
        assert_close(&output, &plain, &format!("means of {what}"));
        let mut of_images = nan(images.len());
        pooling.means_gradient(&gradient, count_padding, &mut of_images);
        assert_close(&of_images, &plain_gradient, &format!("gradient of the means of {what}"));
    }
}

/// `more` positions than fit; none if that is below none.
fn pooling(batch: usize, input: [usize; 2], channels: usize, window: Window, more: [isize; 2]) -> Pooling {
    let output = [0, 1].map(|axis| {
        let (kernel, stride) = (window.kernel[axis], window.stride[axis]);
        let fit = positions(input[axis], kernel, stride, window.padding[axis], window.dilation[axis]);
        fit.saturating_add_signed(more[axis])
    });
    Pooling { batch, input, channels, window, output }
}

fn poolings() -> impl Strategy<Value = Pooling> {
    let pair = |range: std::ops::Range<usize>| [range.clone(), range];
    let any = (pair(1..5), pair(1..5), pair(0..4), pair(1..4)).prop_map(|(kernel, stride, padding, dilation)| Window {
        kernel,
        stride,
        padding,
        dilation,
    });
    let tiling = pair(1..4).prop_map(|kernel| Window { kernel, stride: kernel, padding: [0; 2], dilation: [1; 2] });
    let more = prop_oneof![3 => Just([0, 0]), 1 => Just([1, 1]), 1 => Just([0, 1]), 1 => Just([-1, 0])];
    (1..4_usize, pair(1..10), 1..36_usize, prop_oneof![2 => any, 1 => tiling], more)
        .prop_map(|(batch, input, channels, window, more)| pooling(batch, input, channels, window, more))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_pooling_equals_the_plain_one(pooling in poolings(), seed: u64) {
        let images = values(pooling.input_len(), seed);
        assert_maxima_are_the_plain_ones(&pooling, &images);
        assert_means_are_the_plain_ones(&pooling, &images);
    }

    #[test]
    fn of_equal_elements_the_first_is_the_greatest(pooling in poolings(), seed: u64) {
        assert_maxima_are_the_plain_ones(&pooling, &steps(pooling.input_len(), seed));
    }

    #[test]
    fn an_element_that_is_not_a_number_is_the_greatest(pooling in poolings(), seed: u64) {
        let mut images = steps(pooling.input_len(), seed);
        let chosen = values(images.len(), !seed);
        images.iter_mut().zip(chosen).filter(|(_, chosen)| *chosen > 0.7).for_each(|(value, _)| *value = f32::NAN);
        assert_maxima_are_the_plain_ones(&pooling, &images);
    }
}

#[test]
fn poolings_of_several_parts_equal_the_plain_one() {
    let window = |kernel, stride, padding, dilation| Window { kernel, stride, padding, dilation };
    for pooling in [
        pooling(5, [29, 31], 19, window([2, 2], [2, 2], [0, 0], [1, 1]), [0, 1]),
        pooling(3, [40, 33], 35, window([3, 3], [2, 2], [1, 1], [1, 1]), [0, 0]),
        pooling(1, [64, 61], 17, window([3, 2], [1, 1], [0, 1], [1, 3]), [0, 0]),
        pooling(80, [9, 10], 7, window([2, 3], [3, 5], [0, 0], [1, 1]), [0, 0]),
    ] {
        let images = values(pooling.input_len(), 1);
        assert_maxima_are_the_plain_ones(&pooling, &images);
        assert_maxima_are_the_plain_ones(&pooling, &steps(images.len(), 2));
        assert_means_are_the_plain_ones(&pooling, &images);
    }
}

#[test]
fn the_least_values_and_both_zeros_have_places_too() {
    let window = Window { kernel: [2, 2], stride: [2, 2], padding: [0, 0], dilation: [1, 1] };
    let pooling = pooling(1, [2, 6], 1, window, [0, 0]);
    let least = f32::NEG_INFINITY;
    let images = [least, least, -0.0, 0.0, least, -0.0, least, least, 0.0, 0.0, 0.0, 0.0];
    let (output, places) = maxima(&pooling, &images);
    assert_eq!(
        bits(&output),
        bits(&[least, -0.0, 0.0][..]).iter().copied().take(2).chain([(-0.0_f32).to_bits()]).collect::<Vec<_>>()
    );
    assert_eq!(places, [0, 2, 5]);
}

#[test]
fn a_window_in_the_padding_is_empty() {
    let window = Window { kernel: [1, 1], stride: [1, 1], padding: [1, 1], dilation: [1, 1] };
    let pooling = pooling(2, [1, 1], 17, window, [0, 0]);
    assert_maxima_are_the_plain_ones(&pooling, &values(34, 1));
    let mut means = nan(pooling.output_len());
    pooling.means(&values(34, 1), false, &mut means);
    assert!(means.chunks_exact(17).enumerate().all(|(place, means)| place % 9 == 4 || means == [0.0; 17]));
    assert_means_are_the_plain_ones(&pooling, &values(34, 1));
}

#[test]
fn without_images_pixels_channels_or_positions_there_is_nothing_to_do() {
    let window = Window { kernel: [2, 2], stride: [2, 2], padding: [0, 0], dilation: [1, 1] };
    let full = pooling(2, [4, 5], 3, window, [0, 0]);
    for pooling in [
        Pooling { batch: 0, ..full },
        Pooling { channels: 0, ..full },
        Pooling { output: [0, 2], ..full },
        Pooling { output: [2, 0], ..full },
        Pooling { input: [0, 5], output: [0, 2], ..full },
        Pooling { input: [4, 0], output: [2, 0], ..full },
        Pooling { input: [4, 0], ..full },
    ] {
        let images = values(pooling.input_len(), 1);
        assert_maxima_are_the_plain_ones(&pooling, &images);
        assert_means_are_the_plain_ones(&pooling, &images);
    }
}

#[test]
fn poolings_of_other_lengths_than_the_shapes_are_refused() {
    let window = Window { kernel: [2, 2], stride: [2, 2], padding: [0, 0], dilation: [1, 1] };
    let pooling = pooling(2, [4, 5], 3, window, [0, 0]);
    let (inputs, outputs) = (pooling.input_len(), pooling.output_len());
    let refuses = |call: &dyn Fn(usize, usize, usize)| {
        let caught = |lengths: [usize; 3]| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call(lengths[0], lengths[1], lengths[2]))).is_err()
        };
        assert!(!caught([inputs, outputs, outputs]));
        caught([inputs - 1, outputs, outputs]) && caught([inputs, outputs + 1, outputs + 1])
    };
    assert!(refuses(&|images, output, places| pooling.maxima(
        &values(images, 1),
        &mut nan(output),
        &mut vec![0; places]
    )));
    assert!(refuses(&|images, output, places| pooling.maxima_gradient(
        &values(output, 1),
        &vec![0; places],
        &mut nan(images)
    )));
    assert!(refuses(&|images, output, _| pooling.means(&values(images, 1), true, &mut nan(output))));
    assert!(refuses(&|images, output, _| pooling.means_gradient(&values(output, 1), true, &mut nan(images))));
    assert!(std::panic::catch_unwind(|| pooling.maxima(&values(inputs, 1), &mut nan(outputs), &mut [0])).is_err());
}
