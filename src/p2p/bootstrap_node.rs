//! A bootstrap node: it belongs to no federation, and serves the table through which nodes find each other.

use super::{
    NetworkError,
    about::{About, Answer, Standing, about},
    addresses::{PeerAddress, can_be_dialled, is_loopback, usable},
    announcements::Announcements,
    dial_back::DialBack,
    doors::Doors,
    private::{Meeting, check_tcp},
    protocols::{IDENTIFY_PROTOCOL, KADEMLIA_PROTOCOL},
    relaying::{RelayLimits, Relaying},
    room::Most,
    shortage::{Shortage, affordable, affordable_pending},
    transport::{default_listen, listen_on, listen_on_some, swarm},
};
use crate::secret::Secret;
use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm,
    connection_limits::{self, ConnectionLimits},
    identify,
    kad::{
        self, BucketInserts, InboundRequest, Mode, StoreInserts,
        store::{MemoryStore, RecordStore},
    },
    ping,
    request_response::{self, Message, ProtocolSupport},
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
};
use libp2p_identity::{Keypair, PeerId};
use std::{collections::HashMap, future::Future, pin::pin, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// The port a bootstrap node listens on by default, over TCP and QUIC.
const DEFAULT_PORT: u16 = 4600;
/// The parts of the connections that one address may have, and those of its network, /24 or /48. Of the connections being
/// made, one address may have the latter.
const PART_OF_ADDRESS: usize = 4;
const PART_OF_NETWORK: usize = 2;
const MAX_CONNECTIONS_OF_PEER: u32 = 4;
/// Connections whose handshake is under way.
const MAX_PENDING: u32 = 256;
/// Addresses that are tried out for peers at once.
const MAX_DIAL_BACKS: usize = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const FIGURES_EVERY: Duration = Duration::from_secs(60);

/// How a bootstrap node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootstrapFigures {
    /// Connections.
    pub connections: u32,
    /// Connected peers.
    pub peers: usize,
    /// Peers that others are told about.
    pub known: usize,
    /// Announcements of federations' members.
    pub announcements: usize,
}

/// A node through which others find each other. It belongs to no federation and sees no entries. It dials peers only to try
/// out for them whether they are reached at the addresses that they ask about, and passes on connections of those that
/// aren't: what goes by them is encrypted between their ends.
///
/// Everything is in memory. What it loses in a restart, nodes tell it again when they reconnect.
pub struct BootstrapNode {
    swarm: Swarm<Behaviour>,
    announcements: Announcements,
    /// The connections of each connected peer, and whether each comes over loopback.
    connected: HashMap<PeerId, HashMap<ConnectionId, bool>>,
    connections: u32,
    shortage: Shortage,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    doors: Doors,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    about: About,
    kademlia: kad::Behaviour<MemoryStore>,
    relay: Toggle<Relaying>,
    dial_back: DialBack,
}

/// So many connections, or as many as there are file descriptors for.
fn most(connections: u32) -> Most {
    let all = affordable(connections) as usize;
    let (per_address, per_network) = (part(all, PART_OF_ADDRESS), part(all, PART_OF_NETWORK));
    Most { all, strangers: all, per_address, per_network, relayed: 0 }
}

/// Connections that one address may be making at once.
fn half_open() -> usize {
    part(affordable_pending(MAX_PENDING) as usize, PART_OF_NETWORK)
}

fn part(of: usize, part: usize) -> usize {
    (of / part).max(1)
}

