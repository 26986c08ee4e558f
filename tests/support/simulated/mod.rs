//! A network of cores in one thread: it loses, delays, reorders and repeats messages, falls apart and heals, and its
//! nodes die and start again. Everything follows from a seed.

mod cache;
mod node;

pub use node::{Character, Node};

use bytes::Bytes;
use node::Asker;
use peerfold::{
    entries::{BucketSet, Conflict, Fingerprints, Position, Standing},
    p2p::{
        Blob, BlobRequest, Item, SyncRequest, SyncResponse,
        core::{Input, Output, RequestFailed, RequestId, StoreResult, Token, Verdict},
    },
    weights::{BlobHash, Root, SignedEntry},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// After which a request without an answer has failed.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub enum Request {
    Sync(SyncRequest),
    Blobs(BlobRequest),
}

#[derive(Debug, Clone)]
enum Response {
    Sync(Result<SyncResponse, RequestFailed>),
    Blobs(Result<Vec<Blob>, RequestFailed>),
}

enum Event {
    Wake { node: usize },
    Gossip { to: usize, from: usize, data: Vec<u8> },
    GossipFailed { node: usize },
    Request { to: usize, asker: Asker, request: Request },
    Response { asker: Asker, response: Response },
    Timeout { asker: Asker, sync: bool },
    Lookup { node: usize, life: u32, entry: Arc<SignedEntry> },
    Store { node: usize, life: u32, hash: BlobHash, bytes: Bytes },
    Unban { node: usize, peer: usize },
    Script(Script),
}

/// What happens to a node or to all of them.
#[derive(Debug, Clone)]
pub enum Script {
    Publish(usize),
    Want(usize),
    Cheat(usize),
    Vandalise(usize),
    Kill(usize),
    Start(usize),
    /// Only those on one side reach each other.
    Part(BTreeSet<usize>),
    Heal,
    /// The part of all messages that is lost.
    Lose(f64),
}

pub struct World {
    pub nodes: Vec<Node>,
    pub now: Duration,
    random: ChaCha8Rng,
    events: BTreeMap<(Duration, u64), Event>,
    last_event: u64,
    /// Who would connect to whom, if they could.
    edges: BTreeSet<(usize, usize)>,
    parted: Option<BTreeSet<usize>>,
    banned: BTreeSet<(usize, usize)>,
    pending: BTreeSet<Asker>,
    loss: f64,
    /// What was asked of sync, since it was last set to 0.
    pub syncs: usize,
    /// Blobs that caches have turned down.
    pub wrong_blobs: usize,
    /// Who was dropped, by character.
    pub dropped: BTreeMap<Character, usize>,
    trace: blake3::Hasher,
}

impl World {
    pub fn new(seed: u64, nodes: Vec<Node>, edges: BTreeSet<(usize, usize)>) -> Self {
        Self {
            nodes,
            now: Duration::ZERO,
            random: ChaCha8Rng::seed_from_u64(seed),
            events: BTreeMap::new(),
            last_event: 0,
            edges,
            parted: None,
            banned: BTreeSet::new(),
            pending: BTreeSet::new(),
            loss: 0.0,
            syncs: 0,
            wrong_blobs: 0,
            dropped: BTreeMap::new(),
            trace: blake3::Hasher::new(),
        }
    }

    pub fn random(&mut self) -> &mut ChaCha8Rng {
        &mut self.random
    }

    /// A hash over all that the cores have put out, and when.
    pub fn trace(&self) -> String {
        self.trace.finalize().to_string()
    }

    pub fn at(&mut self, seconds: f64, script: Script) {
        self.schedule(Duration::from_secs_f64(seconds), Event::Script(script));
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.last_event += 1;
        self.events.insert((at, self.last_event), event);
    }

    fn soon(&mut self, milliseconds: u64, event: Event) {
        let delay = Duration::from_micros(self.random.random_range(100..milliseconds * 1000));
        self.schedule(self.now + delay, event);
    }

