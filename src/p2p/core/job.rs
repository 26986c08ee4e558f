//! A value to be fetched, and what a try has shown of the peers that were asked for it.

use crate::weights::{BlobHash, EntryHash, SignedEntry};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Failed requests after which a peer is not asked again in a try.
const MAX_FAILURES: u32 = 2;

/// A value to be fetched, for whoever wants it: entries with equal roots are one job.
#[derive(Debug)]
pub(super) struct Job {
    /// The entries that were asked for.
    pub(super) wanted: Vec<Arc<SignedEntry>>,
    /// The entries that it is fetched for unasked, by their authors.
    pub(super) unasked: BTreeMap<PeerId, Arc<SignedEntry>>,
    pub(super) stage: Stage,
    /// The blobs that are missing, with their lengths; that of a manifest isn't known.
    pub(super) todo: BTreeMap<BlobHash, Option<u64>>,
    pub(super) tried: Tried,
    /// Who says that it holds the value.
    pub(super) holders: BTreeSet<PeerId>,
    /// Times that the cache was asked in this try.
    pub(super) lookups: u32,
    /// Tries that ended without the value.
    pub(super) failed_tries: u32,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for its turn: what is wanted first, then by number.
    Queued {
        /// Nobody waits for it.
        unasked: bool,
        /// Its number.
        number: u64,
    },
    /// The cache is being asked.
    Looking,
    /// Blobs are being fetched.
    Fetching,
    /// Nobody gave it. It is tried again then, or when somebody comes who may have it.
    Parked(Duration),
}

/// What a try has shown.
#[derive(Debug, Default)]
pub(super) struct Tried {
    /// If not empty, nobody else is asked in this try: the others were asked before.
    pub(super) only: BTreeSet<PeerId>,
    lacks: BTreeMap<PeerId, BTreeSet<BlobHash>>,
    failures: BTreeMap<PeerId, u32>,
    wrong: BTreeSet<PeerId>,
    asked: BTreeSet<PeerId>,
    /// The order among peers of which nothing is known, drawn.
    pub(super) ranks: BTreeMap<PeerId, u64>,
}

impl Job {
    pub(super) fn new(stage: Stage) -> Self {
        Self {
            wanted: Vec::new(),
            unasked: BTreeMap::new(),
            stage,
            todo: BTreeMap::new(),
            tried: Tried::default(),
            holders: BTreeSet::new(),
            lookups: 0,
            failed_tries: 0,
        }
    }

    /// All entries that it is fetched for. They share a root, and may lie about the rest.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Arc<SignedEntry>> {
        self.wanted.iter().chain(self.unasked.values())
    }

    /// The entry that the cache is asked about.
    pub(super) fn entry(&self) -> Option<&Arc<SignedEntry>> {
        self.entries().next()
    }

    /// Drops an entry that lies. True if it was the last that somebody waited for.
    pub(super) fn drop_entry(&mut self, hash: EntryHash) -> bool {
        let waited = !self.wanted.is_empty();
        self.wanted.retain(|entry| entry.hash() != hash);
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

    pub(super) fn asked(&self) -> usize {
        self.asked.len()
    }

    /// Whether this peer may be asked for this blob.
    pub(super) fn may_give(&self, peer: &PeerId, hash: &BlobHash) -> bool {
        !self.lacks.get(peer).is_some_and(|lacks| lacks.contains(hash))
            && self.failures.get(peer).is_none_or(|&failures| failures < MAX_FAILURES)
            && (self.only.is_empty() || self.only.contains(peer))
    }

    /// The lower, the sooner a peer is asked: who sent wrong bytes comes last, who failed before those.
    pub(super) fn demerits(&self, peer: &PeerId) -> (bool, u32) {
        (self.wrong.contains(peer), self.failures.get(peer).copied().unwrap_or_default())
    }

    /// What was learned of a peer no longer counts: it is there again, or has the value now.
    pub(super) fn forgive(&mut self, peer: &PeerId) {
        self.lacks.remove(peer);
        self.failures.remove(peer);
        if !self.only.is_empty() {
            self.only.insert(*peer);
        }
    }
}
