//! Tries out for peers whether they can be reached where they say (AutoNAT, version 2): for a few at a time, and only at
//! addresses that they may ask for.
//!
//! Whoever asks names the address. It must be one that the peer comes from, or one of the internet's, so that nobody gets
//! a node to knock at the doors of its own site. For another one than it comes from a peer has to send more bytes first
//! than the attempt costs.

use super::addresses::{Reach, ip, is_relayed, port};
use libp2p::{
    Multiaddr,
    autonat::v2::server,
    core::{Endpoint, transport::PortUse},
    swarm::{
        CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    net::IpAddr,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// Attempts that one peer may ask for in each [`PERIOD`].
const OF_PEER: usize = 8;
const PERIOD: Duration = Duration::from_secs(60);

/// An address isn't tried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotTried(&'static str);

impl fmt::Display for NotTried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotTried {}

/// Who may have which address tried out now. A state machine without I/O.
#[derive(Debug)]
struct Attempts {
    /// At once.
    most: usize,
    /// Where the connected peers come from.
    from: BTreeMap<PeerId, BTreeMap<ConnectionId, IpAddr>>,
    /// When each of them asked, as far as that counts.
    asked: BTreeMap<PeerId, VecDeque<Instant>>,
    /// Those under way: from the dial to the end of its connection.
    underway: BTreeSet<ConnectionId>,
}

impl Attempts {
    fn new(most: usize) -> Self {
        Self { most, from: BTreeMap::new(), asked: BTreeMap::new(), underway: BTreeSet::new() }
    }

    fn begin(&mut self, peer: PeerId, addresses: &[Multiaddr], now: Instant) -> Result<(), NotTried> {
        let [address] = addresses else { return Err(NotTried("one address is tried out at a time")) };
        let without = super::addresses::without_peer(address);
        let Some(ip) = ip(&without).filter(|_| port(&without).is_some_and(|port| port != 0)) else {
            return Err(NotTried("only IP addresses for TCP and QUIC are tried out"));
        };
        let Some(from) = self.from.get(&peer) else { return Err(NotTried("the peer isn't connected directly")) };
        let own = from.values().any(|from| from.to_canonical() == ip.to_canonical());
        if !own && Reach::of(ip) != Reach::World {
            return Err(NotTried("it is an address of a site, and the peer doesn't come from it"));
        }
        if self.underway.len() >= self.most {
            return Err(NotTried("too many addresses are being tried out"));
        }
        // Whoever isn't connected can't ask; the entries of those who leave go with them.
        let asked = self.asked.entry(peer).or_default();
        asked.retain(|at| now.duration_since(*at) < PERIOD);
        if asked.len() >= OF_PEER {
            return Err(NotTried("the peer asks too often"));
        }
        asked.push_back(now);
        Ok(())
    }

    fn connected(&mut self, peer: PeerId, connection: ConnectionId, address: &Multiaddr) {
        if let Some(ip) = ip(address).filter(|_| !is_relayed(address)) {
            self.from.entry(peer).or_default().insert(connection, ip);
        }
    }

    fn disconnected(&mut self, peer: PeerId, connection: ConnectionId, left: usize) {
        self.underway.remove(&connection);
        if left == 0 {
            self.from.remove(&peer);
            self.asked.remove(&peer);
        } else if let Some(from) = self.from.get_mut(&peer) {
            from.remove(&connection);
        }
    }
}

/// AutoNAT's server.
pub(super) struct DialBack {
    server: server::Behaviour,
    attempts: Attempts,
    /// Whether this is the only protocol that may dial anybody.
    alone: bool,
    /// Connections that have served their purpose.
    closing: VecDeque<(PeerId, ConnectionId)>,
    waker: Option<Waker>,
}

impl DialBack {
    /// Tries out so many addresses at once.
    pub(super) fn new(most: usize) -> Self {
        let (server, attempts) = (server::Behaviour::default(), Attempts::new(most));
        Self { server, attempts, alone: false, closing: VecDeque::new(), waker: None }
    }

    /// Forbids all other dials: Kademlia would dial any address that it is told.
    pub(super) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }
}

impl NetworkBehaviour for DialBack {
    type ConnectionHandler = THandler<server::Behaviour>;
    type ToSwarm = server::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.server.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.attempts.underway.contains(&id) {
            let begun = peer.ok_or(NotTried("nobody is named")).and_then(|peer| {
                // It doesn't count itself.
                self.attempts.underway.remove(&id);
                self.attempts.begin(peer, addresses, Instant::now())
            });
            begun.map_err(ConnectionDenied::new)?;
            self.attempts.underway.insert(id);
        } else if self.alone {
            return Err(ConnectionDenied::new(NotTried("a bootstrap node dials nobody")));
        }
        self.server.handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.server.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match &event {
            FromSwarm::ConnectionEstablished(made) => {
                self.attempts.connected(made.peer_id, made.connection_id, made.endpoint.get_remote_address());
            }
            FromSwarm::ConnectionClosed(closed) => {
                self.attempts.disconnected(closed.peer_id, closed.connection_id, closed.remaining_established);
            }
            FromSwarm::DialFailure(failed) => _ = self.attempts.underway.remove(&failed.connection_id),
            _ => {}
        }
        self.server.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.server.on_connection_handler_event(peer, id, event);
        // All that such a connection is for is one message.
        if self.attempts.underway.contains(&id) {
            self.closing.push_back((peer, id));
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection)) = self.closing.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(connection) });
        }
        let polled = self.server.poll(context);
        match &polled {
            Poll::Ready(ToSwarm::Dial { opts }) => _ = self.attempts.underway.insert(opts.connection_id()),
            Poll::Ready(_) => {}
            Poll::Pending => self.waker = Some(context.waker().clone()),
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(address: &str) -> [Multiaddr; 1] {
        [address.parse().unwrap()]
    }

    #[test]
    fn only_addresses_of_the_internet_and_those_that_a_peer_comes_from_are_tried_out() {
        let mut attempts = Attempts::new(8);
        let (peer, now) = (PeerId::random(), Instant::now());
        attempts.connected(peer, ConnectionId::new_unchecked(1), &at("/ip4/10.0.0.1/tcp/5")[0]);
        for (address, tried) in [
            ("/ip4/10.0.0.1/tcp/1", true),
            ("/ip4/10.0.0.1/udp/1/quic-v1", true),
            ("/ip4/203.0.113.9/tcp/1", true),
            ("/ip4/10.0.0.2/tcp/1", false),
            ("/ip4/127.0.0.1/tcp/1", false),
            ("/ip6/::1/tcp/1", false),
            ("/ip6/::ffff:10.0.0.2/tcp/1", false),
            ("/ip4/10.0.0.1/tcp/0", false),
            ("/dns/example.org/tcp/1", false),
            ("/ip4/10.0.0.1/tcp/1/p2p/12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7/p2p-circuit", false),
        ] {
            assert_eq!(attempts.begin(peer, &at(address), now).is_ok(), tried, "{address}");
        }
        assert!(attempts.begin(peer, &[at("/ip4/10.0.0.1/tcp/1"), at("/ip4/10.0.0.1/tcp/2")].concat(), now).is_err());
        attempts.disconnected(peer, ConnectionId::new_unchecked(1), 0);
        assert!(attempts.begin(peer, &at("/ip4/10.0.0.1/tcp/1"), now).is_err(), "it has gone");
    }

    #[test]
    fn few_are_tried_out_at_once_and_few_of_one_peer_in_a_minute() {
        let mut attempts = Attempts::new(2);
        let (peer, other, began) = (PeerId::random(), PeerId::random(), Instant::now());
        let address = at("/ip4/203.0.113.9/tcp/1");
        for (id, peer) in [peer, other].into_iter().enumerate() {
            attempts.connected(peer, ConnectionId::new_unchecked(id), &address[0]);
            assert!(attempts.begin(peer, &address, began).is_ok());
            attempts.underway.insert(ConnectionId::new_unchecked(10 + id));
        }
        assert!(attempts.begin(other, &address, began).is_err());
        attempts.underway.clear();
        for _ in 1..OF_PEER {
            assert!(attempts.begin(peer, &address, began).is_ok());
        }
        assert!(attempts.begin(peer, &address, began).is_err());
        assert!(attempts.begin(other, &address, began).is_ok());
        assert!(attempts.begin(peer, &address, began + PERIOD).is_ok());
    }
}
