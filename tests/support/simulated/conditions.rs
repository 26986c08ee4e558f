//! What a simulated network is like: how long messages take, how fast a node sends, what is lost.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// What a simulated network is like.
#[derive(Debug, Clone)]
pub struct Conditions {
    pub latency: Latency,
    /// Bytes a second that a node sends, shared among all that it sends at once. `None`: no bound.
    pub upload: Option<u64>,
    /// After which a request without an answer has failed.
    pub timeout: Duration,
    /// How often a node syncs with a random member.
    pub sync_every: Duration,
    /// Whether a hash is taken over all that the cores put out.
    pub traced: bool,
}

/// How long a message is on its way, beside what it takes to send it.
#[derive(Debug, Clone, Copy)]
pub enum Latency {
    /// Up to this, drawn for each message, so that they come in any order; and some come twice.
    Any(Duration),
    /// Each pair of nodes has a latency of its own between these, and each message up to a fifth more.
    OfPair(Duration, Duration),
}

impl Conditions {
    /// One on which nothing can be relied.
    pub fn bad() -> Self {
        Self {
            latency: Latency::Any(Duration::from_millis(300)),
            upload: None,
            timeout: Duration::from_secs(5),
            sync_every: Duration::from_secs(20),
            traced: false,
        }
    }

    /// The internet on a good day: 5 to 150 ms one way, 20 Mbit/s up. A request has the 20 seconds and a sync the minute
    /// that they have by default.
    pub fn internet() -> Self {
        Self {
            latency: Latency::OfPair(Duration::from_millis(5), Duration::from_millis(150)),
            upload: Some(2_500_000),
            timeout: Duration::from_secs(20),
            sync_every: Duration::from_secs(60),
            traced: false,
        }
    }
}

impl Latency {
    pub fn draw(self, random: &mut ChaCha8Rng, from: usize, to: usize) -> Duration {
        match self {
            Self::Any(most) => Duration::from_micros(random.random_range(100..most.as_micros() as u64)),
            Self::OfPair(least, most) => {
                let (one, other) = (from.min(to) as u64, from.max(to) as u64);
                // SplitMix64: the same for a pair whatever was drawn before.
                let mut mixed = (one << 32 | other).wrapping_add(0x9e37_79b9_7f4a_7c15);
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                let part = (mixed ^ (mixed >> 31)) as f64 / u64::MAX as f64;
                (least + (most - least).mul_f64(part)).mul_f64(random.random_range(1.0..1.2))
            }
        }
    }

    /// Whether messages may come twice.
    pub fn repeats(self) -> bool {
        matches!(self, Self::Any(_))
    }
}
