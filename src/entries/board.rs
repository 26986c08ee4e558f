//! An entry set that can be waited on: [`Board`] wakes its watchers at every change, and a [`Watch`] follows it.

use super::{Conflict, EntryLimits, EntrySet, Refused};
use crate::weights::{Digest, FederationId, SignedEntry};
use libp2p_identity::PeerId;
use std::{
    any::Any,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// An entry set that can be waited on. A folder puts in what it learns, and answers from what is here.
pub struct Board {
    set: Mutex<EntrySet>,
    revision: watch::Sender<u64>,
}

impl Board {
    /// An empty one with [wide](EntryLimits::WIDE) limits.
    pub fn new(federation: FederationId) -> Self {
        Self::with_limits(federation, EntryLimits::WIDE)
    }

    /// An empty one.
    pub fn with_limits(federation: FederationId, limits: EntryLimits) -> Self {
        Self { set: Mutex::new(EntrySet::with_limits(federation, limits)), revision: watch::Sender::new(0) }
    }

    /// The set, for reading. Don't hold it across an await.
    pub fn set(&self) -> MutexGuard<'_, EntrySet> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in an entry and wakes the watchers.
    pub fn insert(&self, entry: Arc<SignedEntry>) -> Result<bool, Refused> {
        self.change(|set| set.insert(entry))
    }

    /// Takes in an entry, as [`EntrySet::insert_pushing_out`] does, and wakes the watchers.
    pub fn insert_pushing_out(&self, entry: Arc<SignedEntry>) -> Result<Option<Vec<PeerId>>, Refused> {
        self.change(|set| set.insert_pushing_out(entry))
    }

    /// Trusts this node's own author, as [`EntrySet::know_own`] does.
    pub fn know_own(&self, author: PeerId) {
        self.set().know_own(author);
    }

    /// Trusts an author from the start, as [`EntrySet::know`] does.
    pub fn know(&self, author: PeerId) -> bool {
        self.set().know(author)
    }

    /// Says that an update was folded, as [`EntrySet::folded`] does.
    pub fn folded(&self, author: PeerId, sequence: u64) -> bool {
        self.set().folded(author, sequence)
    }

    /// Takes in a proof, as [`EntrySet::insert_proof`] does, and wakes the watchers.
    pub fn insert_proof(&self, proof: Conflict) -> Result<bool, Refused> {
        self.change(|set| set.insert_proof(proof))
    }

    /// Trusts an author again, and takes in the two entries that it was excluded for.
    pub fn readmit(&self, author: PeerId) {
        self.change(|set| {
            let proof = set.conflicts().find(|conflict| conflict.author() == author).cloned();
            set.readmit(author);
            for entry in proof.into_iter().flat_map(|conflict| conflict.entries) {
                let _ = set.insert(entry);
            }
        });
    }

    /// Drops the entries of authors who may no longer take part, as [`EntrySet::retain_authors`] does, and wakes the
    /// watchers.
    pub fn retain_authors(&self, keep: impl Fn(PeerId) -> bool) -> bool {
        self.change(|set| set.retain_authors(keep))
    }

    fn change<T>(&self, change: impl FnOnce(&mut EntrySet) -> T) -> T {
        let mut set = self.set();
        let result = change(&mut set);
        let revision = set.revision();
        drop(set);
        self.revision.send_if_modified(|seen| {
            let changed = *seen < revision;
            *seen = revision.max(*seen);
            changed
        });
        result
    }

    /// Entries under a prefix that have a value, in order of their keys.
    pub fn list(&self, prefix: &str) -> Vec<Arc<SignedEntry>> {
        let set = self.set();
        set.iter(prefix).filter(|entry| entry.root().is_some()).cloned().collect()
    }

    /// See [`EntrySet::digest`].
    pub fn digest(&self) -> Digest {
        self.set().digest()
    }

    /// See [`EntrySet::conflicts`].
    pub fn conflicts(&self) -> Vec<Conflict> {
        self.set().conflicts().cloned().collect()
    }

    /// Whether this author signed two entries under one number.
    pub fn is_excluded(&self, author: PeerId) -> bool {
        self.set().is_excluded(author)
    }
}

/// The entries of a folder as they change: see [`SharedFolder::watch`](crate::folder::SharedFolder::watch).
pub struct Watch {
    board: Arc<Board>,
    revisions: watch::Receiver<u64>,
    prefix: String,
    seen: u64,
    /// Keeps the folder looking for changes.
    _source: Box<dyn Any + Send + Sync>,
}

impl Watch {
    /// Follows a board under a prefix. `source` lives as long as the watch: what keeps the board up to date.
    pub fn new(board: Arc<Board>, prefix: &str, source: impl Any + Send + Sync) -> Self {
        let revisions = board.revision.subscribe();
        Self { board, revisions, prefix: prefix.to_owned(), seen: 0, _source: Box::new(source) }
    }

    /// The next entry, put or tombstone. Waits until there is one. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Arc<SignedEntry> {
        loop {
            self.revisions.mark_unchanged();
            if let Some(entry) = self.try_next() {
                return entry;
            }
            // The board, and with it the sender, lives as long as this watch does.
            let _ = self.revisions.changed().await;
        }
    }

    /// The next entry that is already known.
    pub fn try_next(&mut self) -> Option<Arc<SignedEntry>> {
        let set = self.board.set();
        let found = set.changed_since(self.seen, &self.prefix);
        // Changes under other prefixes aren't looked at again.
        self.seen = found.map_or(set.revision(), |(revision, _)| revision);
        found.map(|(_, entry)| entry.clone())
    }
}
