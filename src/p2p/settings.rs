//! Settings of the network: how a node takes part in it, and its limits.

use super::{
    addresses::{PeerAddress, listen_address},
    core::Limits,
    peer_list::PeerList,
    private::check_tcp,
};
use crate::{
    secret::Secret,
    settings::{ByteSize, Form, Item, Mistake, Range, settings},
};
use libp2p::Multiaddr;
use std::time::Duration;
use tokio::sync::watch;

settings! {
    /// How a node takes part in the network.
    pub struct NetworkSettings under "Network" {
        /// Where to find others at first: a bootstrap node's or peer's multiaddr with /p2p/…, or a file with a list of
        /// them. May be given several times.
        pub bootstrap as "bootstrap": Vec<PeerAddress> = Vec::new(), "FILE|MULTIADDR";
        /// Where to listen, as /ip4/0.0.0.0/tcp/PORT or /ip4/0.0.0.0/udp/PORT/quic-v1; may be given several times.
        /// [default: every interface, TCP and QUIC, the ports of the last run or free ones]
        pub listen as "listen": Vec<Multiaddr> = Vec::new(), "MULTIADDR";
        /// Don't look for peers on the local network.
        pub no_mdns as "no-mdns": bool = false, "BOOL";
        /// Move weights by way of a relay too, where there is no direct connection. A relay passes on so much of a
        /// connection, and belongs to somebody: see `peerfold bootstrap --relay-bytes`.
        pub relay_weights as "relay-weights": bool = false, "BOOL";
        /// Ask the router of this network to let others in (UPnP). Of use where it does what anybody in its network asks.
        pub upnp as "upnp": bool = false, "BOOL";
        /// Seconds between two syncs with a random member, which find what gossip has missed.
        pub sync_every as "sync-every": Duration = Duration::from_secs(60), "SECONDS", Range::above(0.0);
    }
    nested {
        /// What the exchange with peers is bounded by.
        pub limits: Limits;
        /// What connections and protocols are bounded by.
        pub swarm: SwarmLimits;
    }
}

settings! {
    /// What a node's connections and protocols are bounded by.
    pub struct SwarmLimits under "Network limits" {
        /// Connections at once; fewer if there are not as many file descriptors.
        pub connections as "max-connections": u32 = 256, "N", Range::at_least(1.0);
        /// Connections of peers of whom the node hasn't folded several updates; at most half of all connections. Where
        /// connections are short, the oldest of these is closed for a new one, first of who has published nothing.
        pub strangers as "max-stranger-connections": usize = 128, "N", Range::at_least(1.0);
        /// Connections from one address.
        pub per_address as "max-connections-per-address": usize = 128, "N", Range::at_least(1.0);
        /// Connections from the addresses of one network: /24, or /48 of IPv6.
        pub per_network as "max-connections-per-network": usize = 192, "N", Range::at_least(1.0);
        /// Connections by way of relays, which count to no address: whoever is at the other end has none that is known.
        pub relayed as "max-relayed-connections": usize = 64, "N", Range::at_least(1.0);
        /// Bootstrap nodes that are asked to be relays of this node, while nobody has confirmed that it is reached directly.
        pub relays as "max-relays": usize = 2, "N";
        /// Addresses of peers that are tried out for them at once, and as many a minute for each: a node tells its peers
        /// whether it reaches them.
        pub dial_backs as "max-dial-backs": usize = 8, "N";
        /// Connections of one peer.
        pub connections_per_peer as "max-connections-per-peer": u32 = 4, "N", Range::at_least(1.0);
        /// Connections being made, and as many being taken; fewer if there are not as many file descriptors.
        pub pending as "max-pending-connections": u32 = 512, "N", Range::at_least(1.0);
        /// Those being taken from one address.
        ///
        /// Over TCP the oldest of them goes for a new one as soon as they are half as many.
        pub pending_per_address as "max-pending-per-address": usize = 256, "N", Range::at_least(1.0);
        /// Seconds that a connection may take to be made.
        pub handshake_timeout as "handshake-timeout": Duration = Duration::from_secs(10), "SECONDS", Range::above(0.0);
        /// Requests that a connection has at once, both ways.
        pub streams as "max-streams": usize = 64, "N", Range::at_least(1.0);
        /// Seconds until an answer begins: on a slow line what was asked for before comes first.
        pub request_timeout as "request-timeout": Duration = Duration::from_secs(60), "SECONDS", Range::above(0.0);
        /// Seconds in which 16 KiB of an answer must come, or be taken. Who takes less is disconnected.
        pub stall_timeout as "stall-timeout": Duration = Duration::from_secs(20), "SECONDS", Range::above(0.0);
        /// Bytes of answers that one peer has yet to read; its other requests wait.
        pub answers_per_peer as "max-answers-per-peer": ByteSize = ByteSize::mib(16), "SIZE", Range::at_least(1.0);
        /// Bytes of answers that peers have yet to read, in all.
        pub answers as "max-answers": ByteSize = ByteSize::mib(64), "SIZE", Range::at_least(1.0);
        /// Bytes of values that one peer is given a second; it is told when to ask for more. 0: as many as the line takes.
        pub upload_per_peer as "max-upload-per-peer": ByteSize = ByteSize(0), "SIZE";
        /// Bytes of values that all peers are given a second, half of them kept for members that are known. 0: as many as
        /// the line takes.
        pub upload as "max-upload": ByteSize = ByteSize(0), "SIZE";
        /// Requests that wait for such room; more are refused. One peer may have an eighth of them.
        pub waiting as "max-waiting-requests": usize = 1024, "N", Range::at_least(1.0);
        /// Requests of one peer a second; it may save up those of eight seconds.
        pub request_rate as "max-request-rate": f64 = 512.0, "N", Range::above(0.0);
        /// Requests of all peers a second, likewise.
        pub requests_rate as "max-requests-rate": f64 = 4096.0, "N", Range::above(0.0);
        /// Seconds that a question to the table of peers (Kademlia) may take.
        pub table_timeout as "table-timeout": Duration = Duration::from_secs(15), "SECONDS", Range::above(0.0);
        /// Seconds that members are remembered who don't say again that they are there; nodes do so every minute or so.
        pub provider_ttl as "member-ttl": Duration = Duration::from_secs(30 * 60), "SECONDS", Range::above(0.0);
        /// Members of one federation that this node's part of the table remembers.
        pub members as "max-table-members": usize = 64, "N", Range::at_least(1.0);
        /// Federations that it remembers members of.
        pub federations as "max-table-federations": usize = 1024, "N", Range::at_least(1.0);
        /// Members that it remembers in all.
        pub announcements as "max-table-records": usize = 4096, "N", Range::at_least(1.0);
        /// Seconds that gossip remembers what it has seen.
        pub seen_for as "gossip-seen-for": Duration = Duration::from_secs(60), "SECONDS", Range::above(0.0);
        /// Messages of gossip that are taken in that time, and so remembered; what is too much is dropped.
        pub gossip_seen as "max-gossip-seen": usize = 65_536, "N", Range::at_least(1.0);
        /// Messages of gossip that one peer may send a second; it may save up those of eight seconds.
        pub gossip_rate as "max-gossip-rate": f64 = 256.0, "N", Range::above(0.0);
    }
}

