//! A node's settings, layer over layer: flags win over the environment, that over the TOML file, that over the defaults.

use super::node::{default_settings, parse_partition};
use crate::{node::BelowQuorum, program::did_you_mean};
use clap::{ArgMatches, Args, parser::ValueSource};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The TOML file can't be read.
    #[error("the configuration {} can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// It isn't TOML, or has keys or values that no setting has.
    #[error("the configuration {} is wrong{place}: {message}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// ` at line N`, where known.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// No default is possible.
    #[error("--{key} is missing: give the flag, {environment}, or {key} = … in the configuration")]
    Missing {
        /// The setting.
        key: &'static str,
        /// Its environment variable.
        environment: String,
    },
    /// A value is not one of those it can have.
    #[error("--{key} {value}: {what}")]
    Value {
        /// The setting.
        key: &'static str,
        /// The value.
        value: String,
        /// Why not, and what would be right.
        what: String,
    },
    /// The same, where the value isn't a flag's.
    #[error("{}: {what}", from.of_value(key, value))]
    Sourced {
        /// Where the value comes from.
        from: Source,
        /// The setting.
        key: &'static str,
        /// The value.
        value: String,
        /// Why not, and what would be right.
        what: String,
    },
    /// There is no home directory to make a default of.
    #[error("no home directory is known; give --home")]
    NoHome,
    /// The layers don't fit together.
    #[error("the settings don't fit together: {0}")]
    Merge(String),
}

