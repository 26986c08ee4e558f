use super::{
    Author, FolderError, NetworkFigures, SharedFolder, Traffic, Value, author::Draft, error::refused_own,
    value::ChunkStore,
};
use crate::{
    cache::{Cache, CacheOptions, CachedValue, Opened},
    entries::{Board, Conflict, Watch},
    p2p::{
        NetworkOptions, NetworkStatus, PeerAddress,
        core::FetchError,
        network::{Network, Setup},
    },
    weights::{Digest, Entry, Key, LayoutId, Manifest, Metadata, SignedEntry, Weights},
};
use async_trait::async_trait;
use bytes::Bytes;
use libp2p_identity::PeerId;
use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How often a value is fetched anew because it was damaged on the disk as soon as it was there.
const FETCHES: usize = 3;

/// How to open a [`P2pFolder`].
#[derive(Debug, Clone)]
pub struct P2pOptions {
    /// How to take part in the network.
    pub network: NetworkOptions,
    /// Where the cache of this federation is kept. No other process may use it.
    pub dir: PathBuf,
    /// Where `peerfold peers` asks, if it may.
    pub socket: Option<PathBuf>,
    /// What the node trains: newest updates of this layout are fetched when they are announced.
    pub layout: Option<LayoutId>,
    /// Authors to be trusted although they signed two entries under one number.
    pub readmitted: Vec<PeerId>,
}

/// `p2p:`: a shared folder that is nowhere but on the nodes.
///
/// What is put lies in the node's own cache; its entry goes to the peers by gossip and sync, its chunks go to who asks.
/// `put` never waits for a peer. `get` gives what the cache has, and else fetches it from the connected peers, the author
/// first; when none of them gives it, it is [`FolderError::Unreachable`]. Values are verified when they arrive, when they
/// are given to a peer, and whenever they are read; what is found damaged is dropped and fetched again.
///
/// The network has threads of its own and needs no runtime; dropping the folder leaves it.
pub struct P2pFolder {
    // First, so that it is dropped before the cache is closed.
    network: Arc<Network>,
    shared: Arc<Shared>,
}

struct Shared {
    author: Author,
    board: Arc<Board>,
    cache: Cache,
    /// Held while an own entry is made: of two puts of one key the later one has the higher number.
    publishing: Mutex<()>,
    traffic: Arc<[AtomicU64; 2]>,
}

/// What a put came to.
enum Published {
    /// It was said already.
    Standing(Arc<SignedEntry>),
    New(Arc<SignedEntry>),
}

/// The chunks of a value in the cache.
struct Cached {
    value: CachedValue,
    cache: Cache,
    traffic: Arc<[AtomicU64; 2]>,
}

impl ChunkStore for Cached {
    fn place(&self) -> String {
        "the value in the cache".to_owned()
    }

    fn chunk(&self, chunk: usize, _offset: u64, _length: u64) -> io::Result<Bytes> {
        let bytes = self.value.chunk(chunk)?;
        self.traffic[1].fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    fn damaged(&self, chunk: usize) {
        self.cache.drop_blob(self.value.manifest().chunks()[chunk].into());
    }
}

impl P2pFolder {
    /// Opens the cache and joins the network; comes back when the node listens. Blocks for that long.
    ///
    /// Errors: [`FolderError::Network`] if it can't listen, [`FolderError::Cache`] if the cache can't be used.
    pub fn open(author: Author, options: P2pOptions) -> Result<Self, FolderError> {
        let P2pOptions { network, dir, socket, layout, readmitted } = options;
        let federation = author.federation();
        let opened = Cache::open(&dir, federation, CacheOptions { quota: network.cache_quota })?;
        let Opened { cache, entries, proofs, peers } = opened;
        let board = Arc::new(Board::new(federation));
        for author in readmitted {
            board.readmit(author);
        }
        for proof in proofs {
            // Of a readmitted author nothing is proof.
            let _ = board.insert_proof(proof);
        }
        for entry in entries {
            if entry.key.author() == author.peer_id() {
                author.raise_above(entry.sequence);
            }
            // What was refused then is refused now.
            let _ = board.insert(entry);
        }
        let numbers = author.clone();
        let network = Network::start(Setup {
            keypair: author.keypair().clone(),
            federation,
            layout,
            board: board.clone(),
            cache: cache.clone(),
            known: peers,
            raise_above: Box::new(move |seen| numbers.raise_above(seen)),
            socket,
            options: network,
        })?;
        let shared = Shared { author, board, cache, publishing: Mutex::default(), traffic: Arc::default() };
        Ok(Self { network: Arc::new(network), shared: Arc::new(shared) })
    }