impl Behaviour {
    fn new(keypair: &Keypair, relays: Option<RelayLimits>) -> Self {
        let me = keypair.public().to_peer_id();
        let limits = ConnectionLimits::default()
            .with_max_established_per_peer(Some(MAX_CONNECTIONS_OF_PEER))
            .with_max_pending_incoming(Some(affordable_pending(MAX_PENDING)))
            .with_max_pending_outgoing(Some(MAX_DIAL_BACKS as u32));
        let mut kademlia = kad::Config::new(KADEMLIA_PROTOCOL);
        kademlia
            .set_provider_record_ttl(Some(Announcements::TTL))
            .set_record_filtering(StoreInserts::FilterBoth)
            .set_kbucket_inserts(BucketInserts::Manual)
            .set_periodic_bootstrap_interval(None);
        let mut kademlia = kad::Behaviour::with_config(me, Announcements::store(me), kademlia);
        kademlia.set_mode(Some(Mode::Server));
        let identify = identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), keypair.public())
            .with_agent_version(concat!("peerfold-bootstrap/", env!("CARGO_PKG_VERSION")).to_owned())
            .with_cache_size(0);
        Self {
            limits: connection_limits::Behaviour::new(limits),
            doors: Doors::for_anybody(most(BootstrapNode::CONNECTIONS), half_open()),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::default(),
            about: about(ProtocolSupport::Inbound),
            kademlia,
            relay: relays.map(|limits| Relaying::new(me, limits)).into(),
            dial_back: DialBack::new(MAX_DIAL_BACKS).alone(),
        }
    }
}

impl BootstrapNode {
    /// Connections at once, unless it is [limited](Self::limited); fewer if there aren't enough file descriptors. Where
    /// they are short, the oldest is closed for a new one: whoever has found the others needs it no more, and who does
    /// nothing can't keep newcomers out.
    pub const CONNECTIONS: u32 = 4096;

    /// Listens on all of these addresses; if there are none, on port 4600 over TCP and QUIC, on those of IPv4 and IPv6
    /// that the machine has. Relays as much as by default. Must be called inside a tokio runtime.
    pub fn start(keypair: &Keypair, listen: &[Multiaddr]) -> Result<Self, NetworkError> {
        Self::start_with(keypair, listen, None, Some(RelayLimits::default()))
    }

    /// The same for those who have a secret, if one is given, over TCP alone: it learns neither the names of their
    /// federations nor the topics. Relays so much, or nothing.
    pub fn start_with(
        keypair: &Keypair,
        listen: &[Multiaddr],
        secret: Option<&Secret>,
        relays: Option<RelayLimits>,
    ) -> Result<Self, NetworkError> {
        let meeting = Meeting::new(secret, half_open().div_ceil(2));
        if let (Some(_), Err(mistake)) = (secret, check_tcp(&[], listen)) {
            return Err(NetworkError::Private { address: mistake.value, reason: mistake.what });
        }
        let behaviour = |keypair: &Keypair| Behaviour::new(keypair, relays);
        let mut swarm = swarm(keypair, &meeting, behaviour, HANDSHAKE_TIMEOUT)?;
        if listen.is_empty() {
            listen_on_some(&mut swarm, &default_listen(DEFAULT_PORT, meeting.is_private()), |_| None)?;
        } else {
            listen_on(&mut swarm, listen)?;
        }
        let (announcements, connected) = (Announcements::default(), HashMap::new());
        let connections = Self::CONNECTIONS;
        Ok(Self { swarm, announcements, connected, connections, shortage: Shortage::default() })
    }

    /// With at most so many connections at once.
    #[must_use]
    pub fn limited(mut self, connections: u32) -> Self {
        self.connections = connections;
        self.swarm.behaviour_mut().doors.change(most(connections));
        self
    }

