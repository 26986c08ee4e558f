//! A protocol that is spoken with members only. On connections with other peers, such as those of the bootstrap list, it
//! isn't even offered, nor, if it is one of those that move much, on connections by way of a relay.

use super::addresses::is_relayed;
use crate::entries::Membership;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm, derive_prelude::Either, dummy,
    },
};
use std::{
    collections::BTreeMap,
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
    task::{Context, Poll},
};

/// A peer's older connections are under other terms, and still closing.
#[derive(Debug)]
struct TermsChanged {
    peer: PeerId,
}

impl fmt::Display for TermsChanged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the membership of {} has changed, and an older connection is still closing", self.peer)
    }
}

impl std::error::Error for TermsChanged {}

struct Connection {
    peer: PeerId,
    /// Whether its peer was a member when it was made.
    member: bool,
    /// Whether the protocol is spoken on it.
    inside: bool,
}

/// A protocol for members. Who is one is decided when a connection is made; when that changes, the owner closes the
/// peer's connections.
pub(super) struct MembersOnly<B> {
    protocol: B,
    membership: Arc<Membership>,
    /// Whether it isn't spoken on relayed connections.
    direct_only: bool,
    /// From when the connection is made to its end.
    connections: BTreeMap<ConnectionId, Connection>,
}

impl<B> MembersOnly<B> {
    pub(super) fn new(protocol: B, membership: Arc<Membership>) -> Self {
        Self { protocol, membership, direct_only: false, connections: BTreeMap::new() }
    }

    /// One that isn't spoken on relayed connections either. Its protocol doesn't know of them, so what it sends goes by a
    /// direct one.
    pub(super) fn direct_only(self) -> Self {
        Self { direct_only: true, ..self }
    }

    /// Whether to speak the protocol on a new connection. All of a peer's direct connections are alike, because the
    /// protocol chooses among them.
    fn opens(&mut self, id: ConnectionId, peer: PeerId, relayed: bool) -> Result<bool, ConnectionDenied> {
        let member = self.membership.allows(peer);
        if self.connections.values().any(|other| other.peer == peer && other.member != member) {
            return Err(ConnectionDenied::new(TermsChanged { peer }));
        }
        let inside = member && !(relayed && self.direct_only);
        self.connections.insert(id, Connection { peer, member, inside });
        Ok(inside)
    }

    /// Whether it can be spoken with a peer now.
    pub(super) fn reaches(&self, peer: &PeerId) -> bool {
        self.connections.values().any(|connection| connection.peer == *peer && connection.inside)
    }

    fn is_inside(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.inside)
    }

    /// The other connections to a peer that the protocol knows of.
    fn others_inside(&self, peer: PeerId, id: ConnectionId) -> usize {
        let others = self.connections.iter().filter(|(other, _)| **other != id);
        others.filter(|(_, connection)| connection.peer == peer && connection.inside).count()
    }
}

impl<B> Deref for MembersOnly<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.protocol
    }
}

impl<B> DerefMut for MembersOnly<B> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.protocol
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for MembersOnly<B> {
    type ConnectionHandler = Either<THandler<B>, dummy::ConnectionHandler>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.protocol.handle_pending_inbound_connection(id, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if !self.opens(id, peer, is_relayed(local))? {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.protocol.handle_established_inbound_connection(id, peer, local, remote).map(Either::Left)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.protocol.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if !self.opens(id, peer, is_relayed(address))? {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.protocol.handle_established_outbound_connection(id, peer, address, role, port).map(Either::Left)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(mut made) if self.is_inside(made.connection_id) => {
                made.other_established = self.others_inside(made.peer_id, made.connection_id);
                self.protocol.on_swarm_event(FromSwarm::ConnectionEstablished(made));
            }
            FromSwarm::AddressChange(moved) if self.is_inside(moved.connection_id) => {
                self.protocol.on_swarm_event(event);
            }
            FromSwarm::ConnectionEstablished(_) | FromSwarm::AddressChange(_) => {}
            FromSwarm::ConnectionClosed(mut closed) => {
                let connection = self.connections.remove(&closed.connection_id);
                if connection.is_none_or(|connection| connection.inside) {
                    closed.remaining_established = self.others_inside(closed.peer_id, closed.connection_id);
                    self.protocol.on_swarm_event(FromSwarm::ConnectionClosed(closed));
                }
            }
            // Refused by another protocol. Failures are told whether or not a connection was made.
            FromSwarm::DialFailure(failed) => {
                self.connections.remove(&failed.connection_id);
                self.protocol.on_swarm_event(event);
            }
            FromSwarm::ListenFailure(failed) => {
                self.connections.remove(&failed.connection_id);
                self.protocol.on_swarm_event(event);
            }
            _ => self.protocol.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Either::Left(event) => self.protocol.on_connection_handler_event(peer, id, event),
            Either::Right(never) => match never {},
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.protocol.poll(context).map(|event| event.map_in(Either::Left))
    }
}
