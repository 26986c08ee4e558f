//! The names of the protocols.

use libp2p::StreamProtocol;

/// Sync of entries, as first released.
pub const SYNC_PROTOCOL: StreamProtocol = StreamProtocol::new("/peerfold/sync/1");
/// The same, with [`Others`](super::SyncRequest::Others).
pub const SYNC_PROTOCOL_2: StreamProtocol = StreamProtocol::new("/peerfold/sync/2");
/// Blobs: manifests and chunks.
pub const BLOB_PROTOCOL: StreamProtocol = StreamProtocol::new("/peerfold/blob/1");
/// What a node says of itself to who checks it.
pub(super) const ABOUT_PROTOCOL: StreamProtocol = StreamProtocol::new("/peerfold/about/1");
/// Kademlia, one for all federations.
pub(super) const KADEMLIA_PROTOCOL: StreamProtocol = StreamProtocol::new("/peerfold/kad/1");
/// What nodes call themselves when they identify themselves.
pub(super) const IDENTIFY_PROTOCOL: &str = "/peerfold/1";
