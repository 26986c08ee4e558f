//! The cache's files: their names, and how they are written, read and removed.

use super::{CacheError, error::failed};
use crate::{
    durable_file,
    entries::{Conflict, ProofError},
    weights::{BlobHash, EntryHash, FederationId, MAX_ENTRY_BYTES, MAX_MANIFEST_BYTES, SignedEntry},
};
use libp2p_identity::PeerId;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

const BLOBS: &str = "blobs";
const ENTRIES: &str = "entries";
const PROOFS: &str = "proofs";
const PARTIAL: &str = "partial";
/// Two entries, each with its length before it.
const MAX_PROOF_BYTES: u64 = 2 * (MAX_ENTRY_BYTES as u64 + 2);

/// The directories of a cache.
pub(super) struct Files {
    dir: PathBuf,
    /// Names the next half-written file.
    next: AtomicU64,
    /// Directories of blobs in which names came or went.
    changed: Mutex<BTreeSet<PathBuf>>,
}

impl Files {
    /// Makes the directories and removes what a crash left half-written.
    pub(super) fn create(dir: &Path) -> Result<Self, CacheError> {
        let files = Self { dir: dir.to_owned(), next: AtomicU64::new(0), changed: Mutex::default() };
        let blobs = dir.join(BLOBS);
        let [entries, proofs, partial] = [ENTRIES, PROOFS, PARTIAL].map(|name| dir.join(name));
        for made in [&entries, &proofs, &partial, &blobs] {
            durable_file::create_dir_all(made, true).map_err(failed("creating", made))?;
        }
        for cleaned in [dir, &entries, &proofs] {
            durable_file::remove_partial(cleaned).map_err(failed("cleaning", cleaned))?;
        }
        // An entry that is here is published, and nobody writes it again.
        durable_file::settle(dir).map_err(failed("flushing", dir))?;
        for names in [&entries, &proofs] {
            durable_file::sync_dir(names).map_err(failed("flushing", names))?;
        }
        for leftover in list(&partial)? {
            remove(&leftover)?;
        }
        Ok(files)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn blobs(&self) -> PathBuf {
        self.dir.join(BLOBS)
    }

    /// The directories that the names of these blobs are in.
    pub(super) fn shards(&self, blobs: impl Iterator<Item = BlobHash>) -> Vec<PathBuf> {
        let shards: BTreeSet<PathBuf> = blobs.map(|hash| self.shard(hash)).chain([self.blobs()]).collect();
        shards.into_iter().collect()
    }

    fn shard(&self, hash: BlobHash) -> PathBuf {
        self.blobs().join(&hash.to_string()[..2])
    }

    pub(super) fn blob(&self, hash: BlobHash) -> PathBuf {
        self.shard(hash).join(hash.to_string())
    }

    fn entry(&self, hash: EntryHash) -> PathBuf {
        self.dir.join(ENTRIES).join(hash.to_string())
    }

    fn proof(&self, author: PeerId) -> PathBuf {
        self.dir.join(PROOFS).join(author.to_base58())
    }

    /// Writes a file that isn't in its place yet. If it is `durable`, it is on the disk when this returns.
    pub(super) fn write_partial(&self, bytes: &[u8], durable: bool) -> Result<Partial, CacheError> {
        let path = self.dir.join(PARTIAL).join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fail::fail_point!("cache::write", |_| Err(failed("writing", &path)(io::ErrorKind::StorageFull.into())));
        let mut file = File::create_new(&path).map_err(failed("creating", &path))?;
        let partial = Partial { path };
        file.write_all(bytes).map_err(failed("writing", &partial.path))?;
        if durable {
            file.sync_all().map_err(failed("flushing", &partial.path))?;
        }
        Ok(partial)
    }

    /// Moves a blob into its place.
    pub(super) fn place_blob(&self, partial: Partial, hash: BlobHash) -> Result<(), CacheError> {
        let (path, shard) = (self.blob(hash), self.shard(hash));
        self.changes(&shard);
        fail::fail_point!("cache::place", |_| Err(failed("creating", &shard)(io::ErrorKind::StorageFull.into())));
        match fs::create_dir(&shard) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("creating", &shard)(error)),
            _ => partial.rename(&path),
        }
    }

    /// The bytes of a blob, unverified. At most one byte more than `limit` is read.
    pub(super) fn read_blob(&self, hash: BlobHash, limit: u64) -> io::Result<Vec<u8>> {
        read(&self.blob(hash), limit)
    }

    /// What became of the file of a blob.
    pub(super) fn check_blob(&self, hash: BlobHash) -> io::Result<Checked> {
        let file = match File::open(self.blob(hash)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Checked::Missing),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        // A file that the disk can't read any more is damaged. That no file can be opened right now says nothing about
        // this one.
        let read = file.take(MAX_MANIFEST_BYTES as u64 + 1).read_to_end(&mut bytes);
        Ok(if read.is_ok() && BlobHash::of(&bytes) == hash { Checked::Good } else { Checked::Damaged })
    }

    /// Flushes a blob's file to the disk if it has these bytes. `false` if it hasn't, or doesn't exist.
    pub(super) fn sync_blob(&self, hash: BlobHash, bytes: &[u8]) -> Result<bool, CacheError> {
        let path = self.blob(hash);
        if read(&path, bytes.len() as u64).is_ok_and(|stored| stored == bytes) {
            let flushed = File::open(&path).and_then(|file| file.sync_all());
            return flushed.map(|()| true).map_err(failed("flushing", &path));
        }
        Ok(false)
    }

    fn changes(&self, shard: &Path) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(shard.to_owned());
    }

    /// Flushes the names of blobs as they are now: what came and what went.
    pub(super) fn sync_names(&self) -> Result<(), CacheError> {
        let mut changed = std::mem::take(&mut *self.changed.lock().unwrap_or_else(PoisonError::into_inner));
        changed.insert(self.blobs());
        // One that is gone has no names.
        let mut there = changed.iter().filter(|shard| shard.is_dir());
        there.try_for_each(|shard| durable_file::sync_dir(shard).map_err(failed("flushing", shard)))
    }

    /// Removes the file of a blob, if there is one.
    pub(super) fn remove_blob(&self, hash: BlobHash) -> Result<(), CacheError> {
        self.changes(&self.shard(hash));
        remove(&self.blob(hash))
    }

    /// The blobs that have files, with their lengths. Files that can't be blobs are removed.
    pub(super) fn list_blobs(&self) -> Result<Vec<(BlobHash, u64)>, CacheError> {
        let mut found = Vec::new();
        let is_dir = |path: &PathBuf| path.is_dir();
        for shard in list_all(&self.blobs())?.into_iter().filter(is_dir) {
            for path in list(&shard)? {
                let hash = path.file_name().and_then(|name| name.to_str()?.parse::<BlobHash>().ok());
                let Some(hash) = hash.filter(|&hash| self.blob(hash) == path) else {
                    discard(&path, "not the name of a blob");
                    continue;
                };
                let length = fs::metadata(&path).map_err(failed("looking at", &path))?.len();
                if length == 0 || length > MAX_MANIFEST_BYTES as u64 {
                    discard(&path, "of a length that no blob has");
                    continue;
                }
                found.push((hash, length));
            }
        }
        Ok(found)
    }

    /// Writes an entry. If it is `durable`, it is on the disk when this returns.
    pub(super) fn write_entry(&self, entry: &SignedEntry, durable: bool) -> Result<(), CacheError> {
        let path = self.entry(entry.hash());
        if durable {
            fail::fail_point!("cache::write-entry", |_| Err(failed("writing", &path)(
                io::ErrorKind::StorageFull.into()
            )));
            if self.sync_entry(&path, entry.bytes())? {
                return Ok(());
            }
            return durable_file::replace(&path, true, |file| file.write_all(entry.bytes()))
                .map_err(failed("writing", &path));
        }
        self.write_partial(entry.bytes(), false)?.rename(&path)
    }

    /// Flushes an entry that was learned from others if its file is as it should be. `false` if it isn't.
    fn sync_entry(&self, path: &Path, bytes: &[u8]) -> Result<bool, CacheError> {
        if !read(path, MAX_ENTRY_BYTES as u64).is_ok_and(|stored| stored == bytes) {
            return Ok(false);
        }
        let flushed = File::open(path).and_then(|file| file.sync_all());
        let entries = self.dir.join(ENTRIES);
        flushed.and_then(|()| durable_file::sync_dir(&entries)).map_err(failed("flushing", path))?;
        Ok(true)
    }

    pub(super) fn entry_written_at(&self, hash: EntryHash) -> Option<SystemTime> {
        fs::metadata(self.entry(hash)).ok()?.modified().ok()
    }

    pub(super) fn remove_entry(&self, hash: EntryHash) -> Result<(), CacheError> {
        remove(&self.entry(hash))
    }

    /// The entries that have files, verified. Damaged ones and those of other federations are removed; those written by
    /// a newer version of this program are skipped.
    pub(super) fn read_entries(&self, federation: FederationId) -> Result<Vec<Arc<SignedEntry>>, CacheError> {
        let mut found = Vec::new();
        for path in list(&self.dir.join(ENTRIES))? {
            let bytes = read(&path, MAX_ENTRY_BYTES as u64).map_err(failed("reading", &path))?;
            let hash = EntryHash::from_bytes(*blake3::hash(&bytes).as_bytes());
            if self.entry(hash) != path {
                discard(&path, "damaged");
                continue;
            }
            match SignedEntry::decode(&bytes) {
                Ok(entry) if entry.federation != federation => discard(&path, "of another federation or run"),
                Ok(entry) => found.push(Arc::new(entry)),
                Err(error) if error.is_newer() => {
                    tracing::warn!(path = %path.display(), %error, "entry passed over");
                }
                Err(error) => discard(&path, &error.to_string()),
            }
        }
        Ok(found)
    }

    /// Writes a proof. When it returns, it is on the disk.
    pub(super) fn write_proof(&self, conflict: &Conflict) -> Result<(), CacheError> {
        let path = self.proof(conflict.author());
        fail::fail_point!("cache::write-proof", |_| Err(failed("writing", &path)(io::ErrorKind::StorageFull.into())));
        durable_file::replace(&path, true, |file| {
            conflict.entries.iter().try_for_each(|entry| {
                let length = u16::try_from(entry.bytes().len()).map_err(|_| io::ErrorKind::InvalidInput)?;
                file.write_all(&length.to_le_bytes())?;
                file.write_all(entry.bytes())
            })
        })
        .map_err(failed("writing", &path))
    }

    /// Removes a proof. When it returns, it is gone from the disk.
    pub(super) fn remove_proof(&self, author: PeerId) -> Result<(), CacheError> {
        let (path, proofs) = (self.proof(author), self.dir.join(PROOFS));
        remove(&path)?;
        durable_file::sync_dir(&proofs).map_err(failed("flushing", &proofs))
    }

    /// The proofs that have files, verified. Those that prove nothing in this federation are removed;
    /// those written by a newer version of this program are skipped.
    pub(super) fn read_proofs(&self, federation: FederationId) -> Result<Vec<Conflict>, CacheError> {
        let mut found = Vec::new();
        for path in list(&self.dir.join(PROOFS))? {
            let bytes = read(&path, MAX_PROOF_BYTES).map_err(failed("reading", &path))?;
            match decode_proof(&bytes) {
                Ok(conflict)
                    if conflict.entries[0].federation == federation && self.proof(conflict.author()) == path =>
                {
                    found.push(conflict);
                }
                Err(ProofError::Entry(error)) if error.is_newer() => {
                    tracing::warn!(path = %path.display(), %error, "proof passed over");
                }
                _ => discard(&path, "it proves nothing"),
            }
        }
        Ok(found)
    }
}

