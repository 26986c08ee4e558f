//! The frame of the asynchronous rules that take one update after the other into x.

use super::{
    FoldError, Folded, Round, Strategy, Update, engine,
    memory::{Form, Memory},
    number::{decode, encode},
    parameters::{Common, ParameterInfo, Parameters, StrategyError, StrategyInfo},
    remembering::{Remembering, Remembers},
    source::{Source, part},
};
use crate::weights::{DType, Piece};

/// Elements that are taken through all updates at a time.
const BLOCK: usize = 2048;

pub(super) const TOTAL_SAMPLES: ParameterInfo = ParameterInfo {
    name: "total_samples",
    default: "the round's examples",
    meaning: "N_total of the sample weighing, a number above 0",
};
pub(super) const STALENESS_ALPHA: ParameterInfo =
    ParameterInfo { name: "staleness_alpha", default: "0.9", meaning: "base of paflm's weight; only paflm uses it" };
pub(super) const NUM_CLIENTS: ParameterInfo = ParameterInfo {
    name: "num_clients",
    default: "the round's updates",
    meaning: "of paflm's weight; only paflm uses it",
};
pub(super) const MIXING_ALPHA: ParameterInfo =
    ParameterInfo { name: "fedasync_mixing_alpha", default: "0.9", meaning: "α of fedasync; only fedasync uses it" };
pub(super) const FEDASYNC_A: ParameterInfo = ParameterInfo {
    name: "fedasync_a",
    default: "0.5",
    meaning: "a of fedasync's polynomial staleness; only fedasync uses it",
};
pub(super) const USE_STALENESS: ParameterInfo = ParameterInfo {
    name: "use_staleness",
    default: "true",
    meaning: "whether stale updates weigh less: true or false",
};
pub(super) const USE_SAMPLE_WEIGHING: ParameterInfo = ParameterInfo {
    name: "use_sample_weighing",
    default: "false",
    meaning: "whether the weight is multiplied by n_k / N_total: true or false",
};
pub(super) const SEND_GRADIENTS: ParameterInfo = ParameterInfo {
    name: "send_gradients",
    default: "false",
    meaning: "whether all updates are differences to x, whatever is said of each: true or false",
};
pub(super) const SERVER_ARTIFICIAL_DELAY: ParameterInfo =
    ParameterInfo { name: "server_artificial_delay", default: "false", meaning: "flower-async's; no rule uses it" };

/// How an update is mixed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// x ← (x + w)/2.
    Half,
    /// x ← (1 − rate)·x + rate·w.
    Mix,
    /// x ← x + rate·(w − x).
    Towards,
}

/// A rule that takes in one update after the other.
pub(super) trait Mixing: Send + Sync {
    /// Name and parameters.
    const INFO: StrategyInfo;
    /// How.
    const STEP: Step;

    /// The rate of each update, in the round's order.
    fn rates(&self, round: &Round<'_>) -> Result<Vec<f64>, FoldError>;
}

/// What flower-async's rules have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) common: Common,
    pub(super) use_staleness: bool,
    use_sample_weighing: bool,
    total_samples: Option<f64>,
    send_gradients: bool,
}

impl Settings {
    /// Reads the parameters, and checks even those that this rule doesn't use.
    pub(super) fn of(parameters: &Parameters<'_>) -> Result<Self, StrategyError> {
        let above_0 = |name, default| parameters.number(name, default, "a number above 0", |number| number > 0.0);
        let total = above_0(TOTAL_SAMPLES.name, 1.0)?;
        above_0(NUM_CLIENTS.name, 1.0)?;
        above_0(STALENESS_ALPHA.name, 0.9)?;
        parameters.number(FEDASYNC_A.name, 0.5, "a number from 0", |a| a >= 0.0)?;
        parameters.number(MIXING_ALPHA.name, 0.9, "a number from 0 to 1", |alpha| (0.0..=1.0).contains(&alpha))?;
        parameters.flag(SERVER_ARTIFICIAL_DELAY.name)?;
        Ok(Self {
            common: parameters.async_common()?,
            use_staleness: parameters.flag(USE_STALENESS.name)?.unwrap_or(true),
            use_sample_weighing: parameters.flag(USE_SAMPLE_WEIGHING.name)?.unwrap_or(false),
            total_samples: parameters.is_set(TOTAL_SAMPLES.name).then_some(total),
            send_gradients: parameters.flag(SEND_GRADIENTS.name)?.unwrap_or(false),
        })
    }

