//! The order of a tensor's elements in memory.

use super::memory;
use burn::{
    backend::flex::{Flex, FlexTensor, Layout},
    tensor::{DType, Shape, ops::FloatTensorOps},
};
use peerfold_kernels::{buffer::Buffer, sums, transpose};

/// The dimensions from the outermost to the innermost in memory, if the tensor has no gaps there.
pub(super) fn order(layout: &Layout) -> Option<Vec<usize>> {
    let (shape, strides) = (layout.shape(), layout.strides());
    let mut order: Vec<usize> = (0..strides.len()).collect();
    if layout.num_elements() == 0 {
        return Some(order);
    }
    order.sort_by_key(|&dim| (shape[dim] > 1).then(|| std::cmp::Reverse(strides[dim])));
    let mut expected = 1;
    for &dim in order.iter().rev().filter(|&&dim| shape[dim] != 1) {
        if strides[dim] != expected {
            return None;
        }
        expected *= shape[dim] as isize;
    }
    Some(order)
}

/// Whether the memory is without gaps and in the order of the dimensions, those of one element aside.
fn is_row_major(layout: &Layout) -> bool {
    let long = |dim: &usize| layout.shape()[*dim] > 1;
    order(layout).is_some_and(|order| order.into_iter().filter(long).is_sorted())
}

/// The same memory with the dimensions in this order, which is that of the memory.
pub(super) fn reordered(tensor: FlexTensor, order: &[usize]) -> FlexTensor {
    let layout = tensor.layout().permute(order);
    let start = layout.start_offset();
    let contiguous = Layout::contiguous(layout.shape().clone());
    let layout = Layout::new(contiguous.shape().clone(), contiguous.strides().to_vec(), start);
    tensor.with_layout(layout)
}

/// Dimension `order[i]` of the result is dimension `i` of the tensor.
pub(super) fn restored(tensor: FlexTensor, order: &[usize]) -> FlexTensor {
    let mut inverse = vec![0; order.len()];
    order.iter().enumerate().for_each(|(place, &dim)| inverse[dim] = place);
    let layout = tensor.layout().permute(&inverse);
    tensor.with_layout(layout)
}

/// Calls an element-wise operation with the tensor's dimensions in the order of its memory.
pub(super) fn along_memory(tensor: FlexTensor, operation: impl FnOnce(FlexTensor) -> FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() {
        return operation(tensor);
    }
    match order(tensor.layout()) {
        Some(order) => restored(operation(reordered(tensor, &order)), &order),
        None => operation(tensor),
    }
}

/// The same for two tensors, of which one may be broadcast.
pub(super) fn along_both(
    lhs: FlexTensor,
    rhs: FlexTensor,
    operation: impl FnOnce(FlexTensor, FlexTensor) -> FlexTensor,
) -> FlexTensor {
    let (left, right) = (lhs.layout(), rhs.layout());
    if (left.is_contiguous() && right.is_contiguous()) || left.num_dims() != right.num_dims() {
        return operation(lhs, rhs);
    }
    // The larger one decides; of two equal ones the one that isn't row-major.
    let by_left = left.num_elements() > right.num_elements()
        || (left.num_elements() == right.num_elements() && !left.is_contiguous());
    let Some(order) = order(if by_left { left } else { right }) else { return operation(lhs, rhs) };
    let arranged = |tensor: FlexTensor| {
        let layout = tensor.layout().permute(&order);
        let tensor = tensor.with_layout(layout);
        if is_row_major(tensor.layout()) {
            let order: Vec<usize> = (0..tensor.layout().num_dims()).collect();
            return reordered(tensor, &order);
        }
        tensor
    };
    restored(operation(arranged(lhs), arranged(rhs)), &order)
}

/// All of a tensor's elements as they lie in memory, if it is `f32` and without gaps.
pub(super) fn elements(tensor: &FlexTensor) -> Option<&[f32]> {
    order(tensor.layout())?;
    let start = tensor.layout().start_offset();
    tensor.storage().get(start..start + tensor.layout().num_elements())
}

/// A row-major tensor of `f32`, whose elements are a slice.
pub(super) struct RowMajor(FlexTensor);

impl RowMajor {
    pub(super) fn new(tensor: FlexTensor) -> Self {
        Self(row_major(tensor))
    }

    pub(super) fn values(&self) -> &[f32] {
        let start = self.0.layout().start_offset();
        &self.0.storage::<f32>()[start..start + self.0.layout().num_elements()]
    }
}

