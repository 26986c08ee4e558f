//! What peers say to each other, apart from gossip, which carries [`SignedEntry::bytes`] and nothing else.
//!
//! [`SignedEntry::bytes`]: crate::weights::SignedEntry::bytes

use crate::{
    entries::{BucketSet, Fingerprints, Position, Standing},
    weights::{BlobHash, Digest, FederationId, Root},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Most hashes in a request for blobs.
pub const MAX_BLOBS: usize = 64;
/// Most items in a page of sync.
pub const MAX_ITEMS: usize = 128;

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

/// `/peerfold/sync/1`: a question. Only who asks learns something, but from [`Proof`](Self::Proof); who is asked by a peer
/// with another digest asks back.
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
    /// The asker is excluded: these are two entries of its own under one number. Told, for who has found out that its
    /// home was copied is about to end, and by its name both copies may be connected: a question to it may reach the
    /// other one.
    Proof {
        /// The federation.
        federation: FederationId,
        /// The two signed entries.
        entries: [Vec<u8>; 2],
    },
}

/// `/peerfold/sync/1`: an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncResponse {
    /// The asked peer is not in this federation.
    NotMember,
    /// To [`SyncRequest::Compare`]: both know the same. To [`SyncRequest::Proof`]: it is known now.
    Same,
    /// To [`SyncRequest::Compare`]: they differ, and this is what the asked peer has.
    Differs(Fingerprints),
    /// To [`SyncRequest::Items`].
    Items {
        /// At most [`MAX_ITEMS`].
        items: Vec<Item>,
        /// Where to go on, if there is more.
        next: Option<Position>,
    },
}

/// `/peerfold/blob/1`: a question.
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
    /// The asker is about to leave, and asks for a value of its own to be fetched and kept for others. Who has it whole
    /// says so by [`Holds`](Self::Holds).
    Keep {
        /// The federation.
        federation: FederationId,
        /// The asker's signed entry.
        entry: Bytes,
    },
}

/// `/peerfold/blob/1`: an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobResponse {
    /// The asked peer is not in this federation.
    NotMember,
    /// To [`BlobRequest::Get`]: an answer for each of the first hashes asked for. What is over the limit of an answer is
    /// left away, to be asked for again.
    Blobs(Vec<Blob>),
    /// To [`BlobRequest::Holds`] and [`BlobRequest::Keep`].
    Noted,
}
