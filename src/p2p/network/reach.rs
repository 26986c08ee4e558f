//! How this node is reached, and how it reaches others: which of its addresses are told, when it needs relays, and what
//! becomes of relayed connections.

use super::{connected::Unreached, driver::Driver};
use crate::p2p::{
    addresses::{self, Reach, can_be_dialled, ip, is_relayed, port},
    core::Input,
    figures::ReachedPeer,
    status::Way,
};
use libp2p::{
    Multiaddr,
    core::{ConnectedPoint, Endpoint},
    dcutr,
    multiaddr::Protocol,
    relay,
    swarm::{
        ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
    upnp,
};
use libp2p_identity::PeerId;
use std::time::Duration;

/// Peers of which it is remembered why they weren't reached.
const MAX_UNREACHED: usize = 256;

/// Why a peer is reached by a relay alone.
const NOT_PUNCHED: &str = "what is between them lets no direct connection through; it is tried again from time to time";

/// How long a router may take to open a port: ten seconds to be found, and some for what it is asked.
const OPENED_WITHIN: Duration = Duration::from_secs(20);

/// How long after a change it is told how a peer is reached.
const TOLD_AFTER: Duration = Duration::from_millis(50);

impl Driver {
    /// The node listens at an address. Those of the internet are told to others once somebody has reached it there. The
    /// others can't be confirmed by who is far away, and are of use only to who is near.
    pub(super) fn listens_at(&mut self, address: Multiaddr) {
        if is_relayed(&address) {
            return tracing::debug!(%address, "reached by way of a relay");
        }
        tracing::info!(%address, "listening");
        if let Some(ip) = ip(&address) {
            self.outside.listens(ip);
        }
        // Who couldn't be reached without it may be reached now. At the start everybody is dialled anyway.
        let is_later = self.ready.is_none() && !self.is_cut;
        if is_later && can_be_dialled(&address) && Reach::of_address(&address) > Reach::Machine {
            let now = self.now();
            self.redial.again(now);
        }
        if can_be_dialled(&address) && Reach::of_address(&address) < Reach::World {
            self.swarm.add_external_address(address);
        }
    }

    pub(super) fn listens_no_more(&mut self, address: &Multiaddr) {
        if let Some(ip) = ip(address).filter(|_| !is_relayed(address)) {
            self.outside.listens_no_more(ip);
            self.swarm.remove_external_address(address);
            self.push_addresses();
            // Nothing comes there any more, and neither side would be told.
            if self.swarm.listeners().all(|listening| addresses::ip(listening) != Some(ip)) {
                for connection in self.peers.made_from(ip) {
                    self.swarm.close_connection(connection);
                }
            }
        }
    }

    /// Somebody has reached this node there, or a relay passes on who comes there.
    pub(super) fn confirmed(&mut self, address: &Multiaddr) {
        tracing::debug!(%address, "this node is reached there");
        if let Some(ip) = ip(address).filter(|_| !is_relayed(address)) {
            self.outside.is_reached(ip, true);
        }
        self.push_addresses();
        let now = self.now();
        self.table_queries.soon(now);
    }

    /// Nobody can reach it there any more.
    pub(super) fn expired(&mut self, address: &Multiaddr) {
        if let Some(ip) = ip(address).filter(|_| !is_relayed(address)) {
            self.outside.is_reached(ip, false);
        }
        self.push_addresses();
    }

    /// Peers are told at once that this node's addresses have changed.
    fn push_addresses(&mut self) {
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        self.swarm.behaviour_mut().identify.push(connected);
    }

    /// A peer has come to an address that this node listens at: whoever comes from the internet could. But one that is
    /// reached by a relay too may have come through a hole that was made for it.
    fn reached_at(&mut self, peer: &PeerId, at: &ConnectedPoint) {
        let ConnectedPoint::Listener { local_addr, send_back_addr } = at else { return };
        let is_far = |address: &Multiaddr| ip(address).is_some_and(|ip| Reach::of(ip) == Reach::World);
        let is_told = |address: &Multiaddr| self.swarm.external_addresses().any(|told| told == address);
        let is_plain = !at.is_relayed() && self.peers.relayed(peer).is_empty();
        if !is_plain || !is_far(local_addr) || !is_far(send_back_addr) || is_told(local_addr) {
            return;
        }
        if self.swarm.listeners().any(|listening| listening == local_addr) {
            let address = local_addr.clone();
            self.swarm.add_external_address(address.clone());
            self.confirmed(&address);
        }
    }

    /// What the router says that was asked to open ports. The address at which it does is told to others by itself.
    pub(super) fn router_said(&mut self, event: &upnp::Event) {
        self.router_silent_since = None;
        match event {
            upnp::Event::NewExternalAddr { external_addr, .. } => {
                tracing::info!(address = %external_addr, "the router lets others in");
            }
            upnp::Event::ExpiredExternalAddr { external_addr, .. } => {
                tracing::warn!(address = %external_addr, "the router lets others in no more");
            }
            upnp::Event::GatewayNotFound => tracing::warn!(
                "no router answers (UPnP), or none that has an address of the internet: leave --upnp out, or switch it \
                 on there"
            ),
            upnp::Event::NonRoutableGateway => {
                tracing::warn!("the router that answers (UPnP) is behind another one, so that it can't let others in");
            }
        }
    }

    /// When it is clear that a router was found and has refused: nothing is reported of that.
    pub(super) fn router_has_refused_at(&self) -> Option<Duration> {
        self.router_silent_since.map(|since| since.saturating_add(OPENED_WITHIN))
    }

    /// Says that the router has refused, if it is time.
    pub(super) fn tell_of_router(&mut self) {
        if self.router_has_refused_at().is_some_and(|at| at <= self.now()) {
            self.router_silent_since = None;
            tracing::warn!(
                "the router that answers (UPnP) hasn't opened a port: it may refuse, or another node may have that port; \
                 it is asked again a few times"
            );
        }
    }

    /// A peer says where it sees this node.
    pub(super) fn seen_at(&mut self, observed: &Multiaddr) {
        let now = self.now();
        if let Some(ip) = ip(observed).filter(|_| !is_relayed(observed) && port(observed).is_some()) {
            self.outside.is_seen(ip, now);
        }
    }

    /// Asks relays, if the node needs any; or leaves them, if it needs none and nobody uses them.
    pub(super) fn reserve(&mut self) {
        let now = self.now();
        if self.outside.needs_relay(now) {
            let swarm = &mut self.swarm;
            return self.reservations.ask(now, |address| {
                let asked = swarm.listen_on(address.clone());
                asked.inspect_err(|error| tracing::debug!(%address, %error, "not asked to be a relay")).ok()
            });
        }
        if self.peers.by_id.keys().any(|peer| !self.peers.relayed(peer).is_empty()) {
            return;
        }
        let left: Vec<PeerId> = self.reservations.in_use().copied().collect();
        for relay in left {
            // It ends with its connection, which is made anew. Only that way nothing of it comes later.
            if let Some((connection, _)) = self.peers.dialled(&relay) {
                tracing::debug!(%relay, "needed no more as a relay");
                self.swarm.close_connection(connection);
            }
            self.reservations.gone(&relay);
        }
    }

    /// A peer of the bootstrap list has said what it is.
    pub(super) fn may_relay(&mut self, peer: PeerId) {
        let now = self.now();
        if let Some((_, address)) = self.peers.dialled(&peer) {
            self.reservations.found(peer, address, now);
        }
    }

    pub(super) fn relays(&mut self, event: relay::client::Event) {
        if let relay::client::Event::ReservationReqAccepted { relay_peer_id, renewal, .. } = event {
            self.reservations.reserved(&relay_peer_id);
            if !renewal {
                tracing::info!(relay = %relay_peer_id, "not reached directly; others find this node by a relay");
            }
        }
    }

    /// It was tried to replace a relayed connection.
    pub(super) fn punching(&mut self, event: dcutr::Event) {
        let peer = event.remote_peer_id;
        match event.result {
            Ok(connection) => {
                self.punched.insert(connection);
                self.peers.punched(&peer, connection);
                self.keep_out_of_table(peer);
                self.tell_way(peer);
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "no direct connection");
                // One side may be reached by the other alone.
                if let Some(known) = self.peers.by_id.get_mut(&peer) {
                    known.tried.clear();
                }
                self.try_directly(peer);
                if self.peers.way(&peer) == Some(Way::Relayed) {
                    self.counters.tell_reached(ReachedPeer {
                        peer,
                        way: Some(Way::Relayed),
                        reason: Some(NOT_PUNCHED.to_owned()),
                    });
                }
            }
        }
    }

    /// Takes a peer's address out of the table if only this node can reach it there, through a hole: others who find it in
    /// the table would dial it in vain, and at the same moment as it dials them both would take themselves for the caller.
    pub(super) fn keep_out_of_table(&mut self, peer: PeerId) {
        let kad = &mut self.swarm.behaviour_mut().kad;
        let known = kad.kbucket(peer).and_then(|bucket| {
            let entry = bucket.iter().find(|entry| *entry.node.key.preimage() == peer)?;
            Some(entry.node.value.iter().cloned().collect::<Vec<_>>())
        });
        for address in known.unwrap_or_default().iter().filter(|address| self.peers.is_punched_at(&peer, address)) {
            kad.remove_address(&peer, address);
        }
    }

    /// A connection was made, before the core knows of it.
    pub(super) fn way_made(&mut self, peer: PeerId, connection: ConnectionId, at: &ConnectedPoint) {
        if self.punched.remove(&connection) {
            self.peers.punched(&peer, connection);
        }
        self.unreached.remove(&peer);
        self.reached_at(&peer, at);
        self.tell_core(peer);
        if at.is_relayed() {
            self.relayed_connection(peer);
            return;
        }
        self.punch_again.no_more(&peer);
        // The side that the connection was made to knows that both have it.
        let is_dialler = matches!(at, ConnectedPoint::Dialer { role_override: Endpoint::Dialer, .. });
        if !is_dialler {
            for relayed in self.peers.relayed(&peer) {
                self.swarm.close_connection(relayed);
            }
        }
    }

    /// One more connection by a relay.
    fn relayed_connection(&mut self, peer: PeerId) {
        for needless in self.peers.relayed_needlessly(&self.me, &peer) {
            self.swarm.close_connection(needless);
        }
        self.wait_to_punch_again(peer);
    }

    /// The side that has made the only connection makes it anew after a while: what is tried to replace it is tried once
    /// for each, with the addresses that are known when it is made.
    fn wait_to_punch_again(&mut self, peer: PeerId) {
        if self.peers.way(&peer) == Some(Way::Relayed) && self.peers.dialled_relay(&peer).is_some() {
            let now = self.now();
            self.punch_again.relayed(peer, now);
        }
    }

    /// Makes relayed connections anew, if it is time. The one before is closed when the new one is there.
    pub(super) fn punch_again(&mut self) {
        let now = self.now();
        for peer in self.punch_again.due(now) {
            let Some(relay) = self.peers.dialled_relay(&peer) else { continue };
            tracing::debug!(%peer, %relay, "dialled again, for a direct connection");
            let options = DialOpts::peer_id(peer).addresses(vec![relay]).condition(PeerCondition::Always);
            if let Err(error) = self.swarm.dial(options.build()) {
                tracing::debug!(%peer, %error, "not dialled again");
            }
        }
    }

    /// A connection has ended, and others are left.
    pub(super) fn way_lost(&mut self, peer: PeerId) {
        self.wait_to_punch_again(peer);
        self.tell_core(peer);
        self.tell_way_soon(peer);
    }

    fn tell_core(&mut self, peer: PeerId) {
        let only = !self.relay_weights && self.peers.way(&peer) == Some(Way::Relayed);
        self.tell(Input::Relayed { peer, only });
    }

    /// Tells how a member is reached soon: whether a connection was punched is known a moment after it was made.
    pub(super) fn tell_way_soon(&mut self, peer: PeerId) {
        let now = self.now();
        self.untold.insert(peer);
        self.tell_ways_at.get_or_insert(now + TOLD_AFTER);
    }

    /// Tells it of those that it is to be told of, if it is time.
    pub(super) fn tell_ways(&mut self) {
        if self.tell_ways_at.is_some_and(|at| at <= self.now()) {
            self.tell_ways_at = None;
            std::mem::take(&mut self.untold).into_iter().for_each(|peer| self.tell_way(peer));
        }
    }

    /// Tells how a member is reached, if that has changed.
    pub(super) fn tell_way(&mut self, peer: PeerId) {
        let way = self.peers.way(&peer);
        let Some(known) = self.peers.by_id.get_mut(&peer).filter(|known| known.member && known.told != way) else {
            return;
        };
        known.told = way;
        self.counters.tell_reached(ReachedPeer { peer, way, reason: None });
    }

    /// A peer that is looked for can't be reached.
    pub(super) fn note_unreached(&mut self, peer: PeerId, reason: String) {
        let at = self.now();
        let is_new = !self.unreached.contains_key(&peer);
        if is_new && self.unreached.len() >= MAX_UNREACHED {
            return;
        }
        if is_new {
            self.counters.tell_reached(ReachedPeer { peer, way: None, reason: Some(reason.clone()) });
        }
        self.unreached.insert(peer, Unreached { reason, at });
    }

    /// A peer that is reached by relays alone has said where it listens: it may be reached there.
    pub(super) fn try_directly(&mut self, id: PeerId) {
        if self.peers.way(&id) != Some(Way::Relayed) {
            return;
        }
        let Some(peer) = self.peers.by_id.get_mut(&id) else { return };
        let addresses = peer.own_addresses();
        if addresses.is_empty() || peer.tried == addresses {
            return;
        }
        peer.tried.clone_from(&addresses);
        let options = DialOpts::peer_id(id).addresses(addresses).condition(PeerCondition::Always);
        if let Err(error) = self.swarm.dial(options.build()) {
            tracing::debug!(peer = %id, %error, "not dialled directly");
        }
    }

    /// Where others are told to find this node.
    pub(super) fn announced_addresses(&self) -> Vec<String> {
        let whole = |address: &Multiaddr| match address.iter().last() {
            Some(Protocol::P2p(_)) => address.to_string(),
            _ => address.clone().with(Protocol::P2p(self.me)).to_string(),
        };
        self.swarm.external_addresses().map(whole).collect()
    }
}
