//! The cache's bookkeeping, without I/O: which blobs are stored, and which values name them.

use crate::weights::{BlobHash, Manifest, Root};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long one of this node's own values is kept after something of it was given to a peer, although newer ones have
/// overtaken it: as long as an answer may take to begin. Whoever takes longer to fetch a value than its author publishes
/// two more would never come to its end.
const GIVEN_FOR: Duration = Duration::from_secs(60);

/// A distinct chunk of a value, and its length.
pub(super) type Chunk = (BlobHash, u64);

/// The distinct chunks of a manifest in ascending order, or `None` if it lists one with two lengths: no bytes have
/// both, so that there is no such value.
pub(super) fn distinct_chunks(manifest: &Manifest) -> Option<Arc<[Chunk]>> {
    let listed = manifest.chunks().iter().enumerate();
    let mut chunks: Vec<Chunk> = listed.map(|(number, &hash)| (hash.into(), manifest.plan().length(number))).collect();
    chunks.sort_unstable();
    chunks.dedup();
    chunks.windows(2).all(|pair| pair[0].0 != pair[1].0).then(|| chunks.into())
}

/// How much a value that isn't this node's own is worth, from the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// Nobody folds it.
    Spare,
    /// The newest update of an author of whom little is known.
    Stranger,
    /// The newest update of one who is known.
    Known,
}

/// A value whose manifest is known.
struct Known {
    chunks: Arc<[Chunk]>,
    /// When it was last used, by the contents' clock.
    used: u64,
    /// When it was last learnt.
    since: u64,
    /// It was kept as this node's own, by some retention.
    own: bool,
}

/// A blob that is named or stored.
#[derive(Default)]
struct Blob {
    /// Known values that name it, as a chunk or as their manifest.
    references: u32,
    /// Its length, if it is stored.
    stored: Option<u64>,
    /// When it was last given to a peer.
    given: Option<Instant>,
}

/// Which values refer to which blobs. Equal blobs are stored once, and a blob is kept as long as a known value names
/// it.
#[derive(Default)]
pub(super) struct Contents {
    values: HashMap<Root, Known>,
    blobs: HashMap<BlobHash, Blob>,
    /// Blobs that were stored when the last value that names them was forgotten.
    garbage: Vec<BlobHash>,
    pins: HashMap<Root, u32>,
    /// What may be evicted, by the latest retention.
    evictable: BTreeMap<Root, Worth>,
    used: u64,
    clock: u64,
}

impl Contents {
    /// Records a value. `used` is its earlier place in the order of uses, if it has one.
    pub(super) fn learn(&mut self, root: Root, chunks: Arc<[Chunk]>, used: Option<u64>) {
        self.clock = self.clock.max(used.unwrap_or(0)) + 1;
        if let Some(known) = self.values.get_mut(&root) {
            known.since = self.clock;
            return;
        }
        for hash in named(root, &chunks) {
            self.blobs.entry(hash).or_default().references += 1;
        }
        self.values.insert(root, Known { chunks, used: used.unwrap_or(self.clock), since: self.clock, own: false });
    }

    /// Forgets a value; what it alone names becomes garbage, see [`take_garbage`](Self::take_garbage).
    pub(super) fn forget(&mut self, root: Root) {
        let Some(known) = self.values.remove(&root) else { return };
        for hash in named(root, &known.chunks) {
            let Some(blob) = self.blobs.get_mut(&hash) else { continue };
            blob.references -= 1;
            match (blob.references, blob.stored) {
                (0, Some(_)) => self.garbage.push(hash),
                (0, None) => drop(self.blobs.remove(&hash)),
                _ => {}
            }
        }
    }

