//! Edge cases: tensors without elements, NaN, reused memory.

use super::alike::{DEVICE, Lies, assert_equal, tensor};
use burn::{
    backend::{Autodiff, Flex, flex::FlexDevice},
    tensor::{
        Tensor,
        activation::relu,
        backend::Backend,
        module::{avg_pool2d, conv2d, linear, max_pool2d},
        ops::ConvOptions,
    },
};
use peerfold::train::Cpu;

type Ours = Autodiff<Cpu>;

#[test]
fn the_relu_of_nothing_is_nothing() {
    for shape in [[0, 3, 4, 5], [2, 0, 4, 5], [2, 3, 0, 5], [2, 3, 4, 0], [0, 0, 0, 0]] {
        for lies in [Lies::RowMajor, Lies::ChannelsLast, Lies::Swapped, Lies::Within, Lies::Flipped] {
            let x = Tensor::<Ours, 4>::from_inner(lies.tensor(shape, 1)).require_grad();
            let y = relu(x.clone());
            assert_eq!(y.dims(), shape);
            let gradients = y.sum().backward();
            assert_eq!(x.grad(&gradients).unwrap().dims(), shape);
        }
    }
    assert_eq!(relu(Tensor::<Cpu, 2>::zeros([3, 0], &DEVICE)).dims(), [3, 0]);
    assert_eq!(relu(Tensor::<Cpu, 1>::zeros([0], &DEVICE)).dims(), [0]);
}

#[test]
fn operations_on_nothing_are_flexs() {
    fn dims<B: Backend<Device = FlexDevice>>(shape: [usize; 4]) -> Vec<Vec<usize>> {
        let x = tensor::<B, 4>([shape[0], shape[2], shape[3], shape[1]], 1).permute([0, 3, 1, 2]);
        let y = tensor::<B, 4>(shape, 2);
        [
            x.clone() + y.clone(),
            y.clone() * x.clone(),
            x.clone().exp(),
            x.clone() + 1.0,
            x.clone().permute([1, 0, 3, 2]),
            x.clone().sum().reshape([1, 1, 1, 1]),
            Tensor::cat(vec![x.clone(), y.clone()], 1),
            x.clone().mask_fill(y.greater_elem(0.0), 1.0),
        ]
        .into_iter()
        .map(|tensor| tensor.into_data().shape.to_vec())
        .collect()
    }
    for shape in [[0, 3, 4, 5], [2, 0, 4, 5], [2, 3, 0, 5], [2, 3, 4, 0]] {
        assert_eq!(dims::<Cpu>(shape), dims::<Flex>(shape));
    }
}

