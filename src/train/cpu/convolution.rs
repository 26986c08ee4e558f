//! Convolutions of tensors.

use super::{
    layout::{Images, RowMajor, channels_last, four},
    memory,
};
use burn::{
    backend::flex::{FlexTensor, Layout},
    tensor::{
        DType, Shape,
        ops::{ConvOptions, ConvTransposeOptions},
    },
};
use peerfold_kernels::{buffer::Buffer, convolution::Convolution, window::Window};

/// Whether the kernels can take all of them.
pub(super) fn is_ours<'a>(tensors: impl IntoIterator<Item = &'a FlexTensor>) -> bool {
    tensors.into_iter().all(|tensor| tensor.dtype() == DType::F32)
}

fn window(weight: &Shape, options: &ConvOptions<2>) -> Window {
    let ConvOptions { stride, padding, dilation, .. } = *options;
    Window { kernel: [weight[2], weight[3]], stride, padding, dilation }
}

fn shapes(batch: usize, input: [usize; 2], weight: &Shape, options: &ConvOptions<2>) -> Convolution {
    let groups = options.groups;
    let (channels_in, channels_out) = (weight[1] * groups, weight[0]);
    Convolution { batch, input, channels_in, channels_out, groups, window: window(weight, options) }
}

pub(super) fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: Option<FlexTensor>,
    options: &ConvOptions<2>,
) -> FlexTensor {
    let images = Images::new(x);
    let convolution = shapes(images.batch, images.sides, weight.layout().shape(), options);
    assert_eq!(images.channels, convolution.channels_in, "channels of the images and of the kernels");
    let (weight, bias) = (RowMajor::new(weight), bias.map(RowMajor::new));
    let mut output = Buffer::stale(convolution.output_len());
    convolution.forward(images.values(), weight.values(), bias.as_ref().map(RowMajor::values), &mut output);
    let [height, width] = convolution.window.positions(images.sides);
    channels_last(output, [images.batch, convolution.channels_out, height, width])
}

pub(super) fn input_gradient(
    x: &FlexTensor,
    weight: FlexTensor,
    gradient: FlexTensor,
    options: &ConvOptions<2>,
) -> FlexTensor {
    let dims = four(x.layout().shape());
    let convolution = shapes(dims[0], [dims[2], dims[3]], weight.layout().shape(), options);
    let mut images = Buffer::stale(convolution.input_len());
    convolution.input_gradient(RowMajor::new(weight).values(), Images::new(gradient).values(), &mut images);
    channels_last(images, dims)
}

pub(super) fn weight_gradient(
    x: FlexTensor,
    weight: &FlexTensor,
    gradient: FlexTensor,
    options: &ConvOptions<2>,
) -> FlexTensor {
    let images = Images::new(x);
    let shape = weight.layout().shape().clone();
    let convolution = shapes(images.batch, images.sides, &shape, options);
    let mut weight = Buffer::stale(convolution.weight_len());
    convolution.weight_gradient(images.values(), Images::new(gradient).values(), &mut weight);
    memory::tensor(weight, shape)
}

pub(super) fn bias_gradient(gradient: FlexTensor) -> FlexTensor {
    let gradient = Images::new(gradient);
    let mut bias = Buffer::stale(gradient.channels);
    peerfold_kernels::sums::columns(gradient.values(), &mut bias);
    let channels = gradient.channels;
    memory::tensor(bias, Shape::from(vec![channels]))
}

/// A transposed convolution is the gradient of the images of that convolution whose result it takes. `None` if no
/// convolution gives such a result.
pub(super) fn transposed(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: Option<&FlexTensor>,
    options: &ConvTransposeOptions<2>,
) -> Option<FlexTensor> {
    let (shape, [batch, channels, height, width]) = (weight.layout().shape(), four(x.layout().shape()));
    let of = ConvOptions::new(options.stride, options.padding, options.dilation, options.groups);
    let sides = [0, 1].map(|axis| {
        let reach = options.dilation[axis] * (shape[2 + axis] - 1) + 1 + options.padding_out[axis];
        let side = ([height, width][axis].checked_sub(1)? * options.stride[axis] + reach)
            .checked_sub(2 * options.padding[axis]);
        side.filter(|&side| side > 0)
    });
    let input = [sides[0]?, sides[1]?];
    let convolution = shapes(batch, input, shape, &of);
    if convolution.window.positions(input) != [height, width] || convolution.channels_out != channels {
        return None;
    }
    let mut images = Buffer::stale(convolution.input_len());
    let (weight, x) = (RowMajor::new(weight.clone()), Images::new(x.clone()));
    convolution.input_gradient(weight.values(), x.values(), &mut images);
    if let Some(bias) = bias {
        peerfold_kernels::sums::add_to_rows(RowMajor::new(bias.clone()).values(), &mut images);
    }
    Some(channels_last(images, [batch, convolution.channels_in, input[0], input[1]]))
}

/// A tensor of three dimensions as images of one row.
pub(super) fn with_row(tensor: FlexTensor) -> FlexTensor {
    let layout = tensor.layout();
    let (mut shape, mut strides) = (layout.shape().to_vec(), layout.strides().to_vec());
    shape.insert(2, 1);
    strides.insert(2, strides[2] * shape[3] as isize);
    let layout = Layout::new(Shape::from(shape), strides, layout.start_offset());
    tensor.with_layout(layout)
}

/// Images of one row as a tensor of three dimensions.
pub(super) fn without_row(tensor: FlexTensor) -> FlexTensor {
    let layout = tensor.layout();
    let (mut shape, mut strides) = (layout.shape().to_vec(), layout.strides().to_vec());
    shape.remove(2);
    strides.remove(2);
    let layout = Layout::new(Shape::from(shape), strides, layout.start_offset());
    tensor.with_layout(layout)
}

/// The options of a convolution in one dimension for images of one row.
pub(super) fn in_a_row(options: &ConvOptions<1>) -> ConvOptions<2> {
    let ConvOptions { stride: [stride], padding: [padding], dilation: [dilation], groups } = *options;
    ConvOptions::new([1, stride], [0, padding], [1, dilation], groups)
}
