//! Convolutions and their gradients against plain loops.

use crate::plain::{Sum, assert_close, each_product, nan, sides, values};
use peerfold_kernels::{convolution::Convolution, window::Window};
use proptest::prelude::*;

/// Kernel, stride, padding, dilation.
fn window(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2]) -> Window {
    Window { kernel, stride, padding, dilation }
}

fn square(kernel: usize, stride: usize, padding: usize, dilation: usize) -> Window {
    window([kernel; 2], [stride; 2], [padding; 2], [dilation; 2])
}

/// Channels in, channels out, groups.
fn convolution(batch: usize, input: [usize; 2], channels: [usize; 3], window: Window) -> Convolution {
    let [channels_in, channels_out, groups] = channels;
    Convolution { batch, input, channels_in, channels_out, groups, window }
}

fn assert_equals_the_plain_one(convolution: &Convolution) {
    let [height, width] = sides(convolution);
    assert_eq!(convolution.window.positions(convolution.input), [height, width], "{convolution:?}");
    let (outputs, outs) = (convolution.batch * height * width * convolution.channels_out, convolution.channels_out);
    assert_eq!(convolution.output_len(), outputs);
    let (inputs, weights) = (convolution.input_len(), convolution.weight_len());
    let [images, weight, gradient, bias] =
        [(inputs, 1), (weights, 2), (outputs, 3), (outs, 4)].map(|(len, seed)| values(len, seed));

    let (mut plain, mut with_bias) = (vec![Sum::default(); outputs], vec![Sum::default(); outputs]);
    let (mut plain_images, mut plain_weight) = (vec![Sum::default(); inputs], vec![Sum::default(); weights]);
    each_product(convolution, |image, tap, position| {
        let [x, w, g] = [images[image], weight[tap], gradient[position]].map(f64::from);
        plain[position].add(x * w);
        plain_images[image].add(g * w);
        plain_weight[tap].add(g * x);
    });
    for (place, (sum, plain)) in with_bias.iter_mut().zip(&plain).enumerate() {
        *sum = *plain;
        sum.add(f64::from(bias[place % outs]));
    }
    let mut plain_bias = vec![Sum::default(); outs];
    gradient.iter().enumerate().for_each(|(place, &gradient)| plain_bias[place % outs].add(f64::from(gradient)));

    // What an earlier call has left behind in memory must not be in the result.
    let mut out = nan(outputs);
    convolution.forward(&nan(inputs), &nan(weights), None, &mut out);
    convolution.forward(&images, &weight, None, &mut out);
    assert_close(&out, &plain, &format!("result of {convolution:?}"));
    out.fill(f32::NAN);
    convolution.forward(&images, &weight, Some(&bias), &mut out);
    assert_close(&out, &with_bias, &format!("result with bias of {convolution:?}"));

    let mut out = nan(inputs);
    convolution.input_gradient(&nan(weights), &nan(outputs), &mut out);
    convolution.input_gradient(&weight, &gradient, &mut out);
    assert_close(&out, &plain_images, &format!("gradient of the images of {convolution:?}"));

    let mut out = nan(weights);
    convolution.weight_gradient(&nan(inputs), &nan(outputs), &mut out);
    convolution.weight_gradient(&images, &gradient, &mut out);
    assert_close(&out, &plain_weight, &format!("gradient of the weights of {convolution:?}"));

    let mut out = nan(outs);
    convolution.bias_gradient(&gradient, &mut out);
    assert_close(&out, &plain_bias, &format!("gradient of the bias of {convolution:?}"));
}

fn channels() -> impl Strategy<Value = [usize; 3]> {
    prop_oneof![
        3 => (1..20_usize, 1..20_usize).prop_map(|(ins, outs)| [ins, outs, 1]),
        1 => (1..20_usize).prop_map(|outs| [1, outs, 1]),
        2 => (2..5_usize, 1..5_usize, 1..5_usize).prop_map(|(groups, ins, outs)| [groups * ins, groups * outs, groups]),
        2 => (2..20_usize).prop_map(|channels| [channels; 3]),
        1 => (2..7_usize, 2..4_usize).prop_map(|(channels, times)| [channels, channels * times, channels]),
        1 => (2..7_usize, 2..4_usize).prop_map(|(channels, times)| [channels * times, channels, channels]),
    ]
}

