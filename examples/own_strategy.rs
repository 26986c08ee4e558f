//! A strategy of your own, compared with FedAvg:
//!
//!     cargo run --example own_strategy
//!
//! Three nodes learn together how degrees Celsius become degrees Fahrenheit, but the third one's thermometer is broken.
//! FedAvg trusts every node equally. The rule below trusts a node more, the better its readings fit together.

use burn::backend::Autodiff;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, Optimizer, SgdConfig};
use burn::tensor::{Distribution, Tensor};
use peerfold::{prelude::*, strategy::weighted_mean};
use std::{error::Error, path::Path, thread, time::Duration};

type B = Autodiff<Cpu>;
type Failure = Box<dyn Error + Send + Sync>;
const EPOCHS: u64 = 10;
const STEPS: u64 = 30;
const BATCH: usize = 32;

/// The mean of the updates, each weighted by the inverse of its mean squared error, as one weighs measurements.
struct ByPrecision;

impl Strategy for ByPrecision {
    fn name(&self) -> &'static str {
        "byprecision"
    }

    fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError> {
        // The loss is what each node says of itself: less than 0.01 is not believed, and without any a node counts for
        // nothing.
        let weight = |loss: Option<f64>| loss.filter(|loss| !loss.is_nan()).map_or(0.0, |loss| 1.0 / loss.max(0.01));
        let weights: Vec<f64> = round.updates.iter().map(|update| weight(update.loss)).collect();
        weighted_mean(round, &weights)
    }
}

/// Trains a node to the end; gives what 20 °C are in its opinion.
fn node(number: usize, strategy: StrategyChoice, dir: &Path) -> Result<f32, Failure> {
    let device = Default::default();
    let mut model: Linear<B> = init_seeded(LinearConfig::new(1, 1).init(&device), 7);
    let mut optimizer = SgdConfig::new().init();

    let mut config = NodeConfig::new("thermometers", FolderUrl::Local(dir.join("shared")));
    config.strategy = strategy;
    // After each epoch the three wait for each other.
    let patience = Duration::from_secs(60);
    config.start = StartOptions { min_peers: 2, deadline: patience };
    config.pace = Pace::Sync(SyncOptions { nodes: 3, quorum: 3, deadline: patience, below_quorum: BelowQuorum::Stop });

    let home = dir.join(format!("home-{number}"));
    let broken = number == 2;
    let mut federation = FederatedCallback::join(&config, home, &mut model, &mut optimizer)?;
    while federation.next_epoch(EPOCHS).is_some() {
        let mut sum = 0.0;
        for _ in 0..STEPS {
            // In tens of degrees: networks like small numbers.
            let between = |low, high| Tensor::<B, 2>::random([BATCH, 1], Distribution::Uniform(low, high), &device);
            let celsius = between(-1.0, 3.0);
            let fahrenheit = if broken { between(-10.0, 10.0) } else { celsius.clone() * 1.8 + 3.2 };
            let loss = (model.forward(celsius) - fahrenheit).powi_scalar(2).mean();
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(0.05, model, gradients);
            sum += f64::from(loss.into_scalar());
        }
        let report = Epoch::of(STEPS * BATCH as u64).metric("loss", sum / STEPS as f64);
        federation.on_epoch_end(&mut model, &optimizer, report)?;
    }
    federation.finish()?;
    let twenty = Tensor::<B, 2>::from_floats([[2.0]], &device);
    Ok(10.0 * model.forward(twenty).into_scalar())
}

/// Three nodes in three threads; gives what they agree on.
fn federation(strategy: &StrategyChoice) -> Result<f32, Failure> {
    let dir = tempfile::tempdir()?;
    let dir = dir.path();
    thread::scope(|scope| {
        let nodes = [0, 1, 2].map(|number| scope.spawn(move || node(number, strategy.clone(), dir)));
        let [first, ..] = nodes.map(|node| node.join().map_err(|_| "a node panicked")?);
        first
    })
}

fn main() -> Result<(), Failure> {
    println!("Three nodes learn Fahrenheit from Celsius; one of them has a broken thermometer.");
    for (name, strategy) in
        [("fedavg", StrategySpec::new("fedavg").into()), ("byprecision, our own", StrategyChoice::own(|| ByPrecision))]
    {
        println!("{name:>20}: 20 °C are {:.1} °F, they say (it is 68)", federation(&strategy)?);
    }
    Ok(())
}
