//! The questions to the table of Kademlia for members of the federation: when they are asked, and which are out.

use crate::{p2p::lookout::Met, weights::FederationId};
use libp2p::kad::{self, QueryId, RecordKey, store::MemoryStore};
use std::{collections::HashMap, time::Duration};

/// After the first look, and after a peer of the table was met, looks follow at these distances; then at every sync.
const SOON: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];
/// How soon the table is asked again while this node waits for its answer.
const AGAIN: Duration = Duration::from_millis(250);

/// When to look into the table for members.
pub(super) struct TableQueries {
    /// Under which the table lists the members of this node's federation.
    key: RecordKey,
    /// How often, when nothing new is met.
    every: Duration,
    next: Duration,
    /// Looks since a peer of the table was met last.
    looks: usize,
    /// The questions that are out, and whom had been met when they were begun. Bounded: each ends, by its time-out at the
    /// latest, and they are begun at intervals.
    asked: HashMap<QueryId, Met>,
}

impl TableQueries {
    pub(super) fn new(federation: FederationId, every: Duration) -> Self {
        let key = blake3::derive_key("peerfold 2026 members of a federation v1", federation.as_bytes());
        Self { key: RecordKey::new(&key), every, next: every, looks: 0, asked: HashMap::new() }
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

    /// Says that this node is a member, if it is time; who else is one is asked when that is said.
    pub(super) fn tick(&mut self, now: Duration, met: Met, kad: &mut kad::Behaviour<MemoryStore>) {
        if now < self.next {
            return;
        }
        self.looks += 1;
        self.next = now + SOON.get(self.looks).copied().unwrap_or(self.every);
        match kad.start_providing(self.key.clone()) {
            Ok(id) => _ = self.asked.insert(id, met),
            Err(error) => tracing::debug!(%error, "the table takes nothing"),
        }
    }

    /// That this node is a member has been said, or not: now who else is one is asked.
    pub(super) fn provided(&mut self, said: QueryId, kad: &mut kad::Behaviour<MemoryStore>) {
        if let Some(met) = self.asked.remove(&said) {
            self.asked.insert(kad.get_providers(self.key.clone()), met);
        }
    }

    /// A question has had its last answer. Gives whom had been met when it was begun.
    pub(super) fn answered(&mut self, question: QueryId) -> Option<Met> {
        self.asked.remove(&question)
    }
}
