//! Which updates of a fold are far worse than the others on examples of the folding node's own.

use super::out_of_line::{DEVIATION_OF_MAD, DEVIATIONS, FEWEST_OTHERS, OutOfLine, lower_median};

/// An update is far worse only if its loss is so many times the median. Where each node has few labels, an honest update
/// is bad on another node's, and some are worse than others.
const TIMES_THE_MEDIAN: f64 = 2.0;
/// Nothing is judged if the median is over so many times the loss at the epoch's beginning: then an ordinary update makes
/// weights worse here. That is how it is where each node has its own labels, and how much worse tells of labels only.
const SPOILT: f64 = 1.25;
/// If more than one in so many is far worse, they are a group whose data are of another kind, and none is judged.
const ONE_IN: usize = 4;

/// Finds the updates that are far worse than the others, by the losses that one node has measured of all of them, its
/// own included, on examples that it doesn't train on; `began` is that of the weights that its epoch began with.
///
/// With fewer than three others nothing is judged, and neither if most updates are worse here than where the epoch began:
/// their median is over 1.25 times `began`. Otherwise a loss is far above the others' if it is over twice their
/// median, over the median by six standard deviations, estimated by the median distance to the median, and over `began`:
/// what has learned anything that is of use here is in line. A loss that isn't finite is above all. If over a quarter are
/// so, none is found: they are a group of nodes with data of another kind, such as other labels.
pub fn losses_out_of_line(losses: &[f64], began: f64) -> Vec<Option<OutOfLine>> {
    if losses.len() <= FEWEST_OTHERS {
        return vec![None; losses.len()];
    }
    let finite = |loss: f64| if loss.is_finite() { loss } else { f64::INFINITY };
    let losses: Vec<f64> = losses.iter().map(|&loss| finite(loss)).collect();
    let median = lower_median(losses.iter().copied());
    let distance = |&loss: &f64| if loss == median { 0.0 } else { (loss - median).abs() };
    let spread = lower_median(losses.iter().map(distance));
    let limit = (TIMES_THE_MEDIAN * median).max(median + DEVIATIONS * DEVIATION_OF_MAD * spread).max(began);
    if median > SPOILT * began {
        return vec![None; losses.len()];
    }
    let worse = losses.iter().filter(|&&loss| loss > limit).count();
    let is_group = ONE_IN * worse > losses.len();
    let judge = |&loss: &f64| (loss > limit && !is_group).then_some(OutOfLine::Worse { loss, median, began });
    losses.iter().map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspects(losses: &[f64], began: f64) -> Vec<usize> {
        let found = losses_out_of_line(losses, began);
        (0..losses.len()).filter(|&at| found[at].is_some()).collect()
    }

    #[test]
    fn a_loss_far_above_the_others_is_found() {
        let median = OutOfLine::Worse { loss: 9.0, median: 1.1, began: 1.5 };
        assert_eq!(losses_out_of_line(&[1.0, 1.2, 9.0, 1.1], 1.5), [None, None, Some(median), None]);
        assert_eq!(suspects(&[0.1, 2.0, 2.2, 1.9, 2.1, 40.0], 1.8), [5]);
    }

    #[test]
    fn what_the_others_losses_allow_for_is_in_line() {
        // Nearly equal: six deviations are nothing.
        assert_eq!(suspects(&[1.0, 1.0, 1.0, 1.0, 1.9], 0.9), [0; 0]);
        // All differ: twice the median is nothing.
        assert_eq!(suspects(&[0.1, 1.0, 2.0, 3.0, 8.0], 1.9), [0; 0]);
        // An ordinary update is worse here than where the epoch began: each node has its own labels.
        assert_eq!(suspects(&[0.1, 2.3, 2.4, 2.5, 5.5], 1.2), [0; 0]);
        // It is better than where the epoch began.
        assert_eq!(suspects(&[0.1, 0.1, 0.1, 0.1, 2.0], 2.3), [0; 0]);
        // The others are so few that one of them may be it.
        assert_eq!(suspects(&[0.1, 0.1, 9.0], 0.5), [0; 0]);
        assert_eq!(suspects(&[], 0.5), [0; 0]);
    }

    #[test]
    fn a_group_with_data_of_another_kind_is_in_line() {
        // Half or two fifths have no example of this node's labels.
        assert_eq!(suspects(&[0.2, 0.2, 3.0, 3.1], 0.6), [0; 0]);
        assert_eq!(suspects(&[0.2, 0.2, 0.2, 3.0, 3.1], 0.6), [0; 0]);
        assert_eq!(suspects(&[0.2, 0.3, 0.2, 0.2, 0.3, 0.2, 3.0, 3.1], 0.6), [6, 7]);
    }

    #[test]
    fn what_is_not_finite_is_above_all() {
        assert_eq!(suspects(&[1.0, f64::NAN, 1.2, 1.1, 1.0], 2.0), [1]);
        assert_eq!(suspects(&[1.0, f64::NEG_INFINITY, 1.2, 1.1, 1.0], 2.0), [1]);
        // Not if most are, and not if nothing is known of where the epoch began.
        assert_eq!(suspects(&[1.0, f64::NAN, f64::NAN, f64::NAN], 2.0), [0; 0]);
        assert_eq!(suspects(&[0.0; 5], f64::NAN), [0; 0]);
        assert_eq!(suspects(&[1.0, 1.0, 1.0, 9.0], f64::NAN), [3]);
    }
}
