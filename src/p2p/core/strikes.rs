//! What each peer has done wrong, by how bad it is, and which peers are banned for it.
//!
//! A strike counts one. What an honest peer does now and then counts a part of one, and all counts fade, so that only
//! who goes on with it is banned. Each ban of a peer is twice as long as its last one.

use super::Limits;
use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// Most peers whose strikes, and whose bans, are remembered.
const MAX_REMEMBERED: usize = 1024;
/// In this time half of what was counted is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(600);

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// No honest program does it: bans at once.
    Fatal,
    /// Hardly an accident: a strike.
    LowTolerance,
    /// An accident at times: a quarter of a strike.
    MidTolerance,
    /// Happens to honest peers under load: a sixteenth.
    HighTolerance,
}

impl Severity {
    fn strikes(self, limit: f64) -> f64 {
        match self {
            Self::Fatal => limit,
            Self::LowTolerance => 1.0,
            Self::MidTolerance => 1.0 / 4.0,
            Self::HighTolerance => 1.0 / 16.0,
        }
    }
}

/// A ban that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NewBan {
    /// How long it holds.
    pub(super) length: Duration,
    /// Whose ban was forgotten for it.
    pub(super) forgotten: Option<PeerId>,
}

/// A ban as it is kept over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// How long it still holds; zero if it only counts for the next one.
    pub left: Duration,
    /// How many bans there were.
    pub times: u32,
}

/// Strikes and bans. They outlive connections, so a peer can't shed them by reconnecting.
#[derive(Debug)]
pub(super) struct Strikes {
    limit: f64,
    first: Duration,
    longest: Duration,
    counts: BTreeMap<PeerId, Count>,
    bans: BTreeMap<PeerId, Banned>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    strikes: f64,
    at: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Banned {
    until: Duration,
    times: u32,
}

impl Count {
    fn now(&self, now: Duration) -> f64 {
        let passed = now.saturating_sub(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.strikes * (-passed).exp2()
    }
}

impl Strikes {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            limit: f64::from(limits.strikes),
            first: limits.banned_for,
            longest: limits.banned_at_most.max(limits.banned_for),
            counts: BTreeMap::new(),
            bans: BTreeMap::new(),
        }
    }

    /// Counts something. If it was too much, the peer is banned and starts afresh after that. A peer that is known is one
    /// that took some time to become so.
    pub(super) fn add(
        &mut self,
        peer: PeerId,
        severity: Severity,
        now: Duration,
        is_known: impl Fn(&PeerId) -> bool,
    ) -> Option<NewBan> {
        // No count is below nothing, and of those that aren't the bits have the same order.
        make_room(&mut self.counts, &peer, |_, count| count.now(now).to_bits());
        let count = self.counts.entry(peer).or_insert(Count { strikes: 0.0, at: now });
        *count = Count { strikes: count.now(now) + severity.strikes(self.limit), at: now };
        // A strike is one too many though those before it have faded a little.
        let enough = self.limit - if severity == Severity::LowTolerance { 0.5 } else { 0.0 };
        if count.strikes < enough {
            return None;
        }
        self.counts.remove(&peer);
        Some(self.ban(peer, now, is_known))
    }

    fn ban(&mut self, peer: PeerId, now: Duration, is_known: impl Fn(&PeerId) -> bool) -> NewBan {
        let times = self.bans.get(&peer).map_or(0, |ban| ban.times).saturating_add(1);
        let length = self.first.saturating_mul(1_u32.checked_shl(times - 1).unwrap_or(u32::MAX)).min(self.longest);
        // Anybody makes new identities, and their bans are worth nothing. So they go before that of one that is known, and
        // before that of one that was banned again and again; and of two alike the one that ends sooner.
        let worth = |other: &PeerId, ban: &Banned| (ban.until > now, is_known(other), ban.times, ban.until);
        let forgotten = make_room(&mut self.bans, &peer, worth).map(|(peer, _)| peer);
        self.bans.insert(peer, Banned { until: now.saturating_add(length), times });
        NewBan { length, forgotten }
    }

