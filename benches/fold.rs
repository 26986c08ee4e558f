//! How fast strategies fold: bytes of updates read per second, beside a plain f32 multiply-add over the same arrays.
//!
//! `cargo bench --bench fold [-- [NAME [PARAMETER=VALUE]...] [--updates N] [--coordinates C] [--turns T] [--json]]`.
//! Without a name: FedAvg, median, trimmed mean and Krum. The updates are f32 in memory, each of five tensors with 25 M
//! coordinates together: 8 updates for a mean, 9 for a median or trimmed mean, 20 for what compares whole vectors.
//!
//! The fold and the plain loops run in turns, 15 by default, or as many as begin within 20 s, three at least, after one
//! fold that isn't timed, in which the memory is measured. A ratio is the median of those of a fold to the loop after
//! it. The plain loop is measured twice: with a new accumulator each time, as a fold has to give new weights, and with
//! one that is already mapped. After them the updates are compared with each other, which a node does before it folds
//! unless `--suspect` is off; what that takes is given in folds.
//!
//! With `--json` each strategy is one line of JSON, with the times of all turns and two sums over the result's
//! coordinates, so that another program can tell that it has folded the same to the same.
//! `benches/against_flower.py` takes Flower and this in turn.

use libp2p_identity::Keypair;
use peerfold::{
    strategy::{Folded, OutOfLine, Round, Strategy, StrategySpec, Update, out_of_line},
    weights::{DType, Tensor, TensorSpec, Weights},
};
use serde_json::json;
use std::{fs, hint::black_box, process::ExitCode, thread, time::Instant};

/// What is measured without a name.
const NAMES: [&str; 4] = ["fedavg", "fedmedian", "fedtrimmedavg", "krum"];
const COORDINATES: usize = 25_000_000;
const TURNS: usize = 15;
/// After so long no turn begins,
const ENOUGH_SECONDS: f64 = 20.0;
/// unless there were fewer than these.
const FEWEST_TURNS: usize = 3;
const THREADS: usize = 2;
/// Elements of the part of an accumulator that stays in the L1 cache: 16 KiB.
const BLOCK: usize = 4096;
/// Accumulators, the fold's result and what a rule remembers, in multiples of an update.
const BESIDE_UPDATES: usize = 6;

/// What the command line asks for.
struct Arguments {
    specs: Vec<StrategySpec>,
    updates: Option<usize>,
    coordinates: usize,
    turns: usize,
    json: bool,
}