/// Authors whose entries a node follows that folds a sample, if it isn't told how many: as many as it has connections, if it
/// isn't told how many of those.
const FEW: usize = 256;

impl NetworkSettings {
    /// The node folds a sample of its peers.
    pub(crate) fn follow_few(&mut self) {
        self.limits.view.get_or_insert(FEW);
    }

    /// For how many authors there must be room: who is connected is followed, however many they are.
    pub(crate) fn most_followed(&self) -> usize {
        let connections = usize::try_from(self.swarm.connections).unwrap_or(usize::MAX);
        self.limits.view.map_or(usize::MAX, |view| view.max(connections))
    }

    /// Errors if a node with a secret can't use one of these addresses: what has a secret goes over TCP.
    pub fn check_private(&self) -> Result<(), Mistake> {
        check_tcp(&self.bootstrap, &self.listen)
    }
}

/// What names several may be a file, whose name may have a comma in it.
impl Item for PeerAddress {
    const FORM: Form = Form::Files;

    /// Reads the list, if the text names a file, and warns of what can't be used of it.
    fn read(text: &str) -> Result<Vec<Self>, String> {
        let list = PeerList::of(text).map_err(|error| error.to_string())?;
        list.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        Ok(list.peers)
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// An address to listen on.
impl Item for Multiaddr {
    fn read(text: &str) -> Result<Vec<Self>, String> {
        Ok(vec![listen_address(text).map_err(|error| error.to_string())?])
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// What a node takes part in the network with.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// How.
    pub settings: NetworkSettings,
    /// What hides the federation from who doesn't have it.
    pub secret: Option<Secret>,
    /// Seeds what is drawn: whom to sync with, jitter.
    pub seed: u64,
    /// While it is `true`, the node closes its connections and makes no new ones: for trying out how a federation copes
    /// when its network fails.
    pub cut: Option<watch::Receiver<bool>>,
    /// The federation's name, for local callers such as `peerfold peers`. Peers are never told.
    pub named: Option<FederationName>,
    /// The node's figures as JSON, for whoever asks it on its own machine.
    pub figures: Option<watch::Receiver<serde_json::Value>>,
}

/// What people call a federation. Its id is the hash of both fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederationName {
    /// Its name.
    pub name: String,
    /// The label of the run.
    pub run: String,
}

/// With a seed that is drawn.
impl From<NetworkSettings> for NetworkOptions {
    fn from(settings: NetworkSettings) -> Self {
        Self { settings, secret: None, seed: rand::random(), cut: None, named: None, figures: None }
    }
}

impl Default for NetworkOptions {
    fn default() -> Self {
        NetworkSettings::default().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sampler_follows_few_unless_it_is_told_how_many() {
        let mut settings = NetworkSettings::default();
        assert_eq!(settings.most_followed(), usize::MAX);
        settings.follow_few();
        assert_eq!(settings.most_followed(), FEW);
        settings.limits.view = Some(1000);
        settings.follow_few();
        assert_eq!(settings.most_followed(), 1000);
        settings.limits.view = Some(1);
        assert_eq!(settings.most_followed(), 256, "as many as are connected");
    }
}
