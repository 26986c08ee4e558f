//! Finding the other members of the federation: Kademlia, identify, mDNS, and the outcome of dials.

use super::driver::Driver;
use crate::p2p::{
    addresses::{PeerAddress, ip, usable, without_peer},
    behaviour::BehaviourEvent,
    core::Input,
    dial_error::reason,
    protocols::KADEMLIA_PROTOCOL,
    transport::source_of,
};
use libp2p::{
    Multiaddr,
    core::ConnectedPoint,
    identify,
    kad::{self, GetProvidersOk, InboundRequest, QueryResult},
    mdns, relay,
    swarm::{
        DialError, StreamUpgradeError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use libp2p_identity::PeerId;
use std::collections::BTreeMap;

/// Prefix of this program's protocols. A peer found on the local network that speaks none of them is disconnected.
const OURS: &str = "/peerfold/";

impl Driver {
    pub(super) fn table(&mut self, event: kad::Event) {
        match event {
            kad::Event::RoutingUpdated { peer, is_new_peer, .. } => {
                self.keep_out_of_table(peer);
                if is_new_peer {
                    let now = self.now();
                    self.table_queries.soon(now);
                }
            }
            kad::Event::OutboundQueryProgressed { id, result, stats, step } => match result {
                QueryResult::StartProviding(_) => {
                    self.table_queries.provided(id, &mut self.swarm.behaviour_mut().kad);
                }
                QueryResult::GetProviders(result) => {
                    // Strangers in the table are not asked, and count there as peers that failed.
                    let failures = u64::from(stats.num_failures());
                    let not_asked = self.swarm.behaviour().admission.not_dialled();
                    let not_asked = self.table_queries.not_asked_since(id, not_asked);
                    let is_whole = result.is_ok() && stats.num_successes() > 0 && failures <= not_asked;
                    if let Ok(GetProvidersOk::FoundProviders { providers, .. }) = result {
                        let others = providers.into_iter().filter(|peer| *peer != self.me);
                        let (mut named, others): (Vec<_>, Vec<_>) =
                            others.partition(|peer| self.peers.by_id.contains_key(peer));
                        named.extend(self.redial.of_named(others, self.peers.members()));
                        named.into_iter().for_each(|peer| self.announced(peer));
                    }
                    if step.last
                        && let Some(met) = self.table_queries.answered(id)
                    {
                        self.lookout.answered(met, is_whole);
                    }
                }
                _ => {}
            },
            kad::Event::InboundRequest { request: InboundRequest::AddProvider { record: Some(mut record) } } => {
                let local = self.peers.is_local(&record.provider);
                record.addresses = usable(record.addresses, local);
                self.table.add(record, self.swarm.behaviour_mut().kad.store_mut());
            }
            _ => {}
        }
    }

    /// The table says that a peer is a member.
    fn announced(&mut self, peer: PeerId) {
        // Anybody can say so. Only those who may take part are looked for.
        if !self.swarm.behaviour().admission.lets_in(&peer) {
            return;
        }
        self.lookout.announced(peer);
        // The table adds the addresses that it knows while the query runs.
        self.dial_announced(peer, Vec::new());
    }

    fn dial_announced(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let condition = PeerCondition::DisconnectedAndNotDialing;
        let options = DialOpts::peer_id(peer).addresses(addresses).extend_addresses_through_behaviour();
        match self.swarm.dial(options.condition(condition).build()) {
            // It is connected, or being dialled.
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
            Err(error) => {
                tracing::debug!(%peer, %error, "an announced peer is not dialled");
                self.lookout.not_reached(&peer);
            }
        }
    }

    /// Has the table asked again, as long as somebody waits for what it says.
    pub(super) fn ask_table_again(&mut self) {
        if self.lookout.wants_answer() {
            let now = self.now();
            self.table_queries.again(now);
        }
    }

    pub(super) fn identified(&mut self, event: identify::Event) {
        let (peer_id, info) = match event {
            identify::Event::Received { peer_id, info, .. } => (peer_id, info),
            // It has no way to say what it is, but its requests will show.
            identify::Event::Error { peer_id, error: StreamUpgradeError::NegotiationFailed, .. } => {
                return self.lookout.identified(&peer_id, false);
            }
            // It may have been too busy to say what it is, so dial it again.
            identify::Event::Error { peer_id, error, .. } if !self.lookout.is_identified(&peer_id) => {
                tracing::debug!(peer = %peer_id, %error, "a peer doesn't say what it is");
                let _ = self.swarm.disconnect_peer_id(peer_id);
                return;
            }
            _ => return,
        };
        let ours = |name: &str| name.starts_with(OURS) || name.starts_with("/meshsub/");
        if !info.protocols.iter().any(|protocol| ours(protocol.as_ref())) {
            tracing::debug!(peer = %peer_id, agent = info.agent_version, "not a node of this network");
            self.redial.forget(&peer_id);
            let _ = self.swarm.disconnect_peer_id(peer_id);
            return;
        }
        let in_table = info.protocols.contains(&KADEMLIA_PROTOCOL);
        self.seen_at(&info.observed_addr);
        if info.protocols.contains(&relay::HOP_PROTOCOL_NAME) && self.redial.is_listed(&peer_id) {
            self.may_relay(peer_id);
        }
        let Some((peer, over)) = self.peers.listens(&peer_id, info.listen_addrs) else { return };
        let kad = &mut self.swarm.behaviour_mut().kad;
        if in_table {
            for address in &peer.addresses {
                kad.add_address(&peer_id, address.clone());
            }
            // Otherwise a peer that keeps reporting new addresses would fill the table.
            for address in &over {
                kad.remove_address(&peer_id, address);
            }
        }
        for left in self.peers.left_behind(&peer_id, &over) {
            self.swarm.close_connection(left);
        }
        self.remember(&peer_id);
        self.try_directly(peer_id);
        let sought = self.redial.is_sought(&peer_id) || self.lookout.is_announced(&peer_id);
        self.lookout.identified(&peer_id, in_table && sought);
        if in_table {
            let now = self.now();
            self.table_queries.soon(now);
        }
    }

    pub(super) fn found_beside(&mut self, event: mdns::Event) {
        let mdns::Event::Discovered(found) = event else { return };
        let mut by_peer: BTreeMap<PeerId, Vec<_>> = BTreeMap::new();
        found.into_iter().for_each(|(peer, address)| by_peer.entry(peer).or_default().push(address));
        by_peer.retain(|peer, _| self.swarm.behaviour().admission.lets_in(peer));
        for (peer, addresses) in by_peer {
            self.lookout.announced(peer);
            self.dial_announced(peer, addresses);
        }
    }

    /// Connections made, lost, and not made.
    pub(super) fn connection(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                let (now, admitted) = (self.now(), self.membership.allows(peer_id));
                let own = match &endpoint {
                    ConnectedPoint::Listener { local_addr, .. } => ip(local_addr),
                    ConnectedPoint::Dialer { address, .. } => source_of(&without_peer(address)),
                };
                let own = own.filter(|_| !endpoint.is_relayed());
                let first = self.peers.connected(peer_id, (&endpoint, own), connection_id, admitted, now);
                self.way_made(peer_id, connection_id, &endpoint);
                if first {
                    tracing::debug!(peer = %peer_id, address = %endpoint.get_remote_address(), "connected");
                    self.is_first(peer_id);
                } else {
                    self.is_further(peer_id);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                if self.peers.disconnected(&peer_id, connection_id) {
                    tracing::debug!(peer = %peer_id, ?cause, "disconnected");
                    self.is_gone(peer_id);
                } else {
                    self.way_lost(peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => self.not_dialled(peer, &error),
            _ => {}
        }
    }

    fn is_first(&mut self, peer: PeerId) {
        self.redial.connected(&peer);
        self.lookout.connected(peer, self.redial.is_listed(&peer));
        self.tell(Input::Connected(peer));
    }

    /// One more connection to a connected peer.
    fn is_further(&mut self, peer: PeerId) {
        self.tell(Input::Connected(peer));
        self.tell_way_soon(peer);
    }

    fn is_gone(&mut self, peer: PeerId) {
        let now = self.now();
        self.reservations.gone(&peer);
        self.punch_again.no_more(&peer);
        self.redial.lost(&peer, now);
        self.lookout.disconnected(peer, self.core.heard(&peer), self.redial.is_sought(&peer));
        self.tell(Input::Disconnected(peer));
    }

    fn not_dialled(&mut self, peer: PeerId, error: &DialError) {
        let now = self.now();
        if self.swarm.is_connected(&peer) {
            return;
        }
        self.redial.lost(&peer, now);
        self.lookout.not_reached(&peer);
        let first = self.redial.is_listed(&peer) && self.redial.first_failure(&peer);
        if self.redial.is_sought(&peer) || self.lookout.is_announced(&peer) {
            self.note_unreached(peer, reason(error));
        }
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
