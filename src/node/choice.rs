//! The rule a node folds by: a built-in one by name, or the user's own.

use crate::strategy::{Strategy, StrategyError, StrategySpec};
use std::sync::Arc;

/// Which rule a node folds by: one of [`STRATEGIES`](crate::strategy::STRATEGIES), by name and parameters, or the
/// user's own.
///
/// ```
/// use peerfold::prelude::*;
///
/// /// What the node itself has trained, whatever the others did.
/// struct Stubborn;
///
/// impl Strategy for Stubborn {
///     fn name(&self) -> &'static str {
///         "stubborn"
///     }
///
///     fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError> {
///         let own = round.updates.iter().find(|update| update.own).ok_or(FoldError::NoUpdates)?;
///         StrategySpec::new("fedavg").build().unwrap().fold(&Round { updates: &[*own], ..*round })
///     }
/// }
///
/// let mut config = NodeConfig::new("mules", FolderUrl::Memory);
/// config.strategy = StrategyChoice::own(|| Stubborn);
/// config.strategy = StrategySpec::new("fedtrimmedavg").with("beta", 0.1).into();
/// ```
#[derive(Clone)]
pub enum StrategyChoice {
    /// By name.
    Named(StrategySpec),
    /// Made by this function, once for each node that is opened.
    Own(Arc<dyn Fn() -> Box<dyn Strategy> + Send + Sync>),
}

impl StrategyChoice {
    /// The user's own rule. `make` must return one that has folded nothing yet; a node that goes on from a checkpoint
    /// restores its state.
    pub fn own<S: Strategy + 'static>(make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self::Own(Arc::new(move || Box::new(make())))
    }

    /// The rule, without a state. Errors if no strategy has the name, or it can't have the parameters.
    pub fn build(&self) -> Result<Box<dyn Strategy>, StrategyError> {
        self.build_for(&[])
    }

    /// The rule for a model in which these tensors aren't parameters: see [`StrategySpec::build_for`]. A user's own
    /// rule may treat them as it likes.
    pub(super) fn build_for(&self, buffers: &[String]) -> Result<Box<dyn Strategy>, StrategyError> {
        match self {
            Self::Named(spec) => spec.build_for(buffers),
            Self::Own(make) => Ok(make()),
        }
    }
}

impl From<StrategySpec> for StrategyChoice {
    fn from(spec: StrategySpec) -> Self {
        Self::Named(spec)
    }
}
