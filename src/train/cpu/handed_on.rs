//! Operations that are passed through to burn's flex backend, because it does them well enough or they are rare.

use super::{Cpu, elementwise, layout};
use burn::{
    backend::flex::{Flex, FlexDevice, FlexQTensor, FlexTensor},
    tensor::{
        BoolDType, DType, Distribution, FloatDType, IndexingUpdateOp, IntDType, Scalar, Shape, Slice, TensorData,
        backend::ExecutionError,
        ops::{
            ActivationOps, BoolTensorOps, FloatTensorOps, GridSampleOptions, IntTensorOps, QTensorOps, TransactionOps,
        },
        quantization::{QuantScheme, QuantizationParametersPrimitive},
    },
};
use peerfold_kernels::elementwise::Operation;
use std::ops::Range;

/// Passes functions of an operation trait through to flex.
macro_rules! hand_on {
    ($ops:ident: $(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $name($($argument: $type),*) $(-> $result)? { <Flex as $ops<Flex>>::$name($($argument),*) })*
    };
}

/// The same for the functions that give a future.
macro_rules! hand_on_async {
    ($ops:ident: $(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(async fn $name($($argument: $type),*) -> $result { <Flex as $ops<Flex>>::$name($($argument),*).await })*
    };
}

/// The same for functions of one tensor, element by element: where its memory is without gaps they go along the memory,
/// whatever the order of its dimensions.
macro_rules! hand_on_along_memory {
    ($ops:ident: $(fn $name:ident($tensor:ident: FlexTensor $(, $argument:ident: $type:ty)*) -> FlexTensor;)*) => {
        $(fn $name($tensor: FlexTensor $(, $argument: $type)*) -> FlexTensor {
            layout::along_memory($tensor, |tensor| <Flex as $ops<Flex>>::$name(tensor $(, $argument)*))
        })*
    };
}

/// The same for functions of two tensors, where the memory of both has the same order.
macro_rules! hand_on_along_both {
    ($ops:ident: $(fn $name:ident($lhs:ident: FlexTensor, $rhs:ident: FlexTensor) -> FlexTensor;)*) => {
        $(fn $name($lhs: FlexTensor, $rhs: FlexTensor) -> FlexTensor {
            layout::along_both($lhs, $rhs, |lhs, rhs| <Flex as $ops<Flex>>::$name(lhs, rhs))
        })*
    };
}

impl FloatTensorOps<Self> for Cpu {
    fn float_reshape(tensor: FlexTensor, shape: Shape) -> FlexTensor {
        Flex::float_reshape(layout::row_major(tensor), shape)
    }

    fn float_sum(tensor: FlexTensor) -> FlexTensor {
        layout::sum(tensor)
    }

    fn float_mean(tensor: FlexTensor) -> FlexTensor {
        layout::mean(tensor)
    }

    fn float_sum_dim(tensor: FlexTensor, dim: usize) -> FlexTensor {
        elementwise::sum_along(tensor, dim)
    }

    fn float_mean_dim(tensor: FlexTensor, dim: usize) -> FlexTensor {
        let count = tensor.layout().shape()[dim];
        if tensor.dtype() != DType::F32 {
            return Flex::float_mean_dim(tensor, dim);
        }
        Self::float_div_scalar(elementwise::sum_along(tensor, dim), (count as f32).into())
    }

    fn float_add(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
        elementwise::binary(Operation::Add, lhs, rhs).unwrap_or_else(|(lhs, rhs)| Flex::float_add(lhs, rhs))
    }

    fn float_sub(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
        elementwise::binary(Operation::Subtract, lhs, rhs).unwrap_or_else(|(lhs, rhs)| Flex::float_sub(lhs, rhs))
    }

    fn float_mul(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
        elementwise::binary(Operation::Multiply, lhs, rhs).unwrap_or_else(|(lhs, rhs)| Flex::float_mul(lhs, rhs))
    }

    fn float_div(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor {
        elementwise::binary(Operation::Divide, lhs, rhs).unwrap_or_else(|(lhs, rhs)| Flex::float_div(lhs, rhs))
    }

    hand_on! {
        FloatTensorOps:
        fn float_from_data(data: TensorData, device: &FlexDevice) -> FlexTensor;
        fn float_random(shape: Shape, distribution: Distribution, device: &FlexDevice, dtype: FloatDType) -> FlexTensor;
        fn float_device(tensor: &FlexTensor) -> FlexDevice;
        fn float_to_device(tensor: FlexTensor, device: &FlexDevice) -> FlexTensor;
        fn float_detach(tensor: FlexTensor) -> FlexTensor;
        fn float_into_int(tensor: FlexTensor, out_dtype: IntDType) -> FlexTensor;
        fn float_empty(shape: Shape, device: &FlexDevice, dtype: FloatDType) -> FlexTensor;
        fn float_matmul(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn float_cross(lhs: FlexTensor, rhs: FlexTensor, dim: usize) -> FlexTensor;
        fn float_swap_dims(tensor: FlexTensor, dim1: usize, dim2: usize) -> FlexTensor;
        fn float_permute(tensor: FlexTensor, axes: &[usize]) -> FlexTensor;
        fn float_flip(tensor: FlexTensor, axes: &[usize]) -> FlexTensor;
        fn float_cat(tensors: Vec<FlexTensor>, dim: usize) -> FlexTensor;
        fn float_gather(dim: usize, tensor: FlexTensor, indices: FlexTensor) -> FlexTensor;
        fn float_scatter_add(dim: usize, tensor: FlexTensor, indices: FlexTensor, value: FlexTensor) -> FlexTensor;
        fn float_scatter_nd(
            data: FlexTensor,
            indices: FlexTensor,
            values: FlexTensor,
            reduction: IndexingUpdateOp
        ) -> FlexTensor;
        fn float_gather_nd(data: FlexTensor, indices: FlexTensor) -> FlexTensor;
        fn float_select(tensor: FlexTensor, dim: usize, indices: FlexTensor) -> FlexTensor;
        fn float_select_add(tensor: FlexTensor, dim: usize, indices: FlexTensor, value: FlexTensor) -> FlexTensor;
        fn float_slice(tensor: FlexTensor, slices: &[Slice]) -> FlexTensor;
        fn float_slice_assign(tensor: FlexTensor, slices: &[Slice], value: FlexTensor) -> FlexTensor;
        fn float_mask_where(tensor: FlexTensor, mask: FlexTensor, value: FlexTensor) -> FlexTensor;
        fn float_mask_fill(tensor: FlexTensor, mask: FlexTensor, value: Scalar) -> FlexTensor;
        fn float_equal(lhs: FlexTensor, rhs: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn float_equal_elem(lhs: FlexTensor, rhs: Scalar, out_dtype: BoolDType) -> FlexTensor;
        fn float_greater(lhs: FlexTensor, rhs: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn float_greater_elem(lhs: FlexTensor, rhs: Scalar, out_dtype: BoolDType) -> FlexTensor;
        fn float_greater_equal(lhs: FlexTensor, rhs: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn float_greater_equal_elem(lhs: FlexTensor, rhs: Scalar, out_dtype: BoolDType) -> FlexTensor;
        fn float_lower(lhs: FlexTensor, rhs: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn float_lower_elem(lhs: FlexTensor, rhs: Scalar, out_dtype: BoolDType) -> FlexTensor;
        fn float_lower_equal(lhs: FlexTensor, rhs: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn float_lower_equal_elem(lhs: FlexTensor, rhs: Scalar, out_dtype: BoolDType) -> FlexTensor;
        fn float_not_equal(lhs: FlexTensor, rhs: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn float_not_equal_elem(lhs: FlexTensor, rhs: Scalar, out_dtype: BoolDType) -> FlexTensor;
        fn float_max(tensor: FlexTensor) -> FlexTensor;
        fn float_max_dim(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn float_min(tensor: FlexTensor) -> FlexTensor;
        fn float_min_dim(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn float_max_dim_with_indices(
            tensor: FlexTensor,
            dim: usize,
            indices_dtype: IntDType
        ) -> (FlexTensor, FlexTensor);
        fn float_min_dim_with_indices(
            tensor: FlexTensor,
            dim: usize,
            indices_dtype: IntDType
        ) -> (FlexTensor, FlexTensor);
        fn float_any(tensor: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn float_any_dim(tensor: FlexTensor, dim: usize, out_dtype: BoolDType) -> FlexTensor;
        fn float_all(tensor: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn float_all_dim(tensor: FlexTensor, dim: usize, out_dtype: BoolDType) -> FlexTensor;
        fn float_prod(tensor: FlexTensor) -> FlexTensor;
        fn float_prod_dim(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn float_cumsum(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn float_cumprod(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn float_cummin(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn float_cummax(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn float_argmax(tensor: FlexTensor, dim: usize, out_dtype: IntDType) -> FlexTensor;
        fn float_argtopk(tensor: FlexTensor, dim: usize, k: usize, out_dtype: IntDType) -> FlexTensor;
        fn float_argmin(tensor: FlexTensor, dim: usize, out_dtype: IntDType) -> FlexTensor;
        fn float_expand(tensor: FlexTensor, shape: Shape) -> FlexTensor;
        fn float_unfold(tensor: FlexTensor, dim: usize, size: usize, step: usize) -> FlexTensor;
        fn float_grid_sample_2d(tensor: FlexTensor, grid: FlexTensor, options: GridSampleOptions) -> FlexTensor;
        fn float_zeros(shape: Shape, device: &FlexDevice, dtype: FloatDType) -> FlexTensor;
        fn float_ones(shape: Shape, device: &FlexDevice, dtype: FloatDType) -> FlexTensor;
        fn float_full(shape: Shape, fill_value: Scalar, device: &FlexDevice, dtype: FloatDType) -> FlexTensor;
        fn float_transpose(tensor: FlexTensor) -> FlexTensor;
        fn float_repeat_dim(tensor: FlexTensor, dim: usize, times: usize) -> FlexTensor;
        fn float_sort(tensor: FlexTensor, dim: usize, descending: bool) -> FlexTensor;
        fn float_sort_with_indices(
            tensor: FlexTensor,
            dim: usize,
            descending: bool,
            indices_dtype: IntDType
        ) -> (FlexTensor, FlexTensor);
        fn float_argsort(tensor: FlexTensor, dim: usize, descending: bool, out_dtype: IntDType) -> FlexTensor;
        fn float_powi(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn float_max_abs(tensor: FlexTensor) -> FlexTensor;
        fn float_max_abs_dim(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn float_is_nan(tensor: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn float_is_inf(tensor: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
    }

    hand_on_async! {
        FloatTensorOps:
        fn float_into_data(tensor: FlexTensor) -> Result<TensorData, ExecutionError>;
    }

    hand_on_along_memory! {
        FloatTensorOps:
        fn float_add_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn float_sub_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn float_mul_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn float_div_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn float_remainder_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn float_recip(tensor: FlexTensor) -> FlexTensor;
        fn float_neg(tensor: FlexTensor) -> FlexTensor;
        fn float_clamp(tensor: FlexTensor, min: Scalar, max: Scalar) -> FlexTensor;
        fn float_clamp_min(tensor: FlexTensor, min: Scalar) -> FlexTensor;
        fn float_clamp_max(tensor: FlexTensor, max: Scalar) -> FlexTensor;
        fn float_sign(tensor: FlexTensor) -> FlexTensor;
        fn float_cast(tensor: FlexTensor, dtype: FloatDType) -> FlexTensor;
        fn float_exp(tensor: FlexTensor) -> FlexTensor;
        fn float_log(tensor: FlexTensor) -> FlexTensor;
        fn float_log1p(tensor: FlexTensor) -> FlexTensor;
        fn float_powf_scalar_impl(tensor: FlexTensor, value: Scalar) -> FlexTensor;
        fn float_sqrt(tensor: FlexTensor) -> FlexTensor;
        fn float_abs(tensor: FlexTensor) -> FlexTensor;
        fn float_cos(tensor: FlexTensor) -> FlexTensor;
        fn float_sin(tensor: FlexTensor) -> FlexTensor;
        fn float_tan(tensor: FlexTensor) -> FlexTensor;
        fn float_cosh(tensor: FlexTensor) -> FlexTensor;
        fn float_sinh(tensor: FlexTensor) -> FlexTensor;
        fn float_tanh(tensor: FlexTensor) -> FlexTensor;
        fn float_acos(tensor: FlexTensor) -> FlexTensor;
        fn float_acosh(tensor: FlexTensor) -> FlexTensor;
        fn float_asin(tensor: FlexTensor) -> FlexTensor;
        fn float_asinh(tensor: FlexTensor) -> FlexTensor;
        fn float_atan(tensor: FlexTensor) -> FlexTensor;
        fn float_atanh(tensor: FlexTensor) -> FlexTensor;
        fn float_round(tensor: FlexTensor) -> FlexTensor;
        fn float_floor(tensor: FlexTensor) -> FlexTensor;
        fn float_ceil(tensor: FlexTensor) -> FlexTensor;
        fn float_trunc(tensor: FlexTensor) -> FlexTensor;
        fn float_erf(tensor: FlexTensor) -> FlexTensor;
        fn float_powi_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn float_powf_scalar(tensor: FlexTensor, value: Scalar) -> FlexTensor;
    }

    hand_on_along_both! {
        FloatTensorOps:
        fn float_remainder(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn float_powf(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn float_atan2(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
    }
}

impl IntTensorOps<Self> for Cpu {
    hand_on! {
        IntTensorOps:
        fn int_from_data(data: TensorData, device: &FlexDevice) -> FlexTensor;
        fn int_device(tensor: &FlexTensor) -> FlexDevice;
        fn int_to_device(tensor: FlexTensor, device: &FlexDevice) -> FlexTensor;
        fn int_cat(tensors: Vec<FlexTensor>, dim: usize) -> FlexTensor;
        fn int_reshape(tensor: FlexTensor, shape: Shape) -> FlexTensor;
        fn int_slice(tensor: FlexTensor, slices: &[Slice]) -> FlexTensor;
        fn int_empty(shape: Shape, device: &FlexDevice, dtype: IntDType) -> FlexTensor;
        fn int_mask_where(tensor: FlexTensor, mask: FlexTensor, value: FlexTensor) -> FlexTensor;
        fn int_mask_fill(tensor: FlexTensor, mask: FlexTensor, value: Scalar) -> FlexTensor;
        fn int_slice_assign(tensor: FlexTensor, slices: &[Slice], value: FlexTensor) -> FlexTensor;
        fn int_gather(dim: usize, tensor: FlexTensor, indices: FlexTensor) -> FlexTensor;
        fn int_scatter_add(dim: usize, tensor: FlexTensor, indices: FlexTensor, value: FlexTensor) -> FlexTensor;
        fn int_scatter_nd(
            data: FlexTensor,
            indices: FlexTensor,
            values: FlexTensor,
            reduction: IndexingUpdateOp
        ) -> FlexTensor;
        fn int_gather_nd(data: FlexTensor, indices: FlexTensor) -> FlexTensor;
        fn int_select(tensor: FlexTensor, dim: usize, indices: FlexTensor) -> FlexTensor;
        fn int_select_add(tensor: FlexTensor, dim: usize, indices: FlexTensor, value: FlexTensor) -> FlexTensor;
        fn int_equal(lhs: FlexTensor, rhs: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn int_equal_elem(lhs: FlexTensor, rhs: Scalar, out_dtype: BoolDType) -> FlexTensor;
        fn int_greater(lhs: FlexTensor, rhs: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn int_greater_elem(lhs: FlexTensor, rhs: Scalar, out_dtype: BoolDType) -> FlexTensor;
        fn int_greater_equal(lhs: FlexTensor, rhs: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn int_greater_equal_elem(lhs: FlexTensor, rhs: Scalar, out_dtype: BoolDType) -> FlexTensor;
        fn int_lower(lhs: FlexTensor, rhs: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn int_lower_elem(lhs: FlexTensor, rhs: Scalar, out_dtype: BoolDType) -> FlexTensor;
        fn int_lower_equal(lhs: FlexTensor, rhs: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn int_lower_equal_elem(lhs: FlexTensor, rhs: Scalar, out_dtype: BoolDType) -> FlexTensor;
        fn int_add(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn int_add_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn int_sub(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn int_sub_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn int_mul(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn int_mul_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn int_div(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn int_div_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn int_remainder(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn int_remainder_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn int_into_float(tensor: FlexTensor, out_dtype: FloatDType) -> FlexTensor;
        fn int_swap_dims(tensor: FlexTensor, dim1: usize, dim2: usize) -> FlexTensor;
        fn int_permute(tensor: FlexTensor, axes: &[usize]) -> FlexTensor;
        fn int_flip(tensor: FlexTensor, axes: &[usize]) -> FlexTensor;
        fn int_random(shape: Shape, distribution: Distribution, device: &FlexDevice, dtype: IntDType) -> FlexTensor;
        fn int_expand(tensor: FlexTensor, shape: Shape) -> FlexTensor;
        fn int_matmul(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn int_sum(tensor: FlexTensor) -> FlexTensor;
        fn int_sum_dim(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn int_prod(tensor: FlexTensor) -> FlexTensor;
        fn int_prod_dim(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn int_mean_dim(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn int_cumsum(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn int_cumprod(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn int_cummin(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn int_cummax(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn int_argmax(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn int_argtopk(tensor: FlexTensor, dim: usize, k: usize) -> FlexTensor;
        fn int_argmin(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn int_abs(tensor: FlexTensor) -> FlexTensor;
        fn bitwise_and(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn bitwise_and_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn bitwise_or(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn bitwise_or_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn bitwise_xor(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn bitwise_xor_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn bitwise_not(tensor: FlexTensor) -> FlexTensor;
        fn bitwise_left_shift(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn bitwise_left_shift_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn bitwise_right_shift(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn bitwise_right_shift_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn int_cast(tensor: FlexTensor, dtype: IntDType) -> FlexTensor;
        fn int_unfold(tensor: FlexTensor, dim: usize, size: usize, step: usize) -> FlexTensor;
        fn int_neg(tensor: FlexTensor) -> FlexTensor;
        fn int_clamp(tensor: FlexTensor, min: Scalar, max: Scalar) -> FlexTensor;
        fn int_clamp_min(tensor: FlexTensor, min: Scalar) -> FlexTensor;
        fn int_clamp_max(tensor: FlexTensor, max: Scalar) -> FlexTensor;
        fn int_sign(tensor: FlexTensor) -> FlexTensor;
        fn int_mean(tensor: FlexTensor) -> FlexTensor;
        fn int_max(tensor: FlexTensor) -> FlexTensor;
        fn int_max_dim(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn int_min(tensor: FlexTensor) -> FlexTensor;
        fn int_min_dim(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn int_max_dim_with_indices(tensor: FlexTensor, dim: usize) -> (FlexTensor, FlexTensor);
        fn int_min_dim_with_indices(tensor: FlexTensor, dim: usize) -> (FlexTensor, FlexTensor);
        fn int_any(tensor: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn int_any_dim(tensor: FlexTensor, dim: usize, out_dtype: BoolDType) -> FlexTensor;
        fn int_all(tensor: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn int_all_dim(tensor: FlexTensor, dim: usize, out_dtype: BoolDType) -> FlexTensor;
        fn int_powi(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn int_zeros(shape: Shape, device: &FlexDevice, dtype: IntDType) -> FlexTensor;
        fn int_ones(shape: Shape, device: &FlexDevice, dtype: IntDType) -> FlexTensor;
        fn int_full(shape: Shape, fill_value: Scalar, device: &FlexDevice, dtype: IntDType) -> FlexTensor;
        fn int_transpose(tensor: FlexTensor) -> FlexTensor;
        fn int_repeat_dim(tensor: FlexTensor, dim: usize, times: usize) -> FlexTensor;
        fn int_not_equal(lhs: FlexTensor, rhs: FlexTensor, out_dtype: BoolDType) -> FlexTensor;
        fn int_not_equal_elem(lhs: FlexTensor, rhs: Scalar, out_dtype: BoolDType) -> FlexTensor;
        fn int_sort(tensor: FlexTensor, dim: usize, descending: bool) -> FlexTensor;
        fn int_sort_with_indices(tensor: FlexTensor, dim: usize, descending: bool) -> (FlexTensor, FlexTensor);
        fn int_argsort(tensor: FlexTensor, dim: usize, descending: bool) -> FlexTensor;
        fn int_powi_scalar(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn int_powi_scalar_impl(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn int_max_abs(tensor: FlexTensor) -> FlexTensor;
        fn int_max_abs_dim(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn int_arange(range: Range<i64>, device: &FlexDevice, dtype: IntDType) -> FlexTensor;
        fn int_arange_step(range: Range<i64>, step: usize, device: &FlexDevice, dtype: IntDType) -> FlexTensor;
    }

    hand_on_async! {
        IntTensorOps:
        fn int_into_data(tensor: FlexTensor) -> Result<TensorData, ExecutionError>;
    }
}

impl BoolTensorOps<Self> for Cpu {
    hand_on! {
        BoolTensorOps:
        fn bool_from_data(data: TensorData, device: &FlexDevice) -> FlexTensor;
        fn bool_device(tensor: &FlexTensor) -> FlexDevice;
        fn bool_to_device(tensor: FlexTensor, device: &FlexDevice) -> FlexTensor;
        fn bool_cat(tensors: Vec<FlexTensor>, dim: usize) -> FlexTensor;
        fn bool_reshape(tensor: FlexTensor, shape: Shape) -> FlexTensor;
        fn bool_slice(tensor: FlexTensor, slices: &[Slice]) -> FlexTensor;
        fn bool_empty(shape: Shape, device: &FlexDevice, dtype: BoolDType) -> FlexTensor;
        fn bool_slice_assign(tensor: FlexTensor, slices: &[Slice], value: FlexTensor) -> FlexTensor;
        fn bool_into_int(tensor: FlexTensor, out_dtype: IntDType) -> FlexTensor;
        fn bool_into_float(tensor: FlexTensor, out_dtype: FloatDType) -> FlexTensor;
        fn bool_swap_dims(tensor: FlexTensor, dim1: usize, dim2: usize) -> FlexTensor;
        fn bool_permute(tensor: FlexTensor, axes: &[usize]) -> FlexTensor;
        fn bool_flip(tensor: FlexTensor, axes: &[usize]) -> FlexTensor;
        fn bool_equal(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn bool_not(tensor: FlexTensor) -> FlexTensor;
        fn bool_and(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn bool_or(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn bool_xor(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn bool_expand(tensor: FlexTensor, shape: Shape) -> FlexTensor;
        fn bool_zeros(shape: Shape, device: &FlexDevice, dtype: BoolDType) -> FlexTensor;
        fn bool_ones(shape: Shape, device: &FlexDevice, dtype: BoolDType) -> FlexTensor;
        fn bool_mask_where(tensor: FlexTensor, mask: FlexTensor, value: FlexTensor) -> FlexTensor;
        fn bool_mask_fill(tensor: FlexTensor, mask: FlexTensor, value: Scalar) -> FlexTensor;
        fn bool_gather(dim: usize, tensor: FlexTensor, indices: FlexTensor) -> FlexTensor;
        fn bool_scatter_or(dim: usize, tensor: FlexTensor, indices: FlexTensor, value: FlexTensor) -> FlexTensor;
        fn bool_equal_elem(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn bool_unfold(tensor: FlexTensor, dim: usize, size: usize, step: usize) -> FlexTensor;
        fn bool_not_equal(lhs: FlexTensor, rhs: FlexTensor) -> FlexTensor;
        fn bool_not_equal_elem(lhs: FlexTensor, rhs: Scalar) -> FlexTensor;
        fn bool_any(tensor: FlexTensor) -> FlexTensor;
        fn bool_any_dim(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn bool_all(tensor: FlexTensor) -> FlexTensor;
        fn bool_all_dim(tensor: FlexTensor, dim: usize) -> FlexTensor;
        fn bool_select(tensor: FlexTensor, dim: usize, indices: FlexTensor) -> FlexTensor;
        fn bool_select_or(tensor: FlexTensor, dim: usize, indices: FlexTensor, value: FlexTensor) -> FlexTensor;
        fn bool_transpose(tensor: FlexTensor) -> FlexTensor;
        fn bool_repeat_dim(tensor: FlexTensor, dim: usize, times: usize) -> FlexTensor;
    }

    hand_on_async! {
        BoolTensorOps:
        fn bool_into_data(tensor: FlexTensor) -> Result<TensorData, ExecutionError>;
        fn bool_argwhere(tensor: FlexTensor, out_dtype: IntDType) -> FlexTensor;
    }
}

impl QTensorOps<Self> for Cpu {
    fn quantize(
        tensor: FlexTensor,
        scheme: &QuantScheme,
        parameters: QuantizationParametersPrimitive<Self>,
    ) -> FlexQTensor {
        Flex::quantize(tensor, scheme, QuantizationParametersPrimitive { scales: parameters.scales })
    }

    hand_on! {
        QTensorOps:
        fn q_from_data(data: TensorData, device: &FlexDevice) -> FlexQTensor;
        fn quantize_dynamic(tensor: FlexTensor, scheme: &QuantScheme) -> FlexQTensor;
        fn dequantize(tensor: FlexQTensor, dtype: FloatDType) -> FlexTensor;
        fn q_device(tensor: &FlexQTensor) -> FlexDevice;
        fn q_to_device(tensor: FlexQTensor, device: &FlexDevice) -> FlexQTensor;
        fn q_reshape(tensor: FlexQTensor, shape: Shape) -> FlexQTensor;
        fn q_swap_dims(tensor: FlexQTensor, dim1: usize, dim2: usize) -> FlexQTensor;
        fn q_permute(tensor: FlexQTensor, axes: &[usize]) -> FlexQTensor;
        fn q_flip(tensor: FlexQTensor, axes: &[usize]) -> FlexQTensor;
        fn q_expand(tensor: FlexQTensor, shape: Shape) -> FlexQTensor;
        fn q_select(tensor: FlexQTensor, dim: usize, indices: FlexTensor) -> FlexQTensor;
        fn q_slice(tensor: FlexQTensor, slices: &[Slice]) -> FlexQTensor;
        fn q_argmax(tensor: FlexQTensor, dim: usize, out_dtype: IntDType) -> FlexTensor;
        fn q_argmin(tensor: FlexQTensor, dim: usize, out_dtype: IntDType) -> FlexTensor;
        fn q_gather(dim: usize, tensor: FlexQTensor, indices: FlexTensor) -> FlexQTensor;
    }

    hand_on_async! {
        QTensorOps:
        fn q_into_data(tensor: FlexQTensor) -> Result<TensorData, ExecutionError>;
    }
}

impl ActivationOps<Self> for Cpu {
    fn relu(tensor: FlexTensor) -> FlexTensor {
        super::activation::relu(tensor)
    }

    fn relu_backward(output: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        super::activation::relu_gradient(output, gradient)
    }

    hand_on! {
        ActivationOps:
        fn prelu(tensor: FlexTensor, alpha: FlexTensor) -> FlexTensor;
        fn softmax(tensor: FlexTensor, dim: usize) -> FlexTensor;
    }

    hand_on_along_memory! {
        ActivationOps:
        fn leaky_relu(tensor: FlexTensor, negative_slope: Scalar) -> FlexTensor;
        fn gelu(tensor: FlexTensor) -> FlexTensor;
        fn sigmoid(tensor: FlexTensor) -> FlexTensor;
        fn hard_sigmoid(tensor: FlexTensor, alpha: Scalar, beta: Scalar) -> FlexTensor;
        fn log_sigmoid(tensor: FlexTensor) -> FlexTensor;
    }

    hand_on_along_both! {
        ActivationOps:
        fn gelu_backward(x: FlexTensor, grad: FlexTensor) -> FlexTensor;
        fn sigmoid_backward(output: FlexTensor, grad: FlexTensor) -> FlexTensor;
        fn log_sigmoid_backward(x: FlexTensor, grad: FlexTensor) -> FlexTensor;
    }
}

impl TransactionOps<Self> for Cpu {}
