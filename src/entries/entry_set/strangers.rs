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
    /// Whether an update of it was folded.
    folded: bool,
}

/// What this node has folded of an author who isn't known yet.
#[derive(Debug, Default, Clone, Copy)]
struct Folds {
    /// Different updates.
    count: u32,
    /// The number of the last one.
    last: u64,
    /// Which fold that was of all.
    at: u64,
}

/// What some strangers have together.
#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    authors: usize,
    entries: usize,
    /// Wide enough for the sum of any claims.
    bytes: u128,
}

impl Sum {
    fn add(&mut self, stranger: &Stranger) {
        self.authors += 1;
        self.entries += stranger.entries;
        self.bytes += u128::from(stranger.bytes);
    }

    fn subtract(&mut self, stranger: &Stranger) {
        self.authors -= 1;
        self.entries -= stranger.entries;
        self.bytes -= u128::from(stranger.bytes);
    }
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
    /// Those of whom nothing was folded first.
    by_heard: BTreeSet<(bool, u64, PeerId)>,
    /// What all of them have, and those of whom something was folded.
    all: Sum,
    of_folded: Sum,
    /// Also of those who were pushed out, so that they can go on where they were.
    folds: BTreeMap<PeerId, Folds>,
    folds_so_far: u64,
}

impl Strangers {
    fn remove(&mut self, author: &PeerId) -> Option<Stranger> {
        let stranger = self.strangers.remove(author)?;
        self.by_heard.remove(&(stranger.folded, stranger.heard, *author));
        self.all.subtract(&stranger);
        if stranger.folded {
            self.of_folded.subtract(&stranger);
        }
        Some(stranger)
    }

    fn set(&mut self, author: PeerId, stranger: Stranger) {
        self.remove(&author);
        self.by_heard.insert((stranger.folded, stranger.heard, author));
        self.all.add(&stranger);
        if stranger.folded {
            self.of_folded.add(&stranger);
        }
        self.strangers.insert(author, stranger);
    }

    /// Counts the fold of an author's update with this number, and gives how many there were. Of so many authors at most
    /// that is remembered; those go first of whom least was folded.
    fn fold(&mut self, author: PeerId, sequence: u64, most: usize) -> u32 {
        self.folds_so_far += 1;
        let at = self.folds_so_far;
        let folds = self.folds.entry(author).or_default();
        if sequence > folds.last {
            *folds = Folds { count: folds.count.saturating_add(1), last: sequence, at };
        }
        let count = folds.count;
        self.note_folded(author, count > 0);
        if self.folds.len() > most {
            let others = self.folds.iter().filter(|(other, _)| **other != author);
            let least = others.min_by_key(|(_, folds)| (folds.count, folds.at)).map(|(other, _)| *other);
            if let Some(least) = least {
                self.folds.remove(&least);
                self.note_folded(least, false);
            }
        }
        count
    }

    /// It may no longer take part.
    pub(super) fn forget_folds(&mut self, author: &PeerId) {
        self.folds.remove(author);
        self.note_folded(*author, false);
    }

    fn note_folded(&mut self, author: PeerId, folded: bool) {
        if let Some(&stranger) = self.strangers.get(&author).filter(|stranger| stranger.folded != folded) {
            self.set(author, Stranger { folded, ..stranger });
        }
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

    /// The one that goes first, but not this one: of those of whom nothing was folded the one that has been silent for the
    /// longest. Of the others it is, if they have more than half of the room: anybody can be folded once, too.
    fn first_to_go_besides(&self, author: PeerId, limits: &EntryLimits) -> Option<PeerId> {
        let over_half = self.of_folded.authors > limits.strangers / 2
            || self.of_folded.entries > limits.stranger_entries / 2
            || self.of_folded.bytes > u128::from(limits.stranger_bytes / 2);
        let is_other = |(.., stranger): &&(bool, u64, PeerId)| *stranger != author;
        let of_folded = || self.by_heard.iter().skip_while(|(folded, ..)| !folded).find(is_other);
        let first = if over_half { of_folded() } else { None };
        first.or_else(|| self.by_heard.iter().find(is_other)).map(|(.., stranger)| *stranger)
    }
}

impl EntrySet {
    /// Whether this author has shown that it takes part, or is trusted from the start.
    pub fn is_known(&self, author: PeerId) -> bool {
        self.strangers.known.contains_key(&author)
    }

    /// Whether an update of this author was folded here, or it is trusted from the start.
    pub fn has_folded(&self, author: PeerId) -> bool {
        self.is_known(author) || self.strangers.folds.contains_key(&author)
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
        self.strangers.folds.remove(&author);
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

    /// This node has folded the author's update with this number. Returns true if the author is known from now on. That
    /// counts also if the author was pushed out meanwhile: a flood of others is quicker than a fetch and a fold.
    pub fn folded(&mut self, author: PeerId, sequence: u64) -> bool {
        if self.is_known(author) {
            return false;
        }
        let most = self.limits.strangers.min(self.limits.authors);
        let count = self.strangers.fold(author, sequence, most);
        if count < FOLDS_TO_BE_KNOWN || self.is_excluded(author) {
            return false;
        }
        let is_held = self.strangers.strangers.contains_key(&author);
        let is_new = self.know(author);
        if !is_held {
            self.strangers.hear_known(author, self.revision);
        }
        is_new
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
            && (replaces || strangers.all.entries < limits.stranger_entries)
            && strangers.all.bytes + u128::from(new_bytes) <= self.most_stranger_bytes()
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
        match (self.is_full(), self.strangers.first_to_go_besides(author, &self.limits)) {
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
            && let Some(stranger) = self.strangers.first_to_go_besides(author, &self.limits)
        {
            self.push_out(stranger);
            pushed_out.push(stranger);
        }
        pushed_out
    }

    /// Counts what is held of a stranger.
    fn recount(&mut self, author: PeerId) {
        let folded = self.strangers.folds.contains_key(&author);
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
        let Sum { authors, entries, bytes } = self.strangers.all;
        authors > self.limits.strangers || entries > self.limits.stranger_entries || bytes > self.most_stranger_bytes()
    }

    /// Forgets all that is held of a stranger, its exclusion too, but not what was folded of it.
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
