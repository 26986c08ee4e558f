//! Every optimizer goes on from saved bytes, and damaged or foreign bytes are refused.

use super::*;
use crate::train::{Cpu, apply, collect, init_seeded};
use burn::{
    backend::Autodiff,
    grad_clipping::GradientClippingConfig,
    module::{Module, Param},
    nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig},
    optim::{
        AdaGradConfig, AdamConfig, AdamWConfig, GradientsParams, RmsPropConfig, SgdConfig, momentum::MomentumConfig,
    },
    tensor::{DType, Tensor, TensorData, backend::Backend},
};

type B = Autodiff<Cpu>;

/// Two ranks, running statistics, and a layer that is never trained.
#[derive(Module, Debug)]
struct Small<B: Backend> {
    first: Linear<B>,
    norm: BatchNorm<B>,
    second: Linear<B>,
    idle: Linear<B>,
}

impl<B: Backend> Small<B> {
    fn seeded(seed: u64) -> Self {
        let device = Default::default();
        let linear = |from, to| LinearConfig::new(from, to).init(&device);
        let norm = BatchNormConfig::new(5).init(&device);
        init_seeded(Self { first: linear(4, 5), norm, second: linear(5, 2), idle: linear(2, 2) }, seed)
    }

    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        self.second.forward(self.norm.forward(self.first.forward(x)))
    }
}

fn step<O: Optimizer<Small<B>, B>>(model: Small<B>, optimizer: &mut O, number: usize) -> Small<B> {
    let values: Vec<f32> = (0..12).map(|index| ((index * 37 + number * 11) % 17) as f32 / 17.0).collect();
    let x = Tensor::<B, 1>::from_floats(values.as_slice(), &Default::default()).reshape([3, 4]);
    let loss = (model.forward(x) - 1.0).powi_scalar(2).sum();
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    optimizer.step(1e-2, model, gradients)
}

fn trained<O: Optimizer<Small<B>, B>>(mut optimizer: O, steps: usize) -> (Small<B>, O) {
    let model = (0..steps).fold(Small::seeded(1), |model, number| step(model, &mut optimizer, number));
    (model, optimizer)
}

fn save<M: AutodiffModule<B>, O: Optimizer<M, B>>(model: &M, optimizer: &O) -> Vec<u8> {
    let mut bytes = Vec::new();
    save_optimizer::<B, M, O>(model, optimizer, &mut bytes).unwrap();
    bytes
}

fn restore<M: AutodiffModule<B>, O: Optimizer<M, B>>(model: &M, optimizer: O, bytes: &[u8]) -> Result<O, StateError> {
    restore_optimizer::<B, M, O>(model, optimizer, &mut &bytes[..])
}

fn refusal<O: Optimizer<Small<B>, B>>(model: &Small<B>, optimizer: O, bytes: &[u8]) -> String {
    restore(model, optimizer, bytes).err().expect("must be refused").to_string()
}

/// A state with another header and other parts, correct otherwise.
fn forged(bytes: &[u8], change: impl Fn(&mut Header, &mut Vec<u8>)) -> Vec<u8> {
    let (start, rest) = bytes.split_at(MAGIC.len() + 4);
    let length = u32::from_le_bytes(start[MAGIC.len()..].try_into().unwrap()) as usize;
    let mut header = postcard::from_bytes(&rest[..length]).unwrap();
    let mut parts = rest[length..rest.len() - HASH_BYTES].to_vec();
    change(&mut header, &mut parts);
    let header = postcard::to_stdvec(&header).unwrap();
    let bytes = [MAGIC.as_slice(), &(header.len() as u32).to_le_bytes(), &header, &parts].concat();
    [&bytes, &blake3::hash(&bytes).as_bytes()[..]].concat()
}

/// Another module and another optimizer go on from the bytes, bit for bit, also after weights were set between.
fn goes_on<O: Optimizer<Small<B>, B>>(fresh: impl Fn() -> O) {
    let (model, mut optimizer) = trained(fresh(), 3);
    let bytes = save(&model, &optimizer);
    let (_, untrained) = trained(fresh(), 0);
    let other = Small::seeded(2);
    let followed = [&bytes, &b"more"[..]].concat();
    let mut from = &followed[..];
    let mut other_optimizer = restore_optimizer(&other, untrained, &mut from).unwrap();
    assert_eq!(from, b"more", "exactly what was written is read");
    assert!(save(&other, &other_optimizer) == bytes);

    let folded = collect(&Small::<B>::seeded(9)).unwrap();
    let (model, other) = (apply(model, &folded).unwrap(), apply(other, &folded).unwrap());
    let straight = (3..6).fold(model, |model, number| step(model, &mut optimizer, number));
    let continued = (3..6).fold(other, |model, number| step(model, &mut other_optimizer, number));
    assert!(save(&continued, &other_optimizer) == save(&straight, &optimizer));
    assert!(collect(&continued).unwrap() == collect(&straight).unwrap());

    // What makes the difference is the optimizer's state, if it has one.
    let (mut forgetful, start) = (fresh(), apply(Small::seeded(1), &folded).unwrap());
    let forgotten = (3..6).fold(start, |model, number| step(model, &mut forgetful, number));
    assert!(collect(&forgotten).unwrap() != collect(&straight).unwrap());
}

