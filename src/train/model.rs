//! The built-in models.

use crate::settings::named;
use burn::{
    module::Module,
    nn::{
        Linear, LinearConfig,
        conv::{Conv2d, Conv2dConfig},
        pool::{MaxPool2d, MaxPool2dConfig},
    },
    tensor::{Tensor, activation::relu, backend::Backend},
};
use std::{fmt, str::FromStr};

/// A module that tells to which class an image belongs.
pub trait Classifier<B: Backend>: Module<B> {
    /// From images of the shape [batch, channels, height, width] to logits of the shape [batch, classes].
    fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 2>;
}

/// The built-in models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Model {
    /// [`DigitsMlp`], for the embedded 8×8 digits.
    Digits,
    /// [`MnistCnn`], for MNIST.
    Mnist,
}

impl Model {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Digits, Self::Mnist];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Mnist => "mnist",
        }
    }

    /// Channels, height and width of the images that it takes.
    pub const fn image_shape(self) -> [usize; 3] {
        match self {
            Self::Digits => [1, 8, 8],
            Self::Mnist => [1, 28, 28],
        }
    }

    /// The number of classes that it tells apart.
    pub const fn classes(self) -> usize {
        10
    }
}

named!(Model);

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no built-in model has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no model {name:?}; the models are digits and mnist")]
pub struct ParseModelError {
    /// The name.
    pub name: String,
}

impl FromStr for Model {
    type Err = ParseModelError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let model = Self::ALL.into_iter().find(|model| model.name() == name);
        model.ok_or_else(|| ParseModelError { name: name.to_owned() })
    }
}

/// A small multilayer perceptron for images of 8×8: 64 inputs, 64 hidden units, ReLU, 10 classes. 4,810 parameters.
#[derive(Module, Debug)]
pub struct DigitsMlp<B: Backend> {
    hidden: Linear<B>,
    output: Linear<B>,
}

impl<B: Backend> DigitsMlp<B> {
    /// With burn's random initial weights; see [`init_seeded`](super::init_seeded).
    pub fn new(device: &B::Device) -> Self {
        Self { hidden: LinearConfig::new(64, 64).init(device), output: LinearConfig::new(64, 10).init(device) }
    }
}

impl<B: Backend> Classifier<B> for DigitsMlp<B> {
    fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        self.output.forward(relu(self.hidden.forward(images.flatten(1, 3))))
    }
}

/// The convolutional network of the flwr-serverless paper for MNIST: 32 kernels of 4×4, ReLU, max-pooling by 2, 16
/// kernels of 4×4, ReLU, dense; no padding. 21,722 parameters.
#[derive(Module, Debug)]
pub struct MnistCnn<B: Backend> {
    conv1: Conv2d<B>,
    pool: MaxPool2d,
    conv2: Conv2d<B>,
    dense: Linear<B>,
}

impl<B: Backend> MnistCnn<B> {
    /// With burn's random initial weights; see [`init_seeded`](super::init_seeded).
    pub fn new(device: &B::Device) -> Self {
        Self {
            conv1: Conv2dConfig::new([1, 32], [4, 4]).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            conv2: Conv2dConfig::new([32, 16], [4, 4]).init(device),
            dense: LinearConfig::new(16 * 9 * 9, 10).init(device),
        }
    }
}

impl<B: Backend> Classifier<B> for MnistCnn<B> {
    fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        let pooled = self.pool.forward(relu(self.conv1.forward(images)));
        self.dense.forward(relu(self.conv2.forward(pooled)).flatten(1, 3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{Cpu, layout_of};

    #[test]
    fn the_models_have_the_published_sizes_and_shapes() {
        let device = Default::default();
        let mnist = MnistCnn::<Cpu>::new(&device);
        assert_eq!(mnist.num_params(), 21_722);
        assert_eq!(mnist.forward(Tensor::zeros([2, 1, 28, 28], &device)).dims(), [2, 10]);
        let digits = DigitsMlp::<Cpu>::new(&device);
        assert_eq!(digits.num_params(), 4_810);
        assert_eq!(digits.forward(Tensor::zeros([3, 1, 8, 8], &device)).dims(), [3, 10]);
    }

    #[test]
    fn tensors_are_named_by_their_fields() {
        let layout = layout_of(&MnistCnn::<Cpu>::new(&Default::default())).unwrap();
        let tensors: Vec<String> = layout.tensors().iter().map(ToString::to_string).collect();
        assert_eq!(
            tensors,
            [
                "conv1.bias f32[32]",
                "conv1.weight f32[32, 1, 4, 4]",
                "conv2.bias f32[16]",
                "conv2.weight f32[16, 32, 4, 4]",
                "dense.bias f32[10]",
                "dense.weight f32[1296, 10]",
            ]
        );
    }

    #[test]
    fn names_parse_back() {
        for model in Model::ALL {
            assert_eq!(model.to_string().parse(), Ok(model));
        }
        assert!("resnet".parse::<Model>().unwrap_err().to_string().contains("digits"));
    }
}
