//! The interface of [`Core`](super::Core): its inputs, its outputs, and their parts.

use crate::{
    entries::Conflict,
    p2p::message::{Blob, BlobRequest, SyncRequest, SyncResponse},
    weights::{BlobHash, ChunkHash, Root, SignedEntry},
};
use bytes::Bytes;
use libp2p_identity::PeerId;
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Identifies a request that the core has made.
pub type RequestId = u64;
/// Identifies something that the driver wants answered.
pub type Token = u64;

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestFailed {
    /// The peer doesn't speak the protocol: it isn't a node, but perhaps a bootstrap node.
    Unsupported,
    /// It is gone, or was too slow.
    Failed,
    /// It sent what can't be decoded.
    Malformed,
    /// It has given as much as it may, and may be asked again after this time.
    Later(Duration),
}

/// What the cache says of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// Its manifest isn't there.
    NoManifest,
    /// A part of it is there.
    Part {
        /// These chunks.
        here: Vec<ChunkHash>,
        /// And these are missing, each with its length.
        missing: Vec<(ChunkHash, u64)>,
    },
    /// All of it is there.
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
    /// Its hash is right, but it isn't a manifest, or not the chunk for its place: that is what its author signed.
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
    /// Whether a peer is reached by relays alone has changed, so that no weights may be asked of it. Before the first
    /// connection to a peer this is told too, if it is a relayed one.
    Relayed {
        /// Who.
        peer: PeerId,
        /// Whether.
        only: bool,
    },
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
    /// Another list says who may take part.
    MembershipChanged,
    /// Entries that were found somewhere other than at a peer: to be taken in and passed on.
    Learned(Vec<Arc<SignedEntry>>),
    /// A peer's request, to be answered with [`Output::SyncReply`].
    SyncRequest {
        /// Names it.
        token: Token,
        /// Who asks.
        peer: PeerId,
        /// What.
        request: SyncRequest,
    },
    /// The answer to an [`Output::Sync`]. It comes once for each: at the latest as a failure when the peer's time is
    /// up, or not at all if the peer's last connection has ended.
    SyncResponse {
        /// Which request.
        id: RequestId,
        /// The answer.
        response: Result<SyncResponse, RequestFailed>,
    },
    /// A value is wanted. Answered with [`Output::Fetched`], once for everybody who wants the same root.
    Want(Arc<SignedEntry>),
    /// This node will fold updates of these authors next, and of no others.
    Expects(BTreeSet<PeerId>),
    /// Nobody waits for it any more. The driver does the counting.
    Unwant(Root),
    /// The answer to an [`Output::Lookup`].
    Looked {
        /// The value.
        root: Root,
        /// What the cache has of it.
        looked: Looked,
    },
    /// The answer to an [`Output::Blobs`], empty for a notice; `Err` with `Unsupported` too if the peer isn't a member.
    /// It comes once for each, like the answer to an [`Output::Sync`].
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
    /// A peer holds all of these values.
    Holds {
        /// Who.
        peer: PeerId,
        /// What.
        roots: Vec<Root>,
    },
    /// A peer is fetching a value.
    Fetching {
        /// Who.
        peer: PeerId,
        /// What.
        root: Root,
        /// Chunks of it that have come there since it last told.
        hashes: Vec<BlobHash>,
    },
    /// A peer has asked for blobs of this federation, and so is a member.
    Asked(PeerId),
    /// A departing peer asks for one of its own values to be kept for others.
    Keep {
        /// Who.
        peer: PeerId,
        /// Its signed entry.
        entry: Bytes,
    },
    /// This node is about to leave, and what it has published should outlive it; or it no longer is.
    /// [`Core::handed_over`](super::Core::handed_over) says how far that has got.
    Leaves(bool),
    /// The driver has seen a peer do something that it shouldn't.
    Misdeed {
        /// Who.
        peer: PeerId,
        /// What.
        misdeed: Misdeed,
    },
}

/// What peers do that shows beside the messages that the core gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misdeed {
    /// It has asked for something and takes nothing of the answer.
    Unread,
    /// It has asked for the same blob twice in one request.
    Repeats,
    /// It sends more requests than it may.
    Requests,
    /// It has sent so much more gossip than it may.
    Gossip(u64),
}

/// The verdict on a gossip message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Forwarded.
    Accept,
    /// Not forwarded: known, older, or not for this node.
    Ignore,
    /// Not forwarded, and the peer that forwarded it is to blame.
    Reject,
}

/// Why a value could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Its entry is no longer current.
    #[error("its author has replaced or removed it")]
    Gone,
    /// None of the connected peers has it.
    #[error("none of the {asked} connected peers that were asked gives it")]
    Unreachable {
        /// Peers that were asked.
        asked: usize,
    },
    /// The author signed an entry that misdescribes its value.
    #[error("its manifest is of another layout or length than its entry says")]
    NotAsSigned,
    /// The cache can't be read or written.
    #[error("{0}")]
    Cache(String),
    /// The cache drops stored parts before the value is complete.
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
    /// The verdict on a message.
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
    /// An entry of our own with this number was seen: continue above it.
    OwnSequence(u64),
    /// A wanted value has arrived, or can't be had. Also reported unasked for every value that was fetched because it
    /// was announced, and for one that isn't what its entry says.
    Fetched {
        /// The value.
        root: Root,
        /// How it went.
        result: Result<(), FetchError>,
    },
    /// Drop the connections to this peer and make no new ones for this long.
    Ban {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: String,
        /// How long.
        length: Duration,
    },
    /// Let this peer in again, whose ban was forgotten because there are too many.
    Unban(PeerId),
    /// This peer is a member of the federation: remember it, and announce this node. Once for each time that it
    /// connects.
    Member(PeerId),
}
