//! Poolings of tensors.

use super::{
    layout::{Images, channels_last, channels_last_layout, four},
    memory,
};
use burn::{backend::flex::FlexTensor, tensor::DType};
use peerfold_kernels::{buffer::Buffer, pooling::Pooling, window::Window};

/// The window's geometry and whether one more position is there where something is left over, as burn gives them.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) window: Window,
    pub(super) ceil: bool,
}

impl Shape {
    /// `None` for what burn's flex backend is to do: images of another type or too large for the kernel.
    pub(super) fn of(self, x: &FlexTensor) -> Option<Pooling> {
        let [batch, channels, height, width] = four(x.layout().shape());
        let input = [height, width];
        let mut output = self.window.positions(input);
        if self.ceil {
            for (axis, output) in output.iter_mut().enumerate() {
                let reach = self.window.dilation[axis] * (self.window.kernel[axis] - 1) + 1;
                let free = (input[axis] + 2 * self.window.padding[axis]).checked_sub(reach)?;
                *output = free.div_ceil(self.window.stride[axis]) + 1;
            }
        }
        let small = height.checked_mul(width).is_some_and(|pixels| i32::try_from(pixels).is_ok());
        let ours = x.dtype() == DType::F32 && small && channels > 0 && !output.contains(&0);
        ours.then_some(Pooling { batch, input, channels, window: self.window, output })
    }
}

fn output_dims(pooling: &Pooling) -> [usize; 4] {
    [pooling.batch, pooling.channels, pooling.output[0], pooling.output[1]]
}

fn input_dims(pooling: &Pooling) -> [usize; 4] {
    [pooling.batch, pooling.channels, pooling.input[0], pooling.input[1]]
}

/// The maxima and their pixels.
pub(super) fn maxima(pooling: &Pooling, x: FlexTensor) -> (FlexTensor, FlexTensor) {
    let mut output = Buffer::stale(pooling.output_len());
    let mut places = Buffer::stale(pooling.output_len());
    pooling.maxima(Images::new(x).values(), &mut output, bytemuck::cast_slice_mut(&mut places));
    let layout = channels_last_layout(output_dims(pooling));
    (channels_last(output, output_dims(pooling)), FlexTensor::new(memory::bytes(places), layout, DType::I32))
}

/// `places` are like those that [`maxima`] returns, in any memory order.
pub(super) fn maxima_gradient(pooling: &Pooling, gradient: FlexTensor, places: FlexTensor) -> FlexTensor {
    let layout = places.layout().permute(&[0, 2, 3, 1]);
    let ours = layout.is_contiguous() && layout.start_offset() == 0;
    let places = places.with_layout(layout);
    let places = if ours { places } else { places.to_contiguous() };
    let mut images = Buffer::stale(pooling.input_len());
    let places: &[i32] = &places.storage()[..pooling.output_len()];
    pooling.maxima_gradient(Images::new(gradient).values(), places, &mut images);
    channels_last(images, input_dims(pooling))
}

pub(super) fn means(pooling: &Pooling, x: FlexTensor, count_padding: bool) -> FlexTensor {
    let mut output = Buffer::stale(pooling.output_len());
    pooling.means(Images::new(x).values(), count_padding, &mut output);
    channels_last(output, output_dims(pooling))
}

pub(super) fn means_gradient(pooling: &Pooling, gradient: FlexTensor, count_padding: bool) -> FlexTensor {
    let mut images = Buffer::stale(pooling.input_len());
    pooling.means_gradient(Images::new(gradient).values(), count_padding, &mut images);
    channels_last(images, input_dims(pooling))
}
