//! The connected peers, and what is reported about them.

use crate::p2p::{
    addresses::{ip, is_loopback, is_relayed, usable, without_peer},
    status::{PeerRole, PeerStatus, Transport, Way},
};
use libp2p::{Multiaddr, core::ConnectedPoint, multiaddr::Protocol, swarm::ConnectionId};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

/// A connection to a peer.
struct Connection {
    /// The other end's address, or by which relay it goes.
    address: Multiaddr,
    way: Way,
    /// Whether this side has made it.
    dialled: bool,
    /// This side's address, as far as it is known.
    own: Option<IpAddr>,
}

impl Connection {
    fn of(at: &ConnectedPoint, own: Option<IpAddr>) -> Self {
        let relayed = at.is_relayed();
        let (address, dialled) = match at {
            ConnectedPoint::Dialer { address, .. } => (address, true),
            // The other end of a relayed one is only a name.
            ConnectedPoint::Listener { local_addr, .. } if relayed => (local_addr, false),
            ConnectedPoint::Listener { send_back_addr, .. } => (send_back_addr, false),
        };
        let way = if relayed { Way::Relayed } else { Way::Direct };
        Self { address: without_peer(address), way, dialled, own }
    }

    /// Whether it goes to one of these addresses.
    fn is_to(&self, addresses: &BTreeSet<IpAddr>) -> bool {
        self.way != Way::Relayed && ip(&self.address).is_some_and(|ip| addresses.contains(&ip))
    }

    fn is_local(&self) -> bool {
        self.way != Way::Relayed && is_loopback(&self.address)
    }
}

/// A connected peer.
pub(super) struct Peer {
    connections: BTreeMap<ConnectionId, Connection>,
    pub(super) member: bool,
    /// Whether it might take part when it was connected.
    pub(super) admitted: bool,
    /// Where it says that it listens.
    pub(super) addresses: Vec<Multiaddr>,
    /// Those of them by which it was tried to be reached directly, when it was reached by a relay alone.
    pub(super) tried: Vec<Multiaddr>,
    /// How it is reached, as it was told last.
    pub(super) told: Option<Way>,
    pub(super) sent: u64,
    pub(super) received: u64,
    since: Duration,
    pub(super) seen: Duration,
}

impl Peer {
    /// Of its best connections the oldest.
    fn best(&self) -> Option<&Connection> {
        self.connections.values().min_by_key(|connection| connection.way == Way::Relayed)
    }

    /// Where it says that it listens, without relays.
    pub(super) fn own_addresses(&self) -> Vec<Multiaddr> {
        self.addresses.iter().filter(|address| !is_relayed(address)).cloned().collect()
    }
}

/// A peer that couldn't be reached.
pub(super) struct Unreached {
    pub(super) reason: String,
    pub(super) at: Duration,
}

/// All of them.
#[derive(Default)]
pub(super) struct Peers {
    pub(super) by_id: BTreeMap<PeerId, Peer>,
}

