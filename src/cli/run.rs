//! A node's epochs: train, publish and fold, evaluate, until the last one or a stop.

use super::{
    events::EventOutput,
    init_file,
    paused::{Paused, Recipe},
};
use crate::{
    bucket::BucketFigures,
    durable_file,
    folder::FolderFigures,
    node::{Begun, BlockingSession, Checkpoint, Completed, Event, LocalUpdate, NodeError, Origin, Progress, SavedState, Stop},
    train::{EpochLength, Evaluation, Examples, Model, SavedLayout, Steps, Train},
    weights::{Annotations, Metric, Weights},
};
use anyhow::Context;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
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
    /// After how long the middle of an epoch is saved, again and again; never if `None`.
    pub(super) checkpoint_every: Option<Duration>,
    /// What decides an epoch, besides what it is trained from.
    pub(super) recipe: Recipe,
    /// How long the end waits for the peers to have the newest update.
    pub(super) linger: Duration,
    /// Whether to answer peers after the last epoch until a stop is requested.
    pub(super) stay: bool,
    pub(super) stop: Stop,
    pub(super) began: Instant,
    /// What the bucket had cost when the last epoch was done.
    pub(super) paid: BucketFigures,
}

/// How the final weights are saved.
pub(super) struct Saving {
    /// Where to, if anywhere.
    pub(super) out: Option<PathBuf>,
    pub(super) model: Model,
    /// How its linear layers lie in the file.
    pub(super) layout: SavedLayout,
    /// The metadata of the file that the weights begin from, if this is the run's first life.
    pub(super) annotations: Annotations,
    /// Where a later life finds it.
    pub(super) run_dir: PathBuf,
}

/// Where results go.
pub(super) struct Outputs {
    pub(super) events: EventOutput,
    pub(super) saving: Saving,
}

/// How an epoch ended.
enum Ended {
    Complete(Completed, Evaluation),
    /// A stop was requested before it was complete.
    Stopped,
    /// So too, and the middle of the epoch can't be saved.
    Unsaved(anyhow::Error),
}

impl Job {
    /// Runs to the last epoch. A stop request is no error: what is complete is published and saved, and so is the middle
    /// of the epoch under way, from which the next run goes on.
    pub(super) fn run(mut self, initial: (Weights, Origin), outputs: &Outputs) -> anyhow::Result<()> {
        let state = self.write_state(None)?;
        let begun = match self.session.begin(initial, state) {
            Err(NodeError::Stopped) => return Ok(()),
            begun => begun?,
        };
        let Saving { out, model, layout, annotations, run_dir } = &outputs.saving;
        let annotations = init_file::kept(run_dir, begun.origin, annotations)?;
        let Begun { weights, mut epoch, .. } = begun;
        if let Some(state) = begun.trainer {
            self.trainer.restore(&mut state.reader()?).context("the checkpoint's training state")?;
        }
        self.trainer.load_weights(&weights)?;
        if epoch >= self.epochs {
            tracing::warn!(at = epoch, epochs = self.epochs, "nothing is left to train; a higher --epochs goes on");
        }
        let mut before = Steps::default();
        if let Some(progress) = begun.progress.filter(|_| epoch < self.epochs) {
            before = self.take_up(progress, &weights, outputs);
        }
        let (mut evaluation, mut saved, mut complete) = (None, Ok(()), Some(weights));
        while epoch < self.epochs && !self.stop.is_requested() {
            match self.epoch(epoch + 1, std::mem::take(&mut before), &mut complete, outputs)? {
                Ended::Complete(completed, measured) => {
                    (complete, epoch) = (Some(completed.weights), completed.epoch);
                    evaluation = Some(measured);
                }
                Ended::Stopped => break,
                Ended::Unsaved(error) => {
                    saved = Err(error);
                    break;
                }
            }
        }
        let weights = match complete {
            Some(weights) => weights,
            // Stopped while an epoch was exchanged: they are on the disk only.
            None => Checkpoint::newest_complete(run_dir)?.context("the checkpoint is gone")?.weights,
        };
        let evaluation = match evaluation {
            Some(evaluation) => evaluation,
            None => {
                // Nothing was trained: the node joined after the last epoch, or was stopped before its first fold.
                self.trainer.load_weights(&weights)?;
                self.trainer.evaluate(&self.test, EVALUATION_BATCH)?
            }
        };
        if let Some(path) = out {
            let saved = layout.save(*model, &weights.clone().with_annotations(annotations));
            write_model(path, &saved.with_context(|| format!("--out {} can't be written", path.display()))?)?;
        }
        let published = self.session.finish();
        let seconds = self.began.elapsed().as_secs_f64();
        // Who reads of the end may kill the node, so the others have its update before.
        self.session.hand_over(self.linger)?;
        let FolderFigures { traffic, network, bucket, .. } = self.session.figures().folder;
        outputs.events.event(&Event::Finished {
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
            bucket,
        });
        published.context("the newest update is not in the shared folder; start the node again to publish it")?;
        saved?;
        if self.stay && !self.stop.is_requested() {
            outputs.events.remark("answering peers until stopped (Ctrl-C)");
            self.session.stay()?;
        }
        Ok(())
    }

