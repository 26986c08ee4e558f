//! Properties of the strategies that hold for every input.

use crate::golden;

use golden::{author, round, update};
use half::{bf16, f16};
use peerfold::{
    strategy::{FoldError, STRATEGIES, Strategy, StrategyError, StrategySpec, Update},
    weights::{DType, Layout, ReadError, Tensor, TensorReader, TensorSpec, Weights},
};
use proptest::{prelude::*, strategy::Strategy as _};
use std::ops::Range;

const FLOATS: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

/// One tensor of each float dtype with these numbers, and one of integers.
fn mixed(numbers: &[f64], counter: i64) -> Weights {
    let mut tensors: Vec<Tensor> = FLOATS
        .iter()
        .map(|&dtype| {
            let bytes = numbers.iter().flat_map(|&number| match dtype {
                DType::F64 => number.to_le_bytes().to_vec(),
                DType::F32 => (number as f32).to_le_bytes().to_vec(),
                DType::F16 => f16::from_f64(number).to_le_bytes().to_vec(),
                _ => bf16::from_f64(number).to_le_bytes().to_vec(),
            });
            let spec = TensorSpec { name: dtype.to_string(), dtype, shape: vec![numbers.len() as u64] };
            Tensor { spec, data: bytes.collect::<Vec<u8>>().into() }
        })
        .collect();
    let spec = TensorSpec { name: "counter".to_owned(), dtype: DType::I64, shape: vec![] };
    tensors.push(Tensor { spec, data: counter.to_le_bytes().to_vec().into() });
    Weights::new(tensors).unwrap()
}

/// The elements as integers in the order of the numbers, so that neighbours differ by 1.
fn ordered(dtype: DType, data: &[u8]) -> Vec<i128> {
    data.chunks_exact(dtype.size() as usize)
        .map(|element| {
            let mut bytes = [0; 16];
            bytes[..element.len()].copy_from_slice(element);
            let bits = i128::from_le_bytes(bytes);
            let sign = 1i128 << (element.len() * 8 - 1);
            if bits & sign == 0 { bits } else { sign - bits }
        })
        .collect()
}

fn at_most_one_ulp_apart(a: &Weights, b: &Weights) {
    for ((spec, a), (_, b)) in a.tensors().zip(b.tensors()) {
        for (a, b) in ordered(spec.dtype, a).into_iter().zip(ordered(spec.dtype, b)) {
            assert!((a - b).abs() <= 1, "{spec}: {a:#x} and {b:#x}");
        }
    }
}

fn fedavg() -> Box<dyn Strategy> {
    StrategySpec::new("fedavg").build().unwrap()
}

fn specs() -> Vec<StrategySpec> {
    let references = [None, Some("flwr-1.6"), Some("flwr-1.41"), Some("flwr-1.41-message")];
    let names = ["fedavg", "fedavgm", "fedadam"];
    let pairs = names.iter().flat_map(|name| references.map(|reference| (*name, reference)));
    pairs
        .map(|(name, reference)| {
            let spec = StrategySpec::new(name);
            let spec = if name == "fedavgm" { spec.with("server_momentum", 0.9) } else { spec };
            if let Some(reference) = reference { spec.with("reference", reference) } else { spec }
        })
        .collect()
}

fn clients(most: usize) -> impl proptest::strategy::Strategy<Value = Vec<(Vec<f64>, u64)>> {
    let client = (prop::collection::vec(-100.0..100.0f64, 5), 0..1_000_000u64);
    prop::collection::vec(client, 1..most).prop_filter("somebody trained", |clients| clients.iter().any(|c| c.1 > 0))
}

fn weights_of(clients: &[(Vec<f64>, u64)]) -> Vec<Weights> {
    clients.iter().enumerate().map(|(at, (numbers, _))| mixed(numbers, at as i64)).collect()
}

