//! FedAdagrad: Adagrad's step towards the mean.

use super::{
    Strategy,
    mean::Rounding,
    optimizer::{At, Optimizer, Rule},
    registry::{
        ACCEPT_FAILURES, Common, MAX_SHARE, ParameterInfo, Parameters, REFERENCE, Reference, StrategyError,
        StrategyInfo,
    },
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedadagrad",
    aliases: &[],
    summary: "Adagrad towards the mean: δ = mean - x, v += δ², x += eta·δ/(√v + tau)",
    paper: "Reddi et al. 2021, Adaptive Federated Optimization",
    parameters: &[
        ParameterInfo { name: "eta", default: "0.1", meaning: "the step's learning rate, a number above 0" },
        ParameterInfo {
            name: "eta_l",
            default: "0.1",
            meaning: "the learning rate of local training, a number above 0; the fold doesn't use it",
        },
        ParameterInfo {
            name: "beta_1",
            default: "0",
            meaning: "decay of m, which takes δ's place: m = beta_1·m + (1 - beta_1)·δ; a number from 0 to below 1",
        },
        ParameterInfo {
            name: "tau",
            default: "1e-3; 1e-9 with reference flwr-1.6 or flwr-1.41",
            meaning: "adaptivity, a number from 1e-30: the smaller, the more every step has the same length",
        },
        MAX_SHARE,
        ACCEPT_FAILURES,
        REFERENCE,
    ],
    build,
};

/// δ = avg − x; m = β1·m + (1−β1)·δ; v = v + δ², v from 0; x ← x + η·m/(√v + τ) (Reddi et al. 2021, algorithm 2).
struct FedAdagrad {
    eta: f64,
    beta_1: f64,
    tau: f64,
    single: bool,
}

/// τ as Flower has it, by its version.
pub(super) fn default_tau(reference: Option<Reference>) -> f64 {
    match reference {
        Some(Reference::Flwr16 | Reference::Flwr141) => 1e-9,
        _ => 1e-3,
    }
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let common = parameters.common()?;
    let rate = |name| parameters.number(name, 0.1, "a number above 0", |rate| rate > 0.0);
    rate("eta_l")?;
    let decay = parameters.number("beta_1", 0.0, "a number from 0 to below 1", |decay| (0.0..1.0).contains(&decay))?;
    // Below it, f32 has no τ left that keeps 0/0 away.
    let tau = parameters.number("tau", default_tau(common.reference), "a number from 1e-30", |tau| tau >= 1e-30)?;
    let rule = FedAdagrad { eta: rate("eta")?, beta_1: decay, tau, single: common.reference.is_some() };
    Ok(Box::new(Optimizer::new(rule, common)))
}

impl Rule for FedAdagrad {
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

impl FedAdagrad {
    #[inline(always)]
    fn steps(&self, round: impl Fn(f64) -> f64, x: &[f64], mean: &mut [f64], moments: &mut [Vec<f64>]) {
        let [m, v] = moments else { unreachable!("there are two moments") };
        let (decay, gain) = (round(self.beta_1), round(1.0 - self.beta_1));
        let (rate, tau) = (round(self.eta), round(self.tau));
        for (((mean, &x), m), v) in mean.iter_mut().zip(x).zip(m).zip(v) {
            let delta = round(*mean - x);
            *m = round(round(decay * *m) + round(gain * delta));
            *v = round(*v + round(delta * delta));
            *mean = round(x + round(round(rate * *m) / round(round(v.sqrt()) + tau)));
        }
    }
}
