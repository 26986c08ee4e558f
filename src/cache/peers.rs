//! The peers a node has met, remembered so that it can dial them when it starts again.

use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most peers remembered.
pub const MAX_PEERS: usize = 256;
/// Most addresses of a remembered peer.
pub const MAX_PEER_ADDRESSES: usize = 16;
/// Longest address that is remembered, in bytes.
pub const MAX_ADDRESS_BYTES: usize = 256;

/// A peer that was met, to be dialled when the node starts again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// Who.
    pub peer: PeerId,
    /// Where it listened. The first [`MAX_PEER_ADDRESSES`] are kept, without those longer than [`MAX_ADDRESS_BYTES`].
    pub addresses: Vec<String>,
    /// When it was last seen, in seconds since 1970.
    pub last_seen: u64,
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    addresses: Vec<String>,
    last_seen: u64,
}

impl KnownPeer {
    /// The record of this peer in the index.
    pub(super) fn encode(&self) -> Vec<u8> {
        let encoded = Encoded { addresses: self.addresses.clone(), last_seen: self.last_seen };
        postcard::to_stdvec(&encoded).expect("writing to memory, and no map or sequence without a length")
    }

    pub(super) fn decode(peer: &[u8], record: &[u8]) -> Option<Self> {
        let Encoded { addresses, last_seen } = postcard::from_bytes(record).ok()?;
        Some(Self { peer: PeerId::from_bytes(peer).ok()?, addresses, last_seen })
    }
}

/// The peers that are remembered.
#[derive(Default)]
pub(super) struct Peers(BTreeMap<PeerId, KnownPeer>);

impl Peers {
    /// The peers of an index, up to the limit.
    pub(super) fn new(peers: impl IntoIterator<Item = KnownPeer>) -> Self {
        let mut known = Self::default();
        peers.into_iter().for_each(|peer| drop(known.remember(&peer)));
        known
    }

    /// Remembers a peer, within the limits. Returns its record, and the peer that was dropped for it.
    pub(super) fn remember(&mut self, peer: &KnownPeer) -> (KnownPeer, Option<PeerId>) {
        let short = peer.addresses.iter().filter(|address| address.len() <= MAX_ADDRESS_BYTES);
        let addresses = short.take(MAX_PEER_ADDRESSES).cloned().collect();
        let bounded = KnownPeer { addresses, ..*peer };
        self.0.insert(peer.peer, bounded.clone());
        let longest_unseen =
            || self.0.values().min_by_key(|known| (known.last_seen, known.peer)).map(|known| known.peer);
        let gone = if self.0.len() > MAX_PEERS { longest_unseen() } else { None };
        gone.iter().for_each(|gone| drop(self.0.remove(gone)));
        (bounded, gone)
    }

    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.0.remove(peer);
    }

    /// All of them, most recently seen first.
    pub(super) fn list(&self) -> Vec<KnownPeer> {
        let mut peers: Vec<KnownPeer> = self.0.values().cloned().collect();
        peers.sort_by_key(|known| std::cmp::Reverse(known.last_seen));
        peers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(last_seen: u64) -> KnownPeer {
        KnownPeer { peer: PeerId::random(), addresses: vec!["/ip4/127.0.0.1/tcp/1".to_owned()], last_seen }
    }

    #[test]
    fn the_longest_unseen_go_first() {
        let mut peers = Peers::default();
        let all: Vec<KnownPeer> = (0..MAX_PEERS as u64 + 10).map(seen).collect();
        all.iter().rev().for_each(|peer| drop(peers.remember(peer)));
        let newest_first: Vec<KnownPeer> = all[10..].iter().rev().cloned().collect();
        assert_eq!(peers.list(), newest_first);
        assert_eq!(peers.remember(&all[0]).1, Some(all[0].peer));
        peers.forget(&all[20].peer);
        assert_eq!(peers.remember(&all[0]).1, None);
    }

    #[test]
    fn what_is_said_of_a_peer_is_bounded() {
        let mut peer = seen(1);
        peer.addresses = (0..40).map(|number| "x".repeat(MAX_ADDRESS_BYTES + 1 - number % 2)).collect();
        let (bounded, _) = Peers::default().remember(&peer);
        assert_eq!(bounded.addresses.len(), MAX_PEER_ADDRESSES);
        assert!(bounded.addresses.iter().all(|address| address.len() <= MAX_ADDRESS_BYTES));
        let record = bounded.encode();
        assert_eq!(KnownPeer::decode(&peer.peer.to_bytes(), &record), Some(bounded));
        assert_eq!(KnownPeer::decode(&peer.peer.to_bytes(), &record[1..]), None);
        assert_eq!(KnownPeer::decode(b"nobody", &record), None);
    }
}
