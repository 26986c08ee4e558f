//! Harnesses for the folders that need no network: memory and directory.

use super::Harness;
use async_trait::async_trait;
use libp2p_identity::PeerId;
use peerfold::folder::{Author, LocalFolder, MemoryFolder, MemoryStorage};
use peerfold::weights::{FederationId, SignedEntry};
use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tempfile::TempDir;

/// `memory:`.
pub struct Memory {
    storage: MemoryStorage,
}

#[async_trait]
impl Harness for Memory {
    type Folder = MemoryFolder;

    async fn new() -> Self {
        Self { storage: MemoryStorage::new() }
    }

    async fn open(&self, author: Author) -> Arc<MemoryFolder> {
        Arc::new(MemoryFolder::new(&self.storage, author))
    }

    async fn damage(&self, entry: &SignedEntry, at: u64) {
        assert!(self.storage.damage(entry, at as usize));
    }

    async fn plant(&self, _: FederationId, _: PeerId, _: &[u8]) -> bool {
        false
    }

    async fn readmit(folder: &Arc<MemoryFolder>, author: PeerId) {
        folder.readmit(author);
    }
}

/// `file://`.
pub struct Local {
    pub dir: TempDir,
    planted: AtomicU64,
}

impl Local {
    pub fn author_dir(&self, federation: FederationId, author: PeerId) -> PathBuf {
        self.dir.path().join(federation.to_string()).join(author.to_base58())
    }

    pub fn value_file(&self, entry: &SignedEntry) -> PathBuf {
        let root = entry.root().unwrap();
        self.author_dir(entry.federation, entry.key.author()).join(format!("{root}.value"))
    }

    /// Names of an author's files that end like this.
    pub fn files(&self, federation: FederationId, author: PeerId, end: &str) -> Vec<String> {
        let files = fs::read_dir(self.author_dir(federation, author)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(end)).collect()
    }
}

#[async_trait]
impl Harness for Local {
    type Folder = LocalFolder;

    async fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), planted: AtomicU64::new(0) }
    }

    async fn open(&self, author: Author) -> Arc<LocalFolder> {
        Arc::new(LocalFolder::open(self.dir.path(), author).unwrap())
    }

    async fn damage(&self, entry: &SignedEntry, at: u64) {
        let path = self.value_file(entry);
        let mut bytes = fs::read(&path).unwrap();
        let manifest = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
        bytes[4 + manifest + at as usize] ^= 0xff;
        fs::write(path, bytes).unwrap();
    }

    async fn plant(&self, federation: FederationId, author: PeerId, bytes: &[u8]) -> bool {
        let dir = self.author_dir(federation, author);
        fs::create_dir_all(&dir).unwrap();
        let number = self.planted.fetch_add(1, Ordering::Relaxed);
        fs::write(dir.join(format!("{number:020}-planted.entry")), bytes).unwrap();
        true
    }

    async fn readmit(folder: &Arc<LocalFolder>, author: PeerId) {
        folder.readmit(author).unwrap();
    }
}
