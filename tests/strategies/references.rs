//! The strategies against the results of the reference programs.

use crate::golden;

use golden::{
    Golden, GoldenRun, Input, author,
    claims::{Claim, claim, claimed, exactly, replayed},
    numbers, update, weights,
};
use half::f16;
use peerfold::{
    strategy::{FoldError, Folded, Round, Strategy, StrategyError, StrategySpec, Update},
    weights::{DType, Tensor, TensorSpec, Weights},
};
use std::{collections::BTreeMap, fs, panic::catch_unwind, path::Path};

/// Runs a file through this strategy, which repeats it. An error says what differs.
fn replay(path: &Path, file: &Golden, spec: &StrategySpec, claim: Claim, deltas: bool) -> Result<(), String> {
    let mut strategy = spec.build().unwrap();
    strategy.begin(&weights(&file.initial));
    assert!(!file.rounds.is_empty());
    for (number, round) in file.rounds.iter().enumerate() {
        let place = format!("{} round {} by {spec}", path.display(), number + 1);
        let inputs: Vec<_> = round.inputs.iter().map(|input| weights(&input.tensors)).collect();
        let with_figures = |(at, (weights, input)): (usize, (_, &Input))| Update {
            staleness: input.t_diff,
            loss: input.train_loss.or(round.server_loss),
            delta: deltas,
            ..update(author(at as u8), weights, input.num_examples)
        };
        let updates: Vec<_> = inputs.iter().zip(&round.inputs).enumerate().map(with_figures).collect();
        // A restart between any two folds changes nothing.
        let (saved, mut again) = (strategy.save(), spec.build().unwrap());
        again.restore(&saved).unwrap();
        assert_eq!(again.save(), saved, "{place}");
        // What has no state has no x either, which differences need.
        if !saved.is_empty() {
            strategy = again;
        }
        let number = round.server_round.unwrap_or(number as u64 + 1);
        let folded = strategy.fold(&Round { number, updates: &updates, failures: file.failures() });
        match &round.output {
            Some(expected) => {
                let folded = folded.map_err(|error| format!("{place}: {error}"))?;
                let got = numbers(&folded.weights);
                if !claim.holds(&got, expected) {
                    return Err(format!("{place}: {got:?} where the reference gave {expected:?}"));
                }
                assert_eq!(folded.shares.len(), updates.len(), "{place}");
            }
            None => {
                let refused = match file.strategy.split('_').next() {
                    Some("Bulyan") => matches!(folded, Err(FoldError::TooFew { strategy: "bulyan", needed: 7, .. })),
                    Some("FaultTolerantFedAvg") => matches!(folded, Err(FoldError::Incomplete { .. })),
                    _ => matches!(folded, Err(FoldError::Failures { failures }) if failures == file.failures()),
                };
                if !refused || strategy.save() != saved {
                    return Err(format!("{place}: {folded:?}"));
                }
            }
        }
    }
    Ok(())
}

