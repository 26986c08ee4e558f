//! An entry set as peers see it: in buckets, with fingerprints and pages.

use super::EntrySet;
use crate::{
    entries::{
        BUCKETS, BucketSet, Fingerprints, Position, ShortHash, Standing,
        buckets::bucket_of,
        standing::{of_entry, of_excluded},
    },
    weights::{Digest, KeyPrefix, SignedEntry},
};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, OnceLock},
};

#[derive(Debug, Default)]
struct Bucket {
    authors: BTreeSet<PeerId>,
    /// The fingerprint of these authors' entries and proofs; unset after a change, until somebody asks.
    fingerprint: OnceLock<[u8; 16]>,
}

/// Which authors are in which bucket.
#[derive(Debug)]
pub(super) struct Buckets(Vec<Bucket>);

impl Buckets {
    pub(super) fn new() -> Self {
        Self((0..BUCKETS).map(|_| Bucket::default()).collect())
    }

    /// Something of this author has changed. `stands` is false if nothing of it is left.
    pub(super) fn changed(&mut self, author: PeerId, stands: bool) {
        let bucket = &mut self.0[usize::from(bucket_of(&author))];
        bucket.fingerprint = OnceLock::new();
        if stands {
            bucket.authors.insert(author);
        } else {
            bucket.authors.remove(&author);
        }
    }
}

impl EntrySet {
    /// One hash over all that is held, tombstones included, and over the excluded authors. Two sets have equal digests
    /// if and only if they have equal fingerprints.
    pub fn digest(&self) -> Digest {
        self.fingerprints().digest()
    }

    /// One hash for each bucket, over the hashes of its standing entries, tombstones included, and its excluded authors;
    /// all zero for an empty bucket. Only what has changed since it was last asked for is hashed again.
    pub fn fingerprints(&self) -> Fingerprints {
        let mut all = Box::new([[0; 16]; BUCKETS]);
        for (fingerprint, bucket) in all.iter_mut().zip(&self.buckets.0) {
            *fingerprint = *bucket.fingerprint.get_or_init(|| self.fingerprint(bucket));
        }
        Fingerprints(all)
    }

    fn fingerprint(&self, bucket: &Bucket) -> [u8; 16] {
        if bucket.authors.is_empty() {
            return [0; 16];
        }
        let mut hasher = blake3::Hasher::new_derive_key("peerfold 2026 bucket fingerprint v1");
        for author in &bucket.authors {
            if self.conflicts.contains_key(author) {
                // Not the proof itself: there may be several, and one is enough.
                hasher.update(b"x").update(&author.to_bytes());
            }
            for entry in self.named_after(*author, None) {
                hasher.update(b"e").update(entry.hash().as_bytes());
            }
        }
        let mut fingerprint = [0; 16];
        hasher.finalize_xof().fill(&mut fingerprint);
        fingerprint
    }

    /// The items in these buckets after a position, at most `limit`, and the position to continue from if there are
    /// more. The order is that of [`Position`]. After an impossible position there is nothing.
    pub fn items_after(
        &self,
        buckets: &BucketSet,
        after: Option<&Position>,
        limit: usize,
    ) -> (Vec<Standing>, Option<Position>) {
        self.others_after(buckets, after, &BTreeSet::new(), limit)
    }

    /// The same of those that aren't named. It looks at as many items as there are names, and `limit` more.
    pub fn others_after(
        &self,
        buckets: &BucketSet,
        after: Option<&Position>,
        named: &BTreeSet<ShortHash>,
        limit: usize,
    ) -> (Vec<Standing>, Option<Position>) {
        let (first, mut from) = match after.map(|after| (after.bucket, after.parsed())) {
            None => (0, None),
            Some((bucket, Some(parsed))) => (bucket, Some(parsed)),
            Some((_, None)) => return (Vec::new(), None),
        };
        let mut items = Vec::new();
        for bucket in (first..=u8::MAX).filter(|&bucket| buckets.contains(bucket)) {
            let from = from.take().filter(|_| bucket == first);
            let authors = &self.buckets.0[usize::from(bucket)].authors;
            let lower = from.map_or(Bound::Unbounded, |(author, _)| Bound::Included(author));
            for &author in authors.range((lower, Bound::Unbounded)) {
                let after = from.filter(|(first, _)| *first == author).map(|(_, name)| name);
                // The author's own text comes before all its keys.
                let proof = self.conflicts.get(&author).filter(|_| after.is_none()).cloned();
                let proof = proof.filter(|_| !named.contains(&of_excluded(&author)));
                let entries = self.named_after(author, after.flatten());
                let entries = entries.filter(|entry| !named.contains(&of_entry(&entry.hash()))).cloned();
                items.extend(proof.map(Standing::Proof).into_iter().chain(entries.map(Standing::Entry)));
                if items.len() > limit {
                    items.truncate(limit);
                    let next = items.last().map(Position::of);
                    return (items, next);
                }
            }
        }
        (items, None)
    }

    /// How many items are in a bucket.
    pub fn count_in(&self, bucket: u8) -> usize {
        let of_author = |author| self.by_sequence.get(author).map_or(1, BTreeMap::len);
        self.buckets.0[usize::from(bucket)].authors.iter().map(of_author).sum()
    }

    /// The entries of an author whose names come after this one, in order of their names.
    fn named_after<'a>(
        &'a self,
        author: PeerId,
        name: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<SignedEntry>> + 'a {
        let from = KeyPrefix::Name(author, name.unwrap_or_default()).first();
        let later = self.held.range((from.as_ref().map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded));
        later.map(|(_, held)| &held.entry).take_while(move |entry| entry.key.author() == author)
    }
}
