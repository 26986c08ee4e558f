//! The folder behind `file:`: a directory, which may be on a network share.

use super::{
    Author, FolderError, FolderFigures, SharedFolder, Staged, Traffic, Value, author::Draft, error::refused_own,
};
use crate::{
    entries::{Board, Conflict, Refused, Watch},
    weights::{Digest, Entry, Key, Metadata, Root, SignedEntry, Weights},
};
use async_trait::async_trait;
use libp2p_identity::PeerId;
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak, atomic::AtomicU64},
    time::SystemTime,
};

#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod decoders;
mod directory;
mod scan;
mod value_file;
mod watcher;

use directory::Directory;
use scan::Scan;
use watcher::Watcher;

/// Bytes written and bytes read.
type Counters = Arc<[AtomicU64; 2]>;

/// `file://`: a shared folder in a directory, also on a network share.
///
/// ```text
/// <dir>/<federation id>/<author>/<number>-<entry hash>.entry   one signed entry
/// <dir>/<federation id>/<author>/<root>.value                  manifest and chunks
/// ```
///
/// Each author writes in a directory of its own. Files never change: they are written beside, flushed and renamed into
/// place, value before entry, so that a reader who sees an entry finds its value. An overwrite adds new files and then
/// removes the old entry; the old value stays until the author's next change, so that a reader who has just listed can
/// still read it. There are no locks and no flags to wait for. Read access to the directory is enough for a reader.
pub struct LocalFolder {
    shared: Arc<DirectoryView>,
    watcher: Mutex<Weak<Watcher>>,
}

/// An author's view of a directory.
struct DirectoryView {
    author: Author,
    directory: Directory,
    board: Arc<Board>,
    scan: Mutex<Scan>,
    /// The last staged value: on the disk, but possibly not named by any entry yet.
    staged: Mutex<Option<Root>>,
}

impl LocalFolder {
    /// Opens the view that `author` has of a directory, which is made if it isn't there. Cleans up what a crash of this
    /// author left. Blocks on the disk.
    ///
    /// Errors if the author's part of the directory can't be written. An author who is excluded for a copied identity
    /// can open the folder in order to be [readmitted](Self::readmit); anything else it tries is
    /// [`FolderError::CopiedIdentity`].
    pub fn open(dir: &Path, author: Author) -> Result<Self, FolderError> {
        let directory = Directory::create(dir, author.federation(), author.peer_id())?;
        let board = Arc::new(Board::new(author.federation()));
        let scan = Mutex::new(Scan::new(&author));
        let shared = DirectoryView { scan, author, directory, board, staged: Mutex::default() };
        shared.with_scan(|scan| scan.take_stock(&shared.directory, &shared.board))?;
        if !shared.board.is_excluded(shared.author.peer_id()) {
            shared.directory.remove_unnamed_values(&shared.board)?;
        }
        Ok(Self { shared: Arc::new(shared), watcher: Mutex::default() })
    }

    /// Opens a read-only view. It creates nothing, not even the directory, which may not exist yet. A put is an error,
    /// because the author has no place there.
    pub fn open_to_read(dir: &Path, author: Author) -> Result<Self, FolderError> {
        let directory = Directory::existing(dir, author.federation(), author.peer_id());
        let board = Arc::new(Board::new(author.federation()));
        let scan = Mutex::new(Scan::new(&author));
        let shared = DirectoryView { scan, author, directory, board, staged: Mutex::default() };
        if shared.root().exists() {
            shared.with_scan(|scan| scan.take_stock(&shared.directory, &shared.board))?;
        }
        Ok(Self { shared: Arc::new(shared), watcher: Mutex::default() })
    }

    /// The operator's decision to trust an author, possibly this one, although it signed two entries under one number.
    /// Rereads the directory, and blocks on it.
    pub fn readmit(&self, author: PeerId) -> Result<(), FolderError> {
        self.shared.with_scan(|scan| {
            self.shared.board.readmit(author);
            scan.forget();
            if self.shared.directory.is_only_read() && !self.shared.root().exists() {
                return Ok(());
            }
            if author == self.shared.author.peer_id() {
                scan.take_stock(&self.shared.directory, &self.shared.board)
            } else {
                scan.run(&self.shared.directory, &self.shared.board)
            }
        })
    }

    async fn off_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DirectoryView) -> Result<T, FolderError> + Send + 'static,
    ) -> Result<T, FolderError> {
        let shared = self.shared.clone();
        let joined = tokio::task::spawn_blocking(move || work(&shared)).await;
        joined.map_err(|error| FolderError::Worker(error.to_string()))?
    }
}

impl DirectoryView {
    /// The directory's own path, for messages and for the watcher.
    fn root(&self) -> &Path {
        self.directory.federation_dir()
    }

