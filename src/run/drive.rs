//! The loop that drives a run with a learner.

use super::{Learner, Metrics, Middle, Run, RunError, RunOptions, Steps, Trained, life::finite};
use crate::{
    home::Home,
    node::{NodeConfig, NodeError, Origin},
    weights::Weights,
};
use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

/// A node's whole life: opens the home in `home_dir` (made, with a new identity, if there is none), begins, trains to
/// epoch `epochs`, and hands over. The learner's own weights are those of a federation that has no update yet, so they must
/// be the same on all nodes; the learner becomes what the last epoch has left.
///
/// Blocks until the run is over. A stop request ends it earlier and isn't an error: what is complete is published and
/// saved, and so is the middle of the epoch under way, from which the next call with this home goes on. What happens is
/// told as events; gives the run, for its history, and to [`stay`](Run::stay) with: `None` if it was stopped while it
/// waited at its start.
pub fn federate(
    config: &NodeConfig,
    home_dir: impl Into<PathBuf>,
    learner: &mut dyn Learner,
    epochs: u64,
) -> Result<Option<Run>, RunError> {
    let options = RunOptions::default();
    let home = Home::open(home_dir).map_err(NodeError::from)?;
    let initial = learner.weights().map_err(RunError::learner("reading the first weights"))?;
    let mut run = match Run::start(config, home, learner, (initial, Origin::Seed), options) {
        Err(error) if error.is_stopped() => return Ok(None),
        run => run?,
    };
    run.train(learner, epochs)?;
    run.finish()?;
    Ok(Some(run))
}

impl Run {
    /// [Begins](Self::begin), and makes the learner what to train on with.
    pub fn start(
        config: &NodeConfig,
        home: Home,
        learner: &mut dyn Learner,
        initial: (Weights, Origin),
        options: RunOptions,
    ) -> Result<Self, RunError> {
        let (run, state) = Self::begin(config, home, initial, |out| learner.save(out), options)?;
        if let Some(state) = state {
            let restored = learner.restore(&mut state.reader()?);
            restored.map_err(RunError::learner("restoring the checkpoint's training state"))?;
        }
        run.load(learner)?;
        Ok(run)
    }

    /// Trains to epoch `last`, or until a stop is requested. That is no error: the middle of the epoch under way is saved,
    /// and if it can't be, [`finish`](Self::finish) says so in the end.
    ///
    /// The learner is what the last complete epoch has left, unless the run was stopped within one; its figures are those of
    /// that epoch.
    pub fn train(&mut self, learner: &mut dyn Learner, last: u64) -> Result<(), RunError> {
        while let Some(epoch) = self.next_epoch(last) {
            // If it can't be resumed, an event says so, and the steps that were done are lost.
            let before = self.take_up(|Middle { steps, weights, state, start }| {
                learner.resume(weights, state, start).map(|()| steps)
            });
            if !self.one_epoch(learner, epoch, before.ok().flatten().unwrap_or_default())? {
                break;
            }
        }
        if self.evaluation.is_none() {
            // Nothing was trained: the node joined after the last epoch, or was stopped before its first fold.
            self.load(learner)?;
            self.evaluation = Some(finite(self.evaluate(learner)?));
        }
        Ok(())
    }

    /// One epoch, of which the steps in `before` are done. Says whether it is complete.
    fn one_epoch(&mut self, learner: &mut dyn Learner, epoch: u64, before: Steps) -> Result<bool, RunError> {
        let mut trained = self.train_epoch(learner, epoch, before)?;
        let steps = trained.steps;
        if steps.interrupted {
            let saved = self.save_middle_of(learner, steps, true);
            self.unsaved =
                saved.err().map(|error| RunError::Unsaved { epoch, steps: steps.done, source: Box::new(error) });
            return Ok(false);
        }
        trained.metrics.entry("loss".to_owned()).or_insert(steps.loss().unwrap_or(f64::NAN));
        // Any copy it makes of its state is gone before there is a copy of the weights.
        let state = self.write_state(|out| learner.save(out))?;
        let weights = learner.weights().map_err(RunError::learner(format!("reading the weights of epoch {epoch}")))?;
        if self.publish(weights, trained, state)?.is_none() {
            return Ok(false);
        }
        self.load(learner)?;
        let evaluation = self.evaluate(learner)?;
        self.epoch_done(evaluation);
        Ok(true)
    }

    /// Trains the rest of an epoch, and saves its middle as often as is wanted. Interrupted only by a stop request.
    fn train_epoch(&mut self, learner: &mut dyn Learner, epoch: u64, before: Steps) -> Result<Trained, RunError> {
        let stop = self.stop.clone();
        let mut steps = before;
        loop {
            let began = Instant::now();
            let due = self.options.checkpoint_every.and_then(|every| began.checked_add(every));
            // There is at least one step between two saves.
            let asked = AtomicBool::new(false);
            let pause = || {
                let is_due = due.is_some_and(|due| Instant::now() >= due);
                asked.swap(true, Ordering::Relaxed) && is_due || stop.is_requested()
            };
            let trained = learner.train(epoch, Steps { interrupted: false, ..steps }, &pause);
            let mut trained = trained.map_err(RunError::learner(format!("training epoch {epoch}")))?;
            trained.steps.time = steps.time + began.elapsed();
            steps = trained.steps;
            if !steps.interrupted || stop.is_requested() {
                return Ok(trained);
            }
            // There may be room on the disk again when the next save is due.
            if let Err(error) = self.save_middle_of(learner, steps, false) {
                tracing::warn!(epoch, "the middle of the epoch is not saved: {error}");
            }
        }
    }

    fn save_middle_of(&mut self, learner: &mut dyn Learner, steps: Steps, stopping: bool) -> Result<(), RunError> {
        // The checkpoint already has the beginning of an epoch.
        if steps.done == 0 {
            return Ok(());
        }
        let middle = self.middle_after(steps, |out| learner.save(out))?;
        let weights = learner.weights().map_err(RunError::learner("reading the weights"))?;
        self.save_middle(weights, middle, stopping)
    }

    fn load(&self, learner: &mut dyn Learner) -> Result<(), RunError> {
        let doing = || format!("loading the weights of epoch {}", self.epoch());
        learner.load(self.weights()).map_err(|source| RunError::Learner { doing: doing(), source })
    }

    fn evaluate(&self, learner: &mut dyn Learner) -> Result<Metrics, RunError> {
        let doing = || format!("evaluating the weights of epoch {}", self.epoch());
        learner.evaluate().map_err(|source| RunError::Learner { doing: doing(), source })
    }
}
