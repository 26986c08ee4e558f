//! How often a bucket is looked at when nobody asks for it.

use std::{ops::RangeInclusive, time::Duration};

/// Doubles the time between two looks as long as they find nothing.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    bounds: RangeInclusive<Duration>,
    now: Duration,
}

impl Pace {
    /// From the shortest time to the longest.
    pub(crate) fn new(bounds: RangeInclusive<Duration>) -> Self {
        Self { now: *bounds.start(), bounds }
    }

    /// The time until the next look, after one that has found something new or not.
    pub(crate) fn after(&mut self, news: bool) -> Duration {
        let next = if news { *self.bounds.start() } else { self.now };
        self.now = next.saturating_mul(2).min(*self.bounds.end()).max(*self.bounds.start());
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_until_there_is_news() {
        let seconds = Duration::from_secs;
        let mut pace = Pace::new(seconds(1)..=seconds(5));
        let mut after = |news| pace.after(news).as_secs();
        let quiet = [after(false), after(false), after(false), after(false), after(false)];
        assert_eq!(quiet, [1, 2, 4, 5, 5]);
        assert_eq!([after(true), after(false), after(false)], [1, 2, 4]);
        // Bounds the wrong way around.
        let mut pace = Pace::new(seconds(9)..=seconds(5));
        assert_eq!([pace.after(false), pace.after(false)], [seconds(9), seconds(9)]);
    }
}
