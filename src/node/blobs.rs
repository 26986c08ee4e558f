//! The large parts of checkpoints, in files that never change. Equal parts are stored once, however many heads name
//! them.
//!
//! ```text
//! <run>/blobs/<hash>                       a state: the training program's, the strategy's
//! <run>/blobs/<root>.weights               weights, chunk after chunk
//! <run>/blobs/<root>.chunks/<chunk hash>   weights, a chunk a file
//! ```
//!
//! Weights that the shared folder has already taken in are hard links to its files, so neither the folder's clean-up
//! nor anybody who removes files there takes them away. A file counts if a head, that is a [`Checkpoint`] or
//! [`Progress`](super::Progress), names it; all others are removed.
//!
//! [`Checkpoint`]: super::Checkpoint

use super::CheckpointError;
use crate::{
    durable_file,
    folder::{ChunkStore, Staged, StagedFiles, Value},
    weights::{Manifest, ReadError, Root, Weights, read_all},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tempfile::NamedTempFile;

const DIR: &str = "blobs";
/// Bytes hashed or copied at a time.
const PIECE: usize = 1 << 18;

/// Bytes in a file that is named by their hash. There is no file for zero bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BlobId {
    hash: [u8; 32],
    pub(super) length: u64,
}

impl BlobId {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { hash: blake3::hash(bytes).into(), length: bytes.len() as u64 }
    }

    pub(super) fn hash(&self) -> blake3::Hash {
        self.hash.into()
    }

    pub(super) fn name(&self) -> String {
        self.hash().to_hex().to_string()
    }
}

/// Weights, and where their chunks are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedWeights {
    manifest: Bytes,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    /// One after another in one file, the first one at this offset.
    File { start: u64 },
    /// Each in a file.
    Chunks,
}

impl Place {
    fn name(self, root: Root) -> String {
        match self {
            Self::File { .. } => format!("{root}.weights"),
            Self::Chunks => format!("{root}.chunks"),
        }
    }
}

impl SavedWeights {
    pub(super) fn root(&self) -> Root {
        Manifest::root_of(&self.manifest)
    }

    pub(super) fn name(&self) -> String {
        self.place.name(self.root())
    }
}

/// Why a blob can't be read or stored.
#[derive(Debug)]
pub(super) enum BlobError {
    /// It isn't what the head names; which file, and how.
    Damaged(String),
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl BlobError {
    /// Whether there is no room on the disk.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if durable_file::is_full(source))
    }

    /// As an error of the head that names it.
    pub(super) fn of(self, head: &Path) -> CheckpointError {
        match self {
            Self::Damaged(what) => CheckpointError::Damaged { path: head.to_owned(), what },
            Self::Io { what, path, source } => CheckpointError::Io { what, path, source },
        }
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |source| BlobError::Io { what, path, source }
}

fn damaged(path: &Path, how: &str) -> BlobError {
    BlobError::Damaged(format!("its file {} {how}", path.display()))
}

/// A missing file is damage. That a file can't be read right now says nothing about it.
fn unreadable(path: &Path, error: io::Error) -> BlobError {
    match error.kind() {
        io::ErrorKind::NotFound => damaged(path, "is missing"),
        io::ErrorKind::UnexpectedEof => damaged(path, "is cut short"),
        _ => failed("reading a file of", path)(error),
    }
}

/// The blobs of one run. All of it blocks on the disk.
pub(super) struct Blobs {
    dir: PathBuf,
    known: Mutex<Known>,
    /// Held from storing blobs until a head names them, and while sweeping: the work of a cancelled caller goes on
    /// beside that of the next one.
    saving: Mutex<()>,
}

#[derive(Default)]
struct Known {
    /// Weights that this process has written, or read whole.
    weights: HashMap<Root, Place>,
    /// States, likewise.
    states: HashSet<[u8; 32]>,
    /// How many users hold a file that perhaps no head names.
    held: BTreeMap<String, usize>,
}

/// Keeps a state's file from being removed as long as it lives.
pub(super) struct Held {
    blobs: Arc<Blobs>,
    id: BlobId,
}

impl Held {
    pub(super) fn id(&self) -> BlobId {
        self.id
    }

