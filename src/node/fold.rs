//! A fold of checked updates: what the strategy is given, and what happens to updates that can't be read any more.

use super::{
    FoldedFrom, FoldedUpdate, LocalUpdate,
    complaints::Complaint,
    roster::lower_median,
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

/// An update that could not be read while it was folded, or lacks what the strategy needs of it.
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
    /// No fold: only this many of the inputs could be read, the node's own and those left out as suspect included, and
    /// more were needed.
    TooFew(usize),
    /// No fold: of the peers' updates so many were left out as suspect, and no other could be read.
    AllSuspect(usize),
}

/// Does something with the inputs that can be read and have what it needs. The others are removed and added to `unread`, each with the reason.
/// `None` if fewer than `needed` inputs are left, or none of a peer.
pub(super) fn with_readable<T>(
    inputs: &mut Vec<Input>,
    needed: usize,
    unread: &mut Vec<Unread>,
    mut work: impl FnMut(&[Update<'_>], u64) -> Result<T, FoldError>,
) -> Option<Result<T, FoldError>> {
    loop {
        if inputs.len() < needed || inputs.iter().all(|input| input.own) {
            return None;
        }
        let updates: Vec<Update<'_>> = inputs.iter().map(Input::update).collect();
        let done = work(&updates, unread.len() as u64);
        drop(updates);
        let (author, complaint, reason) = match &done {
            Err(FoldError::Read { author, source }) => {
                let complaint = match source {
                    ReadError::Io { .. } => Complaint::OutOfReach,
                    ReadError::Damaged { .. } | ReadError::OutOfRange { .. } => Complaint::Rejected,
                };
                (author, complaint, source.to_string())
            }
            // One update that says no loss must not stop those that do.
            Err(FoldError::Figure { author, strategy, what }) => {
                (author, Complaint::Rejected, format!("for {strategy}, {what}"))
            }
            _ => return Some(done),
        };
        let place = inputs.iter().position(|input| input.author == *author);
        let Some((place, Source::Peer(arrived))) = place.map(|at| (at, &inputs[at].weights)) else {
            return Some(done);
        };
        unread.push(Unread { entry: arrived.entry.clone(), complaint, reason });
        inputs.remove(place);
    }
}

/// Folds the inputs that can be read. The others are removed and added to `unread`. `None`, without a fold, if fewer than
/// `needed` inputs are left, or none of a peer.
pub(super) fn fold_readable(
    strategy: &mut dyn Strategy,
    inputs: &mut Vec<Input>,
    number: u64,
    failures: u64,
    needed: usize,
    unread: &mut Vec<Unread>,
) -> Option<Result<Folded, FoldError>> {
    with_readable(inputs, needed, unread, |updates, unread| {
        strategy.fold(&Round { number, updates, failures: failures + unread })
    })
}

/// An update that claims more examples than count.
#[derive(Debug, PartialEq)]
pub(super) struct Cut {
    pub(super) author: PeerId,
    pub(super) epoch: u64,
    pub(super) claimed: u64,
    pub(super) counted: u64,
}

/// Lets no update count for more than so many times the lower median of what all claim, the node's own included: nobody
/// can check a claim, and by a claim one author could take all the weight. It follows from the updates alone, so that
/// synchronous nodes still come to equal bits. Returns those that claim more.
pub(super) fn cut_claims(inputs: &mut [Input], ratio: f64) -> Vec<Cut> {
    let median = lower_median(inputs.iter().map(|input| input.metadata.num_examples)).unwrap_or_default();
    // A float that is too large becomes the largest integer. With a median of 0 the others needn't become 0 too.
    let most = (median.max(1) as f64 * ratio) as u64;
    let mut cut = Vec::new();
    for input in inputs {
        let claimed = input.metadata.num_examples;
        if claimed > most {
            input.counted = most;
            cut.push(Cut { author: input.author, epoch: input.metadata.epoch, claimed, counted: most });
        }
    }
    cut
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
    /// How many of the examples that it claims count.
    counted: u64,
    staleness: u64,
    /// The Euclidean norm of its weights.
    pub(super) norm: f64,
    pub(super) own: bool,
}

enum Source {
    Own(Weights),
    Peer(Arrived),
}

impl Input {
    pub(super) fn of(arrived: Arrived, staleness: u64) -> Self {
        let (author, metadata) = (arrived.author(), arrived.metadata.clone());
        let (counted, norm) = (metadata.num_examples, arrived.norm);
        Self { author, weights: Source::Peer(arrived), metadata, counted, staleness, norm, own: false }
    }

    pub(super) fn own(author: PeerId, local: &LocalUpdate, norm: f64) -> Self {
        let weights = Source::Own(local.weights.clone());
        let counted = local.num_examples;
        Self { author, weights, metadata: local.metadata(), counted, staleness: 0, norm, own: true }
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
            num_examples: self.counted,
            epoch: self.metadata.epoch,
            staleness: self.staleness as f64,
            loss: self.metadata.metric("loss"),
            metrics: &self.metadata.metrics,
            degree: self.metadata.metric(DEGREE).and_then(degree),
            own: self.own,
        }
    }

    pub(super) fn folded_from(&self, weight: f64) -> FoldedFrom {
        let Metadata { epoch, num_examples, .. } = self.metadata;
        FoldedFrom { author: self.author.to_string(), epoch, num_examples, weight }
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
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_degree_is_a_whole_number_that_can_be() {
        assert_eq!([0.0, 3.0, 1e9].map(degree), [Some(0), Some(3), Some(1_000_000_000)]);
        let none = [-1.0, 0.5, 1e9 + 1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        assert_eq!(none.map(degree), [None; 6]);
    }

    /// What counts of each of these claims, and how many are cut.
    fn counted(claims: &[u64], ratio: f64) -> (Vec<u64>, usize) {
        let of = |&num_examples: &u64| {
            let weights = Weights::artifact("x".as_bytes().to_vec()).unwrap();
            let local = LocalUpdate { weights, epoch: 1, num_examples, metrics: Vec::new() };
            Input::own(PeerId::random(), &local, 1.0)
        };
        let mut inputs: Vec<Input> = claims.iter().map(of).collect();
        let cut = cut_claims(&mut inputs, ratio).len();
        (inputs.iter().map(|input| input.counted).collect(), cut)
    }

    #[test]
    fn no_claim_counts_for_more_than_a_few_times_the_median() {
        assert_eq!(counted(&[600, 500, 400, 100_000_000], 5.0), (vec![600, 500, 400, 2500], 1));
        assert_eq!(counted(&[600, 3000, 599], 5.0), (vec![600, 3000, 599], 0));
        assert_eq!(counted(&[10, u64::MAX], 5.0), (vec![10, 50], 1));
        // Even most of the claims can't make the others' worth nothing.
        assert_eq!(counted(&[0, 0, 0, 600], 5.0), (vec![0, 0, 0, 5], 1));
        assert_eq!(counted(&[u64::MAX, u64::MAX], 1.0), (vec![u64::MAX; 2], 0));
        assert_eq!(counted(&[], 5.0), (vec![], 0));
    }
}
