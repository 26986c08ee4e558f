//! Updates that are far out of line with the others of their fold: found, and left out if that is wanted or if they are
//! absurd.

use super::{
    Checks,
    fold::{Input, Unread, with_readable},
    suspicion::{How, Suspect, Suspicion},
};
use crate::{
    strategy::{Round, out_of_line},
    weights::Weights,
};

/// Finds the suspects among the inputs that can be read, as seen from the weights that the node's epoch began with, and
/// removes those that are left out: those that are too large in any case. Inputs that can't be read are removed and added
/// to `unread`.
pub(super) fn find_suspects(
    checks: &Checks,
    began_from: Option<&Weights>,
    inputs: &mut Vec<Input>,
    unread: &mut Vec<Unread>,
) -> Vec<Suspect> {
    let mut suspects = remove_too_large(inputs, checks.max_norm_ratio);
    let suspicion = checks.suspect;
    if suspicion == Suspicion::Off {
        return suspects;
    }
    let found = with_readable(inputs, 0, unread, |updates, _| {
        out_of_line(&Round { number: 1, updates, failures: 0 }, began_from)
    });
    let found = match found {
        Some(Ok(found)) => found,
        None => return suspects,
        Some(Err(error)) => {
            // The fold meets the same, and it is reported there.
            tracing::debug!(%error, "updates are not compared");
            return suspects;
        }
    };
    let mut found = found.into_iter();
    inputs.retain(|input| {
        let Some(how) = found.next().flatten().map(How::OutOfLine) else { return true };
        // Without it, the node would train in vain as long as it is out of line.
        let left_out = suspicion == Suspicion::LeaveOut && !input.own;
        suspects.push(Suspect { author: input.author, epoch: input.epoch(), how, left_out });
        !left_out
    });
    suspects
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
        weights::{DType, Tensor, TensorSpec},
    };
    use libp2p_identity::PeerId;

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

    /// Who is suspect, by number, and how many are left.
    fn found(suspicion: Suspicion, values: &[f32]) -> (Vec<usize>, usize) {
        let mut inputs = inputs(values);
        let authors: Vec<PeerId> = inputs.iter().map(|input| input.author).collect();
        let checks = Checks { suspect: suspicion, ..Checks::default() };
        let suspects = find_suspects(&checks, Some(&weights(0.0)), &mut inputs, &mut Vec::new());
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
}
