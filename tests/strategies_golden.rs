//! The strategies against what the references gave.
#![allow(clippy::unwrap_used)]

mod golden;

use golden::{Golden, GoldenRun, author, numbers, update, weights};
use peerfold::{
    strategy::{FoldError, Round, Strategy, StrategySpec, Update},
    weights::Weights,
};
use std::collections::BTreeMap;

/// Runs a file through its strategy and hands each fold's result and the reference's to `compare`.
fn replay(path: &std::path::Path, compare: impl Fn(&str, &[f32], &[golden::Array])) {
    let file: Golden = golden::read(path);
    let mut strategy = file.spec().build().unwrap();
    strategy.begin(&weights(&file.initial));
    for round in &file.rounds {
        let inputs: Vec<_> = round.inputs.iter().map(|input| (weights(&input.tensors), input.num_examples)).collect();
        let updates: Vec<_> =
            inputs.iter().enumerate().map(|(at, (weights, count))| update(author(at as u8), weights, *count)).collect();
        // A restart between any two folds changes nothing.
        let mut again = file.spec().build().unwrap();
        again.restore(&strategy.save()).unwrap();
        strategy = again;
        let failures = file.failures();
        let folded = strategy.fold(&Round { number: round.server_round, updates: &updates, failures });
        let place = format!("{} round {}", path.display(), round.server_round);
        match &round.output {
            Some(expected) => compare(&place, &numbers(&folded.unwrap().weights), expected),
            None => assert!(matches!(folded, Err(FoldError::Failures { failures: 1 })), "{place}"),
        }
    }
}

fn exactly(place: &str, got: &[f32], expected: &[golden::Array]) {
    let expected: Vec<_> = expected.iter().flat_map(|array| &array.data).map(|&value| value as f32).collect();
    let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(got), bits(&expected), "{place}: {got:?} where the reference gave {expected:?}");
}

/// 1e-6, relative; the reference's outputs are f64.
fn closely(place: &str, got: &[f32], expected: &[golden::Array]) {
    let expected: Vec<_> = expected.iter().flat_map(|array| &array.data).copied().collect();
    assert_eq!(got.len(), expected.len());
    for (&got, expected) in got.iter().zip(expected) {
        let error = (f64::from(got) - expected).abs();
        assert!(error <= 1e-6 * expected.abs(), "{place}: {got} where the reference gave {expected}");
    }
}

fn replay_all(folder: &str, prefixes: &[&str], at_least: usize, compare: impl Fn(&str, &[f32], &[golden::Array])) {
    let files = golden::files(folder, prefixes);
    assert!(files.len() >= at_least, "only {} files of {prefixes:?}", files.len());
    files.iter().for_each(|path| replay(path, &compare));
}

#[test]
fn flwr_1_6_to_the_bit() {
    replay_all("flwr-1.6", &["FedAvg", "FedAdam"], 4, exactly);
}

#[test]
fn flwr_1_41_to_the_bit() {
    replay_all("flwr-1.41", &["FedAvg", "new_FedAvg"], 4, exactly);
}

#[test]
fn fedadam_of_flwr_1_41() {
    replay_all("flwr-1.41", &["FedAdam", "new_FedAdam"], 2, closely);
}

/// Three nodes of flwr-serverless: own update first, then those of the others in the order of the nodes; without
/// others the weights stay as they are and no fold is counted.
#[test]
fn whole_runs_of_flwr_serverless() {
    let files = golden::files("flwr-serverless", &["async_FedAvg"]);
    assert!(files.len() >= 2);
    for path in files {
        let run: GoldenRun = golden::read(&path);
        let initial = weights(&run.initial);
        let mut nodes: BTreeMap<&str, (Box<dyn Strategy>, u64)> = BTreeMap::new();
        let mut published: BTreeMap<&str, (Weights, u64)> = BTreeMap::new();
        for (number, event) in run.events.iter().enumerate() {
            published.insert(&event.node, (weights(&event.input), event.num_examples));
            let (strategy, folds) = nodes.entry(&event.node).or_insert_with(|| {
                let mut strategy = run.spec().build().unwrap();
                strategy.begin(&initial);
                (strategy, 0)
            });
            let (own, others): (Vec<_>, Vec<_>) = published.iter().partition(|(node, _)| **node == event.node);
            let got = if others.is_empty() {
                own[0].1.0.clone()
            } else {
                *folds += 1;
                let updates: Vec<Update<'_>> = own
                    .iter()
                    .chain(&others)
                    .map(|(node, (weights, count))| update(author(node.as_bytes()[4]), weights, *count))
                    .collect();
                strategy.fold(&Round { number: *folds, updates: &updates, failures: 0 }).unwrap().weights
            };
            exactly(&format!("{} event {number}", path.display()), &numbers(&got), &event.output);
        }
    }
}

/// What the reference does wrong: all examples 0 divides by zero or gives NaN, and after it x is lost.
#[test]
fn no_examples_is_an_error_and_changes_nothing() {
    for name in ["fedavg", "fedavgm", "fedadam"] {
        for reference in [None, Some("flwr-1.6"), Some("flwr-1.41"), Some("flwr-1.41-message")] {
            let mut spec = StrategySpec::new(name);
            if let Some(reference) = reference {
                spec = spec.with("reference", reference);
            }
            let file: Golden = golden::read(&golden::files("flwr-1.6", &["FedAvg__n5"])[0]);
            let (initial, mut strategy) = (weights(&file.initial), spec.build().unwrap());
            strategy.begin(&initial);
            let before = strategy.save();
            let updates = [update(author(1), &initial, 0), update(author(2), &initial, 0)];
            let folded = strategy.fold(&golden::round(1, &updates));
            assert!(matches!(folded, Err(FoldError::NoExamples)), "{name}: {folded:?}");
            let folded = strategy.fold(&golden::round(1, &[]));
            assert!(matches!(folded, Err(FoldError::NoUpdates)), "{name}: {folded:?}");
            assert_eq!(strategy.save(), before);
        }
    }
}

/// What the reference does wrong: FedAvgM asserts in every later round when the first was empty.
#[test]
fn fedavgm_goes_on_after_an_empty_first_round() {
    let path = golden::files("flwr-1.6", &["FedAvgM_lr0.5_m0.9__n5"]).remove(0);
    let file: Golden = golden::read(&path);
    let inputs: Vec<_> = file.rounds[0].inputs.iter().map(|input| weights(&input.tensors)).collect();
    let updates: Vec<_> = inputs
        .iter()
        .zip(&file.rounds[0].inputs)
        .map(|(weights, input)| update(author(1), weights, input.num_examples))
        .collect();
    let mut strategy = file.spec().build().unwrap();
    strategy.begin(&weights(&file.initial));
    assert!(strategy.fold(&golden::round(1, &[])).is_err());
    let folded = strategy.fold(&golden::round(2, &updates)).unwrap();
    exactly("the first fold, in round 2", &numbers(&folded.weights), file.rounds[0].output.as_ref().unwrap());
}
