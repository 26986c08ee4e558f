//! FedAdagrad: Adagrad's step towards the mean.

use super::{
    adaptive::{BETA_1, ETA, ETA_L, SecondMoment, TAU, build},
    parameters::{ACCEPT_FAILURES, MAX_SHARE, ParameterInfo, REFERENCE, StrategyInfo},
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedadagrad",
    aliases: &[],
    summary: "Adagrad towards the mean: δ = mean - x, v += δ², x += eta·δ/(√v + tau)",
    paper: "Reddi et al. 2021, Adaptive Federated Optimization",
    parameters: &[
        ETA,
        ETA_L,
        ParameterInfo {
            default: "0",
            meaning: "decay of m, which takes δ's place: m = beta_1·m + (1 - beta_1)·δ; a number from 0 to below 1",
            ..BETA_1
        },
        TAU,
        MAX_SHARE,
        ACCEPT_FAILURES,
        REFERENCE,
    ],
    build: build::<FedAdagrad>,
};

/// v = v + δ².
struct FedAdagrad;

impl SecondMoment for FedAdagrad {
    const INFO: StrategyInfo = INFO;
    const BETA_1: f64 = 0.0;

    #[inline(always)]
    fn next(v: f64, square: f64, _: (f64, f64), _: impl Fn(f64) -> f64, new: impl Fn(f64) -> f64) -> f64 {
        new(v + square)
    }
}
