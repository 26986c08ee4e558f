//! The quota: a bound on everything in the cache, kept by making room before anything is written.

use super::{Cache, CacheError, Inner, contents::Worth};
use crate::weights::Root;

/// What a small file takes on a disk.
const BLOCK: u64 = 4096;
/// Entries and proofs may take this part of the quota, and in any case so many blocks.
const PART_OF_ENTRIES: u64 = 8;
const BLOCKS_OF_ENTRIES: u64 = 32;
/// The index grows by steps of this, as far as it matters here.
const INDEX_STEP: u64 = 1 << 20;
/// Entries and index don't take more than this part of it from the values: a database has a least size.
const PART_OF_OVERHEAD: u64 = 2;

/// Room for bytes that are about to be stored. What of it isn't used is given back when it is dropped, which must not
/// happen while the bookkeeping is locked.
pub(super) struct Reserved {
    cache: Cache,
    left: u64,
}

impl Reserved {
    /// Some of the bytes are stored now, and counted there.
    pub(super) fn used(&mut self, inner: &mut Inner, bytes: u64) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        inner.reserved -= bytes;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.left > 0 {
            self.cache.inner().reserved -= self.left;
        }
    }
}

impl Inner {
    fn files(&self) -> u64 {
        (self.entries.len() + self.proofs.len()) as u64
    }

    /// Bytes that blobs may take.
    pub(super) fn room(&self, quota: u64) -> u64 {
        quota - (self.files() * BLOCK + self.index_bytes).min(quota / PART_OF_OVERHEAD)
    }

    /// Whether one more entry or proof of others may be kept as a file.
    pub(super) fn has_room_for_entry(&self, quota: u64) -> bool {
        self.files() < (quota / PART_OF_ENTRIES / BLOCK).max(BLOCKS_OF_ENTRIES)
    }

    /// Looks how large the index has become.
    pub(super) fn measure_index(&mut self) {
        if let Some((index, _)) = &self.open {
            self.index_bytes = index.bytes().map_or(self.index_bytes, |bytes| bytes.next_multiple_of(INDEX_STEP));
        }
    }
}

impl Cache {
    /// Makes room for bytes of this value, by evicting others that aren't worth more than `most`.
    pub(super) fn reserve(&self, root: Root, needed: u64, most: Worth) -> Result<Reserved, CacheError> {
        let quota = self.shared.quota;
        let mut evictable: Option<std::vec::IntoIter<Root>> = None;
        loop {
            let mut inner = self.open_inner()?;
            let (taken, room) = (inner.state.used() + inner.reserved, inner.room(quota));
            if taken.saturating_add(needed) <= room {
                inner.reserved += needed;
                drop(inner);
                return Ok(Reserved { cache: self.clone(), left: needed });
            }
            let evictable = evictable.get_or_insert_with(|| {
                let mut evictable = inner.state.evictable(most);
                evictable.retain(|other| *other != root);
                // Nothing is evicted in vain.
                let least = taken - inner.state.freed_by(&evictable);
                if least.saturating_add(needed) > room { Vec::new() } else { evictable }.into_iter()
            });
            let Some(next) = evictable.next() else {
                inner.refused += 1;
                let dir = self.shared.files.dir().to_owned();
                return Err(CacheError::Full { dir, needed, kept: taken + (quota - room), quota });
            };
            drop(inner);
            self.evict_one(next)?;
        }
    }

    /// Evicts until what is there is within the quota.
    pub(super) fn evict_down_to_quota(&self) -> Result<(), CacheError> {
        let quota = self.shared.quota;
        let is_over = |inner: &Inner| inner.state.used() + inner.reserved > inner.room(quota);
        let evictable = {
            let mut inner = self.open_inner()?;
            inner.measure_index();
            if is_over(&inner) { inner.state.evictable(Worth::Known) } else { Vec::new() }
        };
        for root in evictable {
            self.evict_one(root)?;
            if !is_over(&*self.open_inner()?) {
                break;
            }
        }
        let mut inner = self.open_inner()?;
        let over = is_over(&inner);
        if over && !inner.over_quota {
            let (dir, used) = (self.shared.files.dir().display(), inner.state.used());
            tracing::warn!(%dir, used, quota, "the cache is over its quota with what it has to keep");
        }
        inner.over_quota = over;
        Ok(())
    }

    /// That a file can't be removed is no reason not to store another.
    fn evict_one(&self, root: Root) -> Result<(), CacheError> {
        match self.forget_value(root) {
            Ok(true) => {
                tracing::debug!(%root, "evicted");
                self.open_inner()?.evicted += 1;
                Ok(())
            }
            Err(error @ CacheError::Closed { .. }) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "the cache can't remove what it needn't keep");
                Ok(())
            }
            Ok(false) => Ok(()),
        }
    }

    /// Logs why something could not be kept. That there is no room is said once, until there is again.
    pub fn complain(&self, error: &CacheError) {
        let first = !error.is_full() || !std::mem::replace(&mut self.inner().told_full, true);
        if first {
            tracing::warn!(%error, "the cache can't be kept");
        }
    }
}