    /// Where this node listened when it was opened.
    pub fn listening(&self) -> &[PeerAddress] {
        self.network.listening()
    }

    /// Who is connected, and what was moved. `None` if the network has ended.
    pub async fn status(&self) -> Option<NetworkStatus> {
        self.network.status().await
    }

    /// The operator's word that an author, this one included, is to be trusted although it signed two entries under one
    /// number. Of what it published before, the later one of these two comes back, and the rest from the peers.
    pub fn readmit(&self, author: PeerId) {
        self.shared.board.readmit(author);
        if let Err(error) = self.shared.cache.forget_proof(&author) {
            tracing::warn!(%author, %error, "the proof against it stays in the cache");
        }
        self.network.board_changed();
    }

    async fn off_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, FolderError> + Send + 'static,
    ) -> Result<T, FolderError> {
        let shared = self.shared.clone();
        let joined = tokio::task::spawn_blocking(move || work(&shared)).await;
        joined.map_err(|error| FolderError::Worker(error.to_string()))?
    }

    async fn publish(
        &self,
        make: impl FnOnce(&Shared) -> Result<Published, FolderError> + Send + 'static,
    ) -> Result<SignedEntry, FolderError> {
        self.shared.check_identity()?;
        let network = self.network.clone();
        self.off_runtime(move |shared| {
            Ok(match make(shared)? {
                Published::Standing(entry) => SignedEntry::clone(&entry),
                Published::New(entry) => {
                    // Here, so that a put whose caller is gone is announced too.
                    network.published(entry.clone());
                    SignedEntry::clone(&entry)
                }
            })
        })
        .await
    }
}

impl Shared {
    fn check_identity(&self) -> Result<(), FolderError> {
        let author = self.author.peer_id();
        if self.board.is_excluded(author) { Err(FolderError::CopiedIdentity { author }) } else { Ok(()) }
    }

    fn put(&self, key: Key, value: &Weights, metadata: Metadata) -> Result<Published, FolderError> {
        let manifest = value.manifest();
        let (layout, length) = (manifest.layout().id(), manifest.layout().bytes());
        let draft = Draft::put(key, layout, manifest.root(), length, metadata);
        let published = self.publish(draft, Some((&manifest, value)))?;
        self.traffic[0].fetch_add(length, Ordering::Relaxed);
        Ok(published)
    }

    fn publish(&self, draft: Draft, value: Option<(&Manifest, &Weights)>) -> Result<Published, FolderError> {
        let _publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        self.author.check(&draft)?;
        let refused = |refused| refused_own(refused, self.author.peer_id());
        let standing = self.board.set().get(&draft.key).cloned();
        let standing = standing.filter(|standing| draft.is_said_by(standing));
        self.board.set().check_room(&draft.key).map_err(refused)?;
        // Stored again even if it stands: its chunks may have been damaged.
        let pin = value.map(|(manifest, value)| self.cache.put_value(manifest, value)).transpose()?;
        if let Some(standing) = standing {
            return Ok(Published::Standing(standing));
        }
        let entry = Arc::new(self.author.sign(draft)?);
        self.cache.put_entry(&entry, || self.board.insert(entry.clone()))?.map_err(refused)?;
        drop(pin);
        Ok(Published::New(entry))
    }
}