#[test]
fn every_optimizer_goes_on_where_it_was() {
    goes_on(|| AdamConfig::new().init());
    goes_on(|| AdamConfig::new().with_amsgrad(true).init());
    goes_on(|| AdamWConfig::new().init());
    goes_on(|| AdaGradConfig::new().init());
    goes_on(|| SgdConfig::new().with_momentum(Some(MomentumConfig::new())).init());
    goes_on(|| RmsPropConfig::new().with_centered(true).with_momentum(0.9).init());
    let clipping = Some(GradientClippingConfig::Norm(0.5));
    goes_on(|| AdamConfig::new().with_grad_clipping(clipping.clone()).init());
}

#[test]
fn an_untrained_state_has_no_moments() {
    let bytes = save(&Small::seeded(1), &AdamConfig::new().init());
    let (model, optimizer) = trained(AdamConfig::new().init(), 2);
    let optimizer = restore(&model, optimizer, &bytes).unwrap();
    assert!(save(&model, &optimizer) == bytes);
    assert!(optimizer.to_record().is_empty());
}

#[test]
fn equal_states_of_other_modules_are_equal_bytes() {
    let bytes = || {
        let (model, optimizer) = trained(AdamConfig::new().init(), 2);
        save(&model, &optimizer)
    };
    assert!((0..5).all(|_| bytes() == bytes()));
}

#[test]
fn no_damage_goes_unnoticed_or_panics() {
    let (model, optimizer) = trained(AdamConfig::new().init(), 2);
    let bytes = save(&model, &optimizer);
    let refused = |bytes: &[u8]| restore(&model, optimizer.clone(), bytes).is_err();
    assert!((0..bytes.len()).all(|cut| refused(&bytes[..cut])));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x40;
        assert!(refused(&changed), "byte {at}");
    }
    assert!(refused(b"") && refused(b"garbage") && refused(&vec![0xff; 1 << 16]));
    // Lengths that promise more than there is, or less.
    for wrong in [1, 5, u64::MAX] {
        assert!(refused(&forged(&bytes, |header, _| match &mut header.parts {
            Parts::Entries(entries) => entries[0].1 = wrong,
            Parts::Whole(length) => *length = wrong,
        })));
    }
    assert!(save(&model, &optimizer) == bytes);
}

#[test]
fn another_optimizers_state_is_refused_by_name_and_by_its_fields() {
    let (model, adam) = trained(AdamConfig::new().init(), 2);
    let bytes = save(&model, &adam);
    let sgd = || SgdConfig::new().with_momentum(Some(MomentumConfig::new())).init::<B, Small<B>>();
    let rms = RmsPropConfig::new().init::<B, Small<B>>();
    assert!(refusal(&model, AdamWConfig::new().init(), &bytes).contains("optimizer Adam, not of AdamW"));
    assert!(refusal(&model, sgd(), &bytes).contains("optimizer Adam, not of Sgd"));
    let called = |name: &'static str| forged(&bytes, move |header, _| header.optimizer = name.to_owned());
    assert!(refusal(&model, rms, &called("RmsProp")).contains("record of the optimizer RmsProp"));
    let (other, trained_sgd) = trained(sgd(), 2);
    let of_sgd = forged(&save(&other, &trained_sgd), |header, _| header.optimizer = "Adam".to_owned());
    assert!(refusal(&model, adam, &of_sgd).contains("record of the optimizer Adam"));
}

#[test]
fn another_models_state_is_refused_with_the_difference() {
    let (model, adam) = trained(AdamConfig::new().init(), 2);
    let bytes = save(&model, &adam);
    let linear = LinearConfig::new(4, 5).init::<B>(&Default::default());
    let error = restore(&linear, AdamConfig::new().init(), &bytes).err().unwrap().to_string();
    assert!(error.contains("don't fit the model"), "{error}");
    let renamed = forged(&bytes, |header, _| match &mut header.parts {
        Parts::Entries(entries) => {
            let entry = entries.iter_mut().find(|(name, _)| name.ends_with("second.weight")).unwrap();
            entry.0 = entry.0.replace("second", "xecond");
        }
        Parts::Whole(_) => panic!("Adam goes by parameters"),
    });
    assert!(refusal(&model, adam.clone(), &renamed).contains("no tensor \"xecond.weight\""));
    let garbage = forged(&bytes, |_, parts| parts.fill(0x9f));
    assert!(refusal(&model, adam, &garbage).contains("not usable"));
}

/// burn would hand the moments back in the backend's precision, and panic at the next step.
#[test]
fn moments_in_another_precision_than_the_backends_are_an_error_when_saved() {
    let device = Default::default();
    let values = TensorData::new(vec![1.0f64, 2.0, 3.0, 4.0], [2, 2]);
    let weight = Param::from_tensor(Tensor::<B, 2>::from_data(values, (&device, DType::F64)));
    let linear = Linear { weight, ..LinearConfig::new(2, 2).with_bias(false).init(&device) };
    let mut adam = AdamConfig::new().init();
    assert!(!save(&linear, &adam).is_empty());
    let x = Tensor::<B, 2>::ones([1, 2], &device).cast(DType::F64);
    let gradients = GradientsParams::from_grads(linear.forward(x).sum().backward(), &linear);
    let linear = adam.step(0.1, linear, gradients);
    let saved = save_optimizer(&linear, &adam, &mut Vec::new());
    assert!(matches!(saved, Err(StateError::Precision { .. })));
}

#[test]
fn optimizers_are_named_without_their_paths() {
    let name = |text| optimizer_name(text);
    assert_eq!(name("a::simple::adaptor::OptimizerAdaptor<b::adam::Adam, my::Model<x::B>, x::B>"), "Adam");
    assert_eq!(name("a::OptimizerAdaptor<b::Sgd<c::Flex>, my::Model, x::B>"), "Sgd");
    assert_eq!(name("mine::Own<x::B>"), "Own");
}
