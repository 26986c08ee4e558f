//! Convolutions on Peerfold's backend give what they give on burn's flex backend.

use super::alike::{DEVICE, Lies, Ours, Plain, Results, assert_results_alike, tensor};
use burn::{
    backend::{Flex, flex::FlexDevice},
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
        module::{conv_transpose2d, conv1d, conv2d},
        ops::{ConvOptions, ConvTransposeOptions},
    },
};
use peerfold::train::Cpu;

/// The result, and the gradients of images, weights and bias.
fn results<B: AutodiffBackend<Device = FlexDevice>, const D: usize>(
    x: Tensor<B::InnerBackend, D>,
    weight: [usize; D],
    channels_out: usize,
    call: impl Fn(Tensor<B, D>, Tensor<B, D>, Option<Tensor<B, 1>>) -> Tensor<B, D>,
) -> Results {
    let x = Tensor::<B, D>::from_inner(x).require_grad();
    let weight = tensor::<B, D>(weight, 2).require_grad();
    let bias = tensor::<B, 1>([channels_out], 3).require_grad();
    let without = call(x.clone(), weight.clone(), None).into_data();
    let y = call(x.clone(), weight.clone(), Some(bias.clone()));
    let projection = tensor(y.dims(), 4);
    let gradients = (y.clone() * projection).sum().backward();
    vec![
        ("result without bias".to_owned(), without),
        ("result".to_owned(), y.into_data()),
        ("gradient of the images".to_owned(), x.grad(&gradients).unwrap().into_data()),
        ("gradient of the weights".to_owned(), weight.grad(&gradients).unwrap().into_data()),
        ("gradient of the bias".to_owned(), bias.grad(&gradients).unwrap().into_data()),
    ]
}

fn conv<B: AutodiffBackend<Device = FlexDevice>>(
    x: Tensor<B::InnerBackend, 4>,
    weight: [usize; 4],
    options: &ConvOptions<2>,
) -> Results {
    results::<B, 4>(x, weight, weight[0], |x, weight, bias| conv2d(x, weight, bias, options.clone()))
}

#[test]
fn convolutions_of_images_are_flexs() {
    for (shape, weight, options) in [
        ([3, 5, 8, 7], [6, 5, 3, 3], ConvOptions::new([1, 1], [1, 1], [1, 1], 1)),
        ([1, 3, 9, 6], [7, 3, 2, 3], ConvOptions::new([2, 1], [0, 2], [1, 2], 1)),
        ([2, 6, 7, 7], [9, 2, 3, 2], ConvOptions::new([1, 2], [3, 1], [2, 1], 3)),
        ([2, 7, 6, 5], [7, 1, 3, 3], ConvOptions::new([1, 1], [1, 1], [1, 1], 7)),
        ([2, 3, 6, 5], [6, 1, 3, 2], ConvOptions::new([2, 2], [1, 1], [1, 1], 3)),
        ([2, 1, 9, 9], [3, 1, 5, 5], ConvOptions::new([1, 1], [2, 2], [1, 1], 1)),
        ([4, 6, 5, 3], [11, 6, 1, 1], ConvOptions::new([1, 1], [0, 0], [1, 1], 1)),
        ([4, 6, 5, 3], [1, 6, 1, 1], ConvOptions::new([2, 2], [0, 0], [1, 1], 1)),
        ([2, 3, 4, 5], [4, 3, 4, 5], ConvOptions::new([1, 1], [0, 0], [1, 1], 1)),
        ([2, 3, 1, 1], [4, 3, 3, 3], ConvOptions::new([1, 1], [1, 1], [1, 1], 1)),
    ] {
        for lies in Lies::ALL {
            let plain =
                conv::<Plain>(Tensor::from_data(lies.tensor::<Flex>(shape, 1).into_data(), &DEVICE), weight, &options);
            let ours = conv::<Ours>(lies.tensor(shape, 1), weight, &options);
            assert_results_alike(&ours, &plain, &format!("{shape:?} with {weight:?}, {options:?}, {lies:?}"));
        }
    }
}

fn conv_in_one<B: AutodiffBackend<Device = FlexDevice>>(
    x: Tensor<B::InnerBackend, 3>,
    weight: [usize; 3],
    options: &ConvOptions<1>,
) -> Results {
    results::<B, 3>(x, weight, weight[0], |x, weight, bias| conv1d(x, weight, bias, options.clone()))
}

#[test]
fn convolutions_of_signals_are_flexs() {
    for (shape, weight, options) in [
        ([3, 5, 11], [4, 5, 3], ConvOptions::new([1], [1], [1], 1)),
        ([1, 4, 12], [6, 2, 4], ConvOptions::new([3], [2], [2], 2)),
        ([2, 5, 9], [5, 1, 3], ConvOptions::new([1], [4], [1], 5)),
        ([2, 1, 9], [3, 1, 1], ConvOptions::new([2], [0], [1], 1)),
        ([2, 3, 5], [3, 3, 5], ConvOptions::new([1], [0], [1], 1)),
    ] {
        let [n, c, l] = shape;
        let plain = conv_in_one::<Plain>(tensor(shape, 1), weight, &options);
        let ours = conv_in_one::<Ours>(tensor(shape, 1), weight, &options);
        assert_results_alike(&ours, &plain, &format!("{shape:?} with {weight:?}, {options:?}"));
        // [batch, length, channels], a part of a larger one, and backwards.
        let views = [
            tensor::<Cpu, 3>([n, l, c], 5).swap_dims(1, 2),
            tensor::<Cpu, 3>([n + 1, c, l + 3], 6).slice([1..n + 1, 0..c, 2..l + 2]),
            tensor::<Cpu, 3>(shape, 7).flip([2]),
            tensor::<Cpu, 3>([1, c, 1], 8).expand(shape),
        ];
        for (number, view) in views.into_iter().enumerate() {
            let plain = conv_in_one::<Plain>(Tensor::from_data(view.clone().into_data(), &DEVICE), weight, &options);
            let ours = conv_in_one::<Ours>(view, weight, &options);
            assert_results_alike(&ours, &plain, &format!("{shape:?} with {weight:?}, {options:?}, view {number}"));
        }
    }
}

