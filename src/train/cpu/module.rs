//! The operations of modules: Peerfold's own where there is one, otherwise flex's.

use super::{
    Cpu,
    convolution::{self, in_a_row, is_ours, with_row, without_row},
    layout::row_major,
    linear, pooling,
};
use burn::{
    backend::flex::{Flex, FlexTensor},
    tensor::{
        DType, IntDType,
        ops::{
            AttentionModuleOptions, ConvOptions, ConvTransposeOptions, DeformConv2dBackward, DeformConvOptions,
            IntTensorOps, InterpolateOptions, MaxPool2dBackward, MaxPool2dWithIndices, ModuleOps,
        },
    },
};
use peerfold_kernels::window::Window;

/// Passes functions through to flex, which is faster the more row-major its tensors are.
macro_rules! hand_on {
    ($(fn $name:ident($first:ident: FlexTensor $(, $argument:ident: $type:ty)*) -> $result:ty;)*) => {
        $(fn $name($first: FlexTensor $(, $argument: $type)*) -> $result {
            <Flex as ModuleOps<Flex>>::$name(row_major($first) $(, $argument)*)
        })*
    };
}

/// The window of a pooling, of which each dimension has its own.
fn window(kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2], dilation: [usize; 2]) -> Window {
    Window { kernel, stride, padding, dilation }
}

impl ModuleOps<Self> for Cpu {
    fn linear(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
        if is_ours([&x, &weight].into_iter().chain(&bias)) {
            return linear::forward(x, weight, bias);
        }
        Flex::linear(x, weight, bias)
    }

    fn linear_x_backward(weight: FlexTensor, output_grad: FlexTensor) -> FlexTensor {
        if is_ours([&weight, &output_grad]) {
            return linear::input_gradient(weight, output_grad);
        }
        Flex::linear_x_backward(weight, output_grad)
    }

    fn linear_weight_backward(x: FlexTensor, output_grad: FlexTensor) -> FlexTensor {
        if is_ours([&x, &output_grad]) {
            return linear::weight_gradient(x, output_grad);
        }
        Flex::linear_weight_backward(x, output_grad)
    }

    fn linear_bias_backward(output_grad: FlexTensor) -> FlexTensor {
        if is_ours([&output_grad]) {
            return linear::bias_gradient(output_grad);
        }
        Flex::linear_bias_backward(output_grad)
    }

    fn conv2d(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>, options: ConvOptions<2>) -> FlexTensor {
        if is_ours([&x, &weight].into_iter().chain(&bias)) {
            return convolution::forward(x, weight, bias, &options);
        }
        Flex::conv2d(x, weight, bias, options)
    }

    fn conv2d_x_backward(
        x: FlexTensor,
        weight: FlexTensor,
        output_grad: FlexTensor,
        options: ConvOptions<2>,
    ) -> FlexTensor {
        if is_ours([&x, &weight, &output_grad]) {
            return convolution::input_gradient(&x, weight, output_grad, &options);
        }
        Flex::conv2d_x_backward(x, weight, output_grad, options)
    }

    fn conv2d_weight_backward(
        x: FlexTensor,
        weight: FlexTensor,
        output_grad: FlexTensor,
        options: ConvOptions<2>,
    ) -> FlexTensor {
        if is_ours([&x, &weight, &output_grad]) {
            return convolution::weight_gradient(x, &weight, output_grad, &options);
        }
        Flex::conv2d_weight_backward(x, weight, output_grad, options)
    }

    fn conv2d_bias_backward(x: FlexTensor, bias: FlexTensor, output_grad: FlexTensor) -> FlexTensor {
        if is_ours([&output_grad]) {
            return convolution::bias_gradient(output_grad);
        }
        Flex::conv2d_bias_backward(x, bias, output_grad)
    }

    fn conv1d(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>, options: ConvOptions<1>) -> FlexTensor {
        if is_ours([&x, &weight].into_iter().chain(&bias)) {
            return without_row(convolution::forward(with_row(x), with_row(weight), bias, &in_a_row(&options)));
        }
        Flex::conv1d(x, weight, bias, options)
    }

