//! Refuses connections with peers that may not take part, before any protocol sees them.

use crate::entries::Membership;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm, dummy,
    },
};
use std::{
    collections::BTreeSet,
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

/// The peer of a connection may not take part.
#[derive(Debug)]
pub(super) struct NotAdmitted {
    pub(super) peer: PeerId,
}

impl fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not on this node's allow-list", self.peer)
    }
}

impl std::error::Error for NotAdmitted {}

/// Lets connections through with members, and with the peers of the bootstrap list, which tell where members are.
pub(super) struct Admission {
    membership: Arc<Membership>,
    listed: BTreeSet<PeerId>,
    /// Dials to others that were not made.
    not_dialled: u64,
}

impl Admission {
    pub(super) fn new(membership: Arc<Membership>, listed: impl IntoIterator<Item = PeerId>) -> Self {
        Self { membership, listed: listed.into_iter().collect(), not_dialled: 0 }
    }

    /// Whether there may be a connection with this peer.
    pub(super) fn lets_in(&self, peer: &PeerId) -> bool {
        self.membership.allows(*peer) || self.listed.contains(peer)
    }

    /// How many dials it has prevented: the table's queries count them as peers that don't answer.
    pub(super) fn not_dialled(&self) -> u64 {
        self.not_dialled
    }

    fn check(&self, peer: PeerId) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        if self.lets_in(&peer) {
            Ok(dummy::ConnectionHandler)
        } else {
            Err(ConnectionDenied::new(NotAdmitted { peer }))
        }
    }
}

impl NetworkBehaviour for Admission {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check(peer)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if let Some(Err(denied)) = peer.map(|peer| self.check(peer)) {
            self.not_dialled += 1;
            return Err(denied);
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.check(peer)
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
