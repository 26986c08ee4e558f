//! Types other than `f32` are left to flex.

use super::alike::{DEVICE, assert_equal, tensor};
use burn::{
    backend::{Flex, flex::FlexDevice},
    tensor::{
        DType, ElementConversion, Int, Tensor, TensorData,
        activation::{relu, sigmoid, softmax},
        backend::Backend,
        module::{avg_pool2d, conv_transpose2d, conv1d, conv2d, linear, max_pool2d_with_indices},
        ops::{ConvOptions, ConvTransposeOptions},
    },
};
use peerfold::train::Cpu;

fn of_type<B: Backend<Device = FlexDevice>>(dtype: DType) -> Vec<TensorData> {
    let x = tensor::<B, 4>([2, 6, 7, 3], 1).cast(dtype).permute([0, 3, 1, 2]);
    let weight = tensor::<B, 4>([4, 3, 3, 3], 2).cast(dtype);
    let bias = tensor::<B, 1>([4], 3).cast(dtype);
    let y = conv2d(x.clone(), weight, Some(bias.clone()), ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
    let transposed = ConvTransposeOptions::new([2, 2], [1, 1], [0, 0], [1, 1], 1);
    let transposed = conv_transpose2d(x.clone(), tensor::<B, 4>([3, 2, 3, 3], 4).cast(dtype), None, transposed);
    let signal = tensor::<B, 3>([2, 3, 9], 5).cast(dtype);
    let signal = conv1d(signal, tensor::<B, 3>([2, 3, 3], 6).cast(dtype), None, ConvOptions::new([1], [1], [1], 1));
    let (pooled, places) = max_pool2d_with_indices(y.clone(), [2, 2], [2, 2], [0, 0], [1, 1], true);
    let means = avg_pool2d(relu(y.clone()), [2, 2], [1, 1], [1, 1], false, false);
    let out = linear(y.clone().flatten::<2>(1, 3), tensor::<B, 2>([4 * 42, 5], 7).cast(dtype), None);
    vec![
        y.clone().into_data(),
        transposed.into_data(),
        signal.into_data(),
        pooled.into_data(),
        places.into_data(),
        means.into_data(),
        softmax(sigmoid(out), 1).into_data(),
        y.clone().sum().into_data(),
        (y.clone() * y.clone() + y.clone().mean_dim(1)).into_data(),
        y.permute([3, 1, 0, 2]).exp().into_data(),
    ]
}

#[test]
fn tensors_of_other_floats_are_flexs() {
    for dtype in [DType::F64, DType::F16, DType::BF16] {
        for (place, (ours, plain)) in of_type::<Cpu>(dtype).iter().zip(&of_type::<Flex>(dtype)).enumerate() {
            assert_eq!(ours.dtype, plain.dtype);
            assert_equal(ours, plain, &format!("result {place} of {dtype:?}"));
        }
    }
}

fn whole<B: Backend<Device = FlexDevice>>() -> Vec<TensorData> {
    let x = Tensor::<B, 1, Int>::arange(0..60, &DEVICE).reshape([3, 4, 5]).permute([2, 0, 1]) - 20;
    let y = Tensor::<B, 1, Int>::arange(0..60, &DEVICE).reshape([5, 3, 4]).remainder_scalar(7) + 1;
    let flag = x.clone().greater_elem(0);
    vec![
        (x.clone() + y.clone() * 3 - x.clone() / y.clone()).into_data(),
        x.clone().matmul(y.clone().swap_dims(1, 2)).into_data(),
        x.clone().bitwise_and(y.clone()).bitwise_xor_scalar(5.elem()).bitwise_left_shift_scalar(1.elem()).into_data(),
        x.clone().sum_dim(1).into_data(),
        x.clone().argmax(2).into_data(),
        x.clone().sort(1).into_data(),
        x.clone().float().into_data(),
        x.clone().mask_where(flag.clone(), y.clone()).into_data(),
        x.clone().mask_fill(flag.clone().bool_not(), 9).into_data(),
        flag.clone().bool_and(y.clone().greater_elem(3)).float().into_data(),
        flag.clone().any_dim(1).into_data(),
        flag.int().sum().into_data(),
        Tensor::cat(vec![x.clone(), y], 1).flip([1]).into_data(),
        x.expand([2, 5, 3, 4]).repeat_dim(0, 2).into_data(),
    ]
}

#[test]
fn whole_numbers_and_truths_are_flexs() {
    for (place, (ours, plain)) in whole::<Cpu>().iter().zip(&whole::<Flex>()).enumerate() {
        assert_eq!(ours.dtype, plain.dtype);
        assert_equal(ours, plain, &format!("result {place}"));
    }
}

#[test]
fn what_has_no_gradient_is_flexs() {
    fn results<B: Backend<Device = FlexDevice>>() -> Vec<TensorData> {
        let x = tensor::<B, 4>([2, 4, 5, 7], 1).permute([0, 3, 1, 2]);
        let (top, places) = x.clone().topk_with_indices(2, 1);
        vec![
            x.clone().topk(3, 3).into_data(),
            x.clone().topk(2, 1).into_data(),
            top.into_data(),
            places.into_data(),
            x.clone().median(1).into_data(),
            x.clone().cummin(1).into_data(),
            x.clone().contains_nan().into_data(),
            x.clone().max_abs_dim(1).into_data(),
            x.clone().tril(0).into_data(),
            x.clone().slice_fill([0..1, 2..4], 3.0).into_data(),
            x.clone().is_close(x.clone() + 1e-9, None, None).into_data(),
            x.sort_with_indices(1).1.into_data(),
        ]
    }
    for (place, (ours, plain)) in results::<Cpu>().iter().zip(&results::<Flex>()).enumerate() {
        assert_equal(ours, plain, &format!("result {place}"));
    }
}

#[test]
fn random_tensors_follow_from_the_seed_as_flexs_do() {
    fn drawn<B: Backend<Device = FlexDevice>>() -> TensorData {
        B::seed(&DEVICE, 42);
        Tensor::<B, 2>::random([4, 5], burn::tensor::Distribution::Normal(0.0, 1.0), &DEVICE).into_data()
    }
    assert_equal(&drawn::<Cpu>(), &drawn::<Flex>(), "random numbers");
}
