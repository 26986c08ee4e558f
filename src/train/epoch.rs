//! How long an epoch is: a number of steps, or a period of time.

use std::time::Duration;

/// Steps that an epoch of a fixed time has room for in the data order: more than any processor does in one.
const STEPS_OF_A_PERIOD: u64 = 1 << 32;

/// How much training an epoch is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EpochLength {
    /// So many steps, on every node.
    Steps(u64),
    /// As many steps as fit in this time, at least one: a quick node does more of them than a slow one, and both are
    /// done at the same time (Stripelis et al., 2022, semi-synchronous federated learning, arXiv:2102.02849).
    Period(Duration),
}

impl EpochLength {
    /// The number of the first step of epoch `epoch`, from 1, in the order of the data. It follows from the epoch's
    /// number, however many steps the earlier epochs came to, so that a checkpoint between epochs needs no cursor.
    pub fn first_step(self, epoch: u64) -> u64 {
        epoch.saturating_sub(1).saturating_mul(self.most_steps())
    }

    pub(super) fn most_steps(self) -> u64 {
        match self {
            Self::Steps(steps) => steps,
            Self::Period(_) => STEPS_OF_A_PERIOD,
        }
    }
}

/// Whether one more step would end within the period, if it takes as long as the average so far.
pub(super) fn has_room(period: Duration, elapsed: Duration, done: u64) -> bool {
    done == 0 || elapsed.as_secs_f64() / done as f64 * (done + 1) as f64 <= period.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_room_for_the_whole_steps_that_fit_and_for_one_in_any_case() {
        let milliseconds = Duration::from_millis;
        for (period, step, fit) in [(100, 30, 3), (90, 30, 3), (89, 30, 2), (30, 30, 1), (10, 30, 1), (0, 30, 1)] {
            let done = (0..).find(|&done| !has_room(milliseconds(period), milliseconds(step * done), done));
            assert_eq!(done, Some(fit), "steps of {step} in {period}");
        }
    }

    #[test]
    fn epochs_have_steps_of_their_own() {
        let steps = EpochLength::Steps(60);
        assert_eq!([1, 2, 4].map(|epoch| steps.first_step(epoch)), [0, 60, 180]);
        let period = EpochLength::Period(Duration::from_secs(1));
        assert_eq!([1, 2, 1_000_000_000].map(|epoch| period.first_step(epoch)), [0, 1 << 32, 999_999_999 << 32]);
        assert_eq!(period.first_step(u64::MAX), u64::MAX);
    }
}
