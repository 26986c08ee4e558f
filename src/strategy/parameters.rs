//! A strategy's description and parameters, and the parameters that several strategies share.

use super::{Strategy, mean::Rounding};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// What can be known about a strategy before it is built.
#[derive(Debug, Clone, Copy)]
pub struct StrategyInfo {
    /// Its name, lower case.
    pub name: &'static str,
    /// Other names under which it is found.
    pub aliases: &'static [&'static str],
    /// What it does, in a line.
    pub summary: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
    /// Its parameters.
    pub parameters: &'static [ParameterInfo],
    pub(super) build: fn(&Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError>,
}

/// A parameter of a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Its name, as the reference has it.
    pub name: &'static str,
    /// The default.
    pub default: &'static str,
    /// What it does, and the values it can take.
    pub meaning: &'static str,
}

pub(super) const REFERENCE: ParameterInfo = ParameterInfo {
    name: "reference",
    default: "none: sums in f64, rounded once",
    meaning: "whose arithmetic to repeat bit for bit: flwr-1.6, flwr-1.41 or flwr-1.41-message",
};

pub(super) const ASYNC_REFERENCE: ParameterInfo = ParameterInfo {
    name: "reference",
    default: "none: f64, rounded once",
    meaning: "whose arithmetic to repeat bit for bit: flower-async",
};

pub(super) const ACCEPT_FAILURES: ParameterInfo = ParameterInfo {
    name: "accept_failures",
    default: "true",
    meaning: "whether to fold though some updates could not be used: true or false",
};

pub(super) const MAX_SHARE: ParameterInfo = ParameterInfo {
    name: "max_share",
    default: "1",
    meaning: "most that the examples of one update may count for among all, a number above 0, up to 1; what is more is \
              cut. Not with reference",
};

/// Parameters that every rule has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    pub(super) reference: Option<Reference>,
    pub(super) accept_failures: bool,
    pub(super) max_share: f64,
}

impl Common {
    /// The rounding of a mean that every version of Flower computes as in FedAvg.
    pub(super) fn rounding_of_fedavg(&self) -> Rounding {
        match self.reference {
            None | Some(Reference::FlowerAsync) => Rounding::Once,
            Some(Reference::Flwr16) => Rounding::SumThenDivide,
            Some(Reference::Flwr141) => Rounding::ShareInDouble,
            Some(Reference::Flwr141Message) => Rounding::ShareInSingle,
        }
    }

    /// The rounding of a mean that Flower 1.41 still computes as Flower 1.6 did.
    pub(super) fn rounding_of_aggregate(&self) -> Rounding {
        match self.reference {
            Some(Reference::Flwr141) => Rounding::SumThenDivide,
            _ => self.rounding_of_fedavg(),
        }
    }
}

/// A program whose arithmetic is reproduced: its order of operations, its roundings and its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reference {
    /// `flwr-1.6`: Flower 1.6.0, on which flwr-serverless runs.
    Flwr16,
    /// `flwr-1.41`: Flower 1.41.0, `flwr.server.strategy`.
    Flwr141,
    /// `flwr-1.41-message`: Flower 1.41.0, `flwr.serverapp.strategy`.
    Flwr141Message,
    /// `flower-async`: the asynchronous strategies of flower-async (commit 35328b0).
    FlowerAsync,
}

impl Reference {
    const FLOWER: [Reference; 3] = [Reference::Flwr16, Reference::Flwr141, Reference::Flwr141Message];
    const ASYNC: [Reference; 1] = [Reference::FlowerAsync];
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reference::Flwr16 => "flwr-1.6",
            Reference::Flwr141 => "flwr-1.41",
            Reference::Flwr141Message => "flwr-1.41-message",
            Reference::FlowerAsync => "flower-async",
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

/// The parameters of a strategy that is being built. Only names in its [`StrategyInfo`] are set.
pub(super) struct Parameters<'a> {
    pub(super) strategy: &'static str,
    pub(super) values: &'a BTreeMap<String, String>,
}

