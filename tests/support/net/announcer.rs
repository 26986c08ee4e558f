//! A peer that speaks only the protocol of the table.

use futures::StreamExt;
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder,
    kad::{self, GetProvidersOk, QueryId, QueryResult, RecordKey, store::MemoryStore, store::MemoryStoreConfig},
    noise,
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};
use peerfold::p2p::PeerAddress;
use std::time::Duration;

/// Announces itself to a node as a member of any federation, and asks it for members.
pub struct Announcer {
    swarm: Swarm<kad::Behaviour<MemoryStore>>,
}

impl Announcer {
    /// One that is connected to the node, and knows nobody else.
    pub async fn of(node: &PeerAddress) -> Self {
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|keypair| {
                let me = keypair.public().to_peer_id();
                let store = MemoryStoreConfig { max_provided_keys: usize::MAX, ..MemoryStoreConfig::default() };
                let config = kad::Config::new(StreamProtocol::new("/peerfold/kad/1"));
                kad::Behaviour::with_config(me, MemoryStore::with_config(me, store), config)
            })
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
            .build();
        swarm.behaviour_mut().add_address(&node.peer, node.address.clone());
        // A record without an address is found by nobody.
        swarm.add_external_address("/ip4/127.0.0.1/tcp/1".parse().unwrap());
        swarm.dial(DialOpts::peer_id(node.peer).addresses(vec![node.address.clone()]).build()).unwrap();
        while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
        Self { swarm }
    }

    /// Announces itself under each of these keys.
    pub async fn announce(&mut self, keys: impl IntoIterator<Item = Vec<u8>>) {
        for key in keys {
            let query = self.swarm.behaviour_mut().start_providing(RecordKey::from(key)).unwrap();
            self.result(query, |result| matches!(result, QueryResult::StartProviding(_)).then_some(())).await;
        }
    }

    /// Whether the node knows anybody under this key.
    pub async fn finds(&mut self, key: Vec<u8>) -> bool {
        let query = self.swarm.behaviour_mut().get_providers(RecordKey::from(key));
        self.result(query, |result| match result {
            QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { providers, .. })) => {
                Some(!providers.is_empty())
            }
            QueryResult::GetProviders(_) => Some(false),
            _ => None,
        })
        .await
    }

    async fn result<T>(&mut self, query: QueryId, wanted: impl Fn(QueryResult) -> Option<T>) -> T {
        loop {
            if let SwarmEvent::Behaviour(kad::Event::OutboundQueryProgressed { id, result, .. }) =
                self.swarm.select_next_some().await
                && id == query
                && let Some(found) = wanted(result)
            {
                return found;
            }
        }
    }
}
