//! The loss of a built-in model's weights on examples that its node doesn't train on.

use super::{Device, Examples, Model, TrainError, TrainOptions, trainer};
use crate::{node::Validation, weights::Weights};
use std::sync::Arc;

/// Examples measured at a time.
const BATCH: usize = 256;

/// A judge of weights by their loss on `held_out`. It has a model and threads of its own, as many as `options` say.
///
/// Errors as [`trainer`] does: also if there are no examples.
pub fn validation(
    model: Model,
    device: Device,
    options: TrainOptions,
    held_out: Examples,
) -> Result<Validation, TrainError> {
    // It never trains, so it needs no copy of what an epoch began from.
    let options = TrainOptions { proximal_mu: 0.0, ..options };
    let mut judge = trainer(model, device, options, Arc::new(held_out))?;
    Ok(Validation::new(move |weights: &Weights| -> Result<f64, TrainError> {
        judge.load_weights(weights)?;
        Ok(judge.evaluate(judge.examples(), BATCH)?.loss)
    }))
}
