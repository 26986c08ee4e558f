//! Lets connections in as far as there is [`Room`], and closes those that make room for others.

use super::{
    addresses::{ip, is_relayed},
    room::{HalfOpen, Most, Origin, Room},
    settings::SwarmLimits,
    shortage::affordable,
    trust::{Standing, Trust},
};
use libp2p::{
    Multiaddr,
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};
use libp2p_identity::PeerId;
use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

/// A connection was closed to make room for another.
#[derive(Debug)]
pub(super) struct MadeRoom;

/// Has no protocol of its own.
pub(super) struct Doors {
    room: Room<ConnectionId>,
    half_open: HalfOpen<ConnectionId>,
    /// `None` if nobody is trusted.
    trust: Option<Trust>,
    /// Connections to be closed. As many at most as are open.
    closing: VecDeque<(PeerId, ConnectionId)>,
    waker: Option<Waker>,
}

/// Fewer than the settings say if file descriptors are short. None at all for a node that is cut off.
pub(super) fn most(limits: &SwarmLimits, cut: bool) -> Most {
    let all = if cut { 0 } else { affordable(limits.connections) as usize };
    // A limit of one is a limit of one stranger, who may be the only peer there is.
    let strangers = limits.strangers.min((all / 2).max(1)).min(all);
    let (per_address, per_network) = (limits.per_address, limits.per_network);
    Most { all, strangers, per_address, per_network, relayed: limits.relayed }
}

fn from(address: &Multiaddr) -> Origin {
    if is_relayed(address) { Origin::Relay } else { ip(address).map_or(Origin::Elsewhere, Origin::Address) }
}

impl Doors {
    /// Those of a node.
    pub(super) fn new(limits: &SwarmLimits, trust: Trust) -> Self {
        Self::with(most(limits, false), limits.pending_per_address, Some(trust))
    }

    /// Those of a node that trusts nobody more than others.
    pub(super) fn for_anybody(most: Most, pending_per_address: usize) -> Self {
        Self::with(most, pending_per_address, None)
    }

    fn with(most: Most, pending_per_address: usize, trust: Option<Trust>) -> Self {
        let half_open = HalfOpen::new(pending_per_address);
        Self { room: Room::new(most), half_open, trust, closing: VecDeque::new(), waker: None }
    }

    pub(super) fn change(&mut self, most: Most) {
        self.room.change(most);
    }

    fn enter(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        from: Origin,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        let Self { room, trust, .. } = self;
        let standing = |peer: &PeerId| trust.as_ref().map_or(Standing::Stranger, |trust| trust.standing(peer));
        let gone = room.enter(connection, peer, from, standing).map_err(ConnectionDenied::new)?;
        self.closing.extend(gone);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(dummy::ConnectionHandler)
    }
}

impl NetworkBehaviour for Doors {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = MadeRoom;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        ip(remote).map_or(Ok(()), |ip| self.half_open.begins(connection, ip).map_err(ConnectionDenied::new))
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.half_open.ends(connection);
        // What comes by way of a relay has only the sender's name as its address.
        self.enter(connection, peer, if is_relayed(local) { Origin::Relay } else { from(remote) })
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.enter(connection, peer, from(address))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => self.room.leave(closed.connection_id),
            // Another protocol may have refused what had room.
            FromSwarm::ListenFailure(failed) => {
                self.half_open.ends(failed.connection_id);
                self.room.leave(failed.connection_id);
            }
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
