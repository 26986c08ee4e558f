//! What a node has done so far, as one tree: each part counts for itself as it works, and the session gathers the
//! counts. Events and exporters read this.

use crate::folder::FolderFigures;
use serde::{Deserialize, Serialize};

/// What happened to peers' updates since the node was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FoldFigures {
    /// Values of peers' updates that have arrived and passed the checks.
    pub received: u64,
    /// Updates that were rejected, each counted once while it was in the folder.
    pub rejected: u64,
    /// Updates that could not be read when they were wanted, each counted once until it could.
    pub out_of_reach: u64,
    /// Updates left out as too old.
    pub left_out: u64,
    /// Folds of the node's strategy.
    pub folds: u64,
    /// Peers' updates in these.
    pub folded: u64,
    /// Folds that the strategy refused.
    pub refused: u64,
    /// Updates in folds that claimed more examples than count.
    #[serde(default)]
    pub cut: u64,
    /// Updates in folds that were far out of line with the others, each counted once.
    #[serde(default)]
    pub suspected: u64,
    /// Suspect updates that were left out, counted in each fold.
    #[serde(default)]
    pub suspects_left_out: u64,
}

/// What was trained in this run, as handed to the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TrainingFigures {
    /// Epochs.
    pub epochs: u64,
    /// Examples in them.
    pub examples: u64,
}

/// How far the run has got.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RunFigures {
    /// The last complete epoch, possibly of an earlier run.
    pub epoch: u64,
    /// Seconds since the session was created.
    pub seconds: f64,
}

/// The list of members that this node follows, if an administrator signs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListFigures {
    /// The number of the list that counts; 0 as long as there is none.
    pub number: u64,
    /// Those whom it admits, the administrator among them.
    pub admitted: u64,
    /// Values in the list's place that were no list.
    pub refused: u64,
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
    /// The administrator's list.
    #[serde(default)]
    pub members: ListFigures,
}