impl Parameters<'_> {
    /// The error for this parameter's value, or for its absence.
    pub(super) fn rejected(&self, parameter: &'static str, expected: impl Into<String>) -> StrategyError {
        let value = self.values.get(parameter).cloned().unwrap_or_default();
        StrategyError::Value { strategy: self.strategy, parameter, value, expected: expected.into() }
    }

    /// The parameters that every rule has. If this rule has no such parameter, its default.
    pub(super) fn common(&self) -> Result<Common, StrategyError> {
        let reference = self.reference(&Reference::FLOWER)?;
        let max_share =
            self.number(MAX_SHARE.name, 1.0, "a number above 0, up to 1", |share| share > 0.0 && share <= 1.0)?;
        if reference.is_some() && self.values.contains_key(MAX_SHARE.name) {
            return Err(self.rejected(MAX_SHARE.name, "no reference beside it, for none has such a cap"));
        }
        let accept_failures = self.flag(ACCEPT_FAILURES.name)?.unwrap_or(true);
        Ok(Common { reference, accept_failures, max_share })
    }

    /// The same for the rules that flower-async has.
    pub(super) fn async_common(&self) -> Result<Common, StrategyError> {
        // Only flower-async has this parameter, so setting it means reproducing one of its runs.
        let implied = self.values.contains_key("server_artificial_delay").then_some(Reference::FlowerAsync);
        let reference = self.reference(&Reference::ASYNC)?.or(implied);
        Ok(Common { reference, accept_failures: self.flag(ACCEPT_FAILURES.name)?.unwrap_or(true), max_share: 1.0 })
    }

    /// Whose arithmetic.
    fn reference(&self, known: &[Reference]) -> Result<Option<Reference>, StrategyError> {
        let Some(value) = self.values.get(REFERENCE.name) else { return Ok(None) };
        let found = known.iter().find(|reference| reference.to_string() == *value);
        let names = || known.iter().map(Reference::to_string).collect::<Vec<_>>().join(", ");
        found.copied().map(Some).ok_or_else(|| self.rejected(REFERENCE.name, names()))
    }

    /// Whether the parameter is set.
    pub(super) fn is_set(&self, parameter: &str) -> bool {
        self.values.contains_key(parameter)
    }

    /// `true` or `false`, as Rust, JSON or Python write it, if it is set.
    pub(super) fn flag(&self, parameter: &'static str) -> Result<Option<bool>, StrategyError> {
        let Some(value) = self.values.get(parameter) else { return Ok(None) };
        match value.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Ok(Some(true)),
            "false" | "0" => Ok(Some(false)),
            _ => Err(self.rejected(parameter, "true or false")),
        }
    }

    /// A whole number from `least`.
    pub(super) fn whole(&self, parameter: &'static str, default: u64, least: u64) -> Result<u64, StrategyError> {
        let Some(value) = self.values.get(parameter) else { return Ok(default) };
        let number = value.trim().parse::<u64>().ok().filter(|&number| number >= least);
        number.ok_or_else(|| self.rejected(parameter, format!("a whole number from {least}")))
    }

    /// One of these words; the first, if it isn't set.
    pub(super) fn choice(
        &self,
        parameter: &'static str,
        words: &[&'static str],
    ) -> Result<&'static str, StrategyError> {
        let Some(value) = self.values.get(parameter) else { return Ok(words[0]) };
        let found = words.iter().find(|word| **word == value.trim());
        found.copied().ok_or_else(|| self.rejected(parameter, words.join(", ")))
    }

    /// Which of two names for the same parameter is set; the first if neither is.
    pub(super) fn either(&self, a: &'static str, b: &'static str) -> Result<&'static str, StrategyError> {
        match (self.is_set(a), self.is_set(b)) {
            (true, true) => Err(self.rejected(b, format!("no {a} beside it, which is the same"))),
            (false, true) => Ok(b),
            _ => Ok(a),
        }
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
