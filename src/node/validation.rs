//! What a node measures updates by besides each other: their loss on examples of its own that it doesn't train on.

use crate::weights::Weights;
use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

type Failure = Box<dyn Error + Send + Sync>;
type Loss = dyn FnMut(&Weights) -> Result<f64, Failure> + Send;

/// A node's own judge of weights: their loss on a validation part, examples that the node doesn't train on.
///
/// The node asks it on a blocking thread, while it folds, so it has a model of its own beside the one in training. Clones
/// are one judge, asked by one node at a time.
///
/// ```
/// # use peerfold::prelude::*;
/// # fn mean_squared_error(_: &Weights, _: &[(f32, f32)]) -> Result<f64, std::io::Error> { Ok(0.0) }
/// # let held_out = vec![(1.0, 2.0)];
/// let mut config = NodeConfig::new("lines", FolderUrl::Memory);
/// config.validation = Some(Validation::new(move |weights| mean_squared_error(weights, &held_out)));
/// ```
#[derive(Clone)]
pub struct Validation(Arc<Mutex<Loss>>);

impl Validation {
    /// `loss` gives the loss of weights of the model's layout: the lower the better, never negative. A loss that isn't
    /// finite counts as an infinite one. Weights that come from peers have passed the node's
    /// [checks](super::Checks), so they are finite.
    pub fn new<E: Into<Failure>>(mut loss: impl FnMut(&Weights) -> Result<f64, E> + Send + 'static) -> Self {
        let loss = move |weights: &Weights| -> Result<f64, Failure> { loss(weights).map_err(Into::into) };
        Self(Arc::new(Mutex::new(loss)))
    }

    /// The loss of these weights, or `None`, after saying so, if it can't be measured. Blocks.
    pub(super) fn loss(&self, weights: &Weights) -> Option<f64> {
        let mut loss = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let measured = (*loss)(weights);
        measured.inspect_err(|error| tracing::warn!(%error, "updates are not judged by their loss")).ok()
    }
}

impl fmt::Debug for Validation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Validation").finish_non_exhaustive()
    }
}
