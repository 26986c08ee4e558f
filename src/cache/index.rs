//! The index: a sled database of peers, notes, and what could also be rebuilt from the files, only more slowly.

use super::{CacheError, KnownPeer, files::remove};
use crate::weights::{BlobHash, Root};
use libp2p_identity::PeerId;
use sled::{Db, Tree};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

const DIR: &str = "index";
const VERSION: &[u8] = b"version";
/// Of the records.
const FORMAT: &[u8] = &[1];
/// Bytes of pages that sled keeps in memory: 8 MiB. All is read once, when the cache opens.
const CACHE_CAPACITY: u64 = 8 << 20;
/// How long to wait for threads that sled has left behind in this process to release its files.
const PATIENCE: Duration = Duration::from_secs(10);

/// The open index. Writes are certain to be on the disk only after [`close`](Self::close).
pub(super) struct Index {
    dir: PathBuf,
    db: Db,
    blobs: Tree,
    values: Tree,
    peers: Tree,
    notes: Tree,
    /// A record could not be written, or is wrong.
    failed: bool,
}

/// What an index knew when it was opened.
#[derive(Default)]
pub(super) struct Recorded {
    /// Stored blobs and their lengths.
    pub(super) blobs: Vec<(BlobHash, u64)>,
    /// Known values and their places in the order of uses.
    pub(super) values: Vec<(Root, u64)>,
    pub(super) peers: Vec<KnownPeer>,
}

impl Index {
    /// Opens the index in a cache's directory. One that is damaged, or of another version, is removed and an empty one
    /// made. The caller makes sure that nobody else opens it.
    pub(super) fn open(cache: &Path) -> Result<(Self, Recorded), CacheError> {
        let dir = cache.join(DIR);
        match Self::try_open(&dir) {
            Ok(opened) => return Ok(opened),
            // The index itself is fine.
            Err(source) if is_locked(&source) => return Err(CacheError::Index { dir, source }),
            Err(error) => {
                tracing::warn!(path = %dir.display(), %error, "the index is damaged: it is made anew from the files");
            }
        }
        remove(&dir)?;
        Self::try_open(&dir).map_err(|source| CacheError::Index { dir, source })
    }

    fn try_open(dir: &Path) -> sled::Result<(Self, Recorded)> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // On some damaged files sled panics.
            let opened = catch_unwind(AssertUnwindSafe(|| Self::open_and_read(dir)));
            let opened = opened.unwrap_or_else(|_| Err(sled::Error::ReportableBug("it panicked".to_owned())));
            match opened {
                Err(error) if is_locked(&error) && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(5));
                }
                opened => return opened,
            }
        }
    }

    fn open_and_read(dir: &Path) -> sled::Result<(Self, Recorded)> {
        let db = sled::Config::new().path(dir).cache_capacity(CACHE_CAPACITY).open()?;
        let fresh = !db.was_recovered();
        if !fresh && db.get(VERSION)?.as_deref() != Some(FORMAT) {
            return Err(sled::Error::Unsupported("its version is another one".to_owned()));
        }
        let index = Self {
            blobs: db.open_tree("blobs")?,
            values: db.open_tree("values")?,
            peers: db.open_tree("peers")?,
            notes: db.open_tree("notes")?,
            dir: dir.to_owned(),
            db,
            failed: false,
        };
        let malformed = || sled::Error::ReportableBug("a record is malformed".to_owned());
        let mut recorded = Recorded::default();
        for record in &index.blobs {
            let (hash, length) = record?;
            recorded
                .blobs
                .push(decode(&hash, &length).map(|(hash, n)| (BlobHash::from_bytes(hash), n)).ok_or_else(malformed)?);
        }
        for record in &index.values {
            let (root, used) = record?;
            recorded
                .values
                .push(decode(&root, &used).map(|(root, n)| (Root::from_bytes(root), n)).ok_or_else(malformed)?);
        }
        for record in &index.peers {
            let (peer, known) = record?;
            recorded.peers.push(KnownPeer::decode(&peer, &known).ok_or_else(malformed)?);
        }
        if fresh {
            index.db.insert(VERSION, FORMAT)?;
            index.db.flush()?;
        }
        Ok((index, recorded))
    }

    pub(super) fn blob_stored(&mut self, hash: BlobHash, length: u64) {
        let inserted = self.blobs.insert(hash.as_bytes(), &length.to_le_bytes());
        self.note(inserted);
        fail::fail_point!("cache::write-index", |_| self
            .note::<()>(Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into())));
    }

    pub(super) fn blob_removed(&mut self, hash: BlobHash) {
        let removed = self.blobs.remove(hash.as_bytes());
        self.note(removed);
    }

    pub(super) fn value_used(&mut self, root: Root, used: u64) {
        let inserted = self.values.insert(root.as_bytes(), &used.to_le_bytes());
        self.note(inserted);
    }

    pub(super) fn value_forgotten(&mut self, root: Root) {
        let removed = self.values.remove(root.as_bytes());
        self.note(removed);
    }

    pub(super) fn peer_remembered(&mut self, peer: &KnownPeer) {
        let inserted = self.peers.insert(peer.peer.to_bytes(), peer.encode());
        self.note(inserted);
    }

    pub(super) fn peer_forgotten(&mut self, peer: &PeerId) {
        let removed = self.peers.remove(peer.to_bytes());
        self.note(removed);
    }

    pub(super) fn noted(&mut self, name: &[u8], note: Option<&[u8]>) {
        let noted = match note {
            Some(note) => self.notes.insert(name, note),
            None => self.notes.remove(name),
        };
        self.note(noted);
    }

    pub(super) fn notes(&self, beginning: &[u8]) -> sled::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        self.notes.scan_prefix(beginning).map(|note| note.map(|(name, note)| (name.to_vec(), note.to_vec()))).collect()
    }

    /// Bytes of its files.
    pub(super) fn bytes(&self) -> sled::Result<u64> {
        self.db.size_on_disk()
    }

    /// A put doesn't fail because of the index: what it doesn't know is found in the files when the cache opens.
    fn note<T>(&mut self, written: sled::Result<T>) {
        if let Err(error) = written
            && !self.failed
        {
            self.failed = true;
            tracing::warn!(path = %self.dir.display(), %error, "the index can't be written: the next start makes it anew");
        }
    }

    /// Don't trust the index when it is opened again: the files differ from what it says.
    pub(super) fn distrust(&mut self) {
        self.failed = true;
    }

    /// Flushes and closes the index. Returns whether it can be trusted when it is opened again.
    pub(super) fn close(mut self) -> bool {
        let flushed = self.db.flush();
        self.note(flushed);
        !self.failed
    }
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

pub(super) fn decode(hash: &[u8], number: &[u8]) -> Option<([u8; 32], u64)> {
    Some((hash.try_into().ok()?, u64::from_le_bytes(number.try_into().ok()?)))
}
