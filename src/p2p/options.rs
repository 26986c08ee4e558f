//! How a node takes part in the network.

use super::addresses::PeerAddress;
use libp2p::Multiaddr;
use std::time::Duration;
use tokio::sync::watch;

/// How a node takes part in the network.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Where to listen. Empty: on every interface, over TCP and QUIC, on ports that the system chooses; an interface that
    /// can't be listened on is then no error.
    pub listen: Vec<Multiaddr>,
    /// Peers to begin with, dialled for ever.
    pub bootstrap: Vec<PeerAddress>,
    /// Whether to look for peers on the local network.
    pub mdns: bool,
    /// How often to sync with one random member.
    pub sync_every: Duration,
    /// Seeds what is drawn: whom to sync with, jitter.
    pub seed: u64,
    /// While it says `true`, the node closes its connections and makes none: for trying what becomes of a federation
    /// whose network fails.
    pub cut: Option<watch::Receiver<bool>>,
    /// What the federation is called, to tell it to who asks this node on its own machine. No peer is told.
    pub named: Option<FederationName>,
}

/// What people call a federation, whose id is the hash of both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederationName {
    /// Its name.
    pub name: String,
    /// The label of the run.
    pub run: String,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            bootstrap: Vec::new(),
            mdns: true,
            sync_every: Duration::from_secs(60),
            seed: rand::random(),
            cut: None,
            named: None,
        }
    }
}
