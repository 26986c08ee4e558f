//! When a demo cuts the network and the bucket, and restores them.

/// What happens to a route between the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    NetworkDown,
    NetworkUp,
    BucketDown,
    BucketUp,
}

/// What is still to happen, each when all nodes have completed a number of epochs.
pub(super) struct Cuts {
    coming: Vec<(u64, Cut)>,
}

impl Cuts {
    /// With fewer epochs the cuts would coincide.
    pub(super) const LEAST_EPOCHS: u64 = 8;

    /// Nothing happens.
    pub(super) fn none() -> Self {
        Self { coming: Vec::new() }
    }

    /// The network is away in the second quarter of the epochs, the bucket for an eighth soon after. More than a
    /// quarter is left in which nodes can learn that the bucket answers again; those that are slower do while they stay.
    pub(super) fn over(epochs: u64) -> Self {
        let sixteenths = |part: u64| epochs / 16 * part + (epochs % 16 * part).div_ceil(16);
        let mut coming = vec![
            (sixteenths(4), Cut::NetworkDown),
            (sixteenths(8), Cut::NetworkUp),
            (sixteenths(9), Cut::BucketDown),
            (sixteenths(11), Cut::BucketUp),
        ];
        coming.reverse();
        Self { coming }
    }

    /// What happens next, if it is time for it now that all have completed this many epochs.
    pub(super) fn due(&mut self, done: u64) -> Option<Cut> {
        self.coming.pop_if(|(at, _)| *at <= done).map(|(_, cut)| cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_happens_once_and_in_order() {
        let mut cuts = Cuts::over(32);
        assert_eq!(cuts.due(7), None);
        assert_eq!([cuts.due(8), cuts.due(8), cuts.due(15)], [Some(Cut::NetworkDown), None, None]);
        // The slowest has got far all at once.
        let rest = [cuts.due(99), cuts.due(99), cuts.due(99), cuts.due(99)];
        assert_eq!(rest, [Some(Cut::NetworkUp), Some(Cut::BucketDown), Some(Cut::BucketUp), None]);
        assert_eq!(Cuts::none().due(99), None);
        let mut at_least = Cuts::over(Cuts::LEAST_EPOCHS);
        let times: Vec<u64> = (0..=Cuts::LEAST_EPOCHS).filter(|&done| at_least.due(done).is_some()).collect();
        assert_eq!(times, [2, 4, 5, 6]);
    }
}
