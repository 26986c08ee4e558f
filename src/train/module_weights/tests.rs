//! A module's tensors go out and come back, and what doesn't fit is refused before anything changes.

use super::*;
use crate::train::Cpu;
use crate::weights::Tensor as NamedTensor;
use burn::{
    backend::Autodiff,
    module::{AutodiffModule, ParamId},
    nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, LinearLayout},
    optim::GradientsParams,
    tensor::Distribution,
};

type B = Autodiff<Cpu>;

/// One of everything that a module can hold.
#[derive(Module, Debug)]
struct Mixed<B: Backend> {
    layers: Vec<Linear<B>>,
    norm: BatchNorm<B>,
    /// Saved transposed.
    column: Linear<B>,
    absent: Option<Linear<B>>,
    frozen: Param<Tensor<B, 1>>,
    counter: Param<Tensor<B, 1, Int>>,
    mask: Param<Tensor<B, 2, Bool>>,
    half: Param<Tensor<B, 1>>,
}

impl<B: Backend> Mixed<B> {
    fn new(device: &B::Device) -> Self {
        let random = |shape: [usize; 1]| Tensor::<B, 1>::random(shape, Distribution::Default, device);
        let half = random([3]).cast(BurnDType::F16);
        Self {
            layers: vec![LinearConfig::new(4, 5).init(device), LinearConfig::new(5, 3).with_bias(false).init(device)],
            norm: BatchNormConfig::new(3).init(device),
            column: LinearConfig::new(3, 2).with_layout(LinearLayout::Col).init(device),
            absent: None,
            frozen: Param::from_tensor(random([2])).set_require_grad(false),
            counter: Param::initialized(ParamId::new(), Tensor::from_ints([7, -1], device)),
            mask: Param::initialized(
                ParamId::new(),
                Tensor::from_data(TensorData::new(vec![true, false], [1, 2]), device),
            ),
            half: Param::from_tensor(half),
        }
    }

    fn forward(&self, input: Tensor<B, 2>) -> Tensor<B, 2> {
        let hidden = self.layers.iter().fold(input, |input, layer| layer.forward(input));
        self.column.forward(self.norm.forward(hidden))
    }
}

fn ids<M: Module<B>>(module: &M) -> Vec<ParamId> {
    burn::module::list_param_ids(module)
}

#[test]
fn what_no_gradient_changes_is_told_apart() {
    let module = Mixed::<B>::new(&Default::default());
    let weights = weights_of(&module);
    let module = apply(module, &weights).unwrap();
    // burn gives the weight of a column layout no gradient.
    let grads = module.forward(Tensor::ones([2, 4], &Default::default())).sum().backward();
    assert!(module.column.weight.val().grad(&grads).is_none());
    assert_eq!(untrained(&module), ["norm.running_mean", "norm.running_var", "column.weight", "frozen"]);
}

fn weights_of(module: &Mixed<B>) -> Weights {
    collect(module).unwrap()
}

#[test]
fn everything_is_collected_under_its_path() {
    let module = Mixed::<B>::new(&Default::default());
    let layout = layout_of(&module).unwrap();
    let tensors: Vec<String> = layout.tensors().iter().map(ToString::to_string).collect();
    assert_eq!(
        tensors,
        [
            "column.bias f32[2]",
            "column.weight f32[2, 3]",
            "counter i32[2]",
            "frozen f32[2]",
            "half f16[3]",
            "layers.0.bias f32[5]",
            "layers.0.weight f32[4, 5]",
            "layers.1.weight f32[5, 3]",
            "mask bool[1, 2]",
            "norm.beta f32[3]",
            "norm.gamma f32[3]",
            "norm.running_mean f32[3]",
            "norm.running_var f32[3]",
        ]
    );
    assert_eq!(**weights_of(&module).layout(), layout);
    assert_eq!(weights_of(&module).get("mask").unwrap().1.as_ref(), [1, 0]);
}

#[test]
fn weights_of_one_module_make_another_equal_and_keep_its_identity() {
    let device = Default::default();
    let (source, target) = (Mixed::<B>::new(&device), Mixed::<B>::new(&device));
    // Moves the running statistics away from their defaults.
    source.forward(Tensor::random([8, 4], Distribution::Default, &device));
    let weights = weights_of(&source);
    let ids_before = ids(&target);
    assert_ne!(weights_of(&target), weights);
    let target = apply(target, &weights).unwrap();
    assert_eq!(weights_of(&target), weights);
    assert_eq!(ids(&target), ids_before);
    assert!(!target.frozen.is_require_grad() && target.layers[0].weight.is_require_grad());
    assert!(target.half.is_require_grad());
    let input = Tensor::<B, 2>::random([2, 4], Distribution::Default, &device);
    let [left, right] = [source, target].map(|module| module.valid().forward(input.clone().inner()).into_data());
    assert_eq!(left, right);
}

