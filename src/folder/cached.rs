//! The folder behind `p2p:` and `s3://`: a local cache in front of a network, a bucket, or both.

use super::{
    Author, FolderError, FolderFigures, HandedOver, SharedFolder, Staged, StagedFiles, Traffic, Value, author::Draft,
    error::refused_own, value::ChunkStore,
};
use crate::{
    bucket::{self, Bucket, BucketOptions, BucketUrl, Routes, Unfetched},
    cache::{Cache, CacheError, CacheSettings, CachedValue, Opened, Pin, Retention},
    entries::{Board, Conflict, EntryFigures, Membership, Watch},
    p2p::{
        DroppedPeer, NetworkOptions, NetworkStatus, PeerAddress, ReachedPeer, Surroundings,
        core::FetchError,
        network::{self, Network},
    },
    weights::{Digest, Entry, Key, LayoutId, Manifest, Metadata, Root, SignedEntry, Weights},
};
use async_trait::async_trait;
use bytes::Bytes;
use libp2p_identity::PeerId;
use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::sync::{broadcast, watch};

/// How often a value is fetched again because it was damaged on the disk as soon as it arrived.
const FETCHES: usize = 3;

/// How long a folder that finds its own identity copied waits for others to get the proof.
const PROOF_PATIENCE: Duration = Duration::from_secs(5);

/// Before the peer ids of authors that this node knows, in the cache's notes.
const KNOWN: &[u8] = b"known/";

/// How long a listing waits for a look at a bucket that isn't known to have problems.
const LOOK: Duration = Duration::from_secs(5);

/// How to open a [`CachedFolder`].
#[derive(Debug, Clone)]
pub struct CachedOptions {
    /// How to take part in the network, if the folder is one.
    pub network: Option<NetworkOptions>,
    /// The bucket to publish in and to read from, alone or behind the network.
    pub bucket: Option<(BucketUrl, BucketOptions)>,
    /// How the cache is kept.
    pub cache: CacheSettings,
    /// Where the cache of this federation is kept. No other process may use it.
    pub dir: PathBuf,
    /// The socket for `peerfold peers`, if there is to be one.
    pub socket: Option<PathBuf>,
    /// What the node trains: newest updates of this layout are fetched when peers announce them.
    pub layout: Option<LayoutId>,
    /// Of these only those of authors that the node says it [expects](SharedFolder::expects). For federations with more
    /// members than a node folds at once.
    pub sampled: bool,
    /// Authors to be trusted although they signed two entries under one number.
    pub readmitted: Vec<PeerId>,
    /// Authors who are no strangers although nothing of theirs was folded.
    pub known: Vec<PeerId>,
    /// Who may take part. Others get nothing, and nothing of theirs is taken in, not even from the cache.
    pub membership: Arc<Membership>,
}

impl CachedOptions {
    /// With the cache in what belongs to the federation in a node's home.
    pub fn in_run(run_dir: &Path) -> Self {
        Self::new(run_dir.join("cache"))
    }

    /// A cache in this directory, no network, no bucket, and defaults for everything else.
    pub fn new(dir: PathBuf) -> Self {
        Self {
            network: None,
            bucket: None,
            cache: CacheSettings::default(),
            dir,
            socket: None,
            layout: None,
            sampled: false,
            readmitted: Vec::new(),
            known: Vec::new(),
            membership: Arc::new(Membership::open()),
        }
    }
}

/// `p2p:`, `s3://` or both: a shared folder of which each node keeps a cache.
///
/// A put goes into the node's own cache and waits for nobody. From there the network announces the entry by gossip and
/// sync and gives chunks to peers that ask; entry and chunks are also uploaded to the bucket. `get` returns what the
/// cache has and fetches the rest: from the connected peers, the author first, and from the bucket if no peer delivers
/// in time. If nobody has it, that is [`FolderError::Unreachable`]. Values are verified when they arrive, when they are
/// given to a peer, and whenever they are read; what is found damaged is dropped and fetched again.
///
/// Entries found in a bucket are passed on to connected peers, so that a node without access to the bucket learns of
/// authors who have nothing else, and can get their values from peers that have fetched them. Network and bucket work
/// without each other: each catches up by itself when it is back.
///
/// Both have threads of their own and need no runtime. Dropping the folder leaves the network and the bucket.
pub struct CachedFolder {
    // In this order, so that the cache is closed last.
    bucket: Option<Arc<Bucket>>,
    network: Option<Arc<Network>>,
    routes: Option<watch::Receiver<Routes>>,
    /// Whether others were told that this author's identity was copied.
    proof_handed_over: AtomicBool,
    shared: Arc<CacheView>,
}

