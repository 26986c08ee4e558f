//! Relaying for nodes that can't be reached directly (circuit relay, version 2): how much of it, and libp2p's relay, kept
//! from a state in which it would panic.

use libp2p::{
    Multiaddr,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    relay::{self, Event, Status},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm, behaviour::ConnectionEstablished,
    },
};
use libp2p_identity::PeerId;
use std::{
    collections::HashMap,
    num::NonZeroU32,
    task::{Context, Poll},
    time::Duration,
};

/// Reservations, and as many connections, that one peer may ask for at once; then one more in each pause.
const OF_PEER: (NonZeroU32, Duration) = (NonZeroU32::new(64).unwrap(), Duration::from_secs(10));
/// The same of all who come from one address: a whole site may.
const OF_ADDRESS: (NonZeroU32, Duration) = (NonZeroU32::new(512).unwrap(), Duration::from_secs(1));

/// How much a bootstrap node relays for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Nodes that may be reached by it at once.
    pub reservations: usize,
    /// How long each of them may before it has to ask again.
    pub reserved_for: Duration,
    /// Connections that it passes on at once.
    pub circuits: usize,
    /// Those that one peer makes.
    pub circuits_of_peer: usize,
    /// How long one lasts.
    pub lasts: Duration,
    /// Bytes that it passes on of one, each way. 0: any number.
    pub bytes: u64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            reservations: 1024,
            reserved_for: Duration::from_secs(60 * 60),
            circuits: 1024,
            circuits_of_peer: 32,
            lasts: Duration::from_secs(60 * 60),
            bytes: 16 << 20,
        }
    }
}

impl RelayLimits {
    fn config(self) -> relay::Config {
        let second = Duration::from_secs(1);
        let config = relay::Config {
            max_reservations: self.reservations,
            // It allows one more than it is told: one for each transport.
            max_reservations_per_peer: 1,
            reservation_duration: self.reserved_for.max(second),
            reservation_rate_limiters: Vec::new(),
            max_circuits: self.circuits,
            // As above.
            max_circuits_per_peer: self.circuits_of_peer.saturating_sub(1),
            // In a message it is a number of seconds of 32 bits.
            max_circuit_duration: self.lasts.clamp(second, Duration::from_secs(u32::MAX.into())),
            max_circuit_bytes: self.bytes,
            circuit_src_rate_limiters: Vec::new(),
        };
        config
            .reservation_rate_per_peer(OF_PEER.0, OF_PEER.1)
            .reservation_rate_per_ip(OF_ADDRESS.0, OF_ADDRESS.1)
            .circuit_src_per_peer(OF_PEER.0, OF_PEER.1)
            .circuit_src_per_ip(OF_ADDRESS.0, OF_ADDRESS.1)
    }
}

/// libp2p's relay.
///
/// When a reservation runs out it forgets the connection that it was made on, and takes it for impossible that anything
/// about a reservation comes from there later: a peer that renews in that very moment would end this program. So it is told
/// of the connection again at once.
pub(super) struct Relaying {
    relay: relay::Behaviour,
    /// The connections, and where the last word of each peer came from.
    connections: HashMap<ConnectionId, ConnectedPoint>,
    last: HashMap<PeerId, ConnectionId>,
}

impl Relaying {
    pub(super) fn new(me: PeerId, limits: RelayLimits) -> Self {
        let mut relay = relay::Behaviour::new(me, limits.config());
        relay.set_status(Some(Status::Enable));
        Self { relay, connections: HashMap::new(), last: HashMap::new() }
    }

    /// The connection of a reservation that has run out.
    fn remind(&mut self, peer_id: PeerId) {
        let Some(connection_id) = self.last.get(&peer_id).copied() else { return };
        let Some(endpoint) = self.connections.get(&connection_id) else { return };
        self.relay.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id,
            connection_id,
            endpoint,
            failed_addresses: &[],
            other_established: 0,
        }));
    }
}

impl NetworkBehaviour for Relaying {
    type ConnectionHandler = THandler<relay::Behaviour>;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.relay.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.relay.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match &event {
            FromSwarm::ConnectionEstablished(made) => {
                self.connections.insert(made.connection_id, made.endpoint.clone());
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.connections.remove(&closed.connection_id);
                if closed.remaining_established == 0 {
                    self.last.remove(&closed.peer_id);
                }
            }
            _ => {}
        }
        self.relay.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        if self.connections.contains_key(&id) {
            self.last.insert(peer, id);
        }
        self.relay.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let polled = self.relay.poll(context);
        if let Poll::Ready(ToSwarm::GenerateEvent(Event::ReservationTimedOut { src_peer_id })) = &polled {
            // It is polled after each word of a connection, so that word was the peer's last.
            self.remind(*src_peer_id);
        }
        polled
    }
}
