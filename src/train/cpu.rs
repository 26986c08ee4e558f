//! burn on the processor: the flex backend, with what training spends its time in replaced by Peerfold's
//! [kernels](peerfold_kernels).
//!
//! Images that go through convolutions and poolings lie channels last in memory, as strides say: a tensor's shape stays
//! [batch, channels, height, width] as everywhere in burn, and every operation of burn works on it.

mod activation;
mod convolution;
mod elementwise;
mod handed_on;
mod layout;
mod linear;
mod memory;
mod module;
mod pooling;

pub(super) use self::{layout::owned, memory::tensor as tensor_of};
use burn::{
    backend::flex::{Flex, FlexDevice, FlexQTensor, FlexTensor},
    tensor::DType,
    tensor::backend::{Backend, BackendTypes, DTypeUsageSet},
};

/// A backend for training on processors, several times as fast as the flex backend that it wraps.
///
/// Its tensors are flex's, so is what it doesn't do itself. Its own, for `f32`: convolution in one and two dimensions
/// (stride, padding, dilation and groups), transposed convolution in two, maximum and average pooling, linear layers,
/// ReLU, sums and means, and the four operations of arithmetic, also where one tensor is repeated along some dimensions
/// (as in normalisation); each with its gradient where it has one. Other element-wise operations go along the memory,
/// whichever order the dimensions have in it. Wrap it in `Autodiff` to train, with any module of burn; with
/// [`Adam`](super::Adam) its optimizer's step is one pass.
///
/// The results depend on the processor's instruction set only by the rounding of matrix products, and never on the number
/// of threads, which are those of the rayon pool that it is used in: rayon's global one by default (`RAYON_NUM_THREADS`,
/// else all processors), or the one whose `install` the training loop runs in. Memory of tensors of 16 KiB and more is
/// kept for the next of the same size, see [`buffer`](peerfold_kernels::buffer).
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu;

impl BackendTypes for Cpu {
    type Device = FlexDevice;
    type FloatTensorPrimitive = FlexTensor;
    type FloatElem = f32;
    type IntTensorPrimitive = FlexTensor;
    type IntElem = i32;
    type BoolTensorPrimitive = FlexTensor;
    type BoolElem = bool;
    type QuantizedTensorPrimitive = FlexQTensor;
}

impl Backend for Cpu {
    fn name(_device: &FlexDevice) -> String {
        "cpu".to_owned()
    }

    fn seed(device: &FlexDevice, seed: u64) {
        Flex::seed(device, seed);
    }

    fn device_count(type_id: u16) -> usize {
        Flex::device_count(type_id)
    }

    fn dtype_usage(device: &FlexDevice, dtype: DType) -> DTypeUsageSet {
        Flex::dtype_usage(device, dtype)
    }
}
