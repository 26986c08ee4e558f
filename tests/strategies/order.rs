//! The order of a round's updates doesn't matter to rules that don't use it.

use crate::{
    golden::{author, round, update},
    made::{Draws, of_all_kinds},
    rules::{IN_ORDER, without_reference},
};
use peerfold::{strategy::Update, weights::Weights};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Weights, shares and states are the same to the bit.
    #[test]
    fn it_is_of_no_consequence_to_rules_that_claim_none(
        (count, order) in (7..12usize).prop_flat_map(|count| {
            (Just(count), prop::collection::vec(Just((0..count).collect::<Vec<_>>()).prop_shuffle(), 3))
        }),
        seed in any::<u64>(),
        deltas in any::<bool>(),
    ) {
        let mut draws = Draws(seed);
        let initial = of_all_kinds(99, || draws.number());
        let mut wrong = Vec::new();
        for spec in without_reference().into_iter().filter(|spec| !IN_ORDER.contains(&spec.name.as_str())) {
            let (mut straight, mut shuffled) = (spec.build().unwrap(), spec.build().unwrap());
            straight.begin(&initial);
            shuffled.begin(&initial);
            for (number, order) in order.iter().enumerate() {
                let weights: Vec<Weights> = (0..count).map(|at| of_all_kinds(at as u8, || draws.number())).collect();
                let updates: Vec<Update<'_>> = weights
                    .iter()
                    .enumerate()
                    .map(|(at, weights)| Update {
                        epoch: 1 + draws.bits() % 3 + number as u64,
                        staleness: draws.below(4) as f64,
                        loss: Some(draws.number() + 1.0),
                        degree: (draws.below(2) == 0).then(|| draws.bits() % 20),
                        own: at == 3,
                        delta: deltas && at % 2 == 0,
                        ..update(author(at as u8), weights, 1 + draws.bits() % 1000)
                    })
                    .collect();
                let permuted: Vec<Update<'_>> = order.iter().map(|&at| updates[at]).collect();
                let number = number as u64 + 1;
                let (a, b) = (straight.fold(&round(number, &updates)), shuffled.fold(&round(number, &permuted)));
                let (a, b) = (a.unwrap(), b.unwrap());
                let shares: Vec<f64> = order.iter().map(|&at| a.shares[at]).collect();
                let states = [straight.save(), shuffled.save()];
                if a.weights != b.weights || b.shares != shares || states[0] != states[1] {
                    let same = (a.weights == b.weights, b.shares == shares, states[0] == states[1]);
                    wrong.push(format!("{spec} round {number}: weights, shares, state the same: {same:?}"));
                    break;
                }
            }
        }
        prop_assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// Updates that stand equally close, as any two do: the smaller author id decides, not who came first.
#[test]
fn it_is_of_no_consequence_where_scores_are_equal() {
    for spec in without_reference().into_iter().filter(|spec| spec.name.contains("krum") || spec.name == "bulyan") {
        for count in [1, 2, 3, 5, 7, 8usize] {
            // In pairs around points far apart, and all at one place.
            let weights: Vec<Weights> = (0..count)
                .map(|at| of_all_kinds(at as u8, || (at / 2) as f64 * if count % 2 == 1 { 100.0 } else { 0.0 }))
                .collect();
            let updates: Vec<Update<'_>> =
                weights.iter().enumerate().map(|(at, weights)| update(author(at as u8), weights, 3)).collect();
            let mut reversed = updates.clone();
            reversed.reverse();
            let fold = |updates: &[Update<'_>]| {
                spec.build().unwrap().fold(&round(1, updates)).map(|folded| folded.weights).map_err(|e| e.to_string())
            };
            assert_eq!(fold(&updates), fold(&reversed), "{spec} of {count}");
        }
    }
}
