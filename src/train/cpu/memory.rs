//! Tensors over [`Buffer`]s.

use burn::{
    backend::flex::{FlexTensor, Layout},
    tensor::{AllocationProperty, Bytes, DType, Shape},
};
use burn_std::AllocationController;
use peerfold_kernels::buffer::Buffer;
use std::mem::MaybeUninit;

/// A row-major tensor of `f32`.
pub(in crate::train) fn tensor(buffer: Buffer, shape: Shape) -> FlexTensor {
    strided(buffer, Layout::contiguous(shape))
}

/// A tensor of `f32` whose layout covers the buffer.
pub(super) fn strided(buffer: Buffer, layout: Layout) -> FlexTensor {
    FlexTensor::new(bytes(buffer), layout, DType::F32)
}

pub(super) fn bytes(buffer: Buffer) -> Bytes {
    let len = size_of_val::<[f32]>(&buffer);
    // SAFETY: Of a buffer every element is initialised, and `memory` gives all of its bytes.
    unsafe { Bytes::from_controller(Box::new(Pooled(buffer)), len) }
}

/// Hands a buffer to burn and gets it back when the tensor is dropped. With memory allocated afresh each time, the
/// steps of small networks took 15 to 35 % longer.
struct Pooled(Buffer);

impl AllocationController for Pooled {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self) -> &mut [MaybeUninit<u8>] {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut self.0);
        let (start, len) = (bytes.as_mut_ptr(), bytes.len());
        // SAFETY: The same memory for as long; who calls it promises to write initialised bytes only.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), len) }
    }

    fn memory(&self) -> &[MaybeUninit<u8>] {
        let bytes: &[u8] = bytemuck::cast_slice(&self.0);
        // SAFETY: The same memory for as long; an initialised byte is a MaybeUninit one too.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
    }
}