    /// The bytes. They were verified when the state was written or [`verified`](Blobs::verify).
    pub(super) fn reader(&self) -> Result<impl Read + Send + use<>, CheckpointError> {
        let path = self.blobs.dir.join(self.id.name());
        let opened = File::open(&path);
        let file = opened.map_err(|source| CheckpointError::Io { what: "reading a file of", path, source })?;
        Ok(io::BufReader::with_capacity(PIECE, file.take(self.id.length)))
    }

    /// Its file in these blobs, which is copied if it is in another run's, or another process's idea of this one.
    pub(super) fn keep(&self, blobs: &Arc<Blobs>) -> Result<BlobId, BlobError> {
        if Arc::ptr_eq(&self.blobs, blobs) {
            return Ok(self.id);
        }
        let path = self.blobs.dir.join(self.id.name());
        blobs.keep_written(|out| io::copy(&mut File::open(&path)?.take(self.id.length), out).map(drop))
    }

    /// All bytes, verified.
    pub(super) fn read(&self) -> Result<Bytes, BlobError> {
        self.blobs.read_bytes(self.id)
    }

    /// Whether the file has the bytes that it is named by. Reads all of it.
    pub(super) fn verify(&self) -> Result<(), BlobError> {
        self.blobs.verify(self.id)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut known = self.blobs.known();
        let name = self.id.name();
        if let Some(count) = known.held.get_mut(&name) {
            *count -= 1;
            if *count == 0 {
                known.held.remove(&name);
            }
        }
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Held").field(&self.id).finish()
    }
}

impl Blobs {
    /// The blobs of the run in this directory, which needn't exist yet.
    pub(super) fn new(run_dir: &Path) -> Self {
        Self { dir: run_dir.join(DIR), known: Mutex::default(), saving: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while a head is written or read, until its blobs are swept or held.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.saving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where they are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn make_dir(&self) -> Result<(), BlobError> {
        durable_file::create_dir_all(&self.dir, true).map_err(failed("creating", &self.dir))
    }

    /// Removes what a crash left half-written.
    pub(super) fn clean(&self) -> Result<(), BlobError> {
        match durable_file::remove_partial(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("cleaning up in", &self.dir)(error)),
            _ => Ok(()),
        }
    }

    /// Flushes the names of what was stored. Must be done before a head names it.
    pub(super) fn sync(&self) -> Result<(), BlobError> {
        match durable_file::sync_dir(&self.dir) {
            // Nothing was stored.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(failed("flushing", &self.dir)),
        }
    }

    /// Removes what is neither in `named` nor held.
    pub(super) fn sweep(&self, named: &BTreeSet<String>) {
        let Ok(files) = fs::read_dir(&self.dir) else { return };
        for file in files.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let mut known = self.known();
            if named.contains(&name) || known.held.contains_key(&name) || name.starts_with('.') {
                continue;
            }
            known.weights.retain(|&root, place| place.name(root) != name);
            known.states.retain(|hash| *blake3::Hash::from_bytes(*hash).to_hex() != *name);
            // Before anybody else can hold it.
            if let Err(error) = remove(&file.path()) {
                tracing::debug!(path = %file.path().display(), %error, "a blob that nothing names stays");
            }
        }
    }

    /// Stores weights with this manifest: by hard links to the files of the folder that has `staged` them, where the
    /// file system can, otherwise by writing them.
    pub(super) fn keep_weights(
        &self,
        manifest: &Manifest,
        weights: &Weights,
        staged: Option<&Staged>,
    ) -> Result<SavedWeights, BlobError> {
        let encoded = Bytes::from(manifest.encode());
        let root = Manifest::root_of(&encoded);
        let known = self.known().weights.get(&root).copied();
        let known = known.filter(|place| self.dir.join(place.name(root)).exists());
        let place = match known {
            Some(place) => place,
            None => {
                self.make_dir()?;
                let files = staged.filter(|staged| staged.root() == root).map(Staged::files);
                match files.and_then(|files| self.link(files, root, manifest)) {
                    Some(place) => place,
                    None => self.write_weights(manifest, weights, root)?,
                }
            }
        };
        self.known().weights.insert(root, place);
        Ok(SavedWeights { manifest: encoded, place })
    }

