//! Which updates are known of which author, and how stale each is. Pure: no I/O and no clock.

use crate::weights::{Root, SignedEntry};
use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// An author's newest update, as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Newest {
    sequence: u64,
    root: Root,
    epoch: u64,
    /// The node's count of folds when it first saw this update.
    seen_at: u64,
    /// Whether it has been folded.
    folded: bool,
    /// Whether it was rejected or could not be read, so that its epoch doesn't count in the median.
    doubted: bool,
}

/// An update that is too old, and its staleness.
pub(super) type Stale = (Arc<SignedEntry>, u64);

/// Which authors are known, their newest updates, and since when: everything that staleness is computed from.
///
/// A state machine without I/O or clock. It is part of the checkpoint, and holds no more authors than the folder shows.
///
/// The median is taken over the listed updates that were not found wanting, not just over the checked ones: a node that
/// reads a sample of a large federation would know most authors only as they were many epochs ago, and its median would
/// fall behind. So a claim counts until the update is read. If it then turns out bad, the node [doubts](Self::doubt) it
/// and chooses again before anything is folded or left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Roster {
    folds: u64,
    authors: BTreeMap<Vec<u8>, Newest>,
}

impl Roster {
    /// The node's own count of folds.
    pub fn folds(&self) -> u64 {
        self.folds
    }

    /// How many authors are known besides this one.
    pub fn known_besides(&self, me: PeerId) -> usize {
        self.authors.len() - usize::from(self.authors.contains_key(&me.to_bytes()))
    }

    /// Records an author's update, possibly the node's own. An update older than the newest known one changes nothing.
    pub fn saw(&mut self, author: PeerId, sequence: u64, root: Root, epoch: u64) {
        let folds = self.folds;
        let fresh = || Newest { sequence, root, epoch, seen_at: folds, folded: false, doubted: false };
        let newest = self.authors.entry(author.to_bytes()).or_insert_with(fresh);
        if newest.sequence < sequence {
            // The same weights under a new number aren't new: a restart puts them again.
            *newest = if newest.root == root && newest.epoch == epoch {
                Newest { sequence, ..newest.clone() }
            } else {
                fresh()
            };
        }
    }

    /// Staleness τ of an update with these claims, first seen when it was noted:
    /// max(own folds since then, median newest epoch of the known authors − its epoch).
    ///
    /// With an even number of epochs the median is the lower of the two middle ones, so that half of the authors can't
    /// make the others look stale. The count of folds is the node's own: a claim can only add staleness.
    pub fn staleness(&self, author: PeerId, epoch: u64) -> u64 {
        self.staleness_by(self.median_epoch(), author, epoch)
    }

    fn staleness_by(&self, median: Option<u64>, author: PeerId, epoch: u64) -> u64 {
        let newest = self.authors.get(&author.to_bytes()).filter(|newest| newest.epoch == epoch);
        let waited = newest.map_or(0, |newest| self.folds.saturating_sub(newest.seen_at));
        let behind = median.map_or(0, |median| median.saturating_sub(epoch));
        waited.max(behind)
    }

    /// Splits updates into those that are fresh enough and those that aren't, the latter with their staleness.
    pub(super) fn split_by_staleness(
        &self,
        updates: impl IntoIterator<Item = Arc<SignedEntry>>,
        max_staleness: u64,
    ) -> (Vec<Arc<SignedEntry>>, Vec<Stale>) {
        let (mut fresh, mut stale) = (Vec::new(), Vec::new());
        let median = self.median_epoch();
        for update in updates {
            let epoch = update.metadata().map_or(0, |metadata| metadata.epoch);
            match self.staleness_by(median, update.key.author(), epoch) {
                staleness if staleness > max_staleness => stale.push((update, staleness)),
                _ => fresh.push(update),
            }
        }
        (fresh, stale)
    }

    /// The lower median of the known authors' newest epochs, without those in doubt.
    pub fn median_epoch(&self) -> Option<u64> {
        lower_median(self.authors.values().filter(|newest| !newest.doubted).map(|newest| newest.epoch))
    }

    /// Sets whether the author's newest update is in doubt: rejected, or out of reach. When it was first seen is still
    /// remembered.
    pub fn doubt(&mut self, author: PeerId, doubted: bool) {
        if let Some(newest) = self.authors.get_mut(&author.to_bytes()) {
            newest.doubted = doubted;
        }
    }

