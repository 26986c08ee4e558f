//! The network: gossip, sync, fetching, finding peers.
//!
//! [`core`] decides and does no I/O; `network` runs libp2p's swarm and the cache for it. `bootstrap_node` is the other kind
//! of node, where the others find each other; `status_socket` tells this machine's owner who is connected.

mod about;
mod addresses;
mod admission;
mod announcements;
mod behaviour;
mod bootstrap_node;
mod candidates;
mod check;
mod closing;
#[doc(hidden)]
pub mod core;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod dial_back;
mod dial_error;
mod doors;
mod figures;
mod gates;
mod lookout;
mod members_only;
mod message;
mod metered_gossip;
pub(crate) mod network;
mod patient;
mod peer_list;
mod private;
mod protocols;
mod punch_again;
mod redial;
mod relaying;
mod reservations;
mod room;
mod settings;
mod shortage;
mod status;
#[cfg(unix)]
mod status_socket;
mod surroundings;
mod transport;
mod trust;
mod wire;

#[cfg(unix)]
pub use self::status_socket::{StatusError, StatusSocket};
pub use self::{
    about::Standing,
    addresses::{AddressError, PeerAddress, listen_address},
    bootstrap_node::{BootstrapFigures, BootstrapNode},
    check::{Between, CheckReport, CheckedAddress, OwnAddress, check},
    core::HandedOver,
    figures::{DroppedPeer, NetworkFigures, ReachedPeer},
    peer_list::{PeerList, PeerListError},
    relaying::RelayLimits,
    settings::{FederationName, NetworkOptions, NetworkSettings, SwarmLimits},
    status::{BannedPeer, NetworkStatus, PeerRole, PeerStatus, Refusals, SoughtPeer, Transport, Way},
    surroundings::Surroundings,
    transport::NetworkError,
};
// Only tests speak the protocols by themselves.
#[doc(hidden)]
pub use self::{
    message::{Blob, BlobRequest, BlobResponse, Item, MAX_BLOBS, MAX_ITEMS, MAX_NAMED, SyncRequest, SyncResponse},
    protocols::{BLOB_PROTOCOL, SYNC_PROTOCOL, SYNC_PROTOCOL_2},
    wire::{BlobCodec, SyncCodec},
};

/// Name of the socket in a node's home where a running node tells how its network stands.
pub const NETWORK_SOCKET: &str = "network.sock";