    pub fn run_until(&mut self, seconds: f64) {
        let end = Duration::from_secs_f64(seconds);
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { node } => {
                if self.nodes[node].wakeup.is_some_and(|wakeup| wakeup <= self.now) {
                    self.nodes[node].wakeup = None;
                    self.input(node, Input::Tick);
                }
            }
            Event::Gossip { to, from, data } => self.gossip_came(to, from, data),
            Event::GossipFailed { node } => self.input(node, Input::GossipFailed),
            Event::Request { to, asker, request } => self.asked(to, asker, request),
            Event::Response { asker, response } => self.answered(asker, response),
            Event::Timeout { asker, sync } => {
                let failed = RequestFailed::Failed;
                let response = if sync { Response::Sync(Err(failed)) } else { Response::Blobs(Err(failed)) };
                if self.pending.contains(&asker) {
                    self.answered(asker, response);
                }
            }
            Event::Lookup { node, life, entry } => {
                if self.nodes[node].life == life {
                    let (looked, root) = (self.nodes[node].cache.look_up(&entry), entry.root().unwrap());
                    self.input(node, Input::Looked { root, looked });
                }
            }
            Event::Store { node, life, hash, bytes } => {
                if self.nodes[node].life == life {
                    let result = self.nodes[node].cache.store(hash, bytes);
                    self.wrong_blobs += usize::from(result == StoreResult::WrongHash);
                    self.input(node, Input::Stored { hash, result });
                }
            }
            Event::Unban { node, peer } => {
                self.banned.remove(&(node, peer));
                self.link();
            }
            Event::Script(script) => self.perform(script),
        }
    }

    fn perform(&mut self, script: Script) {
        match script {
            Script::Publish(node) if self.nodes[node].core.is_some() => {
                let entry = self.nodes[node].put_update(node);
                self.input(node, Input::Published(entry));
                let board = self.nodes[node].board.clone();
                self.nodes[node].cache.retain(&board);
            }
            Script::Want(node) if self.nodes[node].core.is_some() => {
                let entries = self.nodes[node].board.list("");
                if !entries.is_empty() {
                    let entry = entries[self.random.random_range(0..entries.len())].clone();
                    self.nodes[node].wants.insert(entry.root().unwrap());
                    self.input(node, Input::Want(entry));
                }
            }
            Script::Cheat(node) => self.cheat(node),
            Script::Vandalise(node) => self.vandalise(node),
            Script::Kill(node) => {
                self.nodes[node].die();
                self.link();
            }
            Script::Start(node) => {
                if self.nodes[node].core.is_some() {
                    self.perform(Script::Kill(node));
                }
                let seed = self.random.random();
                self.nodes[node].start(seed);
                self.input(node, Input::Tick);
                self.link();
            }
            Script::Part(side) => {
                self.parted = Some(side);
                self.link();
            }
            Script::Heal => {
                self.parted = None;
                self.link();
            }
            Script::Lose(part) => self.loss = part,
            Script::Publish(_) | Script::Want(_) => {}
        }
    }

    /// Brings connections to what they should be.
    fn link(&mut self) {
        for (one, other) in self.edges.clone() {
            let apart = self.parted.as_ref().is_some_and(|side| side.contains(&one) != side.contains(&other));
            let alive = self.nodes[one].is_alive() && self.nodes[other].is_alive();
            let banned = self.banned.contains(&(one, other)) || self.banned.contains(&(other, one));
            let up = alive && !apart && !banned;
            for (node, peer) in [(one, other), (other, one)] {
                let id = self.nodes[peer].peer;
                if up && self.nodes[node].links.insert(peer) {
                    self.input(node, Input::Connected(id));
                } else if !up && self.nodes[node].links.remove(&peer) {
                    self.input(node, Input::Disconnected(id));
                }
            }
        }
    }

    fn number_of(&self, peer: libp2p_identity::PeerId) -> usize {
        self.nodes.iter().position(|node| node.peer == peer).unwrap()
    }

    fn input(&mut self, number: usize, input: Input) {
        let now = self.now;
        let Some(core) = &mut self.nodes[number].core else { return };
        core.handle(now, input);
        let outputs: Vec<Output> = std::iter::from_fn(|| core.poll()).collect();
        outputs.into_iter().for_each(|output| self.output(number, output));
        let node = &mut self.nodes[number];
        let wakeup = node.core.as_ref().and_then(|core| core.next_wakeup());
        if let Some(wakeup) = wakeup.filter(|wakeup| node.wakeup.is_none_or(|before| *wakeup < before)) {
            assert!(wakeup >= now, "node {number} wants to be woken in the past");
            node.wakeup = Some(wakeup);
            self.schedule(wakeup, Event::Wake { node: number });
        }
    }

    fn output(&mut self, number: usize, output: Output) {
        self.note(number, &output);
        let node = &mut self.nodes[number];
        match output {
            Output::Gossip(data) => {
                node.seen.insert(*blake3::hash(&data).as_bytes());
                if !self.spread(number, None, &data) {
                    self.soon(10, Event::GossipFailed { node: number });
                }
            }
            Output::Verdict { token, verdict } => {
                let (from, data) = node.to_judge.remove(&token).unwrap();
                if verdict == Verdict::Accept {
                    self.spread(number, Some(from), &data);
                }
            }
            Output::Sync { id, peer, request } => {
                self.syncs += 1;
                self.send(number, id, peer, Request::Sync(request));
            }
            Output::Blobs { id, peer, request } => self.send(number, id, peer, Request::Blobs(request)),
            Output::SyncReply { token, response } => {
                let asker = node.to_answer.remove(&token).unwrap();
                self.reply(number, asker, Response::Sync(Ok(response)));
            }
            Output::Lookup(entry) => {
                let life = node.life;
                self.soon(5, Event::Lookup { node: number, life, entry });
            }
            Output::Store { hash, bytes, .. } => {
                let life = node.life;
                self.soon(20, Event::Store { node: number, life, hash, bytes });
            }
            Output::Save(entry) => node.cache.saved.push(Standing::Entry(entry)),
            Output::SaveProof(proof) => node.cache.saved.push(Standing::Proof(proof)),
            Output::Retain => node.cache.retain(&node.board),
            Output::OwnSequence(sequence) => node.sequence = node.sequence.max(sequence),
            Output::Fetched { root, result } => {
                node.wants.remove(&root);
                let whole = |entry: &Arc<SignedEntry>| {
                    entry.root() != Some(root) || node.cache.look_up(entry) == peerfold::p2p::core::Looked::Whole
                };
                assert!(result.is_err() || node.board.list("").iter().all(whole), "it isn't there");
            }
            Output::Ban { peer, length, .. } => {
                let peer = self.number_of(peer);
                let character = self.nodes[peer].character;
                assert_ne!(character, Character::Honest, "{number} drops the honest {peer}");
                *self.dropped.entry(character).or_default() += 1;
                self.banned.insert((number, peer));
                self.schedule(self.now + length, Event::Unban { node: number, peer });
                self.link();
            }
            Output::Unban(_) => panic!("{number} has dropped more than it remembers"),
            Output::Member(_) => {}
        }
    }

    fn note(&mut self, number: usize, output: &Output) {
        let text = match output {
            Output::Store { hash, .. } => format!("Store {hash}"),
            Output::Gossip(data) => format!("Gossip {}", blake3::hash(data)),
            other => format!("{other:?}"),
        };
        self.trace.update(format!("{:?} {number} {text}\n", self.now).as_bytes());
    }

    /// Forwards gossip to nodes that follow the same federation. False if there are none.
    fn spread(&mut self, from: usize, but: Option<usize>, data: &[u8]) -> bool {
        let federation = self.nodes[from].federation;
        let follows = |to: &usize| self.nodes[*to].federation == federation && Some(*to) != but;
        let to: Vec<usize> = self.nodes[from].links.iter().copied().filter(follows).collect();
        for &to in &to {
            for _ in 0..self.copies() {
                self.soon(400, Event::Gossip { to, from, data: data.to_vec() });
            }
        }
        !to.is_empty()
    }

    /// How often a message comes: mostly once.
    fn copies(&mut self) -> usize {
        match self.random.random::<f64>() {
            draw if draw < self.loss => 0,
            draw if draw > 0.97 => 2,
            _ => 1,
        }
    }

    fn gossip_came(&mut self, to: usize, from: usize, data: Vec<u8>) {
        // Mostly, gossipsub has noticed that it was there before.
        let repeated = !self.nodes[to].seen.insert(*blake3::hash(&data).as_bytes());
        if self.nodes[to].core.is_none() || (repeated && self.random.random::<f64>() < 0.9) {
            return;
        }
        let token = self.token(to);
        self.nodes[to].to_judge.insert(token, (from, data.clone()));
        let from = self.nodes[from].peer;
        self.input(to, Input::Gossip { token, from, data: data.into() });
    }

    fn token(&mut self, node: usize) -> Token {
        self.nodes[node].tokens += 1;
        self.nodes[node].tokens
    }

    fn send(&mut self, from: usize, id: RequestId, to: libp2p_identity::PeerId, request: Request) {
        let asker = Asker { node: from, life: self.nodes[from].life, id };
        self.pending.insert(asker);
        let sync = matches!(request, Request::Sync(_));
        self.schedule(self.now + TIMEOUT, Event::Timeout { asker, sync });
        let to = self.number_of(to);
        for _ in 0..self.copies() {
            self.soon(300, Event::Request { to, asker, request: request.clone() });
        }
    }

    fn asked(&mut self, to: usize, asker: Asker, request: Request) {
        if !self.nodes[to].links.contains(&asker.node) {
            return;
        }
        if self.nodes[to].character == Character::Vandal {
            return self.answer_rubbish(to, asker, &request);
        }
        let peer = self.nodes[asker.node].peer;
        match request {
            Request::Sync(request) => {
                let token = self.token(to);
                self.nodes[to].to_answer.insert(token, asker);
                self.input(to, Input::SyncRequest { token, peer, request });
            }
            Request::Blobs(
                BlobRequest::Get { federation, .. }
                | BlobRequest::Holds { federation, .. }
                | BlobRequest::Keep { federation, .. }
                | BlobRequest::Fetching { federation, .. },
            ) if federation != self.nodes[to].federation => {
                self.reply(to, asker, Response::Blobs(Err(RequestFailed::Unsupported)));
            }
            Request::Blobs(BlobRequest::Get { hashes, .. }) => {
                self.input(to, Input::Asked(peer));
                let lies = self.nodes[to].character == Character::Liar;
                let cache = &self.nodes[to].cache;
                let mut blobs: Vec<Blob> = hashes.iter().map(|hash| cache.blobs.get(hash).cloned()).collect();
                // Answers have a limit of their own.
                blobs.truncate(2);
                for blob in blobs.iter_mut().flatten().filter(|_| lies) {
                    let mut bytes = blob.to_vec();
                    match self.random.random_range(0..3) {
                        0 => bytes.push(0),
                        1 => bytes[0] ^= 1,
                        _ => {}
                    }
                    *blob = bytes.into();
                }
                self.reply(to, asker, Response::Blobs(Ok(blobs)));
            }
            Request::Blobs(BlobRequest::Holds { roots, .. }) => {
                self.input(to, Input::Holds { peer, roots });
                self.reply(to, asker, Response::Blobs(Ok(vec![])));
            }
            Request::Blobs(BlobRequest::Fetching { root, hashes, .. }) => {
                self.input(to, Input::Fetching { peer, root, hashes });
                self.reply(to, asker, Response::Blobs(Ok(vec![])));
            }
            Request::Blobs(BlobRequest::Keep { entry, .. }) => {
                self.input(to, Input::Keep { peer, entry });
                self.reply(to, asker, Response::Blobs(Ok(vec![])));
            }
        }
    }

    fn reply(&mut self, from: usize, asker: Asker, response: Response) {
        if self.nodes[from].links.contains(&asker.node) {
            for _ in 0..self.copies() {
                self.soon(300, Event::Response { asker, response: response.clone() });
            }
        }
    }

    fn answered(&mut self, asker: Asker, response: Response) {
        let Asker { node, life, id } = asker;
        self.pending.remove(&asker);
        if self.nodes[node].life == life {
            self.input(
                node,
                match response {
                    Response::Sync(response) => Input::SyncResponse { id, response },
                    Response::Blobs(response) => Input::BlobResponse { id, response },
                },
            );
        }
    }

    /// Tells one half of its peers of one entry, and the other half of another.
    fn cheat(&mut self, node: usize) {
        self.nodes[node].sequence += 1;
        let entries = [1, 2].map(|epoch| {
            let weights = node::weights(1, node as u8, epoch);
            self.nodes[node].sign(&format!("{epoch}"), &weights)
        });
        let federation = self.nodes[node].federation;
        let peers: Vec<usize> =
            self.nodes[node].links.iter().copied().filter(|to| self.nodes[*to].federation == federation).collect();
        for (at, to) in peers.into_iter().enumerate() {
            let data = entries[at % 2].bytes().to_vec();
            self.soon(100, Event::Gossip { to, from: node, data });
        }
        let [one, other] = entries;
        assert!(Conflict::new(one, other).is_some());
    }

    fn rubbish(&mut self) -> Vec<u8> {
        let length = self.random.random_range(0..200);
        (0..length).map(|_| self.random.random_range(0..3)).collect()
    }

    fn vandalise(&mut self, node: usize) {
        let links: Vec<usize> = self.nodes[node].links.iter().copied().collect();
        for to in links {
            let data = self.rubbish();
            self.soon(100, Event::Gossip { to, from: node, data });
            let (federation, buckets) = (self.nodes[node].federation, BucketSet([255; 32]));
            let after = Some(Position { bucket: self.random.random(), text: format!("{:?}", self.rubbish()) });
            let request = Request::Sync(SyncRequest::Items { federation, buckets, after });
            self.last_event += 1;
            let asker = Asker { node, life: 0, id: self.last_event };
            self.soon(100, Event::Request { to, asker, request });
        }
    }

    fn answer_rubbish(&mut self, node: usize, asker: Asker, request: &Request) {
        let response = match (request, self.random.random_range(0..3)) {
            (Request::Sync(SyncRequest::Compare { .. }), 0..=1) => {
                let fingerprints = Box::new([[self.random.random(); 16]; 256]);
                Response::Sync(Ok(SyncResponse::Differs(Fingerprints(fingerprints))))
            }
            (Request::Sync(_), 0) => Response::Sync(Err(RequestFailed::Malformed)),
            (Request::Sync(_), _) => {
                let items = vec![Item::Entry(self.rubbish()), Item::Proof([self.rubbish(), self.rubbish()])];
                let next = Some(Position { bucket: 0, text: String::new() });
                Response::Sync(Ok(SyncResponse::Items { items, next }))
            }
            (Request::Blobs(_), _) => Response::Blobs(Ok(vec![Some(self.rubbish().into()); 3])),
        };
        self.reply(node, asker, response);
    }

    /// The newest updates of honest nodes of this one's federation and layout, other than its own, that its cache lacks.
    pub fn lacking(&self, number: usize) -> Vec<(usize, Root)> {
        let node = &self.nodes[number];
        let group = |other: &Node| {
            (other.federation, other.chunks) == (node.federation, node.chunks) && other.character == Character::Honest
        };
        let set = node.board.set();
        let authors = self.nodes.iter().enumerate().filter(|(_, other)| group(other));
        authors
            .filter_map(|(author, other)| Some((author, set.newest_update(other.peer)?)))
            .filter(|(_, entry)| node.cache.look_up(entry) != peerfold::p2p::core::Looked::Whole)
            .map(|(author, entry)| (author, entry.root().unwrap()))
            .collect()
    }
}
