//! What a node has done so far, as one tree: each part counts for itself beside what it does, and a session gathers
//! them. Events, and whatever exports figures, read this.

use crate::folder::FolderFigures;
use serde::{Deserialize, Serialize};

/// What became of peers' updates, since the node was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FoldFigures {
    /// Values of peers' updates that have arrived and passed the checks.
    pub received: u64,
    /// Updates that were rejected, each once as long as it stood in the folder.
    pub rejected: u64,
    /// Updates that could not be read when they were wanted, each once until it could.
    pub out_of_reach: u64,
    /// Updates left out as too old.
    pub left_out: u64,
    /// Folds of the node's strategy.
    pub folds: u64,
    /// Peers' updates in these.
    pub folded: u64,
    /// Folds that the strategy refused.
    pub refused: u64,
}

/// What was trained in this run, by what was handed to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TrainingFigures {
    /// Epochs.
    pub epochs: u64,
    /// Examples in them.
    pub examples: u64,
}

/// How far the run is.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RunFigures {
    /// The last complete epoch, of an earlier run too.
    pub epoch: u64,
    /// Seconds since the session was made.
    pub seconds: f64,
}

/// All figures of a node.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// The folder's, with those of its network, bucket and cache.
    pub folder: FolderFigures,
    /// What was folded.
    pub fold: FoldFigures,
    /// What was trained.
    pub training: TrainingFigures,
    /// How far it is.
    pub run: RunFigures,
}