    /// At most this many stored blobs that nothing names any more. They no longer count as stored.
    pub(super) fn take_garbage(&mut self, most: usize) -> Vec<BlobHash> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(hash) = self.garbage.pop()
        {
            // A value learnt since then may name it again.
            if self.blobs.get(&hash).is_some_and(|blob| blob.references == 0) {
                self.removed(hash);
                taken.push(hash);
            }
        }
        taken
    }

    /// Records a stored blob.
    pub(super) fn stored(&mut self, hash: BlobHash, length: u64) {
        let blob = self.blobs.entry(hash).or_default();
        self.used = self.used - blob.stored.unwrap_or(0) + length;
        blob.stored = Some(length);
        if blob.references == 0 {
            self.garbage.push(hash);
        }
    }

    /// Records that a blob is no longer stored.
    pub(super) fn removed(&mut self, hash: BlobHash) {
        let Some(blob) = self.blobs.get_mut(&hash) else { return };
        self.used -= blob.stored.take().unwrap_or(0);
        if blob.references == 0 {
            self.blobs.remove(&hash);
        }
    }

    /// Whether this value's manifest is known.
    pub(super) fn knows(&self, root: Root) -> bool {
        self.values.contains_key(&root)
    }

    /// Whether a known value names this blob.
    pub(super) fn is_named(&self, hash: BlobHash) -> bool {
        self.blobs.get(&hash).is_some_and(|blob| blob.references > 0)
    }

    /// The length of a stored blob.
    pub(super) fn length(&self, hash: BlobHash) -> Option<u64> {
        self.blobs.get(&hash)?.stored
    }

    /// The length that a known value lists this chunk with.
    pub(super) fn listed_length(&self, root: Root, chunk: BlobHash) -> Option<u64> {
        let chunks = &self.values.get(&root)?.chunks;
        chunks.binary_search_by_key(&chunk, |&(hash, _)| hash).ok().map(|at| chunks[at].1)
    }

    /// Whether a value is known, and its manifest stored.
    pub(super) fn has_manifest(&self, root: Root) -> bool {
        self.values.contains_key(&root) && self.length(root.into()).is_some()
    }

    /// Whether a chunk is stored with this length.
    pub(super) fn has_chunk(&self, (hash, length): Chunk) -> bool {
        self.length(hash) == Some(length)
    }

    /// Whether a value's manifest and all its chunks are stored.
    pub(super) fn is_whole(&self, root: Root) -> bool {
        let chunks = self.values.get(&root).map(|known| &known.chunks);
        self.has_manifest(root) && chunks.is_some_and(|chunks| chunks.iter().all(|&chunk| self.has_chunk(chunk)))
    }

    /// Records a use of a value, and returns its new place in the order of uses.
    pub(super) fn touch(&mut self, root: Root) -> Option<u64> {
        let known = self.values.get_mut(&root)?;
        self.clock += 1;
        known.used = self.clock;
        Some(self.clock)
    }

    /// Rises with every value that is learnt.
    pub(super) fn clock(&self) -> u64 {
        self.clock
    }

    /// Keeps a value from being forgotten. Counts with other pins of the same value.
    pub(super) fn pin(&mut self, root: Root) {
        *self.pins.entry(root).or_default() += 1;
    }

    /// Takes back one [`pin`](Self::pin).
    pub(super) fn unpin(&mut self, root: Root) {
        if let Some(pins) = self.pins.get_mut(&root) {
            *pins -= 1;
            if *pins == 0 {
                self.pins.remove(&root);
            }
        }
    }

    /// Records that a blob was given to a peer.
    pub(super) fn given(&mut self, hash: BlobHash, now: Instant) {
        if let Some(blob) = self.blobs.get_mut(&hash) {
            blob.given = Some(now);
        }
    }

    /// Whether a peer is fetching this value, as far as can be told from what it alone names.
    fn is_being_given(&self, root: Root, now: Instant) -> bool {
        let is_recent = |hash| {
            let blob = self.blobs.get(&hash).filter(|blob| blob.references == 1);
            blob.and_then(|blob| blob.given).is_some_and(|given| now.saturating_duration_since(given) < GIVEN_FOR)
        };
        self.values.get(&root).is_some_and(|known| named(root, &known.chunks).any(is_recent))
    }

    /// Records what counts: what is in `evictable` may be evicted. Returns the values known since before `clock` that are
    /// neither there nor kept, and not pinned. Such a value that was this node's own stays while it is
    /// [given](Self::given) to peers, and may be evicted first.
    pub(super) fn retain(
        &mut self,
        kept: &BTreeSet<Root>,
        mut evictable: BTreeMap<Root, Worth>,
        clock: u64,
        now: Instant,
    ) -> Vec<Root> {
        for root in kept {
            if let Some(known) = self.values.get_mut(root) {
                known.own = true;
            }
        }
        let unnamed = self.values.iter().filter(|(root, known)| {
            known.since <= clock
                && !kept.contains(root)
                && !evictable.contains_key(root)
                && !self.pins.contains_key(root)
        });
        let unnamed: Vec<(Root, bool)> = unnamed.map(|(&root, known)| (root, known.own)).collect();
        let (given, unnamed): (Vec<_>, Vec<_>) =
            unnamed.into_iter().partition(|&(root, own)| own && self.is_being_given(root, now));
        evictable.extend(given.into_iter().map(|(root, _)| (root, Worth::Spare)));
        evictable.retain(|root, _| !kept.contains(root));
        self.evictable = evictable;
        unnamed.into_iter().map(|(root, _)| root).collect()
    }

    /// How much a value is worth, if the latest retention says so and it may be evicted.
    pub(super) fn worth(&self, root: Root) -> Option<Worth> {
        self.evictable.get(&root).copied()
    }

    /// What may be evicted that isn't worth more than this: what is worth least first, and of that the least recently
    /// used.
    pub(super) fn evictable(&self, most: Worth) -> Vec<Root> {
        let free = self.evictable.iter().filter(|(root, worth)| **worth <= most && !self.pins.contains_key(root));
        let mut in_order: Vec<(Worth, u64, Root)> =
            free.filter_map(|(root, &worth)| self.values.get(root).map(|known| (worth, known.used, *root))).collect();
        in_order.sort_unstable();
        in_order.into_iter().map(|(.., root)| root).collect()
    }

    /// Bytes that would be free without these values.
    pub(super) fn freed_by(&self, values: &[Root]) -> u64 {
        let mut names: HashMap<BlobHash, u32> = HashMap::new();
        for (root, known) in values.iter().filter_map(|root| Some((root, self.values.get(root)?))) {
            named(*root, &known.chunks).for_each(|hash| *names.entry(hash).or_default() += 1);
        }
        let only =
            names.iter().filter_map(|(hash, &count)| self.blobs.get(hash).filter(|blob| blob.references == count));
        only.filter_map(|blob| blob.stored).sum()
    }

    /// Whether it is pinned.
    pub(super) fn is_pinned(&self, root: Root) -> bool {
        self.pins.contains_key(&root)
    }

    /// Bytes of all stored blobs.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// All stored blobs with their lengths.
    pub(super) fn blobs(&self) -> HashSet<(BlobHash, u64)> {
        self.blobs.iter().filter_map(|(&hash, blob)| blob.stored.map(|length| (hash, length))).collect()
    }

    /// All known values with their places in the order of uses.
    pub(super) fn values(&self) -> HashSet<(Root, u64)> {
        self.values.iter().map(|(&root, known)| (root, known.used)).collect()
    }

    /// The chunks of all known values.
    pub(super) fn listed(&self) -> impl Iterator<Item = Chunk> {
        self.values.values().flat_map(|known| known.chunks.iter().copied())
    }
}

