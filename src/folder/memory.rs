//! The folder behind `memory:`: one process's memory, for tests, simulations, and training alone.

use super::{
    Author, FolderError, FolderFigures, SharedFolder, Traffic, Value, author::Draft, error::refused_own,
    value::ChunkStore,
};
use crate::{
    entries::{Board, Conflict, Refused, Watch},
    weights::{Digest, Entry, FederationId, Key, Manifest, Metadata, Root, SignedEntry, Weights},
};
use async_trait::async_trait;
use bytes::Bytes;
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

struct StoredValue {
    manifest: Manifest,
    chunks: Vec<Bytes>,
}

struct Federation {
    board: Arc<Board>,
    values: Mutex<BTreeMap<(PeerId, Root), Arc<StoredValue>>>,
    /// Held from storing a value until its entry is in place, so that nobody takes the value for unnamed.
    publishing: Mutex<()>,
}

/// What the memory folders of one process share.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    federations: Arc<Mutex<BTreeMap<FederationId, Arc<Federation>>>>,
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// Inverts a byte of a stored value, to simulate damaged storage. Open handles aren't affected. `false` if there is
    /// no such value or byte.
    pub fn damage(&self, entry: &Entry, at: usize) -> bool {
        let Some(root) = entry.root() else { return false };
        let federation = self.federation(entry.federation);
        let mut values = federation.values();
        let Some(value) = values.get_mut(&(entry.key.author(), root)) else { return false };
        let mut chunks = value.chunks.clone();
        let mut start = 0;
        for chunk in &mut chunks {
            if let Some(offset) = at.checked_sub(start).filter(|&offset| offset < chunk.len()) {
                let mut bytes = chunk.to_vec();
                bytes[offset] = !bytes[offset];
                *chunk = bytes.into();
                *value = Arc::new(StoredValue { manifest: value.manifest.clone(), chunks });
                return true;
            }
            start += chunk.len();
        }
        false
    }

    fn federation(&self, id: FederationId) -> Arc<Federation> {
        let mut federations = self.federations.lock().unwrap_or_else(PoisonError::into_inner);
        let new =
            || Federation { board: Arc::new(Board::new(id)), values: Mutex::default(), publishing: Mutex::default() };
        federations.entry(id).or_insert_with(|| Arc::new(new())).clone()
    }
}

impl Federation {
    fn values(&self) -> MutexGuard<'_, BTreeMap<(PeerId, Root), Arc<StoredValue>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the author's values that no entry names any more. Open handles keep theirs.
    fn drop_unnamed(&self, author: PeerId) {
        if self.board.is_excluded(author) {
            return;
        }
        let named: BTreeSet<Root> = self.board.set().of_author(author).filter_map(|entry| entry.root()).collect();
        self.values().retain(|(owner, root), _| *owner != author || named.contains(root));
    }
}

impl ChunkStore for Arc<StoredValue> {
    fn place(&self) -> String {
        "the value in memory".to_owned()
    }

    fn chunk(&self, chunk: usize, _offset: u64, _length: u64) -> io::Result<Bytes> {
        Ok(self.chunks[chunk].clone())
    }
}

/// `memory:`: a shared folder inside one process, for tests and simulations, and for training alone.
pub struct MemoryFolder {
    author: Author,
    federation: Arc<Federation>,
    traffic: Arc<[AtomicU64; 2]>,
}

impl MemoryFolder {
    /// The view that `author` has of a storage.
    pub fn new(storage: &MemoryStorage, author: Author) -> Self {
        let federation = storage.federation(author.federation());
        federation.board.set().of_author(author.peer_id()).for_each(|own| author.raise_above(own.sequence));
        Self { author, federation, traffic: Arc::default() }
    }

    /// The operator's decision to trust an author although it signed two entries under one number. Of what it published
    /// before, the later of the two comes back, and the rest when it is put again.
    pub fn readmit(&self, author: PeerId) {
        self.federation.board.readmit(author);
    }