    fn link(&self, files: &StagedFiles, root: Root, manifest: &Manifest) -> Option<Place> {
        let place = match files {
            StagedFiles::None => return None,
            StagedFiles::Whole { start, .. } => Place::File { start: *start },
            StagedFiles::Chunks(_) => Place::Chunks,
        };
        let paths = match files {
            StagedFiles::None => &[][..],
            StagedFiles::Whole { path, .. } => std::slice::from_ref(path),
            StagedFiles::Chunks(paths) => paths,
        };
        if !paths.iter().all(|path| only_own(path)) {
            return None;
        }
        let to = self.dir.join(place.name(root));
        let linked = remove(&to).and_then(|()| match files {
            StagedFiles::None => Ok(()),
            StagedFiles::Whole { path, .. } => fs::hard_link(path, &to),
            StagedFiles::Chunks(paths) => {
                fs::create_dir(&to)?;
                let distinct: BTreeMap<_, _> = manifest.chunks().iter().zip(paths).collect();
                distinct.into_iter().try_for_each(|(chunk, path)| fs::hard_link(path, to.join(chunk.to_string())))?;
                durable_file::sync_dir(&to)
            }
        });
        match linked {
            Ok(()) => Some(place),
            Err(error) => {
                // A different file system, or one without hard links.
                tracing::debug!(path = %to.display(), %error, "the folder's files can't be the checkpoint's");
                let _ = remove(&to);
                None
            }
        }
    }

    fn write_weights(&self, manifest: &Manifest, weights: &Weights, root: Root) -> Result<Place, BlobError> {
        let place = Place::File { start: 0 };
        let path = self.dir.join(place.name(root));
        let write = |file: &mut dyn Write| {
            (0..manifest.chunks().len()).try_for_each(|chunk| file.write_all(&manifest.chunk_bytes(weights, chunk)))
        };
        fail::fail_point!("checkpoint::write-weights", |_| Err(failed("writing a file of", &path)(
            io::ErrorKind::StorageFull.into()
        )));
        durable_file::replace(&path, true, write).map_err(failed("writing a file of", &path))?;
        Ok(place)
    }

    /// The weights, every chunk of them verified.
    pub(super) fn read_weights(&self, saved: &SavedWeights) -> Result<Weights, BlobError> {
        let manifest = Manifest::decode(&saved.manifest);
        let manifest = manifest.map_err(|error| BlobError::Damaged(error.to_string()))?;
        let (root, place) = (saved.root(), saved.place);
        let path = self.dir.join(saved.name());
        let names = manifest.chunks().iter().map(ToString::to_string).collect();
        let value = Value::new(manifest, Chunks { path: path.clone(), place, names });
        let weights = read_all(&value).map_err(|error| match error {
            ReadError::Io { source, .. } => unreadable(&path, source),
            ReadError::Damaged { what, .. } => damaged(&path, &format!("is damaged: {what}")),
            ReadError::OutOfRange { .. } => damaged(&path, "is damaged"),
        })?;
        self.known().weights.insert(root, place);
        Ok(weights)
    }

    /// Keeps these bytes.
    pub(super) fn keep_bytes(self: &Arc<Self>, bytes: &[u8]) -> Result<BlobId, BlobError> {
        self.keep_written(|out| out.write_all(bytes))
    }

    /// Stores what `write` writes: the first time only into the hash, so that existing bytes aren't written again. A
    /// program's own strategy may write equal states differently, so the file is named by what was written into it.
    pub(super) fn keep_written(
        self: &Arc<Self>,
        write: impl Fn(&mut dyn Write) -> io::Result<()>,
    ) -> Result<BlobId, BlobError> {
        let mut counted = Counted { hasher: blake3::Hasher::new(), length: 0 };
        write(&mut counted).map_err(failed("writing a file of", &self.dir))?;
        let id = BlobId { hash: counted.hasher.finalize().into(), length: counted.length };
        if id.length == 0 || self.known().states.contains(&id.hash) && self.dir.join(id.name()).exists() {
            return Ok(id);
        }
        let mut writer = self.writer()?;
        write(&mut writer).map_err(failed("writing a file of", &self.dir))?;
        Ok(writer.finish()?.id())
    }

