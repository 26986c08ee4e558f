//! Reads the golden vectors: JSON files with the results of the reference programs.
//!
//! A few of them lie in `tests/golden`, so that a clone tests something; `PEERFOLD_GOLDEN` names the folder with all of
//! them (`../shared/golden` otherwise).
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod claims;

use libp2p_identity::{Keypair, PeerId};
use peerfold::{
    strategy::{Round, StrategySpec, Update},
    weights::{DType, Tensor, TensorSpec, Weights},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// An array of a reference.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Array {
    pub shape: Vec<u64>,
    pub dtype: String,
    pub data: Vec<f64>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Input {
    pub num_examples: u64,
    pub tensors: Vec<Array>,
    pub train_loss: Option<f64>,
    /// The staleness.
    #[serde(default)]
    pub t_diff: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub struct GoldenRound {
    /// None in the files of flower-async.
    pub server_round: Option<u64>,
    pub inputs: Vec<Input>,
    /// `None` where the reference skipped the fold, or failed.
    pub output: Option<Vec<Array>>,
    /// What the reference raised.
    pub error: Option<String>,
    /// The loss of q-FedAvg's older API: one for all.
    pub server_loss: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Versions {
    pub flwr: String,
    pub flower_async_commit: Option<String>,
}

/// A file with `rounds`.
#[derive(Debug, Clone, Deserialize)]
pub struct Golden {
    pub strategy: String,
    /// None in the files of flower-async.
    #[serde(default)]
    pub api: String,
    pub params: BTreeMap<String, serde_json::Value>,
    pub versions: Versions,
    pub initial: Vec<Array>,
    pub rounds: Vec<GoldenRound>,
}

/// One `federate` call of a node of flwr-serverless: what it trained, and what it went on with.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    pub node: String,
    pub num_examples: u64,
    pub metrics: BTreeMap<String, f64>,
    pub input: Vec<Array>,
    pub output: Vec<Array>,
}

/// A file with `events`: a whole run of asynchronous nodes.
#[derive(Debug, Clone, Deserialize)]
pub struct GoldenRun {
    pub strategy: String,
    pub params: BTreeMap<String, serde_json::Value>,
    pub versions: Versions,
    pub initial: Vec<Array>,
    pub events: Vec<Event>,
}

/// The folders with golden files: the one beside this file, and the one with all of them if it is there.
pub fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = std::env::var_os("PEERFOLD_GOLDEN").map_or_else(|| root.join("../shared/golden"), PathBuf::from);
    let mut folders = vec![root.join("tests/golden")];
    if all.is_dir() {
        folders.push(all);
    } else {
        eprintln!("skipped: {} is no folder; only the golden files of tests/golden are tested", all.display());
    }
    folders
}

/// The files of `folders()` under this sub-folder whose names start with one of these, sorted.
pub fn files(sub_folder: &str, prefixes: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders().iter().map(|folder| folder.join(sub_folder)).filter(|folder| folder.is_dir()) {
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.ends_with(".json") && prefixes.iter().any(|prefix| name.starts_with(prefix)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The arrays as weights `t0`, `t1`, ….
pub fn weights(arrays: &[Array]) -> Weights {
    let tensors = arrays.iter().enumerate().map(|(at, array)| {
        let (dtype, data): (_, Vec<u8>) = match array.dtype.as_str() {
            "float32" => (DType::F32, array.data.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect()),
            "float64" => (DType::F64, array.data.iter().flat_map(|value| value.to_le_bytes()).collect()),
            other => panic!("no golden file has {other}"),
        };
        Tensor { spec: TensorSpec { name: format!("t{at}"), dtype, shape: array.shape.clone() }, data: data.into() }
    });
    Weights::new(tensors.collect()).unwrap()
}

/// One f64 tensor of no dimensions.
pub fn one(value: f64) -> Weights {
    weights(&[Array { shape: vec![], dtype: "float64".to_owned(), data: vec![value] }])
}

/// What [`one`] holds.
pub fn the_one(weights: &Weights) -> f64 {
    f64::from_le_bytes(weights.tensors().next().unwrap().1.as_ref().try_into().unwrap())
}

/// The numbers of f32 weights, tensor after tensor.
pub fn numbers(weights: &Weights) -> Vec<f32> {
    let bytes = weights.tensors().flat_map(|(_, data)| data.as_chunks::<4>().0);
    bytes.map(|&element| f32::from_le_bytes(element)).collect()
}

/// The author with this number; the ids are not in the order of the numbers.
pub fn author(number: u8) -> PeerId {
    Keypair::ed25519_from_bytes([number; 32]).unwrap().public().to_peer_id()
}

/// The strategy that reproduces a file: the name up to its first `_`, with `params` except those about the data. What
/// flower-async calls AsyncFedED is PAFLM's weighting.
pub fn spec(
    strategy: &str,
    versions: &Versions,
    api: &str,
    params: &BTreeMap<String, serde_json::Value>,
) -> StrategySpec {
    let reference = match (versions.flwr.as_str(), api) {
        _ if versions.flower_async_commit.is_some() => "flower-async",
        ("1.6.0", _) => "flwr-1.6",
        ("1.41.0", "flwr.server.strategy") => "flwr-1.41",
        ("1.41.0", "flwr.serverapp.strategy") => "flwr-1.41-message",
        other => panic!("unknown reference {other:?}"),
    };
    let name = match strategy.trim_start_matches("async_").split('_').next().unwrap() {
        "AsyncFedED" if strategy.contains("_paflm") => "paflm".to_owned(),
        name => name.to_lowercase(),
    };
    let spec = StrategySpec::new(name).with("reference", reference);
    let params = params.iter().filter(|(name, _)| *name != "n_failures");
    params.fold(spec, |spec, (name, value)| spec.with(name, value))
}

impl Golden {
    pub fn spec(&self) -> StrategySpec {
        spec(&self.strategy, &self.versions, &self.api, &self.params)
    }

    /// Clients that failed in every round.
    pub fn failures(&self) -> u64 {
        self.params.get("n_failures").map_or(0, |failures| failures.as_u64().unwrap())
    }
}

impl GoldenRun {
    pub fn spec(&self) -> StrategySpec {
        spec(&self.strategy, &self.versions, "flwr.server.strategy", &self.params)
    }
}

/// An update with nothing said but its examples.
pub fn update(author: PeerId, weights: &Weights, num_examples: u64) -> Update<'_> {
    Update::new(author, weights, num_examples)
}

pub fn round<'a>(number: u64, updates: &'a [Update<'a>]) -> Round<'a> {
    Round { number, updates, failures: 0 }
}
