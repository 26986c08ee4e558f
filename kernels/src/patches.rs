//! The patches that a convolution's kernel sees, as rows of a matrix (im2col), and back (col2im).

use super::{convolution::Convolution, instructions::vectorized};
use std::ops::Range;

/// Copies between an image and its patches go run by run; short ones have code of their length.
macro_rules! by_length {
    ($run:expr, $function:ident($($argument:expr),*)) => {
        by_length!($run, $function, ($($argument),*), 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 20 24 28 32)
    };
    ($run:expr, $function:ident, $arguments:tt, $($length:literal)*) => {
        match $run {
            $($length => by_length!(@call $function, $length, $arguments),)*
            run => by_length!(@call $function, run, $arguments),
        }
    };
    (@call $function:ident, $length:expr, ($($argument:expr),*)) => { $function($($argument,)* $length) };
}

/// Which elements of a row of patches lie next to each other in a row of the image.
#[derive(Clone, Copy)]
struct Piece {
    /// The first column of the kernel.
    tap_column: usize,
    /// Columns of the kernel: all of them, or one.
    tap_columns: usize,
}

impl Convolution {
    /// Elements of a patch: [kernel height, kernel width, channels of the group].
    pub(super) fn depth(&self) -> usize {
        self.window.taps() * self.channels_in / self.groups
    }

    /// Where no tap is left out and none dilated, a whole row of the kernel is one run of memory.
    #[inline(always)]
    fn has_whole_rows(&self) -> bool {
        self.groups == 1 && (self.window.dilation[1] == 1 || self.window.kernel[1] == 1)
    }

    /// Positions along a row whose taps `tap_columns` from `tap_column` all lie in the image.
    #[inline(always)]
    fn inside(&self, piece: Piece, positions: usize) -> Range<usize> {
        let first = self.window.inside(1, piece.tap_column, self.input[1], positions);
        let last = self.window.inside(1, piece.tap_column + piece.tap_columns - 1, self.input[1], positions);
        let start = first.start.max(last.start);
        start..first.end.min(last.end).max(start)
    }

    /// Element of an image at which the run begins that `piece` sees from position `column` of a row; `row` is the
    /// image's.
    #[inline(always)]
    fn run_start(&self, piece: Piece, group: usize, row: usize, column: usize) -> usize {
        let first =
            column * self.window.stride[1] + piece.tap_column * self.window.dilation[1] - self.window.padding[1];
        (row * self.input[1] + first) * self.channels_in + group * (self.channels_in / self.groups)
    }
}

vectorized! {
    /// Fills `patches`, [rows × positions of a row, depth], with what the kernel sees from these rows of positions
    /// (counted over the whole batch), for one group of channels.
    pub(super) fn gather<'a>(
        convolution: &'a Convolution,
        images: &'a [f32],
        group: usize,
        rows: Range<usize>,
        patches: &'a mut [f32],
    ) {
        let [height, width] = convolution.window.positions(convolution.input);
        let image = convolution.image_len();
        let depth = convolution.depth();
        for (row, patches) in rows.zip(patches.chunks_exact_mut((width * depth).max(1))) {
            let (number, row) = (row / height, row % height);
            let image = &images[number * image..][..image];
            for tap_row in 0..convolution.window.kernel[0] {
                let image_row = convolution.window.place(0, tap_row, convolution.input[0], row);
                let offset = tap_row * (depth / convolution.window.kernel[0]);
                let line = Line { convolution, group, image_row: image_row.unwrap_or(0), width, offset };
                let whole = line.whole();
                if image_row.is_none() {
                    line.zero(patches, 0..width, whole);
                } else if convolution.has_whole_rows() {
                    let inside = convolution.inside(whole, width);
                    line.copy_taps(image, patches, 0..inside.start);
                    line.copy_taps(image, patches, inside.end..width);
                    line.copy(image, patches, inside, whole);
                } else {
                    line.copy_taps(image, patches, 0..width);
                }
            }
        }
    }
}

/// A row of positions, seen by one row of the kernel.
#[derive(Clone, Copy)]
struct Line<'a> {
    convolution: &'a Convolution,
    group: usize,
    /// The image's row that it sees.
    image_row: usize,
    /// Positions.
    width: usize,
    /// Where the kernel's row begins in a patch.
    offset: usize,
}

