//! A node's epochs: train, publish and fold, evaluate, until the last one or a stop.

use crate::{
    bucket::BucketFigures,
    durable_file,
    node::{Begun, BlockingSession, Completed, Event, EventSink, LocalUpdate, NodeError, Origin, Stop},
    program::print,
    train::{EpochLength, Evaluation, Examples, Train},
    weights::{Metric, Weights},
};
use anyhow::Context;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Test examples that are evaluated at once.
const EVALUATION_BATCH: usize = 256;

/// A model in training, its session, and how long to go on.
pub(super) struct Job {
    pub(super) trainer: Box<dyn Train>,
    pub(super) session: BlockingSession,
    pub(super) test: Examples,
    pub(super) epochs: u64,
    pub(super) length: EpochLength,
    /// How long the end waits for the peers to have the newest update.
    pub(super) linger: Duration,
    /// Whether to answer peers after the last epoch until a stop is requested.
    pub(super) stay: bool,
    pub(super) stop: Stop,
    pub(super) began: Instant,
    /// What the bucket had cost when the last epoch was done.
    pub(super) paid: BucketFigures,
}

/// Where results go.
pub(super) struct Outputs {
    pub(super) events: EventSink,
    pub(super) out: Option<PathBuf>,
    /// Whether people read standard output, and not a program.
    pub(super) text: bool,
}

impl Job {
    /// Runs to the last epoch. A stop request is no error: what is complete is published and saved.
    pub(super) fn run(mut self, initial: (Weights, Origin), outputs: &Outputs) -> anyhow::Result<()> {
        let begun = match self.session.begin(initial, self.trainer.save()?.into()) {
            Err(NodeError::Stopped) => return Ok(()),
            begun => begun?,
        };
        let Begun { mut weights, mut epoch, .. } = begun;
        if let Some(state) = begun.trainer {
            self.trainer.restore(&state).context("the checkpoint's training state")?;
        }
        self.trainer.load_weights(&weights)?;
        if epoch >= self.epochs {
            tracing::warn!(at = epoch, epochs = self.epochs, "nothing is left to train; a higher --epochs goes on");
        }
        let mut evaluation = None;
        while epoch < self.epochs && !self.stop.is_requested() {
            match self.epoch(epoch + 1, outputs)? {
                Some((completed, measured)) => {
                    Completed { weights, epoch } = completed;
                    evaluation = Some(measured);
                }
                None => break,
            }
        }
        let evaluation = match evaluation {
            Some(evaluation) => evaluation,
            None => {
                // Nothing was trained: the node joined after the last epoch, or was stopped before its first fold.
                self.trainer.load_weights(&weights)?;
                self.trainer.evaluate(&self.test, EVALUATION_BATCH)?
            }
        };
        if let Some(path) = &outputs.out {
            write_model(path, &weights)?;
        }
        let published = self.session.finish();
        let seconds = self.began.elapsed().as_secs_f64();
        // Who reads of the end may kill the node, so the others have its update before.
        self.session.hand_over(self.linger)?;
        let (traffic, network) = (self.session.traffic(), self.session.network());
        (outputs.events)(&Event::Finished {
            epoch,
            metrics: metrics(None, evaluation),
            stopped: epoch < self.epochs,
            root: weights.manifest().root().to_string(),
            seconds,
            written: traffic.written,
            read: traffic.read,
            peers: network.map(|network| network.peers),
            sent: network.map(|network| network.sent),
            received: network.map(|network| network.received),
            bucket: self.session.bucket(),
        });
        published.context("the newest update is not in the shared folder; start the node again to publish it")?;
        if self.stay && !self.stop.is_requested() {
            if outputs.text {
                print("answering peers until stopped (Ctrl-C)\n")?;
            }
            self.session.stay()?;
        }
        Ok(())
    }

    /// One epoch; `None` if a stop was requested before it was complete.
    fn epoch(&mut self, epoch: u64, outputs: &Outputs) -> anyhow::Result<Option<(Completed, Evaluation)>> {
        let began = Instant::now();
        let stop = self.stop.clone();
        let steps = self.trainer.train_epoch(epoch, self.length, &|| stop.is_requested())?;
        if steps.interrupted {
            return Ok(None);
        }
        let loss = steps.loss.unwrap_or(f64::NAN);
        let local = LocalUpdate {
            weights: self.trainer.weights()?,
            epoch,
            num_examples: self.trainer.examples_seen(self.length.first_step(epoch), steps.done),
            metrics: vec![Metric { name: "loss".to_owned(), value: loss }],
        };
        let completed = match self.session.epoch_trained(local, self.trainer.save()?.into()) {
            Err(NodeError::Stopped) => return Ok(None),
            completed => completed?,
        };
        self.trainer.load_weights(&completed.weights)?;
        let evaluation = self.trainer.evaluate(&self.test, EVALUATION_BATCH)?;
        let (traffic, network) = (self.session.traffic(), self.session.network());
        let so_far = self.session.bucket();
        let cost = so_far.map(|figures| figures - self.paid);
        self.paid = so_far.unwrap_or_default();
        (outputs.events)(&Event::EpochDone {
            epoch: completed.epoch,
            epochs: self.epochs,
            metrics: metrics(steps.loss, evaluation),
            steps: steps.done,
            seconds: began.elapsed().as_secs_f64(),
            written: traffic.written,
            read: traffic.read,
            peers: network.map(|network| network.peers),
            sent: network.map(|network| network.sent),
            received: network.map(|network| network.received),
            bucket: cost,
        });
        Ok(Some((completed, evaluation)))
    }
}

/// Saves a model's weights under `--out`: those of a run's end, or a home's newest.
pub(super) fn write_model(path: &Path, weights: &Weights) -> anyhow::Result<()> {
    durable_file::replace(path, false, |out| weights.write_safetensors(out))
        .with_context(|| format!("--out {} can't be written", path.display()))
}

/// The figures of an event. JSON has no number for what isn't finite, so that is left out.
fn metrics(loss: Option<f64>, evaluation: Evaluation) -> BTreeMap<String, f64> {
    let named = [("loss", loss), ("test_loss", Some(evaluation.loss)), ("accuracy", Some(evaluation.accuracy))];
    let finite =
        named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.filter(|v| v.is_finite())?)));
    finite.collect()
}
