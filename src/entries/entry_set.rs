//! The state machine behind every folder, without I/O: the newest entry of each key, retention of updates, and excluded
//! authors.

mod in_buckets;
mod strangers;

pub use self::strangers::FOLDS_TO_BE_KNOWN;

use self::{in_buckets::Buckets, strangers::Strangers};
use super::{Conflict, EntryLimits};
use crate::weights::{EntryHash, FederationId, Key, KeyPrefix, SignedEntry};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

/// Updates held per author.
pub const UPDATES_KEPT: usize = 2;

/// Why an entry is not taken in.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    /// It belongs to another federation or run.
    #[error("it belongs to another federation or run")]
    OtherFederation,
    /// Its author was excluded earlier.
    #[error("its author signed two entries under one number and is excluded")]
    Excluded,
    /// It is the second one under its number: from now on its author is excluded.
    #[error("{0}")]
    Conflict(Box<Conflict>),
    /// Its author has the most keys that it may have.
    #[error("its author has {limit} keys already")]
    TooManyKeys {
        /// The limit.
        limit: usize,
    },
    /// There are the most authors that there may be, and none of them is a stranger.
    #[error("there are entries of {limit} authors already")]
    TooManyAuthors {
        /// The limit.
        limit: usize,
    },
    /// These are not two different entries of one author under one number.
    #[error("the two entries prove nothing against their author")]
    NoProof,
}

/// Whether an author of whom nothing is held yet can be taken in.
enum MayComeIn {
    Free,
    /// If this stranger goes.
    InPlaceOf(PeerId),
    No,
}

#[derive(Debug)]
struct Held {
    entry: Arc<SignedEntry>,
    revision: u64,
}

/// The known entries of a federation: the newest of each key.
///
/// A state machine without I/O. In whatever order entries arrive, sets that were given the same ones hold the same and
/// have equal digests. The exceptions are an author who exceeds a limit, strangers beyond [their own](EntryLimits), and
/// an author who signs two entries under one number if a set has dropped the first before the second came:
///
/// - the entry with the highest number of each key is held, put or tombstone;
/// - of the keys `<author>/update/<epoch>` only the [`UPDATES_KEPT`] with the highest numbers, so that retention needs
///   no tombstones, which would pile up by one an epoch;
/// - an author who signed two different entries under one number is excluded, unless [readmitted](Self::readmit).
#[derive(Debug)]
pub struct EntrySet {
    federation: FederationId,
    limits: EntryLimits,
    strangers: Strangers,
    /// Strangers that were pushed out so far.
    pushed_out: u64,
    held: BTreeMap<Key, Held>,
    // The same entries again. Not their keys: those are long, and of each author there are a few.
    by_revision: BTreeMap<u64, Arc<SignedEntry>>,
    by_sequence: BTreeMap<PeerId, BTreeMap<u64, Arc<SignedEntry>>>,
    conflicts: BTreeMap<PeerId, Conflict>,
    readmitted: BTreeSet<PeerId>,
    /// The hashes of everything held.
    hashes: BTreeSet<EntryHash>,
    buckets: Buckets,
    revision: u64,
}

impl EntrySet {
    /// An empty set with [wide](EntryLimits::WIDE) limits.
    pub fn new(federation: FederationId) -> Self {
        Self::with_limits(federation, EntryLimits::WIDE)
    }

    /// An empty set.
    pub fn with_limits(federation: FederationId, limits: EntryLimits) -> Self {
        Self {
            federation,
            limits,
            strangers: Strangers::default(),
            pushed_out: 0,
            held: BTreeMap::new(),
            by_revision: BTreeMap::new(),
            by_sequence: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            readmitted: BTreeSet::new(),
            hashes: BTreeSet::new(),
            buckets: Buckets::new(),
            revision: 0,
        }
    }

    /// The operator's decision to trust this author whatever it signed. Of two entries under one number, the one with
    /// the larger hash counts. Entries that were dropped at the exclusion must be inserted again.
    pub fn readmit(&mut self, author: PeerId) {
        self.readmitted.insert(author);
        if self.conflicts.remove(&author).is_some() {
            self.revision += 1;
            self.buckets.changed(author, false);
        }
    }

    /// Takes in the proof that an author is to be excluded, and excludes it. `Ok(true)` if it changed the set,
    /// `Ok(false)` if its author was excluded already, or [readmitted](Self::readmit) here. Refused if it isn't a proof
    /// by [`Conflict::new`], or if there is no room for another author.
    pub fn insert_proof(&mut self, proof: Conflict) -> Result<bool, Refused> {
        let [one, other] = proof.entries;
        let proof = Conflict::new(one, other).ok_or(Refused::NoProof)?;
        if proof.entries[0].federation != self.federation {
            return Err(Refused::OtherFederation);
        }
        let author = proof.author();
        if self.conflicts.contains_key(&author) || self.readmitted.contains(&author) {
            return Ok(false);
        }
        if !self.by_sequence.contains_key(&author) {
            self.make_room_for(author)?;
        }
        self.exclude(proof);
        Ok(true)
    }