    /// Forgets all authors except these.
    pub fn retain(&mut self, keep: impl Fn(PeerId) -> bool) {
        self.authors.retain(|author, _| PeerId::from_bytes(author).is_ok_and(&keep));
    }

    /// Whether the author's newest update was folded already.
    pub fn was_folded(&self, author: PeerId) -> bool {
        self.authors.get(&author.to_bytes()).is_some_and(|newest| newest.folded)
    }

    /// Forgets an author: it was excluded, and its claims no longer count.
    pub fn forget(&mut self, author: PeerId) {
        self.authors.remove(&author.to_bytes());
    }

    /// Counts a fold of the newest updates of these authors.
    pub fn folded(&mut self, authors: impl IntoIterator<Item = PeerId>) {
        self.folds += 1;
        for author in authors {
            if let Some(newest) = self.authors.get_mut(&author.to_bytes()) {
                newest.folded = true;
            }
        }
    }
}

/// The median of these numbers; the lower of two middle ones.
pub(super) fn lower_median(numbers: impl IntoIterator<Item = u64>) -> Option<u64> {
    let mut numbers: Vec<u64> = numbers.into_iter().collect();
    numbers.sort_unstable();
    let middle = numbers.len().checked_sub(1)? / 2;
    numbers.get(middle).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(number: u8) -> Root {
        Root::from_bytes([number; 32])
    }

    #[test]
    fn staleness_grows_with_own_folds_until_something_new_comes() {
        let (me, peer) = (PeerId::random(), PeerId::random());
        let mut roster = Roster::default();
        roster.saw(me, 1, root(1), 1);
        roster.saw(peer, 1, root(9), 1);
        for expected in 0..3 {
            assert_eq!(roster.staleness(peer, 1), expected);
            roster.folded([me, peer]);
        }
        // The same weights put again after a restart stay as old as they are.
        roster.saw(peer, 2, root(9), 1);
        assert_eq!(roster.staleness(peer, 1), 3);
        roster.saw(peer, 3, root(8), 2);
        assert_eq!(roster.staleness(peer, 2), 0);
        assert!(!roster.was_folded(peer));
    }

    #[test]
    fn an_old_epoch_is_stale_by_the_median_and_a_claim_of_the_future_is_never_negative() {
        let mut roster = Roster::default();
        let peers: Vec<PeerId> = (0..5).map(|_| PeerId::random()).collect();
        for (&peer, epoch) in peers.iter().zip([3, 10, 12, 12, u64::MAX]) {
            roster.saw(peer, 1, root(1), epoch);
        }
        assert_eq!(roster.median_epoch(), Some(12));
        assert_eq!(roster.staleness(peers[0], 3), 9);
        assert_eq!(roster.staleness(peers[4], u64::MAX), 0);
    }

    #[test]
    fn an_update_in_doubt_is_no_measure_but_grows_old_like_any_other() {
        let (me, good, bad) = (PeerId::random(), PeerId::random(), PeerId::random());
        let mut roster = Roster::default();
        roster.saw(me, 1, root(1), 4);
        for (author, epoch) in [(good, 3), (bad, 9)] {
            roster.saw(author, 1, root(1), epoch);
        }
        roster.doubt(me, true);
        roster.doubt(bad, true);
        assert_eq!(roster.median_epoch(), Some(3));
        roster.folded([me, good]);
        roster.doubt(bad, false);
        roster.doubt(me, false);
        assert_eq!((roster.median_epoch(), roster.staleness(bad, 9)), (Some(4), 1));
        // A different update is a new claim.
        roster.doubt(bad, true);
        roster.saw(bad, 2, root(2), 10);
        assert_eq!((roster.median_epoch(), roster.staleness(bad, 10)), (Some(4), 0));
        roster.retain(|author| author == bad);
        assert_eq!((roster.median_epoch(), roster.authors.len(), roster.folds()), (Some(10), 1, 1));
        assert_eq!((roster.known_besides(me), roster.known_besides(bad)), (1, 0));
    }

    #[test]
    fn half_of_the_authors_cannot_raise_the_median() {
        let mut roster = Roster::default();
        for epoch in [2, 3, u64::MAX, u64::MAX] {
            roster.saw(PeerId::random(), 1, root(1), epoch);
        }
        assert_eq!(roster.median_epoch(), Some(3));
    }
}
