//! Updates that are far out of line with the others of their fold: found, and left out if that is wanted.

use super::{
    fold::{Input, Unread, with_readable},
    suspicion::{Suspect, Suspicion},
};
use crate::{
    strategy::{Round, out_of_line},
    weights::Weights,
};

/// Finds the suspects among the inputs that can be read, as seen from the weights that the node's epoch began with, and
/// removes those that are left out. Inputs that can't be read are removed and added to `unread`.
pub(super) fn find_suspects(
    suspicion: Suspicion,
    began_from: Option<&Weights>,
    inputs: &mut Vec<Input>,
    unread: &mut Vec<Unread>,
) -> Vec<Suspect> {
    if suspicion == Suspicion::Off {
        return Vec::new();
    }
    let found = with_readable(inputs, 0, unread, |updates, _| {
        out_of_line(&Round { number: 1, updates, failures: 0 }, began_from)
    });
    let found = match found {
        Some(Ok(found)) => found,
        None => return Vec::new(),
        Some(Err(error)) => {
            // The fold meets the same, and it is reported there.
            tracing::debug!(%error, "updates are not compared");
            return Vec::new();
        }
    };
    let mut suspects = Vec::new();
    let mut found = found.into_iter();
    inputs.retain(|input| {
        let Some(how) = found.next().flatten() else { return true };
        // Without it, the node would train in vain as long as it is out of line.
        let left_out = suspicion == Suspicion::LeaveOut && !input.own;
        suspects.push(Suspect { author: input.author, epoch: input.epoch(), how, left_out });
        !left_out
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
        Input::own(PeerId::random(), &local)
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
        let suspects = find_suspects(suspicion, Some(&weights(0.0)), &mut inputs, &mut Vec::new());
        let number = |suspect: &Suspect| authors.iter().position(|&author| author == suspect.author).unwrap();
        assert!(suspects.iter().all(|suspect| suspect.epoch == 3));
        (suspects.iter().map(number).collect(), inputs.len())
    }

    #[test]
    fn a_suspect_is_told_and_left_out_only_if_that_is_wanted() {
        let values = [1.0, 1.1, 0.9, 100.0, 1.0];
        assert_eq!(found(Suspicion::Off, &values), (vec![], 5));
        assert_eq!(found(Suspicion::Warn, &values), (vec![3], 5));
        assert_eq!(found(Suspicion::LeaveOut, &values), (vec![3], 4));
    }

    #[test]
    fn a_node_is_told_of_its_own_update_and_never_leaves_it_out() {
        assert_eq!(found(Suspicion::LeaveOut, &[-100.0, 1.0, 1.0, 1.1]), (vec![0], 4));
    }
}
