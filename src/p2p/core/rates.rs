//! How much each peer, and all of them together, may do in a while: token buckets, without a clock.

use libp2p_identity::PeerId;
use std::{collections::BTreeMap, time::Duration};

/// Most peers whose buckets are kept. A full bucket says nothing and is the first to go.
const MAX_BUCKETS: usize = 1024;

/// A rate with a burst: what fills a bucket, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens that come back in a second.
    pub per_second: f64,
    /// Tokens that a rested bucket holds.
    pub burst: f64,
}

impl Rate {
    /// So much a second, and at once what a rested peer has saved in so many seconds.
    pub fn new(per_second: f64, seconds: f64) -> Self {
        Self { per_second, burst: (per_second * seconds).max(1.0) }
    }

    /// So much a second, or without a bound if it is nothing.
    pub fn bounded(per_second: u64) -> Self {
        match per_second {
            0 => Self { per_second: f64::MAX, burst: f64::MAX },
            bound => Self::new(bound as f64, 1.0),
        }
    }

    /// At most `most` in any span of this length: half of it at once, and half of it over the span.
    pub fn at_most(most: f64, span: Duration) -> Self {
        let half = (most / 2.0).max(1.0);
        Self { per_second: half / span.as_secs_f64().max(f64::MIN_POSITIVE), burst: half }
    }

    fn halved(self) -> Self {
        Self { per_second: self.per_second / 2.0, burst: (self.burst / 2.0).max(1.0) }
    }
}

/// Tokens, as they were at some moment.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Duration,
}

impl Bucket {
    fn at(&self, rate: Rate, now: Duration) -> Self {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        Self { left: (self.left + passed * rate.per_second).min(rate.burst), at: self.at.max(now) }
    }

    /// How long until it owes nothing.
    fn owes_for(&self, rate: Rate) -> Duration {
        Duration::try_from_secs_f64((-self.left).max(0.0) / rate.per_second).unwrap_or(Duration::MAX)
    }

    /// Whether so much may be taken. More than a full bucket may be taken from a full one, which then owes the rest:
    /// otherwise one thing larger than the burst would never be allowed.
    fn has(&self, rate: Rate, amount: f64) -> bool {
        self.left >= amount.min(rate.burst)
    }
}

/// What may be done now and how soon again, whoever it is for.
#[derive(Debug)]
pub(super) struct Allowance {
    rate: Rate,
    bucket: Bucket,
}

impl Allowance {
    /// With a full bucket.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, bucket: Bucket { left: rate.burst, at: Duration::ZERO } }
    }

    pub(super) fn has(&self, now: Duration) -> bool {
        self.bucket.at(self.rate, now).has(self.rate, 1.0)
    }

    pub(super) fn take(&mut self, now: Duration) {
        self.bucket = self.bucket.at(self.rate, now);
        self.bucket.left -= 1.0;
    }

    pub(super) fn give_back(&mut self) {
        self.bucket.left = (self.bucket.left + 1.0).min(self.rate.burst);
    }

    /// When there is one again.
    pub(super) fn next(&self) -> Duration {
        let missing = (1.0 - self.bucket.left).max(0.0) / self.rate.per_second;
        // Not a nanosecond too soon, or it would be looked for again and again.
        let wait = Duration::try_from_secs_f64(missing).unwrap_or(Duration::MAX);
        self.bucket.at.saturating_add(wait).saturating_add(Duration::from_micros(1))
    }
}

/// What a peer asks of its rate, and of everybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It may.
    Within,
    /// It does too much.
    Over,
    /// All of them together do too much; the peer itself may not be to blame.
    AllOver,
}

/// The buckets of peers, and the one of all of them. Half of that is kept for trusted peers, so that strangers leave
/// them at least that much, however many there are. Buckets outlive connections: reconnecting fills none.
#[derive(Debug)]
pub struct Rates {
    each: Rate,
    all: Rate,
    of_all: Bucket,
    of_strangers: Bucket,
    of_peers: BTreeMap<PeerId, Bucket>,
}

