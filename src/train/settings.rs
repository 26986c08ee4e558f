//! Settings of training, and how long an epoch is.

use super::EpochLength;
use crate::settings::{Minutes, Mistake, Range, settings};
use std::{num::NonZero, thread::available_parallelism, time::Duration};

/// Most examples in a step: their images must fit the memory at once.
pub const MAX_BATCH: usize = 1 << 16;
/// Most threads that train.
pub const MAX_THREADS: usize = 1024;

/// Steps of an epoch, unless it is said otherwise.
pub const STEPS_PER_EPOCH: u64 = 60;

settings! {
    /// How much to train.
    pub struct RunSettings under "Training" {
        /// Epochs of the run; a node that joins late takes over the others' epoch. [default: digits 8, mnist 3]
        pub epochs as "epochs": u64 = 8, "E", Range::at_least(1.0);
        /// Training steps between two folds, unless --period is given. [default: digits 60, mnist 1200]
        pub steps_per_epoch as "steps-per-epoch": Option<u64> = None, "K", Range::at_least(1.0);
        /// Instead of --steps-per-epoch: train for so long between two folds, so that slow nodes do fewer steps and
        /// none is waited for. The same on all nodes; also with --sync.
        pub period as "period": Option<Duration> = None, "SECONDS", Range::above(0.0);
        /// Save the middle of an epoch every so many minutes, 0.5 for 30 seconds: a node that is killed goes on from
        /// there. One that is stopped saves it in any case. [default: never]
        pub checkpoint_every as "checkpoint-every": Option<Minutes> = None, "MINUTES", Range::above(0.0);
    }
}

impl RunSettings {
    /// How much training an epoch is: [`STEPS_PER_EPOCH`] if nothing is said. Errors if it is said in both ways.
    pub fn length(&self) -> Result<EpochLength, Mistake> {
        match (self.period, self.steps_per_epoch) {
            (Some(period), None) => Ok(EpochLength::Period(period)),
            (None, Some(steps)) => Ok(EpochLength::Steps(steps)),
            (Some(period), Some(steps)) => {
                let what =
                    format!("--steps-per-epoch {steps} is given beside it; an epoch has a time or a number of steps");
                Err(Mistake { key: "period", value: period.as_secs_f64().to_string(), what })
            }
            (None, None) => Ok(EpochLength::Steps(STEPS_PER_EPOCH)),
        }
    }
}

settings! {
    /// How to train.
    #[derive(Copy)]
    pub struct TrainOptions under "Training" {
        /// Examples in a step.
        ///
        /// May be more than there are.
        pub batch as "batch-size": usize = 32, "B", Range::between(1.0, MAX_BATCH as f64).of("the batch size");
        /// Adam's learning rate. [default: digits 0.003, mnist 0.001]
        pub learning_rate as "lr": f64 = 3e-3, "F", Range::above(0.0).of("the learning rate");
        /// Decides the partition and the first weights: the same on all nodes.
        pub model_seed as "seed": u64 = 0, "N";
        /// Decides the order of this node's examples and its sampling of peers. [default: seed and partition]
        pub data_seed as "data-seed": u64 = 0, "N";
        /// Threads that train and measure on the processor. Nodes of one machine should share its processors. [default:
        /// as many as the machine has processors]
        ///
        /// Their number changes no bit of the result.
        pub threads as "threads": usize = processors(), "N", Range::between(1.0, MAX_THREADS as f64);
    }
    beside {
        /// FedProx' μ: the loss has the term μ/2·‖w − w_start‖² besides, where w_start are the weights that were
        /// [loaded](super::Train::load_weights) last. Finite and not negative; 0 for no such term.
        pub proximal_mu: f64 = 0.0;
    }
}

fn processors() -> usize {
    available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::settings::{Settings, Values, Written};

    #[test]
    fn an_epoch_has_a_time_or_a_number_of_steps() {
        let (period, steps) = (("period", Written::Number(2.5)), ("steps-per-epoch", Written::Whole(7)));
        let length = |set: &[&(&str, Written)]| {
            let values: Values = set.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
            RunSettings::read(&values).unwrap().length()
        };
        assert_eq!(length(&[]), Ok(EpochLength::Steps(STEPS_PER_EPOCH)));
        assert_eq!(length(&[&steps]), Ok(EpochLength::Steps(7)));
        assert_eq!(length(&[&period]), Ok(EpochLength::Period(Duration::from_millis(2500))));
        assert_eq!(length(&[&period, &steps]).unwrap_err().key, "period");
    }
}
