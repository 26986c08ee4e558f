//! Pooling over images, channels last: [batch, height, width, channels].

use super::{
    instructions::{best, vectorized},
    parts,
    window::Window,
};

/// Shapes of a pooling. The functions panic if a slice has another length than its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pooling {
    /// Images.
    pub batch: usize,
    /// Height and width of an image; together fewer than 2³¹ pixels.
    pub input: [usize; 2],
    /// Channels.
    pub channels: usize,
    /// The window. Its padding is absent: never the greatest, and part of a mean only where that counts it.
    pub window: Window,
    /// Positions along height and width. With burn's `ceil_mode` one more than fit may be there, whose window reaches
    /// beyond the padding.
    pub output: [usize; 2],
}

/// The place of the greatest element of an empty window.
pub const NOWHERE: i32 = -1;

impl Pooling {
    /// Elements of the images.
    pub fn input_len(&self) -> usize {
        self.batch * self.image_len()
    }

    /// Elements of the result.
    pub fn output_len(&self) -> usize {
        self.batch * self.output[0] * self.output[1] * self.channels
    }

    fn image_len(&self) -> usize {
        self.input[0] * self.input[1] * self.channels
    }

    fn row_len(&self) -> usize {
        self.output[1] * self.channels
    }

    /// Rows of positions that are worth a thread.
    fn rows_at_once(&self) -> usize {
        parts::units(self.row_len() * self.window.taps())
    }

    fn images_at_once(&self) -> usize {
        parts::units(self.image_len())
    }

    fn check(&self, images: &[f32], output: &[f32]) {
        assert_eq!(
            (images.len(), output.len()),
            (self.input_len(), self.output_len()),
            "images and result of {self:?}"
        );
        assert!(self.input[0] * self.input[1] <= i32::MAX as usize, "an image of {:?} has too many pixels", self.input);
    }

    /// The greatest element of each window, and its pixel: row × width + column. Of equal ones it is the first in the
    /// order of rows; NaN goes before all others (as in PyTorch), the last of several. An empty window gives −∞ and
    /// [`NOWHERE`].
    pub fn maxima(&self, images: &[f32], output: &mut [f32], places: &mut [i32]) {
        self.check(images, output);
        assert_eq!(output.len(), places.len());
        if output.is_empty() {
            return;
        }
        let (at_once, row) = (self.rows_at_once(), self.row_len());
        parts::each_pair((output, at_once * row), (places, at_once * row), |number, output, places| {
            maxima_rows(best(), self, images, number * at_once, output, places);
        });
    }

    /// The gradient of the images: each position's goes to the pixel that it came from.
    pub fn maxima_gradient(&self, gradient: &[f32], places: &[i32], images: &mut [f32]) {
        self.check(images, gradient);
        assert_eq!(gradient.len(), places.len());
        if images.is_empty() {
            return;
        }
        let (at_once, output) = (self.images_at_once(), self.output[0] * self.row_len());
        parts::each(images, at_once * self.image_len(), |number, images| {
            let first = number * at_once * output;
            maxima_gradient_images(best(), self, &gradient[first..], &places[first..], images);
        });
    }

    /// The mean of each window: over the window, with the padding if `count_padding`. An empty window gives 0.
    pub fn means(&self, images: &[f32], count_padding: bool, output: &mut [f32]) {
        self.check(images, output);
        if output.is_empty() {
            return;
        }
        let (at_once, row) = (self.rows_at_once(), self.row_len());
        parts::each(output, at_once * row, |number, output| {
            means_rows(best(), self, images, count_padding, number * at_once, output);
        });
    }

    /// The gradient of the images from that of the means.
    pub fn means_gradient(&self, gradient: &[f32], count_padding: bool, images: &mut [f32]) {
        self.check(images, gradient);
        if images.is_empty() {
            return;
        }
        let (at_once, output) = (self.images_at_once(), self.output[0] * self.row_len());
        parts::each(images, at_once * self.image_len(), |number, images| {
            means_gradient_images(best(), self, &gradient[number * at_once * output..], count_padding, images);
        });
    }

