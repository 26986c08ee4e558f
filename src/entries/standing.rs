//! An item of an entry set, as peers are told of it.

use super::Conflict;
use crate::weights::{EntryHash, SignedEntry};
use libp2p_identity::PeerId;
use std::sync::Arc;

/// How one side names to the other what it has in a bucket: the first bytes of an entry's hash, or of the BLAKE3 of an
/// excluded author's id. Whoever makes two that begin alike makes them of its own, and they hide only each other.
pub type ShortHash = [u8; 8];

/// An item of an entry set, as peers are told of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// The newest entry of a key.
    Entry(Arc<SignedEntry>),
    /// The proof for which an author is excluded, in place of all its entries.
    Proof(Conflict),
}

impl Standing {
    /// How this is named to a peer.
    pub fn short_hash(&self) -> ShortHash {
        match self {
            Self::Entry(entry) => of_entry(&entry.hash()),
            Self::Proof(proof) => of_excluded(&proof.author()),
        }
    }
}

pub(super) fn of_entry(entry: &EntryHash) -> ShortHash {
    first_bytes(entry.as_bytes())
}

/// Whatever proves it.
pub(super) fn of_excluded(author: &PeerId) -> ShortHash {
    first_bytes(blake3::hash(&author.to_bytes()).as_bytes())
}

fn first_bytes(hash: &[u8; 32]) -> ShortHash {
    let (first, _) = hash.split_at(8);
    first.try_into().unwrap_or_default()
}