fn replay_all(folder: &str, at_least: usize) {
    let replayed: Vec<_> = replayed(folder).collect();
    assert!(replayed.len() >= at_least, "only {} files of {folder}", replayed.len());
    let mut differing = Vec::new();
    for (path, claim) in replayed {
        let file: Golden = golden::read(&path);
        let spec = file.spec();
        differing.extend(replay(&path, &file, &spec, claim, false).err());
        if spec.params.get("send_gradients").is_some_and(|value| value == "true") {
            // The same, if each update says that it is a difference.
            differing.extend(replay(&path, &file, &spec.with("send_gradients", false), claim, true).err());
        }
        if file.strategy.starts_with("AsyncFedED_paflm") {
            let by_its_name = StrategySpec { name: "AsyncFedED".to_owned(), ..file.spec() };
            differing.extend(replay(&path, &file, &by_its_name, claim, false).err());
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn flwr_1_6() {
    replay_all("flwr-1.6", 11);
}

#[test]
fn flwr_1_41_by_both_of_its_interfaces() {
    replay_all("flwr-1.41", 11);
}

#[test]
fn flower_async() {
    replay_all("flower-async", 4);
}

/// A folder or a file of a new kind fails here until it is replayed.
#[test]
fn every_golden_file_is_claimed_by_a_test() {
    let known = ["flower-async", "flwr-1.41", "flwr-1.6", "flwr-serverless"];
    for folder in golden::folders() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
            assert!(known.iter().any(|known| **known == *entry.file_name()), "{} is new", entry.path().display());
        }
    }
    for folder in known {
        assert!(!claimed(folder).is_empty(), "no files of {folder}");
    }
    assert_eq!(claim("flwr-1.6", "MultiKrum_f1_sel3__n5.json"), None);
    assert_eq!(claim("flwr-1.41", "FedNova__n5.json"), None);
    assert_eq!(claim("flower-async", "FedAvg__n5.json"), None);
}

/// flower-async's weights of stale updates and of examples, read off folds of one coordinate: from 0 towards 1.
#[test]
fn staleness_weights_are_those_of_flower_async() {
    for path in golden::files("flower-async", &["staleness_scalars"]) {
        let file: BTreeMap<String, serde_json::Value> = golden::read(&path);
        let params = file["params"].as_object().unwrap();
        let weight = |spec: StrategySpec, tau: f64, count: u64| {
            let (zero, one) = (golden::one(0.0), golden::one(1.0));
            let mut strategy = spec.build().unwrap();
            strategy.begin(&zero);
            let updates = [Update { staleness: tau, ..update(author(1), &one, count) }];
            golden::the_one(&strategy.fold(&golden::round(1, &updates)).unwrap().weights)
        };
        let with_params = |name: &str| {
            let spec = StrategySpec::new(name).with("use_staleness", true);
            params.iter().fold(spec, |spec, (name, value)| spec.with(name, value))
        };
        // All of the update, except for what staleness and examples take away.
        let fedasync = with_params("fedasync").with("fedasync_mixing_alpha", 1);
        let hinge = fedasync.clone().with("staleness_function", "hinge").with("hinge_a", 10).with("hinge_b", 4);
        let constant = fedasync.clone().with("staleness_function", "constant");
        let pairs = |name: &str| -> Vec<(f64, f64)> { serde_json::from_value(file[name].clone()).unwrap() };
        let close = |what: &str, spec: &StrategySpec, tau: f64, count: u64, expected: f64| {
            for spec in [spec.clone(), spec.clone().with("reference", "flower-async")] {
                let got = weight(spec.clone(), tau, count);
                assert!((got - expected).abs() <= 4e-16 * expected, "{what} of {tau} by {spec}: {got}, not {expected}");
            }
        };
        for name in file.keys() {
            match name.as_str() {
                "poly" => pairs(name).into_iter().for_each(|(tau, s)| close(name, &fedasync, tau, 7, s)),
                "hinge_a10_b4" => pairs(name).into_iter().for_each(|(tau, s)| close(name, &hinge, tau, 7, s)),
                "constant" => close(name, &constant, 3.0, 7, file[name].as_f64().unwrap()),
                "paflm" => pairs(name).into_iter().for_each(|(tau, s)| close(name, &with_params("paflm"), tau, 7, s)),
                "sample_weight" => {
                    let spec = constant.clone().with("use_sample_weighing", true);
                    pairs(name).into_iter().for_each(|(count, s)| close(name, &spec, 0.0, count as u64, s));
                }
                // The reference's own names for what isn't available like that.
                "versions" | "params" | "average_unweighted" | "average_asyncfeded" => {}
                other => panic!("{}: {other} is tested by nothing", path.display()),
            }
        }
    }
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
            assert!(exactly(&numbers(&got), &event.output), "{} event {number}: {got:?}", path.display());
        }
    }
}

/// What the reference does wrong: without results it gives nothing and says nothing, and all examples 0 divides by zero
/// or gives NaN, after which x is lost.
#[test]
fn edge_cases_are_errors_that_change_nothing() {
    for path in ["flwr-1.6", "flwr-1.41"].iter().flat_map(|folder| golden::files(folder, &["edge_cases"])) {
        let file: BTreeMap<String, BTreeMap<String, Option<String>>> = golden::read(&path);
        let initial = one_tensor(DType::F32, &[1.0, 2.0]);
        let zeros = [update(author(1), &initial, 0), update(author(2), &initial, 0)];
        for (case, outcomes) in file.iter().filter(|(case, _)| *case != "versions") {
            for (name, theirs) in outcomes {
                for reference in [None, Some("flwr-1.6"), Some("flwr-1.41"), Some("flwr-1.41-message")] {
                    let mut spec = StrategySpec::new(name.split('_').next().unwrap().to_lowercase());
                    if name == "Krum_keep2" {
                        spec = spec.with("num_clients_to_keep", 2);
                    }
                    if let Some(reference) = reference {
                        spec = spec.with("reference", reference);
                    }
                    let mut strategy = spec.build().unwrap();
                    strategy.begin(&initial);
                    let before = strategy.save();
                    match (case.as_str(), theirs.as_deref()) {
                        ("no_results", Some("(None, {})")) => {
                            let folded = strategy.fold(&golden::round(1, &[]));
                            assert!(matches!(folded, Err(FoldError::NoUpdates)), "{spec}: {folded:?}");
                        }
                        ("all_zero_examples", Some("finite")) => {
                            assert_eq!(strategy.fold(&golden::round(1, &zeros)).unwrap().weights, initial, "{spec}");
                            continue;
                        }
                        ("all_zero_examples", Some("nan" | "ZeroDivisionError: division by zero")) => {
                            let folded = strategy.fold(&golden::round(1, &zeros));
                            assert!(matches!(folded, Err(FoldError::NoExamples)), "{spec}: {folded:?}");
                        }
                        other => panic!("{}: {name} {other:?} is tested by nothing", path.display()),
                    }
                    assert_eq!(strategy.save(), before, "{spec}");
                }
            }
        }
    }
}

