//! Convolution with a 3 × 3 kernel by minimal filtering, F(2 × 2, 3 × 3): Lavin and Gray, "Fast Algorithms for
//! Convolutional Neural Networks", 2015, <https://arxiv.org/abs/1509.09308>.
//!
//! The result is cut into tiles of 2 × 2, each of which sees 4 × 4 of the image. With d such a piece of the image, g a
//! kernel and y a tile, y = Aᵀ ((G g Gᵀ) ⊙ (Bᵀ d B)) A: 16 products instead of 36, and as each of the 16 places is a
//! matrix product over channels and tiles, they are 16 matrix products. Both gradients are the same three transforms the
//! other way round, each transposed.
//!
//! Sums have other terms than on the plain path, so they round differently. A value that isn't finite reaches the same
//! results as there, and the same elements of the gradients except at the images' edges: there a pixel also reaches
//! taps, and a tap also reaches pixels, that it never meets.

use super::{
    buffer::Buffer,
    convolution::Convolution,
    instructions::best,
    matrix::{Matrix, MatrixMut, Onto, Threads, multiply},
    parts,
    transpose::to_row_major,
};
use pulp::{Arch, Simd, WithSimd};
use std::{marker::PhantomData, ops::Range};

/// Products for a tile.
const PLACES: usize = 16;
/// Elements of transformed tiles at a time (512 KiB): they are read again at once, so they should stay in a core's cache.
const TRANSFORMED: usize = 1 << 17;
/// The least number of tiles at a time, whatever their size, because the weights are read again each time.
const FEWEST: usize = 48;
/// The number of channels on both sides from which fewer products are worth the transforms, as measured.
const CHANNELS: usize = 16;
/// Elements of a transformed weight gradient above which parts don't each get one of their own.
const LARGE: usize = 1 << 20;
/// Tiles in a partial sum of the weights' gradient at least.
const LEAST: usize = 128;

/// Whether this path is the faster one for a convolution. If not, it may not even support it.
pub(super) fn is_quicker(convolution: &Convolution) -> bool {
    let Convolution { batch, input, channels_in, channels_out, groups, window } = *convolution;
    let plain = window.kernel == [3, 3] && window.stride == [1, 1] && window.dilation == [1, 1] && groups == 1;
    let [height, width] = window.positions(input);
    // Tiles at odd edges are computed whole. Only images are divided among threads, so few large ones are left alone.
    let saved = PLACES * height.div_ceil(2) * width.div_ceil(2) * 5 < 9 * height * width * 4;
    plain && saved && batch >= parts::LANES && channels_in.min(channels_out) >= CHANNELS
}

/// A linear transform of a line, applied along rows and columns.
trait Transform<const FROM: usize, const TO: usize> {
    fn apply<S: Simd>(simd: S, x: [S::f32s; FROM]) -> [S::f32s; TO];
}

/// Bᵀ, of the image.
struct Image;
/// G, of the kernel.
struct Kernel;
/// Aᵀ, to the result.
struct Output;
/// B, to the image's gradient.
struct ImageGradient;
/// Gᵀ, to the kernel's gradient.
struct KernelGradient;
/// A, of the result's gradient.
struct OutputGradient;

impl Transform<4, 4> for Image {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
        [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)]
    }
}

impl Transform<4, 4> for ImageGradient {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
        let (sum, difference) = (simd.add_f32s(b, c), simd.sub_f32s(b, c));
        [a, simd.add_f32s(difference, d), simd.sub_f32s(sum, a), simd.neg_f32s(d)]
    }
}

impl Transform<3, 4> for Kernel {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c]: [S::f32s; 3]) -> [S::f32s; 4] {
        let (half, outer) = (simd.splat_f32s(0.5), simd.add_f32s(a, c));
        let (sum, difference) = (simd.add_f32s(outer, b), simd.sub_f32s(outer, b));
        [a, simd.mul_f32s(sum, half), simd.mul_f32s(difference, half), c]
    }
}

impl Transform<4, 3> for KernelGradient {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 3] {
        let half = simd.splat_f32s(0.5);
        let sum = simd.mul_f32s(simd.add_f32s(b, c), half);
        let difference = simd.mul_f32s(simd.sub_f32s(b, c), half);
        [simd.add_f32s(a, sum), difference, simd.add_f32s(sum, d)]
    }
}

