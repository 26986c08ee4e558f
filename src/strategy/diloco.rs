//! DiLoCo's outer step: Nesterov momentum towards the mean.

use super::{
    FoldError, Strategy,
    mean::Rounding,
    optimizer::{At, Optimizer, Rule},
    parameters::{ACCEPT_FAILURES, ParameterInfo, Parameters, StrategyError, StrategyInfo},
    source::Source,
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "diloco",
    aliases: &[],
    summary: "Nesterov momentum towards the mean, not weighted: g = x - mean, v = μ·v + g, x -= lr·(g + μ·v)",
    paper: "Douillard et al. 2023, DiLoCo: Distributed Low-Communication Training of Language Models",
    parameters: &[
        ParameterInfo { name: "outer_learning_rate", default: "0.7", meaning: "lr, a number above 0" },
        ParameterInfo { name: "outer_momentum", default: "0.9", meaning: "μ, a number from 0 to below 1" },
        ACCEPT_FAILURES,
    ],
    build,
};

/// g = mean(x − w_k); v = μv + g, v from 0; x ← x − lr·(g + μv) (Douillard et al. 2023, algorithm 1).
struct DiLoCo {
    rate: f64,
    momentum: f64,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let rule = DiLoCo {
        rate: parameters.number("outer_learning_rate", 0.7, "a number above 0", |rate| rate > 0.0)?,
        momentum: parameters
            .number("outer_momentum", 0.9, "a number from 0 to below 1", |momentum| (0.0..1.0).contains(&momentum))?,
    };
    Ok(Optimizer::strategy(rule, parameters.common()?))
}

impl Rule for DiLoCo {
    const INFO: StrategyInfo = INFO;

    fn rounding(&self, _: &super::parameters::Common) -> Rounding {
        Rounding::Once
    }

    fn weights(&self, source: &Source<'_>, _: &super::parameters::Common) -> Result<Vec<f64>, FoldError> {
        Ok(vec![1.0; source.updates().len()])
    }

    fn moments(&self) -> usize {
        1
    }

    fn step(&self, _: &At, x: &[f64], mean: &mut [f64], moments: &mut [Vec<f64>]) {
        let [velocity] = moments else { unreachable!("there is one moment") };
        for ((mean, &x), velocity) in mean.iter_mut().zip(x).zip(velocity) {
            let gradient = x - *mean;
            *velocity = self.momentum * *velocity + gradient;
            *mean = x - self.rate * (gradient + self.momentum * *velocity);
        }
    }
}
