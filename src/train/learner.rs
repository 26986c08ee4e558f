//! The built-in models as learners of a [run](crate::run).

use super::{EpochLength, Evaluation, Examples, Train};
use crate::{
    run::{Learner, LearnerError, Metrics, Steps, Trained},
    weights::Weights,
};
use std::io::{Read, Write};

/// Test examples evaluated at a time.
const EVALUATION_BATCH: usize = 256;

/// A built-in model with what it is trained on, for how long, and what it is measured on: `test_loss` and `accuracy`.
pub struct ModelLearner {
    trainer: Box<dyn Train>,
    length: EpochLength,
    test: Examples,
}

impl ModelLearner {
    /// Epochs of this length, measured on these examples.
    pub fn new(trainer: Box<dyn Train>, length: EpochLength, test: Examples) -> Self {
        Self { trainer, length, test }
    }
}

impl Learner for ModelLearner {
    fn weights(&mut self) -> Result<Weights, LearnerError> {
        Ok(self.trainer.weights()?)
    }

    fn load(&mut self, weights: &Weights) -> Result<(), LearnerError> {
        Ok(self.trainer.load_weights(weights)?)
    }

    fn train(&mut self, epoch: u64, before: Steps, pause: &(dyn Fn() -> bool + Sync)) -> Result<Trained, LearnerError> {
        let steps = self.trainer.train_epoch(epoch, self.length, before, pause)?;
        let num_examples = self.trainer.examples_seen(self.length.first_step(epoch), steps.done);
        Ok(Trained { steps, num_examples, metrics: Metrics::new() })
    }

    fn evaluate(&mut self) -> Result<Metrics, LearnerError> {
        let Evaluation { loss, accuracy } = self.trainer.evaluate(&self.test, EVALUATION_BATCH)?;
        Ok([("test_loss", loss), ("accuracy", accuracy)].map(|(name, value)| (name.to_owned(), value)).into())
    }

    fn save(&mut self, out: &mut dyn Write) -> Result<(), LearnerError> {
        Ok(self.trainer.save(out)?)
    }

    fn restore(&mut self, from: &mut dyn Read) -> Result<(), LearnerError> {
        Ok(self.trainer.restore(from)?)
    }

    fn resume(&mut self, weights: &Weights, from: &mut dyn Read, start: &Weights) -> Result<(), LearnerError> {
        Ok(self.trainer.resume(weights, from, start)?)
    }
}