impl Rates {
    /// Full buckets.
    pub fn new(each: Rate, all: Rate) -> Self {
        let full = |rate: Rate| Bucket { left: rate.burst, at: Duration::ZERO };
        Self { each, all, of_all: full(all), of_strangers: full(all.halved()), of_peers: BTreeMap::new() }
    }

    /// Takes so much for a peer, or nothing if that is too much.
    pub fn take(&mut self, peer: PeerId, trusted: bool, amount: f64, now: Duration) -> Taken {
        let (each, all, half) = (self.each, self.all, self.all.halved());
        let own = self.filled(peer, now);
        if !own.has(each, amount) {
            return Taken::Over;
        }
        if !self.of_all.has(all, amount) || !trusted && !self.of_strangers.has(half, amount) {
            return Taken::AllOver;
        }
        self.charge(peer, trusted, amount, now);
        Taken::Within
    }

    /// How long a peer has to wait until neither it nor all of them together owe anything.
    pub fn wait(&mut self, peer: PeerId, trusted: bool, now: Duration) -> Duration {
        let (each, all, half) = (self.each, self.all, self.all.halved());
        let own = self.filled(peer, now).owes_for(each);
        let of_strangers = if trusted { Duration::ZERO } else { self.of_strangers.owes_for(half) };
        own.max(self.of_all.owes_for(all)).max(of_strangers)
    }

    /// Takes so much for a peer, however much it owes after that; or gives so much back, if it is negative.
    pub fn charge(&mut self, peer: PeerId, trusted: bool, amount: f64, now: Duration) {
        self.filled(peer, now);
        if let Some(own) = self.of_peers.get_mut(&peer) {
            own.left -= amount;
        }
        self.of_all.left -= amount;
        if !trusted {
            self.of_strangers.left -= amount;
        }
    }

    /// A peer's bucket, and those of all, as they are now.
    fn filled(&mut self, peer: PeerId, now: Duration) -> Bucket {
        let (each, all) = (self.each, self.all);
        self.make_room(&peer, now);
        let own = self.of_peers.entry(peer).or_insert(Bucket { left: each.burst, at: now });
        *own = own.at(each, now);
        let own = *own;
        self.of_all = self.of_all.at(all, now);
        self.of_strangers = self.of_strangers.at(all.halved(), now);
        own
    }

