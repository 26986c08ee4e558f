//! Strategies as arguments name them, with suggestions for unknown names.

use super::did_you_mean;
use crate::{
    settings::Mistake,
    strategy::{STRATEGIES, StrategyError, StrategySpec},
};

fn wrong(key: &'static str, value: impl ToString, what: impl ToString) -> Mistake {
    Mistake { key, value: value.to_string(), what: what.to_string() }
}

/// A strategy with parameters written as NAME=VALUE. Whether they exist isn't checked here.
pub(crate) fn strategy_spec(name: &str, params: &[String]) -> Result<StrategySpec, Mistake> {
    let mut spec = StrategySpec::new(name);
    for param in params {
        let (key, value) = param.split_once('=').ok_or_else(|| wrong("param", param, "write NAME=VALUE"))?;
        if spec.params.contains_key(key.trim()) {
            return Err(wrong("param", param, "is given twice"));
        }
        spec = spec.with(key.trim(), value.trim());
    }
    Ok(spec)
}

/// What is wrong with a strategy or one of its parameters, with a suggestion.
pub(crate) fn strategy_error(spec: &StrategySpec, error: &StrategyError) -> Mistake {
    let of_parameter = |name: &str| format!("{name}={}", spec.params.get(name).map_or("", String::as_str));
    let (key, value) = match error {
        StrategyError::Unknown { name, .. } => ("strategy", name.clone()),
        StrategyError::Parameter { parameter, .. } => ("param", of_parameter(parameter)),
        StrategyError::Value { parameter, .. } => ("param", of_parameter(parameter)),
    };
    wrong(key, value, for_strategy(error))
}

/// A strategy that a node can fold by, with parameters as `NAME=VALUE`.
pub(crate) fn strategy_of(name: &str, params: &[String]) -> Result<StrategySpec, Mistake> {
    let spec = strategy_spec(name, params)?;
    spec.build().map_err(|error| strategy_error(&spec, &error))?;
    let differences = spec.params.get("send_gradients").map(|value| value.to_ascii_lowercase());
    if let Some("true" | "1") = differences.as_deref() {
        return Err(wrong("param", "send_gradients=true", "nodes publish weights, not differences"));
    }
    Ok(spec)
}

/// The error as text, with a suggestion.
pub(crate) fn for_strategy(error: &StrategyError) -> String {
    let suggestion = match error {
        StrategyError::Unknown { name, .. } => {
            let names =
                STRATEGIES.iter().flat_map(|info| std::iter::once(info.name).chain(info.aliases.iter().copied()));
            did_you_mean(name, names)
        }
        StrategyError::Parameter { parameter, known, .. } => did_you_mean(parameter, known.iter().copied()),
        StrategyError::Value { .. } => String::new(),
    };
    format!("{error}{suggestion}")
}