/// What [`Files::check_blob`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checked {
    Good,
    Damaged,
    Missing,
}

/// A file that is written but not in its place yet. Removed when dropped.
pub(super) struct Partial {
    /// Empty once it has its place.
    path: PathBuf,
}

impl Partial {
    pub(super) fn rename(mut self, to: &Path) -> Result<(), CacheError> {
        if let Err(error) = fs::rename(&self.path, to) {
            // A directory in the place of a file is damage like any other.
            if !to.is_dir() {
                return Err(failed("writing", to)(error));
            }
            remove(to)?;
            fs::rename(&self.path, to).map_err(failed("writing", to))?;
        }
        self.path.clear();
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // If that fails, the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

pub(super) fn decode_proof(bytes: &[u8]) -> Result<Conflict, ProofError> {
    let both = split_prefixed(bytes).and_then(|(first, rest)| Some((first, split_prefixed(rest)?)));
    match both {
        Some((first, (second, []))) => Conflict::decode([first, second]),
        _ => Err(ProofError::NoProof),
    }
}

fn split_prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))
}

/// At most `limit` bytes of a file and one more, to tell that there are too many.
fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len().min(limit) as usize;
    let mut bytes = Vec::with_capacity(length + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files in a directory. Anything that isn't a file isn't the cache's, and is left alone.
fn list(dir: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let all = list_all(dir)?;
    Ok(all.into_iter().filter(|path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file())).collect())
}

fn list_all(dir: &Path) -> Result<Vec<PathBuf>, CacheError> {
    let listed = fs::read_dir(dir).and_then(|files| files.map(|file| Ok(file?.path())).collect());
    listed.map_err(failed("listing", dir))
}

/// Removes a file, or whatever is in its place.
pub(super) fn remove(path: &Path) -> Result<(), CacheError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", path)(error)),
        _ => Ok(()),
    }
}

/// Removes what doesn't belong there, with a warning. A file that can't be removed doesn't prevent a start.
fn discard(path: &Path, reason: &str) {
    match remove(path) {
        Ok(()) => tracing::warn!(path = %path.display(), reason, "removed from the cache"),
        Err(error) => tracing::warn!(path = %path.display(), reason, %error, "passed over in the cache"),
    }
}
