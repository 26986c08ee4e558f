//! A fold of checked updates: what the strategy is given, and what happens to updates that can't be read any more.

use super::{
    FoldedUpdate, LocalUpdate,
    complaints::Complaint,
    update::{Arrived, DEGREE},
};
use crate::{
    strategy::{FoldError, Folded, Round, Strategy, Update},
    weights::{Metadata, ReadError, SignedEntry, TensorReader, Weights},
};
use libp2p_identity::PeerId;
use std::sync::Arc;

/// No federation has more peers, and arithmetic with this many is safe.
const MAX_DEGREE: f64 = 1e9;

/// An update that could not be read while it was folded.
pub(super) struct Unread {
    pub(super) entry: Arc<SignedEntry>,
    pub(super) complaint: Complaint,
    pub(super) reason: String,
}

/// The outcome of a fold.
pub(super) enum Outcome {
    /// The weights to go on with.
    Weights(Weights),
    /// The strategy failed, which was reported as an event. The node goes on with its own weights.
    Refused,
    /// No fold: only this many of the inputs could be read, the node's own included, and more were needed.
    TooFew(usize),
}

/// Folds the inputs that can be read. The others are removed and returned, each with the reason. `None`, without a
/// fold, if fewer than `needed` inputs are left, or none of a peer.
pub(super) fn fold_readable(
    strategy: &mut dyn Strategy,
    inputs: &mut Vec<Input>,
    number: u64,
    failures: u64,
    needed: usize,
) -> (Option<Result<Folded, FoldError>>, Vec<Unread>) {
    let mut unread = Vec::new();
    loop {
        let updates: Vec<Update<'_>> = inputs.iter().map(Input::update).collect();
        let failures = failures + unread.len() as u64;
        let folded = strategy.fold(&Round { number, updates: &updates, failures });
        drop(updates);
        let Err(FoldError::Read { author, source }) = &folded else { return (Some(folded), unread) };
        let place = inputs.iter().position(|input| input.author == *author);
        let Some((place, Source::Peer(arrived))) = place.map(|at| (at, &inputs[at].weights)) else {
            return (Some(folded), unread);
        };
        let complaint = match source {
            ReadError::Io { .. } => Complaint::OutOfReach,
            ReadError::Damaged { .. } | ReadError::OutOfRange { .. } => Complaint::Rejected,
        };
        unread.push(Unread { entry: arrived.entry.clone(), complaint, reason: source.to_string() });
        inputs.remove(place);
        if inputs.len() < needed || inputs.iter().all(|input| input.own) {
            return (None, unread);
        }
    }
}

/// Folds peers' updates apart from the node's own strategy and count of folds.
pub(super) fn fold_peers(strategy: &mut dyn Strategy, peers: &[(Arrived, u64)]) -> Result<Folded, FoldError> {
    let inputs: Vec<Input> = peers.iter().map(|(arrived, staleness)| Input::of(arrived.clone(), *staleness)).collect();
    let updates: Vec<Update<'_>> = inputs.iter().map(Input::update).collect();
    strategy.fold(&Round { number: 1, updates: &updates, failures: 0 })
}

/// The number of peers that a metric gives; `None` if it isn't a valid number.
fn degree(claimed: f64) -> Option<u64> {
    (claimed.fract() == 0.0 && (0.0..=MAX_DEGREE).contains(&claimed)).then_some(claimed as u64)
}

/// An update with the data it borrows.
pub(super) struct Input {
    pub(super) author: PeerId,
    weights: Source,
    metadata: Metadata,
    staleness: u64,
    own: bool,
}

enum Source {
    Own(Weights),
    Peer(Arrived),
}

impl Input {
    pub(super) fn of(arrived: Arrived, staleness: u64) -> Self {
        let (author, metadata) = (arrived.author(), arrived.metadata.clone());
        Self { author, weights: Source::Peer(arrived), metadata, staleness, own: false }
    }

    pub(super) fn own(author: PeerId, local: &LocalUpdate) -> Self {
        let weights = Source::Own(local.weights.clone());
        Self { author, weights, metadata: local.metadata(), staleness: 0, own: true }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.metadata.epoch
    }

    fn update(&self) -> Update<'_> {
        let weights: &dyn TensorReader = match &self.weights {
            Source::Own(weights) => weights,
            Source::Peer(arrived) => arrived.value.as_ref(),
        };
        Update {
            author: self.author,
            weights,
            delta: false,
            num_examples: self.metadata.num_examples,
            epoch: self.metadata.epoch,
            staleness: self.staleness as f64,
            loss: self.metadata.metric("loss"),
            degree: self.metadata.metric(DEGREE).and_then(degree),
            own: self.own,
        }
    }

    pub(super) fn event(&self, weight: f64) -> FoldedUpdate {
        FoldedUpdate {
            author: self.author.to_string(),
            epoch: self.metadata.epoch,
            num_examples: self.metadata.num_examples,
            weight,
            staleness: self.staleness,
            own: self.own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_degree_is_a_whole_number_that_can_be() {
        assert_eq!([0.0, 3.0, 1e9].map(degree), [Some(0), Some(3), Some(1_000_000_000)]);
        let none = [-1.0, 0.5, 1e9 + 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        assert_eq!(none.map(degree), [None; 6]);
    }
}
