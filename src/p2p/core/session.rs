//! The state of a sync with one peer: of the running session, and of the last one that learned nothing.

use super::RequestId;
use crate::{
    entries::{BucketSet, Position},
    weights::Digest,
};

/// The two digests, theirs and ours, of a session that learned nothing: comparing them again would be pointless. Sets
/// can differ for good, if an author was readmitted in one place only, or exceeds a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) theirs: Digest,
    pub(super) ours: Digest,
}

/// A sync with a peer that runs.
#[derive(Debug)]
pub(super) struct Session {
    /// The request in flight.
    pub(super) id: RequestId,
    pub(super) stage: Stage,
    /// Of the state that this session goes through; known with the first answer.
    pub(super) theirs: Option<Digest>,
    /// Pages asked for so far.
    pub(super) pages: usize,
    /// Whether it has changed the set.
    pub(super) changed: bool,
    /// Start again at the end of this session: this node has learned something from elsewhere.
    pub(super) again: bool,
    /// What the peer has said of itself since.
    pub(super) told: Option<Digest>,
}

/// What the request in flight asks for.
#[derive(Debug)]
pub(super) enum Stage {
    /// Whether the sets differ, and where.
    Comparing { ours: Digest },
    /// The next page of what differs.
    Paging { buckets: BucketSet, after: Option<Position> },
}
