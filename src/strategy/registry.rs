//! Strategies by name.

use super::{Strategy, fedadam, fedavg, fedavgm};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What there is to know of a strategy before it is built.
#[derive(Debug, Clone, Copy)]
pub struct StrategyInfo {
    /// Its name, lower case.
    pub name: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// What can be set.
    pub parameters: &'static [ParameterInfo],
    pub(super) build: fn(&Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError>,
}

/// A parameter of a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Its name, as the reference has it.
    pub name: &'static str,
    /// What holds if it isn't set.
    pub default: &'static str,
    /// What it does, and the values it can take.
    pub meaning: &'static str,
}

/// The strategies, in alphabetical order.
pub static STRATEGIES: &[StrategyInfo] = &[fedadam::INFO, fedavg::INFO, fedavgm::INFO];

pub(super) const REFERENCE: ParameterInfo = ParameterInfo {
    name: "reference",
    default: "none: sums in f64, rounded once",
    meaning: "whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message",
};

pub(super) const ACCEPT_FAILURES: ParameterInfo = ParameterInfo {
    name: "accept_failures",
    default: "true",
    meaning: "whether to fold though some updates could not be used: true or false",
};

/// A program whose arithmetic is repeated: its order of operations, its roundings and its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reference {
    /// `flwr-1.6`: Flower 1.6.0, on which flwr-serverless runs.
    Flwr16,
    /// `flwr-1.41`: Flower 1.41.0, `flwr.server.strategy`.
    Flwr141,
    /// `flwr-1.41-message`: Flower 1.41.0, `flwr.serverapp.strategy`.
    Flwr141Message,
}

impl Reference {
    const ALL: [Reference; 3] = [Reference::Flwr16, Reference::Flwr141, Reference::Flwr141Message];
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reference::Flwr16 => "flwr-1.6",
            Reference::Flwr141 => "flwr-1.41",
            Reference::Flwr141Message => "flwr-1.41-message",
        })
    }
}

/// Why there is no such strategy. Every message lists what there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrategyError {
    /// No strategy of this name.
    #[error("there is no strategy {name:?}; there are {}", known.join(", "))]
    Unknown {
        /// The name given.
        name: String,
        /// All names.
        known: Vec<&'static str>,
    },
    /// The strategy has no such parameter.
    #[error("{strategy} has no parameter {parameter:?}; it has {}", known.join(", "))]
    Parameter {
        /// The strategy.
        strategy: &'static str,
        /// The parameter given.
        parameter: String,
        /// Its parameters.
        known: Vec<&'static str>,
    },
    /// The parameter can't have this value.
    #[error("{strategy}: {parameter} can't be {value:?}; it takes {expected}")]
    Value {
        /// The strategy.
        strategy: &'static str,
        /// The parameter.
        parameter: &'static str,
        /// The value given.
        value: String,
        /// What it takes.
        expected: String,
    },
}

/// A strategy's name and the parameters that are set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StrategySpec {
    /// One of the names in [`STRATEGIES`].
    pub name: String,
    /// Values by the names of the strategy's parameters, in words; what is missing has its default.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
}

impl StrategySpec {
    /// The strategy of this name with all its defaults. Names are checked by [`build`](Self::build).
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), params: BTreeMap::new() }
    }

    /// Sets a parameter.
    #[must_use]
    pub fn with(mut self, parameter: impl Into<String>, value: impl ToString) -> Self {
        self.params.insert(parameter.into(), value.to_string());
        self
    }

    /// What there is to know of the strategy, or an error that lists those there are.
    pub fn info(&self) -> Result<&'static StrategyInfo, StrategyError> {
        STRATEGIES.iter().find(|info| info.name == self.name).ok_or_else(|| StrategyError::Unknown {
            name: self.name.clone(),
            known: STRATEGIES.iter().map(|info| info.name).collect(),
        })
    }

    /// Builds the strategy, without a state. Errors name the strategy or parameter that doesn't exist, or the value
    /// that a parameter can't have, and list what does.
    pub fn build(&self) -> Result<Box<dyn Strategy>, StrategyError> {
        let info = self.info()?;
        let known: BTreeSet<_> = info.parameters.iter().map(|parameter| parameter.name).collect();
        if let Some(parameter) = self.params.keys().find(|name| !known.contains(name.as_str())) {
            let known = info.parameters.iter().map(|parameter| parameter.name).collect();
            return Err(StrategyError::Parameter { strategy: info.name, parameter: parameter.clone(), known });
        }
        (info.build)(&Parameters { strategy: info.name, values: &self.params })
    }
}

/// The name and the parameters: `fedavgm server_momentum=0.9`.
impl fmt::Display for StrategySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.params.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// The parameters of a strategy that is being built. Only names in its [`StrategyInfo`] are set.
pub(super) struct Parameters<'a> {
    strategy: &'static str,
    values: &'a BTreeMap<String, String>,
}

impl Parameters<'_> {
    /// The error for what was given, or wasn't, as this parameter.
    pub(super) fn rejected(&self, parameter: &'static str, expected: impl Into<String>) -> StrategyError {
        let value = self.values.get(parameter).cloned().unwrap_or_default();
        StrategyError::Value { strategy: self.strategy, parameter, value, expected: expected.into() }
    }

    /// Whose arithmetic.
    pub(super) fn reference(&self) -> Result<Option<Reference>, StrategyError> {
        let Some(value) = self.values.get(REFERENCE.name) else { return Ok(None) };
        let found = Reference::ALL.into_iter().find(|reference| reference.to_string() == *value);
        let expected = || Reference::ALL.map(|reference| reference.to_string()).join(", ");
        found.map(Some).ok_or_else(|| self.rejected(REFERENCE.name, expected()))
    }

    /// Whether to fold in spite of failures.
    pub(super) fn accept_failures(&self) -> Result<bool, StrategyError> {
        Ok(self.flag(ACCEPT_FAILURES.name)?.unwrap_or(true))
    }

    /// `true` or `false`, if it is set.
    pub(super) fn flag(&self, parameter: &'static str) -> Result<Option<bool>, StrategyError> {
        let Some(value) = self.values.get(parameter) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| self.rejected(parameter, "true or false"))
    }

    /// A number that `accepts`; `expected` says in words which.
    pub(super) fn number(
        &self,
        parameter: &'static str,
        default: f64,
        expected: &str,
        accepts: impl Fn(f64) -> bool,
    ) -> Result<f64, StrategyError> {
        let Some(value) = self.values.get(parameter) else { return Ok(default) };
        let number = value.trim().parse::<f64>().ok().filter(|&number| number.is_finite() && accepts(number));
        number.ok_or_else(|| self.rejected(parameter, expected))
    }
}
