//! What a node keeps of one federation on its disk: entries, manifests, chunks, and the peers it has met.
//!
//! ```text
//! <dir>/blobs/<2 digits>/<64 digits>   a manifest or a chunk, named by the BLAKE3 hash of its bytes
//! <dir>/entries/<entry hash>           one signed entry
//! <dir>/proofs/<author>                the two entries for which an author is excluded
//! <dir>/index/                         sled: which blobs there are, uses of values, peers, notes
//! <dir>/partial/                       files that are being written; renamed into place
//! <dir>/closed                         there while nobody has it open: which blobs the index lists
//! ```
//!
//! The files are the truth. The index saves looking at all of them, and is rebuilt from them when it is lost or
//! damaged, or when the last process didn't close it; only the peers, the notes and the order of uses are lost with it.
//!
//! What the node itself publishes is flushed to the disk, the value before the entry, before [`Cache::put_value`] and
//! [`Cache::put_entry`] return. What comes from others is renamed into place without a flush, because it can be fetched
//! again. A power failure may lose it, or leave damaged files in its place. So **nothing is returned unverified**
//! unless the method says so, and whatever is found damaged is forgotten. Killing only the process loses nothing that
//! was stored.
//!
//! Values share chunks: an unchanged tensor is stored once. A chunk stays as long as a known value names it.
//!
//! The quota bounds everything here. Room is made before anything is written, so it isn't exceeded for a moment either;
//! what there is no room for is refused with [`CacheError::Full`]. `Retention` says what goes first.
//!
//! All of it blocks on the disk: call it off the async runtime. The lock on the bookkeeping is not held while chunks
//! are read, written or flushed, so that peers are served during a put.

mod contents;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod error;
mod fetch;
mod figures;
mod files;
mod index;
mod open;
mod peers;
mod put;
mod retention;
mod room;
mod value;

pub use self::{
    error::CacheError,
    fetch::{Look, Stored},
    figures::CacheFigures,
    peers::{KnownPeer, MAX_ADDRESS_BYTES, MAX_PEER_ADDRESSES, MAX_PEERS},
    retention::Retention,
    value::{CachedValue, Pin},
};

use crate::{
    durable_file,
    entries::{Conflict, EntryLimits},
    settings::settings,
    weights::{BlobHash, EntryHash, FederationId, Root, SignedEntry},
};
use bytesize::ByteSize;
use contents::Contents;
use error::failed;
use files::Files;
use index::Index;
use libp2p_identity::PeerId;
use peers::Peers;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::SystemTime,
};

settings! {
    /// How a federation's cache is kept.
    pub struct CacheSettings under "Network" {
        /// Bytes that the cache in the home may take. For new values it drops what nobody needs any more, then the
        /// updates of strangers, then those of other peers.
        pub quota as "cache-quota": ByteSize = ByteSize::gib(8), "SIZE";
        /// Bytes of it that the newest updates of strangers may take, but no more than a quarter.
        pub strangers as "cache-stranger-quota": ByteSize = ByteSize::gib(1), "SIZE";
    }
    nested {
        /// Of how many entries and authors anything is kept.
        pub entries: EntryLimits;
    }
}

impl CacheSettings {
    /// The limits on entries, with what strangers may make this cache keep.
    pub fn entry_limits(&self) -> EntryLimits {
        let stranger_bytes = self.strangers.as_u64().min(self.quota.as_u64() / 4);
        EntryLimits { stranger_bytes, ..self.entries.clone() }
    }
}

/// A cache that was opened, and what was found in it.
#[derive(Debug)]
pub struct Opened {
    /// The cache.
    pub cache: Cache,
    /// The entries, verified and of this federation, in no particular order.
    pub entries: Vec<Arc<SignedEntry>>,
    /// The proofs, verified and of this federation.
    pub proofs: Vec<Conflict>,
    /// The remembered peers, most recently seen first.
    pub peers: Vec<KnownPeer>,
}

/// The cache of one federation. Clones are handles to the same cache.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<OpenCache>,
}

/// State shared by the handles.
struct OpenCache {
    federation: FederationId,
    quota: u64,
    files: Files,
    /// Held shared while an entry is written and published, and exclusively while entries are removed. Taken before
    /// `inner`.
    publishing: RwLock<()>,
    inner: Mutex<Inner>,
}

struct Inner {
    state: Contents,
    /// The entries that have files.
    entries: BTreeSet<EntryHash>,
    /// The authors against whom there are proofs.
    proofs: BTreeSet<PeerId>,
    peers: Peers,
    /// Bytes that are about to be stored.
    reserved: u64,
    /// Bytes of the index, when they were last looked at.
    index_bytes: u64,
    /// Whether a warning was given that the quota is exceeded.
    over_quota: bool,
    /// Whether a warning was given that there is no room.
    told_full: bool,
    /// How often there was no room.
    refused: u64,
    /// Values evicted since it was opened.
    evicted: u64,
    /// `None` once it is closed. The lock is the last field: others may open the cache once the index is closed.
    open: Option<(Index, File)>,
}

impl Inner {
    /// Tells the index something, unless it is closed.
    fn index(&mut self, tell: impl FnOnce(&mut Index)) {
        if let Some((index, _)) = &mut self.open {
            tell(index);
        }
    }

