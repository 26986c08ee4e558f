//! What is fetched because it was announced: each author's newest update.

use super::Core;
use crate::{
    entries::EntrySet,
    weights::{Content, EntryHash, Root, SignedEntry},
};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What is fetched because it was announced: each author's newest update.
#[derive(Debug, Default)]
pub(super) struct Prefetches {
    /// What is being fetched of each author: more than one root only while an older one is still under way.
    roots: BTreeMap<PeerId, BTreeSet<Root>>,
    /// Newest entries that turned out to be lies and aren't fetched again.
    rejected: BTreeMap<PeerId, EntryHash>,
    /// Whose are fetched, if not everybody's.
    expected: Option<BTreeSet<PeerId>>,
}

impl Prefetches {
    pub(super) fn new(sampled: bool) -> Self {
        Self { expected: sampled.then(BTreeSet::new), ..Self::default() }
    }

    /// Whether everybody's newest update is fetched, so that it outlives its author without anybody asking for that.
    pub(super) fn of_everybody(&self) -> bool {
        self.expected.is_none()
    }

    /// The value has arrived, or won't.
    pub(super) fn ended(&mut self, author: &PeerId, root: &Root) {
        if let Some(roots) = self.roots.get_mut(author) {
            roots.remove(root);
            if roots.is_empty() {
                self.roots.remove(author);
            }
        }
    }

    pub(super) fn reject(&mut self, author: PeerId, entry: EntryHash) {
        self.rejected.insert(author, entry);
    }
}

impl Core {
    pub(super) fn refresh_all_prefetches(&mut self) {
        let mut authors: BTreeSet<PeerId> = self.board.set().authors().collect();
        authors.extend(self.prefetches.roots.keys());
        authors.into_iter().for_each(|author| self.refresh_prefetch(author));
    }

    /// An author's entries have changed, or an attempt to fetch has failed: fetches its newest update and gives up the
    /// one that it replaces. A fetch under way continues as long as its entry is held; otherwise a slow node would
    /// never finish any.
    pub(super) fn refresh_prefetch(&mut self, author: PeerId) {
        let board = self.board.clone();
        let set = board.set();
        let newest = self.worth_fetching(&set, author);
        let root = newest.as_ref().and_then(|entry| entry.root());
        // Else one that publishes more often than its turn comes would never have it.
        let mut turn = None;
        for old in self.prefetches.roots.get(&author).cloned().unwrap_or_default() {
            let Some(job) = self.fetches.jobs.get(&old) else { continue };
            let stands = job.unasked.get(&author).is_some_and(|entry| set.holds(&entry.hash()));
            if Some(old) != root && !(job.is_active() && stands && root.is_some()) {
                turn = turn.or(self.fetches.turn(&old));
                self.prefetches.ended(&author, &old);
                self.drop_unasked(old, author);
            }
        }
        if let (Some(entry), Some(root)) = (newest, root)
            && !self.holders.is_held(&author, &root)
        {
            self.prefetches.roots.entry(author).or_default().insert(root);
            let whose = self.whose(&set, author);
            self.want_unasked(root, entry, whose);
            if let Some(turn) = turn {
                self.fetches.take_turn(root, turn);
            }
        }
    }

    /// From now on only these authors' newest updates are fetched unasked. What is under way of others is given up, unless
    /// somebody waits for it.
    pub(super) fn expects(&mut self, authors: BTreeSet<PeerId>) {
        let before = self.prefetches.expected.replace(authors.clone());
        let changed: Vec<PeerId> = match before {
            Some(before) => before.symmetric_difference(&authors).copied().collect(),
            None => return self.refresh_all_prefetches(),
        };
        changed.into_iter().for_each(|author| self.refresh_prefetch(author));
    }

    fn worth_fetching(&self, set: &EntrySet, author: PeerId) -> Option<Arc<SignedEntry>> {
        let expected = self.prefetches.expected.as_ref().is_none_or(|expected| expected.contains(&author));
        let wanted = author != self.config.me && expected && self.admits(&author);
        let layout = self.config.layout.filter(|_| wanted)?;
        let entry = set.newest_update(author)?;
        let short = matches!(entry.content, Content::Put { length, .. } if length <= self.config.limits.prefetch_bytes.as_u64());
        let rejected = self.prefetches.rejected.get(&author) == Some(&entry.hash());
        (entry.layout == layout && short && !rejected).then(|| entry.clone())
    }
}
