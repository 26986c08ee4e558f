//! When it is tried again to replace a relayed connection by a direct one: a state machine without I/O.

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use libp2p_identity::PeerId;
use std::{collections::BTreeMap, time::Duration};

/// Longer than the three attempts that are made on one connection, each of which may take ten seconds.
const FIRST_WAIT: Duration = Duration::from_secs(40);
/// Routers are replaced, and addresses change.
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// The peers that this node has dialled by a relay and doesn't reach directly. At most as many as are connected.
#[derive(Default)]
pub(super) struct PunchAgain {
    peers: BTreeMap<PeerId, Waiting>,
}

struct Waiting {
    due: Duration,
    waits: ExponentialBackoff,
}

impl PunchAgain {
    /// A relayed connection with a peer was made. If it is not the first, the peer keeps its waits.
    pub(super) fn relayed(&mut self, peer: PeerId, now: Duration) {
        self.peers.entry(peer).or_insert_with(|| {
            let builder = ExponentialBuilder::new().with_min_delay(FIRST_WAIT).with_max_delay(LONGEST_WAIT);
            let mut waits = builder.with_factor(2.0).without_max_times().build();
            Waiting { due: now + waits.next().unwrap_or(LONGEST_WAIT), waits }
        });
    }

    /// A peer is reached directly, or not at all any more.
    pub(super) fn no_more(&mut self, peer: &PeerId) {
        self.peers.remove(peer);
    }

    /// With whom it is tried again now. Each is due again after twice the wait, up to a quarter of an hour.
    pub(super) fn due(&mut self, now: Duration) -> Vec<PeerId> {
        let mut due = Vec::new();
        for (peer, waiting) in self.peers.iter_mut().filter(|(_, waiting)| waiting.due <= now) {
            waiting.due = now + waiting.waits.next().unwrap_or(LONGEST_WAIT);
            due.push(*peer);
        }
        due
    }

    /// When [`due`](Self::due) has somebody next.
    pub(super) fn next(&self) -> Option<Duration> {
        self.peers.values().map(|waiting| waiting.due).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_is_tried_again_ever_more_seldom_until_there_is_a_direct_connection() {
        let mut again = PunchAgain::default();
        let peer = PeerId::random();
        again.relayed(peer, Duration::ZERO);
        let (mut now, mut waits) = (Duration::ZERO, Vec::new());
        for _ in 0..10 {
            assert!(again.due(again.next().unwrap() - Duration::from_millis(1)).is_empty());
            waits.push(again.next().unwrap() - now);
            now = again.next().unwrap();
            assert_eq!(again.due(now), [peer]);
            again.relayed(peer, now);
        }
        assert_eq!((waits[0], waits[1], waits[9]), (FIRST_WAIT, 2 * FIRST_WAIT, LONGEST_WAIT));
        again.no_more(&peer);
        assert_eq!(again.next(), None);
    }
}
