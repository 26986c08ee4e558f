//! How often each peer has sent something wrong, and which peers are banned for it.

use libp2p_identity::PeerId;
use std::{collections::BTreeMap, time::Duration};

/// Most peers whose strikes, and whose bans, are remembered.
const MAX_REMEMBERED: usize = 1024;

/// How often each peer has sent something wrong. Strikes outlive connections, so a peer can't shed them by
/// reconnecting.
#[derive(Debug, Default)]
pub(super) struct Strikes {
    counts: BTreeMap<PeerId, u32>,
    banned_until: BTreeMap<PeerId, Duration>,
}

impl Strikes {
    /// Counts a strike. Returns true if it was one too many: the peer is then banned until `until`, and starts afresh
    /// after that.
    pub(super) fn add(&mut self, peer: PeerId, limit: u32, until: Duration) -> bool {
        make_room(&mut self.counts, &peer);
        let count = self.counts.entry(peer).or_default();
        *count += 1;
        if *count < limit {
            return false;
        }
        self.counts.remove(&peer);
        make_room(&mut self.banned_until, &peer);
        self.banned_until.insert(peer, until);
        true
    }

    /// How long this peer is still banned, or `None` if it isn't.
    pub(super) fn banned_for(&self, peer: &PeerId, now: Duration) -> Option<Duration> {
        self.banned_until.get(peer)?.checked_sub(now).filter(|left| !left.is_zero())
    }
}

/// Forgets the peer with the lowest value if there is no room for this one.
fn make_room<T: Ord + Copy>(of: &mut BTreeMap<PeerId, T>, peer: &PeerId) {
    if of.len() < MAX_REMEMBERED || of.contains_key(peer) {
        return;
    }
    if let Some(least) = of.iter().min_by_key(|(_, value)| **value).map(|(peer, _)| *peer) {
        of.remove(&least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn the_third_strike_bans_for_a_while() {
        let (mut strikes, peer, other) = (Strikes::default(), PeerId::random(), PeerId::random());
        assert!(!strikes.add(peer, 3, TEN));
        assert!(!strikes.add(peer, 3, TEN));
        assert!(!strikes.add(other, 3, TEN));
        assert_eq!(strikes.banned_for(&peer, Duration::ZERO), None);
        assert!(strikes.add(peer, 3, TEN));
        assert_eq!(strikes.banned_for(&peer, Duration::from_secs(4)), Some(Duration::from_secs(6)));
        assert_eq!(strikes.banned_for(&peer, TEN), None);
        assert!(!strikes.add(peer, 3, TEN));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_worst_stay() {
        let (mut strikes, worst) = (Strikes::default(), PeerId::random());
        strikes.add(worst, 3, TEN);
        strikes.add(worst, 3, TEN);
        for _ in 0..2 * MAX_REMEMBERED {
            strikes.add(PeerId::random(), 3, TEN);
        }
        assert_eq!(strikes.counts.len(), MAX_REMEMBERED);
        assert!(strikes.add(worst, 3, TEN));
    }
}
