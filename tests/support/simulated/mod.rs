//! A network of cores in one thread, on a clock of its own: messages take time, and share their sender's line; they are
//! lost and repeated; connections break; the network falls apart and heals; nodes lie, die and start again. Everything
//! follows from a seed.
//!
//! The cores, boards and signatures are the real ones. Modelled are gossipsub (`mesh`: flood to all subscribed peers when
//! something is published, forwarding along a mesh after it was judged, ids seen once, IHAVE and IWANT), who is connected
//! with whom (`topology`), and the cache, which is in memory. Left out are handshakes, subscriptions, pings, identify and
//! the table's messages, limits of rates and of unread answers, and the network's own losses: connections are streams, on
//! which what is lost is late.

// Not every program uses all of it.
#![allow(dead_code)]

mod cache;
mod conditions;
mod counts;
mod mesh;
mod node;
mod topology;
mod uplink;

pub use self::{
    conditions::Conditions,
    counts::{AllNews, Counts, Kind},
    node::{Character, Node},
    topology::Topology,
};

use bytes::Bytes;
use mesh::{Message, MessageId};
use node::Asker;
use peerfold::{
    entries::{BucketSet, Conflict, Fingerprints, Position, Standing},
    p2p::{
        Blob, BlobRequest, Item, SyncRequest, SyncResponse,
        core::{Input, Output, RequestFailed, RequestId, StoreResult, Token, Verdict},
    },
    weights::{BlobHash, EntryHash, Root, SignedEntry},
};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// How long a node's cache may hold what no longer counts.
const RETAINED_WITHIN: Duration = Duration::from_secs(1);
/// Until a broken connection is there again.
const REDIALLED_WITHIN: Duration = Duration::from_millis(500);

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
    Wake {
        node: usize,
    },
    /// The next piece of what a node sends is out.
    Sent {
        node: usize,
        life: u32,
    },
    Heartbeat {
        node: usize,
        life: u32,
    },
    Gossip {
        to: usize,
        from: usize,
        message: Arc<Message>,
    },
    Names {
        to: usize,
        from: usize,
        ids: Arc<[MessageId]>,
    },
    Wants {
        to: usize,
        from: usize,
        ids: Vec<MessageId>,
    },
    GossipFailed {
        node: usize,
    },
    Request {
        to: usize,
        asker: Asker,
        request: Request,
    },
    Response {
        asker: Asker,
        response: Response,
    },
    Timeout {
        asker: Asker,
        sync: bool,
    },
    Lookup {
        node: usize,
        life: u32,
        entry: Arc<SignedEntry>,
    },
    Store {
        node: usize,
        life: u32,
        hash: BlobHash,
        bytes: Bytes,
    },
    Retain {
        node: usize,
    },
    Mend {
        one: usize,
        other: usize,
    },
    Unban {
        node: usize,
        peer: usize,
    },
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
    /// A connection of this node breaks, and is made again.
    Break(usize),
    /// The part of all messages that is lost.
    Lose(f64),
}

pub struct World {
    pub nodes: Vec<Node>,
    pub now: Duration,
    conditions: Conditions,
    random: ChaCha8Rng,
    events: BTreeMap<(Duration, u64), Event>,
    last_event: u64,
    numbers: BTreeMap<libp2p_identity::PeerId, usize>,
    /// Who would connect to whom, if they could.
    neighbours: Vec<Vec<usize>>,
    parted: Option<BTreeSet<usize>>,
    banned: BTreeSet<(usize, usize)>,
    /// Broken connections.
    broken: BTreeSet<(usize, usize)>,
    pending: BTreeSet<Asker>,
    loss: f64,
    /// What was asked of sync, since it was last set to 0.
    pub syncs: usize,
    /// Blobs that caches have turned down.
    pub wrong_blobs: usize,
    /// Who was dropped, by character.
    pub dropped: BTreeMap<Character, usize>,
    /// What all have sent.
    pub counts: Counts,
    /// What was published by [`Script::Publish`], and who knows it.
    pub news: AllNews,
    trace: blake3::Hasher,
}

impl World {
    /// Under [bad](Conditions::bad) conditions.
    pub fn new(seed: u64, nodes: Vec<Node>, edges: BTreeSet<(usize, usize)>) -> Self {
        Self::under(Conditions::bad(), seed, nodes, edges)
    }