/// The settings of a node. Each is a flag, an environment variable (`PEERFOLD_` and the name), and a TOML key.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeFlags {
    /// Name of the federation: the nodes that train one model together. No default.
    #[arg(long, env = "PEERFOLD_FEDERATION", value_name = "NAME")]
    pub federation: Option<String>,
    /// Label of the run; nodes with another label are in another federation. [default: 1]
    #[arg(long, env = "PEERFOLD_RUN", value_name = "LABEL")]
    pub run: Option<String>,
    /// Where updates are put and found: p2p: is the network, s3://bucket/prefix a bucket, file:///directory a shared
    /// directory, memory: nobody else. [default: p2p:]
    #[arg(long, env = "PEERFOLD_FOLDER", value_name = "URL")]
    pub folder: Option<String>,
    /// The node's own directory: identity and checkpoints. One for each node. [default: ~/.peerfold]
    #[arg(long, env = "PEERFOLD_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,

    /// Where to find others at first: a bootstrap node's or peer's multiaddr with /p2p/…, or a file with a list of them.
    /// May be given several times.
    #[arg(long, env = "PEERFOLD_BOOTSTRAP", value_name = "FILE|MULTIADDR", help_heading = "Network")]
    pub bootstrap: Option<Vec<String>>,
    /// Where to listen, as /ip4/0.0.0.0/tcp/PORT or /ip4/0.0.0.0/udp/PORT/quic-v1; may be given several times.
    /// [default: every interface, TCP and QUIC, free ports]
    #[arg(long, env = "PEERFOLD_LISTEN", value_name = "MULTIADDR", value_delimiter = ',', help_heading = "Network")]
    pub listen: Option<Vec<String>>,
    /// Don't look for peers on the local network.
    #[arg(long, env = "PEERFOLD_NO_MDNS", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL", help_heading = "Network")]
    pub no_mdns: Option<bool>,
    /// Bytes that the cache in the home may take before it drops what nobody needs any more. [default: 8 GiB]
    #[arg(long, env = "PEERFOLD_CACHE_QUOTA", value_name = "SIZE", help_heading = "Network")]
    pub cache_quota: Option<String>,
    /// After the last epoch, stay up to so long until the connected peers, and the bucket, have this node's newest
    /// update. [default: 10]
    #[arg(long, env = "PEERFOLD_LINGER", value_name = "SECONDS", help_heading = "Network")]
    pub linger: Option<f64>,
    /// After the last epoch, go on answering peers until stopped.
    #[arg(long, env = "PEERFOLD_STAY", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL", help_heading = "Network")]
    pub stay: Option<bool>,

    /// A bucket behind the network, s3://bucket/prefix: what is published goes there too, and what no peer gives comes
    /// from there.
    #[arg(long, env = "PEERFOLD_FALLBACK", value_name = "URL", help_heading = "Bucket")]
    pub fallback: Option<String>,
    /// Seconds to wait for peers to give a value before the fallback is asked. [default: 3]
    #[arg(long, env = "PEERFOLD_FALLBACK_AFTER", value_name = "SECONDS", help_heading = "Bucket")]
    pub fallback_after: Option<f64>,
    /// The store's server, for stores other than AWS. [default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's, AWS]
    #[arg(long, env = "PEERFOLD_S3_ENDPOINT", value_name = "URL", help_heading = "Bucket")]
    pub s3_endpoint: Option<String>,
    /// Let the endpoint be plain HTTP, which hides nothing.
    #[arg(long, env = "PEERFOLD_S3_ALLOW_HTTP", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_name = "BOOL", help_heading = "Bucket")]
    pub s3_allow_http: Option<bool>,
    /// Seconds between two listings of the bucket while there is news. [default: 1]
    #[arg(long, env = "PEERFOLD_S3_POLL", value_name = "SECONDS", help_heading = "Bucket")]
    pub s3_poll: Option<f64>,
    /// Seconds up to which the time between two listings grows while there is none. [default: 30]
    #[arg(long, env = "PEERFOLD_S3_POLL_IDLE", value_name = "SECONDS", help_heading = "Bucket")]
    pub s3_poll_idle: Option<f64>,
    /// Seconds, by the store's clock, for which this node's objects are kept when nothing needs them any more.
    /// [default: 300]
    #[arg(long, env = "PEERFOLD_S3_GRACE", value_name = "SECONDS", help_heading = "Bucket")]
    pub s3_grace: Option<f64>,

    /// What to learn: digits (embedded) or mnist (in --data-dir). Each has its model. [default: digits]
    #[arg(long, env = "PEERFOLD_DATASET", value_name = "NAME", help_heading = "Data")]
    pub dataset: Option<String>,
    /// Directory with the data set's files, or with a folder mnist of them.
    #[arg(long, env = "PEERFOLD_DATA", value_name = "DIR", help_heading = "Data")]
    pub data_dir: Option<PathBuf>,
    /// Which part of the training examples is this node's: part I, from 0, of N. [default: 0/1]
    #[arg(long, env = "PEERFOLD_PARTITION", value_name = "I/N", help_heading = "Data")]
    pub partition: Option<String>,
    /// Label skew: the probability with which an example goes to the part that owns its label. [default: 0]
    #[arg(long, env = "PEERFOLD_SKEW", value_name = "0..1", help_heading = "Data")]
    pub skew: Option<f64>,

    /// Epochs of the run; a node that joins late takes over the others' epoch. [default: digits 8, mnist 3]
    #[arg(long, env = "PEERFOLD_EPOCHS", value_name = "E", help_heading = "Training")]
    pub epochs: Option<u64>,
    /// Training steps between two folds, unless --period is given. [default: digits 60, mnist 1200]
    #[arg(long, env = "PEERFOLD_STEPS_PER_EPOCH", value_name = "K", help_heading = "Training")]
    pub steps_per_epoch: Option<u64>,
    /// Instead of --steps-per-epoch: train for so long between two folds, so that slow nodes do fewer steps and none is
    /// waited for. The same on all nodes; also with --sync.
    #[arg(long, env = "PEERFOLD_PERIOD", value_name = "SECONDS", help_heading = "Training")]
    pub period: Option<f64>,
    /// Save the middle of an epoch every so many minutes, 0.5 for 30 seconds: a node that is killed goes on from there.
    /// One that is stopped saves it in any case. [default: never]
    #[arg(long, env = "PEERFOLD_CHECKPOINT_EVERY", value_name = "MINUTES", help_heading = "Training")]
    pub checkpoint_every: Option<f64>,
    /// Examples in a step. [default: 32]
    #[arg(long, env = "PEERFOLD_BATCH_SIZE", value_name = "B", help_heading = "Training")]
    pub batch_size: Option<usize>,
    /// Adam's learning rate. [default: digits 0.003, mnist 0.001]
    #[arg(long, env = "PEERFOLD_LR", value_name = "F", help_heading = "Training")]
    pub lr: Option<f64>,
    /// Decides the partition and the first weights: the same on all nodes. [default: 0]
    #[arg(long, env = "PEERFOLD_SEED", value_name = "N", help_heading = "Training")]
    pub seed: Option<u64>,
    /// Decides the order of this node's examples and its sampling of peers. [default: seed and partition]
    #[arg(long, env = "PEERFOLD_DATA_SEED", value_name = "N", help_heading = "Training")]
    pub data_seed: Option<u64>,
    /// What trains: cpu or cuda. [default: cpu]
    #[arg(long, env = "PEERFOLD_DEVICE", value_name = "NAME", help_heading = "Training")]
    pub device: Option<String>,
    /// Threads that train and measure on the processor. Nodes of one machine should share its processors. [default: as
    /// many as the machine has processors]
    #[arg(long, env = "PEERFOLD_THREADS", value_name = "N", help_heading = "Training")]
    pub threads: Option<usize>,
    /// Begin from these weights, a safetensors file, if no peer has any yet.
    #[arg(long, env = "PEERFOLD_INIT", value_name = "FILE", help_heading = "Training")]
    pub init: Option<PathBuf>,

    /// How to fold: see `peerfold strategies`. [default: fedavg]
    #[arg(long, env = "PEERFOLD_STRATEGY", value_name = "NAME", help_heading = "Folding")]
    pub strategy: Option<String>,
    /// A parameter of the strategy; may be given several times. In TOML a list ["K=V"] or a table { K = V }.
    #[arg(long, env = "PEERFOLD_PARAM", value_name = "K=V", value_delimiter = ',', help_heading = "Folding")]
    #[serde(deserialize_with = "parameters")]
    pub param: Option<Vec<String>>,
    /// Leave out updates that were folded already.
    #[arg(long, env = "PEERFOLD_IGNORE_SEEN", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_name = "BOOL", help_heading = "Folding")]
    pub ignore_seen: Option<bool>,
    /// Fold after an epoch with this probability only. [default: 1]
    #[arg(long, env = "PEERFOLD_PARTICIPATION", value_name = "C", help_heading = "Folding")]
    pub participation: Option<f64>,
    /// Fold after every so many epochs. [default: 1]
    #[arg(long, env = "PEERFOLD_EPOCHS_BETWEEN_FOLDS", value_name = "N", help_heading = "Folding")]
    pub epochs_between_folds: Option<u64>,
    /// Publish, but never fold.
    #[arg(long, env = "PEERFOLD_UPLOAD_ONLY", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_name = "BOOL", help_heading = "Folding")]
    pub upload_only: Option<bool>,
    /// Fold at most so many peers, each time a fresh random sample. [default: all]
    #[arg(long, env = "PEERFOLD_MAX_PEERS", value_name = "K", help_heading = "Folding")]
    pub max_peers: Option<usize>,
    /// Leave out updates that are staler than this. [default: 10]
    #[arg(long, env = "PEERFOLD_MAX_STALENESS", value_name = "EPOCHS", help_heading = "Folding")]
    pub max_staleness: Option<u64>,
    /// Refuse updates that claim more examples. [default: 100000000]
    #[arg(long, env = "PEERFOLD_MAX_NUM_EXAMPLES", value_name = "N", help_heading = "Folding")]
    pub max_num_examples: Option<u64>,
    /// Refuse updates whose weights have a larger Euclidean norm. [default: any]
    #[arg(long, env = "PEERFOLD_MAX_NORM", value_name = "F", help_heading = "Folding")]
    pub max_norm: Option<f64>,

    /// Wait after each epoch for the others' updates of that epoch.
    #[arg(long, env = "PEERFOLD_SYNC", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL", help_heading = "Waiting")]
    pub sync: Option<bool>,
    /// With --sync: nodes of the federation. [default: those of --allow and this one, or the N of --partition]
    #[arg(long, env = "PEERFOLD_NODES", value_name = "N", help_heading = "Waiting")]
    pub nodes: Option<usize>,
    /// With --sync: nodes that suffice when the deadline passes, this one included. [default: all]
    #[arg(long, env = "PEERFOLD_QUORUM", value_name = "Q", help_heading = "Waiting")]
    pub quorum: Option<usize>,
    /// With --sync: seconds to wait for all nodes. [default: 60]
    #[arg(long, env = "PEERFOLD_DEADLINE", value_name = "SECONDS", help_heading = "Waiting")]
    pub deadline: Option<f64>,
    /// With --sync: what to do when the deadline passes and the quorum isn't there. [default: wait]
    #[arg(long, env = "PEERFOLD_BELOW_QUORUM", value_name = "WHAT", help_heading = "Waiting")]
    pub below_quorum: Option<BelowQuorum>,
    /// Wait at the start until so many peers are there. [default: 0; with --sync all]
    #[arg(long, env = "PEERFOLD_MIN_PEERS", value_name = "N", help_heading = "Waiting")]
    pub min_peers: Option<usize>,
    /// Seconds to wait for them; then the node begins with those who are there. [default: 60]
    #[arg(long, env = "PEERFOLD_START_DEADLINE", value_name = "SECONDS", help_heading = "Waiting")]
    pub start_deadline: Option<f64>,

    /// Peer id whose updates count; may be given several times. With --sync they are the members. [default: anyone]
    #[arg(long, env = "PEERFOLD_ALLOW", value_name = "PEER", value_delimiter = ',', help_heading = "Trust")]
    pub allow: Option<Vec<String>>,
    /// Peer id to trust again although it signed two entries under one number.
    #[arg(long, env = "PEERFOLD_READMIT", value_name = "PEER", value_delimiter = ',', help_heading = "Trust")]
    pub readmit: Option<Vec<String>>,

    /// Write events as JSON lines to standard output: see `peerfold event-schema`.
    #[arg(long, env = "PEERFOLD_JSON", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL", help_heading = "Output")]
    pub json: Option<bool>,
    /// Publish the folded weights too, after each epoch, as AUTHOR/model: updates are what was trained, before the fold.
    #[arg(long, env = "PEERFOLD_PUBLISH_FOLDED", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_name = "BOOL", help_heading = "Output")]
    pub publish_folded: Option<bool>,
    /// Save the final weights, after the last fold, as safetensors.
    #[arg(long, env = "PEERFOLD_OUT", value_name = "FILE", help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// How linear layers lie in that file: torch is [out, in], for PyTorch; burn is [in, out]. Its metadata says which.
    /// --init reads both. [default: torch]
    #[arg(long, env = "PEERFOLD_LAYOUT", value_name = "NAME", help_heading = "Output")]
    pub layout: Option<String>,
}

