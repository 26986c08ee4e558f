//! A simulated node: a core with its board, its cache and what its driver remembers.

use super::cache::Cache;
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
    /// Chunks in a value: what makes a layout.
    pub chunks: u64,
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
    /// Gossip that it has seen, as gossipsub remembers it.
    pub seen: BTreeSet<[u8; 32]>,
    pub tokens: Token,
    pub to_judge: BTreeMap<Token, (usize, Vec<u8>)>,
    pub to_answer: BTreeMap<Token, Asker>,
    pub wants: BTreeSet<Root>,
}

impl Node {
    pub fn new(number: usize, character: Character, federation: &str, chunks: u64) -> Self {
        let keypair = Keypair::ed25519_from_bytes([number as u8 + 1; 32]).unwrap();
        let federation = FederationId::new(federation, "1");
        Self {
            character,
            peer: keypair.public().to_peer_id(),
            keypair,
            federation,
            chunks,
            core: None,
            life: 0,
            board: Arc::new(Board::new(federation)),
            cache: Cache::default(),
            epoch: 0,
            sequence: 0,
            wakeup: None,
            links: BTreeSet::new(),
            seen: BTreeSet::new(),
            tokens: 0,
            to_judge: BTreeMap::new(),
            to_answer: BTreeMap::new(),
            wants: BTreeSet::new(),
        }
    }

    pub fn layout(&self) -> LayoutId {
        weights(self.chunks, 0, 0).layout().id()
    }

    pub fn start(&mut self, seed: u64) {
        self.board = self.cache.board(self.federation);
        let config = CoreConfig {
            federation: self.federation,
            me: self.peer,
            layout: Some(self.layout()),
            sampled: false,
            membership: Default::default(),
            sync_every: Duration::from_secs(20),
            limits: Limits { request_bytes: ByteSize(100_000), ..Limits::default() },
        };
        self.core = Some(Core::new(config, self.board.clone(), seed));
    }

    /// Everything but what is on its disk is gone.
    pub fn die(&mut self) {
        self.core = None;
        self.life += 1;
        self.wakeup = None;
        self.seen.clear();
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
        let weights = weights(self.chunks, number as u8, self.epoch as u8);
        self.cache.put(&weights);
        let entry = self.sign(&format!("update/{}", self.epoch), &weights);
        self.board.insert(entry.clone()).unwrap();
        self.cache.saved.push(Standing::Entry(entry.clone()));
        entry
    }
}

/// A value of this many chunks.
pub fn weights(chunks: u64, author: u8, epoch: u8) -> Weights {
    let tensors = (0..chunks).map(|tensor| {
        let spec = TensorSpec { name: format!("{tensor}"), dtype: DType::U8, shape: vec![1 << 16] };
        let mut data = vec![author; 1 << 16];
        // The first tensor is frozen: equal with all epochs of an author.
        data[..2].copy_from_slice(&[tensor as u8, if tensor == 0 { 0 } else { epoch }]);
        Tensor { spec, data: data.into() }
    });
    Weights::new(tensors.collect()).unwrap()
}