fn windows() -> impl Strategy<Value = Window> {
    let pair = |range: std::ops::Range<usize>| [range.clone(), range];
    let any = (pair(1..5), pair(1..4), pair(0..4), pair(1..4));
    prop_oneof![
        6 => any.prop_map(|(kernel, stride, padding, dilation)| window(kernel, stride, padding, dilation)),
        1 => (pair(1..4), pair(0..3)).prop_map(|(stride, padding)| window([1, 1], stride, padding, [1, 1])),
        1 => Just(square(1, 1, 0, 1)),
        2 => Just(square(3, 1, 1, 1)),
    ]
}

fn convolutions() -> impl Strategy<Value = Convolution> {
    (1..5_usize, [1..10_usize, 1..10_usize], channels(), windows())
        .prop_map(|(batch, input, channels, window)| convolution(batch, input, channels, window))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_convolution_equals_the_plain_one(convolution in convolutions()) {
        assert_equals_the_plain_one(&convolution);
    }
}

#[test]
fn convolutions_of_several_parts_equal_the_plain_one() {
    for convolution in [
        convolution(5, [32, 29], [17, 12, 1], square(3, 1, 1, 1)),
        convolution(3, [40, 31], [12, 9, 3], window([3, 5], [1, 2], [2, 1], [2, 1])),
        convolution(1, [61, 67], [16, 10, 1], square(3, 2, 1, 1)),
        convolution(9, [28, 28], [1, 7, 1], square(5, 1, 2, 1)),
        convolution(9, [45, 37], [1, 5, 1], window([5, 4], [1, 3], [7, 0], [2, 3])),
        convolution(3, [37, 41], [33, 19, 1], square(1, 1, 0, 1)),
        convolution(2, [37, 41], [24, 36, 4], square(1, 1, 0, 1)),
        convolution(3, [33, 35], [37, 37, 37], square(3, 1, 1, 1)),
        convolution(70, [12, 11], [19, 19, 19], window([2, 3], [2, 1], [0, 2], [1, 2])),
        convolution(20, [13, 14], [8, 24, 8], square(3, 1, 1, 1)),
    ] {
        assert_equals_the_plain_one(&convolution);
    }
}

/// Of which there are enough images and channels for minimal filtering.
#[test]
fn convolutions_with_three_by_three_kernels_equal_the_plain_one() {
    for (batch, input, [channels_in, channels_out], padding) in [
        (8, [8, 8], [16, 16], [1, 1]),
        (9, [9, 7], [17, 19], [1, 1]),
        (8, [12, 10], [19, 16], [0, 0]),
        (11, [6, 13], [16, 33], [2, 1]),
        (8, [5, 4], [18, 17], [3, 4]),
        (13, [4, 17], [16, 16], [0, 3]),
        (8, [1, 1], [16, 16], [4, 4]),
    ] {
        let window = window([3, 3], [1, 1], padding, [1, 1]);
        assert_equals_the_plain_one(&convolution(batch, input, [channels_in, channels_out, 1], window));
    }
}

#[test]
fn the_gradient_of_large_weights_equals_the_plain_one() {
    // Over half a million weights, which the threads don't sum apart; the second in more than one piece.
    assert_equals_the_plain_one(&convolution(2, [3, 2], [253, 257, 1], square(3, 1, 1, 1)));
    assert_equals_the_plain_one(&convolution(1, [7, 8], [4099, 8, 1], square(4, 1, 0, 1)));
}

#[test]
fn one_image_whose_gradient_takes_several_pieces_equals_the_plain_one() {
    assert_equals_the_plain_one(&convolution(1, [70, 65], [11, 5, 1], window([4, 3], [1, 1], [3, 2], [1, 2])));
}

#[test]
fn kernels_larger_than_the_padded_images_have_no_positions() {
    for channels in [[3, 5, 1], [4, 6, 2], [5, 5, 5], [1, 2, 1], [3, 6, 3]] {
        for window in [
            square(4, 1, 0, 1),
            square(3, 2, 0, 3),
            // Too wide, but not too high, and the other way around.
            window([1, 4], [1, 1], [0, 0], [1, 1]),
            window([4, 1], [1, 1], [0, 0], [1, 1]),
        ] {
            let convolution = convolution(2, [3, 3], channels, window);
            assert_eq!(convolution.output_len(), 0);
            assert_equals_the_plain_one(&convolution);
        }
    }
}

