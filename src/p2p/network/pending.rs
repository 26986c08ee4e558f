//! Everything that waits for an answer: peers' requests to this node, and this node's requests to them.

use crate::p2p::{
    core::{RequestId, Token},
    message::{BlobResponse, SyncResponse},
};
use libp2p::{
    gossipsub::MessageId,
    request_response::{InboundRequestId, OutboundRequestId, ResponseChannel},
};
use libp2p_identity::PeerId;
use std::collections::BTreeMap;

/// Something that a peer waits for. Dropping the channel fails the request on the other side.
enum Question {
    /// Whether to forward this message, which the peer forwarded to us.
    Gossip(MessageId),
    Sync(InboundRequestId, ResponseChannel<SyncResponse>),
    Blobs(InboundRequestId, ResponseChannel<BlobResponse>),
}

/// The protocols of requests. Each numbers its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Sync,
    Blobs,
}

/// Everything that waits for an answer. The core answers peers' gossip and sync at once, and the driver admits only as
/// many of their blob requests as it has room for the answers. Each request of this node is answered, at the latest by its timeout.
#[derive(Default)]
pub(super) struct Pending {
    /// The last token handed out.
    last: Token,
    /// Who waits for this node, and for what.
    questions: BTreeMap<Token, (PeerId, Question)>,
    /// The core's ids of the requests in flight.
    requests: BTreeMap<(Protocol, OutboundRequestId), RequestId>,
}

impl Pending {
    fn add(&mut self, peer: PeerId, question: Question) -> Token {
        self.last += 1;
        self.questions.insert(self.last, (peer, question));
        self.last
    }

    /// A peer has forwarded a message that must be judged.
    pub(super) fn gossip(&mut self, peer: PeerId, message: MessageId) -> Token {
        self.add(peer, Question::Gossip(message))
    }

    /// A peer has asked to sync.
    pub(super) fn sync(&mut self, peer: PeerId, id: InboundRequestId, channel: ResponseChannel<SyncResponse>) -> Token {
        self.add(peer, Question::Sync(id, channel))
    }

    /// A peer has asked for blobs.
    pub(super) fn blobs(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        channel: ResponseChannel<BlobResponse>,
    ) -> Token {
        self.add(peer, Question::Blobs(id, channel))
    }

    /// The message being judged.
    pub(super) fn take_gossip(&mut self, token: Token) -> Option<(PeerId, MessageId)> {
        match self.questions.remove(&token)? {
            (peer, Question::Gossip(message)) => Some((peer, message)),
            _ => None,
        }
    }

    /// Where the answer to a request to sync goes.
    pub(super) fn take_sync(
        &mut self,
        token: Token,
    ) -> Option<(PeerId, InboundRequestId, ResponseChannel<SyncResponse>)> {
        match self.questions.remove(&token)? {
            (peer, Question::Sync(id, channel)) => Some((peer, id, channel)),
            _ => None,
        }
    }

    /// Where the answer to a request for blobs goes.
    pub(super) fn take_blobs(
        &mut self,
        token: Token,
    ) -> Option<(PeerId, InboundRequestId, ResponseChannel<BlobResponse>)> {
        match self.questions.remove(&token)? {
            (peer, Question::Blobs(id, channel)) => Some((peer, id, channel)),
            _ => None,
        }
    }

    /// A request of the core has been sent.
    pub(super) fn sent(&mut self, protocol: Protocol, sent: OutboundRequestId, id: RequestId) {
        self.requests.insert((protocol, sent), id);
    }

    /// It has been answered, or never will be.
    pub(super) fn answered(&mut self, protocol: Protocol, sent: OutboundRequestId) -> Option<RequestId> {
        self.requests.remove(&(protocol, sent))
    }
}
