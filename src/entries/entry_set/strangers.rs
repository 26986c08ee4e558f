//! Authors who have not shown yet that they take part: how many there are, what they have, and who of them goes first.

use super::{EntryLimits, EntrySet, MayComeIn};
use crate::weights::{Content, Entry};
use libp2p_identity::PeerId;
use std::collections::{BTreeMap, BTreeSet};

/// How many different updates of an author this node folds before it is known. One is what anybody can make.
pub const FOLDS_TO_BE_KNOWN: u32 = 3;

/// What an entry set has of one stranger.
#[derive(Debug, Default, Clone, Copy)]
struct Stranger {
    /// The revision of its newest entry, or of its exclusion.
    heard: u64,
    entries: usize,
    /// Of its newest update, if it is short enough to be fetched unasked.
    bytes: u64,
    /// Different updates of it that were folded, and the number of the last one.
    folded: (u32, u64),
}

/// The strangers in an entry set, and the authors who are none.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// With the revision of the newest that was heard of each.
    known: BTreeMap<PeerId, u64>,
    known_by_heard: BTreeSet<(u64, PeerId)>,
    /// The one that is known whatever becomes of the others.
    own: Option<PeerId>,
    strangers: BTreeMap<PeerId, Stranger>,
    by_heard: BTreeMap<u64, PeerId>,
    entries: usize,
    /// Wide enough for the sum of any claims.
    bytes: u128,
}

impl Strangers {
    fn remove(&mut self, author: &PeerId) -> Option<Stranger> {
        let stranger = self.strangers.remove(author)?;
        self.by_heard.remove(&stranger.heard);
        self.entries -= stranger.entries;
        self.bytes -= u128::from(stranger.bytes);
        Some(stranger)
    }

    fn set(&mut self, author: PeerId, stranger: Stranger) {
        self.remove(&author);
        self.by_heard.insert(stranger.heard, author);
        self.entries += stranger.entries;
        self.bytes += u128::from(stranger.bytes);
        self.strangers.insert(author, stranger);
    }

    /// An author who is known was heard of, or is known from now on. False if it was known before.
    fn hear_known(&mut self, author: PeerId, revision: u64) -> bool {
        let before = self.known.insert(author, revision);
        if let Some(before) = before {
            self.known_by_heard.remove(&(before, author));
        }
        self.known_by_heard.insert((revision, author));
        before.is_none()
    }

    /// The one that has been silent for the longest, but not this one.
    fn most_silent_besides(&self, author: PeerId) -> Option<PeerId> {
        self.by_heard.values().copied().find(|&stranger| stranger != author)
    }
}

impl EntrySet {
    /// Whether this author has shown that it takes part, or is trusted from the start.
    pub fn is_known(&self, author: PeerId) -> bool {
        self.strangers.known.contains_key(&author)
    }

    /// The authors in the set of whom little is known.
    pub fn strangers(&self) -> usize {
        self.strangers.strangers.len()
    }

    /// Trusts this node's own author, for good.
    pub fn know_own(&mut self, author: PeerId) {
        self.strangers.own = Some(author);
        self.know(author);
    }

    /// Trusts an author from the start, as one that this node has known in an earlier life. False if it was
    /// known. If too many are known, the one that has been silent for the longest becomes a stranger again: otherwise
    /// whoever had enough identities folded could keep out everybody who comes later, for good.
    pub fn know(&mut self, author: PeerId) -> bool {
        let heard = self.strangers.remove(&author).map_or(0, |stranger| stranger.heard);
        let before = self.strangers.known.get(&author).copied();
        let is_new = self.strangers.hear_known(author, heard.max(before.unwrap_or(0)));
        if self.strangers.known.len() > self.most_known()
            && let Some(&(heard, silent)) = self
                .strangers
                .known_by_heard
                .iter()
                .find(|(_, known)| *known != author && Some(*known) != self.strangers.own)
        {
            self.strangers.known_by_heard.remove(&(heard, silent));
            self.strangers.known.remove(&silent);
            if self.by_sequence.contains_key(&silent) || self.conflicts.contains_key(&silent) {
                self.revision += 1;
                self.recount(silent);
            }
        }
        is_new
    }

    /// This node has folded the author's update with this number. Returns true if the author is known from now on.
    pub fn folded(&mut self, author: PeerId, sequence: u64) -> bool {
        let Some(stranger) = self.strangers.strangers.get_mut(&author) else { return false };
        let (count, last) = stranger.folded;
        if sequence > last {
            stranger.folded = (count + 1, sequence);
        }
        stranger.folded.0 >= FOLDS_TO_BE_KNOWN && !self.is_excluded(author) && self.know(author)
    }

