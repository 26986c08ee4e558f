//! One core, with the test as its peers, its cache and its clock.

mod fetch;
mod fetchers;
mod gossip;
mod holders;
mod leaving;
mod members;
mod places;
mod relayed;
mod sync;
mod view;

use super::*;
use crate::{
    entries::{Conflict, EntryLimits, Membership},
    p2p::message::{Blob, BlobRequest, SyncRequest, SyncResponse},
    weights::{
        BlobHash, ChunkHash, Content, Entry, FederationId, Key, LayoutId, Metadata, Root, SignedEntry, Tensor,
        TensorSpec, Weights,
    },
};
use bytes::Bytes;
use libp2p_identity::Keypair;

const ME: u8 = 0;

fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed + 1; 32]).unwrap()
}

fn peer(seed: u8) -> PeerId {
    keypair(seed).public().to_peer_id()
}

fn federation() -> FederationId {
    FederationId::new("core", "1")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A value of this many chunks, different for every seed.
fn weights(seed: u8, chunks: u64) -> Weights {
    let tensors = (0..chunks).map(|number| {
        let spec = TensorSpec { name: format!("{number}"), dtype: crate::weights::DType::U8, shape: vec![1 << 16] };
        let mut data = vec![seed; 1 << 16];
        data[0] = number as u8;
        Tensor { spec, data: data.into() }
    });
    Weights::new(tensors.collect()).unwrap()
}

fn layout(chunks: u64) -> LayoutId {
    weights(0, chunks).layout().id()
}

fn signed(author: u8, name: &str, sequence: u64, content: Content, layout: LayoutId) -> Arc<SignedEntry> {
    let key = Key::new(peer(author), name).unwrap();
    let entry = Entry { federation: federation(), layout, key, sequence, content };
    Arc::new(SignedEntry::sign(entry, &keypair(author)).unwrap())
}

fn entry_of(author: u8, name: &str, sequence: u64, weights: &Weights) -> Arc<SignedEntry> {
    let manifest = weights.manifest();
    let (root, length) = (manifest.root(), weights.layout().bytes());
    signed(author, name, sequence, Content::Put { root, length, metadata: Metadata::default() }, weights.layout().id())
}

/// An update of two chunks.
fn update(author: u8, epoch: u64) -> (Weights, Arc<SignedEntry>) {
    let weights = weights(author * 16 + epoch as u8, 2);
    let entry = entry_of(author, &format!("update/{epoch}"), epoch, &weights);
    (weights, entry)
}

/// An entry as a later version may sign it, with the value's encoding after the body.
fn encoded(author: u8, entry: &SignedEntry, encoding: &[u8]) -> Vec<u8> {
    let plain = entry.bytes();
    let body = [&plain[..plain.len() - 64], encoding].concat();
    let signature = keypair(author).sign(&[b"peerfold/entry\0", &body[..]].concat()).unwrap();
    [body, signature].concat()
}

fn tombstone(author: u8, name: &str, sequence: u64) -> Arc<SignedEntry> {
    signed(author, name, sequence, Content::Tombstone, layout(0))
}

fn root(entry: &SignedEntry) -> Root {
    entry.root().unwrap()
}

fn data(entry: &SignedEntry) -> Bytes {
    entry.bytes().to_vec().into()
}

fn blobs(weights: &Weights) -> BTreeMap<BlobHash, Bytes> {
    let manifest = weights.manifest();
    let chunks = manifest.chunks().iter().enumerate();
    let mut blobs: BTreeMap<_, _> =
        chunks.map(|(at, hash)| ((*hash).into(), manifest.chunk_bytes(weights, at))).collect();
    blobs.insert(manifest.root().into(), manifest.encode().into());
    blobs
}

struct Rig {
    core: Core,
    board: Arc<Board>,
    now: Duration,
    /// What was put out and no test has asked for.
    out: Vec<Output>,
    tokens: Token,
}

/// A request for blobs that the core has made.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    id: RequestId,
    peer: PeerId,
    hashes: Vec<BlobHash>,
}

