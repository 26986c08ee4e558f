//! What a node trains, and what the rest of the program must know of it.

use super::run::SavedAs;
use crate::{
    node::{Origin, Validation},
    run::Learner,
    weights::{Annotations, Weights},
};
use std::collections::BTreeMap;

/// What trains, ready to begin.
pub(super) struct Training {
    pub(super) learner: Box<dyn Learner>,
    /// The weights to begin from if no peer has any.
    pub(super) initial: (Weights, Origin),
    /// The metadata of the file that they come from.
    pub(super) annotations: Annotations,
    /// What the middle of an epoch depends on, by name.
    pub(super) recipe: BTreeMap<String, String>,
    /// What all nodes should have alike, by name.
    pub(super) hyperparameters: BTreeMap<String, String>,
    /// What measures others' updates.
    pub(super) judge: Option<Validation>,
    pub(super) steps_per_epoch: Option<u64>,
    /// How the model is saved.
    pub(super) saved: SavedAs,
}