    pub fn under(conditions: Conditions, seed: u64, nodes: Vec<Node>, edges: BTreeSet<(usize, usize)>) -> Self {
        let mut neighbours = vec![Vec::new(); nodes.len()];
        for (one, other) in edges {
            neighbours[one].push(other);
            neighbours[other].push(one);
        }
        Self {
            numbers: nodes.iter().enumerate().map(|(number, node)| (node.peer, number)).collect(),
            nodes,
            now: Duration::ZERO,
            conditions,
            random: ChaCha8Rng::seed_from_u64(seed),
            events: BTreeMap::new(),
            last_event: 0,
            neighbours,
            parted: None,
            banned: BTreeSet::new(),
            broken: BTreeSet::new(),
            pending: BTreeSet::new(),
            loss: 0.0,
            syncs: 0,
            wrong_blobs: 0,
            dropped: BTreeMap::new(),
            counts: Counts::default(),
            news: AllNews::default(),
            trace: blake3::Hasher::new(),
        }
    }

    /// Nodes of one federation, with short values, under good conditions, connected as they would be. All start within
    /// ten seconds. The last of them lie.
    pub fn federation(seed: u64, topology: Topology, liars: usize, fetches: bool, view: Option<usize>) -> Self {
        let count = topology.nodes;
        let node = |number| {
            let character = if number + liars < count { Character::Honest } else { Character::Liar };
            Node { chunk_bytes: 1 << 10, fetches, view, ..Node::new(number, character, "many", 1) }
        };
        let edges = topology.edges(seed);
        let mut world = Self::under(Conditions::internet(), seed, (0..count).map(node).collect(), edges);
        for node in 0..count {
            let start = world.random.random_range(0.0..10.0);
            world.at(start, Script::Start(node));
        }
        world
    }

    /// Authors of whose newest updates nobody folds one, if each node folds a sample of this size of those that it knows.
    pub fn folded_by_nobody(&mut self, sample: usize) -> usize {
        let mut folded: BTreeSet<libp2p_identity::PeerId> = BTreeSet::new();
        for node in 0..self.nodes.len() {
            let me = self.nodes[node].peer;
            let set = self.nodes[node].board.set();
            let known: Vec<_> =
                set.authors().filter(|author| *author != me && set.newest_update(*author).is_some()).collect();
            drop(set);
            folded.extend(known.sample(&mut self.random, sample));
        }
        self.nodes.iter().filter(|node| node.epoch > 0 && !folded.contains(&node.peer)).count()
    }

    /// By how many others each node is known, the fewest first.
    pub fn known_by(&self) -> Vec<usize> {
        let mut known = BTreeMap::new();
        for node in &self.nodes {
            node.board.set().authors().for_each(|author| *known.entry(author).or_insert(0) += 1);
        }
        // Each knows itself.
        let mut known: Vec<usize> =
            self.nodes.iter().map(|node| known.get(&node.peer).map_or(0, |by| by - 1)).collect();
        known.sort();
        known
    }

    /// The most authors that a node knows.
    pub fn most_known(&self) -> usize {
        self.nodes.iter().map(|node| node.board.set().author_count()).max().unwrap_or(0)
    }

    /// How many connections each node would have.
    pub fn degrees(&self) -> Vec<usize> {
        let mut degrees: Vec<usize> = self.neighbours.iter().map(Vec::len).collect();
        degrees.sort();
        degrees
    }

