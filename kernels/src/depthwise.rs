//! Convolution in which every channel has its own kernel. There is no matrix product in it, so the loops are over
//! channels.

use super::{
    buffer::Buffer,
    convolution::Convolution,
    instructions::{best, vectorized},
    parts, sums,
};
use std::ops::Range;

pub(super) fn forward(
    convolution: &Convolution,
    images: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let channels = convolution.channels_in;
    let [_, width] = convolution.window.positions(convolution.input);
    let packed = by_tap(weight, channels);
    let zero;
    let bias = match bias {
        Some(bias) => bias,
        None => {
            zero = Buffer::filled(channels, 0.0);
            &zero
        }
    };
    let at_once = parts::units(width * channels * convolution.window.taps());
    parts::each(output, at_once * width * channels, |number, output| {
        forward_rows(best(), convolution, images, &packed, bias, number * at_once, output);
    });
}

pub(super) fn input_gradient(convolution: &Convolution, weight: &[f32], gradient: &[f32], images: &mut [f32]) {
    let packed = by_tap(weight, convolution.channels_in);
    let output = convolution.output_len() / convolution.batch.max(1);
    let at_once = parts::units(output * convolution.window.taps());
    parts::each(images, at_once * convolution.image_len(), |number, images| {
        images.fill(0.0);
        let gradient = &gradient[number * at_once * output..];
        input_gradient_images(best(), convolution, &packed, gradient, images);
    });
}

pub(super) fn weight_gradient(convolution: &Convolution, images: &[f32], gradient: &[f32], weight: &mut [f32]) {
    let channels = convolution.channels_in;
    let [height, width] = convolution.window.positions(convolution.input);
    let rows = convolution.batch * height;
    let lanes = parts::LANES.min(rows / parts::units(width * channels * convolution.window.taps())).max(1);
    let len = weight.len();
    let mut sums = Buffer::filled(lanes * len, 0.0);
    parts::each(&mut sums, len, |lane, sum| {
        let rows = rows * lane / lanes..rows * (lane + 1) / lanes;
        weight_gradient_rows(best(), convolution, images, gradient, rows, sum);
    });
    let taps = convolution.window.taps();
    weight.fill(0.0);
    for sum in sums.chunks_exact(len) {
        for (place, weight) in weight.iter_mut().enumerate() {
            *weight += sum[place % taps * channels + place / taps];
        }
    }
}

/// [channels, taps] as [taps, channels].
fn by_tap(weight: &[f32], channels: usize) -> Buffer {
    let taps = weight.len() / channels.max(1);
    let mut packed = Buffer::stale(weight.len());
    for (place, &weight) in weight.iter().enumerate() {
        packed[place % taps * channels + place / taps] = weight;
    }
    packed
}

/// Where one tap sees a row of positions.
struct Seen {
    tap: usize,
    /// Positions of the row.
    columns: Range<usize>,
    /// Element of the images that the first of them sees; each other is `step` further.
    place: usize,
    step: usize,
}

/// What each tap sees from a row of positions, counted over the whole batch, if it sees the image at all.
#[inline(always)]
fn seen(convolution: &Convolution, row: usize, tap: usize) -> Option<Seen> {
    let (window, channels) = (&convolution.window, convolution.channels_in);
    let [height, width] = window.positions(convolution.input);
    let (tap_row, tap_column) = (tap / window.kernel[1], tap % window.kernel[1]);
    let image_row = window.place(0, tap_row, convolution.input[0], row % height)?;
    let columns = window.inside(1, tap_column, convolution.input[1], width);
    if columns.is_empty() {
        return None;
    }
    let column = columns.start * window.stride[1] + tap_column * window.dilation[1] - window.padding[1];
    let pixel = (row / height * convolution.input[0] + image_row) * convolution.input[1] + column;
    Some(Seen { tap, columns, place: pixel * channels, step: window.stride[1] * channels })
}

/// `sums[c] += a[c] * b[c]`.
#[inline(always)]
fn add_products(sums: &mut [f32], a: &[f32], b: &[f32]) {
    for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
        *sum += *a * *b;
    }
}

vectorized! {
    fn forward_rows<'a>(
        convolution: &'a Convolution,
        images: &'a [f32],
        weight: &'a [f32],
        bias: &'a [f32],
        first: usize,
        output: &'a mut [f32],
    ) {
        let channels = convolution.channels_in;
        let [_, width] = convolution.window.positions(convolution.input);
        for (number, output) in output.chunks_exact_mut(width * channels).enumerate() {
            sums::fill_rows(bias, output);
            for tap in 0..convolution.window.taps() {
                let seen = seen(convolution, first + number, tap);
                let Some(Seen { tap, columns, mut place, step }) = seen else { continue };
                let weight = &weight[tap * channels..][..channels];
                for column in columns {
                    add_products(&mut output[column * channels..][..channels], &images[place..][..channels], weight);
                    place += step;
                }
            }
        }
    }
}

vectorized! {
    fn input_gradient_images<'a>(
        convolution: &'a Convolution,
        weight: &'a [f32],
        gradient: &'a [f32],
        images: &'a mut [f32],
    ) {
        let channels = convolution.channels_in;
        let [height, width] = convolution.window.positions(convolution.input);
        for row in 0..images.len() / convolution.image_len() * height {
            let gradient = &gradient[row * width * channels..][..width * channels];
            for tap in 0..convolution.window.taps() {
                let Some(Seen { tap, columns, mut place, step }) = seen(convolution, row, tap) else { continue };
                let weight = &weight[tap * channels..][..channels];
                for column in columns {
                    add_products(&mut images[place..][..channels], &gradient[column * channels..][..channels], weight);
                    place += step;
                }
            }
        }
    }
}

vectorized! {
    fn weight_gradient_rows<'a>(
        convolution: &'a Convolution,
        images: &'a [f32],
        gradient: &'a [f32],
        rows: Range<usize>,
        sum: &'a mut [f32],
    ) {
        let channels = convolution.channels_in;
        let [_, width] = convolution.window.positions(convolution.input);
        for row in rows {
            let gradient = &gradient[row * width * channels..][..width * channels];
            for tap in 0..convolution.window.taps() {
                let Some(Seen { tap, columns, mut place, step }) = seen(convolution, row, tap) else { continue };
                let sum = &mut sum[tap * channels..][..channels];
                for column in columns {
                    add_products(sum, &images[place..][..channels], &gradient[column * channels..][..channels]);
                    place += step;
                }
            }
        }
    }
}