    fn conv1d_x_backward(
        x: FlexTensor,
        weight: FlexTensor,
        output_grad: FlexTensor,
        options: ConvOptions<1>,
    ) -> FlexTensor {
        if is_ours([&x, &weight, &output_grad]) {
            let (x, weight, gradient) = (with_row(x), with_row(weight), with_row(output_grad));
            return without_row(convolution::input_gradient(&x, weight, gradient, &in_a_row(&options)));
        }
        Flex::conv1d_x_backward(x, weight, output_grad, options)
    }

    fn conv1d_weight_backward(
        x: FlexTensor,
        weight: FlexTensor,
        output_grad: FlexTensor,
        options: ConvOptions<1>,
    ) -> FlexTensor {
        if is_ours([&x, &weight, &output_grad]) {
            let (x, weight, gradient) = (with_row(x), with_row(weight), with_row(output_grad));
            return without_row(convolution::weight_gradient(x, &weight, gradient, &in_a_row(&options)));
        }
        Flex::conv1d_weight_backward(x, weight, output_grad, options)
    }

    fn conv1d_bias_backward(x: FlexTensor, bias: FlexTensor, output_grad: FlexTensor) -> FlexTensor {
        if is_ours([&output_grad]) {
            return convolution::bias_gradient(with_row(output_grad));
        }
        Flex::conv1d_bias_backward(x, bias, output_grad)
    }

    fn conv_transpose2d(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Option<FlexTensor>,
        options: ConvTransposeOptions<2>,
    ) -> FlexTensor {
        let ours = is_ours([&x, &weight].into_iter().chain(&bias));
        let ours = ours.then(|| convolution::transposed(&x, &weight, bias.as_ref(), &options)).flatten();
        ours.unwrap_or_else(|| Flex::conv_transpose2d(row_major(x), weight, bias, options))
    }

    fn max_pool2d(
        x: FlexTensor,
        kernel_size: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        ceil_mode: bool,
    ) -> FlexTensor {
        Self::max_pool2d_with_indices(x, kernel_size, stride, padding, dilation, ceil_mode).output
    }

    fn max_pool2d_with_indices(
        x: FlexTensor,
        kernel_size: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        ceil_mode: bool,
    ) -> MaxPool2dWithIndices<Self> {
        let shape = pooling::Shape { window: window(kernel_size, stride, padding, dilation), ceil: ceil_mode };
        if let Some(pooling) = shape.of(&x) {
            let (output, places) = pooling::maxima(&pooling, x);
            return MaxPool2dWithIndices::new(output, places);
        }
        let pooled = Flex::max_pool2d_with_indices(row_major(x), kernel_size, stride, padding, dilation, ceil_mode);
        MaxPool2dWithIndices::new(pooled.output, pooled.indices)
    }

    fn max_pool2d_with_indices_backward(
        x: FlexTensor,
        kernel_size: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        ceil_mode: bool,
        output_grad: FlexTensor,
        indices: FlexTensor,
    ) -> MaxPool2dBackward<Self> {
        let shape = pooling::Shape { window: window(kernel_size, stride, padding, dilation), ceil: ceil_mode };
        // Whose places they are, follows from their type: flex's are I64.
        let ours = shape.of(&x).filter(|_| is_ours([&output_grad]) && indices.dtype() == DType::I32);
        if let Some(pooling) = ours {
            return MaxPool2dBackward::new(pooling::maxima_gradient(&pooling, output_grad, indices));
        }
        let (x, gradient) = (row_major(x), row_major(output_grad));
        let indices = Flex::int_cast(indices, IntDType::I64);
        let flex = Flex::max_pool2d_with_indices_backward(
            x,
            kernel_size,
            stride,
            padding,
            dilation,
            ceil_mode,
            gradient,
            indices,
        );
        MaxPool2dBackward::new(flex.x_grad)
    }

