//! Convolution over images, channels last, as matrix products over gathered patches, or over transformed tiles.

use super::{
    buffer::Buffer,
    depthwise,
    instructions::best,
    matrix::{Matrix, MatrixMut, Onto, Threads, multiply},
    parts,
    patches::{gather, gather_taps, scatter},
    sums,
    window::Window,
    winograd,
};
use std::ops::Range;

/// Elements of gathered patches at a time (256 KiB): they are read again at once, so they should stay in the cache.
const PATCHES: usize = 1 << 16;
/// The size of a weight gradient above which parts don't each get their own.
const LARGE: usize = 1 << 19;
/// Elements of gathered patches at a time where all threads work on one product.
const LARGE_PATCHES: usize = 1 << 20;

/// Shapes of a convolution.
///
/// Images are [batch, input height, input width, channels in], the result [batch, positions, positions, channels out],
/// both row-major. Weights are as burn and PyTorch have them: [channels out, channels in / groups, kernel height,
/// kernel width]. The functions panic if a slice has another length than its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Images.
    pub batch: usize,
    /// Height and width of an image.
    pub input: [usize; 2],
    /// Channels of the images; a multiple of `groups`.
    pub channels_in: usize,
    /// Channels of the result; a multiple of `groups`.
    pub channels_out: usize,
    /// Channels of the result see only the channels of their own group.
    pub groups: usize,
    /// The kernel's geometry.
    pub window: Window,
}

impl Convolution {
    /// Elements of an image.
    pub fn image_len(&self) -> usize {
        self.input[0] * self.input[1] * self.channels_in
    }

    /// Elements of the images.
    pub fn input_len(&self) -> usize {
        self.batch * self.image_len()
    }

    /// Elements of the result.
    pub fn output_len(&self) -> usize {
        self.batch * self.positions() * self.channels_out
    }

    /// Elements of the weights.
    pub fn weight_len(&self) -> usize {
        self.channels_out * self.depth()
    }

    fn positions(&self) -> usize {
        let [height, width] = self.window.positions(self.input);
        height * width
    }

    /// Rows of positions over the whole batch, and positions in each.
    fn rows(&self) -> [usize; 2] {
        let [height, width] = self.window.positions(self.input);
        [self.batch * height, width]
    }

    fn group_in(&self) -> usize {
        self.channels_in / self.groups
    }