#[test]
fn without_images_or_pixels_there_is_nothing_to_do() {
    for channels in [[3, 5, 1], [4, 6, 2], [5, 5, 5], [1, 2, 1]] {
        for window in [square(1, 1, 0, 1), square(3, 1, 1, 1), square(3, 2, 0, 1)] {
            for (batch, input) in [(0, [4, 5]), (2, [0, 5]), (2, [5, 0]), (2, [0, 0])] {
                assert_equals_the_plain_one(&convolution(batch, input, channels, window));
            }
        }
    }
}

#[test]
fn without_channels_to_see_the_result_is_the_bias() {
    for window in [square(1, 1, 0, 1), square(3, 1, 1, 1)] {
        assert_equals_the_plain_one(&convolution(2, [4, 5], [0, 3, 1], window));
        assert_equals_the_plain_one(&convolution(2, [4, 5], [0, 4, 2], window));
    }
}

#[test]
fn without_channels_in_the_result_the_gradient_of_the_images_is_zero() {
    for window in [square(1, 1, 0, 1), square(3, 1, 1, 1)] {
        let convolution = convolution(2, [4, 5], [3, 0, 1], window);
        let mut images = nan(convolution.input_len());
        convolution.input_gradient(&[], &[], &mut images);
        assert!(images.iter().all(|&value| value == 0.0), "{convolution:?}");
        convolution.forward(&images, &[], Some(&[]), &mut []);
        convolution.weight_gradient(&images, &[], &mut []);
        convolution.bias_gradient(&[], &mut []);
    }
}

#[test]
fn what_the_padding_alone_sees_is_the_bias() {
    let convolution = convolution(1, [1, 1], [2, 3, 1], square(1, 1, 2, 1));
    let mut output = nan(convolution.output_len());
    convolution.forward(&[1.0, 1.0], &[1.0; 6], Some(&[5.0, 6.0, 7.0]), &mut output);
    for (place, output) in output.chunks_exact(3).enumerate() {
        let seen = if place == 12 { 2.0 } else { 0.0 };
        assert_eq!(output, [5.0 + seen, 6.0 + seen, 7.0 + seen]);
    }
}

#[test]
fn slices_of_other_lengths_than_the_shapes_are_refused() {
    let convolution = convolution(2, [4, 4], [2, 3, 1], square(3, 1, 1, 1));
    let (images, weight, outputs) = (convolution.input_len(), convolution.weight_len(), convolution.output_len());
    type Call = fn(&Convolution, [usize; 4]);
    let forward: Call = |convolution, [images, weight, bias, output]| {
        convolution.forward(&values(images, 1), &values(weight, 1), Some(&values(bias, 1)), &mut nan(output));
    };
    let input_gradient: Call = |convolution, [images, weight, _, output]| {
        convolution.input_gradient(&values(weight, 1), &values(output, 1), &mut nan(images));
    };
    let weight_gradient: Call = |convolution, [images, weight, _, output]| {
        convolution.weight_gradient(&values(images, 1), &values(output, 1), &mut nan(weight));
    };
    let bias_gradient: Call = |convolution, [_, _, bias, output]| {
        convolution.bias_gradient(&values(output, 1), &mut nan(bias));
    };
    let right = [images, weight, 3, outputs];
    let cases: [(Call, &[usize]); 4] = [
        (forward, &[0, 1, 2, 3]),
        (input_gradient, &[0, 1, 3]),
        (weight_gradient, &[0, 1, 3]),
        (bias_gradient, &[2, 3]),
    ];
    for (number, (call, places)) in cases.into_iter().enumerate() {
        call(&convolution, right);
        for &place in places {
            for wrong in [right[place] - 1, right[place] + 1] {
                let mut lengths = right;
                lengths[place] = wrong;
                let refused = std::panic::catch_unwind(|| call(&convolution, lengths)).is_err();
                assert!(refused, "function {number} took {lengths:?}");
            }
        }
    }
}
