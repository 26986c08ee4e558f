//! Updates given as differences to x.

use crate::{
    golden::{author, round, update},
    made::{Draws, of_all_kinds, singles, values},
    rules::{spec, without_reference},
};
use peerfold::{
    strategy::{FoldError, Folded, Update},
    weights::Weights,
};

fn delta(weights: &Weights, number: u8) -> Update<'_> {
    Update { delta: true, loss: Some(1.0), ..update(author(number), weights, 10) }
}

/// Whole numbers, which no rounding changes: x + Δ is the update, to the bit.
#[test]
fn a_difference_is_the_update_that_it_makes_of_x() {
    for spec in without_reference() {
        let mut draws = Draws(5);
        let initial = of_all_kinds(0, || draws.below(9) as f64);
        let deltas: Vec<Weights> = (1..8).map(|mark| of_all_kinds(mark, || draws.below(9) as f64 - 4.0)).collect();
        let x = values(&initial);
        let weights: Vec<Weights> = deltas
            .iter()
            .enumerate()
            .map(|(at, delta)| {
                let mut sums = x.iter().zip(values(delta)).map(|(x, delta)| x + delta);
                of_all_kinds(at as u8 + 1, || sums.next().unwrap())
            })
            .collect();
        let fold = |updates: Vec<Update<'_>>| {
            let mut strategy = spec.build().unwrap();
            strategy.begin(&initial);
            let Folded { weights, shares, .. } = strategy.fold(&round(1, &updates)).unwrap();
            (weights, shares, strategy.save())
        };
        let as_deltas = fold((1..8).zip(&deltas).map(|(number, weights)| delta(weights, number)).collect());
        let as_weights =
            fold((1..8).zip(&weights).map(|(number, w)| Update { delta: false, ..delta(w, number) }).collect());
        assert!(as_deltas == as_weights, "{spec}");
    }
}

#[test]
fn without_an_x_it_is_an_error() {
    let weights = singles(&[1.0]);
    for spec in without_reference() {
        let mut strategy = spec.build().unwrap();
        let updates: Vec<_> = (0..7).map(|number| delta(&weights, number)).collect();
        let folded = strategy.fold(&round(1, &updates));
        assert!(matches!(folded, Err(FoldError::NotBegun { .. })), "{spec}: {folded:?}");
    }
}

/// x is what the last fold gave, also where that fold had no difference among its updates.
#[test]
fn differences_may_come_after_weights() {
    let (initial, weights, difference) = (singles(&[100.0]), singles(&[5.0]), singles(&[1.0]));
    for text in ["fedavg", "fedmedian", "fedtrimmedavg", "krum", "bulyan", "geometricmedian", "gossip", "dpsgd"] {
        let mut strategy = spec(text).build().unwrap();
        strategy.begin(&initial);
        let updates: Vec<_> = (0..3).map(|number| update(author(number), &weights, 10)).collect();
        assert_eq!(values(&strategy.fold(&round(1, &updates)).unwrap().weights), [5.0], "{text}");
        let updates: Vec<_> = (0..3).map(|number| delta(&difference, number)).collect();
        let folded = strategy.fold(&round(2, &updates)).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(values(&folded.weights), [6.0], "{text}");
    }
}

/// A buffer that fills in the midst of a round: the updates behind it are differences to the same x as those before.
#[test]
fn fedbuff_adds_differences_as_they_are() {
    let deltas = [1.0, 10.0, 100.0].map(|number| singles(&[number]));
    let updates: Vec<_> = (1..4).zip(&deltas).map(|(number, weights)| delta(weights, number)).collect();
    for (size, expected) in [(1, 111.0), (3, 37.0)] {
        let mut strategy = spec("fedbuff").with("buffer_size", size).build().unwrap();
        strategy.begin(&singles(&[0.0]));
        let folded = strategy.fold(&round(1, &updates)).unwrap();
        assert_eq!(values(&folded.weights), [expected], "a buffer of {size}");
    }
}