    fn check_identity(&self) -> Result<(), FolderError> {
        let author = self.author.peer_id();
        if self.federation.board.is_excluded(author) { Err(FolderError::CopiedIdentity { author }) } else { Ok(()) }
    }

    async fn off_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Author, &Federation) -> Result<T, FolderError> + Send + 'static,
    ) -> Result<T, FolderError> {
        let (author, federation) = (self.author.clone(), self.federation.clone());
        let joined = tokio::task::spawn_blocking(move || work(&author, &federation)).await;
        joined.map_err(|error| FolderError::Worker(error.to_string()))?
    }
}

fn publish(
    author: &Author,
    federation: &Federation,
    draft: Draft,
    value: Option<StoredValue>,
) -> Result<Arc<SignedEntry>, FolderError> {
    let _publishing = federation.publishing.lock().unwrap_or_else(PoisonError::into_inner);
    let refused = |refused: Refused| refused_own(refused, author.peer_id());
    federation.board.set().check_room(&draft.key).map_err(refused)?;
    if let Some(value) = value {
        federation.values().insert((author.peer_id(), value.manifest.root()), Arc::new(value));
    }
    let standing = federation.board.set().get(&draft.key).cloned();
    let published = match standing.filter(|standing| draft.is_said_by(standing)) {
        Some(standing) => Ok(standing),
        None => author.sign(draft).and_then(|entry| {
            let entry = Arc::new(entry);
            federation.board.insert(entry.clone()).map_err(refused)?;
            Ok(entry)
        }),
    };
    federation.drop_unnamed(author.peer_id());
    published
}

#[async_trait]
impl SharedFolder for MemoryFolder {
    fn author(&self) -> PeerId {
        self.author.peer_id()
    }

    async fn put(&self, key: &Key, value: &Weights, metadata: Metadata) -> Result<Arc<SignedEntry>, FolderError> {
        self.author.check_owns(key)?;
        self.check_identity()?;
        let (key, value, traffic) = (key.clone(), value.clone(), self.traffic.clone());
        self.off_runtime(move |author, federation| {
            let manifest = value.manifest();
            let chunks = (0..manifest.chunks().len()).map(|chunk| manifest.chunk_bytes(&value, chunk)).collect();
            let (root, length) = (manifest.root(), manifest.layout().bytes());
            let draft = Draft::put(key, manifest.layout().id(), root, length, metadata);
            let published = publish(author, federation, draft, Some(StoredValue { manifest, chunks }))?;
            traffic[0].fetch_add(length, Ordering::Relaxed);
            Ok(published)
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Arc<SignedEntry>>, FolderError> {
        self.check_identity()?;
        Ok(self.federation.board.list(prefix))
    }

    async fn get(&self, entry: &Entry) -> Result<Value, FolderError> {
        let gone = || FolderError::Gone { key: entry.key.clone(), sequence: entry.sequence };
        let root = entry.root().ok_or_else(gone)?;
        let stored = self.federation.values().get(&(entry.key.author(), root)).cloned().ok_or_else(gone)?;
        self.traffic[1].fetch_add(stored.manifest.layout().bytes(), Ordering::Relaxed);
        Ok(Value::new(stored.manifest.clone(), stored))
    }

    fn watch(&self, prefix: &str) -> Watch {
        Watch::new(self.federation.board.clone(), prefix, ())
    }

    async fn remove(&self, key: &Key) -> Result<Arc<SignedEntry>, FolderError> {
        self.author.check_owns(key)?;
        self.check_identity()?;
        let key = key.clone();
        self.off_runtime(move |author, federation| {
            let layout = federation.board.set().get(&key).map(|entry| entry.layout);
            publish(author, federation, Draft::tombstone(key, layout), None)
        })
        .await
    }

    async fn digest(&self) -> Result<Digest, FolderError> {
        self.check_identity()?;
        Ok(self.federation.board.digest())
    }

    async fn conflicts(&self) -> Result<Vec<Conflict>, FolderError> {
        Ok(self.federation.board.conflicts())
    }

    fn figures(&self) -> FolderFigures {
        Traffic::of(&self.traffic).into()
    }
}