/// An author's view of the cache: the folder without its network and bucket.
struct CacheView {
    author: Author,
    board: Arc<Board>,
    cache: Cache,
    /// Held while an entry of our own is made, so that of two puts of one key the later has the higher number.
    publishing: Mutex<()>,
    traffic: Arc<[AtomicU64; 2]>,
}

/// The outcome of a put.
enum Published {
    /// The folder already said the same.
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
        // What the disk can't read is looked at again, and dropped if it is damaged, so that it can be fetched again.
        let bytes = self.value.chunk(chunk).inspect_err(|_| self.damaged(chunk))?;
        self.traffic[1].fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    fn damaged(&self, chunk: usize) {
        self.cache.drop_blob(self.value.manifest().chunks()[chunk].into());
    }
}

impl CachedFolder {
    /// Opens the cache, joins the network and connects to the bucket. Returns when the node is listening and has looked
    /// into the bucket; blocks until then.
    ///
    /// Errors: [`FolderError::Network`] if it can't listen, [`FolderError::Cache`] if the cache can't be used,
    /// [`FolderError::Bucket`] if something about the bucket needs fixing. A bucket that just doesn't answer is a
    /// warning.
    pub fn open(author: Author, options: CachedOptions) -> Result<Self, FolderError> {
        let CachedOptions {
            network,
            bucket,
            cache: settings,
            dir,
            socket,
            layout,
            sampled,
            readmitted,
            known,
            membership,
        } = options;
        let federation = author.federation();
        let membership_changes = membership.changes();
        let opened = Cache::open(&dir, federation, &settings)?;
        let Opened { cache, entries, proofs, peers } = opened;
        let mut limits = settings.entry_limits();
        let mut network = network;
        if let Some(NetworkOptions { settings, .. }) = &mut network {
            if sampled {
                settings.follow_few();
            }
            limits.authors = limits.authors.min(settings.most_followed());
        }
        let board = Arc::new(Board::with_limits(federation, limits));
        board.know_own(author.peer_id());
        for author in known {
            board.know(author);
        }
        for known in cache.notes(KNOWN)?.into_keys() {
            if let Some(author) = known.strip_prefix(KNOWN).and_then(|id| PeerId::from_bytes(id).ok()) {
                board.know(author);
            }
        }
        for author in readmitted {
            board.readmit(author);
        }
        for proof in proofs {
            // Nothing counts as proof against a readmitted author.
            let _ = board.insert_proof(proof);
        }
        for entry in entries {
            let (by, me) = (entry.key.author(), author.peer_id());
            if by == me {
                author.raise_above(entry.sequence);
            } else if !membership.allows(by) {
                // Its files go when the cache is next tidied up.
                continue;
            }
            // What was refused then is refused now.
            let _ = board.insert(entry);
        }
        let raise_above = || {
            let numbers = author.clone();
            move |seen| numbers.raise_above(seen)
        };
        let network = match network {
            Some(options) => Some(Arc::new(Network::start(network::Setup {
                keypair: author.keypair().clone(),
                federation,
                layout,
                sampled,
                membership: membership.clone(),
                membership_changes: membership_changes.clone(),
                board: board.clone(),
                cache: cache.clone(),
                known: peers,
                raise_above: Box::new(raise_above()),
                socket,
                options,
            })?)),
            None => None,
        };
        let shared = Arc::new(CacheView {
            author: author.clone(),
            board: board.clone(),
            cache: cache.clone(),
            publishing: Mutex::default(),
            traffic: Arc::default(),
        });
        let proof_handed_over = AtomicBool::new(false);
        let mut folder = Self { bucket: None, network, routes: None, proof_handed_over, shared };
        if let Some((url, options)) = bucket {
            let learned = folder.network.as_ref().map(|network| -> bucket::Learned {
                let network = Arc::downgrade(network);
                Box::new(move |entries| {
                    let network = network.upgrade();
                    Box::pin(async move {
                        if let Some(network) = network {
                            network.learned(entries).await;
                        }
                    })
                })
            });
            let (me, raise_above) = (author.peer_id(), Box::new(raise_above()));
            let setup = bucket::Setup {
                url,
                options,
                me,
                federation,
                membership,
                membership_changes,
                board,
                cache,
                raise_above,
                learned,
            };
            let bucket = Arc::new(Bucket::start(setup)?);
            let members = folder.network.as_ref().map(|network| network.members());
            folder.routes = Some(bucket.spawn_routes(members));
            folder.bucket = Some(bucket);
        }
        Ok(folder)
    }