impl Transform<4, 2> for Output {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
        [simd.add_f32s(a, simd.add_f32s(b, c)), simd.sub_f32s(simd.sub_f32s(b, c), d)]
    }
}

impl Transform<2, 4> for OutputGradient {
    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b]: [S::f32s; 2]) -> [S::f32s; 4] {
        [a, simd.add_f32s(a, b), simd.sub_f32s(a, b), simd.neg_f32s(b)]
    }
}

/// Along columns, then along rows.
#[inline(always)]
fn both<S: Simd, T: Transform<FROM, TO>, const FROM: usize, const TO: usize>(
    simd: S,
    x: &[[S::f32s; FROM]; FROM],
) -> [[S::f32s; TO]; TO] {
    let zero = simd.splat_f32s(0.0);
    let mut rows = [[zero; FROM]; TO];
    for column in 0..FROM {
        let mut line = [zero; FROM];
        for row in 0..FROM {
            line[row] = x[row][column];
        }
        let line = T::apply(simd, line);
        for row in 0..TO {
            rows[row][column] = line[row];
        }
    }
    let mut out = [[zero; TO]; TO];
    for row in 0..TO {
        out[row] = T::apply(simd, rows[row]);
    }
    out
}

/// Where tiles lie in maps of [height, width, channels]; each begins two rows below or two columns beside the one before.
#[derive(Clone, Copy)]
struct Grid {
    /// Rows of tiles, and tiles in each, of a map.
    tiles: [usize; 2],
    /// Height and width of a map.
    sides: [usize; 2],
    channels: usize,
    /// Rows and columns by which the first tile begins before the map.
    before: [usize; 2],
}

impl Grid {
    fn count(&self) -> usize {
        self.tiles[0] * self.tiles[1]
    }

    /// Where the channels of a tile's pixels begin, except for pixels beyond the map's edges.
    #[inline(always)]
    fn pixels<const SIDE: usize>(&self, tile: usize) -> [[Option<usize>; SIDE]; SIDE] {
        let (map, tile) = (tile / self.count(), tile % self.count());
        let corner = [tile / self.tiles[1] * 2, tile % self.tiles[1] * 2];
        let mut pixels = [[None; SIDE]; SIDE];
        for (row, pixels) in pixels.iter_mut().enumerate() {
            for (column, pixel) in pixels.iter_mut().enumerate() {
                // What lies before the map wraps around, and is larger than its sides, too.
                let row = (corner[0] + row).wrapping_sub(self.before[0]);
                let column = (corner[1] + column).wrapping_sub(self.before[1]);
                if row < self.sides[0] && column < self.sides[1] {
                    *pixel = Some(((map * self.sides[0] + row) * self.sides[1] + column) * self.channels);
                }
            }
        }
        pixels
    }
}

#[inline(always)]
fn load<S: Simd>(simd: S, values: &[f32]) -> S::f32s {
    match S::as_simd_f32s(values) {
        ([whole], []) => *whole,
        _ => simd.partial_load_f32s(values),
    }
}

#[inline(always)]
fn store<S: Simd>(simd: S, values: &mut [f32], vector: S::f32s) {
    match S::as_mut_simd_f32s(values) {
        ([whole], []) => *whole = vector,
        (_, rest) => simd.partial_store_f32s(rest, vector),
    }
}

/// The channels in vectors: the first of each, and how many.
#[inline(always)]
fn vectors<S: Simd>(channels: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..channels).step_by(S::F32_LANES).map(move |first| (first, S::F32_LANES.min(channels - first)))
}

/// Transforms tiles of maps into [places, tiles, channels]; beyond the edges is zero.
struct Gather<'a, T, const SIDE: usize> {
    grid: Grid,
    maps: &'a [f32],
    tiles: Range<usize>,
    places: &'a mut [f32],
    transform: PhantomData<T>,
}

