//! FedAdam: Adam's step towards the mean.

use super::{
    Reference, Strategy,
    fedadagrad::default_tau,
    mean::Rounding,
    optimizer::{At, Optimizer, Rule},
    registry::{ACCEPT_FAILURES, Common, MAX_SHARE, ParameterInfo, Parameters, REFERENCE, StrategyError, StrategyInfo},
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedadam",
    aliases: &[],
    summary: "Adam towards the mean: δ = mean - x, x += eta·m/(√v + tau)",
    paper: "Reddi et al. 2021, Adaptive Federated Optimization",
    parameters: &[
        ParameterInfo { name: "eta", default: "0.1", meaning: "the step's learning rate, a number above 0" },
        ParameterInfo {
            name: "eta_l",
            default: "0.1",
            meaning: "the learning rate of local training, a number above 0; the fold doesn't use it",
        },
        ParameterInfo { name: "beta_1", default: "0.9", meaning: "decay of m, a number from 0 to below 1" },
        ParameterInfo { name: "beta_2", default: "0.99", meaning: "decay of v, a number from 0 to below 1" },
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

/// δ = avg − x; m = β1·m + (1−β1)·δ; v = β2·v + (1−β2)·δ²; x ← x + η_t·m/(√v + τ) (Reddi et al. 2021, algorithm 2),
/// with m and v from 0. η_t = η as in the paper, except with the references of Flower 1.41, which corrects the bias of
/// the first rounds: η_t = η·√(1−β2^(r+1))/(1−β1^(r+1)), r the number of the round.
struct FedAdam {
    eta: f64,
    beta_1: f64,
    beta_2: f64,
    tau: f64,
    reference: Option<Reference>,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let common = parameters.common()?;
    let reference = common.reference;
    let tau = default_tau(reference);
    let rate = |name| parameters.number(name, 0.1, "a number above 0", |rate| rate > 0.0);
    let decay = |name, default| {
        parameters.number(name, default, "a number from 0 to below 1", |decay| (0.0..1.0).contains(&decay))
    };
    rate("eta_l")?;
    let rule = FedAdam {
        eta: rate("eta")?,
        beta_1: decay("beta_1", 0.9)?,
        beta_2: decay("beta_2", 0.99)?,
        // Below it, f32 has no τ left that keeps 0/0 away.
        tau: parameters.number("tau", tau, "a number from 1e-30", |tau| tau >= 1e-30)?,
        reference,
    };
    Ok(Box::new(Optimizer::new(rule, common)))
}

impl Rule for FedAdam {
    const INFO: StrategyInfo = INFO;

    fn rounding(&self, common: &Common) -> Rounding {
        common.rounding_of_fedavg()
    }

    fn moments(&self) -> usize {
        2
    }

    fn wide(&self) -> bool {
        // There the corrected η_t is a numpy scalar in f64, which makes x, m and v f64 after the first round.
        self.corrected()
    }

    fn step(&self, at: &At, x: &[f64], mean: &mut [f64], moments: &mut [Vec<f64>]) {
        let (exact, single) = (|value: f64| value, |value: f64| f64::from(value as f32));
        let [m, v] = moments else { unreachable!("there are two moments") };
        let vectors = (x, mean, m.as_mut_slice(), v.as_mut_slice());
        match (self.reference.is_some() && at.single, self.corrected(), at.folds) {
            (false, ..) => self.steps(exact, exact, exact, at, vectors),
            (true, false, _) => self.steps(single, single, single, at, vectors),
            // f32 until f64 comes in by x: at the end of the first fold, and so in the second but for the old moments.
            (true, true, 0) => self.steps(single, single, exact, at, vectors),
            (true, true, 1) => self.steps(single, exact, exact, at, vectors),
            (true, true, _) => self.steps(exact, exact, exact, at, vectors),
        }
    }
}

impl FedAdam {
    fn corrected(&self) -> bool {
        matches!(self.reference, Some(Reference::Flwr141 | Reference::Flwr141Message))
    }

    /// η_t.
    fn rate(&self, round: u64) -> f64 {
        if !self.corrected() {
            return self.eta;
        }
        let exponent = round as f64 + 1.0;
        self.eta * (1.0 - self.beta_2.powf(exponent)).sqrt() / (1.0 - self.beta_1.powf(exponent))
    }

    /// The step, with a rounding each for what becomes of the old moments, of δ, and of x. An f32 operation is the
    /// f64 one rounded to f32.
    #[inline(always)]
    fn steps(
        &self,
        old: impl Fn(f64) -> f64,
        new: impl Fn(f64) -> f64,
        end: impl Fn(f64) -> f64,
        at: &At,
        (x, mean, m, v): (&[f64], &mut [f64], &mut [f64], &mut [f64]),
    ) {
        let (decay_1, decay_2) = (old(self.beta_1), old(self.beta_2));
        let (gain_1, gain_2) = (new(1.0 - self.beta_1), new(1.0 - self.beta_2));
        let (rate, tau) = (end(self.rate(at.round)), new(self.tau));
        for (((mean, &x), m), v) in mean.iter_mut().zip(x).zip(m).zip(v) {
            let delta = new(*mean - x);
            *m = new(old(decay_1 * *m) + new(gain_1 * delta));
            *v = new(old(decay_2 * *v) + new(gain_2 * new(delta * delta)));
            let scale = new(new(v.sqrt()) + tau);
            *mean = end(x + end(end(rate * *m) / scale));
        }
    }
}