/// `param` as a list of `NAME=VALUE`, or as a table.
fn parameters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "write a list [\"NAME=VALUE\"] or a table { NAME = VALUE } of numbers, words, true, false"
    )]
    enum Parameters {
        List(Vec<String>),
        Table(BTreeMap<String, Scalar>),
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Flag(bool),
        Whole(i64),
        Number(f64),
        Word(String),
    }
    let text = |(name, value)| match value {
        Scalar::Flag(value) => format!("{name}={value}"),
        Scalar::Whole(value) => format!("{name}={value}"),
        Scalar::Number(value) => format!("{name}={value}"),
        Scalar::Word(value) => format!("{name}={value}"),
    };
    Ok(Option::<Parameters>::deserialize(deserializer)?.map(|parameters| match parameters {
        Parameters::List(list) => list,
        Parameters::Table(table) => table.into_iter().map(text).collect(),
    }))
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag.
    Flag,
    /// An environment variable.
    Environment(String),
    /// The TOML file.
    File(PathBuf),
    /// Nobody set it.
    Default,
}

impl Source {
    /// Which wins over which.
    fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(_) => 1,
            Self::Environment(_) => 2,
            Self::Flag => 3,
        }
    }
}

impl Source {
    /// How the value is written there.
    fn of_value(&self, key: &str, value: &str) -> String {
        match self {
            Self::Environment(variable) => format!("{variable}={value}"),
            Self::File(path) => format!("{}: {key} = {value}", path.display()),
            Self::Flag | Self::Default => format!("--{key} {value}"),
        }
    }
}