    /// What the sum of a window is divided by. With padding: the part of the window that lies in the padded image.
    #[inline(always)]
    fn count(&self, position: [usize; 2], count_padding: bool) -> f32 {
        let window = &self.window;
        let along = |axis: usize| {
            let taps = 0..window.kernel[axis];
            let of = |tap: usize| position[axis] * window.stride[axis] + tap * window.dilation[axis];
            match count_padding {
                true => taps.filter(|&tap| of(tap) < self.input[axis] + 2 * window.padding[axis]).count(),
                false => {
                    taps.filter(|&tap| window.place(axis, tap, self.input[axis], position[axis]).is_some()).count()
                }
            }
        };
        (along(0) * along(1)) as f32
    }

    /// The pixels of the taps that lie in the image, in the order of rows.
    #[inline(always)]
    fn pixels(&self, [row, column]: [usize; 2], pixels: &mut Vec<usize>) {
        pixels.clear();
        for tap_row in 0..self.window.kernel[0] {
            let Some(row) = self.window.place(0, tap_row, self.input[0], row) else { continue };
            for tap_column in 0..self.window.kernel[1] {
                if let Some(column) = self.window.place(1, tap_column, self.input[1], column) {
                    pixels.push(row * self.input[1] + column);
                }
            }
        }
    }

    /// Whether no pixel is in two windows.
    fn is_disjoint(&self) -> bool {
        let Window { kernel, stride, dilation, .. } = self.window;
        [0, 1].iter().all(|&axis| stride[axis] > dilation[axis] * (kernel[axis] - 1))
    }

    /// Makes the pixels of an image zero that may be in no window.
    #[inline(always)]
    fn zero_the_rest(&self, image: &mut [f32]) {
        let Window { kernel, stride, padding, dilation } = self.window;
        if kernel != stride || padding != [0, 0] || dilation != [1, 1] {
            return image.fill(0.0);
        }
        // Windows lie side by side, and something may be left at the ends.
        let covered = [0, 1].map(|axis| self.input[axis].min(self.output[axis] * stride[axis]));
        for (row, pixels) in image.chunks_exact_mut(self.input[1] * self.channels).enumerate() {
            let first = if row < covered[0] { covered[1] * self.channels } else { 0 };
            pixels[first..].fill(0.0);
        }
    }
}

/// Channels that are worked on at a time, in registers.
const BLOCK: usize = 16;

vectorized! {
    fn maxima_rows<'a>(
        pooling: &'a Pooling,
        images: &'a [f32],
        first: usize,
        output: &'a mut [f32],
        places: &'a mut [i32],
    ) {
        let channels = pooling.channels;
        let mut pixels = Vec::with_capacity(pooling.window.taps());
        let rows = output.chunks_exact_mut(pooling.row_len()).zip(places.chunks_exact_mut(pooling.row_len()));
        for (number, (output, places)) in rows.enumerate() {
            let (image, row) = ((first + number) / pooling.output[0], (first + number) % pooling.output[0]);
            let image = &images[image * pooling.image_len()..][..pooling.image_len()];
            let columns = output.chunks_exact_mut(channels).zip(places.chunks_exact_mut(channels));
            for (column, (output, places)) in columns.enumerate() {
                pooling.pixels([row, column], &mut pixels);
                let mut output = output.chunks_exact_mut(BLOCK);
                let mut places = places.chunks_exact_mut(BLOCK);
                let mut channel = 0;
                for (output, places) in (&mut output).zip(&mut places) {
                    maxima_of::<BLOCK>(image, &pixels, channels, channel, output, places);
                    channel += BLOCK;
                }
                let rest = output.into_remainder().chunks_exact_mut(1).zip(places.into_remainder().chunks_exact_mut(1));
                for (output, places) in rest {
                    maxima_of::<1>(image, &pixels, channels, channel, output, places);
                    channel += 1;
                }
            }
        }
    }
}