fn updates_of<'a>(clients: &[(Vec<f64>, u64)], weights: &'a [Weights]) -> Vec<Update<'a>> {
    let clients = clients.iter().zip(weights).enumerate();
    clients.map(|(at, ((_, count), weights))| update(author(at as u8), weights, *count)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_the_updates_is_of_no_consequence(
        (clients, order) in clients(20).prop_flat_map(|clients| {
            let order: Vec<usize> = (0..clients.len()).collect();
            (Just(clients), Just(order).prop_shuffle())
        })
    ) {
        let weights = weights_of(&clients);
        let updates = updates_of(&clients, &weights);
        let shuffled: Vec<_> = order.iter().map(|&at| updates[at]).collect();
        let (a, b) = (fedavg().fold(&round(1, &updates)).unwrap(), fedavg().fold(&round(1, &shuffled)).unwrap());
        prop_assert_eq!(a.weights, b.weights);
        // The shares are in the round's order.
        let shares: Vec<_> = order.iter().map(|&at| a.shares[at]).collect();
        prop_assert_eq!(&b.shares, &shares);
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    /// Even if authors, and with them the order of the sum, are others: an ulp, and what the f64 sum can lose.
    #[test]
    fn the_order_of_the_sum_is_of_next_to_no_consequence(clients in clients(20)) {
        let weights = weights_of(&clients);
        let mut updates = updates_of(&clients, &weights);
        let a = fedavg().fold(&round(1, &updates)).unwrap().weights;
        let authors: Vec<_> = updates.iter().map(|update| update.author).rev().collect();
        updates.iter_mut().zip(authors).for_each(|(update, author)| update.author = author);
        let b = fedavg().fold(&round(1, &updates)).unwrap().weights;
        for dtype in FLOATS {
            let (a, b) = (a.get(&dtype.to_string()).unwrap().1, b.get(&dtype.to_string()).unwrap().1);
            for (at, (x, y)) in ordered(dtype, a).into_iter().zip(ordered(dtype, b)).enumerate() {
                // Sums that cancel to less than 1e-6 of their terms have fewer digits left than f64 has.
                let cancelled = clients.iter().map(|c| c.0[at] * c.1 as f64).sum::<f64>().abs()
                    < 1e-6 * clients.iter().map(|c| c.0[at].abs() * c.1 as f64).sum::<f64>();
                prop_assert!((x - y).abs() <= 1 || cancelled, "{} {:#x} {:#x}", dtype, x, y);
            }
        }
    }

    #[test]
    fn equal_updates_fold_into_themselves(
        numbers in prop::collection::vec(prop_oneof![-1e4..1e4f64, -1e-3..1e-3f64, Just(-0.0)], 1..9),
        counts in prop::collection::vec(1..u64::from(u32::MAX), 1..20),
    ) {
        let weights = mixed(&numbers, 3);
        let updates: Vec<_> =
            counts.iter().enumerate().map(|(at, &count)| update(author(at as u8), &weights, count)).collect();
        at_most_one_ulp_apart(&fedavg().fold(&round(1, &updates)).unwrap().weights, &weights);
    }

    #[test]
    fn integers_are_those_of_the_newest_update(epochs in prop::collection::vec(0..3u64, 1..8)) {
        let weights: Vec<_> = (0..epochs.len()).map(|at| mixed(&[1.0], 10 + at as i64)).collect();
        let mut updates: Vec<_> = weights.iter().enumerate().map(|(at, w)| update(author(at as u8), w, 1)).collect();
        updates.iter_mut().zip(&epochs).for_each(|(update, &epoch)| update.epoch = epoch);
        let newest = *epochs.iter().max().unwrap();
        let chosen = (0..epochs.len()).filter(|&at| epochs[at] == newest).min_by_key(|&at| author(at as u8)).unwrap();
        let initial = mixed(&[1.0], -1);
        for spec in specs() {
            let mut strategy = spec.build().unwrap();
            strategy.begin(&initial);
            let folded = strategy.fold(&round(1, &updates)).unwrap().weights;
            let bytes: [u8; 8] = folded.get("counter").unwrap().1.as_ref().try_into().unwrap();
            prop_assert_eq!(i64::from_le_bytes(bytes), 10 + chosen as i64, "{}", spec);
        }
    }

    #[test]
    fn a_restored_strategy_goes_on_to_the_bit(clients in clients(5), folds in 0..4u64) {
        let weights = weights_of(&clients);
        let updates = updates_of(&clients, &weights);
        for spec in specs() {
            let mut strategy = spec.build().unwrap();
            strategy.begin(&weights[0]);
            for number in 1..=folds {
                strategy.fold(&round(number, &updates)).unwrap();
            }
            let mut restored = spec.build().unwrap();
            restored.restore(&strategy.save()).unwrap();
            for number in folds + 1..folds + 3 {
                let a = strategy.fold(&round(number, &updates)).unwrap();
                let b = restored.fold(&round(number, &updates)).unwrap();
                prop_assert_eq!(a, b, "{}", &spec);
            }
            prop_assert_eq!(strategy.save(), restored.save());
        }
    }

    #[test]
    fn garbage_is_never_taken_for_a_state(garbage in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>()) {
        let weights = mixed(&[1.0, 2.0], 3);
        for spec in specs() {
            let mut strategy = spec.build().unwrap();
            strategy.begin(&weights);
            strategy.fold(&round(1, &[update(author(1), &weights, 1)])).unwrap();
            let state = strategy.save();
            let refused = |bytes: &[u8]| matches!(spec.build().unwrap().restore(bytes), Err(FoldError::State { .. }));
            prop_assert!(refused(&garbage));
            if !state.is_empty() {
                let mut damaged = state.clone();
                damaged[at.index(state.len())] ^= 1 + garbage[0] % 255;
                prop_assert!(refused(&damaged));
                prop_assert!(refused(&state[..at.index(state.len())]) || at.index(state.len()) == 0);
            }
        }
    }
}

#[test]
fn a_state_is_only_for_its_strategy_and_reference() {
    let weights = mixed(&[1.0], 3);
    let mut saved = Vec::new();
    for spec in specs().into_iter().filter(|spec| spec.name != "fedavg") {
        let mut strategy = spec.build().unwrap();
        strategy.begin(&weights);
        strategy.fold(&round(1, &[update(author(1), &weights, 1)])).unwrap();
        saved.push((spec, strategy.save()));
    }
    for (a, _) in &saved {
        for (b, state) in &saved {
            let mut strategy = a.build().unwrap();
            strategy.begin(&weights);
            let before = strategy.save();
            assert_eq!(strategy.restore(state).is_ok(), a == b, "{a} from {b}");
            assert!(a == b || strategy.save() == before);
        }
    }
}

#[test]
fn another_layout_is_named_with_its_author() {
    let (ours, theirs) = (mixed(&[1.0], 1), mixed(&[1.0, 2.0], 1));
    let mut own = update(author(1), &ours, 1);
    own.own = true;
    for updates in [[own, update(author(2), &theirs, 1)], [update(author(2), &theirs, 1), own]] {
        match fedavg().fold(&round(1, &updates)) {
            Err(FoldError::Layout { author: named, difference }) => {
                assert_eq!(named, author(2));
                assert!(difference.contains("bf16"), "{difference}");
            }
            other => panic!("{other:?}"),
        }
    }
    let mut strategy = StrategySpec::new("fedadam").build().unwrap();
    strategy.begin(&theirs);
    assert!(matches!(strategy.fold(&round(1, &[own])), Err(FoldError::Layout { .. })));
}

/// Gives the first tensors and then fails.
struct Failing(Weights);

impl TensorReader for Failing {
    fn layout(&self) -> &Layout {
        Weights::layout(&self.0)
    }

    fn read(&self, tensor: usize, range: Range<u64>) -> Result<bytes::Bytes, ReadError> {
        match tensor {
            0..3 => self.0.read(tensor, range),
            3 => Ok(self.0.read(tensor, range)?.slice(1..)),
            _ => Err(ReadError::OutOfRange { tensor, range }),
        }
    }
}

#[test]
fn a_fold_that_fails_changes_nothing() {
    let weights = mixed(&[1.0, 2.0], 3);
    let failing = Failing(mixed(&[5.0, 6.0], 3));
    for spec in specs() {
        let mut strategy = spec.build().unwrap();
        strategy.begin(&weights);
        strategy.fold(&round(1, &[update(author(1), &weights, 1)])).unwrap();
        let before = strategy.save();
        let mut bad = update(author(2), &weights, 1);
        bad.weights = &failing;
        let folded = strategy.fold(&round(2, &[update(author(1), &weights, 1), bad]));
        assert!(matches!(folded, Err(FoldError::Read { author: named, .. }) if named == author(2)), "{folded:?}");
        assert_eq!(strategy.save(), before);
    }
}

#[test]
fn a_step_needs_weights_to_begin_from() {
    let weights = mixed(&[1.0], 3);
    let updates = [update(author(1), &weights, 1)];
    let mut strategy = StrategySpec::new("fedadam").build().unwrap();
    assert!(matches!(strategy.fold(&round(1, &updates)), Err(FoldError::NotBegun { strategy: "fedadam" })));
    // Without a momentum it is FedAvg and needs none.
    let mut strategy = StrategySpec::new("fedavgm").build().unwrap();
    assert_eq!(strategy.fold(&round(1, &updates)).unwrap().weights, weights);
}

/// Several pieces, several groups of updates and several threads.
#[test]
fn large_tensors_are_averaged_everywhere() {
    let elements = 1_500_001usize;
    let weights: Vec<Weights> = (0..11u32)
        .map(|update| {
            let numbers = (0..elements).map(|at| (at % 1000) as f32 + update as f32);
            let data: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
            let spec = TensorSpec { name: "w".to_owned(), dtype: DType::F32, shape: vec![elements as u64] };
            // At an odd address, as tensors of a safetensors file can be.
            let shifted = bytes::Bytes::from([&[0u8], data.as_slice()].concat()).slice(1..);
            Weights::new(vec![Tensor { spec, data: shifted }]).unwrap()
        })
        .collect();
    let updates: Vec<_> = weights.iter().enumerate().map(|(at, w)| update(author(at as u8), w, 7)).collect();
    let expected: Vec<f32> = (0..elements).map(|at| (at % 1000) as f32 + 5.0).collect();
    for spec in specs().into_iter().filter(|spec| spec.name == "fedavg") {
        let folded = spec.build().unwrap().fold(&round(1, &updates)).unwrap().weights;
        let worst = golden::numbers(&folded).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= if spec.params.is_empty() { 0.0 } else { 1e-3 }, "{spec}: {worst}");
    }
}

