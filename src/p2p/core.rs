//! The decisions of a node in the network, without I/O: it is told what happened and says what to do.
//!
//! The same inputs in the same order give the same outputs; a seeded simulation drives hundreds of them, and ten thousand
//! in a bench (`tests/support/simulated`). The driver supplies the time. Everything it keeps is bounded by the connected
//! peers, by what is on the board, or by [`Limits`].

mod answers;
mod config;
mod contract;
mod fetch;
mod fetchers;
mod fetches;
mod gossip;
mod holders;
mod job;
mod keeps;
mod leaving;
mod members;
mod own_proof;
mod pace;
mod peers;
mod places;
mod prefetch;
mod providers;
mod rates;
mod relayed;
mod session;
mod sharing;
mod strikes;
mod sync;
#[cfg(test)]
mod tests;
mod view;

pub use self::{
    answers::{Answers, Room, Turn},
    config::{CoreConfig, Limits},
    contract::{FetchError, Input, Looked, Misdeed, Output, RequestFailed, RequestId, StoreResult, Token, Verdict},
    leaving::HandedOver,
    peers::Heard,
    rates::{Rate, Rates, Taken},
    strikes::Ban,
};

use self::{
    fetches::Fetches, holders::Holders, keeps::Keeps, leaving::Leaving, own_proof::OwnProof, peers::Peer,
    prefetch::Prefetches, rates::Allowance, relayed::Relayed, strikes::Strikes, sync::Syncs,
};
use crate::entries::Board;
use libp2p_identity::PeerId;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Messages of a newer version that a peer may forward. Nobody can judge them, so this is all that bounds them.
const NEWER_OF_PEER: Rate = Rate { per_second: 4.0, burst: 256.0 };
/// Those of all peers. They cost nothing but their hash, so only each peer is bounded.
const NEWER: Rate = Rate { per_second: f64::MAX, burst: f64::MAX };

/// Seconds of their rate in which strangers who aren't connected are looked for, and their entries taken in, at once.
const ABSENT_BURST_SECONDS: f64 = 8.0;

/// The decisions of a node: see the [module](self).
///
/// The driver calls [`handle`](Self::handle) with everything that happens, then [`poll`](Self::poll) until it returns
/// nothing, and [`handle`](Self::handle) with [`Input::Tick`] when [`next_wakeup`](Self::next_wakeup) has come.
pub struct Core {
    config: CoreConfig,
    board: Arc<Board>,
    random: ChaCha8Rng,
    now: Duration,
    started: bool,
    last_id: RequestId,
    outputs: VecDeque<Output>,
    /// Who is connected.
    peers: BTreeMap<PeerId, Peer>,
    /// Those of them that are reached by relays alone.
    relayed: Relayed,
    strikes: Strikes,
    /// Messages of a newer version that peers forward, as far as that is normal.
    newer: Rates,
    /// The authors on the board of whom something is on the disk.
    saved: BTreeSet<PeerId>,
    /// Looking for values of strangers who aren't connected.
    absent: Allowance,
    /// Taking in their entries.
    absent_entries: Allowance,
    syncs: Syncs,
    fetches: Fetches,
    prefetches: Prefetches,
    holders: Holders,
    keeps: Keeps,
    leaving: Leaving,
    own_proof: OwnProof,
    /// Whether only connected peers are followed.
    narrow: bool,
}

