//! A small model, trained on both backends.

use super::alike::{DEVICE, Ours, Plain, data};
use burn::{
    backend::flex::FlexDevice,
    module::{AutodiffModule, Module, ModuleVisitor, Param},
    nn::{
        BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
        loss::CrossEntropyLossConfig,
        pool::{AvgPool2dConfig, MaxPool2dConfig},
    },
    optim::{AdamConfig, GradientsParams, Optimizer, SgdConfig},
    tensor::{
        Int, Tensor,
        activation::relu,
        backend::{AutodiffBackend, Backend},
    },
};
use std::sync::{Mutex, PoisonError};

#[derive(Module, Debug)]
struct Net<B: Backend> {
    first: Conv2d<B>,
    norm: BatchNorm<B>,
    depthwise: Conv2d<B>,
    pointwise: Conv2d<B>,
    out: Linear<B>,
}

impl<B: Backend<Device = FlexDevice>> Net<B> {
    /// Equal on every backend.
    fn new() -> Self {
        static LOCK: Mutex<()> = Mutex::new(());
        // burn's generator is one for the whole process.
        let _alone = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        B::seed(&DEVICE, 7);
        let same = PaddingConfig2d::Explicit(1, 1, 1, 1);
        let net = Self {
            first: Conv2dConfig::new([3, 12], [3, 3]).with_padding(same.clone()).init(&DEVICE),
            norm: BatchNormConfig::new(12).init(&DEVICE),
            depthwise: Conv2dConfig::new([12, 12], [3, 3]).with_groups(12).with_padding(same).init(&DEVICE),
            pointwise: Conv2dConfig::new([12, 17], [1, 1]).init(&DEVICE),
            out: LinearConfig::new(17 * 2 * 2, 4).init(&DEVICE),
        };
        // The generator is shared with other tests' operations, so the values don't come from it.
        net.map(&mut Numbered(0))
    }

    fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 2> {
        let x = relu(self.norm.forward(self.first.forward(x)));
        let x = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init().forward(x);
        let x = relu(self.depthwise.forward(x.clone()) + x);
        let x = relu(self.pointwise.forward(x));
        let x = AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init().forward(x);
        self.out.forward(x.flatten(1, 3))
    }
}

/// Gives each float parameter its own values.
struct Numbered(u64);

impl<B: Backend<Device = FlexDevice>> burn::module::ModuleMapper<B> for Numbered {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        self.0 += 1;
        let number = self.0;
        param.map(|tensor| {
            Tensor::<B, D>::from_data(data(tensor.dims(), number), &DEVICE).mul_scalar(0.3).set_require_grad(true)
        })
    }
}

struct Values(Vec<f64>);

impl<B: Backend> ModuleVisitor<B> for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.extend(param.val().into_data().iter::<f64>());
    }
}

/// Losses of each step, and the weights at the end.
fn trained<B: AutodiffBackend<Device = FlexDevice>>(
    mut optimizer: impl Optimizer<Net<B>, B>,
    rate: f64,
) -> (Vec<f64>, Vec<f64>) {
    let mut net = Net::<B>::new();
    let mut losses = Vec::new();
    for step in 0..20 {
        // The last batch is short.
        let batch = if step % 4 == 3 { 3 } else { 8 };
        let x = Tensor::<B, 4>::from_data(data([batch, 3, 8, 8], 100 + step % 4), &DEVICE);
        let labels: Vec<i32> = (0..batch).map(|image| ((image as u64 + step) % 4) as i32).collect();
        let labels = Tensor::<B, 1, Int>::from_ints(labels.as_slice(), &DEVICE);
        let loss = CrossEntropyLossConfig::new().init(&DEVICE).forward(net.forward(x), labels);
        losses.push(loss.clone().into_data().iter::<f64>().next().unwrap());
        let gradients = GradientsParams::from_grads(loss.backward(), &net);
        net = optimizer.step(rate, net, gradients);
    }
    let mut values = Values(Vec::new());
    net.valid().visit(&mut values);
    (losses, values.0)
}

fn assert_close(
    (losses, weights): (Vec<f64>, Vec<f64>),
    (plain_losses, plain_weights): (Vec<f64>, Vec<f64>),
    within: f64,
) {
    for (step, (loss, plain)) in losses.iter().zip(&plain_losses).enumerate() {
        assert!((loss - plain).abs() <= within * plain.abs().max(1.0), "loss {loss} instead of {plain} at step {step}");
    }
    assert!(losses.iter().all(|loss| loss.is_finite()));
    let distance: f64 = weights.iter().zip(&plain_weights).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = plain_weights.iter().map(|value| value.powi(2)).sum();
    assert_eq!(weights.len(), plain_weights.len());
    assert!(distance.sqrt() <= within * size.sqrt(), "weights are {} of {} apart", distance.sqrt(), size.sqrt());
}

#[test]
fn a_model_trained_by_descent_is_flexs() {
    let plain = trained::<Plain>(SgdConfig::new().init(), 0.05);
    assert_close(trained::<Ours>(SgdConfig::new().init(), 0.05), plain, 1e-4);
}

#[test]
fn a_model_trained_by_adam_is_flexs() {
    // A gradient near nothing makes a step of full size: the two drift apart more.
    let plain = trained::<Plain>(AdamConfig::new().init(), 0.002);
    let ours = trained::<Ours>(peerfold::train::Adam::default().init(), 0.002);
    assert_close(ours, plain, 1e-2);
}

#[test]
fn training_is_alike_for_every_number_of_threads() {
    let of = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| trained::<Ours>(peerfold::train::Adam::default().init(), 0.002))
    };
    let alone = of(1);
    for threads in [2, 5] {
        let shared = of(threads);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert!(bits(&shared.0) == bits(&alone.0) && bits(&shared.1) == bits(&alone.1), "{threads} threads");
    }
}
