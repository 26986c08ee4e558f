//! Lets connections in as far as there is [`Room`], and closes those that make room for others.

use super::{
    room::{Most, Room},
    settings::SwarmLimits,
    shortage::affordable,
    trust::Trust,
};
use libp2p::{
    Multiaddr,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};
use libp2p_identity::PeerId;
use std::{
    collections::VecDeque,
    net::IpAddr,
    task::{Context, Poll, Waker},
};

/// A connection was closed to make room for another.
#[derive(Debug)]
pub(super) struct MadeRoom;

/// Has no protocol of its own.
pub(super) struct Doors {
    room: Room<ConnectionId>,
    trust: Trust,
    /// Connections to be closed. As many at most as are open.
    closing: VecDeque<(PeerId, ConnectionId)>,
    waker: Option<Waker>,
}

/// Fewer than the settings say if file descriptors are short. None at all for a node that is cut off.
pub(super) fn most(limits: &SwarmLimits, cut: bool) -> Most {
    let all = if cut { 0 } else { affordable(limits.connections) as usize };
    // A limit of one is a limit of one stranger, who may be the only peer there is.
    let strangers = limits.strangers.min((all / 2).max(1)).min(all);
    Most { all, strangers, per_address: limits.per_address, per_network: limits.per_network }
}

impl Doors {
    pub(super) fn new(limits: &SwarmLimits, trust: Trust) -> Self {
        Self { room: Room::new(most(limits, false)), trust, closing: VecDeque::new(), waker: None }
    }

    pub(super) fn change(&mut self, most: Most) {
        self.room.change(most);
    }

    fn enter(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        let Self { room, trust, .. } = self;
        let gone =
            room.enter(connection, peer, ip(address), |peer| trust.holds(peer)).map_err(ConnectionDenied::new)?;
        self.closing.extend(gone);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(dummy::ConnectionHandler)
    }
}

fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

impl NetworkBehaviour for Doors {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = MadeRoom;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.enter(connection, peer, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.enter(connection, peer, address)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => self.room.leave(closed.connection_id),
            // Another protocol may have refused what had room.
            FromSwarm::ListenFailure(failed) => self.room.leave(failed.connection_id),
            FromSwarm::DialFailure(failed) => self.room.leave(failed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<MadeRoom, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection)) = self.closing.pop_front() {
            tracing::debug!(peer = %peer_id, "disconnected to make room for another");
            let connection = CloseConnection::One(connection);
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection });
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