/// What one strategy was measured to do.
struct Figures {
    spec: StrategySpec,
    tensors: Vec<usize>,
    num_examples: Vec<u64>,
    seconds: Vec<f64>,
    plain_new: Vec<f64>,
    plain_mapped: Vec<f64>,
    /// Of comparing the updates with each other, as a node does unless `--suspect` is off.
    compared: Vec<f64>,
    peak_growth: Option<f64>,
    /// Of the result's coordinates, and of their absolute values.
    sums: [f64; 2],
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("fold: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = parse(std::env::args().skip(1))?;
    // What is wrong with any of them is said before the first is measured.
    let mut strategies = Vec::new();
    for spec in &arguments.specs {
        let name = spec.info().map_err(|error| error.to_string())?.name;
        let updates = arguments.updates.unwrap_or_else(|| usual_updates(name));
        check_memory(updates, arguments.coordinates)?;
        strategies.push((spec, spec.build().map_err(|error| error.to_string())?, updates));
    }
    if !arguments.json {
        println!(
            "| strategy | updates | s/fold | GB/s | plain, new | ratio | plain, mapped | ratio | compared | memory |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    }
    for (spec, mut strategy, updates) in strategies {
        let figures = measure(spec, strategy.as_mut(), updates, &arguments)?;
        println!("{}", if arguments.json { figures.json() } else { figures.row() });
    }
    if !arguments.json {
        println!(
            "\nUpdates of {:.0} MB, read in GB/s; medians. Plain: an f32 multiply-add over the same updates on \
             {THREADS} threads, with new and mapped accumulators. Compared: what comparing \
             the updates with each other takes, in folds. Memory: its peak growth in a fold.",
            arguments.coordinates as f64 * 4.0 / 1e6,
        );
    }
    Ok(())
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments =
        Arguments { specs: Vec::new(), updates: None, coordinates: COORDINATES, turns: TURNS, json: false };
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let number = value.parse().ok().filter(|&number| number > 0);
            number.ok_or_else(|| format!("{word} can't be {value:?}; it takes a whole number from 1"))
        };
        match word.as_str() {
            // Cargo adds it.
            "--bench" => {}
            "--json" => arguments.json = true,
            "--updates" => arguments.updates = Some(number()?),
            "--coordinates" => arguments.coordinates = number()?,
            "--turns" => arguments.turns = number()?,
            _ if word.starts_with('-') => {
                let known = "--updates N, --coordinates C, --turns T and --json";
                return Err(format!("there is no option {word}; there are {known}"));
            }
            _ => arguments.specs = vec![add_word(arguments.specs.pop(), &word)?],
        }
    }
    if arguments.specs.is_empty() {
        arguments.specs = NAMES.map(StrategySpec::new).to_vec();
    }
    Ok(arguments)
}

/// A strategy's name, and after it its parameters.
fn add_word(spec: Option<StrategySpec>, word: &str) -> Result<StrategySpec, String> {
    match (spec, word.split_once('=')) {
        (None, None) => Ok(StrategySpec::new(word)),
        (Some(spec), Some((parameter, value))) => Ok(spec.with(parameter, value)),
        (None, Some(_)) => Err(format!("{word} is a parameter of no strategy: name the strategy before it")),
        (Some(spec), None) => Err(format!("{word} follows {spec}, and is no PARAMETER=VALUE")),
    }
}

/// How many updates a strategy is tried with.
fn usual_updates(name: &str) -> usize {
    match name {
        "gossip" => 2,
        "fedmedian" | "fedtrimmedavg" => 9,
        "krum" | "multikrum" | "bulyan" => 20,
        _ => 8,
    }
}

/// Before the system ends what has asked for too much.
fn check_memory(updates: usize, coordinates: usize) -> Result<(), String> {
    // Some rules keep each peer's update.
    let arrays = updates.saturating_mul(2).saturating_add(BESIDE_UPDATES);
    let needed = arrays.saturating_mul(coordinates).saturating_mul(4) as f64;
    match status("/proc/meminfo", "MemAvailable:") {
        Some(free) if free < needed => Err(format!(
            "{updates} updates of {coordinates} coordinates and their fold can take {:.1} GB, and {:.1} GB are free: \
             give fewer --updates or --coordinates",
            needed / 1e9,
            free / 1e9,
        )),
        _ => Ok(()),
    }
}

fn measure(
    spec: &StrategySpec,
    strategy: &mut dyn Strategy,
    updates: usize,
    arguments: &Arguments,
) -> Result<Figures, String> {
    let tensors = tensors(arguments.coordinates);
    let weights = (0..updates as u32).map(|seed| random(seed, &tensors)).collect::<Result<Vec<_>, _>>()?;
    let num_examples: Vec<u64> = (0..updates as u64).map(|update| 100 + 37 * update).collect();
    strategy.begin(&weights[0]);

    let (result, peak_growth) = peak_growth(|| fold(strategy, &weights, &num_examples));
    let sums = sums(&result.map_err(|error| format!("{spec}: {error}"))?.weights);
    let (mut seconds, mut plain_new, mut plain_mapped, mut compared) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let accumulators = || tensors.iter().map(|&elements| vec![0f32; elements]).collect::<Vec<_>>();
    let mut mapped = accumulators();
    multiply_add(&mut mapped, &weights, &num_examples);
    let began = Instant::now();
    for turn in 0..arguments.turns {
        if turn >= FEWEST_TURNS && began.elapsed().as_secs_f64() > ENOUGH_SECONDS {
            break;
        }
        let (result, time) = timed(|| fold(strategy, &weights, &num_examples));
        result.map_err(|error| format!("{spec}: {error}"))?;
        seconds.push(time);
        let plain = || {
            let mut accumulators = accumulators();
            multiply_add(&mut accumulators, &weights, &num_examples);
            accumulators
        };
        plain_new.push(timed(plain).1);
        plain_mapped.push(timed(|| multiply_add(&mut mapped, &weights, &num_examples)).1);
        let (found, time) = timed(|| compare(&weights, &num_examples));
        found.map_err(|error| format!("comparing: {error}"))?;
        compared.push(time);
    }
    let spec = spec.clone();
    Ok(Figures { spec, tensors, num_examples, seconds, plain_new, plain_mapped, compared, peak_growth, sums })
}

impl Figures {
    fn bytes(&self) -> f64 {
        (self.num_examples.len() * self.tensors.iter().sum::<usize>() * 4) as f64
    }

    fn row(&self) -> String {
        let speed = |times: &[f64]| self.bytes() / 1e9 / median(times.to_vec());
        let ratio = |plain: &[f64]| median(self.seconds.iter().zip(plain).map(|(fold, plain)| plain / fold).collect());
        format!(
            "| {} | {} | {:.3} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
            self.spec,
            self.num_examples.len(),
            median(self.seconds.clone()),
            speed(&self.seconds),
            speed(&self.plain_new),
            ratio(&self.plain_new),
            speed(&self.plain_mapped),
            ratio(&self.plain_mapped),
            ratio(&self.compared),
            self.peak_growth.map_or("unknown".to_owned(), |bytes| format!("{:.0} MB", bytes / 1e6)),
        )
    }