    /// Where this node listened when it was opened; nowhere without a network.
    pub fn listening(&self) -> &[PeerAddress] {
        self.network.as_ref().map_or(&[], |network| network.listening())
    }

    /// Who is connected, and what was moved. `None` without a network, or if it has ended.
    pub async fn status(&self) -> Option<NetworkStatus> {
        self.network.as_ref()?.status().await
    }

    /// The operator's decision to trust an author, possibly this one, although it signed two entries under one number.
    /// Of what it published before, the later of the two comes back, and the rest from peers and bucket.
    pub fn readmit(&self, author: PeerId) {
        self.shared.board.readmit(author);
        if let Err(error) = self.shared.cache.forget_proof(&author) {
            tracing::warn!(%author, %error, "the proof against it stays in the cache");
        }
        if let Some(network) = &self.network {
            network.board_changed();
        }
        if let Some(bucket) = &self.bucket {
            bucket.forget();
        }
    }

    /// Looks into the bucket if nothing else reports what is new.
    async fn look(&self) {
        let alone = self.network.as_ref().is_none_or(|network| network.figures().peers == 0);
        if let Some(bucket) = self.bucket.as_ref().filter(|_| alone) {
            // The watch reports what comes later.
            bucket.look(LOOK).await;
        }
    }

    /// The root of a value of this federation.
    fn root_of(&self, entry: &Entry) -> Result<Root, FolderError> {
        let root = entry.root().filter(|_| entry.federation == self.shared.author.federation());
        root.ok_or_else(|| gone(entry))
    }

    /// The value, if the cache has all of it.
    async fn cached(&self, entry: &Entry, root: Root) -> Result<Option<Value>, FolderError> {
        let cached = self.off_runtime(move |shared| Ok(shared.cache.value(root)?)).await?;
        let Some(value) = cached else { return Ok(None) };
        let manifest = Manifest::clone(value.manifest());
        if manifest.layout().id() != entry.layout {
            let what = "its manifest is of another layout than its entry says".to_owned();
            return Err(FolderError::Damaged { key: entry.key.clone(), what });
        }
        let (cache, traffic) = (self.shared.cache.clone(), self.shared.traffic.clone());
        Ok(Some(Value::new(manifest, Cached { value, cache, traffic })))
    }

    /// Brings a value into the cache: from peers, and after a while from the bucket too, whichever delivers first.
    async fn fetch(&self, entry: Arc<SignedEntry>) -> Result<(), FolderError> {
        let Some(network) = &self.network else { return self.fetch_from_bucket(&entry, "").await };
        let from_peers = network.fetch(entry.clone());
        let Some(bucket) = &self.bucket else {
            return from_peers.await.map_err(|error| not_from_peers(&entry, &error));
        };
        tokio::pin!(from_peers);
        let mut error = match tokio::time::timeout(bucket.after(), &mut from_peers).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        if matches!(error, None | Some(FetchError::Unreachable { .. })) {
            let from_bucket = bucket.fetch(entry.clone());
            tokio::pin!(from_bucket);
            let mut wanting = None;
            while wanting.is_none() || error.is_none() {
                tokio::select! {
                    fetched = &mut from_peers, if error.is_none() => match fetched {
                        Ok(()) => return Ok(()),
                        Err(reason) => error = Some(reason),
                    },
                    fetched = &mut from_bucket, if wanting.is_none() => match fetched {
                        Ok(()) => return Ok(()),
                        Err(reason) => wanting = Some(reason),
                    },
                }
            }
            if let (Some(error), Some(wanting)) = (&error, wanting) {
                return Err(self.not_from_bucket(&entry, wanting, &error.to_string()));
            }
        }
        Err(error.map_or_else(
            || FolderError::Unreachable { key: entry.key.clone(), reason: "nobody was asked".to_owned() },
            |error| not_from_peers(&entry, &error),
        ))
    }

