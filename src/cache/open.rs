//! Opening a cache: finding out what is there, from the index or from the files.

use super::{
    CacheError,
    contents::{Chunk, Contents, distinct_chunks},
    error::failed,
    files::{Checked, Files, remove},
    index::{Index, Recorded},
    peers::Peers,
};
use crate::{
    durable_file,
    entries::Conflict,
    weights::{BlobHash, FederationId, MAX_MANIFEST_BYTES, Manifest, Root, SignedEntry},
};
use std::{
    collections::{HashMap, HashSet},
    fs::{File, TryLockError},
    io::{self, Read},
    path::Path,
    sync::Arc,
};

const LOCK: &str = "lock";
const CLOSED: &str = "closed";

/// Keeps others from opening the cache as long as the file is open. The home's lock already does so, except against a
/// bug in this program, which would mean two indexes over the same files.
pub(super) fn lock(dir: &Path) -> Result<File, CacheError> {
    let path = dir.join(LOCK);
    let opened = File::options().write(true).create(true).truncate(false).open(&path);
    let file = opened.map_err(failed("opening", &path))?;
    match durable_file::lock(&file) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CacheError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed("locking", &path)(error)),
    }
}

/// Records that the cache was closed, and which blobs its index lists. This isn't kept in the index, so that we notice
/// an index that fell back to an earlier state, as databases do when their newest pages are damaged. Before that the
/// blobs' names are flushed: nobody would look for one that came back after a cut of the power.
pub(super) fn mark_closed(files: &Files, state: &Contents) -> Result<(), CacheError> {
    files.sync_names()?;
    let path = files.dir().join(CLOSED);
    fail::fail_point!("cache::mark-closed", |_| Err(failed("writing", &path)(io::ErrorKind::StorageFull.into())));
    let digest = digest(state.blobs().into_iter().collect());
    durable_file::replace(&path, true, |file| file.write_all(&digest)).map_err(failed("writing", &path))
}

/// What [`mark_closed`] left. It is removed before the first file changes.
fn take_closed(dir: &Path) -> Result<Option<Vec<u8>>, CacheError> {
    let path = dir.join(CLOSED);
    let mut mark = Vec::new();
    match File::open(&path).and_then(|file| file.take(33).read_to_end(&mut mark)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // Without it the files are listed.
        Err(_) => mark.clear(),
        Ok(_) => {}
    };
    remove(&path)?;
    durable_file::sync_dir(dir).map_err(failed("flushing", dir))?;
    Ok(Some(mark))
}

fn digest(mut blobs: Vec<(BlobHash, u64)>) -> [u8; 32] {
    blobs.sort_unstable();
    let mut hasher = blake3::Hasher::new_derive_key("peerfold 2026 cache index v1");
    for (hash, length) in blobs {
        hasher.update(hash.as_bytes()).update(&length.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// What was found.
pub(super) struct Found {
    pub(super) index: Index,
    pub(super) state: Contents,
    pub(super) entries: Vec<Arc<SignedEntry>>,
    pub(super) proofs: Vec<Conflict>,
    pub(super) peers: Peers,
}

/// Reads the entries and the manifests, and lists the blobs: by the index if it was closed, else by the files. Blobs
/// that no known value names are removed.
pub(super) fn take_stock(files: &Files, federation: FederationId) -> Result<Found, CacheError> {
    let closed = take_closed(files.dir())?;
    let (mut index, recorded) = Index::open(files.dir())?;
    let believed = closed.is_some_and(|mark| mark == digest(recorded.blobs.clone()));
    let entries = files.read_entries(federation)?;
    let proofs = files.read_proofs(federation)?;
    let mut state = Contents::default();
    let stored = if believed { recorded.blobs.clone() } else { files.list_blobs()? };
    if !believed && !stored.is_empty() {
        tracing::info!(path = %files.dir().display(), blobs = stored.len(), "the cache was not closed, or its index lost: its files were listed");
    }
    stored.iter().for_each(|&(hash, length)| state.stored(hash, length));
    learn_values(files, &mut state, &recorded, &entries)?;
    remove_misfits(files, &mut state, &stored)?;
    loop {
        let garbage = state.take_garbage(usize::MAX);
        if garbage.is_empty() {
            break;
        }
        garbage.iter().try_for_each(|&hash| files.remove_blob(hash))?;
    }
    record(&mut index, &recorded, &state);
    Ok(Found { index, state, entries, proofs, peers: Peers::new(recorded.peers) })
}

/// Learns the values that the index or an entry names and whose manifest is there.
fn learn_values(
    files: &Files,
    state: &mut Contents,
    recorded: &Recorded,
    entries: &[Arc<SignedEntry>],
) -> Result<(), CacheError> {
    // If the index was lost, the order of uses is unknown.
    let mut used: HashMap<Root, u64> = entries.iter().filter_map(|entry| Some((entry.root()?, 0))).collect();
    used.extend(recorded.values.iter().copied());
    let mut by_use: Vec<(Root, u64)> = used.into_iter().collect();
    by_use.sort_unstable_by_key(|&(root, used)| (used, root));
    for (root, used) in by_use {
        if state.length(root.into()).is_none() {
            continue;
        }
        let path = files.blob(root.into());
        let bytes = files.read_blob(root.into(), MAX_MANIFEST_BYTES as u64);
        match bytes {
            Ok(bytes) if Manifest::root_of(&bytes) == root => {
                // An author may sign a root that is the hash of something else.
                if let Some(chunks) = Manifest::decode(&bytes).ok().and_then(|manifest| distinct_chunks(&manifest)) {
                    state.learn(root, chunks, Some(used));
                }
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("reading", &path)(error)),
            _ => {
                tracing::warn!(path = %path.display(), "a damaged manifest is removed from the cache");
                files.remove_blob(root.into())?;
                state.removed(root.into());
            }
        }
    }
    Ok(())
}

/// Removes chunks that are not as long as any manifest says: a kill of the system may leave such files of what was
/// fetched and not flushed.
fn remove_misfits(files: &Files, state: &mut Contents, stored: &[(BlobHash, u64)]) -> Result<(), CacheError> {
    let listed: HashSet<Chunk> = state.listed().collect();
    for &(hash, length) in stored {
        let misfits = state.is_named(hash) && !state.has_manifest(Root::from_bytes(*hash.as_bytes()));
        if misfits && state.length(hash).is_some() && !listed.contains(&(hash, length)) {
            // Unless the manifest lies.
            let path = files.blob(hash);
            if files.check_blob(hash).map_err(failed("reading", &path))? == Checked::Good {
                continue;
            }
            tracing::warn!(path = %path.display(), length, "a damaged chunk is removed from the cache");
            files.remove_blob(hash)?;
            state.removed(hash);
        }
    }
    Ok(())
}

/// Brings the index into agreement with the files.
fn record(index: &mut Index, recorded: &Recorded, state: &Contents) {
    let (blobs, values) = (state.blobs(), state.values());
    let recorded_blobs: HashSet<(BlobHash, u64)> = recorded.blobs.iter().copied().collect();
    let recorded_values: HashSet<(Root, u64)> = recorded.values.iter().copied().collect();
    recorded_blobs.difference(&blobs).for_each(|&(hash, _)| index.blob_removed(hash));
    blobs.difference(&recorded_blobs).for_each(|&(hash, length)| index.blob_stored(hash, length));
    recorded_values.difference(&values).for_each(|&(root, _)| index.value_forgotten(root));
    values.difference(&recorded_values).for_each(|&(root, used)| index.value_used(root, used));
}