#[test]
fn running_statistics_are_those_after_the_last_forward_pass() {
    let device = Default::default();
    let module = Mixed::<B>::new(&device);
    let before = weights_of(&module);
    module.forward(Tensor::random([8, 4], Distribution::Default, &device));
    let after = weights_of(&module);
    assert_ne!(after.get("norm.running_mean"), before.get("norm.running_mean"));
    // A pass whose statistics burn hasn't taken over must not come back after weights were applied.
    module.forward(Tensor::random([8, 4], Distribution::Default, &device));
    let module = apply(module, &before).unwrap();
    assert_eq!(weights_of(&module), before);
}

#[test]
fn other_weights_are_refused_before_anything_changes() {
    let device = Default::default();
    let module = Mixed::<B>::new(&device);
    let weights = weights_of(&module);
    let changed = |change: fn(&mut Vec<NamedTensor>)| {
        // All zeros, so that a module that takes any of it can't go unnoticed.
        let zeros =
            weights.tensors().map(|(spec, data)| NamedTensor { spec: spec.clone(), data: vec![0; data.len()].into() });
        let mut tensors: Vec<NamedTensor> = zeros.collect();
        change(&mut tensors);
        Weights::new(tensors).unwrap()
    };
    let cases: [(&str, Weights); 5] = [
        ("norm.running_var f32[3] is missing", changed(|tensors| drop(tensors.pop()))),
        (
            "zzz is not expected",
            changed(|tensors| {
                tensors.push(NamedTensor {
                    spec: TensorSpec { name: "zzz".to_owned(), dtype: DType::U8, shape: vec![0] },
                    data: Bytes::new(),
                })
            }),
        ),
        ("half bf16[3] where half f16[3] is expected", changed(|tensors| tensors[4].spec.dtype = DType::BF16)),
        ("column.weight f32[3, 2] where column.weight f32[2, 3]", changed(|tensors| tensors[1].spec.shape.reverse())),
        (
            "layers.0.weight f32[4, 5] is missing",
            changed(|tensors| tensors[6].spec.name = "layers.0.kernel".to_owned()),
        ),
    ];
    for (expected, other) in cases {
        let error = apply(module.clone(), &other).unwrap_err().to_string();
        assert!(error.contains(expected.trim_start_matches("zzz ")), "{error}");
        assert_eq!(weights_of(&module), weights);
    }
}

#[test]
fn a_module_with_applied_weights_still_trains() {
    let device = Default::default();
    let module = Mixed::<B>::new(&device);
    let weights = weights_of(&module);
    let module = apply(module, &weights).unwrap();
    let output = module.forward(Tensor::random([8, 4], Distribution::Default, &device));
    let gradients = GradientsParams::from_grads(output.sum().backward(), &module);
    // The first layer's two, the second layer's one, the norm's two, the column layer's bias; burn 0.21 doesn't train
    // weights in columns until they were loaded from a record.
    assert_eq!(gradients.len(), 6);
}

#[test]
fn types_that_weights_cannot_have_are_named() {
    let mut path = Path::default();
    path.enter("scale");
    let mut specs = Specs { path, specs: Vec::new(), error: None };
    specs.add(vec![1], BurnDType::Flex32);
    let error = specs.error.unwrap();
    assert!(matches!(&error, ModuleWeightsError::DType { name, .. } if name == "scale"), "{error}");
    assert!(specs.specs.is_empty());
}

#[test]
fn integers_of_every_width_are_carried() {
    #[derive(Module, Debug)]
    struct Counters<B: Backend> {
        count: Param<Tensor<B, 1, Int>>,
    }
    let device = Default::default();
    let module = |values: [i32; 2], dtype| {
        let count = Tensor::<Cpu, 1, Int>::from_ints(values, &device).cast(dtype);
        Counters { count: Param::initialized(ParamId::new(), count) }
    };
    use BurnDType::*;
    for dtype in [I64, I32, I16, I8, U64, U32, U16, U8] {
        let weights = collect(&module([100, 7], dtype)).unwrap();
        let other = apply(module([0, 0], dtype), &weights).unwrap();
        assert_eq!(collect(&other).unwrap(), weights, "{dtype:?}");
        assert_eq!(other.count.val().into_data().iter::<i64>().collect::<Vec<_>>(), [100, 7], "{dtype:?}");
    }
}
