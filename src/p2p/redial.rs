//! Whom to dial again, and when: a state machine without I/O.

use super::addresses::MAX_ADDRESSES;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use libp2p::Multiaddr;
use libp2p_identity::PeerId;
use rand::seq::SliceRandom;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Peers that are dialled again, besides those of the bootstrap list.
const MAX_REMEMBERED: usize = 256;
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Less than the minute in which the parts of a federation must have found together.
const LONGEST_WAIT: Duration = Duration::from_secs(45);
/// Once this many members are connected, further members are no longer dialled.
const ENOUGH_MEMBERS: usize = 32;
/// Members that are dialled of those whom the table has named at once, and once enough are connected.
const NAMED_AT_ONCE: usize = 64;
const NAMED_ONCE_ENOUGH: usize = 4;

/// Peers to stay connected with, each dialled again after a wait that doubles, with jitter, up to 45 seconds, for ever.
pub(super) struct Redial {
    targets: BTreeMap<PeerId, Target>,
    seed: u64,
}

struct Target {
    addresses: BTreeSet<Multiaddr>,
    /// On the bootstrap list: never forgotten, and dialled however many members are connected.
    listed: bool,
    connected: bool,
    /// Whether it was ever reached.
    reached: bool,
    /// Dials that failed since.
    failures: u32,
    /// Whether a failure has been reported since the last connection.
    told: bool,
    /// When to dial; `None` while a dial is under way.
    due: Option<Duration>,
    waits: ExponentialBackoff,
}

fn waits(seed: u64) -> ExponentialBackoff {
    let builder = ExponentialBuilder::new().with_min_delay(FIRST_WAIT).with_max_delay(LONGEST_WAIT).with_factor(2.0);
    builder.without_max_times().with_jitter().with_jitter_seed(seed).build()
}

impl Redial {
    pub(super) fn new(seed: u64) -> Self {
        Self { targets: BTreeMap::new(), seed }
    }

    fn target(&mut self, peer: PeerId, now: Duration) -> &mut Target {
        self.seed = self.seed.wrapping_add(1);
        let waits = waits(self.seed);
        self.targets.entry(peer).or_insert_with(|| Target {
            addresses: BTreeSet::new(),
            listed: false,
            connected: false,
            reached: false,
            failures: 0,
            told: false,
            due: Some(now),
            waits,
        })
    }

    /// A peer of the bootstrap list, which is bounded where it is read.
    pub(super) fn listed(&mut self, peer: PeerId, address: Multiaddr, now: Duration) {
        let target = self.target(peer, now);
        target.listed = true;
        target.addresses.insert(address);
    }

    /// A member, of now or of the last run, with where it was found.
    pub(super) fn remember(&mut self, peer: PeerId, addresses: impl IntoIterator<Item = Multiaddr>, now: Duration) {
        let room = self.targets.values().filter(|target| !target.listed).count() < MAX_REMEMBERED;
        if room || self.targets.contains_key(&peer) {
            let target = self.target(peer, now);
            for address in addresses {
                if target.addresses.len() < MAX_ADDRESSES {
                    target.addresses.insert(address);
                }
            }
        }
    }

    /// Where a peer listens now. Replaces what was known, except an address from the list.
    pub(super) fn moved(&mut self, peer: &PeerId, addresses: Vec<Multiaddr>) {
        if let Some(target) = self.targets.get_mut(peer).filter(|target| !target.listed && !addresses.is_empty()) {
            target.addresses = addresses.into_iter().take(MAX_ADDRESSES).collect();
        }
    }

