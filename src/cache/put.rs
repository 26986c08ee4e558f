//! Storing what this node publishes, and other authors' entries and proofs.

use super::{
    Cache, CacheError, Pin,
    contents::{Worth, distinct_chunks},
    error::failed,
    files::Partial,
    room::Reserved,
};
use crate::{
    durable_file,
    entries::Conflict,
    weights::{BlobHash, MAX_ENTRY_BYTES, Manifest, SignedEntry, Weights},
};
use bytes::Bytes;
use libp2p_identity::PeerId;
use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Threads that write and flush the blobs of a put. They wait for the disk, not for a processor; more didn't help.
const WRITERS: usize = 4;
/// Blobs that are written before they are renamed into place together. At most this many can be left half-written.
const BATCH: usize = 256;

/// A blob of a put, and whether it is already stored.
struct Planned<'a> {
    hash: BlobHash,
    bytes: Box<dyn Fn() -> Bytes + Sync + 'a>,
    length: u64,
    stored: bool,
}

impl Cache {
    /// Stores a value of this node. When it returns, the value is on the disk, and stays as long as the pin lives.
    ///
    /// Chunks that are there already are compared and flushed, not written again; a damaged one is replaced. The
    /// manifest must have been made from the weights: only the layout is checked.
    ///
    /// [`CacheError::Full`] if there is no room for it beside the node's other values and what is pinned.
    pub fn put_value(&self, manifest: &Manifest, weights: &Weights) -> Result<Pin, CacheError> {
        let encoded = Bytes::from(manifest.encode());
        let root = Manifest::root_of(&encoded);
        let chunks = distinct_chunks(manifest).filter(|_| manifest.layout() == weights.layout());
        let chunks = chunks.ok_or(CacheError::OtherLayout { root })?;
        // In the weights' order, the first of equal chunks.
        let mut numbers: HashMap<BlobHash, usize> = HashMap::new();
        for (number, &hash) in manifest.chunks().iter().enumerate() {
            numbers.entry(hash.into()).or_insert(number);
        }
        let mut numbers: Vec<(usize, BlobHash)> = numbers.into_iter().map(|(hash, number)| (number, hash)).collect();
        numbers.sort_unstable();
        let pin = Pin::new(self.clone(), root);
        let mut planned: Vec<Planned<'_>> = Vec::with_capacity(numbers.len() + 1);
        {
            // From here on, only damage can remove a blob of this value.
            let mut inner = self.open_inner()?;
            inner.state.learn(root, chunks, None);
            let used = inner.state.touch(root).unwrap_or_default();
            inner.index(|index| index.value_used(root, used));
            let mut plan = |hash, length, bytes| {
                planned.push(Planned { hash, bytes, length, stored: inner.state.length(hash).is_some() });
            };
            for (number, hash) in numbers {
                plan(hash, manifest.plan().length(number), Box::new(move || manifest.chunk_bytes(weights, number)));
            }
            plan(root.into(), encoded.len() as u64, Box::new(move || encoded.clone()));
        }
        let needed = planned.iter().filter(|blob| !blob.stored).map(|blob| blob.length).sum();
        let mut reserved = self.reserve(root, needed, Worth::Known)?;
        planned.chunks(BATCH).try_for_each(|batch| self.write_durably(batch, &mut reserved))?;
        let shards = self.shared.files.shards(planned.iter().map(|blob| blob.hash));
        in_parallel(&shards, |shard| durable_file::sync_dir(shard).map_err(failed("flushing", shard)))?;
        self.inner().told_full = false;
        Ok(pin)
    }

