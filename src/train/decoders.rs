//! The decoders of this layer, as fuzzers try them.
#![allow(clippy::unwrap_used)]

use super::{Cpu, Model, Partial, SavedLayout, from_saved, restore_optimizer, save_optimizer};
use crate::{
    untrusted::{Target, told},
    weights::{Tensor, Weights},
};
use burn::{
    backend::Autodiff,
    nn::{Linear, LinearConfig},
    optim::{GradientsParams, Optimizer, SgdConfig, momentum::MomentumConfig},
};

type B = Autodiff<Cpu>;

fn partial(mut bytes: &[u8]) {
    let Some(partial) = told(Partial::read(&mut bytes)) else { return };
    let written = |partial: &Partial| {
        let mut out = Vec::new();
        partial.write(&mut out).unwrap();
        out
    };
    let again = written(&partial);
    assert_eq!(written(&Partial::read(&mut &again[..]).unwrap()), again);
}

fn partials() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    Partial::after(17).figure("loss", 0.5).figure("examples", f64::NAN).write(&mut out).unwrap();
    let longest = [&out[..16], &[0xff; 8]].concat();
    vec![out, longest]
}

fn small() -> Linear<B> {
    super::init_seeded(LinearConfig::new(2, 3).init(&Default::default()), 1)
}

/// All is read and decoded before the hash is, and only then does burn see it.
fn optimizer(bytes: &[u8]) {
    let optimizer = SgdConfig::new().with_momentum(Some(MomentumConfig::new())).init::<B, Linear<B>>();
    told(restore_optimizer::<B, _, _>(&small(), optimizer, &mut &bytes[..]).map(drop));
}

fn optimizers() -> Vec<Vec<u8>> {
    let mut optimizer = SgdConfig::new().with_momentum(Some(MomentumConfig::new())).init::<B, Linear<B>>();
    let x = burn::tensor::Tensor::<B, 1>::from_floats([0.5, -1.0, 2.0, 0.25], &Default::default()).reshape([2, 2]);
    let model = small();
    let gradients = GradientsParams::from_grads(model.forward(x).sum().backward(), &model);
    let model = optimizer.step(0.1, model, gradients);
    let mut out = Vec::new();
    save_optimizer::<B, _, _>(&model, &optimizer, &mut out).unwrap();
    vec![out]
}

/// A file for a built-in model, in either layout.
fn saved_layout(bytes: &[u8]) {
    let Ok(saved) = Weights::from_safetensors(&bytes.to_vec().into()) else { return };
    for model in [Model::Digits, Model::Mnist] {
        if let Some(weights) = told(from_saved(model, &saved)) {
            assert_eq!(**weights.layout(), model.layout());
        }
    }
}

fn saved_layouts() -> Vec<Vec<u8>> {
    let layout = Model::Digits.layout();
    let tensor =
        |spec: &crate::weights::TensorSpec| Tensor { spec: spec.clone(), data: vec![0; spec.bytes() as usize].into() };
    let weights = Weights::new(layout.tensors().iter().map(tensor).collect()).unwrap();
    let file = |saved: SavedLayout| saved.save(Model::Digits, &weights).unwrap().to_safetensors().unwrap();
    vec![file(SavedLayout::Torch), file(SavedLayout::Burn)]
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    vec![
        Target { name: "partial", run: partial, seeds: partials },
        Target { name: "optimizer-state", run: optimizer, seeds: optimizers },
        Target { name: "saved-layout", run: saved_layout, seeds: saved_layouts },
    ]
}
