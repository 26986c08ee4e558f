//! FedAvgM: FedAvg with momentum on the folding side.

use super::{
    Reference, Strategy,
    mean::Rounding,
    optimizer::{At, Optimizer, Rule},
    parameters::{
        ACCEPT_FAILURES, Common, MAX_SHARE, ParameterInfo, Parameters, REFERENCE, StrategyError, StrategyInfo,
    },
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedavgm",
    aliases: &[],
    summary: "momentum towards the mean: g = x - mean, m = μ·m + g, x -= lr·m",
    paper: "Hsu et al. 2019, Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification",
    parameters: &[
        ParameterInfo {
            name: "server_learning_rate",
            default: "1",
            meaning: "lr, a number above 0; with server_momentum 0, 1 is FedAvg",
        },
        ParameterInfo { name: "server_momentum", default: "0", meaning: "μ, a number from 0 to below 1" },
        MAX_SHARE,
        ACCEPT_FAILURES,
        REFERENCE,
    ],
    build,
};

/// g = x − avg; m = μm + g, in the first fold m = g; x ← x − lr·m (Hsu et al. 2019, section 4.3). No Nesterov, no
/// dampening. x is what the node began from, then the result of its last fold.
///
/// Flower stays stuck for ever if its first round was empty; here the first fold is the first one that gave a result.
struct FedAvgM {
    learning_rate: f64,
    momentum: f64,
    reference: Option<Reference>,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let rate = parameters.number("server_learning_rate", 1.0, "a number above 0", |rate| rate > 0.0)?;
    let momentum = parameters
        .number("server_momentum", 0.0, "a number from 0 to below 1", |momentum| (0.0..1.0).contains(&momentum))?;
    let common = parameters.common()?;
    let rule = FedAvgM { learning_rate: rate, momentum, reference: common.reference };
    Ok(Optimizer::strategy(rule, common))
}

impl Rule for FedAvgM {
    const INFO: StrategyInfo = INFO;

    fn rounding(&self, common: &Common) -> Rounding {
        common.rounding_of_aggregate()
    }

    fn moments(&self) -> usize {
        usize::from(self.momentum > 0.0)
    }

    fn ends_at_mean(&self) -> bool {
        self.learning_rate == 1.0 && self.momentum == 0.0
    }

    fn step(&self, at: &At, x: &[f64], mean: &mut [f64], moments: &mut [Vec<f64>]) {
        if self.ends_at_mean() {
            return;
        }
        // f64 holds the exact result of an f32 sum, difference or product, or one that rounds to f32 as that does.
        if at.single && self.reference.is_some() {
            self.steps(|value| f64::from(value as f32), at, x, mean, moments);
        } else {
            self.steps(|value| value, at, x, mean, moments);
        }
    }
}

impl FedAvgM {
    #[inline(always)]
    fn steps(&self, round: impl Fn(f64) -> f64, at: &At, x: &[f64], mean: &mut [f64], moments: &mut [Vec<f64>]) {
        let (rate, momentum) = (round(self.learning_rate), round(self.momentum));
        let end = |x: f64, step: f64| round(x - round(rate * step));
        let Some(moment) = moments.first_mut() else {
            mean.iter_mut().zip(x).for_each(|(mean, &x)| *mean = end(x, round(x - *mean)));
            return;
        };
        for ((mean, &x), moment) in mean.iter_mut().zip(x).zip(moment) {
            let gradient = round(x - *mean);
            *moment = if at.folds == 0 { gradient } else { round(round(momentum * *moment) + gradient) };
            *mean = end(x, *moment);
        }
    }
}
