//! How many of the events that peers can cause are told one by one.

use std::time::{Duration, Instant};

/// Whoever makes itself many names can cause any number of events, so only so many are told in a while.
const TOLD: u32 = 100;
const WHILE: Duration = Duration::from_secs(60);

/// Counts the events of one kind.
#[derive(Debug)]
pub(super) struct ToldSingly {
    left: u32,
    again: Instant,
    untold: u64,
}

impl ToldSingly {
    pub(super) fn new(now: Instant) -> Self {
        Self { left: TOLD, again: now + WHILE, untold: 0 }
    }

    /// There is one more. Says whether it is to be told, and how many were not in the while before, once that is over.
    pub(super) fn one_more(&mut self, now: Instant) -> (bool, Option<u64>) {
        let mut before = None;
        if now >= self.again {
            before = Some(self.untold).filter(|untold| *untold > 0);
            *self = Self::new(now);
        }
        let tells = self.left > 0;
        self.left = self.left.saturating_sub(1);
        self.untold += u64::from(!tells);
        (tells, before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_told_in_a_while_and_the_rest_counted() {
        let began = Instant::now();
        let mut told = ToldSingly::new(began);
        let one_by_one = (0..150).filter(|_| told.one_more(began) == (true, None)).count();
        assert_eq!(one_by_one, 100);
        assert_eq!(told.one_more(began + WHILE), (true, Some(50)));
        assert_eq!(told.one_more(began + 3 * WHILE), (true, None));
    }
}
