//! FedYogi: Yogi's step towards the mean.

use super::{
    adaptive::{BETA_1, BETA_2, ETA, ETA_L, SecondMoment, TAU, build},
    parameters::{ACCEPT_FAILURES, MAX_SHARE, ParameterInfo, REFERENCE, Reference, StrategyInfo},
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedyogi",
    aliases: &[],
    summary: "Yogi towards the mean: as fedadam, but v -= (1 - beta_2)·δ²·sign(v - δ²)",
    paper: "Reddi et al. 2021, Adaptive Federated Optimization",
    parameters: &[
        ParameterInfo { default: "0.01", ..ETA },
        ParameterInfo { default: "0.0316", ..ETA_L },
        BETA_1,
        BETA_2,
        ParameterInfo { default: "1e-3", ..TAU },
        MAX_SHARE,
        ACCEPT_FAILURES,
        REFERENCE,
    ],
    build: build::<FedYogi>,
};

/// v = v − (1−β2)·δ²·sign(v − δ²).
struct FedYogi;

impl SecondMoment for FedYogi {
    const INFO: StrategyInfo = INFO;
    const ETA: f64 = 0.01;
    const ETA_L: f64 = 0.0316;

    fn tau(_: Option<Reference>) -> f64 {
        1e-3
    }

    #[inline(always)]
    fn next(v: f64, square: f64, (_, gain): (f64, f64), _: impl Fn(f64) -> f64, new: impl Fn(f64) -> f64) -> f64 {
        let sign = match v - square {
            difference if difference > 0.0 => 1.0,
            difference if difference < 0.0 => -1.0,
            _ => 0.0,
        };
        new(v - new(gain * square) * sign)
    }
}
