//! The proof that an author signed two different entries under one number, for which an
//! [`EntrySet`](super::EntrySet) excludes it.

use crate::weights::{EntryError, SignedEntry};
use libp2p_identity::PeerId;
use std::{fmt, sync::Arc};

/// Two different entries that one author signed under one number: the proof of a cheat or of a copied home.
#[derive(Debug, Clone, PartialEq)]
pub struct Conflict {
    /// The two entries, the one with the smaller hash first.
    pub entries: [Arc<SignedEntry>; 2],
}

/// Why bytes aren't a proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// One of the two isn't a valid entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// They are not two different entries of one author and federation under one number.
    #[error("the two entries prove nothing against their author")]
    NoProof,
}

impl Conflict {
    /// The proof that these two make, in whichever order they come; `None` if they are not two different entries of one
    /// author and federation under one number.
    pub fn new(one: Arc<SignedEntry>, other: Arc<SignedEntry>) -> Option<Self> {
        let one_number = one.key.author() == other.key.author()
            && one.federation == other.federation
            && one.sequence == other.sequence;
        if !one_number || one.hash() == other.hash() {
            return None;
        }
        Some(Self { entries: if one.hash() < other.hash() { [one, other] } else { [other, one] } })
    }

    /// Reads and verifies the bytes of two signed entries.
    pub fn decode(entries: [&[u8]; 2]) -> Result<Self, ProofError> {
        let [one, other] = entries.map(SignedEntry::decode);
        Self::new(Arc::new(one?), Arc::new(other?)).ok_or(ProofError::NoProof)
    }

    /// The author who signed both.
    pub fn author(&self) -> PeerId {
        self.entries[0].key.author()
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = &self.entries;
        write!(
            f,
            "{} signed both {:?} and {:?} under number {}: a cheat, or a copied home directory",
            self.author(),
            first.key.name(),
            second.key.name(),
            first.sequence
        )
    }
}
