//! Which updates of a fold are far out of line with the others, by their lengths and their directions.
//!
//! The updates are read once, as differences to the weights that they were trained from. What is decided follows from
//! the products of these differences alone.

use super::{
    FoldError, Round, Update,
    reduce::{sum_of, sums},
    source::{Input, Source},
};
use crate::weights::{Layout, Weights};
use std::fmt;

/// Fewest others that an update can be compared with: among fewer, one liar can make an honest one look like one.
pub const FEWEST_OTHERS: usize = 3;
/// Most updates that are compared with each other. More are drawn into several groups, so that the work of a fold grows
/// with the number of its updates and not with its square.
const GROUP: usize = 32;
/// An update is too long only if it is so many times as long as the median: one node may well train five times as many
/// steps as another,
const TIMES_THE_MEDIAN: f64 = 5.0;
/// and if it is so many standard deviations above it, estimated by the median distance to the median.
pub(super) const DEVIATIONS: f64 = 6.0;
/// The standard deviation of a normal distribution is so many times its median distance to the median.
pub(super) const DEVIATION_OF_MAD: f64 = 1.4826;
/// And only if it is longer than this part of the weights themselves: updates that are nearly equal are all in line.
const LEAST_OF_WEIGHTS: f64 = 1e-3;
/// Shorter than this part of the median, an update does no harm wherever it points to.
const HARMLESS: f64 = 0.2;
/// The others point in one direction if the median of their cosines is at least this. Where each node pulls towards its
/// own data, as all do in the end if their data differ, there is no direction to go against.
const AGREED: f64 = 0.1;
/// An update goes against them if its cosines to them have a median below minus this part of that.
const AGAINST: f64 = 0.5;

/// How an update is out of line with the others of its fold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OutOfLine {
    /// It differs far more than the others from the weights that the node's epoch began with.
    TooLong {
        /// By how much, as a Euclidean norm.
        length: f64,
        /// The median of the fold.
        median: f64,
    },
    /// It goes against the direction in which the others go.
    Against {
        /// The median of its cosines to the others.
        cosine: f64,
        /// The median of theirs.
        others: f64,
    },
    /// It is far worse than the others on examples of the folding node's own.
    Worse {
        /// Its loss on them.
        loss: f64,
        /// The median of the fold.
        median: f64,
        /// The loss of the weights that the node's epoch began with.
        began: f64,
    },
}

impl fmt::Display for OutOfLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { length, median } => {
                write!(
                    f,
                    "its norm, as a difference to where the epoch began, is {length:.4}; the median is {median:.4}"
                )
            }
            Self::Worse { loss, median, began } => {
                write!(
                    f,
                    "its loss on this node's validation part is {loss:.3}; the median is {median:.3}, and where the \
                     epoch began it was {began:.3}"
                )
            }
            Self::Against { cosine, others } => {
                write!(f, "it goes against the others: its cosine to them is {cosine:.2}, and theirs are {others:.2}")
            }
        }
    }
}

/// Finds the updates of a round that are far out of line with the others, in the round's order. `x` are the weights that
/// the folding node's epoch began with. If it doesn't know them, the updates are compared as differences to its own, and
/// only in length.
///
/// With fewer than three others nothing is judged, and nothing is read. Otherwise every update is read once. An update
/// that is stale may be longer by as many medians as it is stale, and its direction isn't judged: the others have gone
/// on meanwhile, and seen from x it goes back. That more updates than not go against the rest can't be: then none does.
pub fn out_of_line(round: &Round<'_>, x: Option<&Weights>) -> Result<Vec<Option<OutOfLine>>, FoldError> {
    let updates = round.updates;
    let mut found = vec![None; updates.len()];
    if updates.len() <= FEWEST_OTHERS {
        return Ok(found);
    }
    let source = Source::check(round, x, true, "the comparison of updates")?;
    let own = updates.iter().position(|update| update.own);
    let from = match (x, own) {
        (Some(x), _) => Input::Kept(x),
        (None, Some(own)) => source.input(own),
        (None, None) => return Ok(found),
    };
    for group in groups(updates) {
        let group: Vec<usize> = group.into_iter().filter(|&number| x.is_some() || Some(number) != own).collect();
        let inputs: Vec<Input<'_>> = std::iter::once(from).chain(group.iter().map(|&at| source.input(at))).collect();
        let Products { of_x, products } = Products::read(source.layout(), &inputs)?;
        let staleness: Vec<f64> = group.iter().map(|&number| updates[number].staleness).collect();
        let judged = Lineup::new(of_x, &products, staleness).judge(x.is_some());
        group.into_iter().zip(judged).for_each(|(number, judged)| found[number] = judged);
    }
    Ok(found)
}

