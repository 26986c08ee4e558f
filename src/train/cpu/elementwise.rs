//! Sums along a dimension, and the arithmetic of two tensors of which one may be repeated.

use super::{
    layout::{RowMajor, order, reordered, restored, row_major},
    memory,
};
use burn::{
    backend::flex::{Flex, FlexTensor, Layout},
    tensor::{DType, Shape, ops::FloatTensorOps},
};
use peerfold_kernels::{
    buffer::Buffer,
    elementwise::{self, Dim, Operation},
    sums,
};

/// Along the memory, whatever the order of the dimensions in it.
pub(super) fn sum_along(tensor: FlexTensor, dim: usize) -> FlexTensor {
    if tensor.dtype() != DType::F32 {
        return Flex::float_sum_dim(tensor, dim);
    }
    let (tensor, order) = match order(tensor.layout()) {
        Some(order) => (reordered(tensor, &order), order),
        None => (row_major(tensor.clone()), (0..tensor.layout().num_dims()).collect()),
    };
    let place = order.iter().position(|&other| other == dim).unwrap_or(dim);
    let mut dims = tensor.layout().shape().to_vec();
    let sides = [dims[..place].iter().product(), dims[place], dims[place + 1..].iter().product()];
    let mut out = Buffer::stale(sides[0] * sides[2]);
    sums::middle(RowMajor::new(tensor).values(), sides, &mut out);
    dims[place] = 1;
    restored(memory::tensor(out, Shape::from(dims)), &order)
}

/// The two as they were, where flex does as well.
pub(super) fn binary(
    operation: Operation,
    lhs: FlexTensor,
    rhs: FlexTensor,
) -> Result<FlexTensor, (FlexTensor, FlexTensor)> {
    let (left, right) = (lhs.layout(), rhs.layout());
    let ours = [&lhs, &rhs].iter().all(|tensor| tensor.dtype() == DType::F32) && left.num_dims() == right.num_dims();
    let plain = left.is_contiguous() && right.is_contiguous() && left.shape() == right.shape();
    let fits = |(&a, &b): (&usize, &usize)| a == b || a == 1 || b == 1;
    if !ours || plain || !left.shape().iter().zip(right.shape().iter()).all(fits) {
        return Err((lhs, rhs));
    }
    let dims: Vec<usize> =
        left.shape().iter().zip(right.shape().iter()).map(|(&a, &b)| if a == 1 { b } else { a }).collect();
    let shape = Shape::from(dims);
    let is_whole = |layout: &Layout| *layout.shape() == shape && order(layout).is_some();
    let (whole, other, operation) = match (is_whole(left), is_whole(right)) {
        (true, _) => (lhs, rhs, operation),
        (false, true) => (rhs, lhs, flipped(operation)),
        (false, false) => (row_major(Flex::float_expand(lhs, shape)), rhs, operation),
    };
    let order = order(whole.layout()).unwrap_or_else(|| (0..whole.layout().num_dims()).collect());
    let (whole, layout) = (reordered(whole, &order), other.layout().permute(&order));
    // Where the other's elements stand still it is repeated, whether it has one there or says that it has more.
    let steps = layout.strides().iter().zip(layout.shape().iter());
    let repeated: Vec<bool> = steps.map(|(&stride, &size)| size == 1 || stride == 0).collect();
    let compact = repeated.iter().zip(layout.shape().iter()).map(|(&repeated, &size)| if repeated { 1 } else { size });
    let compact =
        Layout::new(Shape::from(compact.collect::<Vec<_>>()), layout.strides().to_vec(), layout.start_offset());
    let other = RowMajor::new(other.with_layout(compact));
    let sizes = whole.layout().shape().clone();
    let dims: Vec<Dim> = sizes.iter().zip(repeated).map(|(&size, repeated)| Dim { size, repeated }).collect();
    let whole = RowMajor::new(whole);
    let mut out = Buffer::stale(whole.values().len());
    elementwise::apply(operation, whole.values(), other.values(), &dims, &mut out);
    Ok(restored(memory::tensor(out, sizes), &order))
}

/// The operation with its arguments changed about.
fn flipped(operation: Operation) -> Operation {
    match operation {
        Operation::Add | Operation::Multiply => operation,
        Operation::Subtract => Operation::SubtractFrom,
        Operation::SubtractFrom => Operation::Subtract,
        Operation::Divide => Operation::DivideInto,
        Operation::DivideInto => Operation::Divide,
    }
}