    async fn fetch_from_bucket(&self, entry: &Arc<SignedEntry>, peers: &str) -> Result<(), FolderError> {
        let Some(bucket) = &self.bucket else {
            return Err(FolderError::Unreachable { key: entry.key.clone(), reason: peers.to_owned() });
        };
        bucket.fetch(entry.clone()).await.map_err(|error| self.not_from_bucket(entry, error, peers))
    }

    /// `peers` says why they don't have it either.
    fn not_from_bucket(&self, entry: &SignedEntry, error: Unfetched, peers: &str) -> FolderError {
        let key = entry.key.clone();
        match error {
            Unfetched::Gone if !self.shared.board.set().holds(&entry.hash()) => gone(entry),
            Unfetched::Damaged { .. } => FolderError::Damaged { key, what: error.to_string() },
            Unfetched::Cache(reason) => FolderError::Uncached { key, reason },
            Unfetched::NotKept => FolderError::NotKept { key },
            Unfetched::Worker(reason) => FolderError::Worker(reason),
            Unfetched::Gone | Unfetched::Bucket(_) if peers.is_empty() => {
                FolderError::Unreachable { key, reason: error.to_string() }
            }
            Unfetched::Gone | Unfetched::Bucket(_) => {
                FolderError::Unreachable { key, reason: format!("{peers}; {error}") }
            }
        }
    }

    async fn off_runtime<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CacheView) -> Result<T, FolderError> + Send + 'static,
    ) -> Result<T, FolderError> {
        let shared = self.shared.clone();
        let joined = tokio::task::spawn_blocking(move || work(&shared)).await;
        joined.map_err(|error| FolderError::Worker(error.to_string()))?
    }

    async fn publish(
        &self,
        make: impl FnOnce(&CacheView) -> Result<Published, FolderError> + Send + 'static,
    ) -> Result<Arc<SignedEntry>, FolderError> {
        self.check_identity().await?;
        let (network, bucket) = (self.network.clone(), self.bucket.clone());
        if network.is_none()
            && let Some(error) = bucket.as_ref().and_then(|bucket| bucket.final_trouble())
        {
            return Err(FolderError::Bucket(error));
        }
        let published = self.off_runtime(move |shared| {
            let (entry, new) = match make(shared)? {
                Published::Standing(entry) => (entry, false),
                Published::New(entry) => (entry, true),
            };
            // Here, so that a put is announced even if its caller has gone.
            if let Some(network) = network.filter(|_| new) {
                network.published(entry.clone());
            }
            if let Some(bucket) = bucket {
                bucket.published();
            }
            Ok(entry)
        });
        let published = published.await;
        if let Err(FolderError::CopiedIdentity { .. }) = published {
            self.hand_over_proof().await;
        }
        published
    }

    /// Errors if somebody else signs as this author. The caller will end because of it, so others are told first.
    async fn check_identity(&self) -> Result<(), FolderError> {
        let author = self.author();
        if !self.shared.board.is_excluded(author) {
            return Ok(());
        }
        self.hand_over_proof().await;
        Err(FolderError::CopiedIdentity { author })
    }

    /// Waits, the first time, until connected members and bucket have the proof against this author.
    async fn hand_over_proof(&self) {
        if self.proof_handed_over.swap(true, Ordering::Relaxed) {
            return;
        }
        let cache = self.off_runtime(|shared| {
            let proof = shared.board.set().conflict(&shared.author.peer_id()).cloned();
            Ok(proof.map_or(Ok(()), |proof| shared.cache.save_proof(&proof))?)
        });
        if let Err(error) = cache.await {
            tracing::warn!(%error, "the proof that this identity was copied can't be kept");
        }
        let network = async {
            if let Some(network) = &self.network {
                network.hand_over(PROOF_PATIENCE).await;
            }
        };
        let bucket = async {
            if let Some(bucket) = &self.bucket {
                bucket.published();
                bucket.settle().await;
            }
        };
        if tokio::time::timeout(PROOF_PATIENCE, async { tokio::join!(network, bucket) }).await.is_err() {
            tracing::warn!("not everybody who is reached has confirmed the proof that this identity was copied");
        }
    }
}

impl CacheView {
    fn put(&self, key: Key, value: &Weights, metadata: Metadata) -> Result<Published, FolderError> {
        let manifest = value.manifest();
        let (layout, length) = (manifest.layout().id(), manifest.layout().bytes());
        let draft = Draft::put(key, layout, manifest.root(), length, metadata);
        let published = self.publish(draft, Some((&manifest, value)))?;
        self.traffic[0].fetch_add(length, Ordering::Relaxed);
        Ok(published)
    }