#[test]
fn what_does_not_exist_is_an_error_that_lists_what_does() {
    let error = |spec: StrategySpec| spec.build().err().unwrap();
    let unknown = error(StrategySpec::new("fedsgd"));
    let names: Vec<_> = STRATEGIES.iter().map(|info| info.name).collect();
    assert!(names.is_sorted() && names.len() >= 27);
    assert_eq!(unknown.to_string(), format!(r#"there is no strategy "fedsgd"; there are {}"#, names.join(", ")));
    let parameter = error(StrategySpec::new("fedavg").with("tau", 1));
    let known = "inplace, max_share, accept_failures, reference, average, step, local, integers";
    let expected = format!(r#"fedavg has no parameter "tau"; it has {known}"#);
    assert_eq!(parameter.to_string(), expected);
    let values = [
        ("fedavg", "reference", "flwr-2"),
        ("fedavg", "inplace", "true"),
        ("fedavg", "accept_failures", "perhaps"),
        ("fedavgm", "server_momentum", "1"),
        ("fedavgm", "server_learning_rate", "NaN"),
        ("fedadam", "eta", "inf"),
        ("fedadam", "tau", "0"),
    ];
    for (name, parameter, value) in values {
        let error = error(StrategySpec::new(name).with(parameter, value));
        assert!(matches!(error, StrategyError::Value { parameter: named, .. } if named == parameter), "{error}");
    }
    for info in STRATEGIES {
        assert_eq!(StrategySpec::new(info.name).build().unwrap().name(), info.name);
    }
}