    fn group_out(&self) -> usize {
        self.channels_out / self.groups
    }

    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.group_in() == 1 && self.group_out() == 1
    }

    /// Rows of positions at a time such that their patches fit into `elements`.
    fn rows_within(&self, elements: usize) -> usize {
        let [rows, width] = self.rows();
        (elements / (width * self.depth()).max(1)).clamp(1, rows.max(1))
    }

    /// What the kernel sees from these rows of positions, as a matrix [depth, positions] over the images or `scratch`.
    fn patches<'a>(&self, images: &'a [f32], group: usize, rows: Range<usize>, scratch: &'a mut Buffer) -> Matrix<'a> {
        let [_, width] = self.rows();
        let (depth, positions) = (self.depth(), rows.len() * width);
        if self.window.is_pointwise() {
            let first = rows.start * width * self.channels_in + group * self.group_in();
            return Matrix::new(&images[first..], [depth, positions], [1, self.channels_in]);
        }
        let patches = &mut scratch[..depth * positions];
        if self.channels_in == 1 {
            gather_taps(best(), self, images, rows, patches);
            return Matrix::rows(patches, depth, positions);
        }
        gather(best(), self, images, group, rows, patches);
        Matrix::new(patches, [depth, positions], [1, depth])
    }

    fn scratch(&self, rows: usize) -> Buffer {
        let [_, width] = self.rows();
        Buffer::stale(if self.window.is_pointwise() { 0 } else { rows * width * self.depth() })
    }

    /// Calls `work` with each weight's place here, and its place in [groups, depth, channels out of the group], where
    /// depth is [kernel height, kernel width, channels in of the group].
    fn each_weight(&self, mut work: impl FnMut(usize, usize)) {
        let (taps, channels, outs) = (self.window.taps(), self.group_in(), self.group_out());
        for out in 0..self.channels_out {
            let (group, out_in_group) = (out / outs, out % outs);
            for channel in 0..channels {
                for tap in 0..taps {
                    let depth = tap * channels + channel;
                    work((out * channels + channel) * taps + tap, (group * self.depth() + depth) * outs + out_in_group);
                }
            }
        }
    }

    /// The weights as [groups, depth, channels out of the group].
    fn by_depth(&self, weight: &[f32]) -> Buffer {
        let mut packed = Buffer::stale(weight.len());
        self.each_weight(|here, there| packed[there] = weight[here]);
        packed
    }

    /// The weights as [channels out, depth].
    fn by_channel(&self, weight: &[f32]) -> Buffer {
        let (depth, outs) = (self.depth(), self.group_out());
        let mut packed = Buffer::stale(weight.len());
        self.each_weight(|here, there| {
            let (group, within) = (there / (depth * outs), there % (depth * outs));
            packed[(group * outs + within % outs) * depth + within / outs] = weight[here];
        });
        packed
    }

    fn check(&self, images: &[f32], weight: &[f32], output: &[f32]) {
        let divide = |channels: usize| channels.checked_rem(self.groups) == Some(0);
        assert!(divide(self.channels_in) && divide(self.channels_out), "groups that divide the channels of {self:?}");
        let lengths = [images.len(), weight.len(), output.len()];
        let expected = [self.input_len(), self.weight_len(), self.output_len()];
        assert_eq!(lengths, expected, "images, weights and results of {self:?}");
    }

    /// `output = images ∗ weight + bias`.
    pub fn forward(&self, images: &[f32], weight: &[f32], bias: Option<&[f32]>, output: &mut [f32]) {
        self.check(images, weight, output);
        assert!(bias.is_none_or(|bias| bias.len() == self.channels_out), "the bias of {self:?}");
        if output.is_empty() {
            return;
        }
        if self.is_depthwise() {
            return depthwise::forward(self, images, weight, bias, output);
        }
        if winograd::is_quicker(self) {
            return winograd::forward(self, images, weight, bias, output);
        }
        self.forward_by_patches(images, weight, bias, output);
    }

    pub(super) fn forward_by_patches(&self, images: &[f32], weight: &[f32], bias: Option<&[f32]>, output: &mut [f32]) {
        let [_, width] = self.rows();
        let (depth, outs, channels) = (self.depth(), self.group_out(), self.channels_out);
        let packed = self.by_depth(weight);
        let at_once = self.rows_within(PATCHES);
        parts::each(output, at_once * width * channels, |number, output| {
            let first = number * at_once;
            let rows = first..first + output.len() / (width * channels);
            let positions = rows.len() * width;
            let mut scratch = self.scratch(rows.len());
            if let Some(bias) = bias {
                sums::fill_rows(bias, output);
            }
            let onto = if bias.is_some() { Onto::Sum } else { Onto::Nothing };
            for group in 0..self.groups {
                let patches = self.patches(images, group, rows.clone(), &mut scratch);
                let weight = Matrix::rows(&packed[group * depth * outs..][..depth * outs], depth, outs).transposed();
                let output = MatrixMut::new(&mut output[group * outs..], [outs, positions], [1, channels]);
                multiply(output, onto, weight, patches, Threads::One);
            }
        });
    }

    /// The gradient of the images from that of the result: each weight times the gradients of the positions that saw
    /// the image through it.
    pub fn input_gradient(&self, weight: &[f32], gradient: &[f32], images: &mut [f32]) {
        self.check(images, weight, gradient);
        if images.is_empty() || gradient.is_empty() {
            return images.fill(0.0);
        }
        if self.is_depthwise() {
            return depthwise::input_gradient(self, weight, gradient, images);
        }
        if winograd::is_quicker(self) {
            return winograd::input_gradient(self, weight, gradient, images);
        }
        self.input_gradient_by_patches(weight, gradient, images);
    }

    pub(super) fn input_gradient_by_patches(&self, weight: &[f32], gradient: &[f32], images: &mut [f32]) {
        let [height, width] = self.window.positions(self.input);
        let (depth, outs, channels) = (self.depth(), self.group_out(), self.channels_out);
        let packed = self.by_channel(weight);
        let at_once = self.rows_within(PATCHES).min(height.max(1));
        let images_at_once = parts::units(height * width * depth * self.groups);
        let threads = if self.batch <= images_at_once { Threads::All } else { Threads::One };
        parts::each(images, self.image_len() * images_at_once, |part, images| {
            let mut patches = self.scratch(at_once);
            for (number, image) in images.chunks_exact_mut(self.image_len()).enumerate() {
                let gradient = &gradient[(part * images_at_once + number) * height * width * channels..];
                if !self.window.is_pointwise() {
                    image.fill(0.0);
                }
                for first in (0..height).step_by(at_once) {
                    let rows = first..height.min(first + at_once);
                    let positions = rows.len() * width;
                    for group in 0..self.groups {
                        let weight = Matrix::rows(&packed[group * outs * depth..][..outs * depth], outs, depth);
                        let gradient = &gradient[first * width * channels + group * outs..];
                        let gradient = Matrix::new(gradient, [outs, positions], [1, channels]);
                        if self.window.is_pointwise() {
                            let image = &mut image[first * width * self.channels_in + group * depth..];
                            let image = MatrixMut::new(image, [depth, positions], [1, self.channels_in]);
                            multiply(image, Onto::Nothing, weight.transposed(), gradient, threads);
                            continue;
                        }
                        let patches = &mut patches[..positions * depth];
                        let matrix = MatrixMut::new(patches, [depth, positions], [1, depth]);
                        multiply(matrix, Onto::Nothing, weight.transposed(), gradient, threads);
                        scatter(best(), self, patches, group, rows.clone(), image);
                    }
                }
            }
        });
    }

    /// The gradient of the weights from that of the result.
    pub fn weight_gradient(&self, images: &[f32], gradient: &[f32], weight: &mut [f32]) {
        self.check(images, weight, gradient);
        if weight.is_empty() || gradient.is_empty() {
            return weight.fill(0.0);
        }
        if self.is_depthwise() {
            return depthwise::weight_gradient(self, images, gradient, weight);
        }
        if winograd::is_quicker(self) {
            return winograd::weight_gradient(self, images, gradient, weight);
        }
        self.weight_gradient_by_patches(images, gradient, weight);
    }

    pub(super) fn weight_gradient_by_patches(&self, images: &[f32], gradient: &[f32], weight: &mut [f32]) {
        let len = weight.len();
        let [rows, width] = self.rows();
        // Each lane sums its part of the rows; one lane, on whose products all threads work, if a sum is too large.
        let lanes = if len > LARGE { 1 } else { parts::LANES.min(rows / parts::units(width * self.depth())).max(1) };
        let (elements, threads) = if lanes == 1 { (LARGE_PATCHES, Threads::All) } else { (PATCHES, Threads::One) };
        let at_once = self.rows_within(elements);
        let mut sums = Buffer::filled(lanes * len, 0.0);
        parts::each(&mut sums, len, |lane, sum| {
            let (first, last) = (rows * lane / lanes, rows * (lane + 1) / lanes);
            let mut scratch = self.scratch(at_once);
            for first in (first..last).step_by(at_once) {
                self.add_weight_gradient(
                    images,
                    gradient,
                    first..last.min(first + at_once),
                    &mut scratch,
                    sum,
                    threads,
                );
            }
        });
        let mut total = Buffer::filled(len, 0.0);
        for sum in sums.chunks_exact(len) {
            total.iter_mut().zip(sum).for_each(|(total, sum)| *total += *sum);
        }
        self.each_weight(|here, there| weight[here] = total[there]);
    }

    fn add_weight_gradient(
        &self,
        images: &[f32],
        gradient: &[f32],
        rows: Range<usize>,
        scratch: &mut Buffer,
        sum: &mut [f32],
        threads: Threads,
    ) {
        let [_, width] = self.rows();
        let (depth, outs, channels) = (self.depth(), self.group_out(), self.channels_out);
        let (first, positions) = (rows.start * width * channels, rows.len() * width);
        for (group, sum) in sum.chunks_exact_mut(depth * outs).enumerate() {
            let patches = self.patches(images, group, rows.clone(), scratch);
            let gradient = Matrix::new(&gradient[first + group * outs..], [outs, positions], [1, channels]);
            let sum = MatrixMut::new(sum, [outs, depth], [1, outs]);
            multiply(sum, Onto::Sum, gradient, patches.transposed(), threads);
        }
    }

    /// The gradient of the bias from that of the result.
    pub fn bias_gradient(&self, gradient: &[f32], bias: &mut [f32]) {
        assert_eq!((gradient.len(), bias.len()), (self.output_len(), self.channels_out));
        sums::columns(gradient, bias);
    }
}
