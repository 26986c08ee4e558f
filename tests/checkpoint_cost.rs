//! What the end of an epoch costs: bytes written to the disk and copies of the model in memory, both counted for a
//! model of N bytes whose optimizer has 2N. A separate test program, because both are counted for the whole process.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

use async_trait::async_trait;
use libp2p_identity::{Keypair, PeerId};
use peerfold::{
    entries::{Conflict, Membership, Watch},
    folder::{
        Author, CachedFolder, CachedOptions, FolderError, FolderFigures, LocalFolder, MemoryFolder, MemoryStorage,
        SharedFolder, Staged, Value,
    },
    node::{
        AsyncNode, AsyncOptions, Checkpoint, Checks, Event, LocalUpdate, NodeError, Origin, Participant,
        ParticipantOptions, Session, SessionOptions, StartOptions, Stop,
    },
    strategy::StrategySpec,
    weights::{DType, Digest, Entry, FederationId, Key, Metadata, SignedEntry, Tensor, TensorSpec, Weights},
};
use std::{
    alloc::{GlobalAlloc, Layout as Block, System},
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::sync::Mutex;

/// One tensor of the model.
const TENSOR: usize = 2 << 20;
const TENSORS: usize = 8;
/// Bytes of the model.
const N: usize = TENSOR * TENSORS;
/// Allowance for other writes: heads, entries, manifests, the cache's index.
const SMALL: usize = N / 32;
/// Allowance for other memory, whatever the size of the model: some chunks of 1 MiB for each folding thread.
const BUFFERS: usize = 5 << 20;

/// Counts the bytes that are allocated now, and the most that were.
struct Counted;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counted = Counted;

fn more(bytes: usize) {
    MOST.fetch_max(NOW.fetch_add(bytes, Ordering::Relaxed) + bytes, Ordering::Relaxed);
}

fn less(bytes: usize) {
    NOW.fetch_sub(bytes, Ordering::Relaxed);
}

// SAFETY: all is the system's allocator; what is counted allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, block: Block) -> *mut u8 {
        more(block.size());
        unsafe { System.alloc(block) }
    }

    unsafe fn alloc_zeroed(&self, block: Block) -> *mut u8 {
        more(block.size());
        unsafe { System.alloc_zeroed(block) }
    }

    unsafe fn realloc(&self, at: *mut u8, block: Block, bytes: usize) -> *mut u8 {
        more(bytes);
        less(block.size());
        unsafe { System.realloc(at, block, bytes) }
    }

    unsafe fn dealloc(&self, at: *mut u8, block: Block) {
        less(block.size());
        unsafe { System.dealloc(at, block) }
    }
}

/// One test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Bytes that this process has given to the system to write, so far.
fn written() -> usize {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}

/// Runs `work`, and gives the bytes that it wrote and the most that it had in memory beside what was there before.
async fn measured<T>(work: impl Future<Output = T>) -> (T, usize, usize) {
    let (before, wrote) = (NOW.load(Ordering::Relaxed), written());
    MOST.store(before, Ordering::Relaxed);
    let done = work.await;
    (done, written() - wrote, MOST.load(Ordering::Relaxed) - before)
}

fn federation() -> FederationId {
    FederationId::new("cost", "1")
}

fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

/// No two chunks are equal, nor are those of two seeds.
fn weights(seed: u64) -> Weights {
    let tensor = |number: usize| {
        let chunk = |at: usize| (seed as f32 + (number * TENSOR + at) as f32 / N as f32).to_le_bytes();
        let chunks = (0..TENSOR).step_by(1 << 20).map(|at| chunk(at).repeat((1 << 20) / 4));
        let data = chunks.collect::<Vec<_>>().concat();
        let spec = TensorSpec { name: format!("{number}"), dtype: DType::F32, shape: vec![TENSOR as u64 / 4] };
        Tensor { spec, data: data.into() }
    };
    Weights::new((0..TENSORS).map(tensor).collect()).unwrap()
}

/// As if the model were on a device: what is read from it is a copy.
fn copied(weights: &Weights) -> Weights {
    let tensor = |(spec, data): (&TensorSpec, &bytes::Bytes)| Tensor { spec: spec.clone(), data: data.to_vec().into() };
    Weights::new(weights.tensors().map(tensor).collect()).unwrap()
}

/// A folder of which the peers' part lies in memory, so that only the node's own writes are counted.
struct Beside {
    own: Arc<dyn SharedFolder>,
    peers: MemoryFolder,
}

#[async_trait]
impl SharedFolder for Beside {
    fn author(&self) -> PeerId {
        self.own.author()
    }

    async fn put(&self, key: &Key, value: &Weights, metadata: Metadata) -> Result<Arc<SignedEntry>, FolderError> {
        self.own.put(key, value, metadata).await
    }

