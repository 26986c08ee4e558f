//! Updates: what a node publishes after an epoch, and a peer's update that has arrived.

use crate::{
    folder::Value,
    weights::{Metadata, Metric, Root, SignedEntry, Weights},
};
use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, sync::Arc};

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

/// Other authors' updates: by author, of each the newest first. One list, because a node lists a thousand strangers'
/// updates as often as it folds.
#[derive(Default)]
pub(super) struct Listing(Vec<Arc<SignedEntry>>);

impl Listing {
    pub(super) fn new(mut updates: Vec<Arc<SignedEntry>>) -> Self {
        updates.sort_by_key(|entry| (entry.key.author(), Reverse(entry.sequence)));
        Self(updates)
    }

    /// The authors with their updates, of which each has at least one.
    pub(super) fn by_author(&self) -> impl Iterator<Item = (PeerId, &[Arc<SignedEntry>])> {
        let of_one = self.0.chunk_by(|one, other| one.key.author() == other.key.author());
        of_one.filter_map(|updates| Some((updates.first()?.key.author(), updates)))
    }

    /// The newest update of each author.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Arc<SignedEntry>> {
        self.by_author().filter_map(|(_, updates)| updates.first())
    }

    /// Whether an update of this author with this root is listed.
    pub(super) fn has(&self, author: PeerId, root: Root) -> bool {
        self.of(author).iter().any(|entry| entry.root() == Some(root))
    }

    /// The updates of this author, none if it isn't listed.
    pub(super) fn of(&self, author: PeerId) -> &[Arc<SignedEntry>] {
        let first = self.0.partition_point(|entry| entry.key.author() < author);
        let of_the_rest = self.0[first..].iter().take_while(|entry| entry.key.author() == author);
        &self.0[first..first + of_the_rest.count()]
    }
}
