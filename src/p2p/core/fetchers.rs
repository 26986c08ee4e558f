//! The peers that fetch a value at the same time as this node: what each of them has of it, and whose turn it is to take
//! which chunk from whoever has all of the value.

use super::RequestId;
use crate::weights::BlobHash;
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Chunks that a peer is told of together, or after this time those that there are.
pub(super) const TOGETHER: usize = 8;
pub(super) const TOLD_EVERY: Duration = Duration::from_millis(100);
/// How long this node waits for the others' chunks, when it has nothing else to ask for, before it takes theirs: twice as
/// long as a chunk takes from who has all of the value, which they all ask. At first that isn't known.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
const SHORTEST_PATIENCE: Duration = Duration::from_millis(300);
const LONGEST_PATIENCE: Duration = Duration::from_secs(10);

/// Those who fetch one value.
#[derive(Debug, Default)]
pub(super) struct Fetchers {
    pub(super) others: BTreeMap<PeerId, Fetcher>,
    /// The chunks that have come here, in their order, or were here before.
    pub(super) came: Vec<BlobHash>,
    /// Whether members were told that this node fetches it.
    pub(super) invited: bool,
    /// When something last got on: a blob came, was asked for, or was told of.
    pub(super) progress: Duration,
    /// How long a chunk takes at present from who has all of the value.
    usual: Option<Duration>,
}

/// One of them.
#[derive(Debug, Default)]
pub(super) struct Fetcher {
    /// What it has told, as far as it is missing here.
    pub(super) has: BTreeSet<BlobHash>,
    /// How many of the chunks that have come here it was told of.
    pub(super) told: usize,
    pub(super) told_at: Duration,
    /// The notice that it hasn't answered yet. There is one at a time.
    pub(super) notice: Option<RequestId>,
    /// It doesn't know yet that this node fetches the value.
    pub(super) owed: bool,
    /// This node has waited for it in vain: no chunk is its to take any more.
    pub(super) lags: bool,
}

impl Fetchers {
    /// Whether anybody is known to fetch the value too.
    pub(super) fn any(&self) -> bool {
        !self.others.is_empty()
    }

    /// Who else fetches it.
    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.others.contains_key(peer)
    }

    /// What a fetcher has that is missing here.
    pub(super) fn has(&self, peer: &PeerId) -> impl Iterator<Item = &BlobHash> {
        self.others.get(peer).into_iter().flat_map(|fetcher| &fetcher.has)
    }

    /// Whether a fetcher has said that it has this chunk.
    pub(super) fn has_told(&self, peer: &PeerId, hash: &BlobHash) -> bool {
        self.others.get(peer).is_some_and(|fetcher| fetcher.has.contains(hash))
    }

    /// The fetchers that have said that they have it, without those that this node has waited for in vain.
    pub(super) fn with(&self, hash: &BlobHash) -> impl Iterator<Item = &PeerId> {
        let have = self.others.iter().filter(move |(_, fetcher)| !fetcher.lags && fetcher.has.contains(hash));
        have.map(|(peer, _)| peer)
    }

    /// It doesn't have what it has said.
    pub(super) fn lacks(&mut self, peer: &PeerId, hash: &BlobHash) {
        if let Some(fetcher) = self.others.get_mut(peer) {
            fetcher.has.remove(hash);
        }
    }

    /// How many fetchers have it.
    pub(super) fn count(&self, hash: &BlobHash) -> usize {
        self.others.values().filter(|fetcher| fetcher.has.contains(hash)).count()
    }

    /// The fetcher whose turn it is to take this chunk from who has all of the value; `None` for this node.
    ///
    /// Each fetcher draws a number for each chunk, and the highest takes it: rendezvous hashing (Thaler and Ravishankar
    /// 1998). All fetchers that know of each other get the same answer, and if one leaves or lags, only its chunks change
    /// hands.
    pub(super) fn turn(&self, me: &PeerId, hash: &BlobHash) -> Option<PeerId> {
        let own = drawn(me, hash);
        let counts = self.others.iter().filter(|(_, fetcher)| !fetcher.lags);
        let first = counts.map(|(peer, _)| (drawn(peer, hash), *peer)).max();
        first.filter(|(other, peer)| (*other, peer) > (own, me)).map(|(_, peer)| peer)
    }

    /// A chunk has come here.
    pub(super) fn came(&mut self, hash: BlobHash) {
        self.came.push(hash);
        self.others.values_mut().for_each(|fetcher| _ = fetcher.has.remove(&hash));
    }

    /// These chunks are here already: of an attempt before this one, or of another value.
    pub(super) fn are_here(&mut self, hashes: impl Iterator<Item = BlobHash>) {
        let known: BTreeSet<BlobHash> = self.came.iter().copied().collect();
        hashes.filter(|hash| !known.contains(hash)).for_each(|hash| self.came(hash));
    }

    /// Who has all of the value has answered with a chunk after this time.
    pub(super) fn answered_after(&mut self, took: Duration) {
        self.usual = Some(self.usual.map_or(took, |usual| (usual * 3 + took) / 4));
    }

    /// What is known of that before.
    pub(super) fn expects_answer_after(&mut self, took: Option<Duration>) {
        self.usual = self.usual.or(took);
    }

    pub(super) fn gets_on(&mut self, now: Duration) {
        self.progress = now;
    }

    /// It fetches the value no more: it has all of it, or is gone.
    pub(super) fn remove(&mut self, peer: &PeerId) -> bool {
        self.others.remove(peer).is_some()
    }

    /// The value isn't being fetched any more; perhaps later again.
    pub(super) fn pause(&mut self) {
        self.others.clear();
        self.invited = false;
    }

    pub(super) fn patience(&self) -> Duration {
        let patience = self.usual.map_or(FIRST_PATIENCE, |usual| 2 * usual);
        patience.clamp(SHORTEST_PATIENCE, LONGEST_PATIENCE)
    }

    /// Those who haven't been told all.
    pub(super) fn next_notice(&self) -> Option<Duration> {
        let waits = |fetcher: &&Fetcher| fetcher.notice.is_none() && fetcher.told < self.came.len();
        self.others.values().filter(waits).map(|fetcher| fetcher.told_at.saturating_add(TOLD_EVERY)).min()
    }
}

/// The number that a fetcher draws for a chunk: of the last eight bytes of its id and the first eight of the chunk's hash,
/// mixed as SplitMix64 does (Steele, Lea and Flood 2014).
pub(super) fn drawn(peer: &PeerId, hash: &BlobHash) -> u64 {
    let id = peer.to_bytes();
    let of_peer = id.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let of_chunk = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let mixed = of_peer ^ of_chunk;
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
