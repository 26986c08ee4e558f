//! FedYogi: Yogi's step towards the mean.

use super::{
    Strategy,
    mean::Rounding,
    optimizer::{At, Optimizer, Rule},
    registry::{ACCEPT_FAILURES, Common, MAX_SHARE, ParameterInfo, Parameters, REFERENCE, StrategyError, StrategyInfo},
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedyogi",
    aliases: &[],
    summary: "Yogi towards the mean: as fedadam, but v -= (1 - beta_2)·δ²·sign(v - δ²)",
    paper: "Reddi et al. 2021, Adaptive Federated Optimization",
    parameters: &[
        ParameterInfo { name: "eta", default: "0.01", meaning: "the step's learning rate, a number above 0" },
        ParameterInfo {
            name: "eta_l",
            default: "0.0316",
            meaning: "the learning rate of local training, a number above 0; the fold doesn't use it",
        },
        ParameterInfo { name: "beta_1", default: "0.9", meaning: "decay of m, a number from 0 to below 1" },
        ParameterInfo { name: "beta_2", default: "0.99", meaning: "decay of v, a number from 0 to below 1" },
        ParameterInfo {
            name: "tau",
            default: "1e-3",
            meaning: "adaptivity, a number from 1e-30: the smaller, the more every step has the same length",
        },
        MAX_SHARE,
        ACCEPT_FAILURES,
        REFERENCE,
    ],
    build,
};

/// δ = avg − x; m = β1·m + (1−β1)·δ; v = v − (1−β2)·δ²·sign(v − δ²); x ← x + η·m/(√v + τ) (Reddi et al. 2021,
/// algorithm 2), with m and v from 0.
struct FedYogi {
    eta: f64,
    beta_1: f64,
    beta_2: f64,
    tau: f64,
    single: bool,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let common = parameters.common()?;
    let rate = |name, default| parameters.number(name, default, "a number above 0", |rate| rate > 0.0);
    let decay = |name, default| {
        parameters.number(name, default, "a number from 0 to below 1", |decay| (0.0..1.0).contains(&decay))
    };
    rate("eta_l", 0.0316)?;
    let rule = FedYogi {
        eta: rate("eta", 0.01)?,
        beta_1: decay("beta_1", 0.9)?,
        beta_2: decay("beta_2", 0.99)?,
        // Below it, f32 has no τ left that keeps 0/0 away.
        tau: parameters.number("tau", 1e-3, "a number from 1e-30", |tau| tau >= 1e-30)?,
        single: common.reference.is_some(),
    };
    Ok(Box::new(Optimizer::new(rule, common)))
}

impl Rule for FedYogi {
    const INFO: StrategyInfo = INFO;

    fn rounding(&self, common: &Common) -> Rounding {
        common.rounding_of_fedavg()
    }

    fn moments(&self) -> usize {
        2
    }

    fn step(&self, at: &At, x: &[f64], mean: &mut [f64], moments: &mut [Vec<f64>]) {
        if self.single && at.single {
            self.steps(|value| f64::from(value as f32), x, mean, moments);
        } else {
            self.steps(|value| value, x, mean, moments);
        }
    }
}

impl FedYogi {
    #[inline(always)]
    fn steps(&self, round: impl Fn(f64) -> f64, x: &[f64], mean: &mut [f64], moments: &mut [Vec<f64>]) {
        let [m, v] = moments else { unreachable!("there are two moments") };
        let (decay, gain_1, gain_2) = (round(self.beta_1), round(1.0 - self.beta_1), round(1.0 - self.beta_2));
        let (rate, tau) = (round(self.eta), round(self.tau));
        for (((mean, &x), m), v) in mean.iter_mut().zip(x).zip(m).zip(v) {
            let delta = round(*mean - x);
            *m = round(round(decay * *m) + round(gain_1 * delta));
            let square = round(delta * delta);
            let sign = match *v - square {
                difference if difference > 0.0 => 1.0,
                difference if difference < 0.0 => -1.0,
                _ => 0.0,
            };
            *v = round(*v - round(gain_2 * square) * sign);
            *mean = round(x + round(round(rate * *m) / round(round(v.sqrt()) + tau)));
        }
    }
}
