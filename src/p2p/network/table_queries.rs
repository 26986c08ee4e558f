//! Queries to Kademlia's table for members of the federation: when they are made, and which are in flight.

use crate::p2p::lookout::Met;
use libp2p::kad::{self, QueryId, RecordKey, store::MemoryStore};
use std::{collections::HashMap, time::Duration};

/// After the first lookup, and after meeting a peer of the table, lookups follow at these intervals, then at every
/// sync.
const SOON: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];
/// How soon to ask the table again while this node waits for an answer.
const AGAIN: Duration = Duration::from_millis(250);

/// How it was when a query began.
#[derive(Clone, Copy)]
struct Asked {
    /// Which peers had been met.
    met: Met,
    /// Dials to strangers that had been prevented.
    not_dialled: u64,
}

/// When to look for members in the table.
pub(super) struct TableQueries {
    /// The key under which the table lists the members of this node's federation.
    key: RecordKey,
    /// How often to ask if no new peer is met.
    every: Duration,
    next: Duration,
    /// Lookups since a peer of the table was last met.
    looks: usize,
    /// The queries under way, and how it was when they began. Bounded: each ends, at the latest by its
    /// timeout, and they begin at intervals.
    asked: HashMap<QueryId, Asked>,
}

impl TableQueries {
    /// Which key that is.
    pub(super) fn key(&self) -> &RecordKey {
        &self.key
    }

    pub(super) fn new(key: RecordKey, every: Duration) -> Self {
        Self { key, every, next: every, looks: 0, asked: HashMap::new() }
    }

    pub(super) fn next(&self) -> Duration {
        self.next
    }

    /// A new peer of the table: it may know members.
    pub(super) fn soon(&mut self, now: Duration) {
        self.looks = 0;
        self.next = self.next.min(now + SOON[0]);
    }

    /// Somebody waits for an answer of the table.
    pub(super) fn again(&mut self, now: Duration) {
        if self.asked.is_empty() {
            self.next = self.next.min(now + AGAIN);
        }
    }

    /// Announces this node as a member, if it is time. When the announcement is done, the table is asked for other
    /// members.
    pub(super) fn tick(&mut self, now: Duration, met: Met, not_dialled: u64, kad: &mut kad::Behaviour<MemoryStore>) {
        if now < self.next {
            return;
        }
        self.looks += 1;
        self.next = now + SOON.get(self.looks).copied().unwrap_or(self.every);
        match kad.start_providing(self.key.clone()) {
            Ok(id) => _ = self.asked.insert(id, Asked { met, not_dialled }),
            Err(error) => tracing::debug!(%error, "the table takes nothing"),
        }
    }

    /// The announcement that this node is a member is done or has failed; now ask for other members.
    pub(super) fn provided(&mut self, said: QueryId, kad: &mut kad::Behaviour<MemoryStore>) {
        if let Some(asked) = self.asked.remove(&said) {
            self.asked.insert(kad.get_providers(self.key.clone()), asked);
        }
    }

    /// How many dials to strangers were prevented while this query was under way, if there were so many in all.
    pub(super) fn not_asked_since(&self, question: QueryId, not_dialled: u64) -> u64 {
        self.asked.get(&question).map_or(0, |asked| not_dialled - asked.not_dialled)
    }

    /// A query has had its last answer. Returns which peers had been met when it began.
    pub(super) fn answered(&mut self, question: QueryId) -> Option<Met> {
        self.asked.remove(&question).map(|asked| asked.met)
    }
}
