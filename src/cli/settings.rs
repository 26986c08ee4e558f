//! The settings of `peerfold node`: those of all layers and the program's own, and what can be wrong with them.

use super::source::Source;
use crate::{
    bucket::BucketSettings,
    cache::CacheSettings,
    experiment::DataSettings,
    folder::FolderUrl,
    node::{AsyncOptions, Checks, EndSettings, PublishSettings, StartOptions, SyncOptions, TrustSettings},
    p2p::NetworkSettings,
    program::did_you_mean,
    secret::SecretSettings,
    settings::{Field, Form, Item, Mistake, Settings, Values, settings},
    train::{Device, Model, RunSettings, SavedLayout, TrainOptions},
};
use std::path::PathBuf;

settings! {
    /// Which node of which federation.
    pub(super) struct NodeIdentity {
        /// Name of the federation: the nodes that train one model together. No default.
        pub(super) federation as "federation": Option<String> = None, "NAME";
        /// Label of the run; nodes with another label are in another federation.
        pub(super) run as "run": String = "1".to_owned(), "LABEL";
        /// Where updates are put and found: p2p: is the network, s3://bucket/prefix a bucket, file:///directory a shared
        /// directory, memory: nobody else.
        pub(super) folder as "folder": FolderUrl = FolderUrl::P2p, "URL";
        /// The node's own directory: identity and checkpoints. One for each node. [default: ~/.peerfold]
        pub(super) home as "home": Option<PathBuf> = None, "DIR";
    }
}

settings! {
    /// What trains, and from what.
    pub(super) struct BeginSettings under "Training" {
        /// What trains: cpu or cuda.
        pub(super) device as "device": Device = Device::Cpu, "NAME";
        /// Begin from these weights, a safetensors file, if no peer has any yet.
        pub(super) init as "init": Option<PathBuf> = None, "FILE";
    }
}

settings! {
    /// How to fold.
    pub(super) struct FoldSettings under "Folding" {
        /// How to fold: see `peerfold strategies`.
        pub(super) strategy as "strategy": String = "fedavg".to_owned(), "NAME";
        /// A parameter of the strategy; may be given several times. In TOML a list ["K=V"] or a table { K = V }.
        pub(super) param as "param": Vec<Parameter> = Vec::new(), "K=V";
    }
}

settings! {
    /// Whether to wait for the others.
    pub(super) struct TurnSettings under "Waiting" {
        /// Wait after each epoch for the others' updates of that epoch.
        pub(super) sync as "sync": bool = false, "BOOL";
    }
}

settings! {
    /// What is told of a run.
    pub(super) struct EventSettings under "Output" {
        /// Write events as JSON lines to standard output: see `peerfold event-schema`.
        pub(super) json as "json": bool = false, "BOOL";
    }
}

settings! {
    /// What is saved of a run.
    pub(super) struct SaveSettings under "Output" {
        /// Save the final weights, after the last fold, as safetensors.
        pub(super) out as "out": Option<PathBuf> = None, "FILE";
        /// How linear layers lie in that file: torch is [out, in], for PyTorch; burn is [in, out]. Its metadata says
        /// which. --init reads both.
        pub(super) layout as "layout": SavedLayout = SavedLayout::Torch, "NAME";
    }
}

/// `NAME=VALUE`, which only the strategy understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter(pub(super) String);

impl Item for Parameter {
    const FORM: Form = Form::Pairs;

    fn read(text: &str) -> Result<Vec<Self>, String> {
        Ok(vec![Self(text.to_owned())])
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

/// The heading of the network's limits.
const LIMITS: &str = "Network limits";

/// All settings of a node, in the order in which help has them. Each is a flag, an environment variable (`PEERFOLD_` and
/// the name), and a TOML key.
pub fn node_settings() -> Vec<Field> {
    let fields = [
        NodeIdentity::fields,
        NetworkSettings::fields,
        CacheSettings::fields,
        EndSettings::fields,
        BucketSettings::fields,
        DataSettings::fields,
        RunSettings::fields,
        TrainOptions::fields,
        #[cfg(unix)]
        crate::exec::ExecSettings::fields,
        BeginSettings::fields,
        FoldSettings::fields,
        AsyncOptions::fields,
        Checks::fields,
        TurnSettings::fields,
        SyncOptions::fields,
        StartOptions::fields,
        SecretSettings::fields,
        TrustSettings::fields,
        EventSettings::fields,
        PublishSettings::fields,
        SaveSettings::fields,
    ]
    .iter()
    .flat_map(|fields| fields());
    let mut fields: Vec<Field> = fields.collect();
    // What few need comes last.
    fields.sort_by_key(|field| field.heading == Some(LIMITS));
    fields
}

/// The environment variable of a setting.
pub(super) fn variable(key: &str) -> String {
    match key {
        "data-dir" => "PEERFOLD_DATA".to_owned(),
        _ => format!("PEERFOLD_{}", key.replace('-', "_").to_uppercase()),
    }
}

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
    /// It isn't TOML, or has unknown keys or invalid values.
    #[error("the configuration {} is wrong{place}: {message}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// ` at line N`, where known.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A setting without a default is missing.
    #[error("--{key} is missing: give the flag, {environment}, or {key} = … in the configuration")]
    Missing {
        /// The setting.
        key: &'static str,
        /// Its environment variable.
        environment: String,
    },
    /// A value is invalid.
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
    /// There is no home directory to derive a default from.
    #[error("no home directory is known; give --home")]
    NoHome,
}

impl From<Mistake> for SettingsError {
    fn from(Mistake { key, value, what }: Mistake) -> Self {
        let meant = match key {
            "dataset" => did_you_mean(&value, Model::ALL.map(Model::name)),
            _ => String::new(),
        };
        Self::Value { key, value, what: what + &meant }
    }
}

impl SettingsError {
    /// The same error, with the source of the value if it is about one.
    pub(super) fn told_of(self, source: impl FnOnce(&'static str) -> Option<Source>) -> Self {
        match self {
            Self::Value { key, value, what } => match source(key) {
                Some(from) => Self::Sourced { from, key, value, what },
                None => Self::Value { key, value, what },
            },
            other => other,
        }
    }
}

/// A layer's settings, of these values.
pub(super) fn read<T: Settings>(values: &Values) -> Result<T, SettingsError> {
    Ok(T::read(values)?)
}

/// A setting has this value, and can't.
pub(super) fn wrong(key: &'static str, value: impl ToString, what: impl ToString) -> SettingsError {
    SettingsError::Value { key, value: value.to_string(), what: what.to_string() }
}

/// A setting that has no default isn't set.
pub(super) fn missing(key: &'static str) -> SettingsError {
    SettingsError::Missing { key, environment: variable(key) }
}

/// The home that is used when none is given: `~/.peerfold`.
pub(super) fn default_home() -> Result<PathBuf, SettingsError> {
    std::env::home_dir()
        .filter(|dir| !dir.as_os_str().is_empty())
        .map(|dir| dir.join(".peerfold"))
        .ok_or(SettingsError::NoHome)
}
