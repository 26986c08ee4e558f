//! FedAdam: Adam's step towards the mean.

use super::{
    adaptive::{BETA_1, BETA_2, ETA, ETA_L, SecondMoment, TAU, build},
    parameters::{ACCEPT_FAILURES, MAX_SHARE, REFERENCE, Reference, StrategyInfo},
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedadam",
    aliases: &[],
    summary: "Adam towards the mean: δ = mean - x, x += eta·m/(√v + tau)",
    paper: "Reddi et al. 2021, Adaptive Federated Optimization",
    parameters: &[ETA, ETA_L, BETA_1, BETA_2, TAU, MAX_SHARE, ACCEPT_FAILURES, REFERENCE],
    build: build::<FedAdam>,
};

/// v = β2·v + (1−β2)·δ².
struct FedAdam;

impl SecondMoment for FedAdam {
    const INFO: StrategyInfo = INFO;

    /// The paper corrects nothing; the references of Flower 1.41 do.
    fn is_corrected(reference: Option<Reference>) -> bool {
        matches!(reference, Some(Reference::Flwr141 | Reference::Flwr141Message))
    }

    #[inline(always)]
    fn next(v: f64, square: f64, (decay, gain): (f64, f64), old: impl Fn(f64) -> f64, new: impl Fn(f64) -> f64) -> f64 {
        new(old(decay * v) + new(gain * square))
    }
}
