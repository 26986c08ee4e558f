//! A value being fetched, and what the current attempt has shown about the peers that were asked for it.

use super::fetchers::Fetchers;
use crate::weights::{BlobHash, EntryHash, SignedEntry};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Failed requests after which a peer isn't asked again in the same attempt.
const MAX_FAILURES: u32 = 2;

/// A value to fetch, for everybody who wants it: entries with equal roots are one job.
#[derive(Debug)]
pub(super) struct Job {
    /// The entries somebody is waiting for.
    pub(super) wanted: Vec<Arc<SignedEntry>>,
    /// The entries whose departing authors have asked for them to be kept.
    pub(super) kept: BTreeMap<PeerId, Arc<SignedEntry>>,
    /// The entries for which it is fetched unasked, by author.
    pub(super) unasked: BTreeMap<PeerId, Arc<SignedEntry>>,
    /// Of its authors, the one who comes first.
    pub(super) whose: Whose,
    pub(super) stage: Stage,
    /// The missing blobs with their lengths. A manifest's length isn't known.
    pub(super) todo: BTreeMap<BlobHash, Option<u64>>,
    pub(super) tried: Tried,
    /// The peers that say they hold the value.
    pub(super) holders: BTreeSet<PeerId>,
    /// How often the cache was asked in this attempt.
    pub(super) lookups: u32,
    /// Attempts that ended without the value.
    pub(super) failed_tries: u32,
    /// While it is active: how it uses its place.
    pub(super) place: Place,
    /// Who else fetches it.
    pub(super) fetchers: Fetchers,
    pub(super) ring: Ring,
}

/// Where the search for chunks that are this node's to take has got. The missing blobs are gone through in the order of their
/// hashes, round and round, from a place that differs from node to node.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// The last blob that was taken.
    pub(super) at: Option<BlobHash>,
    /// There was none in a whole round, and nothing has changed since.
    pub(super) is_empty: bool,
}

impl Ring {
    /// A blob is missing again, or is this node's to take now.
    pub(super) fn changed(&mut self) {
        self.is_empty = false;
    }
}

/// Whose value is fetched, and for whom, in the order in which jobs get places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    pub(super) whose: Whose,
    pub(super) sake: Sake,
}

/// Whose value is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    /// Of an author whose updates this node has folded.
    Known,
    /// Of a stranger who is connected. It can be asked, and struck if it doesn't give, and takes one of few connections.
    Present,
    /// Of any other stranger, who may be made up.
    Absent,
}

impl Whose {
    pub(super) const STRANGERS: [Self; 2] = [Self::Present, Self::Absent];

    pub(super) fn is_stranger(self) -> bool {
        self != Self::Known
    }

    /// All claims that there are to its values.
    pub(super) fn claims(self) -> [Claim; 3] {
        [Sake::Wanted, Sake::Kept, Sake::Announced].map(|sake| Claim { whose: self, sake })
    }
}

/// For whom a value is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sake {
    /// Somebody here waits for it.
    Wanted,
    /// A departing peer has asked for it to be kept.
    Kept,
    /// It was announced.
    Announced,
}

/// How a job uses the place that it has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// When it got it.
    pub(super) began: Duration,
    /// Since when these bytes have come.
    pub(super) since: Duration,
    pub(super) bytes: u64,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for its turn: by claim, then by number.
    Queued {
        /// For whom.
        claim: Claim,
        /// Its number.
        number: u64,
    },
    /// The cache is being asked.
    Looking,
    /// Blobs are being fetched.
    Fetching,
    /// No peer had it. It is tried again at this time, or when a peer that may have it connects.
    Parked(Duration),
}

/// What the current attempt has shown.
#[derive(Debug, Default)]
pub(super) struct Tried {
    /// If not empty, only these peers are asked in this attempt: the others were asked before.
    pub(super) only: BTreeSet<PeerId>,
    lacks: BTreeMap<PeerId, BTreeSet<BlobHash>>,
    failures: BTreeMap<PeerId, u32>,
    wrong: BTreeSet<PeerId>,
    slow: BTreeSet<PeerId>,
    /// Those that put this node off, and since when nothing has come of them.
    put_off: BTreeMap<PeerId, Duration>,
    /// Those that were struck for not giving what they had promised.
    blamed: BTreeSet<PeerId>,
    asked: BTreeSet<PeerId>,
    /// A random order among peers of which nothing is known.
    pub(super) ranks: BTreeMap<PeerId, u64>,
}

