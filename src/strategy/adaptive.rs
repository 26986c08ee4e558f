//! The steps of Adagrad, Yogi and Adam towards the mean (Reddi et al. 2021, algorithm 2), which differ in v alone.

use super::{
    Strategy,
    mean::Rounding,
    optimizer::{At, Optimizer, Rule},
    parameters::{Common, ParameterInfo, Parameters, Reference, StrategyError, StrategyInfo},
};

pub(super) const ETA: ParameterInfo =
    ParameterInfo { name: "eta", default: "0.1", meaning: "the step's learning rate, a number above 0" };
pub(super) const ETA_L: ParameterInfo = ParameterInfo {
    name: "eta_l",
    default: "0.1",
    meaning: "the learning rate of local training, a number above 0; the fold doesn't use it",
};
pub(super) const BETA_1: ParameterInfo =
    ParameterInfo { name: "beta_1", default: "0.9", meaning: "decay of m, a number from 0 to below 1" };
pub(super) const BETA_2: ParameterInfo =
    ParameterInfo { name: "beta_2", default: "0.99", meaning: "decay of v, a number from 0 to below 1" };
pub(super) const TAU: ParameterInfo = ParameterInfo {
    name: "tau",
    default: "1e-3; 1e-9 with reference flwr-1.6 or flwr-1.41",
    meaning: "adaptivity, a number from 1e-30: the smaller, the more every step has the same length",
};

/// How v is updated, and a rule's defaults.
pub(super) trait SecondMoment: Send + Sync + 'static {
    /// Name and parameters.
    const INFO: StrategyInfo;
    const ETA: f64 = 0.1;
    const ETA_L: f64 = 0.1;
    const BETA_1: f64 = 0.9;

    /// The default of τ, as in the given version of Flower.
    fn tau(reference: Option<Reference>) -> f64 {
        match reference {
            Some(Reference::Flwr16 | Reference::Flwr141) => 1e-9,
            _ => 1e-3,
        }
    }

    /// Whether η is corrected for the bias of the first rounds: η_t = η·√(1−β2^(r+1))/(1−β1^(r+1)), r the number of the
    /// round.
    fn is_corrected(reference: Option<Reference>) -> bool {
        let _ = reference;
        false
    }

    /// The new v. The decay of the old one and the gain of δ² are already rounded; `old` rounds the part that comes
    /// from the old v, `new` the rest.
    fn next(v: f64, square: f64, decay_and_gain: (f64, f64), old: impl Fn(f64) -> f64, new: impl Fn(f64) -> f64)
    -> f64;
}

/// δ = avg − x; m = β1·m + (1−β1)·δ; v by V; x ← x + η·m/(√v + τ), with m and v from 0.
struct Adaptive<V> {
    eta: f64,
    beta_1: f64,
    beta_2: f64,
    tau: f64,
    reference: Option<Reference>,
    second: std::marker::PhantomData<V>,
}

/// For [`StrategyInfo`]'s `build`. A rule without the parameter β2 doesn't use it.
pub(super) fn build<V: SecondMoment>(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let common = parameters.common()?;
    let reference = common.reference;
    let rate = |name, default| parameters.number(name, default, "a number above 0", |rate| rate > 0.0);
    let decay = |name, default| {
        parameters.number(name, default, "a number from 0 to below 1", |decay| (0.0..1.0).contains(&decay))
    };
    rate(ETA_L.name, V::ETA_L)?;
    let rule = Adaptive {
        eta: rate(ETA.name, V::ETA)?,
        beta_1: decay(BETA_1.name, V::BETA_1)?,
        beta_2: decay(BETA_2.name, 0.99)?,
        // Below this, τ vanishes in f32 and no longer prevents 0/0.
        tau: parameters.number(TAU.name, V::tau(reference), "a number from 1e-30", |tau| tau >= 1e-30)?,
        reference,
        second: std::marker::PhantomData::<V>,
    };
    Ok(Optimizer::strategy(rule, common))
}

impl<V: SecondMoment> Rule for Adaptive<V> {
    const INFO: StrategyInfo = V::INFO;

    fn rounding(&self, common: &Common) -> Rounding {
        common.rounding_of_fedavg()
    }

    fn moments(&self) -> usize {
        2
    }

    fn wide(&self) -> bool {
        // There the corrected η_t is a numpy scalar in f64, which makes x, m and v f64 after the first round.
        V::is_corrected(self.reference)
    }

    fn step(&self, at: &At, x: &[f64], mean: &mut [f64], moments: &mut [Vec<f64>]) {
        let (exact, single) = (|value: f64| value, |value: f64| f64::from(value as f32));
        let [m, v] = moments else { unreachable!("there are two moments") };
        let vectors = (x, mean, m.as_mut_slice(), v.as_mut_slice());
        match (self.reference.is_some() && at.single, V::is_corrected(self.reference), at.folds) {
            (false, ..) => self.steps(exact, exact, exact, at, vectors),
            (true, false, _) => self.steps(single, single, single, at, vectors),
            // f32 until x brings in f64, at the end of the first fold; so in the second fold only the old moments are
            // f32.
            (true, true, 0) => self.steps(single, single, exact, at, vectors),
            (true, true, 1) => self.steps(single, exact, exact, at, vectors),
            (true, true, _) => self.steps(exact, exact, exact, at, vectors),
        }
    }
}

impl<V: SecondMoment> Adaptive<V> {
    /// η_t.
    fn rate(&self, round: u64) -> f64 {
        if !V::is_corrected(self.reference) {
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
        old: impl Fn(f64) -> f64 + Copy,
        new: impl Fn(f64) -> f64 + Copy,
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
            *v = V::next(*v, new(delta * delta), (decay_2, gain_2), old, new);
            let scale = new(new(v.sqrt()) + tau);
            *mean = end(x + end(end(rate * *m) / scale));
        }
    }
}
