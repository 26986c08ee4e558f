//! q-FedAvg: updates with a higher loss count more.

use super::{
    FoldError, Folded, Reference, Round, Strategy, Update,
    combination::{At, Combination, Combined, Plan},
    engine::{self, Plane},
    memory::{Form, Memory},
    number::{decode, encode},
    parameters::{ACCEPT_FAILURES, Common, ParameterInfo, Parameters, REFERENCE, StrategyError, StrategyInfo},
    reduce::{squared_difference, sum_of, sums},
    remembering::{Remembering, Remembers},
    source::{Input, Source, part},
};
use crate::weights::{DType, Piece};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "qfedavg",
    aliases: &[],
    summary: "steps towards the updates, the longer the higher their loss: x -= ΣΔ / Σh",
    paper: "Li et al. 2020, Fair Resource Allocation in Federated Learning",
    parameters: &[
        ParameterInfo {
            name: "q_param",
            default: "0.2; 0.1 with reference flwr-1.41-message",
            meaning: "q, a number from 0: the higher, the more a high loss counts",
        },
        ParameterInfo { name: "q", default: "that of q_param", meaning: "the same, as Flower's message API calls it" },
        ParameterInfo {
            name: "qffl_learning_rate",
            default: "0.1",
            meaning: "1/L, the learning rate of local training, a number above 0",
        },
        ParameterInfo {
            name: "client_learning_rate",
            default: "0.1",
            meaning: "the same, as Flower's message API calls it",
        },
        ACCEPT_FAILURES,
        REFERENCE,
    ],
    build,
};

/// L = 1/lr; g_k = L(x − w_k); Δ_k = (F_k + 1e-10)^q·g_k; h_k = q(F_k + 1e-10)^(q−1)·‖g_k‖² + L(F_k + 1e-10)^q;
/// x ← x − ΣΔ_k / Σh_k (Li et al. 2020, algorithm 2). F_k is the update's training loss.
struct QFedAvg {
    q: f64,
    lipschitz: f64,
}

impl QFedAvg {
    /// (F + 1e-10)^q and h of an update, whose loss this is with the 1e-10, and its ‖x − w‖².
    fn power_and_h(&self, loss: f64, distance: f64) -> (f64, f64) {
        let (l, power) = (self.lipschitz, loss.powf(self.q));
        (power, self.q * loss.powf(self.q - 1.0) * (l * l * distance) + l * power)
    }
}

/// What Flower adds to a loss.
const LOSS_FLOOR: f64 = 1e-10;

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let common = parameters.common()?;
    let rate = parameters.either("qffl_learning_rate", "client_learning_rate")?;
    let rate = parameters.number(rate, 0.1, "a number above 0", |rate| rate > 0.0)?;
    let default = if common.reference == Some(Reference::Flwr141Message) { 0.1 } else { 0.2 };
    let q = parameters.number(parameters.either("q_param", "q")?, default, "a number from 0", |q| q >= 0.0)?;
    let rule = QFedAvg { q, lipschitz: 1.0 / rate };
    Ok(match common.reference {
        None => Combined::strategy(rule, common),
        Some(reference) => Box::new(Remembering::new(AsFlower { rule, reference, common })),
    })
}

impl Combination for QFedAvg {
    const INFO: StrategyInfo = INFO;
    const MEMORY: bool = true;
    const STEPS: bool = true;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        let powers = losses(at.source)?;
        let distances = squared_distances_to_x(at)?;
        let l = self.lipschitz;
        let terms = powers.iter().zip(distances).map(|(&loss, distance)| self.power_and_h(loss, distance));
        let (numerators, denominators): (Vec<f64>, Vec<f64>) = terms.map(|(power, h)| (l * power, h)).unzip();
        let mut sum = 0.0;
        at.source.by_author().into_iter().for_each(|number| sum += denominators[number]);
        let coefficients: Vec<f64> = numerators.into_iter().map(|numerator| numerator / sum).collect();
        if !sum.is_finite() || coefficients.iter().any(|coefficient| !coefficient.is_finite()) {
            return Err(FoldError::NotFinite { strategy: INFO.name, what: format!("a coefficient, with Σh = {sum}") });
        }
        Ok(Plan::towards(at.source, at.x(), coefficients))
    }
}

/// F_k + 1e-10 of each update.
fn losses(source: &Source<'_>) -> Result<Vec<f64>, FoldError> {
    let loss = |update: &Update<'_>| {
        let loss = update.loss.filter(|loss| loss.is_finite() && *loss >= 0.0);
        let what = || match update.loss {
            None => "it says no loss, which must be a number from 0".to_owned(),
            Some(loss) => format!("its loss is {loss}, and must be a number from 0"),
        };
        let figure = || FoldError::Figure { author: update.author, strategy: INFO.name, what: what() };
        Ok(loss.ok_or_else(figure)? + LOSS_FLOOR)
    };
    source.updates().iter().map(loss).collect()
}