impl Core {
    /// The core of a node that knows what is on the board. Everything random follows from `seed`. On its first input it
    /// asks the cache about all values that it would fetch unasked.
    pub fn new(config: CoreConfig, board: Arc<Board>, seed: u64) -> Self {
        let strikes = Strikes::new(&config.limits);
        let allowance = |rate| Allowance::new(Rate::new(rate, ABSENT_BURST_SECONDS));
        let absent = allowance(config.limits.absent_rate);
        let absent_entries = allowance(config.limits.absent_entry_rate);
        let saved = board.set().authors().collect();
        let sampled = config.sampled;
        Self {
            config,
            board,
            random: ChaCha8Rng::seed_from_u64(seed),
            now: Duration::ZERO,
            started: false,
            last_id: 0,
            outputs: VecDeque::new(),
            peers: BTreeMap::new(),
            relayed: Relayed::new(),
            strikes,
            newer: Rates::new(NEWER_OF_PEER, NEWER),
            saved,
            absent,
            absent_entries,
            syncs: Syncs::default(),
            fetches: Fetches::default(),
            prefetches: Prefetches::new(sampled),
            holders: Holders::default(),
            keeps: Keeps::default(),
            leaving: Leaving::default(),
            own_proof: OwnProof::default(),
            narrow: false,
        }
    }

    /// Takes in what happened. `now` is the time since some fixed moment and never goes back. Don't call this while
    /// holding the board's [set](Board::set).
    pub fn handle(&mut self, now: Duration, input: Input) {
        self.now = self.now.max(now);
        if !self.started {
            self.started = true;
            self.make_room_in_view();
            self.start_syncs();
            self.refresh_all_prefetches();
        }
        match input {
            Input::Tick => {}
            Input::Connected(peer) => self.connected(peer),
            Input::Disconnected(peer) => self.disconnected(peer),
            Input::Relayed { peer, only } => self.relayed(peer, only),
            Input::Gossip { token, from, data } => self.gossip(token, from, &data),
            Input::Published(entry) => self.published(&entry),
            Input::GossipFailed => self.gossip_failed(),
            Input::BoardChanged => self.board_changed(),
            Input::MembershipChanged => self.membership_changed(),
            Input::Learned(entries) => self.learned(entries),
            Input::SyncRequest { token, peer, request } => self.sync_request(token, peer, request),
            Input::SyncResponse { id, response } => self.sync_response(id, response),
            Input::Want(entry) => self.want(entry),
            Input::Expects(authors) => self.expects(authors),
            Input::Unwant(root) => self.unwant(root),
            Input::Looked { root, looked } => self.looked(root, looked),
            Input::BlobResponse { id, response } => self.blob_response(id, response),
            Input::Stored { hash, result } => self.stored(hash, result),
            Input::Holds { peer, roots } => self.holds(peer, &roots),
            Input::Fetching { peer, root, hashes } => self.fetching(peer, root, hashes),
            Input::Asked(peer) => self.found_member(peer),
            Input::Keep { peer, entry } => self.keep(peer, &entry),
            Input::Leaves(leaves) => self.leave(leaves),
            Input::Misdeed { peer, misdeed } => self.misdeed(peer, misdeed),
        }
        self.tell_own_proof();
        self.sync_in_time();
        self.hand_over();
        self.retry_parked();
        self.judge_places();
        self.judge_late();
        self.judge_laggards();
        self.fetch();
        self.tell_fetchers();
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call with [`Input::Tick`] if nothing else happens.
    pub fn next_wakeup(&self) -> Option<Duration> {
        if !self.started {
            return Some(Duration::ZERO);
        }
        let times = [
            Some(self.next_sync_time()),
            self.next_retry_time(),
            self.next_hand_over(),
            self.next_judgement(),
            self.next_later(),
            self.next_absent(),
            self.next_late(),
            self.next_laggard(),
            self.next_told(),
            self.next_direct(),
        ];
        times.into_iter().flatten().min()
    }

    fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    fn new_id(&mut self) -> RequestId {
        self.last_id += 1;
        self.last_id
    }

    /// At most `count` of these, drawn at random.
    fn draw<T>(&mut self, mut from: Vec<T>, count: usize) -> Vec<T> {
        for drawn in 0..count.min(from.len()) {
            let other = self.random.next_u64() % (from.len() - drawn) as u64;
            from.swap(drawn, drawn + other as usize);
        }
        from.truncate(count);
        from
    }
}
