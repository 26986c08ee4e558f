//! Which tensors a strategy steps, which it only averages, and which stay the node's own.

use super::{ParameterInfo, parameters::StrategyError};
use crate::weights::{Layout, TensorSpec};
use glob::Pattern;
use std::collections::BTreeMap;

/// Buffers by the last part of their name: PyTorch's and burn's running statistics, Keras', and Flax' counters.
const BUFFERS: &[&str] = &[
    "running_mean",
    "running_var",
    "running_std",
    "moving_mean",
    "moving_var",
    "moving_variance",
    "moving_average",
    "num_batches_tracked",
];
/// Collections of buffers, by any part of a name: Flax' and Haiku's.
const COLLECTIONS: &[&str] = &["batch_stats", "mean_ema", "var_ema"];

/// The parameters that every strategy of [`STRATEGIES`](super::STRATEGIES) has besides its own.
pub static TENSOR_PARAMETERS: &[ParameterInfo] = &[
    ParameterInfo {
        name: "average",
        default: "running statistics, by their names",
        meaning: "glob patterns of tensors that are averaged and never stepped, separated by spaces or ;. They are \
                  added to the running statistics. Rules that take no step fold them as all others",
    },
    ParameterInfo {
        name: "step",
        default: "all that isn't averaged or local",
        meaning: "glob patterns of tensors that the rule folds although their names are those of running statistics",
    },
    ParameterInfo {
        name: "local",
        default: "no tensor",
        meaning: "glob patterns of tensors that keep the node's own values in a fold. They are published all the same, \
                  and a node that begins from a fold takes their mean",
    },
    ParameterInfo {
        name: "integers",
        default: "newest",
        meaning: "newest: integer and boolean tensors come whole from the newest update; mean: they are averaged by the \
                  shares of the updates and rounded, halves to even",
    },
];

/// What happens to a tensor in a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// The rule folds it.
    Stepped,
    /// It becomes the mean of the updates, by their shares, if the rule takes steps. Otherwise the rule folds it.
    Averaged,
    /// It stays the folding node's own.
    Local,
}

/// Rules by tensor. If several match a name, the first of these counts: `local`, `average`, `step`, and finally whether
/// the name is that of a running statistic, which is averaged.
#[derive(Debug, Clone, Default)]
pub struct TensorRules {
    /// Tensors that stay the node's own.
    pub local: Vec<Pattern>,
    /// Tensors that are averaged, besides the running statistics.
    pub average: Vec<Pattern>,
    /// Tensors that the rule folds, whatever they are called.
    pub step: Vec<Pattern>,
    /// Tensors that are averaged because the model says that they are no parameters.
    pub buffers: Vec<String>,
    /// Whether integer and boolean tensors are averaged and rounded.
    pub round_integers: bool,
}

impl TensorRules {
    /// Takes the [`TENSOR_PARAMETERS`] out of a strategy's parameters. Errors name the invalid pattern.
    pub(super) fn take(strategy: &'static str, params: &mut BTreeMap<String, String>) -> Result<Self, StrategyError> {
        let wrong = |parameter, value: &str, expected: String| StrategyError::Value {
            strategy,
            parameter,
            value: value.to_owned(),
            expected,
        };
        let mut patterns = |parameter: &'static str| {
            let text = params.remove(parameter).unwrap_or_default();
            let parts = text.split([' ', ';']).filter(|part| !part.is_empty());
            let parsed = parts.map(|part| {
                Pattern::new(part).map_err(|error| wrong(parameter, part, format!("a glob pattern: {}", error.msg)))
            });
            parsed.collect::<Result<Vec<_>, _>>()
        };
        let (local, average, step) = (patterns("local")?, patterns("average")?, patterns("step")?);
        let round_integers = match params.remove("integers").as_deref().map(str::trim) {
            None | Some("newest") => false,
            Some("mean") => true,
            Some(other) => return Err(wrong("integers", other, "newest, mean".to_owned())),
        };
        Ok(Self { local, average, step, buffers: Vec::new(), round_integers })
    }

    /// Whether nothing is asked for but what holds by default.
    pub(super) fn is_plain(&self) -> bool {
        self.local.is_empty() && self.average.is_empty() && !self.round_integers
    }

    /// What happens to the tensor of this name.
    pub fn treatment(&self, name: &str) -> Treatment {
        let fits = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(name));
        if fits(&self.local) {
            Treatment::Local
        } else if fits(&self.average)
            || !fits(&self.step) && (is_buffer(name) || self.buffers.iter().any(|buffer| buffer == name))
        {
            Treatment::Averaged
        } else {
            Treatment::Stepped
        }
    }

    /// Which tensors of the layout the rule itself doesn't fold.
    pub(super) fn apart(&self, layout: &Layout, steps: bool) -> Vec<bool> {
        let apart = |tensor: &TensorSpec| match self.treatment(&tensor.name) {
            _ if !tensor.dtype.is_float() && self.round_integers => true,
            Treatment::Local => true,
            Treatment::Averaged => steps && tensor.dtype.is_float(),
            Treatment::Stepped => false,
        };
        layout.tensors().iter().map(apart).collect()
    }
}

/// Whether a tensor's name is that of a running statistic, as PyTorch, Keras, Flax, Haiku and burn give them.
fn is_buffer(name: &str) -> bool {
    let name = name.strip_suffix(":0").unwrap_or(name);
    let mut parts = name.split(['.', '/']);
    parts.clone().next_back().is_some_and(|last| BUFFERS.contains(&last))
        || parts.any(|part| COLLECTIONS.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_statistics_are_known_by_their_names() {
        for name in [
            "bn.running_var",
            "layers.3.norm.running_mean",
            "model/bn/moving_variance:0",
            "batch_stats/BatchNorm_0/var",
            "net/~/bn/~/var_ema/average",
            "running_mean",
        ] {
            assert_eq!(TensorRules::default().treatment(name), Treatment::Averaged, "{name}");
        }
        for name in ["bn.weight", "my_running_variety", "params/BatchNorm_0/scale", "running_mean.weight"] {
            assert_eq!(TensorRules::default().treatment(name), Treatment::Stepped, "{name}");
        }
    }

    #[test]
    fn what_is_local_is_so_before_all_else_and_a_step_only_overrides_the_names() {
        let mut params = BTreeMap::from(
            [("local", "head.* *.bias"), ("average", "head.*;norm.*"), ("step", "*running_var norm.*")]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let rules = TensorRules::take("fedadam", &mut params).unwrap();
        let of = |name| rules.treatment(name);
        assert_eq!([of("head.weight"), of("a/b.bias")], [Treatment::Local; 2]);
        assert_eq!([of("norm.running_var"), of("bn.running_mean")], [Treatment::Averaged; 2]);
        assert_eq!([of("bn.running_var"), of("a.weight")], [Treatment::Stepped; 2]);
        let mut wrong = BTreeMap::from([("local".to_owned(), "a[".to_owned())]);
        assert!(TensorRules::take("fedadam", &mut wrong).unwrap_err().to_string().contains("a["));
    }
}
