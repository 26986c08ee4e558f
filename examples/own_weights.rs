//! Federated learning of plain arrays, without burn. Run it twice, in two terminals:
//!
//!     cargo run --no-default-features --example own_weights -- 0 /tmp/own_weights
//!     cargo run --no-default-features --example own_weights -- 1 /tmp/own_weights
//!
//! Each process is a node that sees one half of a straight line, with noise; together they learn where it begins and how
//! steep it is. Each tells its events. End one with Ctrl-C and start it again: it goes on where it was. Without arguments
//! both nodes run here, in two threads.

use peerfold::prelude::*;
use std::{error::Error, io::Read, io::Write, path::Path, sync::Arc, time::Duration};

pub(crate) const EPOCHS: u64 = 12;
const STEPS: u64 = 200;
const POINTS: u64 = 500;

/// y = start + slope · x, learnt by steps with momentum, which is the state besides the weights.
struct Line {
    node: u64,
    weights: [f32; 2],
    momentum: [f32; 2],
}

impl Line {
    /// All nodes must begin with the same weights.
    fn new(node: u64) -> Self {
        Self { node, weights: [0.0; 2], momentum: [0.0; 2] }
    }

    /// Node 0 has the points from 0 to 1/2, node 1 those from 1/2 to 1.
    fn point(node: u64, number: u64) -> (f32, f32) {
        let noise =
            |salt: u64| (number.wrapping_add(salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / (1 << 24) as f32;
        let x = (node as f32 + noise(7)) / 2.0;
        (x, 2.0 - 3.0 * x + (noise(11) - 0.5) * 0.1)
    }

    /// How far the line is from a point.
    fn error(&self, (x, y): (f32, f32)) -> f32 {
        self.weights[0] + self.weights[1] * x - y
    }
}

impl Learner for Line {
    fn weights(&mut self) -> Result<Weights, LearnerError> {
        Ok(Weights::from_f32s(&[("slope", &[], &self.weights[1..]), ("start", &[], &self.weights[..1])])?)
    }

    fn load(&mut self, weights: &Weights) -> Result<(), LearnerError> {
        let (Some(start), Some(slope)) = (weights.f32s("start"), weights.f32s("slope")) else {
            return Err("these are not the weights of a line".into());
        };
        self.weights = [start[0], slope[0]];
        Ok(())
    }

    /// What a step does depends on its number alone, so that a restarted run is the uninterrupted one.
    fn train(&mut self, epoch: u64, before: Steps, pause: &(dyn Fn() -> bool + Sync)) -> Result<Trained, LearnerError> {
        let mut steps = before;
        while steps.done < STEPS {
            if pause() {
                steps.interrupted = true;
                break;
            }
            let (x, y) = Self::point(self.node, (epoch * STEPS + steps.done) % POINTS);
            let error = self.error((x, y));
            for (at, slope) in [1.0, x].into_iter().enumerate() {
                self.momentum[at] = 0.9 * self.momentum[at] + error * slope;
                self.weights[at] -= 0.02 * self.momentum[at];
            }
            steps.loss_sum += f64::from(error * error);
            steps.done += 1;
        }
        Ok(Trained { steps, ..Trained::on(STEPS) })
    }

    /// On the points of both.
    fn evaluate(&mut self) -> Result<Metrics, LearnerError> {
        let points = (0..2).flat_map(|node| (0..POINTS).map(move |number| Self::point(node, number)));
        let sum: f32 = points.map(|point| self.error(point).powi(2)).sum();
        Ok(Metrics::from([("test_loss".to_owned(), f64::from(sum / (2 * POINTS) as f32))]))
    }

    /// The weights are saved by themselves.
    fn save(&mut self, out: &mut dyn Write) -> Result<(), LearnerError> {
        Ok(self.momentum.iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))?)
    }

    fn restore(&mut self, from: &mut dyn Read) -> Result<(), LearnerError> {
        let mut saved = [[0; 4]; 2];
        from.read_exact(saved.as_flattened_mut())?;
        self.momentum = saved.map(f32::from_le_bytes);
        Ok(())
    }
}

/// One node's life. Gives the error of the line that it has learnt.
pub(crate) fn node(
    number: u64,
    dir: &Path,
    events: impl Fn(&Event) + Send + Sync + 'static,
) -> Result<f64, LearnerError> {
    // Which federation, and where its updates are shared. The first node waits for the other, a minute at most.
    let mut config = NodeConfig::new("line", FolderUrl::Local(dir.join("shared")));
    config.start = StartOptions { min_peers: 1, deadline: Duration::from_secs(60) };
    config.events = Arc::new(events);
    // Each node has a home of its own: identity and checkpoints.
    let mut line = Line::new(number);
    federate(&config, dir.join(format!("home-{number}")), &mut line, EPOCHS)?;
    Ok(line.evaluate()?["test_loss"])
}

fn told(number: u64, dir: &Path) -> Result<(), LearnerError> {
    let error = node(number, dir, move |event| println!("node {number}: {event:?}"))?;
    println!("node {number} is off by {error:.4}");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    if let [_, number, dir] = std::env::args().collect::<Vec<_>>().as_slice() {
        return told(number.parse()?, Path::new(dir));
    }
    let dir = tempfile::tempdir()?;
    std::thread::scope(|scope| {
        let other = scope.spawn(|| told(1, dir.path()));
        told(0, dir.path())?;
        other.join().map_err(|_| "node 1 panicked")?
    })
}