    /// How many nodes are in the largest part of the network that hangs together.
    pub fn largest_part(&self) -> usize {
        let mut left: BTreeSet<usize> = (0..self.nodes.len()).collect();
        let mut largest = 0;
        while let Some(first) = left.pop_first() {
            let (mut part, mut reached) = (1, vec![first]);
            while let Some(node) = reached.pop() {
                for &other in &self.neighbours[node] {
                    if left.remove(&other) {
                        part += 1;
                        reached.push(other);
                    }
                }
            }
            largest = largest.max(part);
        }
        largest
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
            Event::Sent { node, life } => self.piece_sent(node, life),
            Event::Heartbeat { node, life } => self.heartbeat(node, life),
            Event::Gossip { to, from, message } => self.gossip_came(to, from, message),
            Event::Names { to, from, ids } => self.named(to, from, &ids),
            Event::Wants { to, from, ids } => self.wanted(to, from, &ids),
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
            Event::Retain { node } => {
                let node = &mut self.nodes[node];
                node.retains = false;
                node.cache.retain(&node.board);
            }
            Event::Mend { one, other } => {
                self.broken.remove(&(one.min(other), one.max(other)));
                self.link(one);
            }
            Event::Unban { node, peer } => {
                self.banned.remove(&(node, peer));
                self.link(node);
            }
            Event::Script(script) => self.perform(script),
        }
    }

    fn perform(&mut self, script: Script) {
        match script {
            Script::Publish(node) if self.nodes[node].core.is_some() => {
                let entry = self.nodes[node].put_update(node);
                self.news.published(entry.hash(), node, self.now);
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
                self.link(node);
            }
            Script::Start(node) => {
                if self.nodes[node].core.is_some() {
                    self.perform(Script::Kill(node));
                }
                let seed = self.random.random();
                self.nodes[node].start(seed, self.conditions.sync_every);
                self.input(node, Input::Tick);
                self.link(node);
            }
            Script::Part(side) => {
                self.parted = Some(side);
                self.link_all();
            }
            Script::Heal => {
                self.parted = None;
                self.link_all();
            }
            Script::Break(node) => {
                let links: Vec<usize> = self.nodes[node].links.iter().copied().collect();
                if !links.is_empty() {
                    let other = links[self.random.random_range(0..links.len())];
                    self.broken.insert((node.min(other), node.max(other)));
                    self.link(node);
                    self.schedule(self.now + REDIALLED_WITHIN, Event::Mend { one: node, other });
                }
            }
            Script::Lose(part) => self.loss = part,
            Script::Publish(_) | Script::Want(_) => {}
        }
    }

    /// Brings all connections to what they should be.
    fn link_all(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.link(node));
    }

    /// Brings a node's connections to what they should be.
    fn link(&mut self, one: usize) {
        for other in self.neighbours[one].clone() {
            let apart = self.parted.as_ref().is_some_and(|side| side.contains(&one) != side.contains(&other));
            let alive = self.nodes[one].is_alive() && self.nodes[other].is_alive();
            let banned = self.banned.contains(&(one, other)) || self.banned.contains(&(other, one));
            let broken = self.broken.contains(&(one.min(other), one.max(other)));
            let up = alive && !apart && !banned && !broken;
            for (node, peer) in [(one, other), (other, one)] {
                let id = self.nodes[peer].peer;
                if up && self.nodes[node].links.insert(peer) {
                    self.beat_soon(node);
                    self.input(node, Input::Connected(id));
                } else if !up && self.nodes[node].links.remove(&peer) {
                    self.nodes[node].mesh.peers.remove(&peer);
                    self.beat_soon(node);
                    self.input(node, Input::Disconnected(id));
                }
            }
        }
    }

    fn number_of(&self, peer: libp2p_identity::PeerId) -> usize {
        self.numbers[&peer]
    }

    /// Sends something over a connection, after what is being sent.
    fn transmit(&mut self, from: usize, to: usize, kind: Kind, bytes: u64, event: Event) {
        self.counts.sent(kind, bytes);
        self.nodes[from].sent += bytes;
        if self.conditions.upload.is_none() {
            return self.travel(from, to, event);
        }
        if self.nodes[from].uplink.push(bytes, to, event) {
            self.send_piece(from);
        }
    }

    fn send_piece(&mut self, node: usize) {
        let Some(rate) = self.conditions.upload else { return };
        if let Some(piece) = self.nodes[node].uplink.piece(rate) {
            self.schedule(self.now + piece, Event::Sent { node, life: self.nodes[node].life });
        }
    }

    fn piece_sent(&mut self, node: usize, life: u32) {
        if self.nodes[node].life != life {
            return;
        }
        if let Some((to, event)) = self.nodes[node].uplink.sent() {
            self.travel(node, to, event);
        }
        self.send_piece(node);
    }

    fn travel(&mut self, from: usize, to: usize, event: Event) {
        let latency = self.conditions.latency.draw(&mut self.random, from, to);
        self.schedule(self.now + latency, event);
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
                let message = Message::new(data);
                node.mesh.is_new(message.id, self.now);
                node.mesh.keep(message.clone());
                self.beat_soon(number);
                // What is published goes to everybody who follows.
                let to = self.followers(number);
                self.spread(number, to.iter().copied(), &message);
                if to.is_empty() {
                    self.soon(10, Event::GossipFailed { node: number });
                }
            }
            Output::Verdict { token, verdict } => {
                let (from, message) = node.to_judge.remove(&token).unwrap();
                let hash = EntryHash::of(&message.data);
                if node.board.set().holds(&hash) {
                    self.news.heard(&hash, number, self.now);
                }
                if verdict == Verdict::Accept {
                    let to: Vec<usize> = node.mesh.peers.iter().copied().filter(|to| *to != from).collect();
                    node.mesh.keep(message.clone());
                    self.beat_soon(number);
                    self.spread(number, to, &message);
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
            Output::Retain => {
                if !std::mem::replace(&mut node.retains, true) {
                    self.schedule(self.now + RETAINED_WITHIN, Event::Retain { node: number });
                }
            }
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
                self.link(number);
            }
            Output::Unban(_) => panic!("{number} has dropped more than it remembers"),
            Output::Member(_) => {}
        }
    }

    fn note(&mut self, number: usize, output: &Output) {
        if !self.conditions.traced {
            return;
        }
        let text = match output {
            Output::Store { hash, .. } => format!("Store {hash}"),
            Output::Gossip(data) => format!("Gossip {}", blake3::hash(data)),
            other => format!("{other:?}"),
        };
        self.trace.update(format!("{:?} {number} {text}\n", self.now).as_bytes());
    }

    /// Who of its connected peers follows the same federation.
    fn followers(&self, node: usize) -> Vec<usize> {
        let federation = self.nodes[node].federation;
        let follows = |to: &usize| self.nodes[*to].federation == federation;
        self.nodes[node].links.iter().copied().filter(follows).collect()
    }

    fn spread(&mut self, from: usize, to: impl IntoIterator<Item = usize>, message: &Arc<Message>) {
        let bytes = message.data.len() as u64 + 8 + counts::TOPIC + counts::FRAMING;
        for to in to {
            for _ in 0..self.copies() {
                let message = message.clone();
                self.transmit(from, to, Kind::Gossip, bytes, Event::Gossip { to, from, message });
            }
        }
    }

    /// Lets a node mend its mesh and name what it has at its next heartbeat.
    fn beat_soon(&mut self, node: usize) {
        if !std::mem::replace(&mut self.nodes[node].mesh.beats, true) {
            let wait = mesh::HEARTBEAT.mul_f64(self.random.random());
            self.schedule(self.now + wait, Event::Heartbeat { node, life: self.nodes[node].life });
        }
    }

    fn heartbeat(&mut self, node: usize, life: u32) {
        if self.nodes[node].life != life {
            return;
        }
        self.nodes[node].mesh.beats = false;
        if !self.nodes[node].is_alive() {
            return;
        }
        let followers = self.followers(node);
        let own = &self.nodes[node].mesh.peers;
        let others: Vec<usize> = followers.into_iter().filter(|to| !own.contains(to)).collect();
        if own.len() < mesh::LEAST {
            let lacking = mesh::WANTED - own.len();
            // Who has enough refuses.
            let open = others.iter().copied().filter(|to| self.nodes[*to].mesh.peers.len() < mesh::MOST).collect();
            for to in mesh::graft(&mut self.random, open, lacking) {
                self.nodes[node].mesh.peers.insert(to);
                self.nodes[to].mesh.peers.insert(node);
                self.counts.sent(Kind::Control, 4 + counts::TOPIC + counts::FRAMING);
            }
        }
        let ids: Arc<[MessageId]> = self.nodes[node].mesh.beat(self.now).into();
        if !ids.is_empty() {
            let bytes = ids.len() as u64 * counts::ID + 4 + counts::TOPIC + counts::FRAMING;
            for to in mesh::lazy(&mut self.random, &others) {
                self.transmit(node, to, Kind::Control, bytes, Event::Names { to, from: node, ids: ids.clone() });
            }
        }
        let again = self.nodes[node].mesh.is_busy();
        self.nodes[node].mesh.beats = again;
        if again {
            self.schedule(self.now + mesh::HEARTBEAT, Event::Heartbeat { node, life });
        }
    }

    fn named(&mut self, to: usize, from: usize, ids: &[MessageId]) {
        let (now, node) = (self.now, &self.nodes[to]);
        if node.core.is_none() || !node.links.contains(&from) {
            return;
        }
        let ids: Vec<MessageId> = ids.iter().filter(|id| !node.mesh.has_seen(id, now)).copied().collect();
        if !ids.is_empty() {
            let bytes = ids.len() as u64 * counts::ID + 4 + counts::FRAMING;
            self.transmit(to, from, Kind::Control, bytes, Event::Wants { to: from, from: to, ids });
        }
    }

    fn wanted(&mut self, to: usize, from: usize, ids: &[MessageId]) {
        if self.nodes[to].links.contains(&from) {
            for message in ids.iter().filter_map(|id| self.nodes[to].mesh.find(id)).collect::<Vec<_>>() {
                self.spread(to, [from], &message);
            }
        }
    }

    /// How often a message comes: mostly once.
    fn copies(&mut self) -> usize {
        match self.random.random::<f64>() {
            draw if draw < self.loss => 0,
            draw if draw > 0.97 && self.conditions.latency.repeats() => 2,
            _ => 1,
        }
    }

    fn gossip_came(&mut self, to: usize, from: usize, message: Arc<Message>) {
        let (now, node) = (self.now, &mut self.nodes[to]);
        if node.core.is_none() || !node.links.contains(&from) || !node.mesh.is_new(message.id, now) {
            return;
        }
        let token = self.token(to);
        let data = message.data.clone();
        self.nodes[to].to_judge.insert(token, (from, message));
        let from = self.nodes[from].peer;
        self.input(to, Input::Gossip { token, from, data });
    }

    fn token(&mut self, node: usize) -> Token {
        self.nodes[node].tokens += 1;
        self.nodes[node].tokens
    }

    fn send(&mut self, from: usize, id: RequestId, to: libp2p_identity::PeerId, request: Request) {
        let asker = Asker { node: from, life: self.nodes[from].life, id };
        self.pending.insert(asker);
        let sync = matches!(request, Request::Sync(_));
        self.schedule(self.now + self.conditions.timeout, Event::Timeout { asker, sync });
        let to = self.number_of(to);
        let (kind, bytes) = (counts::kind_of(&request), counts::request_bytes(&request));
        for _ in 0..self.copies() {
            self.transmit(from, to, kind, bytes, Event::Request { to, asker, request: request.clone() });
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
            let (kind, bytes) = match &response {
                Response::Sync(Ok(answer)) => (Kind::Sync, counts::sync_answer_bytes(answer)),
                Response::Blobs(Ok(blobs)) => (Kind::Blobs, counts::blob_answer_bytes(blobs)),
                Response::Sync(Err(_)) => (Kind::Sync, counts::FRAMING),
                Response::Blobs(Err(_)) => (Kind::Blobs, counts::FRAMING),
            };
            for _ in 0..self.copies() {
                let response = response.clone();
                self.transmit(from, asker.node, kind, bytes, Event::Response { asker, response });
            }
        }
    }

    fn answered(&mut self, asker: Asker, response: Response) {
        let Asker { node, life, id } = asker;
        self.pending.remove(&asker);
        if self.nodes[node].life != life {
            return;
        }
        let brings = matches!(&response, Response::Sync(Ok(SyncResponse::Items { items, .. })) if !items.is_empty());
        self.input(
            node,
            match response {
                Response::Sync(response) => Input::SyncResponse { id, response },
                Response::Blobs(response) => Input::BlobResponse { id, response },
            },
        );
        if brings {
            let set = self.nodes[node].board.set();
            let held: Vec<EntryHash> = self.news.unheard_by(node).into_iter().filter(|hash| set.holds(hash)).collect();
            drop(set);
            held.iter().for_each(|hash| self.news.heard(hash, node, self.now));
        }
    }

    /// Tells one half of its peers of one entry, and the other half of another.
    fn cheat(&mut self, node: usize) {
        self.nodes[node].sequence += 1;
        let entries = [1, 2].map(|epoch| {
            let weights = node::weights(1, node::LARGE, node, epoch);
            self.nodes[node].sign(&format!("{epoch}"), &weights)
        });
        let federation = self.nodes[node].federation;
        let peers: Vec<usize> =
            self.nodes[node].links.iter().copied().filter(|to| self.nodes[*to].federation == federation).collect();
        for (at, to) in peers.into_iter().enumerate() {
            let message = Message::new(entries[at % 2].bytes().to_vec().into());
            self.soon(100, Event::Gossip { to, from: node, message });
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
            let message = Message::new(self.rubbish().into());
            self.soon(100, Event::Gossip { to, from: node, message });
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
