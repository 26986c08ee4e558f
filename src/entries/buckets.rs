//! The 256 buckets by which entry sets are compared: their fingerprints, sets of them, and positions in the order of
//! pages.

use super::Standing;
use crate::weights::Digest;
use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of buckets in an entry set. Two sets that differ little need to move little.
pub const BUCKETS: usize = 256;

/// An author's bucket: the first byte of the BLAKE3 of its id. By author, so that its entries and the proof that
/// replaces them are compared with each other.
pub(super) fn bucket_of(author: &PeerId) -> u8 {
    blake3::hash(&author.to_bytes()).as_bytes()[0]
}

/// The bucket fingerprints of an entry set: see [`EntrySet::fingerprints`](super::EntrySet::fingerprints).
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprints(pub Box<[[u8; 16]; BUCKETS]>);

impl Fingerprints {
    /// The digest of the set. Digests are equal exactly if the fingerprints are.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("peerfold 2026 folder digest v2");
        hasher.update(self.0.as_flattened());
        Digest::from_bytes(*hasher.finalize().as_bytes())
    }

    /// Whether both have the same of this author, and of the others in its bucket.
    pub fn agree_on(&self, other: &Self, author: &PeerId) -> bool {
        let bucket = usize::from(bucket_of(author));
        self.0[bucket] == other.0[bucket]
    }

    /// The buckets in which `other` has something different. Buckets that are empty there have nothing to give.
    pub fn differing_in(&self, other: &Self) -> BucketSet {
        let mut buckets = BucketSet::default();
        for (bucket, (ours, theirs)) in (0..=u8::MAX).zip(self.0.iter().zip(&*other.0)) {
            if ours != theirs && *theirs != [0; 16] {
                buckets.insert(bucket);
            }
        }
        buckets
    }
}

/// Nobody wants to read 256 hashes.
impl fmt::Debug for Fingerprints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprints({})", self.digest().short())
    }
}

/// A set of buckets, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BucketSet(pub [u8; BUCKETS / 8]);

impl BucketSet {
    /// Every bucket.
    pub const ALL: Self = Self([u8::MAX; BUCKETS / 8]);

    /// The bucket of an author.
    pub fn bucket_of(author: &PeerId) -> u8 {
        bucket_of(author)
    }

    /// Adds one.
    pub fn insert(&mut self, bucket: u8) {
        self.0[usize::from(bucket / 8)] |= 1 << (bucket % 8);
    }

    /// Whether it is in.
    pub fn contains(&self, bucket: u8) -> bool {
        self.0[usize::from(bucket / 8)] & (1 << (bucket % 8)) != 0
    }

    /// Takes one out.
    pub fn remove(&mut self, bucket: u8) {
        self.0[usize::from(bucket / 8)] &= !(1 << (bucket % 8));
    }

    /// The buckets in it, in order.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|&bucket| self.contains(bucket))
    }

    /// Whether none is in.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; BUCKETS / 8]
    }
}

/// How far a page of sync has got: the bucket, then the text of a key, or of an author for a proof. Pages go in this
/// order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The bucket.
    pub bucket: u8,
    /// The last item's key or author.
    pub text: String,
}

impl Position {
    /// Where this stands.
    pub fn of(standing: &Standing) -> Self {
        let (author, text) = match standing {
            Standing::Entry(entry) => (entry.key.author(), entry.key.to_string()),
            Standing::Proof(proof) => (proof.author(), proof.author().to_string()),
        };
        Self { bucket: bucket_of(&author), text }
    }

    /// The author, and the name in its key unless it was a proof; `None` if the text, which may be a peer's, is neither.
    pub(super) fn parsed(&self) -> Option<(PeerId, Option<&str>)> {
        let (author, name) = match self.text.split_once('/') {
            Some((author, name)) => (author, Some(name)),
            None => (self.text.as_str(), None),
        };
        Some((author.parse().ok()?, name))
    }
}
