//! Rounds that can't be folded: the error says why, and the strategy's state is as if they hadn't happened.

use crate::{
    golden::{author, round, update},
    made::{Draws, floats, of_all_kinds, singles, tensor, values},
    rules::{all, spec, without_reference},
};
use bytes::Bytes;
use libp2p_identity::PeerId;
use peerfold::{
    strategy::{FoldError, Round, StrategySpec, Update},
    weights::{DType, Layout, ReadError, TensorReader, Weights},
};
use std::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
};

fn made(seed: u64, count: usize) -> Vec<Weights> {
    let mut draws = Draws(seed);
    (0..count).map(|mark| of_all_kinds(mark as u8, || draws.number())).collect()
}

fn with_figures(number: u8, weights: &dyn TensorReader, epoch: u64) -> Update<'_> {
    Update { epoch, loss: Some(0.5), own: number == 0, ..Update::new(author(number), weights, 10) }
}

fn seven(weights: &[Weights], epoch: u64) -> Vec<Update<'_>> {
    (0..7).zip(weights).map(|(number, weights)| with_figures(number, weights, epoch)).collect()
}

/// Folds once, then a round that must fail in this way, then once more: with or without the failure the same comes out.
fn fails_without_a_trace(spec: &StrategySpec, bad: &Round<'_>, of_kind: impl Fn(&FoldError) -> bool) {
    let (mut tried, mut spared) = (spec.build().unwrap(), spec.build().unwrap());
    let initial = made(40, 1);
    for folds in 0..2 {
        for strategy in [&mut tried, &mut spared] {
            if folds == 0 {
                strategy.begin(&initial[0]);
            } else {
                strategy.fold(&round(folds, &seven(&made(folds, 7), folds))).unwrap();
            }
        }
        let before = tried.save();
        let folded = tried.fold(bad);
        assert!(folded.as_ref().is_err_and(&of_kind), "{spec} after {folds} folds: {folded:?}");
        assert!(tried.save() == before, "{spec} after {folds} folds has another state");
    }
    let (weights, number) = (made(9, 7), 2);
    let [a, b] = [tried, spared].map(|mut strategy| {
        let folded = strategy.fold(&round(number, &seven(&weights, number))).unwrap();
        (folded, strategy.save())
    });
    assert!(a == b, "{spec} doesn't go on as if nothing had been");
}

#[test]
fn no_updates() {
    for spec in all() {
        fails_without_a_trace(&spec, &round(1, &[]), |error| matches!(error, FoldError::NoUpdates));
    }
}

#[test]
fn failures_that_are_not_accepted() {
    let weights = made(3, 7);
    let updates = seven(&weights, 5);
    for spec in all() {
        let spec = spec.with("accept_failures", false);
        let bad = Round { number: 1, updates: &updates, failures: 2 };
        fails_without_a_trace(&spec, &bad, |error| matches!(error, FoldError::Failures { failures: 2 }));
        let mut strategy = spec.build().unwrap();
        strategy.begin(&weights[0]);
        strategy.fold(&Round { number: 1, updates: &updates, failures: 0 }).unwrap_or_else(|e| panic!("{spec}: {e}"));
    }
}

#[test]
fn failures_that_are_accepted_are_of_no_consequence() {
    let weights = made(3, 7);
    let updates = seven(&weights, 5);
    for spec in all() {
        let [a, b] = [0, 2].map(|failures| {
            let mut strategy = spec.build().unwrap();
            strategy.begin(&weights[0]);
            (strategy.fold(&Round { number: 1, updates: &updates, failures }).unwrap(), strategy.save())
        });
        assert!(a == b, "{spec}");
    }
}

#[test]
fn too_many_failures_for_faulttolerantfedavg() {
    let weights = made(3, 7);
    let updates = seven(&weights, 5);
    for (rate, failures, enough) in
        [("0.5", 7, true), ("0.5", 8, false), ("0", 1000, true), ("1", 1, false), ("1", 0, true)]
    {
        for reference in ["", " reference=flwr-1.6", " reference=flwr-1.41"] {
            let spec = spec(&format!("faulttolerantfedavg min_completion_rate_fit={rate}{reference}"));
            let tried = Round { number: 1, updates: &updates, failures };
            if enough {
                spec.build().unwrap().fold(&tried).unwrap_or_else(|error| panic!("{spec}: {error}"));
            } else {
                fails_without_a_trace(
                    &spec,
                    &tried,
                    |error| matches!(error, FoldError::Incomplete { results: 7, failures: of, .. } if *of == failures),
                );
            }
        }
    }
}