impl SettingsError {
    /// The same error, if it is about a value, with where that comes from.
    fn told_of(self, source: impl FnOnce(&'static str) -> Option<Source>) -> Self {
        match self {
            Self::Value { key, value, what } => match source(key) {
                Some(from) => Self::Sourced { from, key, value, what },
                None => Self::Value { key, value, what },
            },
            other => other,
        }
    }
}

/// The error, with where the value comes from that it is about, if it is about one.
pub(super) fn blamed(error: anyhow::Error, settings: &BTreeMap<String, Setting>) -> anyhow::Error {
    match error.downcast::<SettingsError>() {
        Ok(error) => error.told_of(|key| Some(settings.get(key)?.source.clone())).into(),
        Err(error) => error,
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment(variable) => f.write_str(variable),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One setting as it will be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Its value.
    pub value: Value,
    /// Where that comes from.
    pub source: Source,
}

/// The environment variable of a setting.
pub(super) fn environment(key: &str) -> String {
    match key {
        "data-dir" => "PEERFOLD_DATA".to_owned(),
        _ => format!("PEERFOLD_{}", key.replace('-', "_").to_uppercase()),
    }
}

/// The home that is used when none is given: `~/.peerfold`.
pub(crate) fn default_home() -> Result<PathBuf, SettingsError> {
    std::env::home_dir()
        .filter(|dir| !dir.as_os_str().is_empty())
        .map(|dir| dir.join(".peerfold"))
        .ok_or(SettingsError::NoHome)
}

/// Puts the layers over each other.
pub(super) fn resolve(
    flags: &NodeFlags,
    matches: &ArgMatches,
    config: Option<&Path>,
) -> Result<BTreeMap<String, Setting>, SettingsError> {
    let mut settings = BTreeMap::new();
    if let Some(path) = config {
        let of_file = |error: SettingsError| error.told_of(|_| Some(Source::File(path.to_owned())));
        for (key, value) in set_values(&read_toml(path)?).map_err(of_file)? {
            settings.insert(key, Setting { value, source: Source::File(path.to_owned()) });
        }
    }
    let source = |key: &str| match matches.value_source(&key.replace('-', "_")) {
        Some(ValueSource::EnvVariable) => Source::Environment(environment(key)),
        _ => Source::Flag,
    };
    for (key, value) in set_values(flags).map_err(|error| error.told_of(|key| Some(source(key))))? {
        let source = source(&key);
        let value = if matches!(source, Source::Environment(_)) { split_list(&key, value) } else { value };
        settings.insert(key, Setting { value, source });
    }
    keep_nearer(&mut settings, "period", "steps-per-epoch");
    let set = from_values(settings.iter().map(|(key, setting)| (key.clone(), setting.value.clone())))?;
    let defaults = parse_partition(set.partition.as_deref()).and_then(|_| default_settings(&set));
    let defaults = defaults.map_err(|error| error.told_of(|key| Some(settings.get(key)?.source.clone())))?;
    for (key, value) in set_values(&defaults)? {
        settings.entry(key).or_insert(Setting { value, source: Source::Default });
    }
    Ok(settings)
}

/// Of two settings that say the same thing the one of the higher layer holds; of one layer both stay, to be told.
fn keep_nearer(settings: &mut BTreeMap<String, Setting>, a: &str, b: &str) {
    let rank = |key: &str| settings.get(key).map(|setting| setting.source.rank());
    let (Some(rank_a), Some(rank_b)) = (rank(a), rank(b)) else { return };
    match rank_a.cmp(&rank_b) {
        Ordering::Less => settings.remove(a),
        Ordering::Greater => settings.remove(b),
        Ordering::Equal => None,
    };
}

/// The settings without their sources.
pub(super) fn merged(settings: &BTreeMap<String, Setting>) -> Result<NodeFlags, SettingsError> {
    from_values(settings.iter().map(|(key, setting)| (key.clone(), setting.value.clone())))
}

/// The settings as TOML, each with its source in a comment.
pub(super) fn render(settings: &BTreeMap<String, Setting>) -> String {
    let lines: Vec<(String, &Source)> = settings
        .iter()
        .filter_map(|(key, setting)| Some((format!("{key} = {}", written(&setting.value)?), &setting.source)))
        .collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    lines.iter().map(|(line, source)| format!("{line:width$}  # {source}\n")).collect()
}

/// A value as people write it in TOML: 60, not 60.0.
fn written(value: &Value) -> Option<String> {
    /// From here on not every whole number is one of f64.
    const EXACT: f64 = 9e15;
    Some(match toml::Value::try_from(value).ok()? {
        toml::Value::Float(number) if number.fract() == 0.0 && number.abs() < EXACT => number.to_string(),
        value => value.to_string(),
    })
}

fn read_toml(path: &Path) -> Result<NodeFlags, SettingsError> {
    let read = fs::read_to_string(path);
    let text = read.map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|error| {
        let place = error.span().map(|span| place(&text, span.start)).unwrap_or_default();
        SettingsError::Toml { path: path.to_owned(), place, message: toml_message(error.message()) }
    })
}

/// What is wrong, on one line; of a key that no setting has, which one was meant.
fn toml_message(message: &str) -> String {
    // The names of all settings follow, which `--help` shows better.
    let (Some(key), Some(_)) =
        (message.strip_prefix("unknown field `"), message.find(", expected one of `federation`"))
    else {
        return message.replace('\n', " ");
    };
    let key = key.split('`').next().unwrap_or_default();
    let known = serde_json::to_value(NodeFlags::default()).unwrap_or_default();
    let known = known.as_object().into_iter().flat_map(|settings| settings.keys().map(String::as_str));
    format!("there is no setting `{key}`{}", did_you_mean(key, known))
}

/// ` at line N (key)`: where in a TOML file something is wrong.
fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let number = before.matches('\n').count();
    let key = text.lines().nth(number).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
    let key = key.map(|key| format!(" ({key})")).unwrap_or_default();
    format!(" at line {}{key}", number + 1)
}

