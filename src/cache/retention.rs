//! What can be removed: entries that are no longer current, values that no entry names, and what exceeds the quota.

use super::{Cache, CacheError, contents::Worth};
use crate::{
    entries::{Conflict, EntrySet},
    weights::{EntryHash, Root},
};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};

/// What counts in a federation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retention {
    /// The current entries. All others are removed.
    pub entries: BTreeSet<EntryHash>,
    /// The authors who are excluded. The proofs against all others are removed.
    pub proofs: BTreeSet<PeerId>,
    /// Values that are never evicted.
    pub kept: BTreeSet<Root>,
    /// Values that are evicted last, unless they are also kept.
    pub known: BTreeSet<Root>,
    /// Values that are evicted before those, unless they are among them.
    pub strangers: BTreeSet<Root>,
    /// Values that are evicted first, unless they are in another set. Values in no set are removed, unless they are
    /// pinned.
    pub spare: BTreeSet<Root>,
}

impl Retention {
    /// What counts for `me`: all of its own values are kept, of the others each author's newest update. What is evicted
    /// if there isn't room for all of it are first the others' older values, then the newest updates of authors who are
    /// not [known](EntrySet::is_known), then those of the others.
    pub fn of(set: &EntrySet, me: PeerId) -> Self {
        let mut newest: BTreeMap<PeerId, (u64, Root)> = BTreeMap::new();
        let mut retention = Self { proofs: set.conflicts().map(Conflict::author).collect(), ..Self::default() };
        for entry in set.iter("") {
            retention.entries.insert(entry.hash());
            let Some(root) = entry.root() else { continue };
            let author = entry.key.author();
            if author == me {
                retention.kept.insert(root);
            } else {
                retention.spare.insert(root);
                if entry.key.update_epoch().is_some() {
                    let newest = newest.entry(author).or_insert((entry.sequence, root));
                    *newest = (*newest).max((entry.sequence, root));
                }
            }
        }
        for (author, (_, root)) in newest {
            let worth = if set.is_known(author) { &mut retention.known } else { &mut retention.strangers };
            worth.insert(root);
        }
        retention.strangers.retain(|root| !retention.known.contains(root) && !retention.kept.contains(root));
        retention.known.retain(|root| !retention.kept.contains(root));
        let Self { kept, known, strangers, spare, .. } = &mut retention;
        spare.retain(|root| !kept.contains(root) && !known.contains(root) && !strangers.contains(root));
        retention
    }

    /// How much each of the values is worth that may be evicted.
    fn evictable(&self) -> BTreeMap<Root, Worth> {
        let of = |roots: &BTreeSet<Root>, worth| roots.iter().map(move |&root| (root, worth)).collect::<Vec<_>>();
        // What is in several sets is worth the most of them.
        let all = [(&self.spare, Worth::Spare), (&self.strangers, Worth::Stranger), (&self.known, Worth::Known)];
        all.into_iter().flat_map(|(roots, worth)| of(roots, worth)).collect()
    }
}

impl Cache {
    /// Removes what no longer counts: the files of entries and proofs that don't stand, then values that are in no set
    /// and not pinned; then evicts until the rest is within the quota. What is kept or pinned stays even if it takes
    /// more than that, with one warning: it was stored under a larger quota.
    ///
    /// `decide` is called under the lock that [`put_entry`](Self::put_entry) publishes under: what it doesn't see has
    /// not been published. It must look at a set that was given all of [`Opened::entries`](super::Opened::entries) and
    /// whatever was saved. Values that become known while it runs are left alone.
    pub fn retain(&self, decide: impl FnOnce() -> Retention) -> Result<(), CacheError> {
        let _deciding = self.shared.publishing.write().unwrap_or_else(PoisonError::into_inner);
        let clock = self.open_inner()?.state.clock();
        let decided = decide();
        let evictable = decided.evictable();
        let Retention { entries, proofs, kept, .. } = decided;
        let superseded: Vec<EntryHash> = self.open_inner()?.entries.difference(&entries).copied().collect();
        for entry in superseded {
            self.shared.files.remove_entry(entry)?;
            self.open_inner()?.entries.remove(&entry);
        }
        let withdrawn: Vec<PeerId> = self.open_inner()?.proofs.difference(&proofs).copied().collect();
        for author in withdrawn {
            self.forget_proof(&author)?;
        }
        let unnamed = self.open_inner()?.state.retain(&kept, evictable, clock);
        for root in unnamed {
            self.forget_value(root)?;
        }
        self.evict_down_to_quota()
    }

    /// Forgets a value, unless it was pinned in the meantime, and removes the blobs that only it names. Gives whether
    /// it did.
    pub(super) fn forget_value(&self, root: Root) -> Result<bool, CacheError> {
        {
            let mut inner = self.open_inner()?;
            if inner.state.is_pinned(root) {
                return Ok(false);
            }
            inner.state.forget(root);
            inner.index(|index| index.value_forgotten(root));
        }
        self.remove_garbage().map(|()| true)
    }

    /// Removes the files of blobs that nothing names any more. A few at a time under the lock, so that nobody stores
    /// again what is just being removed, and nobody waits long.
    fn remove_garbage(&self) -> Result<(), CacheError> {
        let mut result = Ok(());
        loop {
            let mut inner = self.open_inner()?;
            let garbage = inner.state.take_garbage(16);
            if garbage.is_empty() {
                return result;
            }
            for hash in garbage {
                inner.index(|index| index.blob_removed(hash));
                if let Err(error) = self.shared.files.remove_blob(hash) {
                    // It stays there unnamed until the next start, which looks for it.
                    inner.index(super::index::Index::distrust);
                    result = Err(error);
                }
            }
        }
    }
}