    fn close(&mut self, files: &Files) {
        if let Some((index, lock)) = self.open.take() {
            let believable = index.close();
            if let Err(error) = if believable { open::mark_closed(files, &self.state) } else { Ok(()) } {
                tracing::warn!(%error, "the next start has to look at all files of the cache");
            }
            drop(lock);
        }
    }
}

impl Cache {
    /// Opens the cache in a directory, which is made if it isn't there, and finds out what is in it. What a kill left
    /// half-written and what nothing names is removed; so is what is damaged or of another federation, with a warning.
    ///
    /// Errors if it is open already, or if files can't be read or written. A lost or damaged index is no error.
    pub fn open(dir: &Path, federation: FederationId, settings: &CacheSettings) -> Result<Opened, CacheError> {
        durable_file::create_dir_all(dir, true).map_err(failed("creating", dir))?;
        let lock = open::lock(dir)?;
        let files = Files::create(dir)?;
        let found = open::take_stock(&files, federation)?;
        let peers = found.peers.list();
        let mut inner = Inner {
            state: found.state,
            entries: found.entries.iter().map(|entry| entry.hash()).collect(),
            proofs: found.proofs.iter().map(Conflict::author).collect(),
            peers: found.peers,
            reserved: 0,
            index_bytes: 0,
            over_quota: false,
            told_full: false,
            refused: 0,
            evicted: 0,
            open: Some((found.index, lock)),
        };
        inner.measure_index();
        let (publishing, inner) = (RwLock::new(()), Mutex::new(inner));
        let shared = Arc::new(OpenCache { federation, quota: settings.quota.as_u64(), files, publishing, inner });
        Ok(Opened { cache: Self { shared }, entries: found.entries, proofs: found.proofs, peers })
    }

    /// Bytes of the stored blobs.
    pub fn used(&self) -> u64 {
        self.inner().state.used()
    }

    /// How full it is.
    pub fn figures(&self) -> CacheFigures {
        let inner = self.inner();
        let quota = self.shared.quota;
        CacheFigures {
            used: inner.state.used(),
            quota,
            room: inner.room(quota),
            evicted: inner.evicted,
            refused: inner.refused,
            entries: inner.entries.len() as u64,
        }
    }

    /// Whether this value's manifest is known, whatever else of it is here.
    pub fn knows(&self, root: Root) -> bool {
        self.inner().state.knows(root)
    }

    /// When the file of an entry was written.
    pub fn entry_written_at(&self, entry: EntryHash) -> Option<SystemTime> {
        self.shared.files.entry_written_at(entry)
    }

    /// Where a blob is stored, if it is. The file is never written again under this name: it goes, or another takes its
    /// place.
    pub fn blob_path(&self, blob: BlobHash) -> PathBuf {
        self.shared.files.blob(blob)
    }

    /// Remembers a peer, replacing what was known of it. Beyond [`MAX_PEERS`], those unseen for the longest are
    /// forgotten.
    pub fn remember(&self, peer: &KnownPeer) -> Result<(), CacheError> {
        let mut inner = self.open_inner()?;
        let (bounded, gone) = inner.peers.remember(peer);
        inner.index(|index| {
            index.peer_remembered(&bounded);
            gone.iter().for_each(|gone| index.peer_forgotten(gone));
        });
        Ok(())
    }

    /// Forgets a peer.
    pub fn forget(&self, peer: &PeerId) -> Result<(), CacheError> {
        let mut inner = self.open_inner()?;
        inner.peers.forget(peer);
        inner.index(|index| index.peer_forgotten(peer));
        Ok(())
    }

    /// Stores a note under a name, or removes it. It reaches the disk eventually: a kill may lose the notes of the last
    /// second, and losing the index loses all of them. The caller must bound how many there are.
    pub fn note(&self, name: &[u8], note: Option<&[u8]>) -> Result<(), CacheError> {
        self.open_inner()?.index(|index| index.noted(name, note));
        Ok(())
    }

    /// The notes under names with this prefix.
    pub fn notes(&self, beginning: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, CacheError> {
        let dir = self.shared.files.dir();
        match &self.open_inner()?.open {
            Some((index, _)) => {
                index.notes(beginning).map_err(|source| CacheError::Index { dir: dir.to_owned(), source })
            }
            None => Err(CacheError::Closed { dir: dir.to_owned() }),
        }
    }

    /// Flushes the index and records that, so that the next start is quick. From now on the directory can be opened
    /// again. This cache no longer returns or stores anything, but [values](CachedValue) in hand stay readable as long
    /// as nobody removes them. Dropping the last handle, pins included, closes it too.
    pub fn close(&self) {
        self.inner().close(&self.shared.files);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bookkeeping, if the cache isn't closed.
    fn open_inner(&self) -> Result<MutexGuard<'_, Inner>, CacheError> {
        let inner = self.inner();
        match inner.open {
            Some(_) => Ok(inner),
            None => Err(CacheError::Closed { dir: self.shared.files.dir().to_owned() }),
        }
    }
}

impl Drop for OpenCache {
    fn drop(&mut self) {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).close(&self.files);
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("dir", &self.shared.files.dir()).finish_non_exhaustive()
    }
}