/// Groups of nearly the same size. Who is in which is drawn anew for each epoch, so that nobody chooses a group for long;
/// nodes that fold the same updates draw the same.
fn groups(updates: &[Update<'_>]) -> Vec<Vec<usize>> {
    let epoch = updates.iter().map(|update| update.epoch).max().unwrap_or_default();
    let draw = |&number: &usize| {
        let mut hasher = blake3::Hasher::new_derive_key("peerfold 2026 groups of compared updates v1");
        hasher.update(&epoch.to_le_bytes()).update(&updates[number].author.to_bytes());
        *hasher.finalize().as_bytes()
    };
    let mut all: Vec<usize> = (0..updates.len()).collect();
    let count = all.len().div_ceil(GROUP);
    if count > 1 {
        all.sort_by_cached_key(draw);
    }
    (0..count).map(|group| all.iter().copied().skip(group).step_by(count).collect()).collect()
}

/// Scalar products of the differences d_k = w_k − x.
struct Products {
    /// x·x.
    of_x: f64,
    /// d_i·d_j for j ≤ i.
    products: Vec<Vec<f64>>,
}

impl Products {
    /// Of these inputs, of which the first is x.
    fn read(layout: &Layout, inputs: &[Input<'_>]) -> Result<Self, FoldError> {
        let count = inputs.len() - 1;
        let pairs = || (0..count).flat_map(|i| (0..=i).map(move |j| (i, j)));
        let read = sums::<Vec<f64>>(layout, inputs, 1 + pairs().count(), |differences, rows, sums| {
            let (x, length) = (rows.row(0), rows.length());
            differences.clear();
            (1..=count).for_each(|at| differences.extend(rows.row(at).iter().zip(x).map(|(w, x)| w - x)));
            let row = |at: usize| &differences[at * length..(at + 1) * length];
            let (of_x, of_pairs) = sums.split_at_mut(1);
            of_x[0] += sum_of(x, x, |a, b| a * b);
            of_pairs.iter_mut().zip(pairs()).for_each(|(sum, (i, j))| *sum += sum_of(row(i), row(j), |a, b| a * b));
        })?;
        let mut of_pairs = read[1..].iter().copied();
        let products = (0..count).map(|i| of_pairs.by_ref().take(i + 1).collect()).collect();
        Ok(Self { of_x: read[0], products })
    }
}

/// What is known of the updates of a group.
struct Lineup {
    /// Norms of the differences; infinite for one that isn't a number.
    lengths: Vec<f64>,
    /// Cosines of each to each; 0 where there is none.
    cosines: Vec<Vec<f64>>,
    staleness: Vec<f64>,
    /// Shorter than this, all are in line.
    least: f64,
}

impl Lineup {
    fn new(of_x: f64, products: &[Vec<f64>], staleness: Vec<f64>) -> Self {
        let length = |square: f64| if square.is_nan() { f64::INFINITY } else { square.sqrt() };
        let lengths: Vec<f64> = products.iter().enumerate().map(|(i, row)| length(row[i])).collect();
        let cosine = |i: usize, j: usize| {
            let cosine = products[i.max(j)][i.min(j)] / (lengths[i] * lengths[j]);
            if cosine.is_finite() { cosine.clamp(-1.0, 1.0) } else { 0.0 }
        };
        let cosines = (0..lengths.len()).map(|i| (0..lengths.len()).map(|j| cosine(i, j)).collect()).collect();
        Self { lengths, cosines, staleness, least: LEAST_OF_WEIGHTS * of_x.sqrt() }
    }

    fn judge(&self, directions: bool) -> Vec<Option<OutOfLine>> {
        let mut found = vec![None; self.lengths.len()];
        if self.lengths.len() < FEWEST_OTHERS {
            return found;
        }
        let median = lower_median(self.lengths.iter().copied());
        let spread = lower_median(self.lengths.iter().map(|length| (length - median).abs()));
        let limit = (TIMES_THE_MEDIAN * median).max(median + DEVIATIONS * DEVIATION_OF_MAD * spread).max(self.least);
        for ((found, &length), staleness) in found.iter_mut().zip(&self.lengths).zip(&self.staleness) {
            // It is about as far from x as the others have gone since then.
            *found = (length > limit + staleness * median).then_some(OutOfLine::TooLong { length, median });
        }
        if directions {
            self.judge_directions(median, &mut found);
        }
        found
    }

    /// Judges those that aren't out of line already.
    fn judge_directions(&self, median: f64, found: &mut [Option<OutOfLine>]) {
        let compared: Vec<usize> = (0..found.len())
            .filter(|&at| found[at].is_none() && self.staleness[at] == 0.0 && self.lengths[at] >= HARMLESS * median)
            .collect();
        if compared.len() <= FEWEST_OTHERS || median <= self.least {
            return;
        }
        let others = |one: usize| compared.iter().copied().filter(move |&other| other != one);
        let agreement: Vec<f64> =
            compared.iter().map(|&one| lower_median(others(one).map(|other| self.cosines[one][other]))).collect();
        let mut against = Vec::new();
        for (at, &one) in compared.iter().enumerate() {
            let rest = (0..compared.len()).filter(|&other| other != at).map(|other| agreement[other]);
            let (cosine, others) = (agreement[at], lower_median(rest));
            if others >= AGREED && cosine < -AGAINST * others {
                against.push((one, OutOfLine::Against { cosine, others }));
            }
        }
        if 2 * against.len() < compared.len() {
            against.into_iter().for_each(|(one, how)| found[one] = Some(how));
        }
    }
}

/// The median of these numbers, the lower of two middle ones; 0 of none.
pub(super) fn lower_median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::weights::{DType, Tensor, TensorSpec};
    use libp2p_identity::{Keypair, PeerId};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const COORDINATES: usize = 400;

    fn weights(values: &[f64]) -> Weights {
        let spec = TensorSpec { name: "w".to_owned(), dtype: DType::F64, shape: vec![values.len() as u64] };
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Weights::new(vec![Tensor { spec, data: data.into() }]).unwrap()
    }

    fn author(number: usize) -> PeerId {
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&(number as u64).to_le_bytes());
        Keypair::ed25519_from_bytes(secret).unwrap().public().to_peer_id()
    }

    /// About N(0, 1), as a sum of twelve.
    fn normal(random: &mut ChaCha8Rng) -> f64 {
        (0..12).map(|_| random.random_range(-0.5..0.5)).sum()
    }

    fn vector(random: &mut ChaCha8Rng, length: f64) -> Vec<f64> {
        let values: Vec<f64> = (0..COORDINATES).map(|_| normal(random)).collect();
        let norm = values.iter().map(|value| value * value).sum::<f64>().sqrt();
        values.into_iter().map(|value| value * length / norm).collect()
    }

    fn plus(a: &[f64], factor: f64, b: &[f64]) -> Vec<f64> {
        a.iter().zip(b).map(|(a, b)| a + factor * b).collect()
    }

    /// What is found among updates x + d with such staleness, as seen by the first of them.
    fn found_from(x: Option<&[f64]>, updates: &[Vec<f64>], staleness: &[f64]) -> Vec<Option<OutOfLine>> {
        let read: Vec<Weights> = updates.iter().map(|update| weights(update)).collect();
        let update = |(number, weights): (usize, &'static Weights)| Update {
            staleness: staleness.get(number).copied().unwrap_or_default(),
            own: number == 0,
            ..Update::new(author(number), weights, 10)
        };
        // A test may leak.
        let read: &'static [Weights] = Box::leak(read.into_boxed_slice());
        let updates: Vec<Update<'_>> = read.iter().enumerate().map(update).collect();
        let x = x.map(weights);
        out_of_line(&Round { number: 1, updates: &updates, failures: 0 }, x.as_ref()).unwrap()
    }

    fn suspects(found: &[Option<OutOfLine>]) -> Vec<usize> {
        (0..found.len()).filter(|&at| found[at].is_some()).collect()
    }

    /// Updates of honest nodes: one direction for all, of this length, and one for each of length 1, times how much the
    /// node trains.
    fn honest(
        random: &mut ChaCha8Rng,
        x: &[f64],
        count: usize,
        common: f64,
        work: impl Fn(usize) -> f64,
    ) -> Vec<Vec<f64>> {
        let direction = vector(random, common);
        let one = |at| plus(x, work(at), &plus(&direction, 1.0, &vector(random, 1.0)));
        (0..count).map(one).collect()
    }

    #[test]
    fn honest_ones_are_in_line_however_much_their_data_and_their_work_differ() {
        for seed in 0..40 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let (count, x) = (4 + seed as usize % 9, vector(&mut random, 10.0));
            for common in [0.0, 0.3, 1.0, 5.0] {
                let updates = honest(&mut random, &x, count, common, |at| [1.0, 2.0, 4.0, 1.5][at % 4]);
                assert_eq!(suspects(&found_from(Some(&x), &updates, &[])), [0; 0], "seed {seed}, common {common}");
            }
            // Where each pulls towards its own data and their sum is 0, each goes against all others, and none does.
            let updates = honest(&mut random, &x, count, 0.0, |_| 1.0);
            let mean = updates.iter().fold(vec![0.0; COORDINATES], |sum, d| plus(&sum, 1.0 / count as f64, d));
            let apart: Vec<Vec<f64>> = updates.iter().map(|d| plus(&plus(d, -1.0, &mean), 1.0, &x)).collect();
            assert_eq!(suspects(&found_from(Some(&x), &apart, &[])), [0; 0], "seed {seed}");
            // What is nearly equal is in line, even if one is a hundred times as far from x as the others.
            let nearly: Vec<Vec<f64>> =
                (0..count).map(|at| plus(&x, if at == 1 { 1e-3 } else { 1e-5 }, &vector(&mut random, 1.0))).collect();
            assert_eq!(suspects(&found_from(Some(&x), &nearly, &[])), [0; 0]);
            assert_eq!(suspects(&found_from(Some(&x), &vec![x.clone(); count], &[])), [0; 0]);
        }
    }

    #[test]
    fn a_minority_that_is_too_long_is_found_and_nobody_else() {
        for seed in 0..40 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let (count, x) = (4 + seed as usize % 9, vector(&mut random, 10.0));
            let liars = 1 + seed as usize % ((count - 1) / 2).max(1);
            for factor in [20.0, 100.0, -100.0, 1e200] {
                let mut updates = honest(&mut random, &x, count, 1.0, |_| 1.0);
                for update in &mut updates[count - liars..] {
                    *update = plus(&x, factor, &plus(update, -1.0, &x));
                }
                let expected: Vec<usize> = (count - liars..count).collect();
                let found = found_from(Some(&x), &updates, &[]);
                assert_eq!(suspects(&found), expected, "{liars} of {count}, {factor}: {found:?}");
                assert!(found.iter().flatten().all(|how| matches!(how, OutOfLine::TooLong { .. })));
                // Who doesn't know x sees it all the same.
                assert_eq!(suspects(&found_from(None, &updates, &[])), expected);
            }
        }
    }

    #[test]
    fn who_goes_against_the_others_is_found_where_they_have_one_direction() {
        for seed in 0..40 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let (count, x) = (5 + seed as usize % 8, vector(&mut random, 10.0));
            let liars = if count >= 8 { 2 } else { 1 };
            let mut updates = honest(&mut random, &x, count, 1.0, |at| 1.0 + at as f64 / 8.0);
            for update in &mut updates[count - liars..] {
                *update = plus(&x, -1.0, &plus(update, -1.0, &x));
            }
            let expected: Vec<usize> = (count - liars..count).collect();
            let found = found_from(Some(&x), &updates, &[]);
            assert_eq!(suspects(&found), expected, "{found:?}");
            assert!(found.iter().flatten().all(|how| matches!(how, OutOfLine::Against { .. })));
            // A stale one is expected to go back.
            assert_eq!(suspects(&found_from(Some(&x), &updates, &vec![3.0; count])), [0; 0]);
            // Too short to do harm.
            for update in &mut updates[count - liars..] {
                *update = plus(&x, 0.1, &plus(update, -1.0, &x));
            }
            assert_eq!(suspects(&found_from(Some(&x), &updates, &[])), [0; 0]);
        }
    }

    #[test]
    fn a_stale_update_may_be_longer_and_not_by_any_amount() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let x = vector(&mut random, 10.0);
        let updates = honest(&mut random, &x, 6, 1.0, |at| if at == 5 { 9.0 } else { 1.0 });
        let stale = |by: f64| suspects(&found_from(Some(&x), &updates, &[0.0, 0.0, 0.0, 0.0, 0.0, by]));
        assert_eq!((stale(0.0), stale(2.0), stale(10.0)), (vec![5], vec![5], vec![]));
    }

    #[test]
    fn with_fewer_than_three_others_nothing_is_judged() {
        let x = vec![1.0; COORDINATES];
        let far = |factor| plus(&x, factor, &x);
        for count in 1..=3 {
            let updates: Vec<Vec<f64>> = (0..count).map(|at| far(if at == 1 { 1e6 } else { 0.1 })).collect();
            assert_eq!(suspects(&found_from(Some(&x), &updates, &[])), [0; 0]);
        }
        assert_eq!(suspects(&found_from(Some(&x), &[far(0.1), far(0.1), far(1e6), far(0.1)], &[])), [2]);
    }

    #[test]
    fn a_large_fold_is_compared_in_groups_that_change_with_the_epochs() {
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let x = vector(&mut random, 10.0);
        let mut updates = honest(&mut random, &x, 100, 1.0, |_| 1.0);
        for at in [3, 50, 51, 52, 99] {
            updates[at] = plus(&x, 100.0, &plus(&updates[at], -1.0, &x));
        }
        assert_eq!(suspects(&found_from(Some(&x), &updates, &[])), [3, 50, 51, 52, 99]);
        let one = weights(&[1.0]);
        let drawn = |epoch| {
            let updates: Vec<Update<'_>> =
                (0..100).map(|at| Update { epoch, ..Update::new(author(at), &one, 10) }).collect();
            groups(&updates)
        };
        assert_eq!(drawn(1).iter().map(Vec::len).collect::<Vec<_>>(), [25; 4]);
        let mut all = drawn(1).concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