/// What a value names: its manifest and its distinct chunks.
fn named(root: Root, chunks: &[Chunk]) -> impl Iterator<Item = BlobHash> {
    std::iter::once(root.into()).chain(chunks.iter().map(|&(hash, _)| hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(number: u8, shared: BlobHash) -> (Root, Arc<[Chunk]>) {
        let mut chunks = [(shared, 1), (BlobHash::of(&[number]), 1)];
        chunks.sort_unstable();
        (Root::from_bytes([number; 32]), Arc::new(chunks))
    }

    #[test]
    fn an_own_value_that_is_overtaken_stays_while_a_peer_fetches_it() {
        let shared = BlobHash::of(b"in all of them");
        let (own, others, never_own) = (value(1, shared), value(2, shared), value(3, shared));
        let mut contents = Contents::default();
        for (root, chunks) in [&own, &others, &never_own] {
            contents.learn(*root, chunks.clone(), None);
            chunks.iter().for_each(|&(hash, length)| contents.stored(hash, length));
        }
        let began = Instant::now();
        let retained = |contents: &mut Contents, kept: &[Root], now| {
            let kept = kept.iter().copied().collect();
            let mut unnamed = contents.retain(&kept, BTreeMap::new(), contents.clock(), now);
            unnamed.sort();
            unnamed
        };
        assert_eq!(retained(&mut contents, &[own.0, others.0], began), [never_own.0]);
        // What is in several values says nothing of any one.
        contents.given(shared, began);
        contents.given(BlobHash::of(&[3]), began);
        assert_eq!(retained(&mut contents, &[others.0], began), [own.0, never_own.0]);
        contents.given(BlobHash::of(&[1]), began);
        let later = began + GIVEN_FOR / 2;
        assert_eq!(retained(&mut contents, &[others.0], later), [never_own.0]);
        assert_eq!(contents.worth(own.0), Some(Worth::Spare), "it goes first when there is no room");
        assert_eq!(retained(&mut contents, &[others.0], began + GIVEN_FOR), [own.0, never_own.0]);
    }
}
