//! The package's exceptions for Rust's errors. They are classes of `peerfold._errors`, with Rust's message.

use peerfold::{
    node::NodeError,
    run::RunError,
    settings::Mistake,
    strategy::StrategyError,
    weights::{SafetensorsError, WeightsError},
};
use pyo3::prelude::*;

/// An error on its way to Python: it may be made where there is no interpreter at hand.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The name of a class in `peerfold._errors`.
    class: &'static str,
    message: String,
}

impl Failure {
    pub(crate) fn new(class: &'static str, message: impl Into<String>) -> Self {
        Self { class, message: as_options(&message.into()) }
    }

    /// What is wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Something the user gave as weights can't be any.
    pub(crate) fn weights(message: impl Into<String>) -> Self {
        Self::new("WeightsError", message)
    }

    /// The call comes at a time at which it can't be answered.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new("UsageError", message)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| {
            let class = py.import("peerfold._errors").and_then(|module| module.getattr(failure.class));
            match class.and_then(|class| class.call1((failure.message.as_str(),))) {
                Ok(error) => PyErr::from_value(error),
                Err(error) => error,
            }
        })
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        let class = match &error {
            RunError::Node(error) => class_of(error),
            RunError::Metrics { .. } => "MetricsError",
            RunError::Unpublished(_) => "FolderError",
            _ => "Error",
        };
        Self::new(class, error.to_string())
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        Self::new(class_of(&error), error.to_string())
    }
}

impl From<Mistake> for Failure {
    fn from(mistake: Mistake) -> Self {
        let Mistake { key, value, what } = mistake;
        Self::new("SettingError", format!("{} = {value}: {what}", key.replace('-', "_")))
    }
}

impl From<StrategyError> for Failure {
    fn from(error: StrategyError) -> Self {
        Self::new("StrategyError", error.to_string())
    }
}

impl From<WeightsError> for Failure {
    fn from(error: WeightsError) -> Self {
        Self::weights(error.to_string())
    }
}

impl From<SafetensorsError> for Failure {
    fn from(error: SafetensorsError) -> Self {
        Self::weights(error.to_string())
    }
}

/// The program's flags are options here: `--min-peers` is `min_peers`.
fn as_options(message: &str) -> String {
    let words = message.split_inclusive([' ', '(', '\n']).map(|word| match word.strip_prefix("--") {
        Some(flag) if flag.starts_with(|c: char| c.is_ascii_lowercase()) => flag.replace('-', "_"),
        _ => word.to_owned(),
    });
    words.collect()
}

fn class_of(error: &NodeError) -> &'static str {
    match error {
        NodeError::Folder(_) => "FolderError",
        NodeError::Home(_) => "HomeError",
        NodeError::Checkpoint(_) => "CheckpointError",
        NodeError::Strategy(_) | NodeError::Fold(_) => "StrategyError",
        NodeError::AllowList(_) | NodeError::ListFile(_) | NodeError::Setting(_) => "SettingError",
        NodeError::Layout { .. } | NodeError::Diverged { .. } | NodeError::Claim { .. } => "WeightsError",
        NodeError::BelowQuorum { .. } => "QuorumError",
        NodeError::Stopped => "Stopped",
        _ => "Error",
    }
}
