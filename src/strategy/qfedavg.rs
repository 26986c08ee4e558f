//! q-FedAvg: who has the higher loss counts more.

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    reduce::{squared_difference, sum_of, sums},
    registry::{ACCEPT_FAILURES, ParameterInfo, Parameters, REFERENCE, StrategyError, StrategyInfo},
    source::Input,
};

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

/// What Flower adds to a loss.
const LOSS_FLOOR: f64 = 1e-10;

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let common = parameters.common()?;
    let rate = parameters.either("qffl_learning_rate", "client_learning_rate")?;
    let rate = parameters.number(rate, 0.1, "a number above 0", |rate| rate > 0.0)?;
    let default = if common.reference == Some(super::Reference::Flwr141Message) { 0.1 } else { 0.2 };
    let q = parameters.number(parameters.either("q_param", "q")?, default, "a number from 0", |q| q >= 0.0)?;
    Ok(Box::new(Combined::new(QFedAvg { q, lipschitz: 1.0 / rate }, common)))
}

impl Combination for QFedAvg {
    const INFO: StrategyInfo = INFO;
    const MEMORY: bool = true;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        let mut powers = Vec::new();
        for update in at.source.updates() {
            let loss = update.loss.filter(|loss| loss.is_finite() && *loss >= 0.0);
            let what = || format!("its loss is {:?}, and must be a number from 0", update.loss);
            let figure = || FoldError::Figure { author: update.author, strategy: INFO.name, what: what() };
            powers.push(loss.ok_or_else(figure)? + LOSS_FLOOR);
        }
        let distances = squared_distances_to_x(at)?;
        let l = self.lipschitz;
        let terms = powers.iter().zip(distances).map(|(loss, distance)| {
            let h = self.q * loss.powf(self.q - 1.0) * (l * l * distance) + l * loss.powf(self.q);
            (l * loss.powf(self.q), h)
        });
        let (numerators, denominators): (Vec<f64>, Vec<f64>) = terms.unzip();
        let mut sum = 0.0;
        at.source.by_author().into_iter().for_each(|number| sum += denominators[number]);
        let coefficients: Vec<f64> = numerators.into_iter().map(|numerator| numerator / sum).collect();
        if !sum.is_finite() || coefficients.iter().any(|coefficient| !coefficient.is_finite()) {
            return Err(FoldError::NotFinite { strategy: INFO.name, what: format!("Σh = {sum}") });
        }
        if at.common.reference.is_none() {
            return Ok(Plan::towards(at.source, at.x(), coefficients));
        }
        // Flower rounds x − w and its product with L before it goes on in f64.
        let updates = at.source.updates().iter().zip(&coefficients);
        let gradients = updates.map(|(update, coefficient)| (Input::Gradient(update, at.x(), l), -coefficient / l));
        let terms = std::iter::once((Input::Kept(at.x()), 1.0)).chain(gradients).collect();
        Ok(Plan { terms, divisor: Some(1.0), ..Plan::towards(at.source, at.x(), coefficients.clone()) })
    }
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