impl Job {
    pub(super) fn new(stage: Stage) -> Self {
        Self {
            wanted: Vec::new(),
            kept: BTreeMap::new(),
            unasked: BTreeMap::new(),
            whose: Whose::Absent,
            stage,
            todo: BTreeMap::new(),
            tried: Tried::default(),
            holders: BTreeSet::new(),
            lookups: 0,
            failed_tries: 0,
            place: Place::default(),
            fetchers: Fetchers::default(),
            ring: Ring::default(),
        }
    }

    /// All entries for which it is fetched. They share a root, and may lie about the rest.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<SignedEntry>> {
        self.wanted.iter().chain(self.kept.values()).chain(self.unasked.values())
    }

    pub(super) fn claim(&self) -> Claim {
        let sake = if !self.wanted.is_empty() {
            Sake::Wanted
        } else if !self.kept.is_empty() {
            Sake::Kept
        } else {
            Sake::Announced
        };
        Claim { whose: self.whose, sake }
    }

    /// The members for whose sake it is fetched, if nobody here waits for it.
    pub(super) fn behind(&self) -> impl Iterator<Item = &PeerId> {
        self.kept.keys().chain(self.unasked.keys())
    }

    /// The entry that the cache is asked about.
    pub(super) fn entry(&self) -> Option<&Arc<SignedEntry>> {
        self.entries().next()
    }

    /// Drops an entry that lies. Returns true if it was the last one that somebody waited for.
    pub(super) fn drop_entry(&mut self, hash: EntryHash) -> bool {
        let waited = !self.wanted.is_empty();
        self.wanted.retain(|entry| entry.hash() != hash);
        self.kept.retain(|_, entry| entry.hash() != hash);
        self.unasked.retain(|_, entry| entry.hash() != hash);
        waited && self.wanted.is_empty()
    }

    pub(super) fn is_active(&self) -> bool {
        matches!(self.stage, Stage::Looking | Stage::Fetching)
    }
}

impl Tried {
    pub(super) fn note_asked(&mut self, peer: PeerId) {
        self.asked.insert(peer);
    }

    pub(super) fn note_lack(&mut self, peer: PeerId, hash: BlobHash) {
        self.lacks.entry(peer).or_default().insert(hash);
    }

    pub(super) fn note_failure(&mut self, peer: PeerId) {
        *self.failures.entry(peer).or_default() += 1;
    }

    pub(super) fn note_wrong(&mut self, peer: PeerId) {
        self.wrong.insert(peer);
    }

    pub(super) fn note_slow(&mut self, peer: PeerId) {
        self.slow.insert(peer);
    }

    /// Since when a peer that puts this node off has given nothing.
    pub(super) fn note_put_off(&mut self, peer: PeerId, now: Duration) -> Duration {
        *self.put_off.entry(peer).or_insert(now)
    }

    pub(super) fn note_given(&mut self, peer: &PeerId) {
        self.put_off.remove(peer);
    }

    /// True for the first time in this attempt.
    pub(super) fn blame(&mut self, peer: PeerId) -> bool {
        self.blamed.insert(peer)
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Whether this peer may be asked for anything.
    pub(super) fn may_be_asked(&self, peer: &PeerId) -> bool {
        self.failures.get(peer).is_none_or(|&failures| failures < MAX_FAILURES)
            && (self.only.is_empty() || self.only.contains(peer))
    }

    /// Whether this peer may be asked for this blob.
    pub(super) fn may_give(&self, peer: &PeerId, hash: &BlobHash) -> bool {
        !self.lacks.get(peer).is_some_and(|lacks| lacks.contains(hash)) && self.may_be_asked(peer)
    }

    /// The lower this is, the sooner a peer is asked. Peers that sent wrong bytes come last, peers that failed just
    /// before them, and before those the slow ones.
    pub(super) fn demerits(&self, peer: &PeerId) -> (bool, u32, bool) {
        (self.wrong.contains(peer), self.failures.get(peer).copied().unwrap_or_default(), self.slow.contains(peer))
    }

    /// Forgets what was learned about a peer: it is back, or has the value now.
    pub(super) fn forgive(&mut self, peer: &PeerId) {
        self.lacks.remove(peer);
        self.failures.remove(peer);
        self.slow.remove(peer);
        if !self.only.is_empty() {
            self.only.insert(*peer);
        }
    }
}