    /// Whether this entry can be taken in without pushing anybody out. What others say they know must not push out what
    /// is known here, or two nodes with different strangers would never stop exchanging them.
    pub fn has_room_for(&self, entry: &Entry) -> bool {
        let author = entry.key.author();
        let (strangers, limits) = (&self.strangers, &self.limits);
        let held = strangers.strangers.get(&author).copied();
        if self.is_known(author) || held.is_none() && self.by_sequence.contains_key(&author) {
            return self.by_sequence.contains_key(&author) || !self.is_full();
        }
        let new_author = held.is_none();
        let new_bytes = self.bytes_of(entry).saturating_sub(held.map_or(0, |held| held.bytes));
        let replaces = self.held.contains_key(&entry.key) || self.update_to_drop(&entry.key).is_some();
        !(new_author && (self.is_full() || strangers.strangers.len() >= limits.strangers))
            && (replaces || strangers.entries < limits.stranger_entries)
            && strangers.bytes + u128::from(new_bytes) <= self.most_stranger_bytes()
    }

    /// Whether the proof against this author can be taken in without pushing anybody out, as
    /// [`has_room_for`](Self::has_room_for) says of an entry.
    pub fn has_room_for_proof(&self, author: PeerId) -> bool {
        let is_held = self.by_sequence.contains_key(&author) || self.conflicts.contains_key(&author);
        let fits = self.is_known(author) || self.strangers.strangers.len() < self.limits.strangers;
        is_held || fits && !self.is_full()
    }

    /// Whether an author of whom nothing is held yet can be taken in, if need be in the place of a stranger.
    pub(super) fn may_come_in(&self, author: PeerId) -> MayComeIn {
        match (self.is_full(), self.strangers.most_silent_besides(author)) {
            (false, _) => MayComeIn::Free,
            (true, Some(stranger)) => MayComeIn::InPlaceOf(stranger),
            (true, None) => MayComeIn::No,
        }
    }

    /// Counts what is held of an author, if it is a stranger, and pushes out others until strangers are within their
    /// limits. The author itself stays.
    pub(super) fn count_stranger(&mut self, author: PeerId) -> Vec<PeerId> {
        if self.is_known(author) {
            self.strangers.hear_known(author, self.revision);
            return Vec::new();
        }
        self.recount(author);
        let mut pushed_out = Vec::new();
        while self.has_too_many_strangers()
            && let Some(stranger) = self.strangers.most_silent_besides(author)
        {
            self.push_out(stranger);
            pushed_out.push(stranger);
        }
        pushed_out
    }

    /// Counts what is held of a stranger.
    fn recount(&mut self, author: PeerId) {
        let folded = self.strangers.strangers.get(&author).copied().unwrap_or_default().folded;
        let bytes = self.newest_update(author).map_or(0, |entry| self.bytes_of(entry));
        let entries = self.by_sequence.get(&author).map_or(0, BTreeMap::len);
        self.strangers.set(author, Stranger { heard: self.revision, entries, bytes, folded });
    }

    /// The most of `u64` stands for no limit.
    fn most_stranger_bytes(&self) -> u128 {
        match self.limits.stranger_bytes {
            u64::MAX => u128::MAX,
            limit => limit.into(),
        }
    }

    /// Authors who may be known: a part is left to strangers, or nobody new could show that it takes part.
    fn most_known(&self) -> usize {
        let EntryLimits { authors, strangers, .. } = self.limits;
        (authors - strangers.min(authors / 4)).max(1)
    }

    fn has_too_many_strangers(&self) -> bool {
        let Strangers { strangers, entries, bytes, .. } = &self.strangers;
        strangers.len() > self.limits.strangers
            || *entries > self.limits.stranger_entries
            || *bytes > self.most_stranger_bytes()
    }

    /// Forgets all that is held of a stranger, its exclusion too.
    pub(super) fn push_out(&mut self, stranger: PeerId) {
        self.drop_author(stranger);
        self.conflicts.remove(&stranger);
        self.strangers.remove(&stranger);
        self.buckets.changed(stranger, false);
        self.revision += 1;
        self.pushed_out += 1;
    }

    /// What an entry would make a node fetch unasked, if it is its author's newest update.
    fn bytes_of(&self, entry: &Entry) -> u64 {
        match entry.content {
            Content::Put { length, .. } if entry.key.update_epoch().is_some() => {
                // A manifest comes with it.
                Some(length.saturating_add(length / 1024).saturating_add(4096))
                    .filter(|&bytes| bytes <= self.limits.stranger_bytes)
                    .unwrap_or(0)
            }
            _ => 0,
        }
    }
}