    /// Never dial this peer: it is this node itself, or it was banned for what it sent.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        self.targets.remove(peer);
    }

    /// Forgets all peers but these and those of the list.
    pub(super) fn retain(&mut self, keep: impl Fn(&PeerId) -> bool) {
        self.targets.retain(|peer, target| target.listed || keep(peer));
    }

    /// Whether it is redialled when the connection is lost.
    pub(super) fn is_sought(&self, peer: &PeerId) -> bool {
        self.targets.contains_key(peer)
    }

    pub(super) fn is_listed(&self, peer: &PeerId) -> bool {
        self.targets.get(peer).is_some_and(|target| target.listed)
    }

    /// Whether this is the first failure to reach a peer since it was last connected. Only the first is reported.
    pub(super) fn first_failure(&mut self, peer: &PeerId) -> bool {
        self.targets.get_mut(peer).is_some_and(|target| !std::mem::replace(&mut target.told, true))
    }

    pub(super) fn connected(&mut self, peer: &PeerId) {
        self.seed = self.seed.wrapping_add(1);
        let fresh = waits(self.seed);
        if let Some(target) = self.targets.get_mut(peer) {
            (target.connected, target.reached, target.told) = (true, true, false);
            target.failures = 0;
            (target.due, target.waits) = (None, fresh);
        }
    }

    /// The last connection ended, or a dial failed.
    pub(super) fn lost(&mut self, peer: &PeerId, now: Duration) {
        if let Some(target) = self.targets.get_mut(peer) {
            target.connected = false;
            target.failures = target.failures.saturating_add(1);
            let wait = target.waits.next().unwrap_or(LONGEST_WAIT);
            target.due = Some(now + wait.min(LONGEST_WAIT));
        }
    }

    /// The network is back: everybody is dialled now.
    pub(super) fn again(&mut self, now: Duration) {
        for target in self.targets.values_mut().filter(|target| !target.connected) {
            self.seed = self.seed.wrapping_add(1);
            (target.due, target.waits) = (Some(now), waits(self.seed));
        }
    }

    /// How many peers are on the bootstrap list.
    pub(super) fn count_listed(&self) -> usize {
        self.targets.values().filter(|target| target.listed).count()
    }

    /// Whether each peer of the list was reached, or found out of reach, at least once.
    pub(super) fn listed_tried(&self) -> bool {
        self.targets.values().all(|target| !target.listed || target.reached || target.failures > 0)
    }

    /// Whether each of the others was reached, or found out of reach so often.
    pub(super) fn remembered_tried(&self, failures: u32) -> bool {
        self.targets.values().all(|target| target.listed || target.reached || target.failures >= failures)
    }

    /// Which peers to dial now, with their addresses. Each must be answered by [`connected`](Self::connected) or
    /// [`lost`](Self::lost).
    pub(super) fn due(&mut self, now: Duration, members: usize) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let mut due = Vec::new();
        for (peer, target) in &mut self.targets {
            if target.due.is_some_and(|at| at <= now) && !target.connected {
                if target.listed || members < ENOUGH_MEMBERS {
                    target.due = None;
                    due.push((*peer, target.addresses.iter().cloned().collect()));
                } else {
                    target.due = Some(now + LONGEST_WAIT);
                }
            }
        }
        due
    }

    /// Whom to dial of the members that the table names: others each time. Who is connected with enough still looks for a
    /// few, or two parts of a large federation might never meet, but not for all of them at every look: where nobody has
    /// room for everybody, each that comes costs another its place.
    pub(super) fn of_named(&mut self, mut named: Vec<PeerId>, members: usize) -> Vec<PeerId> {
        self.seed = self.seed.wrapping_add(1);
        named.sort();
        let most = if members < ENOUGH_MEMBERS { NAMED_AT_ONCE } else { NAMED_ONCE_ENOUGH };
        let (drawn, _) = named.partial_shuffle(&mut ChaCha8Rng::seed_from_u64(self.seed), most);
        drawn.to_vec()
    }

    /// When [`due`](Self::due) has something next.
    pub(super) fn next(&self) -> Option<Duration> {
        self.targets.values().filter(|target| !target.connected).filter_map(|target| target.due).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address() -> Multiaddr {
        "/ip4/127.0.0.1/tcp/1".parse().unwrap()
    }

    #[test]
    fn the_list_is_dialled_for_ever_with_growing_waits() {
        let mut redial = Redial::new(7);
        let peer = PeerId::random();
        let mut now = Duration::ZERO;
        redial.listed(peer, address(), now);
        let mut waits = Vec::new();
        for _ in 0..200 {
            assert_eq!(redial.due(now, 1000), [(peer, vec![address()])]);
            assert!(redial.due(now, 1000).is_empty(), "it is being dialled");
            redial.lost(&peer, now);
            let next = redial.next().unwrap();
            waits.push(next - now);
            now = next;
        }
        assert!(waits[0] < 3 * FIRST_WAIT && waits.iter().all(|wait| *wait <= LONGEST_WAIT), "{waits:?}");
        assert!(waits[20..].iter().all(|wait| *wait >= LONGEST_WAIT / 2), "{waits:?}");
        redial.connected(&peer);
        assert_eq!(redial.next(), None);
        redial.lost(&peer, now);
        assert!(redial.next().unwrap() - now < 3 * FIRST_WAIT, "it begins anew after a connection");
    }

    #[test]
    fn members_are_dialled_while_there_are_few() {
        let mut redial = Redial::new(7);
        let (member, banned) = (PeerId::random(), PeerId::random());
        redial.remember(member, [address()], Duration::ZERO);
        redial.remember(banned, [address()], Duration::ZERO);
        redial.forget(&banned);
        assert!(redial.due(Duration::ZERO, ENOUGH_MEMBERS).is_empty());
        let later = redial.next().unwrap();
        assert_eq!(redial.due(later, 0).len(), 1);
    }

    #[test]
    fn of_many_that_the_table_names_a_few_are_dialled_and_others_each_time() {
        let mut redial = Redial::new(7);
        let named: Vec<PeerId> = (0..500).map(|_| PeerId::random()).collect();
        assert_eq!(redial.of_named(named[..9].to_vec(), 0).into_iter().collect::<BTreeSet<_>>().len(), 9);
        assert_eq!(redial.of_named(named.clone(), 0).len(), NAMED_AT_ONCE);
        let mut drawn = BTreeSet::new();
        for _ in 0..500 {
            drawn.extend(redial.of_named(named.clone(), ENOUGH_MEMBERS));
        }
        assert!(drawn.len() > 450, "{}", drawn.len());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut redial = Redial::new(7);
        for _ in 0..2 * MAX_REMEMBERED {
            redial.remember(PeerId::random(), std::iter::repeat_n(address(), 99), Duration::ZERO);
        }
        assert_eq!(redial.targets.len(), MAX_REMEMBERED);
        redial.listed(PeerId::random(), address(), Duration::ZERO);
    }
}
