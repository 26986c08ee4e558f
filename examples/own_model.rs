//! Federates a burn module of your own. Run it twice, in two terminals:
//!
//!     cargo run --example own_model -- 0 /tmp/own_model
//!     cargo run --example own_model -- 1 /tmp/own_model
//!
//! Each process is a node that sees one half of a sine wave; together they learn all of it. End one with Ctrl-C and
//! start it again: it goes on where it was. Without arguments both nodes run here, in two threads.

use burn::backend::Autodiff;
use burn::module::{AutodiffModule, Module};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::{Distribution, Int, Tensor, activation::tanh, backend::Backend};
use peerfold::prelude::*;
use std::{error::Error, f32::consts::PI, path::Path, sync::Arc, time::Duration};

type B = Autodiff<Cpu>;
const EPOCHS: u64 = 30;
const STEPS: u64 = 100;
const BATCH: u64 = 32;

/// Any burn module will do.
#[derive(Module, Debug)]
struct Sine<B: Backend> {
    input: Linear<B>,
    hidden: Linear<B>,
    dropout: Dropout,
    output: Linear<B>,
}

impl<B: Backend> Sine<B> {
    fn new(device: &B::Device) -> Self {
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let dropout = DropoutConfig::new(0.01).init();
        Self { input: linear(1, 32), hidden: linear(32, 32), dropout, output: linear(32, 1) }
    }

    /// Mean squared error against the sine of `x`.
    fn loss(&self, x: Tensor<B, 2>) -> Tensor<B, 1> {
        let hidden = tanh(self.hidden.forward(tanh(self.input.forward(x.clone()))));
        (self.output.forward(self.dropout.forward(hidden)) - x.sin()).powi_scalar(2).mean()
    }
}

fn node(number: u32, dir: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let device = Default::default();
    // All nodes must begin with the same weights: `init_seeded` makes them from a number.
    let mut model: Sine<B> = init_seeded(Sine::new(&device), 7);
    let mut optimizer = Adam::default().init();

    // Which federation, and where its updates are shared. The first node waits for the other, a minute at most.
    let mut config = NodeConfig::new("sine", FolderUrl::Local(dir.join("shared")));
    config.start = StartOptions { min_peers: 1, deadline: Duration::from_secs(60) };
    config.events = Arc::new(move |event| match event {
        Event::Started { epoch, origin, .. } => println!("node {number} goes on from epoch {epoch}: {origin:?}"),
        Event::Folded { epoch, updates, .. } => {
            println!("node {number} epoch {epoch}: folded {} updates", updates.len())
        }
        _ => {}
    });

    // Each node has a home of its own: identity and checkpoints. The model becomes what to train on from here.
    let home = dir.join(format!("home-{number}"));
    let mut federation = FederatedCallback::join(&config, home, &mut model, &mut optimizer)?;
    while let Some(epoch) = federation.next_epoch(EPOCHS) {
        let mut sum = 0.0;
        for _ in 0..STEPS {
            // Node 0 has the numbers from -π to 0, node 1 those from 0 to π.
            let half = Tensor::<B, 2>::random([BATCH as usize, 1], Distribution::Default, &device) * PI;
            let loss = model.loss(if number == 0 { -half } else { half });
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(1e-3, model, gradients);
            sum += f64::from(loss.into_scalar());
        }
        // Publishes the model, folds the peers' into it, and saves all that a restart needs.
        let report = Epoch::of(STEPS * BATCH).metric("loss", sum / STEPS as f64);
        federation.on_epoch_end(&mut model, &optimizer, report)?;
        println!("node {number} epoch {epoch}: error on the whole wave {:.4}", error(&model));
    }
    Ok(federation.finish()?)
}

/// On both halves, without dropout.
fn error(model: &Sine<B>) -> f32 {
    let x = Tensor::<Cpu, 1, Int>::arange(-100..101, &Default::default()).float() * (PI / 100.0);
    model.valid().loss(x.reshape([201, 1])).into_scalar()
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    if let [_, number, dir] = std::env::args().collect::<Vec<_>>().as_slice() {
        return node(number.parse()?, Path::new(dir));
    }
    let dir = tempfile::tempdir()?;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| node(1, dir.path()));
        node(0, dir.path())?;
        other.join().map_err(|_| "node 1 panicked")?
    })
}