    fn with_scan<T>(&self, work: impl FnOnce(&mut Scan) -> T) -> T {
        work(&mut self.scan.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in what others have written since the last time.
    fn refresh(&self) -> Result<(), FolderError> {
        self.with_scan(|scan| self.refresh_with(scan))
    }

    fn refresh_with(&self, scan: &mut Scan) -> Result<(), FolderError> {
        if self.directory.is_only_read() && !self.root().exists() {
            return Ok(());
        }
        scan.run(&self.directory, &self.board)?;
        let author = self.author.peer_id();
        if scan.own_was_written_elsewhere() || self.board.is_excluded(author) {
            return Err(FolderError::CopiedIdentity { author });
        }
        Ok(())
    }

    fn put(&self, key: Key, value: &Weights, metadata: Metadata) -> Result<Arc<SignedEntry>, FolderError> {
        let manifest = value.manifest();
        let draft = Draft::put(key, manifest.layout().id(), manifest.root(), manifest.layout().bytes(), metadata);
        let staged = self.staged();
        self.publish(draft, |directory| match staged {
            Some(root) if root == manifest.root() && directory.has_value(&manifest) => Ok(()),
            _ => directory.write_value(&manifest, value),
        })
    }

    fn staged(&self) -> Option<Root> {
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stage(&self, value: &Weights) -> Result<Staged, FolderError> {
        let manifest = value.manifest();
        let root = manifest.root();
        // Under the lock under which unnamed values are removed.
        self.with_scan(|_| {
            if self.staged() != Some(root) || !self.directory.has_value(&manifest) {
                self.directory.write_value(&manifest, value)?;
                *self.staged.lock().unwrap_or_else(PoisonError::into_inner) = Some(root);
            }
            let files = self.directory.own_value_files(&manifest);
            Ok(Staged::new(manifest, files, ()))
        })
    }

    fn publish(
        &self,
        draft: Draft,
        write_value: impl FnOnce(&Directory) -> Result<(), FolderError>,
    ) -> Result<Arc<SignedEntry>, FolderError> {
        // One writer at a time: unnamed files are found and removed under the scan's lock.
        self.with_scan(|scan| {
            self.refresh_with(scan)?;
            let standing = self.board.set().get(&draft.key).cloned();
            if let Some(standing) = standing.filter(|standing| draft.is_said_by(standing))
                && (standing.root().is_none() || self.directory.value_is_whole(&standing))
            {
                return Ok(standing);
            }
            // Find out what can't be published before writing anything.
            let refused = |refused: Refused| refused_own(refused, self.author.peer_id());
            self.board.set().check_room(&draft.key).map_err(refused)?;
            let entry = Arc::new(self.author.sign(draft)?);
            write_value(&self.directory)?;
            scan.wrote(&entry);
            self.directory.write_entry(&entry)?;
            self.board.insert(entry.clone()).map_err(refused)?;
            self.directory.remove_superseded(&self.board, &entry, |name| scan.knows_own(name), self.staged())?;
            Ok(entry)
        })
    }
}

#[async_trait]
impl SharedFolder for LocalFolder {
    fn author(&self) -> PeerId {
        self.shared.author.peer_id()
    }

    async fn put(&self, key: &Key, value: &Weights, metadata: Metadata) -> Result<Arc<SignedEntry>, FolderError> {
        self.shared.author.check_owns(key)?;
        let (key, value) = (key.clone(), value.clone());
        self.off_runtime(move |shared| shared.put(key, &value, metadata)).await
    }

    async fn stage(&self, value: &Weights) -> Result<Staged, FolderError> {
        let value = value.clone();
        self.off_runtime(move |shared| shared.stage(&value)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Arc<SignedEntry>>, FolderError> {
        let prefix = prefix.to_owned();
        self.off_runtime(move |shared| shared.refresh().map(|()| shared.board.list(&prefix))).await
    }

    async fn get(&self, entry: &Entry) -> Result<Value, FolderError> {
        let entry = entry.clone();
        self.off_runtime(move |shared| shared.directory.open_value(&entry)).await
    }

    /// Finds changes by the system's notifications, and by looking every two seconds, because notifications don't cross
    /// a network share.
    fn watch(&self, prefix: &str) -> Watch {
        let mut current = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let watcher = current.upgrade().unwrap_or_else(|| {
            let watcher = Arc::new(Watcher::start(&self.shared));
            *current = Arc::downgrade(&watcher);
            watcher
        });
        Watch::new(self.shared.board.clone(), prefix, (watcher, self.shared.clone()))
    }

    async fn remove(&self, key: &Key) -> Result<Arc<SignedEntry>, FolderError> {
        self.shared.author.check_owns(key)?;
        let key = key.clone();
        self.off_runtime(move |shared| {
            let layout = shared.board.set().get(&key).map(|entry| entry.layout);
            shared.publish(Draft::tombstone(key, layout), |_| Ok(()))
        })
        .await
    }

    async fn digest(&self) -> Result<Digest, FolderError> {
        self.off_runtime(|shared| shared.refresh().map(|()| shared.board.digest())).await
    }

    async fn conflicts(&self) -> Result<Vec<Conflict>, FolderError> {
        self.off_runtime(|shared| {
            if !shared.directory.is_only_read() || shared.root().exists() {
                shared.with_scan(|scan| scan.run(&shared.directory, &shared.board))?;
            }
            Ok(shared.board.conflicts())
        })
        .await
    }

    async fn written_at(&self, entry: &SignedEntry) -> Option<SystemTime> {
        let entry = entry.clone();
        self.off_runtime(move |shared| Ok(shared.directory.written_at(&entry))).await.ok().flatten()
    }

    fn figures(&self) -> FolderFigures {
        Traffic::of(self.shared.directory.counters()).into()
    }
}

/// An error of the file system, with what was tried.
fn failed(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FolderError {
    let path: PathBuf = path.to_owned();
    move |source| FolderError::Io { what, path, source }
}
