//! The plain loops that kernels are compared with: straight from the definitions, with sums in f64.

use peerfold_kernels::{convolution::Convolution, pooling::Pooling};

/// Values from -1 to 1 that follow from the seed.
pub(crate) fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) >> 40
    };
    (0..len).map(|_| next() as f32 / (1 << 23) as f32 - 1.0).collect()
}

pub(crate) fn nan(len: usize) -> Vec<f32> {
    vec![f32::NAN; len]
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A sum and what its terms come to without their signs, to which rounding is in proportion.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    pub value: f64,
    pub magnitude: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, term: f64) {
        self.value += term;
        self.magnitude += term.abs();
    }
}

#[track_caller]
pub(crate) fn assert_close(actual: &[f32], expected: &[Sum], what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (place, (&actual, expected)) in actual.iter().zip(expected).enumerate() {
        let error = (f64::from(actual) - expected.value).abs();
        assert!(error <= 1e-5 * expected.magnitude, "{what}, place {place}: {actual} instead of {expected:?}");
    }
}

/// Positions of a kernel along one axis: tried one after the other until the last tap is beyond the padded image.
pub(crate) fn positions(input: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> usize {
    (0..).take_while(|position| position * stride + (kernel - 1) * dilation < input + 2 * padding).count()
}

pub(crate) fn sides(convolution: &Convolution) -> [usize; 2] {
    let window = &convolution.window;
    [0, 1].map(|axis| {
        let (kernel, stride) = (window.kernel[axis], window.stride[axis]);
        positions(convolution.input[axis], kernel, stride, window.padding[axis], window.dilation[axis])
    })
}

/// Row or column of an image on which a tap lies.
pub(crate) fn place(
    position: usize,
    stride: usize,
    tap: usize,
    dilation: usize,
    padding: usize,
    input: usize,
) -> Option<usize> {
    let place = (position * stride + tap * dilation) as isize - padding as isize;
    (0..input as isize).contains(&place).then_some(place as usize)
}

/// Every product of a convolution: places in images, weights and result.
pub(crate) fn each_product(convolution: &Convolution, mut visit: impl FnMut(usize, usize, usize)) {
    let &Convolution { batch, input, channels_in, channels_out, groups, window } = convolution;
    let [kernel, stride, padding, dilation] = [window.kernel, window.stride, window.padding, window.dilation];
    let [height, width] = sides(convolution);
    let (ins, outs) = (channels_in / groups, channels_out / groups);
    for image in 0..batch {
        for row in 0..height {
            for column in 0..width {
                for tap_row in 0..kernel[0] {
                    for tap_column in 0..kernel[1] {
                        let y = place(row, stride[0], tap_row, dilation[0], padding[0], input[0]);
                        let x = place(column, stride[1], tap_column, dilation[1], padding[1], input[1]);
                        let (Some(y), Some(x)) = (y, x) else { continue };
                        for out in 0..channels_out {
                            for channel in 0..ins {
                                visit(
                                    ((image * input[0] + y) * input[1] + x) * channels_in + out / outs * ins + channel,
                                    ((out * ins + channel) * kernel[0] + tap_row) * kernel[1] + tap_column,
                                    ((image * height + row) * width + column) * channels_out + out,
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The pixels that a position of a pooling sees, in the order of rows.
pub(crate) fn pixels(pooling: &Pooling, [row, column]: [usize; 2]) -> Vec<usize> {
    let window = &pooling.window;
    let along = |axis: usize, position: usize| {
        let seen = move |tap| {
            let [stride, dilation, padding] = [window.stride[axis], window.dilation[axis], window.padding[axis]];
            place(position, stride, tap, dilation, padding, pooling.input[axis])
        };
        (0..window.kernel[axis]).filter_map(seen).collect::<Vec<_>>()
    };
    let columns = along(1, column);
    along(0, row)
        .into_iter()
        .flat_map(|row| columns.iter().map(move |column| row * pooling.input[1] + column))
        .collect()
}

/// Every window of a pooling, for each channel: its place in the result, and the places in the images.
pub(crate) fn each_window(pooling: &Pooling, mut visit: impl FnMut(usize, [usize; 2], &[usize], usize)) {
    let &Pooling { batch, input, channels, output, .. } = pooling;
    for image in 0..batch {
        for row in 0..output[0] {
            for column in 0..output[1] {
                let pixels = pixels(pooling, [row, column]);
                for channel in 0..channels {
                    let of = |pixel: &usize| (image * input[0] * input[1] + pixel) * channels + channel;
                    let places: Vec<usize> = pixels.iter().map(of).collect();
                    let place = ((image * output[0] + row) * output[1] + column) * channels + channel;
                    visit(place, [row, column], &places, channel);
                }
            }
        }
    }
}