fn transposed<B: AutodiffBackend<Device = FlexDevice>>(
    x: Tensor<B::InnerBackend, 4>,
    weight: [usize; 4],
    options: &ConvTransposeOptions<2>,
) -> Results {
    let call = |x, weight, bias| conv_transpose2d(x, weight, bias, options.clone());
    results::<B, 4>(x, weight, weight[1] * options.groups, call)
}

#[test]
fn transposed_convolutions_are_flexs() {
    for (shape, weight, options) in [
        ([2, 5, 4, 3], [5, 4, 3, 3], ConvTransposeOptions::new([1, 1], [1, 1], [0, 0], [1, 1], 1)),
        ([2, 6, 4, 5], [6, 2, 2, 3], ConvTransposeOptions::new([2, 3], [0, 1], [1, 0], [1, 1], 3)),
        ([1, 3, 3, 3], [3, 1, 3, 3], ConvTransposeOptions::new([2, 2], [1, 1], [1, 1], [1, 2], 3)),
        ([3, 4, 5, 4], [4, 7, 1, 1], ConvTransposeOptions::new([1, 1], [0, 0], [0, 0], [1, 1], 1)),
        ([3, 4, 5, 4], [4, 7, 1, 1], ConvTransposeOptions::new([3, 2], [0, 0], [2, 1], [1, 1], 1)),
        // Padding beyond the result that no convolution would leave out.
        ([2, 3, 4, 4], [3, 2, 3, 3], ConvTransposeOptions::new([1, 1], [1, 1], [1, 2], [1, 1], 1)),
        ([2, 1, 3, 4], [1, 5, 2, 2], ConvTransposeOptions::new([2, 2], [0, 0], [0, 0], [1, 1], 1)),
    ] {
        for lies in Lies::ALL {
            let plain = Tensor::from_data(lies.tensor::<Flex>(shape, 1).into_data(), &DEVICE);
            let plain = transposed::<Plain>(plain, weight, &options);
            let ours = transposed::<Ours>(lies.tensor(shape, 1), weight, &options);
            assert_results_alike(&ours, &plain, &format!("{shape:?} with {weight:?}, {options:?}, {lies:?}"));
        }
    }
}

/// Weights, bias and the incoming gradient lie in other orders too.
#[test]
fn weights_of_a_convolution_may_lie_as_they_like() {
    fn results<B: AutodiffBackend<Device = FlexDevice>>(row_major: bool) -> Results {
        let settle = |tensor: Tensor<B::InnerBackend, 4>| match row_major {
            true => Tensor::from_data(tensor.into_data(), &DEVICE),
            false => tensor,
        };
        type Inner<B> = <B as AutodiffBackend>::InnerBackend;
        let x = settle(Lies::WithinChannelsLast.tensor::<Inner<B>>([2, 5, 6, 7], 1));
        let weight = settle(tensor::<Inner<B>, 4>([3, 3, 5, 4], 2).permute([3, 2, 1, 0]).flip([0]));
        let bias = tensor::<Inner<B>, 1>([1], 3).expand([4]);
        let bias = if row_major { Tensor::from_data(bias.into_data(), &DEVICE) } else { bias };
        let [x, weight] = [x, weight].map(|tensor| Tensor::<B, 4>::from_inner(tensor).require_grad());
        let bias = Tensor::<B, 1>::from_inner(bias).require_grad();
        let y = || conv2d(x.clone(), weight.clone(), Some(bias.clone()), ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
        // The gradient that comes back is one value, repeated; then a flipped and swapped one.
        let projection =
            Tensor::<B, 4>::from_inner(settle(tensor::<Inner<B>, 4>([2, 4, 7, 6], 4).flip([1, 3]).swap_dims(2, 3)));
        let of_sum = y().sum().backward();
        let of_projection = (y() * projection).sum().backward();
        let mut results = vec![("result".to_owned(), y().into_data())];
        for gradients in [of_sum, of_projection] {
            results.push(("x".to_owned(), x.grad(&gradients).unwrap().into_data()));
            results.push(("weight".to_owned(), weight.grad(&gradients).unwrap().into_data()));
            results.push(("bias".to_owned(), bias.grad(&gradients).unwrap().into_data()));
        }
        results
    }
    assert_results_alike(&results::<Ours>(false), &results::<Plain>(true), "strided weights");
}

#[test]
fn the_result_of_a_convolution_has_the_shape_of_every_backend() {
    fn dims<B: Backend<Device = FlexDevice>>() -> [usize; 4] {
        let x = tensor::<B, 4>([2, 3, 8, 9], 1);
        conv2d(x, tensor([4, 3, 3, 2], 2), None, ConvOptions::new([1, 2], [0, 1], [1, 1], 1)).dims()
    }
    assert_eq!(dims::<Cpu>(), [2, 4, 6, 5]);
    assert_eq!(dims::<Cpu>(), dims::<Flex>());
}
