//! Carries out the core's outputs, by the swarm or by a job.

use super::{
    bans,
    driver::{Banned, Driver},
    jobs,
    pending::Protocol,
};
use crate::p2p::{
    core::{Input, Output, RequestFailed, Verdict},
    figures::DroppedPeer,
    wire::WireBytes,
};
use libp2p::gossipsub::{MessageAcceptance, PublishError};
use libp2p_identity::PeerId;
use std::{
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

impl Driver {
    pub(super) fn output(&mut self, output: Output) {
        match output {
            Output::Gossip(data) => self.publish(&data),
            Output::Verdict { token, verdict } => {
                let Some((from, message)) = self.pending.take_gossip(token) else { return };
                let acceptance = match verdict {
                    Verdict::Accept => MessageAcceptance::Accept,
                    Verdict::Ignore => MessageAcceptance::Ignore,
                    Verdict::Reject => MessageAcceptance::Reject,
                };
                self.swarm.behaviour_mut().gossip.report_message_validation_result(&message, &from, acceptance);
            }
            Output::Sync { id, peer, request } => {
                self.sent(&peer, request.wire_bytes());
                let sent = self.swarm.behaviour_mut().sync.send_request(&peer, request);
                self.pending.sent(Protocol::Sync, sent, id);
            }
            Output::SyncReply { token, response } => {
                let Some((peer, id, channel)) = self.pending.take_sync(token) else { return };
                let (id, trusted) = ((Protocol::Sync, id), self.trust.holds(&peer));
                if !self.answers.give(id, peer, trusted, response.wire_bytes()) {
                    // Dropping the channel fails the request there.
                    return self.refusals.requests += 1;
                }
                self.sent(&peer, response.wire_bytes());
                // The peer may be gone.
                let _ = self.swarm.behaviour_mut().sync.send_response(channel, response);
            }
            Output::Blobs { id, peer, .. } if !self.swarm.behaviour().blobs.reaches(&peer) => {
                // Its direct connection is closing, or only a relayed one is left.
                self.tell(Input::BlobResponse { id, response: Err(RequestFailed::Later(Duration::ZERO)) });
            }
            Output::Blobs { id, peer, request } => {
                self.sent(&peer, request.wire_bytes());
                let sent = self.swarm.behaviour_mut().blobs.send_request(&peer, request);
                self.pending.sent(Protocol::Blobs, sent, id);
            }
            Output::Lookup(entry) => {
                let cache = self.cache.clone();
                self.jobs.spawn_blocking(move || jobs::look(&cache, &entry));
            }
            Output::Store { hash, root, bytes } => {
                let cache = self.cache.clone();
                self.jobs.spawn_blocking(move || jobs::store(&cache, root, hash, &bytes));
            }
            Output::Save(entry) => self.housekeeping.entries.push(entry),
            Output::SaveProof(conflict) => {
                tracing::warn!("{conflict}; its author is excluded");
                self.housekeeping.proofs.push(conflict);
            }
            Output::Retain => self.housekeeping.retain = true,
            Output::OwnSequence(number) => (self.raise_above)(number),
            Output::Fetched { root, result } => {
                for waiting in self.waiting.remove(&root).unwrap_or_default() {
                    let _ = waiting.send(result.clone());
                }
            }
            Output::Ban { peer, reason, length } => {
                tracing::warn!(%peer, reason, "dropped for {} s", length.as_secs());
                self.ban(peer, reason, length);
                let behaviour = self.swarm.behaviour_mut();
                behaviour.blocked.block_peer(peer);
                behaviour.kad.remove_peer(&peer);
                if !self.redial.is_listed(&peer) {
                    self.redial.forget(&peer);
                }
            }
            Output::Unban(peer) => {
                self.banned.remove(&peer);
                self.swarm.behaviour_mut().blocked.unblock_peer(peer);
            }
            Output::Member(peer) => {
                if let Some(known) = self.peers.by_id.get_mut(&peer) {
                    known.member = true;
                }
                tracing::info!(%peer, "a member of the federation is connected");
                self.remember(&peer);
                self.tell_way(peer);
            }
        }
    }

    /// Keeps a peer out, and for the next run that it is. The core bounds how many there are.
    fn ban(&mut self, peer: PeerId, reason: String, length: Duration) {
        let until = self.now() + length;
        self.counters.bans.fetch_add(1, Ordering::Relaxed);
        // Nobody may want to know.
        let _ = self.counters.dropped.send(DroppedPeer { peer, reason: reason.clone(), length });
        self.banned.insert(peer, Banned { until, reason });
        self.housekeeping.bans = Some(bans::encode(&self.core.bans(), SystemTime::now()));
    }

    fn publish(&mut self, data: &[u8]) {
        let behaviour = self.swarm.behaviour_mut();
        let subscribed: Vec<PeerId> =
            behaviour.gossip.all_peers().filter(|(_, topics)| !topics.is_empty()).map(|(peer, _)| *peer).collect();
        match behaviour.gossip.publish(self.topic.clone(), data) {
            Ok(_) => subscribed.iter().for_each(|peer| self.sent(peer, data.len() as u64)),
            Err(PublishError::Duplicate) => {}
            Err(error) => {
                tracing::debug!(%error, "not gossiped");
                self.tell(Input::GossipFailed);
            }
        }
    }
}