    /// Stores a value. If there is no room, what was replaced may still wait to be removed.
    fn keep(&self, manifest: &Manifest, value: &Weights) -> Result<Pin, CacheError> {
        match self.cache.put_value(manifest, value) {
            Err(CacheError::Full { .. }) => {
                self.cache.retain(|| Retention::of(&self.board.set(), self.author.peer_id()))?;
                self.cache.put_value(manifest, value)
            }
            kept => kept,
        }
    }

    fn publish(&self, draft: Draft, value: Option<(&Manifest, &Weights)>) -> Result<Published, FolderError> {
        let _publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        self.author.check(&draft)?;
        let refused = |refused| refused_own(refused, self.author.peer_id());
        let standing = self.board.set().get(&draft.key).cloned();
        let standing = standing.filter(|standing| draft.is_said_by(standing));
        self.board.set().check_room(&draft.key).map_err(refused)?;
        // Stored again even if it is already there: its chunks may have been damaged.
        let pin = value.map(|(manifest, value)| self.keep(manifest, value)).transpose()?;
        if let Some(standing) = standing {
            // Others may have told it.
            self.cache.put_entry(&standing, || ())?;
            return Ok(Published::Standing(standing));
        }
        let entry = Arc::new(self.author.sign(draft)?);
        self.cache.put_entry(&entry, || self.board.insert(entry.clone()))?.map_err(refused)?;
        drop(pin);
        Ok(Published::New(entry))
    }
}

fn gone(entry: &Entry) -> FolderError {
    FolderError::Gone { key: entry.key.clone(), sequence: entry.sequence }
}

fn not_from_peers(entry: &Entry, error: &FetchError) -> FolderError {
    let key = entry.key.clone();
    match error {
        FetchError::Gone => gone(entry),
        FetchError::Unreachable { .. } => FolderError::Unreachable { key, reason: error.to_string() },
        FetchError::NotAsSigned => FolderError::Damaged { key, what: error.to_string() },
        FetchError::Cache(reason) => FolderError::Uncached { key, reason: reason.clone() },
        FetchError::NotKept => FolderError::NotKept { key },
        FetchError::Ended => FolderError::Worker(error.to_string()),
    }
}

#[async_trait]
impl SharedFolder for CachedFolder {
    fn author(&self) -> PeerId {
        self.shared.author.peer_id()
    }

    async fn put(&self, key: &Key, value: &Weights, metadata: Metadata) -> Result<Arc<SignedEntry>, FolderError> {
        self.shared.author.check_owns(key)?;
        let (key, value) = (key.clone(), value.clone());
        self.publish(move |shared| shared.put(key, &value, metadata)).await
    }

