//! Nodes of a large model on one machine, each a process: bytes exchanged a second, folds, and memory.
//!
//! `cargo bench --bench heavy [-- NODES MIB EPOCHS]`, 6 nodes of 500 MiB and 4 epochs if nothing is said. Every node fetches
//! every other's weights in each epoch, folds them (FedAvg, synchronous) and saves its state. "Training" changes one number
//! in each page, so that every chunk is new. It wants disk for six times the weights for each node.
#![allow(clippy::unwrap_used, missing_docs)]

use peerfold::{
    prelude::*,
    weights::{DType, Tensor, TensorSpec},
};
use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

const MIB: usize = 1 << 20;
/// Elements of which one is changed.
const PAGE: usize = 4096;

struct Heavy {
    node: u64,
    weights: Weights,
}

impl Heavy {
    fn new(node: u64, mib: usize) -> Self {
        let tensor = |number: usize| Tensor {
            spec: TensorSpec { name: format!("{number:04}"), dtype: DType::F32, shape: vec![MIB as u64 / 4] },
            data: vec![0; MIB].into(),
        };
        Self { node, weights: Weights::new((0..mib).map(tensor).collect()).unwrap() }
    }
}

impl Learner for Heavy {
    fn weights(&mut self) -> Result<Weights, LearnerError> {
        Ok(self.weights.clone())
    }

    fn load(&mut self, weights: &Weights) -> Result<(), LearnerError> {
        self.weights = weights.clone();
        Ok(())
    }

    fn train(&mut self, epoch: u64, before: Steps, _: &(dyn Fn() -> bool + Sync)) -> Result<Trained, LearnerError> {
        let changed = self.weights.tensors().enumerate().map(|(tensor, (spec, data))| {
            let number = (self.node + 10 * epoch + 1000 * tensor as u64) as f32;
            let mut data = data.to_vec();
            for page in data.chunks_mut(PAGE) {
                page[..4].copy_from_slice(&number.to_le_bytes());
            }
            Tensor { spec: spec.clone(), data: data.into() }
        });
        self.weights = Weights::new(changed.collect()).unwrap();
        Ok(Trained { steps: Steps { done: 1, ..before }, ..Trained::on(1) })
    }

    fn evaluate(&mut self) -> Result<Metrics, LearnerError> {
        Ok(Metrics::new())
    }

    fn save(&mut self, _: &mut dyn Write) -> Result<(), LearnerError> {
        Ok(())
    }

    fn restore(&mut self, _: &mut dyn Read) -> Result<(), LearnerError> {
        Ok(())
    }
}

/// A node's process: prints where it listens, then a line for each fold, each epoch and its highest memory.
fn node(number: u64, nodes: usize, mib: usize, epochs: u64, dir: &Path, bootstrap: &str) {
    let mut config = NodeConfig::new("heavy", FolderUrl::P2p);
    config.network = NetworkSettings {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        bootstrap: vec![bootstrap.parse().unwrap()],
        no_mdns: true,
        ..NetworkSettings::default()
    };
    let deadline = Duration::from_secs(600);
    config.start = StartOptions { min_peers: nodes - 1, deadline };
    config.pace = Pace::Sync(SyncOptions { nodes, quorum: nodes, deadline, ..SyncOptions::default() });
    config.events = Arc::new(|event| match event {
        Event::Started { .. } => println!("started"),
        Event::Folded { updates, .. } => println!("folded {}", updates.len()),
        Event::EpochDone { received, .. } => println!("epoch {}", received.unwrap_or_default()),
        _ => {}
    });
    federate(&config, dir.join(number.to_string()), &mut Heavy::new(number, mib), epochs).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("peak {}", peak.trim().trim_end_matches(" kB"));
}

fn started(args: &[&str]) -> Child {
    Command::new(env::current_exe().unwrap()).args(args).stdout(Stdio::piped()).spawn().unwrap()
}

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [what, number, nodes, mib, epochs, dir, bootstrap] = &args[..] {
        assert_eq!(what, "node");
        let (number, nodes) = (number.parse().unwrap(), nodes.parse().unwrap());
        return node(number, nodes, mib.parse().unwrap(), epochs.parse().unwrap(), Path::new(dir), bootstrap);
    }
    let said = |at: usize, default: usize| args.get(at).map_or(default, |argument| argument.parse().unwrap());
    let (nodes, mib, epochs) = (said(0, 6), said(1, 500), said(2, 4));
    let dir = tempfile::tempdir().unwrap();
    let bootstrap = Bootstrap::start(dir.path());
    let place = dir.path().to_str().unwrap().to_owned();
    let numbers = [nodes, mib, epochs].map(|number| number.to_string());
    let running: Vec<Child> = (0..nodes)
        .map(|number| {
            let [nodes, mib, epochs] = &numbers;
            started(&["node", &number.to_string(), nodes, mib, epochs, &place, &bootstrap.address])
        })
        .collect();
    let readers = running.into_iter().map(|mut child| {
        std::thread::spawn(move || {
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let lines: Vec<(Instant, String)> = lines.map(|line| (Instant::now(), line.unwrap())).collect();
            assert!(child.wait().unwrap().success());
            lines
        })
    });
    let told: Vec<Vec<(Instant, String)>> =
        readers.collect::<Vec<_>>().into_iter().map(|it| it.join().unwrap()).collect();
    let number = |line: &str, what: &str| line.strip_prefix(what).map(|rest| rest.trim().parse::<u64>().unwrap());
    let all = || told.iter().flatten();
    let began = all().filter(|(_, line)| line == "started").map(|(at, _)| *at).max().unwrap();
    let ended = all().filter(|(_, line)| line.starts_with("epoch")).map(|(at, _)| *at).max().unwrap();
    let received: u64 =
        told.iter().map(|of| of.iter().rev().find_map(|(_, line)| number(line, "epoch ")).unwrap()).sum();
    let folds: Vec<u64> = all().filter_map(|(_, line)| number(line, "folded ")).collect();
    let peak = all().filter_map(|(_, line)| number(line, "peak ")).max().unwrap();
    let took = (ended - began).as_secs_f64();
    println!("{nodes} nodes of {mib} MiB, {epochs} epochs in {took:.1} s");
    println!("received by all: {:.2} GB, {:.2} GB/s", received as f64 / 1e9, received as f64 / 1e9 / took);
    println!("folds: {}, of {} to {} updates", folds.len(), folds.iter().min().unwrap(), folds.iter().max().unwrap());
    println!("memory of a node at most: {} MiB, its weights and {} MiB", peak >> 10, (peak >> 10) as i64 - mib as i64);
}

/// A node that only the others' first meeting goes by.
struct Bootstrap {
    child: Child,
    address: String,
}

impl Bootstrap {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_peerfold"));
        command.args(["bootstrap", "--listen", "/ip4/127.0.0.1/tcp/0", "--home"]).arg(dir.join("bootstrap"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find(|line| line.contains("/p2p/")).unwrap();
        Self { child, address: address.trim().to_owned() }
    }
}

impl Drop for Bootstrap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