/// An error for what weighs by examples, and none of its business for the others.
#[test]
fn nobody_trained() {
    let by_examples = [
        "fedavg",
        "fedprox",
        "faulttolerantfedavg",
        "fedavgm",
        "fedadagrad",
        "fedadam",
        "fedyogi",
        "multikrum",
        "asofed",
        "safa",
        "port",
        "geometricmedian",
        "normbound",
    ];
    let weights = made(3, 7);
    let updates: Vec<_> = seven(&weights, 5).into_iter().map(|update| Update { num_examples: 0, ..update }).collect();
    for spec in all() {
        let sampled = spec.params.get("use_sample_weighing").is_some_and(|value| value == "true")
            && !spec.params.contains_key("total_samples");
        let kept = spec.params.contains_key("num_clients_to_keep");
        let total = spec.name == "asofed" && spec.params.contains_key("total_samples");
        if (by_examples.contains(&spec.name.as_str()) || sampled || kept) && !total {
            // SAFA and ASO-Fed know those of earlier folds, too.
            if ["safa", "asofed"].contains(&spec.name.as_str()) {
                let mut strategy = spec.build().unwrap();
                strategy.begin(&weights[0]);
                let before = strategy.save();
                assert!(matches!(strategy.fold(&round(1, &updates)), Err(FoldError::NoExamples)), "{spec}");
                assert_eq!(strategy.save(), before, "{spec}");
                continue;
            }
            fails_without_a_trace(&spec, &round(1, &updates), |error| matches!(error, FoldError::NoExamples));
        } else {
            let mut strategy = spec.build().unwrap();
            strategy.begin(&weights[0]);
            let folded = strategy.fold(&round(1, &updates)).unwrap_or_else(|error| panic!("{spec}: {error}"));
            assert!(values(&folded.weights).iter().all(|value| value.is_finite()), "{spec}");
        }
    }
}

#[test]
fn fewer_updates_than_the_rule_needs() {
    for malicious in [1, 2] {
        for (text, factor) in [
            ("krum num_malicious_clients=", 2),
            ("krum num_clients_to_keep=1 num_malicious_nodes=", 2),
            ("multikrum num_malicious_nodes=", 2),
            ("bulyan num_malicious_clients=", 4),
        ] {
            let spec = spec(&format!("{text}{malicious}"));
            let needed = factor * malicious + 3;
            let weights = made(3, needed);
            let updates: Vec<_> = (0..).zip(&weights).map(|(number, w)| update(author(number), w, 3)).collect();
            for count in 1..needed {
                let folded = spec.build().unwrap().fold(&round(1, &updates[..count]));
                let refused = matches!(&folded, Err(FoldError::TooFew { strategy, needed: least, updates, .. })
                    if *strategy == spec.name && *least == needed && *updates == count);
                assert!(refused, "{spec} with {count}: {folded:?}");
            }
            spec.build().unwrap().fold(&round(1, &updates)).unwrap_or_else(|error| panic!("{spec}: {error}"));
        }
    }
    // Bulyan promises nothing below three even without attackers.
    let weights = made(3, 2);
    let updates: Vec<_> = (0..).zip(&weights).map(|(number, w)| update(author(number), w, 3)).collect();
    assert!(matches!(
        spec("bulyan").build().unwrap().fold(&round(1, &updates)),
        Err(FoldError::TooFew { needed: 3, .. })
    ));
    let huge = spec("krum").with("num_malicious_clients", u64::MAX).build().unwrap().fold(&round(1, &updates));
    assert!(matches!(huge, Err(FoldError::TooFew { .. })), "{huge:?}");
}

#[test]
fn one_update_alone() {
    let weights = made(3, 2);
    for spec in all() {
        let few = spec.params.iter().any(|(name, value)| name.starts_with("num_malicious") && value != "0");
        let mut strategy = spec.build().unwrap();
        strategy.begin(&weights[0]);
        let folded = strategy.fold(&round(1, &[with_figures(3, &weights[1], 1)]));
        if spec.name == "bulyan" || few {
            assert!(matches!(folded, Err(FoldError::TooFew { updates: 1, .. })), "{spec}: {folded:?}");
            continue;
        }
        let folded = folded.unwrap_or_else(|error| panic!("{spec}: {error}"));
        assert!(values(&folded.weights).iter().all(|value| value.is_finite()), "{spec}");
        if crate::rules::MEMORYLESS.contains(&spec.name.as_str()) {
            assert_eq!(folded.shares, [1.0], "{spec}");
            let near = values(&folded.weights).iter().zip(values(&weights[1])).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(near, "{spec} makes something else of it");
        }
    }
}

