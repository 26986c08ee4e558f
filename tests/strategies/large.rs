//! Large tensors fold as their parts do.

use crate::{
    golden::{author, round, update},
    made::{Draws, ordered, tensor},
    rules::{spec, with_reference, without_reference},
};
use peerfold::{
    strategy::{StrategySpec, Update},
    weights::{DType, Tensor, Weights},
};
use std::collections::BTreeSet;

/// A bit more than the 4 MiB from which on several threads fold.
const ELEMENTS: usize = 1_060_003;

fn numbers(seed: u64) -> Vec<u8> {
    let mut draws = Draws(seed);
    (0..ELEMENTS).flat_map(|_| (draws.number() as f32).to_le_bytes()).collect()
}

/// In one tensor.
fn whole(data: &[u8]) -> Weights {
    Weights::new(vec![tensor("w", DType::F32, &[ELEMENTS as u64], data.to_vec())]).unwrap()
}

/// In ten tensors, some of which are small, none of which ends where a chunk does, and all at odd addresses.
fn in_parts(data: &[u8]) -> Weights {
    let sizes = [1, 100_001, 300_000, 7, 16_383, 16_385, 0, 262_145, 200_000];
    let mut rest = data;
    let mut part = |at: usize, size: usize| -> Tensor {
        let (now, later) = rest.split_at(4 * size);
        rest = later;
        tensor(&format!("w{at}"), DType::F32, &[size as u64], now.to_vec())
    };
    let mut tensors: Vec<Tensor> = sizes.iter().enumerate().map(|(at, &size)| part(at, size)).collect();
    tensors.push(part(9, ELEMENTS - sizes.iter().sum::<usize>()));
    Weights::new(tensors).unwrap()
}

fn joined(weights: &Weights) -> Vec<u8> {
    weights.tensors().flat_map(|(_, data)| data.to_vec()).collect()
}

/// Rules that add over all coordinates, which they do in the order of the layout: their f64 sums may differ in the last
/// bits, and so, where a result is next to the middle of two f32, may that.
const OF_LENGTHS: [&str; 6] = ["qfedavg", "asyncfeded", "port", "geometricmedian", "centeredclipping", "normbound"];

fn compare(specs: Vec<StrategySpec>, members: u8) {
    let initial = numbers(100);
    let data: Vec<Vec<u8>> = (0..members).map(|member| numbers(member.into())).collect();
    let layouts: [fn(&[u8]) -> Weights; 2] = [whole, in_parts];
    let made = layouts.map(|of| (of(&initial), data.iter().map(|data| of(data)).collect::<Vec<Weights>>()));
    for spec in specs {
        let [a, b] = made.each_ref().map(|(initial, weights)| {
            let mut strategy = spec.build().unwrap();
            strategy.begin(initial);
            let updates: Vec<Update<'_>> = (0..)
                .zip(weights)
                .map(|(number, weights)| Update {
                    loss: Some(0.5),
                    staleness: f64::from(number),
                    ..update(author(number), weights, 10 + u64::from(number))
                })
                .collect();
            joined(&strategy.fold(&round(1, &updates)).unwrap_or_else(|error| panic!("{spec}: {error}")).weights)
        });
        let most = i128::from(OF_LENGTHS.contains(&spec.name.as_str()) && !spec.params.contains_key("reference"));
        assert!(a == b || most > 0, "{spec}");
        let pairs = a.chunks_exact(4).zip(b.chunks_exact(4));
        let far = pairs.map(|(a, b)| (ordered(a) - ordered(b)).abs()).max();
        assert!(a.len() == b.len() && far <= Some(most), "{spec}: {far:?} units in the last place");
        assert_ne!(a, initial, "{spec} does nothing");
    }
}

#[test]
fn they_fold_as_their_parts_do() {
    let mut names = BTreeSet::new();
    let mut specs = without_reference();
    specs.retain(|spec| names.insert(spec.name.clone()));
    specs.retain(|spec| !["geometricmedian", "fedavgm", "fedbuff"].contains(&spec.name.as_str()));
    let others = ["geometricmedian maxiter=3", "fedavgm server_momentum=0.9", "fedbuff buffer_size=3"];
    specs.extend(others.map(spec));
    compare(specs, 3);
}

#[test]
fn so_they_do_with_a_reference() {
    let mut specs = with_reference();
    // One of each arithmetic; the others share it.
    specs.retain(|spec| {
        let reference = spec.params["reference"].as_str();
        matches!(
            (spec.name.as_str(), reference),
            ("fedavg" | "fedadam" | "bulyan", _)
                | ("fedtrimmedavg" | "fedyogi" | "krum", "flwr-1.6")
                | (_, "flower-async")
        )
    });
    compare(specs, 3);
}

/// More updates than are read at once.
#[test]
fn so_do_many() {
    compare(["fedavg", "fedmedian", "fedtrimmedavg", "krum num_malicious_clients=4"].map(spec).to_vec(), 19);
}
