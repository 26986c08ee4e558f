//! Members to whom there is only a relayed connection: entries go by it, and weights don't.

use super::Core;
use libp2p_identity::PeerId;
use std::{collections::BTreeMap, time::Duration};

/// How long a value waits for the direct connection that a relayed one is tried to be replaced by. Then others are asked,
/// and if there is nobody, it can't be had for now.
const DIRECT_WITHIN: Duration = Duration::from_secs(10);

/// These peers, and since when. As many at most as are connected.
pub(super) type Relayed = BTreeMap<PeerId, Duration>;

impl Core {
    /// Whether a peer is reached by relays alone has changed. Of a peer that isn't connected yet it is said before.
    pub(super) fn relayed(&mut self, peer: PeerId, only: bool) {
        if only {
            self.relayed.entry(peer).or_insert(self.now);
        } else if self.relayed.remove(&peer).is_some() {
            // Nothing that it didn't give meanwhile is its fault.
            self.fetches.forgive(peer);
            self.fetches.wake_all(peer);
        }
    }

    /// Whether weights may be asked of a peer, or told to it.
    pub(super) fn is_direct(&self, peer: &PeerId) -> bool {
        !self.relayed.contains_key(peer)
    }

    /// Until when values wait for a direct connection with somebody.
    pub(super) fn next_direct(&self) -> Option<Duration> {
        let until = self.relayed.values().map(|since| since.saturating_add(DIRECT_WITHIN));
        until.filter(|until| *until > self.now).min().filter(|_| !self.fetches.active.is_empty())
    }

    /// Whether a direct connection with a peer is still waited for.
    pub(super) fn may_become_direct(&self, peer: &PeerId) -> bool {
        self.relayed.get(peer).is_some_and(|since| since.saturating_add(DIRECT_WITHIN) > self.now)
    }
}
