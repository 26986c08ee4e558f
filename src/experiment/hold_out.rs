//! Holds a part of a node's examples out of its training.

use crate::train::{Draws, Examples};

/// Cuts examples into those to train on and a part of them, 0 to 1, that is held out: of `n` examples the whole number
/// below `part`·n, and of each class as nearly that part as whole numbers allow. Both stay in the order in which they stand in
/// the whole.
///
/// Which they are follows from the seed, `node` and the labels: the same at every start. It is a draw of its own for each
/// node, whose `node` are the bytes that tell it from others.
pub fn hold_out(examples: &Examples, part: f64, seed: u64, node: &[u8]) -> (Examples, Examples) {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    Draws::new("validation part", seed, node).shuffle(&mut order);
    // By class, and within one as drawn.
    order.sort_by_key(|&index| examples.labels()[index]);
    let mut is_held = vec![false; examples.len()];
    let held_of_first = |count: usize| (part.clamp(0.0, 1.0) * count as f64).floor() as usize;
    for (place, &index) in order.iter().enumerate() {
        is_held[index] = held_of_first(place + 1) > held_of_first(place);
    }
    let (held, kept): (Vec<usize>, Vec<usize>) = (0..examples.len()).partition(|&index| is_held[index]);
    (examples.select(&kept), examples.select(&held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn examples(labels: Vec<u8>) -> Examples {
        let features = (0..labels.len()).map(|index| index as f32).collect();
        Examples::new(features, [1, 1, 1], labels, 10).unwrap()
    }

    fn numbers(examples: &Examples) -> Vec<usize> {
        (0..examples.len()).map(|index| examples.image(index)[0] as usize).collect()
    }

    proptest! {
        #[test]
        fn each_example_is_in_one_part_and_each_class_in_both_as_it_is_in_the_whole(
            labels in prop::collection::vec(0u8..10, 0..300), part in 0.0..=0.5f64, seed: u64,
        ) {
            let all = examples(labels);
            let (kept, held) = hold_out(&all, part, seed, b"0/1");
            prop_assert_eq!(held.len(), (part * all.len() as f64).floor() as usize);
            let (kept_numbers, held_numbers) = (numbers(&kept), numbers(&held));
            prop_assert!(kept_numbers.is_sorted() && held_numbers.is_sorted());
            let mut both = [kept_numbers, held_numbers].concat();
            both.sort_unstable();
            prop_assert_eq!(both, (0..all.len()).collect::<Vec<_>>());
            for (all, held) in all.histogram().into_iter().zip(held.histogram()) {
                prop_assert!((held as f64 - part * all as f64).abs() <= 1.0, "{} of {}", held, all);
            }
        }
    }

    #[test]
    fn the_draw_is_a_nodes_own_and_never_changes() {
        let all = examples((0..40).map(|index| index % 10).collect());
        let held = |seed, node: &[u8]| numbers(&hold_out(&all, 0.25, seed, node).1);
        assert_eq!(held(1, b"a"), held(1, b"a"));
        assert!(held(1, b"a") != held(2, b"a") && held(1, b"a") != held(1, b"b"));
        assert_eq!(hold_out(&all, 0.0, 1, b"a"), (all.clone(), all.select(&[])));
    }
}