    fn read_bytes(&self, id: BlobId) -> Result<Bytes, BlobError> {
        if id.length == 0 {
            return Ok(Bytes::new());
        }
        let path = self.dir.join(id.name());
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(id.length + 1).read_to_end(&mut bytes));
        read.map_err(|error| unreadable(&path, error))?;
        if BlobId::of(&bytes) != id {
            return Err(damaged(&path, "has another hash"));
        }
        self.known().states.insert(id.hash);
        Ok(bytes.into())
    }

    fn verify(&self, id: BlobId) -> Result<(), BlobError> {
        let path = self.dir.join(id.name());
        let hash = File::open(&path).and_then(|file| {
            let (mut hasher, mut file) = (blake3::Hasher::new(), file.take(id.length + 1));
            let mut piece = vec![0; PIECE];
            let mut length = 0;
            loop {
                match file.read(&mut piece)? {
                    0 => return Ok((length, hasher.finalize())),
                    read => {
                        hasher.update(&piece[..read]);
                        length += read as u64;
                    }
                }
            }
        });
        let (length, hash) = hash.map_err(|error| unreadable(&path, error))?;
        if (length, hash) != (id.length, id.hash()) {
            return Err(damaged(&path, "has another hash"));
        }
        self.known().states.insert(id.hash);
        Ok(())
    }

    /// Holds on to a state's file.
    pub(super) fn hold(self: &Arc<Self>, id: BlobId) -> Held {
        *self.known().held.entry(id.name()).or_default() += 1;
        Held { blobs: self.clone(), id }
    }

    /// Begins a file of bytes whose hash is not known yet.
    pub(super) fn writer(self: &Arc<Self>) -> Result<BlobWriter, BlobError> {
        self.make_dir()?;
        let file = durable_file::unnamed(&self.dir, true).map_err(failed("writing into", &self.dir))?;
        let file = io::BufWriter::with_capacity(PIECE, file);
        Ok(BlobWriter { blobs: self.clone(), file, hasher: blake3::Hasher::new(), length: 0, full: false })
    }
}

/// Whether only this user may write a file. Whoever else may could change the checkpoint in place.
fn only_own(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        const OTHERS_WRITE: u32 = 0o022;
        fs::metadata(path).is_ok_and(|file| file.permissions().mode() & OTHERS_WRITE == 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        true
    }
}

/// Hash and length of what is written.
struct Counted {
    hasher: blake3::Hasher,
    length: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A state on its way to the disk, hashed as it is written. It is removed if dropped unfinished.
pub(super) struct BlobWriter {
    blobs: Arc<Blobs>,
    file: io::BufWriter<NamedTempFile>,
    hasher: blake3::Hasher,
    length: u64,
    /// Whether a write failed because there was no room.
    full: bool,
}

impl BlobWriter {
    /// Whether a write has failed because there was no room on the disk. Whoever writes may report that in any way.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Flushes the file to the disk and gives it its name.
    pub(super) fn finish(self) -> Result<Held, BlobError> {
        let id = BlobId { hash: self.hasher.finalize().into(), length: self.length };
        let held = self.blobs.hold(id);
        let path = self.blobs.dir.join(id.name());
        let file = self.file.into_inner().map_err(|error| failed("writing a file of", &path)(error.into_error()))?;
        if id.length > 0 {
            file.as_file().sync_all().map_err(failed("flushing a file of", &path))?;
            file.persist(&path).map_err(|error| failed("writing a file of", &path)(error.error))?;
            self.blobs.known().states.insert(id.hash);
        }
        Ok(held)
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fail::fail_point!("checkpoint::write-state", |_| {
            self.full = true;
            Err(io::ErrorKind::StorageFull.into())
        });
        let written = self.file.write(bytes).inspect_err(|error| self.full |= durable_file::is_full(error))?;
        self.hasher.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The chunks of saved weights.
struct Chunks {
    path: PathBuf,
    place: Place,
    names: Vec<String>,
}

impl ChunkStore for Chunks {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn chunk(&self, chunk: usize, offset: u64, length: u64) -> io::Result<Bytes> {
        let mut file = match self.place {
            Place::File { start } => {
                let mut file = File::open(&self.path)?;
                let at = start.checked_add(offset).ok_or(io::ErrorKind::UnexpectedEof)?;
                file.seek(SeekFrom::Start(at))?;
                file
            }
            Place::Chunks => File::open(self.path.join(&self.names[chunk]))?,
        };
        let mut bytes = vec![0; length as usize];
        file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