impl<T: Transform<SIDE, 4>, const SIDE: usize> WithSimd for Gather<'_, T, SIDE> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.grid.channels;
        let step = plane(self.tiles.len(), channels);
        for (number, tile) in self.tiles.enumerate() {
            let pixels = self.grid.pixels::<SIDE>(tile);
            for (first, len) in vectors::<S>(channels) {
                let mut x = [[simd.splat_f32s(0.0); SIDE]; SIDE];
                for row in 0..SIDE {
                    for column in 0..SIDE {
                        if let Some(pixel) = pixels[row][column] {
                            x[row][column] = load(simd, &self.maps[pixel + first..][..len]);
                        }
                    }
                }
                let y = both::<S, T, SIDE, 4>(simd, &x);
                for (row, y) in y.iter().enumerate() {
                    for (column, y) in y.iter().enumerate() {
                        let start = (row * 4 + column) * step + number * channels + first;
                        store(simd, &mut self.places[start..][..len], *y);
                    }
                }
            }
        }
    }
}

/// Transforms [places, tiles, channels] into tiles of maps, except for what is beyond the edges.
struct Scatter<'a, T, const SIDE: usize> {
    grid: Grid,
    places: &'a [f32],
    tiles: Range<usize>,
    maps: &'a mut [f32],
    /// Added to every pixel; without it tiles are added to what is there.
    bias: Option<&'a [f32]>,
    transform: PhantomData<T>,
}

impl<T: Transform<4, SIDE>, const SIDE: usize> WithSimd for Scatter<'_, T, SIDE> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let channels = self.grid.channels;
        let step = plane(self.tiles.len(), channels);
        for (number, tile) in self.tiles.enumerate() {
            let pixels = self.grid.pixels::<SIDE>(tile);
            for (first, len) in vectors::<S>(channels) {
                let mut x = [[simd.splat_f32s(0.0); 4]; 4];
                for (place, x) in x.as_flattened_mut().iter_mut().enumerate() {
                    *x = load(simd, &self.places[place * step + number * channels + first..][..len]);
                }
                let y = both::<S, T, 4, SIDE>(simd, &x);
                let bias = self.bias.map(|bias| load(simd, &bias[first..][..len]));
                for row in 0..SIDE {
                    for column in 0..SIDE {
                        if let Some(pixel) = pixels[row][column] {
                            let pixel = &mut self.maps[pixel + first..][..len];
                            let onto = match bias {
                                Some(bias) => bias,
                                None => load(simd, pixel),
                            };
                            store(simd, pixel, simd.add_f32s(onto, y[row][column]));
                        }
                    }
                }
            }
        }
    }
}

/// From one place to the next: a cache line more than its elements, as addresses a large power of two apart would push
/// each other out of the cache.
fn plane(tiles: usize, channels: usize) -> usize {
    tiles * channels + 16
}

/// A convolution cut into tiles.
struct Tiling {
    /// Where tiles see the images.
    images: Grid,
    /// Where they write the result.
    results: Grid,
    /// Tiles at a time.
    at_once: usize,
    /// Images in a part.
    part: usize,
    /// Who works on a part's products.
    threads: Threads,
}

impl Tiling {
    fn new(convolution: &Convolution) -> Self {
        let Convolution { batch, input, channels_in, channels_out, window, .. } = *convolution;
        let positions = window.positions(input);
        let tiles = positions.map(|positions| positions.div_ceil(2));
        let images = Grid { tiles, sides: input, channels: channels_in, before: window.padding };
        let results = Grid { tiles, sides: positions, channels: channels_out, before: [0, 0] };
        let most = (TRANSFORMED / (PLACES * (channels_in + channels_out))).max(FEWEST);
        let part = (most / images.count()).clamp(1, batch);
        let tiles = part * images.count();
        // As many runs as needed, all as long.
        let at_once = tiles.div_ceil(tiles.div_ceil(most));
        let threads = if batch.div_ceil(part) < parts::LANES { Threads::All } else { Threads::One };
        Self { images, results, at_once, part, threads }
    }

    /// Runs of tiles, of `images` images.
    fn runs(&self, images: usize) -> impl Iterator<Item = Range<usize>> {
        let tiles = images * self.images.count();
        (0..tiles).step_by(self.at_once).map(move |first| first..tiles.min(first + self.at_once))
    }