    /// Takes an entry in. `Ok(true)` if it changed the set, `Ok(false)` if it was known, or older than what is held.
    pub fn insert(&mut self, entry: Arc<SignedEntry>) -> Result<bool, Refused> {
        self.insert_pushing_out(entry).map(|pushed_out| pushed_out.is_some())
    }

    /// [Takes an entry in](Self::insert). If that changed the set, gives the strangers who had to go for it.
    pub fn insert_pushing_out(&mut self, entry: Arc<SignedEntry>) -> Result<Option<Vec<PeerId>>, Refused> {
        if entry.federation != self.federation {
            return Err(Refused::OtherFederation);
        }
        let author = entry.key.author();
        if self.conflicts.contains_key(&author) {
            return Err(Refused::Excluded);
        }
        if let Some(other) = self.same_number(&entry) {
            let (old, new) = (other.hash(), entry.hash());
            if old == new {
                return Ok(None);
            }
            if !self.readmitted.contains(&author) {
                let conflict = Conflict { entries: if old < new { [other, entry] } else { [entry, other] } };
                self.exclude(conflict.clone());
                return Err(Refused::Conflict(Box::new(conflict)));
            }
            if old > new || self.is_superseded(&entry) {
                return Ok(None);
            }
            self.drop_key(&other.key);
        } else if self.is_superseded(&entry) {
            return Ok(None);
        }
        self.check_room(&entry.key)?;
        let mut pushed_out =
            if self.by_sequence.contains_key(&author) { Vec::new() } else { self.make_room_for(author)? };
        self.drop_key(&entry.key);
        if let Some(oldest) = self.update_to_drop(&entry.key) {
            self.drop_key(&oldest.1);
        }
        self.by_sequence.entry(author).or_default().insert(entry.sequence, entry.clone());
        self.revision += 1;
        self.by_revision.insert(self.revision, entry.clone());
        self.hashes.insert(entry.hash());
        self.buckets.changed(author, true);
        self.held.insert(entry.key.clone(), Held { entry, revision: self.revision });
        pushed_out.extend(self.count_stranger(author));
        Ok(Some(pushed_out))
    }

    /// Drops the entries of all other authors. A proof against one of them stays: should it come back, it is still
    /// excluded. True if that changed the set.
    pub fn retain_authors(&mut self, keep: impl Fn(PeerId) -> bool) -> bool {
        let dropped: Vec<PeerId> = self.authors().filter(|&author| !keep(author)).collect();
        for author in &dropped {
            let keys: Vec<Key> = self.of_author(*author).map(|entry| entry.key.clone()).collect();
            keys.iter().for_each(|key| self.drop_key(key));
            self.by_sequence.remove(author);
            self.strangers.forget_folds(author);
            self.buckets.changed(*author, false);
            self.revision += 1;
        }
        !dropped.is_empty()
    }

    /// Errors if a new entry under this key would exceed the author's limit, or the author would exceed the set's.
    pub fn check_room(&self, key: &Key) -> Result<(), Refused> {
        let of_author = self.by_sequence.get(&key.author());
        if of_author.is_none() && matches!(self.may_come_in(key.author()), MayComeIn::No) {
            return Err(Refused::TooManyAuthors { limit: self.limits.authors });
        }
        let (held, limit) = (of_author.map_or(0, BTreeMap::len), self.limits.per_author);
        let replaces = || self.held.contains_key(key) || self.update_to_drop(key).is_some();
        if held >= limit && !replaces() { Err(Refused::TooManyKeys { limit }) } else { Ok(()) }
    }

    /// Makes room for an author of whom nothing is held yet. Gives the stranger who had to go.
    fn make_room_for(&mut self, author: PeerId) -> Result<Vec<PeerId>, Refused> {
        match self.may_come_in(author) {
            MayComeIn::Free => Ok(Vec::new()),
            MayComeIn::InPlaceOf(stranger) => {
                self.push_out(stranger);
                Ok(vec![stranger])
            }
            MayComeIn::No => Err(Refused::TooManyAuthors { limit: self.limits.authors }),
        }
    }

    fn is_full(&self) -> bool {
        self.by_sequence.len() + self.conflicts.len() >= self.limits.authors
    }

    /// How many authors there are, excluded ones included.
    pub fn author_count(&self) -> usize {
        self.by_sequence.len() + self.conflicts.len()
    }

    /// How many strangers have been pushed out by others so far.
    pub fn pushed_out(&self) -> u64 {
        self.pushed_out
    }

