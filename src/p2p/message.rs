//! The messages between peers, except gossip, which carries [`SignedEntry::bytes`] and nothing else.
//!
//! [`SignedEntry::bytes`]: crate::weights::SignedEntry::bytes

use crate::{
    entries::{BucketSet, Fingerprints, Position, ShortHash, Standing},
    weights::{BlobHash, Digest, FederationId, Root},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Most hashes in a request for blobs.
pub const MAX_BLOBS: usize = 64;
/// Most items in a page of sync.
pub const MAX_ITEMS: usize = 128;
/// Most items that a request of sync names.
pub const MAX_NAMED: usize = 512;

/// The bytes of a blob, or that the peer doesn't have it.
pub type Blob = Option<Bytes>;

/// What sync moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Item {
    /// A signed entry.
    Entry(Vec<u8>),
    /// Two signed entries under one number: why their author is excluded.
    Proof([Vec<u8>; 2]),
}

impl From<&Standing> for Item {
    fn from(standing: &Standing) -> Self {
        match standing {
            Standing::Entry(entry) => Self::Entry(entry.bytes().to_vec()),
            Standing::Proof(proof) => Self::Proof(proof.entries.each_ref().map(|entry| entry.bytes().to_vec())),
        }
    }
}

/// `/peerfold/sync/2`: a request. Only the asking peer learns anything, except from [`Proof`](Self::Proof); a peer that
/// is asked by one with a different digest asks back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncRequest {
    /// Do we know the same?
    Compare {
        /// The federation.
        federation: FederationId,
        /// The asker's digest.
        digest: Digest,
    },
    /// Your items in these buckets, after this position.
    Items {
        /// The federation.
        federation: FederationId,
        /// The buckets.
        buckets: BucketSet,
        /// Where the last page ended.
        after: Option<Position>,
    },
    /// The asker is excluded: these are two entries of its own under one number. Pushed rather than asked for: a node
    /// that finds its home copied is about to end, and both copies may be connected under its name, so that a question
    /// sent to it may reach the other copy.
    Proof {
        /// The federation.
        federation: FederationId,
        /// The two signed entries.
        entries: [Vec<u8>; 2],
    },
    /// Your items in these buckets, after this position, other than those that I name. To a peer of `/peerfold/sync/1`
    /// it goes as [`Items`](Self::Items).
    Others {
        /// The federation.
        federation: FederationId,
        /// The buckets.
        buckets: BucketSet,
        /// Where the last page ended.
        after: Option<Position>,
        /// What the asker has in them, at most [`MAX_NAMED`].
        named: Vec<ShortHash>,
    },
}

/// `/peerfold/sync/2`: an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncResponse {
    /// The asked peer is not in this federation.
    NotMember,
    /// To [`SyncRequest::Compare`]: both know the same. To [`SyncRequest::Proof`]: the proof is known now.
    Same,
    /// To [`SyncRequest::Compare`]: they differ, and this is what the asked peer has.
    Differs(Fingerprints),
    /// To [`SyncRequest::Items`] and [`SyncRequest::Others`].
    Items {
        /// At most [`MAX_ITEMS`].
        items: Vec<Item>,
        /// Where to go on, if there is more.
        next: Option<Position>,
    },
}

/// `/peerfold/blob/1`: a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobRequest {
    /// These blobs, at most [`MAX_BLOBS`].
    Get {
        /// The federation.
        federation: FederationId,
        /// Manifests or chunks.
        hashes: Vec<BlobHash>,
    },
    /// The asker holds these values whole, at most [`MAX_BLOBS`], and gives them to others.
    Holds {
        /// The federation.
        federation: FederationId,
        /// The values.
        roots: Vec<Root>,
    },
    /// The asker is about to leave, and asks the peer to fetch a value of its own and keep it for others. A peer that
    /// has all of it says so with [`Holds`](Self::Holds).
    Keep {
        /// The federation.
        federation: FederationId,
        /// The asker's signed entry.
        entry: Bytes,
    },
    /// The asker is fetching this value, and gives what it has of it to others. A peer that fetches it too tells the same of
    /// itself; one that has all of it says so with [`Holds`](Self::Holds).
    Fetching {
        /// The federation.
        federation: FederationId,
        /// The value.
        root: Root,
        /// Chunks that have come to the asker since it last told, at most [`MAX_BLOBS`].
        hashes: Vec<BlobHash>,
    },
}

/// `/peerfold/blob/1`: an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobResponse {
    /// The asked peer is not in this federation.
    NotMember,
    /// To [`BlobRequest::Get`]: an answer for each of the first hashes asked for. Whatever doesn't fit into the limit
    /// of an answer is left out, to be asked for again.
    Blobs(Vec<Blob>),
    /// To [`BlobRequest::Holds`], [`BlobRequest::Keep`] and [`BlobRequest::Fetching`].
    Noted,
    /// To [`BlobRequest::Get`]: the asked peer has given as much as it may for now. It may be asked again in so many
    /// seconds.
    Later(u32),
}