    /// n_k / N_total of each update; 1 without sample weighing.
    pub(super) fn sample_weights(&self, round: &Round<'_>) -> Result<Vec<f64>, FoldError> {
        let counts = round.updates.iter().map(|update| update.num_examples as f64);
        if !self.use_sample_weighing {
            return Ok(counts.map(|_| 1.0).collect());
        }
        let total = self.total_samples.unwrap_or_else(|| counts.clone().sum());
        if total == 0.0 {
            return Err(FoldError::NoExamples);
        }
        Ok(counts.map(|count| count / total).collect())
    }
}

/// A strategy whose memory is x.
pub(super) struct Mixed<R> {
    rule: R,
    settings: Settings,
}

/// Memory of one thread.
#[derive(Default)]
struct Scratch {
    x: Vec<f64>,
    update: Vec<f64>,
}

impl<R: Mixing + 'static> Mixed<R> {
    pub(super) fn strategy(rule: R, settings: Settings) -> Box<dyn Strategy> {
        Box::new(Remembering::new(Self { rule, settings }))
    }
}

impl<R: Mixing> Remembers for Mixed<R> {
    fn form(&self) -> Form {
        Form { strategy: R::INFO.name, reference: self.settings.common.reference, wide: false, moments: 0 }
    }

    fn fold(&self, memory: &Memory, round: &Round<'_>) -> Result<(Folded, Memory), FoldError> {
        let delta = |update: &Update<'_>| update.delta || self.settings.send_gradients;
        let updates: Vec<_> = round.updates.iter().map(|update| Update { delta: delta(update), ..*update }).collect();
        let round = &Round { updates: &updates, ..*round };
        let common = &self.settings.common;
        let x = memory.x.as_ref().ok_or(FoldError::NotBegun { strategy: R::INFO.name })?;
        let source = Source::check(round, Some(x), common.accept_failures, R::INFO.name)?;
        let rates = self.rule.rates(round)?;
        if let Some((rate, update)) = rates.iter().zip(&updates).find(|(rate, _)| !rate.is_finite()) {
            let what = format!("a rate of {rate} for the update of {}", update.author);
            return Err(FoldError::NotFinite { strategy: R::INFO.name, what });
        }
        let inputs = source.inputs();
        let integers = source.newest(0..inputs.len()).ok_or(FoldError::NoUpdates)?;
        let reference = common.reference.is_some();
        let work = |scratch: &mut Scratch, dtype: DType, piece: &Piece, weights: &mut [u8], _: &mut [&mut [u8]]| {
            let Scratch { x: sums, update } = scratch;
            let elements = weights.len() / dtype.size() as usize;
            sums.resize(elements, 0.0);
            update.resize(BLOCK, 0.0);
            decode(dtype, &part(x, piece), sums);
            for (input, &rate) in inputs.iter().zip(&rates) {
                let bytes = input.read(piece)?;
                let blocks = bytes.chunks(BLOCK * dtype.size() as usize);
                for (x, bytes) in sums.chunks_mut(BLOCK).zip(blocks) {
                    let update = &mut update[..x.len()];
                    decode(dtype, bytes, update);
                    if reference && dtype != DType::F64 {
                        take_in(R::STEP, |value| f64::from(value as f32), rate, x, update);
                    } else {
                        take_in(R::STEP, |value| value, rate, x, update);
                    }
                }
            }
            encode(dtype, sums, weights);
            Ok(())
        };
        let (weights, _) = engine::fold_floats(source.layout(), 1, &[], integers, Scratch::default, work)?;
        let mut shares = vec![0.0; rates.len()];
        for (at, &rate) in rates.iter().enumerate() {
            let rate = if R::STEP == Step::Half { 0.5 } else { rate };
            shares[..at].iter_mut().for_each(|share| *share *= 1.0 - rate);
            shares[at] = rate;
        }
        let x = Some(weights.clone());
        Ok((Folded::new(weights, shares), Memory { x, ..Memory::default() }))
    }

    fn takes_steps(&self) -> bool {
        R::STEP == Step::Towards && !self.settings.send_gradients
    }
}

/// f64 holds the exact result of an f32 sum, difference or product, or one that rounds to f32 as that does.
#[inline(always)]
fn take_in(step: Step, round: impl Fn(f64) -> f64, rate: f64, x: &mut [f64], update: &[f64]) {
    let (keep, rate) = (round(1.0 - rate), round(rate));
    let pairs = x.iter_mut().zip(update);
    match step {
        Step::Half => pairs.for_each(|(x, &w)| *x = round(round(*x + w) / 2.0)),
        Step::Mix => pairs.for_each(|(x, &w)| *x = round(round(keep * *x) + round(rate * w))),
        Step::Towards => pairs.for_each(|(x, &w)| *x = round(*x + round(rate * round(w - *x)))),
    }
}
