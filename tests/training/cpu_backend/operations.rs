//! Every operation of burn on channels-last tensors, and on tensors in other memory orders.

use super::alike::{DEVICE, Lies, Ours, Plain, Results, assert_alike, assert_results_alike, tensor};
use burn::{
    backend::flex::FlexDevice,
    nn::{BatchNormConfig, GroupNormConfig, LayerNormConfig},
    tensor::{
        Bool, DType, IndexingUpdateOp, Int, Tensor, TensorData,
        activation::{
            gelu, hard_sigmoid, leaky_relu, log_sigmoid, log_softmax, mish, prelu, relu, sigmoid, silu, softmax,
            softplus, tanh,
        },
        backend::{AutodiffBackend, Backend},
        module::{
            adaptive_avg_pool2d, avg_pool2d, conv_transpose2d, conv2d, interpolate, linear, max_pool2d, unfold4d,
        },
        ops::{ConvOptions, ConvTransposeOptions, InterpolateMode, InterpolateOptions, UnfoldOptions},
        s,
    },
};
use peerfold::train::Cpu;

/// What an operation gives: its data, and the same in one dimension if it has a gradient.
struct Output<B: Backend> {
    data: TensorData,
    flat: Option<Tensor<B, 1>>,
}

fn float<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Output<B> {
    let len = tensor.shape().num_elements();
    Output { data: tensor.clone().into_data(), flat: Some(tensor.reshape([len])) }
}

fn int<B: Backend, const D: usize>(tensor: Tensor<B, D, Int>) -> Output<B> {
    Output { data: tensor.into_data(), flat: None }
}

fn bool<B: Backend, const D: usize>(tensor: Tensor<B, D, Bool>) -> Output<B> {
    Output { data: tensor.into_data(), flat: None }
}

/// Whole numbers from -3 to 3.
fn whole<B: Backend>(x: Tensor<B, 4>) -> Tensor<B, 4, Int> {
    (x * 3.0).round().int()
}

fn some<B: Backend<Device = FlexDevice>, const D: usize>(shape: [usize; D]) -> Tensor<B, D> {
    tensor(shape, 77)
}

fn indices<B: Backend<Device = FlexDevice>>(places: &[i32]) -> Tensor<B, 1, Int> {
    Tensor::from_ints(places, &DEVICE)
}