    /// Memory for a run's transformed images, and for its transformed results.
    fn scratch(&self) -> (Buffer, Buffer) {
        let stale = |grid: &Grid| Buffer::stale(PLACES * plane(self.at_once, grid.channels));
        (stale(&self.images), stale(&self.results))
    }
}

/// Kernels of [3, 3, channels], each a tile.
fn kernels(channels: usize) -> Grid {
    Grid { tiles: [1, 1], sides: [3, 3], channels, before: [0, 0] }
}

/// [`Convolution::forward`].
pub(super) fn forward(
    convolution: &Convolution,
    images: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let tiling = Tiling::new(convolution);
    let (ins, outs) = (convolution.channels_in, convolution.channels_out);
    let mut turned = Buffer::stale(weight.len());
    to_row_major(weight, &[ins * 9, outs], &[1, ins * 9], &mut turned);
    let mut weight = Buffer::stale(PLACES * plane(ins, outs));
    gather::<Kernel, 3>(best(), kernels(outs), &turned, 0..ins, &mut weight);
    let zero = if bias.is_none() { Buffer::filled(outs, 0.0) } else { Buffer::stale(0) };
    let bias = bias.unwrap_or(&zero);
    let (image, result) = (convolution.image_len(), convolution.output_len() / convolution.batch);
    parts::each(output, tiling.part * result, |part, output| {
        let images = &images[part * tiling.part * image..];
        let (mut seen, mut made) = tiling.scratch();
        for tiles in tiling.runs(output.len() / result) {
            gather::<Image, 4>(best(), tiling.images, images, tiles.clone(), &mut seen);
            for place in 0..PLACES {
                let weight = Matrix::rows(&weight[place * plane(ins, outs)..], ins, outs).transposed();
                let seen = &seen[place * plane(tiles.len(), ins)..];
                let seen = Matrix::rows(seen, tiles.len(), ins).transposed();
                let made = &mut made[place * plane(tiles.len(), outs)..];
                let made = MatrixMut::new(made, [outs, tiles.len()], [1, outs]);
                multiply(made, Onto::Nothing, weight, seen, tiling.threads);
            }
            scatter::<Output, 2>(best(), tiling.results, &made, tiles, output, Some(bias));
        }
    });
}

/// [`Convolution::input_gradient`].
pub(super) fn input_gradient(convolution: &Convolution, weight: &[f32], gradient: &[f32], images: &mut [f32]) {
    let tiling = Tiling::new(convolution);
    let (ins, outs) = (convolution.channels_in, convolution.channels_out);
    let mut turned = Buffer::stale(weight.len());
    to_row_major(weight, &[outs, 9, ins], &[ins * 9, 1, 9], &mut turned);
    let mut weight = Buffer::stale(PLACES * plane(outs, ins));
    gather::<Kernel, 3>(best(), kernels(ins), &turned, 0..outs, &mut weight);
    let (image, result) = (convolution.image_len(), convolution.output_len() / convolution.batch);
    parts::each(images, tiling.part * image, |part, images| {
        images.fill(0.0);
        let gradient = &gradient[part * tiling.part * result..];
        let (mut made, mut seen) = tiling.scratch();
        for tiles in tiling.runs(images.len() / image) {
            gather::<OutputGradient, 2>(best(), tiling.results, gradient, tiles.clone(), &mut seen);
            for place in 0..PLACES {
                let weight = Matrix::rows(&weight[place * plane(outs, ins)..], outs, ins).transposed();
                let seen = &seen[place * plane(tiles.len(), outs)..];
                let seen = Matrix::rows(seen, tiles.len(), outs).transposed();
                let made = &mut made[place * plane(tiles.len(), ins)..];
                let made = MatrixMut::new(made, [ins, tiles.len()], [1, ins]);
                multiply(made, Onto::Nothing, weight, seen, tiling.threads);
            }
            scatter::<ImageGradient, 4>(best(), tiling.images, &made, tiles, images, None);
        }
    });
}

