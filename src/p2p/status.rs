//! A running node's network, as `peerfold peers` shows it.

use serde::{Deserialize, Serialize};

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP with Noise and Yamux.
    Tcp,
    /// QUIC.
    Quic,
}

/// How a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// By a connection that one side has made to the other's address.
    #[default]
    Direct,
    /// By one that both sides have made at the same moment, through what is between them.
    Punched,
    /// By way of a relay, which passes on entries and, unless it is allowed, no weights.
    Relayed,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Punched => "punched",
            Self::Relayed => "relayed",
        })
    }
}

/// A peer that is looked for and isn't connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoughtPeer {
    /// Its peer id.
    pub peer: String,
    /// What the allow-list calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why it couldn't be reached the last time: each address that was tried, and the reason.
    pub reason: String,
    /// Seconds since then.
    pub seconds_ago: u64,
}

/// What a peer is to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerRole {
    /// A member of the same federation.
    Member,
    /// On the bootstrap list, but not a member.
    Bootstrap,
    /// Neither, or not yet known.
    Other,
}

/// A connected peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its peer id.
    pub peer: String,
    /// What the allow-list calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is.
    pub role: PeerRole,
    /// Its address on the oldest connection; if it is reached by relays alone, the relay's.
    pub address: String,
    /// How it is reached.
    #[serde(default)]
    pub way: Way,
    /// The transport of that connection.
    pub transport: Transport,
    /// Entries of this author that are known.
    pub entries: usize,
    /// Bytes of messages sent to it.
    pub sent: u64,
    /// Bytes of messages received from it.
    pub received: u64,
    /// Seconds since the connection was made.
    pub connected_seconds: u64,
    /// Seconds since it was last heard of.
    pub seen_seconds_ago: u64,
}

/// A peer that was dropped for what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BannedPeer {
    /// Its peer id.
    pub peer: String,
    /// What it did.
    pub reason: String,
    /// Seconds until it is let in again.
    pub seconds: u64,
}

/// What was refused since the node joined, because there was no room for it or its peer sent too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Refusals {
    /// Connections.
    pub connections: u64,
    /// Requests.
    pub requests: u64,
    /// Messages and packets of gossip.
    pub gossip: u64,
}

impl Refusals {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.connections.saturating_add(self.requests).saturating_add(self.gossip)
    }
}

/// A running node's network, as it tells it to `peerfold peers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// The node's peer id.
    pub peer: String,
    /// The federation's name, if the node says it.
    #[serde(default)]
    pub name: Option<String>,
    /// The label of its run, if the node says it.
    #[serde(default)]
    pub run: Option<String>,
    /// The federation's id: hash of name and run.
    pub federation: String,
    /// Where it listens, each with `/p2p/<peer id>`.
    pub listening: Vec<String>,
    /// Entries known, tombstones included.
    pub entries: usize,
    /// Authors known.
    pub authors: usize,
    /// Bytes of messages sent to peers.
    pub sent: u64,
    /// Bytes of messages received.
    pub received: u64,
    /// Bytes in the cache.
    pub cached: u64,
    /// The figures of the whole node as they were at its last step, as JSON: what its folder, folds, training and run have
    /// counted. `None` if a program uses the network alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<serde_json::Value>,
    /// The connected peers, members first.
    pub peers: Vec<PeerStatus>,
    /// Where others are told to find it, relays included.
    #[serde(default)]
    pub announced: Vec<String>,
    /// Peers that are looked for and couldn't be reached.
    #[serde(default)]
    pub sought: Vec<SoughtPeer>,
    /// Bytes of answers that peers have yet to read.
    #[serde(default)]
    pub unread: u64,
    /// Connections that there may be; fewer than the settings say if file descriptors are short.
    #[serde(default)]
    pub places: usize,
    /// Peers that are kept out.
    #[serde(default)]
    pub banned: Vec<BannedPeer>,
    /// What was refused.
    #[serde(default)]
    pub refused: Refusals,
    /// Requests for parts of values that were put off, because peers had been given as many bytes as they may be for then.
    #[serde(default)]
    pub put_off: u64,
}
