//! The geometry of a window over an image: kernel, stride, padding, dilation.

use std::ops::Range;

/// The geometry of a convolution or pooling over [height, width].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Sides of the kernel, each at least 1.
    pub kernel: [usize; 2],
    /// From one position to the next, each at least 1.
    pub stride: [usize; 2],
    /// Rows and columns beyond each edge, which are zero for a convolution and absent for a pooling.
    pub padding: [usize; 2],
    /// From one tap of the kernel to the next, each at least 1.
    pub dilation: [usize; 2],
}

impl Window {
    /// How many positions fit into an image with the padding; 0 if the kernel is larger. Panics if a side of the kernel, a
    /// stride or a dilation is 0.
    pub fn positions(&self, input: [usize; 2]) -> [usize; 2] {
        let Self { kernel, stride, dilation, .. } = self;
        assert!(![kernel, stride, dilation].iter().any(|sides| sides.contains(&0)), "{self:?} has a side of 0");
        [0, 1].map(|axis| {
            let reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            (input[axis] + 2 * self.padding[axis]).checked_sub(reach).map_or(0, |free| free / self.stride[axis] + 1)
        })
    }

    /// Taps in a kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Whether each position is one element of the input, the same.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    /// Of `positions` positions along `axis` those whose tap number `tap` lies in the image, which has `input` rows or
    /// columns.
    #[inline(always)]
    pub(super) fn inside(&self, axis: usize, tap: usize, input: usize, positions: usize) -> Range<usize> {
        let (stride, padding, offset) = (self.stride[axis], self.padding[axis], tap * self.dilation[axis]);
        let start = padding.saturating_sub(offset).div_ceil(stride).min(positions);
        let end = (input + padding).saturating_sub(offset).div_ceil(stride).min(positions);
        start..end.max(start)
    }

    /// The row or column of the image that tap number `tap` of position `position` lies on, if it does.
    #[inline(always)]
    pub(super) fn place(&self, axis: usize, tap: usize, input: usize, position: usize) -> Option<usize> {
        let place = (position * self.stride[axis] + tap * self.dilation[axis]).checked_sub(self.padding[axis])?;
        (place < input).then_some(place)
    }
}