/// [`Convolution::weight_gradient`].
pub(super) fn weight_gradient(convolution: &Convolution, images: &[f32], gradient: &[f32], weight: &mut [f32]) {
    let tiling = Tiling::new(convolution);
    let Convolution { batch, channels_in: ins, channels_out: outs, .. } = *convolution;
    let (image, result) = (convolution.image_len(), convolution.output_len() / batch);
    let len = PLACES * plane(ins, outs);
    let parts = batch.div_ceil(tiling.part);
    let most = if len > LARGE { 1 } else { batch * tiling.images.count() / LEAST };
    let lanes = parts::LANES.min(most).clamp(1, parts);
    let threads = if lanes < parts::LANES { Threads::All } else { Threads::One };
    let mut sums = Buffer::stale(lanes * len);
    parts::each(&mut sums, len, |lane, sum| {
        let (mut seen, mut made) = tiling.scratch();
        let mut onto = Onto::Nothing;
        for part in parts * lane / lanes..parts * (lane + 1) / lanes {
            let first = part * tiling.part;
            let (images, gradient) = (&images[first * image..], &gradient[first * result..]);
            for tiles in tiling.runs(tiling.part.min(batch - first)) {
                gather::<Image, 4>(best(), tiling.images, images, tiles.clone(), &mut seen);
                gather::<OutputGradient, 2>(best(), tiling.results, gradient, tiles.clone(), &mut made);
                for place in 0..PLACES {
                    let seen = Matrix::rows(&seen[place * plane(tiles.len(), ins)..], tiles.len(), ins);
                    let made = Matrix::rows(&made[place * plane(tiles.len(), outs)..], tiles.len(), outs).transposed();
                    let sum = &mut sum[place * plane(ins, outs)..];
                    multiply(MatrixMut::new(sum, [outs, ins], [1, outs]), onto, made, seen, threads);
                }
                onto = Onto::Sum;
            }
        }
    });
    let (total, others) = sums.split_at_mut(len);
    for sum in others.chunks_exact(len) {
        total.iter_mut().zip(sum).for_each(|(total, sum)| *total += *sum);
    }
    let mut turned = Buffer::filled(weight.len(), 0.0);
    scatter::<KernelGradient, 3>(best(), kernels(outs), total, 0..ins, &mut turned, None);
    to_row_major(&turned, &[outs, ins * 9], &[1, outs], weight);
}

fn gather<T: Transform<SIDE, 4>, const SIDE: usize>(
    arch: Arch,
    grid: Grid,
    maps: &[f32],
    tiles: Range<usize>,
    places: &mut [f32],
) {
    arch.dispatch(Gather::<T, SIDE> { grid, maps, tiles, places, transform: PhantomData });
}

