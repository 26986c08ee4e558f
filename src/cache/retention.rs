//! What can be removed: entries that are no longer current, values that no entry names, and what exceeds the quota.

use super::{Cache, CacheError};
use crate::{
    entries::EntrySet,
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
    /// Values that stay whatever the quota says.
    pub kept: BTreeSet<Root>,
    /// Values that stay as long as there is room, unless they are also among the kept ones. Values in neither set are
    /// removed, unless they are pinned.
    pub spare: BTreeSet<Root>,
}

impl Retention {
    /// What counts for `me`: each author's newest update and all of its own values are kept; the rest can be evicted.
    pub fn of(set: &EntrySet, me: PeerId) -> Self {
        let mut newest: BTreeMap<PeerId, (u64, Root)> = BTreeMap::new();
        let mut retention = Self::default();
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
        retention.kept.extend(newest.into_values().map(|(_, root)| root));
        retention.spare.retain(|root| !retention.kept.contains(root));
        retention
    }
}

impl Cache {
    /// Removes what no longer counts: the files of entries that don't stand, then values that are neither kept nor
    /// spare nor pinned, then spare ones, the least recently used first, until the rest is within the quota. What is
    /// kept or pinned stays even if it takes more than that, with one warning.
    ///
    /// `decide` is called under the lock that [`put_entry`](Self::put_entry) publishes under: what it doesn't see has
    /// not been published. It must look at a set that was given all of [`Opened::entries`](super::Opened::entries) and
    /// whatever was saved. Values that become known while it runs are left alone.
    pub fn retain(&self, decide: impl FnOnce() -> Retention) -> Result<(), CacheError> {
        let _deciding = self.shared.publishing.write().unwrap_or_else(PoisonError::into_inner);
        let clock = self.open_inner()?.state.clock();
        let Retention { entries, kept, spare } = decide();
        let superseded: Vec<EntryHash> = self.open_inner()?.entries.difference(&entries).copied().collect();
        for entry in superseded {
            self.shared.files.remove_entry(entry)?;
            self.open_inner()?.entries.remove(&entry);
        }
        let unnamed = self.open_inner()?.state.retain(&kept, spare, clock);
        for root in unnamed {
            self.forget_value(root)?;
        }
        self.evict(None)
    }

    /// Makes room after storing part of this value. Storing doesn't fail because a file can't be removed.
    pub(super) fn make_room(&self, root: Root) {
        if let Err(error) = self.evict(Some(root)) {
            tracing::warn!(%error, "the cache can't evict what it needn't keep");
        }
    }

    /// Forgets spare values until the rest is within the quota, but never `fetched`.
    fn evict(&self, fetched: Option<Root>) -> Result<(), CacheError> {
        let quota = self.shared.quota;
        let evictable = {
            let mut inner = self.open_inner()?;
            if inner.state.used() <= quota {
                inner.over_quota = false;
                return Ok(());
            }
            inner.state.evictable()
        };
        for root in evictable.into_iter().filter(|root| Some(*root) != fetched) {
            if self.forget_value(root)? {
                tracing::debug!(%root, "evicted");
                self.open_inner()?.evicted += 1;
            }
            if self.used() <= quota {
                return Ok(());
            }
        }
        let mut inner = self.open_inner()?;
        let used = inner.state.used();
        if used > quota && !std::mem::replace(&mut inner.over_quota, true) {
            let dir = self.shared.files.dir().display();
            tracing::warn!(%dir, used, quota, "the cache is over its quota with what it has to keep");
        }
        Ok(())
    }

    /// Forgets a value, unless it was pinned in the meantime, and removes the blobs that only it names. Gives whether
    /// it did.
    fn forget_value(&self, root: Root) -> Result<bool, CacheError> {
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
