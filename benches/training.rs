//! How fast the processor trains: steps per second at batch 32 (forward, backward and Adam), and images evaluated per
//! second.
//!
//! `cargo bench --bench training [-- --model NAME] [--threads N] [--seconds S] [--backend flex]`. Prints one line of JSON
//! for each model: `digits` and `mnist` are the built-in ones, `cnn3x3` has two convolutions of 3×3 (32 and 64 channels),
//! each pooled by 2, and a dense layer. `--backend flex` takes burn's own backend and optimizer instead.
//! `benches/against_pytorch.py` takes PyTorch and this in turn.
#![allow(clippy::unwrap_used)]

use burn::{
    backend::{Autodiff, Flex},
    module::{AutodiffModule, Module},
    nn::{
        Linear, LinearConfig,
        conv::{Conv2d, Conv2dConfig},
        loss::CrossEntropyLossConfig,
        pool::{MaxPool2d, MaxPool2dConfig},
    },
    optim::{AdamConfig, GradientsParams, Optimizer},
    tensor::{
        Int, Tensor, TensorData,
        activation::relu,
        backend::{AutodiffBackend, Backend},
    },
};
use peerfold::train::{Adam, BatchOrder, Classifier, Cpu, DigitsMlp, Examples, MnistCnn, init_seeded};
use serde_json::json;
use std::{collections::BTreeMap, fs, time::Instant};

const BATCH: usize = 32;
const EXAMPLES: usize = 10_000;
const WARM_UP: u64 = 30;

/// Two convolutions of 3×3. 34,826 parameters.
#[derive(Module, Debug)]
struct Cnn3x3<B: Backend> {
    conv1: Conv2d<B>,
    conv2: Conv2d<B>,
    pool: MaxPool2d,
    dense: Linear<B>,
}

impl<B: Backend> Cnn3x3<B> {
    fn new(device: &B::Device) -> Self {
        Self {
            conv1: Conv2dConfig::new([1, 32], [3, 3]).init(device),
            conv2: Conv2dConfig::new([32, 64], [3, 3]).init(device),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            dense: LinearConfig::new(64 * 5 * 5, 10).init(device),
        }
    }
}

impl<B: Backend> Classifier<B> for Cnn3x3<B> {
    fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        let pooled = self.pool.forward(relu(self.conv1.forward(images)));
        self.dense.forward(self.pool.forward(relu(self.conv2.forward(pooled))).flatten(1, 3))
    }
}

struct Figures {
    steps: f64,
    evaluated: f64,
    peak_growth: f64,
}

fn main() {
    let mut options = BTreeMap::from([("--threads", "2".to_owned()), ("--seconds", "5".to_owned())]);
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(name) = arguments.next() {
        let known = ["--model", "--threads", "--seconds", "--backend"].into_iter().find(|known| *known == name);
        let known = known.unwrap_or_else(|| panic!("there is no option {name}"));
        options.insert(known, arguments.next().unwrap_or_else(|| panic!("{name} needs a value")));
    }
    let threads: usize = options["--threads"].parse().unwrap();
    let seconds: f64 = options["--seconds"].parse().unwrap();
    let flex = options.get("--backend").is_some_and(|backend| backend == "flex");
    let models = options.get("--model").map_or(vec!["digits", "mnist", "cnn3x3"], |model| vec![model.as_str()]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for model in models {
        let figures = pool.install(|| match flex {
            false => of_model::<Autodiff<Cpu>>(model, seconds, false),
            true => of_model::<Autodiff<Flex>>(model, seconds, true),
        });
        let line = json!({
            "model": model,
            "threads": threads,
            "steps_per_second": figures.steps,
            "evaluated_per_second": figures.evaluated,
            "peak_growth_bytes": figures.peak_growth,
        });
        println!("{line}");
    }
}

fn of_model<B: AutodiffBackend>(model: &str, seconds: f64, general: bool) -> Figures {
    let device = Default::default();
    match model {
        "digits" => figures::<B, _>(|| DigitsMlp::new(&device), 8, seconds, general),
        "mnist" => figures::<B, _>(|| MnistCnn::new(&device), 28, seconds, general),
        "cnn3x3" => figures::<B, _>(|| Cnn3x3::new(&device), 28, seconds, general),
        _ => panic!("the models are digits, mnist and cnn3x3"),
    }
}

fn figures<B, M>(model: impl Fn() -> M, side: usize, seconds: f64, general: bool) -> Figures
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + Classifier<B>,
    M::InnerModule: Classifier<B::InnerBackend>,
{
    let pixels = |index: usize| (index.wrapping_mul(2_654_435_761) % 1009) as f32 / 1009.0;
    let features = (0..EXAMPLES * side * side).map(pixels).collect();
    let labels = (0..EXAMPLES).map(|index| (index * 7919 % 10) as u8).collect();
    let examples = Examples::new(features, [1, side, side], labels, 10).unwrap();
    let before = peak_resident();
    let model = init_seeded(model(), 1);
    let (steps, model) = match general {
        false => steps::<B, _, _>(model, Adam::default().init(), &examples, seconds),
        true => steps::<B, _, _>(model, AdamConfig::new().init(), &examples, seconds),
    };
    let peak_growth = peak_resident() - before;
    let valid = model.valid();
    let began = Instant::now();
    let all: Vec<usize> = (0..EXAMPLES).collect();
    for indices in all.chunks(BATCH) {
        let _ = valid.forward(images::<B::InnerBackend>(&examples, indices)).into_data();
    }
    Figures { steps, evaluated: EXAMPLES as f64 / began.elapsed().as_secs_f64(), peak_growth }
}

fn steps<B, M, O>(mut model: M, mut optimizer: O, examples: &Examples, seconds: f64) -> (f64, M)
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + Classifier<B>,
    O: Optimizer<M, B>,
{
    let device = Default::default();
    let loss = CrossEntropyLossConfig::new().init::<B>(&device);
    let mut order = BatchOrder::new(1, examples.len(), BATCH);
    let (mut began, mut step) = (Instant::now(), 0);
    loop {
        let indices = order.batch(step);
        let labels: Vec<i64> = indices.iter().map(|&index| i64::from(examples.labels()[index])).collect();
        let labels = Tensor::<B, 1, Int>::from_data(TensorData::new(labels, [BATCH]), &device);
        let value = loss.forward(model.forward(images(examples, &indices)), labels);
        let _ = value.clone().into_scalar();
        let gradients = GradientsParams::from_grads(value.backward(), &model);
        model = optimizer.step(1e-3, model, gradients);
        step += 1;
        if step == WARM_UP {
            began = Instant::now();
        } else if step > WARM_UP && began.elapsed().as_secs_f64() > seconds {
            return ((step - WARM_UP) as f64 / began.elapsed().as_secs_f64(), model);
        }
    }
}

fn images<B: Backend>(examples: &Examples, indices: &[usize]) -> Tensor<B, 4> {
    let [channels, height, width] = examples.shape();
    let pixels: Vec<f32> = indices.iter().flat_map(|&index| examples.image(index)).copied().collect();
    Tensor::from_data(TensorData::new(pixels, [indices.len(), channels, height, width]), &Default::default())
}

/// Bytes. 0 where the system doesn't say.
fn peak_resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    peak.unwrap_or(0.0) * 1024.0
}
