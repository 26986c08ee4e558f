//! Gradients against differences of the function itself: the derivative of `Σ projection · f(x)`.

use crate::plain::{nan, values};
use peerfold_kernels::{
    convolution::Convolution,
    matrix::{Matrix, MatrixMut, Onto, Threads, multiply},
    pooling::Pooling,
    window::Window,
};

/// `(f(x + step) - f(x - step)) / 2 step` along some of the elements of `x`, against `gradient`.
fn assert_slopes(x: &[f32], gradient: &[f32], step: f32, what: &str, projected: impl Fn(&[f32]) -> f64) {
    let every = (x.len() / 40).max(1);
    for place in (0..x.len()).step_by(every) {
        let at = |value: f32| {
            let mut moved = x.to_vec();
            moved[place] = value;
            projected(&moved)
        };
        let (above, below) = (x[place] + step, x[place] - step);
        let slope = (at(above) - at(below)) / f64::from(above - below);
        let error = (slope - f64::from(gradient[place])).abs();
        assert!(error <= 2e-4 * (1.0 + slope.abs()), "{what}, element {place}: {} instead of {slope}", gradient[place]);
    }
}

fn projected(projection: &[f32], result: &[f32]) -> f64 {
    projection.iter().zip(result).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[test]
fn the_gradients_of_a_convolution_are_its_slopes() {
    let window = |kernel, stride, padding, dilation| Window { kernel, stride, padding, dilation };
    for (input, [channels_in, channels_out, groups], window) in [
        ([5, 6], [3, 4, 1], window([3, 2], [1, 2], [1, 0], [1, 1])),
        ([6, 5], [4, 6, 2], window([2, 3], [2, 1], [3, 2], [2, 1])),
        ([5, 5], [5, 5, 5], window([3, 3], [1, 1], [1, 1], [1, 1])),
        ([7, 3], [2, 6, 2], window([2, 1], [1, 1], [0, 1], [3, 1])),
        ([6, 6], [1, 3, 1], window([4, 4], [2, 1], [2, 2], [1, 2])),
        ([4, 3], [7, 5, 1], window([1, 1], [1, 1], [0, 0], [1, 1])),
    ] {
        let convolution = Convolution { batch: 3, input, channels_in, channels_out, groups, window };
        let images = values(convolution.input_len(), 1);
        let weight = values(convolution.weight_len(), 2);
        let bias = values(channels_out, 3);
        let projection = values(convolution.output_len(), 4);
        let forward = |images: &[f32], weight: &[f32], bias: &[f32]| {
            let mut output = nan(convolution.output_len());
            convolution.forward(images, weight, Some(bias), &mut output);
            projected(&projection, &output)
        };
        let what = format!("{convolution:?}");
        let mut gradient = nan(images.len());
        convolution.input_gradient(&weight, &projection, &mut gradient);
        assert_slopes(&images, &gradient, 0.5, &what, |images| forward(images, &weight, &bias));
        let mut gradient = nan(weight.len());
        convolution.weight_gradient(&images, &projection, &mut gradient);
        assert_slopes(&weight, &gradient, 0.5, &what, |weight| forward(&images, weight, &bias));
        let mut gradient = nan(bias.len());
        convolution.bias_gradient(&projection, &mut gradient);
        assert_slopes(&bias, &gradient, 0.5, &what, |bias| forward(&images, &weight, bias));
    }
}

fn poolings() -> [Pooling; 5] {
    let window = |kernel, stride, padding, dilation| Window { kernel, stride, padding, dilation };
    [
        ([6, 7], window([2, 2], [2, 2], [0, 0], [1, 1]), [3, 4]),
        ([6, 7], window([3, 2], [1, 2], [1, 1], [1, 1]), [6, 4]),
        ([5, 5], window([2, 3], [3, 4], [0, 1], [1, 1]), [2, 2]),
        ([7, 6], window([3, 3], [2, 2], [1, 1], [2, 1]), [3, 4]),
        ([4, 4], window([2, 2], [2, 2], [0, 0], [1, 1]), [2, 2]),
    ]
    .map(|(input, window, output)| Pooling { batch: 2, input, channels: 5, window, output })
}

#[test]
fn the_gradient_of_maximum_pooling_is_its_slope() {
    for pooling in poolings() {
        // All different, and further apart than the step.
        let mut images: Vec<f32> = (0..pooling.input_len()).map(|place| place as f32 * 0.1).collect();
        let turn = values(images.len(), 5);
        for place in (1..images.len()).rev() {
            images.swap(place, (turn[place].abs() * place as f32) as usize);
        }
        let projection = values(pooling.output_len(), 6);
        let mut places = vec![0; pooling.output_len()];
        let (mut output, mut gradient) = (nan(pooling.output_len()), nan(images.len()));
        pooling.maxima(&images, &mut output, &mut places);
        pooling.maxima_gradient(&projection, &places, &mut gradient);
        assert_slopes(&images, &gradient, 0.04, &format!("{pooling:?}"), |images| {
            let (mut output, mut places) = (nan(pooling.output_len()), vec![0; pooling.output_len()]);
            pooling.maxima(images, &mut output, &mut places);
            projected(&projection, &output)
        });
    }
}

#[test]
fn the_gradient_of_average_pooling_is_its_slope() {
    for pooling in poolings() {
        for count_padding in [false, true] {
            let (images, projection) = (values(pooling.input_len(), 7), values(pooling.output_len(), 8));
            let mut gradient = nan(images.len());
            pooling.means_gradient(&projection, count_padding, &mut gradient);
            assert_slopes(&images, &gradient, 0.5, &format!("{pooling:?}, {count_padding}"), |images| {
                let mut output = nan(pooling.output_len());
                pooling.means(images, count_padding, &mut output);
                projected(&projection, &output)
            });
        }
    }
}

#[test]
fn the_gradients_of_a_linear_layer_are_its_slopes() {
    let [rows, inputs, outputs] = [5, 7, 3];
    let (x, weight) = (values(rows * inputs, 1), values(inputs * outputs, 2));
    let projection = values(rows * outputs, 3);
    let product = |out: &mut [f32], sides: [usize; 2], lhs: Matrix<'_>, rhs: Matrix<'_>| {
        multiply(MatrixMut::rows(out, sides[0], sides[1]), Onto::Nothing, lhs, rhs, Threads::All);
    };
    let forward = |x: &[f32], weight: &[f32]| {
        let mut y = nan(rows * outputs);
        product(&mut y, [rows, outputs], Matrix::rows(x, rows, inputs), Matrix::rows(weight, inputs, outputs));
        projected(&projection, &y)
    };
    let gradient = Matrix::rows(&projection, rows, outputs);
    let mut of_x = nan(rows * inputs);
    product(&mut of_x, [rows, inputs], gradient, Matrix::rows(&weight, inputs, outputs).transposed());
    assert_slopes(&x, &of_x, 0.5, "x", |x| forward(x, &weight));
    let mut of_weight = nan(inputs * outputs);
    product(&mut of_weight, [inputs, outputs], Matrix::rows(&x, rows, inputs).transposed(), gradient);
    assert_slopes(&weight, &of_weight, 0.5, "weight", |weight| forward(&x, weight));
}
