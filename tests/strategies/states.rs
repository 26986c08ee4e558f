//! Saved strategy states: a restored strategy goes on to the bit, and bad states are refused.

use crate::{
    golden::{author, round, update},
    made::{Draws, of_all_kinds},
    rules::all,
};
use peerfold::{
    strategy::{FoldError, Strategy, StrategySpec, Update},
    weights::Weights,
};
use proptest::prelude::*;

fn made(seed: u64, count: usize) -> Vec<Weights> {
    let mut draws = Draws(seed);
    (0..count).map(|mark| of_all_kinds(mark as u8, || draws.number())).collect()
}

/// One of each of seven members, with all figures that a rule may ask for.
fn updates(weights: &[Weights], epoch: u64) -> Vec<Update<'_>> {
    let with_figures = |(number, weights)| Update {
        epoch,
        loss: Some(0.5 + f64::from(number)),
        staleness: f64::from(number % 3),
        own: number == 1,
        ..update(author(number), weights, 10 + u64::from(number))
    };
    (0..7).zip(weights).map(with_figures).collect()
}

fn after(spec: &StrategySpec, folds: u64) -> Box<dyn Strategy> {
    let mut strategy = spec.build().unwrap();
    strategy.begin(&made(77, 1)[0]);
    for number in 1..=folds {
        let weights = made(number, 7);
        strategy.fold(&round(number, &updates(&weights, number))).unwrap();
    }
    strategy
}

/// Saved and restored after any number of folds, into a new strategy or one with another past, it goes on to the bit.
#[test]
fn a_restored_strategy_goes_on_to_the_bit() {
    for spec in all() {
        for folds in 0..4 {
            let mut strategy = after(&spec, folds);
            let state = strategy.save();
            let (mut fresh, mut other) = (spec.build().unwrap(), after(&spec, 2));
            for restored in [&mut fresh, &mut other] {
                restored.restore(&state).unwrap();
                assert!(restored.save() == state, "{spec} after {folds} folds");
            }
            if state.is_empty() {
                continue;
            }
            for number in folds + 1..folds + 4 {
                let weights = made(number, 7);
                let updates = updates(&weights, number);
                let folded = strategy.fold(&round(number, &updates)).unwrap();
                for restored in [&mut fresh, &mut other] {
                    assert!(restored.fold(&round(number, &updates)).unwrap() == folded, "{spec} after {folds} folds");
                    assert!(restored.save() == strategy.save(), "{spec} after {folds} folds");
                }
            }
        }
    }
}

/// Saving changes nothing, and equal pasts have equal states.
#[test]
fn a_state_follows_from_the_past_alone() {
    for spec in all() {
        let (a, mut b) = (after(&spec, 2), after(&spec, 1));
        b.save();
        let weights = made(2, 7);
        b.fold(&round(2, &updates(&weights, 2))).unwrap();
        assert!(a.save() == b.save() && b.save() == b.save(), "{spec}");
    }
}

/// A state is for its strategy with its reference, whatever the other parameters are.
#[test]
fn a_state_is_refused_by_every_other_strategy() {
    let kind = |spec: &StrategySpec| (spec.name.clone(), spec.params.get("reference").cloned());
    let mut kinds: Vec<StrategySpec> = all();
    // Flower-async's AsyncFedED is PAFLM.
    kinds.retain(|spec| !(spec.name == "asyncfeded" && spec.params.contains_key("reference")));
    kinds.dedup_by_key(|spec| kind(spec));
    let states: Vec<_> = kinds.iter().map(|spec| (spec, after(spec, 1).save())).collect();
    for (of, state) in states.iter().filter(|(_, state)| !state.is_empty()) {
        for spec in kinds.iter().filter(|spec| kind(spec) != kind(of)) {
            let mut strategy = after(spec, 1);
            let before = strategy.save();
            let restored = strategy.restore(state);
            assert!(matches!(restored, Err(FoldError::State { .. })), "{spec} takes a state of {of}");
            assert!(strategy.save() == before, "{spec} after a state of {of}");
        }
    }
}

/// Momenta and rates may be changed over a restart.
#[test]
fn a_state_is_taken_up_with_other_parameters() {
    let texts = [
        ["fedavgm", "fedavgm server_momentum=0.9"],
        ["fedavgm server_momentum=0.9", "fedavgm"],
        ["fedadam", "fedadam eta=0.5 beta_1=0"],
        ["fedbuff", "fedbuff buffer_size=2"],
        ["safa", "safa lag_tolerance=0"],
        ["asyncfeded history=3", "asyncfeded history=0"],
    ];
    for [before, now] in texts.map(|pair| pair.map(crate::rules::spec)) {
        let mut strategy = now.build().unwrap();
        strategy.restore(&after(&before, 2).save()).unwrap_or_else(|error| panic!("{now} from {before}: {error}"));
        let weights = made(3, 7);
        strategy.fold(&round(3, &updates(&weights, 3))).unwrap_or_else(|error| panic!("{now} from {before}: {error}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_none_or_damaged_is_refused(
        garbage in prop::collection::vec(any::<u8>(), 1..300),
        at in any::<prop::sample::Index>(),
        folds in 0..3u64,
    ) {
        for spec in all() {
            let mut strategy = after(&spec, folds);
            let state = strategy.save();
            let mut refused = |bytes: &[u8]| {
                let restored = strategy.restore(bytes);
                matches!(restored, Err(FoldError::State { .. })) && strategy.save() == state
            };
            prop_assert!(refused(&garbage), "{}", &spec);
            if state.is_empty() {
                continue;
            }
            let mut damaged = state.clone();
            damaged[at.index(state.len())] ^= 1 + garbage[0] % 255;
            prop_assert!(refused(&damaged), "{}", &spec);
            prop_assert!(refused(&state[..at.index(state.len())]), "{}", &spec);
            prop_assert!(refused(&[&state[..], &garbage].concat()), "{}", &spec);
            prop_assert!(refused(&[]), "{} has a state and takes none", &spec);
        }
    }
}
