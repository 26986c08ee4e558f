//! Gossipsub behind a meter: what a peer sends beyond its rate is dropped before gossipsub sees it.
//!
//! Gossipsub remembers every message for a while, however many come. The meter bounds how many come, and thereby how much
//! it remembers, and it bounds the control messages and subscriptions that gossipsub works through.

use super::{
    core::{Rate, Rates, Taken},
    settings::SwarmLimits,
    trust::Trust,
};
use libp2p::{
    Multiaddr,
    core::{Endpoint, transport::PortUse},
    gossipsub::{self, DataTransform, Message, RawMessage, TopicHash, WhitelistSubscriptionFilter},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm,
    },
};
use libp2p_identity::PeerId;
use std::{
    collections::BTreeMap,
    io,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

/// Of the topics that peers subscribe to, only the federation's own is kept.
pub(super) type Gossipsub = gossipsub::Behaviour<Metered, WhitelistSubscriptionFilter>;

/// Seconds of its rate that a peer may send at once. One that was cut off brings what has gathered meanwhile.
const BURST_SECONDS: f64 = 8.0;
/// Packets a second for each message a second: a message may bring control messages in packets of their own.
const PACKETS: f64 = 2.0;
/// Things dropped of a peer before it is reported, and between reports.
const TOLERATED: u64 = 256;

/// What gossip reports.
#[derive(Debug)]
pub(super) enum GossipEvent {
    /// As gossipsub reports it.
    Gossip(gossipsub::Event),
    /// A peer sends more than it may: so many things of it were dropped since the last report.
    Over { peer: PeerId, dropped: u64 },
}

/// Gossipsub and its meter.
pub(super) struct Gossip {
    inner: Gossipsub,
    trust: Trust,
    meter: Arc<Mutex<Meter>>,
}

/// Counts each message of the packet that gossipsub is working through. It works through one at a time.
pub(super) struct Metered(Arc<Mutex<Meter>>);

struct Meter {
    began: Instant,
    messages: Rates,
    packets: Rates,
    /// Who has sent the packet that is worked through, and whether it is trusted.
    from: Option<(PeerId, bool)>,
    /// What was dropped of each connected peer and not reported yet.
    dropped: BTreeMap<PeerId, u64>,
    /// What was dropped in all.
    total: u64,
}

impl Meter {
    fn new(limits: &SwarmLimits) -> Self {
        let each = Rate::new(limits.gossip_rate, BURST_SECONDS);
        let all = Rate::at_most(limits.gossip_seen as f64, limits.seen_for);
        let times = |rate: Rate| Rate { per_second: PACKETS * rate.per_second, burst: PACKETS * rate.burst };
        Self {
            began: Instant::now(),
            messages: Rates::new(each, all),
            packets: Rates::new(times(each), times(all)),
            from: None,
            dropped: BTreeMap::new(),
            total: 0,
        }
    }

    /// Whether a packet may pass. If so, [`from`](Self::from) is its sender.
    fn packet(&mut self, peer: PeerId, trusted: bool) -> bool {
        let taken = self.packets.take(peer, trusted, 1.0, self.began.elapsed());
        self.from = (taken == Taken::Within).then_some((peer, trusted));
        self.note(peer, taken)
    }

    fn message(&mut self) -> bool {
        // This node's own messages don't come this way.
        let Some((peer, trusted)) = self.from else { return true };
        let taken = self.messages.take(peer, trusted, 1.0, self.began.elapsed());
        self.note(peer, taken)
    }

    /// A peer is only blamed for its own rate.
    fn note(&mut self, peer: PeerId, taken: Taken) -> bool {
        self.total += u64::from(taken != Taken::Within);
        if taken == Taken::Over {
            *self.dropped.entry(peer).or_default() += 1;
        }
        taken == Taken::Within
    }

    fn report(&mut self) -> Option<GossipEvent> {
        let (&peer, &dropped) = self.dropped.iter().find(|(_, dropped)| **dropped >= TOLERATED)?;
        self.dropped.remove(&peer);
        Some(GossipEvent::Over { peer, dropped })
    }
}

fn lock(meter: &Mutex<Meter>) -> MutexGuard<'_, Meter> {
    meter.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gossip {
    /// Gossipsub as it is made with the transform that it is given.
    pub(super) fn new(
        limits: &SwarmLimits,
        trust: Trust,
        make: impl FnOnce(Metered) -> Result<Gossipsub, String>,
    ) -> Result<Self, String> {
        let meter = Arc::new(Mutex::new(Meter::new(limits)));
        Ok(Self { inner: make(Metered(meter.clone()))?, trust, meter })
    }

    /// Messages and packets dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        lock(&self.meter).total
    }
}

impl Deref for Gossip {
    type Target = Gossipsub;

    fn deref(&self) -> &Gossipsub {
        &self.inner
    }
}

impl DerefMut for Gossip {
    fn deref_mut(&mut self) -> &mut Gossipsub {
        &mut self.inner
    }
}

impl DataTransform for Metered {
    fn inbound_transform(&self, message: RawMessage) -> io::Result<Message> {
        if !lock(&self.0).message() {
            return Err(io::Error::other("over its rate"));
        }
        let RawMessage { source, data, sequence_number, topic, .. } = message;
        Ok(Message { source, data, sequence_number, topic })
    }

    fn outbound_transform(&self, _: &TopicHash, data: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(data)
    }
}

impl NetworkBehaviour for Gossip {
    type ConnectionHandler = <Gossipsub as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = GossipEvent;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = &event
            && closed.remaining_established == 0
        {
            lock(&self.meter).dropped.remove(&closed.peer_id);
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        // Before the meter is locked: no lock is taken while another is held.
        let trusted = self.trust.holds(&peer);
        let passes = lock(&self.meter).packet(peer, trusted);
        if passes {
            self.inner.on_connection_handler_event(peer, connection, event);
            lock(&self.meter).from = None;
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<GossipEvent, THandlerInEvent<Self>>> {
        if let Some(over) = lock(&self.meter).report() {
            return Poll::Ready(ToSwarm::GenerateEvent(over));
        }
        self.inner.poll(context).map(|does| does.map_out(GossipEvent::Gossip))
    }
}
