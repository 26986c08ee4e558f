//! The connected peers, and what is reported about them.

use crate::p2p::{
    addresses::{is_loopback, usable, without_peer},
    status::{PeerRole, PeerStatus, Transport},
};
use libp2p::{Multiaddr, core::ConnectedPoint, multiaddr::Protocol, swarm::ConnectionId};
use libp2p_identity::PeerId;
use std::{collections::BTreeMap, time::Duration};

/// A connected peer.
pub(super) struct Peer {
    connections: BTreeMap<ConnectionId, Multiaddr>,
    pub(super) member: bool,
    /// Where it says that it listens.
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) sent: u64,
    pub(super) received: u64,
    since: Duration,
    pub(super) seen: Duration,
}

/// All of them.
#[derive(Default)]
pub(super) struct Peers {
    pub(super) by_id: BTreeMap<PeerId, Peer>,
}

impl Peers {
    /// A connection was made. Returns whether it is the first to its peer.
    pub(super) fn connected(
        &mut self,
        id: PeerId,
        at: &ConnectedPoint,
        connection: ConnectionId,
        now: Duration,
    ) -> bool {
        let known = self.by_id.contains_key(&id);
        let peer = self.by_id.entry(id).or_insert_with(|| Peer {
            connections: BTreeMap::new(),
            member: false,
            addresses: Vec::new(),
            sent: 0,
            received: 0,
            since: now,
            seen: now,
        });
        peer.connections.insert(connection, without_peer(at.get_remote_address()));
        !known
    }

    /// A connection ended. Returns whether it was the last to its peer.
    pub(super) fn disconnected(&mut self, id: &PeerId, connection: ConnectionId) -> bool {
        let Some(peer) = self.by_id.get_mut(id) else { return false };
        peer.connections.remove(&connection);
        let last = peer.connections.is_empty();
        if last {
            self.by_id.remove(id);
        }
        last
    }

    /// Whether a peer is on this machine.
    pub(super) fn is_local(&self, id: &PeerId) -> bool {
        self.by_id.get(id).is_some_and(|peer| peer.connections.values().any(is_loopback))
    }

    pub(super) fn members(&self) -> usize {
        self.by_id.values().filter(|peer| peer.member).count()
    }

    /// Takes in the addresses a peer reports, as far as they make sense from here. Returns those that are no longer
    /// valid.
    pub(super) fn listens(&mut self, id: &PeerId, addresses: Vec<Multiaddr>) -> Option<(&Peer, Vec<Multiaddr>)> {
        let peer = self.by_id.get_mut(id)?;
        let local = peer.connections.values().any(is_loopback);
        let mut before = std::mem::replace(&mut peer.addresses, usable(addresses, local));
        before.retain(|address| !peer.addresses.contains(address));
        Some((peer, before))
    }

    /// Members first, then by id.
    pub(super) fn status(
        &self,
        now: Duration,
        listed: impl Fn(&PeerId) -> bool,
        entries: impl Fn(PeerId) -> usize,
    ) -> Vec<PeerStatus> {
        let mut peers: Vec<PeerStatus> = self
            .by_id
            .iter()
            .map(|(id, peer)| {
                let address = peer.connections.values().next().cloned().unwrap_or_else(Multiaddr::empty);
                let role = match (peer.member, listed(id)) {
                    (true, _) => PeerRole::Member,
                    (false, true) => PeerRole::Bootstrap,
                    (false, false) => PeerRole::Other,
                };
                PeerStatus {
                    peer: id.to_string(),
                    role,
                    transport: transport(&address),
                    address: address.to_string(),
                    entries: entries(*id),
                    sent: peer.sent,
                    received: peer.received,
                    connected_seconds: now.saturating_sub(peer.since).as_secs(),
                    seen_seconds_ago: now.saturating_sub(peer.seen).as_secs(),
                }
            })
            .collect();
        peers.sort_by_key(|peer| peer.role != PeerRole::Member);
        peers
    }
}

fn transport(address: &Multiaddr) -> Transport {
    let quic = address.iter().any(|part| matches!(part, Protocol::QuicV1 | Protocol::Quic));
    if quic { Transport::Quic } else { Transport::Tcp }
}