    fn json(&self) -> String {
        json!({
            "strategy": self.spec.name,
            "params": self.spec.params,
            "tensors": self.tensors,
            "num_examples": self.num_examples,
            "bytes": self.bytes(),
            "seconds": self.seconds,
            "plain_new_seconds": self.plain_new,
            "plain_mapped_seconds": self.plain_mapped,
            "compared_seconds": self.compared,
            "peak_growth_bytes": self.peak_growth,
            "sums": self.sums,
        })
        .to_string()
    }
}

fn fold(strategy: &mut dyn Strategy, weights: &[Weights], num_examples: &[u64]) -> Result<Folded, String> {
    let updates = updates(weights, num_examples)?;
    strategy.fold(&Round { number: 1, updates: &updates, failures: 0 }).map_err(|error| error.to_string())
}

fn compare(weights: &[Weights], num_examples: &[u64]) -> Result<Vec<Option<OutOfLine>>, String> {
    let updates = updates(weights, num_examples)?;
    let round = Round { number: 1, updates: &updates, failures: 0 };
    out_of_line(&round, weights.first()).map_err(|error| error.to_string())
}

fn updates<'a>(weights: &'a [Weights], num_examples: &[u64]) -> Result<Vec<Update<'a>>, String> {
    let mut updates = Vec::with_capacity(weights.len());
    for (number, (weights, &num_examples)) in weights.iter().zip(num_examples).enumerate() {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let author = Keypair::ed25519_from_bytes(secret).map_err(|error| error.to_string())?.public().to_peer_id();
        updates.push(Update {
            loss: Some(1.0),
            degree: Some(1),
            own: number == 0,
            ..Update::new(author, weights, num_examples)
        });
    }
    Ok(updates)
}

/// What the fold is measured against: `sum += share * weight` in f32.
fn multiply_add(accumulators: &mut [Vec<f32>], weights: &[Weights], num_examples: &[u64]) {
    let total = num_examples.iter().sum::<u64>() as f32;
    let shares: Vec<f32> = num_examples.iter().map(|&count| count as f32 / total).collect();
    let updates: Vec<Vec<&[u8]>> =
        weights.iter().map(|weights| weights.tensors().map(|(_, data)| data.as_ref()).collect()).collect();
    thread::scope(|scope| {
        let mut parts: Vec<Vec<(usize, usize, &mut [f32])>> = (0..THREADS).map(|_| Vec::new()).collect();
        for (tensor, accumulator) in accumulators.iter_mut().enumerate() {
            let half = accumulator.len().div_ceil(THREADS).max(1);
            for (thread, part) in accumulator.chunks_mut(half).enumerate() {
                parts[thread].push((tensor, thread * half, part));
            }
        }
        for part in parts {
            let (shares, updates) = (&shares, &updates);
            scope.spawn(move || {
                for (tensor, first, sums) in part {
                    for (block, sums) in sums.chunks_mut(BLOCK).enumerate() {
                        let start = (first + block * BLOCK) * 4;
                        sums.fill(0.0);
                        for (update, &share) in updates.iter().zip(shares) {
                            let elements = update[tensor][start..start + sums.len() * 4].as_chunks::<4>().0;
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

/// Sizes of five tensors, of which the last is small.
fn tensors(coordinates: usize) -> Vec<usize> {
    let small = (coordinates / 10).min(10_000);
    let large = [coordinates / 100 * 40, coordinates / 100 * 32, coordinates / 100 * 16];
    let rest = coordinates - small - large.iter().sum::<usize>();
    [&large[..], &[rest, small]].concat()
}

/// Uniform in [-1, 1], by the linear congruential generator that `benches/flower_folds.py` has as well.
fn random(seed: u32, tensors: &[usize]) -> Result<Weights, String> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let tensors = tensors.iter().enumerate().map(|(number, &elements)| {
        let mut data = Vec::with_capacity(elements * 4);
        for _ in 0..elements {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            data.extend_from_slice(&(state as i32 as f32 / i32::MAX as f32).to_le_bytes());
        }
        let spec = TensorSpec { name: format!("t{number}"), dtype: DType::F32, shape: vec![elements as u64] };
        Tensor { spec, data: data.into() }
    });
    Weights::new(tensors.collect()).map_err(|error| error.to_string())
}

fn sums(weights: &Weights) -> [f64; 2] {
    let elements = weights.tensors().flat_map(|(_, data)| data.as_chunks::<4>().0);
    elements.fold([0.0, 0.0], |[sum, absolute], &element| {
        let element = f64::from(f32::from_le_bytes(element));
        [sum + element, absolute + element.abs()]
    })
}

/// What the work gives, and its seconds, without those of dropping anything.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = black_box(work());
    (result, start.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What the work gives, and the bytes by which the resident memory grows at most; none where there is no `/proc`.
fn peak_growth<T>(work: impl FnOnce() -> T) -> (T, Option<f64>) {
    // Sets VmHWM back to what is resident now.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let before = status("/proc/self/status", "VmRSS:");
    let result = black_box(work());
    let peak = status("/proc/self/status", "VmHWM:");
    (result, peak.zip(before).map(|(peak, before)| peak - before))
}

/// Bytes, by a field of a file under `/proc` that has them in KiB.
fn status(file: &str, field: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0)
}