    /// Forgets the fullest bucket if there is no room for one more.
    fn make_room(&mut self, peer: &PeerId, now: Duration) {
        if self.of_peers.len() < MAX_BUCKETS || self.of_peers.contains_key(peer) {
            return;
        }
        let each = self.each;
        self.of_peers.retain(|_, bucket| bucket.at(each, now).left < each.burst);
        while self.of_peers.len() >= MAX_BUCKETS {
            let left = |bucket: &Bucket| bucket.at(each, now).left;
            let fullest = self.of_peers.iter().max_by(|(_, a), (_, b)| left(a).total_cmp(&left(b)));
            let Some(fullest) = fullest.map(|(peer, _)| *peer) else { return };
            self.of_peers.remove(&fullest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_owes_waits_and_what_is_given_back_counts() {
        let mut rates = Rates::new(Rate::bounded(10), Rate::bounded(40));
        let (peer, other) = (PeerId::random(), PeerId::random());
        rates.charge(peer, true, 30.0, Duration::ZERO);
        assert_eq!(rates.wait(peer, true, Duration::ZERO), seconds(2));
        assert_eq!(rates.wait(peer, true, seconds(1)), seconds(1));
        assert_eq!(rates.wait(other, true, seconds(1)), Duration::ZERO);
        rates.charge(peer, true, -10.0, seconds(1));
        assert_eq!(rates.wait(peer, true, seconds(1)), Duration::ZERO);
        // What all of them owe, all wait for, and strangers for their half.
        rates.charge(other, false, 60.0, seconds(1));
        assert_eq!(rates.wait(PeerId::random(), false, seconds(1)), seconds(2));
        assert!(rates.wait(PeerId::random(), true, seconds(1)) < seconds(1));
        let mut unbounded = Rates::new(Rate::bounded(0), Rate::bounded(0));
        unbounded.charge(peer, false, 1e18, Duration::ZERO);
        assert_eq!(unbounded.wait(peer, false, Duration::ZERO), Duration::ZERO);
    }

    /// How many of these the peer gets.
    fn takes(rates: &mut Rates, peer: PeerId, trusted: bool, times: usize, now: Duration) -> usize {
        (0..times).filter(|_| rates.take(peer, trusted, 1.0, now) == Taken::Within).count()
    }

    #[test]
    fn a_peer_has_its_burst_and_then_its_rate() {
        let mut rates = Rates::new(Rate::new(5.0, 4.0), Rate::new(1000.0, 1.0));
        let (peer, other) = (PeerId::random(), PeerId::random());
        assert_eq!(takes(&mut rates, peer, true, 100, seconds(0)), 20);
        assert_eq!(rates.take(peer, true, 1.0, seconds(0)), Taken::Over);
        assert_eq!(takes(&mut rates, other, true, 100, seconds(0)), 20, "another's bucket");
        assert_eq!(takes(&mut rates, peer, true, 100, seconds(2)), 10);
        assert_eq!(takes(&mut rates, peer, true, 100, seconds(1000)), 20, "no more than its burst");
    }

    #[test]
    fn strangers_leave_half_to_the_trusted() {
        let mut rates = Rates::new(Rate::new(50.0, 1.0), Rate::new(100.0, 1.0));
        let got: usize = (0..50).map(|_| takes(&mut rates, PeerId::random(), false, 50, seconds(0))).sum();
        assert_eq!(got, 50);
        assert_eq!(rates.take(PeerId::random(), false, 1.0, seconds(0)), Taken::AllOver);
        assert_eq!(takes(&mut rates, PeerId::random(), true, 100, seconds(0)), 50);
    }

    #[test]
    fn no_span_sees_more_than_the_most() {
        let (most, span) = (1000, seconds(10));
        let mut rates = Rates::new(Rate::new(1e9, 1.0), Rate::at_most(most as f64, span));
        let taken: Vec<usize> = (0..1000)
            .map(|at| takes(&mut rates, PeerId::random(), true, 100, Duration::from_millis(100 * at)))
            .collect();
        for window in taken.windows(100) {
            assert!(window.iter().sum::<usize>() <= most);
        }
        assert!(taken.iter().sum::<usize>() > most * 4, "but it goes on");
    }

    #[test]
    fn something_larger_than_the_burst_is_let_through_and_owed() {
        let mut rates = Rates::new(Rate::new(10.0, 1.0), Rate::new(1000.0, 1.0));
        let peer = PeerId::random();
        assert_eq!(rates.take(peer, true, 50.0, seconds(0)), Taken::Within);
        assert_eq!(rates.take(peer, true, 1.0, seconds(4)), Taken::Over);
        assert_eq!(rates.take(peer, true, 1.0, seconds(5)), Taken::Within);
    }

    #[test]
    fn the_buckets_are_bounded_and_the_emptiest_stay() {
        let mut rates = Rates::new(Rate::new(1.0, 10.0), Rate::new(1e9, 1.0));
        let worst = PeerId::random();
        assert_eq!(takes(&mut rates, worst, true, 100, seconds(0)), 10);
        for _ in 0..3 * MAX_BUCKETS {
            takes(&mut rates, PeerId::random(), true, 1, seconds(0));
        }
        assert!(rates.of_peers.len() <= MAX_BUCKETS);
        assert_eq!(rates.take(worst, true, 1.0, seconds(0)), Taken::Over);
    }
}