    fn avg_pool2d(
        x: FlexTensor,
        kernel_size: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        count_include_pad: bool,
        ceil_mode: bool,
    ) -> FlexTensor {
        let shape = pooling::Shape { window: window(kernel_size, stride, padding, [1, 1]), ceil: ceil_mode };
        match shape.of(&x) {
            Some(pooling) => pooling::means(&pooling, x, count_include_pad),
            None => Flex::avg_pool2d(row_major(x), kernel_size, stride, padding, count_include_pad, ceil_mode),
        }
    }

    fn avg_pool2d_backward(
        x: FlexTensor,
        grad: FlexTensor,
        kernel_size: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        count_include_pad: bool,
        ceil_mode: bool,
    ) -> FlexTensor {
        let shape = pooling::Shape { window: window(kernel_size, stride, padding, [1, 1]), ceil: ceil_mode };
        match shape.of(&x).filter(|_| is_ours([&grad])) {
            Some(pooling) => pooling::means_gradient(&pooling, grad, count_include_pad),
            None => {
                let (x, grad) = (row_major(x), row_major(grad));
                Flex::avg_pool2d_backward(x, grad, kernel_size, stride, padding, count_include_pad, ceil_mode)
            }
        }
    }

    fn deform_conv2d_backward(
        x: FlexTensor,
        offset: FlexTensor,
        weight: FlexTensor,
        mask: Option<FlexTensor>,
        bias: Option<FlexTensor>,
        output_grad: FlexTensor,
        options: DeformConvOptions<2>,
    ) -> DeformConv2dBackward<Self> {
        let flex = Flex::deform_conv2d_backward(x, offset, weight, mask, bias, output_grad, options);
        DeformConv2dBackward::new(flex.x_grad, flex.offset_grad, flex.weight_grad, flex.mask_grad, flex.bias_grad)
    }

    hand_on! {
        fn deform_conv2d(
            x: FlexTensor,
            offset: FlexTensor,
            weight: FlexTensor,
            mask: Option<FlexTensor>,
            bias: Option<FlexTensor>,
            options: DeformConvOptions<2>
        ) -> FlexTensor;
        fn conv3d(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>, options: ConvOptions<3>) -> FlexTensor;
        fn conv_transpose1d(
            x: FlexTensor,
            weight: FlexTensor,
            bias: Option<FlexTensor>,
            options: ConvTransposeOptions<1>
        ) -> FlexTensor;
        fn conv_transpose3d(
            x: FlexTensor,
            weight: FlexTensor,
            bias: Option<FlexTensor>,
            options: ConvTransposeOptions<3>
        ) -> FlexTensor;
        fn adaptive_avg_pool2d(x: FlexTensor, output_size: [usize; 2]) -> FlexTensor;
        fn adaptive_avg_pool2d_backward(x: FlexTensor, grad: FlexTensor) -> FlexTensor;
        fn interpolate(x: FlexTensor, output_size: [usize; 2], options: InterpolateOptions) -> FlexTensor;
        fn interpolate_backward(
            x: FlexTensor,
            grad: FlexTensor,
            output_size: [usize; 2],
            options: InterpolateOptions
        ) -> FlexTensor;
        fn attention(
            query: FlexTensor,
            key: FlexTensor,
            value: FlexTensor,
            mask: Option<FlexTensor>,
            attn_bias: Option<FlexTensor>,
            options: AttentionModuleOptions
        ) -> FlexTensor;
        fn rfft(signal: FlexTensor, dim: usize, n: Option<usize>) -> (FlexTensor, FlexTensor);
        fn irfft(spectrum_re: FlexTensor, spectrum_im: FlexTensor, dim: usize, n: Option<usize>) -> FlexTensor;
        fn embedding(weights: FlexTensor, indices: FlexTensor) -> FlexTensor;
        fn layer_norm(tensor: FlexTensor, gamma: FlexTensor, beta: Option<FlexTensor>, epsilon: f64) -> FlexTensor;
        fn embedding_backward(weights: FlexTensor, output_grad: FlexTensor, indices: FlexTensor) -> FlexTensor;
    }
}