#[test]
fn a_loss_that_is_none() {
    let weights = made(3, 7);
    for loss in [None, Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY), Some(-1e-300)] {
        let mut updates = seven(&weights, 3);
        updates[4].loss = loss;
        for spec in all().into_iter().filter(|spec| spec.name == "qfedavg") {
            fails_without_a_trace(
                &spec,
                &round(1, &updates),
                |error| matches!(error, FoldError::Figure { author: named, strategy: "qfedavg", .. } if *named == author(4)),
            );
        }
    }
    // However large, nothing but a finite result or an error comes of it.
    for loss in [0.0, 5e-324, 1e300, f64::MAX] {
        for (q, all_of_them) in [(0.0, true), (0.2, true), (1.0, false), (5.0, true), (5.0, false), (100.0, true)] {
            let mut updates = seven(&weights, 3);
            updates[2].loss = Some(loss);
            if all_of_them {
                updates.iter_mut().for_each(|update| update.loss = Some(loss));
            }
            let mut strategy = spec("qfedavg").with("q_param", q).build().unwrap();
            strategy.begin(&weights[0]);
            match strategy.fold(&round(1, &updates)) {
                Ok(folded) => {
                    let finite = values(&folded.weights).iter().all(|value| value.is_finite());
                    assert!(finite, "loss {loss} q {q}: {:?}", folded.shares);
                }
                Err(error) => assert!(matches!(error, FoldError::NotFinite { .. }), "loss {loss} q {q}: {error}"),
            }
        }
    }
}

fn of_layout(error: &FoldError, author: PeerId, part: &str) -> bool {
    matches!(error, FoldError::Layout { author: named, difference } if *named == author && difference.contains(part))
}

#[test]
fn layouts_that_differ() {
    let weights = made(3, 7);
    let tensors = || -> Vec<_> {
        let of = |(spec, data): (&peerfold::weights::TensorSpec, &Bytes)| peerfold::weights::Tensor {
            spec: spec.clone(),
            data: data.clone(),
        };
        weights[0].tensors().map(of).collect()
    };
    let change = |at: usize, replacement: Option<peerfold::weights::Tensor>| {
        let mut tensors = tensors();
        tensors.remove(at);
        tensors.extend(replacement);
        Weights::new(tensors).unwrap()
    };
    let others = [
        (change(0, None), "a f64[3] is missing"),
        (change(0, Some(floats("a", DType::F32, &[0.0; 3]))), "a f32[3] where a f64[3] is expected"),
        (change(0, Some(floats("a", DType::F64, &[0.0; 4]))), "a f64[4]"),
        (change(0, Some(tensor("a", DType::F64, &[3, 1], vec![0; 24]))), "a f64[3, 1]"),
        (change(0, Some(tensor("a", DType::F64, &[1], vec![0; 8]))), "a f64[1]"),
        (change(0, Some(tensor("a", DType::F64, &[], vec![0; 8]))), "a f64[]"),
        (change(0, Some(floats("A", DType::F64, &[0.0; 3]))), "a f64[3] is missing"),
        (
            Weights::new([tensors(), vec![floats("z", DType::F64, &[0.0])]].concat()).unwrap(),
            "z f64[1] is not expected",
        ),
    ];
    for spec in all() {
        for (other, part) in &others {
            let mut updates = seven(&weights, 3);
            updates[5].weights = other;
            fails_without_a_trace(&spec, &round(1, &updates), |error| of_layout(error, author(5), part));
            // The node's own layout is the right one, wherever it stands.
            updates.swap(0, 5);
            let mut strategy = spec.build().unwrap();
            strategy.begin(&weights[0]);
            let folded = strategy.fold(&round(1, &updates));
            assert!(folded.as_ref().is_err_and(|error| of_layout(error, author(5), part)), "{spec}: {folded:?}");
        }
    }
}