/// ‖w_k − x‖² of each update.
pub(super) fn squared_distances_to_x(at: &At<'_>) -> Result<Vec<f64>, FoldError> {
    let mut inputs = vec![Input::Kept(at.x())];
    inputs.extend(at.source.inputs());
    let updates = inputs.len() - 1;
    sums::<()>(at.source.layout(), &inputs, updates, |_, rows, sums| {
        for (number, sum) in sums.iter_mut().enumerate() {
            *sum += sum_of(rows.row(number + 1), rows.row(0), squared_difference);
        }
    })
}

/// The same with the roundings of a version of Flower, except for the lengths, which are in f64.
struct AsFlower {
    rule: QFedAvg,
    reference: Reference,
    common: Common,
}

/// Memory of one thread.
#[derive(Default)]
struct Scratch {
    x: Vec<f64>,
    sum: Vec<f64>,
    update: Vec<f64>,
}

impl AsFlower {
    /// Σ Δ_k/Σh of some elements, added to `sum`. `first` says whether x is still of the weights' dtype.
    fn add(&self, sum: &mut [f64], x: &[f64], update: &[f64], (power, total, first, single): (f64, f64, bool, bool)) {
        let round = |value: f64| if single { f64::from(value as f32) } else { value };
        let early = |value: f64| if first || self.reference != Reference::Flwr141 { round(value) } else { value };
        let factor = early(self.rule.lipschitz);
        for ((sum, x), w) in sum.iter_mut().zip(x).zip(update) {
            let gradient = early(early(x - w) * factor);
            *sum = match self.reference {
                Reference::Flwr16 => round(*sum + round(round(round(power) * gradient) / round(total))),
                Reference::Flwr141Message => round(*sum + round(power * gradient)),
                _ => *sum + power * gradient / total,
            };
        }
    }
}

impl Remembers for AsFlower {
    /// In Flower 1.41 the powers of the losses lead to f64, because numpy 2 no longer gives them the arrays' type.
    fn form(&self) -> Form {
        let wide = self.reference != Reference::Flwr16;
        Form { strategy: INFO.name, reference: Some(self.reference), wide, moments: 0 }
    }

    fn fold(&self, memory: &Memory, round: &Round<'_>) -> Result<(Folded, Memory), FoldError> {
        let form = self.form();
        let x = memory.x.as_ref().ok_or(FoldError::NotBegun { strategy: INFO.name })?;
        let source = Source::check(round, Some(x), self.common.accept_failures, INFO.name)?;
        let at = At { round, source: &source, common: &self.common, x: Some(x), kept: &[], folds: memory.folds };
        let figures = losses(&source)?.into_iter().zip(squared_distances_to_x(&at)?);
        let (powers, hs): (Vec<f64>, Vec<f64>) = figures.map(|(loss, d)| self.rule.power_and_h(loss, d)).unzip();
        let total: f64 = hs.iter().sum();
        let shares: Vec<f64> = powers.iter().map(|power| self.rule.lipschitz * power / total).collect();
        if !total.is_finite() || shares.iter().any(|share| !share.is_finite()) {
            return Err(FoldError::NotFinite { strategy: INFO.name, what: format!("a share, with Σh = {total}") });
        }
        let integers = source.newest(0..shares.len()).ok_or(FoldError::NoUpdates)?;
        let (layout, first) = (source.layout(), memory.wide.is_empty());
        let beside: Vec<Plane> = form.wide.then_some(Plane::Wide).into_iter().collect();
        let work =
            |scratch: &mut Scratch, dtype: DType, piece: &Piece, weights: &mut [u8], outputs: &mut [&mut [u8]]| {
                let Scratch { x: before, sum, update } = scratch;
                let (elements, single) = (weights.len() / dtype.size() as usize, dtype != DType::F64);
                [&mut *before, &mut *sum, &mut *update].into_iter().for_each(|values| values.resize(elements, 0.0));
                sum.fill(0.0);
                match memory.wide.is_empty() {
                    true => decode(dtype, &part(x, piece), before),
                    false => decode(DType::F64, &Plane::Wide.part(layout, &memory.wide, piece), before),
                }
                for (number, &power) in powers.iter().enumerate() {
                    decode(dtype, &source.input(number).read(piece)?, update);
                    self.add(sum, before, update, (power, total, first, single));
                }
                for (sum, x) in sum.iter_mut().zip(&*before) {
                    *sum = match self.reference {
                        Reference::Flwr141Message => x - *sum / total,
                        _ => x - *sum,
                    };
                }
                encode(dtype, sum, weights);
                if let Some(wide) = outputs.first_mut() {
                    encode(DType::F64, sum, wide);
                }
                Ok(())
            };
        let (weights, mut planes) = engine::fold_floats(layout, 1, &beside, integers, Scratch::default, work)?;
        let (x, wide) = (Some(weights.clone()), planes.next().unwrap_or_default());
        Ok((Folded::new(weights, shares), Memory { x, wide, ..Memory::default() }))
    }

    fn takes_steps(&self) -> bool {
        true
    }
}
