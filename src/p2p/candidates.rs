//! Finds out whether the node is reached where others see it (AutoNAT, version 2), and of how many addresses.
//!
//! Any peer can say that it sees this node anywhere. AutoNAT would remember and try out all of it.

use super::addresses::{MAX_ADDRESSES, Reach, ip, is_relayed, port, without_peer};
use libp2p::{
    Multiaddr,
    autonat::v2::client::{self, Config},
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm,
    },
};
use libp2p_identity::PeerId;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use std::{
    collections::BTreeSet,
    task::{Context, Poll},
    time::Duration,
};

/// Addresses that are tried out in the life of a node.
const MOST: usize = 64;
/// How soon an address is tried out that somebody has seen.
const SOON: Duration = Duration::from_millis(250);

type Client = client::Behaviour<ChaCha8Rng>;

/// AutoNAT's client.
pub(super) struct Candidates {
    client: Client,
    seen: BTreeSet<Multiaddr>,
    /// Whether those of this machine are tried out too.
    everywhere: bool,
}

impl Candidates {
    pub(super) fn new() -> Self {
        let config = Config::default().with_probe_interval(SOON).with_max_candidates(MAX_ADDRESSES);
        Self {
            client: Client::new(ChaCha8Rng::from_seed(rand::random()), config),
            seen: BTreeSet::new(),
            everywhere: false,
        }
    }

    /// Tries out addresses of this machine too, for who asks what would be tried out.
    pub(super) fn everywhere() -> Self {
        Self { everywhere: true, ..Self::new() }
    }

    /// Those that are tried out.
    pub(super) fn seen(&self) -> impl Iterator<Item = &Multiaddr> + Clone {
        self.seen.iter()
    }

    /// Whether an address is worth a try: who else is on this machine is no judge of it.
    fn is_worth_it(&mut self, address: &Multiaddr) -> bool {
        let without = without_peer(address);
        let is_plain = !is_relayed(&without) && port(&without).is_some_and(|port| port != 0);
        let reach = ip(&without).map(Reach::of).filter(|_| is_plain);
        if reach.is_none_or(|reach| reach == Reach::Machine && !self.everywhere) {
            return false;
        }
        self.seen.contains(address) || self.seen.len() < MOST && self.seen.insert(address.clone())
    }
}

impl NetworkBehaviour for Candidates {
    type ConnectionHandler = THandler<Client>;
    type ToSwarm = client::Event;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.client.handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.client.handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        if let FromSwarm::NewExternalAddrCandidate(candidate) = &event
            && !self.is_worth_it(candidate.addr)
        {
            return;
        }
        self.client.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.client.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.client.poll(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_that_may_be_the_nodes_are_tried_out_and_not_too_many() {
        let mut candidates = Candidates::new();
        let mut is_worth_it = |address: &str| candidates.is_worth_it(&address.parse().unwrap());
        for address in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/192.0.2.1/tcp/0",
            "/ip4/192.0.2.1/udp/1",
            "/dns/example.org/tcp/1",
            "/ip4/192.0.2.1/tcp/1/p2p/12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7/p2p-circuit",
        ] {
            assert!(!is_worth_it(address), "{address}");
        }
        let worth = (1..=2 * MOST).filter(|port| is_worth_it(&format!("/ip4/192.0.2.1/tcp/{port}"))).count();
        assert_eq!(worth, MOST);
        assert!(is_worth_it("/ip4/192.0.2.1/tcp/1"), "it may be said again");
    }
}