    /// Whether this very entry is held.
    pub fn holds(&self, hash: &EntryHash) -> bool {
        self.hashes.contains(hash)
    }

    /// The newest entry of a key, put or tombstone.
    pub fn get(&self, key: &Key) -> Option<&Arc<SignedEntry>> {
        self.held.get(key).map(|held| &held.entry)
    }

    /// The hashes of all entries, tombstones included.
    pub fn hashes(&self) -> &BTreeSet<EntryHash> {
        &self.hashes
    }

    /// All entries whose keys begin with `prefix`, tombstones included, in order of their keys.
    pub fn iter<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<SignedEntry>> + 'a {
        let prefix = KeyPrefix::new(prefix);
        let first = prefix.first();
        let (from, contiguous) = (first.as_ref().map_or(Bound::Unbounded, Bound::Included), first.is_some());
        let matching = self.held.range((from, Bound::Unbounded)).map(move |(key, held)| (prefix.matches(key), held));
        matching
            .take_while(move |(matches, _)| *matches || !contiguous)
            .filter(|(matches, _)| *matches)
            .map(|(_, held)| &held.entry)
    }

    /// Entries of one author, tombstones included, by their numbers.
    pub fn of_author(&self, author: PeerId) -> impl Iterator<Item = &Arc<SignedEntry>> {
        self.by_sequence.get(&author).into_iter().flat_map(BTreeMap::values)
    }

    /// An author's update with the highest number, if it has one.
    pub fn newest_update(&self, author: PeerId) -> Option<&Arc<SignedEntry>> {
        let mut newest_first = self.by_sequence.get(&author)?.values().rev();
        newest_first.find(|entry| entry.key.update_epoch().is_some() && entry.root().is_some())
    }

    /// The authors with entries in the set.
    pub fn authors(&self) -> impl Iterator<Item = PeerId> {
        self.by_sequence.keys().copied()
    }

    /// Rises with every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The first change after `revision` under `prefix`, with its own revision.
    pub fn changed_since(&self, revision: u64, prefix: &str) -> Option<(u64, &Arc<SignedEntry>)> {
        let prefix = KeyPrefix::new(prefix);
        let mut later = self.by_revision.range((Bound::Excluded(revision), Bound::Unbounded));
        later.find(|(_, entry)| prefix.matches(&entry.key)).map(|(&revision, entry)| (revision, entry))
    }

    /// Authors who signed two entries under one number.
    pub fn conflicts(&self) -> impl Iterator<Item = &Conflict> {
        self.conflicts.values()
    }

    /// The proof against an author who signed two entries under one number.
    pub fn conflict(&self, author: &PeerId) -> Option<&Conflict> {
        self.conflicts.get(author)
    }

    /// Whether this author signed two entries under one number.
    pub fn is_excluded(&self, author: PeerId) -> bool {
        self.conflicts.contains_key(&author)
    }

    fn same_number(&self, entry: &SignedEntry) -> Option<Arc<SignedEntry>> {
        self.by_sequence.get(&entry.key.author())?.get(&entry.sequence).cloned()
    }

    /// Whether something newer that replaces this entry is held.
    fn is_superseded(&self, entry: &SignedEntry) -> bool {
        let newer = self.held.get(&entry.key).is_some_and(|held| held.entry.sequence > entry.sequence);
        newer || self.update_to_drop(&entry.key).is_some_and(|(sequence, _)| sequence > entry.sequence)
    }

    /// The update, with its number, that another one under `key` would push out.
    fn update_to_drop(&self, key: &Key) -> Option<(u64, Key)> {
        if key.update_epoch().is_none() || self.held.contains_key(key) {
            return None;
        }
        let newest_first = self.by_sequence.get(&key.author())?.iter().rev();
        let oldest_kept = newest_first.filter(|(_, entry)| entry.key.update_epoch().is_some()).nth(UPDATES_KEPT - 1);
        oldest_kept.map(|(&sequence, entry)| (sequence, entry.key.clone()))
    }

    fn drop_key(&mut self, key: &Key) {
        if let Some(held) = self.held.remove(key) {
            self.by_revision.remove(&held.revision);
            self.hashes.remove(&held.entry.hash());
            if let Some(of_author) = self.by_sequence.get_mut(&key.author()) {
                of_author.remove(&held.entry.sequence);
            }
        }
    }

    fn exclude(&mut self, conflict: Conflict) {
        let author = conflict.author();
        self.drop_author(author);
        self.conflicts.insert(author, conflict);
        self.buckets.changed(author, true);
        self.revision += 1;
        self.count_stranger(author);
    }

    /// Drops an author's entries.
    fn drop_author(&mut self, author: PeerId) {
        let keys: Vec<Key> = self.of_author(author).map(|entry| entry.key.clone()).collect();
        keys.iter().for_each(|key| self.drop_key(key));
        self.by_sequence.remove(&author);
    }
}