    /// Writes what isn't there and flushes all of it, except the names.
    fn write_durably(&self, batch: &[Planned<'_>], reserved: &mut Reserved) -> Result<(), CacheError> {
        let files = &self.shared.files;
        let written: Mutex<Vec<(Partial, BlobHash, u64, bool)>> = Mutex::default();
        in_parallel(batch, |blob| {
            let bytes = (blob.bytes)();
            if blob.stored && files.sync_blob(blob.hash, &bytes)? {
                return Ok(());
            }
            let partial = files.write_partial(&bytes, true)?;
            written.lock().unwrap_or_else(PoisonError::into_inner).push((partial, blob.hash, blob.length, blob.stored));
            Ok(())
        })?;
        let mut inner = self.open_inner()?;
        for (partial, hash, length, stored) in written.into_inner().unwrap_or_else(PoisonError::into_inner) {
            files.place_blob(partial, hash)?;
            if !stored {
                reserved.used(&mut inner, length);
            }
            inner.state.stored(hash, length);
            inner.index(|index| index.blob_stored(hash, length));
        }
        Ok(())
    }

    /// Keeps an entry of this node and publishes it. When it returns, the entry is on the disk; `publish` is called
    /// after that, under the lock that [`retain`](Self::retain) decides under, so that no decision made before removes
    /// the entry. A caller of any method that takes or saves entries must not hold what `publish` locks.
    ///
    /// The value comes first: [`put_value`](Self::put_value), whose pin is dropped after this returns.
    pub fn put_entry<T>(&self, entry: &SignedEntry, publish: impl FnOnce() -> T) -> Result<T, CacheError> {
        let _publishing = self.shared.publishing.read().unwrap_or_else(PoisonError::into_inner);
        self.write_entry(entry, true)?;
        Ok(publish())
    }

    /// Keeps an entry of another author, which is published already. It is not flushed: sync brings it again.
    ///
    /// [`CacheError::Full`] if entries have the part of the quota that they may have: then the next start has to learn it
    /// again.
    pub fn save_entry(&self, entry: &SignedEntry) -> Result<(), CacheError> {
        let _publishing = self.shared.publishing.read().unwrap_or_else(PoisonError::into_inner);
        self.write_entry(entry, false)
    }

    fn write_entry(&self, entry: &SignedEntry, durable: bool) -> Result<(), CacheError> {
        if entry.federation != self.shared.federation {
            let dir = self.shared.files.dir().to_owned();
            return Err(CacheError::OtherFederation { dir, key: entry.key.clone() });
        }
        // Before the file is there: an unknown file would never be removed.
        {
            let mut inner = self.open_inner()?;
            if !durable && inner.entries.contains(&entry.hash()) {
                return Ok(());
            }
            if !durable {
                self.check_room_for_entry(&mut inner)?;
            }
            inner.entries.insert(entry.hash());
        }
        let written = self.shared.files.write_entry(entry, durable);
        if written.is_err() && !durable {
            self.inner().entries.remove(&entry.hash());
        }
        written
    }

    /// Keeps a proof. When it returns, it is on the disk. One of an author is enough.
    ///
    /// [`CacheError::Full`] if there is no room for one more.
    pub fn save_proof(&self, conflict: &Conflict) -> Result<(), CacheError> {
        let author = conflict.author();
        if conflict.entries[0].federation != self.shared.federation {
            let (dir, key) = (self.shared.files.dir().to_owned(), conflict.entries[0].key.clone());
            return Err(CacheError::OtherFederation { dir, key });
        }
        let mut inner = self.open_inner()?;
        if inner.proofs.contains(&author) {
            return Ok(());
        }
        self.check_room_for_entry(&mut inner)?;
        // Under the lock, so that anybody else saving the same proof returns only once it is on the disk.
        self.shared.files.write_proof(conflict)?;
        inner.proofs.insert(author);
        Ok(())
    }

    fn check_room_for_entry(&self, inner: &mut super::Inner) -> Result<(), CacheError> {
        let quota = self.shared.quota;
        if inner.has_room_for_entry(quota) {
            return Ok(());
        }
        inner.refused += 1;
        let (dir, kept) = (self.shared.files.dir().to_owned(), quota - inner.room(quota));
        Err(CacheError::Full { dir, needed: MAX_ENTRY_BYTES as u64, kept, quota })
    }

    /// Removes the proof against an author who is trusted again, so that the next start doesn't exclude it.
    pub fn forget_proof(&self, author: &PeerId) -> Result<(), CacheError> {
        let mut inner = self.open_inner()?;
        inner.proofs.remove(author);
        self.shared.files.remove_proof(*author)
    }
}

/// Does the work for each item on a few threads. The first error ends it.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<(), CacheError> + Sync) -> Result<(), CacheError> {
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item) {
                next.store(items.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..WRITERS.min(items.len())).map(|_| scope.spawn(run)).collect();
        let mut result = run();
        for other in others {
            result = result.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        result
    })
}
