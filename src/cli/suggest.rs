//! Strategies and parameters that there aren't, with those that were meant.

use crate::{
    program::did_you_mean,
    strategy::{STRATEGIES, StrategyError},
};

/// The error as text, with what was meant.
pub(super) fn for_strategy(error: &StrategyError) -> String {
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