/// Gives what the other gives until it has been asked so often, and then fails in one of several ways.
struct Failing<'a> {
    weights: &'a Weights,
    how: usize,
    after: usize,
    asked: AtomicUsize,
}

impl TensorReader for Failing<'_> {
    fn layout(&self) -> &Layout {
        Weights::layout(self.weights)
    }

    fn read(&self, tensor: usize, range: Range<u64>) -> Result<Bytes, ReadError> {
        let read = self.weights.read(tensor, range.clone())?;
        if self.asked.fetch_add(1, Ordering::Relaxed) < self.after {
            return Ok(read);
        }
        let place = "a test".to_owned();
        match self.how {
            0 => Err(ReadError::Damaged { place, what: "on purpose".to_owned() }),
            1 => Err(ReadError::Io { place, source: std::io::Error::other("on purpose") }),
            2 => Ok(read.slice(1..)),
            3 => Ok([&read[..], &[0]].concat().into()),
            _ => Ok(Bytes::new()),
        }
    }
}

#[test]
fn an_update_that_cant_be_read() {
    let weights = made(3, 7);
    for spec in all() {
        for (how, after) in [(0, 0), (1, 1), (2, 3), (3, 9), (4, 5)] {
            let failing = Failing { weights: &weights[4], how, after, asked: AtomicUsize::new(0) };
            let mut updates = seven(&weights, 3);
            updates[4].weights = &failing;
            let mut strategy = spec.build().unwrap();
            strategy.begin(&weights[0]);
            strategy.fold(&round(1, &seven(&made(1, 7), 1))).unwrap();
            let before = strategy.save();
            let folded = strategy.fold(&round(2, &updates));
            // Some rules never read it: it wasn't chosen.
            if failing.asked.load(Ordering::Relaxed) <= after && folded.is_ok() {
                continue;
            }
            let named = matches!(&folded, Err(FoldError::Read { author: named, .. }) if *named == author(4));
            assert!(named, "{spec} {how} after {after}: {folded:?}");
            assert!(strategy.save() == before, "{spec} {how} after {after}");
            let mut spared = spec.build().unwrap();
            spared.begin(&weights[0]);
            spared.fold(&round(1, &seven(&made(1, 7), 1))).unwrap();
            let good = seven(&weights, 3);
            assert!(strategy.fold(&round(2, &good)).unwrap() == spared.fold(&round(2, &good)).unwrap(), "{spec}");
        }
    }
}

/// No elements, no tensors, none that can be averaged: nothing divides by what isn't there.
#[test]
fn weights_without_numbers() {
    let empty = Weights::new(vec![]).unwrap();
    let zero = Weights::new(vec![floats("e", DType::F32, &[])]).unwrap();
    let integers = Weights::new(vec![tensor("i", DType::I64, &[2], vec![7; 16])]).unwrap();
    for weights in [empty, zero, integers.clone()] {
        for spec in all() {
            let mut strategy = spec.build().unwrap();
            strategy.begin(&weights);
            for number in 1..4 {
                let updates: Vec<_> = (0..7).map(|at| with_figures(at, &weights, number)).collect();
                let folded = strategy.fold(&round(number, &updates));
                if weights == integers {
                    assert!(matches!(folded, Err(FoldError::OnlyIntegers { tensors: 1 })), "{spec}: {folded:?}");
                    continue;
                }
                let folded = folded.unwrap_or_else(|error| panic!("{spec}: {error}"));
                assert_eq!(folded.weights, weights, "{spec}");
                assert!(folded.shares.iter().all(|share| share.is_finite()), "{spec}: {:?}", folded.shares);
                let state = strategy.save();
                strategy.restore(&state).unwrap();
            }
        }
    }
}

/// Equal to x in all coordinates: directions and lengths that are 0.
#[test]
fn updates_that_did_not_move() {
    let weights = singles(&[1.0, -2.0, 0.0]);
    for spec in without_reference() {
        let mut strategy = spec.build().unwrap();
        strategy.begin(&weights);
        for number in 1..4 {
            let updates: Vec<_> = (0..7).map(|at| with_figures(at, &weights, number)).collect();
            let folded = strategy.fold(&round(number, &updates)).unwrap_or_else(|error| panic!("{spec}: {error}"));
            let near = values(&folded.weights).iter().zip([1.0, -2.0, 0.0]).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(near, "{spec}: {:?}", values(&folded.weights));
        }
    }
}
