//! Bans as they are kept in the cache for the next run.

use crate::p2p::core::Ban;
use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// The note that they are kept in.
pub(super) const NOTE: &[u8] = b"bans";

#[derive(Serialize, Deserialize)]
struct Kept {
    peer: Vec<u8>,
    /// Seconds since 1970: the node may be down for a part of the ban.
    until: u64,
    times: u32,
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

pub(in crate::p2p) fn encode(bans: &[(PeerId, Ban)], now: SystemTime) -> Vec<u8> {
    let kept = |(peer, ban): &(PeerId, Ban)| Kept {
        peer: peer.to_bytes(),
        until: seconds(now).saturating_add(ban.left.as_secs()),
        times: ban.times,
    };
    let kept: Vec<Kept> = bans.iter().map(kept).collect();
    postcard::to_stdvec(&kept).expect("writing to memory, and no map or sequence without a length")
}

/// What of a note can be read.
pub(in crate::p2p) fn decode(note: &[u8], now: SystemTime) -> Vec<(PeerId, Ban)> {
    let kept: Vec<Kept> = postcard::from_bytes(note).unwrap_or_default();
    let ban = |kept: Kept| {
        let left = Duration::from_secs(kept.until.saturating_sub(seconds(now)));
        Some((PeerId::from_bytes(&kept.peer).ok()?, Ban { left, times: kept.times }))
    };
    kept.into_iter().filter_map(ban).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_a_node_is_down_counts() {
        let ban = |left| Ban { left: Duration::from_secs(left), times: 3 };
        let (one, other, now) = (PeerId::random(), PeerId::random(), SystemTime::now());
        let note = encode(&[(one, ban(60)), (other, ban(0))], now);
        assert_eq!(decode(&note, now), [(one, ban(60)), (other, ban(0))]);
        assert_eq!(decode(&note, now + Duration::from_secs(20)), [(one, ban(40)), (other, ban(0))]);
        assert_eq!(decode(&note, now + Duration::from_secs(100))[0], (one, ban(0)));
        assert!(decode(&note[1..], now).is_empty() && decode(b"", now).is_empty());
    }
}
