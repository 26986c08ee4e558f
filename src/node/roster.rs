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
    /// In how many of this node's folds the author has come to a later epoch. Of this life only: a checkpoint holds
    /// nothing that an author may have claimed about itself.
    #[serde(skip)]
    grown: u64,
    /// The node's count of folds when it last did.
    #[serde(skip)]
    grown_at: Option<u64>,
    /// The highest number of its updates that were folded, in this life.
    #[serde(skip)]
    last_folded: Option<u64>,
}

impl Newest {
    /// How often the author has grown if its newest epoch is now this one. However many updates it publishes, it grows
    /// once per fold of this node: otherwise a liar could count up to any epoch in a second.
    fn growth_with(&self, epoch: u64, folds: u64) -> (u64, Option<u64>) {
        if epoch > self.epoch && self.grown_at.is_none_or(|at| at < folds) {
            (self.grown.saturating_add(1), Some(folds))
        } else {
            (self.grown, self.grown_at)
        }
    }
}

/// How far ahead of this node an author is believed to be for each fold of this node in which it has come to a later
/// epoch. It is high enough that a node that was away for hundreds of epochs believes its peers after a few, and low
/// enough that nobody comes to an absurd epoch before the run ends.
const EPOCHS_PER_GROWTH: u64 = 100;

/// Where a node stands: what it measures the epochs by that others claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standpoint {
    /// The epoch of its own newest update. A node that has none takes the lowest epoch that anybody claims for its own:
    /// it can find out later that it is behind, but an epoch too far is never trained.
    pub epoch: Option<u64>,
    /// How far ahead of that a peer may be that it has never seen before: its highest staleness.
    pub reach: u64,
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
///
/// Anybody can claim any epoch, so a claim counts only if it [is believed](Self::believes): no further ahead of this
/// node than the node has seen to be possible.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Roster {
    folds: u64,
    authors: BTreeMap<PeerId, Newest>,
}

impl Roster {
    /// The node's own count of folds.
    pub fn folds(&self) -> u64 {
        self.folds
    }

    /// How many authors are known besides this one.
    pub fn known_besides(&self, me: PeerId) -> usize {
        self.authors.len() - usize::from(self.authors.contains_key(&me))
    }

    /// Records an author's update, possibly the node's own. An update older than the newest known one changes nothing.
    pub fn saw(&mut self, author: PeerId, sequence: u64, root: Root, epoch: u64) {
        let folds = self.folds;
        let fresh = |(grown, grown_at), last_folded| Newest {
            sequence,
            root,
            epoch,
            seen_at: folds,
            folded: false,
            doubted: false,
            grown,
            grown_at,
            last_folded,
        };
        let newest = self.authors.entry(author).or_insert_with(|| fresh((0, None), None));
        if newest.sequence < sequence {
            // The same weights under a new number aren't new: a restart puts them again.
            *newest = if newest.root == root && newest.epoch == epoch {
                Newest { sequence, ..newest.clone() }
            } else {
                fresh(newest.growth_with(epoch, folds), newest.last_folded)
            };
        }
    }

    /// The epoch of an author's newest update, possibly the node's own.
    pub fn epoch_of(&self, author: PeerId) -> Option<u64> {
        self.authors.get(&author).map(|newest| newest.epoch)
    }

    /// Whether this node believes that the author is at this epoch: it may be as far ahead of the node as is still
    /// fresh, and further by 100 for each fold of this node in which it has come to a later epoch. What isn't ahead is
    /// always believed.
    pub fn believes(&self, author: PeerId, epoch: u64, own: u64, reach: u64) -> bool {
        let grown = self.authors.get(&author).map_or(0, |newest| newest.grown);
        is_believed(epoch, grown, own, reach)
    }

    /// The lower median of those of these claims that are believed; of a node that stands nowhere yet, as seen from
    /// the lowest of them. `None` without claims, or if the node's own is none of them and no other is believed.
    pub(super) fn common_epoch(&self, claims: &[(PeerId, u64)], from: Standpoint) -> Option<u64> {
        let own = from.epoch.or_else(|| claims.iter().map(|&(_, epoch)| epoch).min())?;
        let believed = claims.iter().filter(|&&(author, epoch)| self.believes(author, epoch, own, from.reach));
        lower_median(believed.map(|&(_, epoch)| epoch))
    }