    async fn stage(&self, value: &Weights) -> Result<Staged, FolderError> {
        self.own.stage(value).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Arc<SignedEntry>>, FolderError> {
        Ok([self.own.list(prefix).await?, self.peers.list(prefix).await?].concat())
    }

    async fn get(&self, entry: &Entry) -> Result<Value, FolderError> {
        if entry.key.author() == self.author() { self.own.get(entry).await } else { self.peers.get(entry).await }
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.own.watch(prefix)
    }

    async fn remove(&self, key: &Key) -> Result<Arc<SignedEntry>, FolderError> {
        self.own.remove(key).await
    }

    async fn digest(&self) -> Result<Digest, FolderError> {
        self.own.digest().await
    }

    async fn conflicts(&self) -> Result<Vec<Conflict>, FolderError> {
        self.own.conflicts().await
    }

    fn figures(&self) -> FolderFigures {
        self.own.figures()
    }
}

/// A folder of each kind that has files, and one that has none.
fn folders(dir: &Path) -> Vec<(&'static str, Arc<dyn SharedFolder>)> {
    let author = || Author::in_memory(keypair(1), federation());
    let cached = CachedFolder::open(author(), CachedOptions::new(dir.join("cache"))).unwrap();
    vec![
        ("directory", Arc::new(LocalFolder::open(&dir.join("shared"), author()).unwrap())),
        ("cache", Arc::new(cached)),
        ("memory", Arc::new(MemoryFolder::new(&MemoryStorage::new(), author()))),
    ]
}

struct Node {
    session: Session,
    folded: Arc<AtomicBool>,
    /// The optimizer, and the weights as they are on the device.
    moments: [Weights; 2],
    trained: Weights,
}

impl Node {
    async fn begin(folder: Arc<dyn SharedFolder>, run_dir: &Path, publish_folded: bool) -> Self {
        let initial = weights(1);
        let folded = Arc::new(AtomicBool::new(false));
        let (told, layout) = (folded.clone(), initial.layout().clone());
        let events = Arc::new(move |event: &Event| {
            if let Event::Folded { updates, .. } = event {
                told.store(updates.len() > 1, Ordering::Relaxed);
            }
        });
        let membership = Arc::new(Membership::open());
        let options = ParticipantOptions { checks: Checks::default(), membership, events };
        let strategy = StrategySpec::new("fedavg").build().unwrap();
        let node = AsyncNode::new(Participant::new(folder, strategy, layout, options), AsyncOptions::default());
        let options = SessionOptions {
            federation: federation(),
            name: "cost".to_owned(),
            run_dir: Some(run_dir.to_owned()),
            start: StartOptions::default(),
            hyperparameters: BTreeMap::new(),
            distinct: BTreeMap::new(),
            publish_folded,
            stop: Stop::new(),
        };
        let mut session = Session::new(node, options);
        session.begin((initial, Origin::Seed), Default::default()).await.unwrap();
        Self { session, folded, moments: [weights(2), weights(3)], trained: weights(4) }
    }

    /// The end of an epoch, from a trained model to one to train on with.
    async fn end(&mut self, epoch: u64) {
        let moments = self.moments.iter().flat_map(|moment| moment.tensors());
        let write = |out: &mut dyn std::io::Write| -> Result<(), NodeError> {
            moments.into_iter().for_each(|(_, data)| out.write_all(data).unwrap());
            Ok(())
        };
        let state = self.session.write_state(write).unwrap();
        let weights = copied(&self.trained);
        let local = LocalUpdate { weights, epoch, num_examples: 10, metrics: Vec::new() };
        let completed = self.session.epoch_trained(local, state).await.unwrap();
        self.trained = copied(&completed.weights);
    }

    /// An epoch of training: the weights and the moments change.
    fn train(&mut self, epoch: u64) {
        (self.trained, self.moments) = (weights(100 * epoch), [weights(100 * epoch + 1), weights(100 * epoch + 2)]);
    }
}

/// This many models, and not much more.
#[track_caller]
fn assert_models(kind: &str, what: &str, bytes: usize, models: usize, more: usize) {
    let is_so = (models * N..=models * N + more).contains(&bytes);
    assert!(is_so, "{kind}: {what} {:.3} N, not {models} N", bytes as f64 / N as f64);
}

/// Weights, the two moments and the folded weights: four times the model, of which the weights are the published value.
#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_is_folded_writes_four_times_the_model_and_has_two_copies_of_it_in_memory() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    for (kind, own) in folders(dir.path()) {
        let storage = MemoryStorage::new();
        let peer = MemoryFolder::new(&storage, Author::in_memory(keypair(2), federation()));
        let peers = MemoryFolder::new(&storage, Author::in_memory(keypair(3), federation()));
        let run_dir = dir.path().join(format!("run of {kind}"));
        fs::create_dir(&run_dir).unwrap();
        let mut node = Node::begin(Arc::new(Beside { own, peers }), &run_dir, false).await;
        for epoch in 1..=3 {
            node.train(epoch);
            let metadata = Metadata { epoch, num_examples: 10, ..Metadata::default() };
            peer.put(&Key::update(peer.author(), epoch), &weights(1000 * epoch), metadata).await.unwrap();
            let ((), written, memory) = measured(node.end(epoch)).await;
            assert!(node.folded.load(Ordering::Relaxed));
            assert_models(kind, "writes", written, 4, SMALL);
            // What the memory folder keeps of the published value is its storage, not a copy of the node's.
            if kind != "memory" {
                assert_models(kind, "has in memory", memory, 2, BUFFERS);
            }
        }
        let checkpoint = Checkpoint::load(&run_dir).unwrap().unwrap();
        assert_eq!((checkpoint.epoch, checkpoint.trainer.len()), (3, 2 * N as u64));
        assert!(checkpoint.weights == node.trained);
    }
}

