//! Updates that are far out of line with the others of their fold: found, and left out if that is wanted or if they are
//! absurd.

use super::{
    Checks, Validation,
    fold::{Input, Unread, with_readable},
    suspicion::{How, Suspect, Suspicion},
};
use crate::{
    strategy::{FEWEST_OTHERS, FoldError, Round, Update, losses_out_of_line, out_of_line},
    weights::{Weights, read_all},
};
use libp2p_identity::PeerId;
use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

/// What finds suspects.
pub(super) struct Measures {
    pub(super) checks: Checks,
    /// The weights that the node's epoch began with, if it knows them.
    pub(super) began_from: Option<Weights>,
    /// What measures losses, if anything does.
    pub(super) validation: Option<Validation>,
    /// Whether an update may be left out for its loss.
    pub(super) leaves_out_by_loss: bool,
}

/// Finds the suspects among the inputs that can be read, and removes those that are left out: those that are too large in
/// any case. Inputs that can't be read are removed and added to `unread`. Each is suspect for one thing, the first that
/// is found.
pub(super) fn find_suspects(measures: &Measures, inputs: &mut Vec<Input>, unread: &mut Vec<Unread>) -> Vec<Suspect> {
    let mut suspects = remove_too_large(inputs, measures.checks.max_norm_ratio);
    let suspicion = measures.checks.suspect;
    if suspicion == Suspicion::Off {
        return suspects;
    }
    let leaves_out = suspicion == Suspicion::LeaveOut;
    let found = compare(measures, inputs, unread);
    tell(&found, leaves_out, inputs, &mut suspects);
    let known = suspects.iter().map(|suspect| suspect.author).collect();
    let found = measure(measures, &known, inputs, unread);
    tell(&found, leaves_out && measures.leaves_out_by_loss, inputs, &mut suspects);
    suspects
}

/// Adds those that were found to the suspects, and removes them if they are left out.
fn tell(found: &BTreeMap<PeerId, How>, leaves_out: bool, inputs: &mut Vec<Input>, suspects: &mut Vec<Suspect>) {
    inputs.retain(|input| {
        let Some(how) = found.get(&input.author).cloned() else { return true };
        // Without it, the node would train in vain as long as it is out of line.
        let left_out = leaves_out && !input.own;
        suspects.push(Suspect { author: input.author, epoch: input.epoch(), how, left_out });
        !left_out
    });
}

/// Which are out of line as differences to the weights that the epoch began with.
fn compare(measures: &Measures, inputs: &mut Vec<Input>, unread: &mut Vec<Unread>) -> BTreeMap<PeerId, How> {
    let found = with_readable(inputs, 0, unread, |updates, _| {
        out_of_line(&Round { number: 1, updates, failures: 0 }, measures.began_from.as_ref())
    });
    match found {
        None => BTreeMap::new(),
        Some(Ok(found)) => {
            let found = inputs.iter().zip(found);
            found.filter_map(|(input, found)| Some((input.author, How::OutOfLine(found?)))).collect()
        }
        Some(Err(error)) => {
            // The fold meets the same, and it is reported there.
            tracing::debug!(%error, "updates are not compared");
            BTreeMap::new()
        }
    }
}

/// Which have a loss far above the others' on what the node doesn't train on. Those that are suspect already (`known`)
/// are neither judged nor compared with, and neither are stale ones: the others have learned more meanwhile. One update
/// at a time is in memory, beside the model that measures it.
fn measure(
    measures: &Measures,
    known: &BTreeSet<PeerId>,
    inputs: &mut Vec<Input>,
    unread: &mut Vec<Unread>,
) -> BTreeMap<PeerId, How> {
    let (Some(validation), Some(began_from)) = (&measures.validation, &measures.began_from) else {
        return BTreeMap::new();
    };
    // One that can't be read any more is no reason to measure the others again.
    let mut measured = BTreeMap::new();
    let found = with_readable(inputs, 0, unread, |updates, _| {
        let is_judged = |update: &&Update<'_>| update.staleness == 0.0 && !known.contains(&update.author);
        let judged: Vec<&Update<'_>> = updates.iter().filter(is_judged).collect();
        if judged.len() <= FEWEST_OTHERS {
            return Ok(BTreeMap::new());
        }
        for &&Update { author, weights, .. } in &judged {
            let Entry::Vacant(place) = measured.entry(author) else { continue };
            let weights = read_all(weights).map_err(|source| FoldError::Read { author, source })?;
            let Some(loss) = validation.loss(&weights) else { return Ok(BTreeMap::new()) };
            place.insert(loss);
        }
        let Some(began) = validation.loss(began_from) else { return Ok(BTreeMap::new()) };
        let losses: Vec<f64> = judged.iter().filter_map(|update| measured.get(&update.author).copied()).collect();
        let found = judged.iter().zip(losses_out_of_line(&losses, began));
        Ok(found.filter_map(|(update, found)| Some((update.author, How::OutOfLine(found?)))).collect())
    });
    match found {
        Some(Ok(found)) => found,
        // What can't be folded is told by the fold.
        Some(Err(_)) | None => BTreeMap::new(),
    }
}