type Operation<B> = (&'static str, fn(Tensor<B, 4>, Tensor<B, 4>) -> Output<B>);

fn element_wise<B: Backend<Device = FlexDevice>>() -> Vec<Operation<B>> {
    vec![
        ("itself", |x, _| float(x)),
        ("neg", |x, _| float(-x)),
        ("abs", |x, _| float(x.abs())),
        ("exp", |x, _| float(x.exp())),
        ("log", |x, _| float((x.abs() + 0.5).log())),
        ("log1p", |x, _| float(x.abs().log1p())),
        ("sqrt", |x, _| float((x.abs() + 0.1).sqrt())),
        ("square", |x, _| float(x.square())),
        ("recip", |x, _| float((x + 3.0).recip())),
        ("powf scalar", |x, _| float((x + 2.0).powf_scalar(1.7))),
        ("powi scalar", |x, _| float(x.powi_scalar(3))),
        ("add scalar", |x, _| float(x + 1.5)),
        ("sub scalar", |x, _| float(x - 1.5)),
        ("mul scalar", |x, _| float(x * 1.5)),
        ("div scalar", |x, _| float(x / 1.5)),
        ("remainder scalar", |x, _| float(x.remainder_scalar(0.3))),
        ("clamp", |x, _| float(x.clamp(-0.3, 0.4))),
        ("clamp min", |x, _| float(x.clamp_min(-0.3))),
        ("clamp max", |x, _| float(x.clamp_max(0.3))),
        ("sign", |x, _| float(x.sign())),
        ("sin", |x, _| float(x.sin())),
        ("cos", |x, _| float(x.cos())),
        ("tan", |x, _| float(x.tan())),
        ("sinh", |x, _| float(x.sinh())),
        ("cosh", |x, _| float(x.cosh())),
        ("tanh", |x, _| float(tanh(x))),
        ("asin", |x, _| float((x * 0.9).asin())),
        ("acos", |x, _| float((x * 0.9).acos())),
        ("atan", |x, _| float(x.atan())),
        ("asinh", |x, _| float(x.asinh())),
        ("acosh", |x, _| float((x + 2.5).acosh())),
        ("atanh", |x, _| float((x * 0.9).atanh())),
        ("erf", |x, _| float(x.erf())),
        ("round", |x, _| float((x * 5.0).round())),
        ("floor", |x, _| float((x * 5.0).floor())),
        ("ceil", |x, _| float((x * 5.0).ceil())),
        ("relu", |x, _| float(relu(x))),
        ("leaky relu", |x, _| float(leaky_relu(x, 0.1))),
        ("prelu", |x, _| {
            let channels = x.dims()[1];
            float(prelu(x, some([channels])))
        }),
        ("gelu", |x, _| float(gelu(x))),
        ("sigmoid", |x, _| float(sigmoid(x))),
        ("hard sigmoid", |x, _| float(hard_sigmoid(x, 0.2, 0.5))),
        ("log sigmoid", |x, _| float(log_sigmoid(x))),
        ("softplus", |x, _| float(softplus(x, 1.5))),
        ("silu", |x, _| float(silu(x))),
        ("mish", |x, _| float(mish(x))),
        ("relu of more", |x, _| float(relu(relu(x * 2.0 - 0.3) + 0.1))),
        ("is nan", |x, _| bool((x - 0.4).log().is_nan())),
        ("is inf", |x, _| bool((x.sign().clamp_min(0.0)).log().is_inf())),
        ("int", |x, _| int((x * 9.0).int())),
        ("cast", |x, _| float(x.cast(DType::F64).cast(DType::F32))),
        ("bool", |x, _| bool((x * 2.0).round().bool())),
        ("in place", |x, _| {
            // Nobody else has the tensor: the operations may write over it.
            let fresh = x.exp();
            float(fresh.neg().abs().recip() + 1.0)
        }),
    ]
}

fn of_two<B: Backend<Device = FlexDevice>>() -> Vec<Operation<B>> {
    vec![
        ("add", |x, y| float(x + y)),
        ("sub", |x, y| float(x - y)),
        ("mul", |x, y| float(x * y)),
        ("div", |x, y| float(x / (y + 3.0))),
        ("sub turned around", |x, y| float(y - x)),
        ("div turned around", |x, y| float(y / (x + 3.0))),
        ("remainder", |x, y| float(x.detach().remainder(y + 2.0))),
        ("powf", |x, y| float((x + 2.0).powf(y))),
        ("atan2", |x, y| float(x.detach().atan2(y))),
        ("max pair", |x, y| float(x.max_pair(y))),
        ("min pair", |x, y| float(x.min_pair(y))),
        ("add in place", |x, y| float((x.exp() + y.clone()) * y)),
        ("add to itself", |x, _| float(x.clone() + x)),
        ("with a channel's value", |x, y| {
            let y = y.mean_dims(&[0, 2, 3]);
            float((x.clone() - y.clone()) * (y.clone() + 1.0) + (y - x))
        }),
        ("with an image's value", |x, y| {
            let y = y.mean_dims(&[1, 2, 3]);
            float((x.clone() - y.clone()) * (y.clone() + 1.0) + (y - x))
        }),
        ("with a column's value", |x, y| {
            let y = y.mean_dims(&[0, 1, 2]);
            float((x.clone() - y.clone()) * (y.clone() + 1.0) + (y - x))
        }),
        ("with a pixel's value", |x, y| {
            let y = y.mean_dims(&[0, 1]);
            float((x.clone() - y.clone()) * (y.clone() + 1.0) + (y - x))
        }),
        ("with a sample's value for a channel", |x, y| {
            let y = y.mean_dims(&[2, 3]);
            float((x.clone() - y.clone()) / (y.clone() + 3.0) + (y - x))
        }),
        ("with one value", |x, y| {
            let y = y.mean_dims(&[0, 1, 2, 3]);
            float((x.clone() - y.clone()) * (y.clone() + 1.0) + (y - x))
        }),
        ("with a bias of three dimensions", |x, _| {
            let bias = some([x.dims()[1], 1, 1]).unsqueeze::<4>();
            float(x.clone() + bias.clone() + (bias - x))
        }),
        ("with a part", |x, y| float(x * y.slice(s![.., 0..1, .., ..]))),
        ("with a part the other way", |x, y| float(y.slice(s![0..1, .., .., 0..1]) - x)),
        ("both broadcast", |x, y| float(x.mean_dims(&[1, 3]) * y.mean_dims(&[0, 2]))),
        ("mask where", |x, y| float(x.clone().mask_where(y.clone().greater(x), y * 2.0))),
        ("mask fill", |x, y| float(x.mask_fill(y.greater_elem(0.1), 7.0))),
        ("mask where of a row-major mask", |x, y| {
            let mask = some::<B, 4>(x.dims()).greater_elem(0.0);
            float(x.mask_where(mask, y))
        }),
        ("mask of its own", |x, _| float(x.clone().mask_fill(x.lower_elem(0.0), 0.5))),
        ("greater", |x, y| bool(x.greater(y))),
        ("greater equal", |x, y| bool(whole(x).greater_equal(whole(y)))),
        ("lower", |x, y| bool(x.lower(y))),
        ("lower equal", |x, y| bool((x * 2.0).round().lower_equal((y * 2.0).round()))),
        ("equal", |x, y| bool((x * 2.0).round().equal((y * 2.0).round()))),
        ("not equal", |x, y| bool((x * 2.0).round().not_equal((y * 2.0).round()))),
        ("compared with a channel's value", |x, y| bool(x.greater(y.mean_dims(&[0, 2, 3])))),
        ("greater than a value", |x, _| bool(x.greater_elem(0.2))),
        ("lower or equal to a value", |x, _| bool(x.lower_equal_elem(0.2))),
        ("equal to a value", |x, _| bool((x * 2.0).round().equal_elem(1.0))),
        ("cat", |x, y| {
            let of = |dim| Tensor::cat(vec![x.clone(), y.clone(), x.clone().exp()], dim).sum_dim(dim);
            float(of(0) + of(1) * 2.0 + of(2) * 3.0 + of(3) * 4.0)
        }),
        ("cat over channels", |x, y| float(Tensor::cat(vec![x, y], 1))),
        ("cat over images", |x, y| float(Tensor::cat(vec![x, y], 0))),
        ("cat over columns", |x, y| float(Tensor::cat(vec![y, x], 3))),
        ("stack", |x, y| float(Tensor::stack::<5>(vec![x, y], 2))),
        ("matmul", |x, y| float(x.matmul(y.transpose()))),
        ("matmul of channels", |x, y| float(x.permute([0, 2, 3, 1]).matmul(y.permute([0, 2, 1, 3])))),
        ("slice assign", |x, y| {
            let part = y.slice(s![.., 0..1, .., ..]) * 2.0;
            float(x.slice_assign(s![.., 0..1, .., ..], part))
        }),
        ("integers", |x, y| {
            let (x, y) = (whole(x), whole(y));
            int((x.clone() + y.clone()) * x.clone() - y.clone() * 2
                + x.clone().remainder_scalar(2)
                + (-x).abs().clamp(1, 2)
                - y.sign())
        }),
        ("integers with a channel's", |x, y| int(whole(x) * whole(y).max_dim(1) + whole(some([1, 1, 1, 1])))),
        ("truths", |x, y| {
            let (x, y) = (x.greater_elem(0.0), y.greater_elem(0.1));
            bool(x.clone().bool_and(y.clone()).bool_or(x.clone().bool_not()).bool_xor(y).equal(x))
        }),
        ("truths as numbers", |x, y| float(x.clone().greater(y).float() * x)),
    ]
}

fn along_dimensions<B: Backend<Device = FlexDevice>>() -> Vec<Operation<B>> {
    vec![
        ("sum", |x, _| float(x.sum())),
        ("mean", |x, _| float(x.mean())),
        ("prod", |x, _| float(x.detach().clamp_min(0.5).prod())),
        ("max", |x, _| float(x.max())),
        ("min", |x, _| float(x.min())),
        ("max abs", |x, _| float(x.detach().max_abs())),
        ("sum of squares", |x, _| float((x.clone() * x).sum())),
        ("sum over images", |x, _| float(x.sum_dim(0))),
        ("sum over channels", |x, _| float(x.sum_dim(1))),
        ("sum over rows", |x, _| float(x.sum_dim(2))),
        ("sum over columns", |x, _| float(x.sum_dim(3))),
        ("mean over images", |x, _| float(x.mean_dim(0))),
        ("mean over channels", |x, _| float(x.mean_dim(1))),
        ("mean over rows", |x, _| float(x.mean_dim(2))),
        ("mean over columns", |x, _| float(x.mean_dim(3))),
        ("mean over pixels", |x, _| float(x.mean_dims(&[2, 3]))),
        ("prod over channels", |x, _| float(x.detach().prod_dim(1))),
        ("max over channels", |x, _| float(x.max_dim(1))),
        ("max over columns", |x, _| float(x.max_dim(3))),
        ("min over rows", |x, _| float(x.min_dim(2))),
        ("max over images with places", |x, _| {
            let (values, places) = x.max_dim_with_indices(0);
            float(values + places.float())
        }),
        ("min over channels with places", |x, _| {
            let (values, places) = x.min_dim_with_indices(1);
            float(values + places.float())
        }),
        ("argmax over channels", |x, _| int(x.argmax(1))),
        ("argmax over columns", |x, _| int(x.argmax(3))),
        ("argmin over rows", |x, _| int(x.argmin(2))),
        ("var over channels", |x, _| float(x.detach().var_bias(1))),
        ("var over rows", |x, _| float(x.detach().var_bias(2))),
        ("cumsum over channels", |x, _| float(x.cumsum(1))),
        ("cumsum over rows", |x, _| float(x.cumsum(2))),
        ("cumprod over columns", |x, _| float(x.detach().cumprod(3))),
        ("cummax over channels", |x, _| float(x.detach().cummax(1))),
        ("sort over channels", |x, _| float(x.sort(1))),
        ("sort over columns, falling", |x, _| float(x.sort_descending(3))),
        ("argsort over rows", |x, _| int(x.argsort(2))),
        ("any", |x, _| bool(x.greater_elem(0.9).any())),
        ("any over channels", |x, _| bool(x.greater_elem(0.3).any_dim(1))),
        ("all over columns", |x, _| bool(x.greater_elem(-0.8).all_dim(3))),
        ("softmax over channels", |x, _| float(softmax(x, 1))),
        ("softmax over columns", |x, _| float(softmax(x, 3))),
        ("log softmax over channels", |x, _| float(log_softmax(x, 1))),
        ("integers' sums", |x, _| {
            int(whole(x.clone()).sum_dim(1) + whole(x.clone()).max_dim(1) + whole(x).sum().unsqueeze::<4>())
        }),
        ("integers' places", |x, _| int(whole(x).argmax(1))),
        ("integers sorted", |x, _| int(whole(x).sort(1))),
        ("where it is so", |x, _| int(x.greater_elem(0.2).argwhere())),
    ]
}

fn moving<B: Backend<Device = FlexDevice>>() -> Vec<Operation<B>> {
    vec![
        ("flatten", |x, _| float(x.flatten::<1>(0, 3))),
        ("flatten of images", |x, _| float(x.flatten::<2>(1, 3))),
        ("flatten of pixels", |x, _| float(x.flatten::<3>(2, 3))),
        ("flatten of channels and rows", |x, _| float(x.flatten::<3>(1, 2))),
        ("reshape", |x, _| {
            let [n, c, h, w] = x.dims();
            float(x.reshape([h, n * w, c]))
        }),
        ("permute", |x, _| float(x.permute([3, 0, 2, 1]))),
        ("channels last", |x, _| float(x.permute([0, 2, 3, 1]))),
        ("reshape of channels last", |x, _| float(x.permute([0, 2, 3, 1]).flatten::<2>(0, 2))),
        ("swap dims", |x, _| float(x.swap_dims(1, 3))),
        ("transpose", |x, _| float(x.transpose())),
        ("flip of columns", |x, _| float(x.flip([3]))),
        ("flip of all", |x, _| float(x.flip([0, 1, 2, 3]))),
        ("flip, then relu", |x, _| float(relu(x.flip([1, 2]) + 0.1))),
        ("repeat", |x, _| float(x.repeat(&[2, 1, 3, 2]))),
        ("repeat of channels", |x, _| float(x.repeat_dim(1, 3))),
        ("expand", |x, _| {
            let [n, _, h, w] = x.dims();
            float(x.slice(s![.., 0..1, .., ..]).expand([n, 6, h, w]))
        }),
        ("unsqueeze and expand", |x, _| {
            let [n, c, h, w] = x.dims();
            float(x.unsqueeze_dim::<5>(2).expand([n, c, 3, h, w]) * 2.0)
        }),
        ("squeeze", |x, _| float(x.slice(s![.., 0..1, .., ..]).squeeze_dim::<3>(1))),
        ("slice of images", |x, _| {
            let n = x.dims()[0];
            float(x.slice([n - 1..n]))
        }),
        ("slice of channels", |x, _| {
            let c = x.dims()[1];
            float(x.slice(s![.., c / 2..c, .., ..]))
        }),
        ("slice of pixels", |x, _| {
            let [_, _, h, w] = x.dims();
            float(x.slice(s![.., .., h / 2..h, w / 3..w]))
        }),
        ("slice by steps", |x, _| float(x.slice(s![.., .., ..;2, ..;3]))),
        ("slice backwards", |x, _| float(x.slice(s![.., ..;-1, .., ..;-2]))),
        ("slice, then element-wise", |x, _| {
            let [_, c, h, _] = x.dims();
            let part = x.slice(s![.., 0..c.min(2), h / 2..h, ..]);
            float(relu(part.clone()) + part.clone().exp() * part)
        }),
        ("narrow", |x, _| float(x.narrow(3, 0, 1))),
        ("chunks", |x, _| {
            let parts = x.chunk(2, 3);
            float(parts.into_iter().map(|part| part.sum_dim(3)).reduce(|a, b| a * b).unwrap())
        }),
        ("roll", |x, _| float(x.roll(&[1, 2], &[1, 3]))),
        ("triu", |x, _| float(x.triu(0))),
        ("select", |x, _| float(x.select(1, indices(&[0, 0])))),
        ("select of columns", |x, _| {
            let last = x.dims()[3] as i32 - 1;
            float(x.select(3, indices(&[last, 0, last])))
        }),
        ("select assign", |x, y| {
            float(x.select_assign(1, indices(&[0]), y.slice(s![.., 0..1, .., ..]), IndexingUpdateOp::Add))
        }),
        ("gather", |x, _| {
            let places = x.clone().detach().argmax(1);
            float(x.gather(1, places))
        }),
        ("gather of columns", |x, y| {
            let most = x.dims()[3] as f64 - 0.01;
            let places = (y.detach().abs().clamp_max(0.99) * most).int();
            float(x.gather(3, places))
        }),
        ("scatter", |x, y| {
            let places = (y.clone().detach().abs().clamp_max(0.0)).int();
            float(x.scatter(2, places, y, IndexingUpdateOp::Add))
        }),
        ("unfold", |x, _| {
            let size = x.dims()[3].min(2);
            float(x.detach().unfold::<5, _>(3, size, 1))
        }),
        ("to data and back", |x, _| {
            let x = x.detach();
            float(Tensor::<B, 4>::from_data(x.clone().into_data(), &DEVICE) - x)
        }),
    ]
}

fn layers<B: Backend<Device = FlexDevice>>() -> Vec<Operation<B>> {
    vec![
        ("convolution", |x, _| {
            let c = x.dims()[1];
            float(conv2d(x, some([4, c, 3, 3]), None, ConvOptions::new([1, 1], [1, 1], [1, 1], 1)))
        }),
        ("convolution, batch norm, relu, pooling", |x, _| {
            let c = x.dims()[1];
            let x = conv2d(x, some([4, c, 3, 3]), Some(some([4])), ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
            let x = relu(BatchNormConfig::new(4).init::<B>(&DEVICE).forward(x));
            float(max_pool2d(x, [2, 2], [1, 1], [1, 1], [1, 1], false))
        }),
        ("convolution, residual, means", |x, y| {
            let c = x.dims()[1];
            let of = conv2d(x.clone(), some([c, c, 3, 3]), None, ConvOptions::new([1, 1], [1, 1], [1, 1], 1));
            let sum = relu(of + x) + y;
            float(sum.clone().mean_dim(0) * sum.clone().mean_dim(1) + sum.clone().mean_dim(2) * sum.mean_dim(3))
        }),
        ("convolution, permute, layer norm", |x, _| {
            let c = x.dims()[1];
            let x = conv2d(x, some([8, c, 1, 1]), None, ConvOptions::new([1, 1], [0, 0], [1, 1], 1));
            let x = LayerNormConfig::new(8).init::<B>(&DEVICE).forward(x.permute([0, 2, 3, 1]));
            float(gelu(linear(x, some([8, 3]), Some(some([3])))).permute([0, 3, 1, 2]))
        }),
        ("convolutions of parts", |x, _| {
            let c = x.dims()[1];
            let options = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
            let x = conv2d(x, some([6, c, 3, 3]), None, options());
            let [n, _, h, w] = x.dims();
            let image = conv2d(x.clone().slice([n - 1..n]), some([2, 6, 3, 3]), None, options());
            let channels = conv2d(x.clone().slice(s![.., 2..5, .., ..]), some([2, 3, 3, 3]), None, options());
            let pixels = conv2d(x.slice(s![.., .., h / 2..h, w / 3..w]), some([2, 6, 3, 3]), None, options());
            float(image.sum() + channels.exp().sum() + pixels.square().sum())
        }),
        ("depthwise convolution", |x, _| {
            let c = x.dims()[1];
            float(conv2d(x, some([c, 1, 3, 3]), Some(some([c])), ConvOptions::new([1, 1], [1, 1], [1, 1], c)))
        }),
        ("transposed convolution", |x, _| {
            let c = x.dims()[1];
            let options = ConvTransposeOptions::new([2, 2], [1, 1], [1, 1], [1, 1], 1);
            float(conv_transpose2d(x, some([c, 3, 3, 3]), Some(some([3])), options))
        }),
        ("average pooling", |x, _| float(avg_pool2d(x, [2, 2], [1, 1], [1, 1], false, false))),
        ("adaptive average pooling", |x, _| float(adaptive_avg_pool2d(x, [1, 1]))),
        ("linear", |x, _| {
            let w = x.dims()[3];
            float(linear(x, some([w, 3]), Some(some([3]))))
        }),
        ("linear of flattened images", |x, _| {
            let [_, c, h, w] = x.dims();
            float(linear(x.flatten::<2>(1, 3), some([c * h * w, 3]), Some(some([3]))))
        }),
        ("group norm", |x, _| {
            let [_, c, h, w] = x.dims();
            if h * w <= 2 {
                // Too few for burn.
                return float(x);
            }
            float(GroupNormConfig::new(c, c).init::<B>(&DEVICE).forward(x))
        }),
        ("interpolation", |x, _| float(interpolate(x, [6, 7], InterpolateOptions::new(InterpolateMode::Nearest)))),
        ("patches", |x, _| float(unfold4d(x, [1, 1], UnfoldOptions::new([1, 1], [0, 0], [1, 1])))),
    ]
}

fn operations<B: Backend<Device = FlexDevice>>() -> Vec<Operation<B>> {
    [element_wise(), of_two(), along_dimensions(), moving(), layers()].concat()
}

/// What each operation gives, and its gradients of `x` and `y`.
fn results<B: AutodiffBackend<Device = FlexDevice>>(
    x: &Tensor<B::InnerBackend, 4>,
    y: &Tensor<B::InnerBackend, 4>,
    operation: Operation<B>,
) -> Results {
    let [x, y] = [x, y].map(|tensor| Tensor::<B, 4>::from_inner(tensor.clone()).require_grad());
    let output = operation.1(x.clone(), y.clone());
    let mut results = vec![("result".to_owned(), output.data)];
    if let Some(flat) = output.flat {
        let projection = tensor(flat.dims(), 5);
        let gradients = (flat * projection).sum().backward();
        for (name, leaf) in [("gradient of the first", x), ("gradient of the second", y)] {
            results.extend(leaf.grad(&gradients).map(|gradient| (name.to_owned(), gradient.into_data())));
        }
    }
    results
}

fn assert_operations_alike(shape: [usize; 4], lies: [Lies; 2]) {
    assert_alike_for(shape, lies, operations(), operations());
}

fn assert_alike_for(shape: [usize; 4], lies: [Lies; 2], ours: Vec<Operation<Ours>>, plain: Vec<Operation<Plain>>) {
    let x: Tensor<Cpu, 4> = lies[0].tensor(shape, 1);
    let y: Tensor<Cpu, 4> = lies[1].tensor(shape, 2);
    let [plain_x, plain_y] = [&x, &y].map(|tensor| Tensor::from_data(tensor.clone().into_data(), &DEVICE));
    for (ours, plain) in ours.into_iter().zip(plain) {
        let what = format!("{} of {shape:?}, {lies:?}", ours.0);
        let plain = results::<Plain>(&plain_x, &plain_y, plain);
        let ours = results::<Ours>(&x, &y, ours);
        assert_results_alike(&ours, &plain, &what);
    }
}

#[test]
fn every_operation_takes_tensors_however_they_lie() {
    for first in Lies::ALL {
        for second in [Lies::RowMajor, Lies::ChannelsLast, Lies::WithinChannelsLast, Lies::Flipped] {
            assert_operations_alike([2, 3, 4, 5], [first, second]);
        }
    }
}

#[test]
fn every_operation_takes_tensors_with_dimensions_of_one_element() {
    for shape in [[1, 3, 4, 5], [2, 1, 4, 5], [2, 3, 1, 5], [2, 3, 4, 1], [2, 3, 1, 1], [1, 1, 1, 1]] {
        for lies in [
            [Lies::ChannelsLast, Lies::RowMajor],
            [Lies::RowMajor, Lies::ChannelsLast],
            [Lies::ChannelsLast, Lies::ChannelsLast],
            [Lies::WithinChannelsLast, Lies::Swapped],
            [Lies::Repeated, Lies::ChannelsLast],
        ] {
            assert_operations_alike(shape, lies);
        }
    }
}

#[test]
fn every_operation_takes_large_tensors() {
    fn those<B: Backend<Device = FlexDevice>>() -> Vec<Operation<B>> {
        [element_wise(), of_two(), along_dimensions(), moving()].concat()
    }
    for lies in [[Lies::ChannelsLast, Lies::RowMajor], [Lies::WithinChannelsLast, Lies::ChannelsLast]] {
        assert_alike_for([3, 37, 19, 23], lies, those(), those());
    }
}

#[test]
fn every_operation_is_alike_for_every_number_of_threads() {
    let x: Tensor<Cpu, 4> = Lies::ChannelsLast.tensor([5, 33, 41, 43], 1);
    let y: Tensor<Cpu, 4> = Lies::RowMajor.tensor([5, 33, 41, 43], 2);
    let [alone, shared] = [1, 3].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    for operation in operations::<Ours>() {
        let [alone, shared] = [&alone, &shared].map(|pool| pool.install(|| results::<Ours>(&x, &y, operation)));
        for ((name, shared), (_, alone)) in shared.iter().zip(&alone) {
            assert!(shared.as_bytes() == alone.as_bytes(), "{name} of {}", operation.0);
        }
    }
}

/// The tensors that convolutions and poolings give are those of the tests above.
#[test]
fn the_result_of_a_convolution_lies_channels_last() {
    let x = conv2d(
        tensor::<Cpu, 4>([2, 3, 4, 5], 1),
        some([7, 3, 1, 1]),
        None,
        ConvOptions::new([1, 1], [0, 0], [1, 1], 1),
    );
    let pooled = max_pool2d(x.clone(), [2, 2], [1, 1], [0, 0], [1, 1], false);
    for (x, [height, width]) in
        [(x.clone(), [4, 5]), (pooled, [3, 4]), (relu(x.clone()) * 2.0 + 1.0, [4, 5]), (x.clone() + x, [4, 5])]
    {
        let primitive = x.into_primitive().tensor();
        let strides = [height * width * 7, 1, width * 7, 7].map(|stride| stride as isize);
        assert_eq!(primitive.layout().strides(), strides);
    }
}

#[test]
fn an_operation_does_not_write_over_what_others_hold() {
    let x = conv2d(
        tensor::<Cpu, 4>([2, 3, 4, 5], 1),
        some([7, 3, 1, 1]),
        None,
        ConvOptions::new([1, 1], [0, 0], [1, 1], 1),
    );
    let before = x.clone().into_data();
    let part = x.clone().slice(s![.., 1..3, .., ..]);
    let of_part = part.clone().into_data();
    for (_, operation) in operations::<Cpu>() {
        let _ = operation(x.clone(), x.clone() * 0.5);
        let _ = operation(x.clone() * 0.5, x.clone());
    }
    assert_alike(&x.into_data(), &before, "a tensor that is held");
    assert_alike(&part.into_data(), &of_part, "a part that is held");
}
