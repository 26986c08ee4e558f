use super::*;
use crate::train::{Cpu, apply, collect, init_seeded};
use burn::{
    backend::Autodiff,
    grad_clipping::GradientClippingConfig,
    module::{Module, Param, list_param_ids},
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

fn refusal<O: Optimizer<Small<B>, B>>(model: Small<B>, optimizer: O, bytes: &[u8]) -> String {
    restore_state(model, optimizer, bytes).err().expect("must be refused").to_string()
}

/// A state with another body, correct otherwise.
fn forged(bytes: &[u8], change: impl Fn(&mut Body)) -> Vec<u8> {
    let mut body = postcard::from_bytes(&bytes[MAGIC.len() + HASH_BYTES..]).unwrap();
    change(&mut body);
    let body = postcard::to_stdvec(&body).unwrap();
    [MAGIC.as_slice(), blake3::hash(&body).as_bytes(), &body].concat()
}

/// Another module and another optimizer go on from the bytes, bit for bit, also after weights were set between.
fn goes_on<O: Optimizer<Small<B>, B>>(fresh: impl Fn() -> O) {
    let (model, mut optimizer) = trained(fresh(), 3);
    let bytes = save_state(&model, &optimizer).unwrap();
    let (_, untrained) = trained(fresh(), 0);
    let other = Small::seeded(2);
    let ids = list_param_ids(&other);
    let (other, mut other_optimizer) = restore_state(other, untrained, &bytes).unwrap();
    assert_eq!(list_param_ids(&other), ids);
    assert!(save_state(&other, &other_optimizer).unwrap() == bytes);

    let folded = collect(&Small::<B>::seeded(9)).unwrap();
    let (model, other) = (apply(model, &folded).unwrap(), apply(other, &folded).unwrap());
    let straight = (3..6).fold(model, |model, number| step(model, &mut optimizer, number));
    let continued = (3..6).fold(other, |model, number| step(model, &mut other_optimizer, number));
    assert!(save_state(&continued, &other_optimizer).unwrap() == save_state(&straight, &optimizer).unwrap());

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
    let bytes = save_state::<B, _, _>(&Small::seeded(1), &AdamConfig::new().init()).unwrap();
    let (model, optimizer) = trained(AdamConfig::new().init(), 2);
    let (model, optimizer) = restore_state(model, optimizer, &bytes).unwrap();
    assert!(save_state(&model, &optimizer).unwrap() == bytes);
    assert!(optimizer.to_record().is_empty());
}

#[test]
fn equal_states_of_other_modules_are_equal_bytes() {
    let bytes = || {
        let (model, optimizer) = trained(AdamConfig::new().init(), 2);
        save_state(&model, &optimizer).unwrap()
    };
    assert!((0..5).all(|_| bytes() == bytes()));
}

#[test]
fn no_damage_goes_unnoticed_or_panics() {
    let (model, optimizer) = trained(AdamConfig::new().init(), 2);
    let bytes = save_state(&model, &optimizer).unwrap();
    let refused = |bytes: &[u8]| restore_state(model.clone(), optimizer.clone(), bytes).is_err();
    assert!((0..bytes.len()).all(|cut| refused(&bytes[..cut])));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x40;
        assert!(refused(&changed), "byte {at}");
    }
    assert!(refused(&[bytes.as_slice(), b"x"].concat()));
    assert!(refused(b"") && refused(b"garbage") && refused(&vec![0xff; 1 << 16]));
    assert!(save_state(&model, &optimizer).unwrap() == bytes);
}

#[test]
fn another_optimizers_state_is_refused_by_name_and_by_its_fields() {
    let (model, adam) = trained(AdamConfig::new().init(), 2);
    let bytes = save_state(&model, &adam).unwrap();
    let sgd = || SgdConfig::new().with_momentum(Some(MomentumConfig::new())).init::<B, Small<B>>();
    let rms = RmsPropConfig::new().init::<B, Small<B>>();
    assert!(refusal(model.clone(), AdamWConfig::new().init(), &bytes).contains("optimizer Adam, not of AdamW"));
    assert!(refusal(model.clone(), sgd(), &bytes).contains("optimizer Adam, not of Sgd"));
    let called = |name: &'static str| forged(&bytes, move |body| body.optimizer = name.to_owned());
    assert!(refusal(model.clone(), rms, &called("RmsProp")).contains("record of the optimizer RmsProp"));
    let (other, trained_sgd) = trained(sgd(), 2);
    let of_sgd = forged(&save_state(&other, &trained_sgd).unwrap(), |body| body.optimizer = "Adam".to_owned());
    assert!(refusal(model, adam, &of_sgd).contains("record of the optimizer Adam"));
}

#[test]
fn another_models_state_is_refused_with_the_difference() {
    let (model, adam) = trained(AdamConfig::new().init(), 2);
    let bytes = save_state(&model, &adam).unwrap();
    let linear = LinearConfig::new(4, 5).init::<B>(&Default::default());
    let error = restore_state(linear, AdamConfig::new().init(), &bytes).err().unwrap().to_string();
    assert!(error.contains("don't fit the model"), "{error}");
    let renamed = forged(&bytes, |body| {
        let mut record = body.record.to_vec();
        let at = record.windows(12).position(|window| window == b"second.weigh").unwrap();
        record[at] = b'x';
        body.record = record.into();
    });
    assert!(refusal(model.clone(), adam.clone(), &renamed).contains("no tensor \"xecond.weight\""));
    let garbage = forged(&bytes, |body| body.record = vec![0x9f; 4096].into());
    assert!(refusal(model, adam, &garbage).contains("not usable"));
}

/// burn would hand the moments back in the backend's precision, and panic at the next step.
#[test]
fn moments_in_another_precision_than_the_backends_are_an_error_when_saved() {
    let device = Default::default();
    let values = TensorData::new(vec![1.0f64, 2.0, 3.0, 4.0], [2, 2]);
    let weight = Param::from_tensor(Tensor::<B, 2>::from_data(values, (&device, DType::F64)));
    let linear = Linear { weight, ..LinearConfig::new(2, 2).with_bias(false).init(&device) };
    let mut adam = AdamConfig::new().init();
    assert!(save_state(&linear, &adam).is_ok());
    let x = Tensor::<B, 2>::ones([1, 2], &device).cast(DType::F64);
    let gradients = GradientsParams::from_grads(linear.forward(x).sum().backward(), &linear);
    let linear = adam.step(0.1, linear, gradients);
    assert!(matches!(save_state(&linear, &adam), Err(StateError::Precision { .. })));
}

#[test]
fn optimizers_are_named_without_their_paths() {
    let name = |text| optimizer_name(text);
    assert_eq!(name("a::simple::adaptor::OptimizerAdaptor<b::adam::Adam, my::Model<x::B>, x::B>"), "Adam");
    assert_eq!(name("a::OptimizerAdaptor<b::Sgd<c::Flex>, my::Model, x::B>"), "Sgd");
    assert_eq!(name("mine::Own<x::B>"), "Own");
}
