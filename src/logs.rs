//! What a node's program logs: which lines, and of the warnings that others can cause a few of each kind a minute, and a
//! count of the rest.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tracing::{Event, Level, Metadata, callsite::Identifier};
use tracing_subscriber::layer::{Context, Filter};

/// What is logged of a node, as `RUST_LOG` says it. Kademlia only warns that a node is alone, the others of what other peers
/// do, and AWS' SDK only repeats the error as Rust data.
pub const NODE: &str = "warn,libp2p_kad=error,libp2p_autonat=error,libp2p_relay=error,libp2p_dcutr=error,\
                        quinn_udp=error,aws_config=off,exec=info";

const SPAN: Duration = Duration::from_secs(60);
/// Warnings of one kind that are told in a minute.
const TOLD: u64 = 10;
/// Where such warnings come from: peers can make a program say these as often as they like.
const SOURCES: [&str; 3] = ["libp2p", "yamux", "peerfold::p2p::network"];

/// Lets a few warnings of each kind through. A kind is a place in the source, so there are only so many.
pub struct Gathered {
    kinds: Mutex<HashMap<Identifier, Kind>>,
    tell: fn(&str),
}

impl Gathered {
    /// With `tell` it says how many were left out, before the next of their kind. It is called while an event is made, so it
    /// must make none.
    pub fn new(tell: fn(&str)) -> Self {
        Self { kinds: Mutex::default(), tell }
    }
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    since: Instant,
    times: u64,
}

/// What becomes of a warning.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Told,
    /// And so many before it were not.
    ToldAfter(u64),
    Counted,
}

impl Kind {
    fn one_more(&mut self, now: Instant) -> Fate {
        if now.duration_since(self.since) >= SPAN {
            let untold = self.times.saturating_sub(TOLD);
            *self = Self { since: now, times: 1 };
            return if untold > 0 { Fate::ToldAfter(untold) } else { Fate::Told };
        }
        self.times += 1;
        if self.times <= TOLD { Fate::Told } else { Fate::Counted }
    }
}

impl<S> Filter<S> for Gathered {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || !SOURCES.iter().any(|source| metadata.target().starts_with(source)) {
            return true;
        }
        let now = Instant::now();
        let fate = {
            let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
            kinds.entry(metadata.callsite()).or_insert(Kind { since: now, times: 0 }).one_more(now)
        };
        if let Fate::ToldAfter(untold) = fate {
            let target = metadata.target();
            (self.tell)(&format!("{untold} more warnings like the next one from {target} were left out"));
        }
        fate != Fate::Counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_a_minute_are_told_and_the_rest_is_counted() {
        let began = Instant::now();
        let mut kind = Kind { since: began, times: 0 };
        let told = (0..28_000).filter(|_| kind.one_more(began) == Fate::Told).count();
        assert_eq!(told, TOLD as usize);
        assert_eq!(kind.one_more(began + SPAN), Fate::ToldAfter(27_990));
        assert_eq!(kind.one_more(began + 3 * SPAN), Fate::Told);
    }
}