    /// Goes on in the middle of an epoch that began from `start`, if the rest of it would be trained as its beginning was.
    /// Gives the steps that are done.
    fn take_up(&mut self, progress: Progress, start: &Weights, outputs: &Outputs) -> Steps {
        let Progress { epoch, steps, weights, trainer } = progress;
        let resumed = trainer.reader().map_err(|error| error.to_string()).and_then(|mut from| {
            let paused = Paused::read(&mut from);
            let paused = paused.ok_or_else(|| "it was saved by another version of the program".to_owned())?;
            let differences = paused.differences(&self.recipe).join(", ");
            if !differences.is_empty() {
                return Err(differences);
            }
            self.trainer.resume(&weights, &mut from, start).map_err(|error| error.to_string())?;
            Ok(paused.steps)
        });
        match resumed {
            Ok(before) => {
                let steps_per_epoch = self.steps_per_epoch();
                outputs.events.event(&Event::ProgressResumed { epoch, steps, steps_per_epoch });
                before
            }
            Err(reason) => {
                let (epoch, steps) = (Some(epoch), Some(steps));
                outputs.events.event(&Event::ProgressDropped { epoch, steps, reason });
                Steps::default()
            }
        }
    }

    fn steps_per_epoch(&self) -> Option<u64> {
        match self.length {
            EpochLength::Steps(steps) => Some(steps),
            EpochLength::Period(_) => None,
        }
    }

    /// Writes the trainer's state, in the middle of an epoch after what says so.
    fn write_state(&self, paused: Option<&Paused>) -> anyhow::Result<SavedState> {
        self.session.write_state(|out| {
            paused.map_or(Ok(()), |paused| paused.write(out))?;
            Ok(self.trainer.save(out)?)
        })
    }

    /// Saves the middle of the epoch under way.
    fn save_progress(&mut self, epoch: u64, steps: Steps, stopping: bool, outputs: &Outputs) -> anyhow::Result<()> {
        // The beginning of an epoch is what the checkpoint has.
        if steps.done == 0 {
            return Ok(());
        }
        let state = self.write_state(Some(&Paused { recipe: self.recipe.clone(), steps }))?;
        self.session.save_progress(steps.done, self.trainer.weights()?, state)?;
        let (steps, steps_per_epoch) = (steps.done, self.steps_per_epoch());
        outputs.events.event(&Event::ProgressSaved { epoch, steps, steps_per_epoch, stopping });
        Ok(())
    }

    /// Trains the rest of an epoch, and saves its middle as often as is wanted. Interrupted only by a stop request.
    fn train(&mut self, epoch: u64, mut steps: Steps, outputs: &Outputs) -> anyhow::Result<Steps> {
        let stop = self.stop.clone();
        loop {
            let due = self.checkpoint_every.and_then(|every| Instant::now().checked_add(every));
            // At least a step lies between two saves.
            let asked = AtomicBool::new(false);
            let pause = || {
                let is_due = due.is_some_and(|due| Instant::now() >= due);
                asked.swap(true, Ordering::Relaxed) && is_due || stop.is_requested()
            };
            steps = self.trainer.train_epoch(epoch, self.length, steps, &pause)?;
            if !steps.interrupted || stop.is_requested() {
                return Ok(steps);
            }
            // The disk may have room again when the next one is due.
            if let Err(error) = self.save_progress(epoch, steps, false, outputs) {
                tracing::warn!(epoch, "the middle of the epoch is not saved: {error:#}");
            }
        }
    }

    /// One epoch, of which the steps in `before` are done. When it is trained the weights of the one before are dropped:
    /// there is room for those that are published and those of the fold.
    fn epoch(
        &mut self,
        epoch: u64,
        before: Steps,
        complete: &mut Option<Weights>,
        outputs: &Outputs,
    ) -> anyhow::Result<Ended> {
        let began = Instant::now();
        let steps = self.train(epoch, before, outputs)?;
        if steps.interrupted {
            return Ok(match self.save_progress(epoch, steps, true, outputs) {
                Ok(()) => Ended::Stopped,
                Err(error) => Ended::Unsaved(error.context(format!(
                    "the {} steps of epoch {epoch} can't be saved; started again the node does them anew",
                    steps.done
                ))),
            });
        }
        let loss = steps.loss().unwrap_or(f64::NAN);
        *complete = None;
        // Its copy in memory is gone before there is one of the weights.
        let state = self.write_state(None)?;
        let local = LocalUpdate {
            weights: self.trainer.weights()?,
            epoch,
            num_examples: self.trainer.examples_seen(self.length.first_step(epoch), steps.done),
            metrics: vec![Metric { name: "loss".to_owned(), value: loss }],
        };
        let completed = match self.session.epoch_trained(local, state) {
            Err(NodeError::Stopped) => return Ok(Ended::Stopped),
            completed => completed?,
        };
        self.trainer.load_weights(&completed.weights)?;
        let evaluation = self.trainer.evaluate(&self.test, EVALUATION_BATCH)?;
        let FolderFigures { traffic, network, bucket: so_far, .. } = self.session.figures().folder;
        let cost = so_far.map(|figures| figures - self.paid);
        self.paid = so_far.unwrap_or_default();
        outputs.events.event(&Event::EpochDone {
            epoch: completed.epoch,
            epochs: self.epochs,
            metrics: metrics(steps.loss(), evaluation),
            steps: steps.done,
            seconds: (before.time + began.elapsed()).as_secs_f64(),
            written: traffic.written,
            read: traffic.read,
            peers: network.map(|network| network.peers),
            sent: network.map(|network| network.sent),
            received: network.map(|network| network.received),
            bucket: cost,
        });
        Ok(Ended::Complete(completed, evaluation))
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