    async fn stage(&self, value: &Weights) -> Result<Staged, FolderError> {
        let value = value.clone();
        self.off_runtime(move |shared| {
            let manifest = value.manifest();
            let pin = shared.keep(&manifest, &value)?;
            let chunks = manifest.chunks().iter().map(|&chunk| shared.cache.blob_path(chunk.into()));
            let files = StagedFiles::Chunks(chunks.collect());
            Ok(Staged::new(manifest, files, pin))
        })
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Arc<SignedEntry>>, FolderError> {
        self.check_identity().await?;
        self.look().await;
        Ok(self.shared.board.list(prefix))
    }

    async fn get(&self, entry: &Entry) -> Result<Value, FolderError> {
        let root = self.root_of(entry)?;
        // Once it is there, nothing removes it.
        let _pin = self.shared.cache.pin(root);
        for _ in 0..FETCHES {
            if let Some(value) = self.cached(entry, root).await? {
                return Ok(value);
            }
            let standing = self.shared.board.set().get(&entry.key).cloned();
            let standing = standing.filter(|standing| standing.entry() == entry).ok_or_else(|| gone(entry))?;
            self.fetch(standing).await?;
        }
        let what = "it was damaged again as soon as it was fetched; is the disk sound?".to_owned();
        Err(FolderError::Damaged { key: entry.key.clone(), what })
    }

    async fn get_here(&self, entry: &Entry) -> Result<Option<Value>, FolderError> {
        let root = self.root_of(entry)?;
        let _pin = self.shared.cache.pin(root);
        self.cached(entry, root).await
    }

    fn has_part(&self, entry: &Entry) -> bool {
        entry.root().is_some_and(|root| self.shared.cache.knows(root))
    }

    fn watch(&self, prefix: &str) -> Watch {
        Watch::new(self.shared.board.clone(), prefix, ())
    }

    async fn remove(&self, key: &Key) -> Result<Arc<SignedEntry>, FolderError> {
        self.shared.author.check_owns(key)?;
        let layout = self.shared.board.set().get(key).map(|entry| entry.layout);
        let draft = Draft::tombstone(key.clone(), layout);
        self.publish(move |shared| shared.publish(draft, None)).await
    }

    async fn digest(&self) -> Result<Digest, FolderError> {
        self.check_identity().await?;
        self.look().await;
        Ok(self.shared.board.digest())
    }

    async fn conflicts(&self) -> Result<Vec<Conflict>, FolderError> {
        Ok(self.shared.board.conflicts())
    }

    fn figures(&self) -> FolderFigures {
        FolderFigures {
            traffic: Traffic::of(&self.shared.traffic),
            network: self.network.as_ref().map(|network| network.figures()),
            bucket: self.bucket.as_ref().map(|bucket| bucket.figures()),
            cache: Some(self.shared.cache.figures()),
            entries: Some(EntryFigures::of(&self.shared.board.set())),
        }
    }

    async fn expects(&self, authors: BTreeSet<PeerId>) {
        if let Some(network) = &self.network {
            network.expects(authors).await;
        }
    }

    async fn folded(&self, updates: &[(PeerId, u64)]) {
        let board = &self.shared.board;
        let new: Vec<PeerId> = updates
            .iter()
            .filter(|&&(author, number)| board.folded(author, number))
            .map(|(author, _)| *author)
            .collect();
        if new.is_empty() {
            return;
        }
        let noted = self.off_runtime(move |shared| {
            let note = |author: &PeerId| shared.cache.note(&[KNOWN, &author.to_bytes()].concat(), Some(&[]));
            Ok(new.iter().try_for_each(note)?)
        });
        if let Err(error) = noted.await {
            tracing::debug!(%error, "the next start has to get to know some authors again");
        }
    }

    async fn written_at(&self, entry: &SignedEntry) -> Option<SystemTime> {
        self.bucket.as_ref().and_then(|bucket| bucket.written_at(entry))
    }

    fn routes(&self) -> Option<watch::Receiver<Routes>> {
        self.routes.clone()
    }

    fn dropped_peers(&self) -> Option<broadcast::Receiver<DroppedPeer>> {
        self.network.as_ref().map(|network| network.dropped_peers())
    }

    fn reached_peers(&self) -> Option<(Vec<ReachedPeer>, broadcast::Receiver<ReachedPeer>)> {
        self.network.as_ref().map(|network| network.reached_peers())
    }

    async fn look_around(&self, patience: Duration) -> Option<Surroundings> {
        let network = async {
            match &self.network {
                Some(network) => Some(network.look_around(patience).await),
                None => None,
            }
        };
        let bucket = async {
            if let Some(bucket) = &self.bucket {
                bucket.look_around(patience).await;
            }
        };
        let (surroundings, ()) = tokio::join!(network, bucket);
        if surroundings.is_some_and(|surroundings| surroundings.silent > 0) {
            tracing::warn!("not everybody who may be there has answered yet; going on with who has");
        }
        surroundings
    }

    async fn hand_over(&self, patience: Duration) -> HandedOver {
        let network = async {
            match &self.network {
                Some(network) => Some(network.hand_over(patience).await),
                None => None,
            }
        };
        let bucket = async {
            match &self.bucket {
                Some(bucket) => Some(tokio::time::timeout(patience, bucket.settle()).await.is_ok()),
                None => None,
            }
        };
        let (network, bucket) = tokio::join!(network, bucket);
        if network.is_some_and(|network| network.missing > 0) {
            tracing::warn!("some connected peers don't have this node's newest update yet");
        }
        if bucket == Some(false) {
            tracing::warn!("the bucket doesn't have this node's newest update yet; the next start uploads it");
        }
        HandedOver { network, bucket }
    }
}

impl Drop for CachedFolder {
    fn drop(&mut self) {
        self.bucket = None;
        // A network closes the cache itself when its task has ended.
        if self.network.take().is_none() {
            self.shared.cache.close();
        }
    }
}
