use super::*;
use crate::train::{Classifier, DigitsMlp, init_seeded};
use burn::{
    backend::{Autodiff, Flex},
    module::Module,
    optim::{AdamConfig, GradientsParams},
};

type B = Autodiff<Flex>;
type Mlp = DigitsMlp<B>;

fn step(model: Mlp, optimizer: &mut AdamOver<Mlp, B>) -> Mlp {
    let images = Tensor::ones([2, 1, 8, 8], &Default::default());
    let loss = model.forward(images).powi_scalar(2).sum();
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    optimizer.step(1e-3, model, gradients)
}

fn trained() -> (Mlp, AdamOver<Mlp, B>) {
    let mut optimizer = AdamConfig::new().init();
    let model = init_seeded(Mlp::new(&Default::default()), 1);
    let model = step(step(model, &mut optimizer), &mut optimizer);
    (model, optimizer)
}

/// A state with other tensors inside, correct otherwise.
fn forged(bytes: &[u8], change: impl Fn(&mut Vec<NamedTensor>)) -> Vec<u8> {
    let file = Bytes::copy_from_slice(&bytes[MAGIC.len() + HASH_BYTES..]);
    let weights = Weights::from_safetensors(&file).unwrap();
    let mut tensors: Vec<NamedTensor> =
        weights.tensors().map(|(spec, data)| NamedTensor { spec: spec.clone(), data: data.clone() }).collect();
    change(&mut tensors);
    let file = Weights::new(tensors).unwrap().to_safetensors().unwrap();
    [MAGIC.as_slice(), blake3::hash(&file).as_bytes(), &file].concat()
}

#[test]
fn another_module_goes_on_where_this_one_was() {
    let (model, mut optimizer) = trained();
    let bytes = save_adam(&model, &optimizer).unwrap();
    let fresh = Mlp::new(&Default::default());
    let ids = burn::module::list_param_ids(&fresh);
    let (other, mut other_optimizer) = restore_adam(fresh, AdamConfig::new().init(), &bytes).unwrap();
    assert_eq!(burn::module::list_param_ids(&other), ids);
    assert_eq!(save_adam(&other, &other_optimizer).unwrap(), bytes);
    let (model, other) = (step(model, &mut optimizer), step(other, &mut other_optimizer));
    assert_eq!(save_adam(&other, &other_optimizer).unwrap(), save_adam(&model, &optimizer).unwrap());
}

#[test]
fn an_untrained_state_has_no_moments() {
    let model = init_seeded(Mlp::new(&Default::default()), 1);
    let bytes = save_adam::<B, _>(&model, &AdamConfig::new().init()).unwrap();
    let (_, optimizer) = trained();
    let (model, optimizer) = restore_adam(model, optimizer, &bytes).unwrap();
    assert_eq!(save_adam(&model, &optimizer).unwrap(), bytes);
    assert!(optimizer.to_record().is_empty());
}

#[test]
fn amsgrad_keeps_its_highest_moments() {
    let config = AdamConfig::new().with_amsgrad(true);
    let (model, mut optimizer) = (init_seeded(Mlp::new(&Default::default()), 1), config.init());
    let model = step(model, &mut optimizer);
    let bytes = save_adam(&model, &optimizer).unwrap();
    let (other, other_optimizer) = restore_adam(Mlp::new(&Default::default()), config.init(), &bytes).unwrap();
    assert_eq!(save_adam(&other, &other_optimizer).unwrap(), bytes);
    assert!(bytes.windows(15).any(|window| window == b"x:hidden.weight"));
}

#[test]
fn no_damage_goes_unnoticed_or_panics() {
    let (model, optimizer) = trained();
    let bytes = save_adam(&model, &optimizer).unwrap();
    let refused = |bytes: &[u8]| restore_adam(model.clone(), optimizer.clone(), bytes).is_err();
    assert!((0..bytes.len()).step_by(997).chain(0..100).all(|cut| refused(&bytes[..cut])));
    for at in (0..bytes.len()).step_by(499) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x40;
        assert!(refused(&changed), "byte {at}");
    }
    assert!(refused(&[bytes.as_slice(), b"x"].concat()));
    assert!(refused(b"") && refused(b"garbage") && refused(&vec![0xff; 1 << 16]));
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let (model, optimizer) = trained();
    let bytes = save_adam(&model, &optimizer).unwrap();
    type Change = fn(&mut Vec<NamedTensor>);
    let cases: [(&str, Change); 6] = [
        ("m:hidden.bias", |tensors| tensors.retain(|tensor| tensor.spec.name != "m:hidden.bias")),
        ("t:hidden.bias", |tensors| {
            let steps = tensors.iter_mut().find(|tensor| tensor.spec.name == "t:hidden.bias").unwrap();
            steps.data = i64::MAX.to_le_bytes().to_vec().into();
        }),
        ("v:hidden.bias", |tensors| {
            let moment = tensors.iter_mut().find(|tensor| tensor.spec.name == "v:hidden.bias").unwrap();
            moment.spec.shape = vec![8, 8];
        }),
        ("m:hidden.stranger", |tensors| {
            let mut tensor = tensors[0].clone();
            tensor.spec.name = "m:hidden.stranger".to_owned();
            tensors.push(tensor);
        }),
        ("ö", |tensors| {
            let mut tensor = tensors[0].clone();
            tensor.spec.name = "ö".to_owned();
            tensors.push(tensor);
        }),
        ("output.weight", |tensors| tensors.retain(|tensor| tensor.spec.name != "p:output.weight")),
    ];
    for (name, change) in cases {
        let error = restore_adam(model.clone(), optimizer.clone(), &forged(&bytes, change)).err().unwrap().to_string();
        assert!(error.contains(name), "{name}: {error}");
    }
    assert_eq!(model.num_params(), 4_810);
    assert_eq!(save_adam(&model, &optimizer).unwrap(), bytes);
}
