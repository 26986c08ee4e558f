//! The state of a sync with one peer: of the running session, and of the last one that learned nothing.

use super::RequestId;
use crate::{
    entries::{BUCKETS, BucketSet, Fingerprints, Position},
    weights::Digest,
};

/// The two digests, theirs and ours, of a session that learned nothing: comparing them again would be pointless. Sets
/// can differ for good, if an author was readmitted in one place only, or exceeds a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) theirs: Digest,
    pub(super) ours: Digest,
}

/// The buckets that a session has asked for, and the fingerprints of both sides before it did.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) buckets: BucketSet,
    pub(super) theirs: Fingerprints,
    pub(super) ours: Fingerprints,
}

/// Buckets in which a peer has something that this node doesn't take in, as both were when that was found out: asking
/// for them again would move the same pages for nothing. With a peer whose allow-list is longer than ours that would
/// otherwise happen at every sync.
#[derive(Debug)]
pub(super) struct Barren(Box<[Option<Pair>; BUCKETS]>);

/// Their fingerprint of a bucket, and ours.
type Pair = ([u8; 16], [u8; 16]);

impl Default for Barren {
    fn default() -> Self {
        Self(Box::new([None; BUCKETS]))
    }
}

impl Barren {
    /// Those of the buckets that may have something new.
    pub(super) fn not_in(&self, buckets: BucketSet, theirs: &Fingerprints, ours: &Fingerprints) -> BucketSet {
        let mut left = BucketSet::default();
        for (bucket, known) in (0..=u8::MAX).zip(&*self.0) {
            let pair = (theirs.0[usize::from(bucket)], ours.0[usize::from(bucket)]);
            if buckets.contains(bucket) && *known != Some(pair) {
                left.insert(bucket);
            }
        }
        left
    }

    /// All that the peer has in these buckets was looked at, and now ours are like this.
    pub(super) fn note(&mut self, asked: &Asked, now: &Fingerprints) {
        for (bucket, known) in (0..=u8::MAX).zip(&mut *self.0) {
            let at = usize::from(bucket);
            if asked.buckets.contains(bucket) {
                let (theirs, ours) = (asked.theirs.0[at], asked.ours.0[at]);
                *known = (ours == now.0[at]).then_some((theirs, ours));
            }
        }
    }
}

/// A sync with a peer that runs.
#[derive(Debug)]
pub(super) struct Session {
    /// The request in flight.
    pub(super) id: RequestId,
    pub(super) stage: Stage,
    /// Of the state that this session goes through; known with the first answer.
    pub(super) theirs: Option<Digest>,
    /// What its pages are of; `None` before the first, and if they were too many for one session.
    pub(super) asked: Option<Asked>,
    /// Pages asked for so far.
    pub(super) pages: usize,
    /// Whether it has changed the set.
    pub(super) changed: bool,
    /// Start again at the end of this session: this node has learned something from elsewhere.
    pub(super) again: bool,
    /// What the peer has said of itself since.
    pub(super) told: Option<Digest>,
}

impl Session {
    pub(super) fn new(id: RequestId, stage: Stage) -> Self {
        Self { id, stage, theirs: None, asked: None, pages: 0, changed: false, again: false, told: None }
    }
}

/// What the request in flight asks for.
#[derive(Debug)]
pub(super) enum Stage {
    /// Whether the sets differ, and where.
    Comparing { ours: Digest },
    /// The next page of what differs in these buckets, and then of what does in the later ones.
    Paging { buckets: BucketSet, after: Option<Position>, later: BucketSet },
}
