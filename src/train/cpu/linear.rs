//! Linear layers: `y = x · weight + bias`, weight [inputs, outputs].

use super::{layout::RowMajor, memory};
use burn::{backend::flex::FlexTensor, tensor::Shape};
use peerfold_kernels::{
    buffer::Buffer,
    matrix::{Matrix, MatrixMut, Onto, Threads, multiply},
    sums, transpose,
};

fn with_last(shape: &Shape, last: usize) -> Shape {
    let mut dims = shape.to_vec();
    if let Some(side) = dims.last_mut() {
        *side = last;
    }
    Shape::from(dims)
}

fn sides(weight: &FlexTensor) -> [usize; 2] {
    [weight.layout().shape()[0], weight.layout().shape()[1]]
}

/// How many rows there are, and how many elements in each.
fn rows(tensor: &FlexTensor) -> [usize; 2] {
    match tensor.layout().shape().split_last() {
        Some((&last, others)) => [others.iter().product(), last],
        None => [1, 1],
    }
}

pub(super) fn forward(x: FlexTensor, weight: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
    let [inputs, outputs] = sides(&weight);
    let shape = with_last(x.layout().shape(), outputs);
    let [rows, columns] = rows(&x);
    assert_eq!(columns, inputs, "elements of a row, and inputs of the linear layer");
    let (x, weight, bias) = (RowMajor::new(x), RowMajor::new(weight), bias.map(RowMajor::new));
    let mut y = Buffer::stale(rows * outputs);
    if let Some(bias) = &bias {
        assert_eq!(bias.values().len(), outputs, "elements of the bias, and outputs of the linear layer");
        sums::fill_rows(bias.values(), &mut y);
    }
    let onto = if bias.is_some() { Onto::Sum } else { Onto::Nothing };
    let (x, weight) = (Matrix::rows(x.values(), rows, inputs), Matrix::rows(weight.values(), inputs, outputs));
    multiply(MatrixMut::rows(&mut y, rows, outputs), onto, x, weight, Threads::All);
    memory::tensor(y, shape)
}

pub(super) fn input_gradient(weight: FlexTensor, gradient: FlexTensor) -> FlexTensor {
    let [inputs, outputs] = sides(&weight);
    let shape = with_last(gradient.layout().shape(), inputs);
    let [rows, _] = rows(&gradient);
    // The product is several times as quick with the elements of a column next to each other.
    let mut turned = Buffer::stale(inputs * outputs);
    transpose::to_row_major(RowMajor::new(weight).values(), &[outputs, inputs], &[1, outputs], &mut turned);
    let gradient = RowMajor::new(gradient);
    let mut x = Buffer::stale(rows * inputs);
    let (gradient, turned) = (Matrix::rows(gradient.values(), rows, outputs), Matrix::rows(&turned, outputs, inputs));
    multiply(MatrixMut::rows(&mut x, rows, inputs), Onto::Nothing, gradient, turned, Threads::All);
    memory::tensor(x, shape)
}

pub(super) fn weight_gradient(x: FlexTensor, gradient: FlexTensor) -> FlexTensor {
    let ([_, inputs], [rows, outputs]) = (rows(&x), rows(&gradient));
    let (x, gradient) = (RowMajor::new(x), RowMajor::new(gradient));
    let mut weight = Buffer::stale(inputs * outputs);
    let (x, gradient) = (Matrix::rows(x.values(), rows, inputs), Matrix::rows(gradient.values(), rows, outputs));
    multiply(MatrixMut::rows(&mut weight, inputs, outputs), Onto::Nothing, x.transposed(), gradient, Threads::All);
    memory::tensor(weight, Shape::from(vec![inputs, outputs]))
}

pub(super) fn bias_gradient(gradient: FlexTensor) -> FlexTensor {
    let [_, outputs] = rows(&gradient);
    let mut bias = Buffer::stale(outputs);
    sums::columns(RowMajor::new(gradient).values(), &mut bias);
    memory::tensor(bias, Shape::from(vec![outputs]))
}