fn scatter<T: Transform<4, SIDE>, const SIDE: usize>(
    arch: Arch,
    grid: Grid,
    places: &[f32],
    tiles: Range<usize>,
    maps: &mut [f32],
    bias: Option<&[f32]>,
) {
    arch.dispatch(Scatter::<T, SIDE> { grid, places, tiles, maps, bias, transform: PhantomData });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{instructions, window::Window};

    fn convolution(batch: usize, input: [usize; 2], channels: [usize; 2], padding: [usize; 2]) -> Convolution {
        let window = Window { kernel: [3, 3], stride: [1, 1], padding, dilation: [1, 1] };
        Convolution { batch, input, channels_in: channels[0], channels_out: channels[1], groups: 1, window }
    }

    /// As many values between -1 and 1.
    fn values(len: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as f32 / u32::MAX as f32 * 2.0 - 1.0
        };
        (0..len).map(next).collect()
    }

    /// Images, weights, bias and the result's gradient.
    fn inputs(of: &Convolution) -> [Vec<f32>; 4] {
        let lens = [of.input_len(), of.weight_len(), of.channels_out, of.output_len()];
        [0, 1, 2, 3].map(|number| values(lens[number], number as u32 + 1))
    }

    /// The result, the gradient of the images and that of the weights.
    fn tiled(of: &Convolution, [images, weight, bias, gradient]: &[Vec<f32>; 4]) -> [Vec<f32>; 3] {
        let mut out = [gradient, images, weight].map(|like| vec![f32::NAN; like.len()]);
        forward(of, images, weight, Some(bias), &mut out[0]);
        input_gradient(of, weight, gradient, &mut out[1]);
        weight_gradient(of, images, gradient, &mut out[2]);
        out
    }

    /// The same on the plain path.
    fn plain(of: &Convolution, [images, weight, bias, gradient]: &[Vec<f32>; 4]) -> [Vec<f32>; 3] {
        let mut out = [gradient, images, weight].map(|like| vec![f32::NAN; like.len()]);
        of.forward_by_patches(images, weight, Some(bias), &mut out[0]);
        of.input_gradient_by_patches(weight, gradient, &mut out[1]);
        of.weight_gradient_by_patches(images, gradient, &mut out[2]);
        out
    }

    /// The same from the definition, and the sums of the terms' absolute values.
    fn exact(of: &Convolution, [images, weight, bias, gradient]: &[Vec<f32>; 4]) -> [Vec<(f64, f64)>; 3] {
        let [height, width] = of.window.positions(of.input);
        let (ins, outs) = (of.channels_in, of.channels_out);
        let mut sums = [gradient, images, weight].map(|like| vec![(0.0, 0.0); like.len()]);
        let add = |sum: &mut (f64, f64), x: f32, y: f32| {
            let term = f64::from(x) * f64::from(y);
            *sum = (sum.0 + term, sum.1 + term.abs());
        };
        for position in 0..of.batch * height * width {
            let (image, row, column) = (position / (height * width), position / width % height, position % width);
            for (out, bias) in bias.iter().enumerate() {
                let y = position * outs + out;
                add(&mut sums[0][y], *bias, 1.0);
                for tap in 0..9 {
                    let Some(row) = of.window.place(0, tap / 3, of.input[0], row) else { continue };
                    let Some(column) = of.window.place(1, tap % 3, of.input[1], column) else { continue };
                    for channel in 0..ins {
                        let x = ((image * of.input[0] + row) * of.input[1] + column) * ins + channel;
                        let w = (out * ins + channel) * 9 + tap;
                        add(&mut sums[0][y], images[x], weight[w]);
                        add(&mut sums[1][x], gradient[y], weight[w]);
                        add(&mut sums[2][w], gradient[y], images[x]);
                    }
                }
            }
        }
        sums
    }

    /// The largest error of each, relative to the sum of the terms' absolute values, or to this share of the largest of
    /// these sums: where a sum has few terms, what cancels of its tile's other terms rounds more than they do.
    fn errors(got: &[Vec<f32>; 3], exact: &[Vec<(f64, f64)>; 3], share: f64) -> [f64; 3] {
        [0, 1, 2].map(|number| {
            assert_eq!(got[number].len(), exact[number].len());
            let least = share * exact[number].iter().fold(1e-30, |most, (_, terms)| f64::max(most, *terms));
            let pairs = got[number].iter().zip(&exact[number]);
            pairs.map(|(got, (sum, terms))| (f64::from(*got) - sum).abs() / terms.max(least)).fold(
                0.0,
                |most, error| {
                    assert!(!error.is_nan());
                    f64::max(most, error)
                },
            )
        })
    }

    fn bits(out: &[Vec<f32>; 3]) -> Vec<u32> {
        out.iter().flatten().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn is_the_convolution_of_the_definition() {
        let mut most = [0.0; 3];
        for height in 3..=9 {
            for (width, channels) in [(3, [1, 1]), (12 - height, [3, 17]), (8, [16, 5]), (5, [33, 20])] {
                for padding in [[0, 0], [1, 1], [2, 2], [0, 2]] {
                    for batch in [1, 3] {
                        let of = convolution(batch, [height, width], channels, padding);
                        let inputs = inputs(&of);
                        let errors = errors(&tiled(&of, &inputs), &exact(&of, &inputs), 1.0);
                        assert!(errors.iter().all(|error| *error < 1e-6), "{errors:?} for {of:?}");
                        most = [0, 1, 2].map(|number| f64::max(most[number], errors[number]));
                    }
                }
            }
        }
        println!("largest errors: {most:?}");
    }

    #[test]
    fn rounds_little_worse_than_the_plain_path() {
        for (batch, side, channels, padding) in [(2, 13, [32, 64], 0), (2, 16, [32, 32], 1), (1, 8, [128, 128], 1)] {
            let of = convolution(batch, [side; 2], channels, [padding; 2]);
            let inputs = inputs(&of);
            let exact = exact(&of, &inputs);
            let (tiled, plain) = (errors(&tiled(&of, &inputs), &exact, 0.0), errors(&plain(&of, &inputs), &exact, 0.0));
            println!("{side} {channels:?}: {tiled:?} for {plain:?}");
            assert!(tiled.iter().zip(plain).all(|(tiled, plain)| *tiled < 6.0 * plain), "{tiled:?} for {plain:?}");
        }
    }

    #[test]
    fn no_bias_is_one_of_zeros() {
        let of = convolution(2, [7, 6], [5, 18], [1, 1]);
        let [images, weight, _, gradient] = inputs(&of);
        let (mut without, mut with) = (gradient.clone(), gradient);
        forward(&of, &images, &weight, None, &mut without);
        forward(&of, &images, &weight, Some(&[0.0; 18]), &mut with);
        assert_eq!(without, with);
    }

    #[test]
    fn no_number_of_threads_changes_a_bit() {
        for of in [
            convolution(37, [13, 11], [16, 24], [0, 0]),
            convolution(9, [30, 9], [40, 32], [1, 1]),
            convolution(8, [6, 6], [260, 256], [1, 1]),
        ] {
            let inputs = inputs(&of);
            let [one, two, three, eight] = [1, 2, 3, 8].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
                bits(&pool.install(|| tiled(&of, &inputs)))
            });
            assert!(one == two && one == three && one == eight, "{of:?}");
        }
    }

    #[test]
    fn all_instruction_sets_transform_alike() {
        let of = convolution(2, [7, 6], [37, 3], [2, 1]);
        let [images, ..] = inputs(&of);
        let (tiling, tiles) = (Tiling::new(&of), 1..20);
        let [plain, best] = [0, 1].map(|number| {
            let arch = instructions::all()[number];
            let mut places = vec![0.0; PLACES * plane(tiles.len(), 37)];
            gather::<Image, 4>(arch, tiling.images, &images, tiles.clone(), &mut places);
            let mut out = images.clone();
            scatter::<ImageGradient, 4>(arch, tiling.images, &places, tiles.clone(), &mut out, None);
            let result = Grid { channels: 37, ..tiling.results };
            let mut results = vec![0.0; 2 * result.sides[0] * result.sides[1] * 37];
            scatter::<Output, 2>(arch, result, &places, tiles.clone(), &mut results, Some(&images[..37]));
            bits(&[places, out, results])
        });
        assert_eq!(plain, best);
    }

    #[test]
    fn what_is_not_finite_reaches_what_sees_it() {
        let of = convolution(2, [7, 6], [3, 17], [1, 0]);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (number, place) in [(0, 0), (0, 100), (0, 157), (1, 4), (1, 200), (2, 3), (3, 0), (3, 400)] {
                let mut inputs = inputs(&of);
                inputs[number][place] = value;
                let (tiled, plain) = (tiled(&of, &inputs), plain(&of, &inputs));
                for (output, (tiled, plain)) in tiled.iter().zip(&plain).enumerate() {
                    for (tiled, plain) in tiled.iter().zip(plain) {
                        let spreads = (number, output) == (1, 1) || (number, output) == (0, 2);
                        let spreads = spreads && !tiled.is_finite();
                        assert!(spreads || tiled.is_finite() == plain.is_finite(), "{value} at {place} of {number}");
                    }
                }
            }
        }
    }

    #[test]
    fn is_chosen_by_shapes_alone() {
        let chosen = convolution(32, [13, 13], [32, 64], [0, 0]);
        assert!(is_quicker(&chosen));
        let with = |change: &dyn Fn(&mut Convolution)| {
            let mut of = chosen;
            change(&mut of);
            is_quicker(&of)
        };
        assert!(!with(&|of| of.groups = 2));
        assert!(!with(&|of| of.window.stride = [1, 2]));
        assert!(!with(&|of| of.window.dilation = [2, 1]));
        assert!(!with(&|of| of.window.kernel = [3, 1]));
        assert!(!with(&|of| of.channels_in = 15));
        assert!(!with(&|of| of.batch = 1));
        // One position needs 16 products instead of 9, and none needs none.
        assert!(!with(&|of| of.input = [3, 3]));
        assert!(!with(&|of| of.input = [2, 9]));
    }
}
