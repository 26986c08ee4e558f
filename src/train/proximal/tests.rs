//! The proximal term's gradient against burn's own differentiation of it.

use super::*;
use crate::train::{Cpu, collect, init_seeded};
use burn::{
    backend::Autodiff,
    module::Module,
    nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig},
    optim::{Optimizer, SgdConfig},
    tensor::backend::Backend,
};

type B = Autodiff<Cpu>;
const MU: f64 = 0.3;

#[derive(Module, Debug)]
struct Net<B: Backend> {
    input: Linear<B>,
    norm: BatchNorm<B>,
    frozen: Linear<B>,
    unused: Linear<B>,
}

impl Net<B> {
    fn new() -> Self {
        let device = Default::default();
        let linear = || LinearConfig::new(3, 3).init(&device);
        let net = Self {
            input: linear(),
            norm: BatchNormConfig::new(3).init(&device),
            frozen: linear().no_grad(),
            unused: linear(),
        };
        init_seeded(net, 4)
    }

    fn loss(&self) -> Tensor<B, 1> {
        let x = Tensor::<B, 2>::from_floats([[0.3, -1.0, 0.7], [1.1, 0.2, -0.4]], &Default::default());
        self.frozen.forward(self.norm.forward(self.input.forward(x))).powi_scalar(2).sum()
    }

    /// μ/2·‖w − w_start‖² over what is trained, for burn to differentiate.
    fn term(&self, start: &Self) -> Tensor<B, 1> {
        let square =
            |w: &Param<Tensor<B, 2>>, s: &Param<Tensor<B, 2>>| (w.val() - s.val().detach()).powi_scalar(2).sum();
        let square_1 =
            |w: &Param<Tensor<B, 1>>, s: &Param<Tensor<B, 1>>| (w.val() - s.val().detach()).powi_scalar(2).sum();
        let linear = |a: &Linear<B>, b: &Linear<B>| {
            square(&a.weight, &b.weight) + square_1(a.bias.as_ref().unwrap(), b.bias.as_ref().unwrap())
        };
        let norm = square_1(&self.norm.gamma, &start.norm.gamma) + square_1(&self.norm.beta, &start.norm.beta);
        (linear(&self.input, &start.input) + norm + linear(&self.unused, &start.unused)) * (MU / 2.0)
    }
}

/// The net, and where it was some steps before.
fn moved() -> (Net<B>, Net<B>) {
    let start = Net::new();
    let (mut net, mut sgd) = (start.clone(), SgdConfig::new().init());
    for _ in 0..3 {
        let loss = net.loss() + net.unused.weight.val().sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &net);
        net = sgd.step(0.01, net, gradients);
    }
    (net, start)
}

/// Every gradient, by the place of its parameter; `None` for a parameter that has none.
fn values(gradients: &GradientsParams, net: &Net<B>) -> Vec<Option<Vec<f32>>> {
    struct Read<'a>(&'a GradientsParams, Vec<Option<Vec<f32>>>);
    impl ModuleVisitor<B> for Read<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let gradient = self.0.get::<Cpu, D>(param.id);
            self.1.push(gradient.map(|gradient| gradient.into_data().iter::<f32>().collect()));
        }
    }
    let mut read = Read(gradients, Vec::new());
    net.visit(&mut read);
    read.1
}

#[test]
fn it_is_the_gradient_of_the_loss_with_the_term() {
    let (net, start) = moved();
    let mut gradients = GradientsParams::from_grads(net.loss().backward(), &net);
    let without = values(&gradients, &net);
    add_proximal_gradient(&mut gradients, &net, &start, MU);
    let got = values(&gradients, &net);
    let expected = values(&GradientsParams::from_grads((net.loss() + net.term(&start)).backward(), &net), &net);
    assert_eq!(got.len(), 10, "four of the linear layers' pairs and the norm's parameters and statistics: {got:?}");
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got.is_some(), expected.is_some());
        for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
            assert!((got - expected).abs() <= 1e-6 * (1.0 + expected.abs()), "{got} {expected}");
        }
    }
    // Frozen parameters and running statistics have none; one that the loss doesn't need has the term's alone.
    let count = |all: &[Option<Vec<f32>>]| all.iter().flatten().count();
    assert_eq!((count(&without), count(&got)), (4, 6));
}

/// The derivative of a square by central differences is exact but for rounding.
#[test]
fn what_it_adds_is_the_terms_slope() {
    let (net, start) = moved();
    let mut gradients = GradientsParams::new();
    add_proximal_gradient(&mut gradients, &net, &start, MU);
    let got: Vec<f32> = gradients.get::<Cpu, 2>(net.input.weight.id).unwrap().into_data().iter().collect();
    let numbers = |net: &Net<B>| net.input.weight.val().into_data().iter::<f64>().collect::<Vec<_>>();
    let (w, s) = (numbers(&net), numbers(&start));
    assert!(w.iter().zip(&s).any(|(w, s)| (w - s).abs() > 1e-3));
    for (at, got) in got.into_iter().enumerate() {
        let term = |by: f64| MU / 2.0 * (w[at] + by - s[at]).powi(2);
        let slope = (term(1e-3) - term(-1e-3)) / 2e-3;
        assert!((f64::from(got) - slope).abs() < 1e-7, "{got} {slope}");
    }
}

#[test]
fn with_a_factor_of_zero_nothing_is_touched() {
    let (net, start) = moved();
    let mut gradients = GradientsParams::from_grads(net.loss().backward(), &net);
    let before = values(&gradients, &net);
    add_proximal_gradient(&mut gradients, &net, &start, 0.0);
    assert_eq!(values(&gradients, &net), before);
}

#[test]
fn the_clone_stays_where_the_module_was() {
    let (net, start) = moved();
    assert_eq!(collect(&start.unused).unwrap(), collect(&Net::new().unused).unwrap());
    assert_ne!(collect(&net.unused).unwrap(), collect(&start.unused).unwrap());
}