/// The tensor row-major: the same if it is, else a copy.
pub(super) fn row_major(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() {
        return tensor;
    }
    let layout = tensor.layout();
    let strides: Option<Vec<usize>> = layout.strides().iter().map(|&stride| usize::try_from(stride).ok()).collect();
    let (DType::F32, Some(strides)) = (tensor.dtype(), strides) else { return tensor.to_contiguous() };
    if is_row_major(layout) {
        let order: Vec<usize> = (0..strides.len()).collect();
        return reordered(tensor, &order);
    }
    let (shape, start) = (layout.shape().clone(), layout.start_offset());
    let mut copy = Buffer::stale(layout.num_elements());
    transpose::to_row_major(tensor.storage().get(start..).unwrap_or_default(), &shape, &strides, &mut copy);
    memory::tensor(copy, shape)
}

/// Images of the shape [batch, channels, height, width], channels last in memory.
pub(super) struct Images {
    /// [batch, height, width, channels], row-major.
    tensor: FlexTensor,
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) sides: [usize; 2],
}

impl Images {
    /// Of a tensor of `f32` and four dimensions, which is copied where it lies otherwise.
    pub(super) fn new(tensor: FlexTensor) -> Self {
        let [batch, channels, height, width] = four(tensor.layout().shape());
        let last = tensor.layout().permute(&[0, 2, 3, 1]);
        let tensor = row_major(tensor.with_layout(last));
        Self { tensor, batch, channels, sides: [height, width] }
    }

    /// [batch, height, width, channels], row-major.
    pub(super) fn values(&self) -> &[f32] {
        elements(&self.tensor).expect("images are without gaps")
    }
}

/// A tensor of the shape [batch, channels, height, width] over memory in the order [batch, height, width, channels].
pub(super) fn channels_last(buffer: Buffer, dims: [usize; 4]) -> FlexTensor {
    memory::strided(buffer, channels_last_layout(dims))
}

/// Row-major where that is the same.
pub(super) fn channels_last_layout([batch, channels, height, width]: [usize; 4]) -> Layout {
    let shape = Shape::from(vec![batch, channels, height, width]);
    if channels == 1 || height * width == 1 {
        return Layout::contiguous(shape);
    }
    let strides = [height * width * channels, 1, width * channels, channels];
    Layout::new(shape, strides.map(|stride| stride as isize).to_vec(), 0)
}

/// A row-major tensor whose storage is its elements and nobody else's: the same, or a copy.
pub(in crate::train) fn owned(tensor: FlexTensor) -> FlexTensor {
    let tensor = RowMajor::new(tensor);
    let len = tensor.values().len();
    if tensor.0.is_unique() && tensor.0.layout().start_offset() == 0 && tensor.0.storage::<f32>().len() == len {
        return tensor.0;
    }
    let mut copy = Buffer::stale(len);
    copy.copy_from_slice(tensor.values());
    memory::tensor(copy, tensor.0.layout().shape().clone())
}

/// Calls `work` with the elements of `tensor`, mutable and in the order that those of `like` have in memory; in place
/// if nobody else uses them. `like` must have the same shape and no gaps.
pub(super) fn in_order_of(like: &FlexTensor, tensor: FlexTensor, work: impl FnOnce(&mut [f32])) -> FlexTensor {
    let order = order(like.layout()).unwrap_or_else(|| (0..like.layout().num_dims()).collect());
    let layout = tensor.layout().permute(&order);
    let mut tensor = owned(tensor.with_layout(layout));
    work(tensor.storage_mut());
    restored(tensor, &order)
}

/// The four dimensions of a shape that has four.
pub(super) fn four(shape: &Shape) -> [usize; 4] {
    [shape[0], shape[1], shape[2], shape[3]]
}

/// The sum of all elements, whose order follows from their number.
pub(super) fn sum(tensor: FlexTensor) -> FlexTensor {
    match tensor.dtype() {
        DType::F32 => scalar(sums::all(RowMajor::new(tensor).values())),
        _ => Flex::float_sum(tensor),
    }
}

/// The mean of all elements, from their [`sum`].
pub(super) fn mean(tensor: FlexTensor) -> FlexTensor {
    let count = tensor.layout().num_elements() as f32;
    match tensor.dtype() {
        DType::F32 => scalar(sums::all(RowMajor::new(tensor).values()) / count),
        _ => Flex::float_mean(tensor),
    }
}

fn scalar(value: f32) -> FlexTensor {
    memory::tensor(Buffer::filled(1, value), Shape::from(vec![1]))
}