impl Peers {
    /// A connection was made, from this address of this side if that is known. Returns whether it is the first to its
    /// peer.
    pub(super) fn connected(
        &mut self,
        id: PeerId,
        (at, own): (&ConnectedPoint, Option<IpAddr>),
        connection: ConnectionId,
        admitted: bool,
        now: Duration,
    ) -> bool {
        let known = self.by_id.contains_key(&id);
        let peer = self.by_id.entry(id).or_insert_with(|| Peer {
            connections: BTreeMap::new(),
            member: false,
            admitted,
            addresses: Vec::new(),
            tried: Vec::new(),
            told: None,
            sent: 0,
            received: 0,
            since: now,
            seen: now,
        });
        peer.connections.insert(connection, Connection::of(at, own));
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

    /// The connections that were made from an address of this side.
    pub(super) fn made_from(&self, own: IpAddr) -> Vec<ConnectionId> {
        let connections = self.by_id.values().flat_map(|peer| &peer.connections);
        connections.filter(|(_, connection)| connection.own == Some(own)).map(|(id, _)| *id).collect()
    }

    /// The connections with a peer that go to where it was, when it says that it is there no more and there is a newer one
    /// that goes elsewhere.
    pub(super) fn left_behind(&self, id: &PeerId, over: &[Multiaddr]) -> Vec<ConnectionId> {
        let Some(peer) = self.by_id.get(id) else { return Vec::new() };
        let mut left: BTreeSet<IpAddr> = over.iter().filter(|address| !is_relayed(address)).filter_map(ip).collect();
        peer.addresses.iter().filter_map(ip).for_each(|ip| _ = left.remove(&ip));
        let connections = || peer.connections.iter();
        let elsewhere = connections().filter(|(_, at)| at.way != Way::Relayed && !at.is_to(&left)).map(|(id, _)| *id);
        let Some(newest) = elsewhere.max() else { return Vec::new() };
        connections().filter(|(id, at)| at.is_to(&left) && **id < newest).map(|(id, _)| *id).collect()
    }

    /// Whether a peer is on this machine.
    pub(super) fn is_local(&self, id: &PeerId) -> bool {
        self.by_id.get(id).is_some_and(|peer| peer.connections.values().any(Connection::is_local))
    }

    /// How a peer is reached.
    pub(super) fn way(&self, id: &PeerId) -> Option<Way> {
        self.by_id.get(id)?.best().map(|best| best.way)
    }

    /// A connection to it was made through what is between, at both ends at once.
    pub(super) fn punched(&mut self, id: &PeerId, connection: ConnectionId) {
        if let Some(connection) = self.by_id.get_mut(id).and_then(|peer| peer.connections.get_mut(&connection)) {
            connection.way = Way::Punched;
        }
    }

    /// Whether this node has reached a peer at an address only through a hole that both have made.
    pub(super) fn is_punched_at(&self, id: &PeerId, address: &Multiaddr) -> bool {
        let at = without_peer(address);
        let connections = self.by_id.get(id).into_iter().flat_map(|peer| peer.connections.values());
        connections.filter(|connection| connection.address == at).any(|connection| connection.way == Way::Punched)
    }

    /// Which of the relayed connections to a peer aren't needed: all but one. Both ends may have dialled at once, and on
    /// two connections they would get in each other's way when they punch, from the same port and in opposite roles. So
    /// both ends keep the newest of those that the same one has made: the one with the smaller id, if it has any.
    pub(super) fn relayed_needlessly(&self, me: &PeerId, id: &PeerId) -> Vec<ConnectionId> {
        let connections = self.by_id.get(id).into_iter().flat_map(|peer| &peer.connections);
        let mut relayed: Vec<_> = connections.filter(|(_, connection)| connection.way == Way::Relayed).collect();
        relayed.sort_by_key(|(connection, made)| (made.dialled == (me < id), **connection));
        relayed.pop();
        relayed.into_iter().map(|(connection, _)| *connection).collect()
    }

    /// By which relay this node has dialled a peer.
    pub(super) fn dialled_relay(&self, id: &PeerId) -> Option<Multiaddr> {
        let mut connections = self.by_id.get(id)?.connections.values().rev();
        let dialled = connections.find(|connection| connection.dialled && connection.way == Way::Relayed);
        dialled.map(|connection| connection.address.clone())
    }

    /// The relayed connections to a peer.
    pub(super) fn relayed(&self, id: &PeerId) -> Vec<ConnectionId> {
        let connections = self.by_id.get(id).into_iter().flat_map(|peer| &peer.connections);
        connections.filter(|(_, connection)| connection.way == Way::Relayed).map(|(id, _)| *id).collect()
    }

    /// Where this node has reached a peer directly, and by which connection.
    pub(super) fn dialled(&self, id: &PeerId) -> Option<(ConnectionId, Multiaddr)> {
        let connections = self.by_id.get(id)?.connections.iter();
        let mut direct = connections.filter(|(_, connection)| connection.dialled && connection.way != Way::Relayed);
        direct.next().map(|(id, connection)| (*id, connection.address.clone()))
    }

    pub(super) fn members(&self) -> usize {
        self.by_id.values().filter(|peer| peer.member).count()
    }

    /// Takes in the addresses a peer reports, as far as they make sense from here. Returns those that are no longer
    /// valid.
    pub(super) fn listens(&mut self, id: &PeerId, addresses: Vec<Multiaddr>) -> Option<(&Peer, Vec<Multiaddr>)> {
        let peer = self.by_id.get_mut(id)?;
        let local = peer.connections.values().any(Connection::is_local);
        let mut before = std::mem::replace(&mut peer.addresses, usable(addresses, local));
        before.retain(|address| !peer.addresses.contains(address));
        Some((peer, before))
    }

    /// Members first, then by id.
    pub(super) fn status(
        &self,
        now: Duration,
        listed: impl Fn(&PeerId) -> bool,
        name: impl Fn(PeerId) -> Option<String>,
        entries: impl Fn(PeerId) -> usize,
    ) -> Vec<PeerStatus> {
        let mut peers: Vec<PeerStatus> = self
            .by_id
            .iter()
            .map(|(id, peer)| {
                let best = peer.best();
                let address = best.map_or_else(Multiaddr::empty, |best| best.address.clone());
                let role = match (peer.member, listed(id)) {
                    (true, _) => PeerRole::Member,
                    (false, true) => PeerRole::Bootstrap,
                    (false, false) => PeerRole::Other,
                };
                PeerStatus {
                    peer: id.to_string(),
                    name: name(*id),
                    role,
                    transport: transport(&address),
                    address: address.to_string(),
                    way: best.map_or(Way::Direct, |best| best.way),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use libp2p::core::{Endpoint, transport::PortUse};

    #[test]
    fn of_relayed_connections_both_ends_keep_the_same() {
        let mut ids = [PeerId::random(), PeerId::random()];
        ids.sort();
        let relay: Multiaddr =
            format!("/ip4/203.0.113.1/tcp/4600/p2p/{}/p2p-circuit", PeerId::random()).parse().unwrap();
        let dialled = ConnectedPoint::Dialer {
            address: relay.clone(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        let taken = ConnectedPoint::Listener { local_addr: relay.clone(), send_back_addr: Multiaddr::empty() };
        let connection = ConnectionId::new_unchecked;
        // The first is the smaller's, the second the other's.
        for (me, peer, made, needless) in [
            (ids[0], ids[1], [&dialled, &taken, &dialled], [1, 0]),
            (ids[1], ids[0], [&taken, &dialled, &taken], [1, 0]),
        ] {
            let mut peers = Peers::default();
            for (number, at) in made.into_iter().enumerate() {
                peers.connected(peer, (at, None), connection(number), true, Duration::ZERO);
            }
            assert_eq!(peers.relayed_needlessly(&me, &peer), needless.map(connection));
            assert_eq!(peers.relayed_needlessly(&peer, &me), []);
        }
    }

    #[test]
    fn an_address_is_punched_as_long_as_the_connection_that_was_stands() {
        let peer = PeerId::random();
        let address: Multiaddr = "/ip4/203.0.113.2/tcp/4600".parse().unwrap();
        let at = ConnectedPoint::Dialer {
            address: address.clone().with_p2p(peer).unwrap(),
            role_override: Endpoint::Dialer,
            port_use: PortUse::Reuse,
        };
        let connection = ConnectionId::new_unchecked(1);
        let mut peers = Peers::default();
        peers.connected(peer, (&at, None), connection, true, Duration::ZERO);
        let is_punched = |peers: &Peers| {
            let named = address.clone().with_p2p(peer).unwrap();
            (peers.is_punched_at(&peer, &address), peers.is_punched_at(&peer, &named))
        };
        assert_eq!(is_punched(&peers), (false, false));
        peers.punched(&peer, connection);
        assert_eq!(is_punched(&peers), (true, true));
        assert!(!peers.is_punched_at(&peer, &"/ip4/203.0.113.2/tcp/4601".parse().unwrap()));
        peers.disconnected(&peer, connection);
        assert_eq!(is_punched(&peers), (false, false));
    }

    #[test]
    fn connections_to_where_a_peer_was_are_left_behind_once_there_is_a_newer_one() {
        let peer = PeerId::random();
        let taken = |from: &str| ConnectedPoint::Listener {
            local_addr: "/ip4/203.0.113.1/tcp/4600".parse().unwrap(),
            send_back_addr: from.parse().unwrap(),
        };
        let connection = ConnectionId::new_unchecked;
        let (before, now): (Multiaddr, Multiaddr) =
            ("/ip4/203.0.113.2/tcp/1".parse().unwrap(), "/ip4/203.0.113.3/tcp/1".parse().unwrap());
        let own = "203.0.113.1".parse().unwrap();
        let mut peers = Peers::default();
        peers.connected(peer, (&taken("/ip4/203.0.113.2/tcp/9"), Some(own)), connection(0), true, Duration::ZERO);
        peers.listens(&peer, vec![before]).unwrap();
        let (_, over) = peers.listens(&peer, vec![now.clone()]).unwrap();
        assert_eq!(peers.left_behind(&peer, &over), [], "it is the only one");
        peers.connected(peer, (&taken("/ip4/203.0.113.3/tcp/9"), None), connection(1), true, Duration::ZERO);
        assert_eq!(peers.left_behind(&peer, &over), [connection(0)]);
        assert_eq!(peers.left_behind(&peer, &[now]), [], "it is still there");
        assert_eq!(peers.made_from(own), [connection(0)]);
    }
}