    /// Staleness τ of an update with these claims, first seen when it was noted:
    /// max(own folds since then, [median epoch](Self::median_epoch) − its epoch).
    ///
    /// The count of folds is the node's own: a claim can only add staleness.
    pub fn staleness(&self, author: PeerId, epoch: u64, from: Standpoint) -> u64 {
        self.staleness_by(self.median_epoch(from), author, epoch)
    }

    fn staleness_by(&self, median: Option<u64>, author: PeerId, epoch: u64) -> u64 {
        let newest = self.authors.get(&author).filter(|newest| newest.epoch == epoch);
        let waited = newest.map_or(0, |newest| self.folds.saturating_sub(newest.seen_at));
        let behind = median.map_or(0, |median| median.saturating_sub(epoch));
        waited.max(behind)
    }

    /// Splits updates into those that are fresh enough, as seen from here, and those that aren't, the latter with their
    /// staleness.
    pub(super) fn split_by_staleness(
        &self,
        updates: impl IntoIterator<Item = Arc<SignedEntry>>,
        from: Standpoint,
    ) -> (Vec<Arc<SignedEntry>>, Vec<Stale>) {
        let (mut fresh, mut stale) = (Vec::new(), Vec::new());
        let median = self.median_epoch(from);
        for update in updates {
            let epoch = update.metadata().map_or(0, |metadata| metadata.epoch);
            match self.staleness_by(median, update.key.author(), epoch) {
                staleness if staleness > from.reach => stale.push((update, staleness)),
                _ => fresh.push(update),
            }
        }
        (fresh, stale)
    }

    /// The lower median of the known authors' newest epochs, without those in doubt and those that aren't
    /// [believed](Self::believes), and never later than the node's own: whatever the others claim, an update of the
    /// node's own epoch isn't behind.
    ///
    /// With an even number of epochs it is the lower of the two middle ones, so that half of the authors can't make
    /// the others look stale.
    pub fn median_epoch(&self, from: Standpoint) -> Option<u64> {
        let counted = || self.authors.values().filter(|newest| !newest.doubted);
        let own = from.epoch.or_else(|| counted().map(|newest| newest.epoch).min())?;
        let believed = counted().filter(|newest| is_believed(newest.epoch, newest.grown, own, from.reach));
        let median = lower_median(believed.map(|newest| newest.epoch))?;
        Some(from.epoch.map_or(median, |own| median.min(own)))
    }

    /// Sets whether the author's newest update is in doubt: rejected, or out of reach. When it was first seen is still
    /// remembered.
    pub fn doubt(&mut self, author: PeerId, doubted: bool) {
        if let Some(newest) = self.authors.get_mut(&author) {
            newest.doubted = doubted;
        }
    }

    /// Forgets all authors except these.
    pub fn retain(&mut self, keep: impl Fn(PeerId) -> bool) {
        self.authors.retain(|&author, _| keep(author));
    }

    /// Whether the author's newest update was folded already.
    pub fn was_folded(&self, author: PeerId) -> bool {
        self.authors.get(&author).is_some_and(|newest| newest.folded)
    }

    /// Whether an author's update with this number is newer than all that were folded of it in this life.
    pub(super) fn is_unfolded(&self, author: PeerId, sequence: u64) -> bool {
        let last = self.authors.get(&author).and_then(|newest| newest.last_folded);
        last.is_none_or(|last| last < sequence)
    }

    /// Forgets an author: it was excluded, and its claims no longer count.
    pub fn forget(&mut self, author: PeerId) {
        self.authors.remove(&author);
    }

    /// Counts a fold of these authors' updates of these epochs; with their numbers, except the node's own.
    pub fn folded(&mut self, updates: impl IntoIterator<Item = (PeerId, u64, Option<u64>)>) {
        self.folds += 1;
        for (author, epoch, sequence) in updates {
            if let Some(newest) = self.authors.get_mut(&author) {
                newest.folded |= newest.epoch == epoch;
                newest.last_folded = newest.last_folded.max(sequence);
            }
        }
    }
}

