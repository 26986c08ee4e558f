//! Adam in one pass over the memory.

use super::cpu;
use burn::{
    backend::flex::FlexTensor,
    module::AutodiffModule,
    optim::{AdamConfig, AdamState, AdaptiveMomentumState, LearningRate, SimpleOptimizer, adaptor::OptimizerAdaptor},
    tensor::{
        DType, Tensor, TensorPrimitive,
        backend::{AutodiffBackend, Backend},
        ops::Device,
    },
};
use peerfold_kernels::{
    adam::{self, Parameters, Step},
    buffer::Buffer,
};
use std::any::Any;

/// Adam (Kingma and Ba, 2014, arXiv:1412.6980), the same as burn's to the last bit, on the processor an order of
/// magnitude quicker: one pass over weights, gradient and moments instead of ten, in the memory that they have.
///
/// Its state is that of burn's Adam, so the two can go on from each other's. On backends other than
/// [`Cpu`](super::Cpu) and flex, and for other types than `f32`, it is burn's.
#[derive(Clone)]
pub struct Adam {
    beta_1: f32,
    beta_2: f32,
    epsilon: f32,
    general: burn::optim::Adam,
}

impl Adam {
    /// With the decays of the first and the second moment, and what is added to the root of the second.
    pub fn new(beta_1: f32, beta_2: f32, epsilon: f32) -> Self {
        let config = AdamConfig::new().with_beta_1(beta_1).with_beta_2(beta_2).with_epsilon(epsilon);
        Self { beta_1, beta_2, epsilon, general: config.build() }
    }

    /// An optimizer for modules.
    pub fn init<B: AutodiffBackend, M: AutodiffModule<B>>(self) -> OptimizerAdaptor<Self, M, B> {
        OptimizerAdaptor::from(self)
    }
}

/// burn's defaults: 0.9, 0.999 and 1e-5.
impl Default for Adam {
    fn default() -> Self {
        Self::new(0.9, 0.999, 1e-5)
    }
}

impl<B: Backend> SimpleOptimizer<B> for Adam {
    type State<const D: usize> = AdamState<B, D>;

    fn step<const D: usize>(
        &self,
        learning_rate: LearningRate,
        weights: Tensor<B, D>,
        gradient: Tensor<B, D>,
        state: Option<AdamState<B, D>>,
    ) -> (Tensor<B, D>, Option<AdamState<B, D>>) {
        let is_plain = state.as_ref().is_none_or(|state| state.momentum.max_moment_2.is_none());
        if !is_plain || weights.dtype() != DType::F32 || gradient.dtype() != DType::F32 || !is_flex::<B>() {
            return self.general.step(learning_rate, weights, gradient, state);
        }
        let (time, moments) = match state {
            Some(AdamState { momentum: AdaptiveMomentumState { time, moment_1, moment_2, .. } }) => {
                (time + 1, [moment_1, moment_2].map(flex))
            }
            // Any number plus -0 is that number, be it -0 itself.
            None => (
                1,
                [(); 2].map(|()| cpu::tensor_of(Buffer::filled(weights.shape().num_elements(), -0.0), weights.shape())),
            ),
        };
        let (mut weights, gradient) = (cpu::owned(flex(weights)), flex(gradient).to_contiguous());
        let [mut moment_1, mut moment_2] = moments.map(cpu::owned);
        let settings = Step {
            learning_rate: learning_rate as f32,
            beta_1: self.beta_1,
            beta_2: self.beta_2,
            epsilon: self.epsilon,
            time: i32::try_from(time).unwrap_or(i32::MAX),
        };
        let parameters = Parameters {
            weights: weights.storage_mut(),
            moment_1: moment_1.storage_mut(),
            moment_2: moment_2.storage_mut(),
        };
        adam::step(parameters, gradient.storage(), settings);
        let momentum = AdaptiveMomentumState::new(time, tensor(moment_1), tensor(moment_2));
        (tensor(weights), Some(AdamState::new(momentum)))
    }

    fn to_device<const D: usize>(state: AdamState<B, D>, device: &Device<B>) -> AdamState<B, D> {
        burn::optim::Adam::to_device(state, device)
    }
}

/// Whether the backend's tensors are those of flex.
fn is_flex<B: Backend>() -> bool {
    std::any::TypeId::of::<B::FloatTensorPrimitive>() == std::any::TypeId::of::<FlexTensor>()
}

/// Panics if [`is_flex`] is false.
fn flex<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FlexTensor {
    let primitive: Box<dyn Any> = Box::new(tensor.into_primitive().tensor());
    *primitive.downcast().expect("a tensor of flex")
}

/// Panics if [`is_flex`] is false.
fn tensor<B: Backend, const D: usize>(tensor: FlexTensor) -> Tensor<B, D> {
    let primitive: Box<dyn Any> = Box::new(tensor);
    Tensor::from_primitive(TensorPrimitive::Float(*primitive.downcast().expect("a tensor of flex")))
}
