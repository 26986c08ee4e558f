//! What a run trains: anything with weights, in burn, in plain arrays, or in another process.

use crate::weights::Weights;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    error::Error,
    io::{Read, Write},
    time::Duration,
};

/// Figures by name: `loss`, `accuracy`, `perplexity`, whatever describes the model. What isn't finite is left out of
/// events, because JSON has no number for it.
pub type Metrics = BTreeMap<String, f64>;

/// A learner's error. The run adds what the learner was doing.
pub type LearnerError = Box<dyn Error + Send + Sync>;

/// A model in training: its weights, its optimizer and its data. It knows nothing of peers, and the run knows nothing of
/// what it learns.
///
/// A run that is interrupted and goes on is the uninterrupted one, bit for bit, if [`train`](Self::train) depends on the
/// weights, on what [`save`](Self::save) saves, and on the numbers of epoch and step only. All methods block; none is
/// called from an async runtime's thread unless the run is.
pub trait Learner {
    /// A copy of the weights as they are now. Their layout never changes.
    fn weights(&mut self) -> Result<Weights, LearnerError>;

    /// Trains on from these weights. Everything else that was gathered (moments, counters) stays. On an error nothing
    /// changes.
    fn load(&mut self, weights: &Weights) -> Result<(), LearnerError>;

    /// Trains epoch `epoch`, from 1, of which the steps in `before` are done already, in this process or in an earlier
    /// one. Before each step `pause` is asked whether to stop instead; then [`Steps::interrupted`] is set, and the run
    /// calls again for the rest, or saves the middle and ends. A learner that can't be interrupted need not ask.
    fn train(&mut self, epoch: u64, before: Steps, pause: &(dyn Fn() -> bool + Sync)) -> Result<Trained, LearnerError>;

    /// Measures the weights as they are now, after each fold and at the end of the run. Nothing by default.
    fn evaluate(&mut self) -> Result<Metrics, LearnerError> {
        Ok(Metrics::new())
    }

    /// Writes what training needs to go on besides the weights: moments, counters, whatever was gathered. Called between
    /// epochs and, when one is interrupted, within. Equal states must write equal bytes, or the middle of an epoch isn't
    /// known for this checkpoint's and is trained again.
    fn save(&mut self, out: &mut dyn Write) -> Result<(), LearnerError>;

    /// Goes on with what [`save`](Self::save) wrote. The weights are [loaded](Self::load) separately. On an error
    /// nothing changes.
    fn restore(&mut self, from: &mut dyn Read) -> Result<(), LearnerError>;

    /// Goes on in the middle of an epoch, with these weights and what [`save`](Self::save) wrote there; the epoch began
    /// from the weights `start`. By default this restores the state and loads the weights. Override it if the rest of
    /// the epoch needs `start`, as a proximal term does. On an error nothing changes.
    fn resume(&mut self, weights: &Weights, from: &mut dyn Read, start: &Weights) -> Result<(), LearnerError> {
        let _ = start;
        self.restore(from)?;
        self.load(weights)
    }
}

/// How far an epoch has got. The default is its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Steps {
    /// Steps done: all of the epoch's, unless it was interrupted.
    pub done: u64,
    /// Sum of the steps' losses, each before its step, in the order of the steps.
    pub loss_sum: f64,
    /// How long the epoch was trained. The run counts it; a learner only reads it.
    pub time: Duration,
    /// Whether training was asked to pause before the last step.
    pub interrupted: bool,
}

impl Steps {
    /// Mean of the steps' losses; `None` if no step was done.
    pub fn loss(&self) -> Option<f64> {
        (self.done > 0).then(|| self.loss_sum / self.done as f64)
    }
}

/// The result of training an epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trained {
    /// The total number of steps, including those before an interruption.
    pub steps: Steps,
    /// Different examples seen in the epoch: how much the update counts in a mean. Looked at when the epoch is complete.
    pub num_examples: u64,
    /// Figures that peers may see. The mean `loss` of the steps, which some strategies look at, is added for a learner
    /// that doesn't name one. At most
    /// [`MAX_METRICS`](crate::weights::MAX_METRICS) in all, with names of at most
    /// [`MAX_METRIC_NAME`](crate::weights::MAX_METRIC_NAME) bytes.
    pub metrics: Metrics,
}

impl Trained {
    /// An epoch that was trained on this many examples.
    pub fn on(num_examples: u64) -> Self {
        Self { num_examples, ..Self::default() }
    }

    /// Adds a figure. Of two with the same name the last one counts.
    #[must_use]
    pub fn metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.insert(name.into(), value);
        self
    }
}