fn one_tensor(dtype: DType, numbers: &[f64]) -> Weights {
    tensor(dtype, vec![numbers.len() as u64], numbers)
}

fn tensor(dtype: DType, shape: Vec<u64>, numbers: &[f64]) -> Weights {
    let element = |&number: &f64| match dtype {
        DType::F32 => (number as f32).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f64(number).to_le_bytes().to_vec(),
        DType::I64 => (number as i64).to_le_bytes().to_vec(),
        other => panic!("no quirk is about {other}"),
    };
    let data: Vec<u8> = numbers.iter().flat_map(element).collect();
    Weights::new(vec![Tensor { spec: TensorSpec { name: "t".to_owned(), dtype, shape }, data: data.into() }]).unwrap()
}

fn fold(spec: &StrategySpec, weights: &[Weights]) -> Result<Folded, FoldError> {
    fold_with(spec, weights, |_| 10)
}

fn fold_with(spec: &StrategySpec, weights: &[Weights], examples: impl Fn(usize) -> u64) -> Result<Folded, FoldError> {
    let with_author = |(at, weights)| update(author(at as u8), weights, examples(at));
    let updates: Vec<_> = weights.iter().enumerate().map(with_author).collect();
    let mut strategy = spec.build().unwrap();
    strategy.begin(&weights[0]);
    strategy.fold(&golden::round(1, &updates))
}

fn of_layout_error(folded: Result<Folded, FoldError>) -> bool {
    matches!(folded, Err(FoldError::Layout { author: named, .. }) if named == author(1))
}

