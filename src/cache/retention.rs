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
    time::Instant,
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
    /// pinned, or were kept and are still being given to peers: those are evicted with these.
    pub spare: BTreeSet<Root>,
}

impl Retention {
    /// What counts for `me`: all of its own values are kept, of the others each author's newest update. What is evicted
    /// if there isn't room for all of it are first the others' older values, then the newest updates of authors who are
    /// not [known](EntrySet::is_known), then those of the others.
    pub fn of(set: &EntrySet, me: PeerId) -> Self {
        // A board can be full, and this runs with most entries that come: sets are made of lists, which takes a fraction
        // of the time of inserting.
        let (mut kept, mut spare, mut updates) = (BTreeSet::new(), Vec::new(), Vec::new());
        for entry in set.iter("") {
            let Some(root) = entry.root() else { continue };
            let author = entry.key.author();
            if author == me {
                kept.insert(root);
            } else if entry.key.update_epoch().is_some() {
                updates.push((author, entry.sequence, root));
            } else {
                spare.push(root);
            }
        }
        let (mut known, mut strangers) = (Vec::new(), Vec::new());
        // The keys of an author come one after the other.
        for of_one in updates.chunk_by_mut(|(one, ..), (other, ..)| one == other) {
            of_one.sort_unstable_by_key(|&(_, sequence, _)| sequence);
            let Some((&mut (author, _, newest), older)) = of_one.split_last_mut() else { continue };
            if set.is_known(author) { &mut known } else { &mut strangers }.push(newest);
            spare.extend(older.iter().map(|&(.., root)| root));
        }
        let known: BTreeSet<Root> = known.into_iter().filter(|root| !kept.contains(root)).collect();
        let is_worth_more = |root: &Root| kept.contains(root) || known.contains(root);
        let strangers: BTreeSet<Root> = strangers.into_iter().filter(|root| !is_worth_more(root)).collect();
        let is_worth_more = |root: &Root| is_worth_more(root) || strangers.contains(root);
        let spare = spare.into_iter().filter(|root| !is_worth_more(root)).collect();
        Self {
            entries: set.hashes().clone(),
            proofs: set.conflicts().map(Conflict::author).collect(),
            kept,
            known,
            strangers,
            spare,
        }
    }

    /// How much each of the values is worth that may be evicted.
    fn evictable(&self) -> BTreeMap<Root, Worth> {
        // What is in several sets is worth the most of them.
        let all = [(&self.spare, Worth::Spare), (&self.strangers, Worth::Stranger), (&self.known, Worth::Known)];
        all.into_iter().flat_map(|(roots, worth)| roots.iter().map(move |&root| (root, worth))).collect()
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
        let unnamed = self.open_inner()?.state.retain(&kept, evictable, clock, Instant::now());
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