impl Rig {
    fn new(layout: Option<LayoutId>) -> Self {
        Self::with(layout, Limits::default(), &[])
    }

    fn with(layout: Option<LayoutId>, limits: Limits, known: &[&Arc<SignedEntry>]) -> Self {
        Self::admitting(Membership::open(), layout, limits, known)
    }

    fn admitting(
        membership: Membership,
        layout: Option<LayoutId>,
        limits: Limits,
        known: &[&Arc<SignedEntry>],
    ) -> Self {
        let board = Board::new(federation());
        for entry in known {
            board.insert(Arc::clone(entry)).unwrap();
        }
        Self::on(board, membership, layout, limits)
    }

    fn on(board: Board, membership: Membership, layout: Option<LayoutId>, limits: Limits) -> Self {
        let board = Arc::new(board);
        let (me, membership) = (peer(ME), Arc::new(membership));
        let sync_every = seconds(60);
        let config =
            CoreConfig { federation: federation(), me, layout, sampled: false, membership, sync_every, limits };
        let core = Core::new(config, board.clone(), 7);
        Self { core, board, now: Duration::ZERO, out: Vec::new(), tokens: 0 }
    }

    fn input(&mut self, input: Input) {
        self.core.handle(self.now, input);
        while let Some(output) = self.core.poll() {
            self.out.push(output);
        }
    }

    /// Lets time pass, up to each moment at which the core wants to be woken.
    fn wait(&mut self, length: Duration) {
        let end = self.now + length;
        while let Some(wakeup) = self.core.next_wakeup().filter(|wakeup| *wakeup <= end) {
            assert!(wakeup > self.now, "woken for nothing");
            self.now = wakeup;
            self.input(Input::Tick);
        }
        self.now = end;
        self.input(Input::Tick);
    }

    fn take<T>(&mut self, mut wanted: impl FnMut(&Output) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        self.out.retain(|output| match wanted(output) {
            Some(output) => {
                found.push(output);
                false
            }
            None => true,
        });
        found
    }

    /// Connects peers that know the same.
    fn members(&mut self, seeds: &[u8]) {
        for seed in seeds {
            self.input(Input::Connected(peer(*seed)));
            let (id, _, _) = self.syncs().pop().unwrap();
            self.input(Input::SyncResponse { id, response: Ok(SyncResponse::Same) });
            assert_eq!(self.take(|output| matches!(output, Output::Member(_)).then_some(())).len(), 1);
        }
    }

    fn syncs(&mut self) -> Vec<(RequestId, PeerId, SyncRequest)> {
        self.take(|output| match output {
            Output::Sync { id, peer, request } => Some((*id, *peer, request.clone())),
            _ => None,
        })
    }

