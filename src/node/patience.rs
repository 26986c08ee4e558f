//! How long an asynchronous node waits for values that aren't here yet. Pure: it is told how much time has passed.

use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The longest wait at once.
const MOST: Duration = Duration::from_secs(10);
/// What a node may wait before it has worked at all.
const FIRST: Duration = Duration::from_secs(2);
/// What a node that begins among many waits for the first of them that it looks for.
const FIRST_LOOK: Duration = Duration::from_millis(200);
/// What a node that has no value of anybody yet may wait for the first, in all. On a busy machine every value may come too
/// late for each of the node's short waits, and then it would end without having learned from anyone.
const UNTIL_ANY: Duration = Duration::from_secs(30);
/// What an author whose last value came in time is waited for in any case: with epochs of milliseconds, a part of one
/// is shorter than any way through a network.
const LEAST: Duration = Duration::from_millis(50);
/// What a value that is here is waited for in any case. It takes a moment to open, on a busy machine a longer one: an author
/// whose values got less would never be in time again, however long they have been here.
const HERE: Duration = Duration::from_millis(100);
/// How often in a row an author's values come too late before that is reported.
const REPORTED: u32 = 3;

/// How long a node waits for the values of others.
///
/// It may wait a part of the time that it has worked itself, taken together: whatever others announce and don't give,
/// and however many they are, they take no more. An author who has made it wait is waited for half as long at each
/// further time.
#[derive(Debug)]
pub(super) struct Patience {
    part: f64,
    /// What it may wait now.
    left: Duration,
    /// What it may wait for the first value of all; nothing once there is one.
    until_any: Duration,
    /// How often in a row an author's values came too late; 0 of those who were in time. No more authors than the folder
    /// shows.
    late: BTreeMap<PeerId, u32>,
    /// Authors of whom a value has come in time at some time. No more than the folder shows.
    given: BTreeSet<PeerId>,
}

impl Patience {
    /// One that waits this part of the node's own time.
    pub(super) fn new(part: f64) -> Self {
        let (left, until_any) = if part > 0.0 { (FIRST, UNTIL_ANY) } else { Default::default() };
        Self { part, left, until_any, late: BTreeMap::new(), given: BTreeSet::new() }
    }

    /// The node begins: however little it waits later, it has ten seconds to get anything. Until it
    /// [has begun](Self::has_begun), or begins again because that was cancelled.
    pub(super) fn begins(&mut self) {
        (self.left, self.until_any) = (FIRST_LOOK, MOST);
        self.late.clear();
    }

    /// What it waits from here on doesn't depend on how it began. Who has given something is remembered.
    pub(super) fn has_begun(&mut self) {
        let given = std::mem::take(&mut self.given);
        *self = Self { given, ..Self::new(self.part) };
        if !self.given.is_empty() {
            self.until_any = Duration::ZERO;
        }
    }

    /// The node has worked for so long.
    pub(super) fn worked(&mut self, time: Duration) {
        self.left = self.left.saturating_add(time.min(Duration::from_secs(1 << 40)).mul_f64(self.part)).min(MOST);
    }

    /// The node has waited for so long.
    pub(super) fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }

    /// How long to wait on for any value at all: longer than for values otherwise, as long as there was none.
    pub(super) fn until_any(&self) -> Duration {
        self.until_any
    }

    /// The node has waited on so long for any value at all.
    pub(super) fn waited_for_any(&mut self, time: Duration) {
        self.until_any = self.until_any.saturating_sub(time);
    }

    /// How long to wait for a value of this author.
    pub(super) fn with(&self, author: PeerId) -> Duration {
        match self.late.get(&author) {
            Some(0) if self.part > 0.0 => self.left.max(LEAST),
            Some(&late) => halved(self.left, late),
            None => self.left,
        }
    }

    /// What of `time` a value of this author is waited for that should be here, in case that its storage doesn't give it: a
    /// share, and a tenth of a second at least.
    pub(super) fn of(&self, author: PeerId, time: Duration) -> Duration {
        halved(time, self.late.get(&author).copied().unwrap_or(0)).max(HERE.min(time))
    }

    /// A value of this author came in time.
    pub(super) fn came(&mut self, author: PeerId) {
        self.until_any = Duration::ZERO;
        self.late.insert(author, 0);
        self.given.insert(author);
    }

    /// Whether any value of this author has ever come in time.
    pub(super) fn knows_to_give(&self, author: PeerId) -> bool {
        self.given.contains(&author)
    }

    /// A value of this author didn't come in time. Says whether that is worth a report: once for as long as its values
    /// come too late.
    pub(super) fn missed(&mut self, author: PeerId) -> bool {
        let late = self.late.entry(author).or_insert(0);
        *late = late.saturating_add(1);
        *late == REPORTED
    }

    /// Forgets all authors except these.
    pub(super) fn retain(&mut self, keep: impl Fn(PeerId) -> bool) {
        self.late.retain(|&author, _| keep(author));
        self.given.retain(|&author| keep(author));
    }
}

