//! How fast a peer gives blobs, and so how much it is asked for at once, and when it is late.

use std::time::Duration;

/// A peer is asked for what it gives in this time, so that a slow line isn't asked for more than it carries before a request
/// times out.
const AHEAD: Duration = Duration::from_secs(4);
/// The least that it is asked for.
const LEAST: u64 = 1 << 20;
/// How long an answer may take at least before the same is asked for elsewhere.
const SOONEST_LATE: Duration = Duration::from_secs(2);
/// How long it is expected to take where nothing is known.
const UNKNOWN: Duration = Duration::from_secs(1);
/// Times what it should take after which an answer is late.
const LATE: u32 = 3;

/// The pace of one peer, from its first connection to the end of its last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Bytes a second, as lately measured.
    rate: Option<f64>,
    /// Requests at once.
    window: usize,
}

impl Default for Pace {
    /// Two requests, until it is known how long they take.
    fn default() -> Self {
        Self { rate: None, window: 2 }
    }
}

impl Pace {
    /// How many bytes more it may be asked for, with so many requests of so many bytes under way. 0 if none. The first
    /// request for a value needn't wait for those for others.
    pub(super) fn room(&self, requests: usize, bytes: u64, most_requests: usize, is_first: bool) -> u64 {
        let most_requests = most_requests.max(1);
        if requests >= if is_first { most_requests } else { self.window.min(most_requests) } {
            return 0;
        }
        let ahead = self.rate.map_or(u64::MAX, |rate| (rate * AHEAD.as_secs_f64()) as u64).max(LEAST);
        if is_first { ahead.saturating_sub(bytes).max(LEAST) } else { ahead.saturating_sub(bytes) }
    }

    /// It has answered: so many bytes were under way when it was asked, and it took so long.
    pub(super) fn answered(&mut self, bytes: u64, took: Duration, most_requests: usize) {
        self.window = (self.window + 1).min(most_requests.max(1));
        if bytes < LEAST / 16 {
            // That says more of the way there and back.
            return;
        }
        let now = bytes as f64 / took.as_secs_f64().max(1e-4);
        self.rate = Some(self.rate.map_or(now, |rate| (rate + now) / 2.0));
    }

    /// How long a chunk takes from it, if that is known.
    pub(super) fn chunk_takes(&self) -> Option<Duration> {
        self.rate.map(|rate| Duration::from_secs_f64((LEAST as f64 / rate.max(1.0)).min(3600.0)))
    }

    /// It hasn't, or is late.
    pub(super) fn failed(&mut self) {
        self.window = 1;
        self.rate = self.rate.map(|rate| rate / 2.0);
    }

    /// How long it may take to answer when so many bytes are under way before it is late.
    pub(super) fn late_after(&self, bytes: u64) -> Duration {
        let seconds = self.rate.map_or(UNKNOWN.as_secs_f64(), |rate| bytes as f64 / rate.max(1.0));
        Duration::from_secs_f64(seconds.min(3600.0)).saturating_mul(LATE).max(SOONEST_LATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_line_is_asked_for_little_and_a_fast_one_for_much() {
        let mut slow = Pace::default();
        assert_eq!((slow.room(0, 0, 4, true), slow.room(2, 1, 4, false)), (u64::MAX, 0));
        slow.answered(1 << 20, Duration::from_secs(20), 4);
        // 50 KiB a second: one chunk of a value at a time.
        assert_eq!((slow.room(0, 0, 4, true), slow.room(1, 1 << 20, 4, false)), (LEAST, 0));
        assert_eq!((slow.room(1, 1 << 20, 4, true), slow.room(4, 4 << 20, 4, true)), (LEAST, 0));
        assert!(slow.late_after(1 << 20) > Duration::from_secs(50));
        let mut fast = Pace::default();
        for _ in 0..5 {
            fast.answered(1 << 21, Duration::from_millis(20), 4);
        }
        assert!(fast.room(3, 6 << 20, 4, false) > 100 << 20);
        assert_eq!(fast.room(4, 8 << 20, 4, false), 0);
        assert_eq!(fast.late_after(8 << 20), SOONEST_LATE);
        fast.failed();
        assert_eq!(fast.room(1, 1, 4, false), 0);
    }
}