/// What Flower 1.41 does wrong, figure by figure, and what happens here instead.
#[test]
fn quirks_of_flower_are_not_ours() {
    let spec = StrategySpec::new;
    let integers = |spec: StrategySpec| {
        let weights = [one_tensor(DType::I64, &[5.0, 10.0]), one_tensor(DType::I64, &[15.0, 30.0])];
        let refused = fold(&spec, &weights);
        assert!(matches!(refused, Err(FoldError::OnlyIntegers { tensors: 1 })), "{spec}: {refused:?}");
        let folded = fold(&spec.clone().with("integers", "mean"), &weights).unwrap().weights;
        assert_eq!(folded, one_tensor(DType::I64, &[10.0, 20.0]), "{spec}");
    };
    for path in golden::files("flwr-1.41", &["quirks"]) {
        let file: BTreeMap<String, serde_json::Value> = golden::read(&path);
        let is_ours = |quirk: &&String| {
            catch_unwind(|| match quirk.as_str() {
                "int64_FedAvg_inplace" => integers(spec("fedavg")),
                "int64_FedAvg_notinplace" => {
                    integers(spec("fedavg").with("reference", "flwr-1.41").with("inplace", false));
                }
                "int64_FedMedian" => integers(spec("fedmedian")),
                "f16_FedAvg" => {
                    let weights = [one_tensor(DType::F16, &[1.0, 2.0]), one_tensor(DType::F16, &[2.0, 4.0])];
                    let folded = fold(&spec("fedavg"), &weights).unwrap().weights;
                    assert_eq!(folded, one_tensor(DType::F16, &[1.5, 3.0]));
                }
                "0d_FedAvg" => {
                    let weights = [tensor(DType::F32, vec![], &[1.0]), tensor(DType::F32, vec![], &[2.0])];
                    let folded = fold(&spec("fedavg"), &weights).unwrap().weights;
                    assert_eq!(folded, tensor(DType::F32, vec![], &[1.5]));
                }
                "one_nan_client_Krum_f1_keep0" => {
                    one_nan_is_never_chosen(&spec("krum").with("num_malicious_clients", 1))
                }
                "one_nan_client_MultiKrum_f1_keep3" => {
                    let spec = spec("multikrum").with("num_malicious_nodes", 1).with("num_nodes_to_select", 3);
                    one_nan_is_never_chosen(&spec);
                }
                "one_nan_client_Bulyan_f1" => one_nan_is_never_chosen(&spec("bulyan").with("num_malicious_clients", 1)),
                "one_nan_client_FedMedian" => one_nan_is_never_chosen(&spec("fedmedian")),
                "one_nan_client_FedTrimmed0.2" => one_nan_is_never_chosen(&spec("fedtrimmedavg").with("beta", 0.2)),
                // Nothing in a mean tells it from the others: the node's checks keep it out (`tests/nodes/checks.rs`).
                // Whose examples count for nothing doesn't come in by it.
                "one_nan_client_FedAvg" => {
                    let weights = [one_tensor(DType::F32, &[1.0, 2.0]), one_tensor(DType::F32, &[f64::NAN, 2.0])];
                    let folded = fold_with(&spec("fedavg"), &weights, |at| 10 - 10 * at as u64).unwrap();
                    assert_eq!(folded.weights, weights[0]);
                }
                "fake_num_examples_1e15" => {
                    let weights = [0.0, 1.0, 5.0].map(|number| one_tensor(DType::F32, &[number; 2]));
                    let examples = |at| if at == 2 { 1_000_000_000_000_000 } else { 50 };
                    let capped = fold_with(&spec("fedavg").with("max_share", 0.4), &weights, examples).unwrap();
                    assert_eq!(numbers(&capped.weights), [0.3 + 2.0; 2]);
                    let shares: Vec<f64> = capped.shares.iter().map(|share| (share * 10.0).round()).collect();
                    assert_eq!(shares, [3.0, 3.0, 4.0]);
                }
                "fedavgm_round1_empty_then_round2" => fedavgm_goes_on_after_an_empty_first_round(),
                "mismatch_shape" => {
                    let weights = [one_tensor(DType::F32, &[1.0; 2]), one_tensor(DType::F32, &[1.0; 3])];
                    assert!(of_layout_error(fold(&spec("fedavg"), &weights)));
                }
                "mismatch_broadcastable" => {
                    for shape in [vec![1], vec![1, 2], vec![]] {
                        let other =
                            tensor(DType::F32, shape.clone(), &vec![1.0; shape.iter().product::<u64>() as usize]);
                        assert!(of_layout_error(fold(&spec("fedavg"), &[one_tensor(DType::F32, &[1.0; 2]), other])));
                    }
                }
                "mismatch_count" => {
                    let arrays = [1.0, 2.0].map(|number| golden::Array {
                        shape: vec![1],
                        dtype: "float32".to_owned(),
                        data: vec![number],
                    });
                    assert!(of_layout_error(fold(&spec("fedavg"), &[weights(&arrays[..1]), weights(&arrays)])));
                    assert!(of_layout_error(fold(&spec("fedavg"), &[weights(&arrays), weights(&arrays[..1])])));
                }
                "fedtrimmed_beta0.5" => {
                    for beta in ["0.5", "-0.1", "1", "NaN"] {
                        let built = spec("fedtrimmedavg").with("beta", beta).build();
                        assert!(matches!(built.err(), Some(StrategyError::Value { parameter: "beta", .. })), "{beta}");
                    }
                }
                "qfedavg_no_eval" => {
                    let folded = fold(&spec("qfedavg"), &[one_tensor(DType::F32, &[1.0; 2])]);
                    let named = |error: &FoldError| {
                        matches!(error, FoldError::Figure { author: named, what, .. }
                            if *named == author(0) && what.contains("loss"))
                    };
                    assert!(folded.as_ref().is_err_and(named), "{folded:?}");
                }
                // Differential privacy is another part of the program.
                "dp_zero_update" | "dp_adaptive_no_results" => {}
                other => panic!("{other} is tested by nothing"),
            })
            .is_err()
        };
        let ours: Vec<&String> = file.keys().filter(is_ours).collect();
        assert!(ours.is_empty(), "{}: {ours:?}", path.display());
    }
}

/// One of seven updates is not finite, in a way that an attacker can choose: none of it is in the result, whose
/// coordinates are inside the range of the others.
fn one_nan_is_never_chosen(spec: &StrategySpec) {
    let poisons = [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    for (place, poison) in (0..7).flat_map(|place| poisons.map(|poison| (place, poison))) {
        let weights: Vec<Weights> = (0..7)
            .map(|at| match at {
                at if at == place => one_tensor(DType::F32, &[poison, 100.0]),
                at => one_tensor(DType::F32, &[1.0 + 0.01 * at as f64, 2.0 + 0.01 * (at * at) as f64]),
            })
            .collect();
        let folded = fold(spec, &weights).unwrap();
        let [a, b] = numbers(&folded.weights)[..] else { panic!("two numbers") };
        assert!((1.0..=1.07).contains(&a) && (2.0..=2.37).contains(&b), "{spec}, {poison} at {place}: {a} {b}");
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
    assert!(exactly(&numbers(&folded.weights), file.rounds[0].output.as_ref().unwrap()), "{folded:?}");
}