/// Nothing is folded, so that the folded weights are the trained ones.
#[tokio::test(flavor = "multi_thread")]
async fn alone_an_epoch_writes_three_times_the_model() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    for (kind, own) in folders(dir.path()) {
        let run_dir = dir.path().join(format!("run of {kind}"));
        fs::create_dir(&run_dir).unwrap();
        // Published a second time, under the key of the folded model.
        let mut node = Node::begin(own, &run_dir, true).await;
        for epoch in 1..=2 {
            node.train(epoch);
            let ((), written, _) = measured(node.end(epoch)).await;
            assert_models(kind, "alone writes", written, 3, SMALL);
        }
        // Blobs that no head names are gone: the newest weights and the optimizer are left.
        let (mut files, mut bytes) = (vec![run_dir.join("blobs")], 0);
        while let Some(path) = files.pop() {
            match path.is_dir() {
                true => files.extend(fs::read_dir(path).unwrap().map(|file| file.unwrap().path())),
                false => bytes += path.metadata().unwrap().len() as usize,
            }
        }
        assert_models(kind, "keeps", bytes, 3, SMALL);
    }
}

/// Whoever removes the folder's files doesn't take the checkpoint's away.
#[tokio::test(flavor = "multi_thread")]
async fn the_checkpoint_outlives_the_folders_files() {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("run");
    fs::create_dir(&run_dir).unwrap();
    for (kind, own) in folders(dir.path()) {
        let mut node = Node::begin(own, &run_dir, false).await;
        node.train(1);
        let trained = node.trained.clone();
        node.end(1).await;
        drop(node);
        let _ = fs::remove_dir_all(dir.path().join(if kind == "directory" { "shared" } else { kind }));
        assert!(Checkpoint::load(&run_dir).unwrap().unwrap().weights == trained, "{kind}");
        fs::remove_dir_all(&run_dir).unwrap();
        fs::create_dir(&run_dir).unwrap();
    }
}

#[cfg(feature = "train")]
mod trained {
    use super::*;
    use burn::{
        backend::Autodiff,
        module::Module,
        nn::{Linear, LinearConfig},
        optim::{GradientsParams, Optimizer},
        tensor::{Tensor, backend::Backend},
    };
    use peerfold::{prelude::*, train::collect};

    type B = Autodiff<Cpu>;

    const WIDTH: usize = 512;

    #[derive(Module, Debug)]
    struct Net<B: Backend> {
        layers: Vec<Linear<B>>,
    }

    fn net(seed: u64) -> Net<B> {
        let linear = |_| LinearConfig::new(WIDTH, WIDTH).with_bias(false).init(&Default::default());
        init_seeded(Net { layers: (0..16).map(linear).collect() }, seed)
    }

    /// A module of one's own with Adam: what the callback does at the end of an epoch.
    #[test]
    fn a_burn_module_with_adam_costs_as_much() {
        let _alone = ALONE.blocking_lock();
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        let (mut model, mut optimizer) = (net(1), Adam::default().init());
        let config = NodeConfig::new("cost", FolderUrl::Local(shared.clone()));
        let mut federation =
            FederatedCallback::join(&config, dir.path().join("home"), &mut model, &mut optimizer).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let peer = LocalFolder::open(&shared, Author::in_memory(keypair(2), federation_of(&shared))).unwrap();
        while let Some(epoch) = federation.next_epoch(3) {
            let x = Tensor::<B, 2>::ones([2, WIDTH], &Default::default());
            let y = model.layers.iter().fold(x, |x, layer| layer.forward(x));
            let gradients = GradientsParams::from_grads(y.sum().backward(), &model);
            model = optimizer.step(1e-3, model, gradients);
            let metadata = Metadata { epoch, num_examples: 10, ..Metadata::default() };
            let update = collect(&net(10 + epoch)).unwrap();
            runtime.block_on(peer.put(&Key::update(peer.author(), epoch), &update, metadata)).unwrap();
            drop(update);
            let end = async { federation.on_epoch_end(&mut model, &optimizer, Epoch::of(10)).unwrap() };
            let (_, written, memory) = runtime.block_on(measured(end));
            assert_models("callback", "writes", written, 4, SMALL);
            assert_models("callback", "has in memory", memory, 2, BUFFERS);
        }
        federation.finish().unwrap();
    }

    /// The one that has a directory in it.
    fn federation_of(shared: &Path) -> FederationId {
        let dir = fs::read_dir(shared).unwrap().next().unwrap().unwrap();
        dir.file_name().to_string_lossy().parse().unwrap()
    }
}