fn halved(time: Duration, times: u32) -> Duration {
    1u32.checked_shl(times).map_or(Duration::ZERO, |part| time / part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const EPOCH: Duration = Duration::from_millis(40);

    #[test]
    fn however_many_give_nothing_the_node_keeps_its_time() {
        for seed in 0..20 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let known: Vec<PeerId> = (0..10).map(|_| PeerId::random()).collect();
            let mut patience = Patience::new(0.1);
            let (mut worked, mut waited) = (Duration::ZERO, Duration::ZERO);
            for _ in 0..2_000 {
                worked += EPOCH;
                patience.worked(EPOCH);
                // Strangers, who have never given anything, and the same few again and again.
                let authors = [PeerId::random(), known[random.random_range(0..known.len())]];
                let wait = authors.map(|author| patience.with(author)).into_iter().max().unwrap_or_default();
                patience.waited(wait);
                waited += wait;
                for author in authors {
                    patience.missed(author);
                }
            }
            assert!(waited <= FIRST + worked.mul_f64(0.1), "{waited:?} of {worked:?}");
            patience.retain(|author| known.contains(&author));
            assert!(patience.late.len() <= known.len());
        }
    }

    #[test]
    fn who_was_late_is_waited_for_less_until_it_is_in_time_and_told_once() {
        let author = PeerId::random();
        let mut patience = Patience::new(0.1);
        assert_eq!(patience.with(author), FIRST);
        let told: Vec<bool> = (0..40).map(|_| patience.missed(author)).collect();
        assert_eq!(told.iter().filter(|told| **told).count(), 1);
        assert!(told[REPORTED as usize - 1] && patience.with(author).is_zero());
        assert_eq!(patience.of(author, MOST), HERE, "what is here counts again as soon as it can be opened");
        assert_eq!(patience.of(author, HERE / 2), HERE / 2);
        patience.came(author);
        assert_eq!((patience.with(author), patience.of(author, MOST)), (FIRST, MOST));
        patience.missed(author);
        assert_eq!((patience.with(author), patience.of(author, MOST)), (FIRST / 2, MOST / 2));
        // Nothing is left to wait; who is in time is still waited for a moment.
        patience.waited(MOST);
        assert!(patience.with(author).is_zero());
        patience.came(author);
        assert_eq!(patience.with(author), LEAST);
    }

    #[test]
    fn the_first_value_of_all_is_waited_for_longer_and_only_once() {
        let mut patience = Patience::new(0.1);
        assert_eq!(patience.until_any(), UNTIL_ANY);
        patience.waited_for_any(UNTIL_ANY / 2);
        assert_eq!(patience.until_any(), UNTIL_ANY / 2);
        let mut vain = Patience::new(0.1);
        vain.waited_for_any(Duration::MAX);
        assert!(vain.until_any().is_zero(), "who never gets any doesn't wait at every epoch");
        patience.came(PeerId::random());
        assert!(patience.until_any().is_zero() && Patience::new(0.0).until_any().is_zero());
    }

    #[test]
    fn a_wait_is_a_part_of_the_nodes_own_time_and_never_longer_than_some_seconds() {
        let stranger = PeerId::random();
        let mut patience = Patience::new(0.1);
        patience.waited(MOST);
        patience.worked(Duration::from_secs(20));
        assert_eq!(patience.with(stranger), Duration::from_secs(2));
        patience.worked(Duration::MAX);
        assert_eq!(patience.with(stranger), MOST);
        let mut none = Patience::new(0.0);
        none.worked(Duration::from_secs(20));
        none.came(stranger);
        assert!(none.with(stranger).is_zero());
    }

    #[test]
    fn how_a_node_began_changes_nothing_of_what_it_waits_later() {
        for part in [0.0, 0.1] {
            let at_first = Patience::new(part);
            let (mut patience, author) = (Patience::new(part), PeerId::random());
            // The first time it was cancelled.
            for _ in 0..2 {
                patience.begins();
                assert_eq!((patience.until_any(), patience.with(author)), (MOST, FIRST_LOOK));
                patience.waited(FIRST_LOOK);
                patience.waited_for_any(EPOCH);
                patience.missed(author);
            }
            patience.has_begun();
            assert_eq!((patience.until_any(), patience.with(author)), (at_first.until_any(), at_first.with(author)));
            patience.begins();
            patience.came(author);
            patience.has_begun();
            assert!(patience.knows_to_give(author) && patience.until_any().is_zero());
        }
    }
}