    /// How long this peer is still banned, or `None` if it isn't.
    pub(super) fn banned_for(&self, peer: &PeerId, now: Duration) -> Option<Duration> {
        self.bans.get(peer)?.until.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// How much stands against a peer, in sixteenths of a strike: of two that may have a blob, that with less is asked.
    pub(super) fn against(&self, peer: &PeerId, now: Duration) -> u32 {
        self.counts.get(peer).map_or(0, |count| (count.now(now) * 16.0) as u32)
    }

    /// The bans that are to outlive a restart. One that is long over is forgotten: the peer has behaved since.
    pub(super) fn bans(&mut self, now: Duration) -> Vec<(PeerId, Ban)> {
        let longest = self.longest;
        self.bans.retain(|_, ban| ban.until.saturating_add(longest) > now);
        let left = |ban: &Banned| Ban { left: ban.until.saturating_sub(now), times: ban.times };
        self.bans.iter().map(|(peer, ban)| (*peer, left(ban))).collect()
    }

    /// Bans of an earlier run.
    pub(super) fn restore(&mut self, bans: impl IntoIterator<Item = (PeerId, Ban)>, now: Duration) {
        for (peer, Ban { left, times }) in bans.into_iter().take(MAX_REMEMBERED) {
            // A clock that was set back doesn't make them longer.
            let until = now.saturating_add(left.min(self.longest));
            self.bans.insert(peer, Banned { until, times: times.max(1) });
        }
    }
}

/// Forgets the peer with the lowest worth if there is no room for this one.
fn make_room<T, W: Ord>(
    of: &mut BTreeMap<PeerId, T>,
    peer: &PeerId,
    worth: impl Fn(&PeerId, &T) -> W,
) -> Option<(PeerId, T)> {
    if of.len() < MAX_REMEMBERED || of.contains_key(peer) {
        return None;
    }
    let least = of.iter().min_by_key(|(peer, of)| worth(peer, of)).map(|(peer, _)| *peer)?;
    of.remove_entry(&least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Severity::{Fatal, HighTolerance, LowTolerance, MidTolerance};

    const NOW: Duration = Duration::ZERO;
    const MINUTES: fn(u64) -> Duration = |minutes| Duration::from_secs(60 * minutes);

    fn strikes() -> Strikes {
        Strikes::new(&Limits { banned_for: MINUTES(10), banned_at_most: MINUTES(60), ..Limits::default() })
    }

    /// Counts what a peer did that nobody knows. For how long it is banned, if it is.
    fn add(strikes: &mut Strikes, peer: PeerId, severity: Severity, now: Duration) -> Option<Duration> {
        strikes.add(peer, severity, now, |_| false).map(|ban| ban.length)
    }

    /// How many of these ban a peer.
    fn times_to_ban(severity: Severity) -> usize {
        let (mut strikes, peer) = (strikes(), PeerId::random());
        (1..).find(|_| add(&mut strikes, peer, severity, NOW).is_some()).unwrap_or_default()
    }

    #[test]
    fn how_often_it_takes_depends_on_how_bad_it_is() {
        assert_eq!([Fatal, LowTolerance, MidTolerance, HighTolerance].map(times_to_ban), [1, 3, 12, 48]);
    }

    #[test]
    fn the_third_strike_bans_for_a_while() {
        let (mut strikes, peer, other) = (strikes(), PeerId::random(), PeerId::random());
        assert_eq!(add(&mut strikes, peer, LowTolerance, NOW), None);
        assert_eq!(add(&mut strikes, peer, LowTolerance, NOW), None);
        assert_eq!(add(&mut strikes, other, LowTolerance, NOW), None);
        assert_eq!(strikes.banned_for(&peer, NOW), None);
        assert_eq!(add(&mut strikes, peer, LowTolerance, MINUTES(1)), Some(MINUTES(10)));
        assert_eq!(strikes.banned_for(&peer, MINUTES(5)), Some(MINUTES(6)));
        assert_eq!(strikes.banned_for(&peer, MINUTES(11)), None);
        assert_eq!(add(&mut strikes, peer, LowTolerance, MINUTES(11)), None);
    }

    #[test]
    fn what_is_long_ago_is_forgotten() {
        let (mut strikes, peer) = (strikes(), PeerId::random());
        for hour in 0..100 {
            assert_eq!(add(&mut strikes, peer, LowTolerance, MINUTES(60 * hour)), None);
            assert_eq!(add(&mut strikes, peer, MidTolerance, MINUTES(60 * hour)), None);
        }
        assert!(strikes.against(&peer, MINUTES(60 * 99)) > 0);
        assert_eq!(strikes.against(&peer, MINUTES(60 * 200)), 0);
    }

    #[test]
    fn bans_grow_and_are_kept_over_a_restart() {
        let (mut before, peer) = (strikes(), PeerId::random());
        let mut now = NOW;
        for minutes in [10, 20, 40, 60, 60] {
            assert_eq!(add(&mut before, peer, Fatal, now), Some(MINUTES(minutes)));
            now += MINUTES(minutes);
        }
        let mut after = strikes();
        after.restore(before.bans(now - MINUTES(7)), NOW);
        assert_eq!(after.banned_for(&peer, NOW), Some(MINUTES(7)));
        assert_eq!(add(&mut after, peer, Fatal, MINUTES(8)), Some(MINUTES(60)), "it is the sixth");
        assert!(after.bans(MINUTES(1000)).is_empty());
        // A file that says otherwise bans nobody for ever.
        after.restore([(peer, Ban { left: Duration::MAX, times: 0 })], NOW);
        assert_eq!(after.banned_for(&peer, NOW), Some(MINUTES(60)));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_worst_stay() {
        let (mut strikes, worst, banned) = (strikes(), PeerId::random(), PeerId::random());
        add(&mut strikes, worst, LowTolerance, NOW);
        add(&mut strikes, worst, LowTolerance, NOW);
        add(&mut strikes, banned, Fatal, MINUTES(1));
        for severity in [Fatal, LowTolerance] {
            for _ in 0..2 * MAX_REMEMBERED {
                add(&mut strikes, PeerId::random(), severity, NOW);
            }
        }
        assert_eq!((strikes.counts.len(), strikes.bans.len()), (MAX_REMEMBERED, MAX_REMEMBERED));
        assert!(strikes.banned_for(&banned, MINUTES(1)).is_some());
        assert!(add(&mut strikes, worst, LowTolerance, NOW).is_some());
    }

    #[test]
    fn throwaway_bans_push_out_only_their_like() {
        let (mut strikes, known, stubborn, unknown) = (strikes(), PeerId::random(), PeerId::random(), PeerId::random());
        let is_known = |peer: &PeerId| *peer == known;
        assert_eq!(strikes.add(stubborn, Fatal, NOW, is_known).map(|ban| ban.length), Some(MINUTES(10)));
        for peer in [unknown, known] {
            strikes.add(peer, Fatal, MINUTES(10), is_known);
        }
        assert_eq!(strikes.add(stubborn, Fatal, MINUTES(10), is_known).map(|ban| ban.length), Some(MINUTES(20)));
        let mut forgotten = Vec::new();
        for _ in 0..3 * MAX_REMEMBERED {
            forgotten.extend(strikes.add(PeerId::random(), Fatal, MINUTES(11), is_known).and_then(|ban| ban.forgotten));
        }
        assert_eq!((strikes.bans.len(), forgotten.len()), (MAX_REMEMBERED, 2 * MAX_REMEMBERED + 3));
        assert_eq!(forgotten[0], unknown, "the one that ends first");
        assert_eq!(strikes.banned_for(&known, MINUTES(12)), Some(MINUTES(8)));
        assert_eq!(strikes.banned_for(&stubborn, MINUTES(12)), Some(MINUTES(18)));
        // What is over is the first to go, whosever it is.
        let now = MINUTES(20);
        forgotten.extend(strikes.add(PeerId::random(), Fatal, now, is_known).and_then(|ban| ban.forgotten));
        assert_eq!(forgotten.last(), Some(&known));
    }
}