    fn asked_to_sync(&mut self, from: u8, request: SyncRequest) -> SyncResponse {
        self.tokens += 1;
        self.input(Input::SyncRequest { token: self.tokens, peer: peer(from), request });
        let mut answers = self.take(|output| match output {
            Output::SyncReply { response, .. } => Some(response.clone()),
            _ => None,
        });
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    fn gossip(&mut self, from: u8, data: impl Into<Bytes>) -> Verdict {
        self.tokens += 1;
        self.input(Input::Gossip { token: self.tokens, from: peer(from), data: data.into() });
        let verdicts = self.take(|output| match output {
            Output::Verdict { verdict, .. } => Some(*verdict),
            _ => None,
        });
        assert_eq!(verdicts.len(), 1);
        verdicts[0]
    }

    fn lookups(&mut self) -> Vec<Arc<SignedEntry>> {
        self.take(|output| match output {
            Output::Lookup(entry) => Some(entry.clone()),
            _ => None,
        })
    }

    fn looked(&mut self, root: Root, looked: Looked) {
        self.input(Input::Looked { root, looked });
    }

    fn asked(&mut self) -> Vec<Asked> {
        self.take(|output| match output {
            Output::Blobs { id, peer, request: BlobRequest::Get { hashes, .. } } => {
                Some(Asked { id: *id, peer: *peer, hashes: hashes.clone() })
            }
            _ => None,
        })
    }

    fn answer(&mut self, id: RequestId, blobs: Vec<Blob>) {
        self.input(Input::BlobResponse { id, response: Ok(blobs) });
    }

    fn fails(&mut self, id: RequestId) {
        self.input(Input::BlobResponse { id, response: Err(RequestFailed::Failed) });
    }

    fn stores(&mut self) -> Vec<(BlobHash, Bytes)> {
        self.take(|output| match output {
            Output::Store { hash, bytes, .. } => Some((*hash, bytes.clone())),
            _ => None,
        })
    }

    /// Verifies all that is to be stored, as a cache does.
    fn store_all(&mut self) {
        for (hash, bytes) in self.stores() {
            let right = BlobHash::of(&bytes) == hash;
            let result = if right { StoreResult::Stored } else { StoreResult::WrongHash };
            self.input(Input::Stored { hash, result });
        }
    }

    fn fetched(&mut self) -> Vec<(Root, Result<(), FetchError>)> {
        self.take(|output| match output {
            Output::Fetched { root, result } => Some((*root, result.clone())),
            _ => None,
        })
    }

    fn bans(&mut self) -> Vec<PeerId> {
        self.take(|output| match output {
            Output::Ban { peer, .. } => Some(*peer),
            _ => None,
        })
    }

    fn notices(&mut self) -> Vec<(RequestId, PeerId, Vec<Root>)> {
        self.take(|output| match output {
            Output::Blobs { id, peer, request: BlobRequest::Holds { roots, .. } } => Some((*id, *peer, roots.clone())),
            _ => None,
        })
    }

    /// Answers everything for one value, asking and answering honestly, until it is whole.
    fn give(&mut self, weights: &Weights) {
        let all = blobs(weights);
        let root = weights.manifest().root();
        self.looked(root, Looked::NoManifest);
        for looked in [missing(weights, &[]), Looked::Whole] {
            while let Some(asked) = self.asked().pop() {
                self.answer(asked.id, asked.hashes.iter().map(|hash| all.get(hash).cloned()).collect());
                self.store_all();
            }
            assert_eq!(self.lookups().len(), 1);
            self.looked(root, looked);
        }
    }
}

/// The chunks of a value except these.
fn missing(weights: &Weights, there: &[ChunkHash]) -> Looked {
    let manifest = weights.manifest();
    let chunks = manifest.chunks().iter().enumerate().filter(|(_, hash)| !there.contains(hash));
    let missing = chunks.map(|(at, hash)| (*hash, manifest.plan().length(at))).collect();
    Looked::Part { here: there.to_vec(), missing }
}

fn compare(digest: crate::weights::Digest) -> SyncRequest {
    SyncRequest::Compare { federation: federation(), digest }
}

fn proof(author: u8, sequence: u64) -> Conflict {
    let [one, other] = [1, 2].map(|seed| entry_of(author, "start", sequence, &weights(seed, 1)));
    Conflict::new(one, other).unwrap()
}

fn some(value: &Weights, asked: &Asked) -> Vec<Blob> {
    let all = blobs(value);
    asked.hashes.iter().map(|hash| all.get(hash).cloned()).collect()
}

fn nothing(asked: &Asked) -> Vec<Blob> {
    vec![None; asked.hashes.len()]
}

/// Nobody has what is being asked for now; the number of requests.
fn nobody_has(rig: &mut Rig) -> usize {
    let mut asked = 0;
    loop {
        let now = rig.asked();
        if now.is_empty() {
            return asked;
        }
        asked += now.len();
        now.iter().for_each(|asked| rig.answer(asked.id, nothing(asked)));
    }
}
