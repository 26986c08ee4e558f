//! Updates: what a node publishes after an epoch, and a peer's update that has arrived.

use crate::{
    folder::Value,
    weights::{Metadata, Metric, SignedEntry, Weights},
};
use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// The metric that says how many authors a node knows, for strategies that ask for it.
pub(super) const DEGREE: &str = "degree";

/// An update that was folded into a checkpoint's weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoldedFrom {
    /// Peer id of its author.
    pub author: String,
    /// The epoch that it comes after.
    pub epoch: u64,
    /// Examples it was trained on.
    pub num_examples: u64,
    /// Its weight in the fold.
    pub weight: f64,
}

/// What a node publishes after an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalUpdate {
    /// The trained weights, before any fold.
    pub weights: Weights,
    /// The epoch that they come after.
    pub epoch: u64,
    /// Examples trained on in it.
    pub num_examples: u64,
    /// Figures for the entry, in ascending order of their names; `loss` is what strategies look at.
    pub metrics: Vec<Metric>,
}

impl LocalUpdate {
    pub(super) fn metadata(&self) -> Metadata {
        Metadata { epoch: self.epoch, num_examples: self.num_examples, metrics: self.metrics.clone() }
    }
}

/// A peer's update that has passed the checks.
#[derive(Clone)]
pub(super) struct Arrived {
    pub(super) entry: Arc<SignedEntry>,
    pub(super) metadata: Metadata,
    pub(super) value: Arc<Value>,
    /// The Euclidean norm of its weights.
    pub(super) norm: f64,
}

impl Arrived {
    pub(super) fn author(&self) -> PeerId {
        self.entry.key.author()
    }
}

/// Other authors' updates, the newest first.
pub(super) type Listing = BTreeMap<PeerId, Vec<Arc<SignedEntry>>>;