#[inline(always)]
fn maxima_of<const N: usize>(
    image: &[f32],
    pixels: &[usize],
    channels: usize,
    channel: usize,
    output: &mut [f32],
    places: &mut [i32],
) {
    let (mut greatest, mut place) = ([f32::NEG_INFINITY; N], [NOWHERE; N]);
    if let Some((&first, others)) = pixels.split_first() {
        greatest.copy_from_slice(&image[first * channels + channel..][..N]);
        place = [first as i32; N];
        for &pixel in others {
            let values = &image[pixel * channels + channel..][..N];
            for ((greatest, place), &value) in greatest.iter_mut().zip(&mut place).zip(values) {
                let greater = (value > *greatest) | value.is_nan();
                *greatest = if greater { value } else { *greatest };
                *place = if greater { pixel as i32 } else { *place };
            }
        }
    }
    output.copy_from_slice(&greatest);
    places.copy_from_slice(&place);
}

vectorized! {
    fn maxima_gradient_images<'a>(
        pooling: &'a Pooling,
        gradient: &'a [f32],
        places: &'a [i32],
        images: &'a mut [f32],
    ) {
        let channels = pooling.channels;
        let output = pooling.output[0] * pooling.row_len();
        let is_disjoint = pooling.is_disjoint();
        let mut pixels = Vec::with_capacity(pooling.window.taps());
        for (number, image) in images.chunks_exact_mut(pooling.image_len()).enumerate() {
            pooling.zero_the_rest(image);
            let gradient = gradient[number * output..][..output].chunks_exact(channels);
            let places = places[number * output..][..output].chunks_exact(channels);
            for (position, (gradient, places)) in gradient.zip(places).enumerate() {
                pooling.pixels([position / pooling.output[1], position % pooling.output[1]], &mut pixels);
                for &pixel in &pixels {
                    let image = image[pixel * channels..][..channels].iter_mut();
                    let gradient = gradient.iter().zip(places);
                    if is_disjoint {
                        for (image, (&gradient, &place)) in image.zip(gradient) {
                            *image = if place == pixel as i32 { gradient } else { 0.0 };
                        }
                    } else {
                        for (image, (&gradient, &place)) in image.zip(gradient) {
                            *image += if place == pixel as i32 { gradient } else { 0.0 };
                        }
                    }
                }
            }
        }
    }
}

vectorized! {
    fn means_rows<'a>(
        pooling: &'a Pooling,
        images: &'a [f32],
        count_padding: bool,
        first: usize,
        output: &'a mut [f32],
    ) {
        let channels = pooling.channels;
        let mut pixels = Vec::with_capacity(pooling.window.taps());
        for (number, output) in output.chunks_exact_mut(pooling.row_len()).enumerate() {
            let (image, row) = ((first + number) / pooling.output[0], (first + number) % pooling.output[0]);
            let image = &images[image * pooling.image_len()..][..pooling.image_len()];
            for (column, output) in output.chunks_exact_mut(channels).enumerate() {
                output.fill(0.0);
                pooling.pixels([row, column], &mut pixels);
                for &pixel in &pixels {
                    let values = &image[pixel * channels..][..channels];
                    for (sum, value) in output.iter_mut().zip(values) {
                        *sum += *value;
                    }
                }
                let count = pooling.count([row, column], count_padding).max(1.0);
                for sum in output {
                    *sum /= count;
                }
            }
        }
    }
}

vectorized! {
    fn means_gradient_images<'a>(
        pooling: &'a Pooling,
        gradient: &'a [f32],
        count_padding: bool,
        images: &'a mut [f32],
    ) {
        let channels = pooling.channels;
        let output = pooling.output[0] * pooling.row_len();
        let mut pixels = Vec::with_capacity(pooling.window.taps());
        for (number, image) in images.chunks_exact_mut(pooling.image_len()).enumerate() {
            image.fill(0.0);
            let gradient = gradient[number * output..][..output].chunks_exact(channels);
            for (position, gradient) in gradient.enumerate() {
                let position = [position / pooling.output[1], position % pooling.output[1]];
                let count = pooling.count(position, count_padding).max(1.0);
                pooling.pixels(position, &mut pixels);
                for &pixel in &pixels {
                    for (image, gradient) in image[pixel * channels..][..channels].iter_mut().zip(gradient) {
                        *image += *gradient / count;
                    }
                }
            }
        }
    }
}
