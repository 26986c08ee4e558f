//! Finding the members of one's federation: Kademlia, identify, mDNS, and what becomes of dials.

use super::driver::Driver;
use crate::{
    p2p::{addresses::without_peer, behaviour::BehaviourEvent, options::PeerAddress, protocols::KADEMLIA_PROTOCOL},
    weights::FederationId,
};
use libp2p::{
    identify,
    kad::{self, GetProvidersOk, QueryResult, RecordKey, store::MemoryStore},
    mdns,
    swarm::{
        DialError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use libp2p_identity::PeerId;
use std::{collections::BTreeMap, time::Duration};

/// After the first look, and after a peer of the table was met, looks follow at these distances; then at every sync.
const SOON: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];
/// Protocols of this program begin so; whoever is found on the local network and speaks none is let go.
const OURS: &str = "/peerfold/";

/// When to look into the table for members.
pub(super) struct Discovery {
    key: RecordKey,
    every: Duration,
    next: Duration,
    looks: usize,
    /// Whether the table has answered once.
    pub(super) looked: bool,
}

impl Discovery {
    pub(super) fn new(federation: FederationId, every: Duration) -> Self {
        let key = blake3::derive_key("peerfold 2026 members of a federation v1", federation.as_bytes());
        Self { key: RecordKey::new(&key), every, next: every, looks: 0, looked: false }
    }

    pub(super) fn next(&self) -> Duration {
        self.next
    }

    /// A new peer of the table: it may know members.
    fn soon(&mut self, now: Duration) {
        self.looks = 0;
        self.next = self.next.min(now + SOON[0]);
    }

    /// Says that this node is a member, if it is time; who else is one is asked when that is said.
    pub(super) fn tick(&mut self, now: Duration, kad: &mut kad::Behaviour<MemoryStore>) {
        if now < self.next {
            return;
        }
        self.looks += 1;
        self.next = now + SOON.get(self.looks).copied().unwrap_or(self.every);
        if let Err(error) = kad.start_providing(self.key.clone()) {
            tracing::debug!(%error, "the table takes nothing");
        }
    }
}

impl Driver {
    pub(super) fn table(&mut self, event: kad::Event) {
        match event {
            kad::Event::RoutingUpdated { is_new_peer: true, .. } => {
                let now = self.now();
                self.discovery.soon(now);
            }
            kad::Event::OutboundQueryProgressed { result, step, .. } => match result {
                QueryResult::StartProviding(_) => {
                    let key = self.discovery.key.clone();
                    self.swarm.behaviour_mut().kad.get_providers(key);
                }
                QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => {
                    let me = *self.swarm.local_peer_id();
                    for peer in providers.into_iter().filter(|peer| *peer != me) {
                        let condition = PeerCondition::DisconnectedAndNotDialing;
                        // The table adds the addresses that it knows while the query runs.
                        let dialled = self.swarm.dial(DialOpts::peer_id(peer).condition(condition).build());
                        if let Err(error) = dialled {
                            tracing::trace!(%peer, %error, "a member is not dialled");
                        }
                    }
                    self.discovery.looked |= step.last;
                }
                QueryResult::GetProviders(_) => self.discovery.looked |= step.last,
                _ => {}
            },
            _ => {}
        }
    }

    pub(super) fn identified(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id, info, .. } = event else { return };
        let ours = |name: &str| name.starts_with(OURS) || name.starts_with("/meshsub/");
        if !info.protocols.iter().any(|protocol| ours(protocol.as_ref())) {
            tracing::debug!(peer = %peer_id, agent = info.agent_version, "not a node of this network");
            self.redial.forget(&peer_id);
            let _ = self.swarm.disconnect_peer_id(peer_id);
            return;
        }
        let in_table = info.protocols.contains(&KADEMLIA_PROTOCOL);
        let Some((peer, over)) = self.peers.listens(&peer_id, info.listen_addrs) else { return };
        let kad = &mut self.swarm.behaviour_mut().kad;
        if in_table {
            for address in &peer.addresses {
                kad.add_address(&peer_id, address.clone());
            }
            // Or who tells ever new ones fills the table.
            for address in &over {
                kad.remove_address(&peer_id, address);
            }
        }
        self.remember(&peer_id);
    }

    pub(super) fn found_beside(&mut self, event: mdns::Event) {
        let mdns::Event::Discovered(found) = event else { return };
        let mut by_peer: BTreeMap<PeerId, Vec<_>> = BTreeMap::new();
        found.into_iter().for_each(|(peer, address)| by_peer.entry(peer).or_default().push(address));
        for (peer, addresses) in by_peer {
            let condition = PeerCondition::DisconnectedAndNotDialing;
            let options = DialOpts::peer_id(peer).addresses(addresses).condition(condition);
            if let Err(error) = self.swarm.dial(options.build()) {
                tracing::trace!(%peer, %error, "a peer beside is not dialled");
            }
        }
    }

    /// Connections made, lost, and not made.
    pub(super) fn connection(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let now = self.now();
                if self.peers.connected(peer_id, &endpoint, connection_id, now) {
                    tracing::debug!(peer = %peer_id, address = %endpoint.get_remote_address(), "connected");
                    self.is_first(peer_id);
                } else {
                    self.is_further(peer_id);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. }
                if self.peers.disconnected(&peer_id, connection_id) =>
            {
                tracing::debug!(peer = %peer_id, ?cause, "disconnected");
                self.is_gone(peer_id);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => self.not_dialled(peer, &error),
            _ => {}
        }
    }

    fn not_dialled(&mut self, peer: PeerId, error: &DialError) {
        let now = self.now();
        if self.swarm.is_connected(&peer) {
            return;
        }
        self.redial.lost(&peer, now);
        let first = self.redial.is_listed(&peer) && self.redial.first_failure(&peer);
        match error {
            DialError::LocalPeerId { .. } => self.redial.forget(&peer),
            DialError::WrongPeerId { obtained, address } if first => {
                let address = without_peer(address);
                tracing::warn!(
                    "the bootstrap peer {} answers as {obtained}: put its new address into the list, if it is the node \
                     that you mean",
                    PeerAddress { peer, address }
                );
            }
            error if first => {
                let reason = reason(error);
                tracing::warn!("the bootstrap peer {peer} can't be reached ({reason}); it is tried again for ever");
            }
            error => tracing::debug!(%peer, reason = reason(error), "not reached"),
        }
    }
}

/// A failed dial in one line: the address that was tried, and the innermost reason.
fn reason(error: &DialError) -> String {
    let DialError::Transport(tried) = error else {
        return error.to_string().replace('\n', " ");
    };
    let of_one = |error: &dyn std::error::Error| {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            text = inner.to_string();
            source = inner.source();
        }
        text.replace('\n', " ")
    };
    let tried = tried.iter().map(|(address, error)| format!("{}: {}", without_peer(address), of_one(error)));
    tried.collect::<Vec<_>>().join("; ")
}