impl Line<'_> {
    #[inline(always)]
    fn channels(&self) -> usize {
        self.convolution.channels_in / self.convolution.groups
    }

    /// From a position's run in the image to the next one's.
    #[inline(always)]
    fn step(&self) -> usize {
        self.convolution.window.stride[1] * self.convolution.channels_in
    }

    #[inline(always)]
    fn whole(&self) -> Piece {
        Piece { tap_column: 0, tap_columns: self.convolution.window.kernel[1] }
    }

    /// Where `piece` begins in the image and in the patches, for this position.
    #[inline(always)]
    fn starts(&self, piece: Piece, position: usize) -> (usize, usize) {
        let image = self.convolution.run_start(piece, self.group, self.image_row, position);
        let patch = position * self.convolution.depth() + self.offset + piece.tap_column * self.channels();
        (image, patch)
    }

    #[inline(always)]
    fn copy(&self, image: &[f32], patches: &mut [f32], positions: Range<usize>, piece: Piece) {
        if positions.is_empty() {
            return;
        }
        let ((from, to), depth) = (self.starts(piece, positions.start), self.convolution.depth());
        let (from, to, step) = (&image[from..], &mut patches[to..], self.step());
        by_length!(piece.tap_columns * self.channels(), copy_runs(to, depth, from, step, positions.len()));
    }

    #[inline(always)]
    fn add(&self, image: &mut [f32], patches: &[f32], positions: Range<usize>, piece: Piece) {
        if positions.is_empty() {
            return;
        }
        let ((to, from), depth) = (self.starts(piece, positions.start), self.convolution.depth());
        let (to, from, step) = (&mut image[to..], &patches[from..], self.step());
        by_length!(piece.tap_columns * self.channels(), add_runs(to, step, from, depth, positions.len()));
    }

    #[inline(always)]
    fn zero(&self, patches: &mut [f32], positions: Range<usize>, piece: Piece) {
        let (first, run) = (self.offset + piece.tap_column * self.channels(), piece.tap_columns * self.channels());
        for position in positions {
            patches[position * self.convolution.depth() + first..][..run].fill(0.0);
        }
    }

    /// Of the positions `among` those for which column number `tap_column` of the kernel lies in the image.
    #[inline(always)]
    fn seen(&self, tap_column: usize, among: &Range<usize>) -> (Piece, Range<usize>) {
        let piece = Piece { tap_column, tap_columns: 1 };
        let inside = self.convolution.inside(piece, self.width);
        (piece, inside.start.clamp(among.start, among.end)..inside.end.clamp(among.start, among.end))
    }

    #[inline(always)]
    fn copy_taps(&self, image: &[f32], patches: &mut [f32], among: Range<usize>) {
        if among.is_empty() {
            return;
        }
        for tap_column in 0..self.convolution.window.kernel[1] {
            let (piece, seen) = self.seen(tap_column, &among);
            self.zero(patches, among.start..seen.start, piece);
            self.zero(patches, seen.end..among.end, piece);
            self.copy(image, patches, seen, piece);
        }
    }

    #[inline(always)]
    fn add_taps(&self, image: &mut [f32], patches: &[f32], among: Range<usize>) {
        if among.is_empty() {
            return;
        }
        for tap_column in 0..self.convolution.window.kernel[1] {
            let (piece, seen) = self.seen(tap_column, &among);
            self.add(image, patches, seen, piece);
        }
    }
}

vectorized! {
    /// Adds `patches` to where they were seen: the opposite of [`gather`], for rows of positions of one image.
    pub(super) fn scatter<'a>(
        convolution: &'a Convolution,
        patches: &'a [f32],
        group: usize,
        rows: Range<usize>,
        image: &'a mut [f32],
    ) {
        let [_, width] = convolution.window.positions(convolution.input);
        let depth = convolution.depth();
        for (row, patches) in rows.zip(patches.chunks_exact((width * depth).max(1))) {
            for tap_row in 0..convolution.window.kernel[0] {
                let image_row = convolution.window.place(0, tap_row, convolution.input[0], row);
                let Some(image_row) = image_row else { continue };
                let offset = tap_row * (depth / convolution.window.kernel[0]);
                let line = Line { convolution, group, image_row, width, offset };
                if convolution.has_whole_rows() {
                    let inside = convolution.inside(line.whole(), width);
                    line.add_taps(image, patches, 0..inside.start);
                    line.add_taps(image, patches, inside.end..width);
                    line.add(image, patches, inside, line.whole());
                } else {
                    line.add_taps(image, patches, 0..width);
                }
            }
        }
    }
}

#[inline(always)]
fn copy_runs(to: &mut [f32], to_step: usize, from: &[f32], from_step: usize, count: usize, run: usize) {
    for number in 0..count {
        to[number * to_step..][..run].copy_from_slice(&from[number * from_step..][..run]);
    }
}

#[inline(always)]
fn add_runs(to: &mut [f32], to_step: usize, from: &[f32], from_step: usize, count: usize, run: usize) {
    for number in 0..count {
        for (to, from) in to[number * to_step..][..run].iter_mut().zip(&from[number * from_step..][..run]) {
            *to += *from;
        }
    }
}

vectorized! {
    /// Fills `patches`, [taps, rows × positions of a row], for images of one channel: a tap's elements of a row of
    /// positions are a run of the image's row, longer than what a patch has of it.
    pub(super) fn gather_taps<'a>(
        convolution: &'a Convolution,
        images: &'a [f32],
        rows: Range<usize>,
        patches: &'a mut [f32],
    ) {
        let window = &convolution.window;
        let [height, width] = window.positions(convolution.input);
        let image = convolution.image_len();
        let columns = rows.len() * width;
        for (tap, patches) in patches.chunks_exact_mut(columns.max(1)).enumerate() {
            let (tap_row, tap_column) = (tap / window.kernel[1], tap % window.kernel[1]);
            let piece = Piece { tap_column, tap_columns: 1 };
            let inside = convolution.inside(piece, width);
            for (row, patches) in rows.clone().zip(patches.chunks_exact_mut(width.max(1))) {
                let place = window.place(0, tap_row, convolution.input[0], row % height);
                let Some(image_row) = place.filter(|_| !inside.is_empty()) else {
                    patches.fill(0.0);
                    continue;
                };
                patches[..inside.start].fill(0.0);
                patches[inside.end..].fill(0.0);
                let from = row / height * image + convolution.run_start(piece, 0, image_row, inside.start);
                let patches = &mut patches[inside.clone()];
                if window.stride[1] == 1 {
                    let run = patches.len();
                    patches.copy_from_slice(&images[from..][..run]);
                } else {
                    let from = images[from..].iter().step_by(window.stride[1]);
                    patches.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}