#[test]
fn layers_of_no_images_give_no_images() {
    let x = Tensor::<Ours, 4>::from_inner(tensor([0, 3, 6, 7], 1)).require_grad();
    let weight = tensor::<Ours, 4>([4, 3, 3, 3], 2).require_grad();
    let bias = tensor::<Ours, 1>([4], 3).require_grad();
    let y = conv2d(x.clone(), weight.clone(), Some(bias.clone()), ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
    assert_eq!(y.dims(), [0, 4, 6, 7]);
    let pooled = max_pool2d(relu(y), [2, 2], [2, 2], [0, 0], [1, 1], false);
    assert_eq!(pooled.dims(), [0, 4, 3, 3]);
    let means = avg_pool2d(pooled, [3, 3], [1, 1], [1, 1], true, false);
    assert_eq!(means.dims(), [0, 4, 3, 3]);
    let out = linear(means.flatten::<2>(1, 3), tensor([36, 5], 4), Some(tensor([5], 5)));
    assert_eq!(out.dims(), [0, 5]);
    let gradients = out.sum().backward();
    assert_eq!(x.grad(&gradients).unwrap().dims(), [0, 3, 6, 7]);
    assert!(weight.grad(&gradients).unwrap().into_data().iter::<f32>().all(|value| value == 0.0));
    assert_eq!(bias.grad(&gradients).unwrap().into_data().iter::<f32>().collect::<Vec<_>>(), [0.0; 4]);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    fn refused<B: Backend<Device = FlexDevice>>(call: fn() -> Tensor<B, 4>) -> bool {
        std::panic::catch_unwind(move || call().into_data()).is_err()
    }
    fn calls<B: Backend<Device = FlexDevice>>() -> Vec<fn() -> Tensor<B, 4>> {
        vec![
            // Channels, bias, groups, kernels beyond the images.
            || {
                conv2d(
                    tensor([2, 4, 5, 5], 1),
                    tensor([3, 3, 3, 3], 2),
                    None,
                    ConvOptions::new([1, 1], [1, 1], [1, 1], 1),
                )
            },
            || {
                conv2d(
                    tensor([2, 2, 5, 5], 1),
                    tensor([3, 2, 3, 3], 2),
                    Some(tensor([4], 3)),
                    ConvOptions::new([1, 1], [1, 1], [1, 1], 1),
                )
            },
            || {
                conv2d(
                    tensor([2, 2, 5, 5], 1),
                    tensor([3, 2, 3, 3], 2),
                    Some(tensor([2], 3)),
                    ConvOptions::new([1, 1], [1, 1], [1, 1], 1),
                )
            },
            || {
                conv2d(
                    tensor([2, 4, 5, 5], 1),
                    tensor([5, 2, 3, 3], 2),
                    None,
                    ConvOptions::new([1, 1], [1, 1], [1, 1], 2),
                )
            },
            || max_pool2d(tensor([2, 4, 5, 5], 1), [0, 2], [1, 1], [0, 0], [1, 1], false),
            || max_pool2d(tensor([2, 4, 5, 5], 1), [2, 2], [0, 1], [0, 0], [1, 1], false),
        ]
    }
    let taken = |refused: Vec<bool>| (0..refused.len()).filter(|&place| !refused[place]).collect::<Vec<_>>();
    assert_eq!(taken(calls::<Cpu>().into_iter().map(refused).collect()), [0; 0], "the calls that are taken");
    // Flex doesn't ask whether the groups have equally many channels.
    assert_eq!(taken(calls::<Flex>().into_iter().map(refused).collect()), [3]);
}

#[test]
fn images_without_channels_give_the_bias() {
    let x = Tensor::<Ours, 4>::from_inner(tensor([2, 0, 4, 4], 1)).require_grad();
    let weight = tensor::<Ours, 4>([3, 0, 3, 3], 2).require_grad();
    let y = conv2d(x.clone(), weight.clone(), Some(tensor([3], 3)), ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
    assert_eq!(y.dims(), [2, 3, 4, 4]);
    let bias = super::alike::values(3, 3);
    let of_channels = y.clone().into_data().to_vec::<f32>().unwrap();
    assert!(of_channels.iter().enumerate().all(|(place, value)| *value == bias[place / 16 % 3]));
    let gradients = y.sum().backward();
    assert_eq!(x.grad(&gradients).unwrap().dims(), [2, 0, 4, 4]);
    assert_eq!(weight.grad(&gradients).unwrap().dims(), [3, 0, 3, 3]);
}

#[test]
fn linear_layers_without_inputs_outputs_or_rows_have_gradients() {
    for [rows, inputs, outputs] in [[0, 3, 4], [2, 0, 4], [2, 3, 0], [0, 0, 4], [0, 3, 0]] {
        let what = format!("{rows} rows, {inputs} to {outputs}");
        let x = tensor::<Ours, 2>([rows, inputs], 1).require_grad();
        let weight = tensor::<Ours, 2>([inputs, outputs], 2).require_grad();
        let bias = tensor::<Ours, 1>([outputs], 3).require_grad();
        let y = linear(x.clone(), weight.clone(), Some(bias.clone()));
        let values = y.clone().into_data().to_vec::<f32>().unwrap();
        assert_eq!((y.dims(), values.len()), ([rows, outputs], rows * outputs), "{what}");
        let gradients = y.sum().backward();
        for (gradient, dims) in
            [(x.grad(&gradients).unwrap(), [rows, inputs]), (weight.grad(&gradients).unwrap(), [inputs, outputs])]
        {
            assert_eq!(gradient.dims(), dims, "{what}");
            let values = gradient.into_data().to_vec::<f32>().unwrap();
            assert_eq!(values, vec![0.0; dims[0] * dims[1]], "{what}");
        }
        let of_bias = bias.grad(&gradients).unwrap().into_data().to_vec::<f32>().unwrap();
        assert_eq!(of_bias, vec![rows as f32; outputs], "{what}");
    }
}

#[test]
fn relu_keeps_what_is_not_a_number() {
    let values = [f32::NAN, -1.0, 0.0, -0.0, 2.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    for turned in [false, true] {
        let x = Tensor::<Cpu, 1>::from_floats(values, &DEVICE).reshape([2, 4]);
        let x = if turned { x.transpose() } else { x };
        let y = relu(x.clone()).into_data();
        for (x, y) in x.into_data().iter::<f32>().zip(y.iter::<f32>()) {
            assert!(if x.is_nan() { y.is_nan() } else { y == x.max(0.0) }, "{y} for {x}");
        }
    }
}

#[test]
fn memory_that_is_used_again_does_not_show() {
    // Large enough for the pool; not a number is what would be seen.
    let shape = [3, 16, 24, 23];
    let run = |x: Tensor<Cpu, 4>| {
        let y = conv2d(x.clone(), tensor([16, 16, 3, 3], 2), None, ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
        let y = relu(y + x);
        let y = max_pool2d(y, [2, 2], [2, 2], [0, 0], [1, 1], true);
        linear(y.flatten::<2>(1, 3), tensor([16 * 12 * 12, 50], 3), None).into_data()
    };
    let first = run(tensor(shape, 1));
    for _ in 0..3 {
        drop(run(Tensor::full(shape, f32::NAN, &DEVICE)));
        assert_equal(&run(tensor(shape, 1)), &first, "the same step");
    }
}

#[test]
fn data_of_a_tensor_outlives_it() {
    let x = tensor::<Cpu, 4>([2, 16, 24, 23], 1);
    let y = conv2d(x, tensor([16, 16, 1, 1], 2), None, ConvOptions::new([1, 1], [0, 0], [1, 1], 1));
    let row_major = y.clone().reshape([2 * 16 * 24 * 23]).into_data();
    let before = row_major.to_vec::<f32>().unwrap();
    let copy = row_major.clone();
    drop(y);
    for seed in 0..4 {
        drop(conv2d(
            tensor::<Cpu, 4>([2, 16, 24, 23], seed),
            tensor([16, 16, 1, 1], 2),
            None,
            ConvOptions::new([1, 1], [0, 0], [1, 1], 1),
        ));
    }
    assert_eq!(copy.to_vec::<f32>().unwrap(), before);
    assert_eq!(row_major.into_vec::<f32>().unwrap(), before);
}
