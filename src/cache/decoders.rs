//! The decoders of this layer, as fuzzers try them.
#![allow(clippy::unwrap_used)]

use super::{files::decode_proof, index, peers::Peers};
use crate::{
    cache::{KnownPeer, MAX_ADDRESS_BYTES, MAX_PEER_ADDRESSES},
    untrusted::{Target, check_told, told},
    weights::decoders::{entries, keypair},
};

/// A peer id's length, the id, and the record.
fn known_peer(bytes: &[u8]) {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let Some((peer, record)) = rest.split_at_checked(length.into()) else { return };
    let Some(known) = KnownPeer::decode(peer, record) else { return };
    let (bounded, _) = Peers::default().remember(&known);
    assert!(bounded.addresses.len() <= MAX_PEER_ADDRESSES);
    assert!(bounded.addresses.iter().all(|address| address.len() <= MAX_ADDRESS_BYTES));
    assert_eq!(KnownPeer::decode(&bounded.peer.to_bytes(), &bounded.encode()), Some(bounded));
}

fn peers() -> Vec<Vec<u8>> {
    let peer = keypair(1).public().to_peer_id();
    let known = KnownPeer { peer, addresses: vec!["/ip4/192.0.2.1/tcp/4600".to_owned(); 2], last_seen: 1 << 40 };
    let id = peer.to_bytes();
    vec![[&[id.len() as u8][..], &id, &known.encode()].concat()]
}

fn saved_proof(bytes: &[u8]) {
    told(decode_proof(bytes)).into_iter().for_each(check_told);
}

fn proofs() -> Vec<Vec<u8>> {
    let [one, other, ..] = &entries()[..] else { return Vec::new() };
    let prefixed = |bytes: &[u8]| [&(bytes.len() as u16).to_le_bytes(), bytes].concat();
    vec![[prefixed(one.bytes()), prefixed(other.bytes())].concat()]
}

fn index_row(bytes: &[u8]) {
    let (hash, number) = bytes.split_at(bytes.len().min(32));
    let _ = index::decode(hash, number);
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    vec![
        Target { name: "known-peer", run: known_peer, seeds: peers },
        Target { name: "saved-proof", run: saved_proof, seeds: proofs },
        Target { name: "index-row", run: index_row, seeds: || vec![vec![1; 40]] },
    ]
}
