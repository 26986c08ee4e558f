//! The order in which examples are trained on: a function of the seed and the step, so that a restart needs no history.

use super::Draws;

/// The order in which examples are trained on: an endless sequence of passes, each over all examples in an order of
/// its own, cut into batches.
///
/// It is a function of the seed, the number of examples and the batch size, so a checkpoint needs to remember only how
/// many steps were done. A batch may extend from one pass into the next, or be longer than several passes.
#[derive(Debug, Clone)]
pub struct BatchOrder {
    seed: u64,
    examples: usize,
    batch: usize,
    /// The last pass used; consecutive steps mostly need the same one.
    cached: Option<(u128, Vec<u32>)>,
}

impl BatchOrder {
    /// The order for this many examples (at most 2³²) in batches of `batch`.
    pub fn new(seed: u64, examples: usize, batch: usize) -> Self {
        Self { seed, examples, batch, cached: None }
    }

    /// The examples of step `step`, exactly `batch` of them; none if there are no examples.
    pub fn batch(&mut self, step: u64) -> Vec<usize> {
        let (examples, batch) = (self.examples as u128, self.batch as u128);
        if examples == 0 {
            return Vec::new();
        }
        let start = u128::from(step) * batch;
        let positions = start..start + batch;
        positions.map(|position| self.pass(position / examples)[(position % examples) as usize] as usize).collect()
    }

    /// How many different examples the steps `first_step..first_step + steps` see.
    pub fn different(&mut self, first_step: u64, steps: u64) -> usize {
        let (examples, batch) = (self.examples as u128, self.batch as u128);
        if examples == 0 {
            return 0;
        }
        let (start, end) = (u128::from(first_step) * batch, (u128::from(first_step) + u128::from(steps)) * batch);
        if start.next_multiple_of(examples) + examples <= end {
            return self.examples;
        }
        // Parts of two passes at most.
        let mut seen = vec![false; self.examples];
        for position in start..end {
            seen[self.pass(position / examples)[(position % examples) as usize] as usize] = true;
        }
        seen.into_iter().filter(|&seen| seen).count()
    }

    fn pass(&mut self, number: u128) -> &[u32] {
        let (seed, examples) = (self.seed, self.examples);
        let cached = self.cached.take().filter(|(pass, _)| *pass == number);
        let (_, order) = self.cached.insert(cached.unwrap_or_else(|| {
            let mut order: Vec<u32> = (0..examples as u64).map(|index| index as u32).collect();
            Draws::new("data order", seed, &number.to_le_bytes()).shuffle(&mut order);
            (number, order)
        }));
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_pass_visits_every_example_once(seed: u64, examples in 1usize..40, batch in 1usize..100) {
            let mut order = BatchOrder::new(seed, examples, batch);
            let passes = 3;
            let stream: Vec<usize> = (0..).flat_map(|step| order.batch(step)).take(passes * examples).collect();
            for pass in stream.chunks(examples) {
                let mut pass = pass.to_vec();
                pass.sort_unstable();
                prop_assert_eq!(pass, (0..examples).collect::<Vec<_>>());
            }
        }

        #[test]
        fn a_step_needs_no_history(seed: u64, examples in 1usize..40, batch in 1usize..100, step in 0u64..50) {
            let mut walked = BatchOrder::new(seed, examples, batch);
            let walked = (0..=step).map(|step| walked.batch(step)).last();
            prop_assert_eq!(walked, Some(BatchOrder::new(seed, examples, batch).batch(step)));
        }
    }

    proptest! {
        #[test]
        fn different_examples_are_counted_once(
            seed: u64, examples in 0usize..40, batch in 1usize..30, first in 0u64..(1 << 34), steps in 0u64..12,
        ) {
            let mut order = BatchOrder::new(seed, examples, batch);
            let seen: std::collections::BTreeSet<_> = (first..first + steps).flat_map(|step| order.batch(step)).collect();
            prop_assert_eq!(order.different(first, steps), seen.len());
        }
    }

    #[test]
    fn passes_and_seeds_differ() {
        let mut order = BatchOrder::new(1, 50, 50);
        assert_ne!(order.batch(0), order.batch(1));
        assert_ne!(order.batch(0), BatchOrder::new(2, 50, 50).batch(0));
        assert_eq!(order.batch(u64::MAX).len(), 50);
        assert!(BatchOrder::new(1, 0, 8).batch(3).is_empty());
    }
}