#[async_trait]
impl SharedFolder for P2pFolder {
    fn author(&self) -> PeerId {
        self.shared.author.peer_id()
    }

    async fn put(&self, key: &Key, value: &Weights, metadata: Metadata) -> Result<SignedEntry, FolderError> {
        self.shared.author.check_owns(key)?;
        let (key, value) = (key.clone(), value.clone());
        self.publish(move |shared| shared.put(key, &value, metadata)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<SignedEntry>, FolderError> {
        self.shared.check_identity()?;
        Ok(self.shared.board.list(prefix))
    }

    async fn get(&self, entry: &Entry) -> Result<Value, FolderError> {
        let gone = || FolderError::Gone { key: entry.key.clone(), sequence: entry.sequence };
        let root = entry.root().filter(|_| entry.federation == self.shared.author.federation()).ok_or_else(gone)?;
        // From the moment that it is there, nothing takes it away.
        let _pin = self.shared.cache.pin(root);
        for _ in 0..FETCHES {
            let cached = self.off_runtime(move |shared| Ok(shared.cache.value(root)?)).await?;
            if let Some(value) = cached {
                let manifest = Manifest::clone(value.manifest());
                if manifest.layout().id() != entry.layout {
                    let what = "its manifest is of another layout than its entry says".to_owned();
                    return Err(FolderError::Damaged { key: entry.key.clone(), what });
                }
                let (cache, traffic) = (self.shared.cache.clone(), self.shared.traffic.clone());
                return Ok(Value::new(manifest, Cached { value, cache, traffic }));
            }
            let standing = self.shared.board.set().get(&entry.key).cloned();
            let standing = standing.filter(|standing| standing.entry() == entry).ok_or_else(gone)?;
            self.network.fetch(standing).await.map_err(|error| match error {
                FetchError::Gone => gone(),
                FetchError::Unreachable { .. } => {
                    FolderError::Unreachable { key: entry.key.clone(), reason: error.to_string() }
                }
                FetchError::NotAsSigned => FolderError::Damaged { key: entry.key.clone(), what: error.to_string() },
                FetchError::Cache(reason) => FolderError::Worker(reason),
            })?;
        }
        let what = "it was damaged again as soon as it was fetched; is the disk sound?".to_owned();
        Err(FolderError::Damaged { key: entry.key.clone(), what })
    }

    fn watch(&self, prefix: &str) -> Watch {
        Watch::new(self.shared.board.clone(), prefix, ())
    }

    async fn remove(&self, key: &Key) -> Result<SignedEntry, FolderError> {
        self.shared.author.check_owns(key)?;
        let layout = self.shared.board.set().get(key).map(|entry| entry.layout);
        let draft = Draft::tombstone(key.clone(), layout);
        self.publish(move |shared| shared.publish(draft, None)).await
    }

    async fn digest(&self) -> Result<Digest, FolderError> {
        self.shared.check_identity()?;
        Ok(self.shared.board.digest())
    }

    async fn conflicts(&self) -> Result<Vec<Conflict>, FolderError> {
        Ok(self.shared.board.conflicts())
    }

    fn traffic(&self) -> Traffic {
        let [written, read] = self.shared.traffic.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        Traffic { written, read }
    }

    fn network(&self) -> Option<NetworkFigures> {
        let (peers, sent, received) = self.network.figures();
        Some(NetworkFigures { peers, sent, received })
    }

    async fn look_around(&self, patience: Duration) {
        if tokio::time::timeout(patience, self.network.look_around()).await.is_err() {
            tracing::warn!("not everybody who may be there has answered yet; going on with who has");
        }
    }

    async fn hand_over(&self, patience: Duration) {
        if tokio::time::timeout(patience, self.network.hand_over()).await.is_err() {
            tracing::warn!("some connected peers don't have this node's newest update yet");
        }
    }
}