/// JSON, in which the layers are merged, has no such numbers, and no setting means anything with one.
fn check_finite(flags: &NodeFlags) -> Result<(), SettingsError> {
    let numbers = [
        ("skew", flags.skew),
        ("lr", flags.lr),
        ("participation", flags.participation),
        ("max-norm", flags.max_norm),
        ("deadline", flags.deadline),
        ("start-deadline", flags.start_deadline),
        ("linger", flags.linger),
        ("period", flags.period),
        ("checkpoint-every", flags.checkpoint_every),
        ("fallback-after", flags.fallback_after),
        ("s3-poll", flags.s3_poll),
        ("s3-poll-idle", flags.s3_poll_idle),
        ("s3-grace", flags.s3_grace),
    ];
    for (key, number) in numbers {
        if let Some(number) = number.filter(|number| !number.is_finite()) {
            return Err(SettingsError::Value { key, value: number.to_string(), what: "must be finite".to_owned() });
        }
    }
    Ok(())
}

fn set_values(flags: &NodeFlags) -> Result<Map<String, Value>, SettingsError> {
    check_finite(flags)?;
    match serde_json::to_value(flags).map_err(|error| SettingsError::Merge(error.to_string()))? {
        Value::Object(values) => Ok(values.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        other => Err(SettingsError::Merge(format!("{other} is no table"))),
    }
}

/// A variable of the environment can be given once, so there commas separate; a flag can name a file that has one.
fn split_list(key: &str, value: Value) -> Value {
    match (key, value) {
        ("bootstrap", Value::Array(items)) => {
            let split = items.iter().filter_map(Value::as_str).flat_map(|text| text.split(','));
            split.map(str::trim).filter(|text| !text.is_empty()).collect::<Vec<_>>().into()
        }
        (_, value) => value,
    }
}

fn from_values(values: impl Iterator<Item = (String, Value)>) -> Result<NodeFlags, SettingsError> {
    serde_json::from_value(Value::Object(values.collect())).map_err(|error| SettingsError::Merge(error.to_string()))
}
