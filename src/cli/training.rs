//! What a node trains: a built-in model, or whatever a command trains.

#[cfg(unix)]
use super::commanded::Commanded;
use super::{built_in::BuiltIn, run::SavedAs};
use crate::{
    node::{Checks, Origin, Stop, Validation},
    run::Learner,
    settings::Values,
    train::TrainOptions,
    weights::{Annotations, Weights},
};
use std::{collections::BTreeMap, path::Path};

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

/// What trains, if the settings that are about it are right.
pub(super) enum Planned {
    BuiltIn(Box<BuiltIn>),
    #[cfg(unix)]
    Commanded(Commanded),
}

impl Planned {
    pub(super) fn of(values: &Values, options: TrainOptions) -> anyhow::Result<Self> {
        #[cfg(unix)]
        if let Some(commanded) = Commanded::planned(values, options)? {
            return Ok(Self::Commanded(commanded));
        }
        Ok(Self::BuiltIn(Box::new(BuiltIn::planned(values, options)?)))
    }

    /// Makes it ready. What a command needs is kept in `run_dir`.
    pub(super) fn prepared(self, run_dir: &Path, checks: Checks, stop: Stop) -> anyhow::Result<Training> {
        #[cfg(not(unix))]
        let _ = (run_dir, checks, stop);
        match self {
            Self::BuiltIn(built_in) => built_in.prepared(),
            #[cfg(unix)]
            Self::Commanded(commanded) => commanded.prepared(run_dir, checks, stop),
        }
    }
}
