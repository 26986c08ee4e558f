//! Strategies by name.

use super::{
    PerTensor, Strategy, TENSOR_PARAMETERS, TensorRules, asofed, asyncfeded, bulyan, centeredclipping, diloco, dpsgd,
    faulttolerantfedavg, fedadagrad, fedadam, fedasync, fedavg, fedavgm, fedbuff, fedmedian, fedprox, fedtrimmedavg,
    fedyogi, geometricmedian, gossip, krum, multikrum, normbound, paflm,
    parameters::{Parameters, StrategyError, StrategyInfo},
    port, qfedavg, safa, unweighted,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The strategies, in alphabetical order.
pub static STRATEGIES: &[StrategyInfo] = &[
    asofed::INFO,
    asyncfeded::INFO,
    bulyan::INFO,
    centeredclipping::INFO,
    diloco::INFO,
    dpsgd::INFO,
    faulttolerantfedavg::INFO,
    fedadagrad::INFO,
    fedadam::INFO,
    fedasync::INFO,
    fedavg::INFO,
    fedavgm::INFO,
    fedbuff::INFO,
    fedmedian::INFO,
    fedprox::INFO,
    fedtrimmedavg::INFO,
    fedyogi::INFO,
    geometricmedian::INFO,
    gossip::INFO,
    krum::INFO,
    multikrum::INFO,
    normbound::INFO,
    paflm::INFO,
    port::INFO,
    qfedavg::INFO,
    safa::INFO,
    unweighted::INFO,
];

/// A strategy's name and the parameters that are set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StrategySpec {
    /// One of the names in [`STRATEGIES`], in any case, with or without `-` and `_`.
    pub name: String,
    /// Parameter values as text, by name. What is missing has its default.
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

    /// The strategy's description, or an error that lists the strategies that exist.
    pub fn info(&self) -> Result<&'static StrategyInfo, StrategyError> {
        let plain: String = self.name.chars().filter(|c| !matches!(c, '-' | '_')).collect();
        let named = |name: &&str| name.eq_ignore_ascii_case(&plain);
        let found = STRATEGIES.iter().find(|info| std::iter::once(&info.name).chain(info.aliases).any(named));
        found.ok_or_else(|| StrategyError::Unknown {
            name: self.name.clone(),
            known: STRATEGIES.iter().map(|info| info.name).collect(),
        })
    }

    /// Builds the strategy, without a state. Errors name the strategy or parameter that doesn't exist, or the invalid
    /// value, and list the valid ones.
    pub fn build(&self) -> Result<Box<dyn Strategy>, StrategyError> {
        self.build_for(&[])
    }

    /// Builds the strategy for a model in which these tensors are known not to be parameters, whatever they are called.
    /// Rules that take steps average them, as they do running statistics that are recognised by name.
    pub fn build_for(&self, buffers: &[String]) -> Result<Box<dyn Strategy>, StrategyError> {
        let info = self.info()?;
        let mut values = self.params.clone();
        let rules = TensorRules { buffers: buffers.to_vec(), ..TensorRules::take(info.name, &mut values)? };
        let known: BTreeSet<_> = info.parameters.iter().map(|parameter| parameter.name).collect();
        if let Some(parameter) = values.keys().find(|name| !known.contains(name.as_str())) {
            let known = info.parameters.iter().chain(TENSOR_PARAMETERS).map(|parameter| parameter.name).collect();
            return Err(StrategyError::Parameter { strategy: info.name, parameter: parameter.clone(), known });
        }
        let differences = values.get("send_gradients").map(|value| value.trim().to_ascii_lowercase());
        if matches!(differences.as_deref(), Some("true" | "1")) && !rules.is_plain() {
            let expected = "false beside average, local or integers, which take updates for weights".to_owned();
            let value = "true".to_owned();
            return Err(StrategyError::Value { strategy: info.name, parameter: "send_gradients", value, expected });
        }
        let inner = (info.build)(&Parameters { strategy: info.name, values: &values })?;
        Ok(Box::new(PerTensor::new(inner, rules)))
    }
}

/// The name and the parameters: `fedavgm server_momentum=0.9`.
impl fmt::Display for StrategySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.params.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}
