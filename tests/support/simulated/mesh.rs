//! Gossipsub, as nodes set it up: a message is published to every subscribed peer, forwarded along a mesh, seen once, and
//! named to a few others at each heartbeat, who ask for it if it never came.

use bytes::Bytes;
use rand::{RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

pub type MessageId = [u8; 32];

/// Peers in the mesh: as many as wanted, so many at least, so many at most.
pub const WANTED: usize = 6;
pub const LEAST: usize = 5;
pub const MOST: usize = 12;
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// For how long a message is named to others, and given to who asks.
const NAMED: u8 = 3;
const GIVEN: u8 = 5;
/// For how long an id is remembered.
const SEEN: Duration = Duration::from_secs(60);

/// A message of gossip.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub id: MessageId,
    pub data: Bytes,
}

impl Message {
    pub fn new(data: Bytes) -> Arc<Self> {
        Arc::new(Self { id: *blake3::hash(&data).as_bytes(), data })
    }
}

/// What one node's gossipsub remembers.
#[derive(Default)]
pub struct Mesh {
    pub peers: BTreeSet<usize>,
    seen: BTreeMap<MessageId, Duration>,
    /// Messages that were accepted or published, with the heartbeats since.
    recent: VecDeque<(u8, Arc<Message>)>,
    /// Whether the next heartbeat is to come.
    pub beats: bool,
}

impl Mesh {
    /// Everything is forgotten.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether a message is new; from now on it isn't.
    pub fn is_new(&mut self, id: MessageId, now: Duration) -> bool {
        let before = self.seen.insert(id, now);
        if let Some(before) = before
            && before + SEEN > now
        {
            // The first time counts.
            self.seen.insert(id, before);
            return false;
        }
        true
    }

    pub fn has_seen(&self, id: &MessageId, now: Duration) -> bool {
        self.seen.get(id).is_some_and(|at| *at + SEEN > now)
    }

    /// A message to be named to others, and given.
    pub fn keep(&mut self, message: Arc<Message>) {
        self.recent.push_back((0, message));
    }

    /// A heartbeat. Gives the ids to name.
    pub fn beat(&mut self, now: Duration) -> Vec<MessageId> {
        let named = self.recent.iter().filter(|(age, _)| *age < NAMED).map(|(_, message)| message.id).collect();
        self.recent.iter_mut().for_each(|(age, _)| *age += 1);
        self.recent.retain(|(age, _)| *age < GIVEN);
        self.seen.retain(|_, at| *at + SEEN > now);
        named
    }

    /// Whether another heartbeat has anything to do.
    pub fn is_busy(&self) -> bool {
        !self.recent.is_empty()
    }

    pub fn find(&self, id: &MessageId) -> Option<Arc<Message>> {
        self.recent.iter().find(|(_, message)| message.id == *id).map(|(_, message)| message.clone())
    }
}

/// To whom of these ids are named: a quarter, or six.
pub fn lazy(random: &mut ChaCha8Rng, others: &[usize]) -> Vec<usize> {
    let count = WANTED.max(others.len() / 4).min(others.len());
    others.sample(random, count).copied().collect()
}

/// Whom to graft onto the mesh of a node that has too few, of these.
pub fn graft(random: &mut ChaCha8Rng, mut others: Vec<usize>, lacking: usize) -> Vec<usize> {
    for drawn in 0..lacking.min(others.len()) {
        let other = random.random_range(drawn..others.len());
        others.swap(drawn, other);
    }
    others.truncate(lacking);
    others
}
