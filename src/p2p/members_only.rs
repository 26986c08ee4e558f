//! A protocol that is spoken with members only. On connections with other peers, such as those of the bootstrap list, it
//! isn't even offered.

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
    /// Whether the protocol is spoken on it.
    inside: bool,
}

/// A protocol for members. Who is one is decided when a connection is made; when that changes, the owner closes the
/// peer's connections.
pub(super) struct MembersOnly<B> {
    protocol: B,
    membership: Arc<Membership>,
    /// From when the connection is made to its end.
    connections: BTreeMap<ConnectionId, Connection>,
}

impl<B> MembersOnly<B> {
    pub(super) fn new(protocol: B, membership: Arc<Membership>) -> Self {
        Self { protocol, membership, connections: BTreeMap::new() }
    }

    /// Whether to speak the protocol on a new connection. All of a peer's connections are alike, because the protocol
    /// chooses among them.
    fn opens(&mut self, id: ConnectionId, peer: PeerId) -> Result<bool, ConnectionDenied> {
        let inside = self.membership.allows(peer);
        if self.connections.values().any(|other| other.peer == peer && other.inside != inside) {
            return Err(ConnectionDenied::new(TermsChanged { peer }));
        }
        self.connections.insert(id, Connection { peer, inside });
        Ok(inside)
    }

    fn is_outside(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|connection| !connection.inside)
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
        if !self.opens(id, peer)? {
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
        if !self.opens(id, peer)? {
            return Ok(Either::Right(dummy::ConnectionHandler));
        }
        self.protocol.handle_established_outbound_connection(id, peer, address, role, port).map(Either::Left)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        let outside = match &event {
            FromSwarm::ConnectionEstablished(made) => self.is_outside(made.connection_id),
            FromSwarm::AddressChange(moved) => self.is_outside(moved.connection_id),
            FromSwarm::ConnectionClosed(closed) => {
                let connection = self.connections.remove(&closed.connection_id);
                connection.is_some_and(|connection| !connection.inside)
            }
            // Refused by another protocol. Failures are told whether or not a connection was made.
            FromSwarm::DialFailure(failed) => {
                self.connections.remove(&failed.connection_id);
                false
            }
            FromSwarm::ListenFailure(failed) => {
                self.connections.remove(&failed.connection_id);
                false
            }
            _ => false,
        };
        if !outside {
            self.protocol.on_swarm_event(event);
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