/// Removes the peers' inputs whose norm is over so many times the lower median of all. It follows from the updates alone,
/// so that synchronous nodes still come to equal bits. The node's own is told of, and stays.
fn remove_too_large(inputs: &mut Vec<Input>, ratio: f64) -> Vec<Suspect> {
    let mut norms: Vec<f64> = inputs.iter().map(|input| input.norm).collect();
    norms.sort_by(f64::total_cmp);
    let median = norms.get(norms.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    let mut suspects = Vec::new();
    inputs.retain(|input| {
        // Beside weights that are all 0, as some models begin, nothing is large.
        if median == 0.0 || input.norm <= ratio * median {
            return true;
        }
        let how = How::Norm { norm: input.norm, median };
        suspects.push(Suspect { author: input.author, epoch: input.epoch(), how, left_out: !input.own });
        input.own
    });
    suspects
}

/// Why nothing is folded if nothing of the peers' is left.
pub(super) fn all_suspect(left_out: usize) -> String {
    let were = if left_out == 1 { "peer's update was" } else { "peers' updates were" };
    format!("{left_out} {were} left out as suspect, and no other could be read")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        node::LocalUpdate,
        strategy::OutOfLine,
        weights::{DType, Tensor, TensorSpec},
    };
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    fn weights(value: f32) -> Weights {
        let spec = TensorSpec { name: "w".to_owned(), dtype: DType::F32, shape: vec![2] };
        Weights::new(vec![Tensor { spec, data: [value, 1.0].map(f32::to_le_bytes).concat().into() }]).unwrap()
    }

    fn own(value: f32) -> Input {
        let local = LocalUpdate { weights: weights(value), epoch: 3, num_examples: 10, metrics: Vec::new() };
        let norm = Checks::default().weights(&local.weights).unwrap();
        Input::own(PeerId::random(), &local, norm)
    }

    fn inputs(values: &[f32]) -> Vec<Input> {
        let mut inputs: Vec<Input> = values.iter().map(|&value| own(value)).collect();
        inputs[1..].iter_mut().for_each(|input| input.own = false);
        inputs
    }

    /// As seen from `weights(0.0)`.
    fn measures(suspect: Suspicion) -> Measures {
        let checks = Checks { suspect, ..Checks::default() };
        Measures { checks, began_from: Some(weights(0.0)), validation: None, leaves_out_by_loss: true }
    }

    /// Who is suspect, by number, and how many are left.
    fn found(suspicion: Suspicion, values: &[f32]) -> (Vec<usize>, usize) {
        let mut inputs = inputs(values);
        let authors: Vec<PeerId> = inputs.iter().map(|input| input.author).collect();
        let measures = measures(suspicion);
        let suspects = find_suspects(&measures, &mut inputs, &mut Vec::new());
        let number = |suspect: &Suspect| authors.iter().position(|&author| author == suspect.author).unwrap();
        assert!(suspects.iter().all(|suspect| suspect.epoch == 3));
        (suspects.iter().map(number).collect(), inputs.len())
    }

    #[test]
    fn a_suspect_is_told_and_left_out_only_if_that_is_wanted() {
        let values = [1.0, 1.1, 0.9, 90.0, 1.0];
        assert_eq!(found(Suspicion::Off, &values), (vec![], 5));
        assert_eq!(found(Suspicion::Warn, &values), (vec![3], 5));
        assert_eq!(found(Suspicion::LeaveOut, &values), (vec![3], 4));
    }

    #[test]
    fn a_node_is_told_of_its_own_update_and_never_leaves_it_out() {
        assert_eq!(found(Suspicion::LeaveOut, &[-100.0, 1.0, 1.0, 1.1]), (vec![0], 4));
    }

    #[test]
    fn an_absurd_update_is_left_out_whatever_is_wanted_and_however_few_there_are() {
        for suspicion in [Suspicion::Off, Suspicion::Warn, Suspicion::LeaveOut] {
            assert_eq!(found(suspicion, &[1.0, 1e38]), (vec![1], 1), "the other one of two");
            assert_eq!(found(suspicion, &[1.0, 1e38, 1.0, -1e38, 1.0]), (vec![1, 3], 3));
            assert_eq!(found(suspicion, &[1e6, 1.0, 1.0]), (vec![0], 3), "its own");
            assert_eq!(found(suspicion, &[1.0, 50.0]), (vec![], 2));
        }
    }

    /// A judge by whom each of these values has a loss, and how often it was asked.
    fn judge(losses: &[(f32, f64)]) -> (Validation, Arc<AtomicUsize>) {
        let (losses, asked) = (losses.to_vec(), Arc::new(AtomicUsize::new(0)));
        let counted = asked.clone();
        let judge = Validation::new(move |weights: &Weights| {
            counted.fetch_add(1, Ordering::Relaxed);
            let (_, data) = weights.tensors().next().unwrap();
            let value = f32::from_le_bytes(data[..4].try_into().unwrap());
            losses.iter().find(|(of, _)| *of == value).map(|(_, loss)| *loss).ok_or("it has no loss")
        });
        (judge, asked)
    }

    /// The same as [`found`], of values that are in line but for their losses.
    fn found_by_loss(measures: Measures, losses: &[f64]) -> (Vec<usize>, usize, usize) {
        let values: Vec<f32> = (0..losses.len()).map(|at| 1.0 + 0.01 * at as f32).collect();
        let known: Vec<(f32, f64)> = values.iter().copied().zip(losses.iter().copied()).chain([(0.0, 0.5)]).collect();
        let (judge, asked) = judge(&known);
        let mut inputs = inputs(&values);
        let authors: Vec<PeerId> = inputs.iter().map(|input| input.author).collect();
        let measures = Measures { validation: Some(judge), ..measures };
        let suspects = find_suspects(&measures, &mut inputs, &mut Vec::new());
        let worse = |suspect: &Suspect| matches!(suspect.how, How::OutOfLine(OutOfLine::Worse { .. }));
        assert!(suspects.iter().all(worse), "{suspects:?}");
        let number = |suspect: &Suspect| authors.iter().position(|&author| author == suspect.author).unwrap();
        (suspects.iter().map(number).collect(), inputs.len(), asked.load(Ordering::Relaxed))
    }

    #[test]
    fn an_update_far_worse_on_the_validation_part_is_suspect() {
        let losses = [0.3, 0.4, 9.0, 0.5, 0.4];
        assert_eq!(found_by_loss(measures(Suspicion::Warn), &losses), (vec![2], 5, 6));
        assert_eq!(found_by_loss(measures(Suspicion::LeaveOut), &losses), (vec![2], 4, 6));
        assert_eq!(found_by_loss(measures(Suspicion::LeaveOut), &[9.0, 0.4, 0.3, 0.5]), (vec![0], 4, 5), "its own");
        assert_eq!(found_by_loss(measures(Suspicion::LeaveOut), &[0.4, f64::NAN, 0.3, 0.5]), (vec![1], 3, 5));
        // In a synchronous federation the others have other losses.
        let only_told = Measures { leaves_out_by_loss: false, ..measures(Suspicion::LeaveOut) };
        assert_eq!(found_by_loss(only_told, &losses), (vec![2], 5, 6));
    }

    #[test]
    fn nothing_is_measured_that_is_not_judged() {
        let losses = [0.3, 0.4, 9.0, 0.5, 0.4];
        assert_eq!(found_by_loss(measures(Suspicion::Off), &losses), (vec![], 5, 0));
        assert_eq!(found_by_loss(measures(Suspicion::Warn), &losses[..3]), (vec![], 3, 0), "two others");
        let restarted = Measures { began_from: None, ..measures(Suspicion::Warn) };
        assert_eq!(found_by_loss(restarted, &losses), (vec![], 5, 0));
    }

    #[test]
    fn a_judge_that_fails_leaves_everything_in() {
        let mut inputs = inputs(&[1.0, 1.01, 1.02, 1.03]);
        let validation = Some(judge(&[(1.0, 0.5), (1.01, 9.0)]).0);
        let measures = Measures { validation, ..measures(Suspicion::LeaveOut) };
        assert_eq!(find_suspects(&measures, &mut inputs, &mut Vec::new()), []);
        assert_eq!(inputs.len(), 4);
    }

    #[test]
    fn what_is_out_of_line_already_is_told_once_and_not_measured() {
        let mut inputs = inputs(&[1.0, 1.1, 0.9, 90.0, 1.0]);
        let (judge, asked) = judge(&[(0.0, 0.5), (1.0, 0.4), (1.1, 0.3), (0.9, 0.4), (90.0, 50.0)]);
        let measures = Measures { validation: Some(judge), ..measures(Suspicion::Warn) };
        let suspects = find_suspects(&measures, &mut inputs, &mut Vec::new());
        assert!(
            matches!(&suspects[..], [Suspect { how: How::OutOfLine(OutOfLine::TooLong { .. }), .. }]),
            "{suspects:?}"
        );
        assert_eq!(asked.load(Ordering::Relaxed), 5);
    }
}
