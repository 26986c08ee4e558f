//! How fast FedAvg folds: bytes of updates read per second, beside a plain f32 multiply-add over the same arrays.
//!
//! `cargo bench --bench fold [-- NAME [PARAMETER=VALUE]...]`. Eight updates of 100 MB in five f32 tensors, in memory.
//! The fold and the plain loops run in turns; a ratio is the median of those of a fold to the loop after it. The plain
//! loop is measured twice: with a new accumulator each time, as a fold has to give new weights, and with one that is
//! already mapped.
#![allow(clippy::unwrap_used)]

use libp2p_identity::Keypair;
use peerfold::{
    strategy::{Round, Strategy, StrategySpec, Update},
    weights::{DType, Tensor, TensorSpec, Weights},
};
use std::{fs, hint::black_box, thread, time::Instant};

const UPDATES: usize = 8;
const TENSORS: [usize; 5] = [10_000_000, 8_000_000, 4_000_000, 2_990_000, 10_000];
const TURNS: usize = 15;
const THREADS: usize = 2;
/// Elements of the part of an accumulator that stays in the L1 cache: 16 KiB.
const BLOCK: usize = 4096;

fn main() {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let mut spec = StrategySpec::new(arguments.next().unwrap_or_else(|| "fedavg".to_owned()));
    for argument in arguments {
        let (name, value) = argument.split_once('=').expect("PARAMETER=VALUE");
        spec = spec.with(name, value);
    }
    let mut strategy = spec.build().unwrap_or_else(|error| panic!("{error}"));
    let weights: Vec<Weights> = (0..UPDATES as u32).map(random).collect();
    let counts: Vec<u64> = (0..UPDATES as u64).map(|update| 100 + 37 * update).collect();
    strategy.begin(&weights[0]);
    let bytes = (UPDATES * TENSORS.iter().sum::<usize>() * 4) as f64;

    let peak = peak_growth(|| fold(strategy.as_mut(), &weights, &counts));
    println!("{spec}: {UPDATES} updates of {:.0} MB", bytes / UPDATES as f64 / 1e6);
    println!("peak memory growth in a fold: {:.0} MB", peak / 1e6);

    let (mut folds, mut fresh, mut mapped) = (Vec::new(), Vec::new(), Vec::new());
    let mut accumulators = TENSORS.map(|elements| vec![0f32; elements]);
    for _ in 0..TURNS {
        folds.push(seconds(|| fold(strategy.as_mut(), &weights, &counts)));
        fresh.push(seconds(|| {
            let mut accumulators = TENSORS.map(|elements| vec![0f32; elements]);
            multiply_add(&mut accumulators, &weights, &counts);
            accumulators
        }));
        mapped.push(seconds(|| multiply_add(&mut accumulators, &weights, &counts)));
    }
    let ratio = |plain: &[f64]| median(folds.iter().zip(plain).map(|(fold, plain)| plain / fold).collect());
    let speed = |times: &[f64]| bytes / 1e9 / median(times.to_vec());
    println!("fold:                                {:6.2} GB/s", speed(&folds));
    println!("plain loop, new accumulator:         {:6.2} GB/s, ratio {:.2}", speed(&fresh), ratio(&fresh));
    println!("plain loop, accumulator mapped:      {:6.2} GB/s, ratio {:.2}", speed(&mapped), ratio(&mapped));
}

fn fold(strategy: &mut dyn Strategy, weights: &[Weights], counts: &[u64]) -> Weights {
    let updates: Vec<Update<'_>> = (weights.iter().zip(counts).enumerate())
        .map(|(number, (weights, &num_examples))| {
            let author = Keypair::ed25519_from_bytes([number as u8; 32]).unwrap().public().to_peer_id();
            Update { own: number == 0, ..Update::new(author, weights, num_examples) }
        })
        .collect();
    strategy.fold(&Round { number: 1, updates: &updates, failures: 0 }).unwrap().weights
}

/// What the fold is measured against: `sum += share * weight` in f32.
fn multiply_add(accumulators: &mut [Vec<f32>], weights: &[Weights], counts: &[u64]) {
    let total = counts.iter().sum::<u64>() as f32;
    let shares: Vec<f32> = counts.iter().map(|&count| count as f32 / total).collect();
    thread::scope(|scope| {
        let mut parts: Vec<Vec<(usize, usize, &mut [f32])>> = (0..THREADS).map(|_| Vec::new()).collect();
        for (tensor, accumulator) in accumulators.iter_mut().enumerate() {
            let half = accumulator.len().div_ceil(THREADS);
            for (thread, part) in accumulator.chunks_mut(half).enumerate() {
                parts[thread].push((tensor, thread * half, part));
            }
        }
        for part in parts {
            let shares = &shares;
            scope.spawn(move || {
                for (tensor, first, sums) in part {
                    let inputs: Vec<&[u8]> =
                        weights.iter().map(|weights| weights.tensors().nth(tensor).unwrap().1.as_ref()).collect();
                    for (block, sums) in sums.chunks_mut(BLOCK).enumerate() {
                        let start = (first + block * BLOCK) * 4;
                        sums.fill(0.0);
                        for (input, &share) in inputs.iter().zip(shares) {
                            let elements = input[start..start + sums.len() * 4].as_chunks::<4>().0;
                            for (sum, &element) in sums.iter_mut().zip(elements) {
                                *sum += share * f32::from_le_bytes(element);
                            }
                        }
                    }
                }
            });
        }
    });
}

fn random(seed: u32) -> Weights {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let tensors = TENSORS.iter().enumerate().map(|(number, &elements)| {
        let mut data = Vec::with_capacity(elements * 4);
        for _ in 0..elements {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            data.extend_from_slice(&(state as i32 as f32 / i32::MAX as f32).to_le_bytes());
        }
        let spec = TensorSpec { name: format!("t{number}"), dtype: DType::F32, shape: vec![elements as u64] };
        Tensor { spec, data: data.into() }
    });
    Weights::new(tensors.collect()).unwrap()
}

fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    let result = black_box(work());
    let seconds = start.elapsed().as_secs_f64();
    drop(result);
    seconds
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Bytes by which the resident memory grows at most; NaN where there is no `/proc`.
fn peak_growth<T>(work: impl FnOnce() -> T) -> f64 {
    let field = |name: &str| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).map_or(f64::NAN, |kib| kib * 1024.0)
    };
    // Sets VmHWM back to what is resident now.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let before = field("VmRSS");
    let result = black_box(work());
    let peak = field("VmHWM");
    drop(result);
    peak - before
}
