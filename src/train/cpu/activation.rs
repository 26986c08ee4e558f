//! ReLU and its gradient on tensors.

use super::{layout, memory};
use burn::{
    backend::flex::{Flex, FlexTensor, Layout},
    tensor::{DType, ops::ActivationOps},
};
use peerfold_kernels::{buffer::Buffer, rectifier};

pub(super) fn relu(tensor: FlexTensor) -> FlexTensor {
    if tensor.dtype() != DType::F32 {
        return Flex::relu(tensor);
    }
    let Some(values) = layout::elements(&tensor) else { return relu(layout::row_major(tensor)) };
    let mut out = Buffer::stale(values.len());
    rectifier::forward(values, &mut out);
    let layout = tensor.layout();
    memory::strided(out, Layout::new(layout.shape().clone(), layout.strides().to_vec(), 0))
}

pub(super) fn relu_gradient(output: FlexTensor, gradient: FlexTensor) -> FlexTensor {
    if output.dtype() != DType::F32 || gradient.dtype() != DType::F32 {
        return Flex::relu_backward(output, gradient);
    }
    let Some(values) = layout::elements(&output) else { return relu_gradient(layout::row_major(output), gradient) };
    layout::in_order_of(&output, gradient, |gradient| rectifier::backward(values, gradient))
}
