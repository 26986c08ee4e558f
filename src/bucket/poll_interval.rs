//! How often to look at a bucket when nobody asks for it.

use std::{ops::RangeInclusive, time::Duration};

/// The time between two looks, which grows by a quarter as long as they find nothing.
///
/// The next wait is always about a quarter of the total so far, so nodes that wait for each other in turn delay each
/// other by no more than that.
#[derive(Debug, Clone)]
pub(crate) struct PollInterval {
    bounds: RangeInclusive<Duration>,
    now: Duration,
}

impl PollInterval {
    /// From the shortest time to the longest.
    pub(crate) fn new(bounds: RangeInclusive<Duration>) -> Self {
        Self { now: *bounds.start(), bounds }
    }

    /// The time until the next look, after one that has found something new or not.
    pub(crate) fn after(&mut self, news: bool) -> Duration {
        let next = if news { *self.bounds.start() } else { self.now };
        self.now = (next.saturating_mul(5) / 4).min(*self.bounds.end()).max(*self.bounds.start());
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_until_there_is_news() {
        let seconds = Duration::from_secs;
        let mut interval = PollInterval::new(seconds(16)..=seconds(30));
        let mut after = |news| interval.after(news).as_secs();
        let quiet = [after(false), after(false), after(false), after(false), after(false)];
        assert_eq!(quiet, [16, 20, 25, 30, 30]);
        assert_eq!([after(true), after(false), after(false)], [16, 20, 25]);
        // Bounds in the wrong order.
        let mut interval = PollInterval::new(seconds(9)..=seconds(5));
        assert_eq!([interval.after(false), interval.after(false)], [seconds(9), seconds(9)]);
    }
}
