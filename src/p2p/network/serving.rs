//! Answering peers' requests, within what this node has room and time for.

use super::{driver::Driver, jobs, pending::Protocol};
use crate::{
    p2p::{
        core::{Input, Misdeed, Taken, Turn},
        message::{BlobRequest, BlobResponse},
        status::Refusals,
        wire::ANSWER_BYTES,
    },
    weights::BlobHash,
};
use libp2p::{
    request_response::{InboundFailure, InboundRequestId, ResponseChannel},
    swarm::ConnectionId,
};
use libp2p_identity::PeerId;
use std::{collections::BTreeSet, io, sync::atomic::Ordering};

/// What a blob is taken for until it is read. Only a manifest of more than ten thousand chunks is longer.
const USUAL_BLOB: u64 = 1 << 20;

/// Longest that a peer is put off, in seconds: what is bounded may have become free meanwhile.
const LONGEST_WAIT: f64 = 30.0;

impl Driver {
    /// Whether a peer may send one more request now. If not, dropping its channel fails the request.
    pub(super) fn may_ask(&mut self, peer: PeerId) -> bool {
        let (trusted, now) = (self.trust.holds(&peer), self.now());
        let taken = self.requests.take(peer, trusted, 1.0, now);
        if taken == Taken::Over {
            self.tell(Input::Misdeed { peer, misdeed: Misdeed::Requests });
        }
        self.refusals.requests += u64::from(taken != Taken::Within);
        taken == Taken::Within
    }

    pub(super) fn serve(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        request: BlobRequest,
        channel: ResponseChannel<BlobResponse>,
    ) {
        let (BlobRequest::Get { federation, .. }
        | BlobRequest::Holds { federation, .. }
        | BlobRequest::Keep { federation, .. }
        | BlobRequest::Fetching { federation, .. }) = &request;
        let now = |response| {
            move |driver: &mut Self, channel| drop(driver.swarm.behaviour_mut().blobs.send_response(channel, response))
        };
        if *federation != self.federation || !self.core.admits(&peer) {
            return now(BlobResponse::NotMember)(self, channel);
        }
        self.tell(Input::Asked(peer));
        match request {
            BlobRequest::Holds { roots, .. } => {
                self.tell(Input::Holds { peer, roots });
                now(BlobResponse::Noted)(self, channel);
            }
            BlobRequest::Keep { entry, .. } => {
                self.tell(Input::Keep { peer, entry });
                now(BlobResponse::Noted)(self, channel);
            }
            BlobRequest::Fetching { root, hashes, .. } => {
                self.tell(Input::Fetching { peer, root, hashes });
                now(BlobResponse::Noted)(self, channel);
            }
            BlobRequest::Get { hashes, .. } => self.give(peer, id, hashes, channel),
        }
    }

    fn give(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        hashes: Vec<BlobHash>,
        channel: ResponseChannel<BlobResponse>,
    ) {
        if hashes.iter().collect::<BTreeSet<_>>().len() < hashes.len() {
            self.refusals.requests += 1;
            return self.tell(Input::Misdeed { peer, misdeed: Misdeed::Repeats });
        }
        let bytes = (hashes.len() as u64 * USUAL_BLOB).min(ANSWER_BYTES as u64);
        let (trusted, now) = (self.trust.holds(&peer), self.now());
        let wait = self.upload.wait(peer, trusted, now);
        if !wait.is_zero() {
            self.put_off += 1;
            let seconds = wait.as_secs_f64().ceil().clamp(1.0, LONGEST_WAIT);
            return drop(self.swarm.behaviour_mut().blobs.send_response(channel, BlobResponse::Later(seconds as u32)));
        }
        match self.answers.ask((Protocol::Blobs, id), peer, trusted, bytes, (channel, hashes)) {
            Turn::Now((channel, hashes)) => self.read(peer, id, hashes, channel),
            Turn::Later => {}
            Turn::Never(_) => return self.refusals.requests += 1,
        }
        self.upload.charge(peer, trusted, bytes as f64, now);
    }

    /// An answer has been read, and is longer or shorter than what it was taken for.
    pub(super) fn weigh(&mut self, peer: PeerId, id: InboundRequestId, bytes: u64) {
        if let Some((before, trusted)) = self.answers.weigh(&(Protocol::Blobs, id), bytes) {
            let now = self.now();
            self.upload.charge(peer, trusted, bytes as f64 - before as f64, now);
        }
    }

    fn read(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        hashes: Vec<BlobHash>,
        channel: ResponseChannel<BlobResponse>,
    ) {
        let (token, cache) = (self.pending.blobs(peer, id, channel), self.cache.clone());
        self.jobs.spawn_blocking(move || jobs::read(&cache, token, &hashes));
    }

    /// Begins to answer requests that had to wait, as far as there is room now.
    pub(super) fn serve_waiting(&mut self) {
        while let Some(((_, id), peer, (channel, hashes))) = self.answers.begin_next() {
            self.read(peer, id, hashes, channel);
        }
    }

    /// A peer has got its answer.
    pub(super) fn answer_taken(&mut self, id: (Protocol, InboundRequestId)) {
        self.answers.taken(&id);
        self.serve_waiting();
    }

    /// A peer hasn't got its answer, and won't. If that is because it took nothing of it, the connection is closed: all
    /// its answers are in the way of others.
    pub(super) fn answer_failed(
        &mut self,
        id: (Protocol, InboundRequestId),
        connection: ConnectionId,
        error: &InboundFailure,
    ) {
        let stalled = matches!(error, InboundFailure::Io(error) if error.kind() == io::ErrorKind::TimedOut);
        if let Some(peer) = self.answers.taken(&id).filter(|_| stalled) {
            tracing::debug!(%peer, "it doesn't read what it asked for");
            self.swarm.close_connection(connection);
            self.tell(Input::Misdeed { peer, misdeed: Misdeed::Unread });
        }
        self.serve_waiting();
    }

    /// A peer sends more gossip than it may. One of whom something is known may have much to tell; what is too much was
    /// dropped, and comes by sync.
    pub(super) fn floods(&mut self, peer: PeerId, dropped: u64) {
        if self.trust.holds(&peer) {
            tracing::warn!(%peer, dropped, "sends more gossip than it may; the rest comes by sync");
        } else {
            self.tell(Input::Misdeed { peer, misdeed: Misdeed::Gossip(dropped) });
        }
    }

    /// What was refused so far.
    pub(super) fn refusals(&self) -> Refusals {
        let connections = self.refusals.connections + self.meeting.given_up();
        Refusals { gossip: self.swarm.behaviour().gossip.dropped(), connections, ..self.refusals }
    }

    /// Tells the figures what was refused so far.
    pub(super) fn count_refusals(&self) {
        self.counters.refused.store(self.refusals().total(), Ordering::Relaxed);
    }
}
