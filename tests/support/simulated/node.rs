//! A simulated node: a core with its board, its cache and what its driver remembers.

use super::{
    cache::Cache,
    mesh::{Mesh, Message},
    uplink::Uplink,
};
use bytesize::ByteSize;
use libp2p_identity::{Keypair, PeerId};
use peerfold::{
    entries::{Board, Standing},
    p2p::core::{Core, CoreConfig, Limits, RequestId, Token},
    weights::{
        Content, DType, Entry, FederationId, Key, LayoutId, Metadata, Root, SignedEntry, Tensor, TensorSpec, Weights,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// What a node is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Character {
    Honest,
    /// Publishes like all others, and gives wrong bytes.
    Liar,
    /// Sends what is no message.
    Vandal,
    /// Signs two entries under one number, one for half of its peers.
    Cheat,
}

/// The peer that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    pub node: usize,
    /// Which life of it asked.
    pub life: u32,
    pub id: RequestId,
}

pub struct Node {
    pub character: Character,
    pub keypair: Keypair,
    pub peer: PeerId,
    pub federation: FederationId,
    /// Chunks in a value, and the bytes of each: what makes a layout.
    pub chunks: u64,
    pub chunk_bytes: u64,
    /// Whether it fetches what is announced.
    pub fetches: bool,
    /// How many authors it follows.
    pub view: Option<usize>,
    pub core: Option<Core>,
    /// Rises when it dies: what was on its way then comes to nothing.
    pub life: u32,
    pub board: Arc<Board>,
    pub cache: Cache,
    pub epoch: u64,
    pub sequence: u64,
    /// When its core wants to be woken.
    pub wakeup: Option<Duration>,
    pub links: BTreeSet<usize>,
    pub mesh: Mesh,
    pub uplink: Uplink,
    /// Bytes that it has sent.
    pub sent: u64,
    /// Whether its cache is to drop what no longer counts.
    pub retains: bool,
    pub tokens: Token,
    pub to_judge: BTreeMap<Token, (usize, Arc<Message>)>,
    pub to_answer: BTreeMap<Token, Asker>,
    pub wants: BTreeSet<Root>,
}

impl Node {
    pub fn new(number: usize, character: Character, federation: &str, chunks: u64) -> Self {
        let mut secret = [1; 32];
        secret[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let keypair = Keypair::ed25519_from_bytes(secret).unwrap();
        let federation = FederationId::new(federation, "1");
        Self {
            character,
            peer: keypair.public().to_peer_id(),
            keypair,
            federation,
            chunks,
            chunk_bytes: LARGE,
            fetches: true,
            view: None,
            core: None,
            life: 0,
            board: Arc::new(Board::new(federation)),
            cache: Cache::default(),
            epoch: 0,
            sequence: 0,
            wakeup: None,
            links: BTreeSet::new(),
            mesh: Mesh::default(),
            uplink: Uplink::default(),
            sent: 0,
            retains: false,
            tokens: 0,
            to_judge: BTreeMap::new(),
            to_answer: BTreeMap::new(),
            wants: BTreeSet::new(),
        }
    }

    pub fn layout(&self) -> LayoutId {
        weights(self.chunks, self.chunk_bytes, 0, 0).layout().id()
    }

    pub fn start(&mut self, seed: u64, sync_every: Duration) {
        self.board = self.cache.board(self.federation, self.view);
        let config = CoreConfig {
            federation: self.federation,
            me: self.peer,
            layout: self.fetches.then(|| self.layout()),
            sampled: false,
            membership: Default::default(),
            sync_every,
            limits: Limits { request_bytes: ByteSize(100_000), view: self.view, ..Limits::default() },
        };
        self.core = Some(Core::new(config, self.board.clone(), seed));
    }

    /// Everything but what is on its disk is gone.
    pub fn die(&mut self) {
        self.core = None;
        self.life += 1;
        self.wakeup = None;
        self.mesh.clear();
        self.uplink.clear();
        self.to_judge.clear();
        self.to_answer.clear();
        self.wants.clear();
    }

    pub fn is_alive(&self) -> bool {
        self.core.is_some() || self.character == Character::Vandal
    }

    pub fn sign(&mut self, name: &str, weights: &Weights) -> Arc<SignedEntry> {
        let manifest = weights.manifest();
        let content = Content::Put {
            root: manifest.root(),
            length: manifest.layout().bytes(),
            metadata: Metadata { epoch: self.epoch, num_examples: 1, metrics: vec![] },
        };
        let key = Key::new(self.peer, name).unwrap();
        let layout = manifest.layout().id();
        let entry = Entry { federation: self.federation, layout, key, sequence: self.sequence, content };
        Arc::new(SignedEntry::sign(entry, &self.keypair).unwrap())
    }

    /// Puts the update of its next epoch, as a folder does: value, then entry.
    pub fn put_update(&mut self, number: usize) -> Arc<SignedEntry> {
        self.epoch += 1;
        self.sequence += 1;
        let weights = weights(self.chunks, self.chunk_bytes, number, self.epoch);
        self.cache.put(&weights);
        let entry = self.sign(&format!("update/{}", self.epoch), &weights);
        self.board.insert(entry.clone()).unwrap();
        self.cache.saved.push(Standing::Entry(entry.clone()));
        entry
    }
}

/// So long that a chunk has one tensor.
pub const LARGE: u64 = 1 << 16;

/// A value of this many chunks; of one, if they are short.
pub fn weights(chunks: u64, chunk_bytes: u64, author: usize, epoch: u64) -> Weights {
    let tensors = (0..chunks).map(|tensor| {
        let spec = TensorSpec { name: format!("{tensor}"), dtype: DType::U8, shape: vec![chunk_bytes] };
        let mut data = vec![author as u8; chunk_bytes as usize];
        // The first tensor is frozen: equal with all epochs of an author.
        data[..2].copy_from_slice(&[tensor as u8, if tensor == 0 && chunks > 1 { 0 } else { epoch as u8 }]);
        data[2..10].copy_from_slice(&(author as u64).to_le_bytes());
        Tensor { spec, data: data.into() }
    });
    Weights::new(tensors.collect()).unwrap()
}
