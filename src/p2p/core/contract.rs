//! What the core is told and what it says: the inputs and outputs of [`Core`](super::Core), and what stands in them.

use crate::{
    entries::Conflict,
    p2p::message::{Blob, BlobRequest, SyncRequest, SyncResponse},
    weights::{BlobHash, ChunkHash, Root, SignedEntry},
};
use bytes::Bytes;
use libp2p_identity::PeerId;
use std::{sync::Arc, time::Duration};

/// Names a request that the core has made.
pub type RequestId = u64;
/// Names something that the driver wants answered.
pub type Token = u64;

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFailed {
    /// The peer doesn't speak the protocol: it is no node, a bootstrap node perhaps.
    Unsupported,
    /// It is gone, or was too slow.
    Failed,
    /// It sent what can't be decoded.
    Malformed,
}

/// What the cache says of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// Its manifest isn't there.
    NoManifest,
    /// These chunks are missing, each with its length.
    Missing(Vec<(ChunkHash, u64)>),
    /// It is whole.
    Whole,
    /// The manifest isn't what the entry says: of another layout or length.
    NotAsSigned,
    /// The cache can't be read.
    Failed(String),
}

/// What became of a blob that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreResult {
    /// Verified and stored.
    Stored,
    /// Its hash is another one.
    WrongHash,
    /// It has the hash, but is no manifest, or no chunk of its place: so its author signed it.
    NotAsSigned,
    /// The cache can't be written.
    Failed(String),
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Time has passed: see [`Core::next_wakeup`](super::Core::next_wakeup).
    Tick,
    /// The first connection to a peer was made, or one more.
    Connected(PeerId),
    /// The last one ended.
    Disconnected(PeerId),
    /// A message of gossip, to be answered by [`Output::Verdict`].
    Gossip {
        /// Names it.
        token: Token,
        /// Who forwarded it.
        from: PeerId,
        /// Its data.
        data: Bytes,
    },
    /// This node has put an entry, which is on the board and in the cache already.
    Published(Arc<SignedEntry>),
    /// An [`Output::Gossip`] reached nobody.
    GossipFailed,
    /// The board was changed past the core: an author was trusted again.
    BoardChanged,
    /// Entries that were found elsewhere than at a peer: to be taken in, and told.
    Learned(Vec<Arc<SignedEntry>>),
    /// A peer asks, to be answered by [`Output::SyncReply`].
    SyncRequest {
        /// Names it.
        token: Token,
        /// Who asks.
        peer: PeerId,
        /// What.
        request: SyncRequest,
    },
    /// The answer to an [`Output::Sync`]. It comes once for each, as a failure at the latest when the peer has had its
    /// time, or not at all if the peer's last connection has ended.
    SyncResponse {
        /// Which request.
        id: RequestId,
        /// The answer.
        response: Result<SyncResponse, RequestFailed>,
    },
    /// A value is wanted: answered by [`Output::Fetched`], once for all that want the same root.
    Want(Arc<SignedEntry>),
    /// Nobody waits for it any more. The driver counts who does.
    Unwant(Root),
    /// The answer to an [`Output::Lookup`].
    Looked {
        /// The value.
        root: Root,
        /// What the cache has of it.
        looked: Looked,
    },
    /// The answer to an [`Output::Blobs`], empty for a notice; `Err` with `Unsupported` too if the peer isn't a member. It
    /// comes once for each, as that to an [`Output::Sync`].
    BlobResponse {
        /// Which request.
        id: RequestId,
        /// The answer.
        response: Result<Vec<Blob>, RequestFailed>,
    },
    /// The answer to an [`Output::Store`].
    Stored {
        /// The blob.
        hash: BlobHash,
        /// What became of it.
        result: StoreResult,
    },
    /// A peer holds these values whole.
    Holds {
        /// Who.
        peer: PeerId,
        /// What.
        roots: Vec<Root>,
    },
    /// A peer has asked for blobs of this federation, and so is a member.
    Asked(PeerId),
    /// A peer that leaves asks for this value of its own to be kept for others.
    Keep {
        /// Who.
        peer: PeerId,
        /// Its signed entry.
        entry: Bytes,
    },
    /// This node is about to leave, so that what is its own is to outlive it; or isn't any more. How far that is,
    /// [`Core::handed_over`](super::Core::handed_over) says.
    Leaves(bool),
}

/// What becomes of a message of gossip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Forwarded.
    Accept,
    /// Not forwarded: known, older, or not for this node.
    Ignore,
    /// Not forwarded, and whoever forwarded it is to blame.
    Reject,
}

/// Why a value could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Its entry no longer stands.
    #[error("its author has replaced or removed it")]
    Gone,
    /// None of the connected peers gives it.
    #[error("none of the {asked} connected peers that were asked gives it")]
    Unreachable {
        /// Peers that were asked.
        asked: usize,
    },
    /// The author signed an entry for a value that isn't so.
    #[error("its manifest is of another layout or length than its entry says")]
    NotAsSigned,
    /// The cache can't be read or written.
    #[error("{0}")]
    Cache(String),
    /// The cache lets go of what is stored in it before the value is whole.
    #[error("the cache doesn't keep it; is its quota too small?")]
    NotKept,
    /// The node has left the network.
    #[error("the network of this node has ended")]
    Ended,
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// Publish this by gossip.
    Gossip(Bytes),
    /// What becomes of a message.
    Verdict {
        /// Which.
        token: Token,
        /// What.
        verdict: Verdict,
    },
    /// Send a request of sync.
    Sync {
        /// Names it.
        id: RequestId,
        /// To whom.
        peer: PeerId,
        /// What.
        request: SyncRequest,
    },
    /// Answer a request of sync.
    SyncReply {
        /// Which.
        token: Token,
        /// How.
        response: SyncResponse,
    },
    /// Send a request for blobs, or a notice about them.
    Blobs {
        /// Names it.
        id: RequestId,
        /// To whom.
        peer: PeerId,
        /// What.
        request: BlobRequest,
    },
    /// Ask the cache what it has of the value of this entry.
    Lookup(Arc<SignedEntry>),
    /// Verify a blob and store it. A manifest comes as the blob with its root as hash.
    Store {
        /// Its address.
        hash: BlobHash,
        /// The value it is for.
        root: Root,
        /// What came.
        bytes: Bytes,
    },
    /// Keep an entry that was learned from a peer. Its author is another one, or this node in an earlier life.
    Save(Arc<SignedEntry>),
    /// Keep a proof.
    SaveProof(Conflict),
    /// The entry set has changed: let the cache drop what no longer counts.
    Retain,
    /// An own entry with this number was seen: go on above it.
    OwnSequence(u64),
    /// A wanted value is there, or can't be had. Also told unasked: of every value that was fetched for its announcement,
    /// and of one that is not as signed.
    Fetched {
        /// The value.
        root: Root,
        /// How it went.
        result: Result<(), FetchError>,
    },
    /// Drop the connections to this peer and make none for so long.
    Ban {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: String,
        /// How long.
        length: Duration,
    },
    /// This peer is a member of the federation: remember it, provide for it. Once for each time that it connects.
    Member(PeerId),
}