    /// Answers until `until` is done. `listening` is given each address at which others can reach it, as soon as it is
    /// listened on.
    pub async fn run(
        mut self,
        mut listening: impl FnMut(&PeerAddress),
        until: impl Future<Output = ()>,
    ) -> Result<(), NetworkError> {
        let peer = *self.swarm.local_peer_id();
        let mut until = pin!(until);
        let mut minute = interval_at(Instant::now() + FIGURES_EVERY, FIGURES_EVERY);
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut until => return Ok(()),
                _ = minute.tick() => self.tell_figures(),
                event = self.swarm.select_next_some() => match event {
                    SwarmEvent::NewListenAddr { address, .. } if can_be_dialled(&address) => {
                        // Without any it would be no relay.
                        self.swarm.add_external_address(address.clone());
                        listening(&PeerAddress { peer, address });
                    }
                    SwarmEvent::ExpiredListenAddr { address, .. } => {
                        self.swarm.remove_external_address(&address);
                        tracing::warn!(%address, "listens there no more");
                    }
                    SwarmEvent::ListenerClosed { reason: Err(error), addresses, .. } => {
                        let addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                        tracing::warn!(addresses, %error, "listens there no more");
                        if self.swarm.listeners().next().is_none() {
                            let reason = format!("it listens nowhere any more: {error}");
                            return Err(NetworkError::Start { reason });
                        }
                    }
                    SwarmEvent::ListenerError { error, .. } => self.shortage.not_accepted(&error),
                    SwarmEvent::IncomingConnectionError { error, .. } => {
                        self.shortage.refused(&error, self.connections, MAX_PENDING);
                    }
                    SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                        let local = is_loopback(endpoint.get_remote_address());
                        self.connected.entry(peer_id).or_default().insert(connection_id, local);
                    }
                    SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                        self.closed(peer_id, connection_id, num_established);
                    }
                    SwarmEvent::Behaviour(event) => self.behaved(event),
                    _ => {}
                },
            }
        }
    }

    fn closed(&mut self, peer: PeerId, connection: ConnectionId, left: u32) {
        if let Some(connections) = self.connected.get_mut(&peer) {
            connections.remove(&connection);
        }
        if left == 0 {
            self.connected.remove(&peer);
            // We can't vouch for a peer that has left; if it comes back, we know it again at once.
            self.swarm.behaviour_mut().kademlia.remove_peer(&peer);
        }
    }

    fn behaved(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })
                if info.protocols.contains(&KADEMLIA_PROTOCOL) =>
            {
                let addresses = usable(info.listen_addrs, self.is_local(&peer_id));
                let kademlia = &mut self.swarm.behaviour_mut().kademlia;
                // What it told us earlier may be out of date.
                kademlia.remove_peer(&peer_id);
                for address in addresses {
                    kademlia.add_address(&peer_id, address);
                }
            }
            BehaviourEvent::Kademlia(kad::Event::InboundRequest {
                request: InboundRequest::AddProvider { record: Some(mut record) },
            }) => {
                record.addresses = usable(record.addresses, self.is_local(&record.provider));
                self.announcements.add(record, self.swarm.behaviour_mut().kademlia.store_mut());
            }
            BehaviourEvent::About(request_response::Event::Message {
                message: Message::Request { request, channel, .. },
                ..
            }) => {
                let announced = self.swarm.behaviour_mut().kademlia.store_mut().providers(&request.key());
                let standing = if announced.is_empty() { Standing::Unknown } else { Standing::Known };
                // Who has gone meanwhile needs no answer.
                let _ = self.swarm.behaviour_mut().about.send_response(channel, Answer::now(standing));
            }
            BehaviourEvent::Ping(ping::Event { connection, result: Err(failure), .. })
                if !matches!(failure, ping::Failure::Unsupported) =>
            {
                self.swarm.close_connection(connection);
            }
            _ => {}
        }
    }

    /// Whether the peer is on this machine.
    fn is_local(&self, peer: &PeerId) -> bool {
        self.connected.get(peer).is_some_and(|connections| connections.values().any(|local| *local))
    }

    fn tell_figures(&mut self) {
        self.announcements.forget_old(self.swarm.behaviour_mut().kademlia.store_mut());
        let BootstrapFigures { connections, peers, known, announcements } = self.figures();
        tracing::info!(connections, peers, known, announcements, "serving");
    }

    /// How the node stands.
    pub fn figures(&mut self) -> BootstrapFigures {
        BootstrapFigures {
            connections: self.swarm.network_info().connection_counters().num_established(),
            peers: self.connected.len(),
            known: self.swarm.behaviour_mut().kademlia.kbuckets().map(|bucket| bucket.num_entries()).sum(),
            announcements: self.announcements.len(),
        }
    }
}