fn is_believed(epoch: u64, grown: u64, own: u64, reach: u64) -> bool {
    epoch <= own.saturating_add(reach).saturating_add(grown.saturating_mul(EPOCHS_PER_GROWTH))
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
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::{RngExt, SeedableRng, seq::IndexedRandom};
    use rand_chacha::ChaCha8Rng;

    fn root(number: u8) -> Root {
        Root::from_bytes([number; 32])
    }

    fn at(epoch: u64) -> Standpoint {
        Standpoint { epoch: Some(epoch), reach: 10 }
    }

    const NOWHERE: Standpoint = Standpoint { epoch: None, reach: 10 };

    #[test]
    fn staleness_grows_with_own_folds_until_something_new_comes() {
        let (me, peer) = (PeerId::random(), PeerId::random());
        let mut roster = Roster::default();
        roster.saw(me, 1, root(1), 1);
        roster.saw(peer, 1, root(9), 1);
        for expected in 0..3 {
            assert_eq!(roster.staleness(peer, 1, at(1)), expected);
            roster.folded([(me, 1, None), (peer, 1, Some(1))]);
        }
        // The same weights put again after a restart stay as old as they are.
        roster.saw(peer, 2, root(9), 1);
        assert_eq!(roster.staleness(peer, 1, at(1)), 3);
        roster.saw(peer, 3, root(8), 2);
        assert_eq!(roster.staleness(peer, 2, at(1)), 0);
        assert!(!roster.was_folded(peer));
    }

    #[test]
    fn what_was_folded_of_an_author_may_be_older_than_its_newest() {
        let peer = PeerId::random();
        let mut roster = Roster::default();
        roster.saw(peer, 7, root(7), 7);
        assert!(roster.is_unfolded(peer, 5));
        roster.folded([(peer, 5, Some(5))]);
        roster.saw(peer, 8, root(8), 8);
        let unfolded = [4, 5, 6].map(|number| roster.is_unfolded(peer, number));
        assert_eq!((unfolded, roster.was_folded(peer)), ([false, false, true], false));
        roster.folded([(peer, 8, Some(8))]);
        assert!(roster.was_folded(peer) && !roster.is_unfolded(peer, 6));
    }

    #[test]
    fn an_old_epoch_is_stale_by_the_median_and_a_claim_of_the_future_is_never_negative() {
        let mut roster = Roster::default();
        let peers: Vec<PeerId> = (0..5).map(|_| PeerId::random()).collect();
        for (&peer, epoch) in peers.iter().zip([3, 12, 12, 12, u64::MAX]) {
            roster.saw(peer, 1, root(1), epoch);
        }
        assert_eq!(roster.median_epoch(at(12)), Some(12));
        assert_eq!(roster.staleness(peers[0], 3, at(12)), 9);
        assert_eq!(roster.staleness(peers[4], u64::MAX, at(12)), 0);
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
        assert_eq!(roster.median_epoch(at(4)), Some(3));
        roster.folded([(me, 4, None), (good, 3, Some(1))]);
        roster.doubt(bad, false);
        roster.doubt(me, false);
        assert_eq!((roster.median_epoch(at(4)), roster.staleness(bad, 9, at(4))), (Some(4), 1));
        // A different update is a new claim.
        roster.doubt(bad, true);
        roster.saw(bad, 2, root(2), 10);
        assert_eq!((roster.median_epoch(at(4)), roster.staleness(bad, 10, at(4))), (Some(4), 0));
        roster.retain(|author| author == bad);
        assert_eq!((roster.median_epoch(NOWHERE), roster.authors.len(), roster.folds()), (Some(10), 1, 1));
        assert_eq!((roster.known_besides(me), roster.known_besides(bad)), (1, 0));
    }

    #[test]
    fn half_of_the_authors_cannot_raise_the_median() {
        let mut roster = Roster::default();
        for epoch in [2, 3, 9, 9] {
            roster.saw(PeerId::random(), 1, root(1), epoch);
        }
        assert_eq!(roster.median_epoch(at(9)), Some(3));
    }

    /// Any number of authors that claim far epochs, also under new numbers again and again, and the highest number there
    /// is among them.
    #[test]
    fn far_claims_move_no_median_and_make_nobody_stale() {
        let (me, peer) = (PeerId::random(), PeerId::random());
        let liars: Vec<PeerId> = (0..50).map(|_| PeerId::random()).collect();
        for claim in [1_000, 999_999_999, u64::MAX - 1] {
            let mut roster = Roster::default();
            for epoch in 1..=40 {
                roster.saw(me, epoch, root(1), epoch);
                roster.saw(peer, epoch, root(1), epoch);
                for (at, &liar) in liars.iter().enumerate() {
                    // The first half stays where it is; the others begin here and leap.
                    let claim = if at % 2 == 0 || epoch > 20 { claim } else { epoch };
                    roster.saw(liar, epoch, root(epoch as u8), claim);
                }
                let behind = epoch.saturating_sub(3);
                assert_eq!(roster.staleness(peer, behind, at(epoch)), epoch - behind);
                assert_eq!(roster.median_epoch(at(epoch)), Some(epoch));
                roster.folded([(me, epoch, None), (peer, epoch, Some(epoch))]);
            }
            let mut claims: Vec<(PeerId, u64)> = liars.iter().step_by(2).map(|&liar| (liar, claim)).collect();
            claims.extend([(me, 40), (peer, 40)]);
            assert_eq!(roster.common_epoch(&claims, at(40)), Some(40));
            assert_eq!(roster.common_epoch(&claims, NOWHERE), Some(40));
        }
    }

    #[test]
    fn who_is_far_ahead_is_believed_by_how_often_it_was_seen_to_grow() {
        let peer = PeerId::random();
        let mut roster = Roster::default();
        roster.saw(peer, 1, root(1), 500);
        for (grown, believed) in [(0, false), (1, false), (4, false), (5, true), (6, true)] {
            while roster.authors[&peer].grown < grown {
                let newest = roster.authors[&peer].clone();
                // Only once per fold of this node.
                for more in 1..=3 {
                    roster.saw(peer, newest.sequence + more, root(more as u8), newest.epoch + more);
                }
                roster.folded([]);
            }
            assert_eq!(roster.believes(peer, 515, 5, 10), believed, "seen to grow {grown} times");
        }
        assert!(!roster.believes(peer, u64::MAX, 5, 10));
        assert!(roster.believes(peer, u64::MAX, 5, u64::MAX));
        // A restart forgets that: it may have been claimed.
        let saved = postcard::to_stdvec(&roster).unwrap();
        let restored: Roster = postcard::from_bytes(&saved).unwrap();
        assert!(!restored.believes(peer, 518, 5, 10) && restored.epoch_of(peer) == roster.epoch_of(peer));
    }

    #[test]
    fn a_node_that_stands_nowhere_yet_goes_by_the_lowest_of_far_claims() {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..200 {
            // The honest ones within what is fresh of each other, at any epoch; the liars anywhere above.
            let start = random.random_range(1..2_000u64);
            let honest: Vec<u64> =
                (0..random.random_range(1..6)).map(|_| start + random.random_range(0..=10)).collect();
            let lowest = honest.iter().copied().min().unwrap();
            let lies = [lowest + 11, start + 1_000, 999_999_999, u64::MAX];
            let lies = (0..random.random_range(0..20)).map(|_| *lies.choose(&mut random).unwrap());
            let claims: Vec<(PeerId, u64)> =
                honest.iter().copied().chain(lies).map(|epoch| (PeerId::random(), epoch)).collect();
            let mut roster = Roster::default();
            claims.iter().for_each(|&(author, epoch)| roster.saw(author, 1, root(1), epoch));
            let expected = lower_median(honest.iter().copied());
            assert_eq!(roster.common_epoch(&claims, NOWHERE), expected);
            assert_eq!(roster.median_epoch(NOWHERE), expected);
        }
    }
}
