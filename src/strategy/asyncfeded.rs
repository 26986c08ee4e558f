//! AsyncFedED: updates count less the further x has moved since they began.

use super::{
    FoldError, Reference, Strategy,
    combination::{At, Combination, Combined, Plan},
    mean::Rounding,
    memory::Kept,
    mixing::{
        FEDASYNC_A, MIXING_ALPHA, NUM_CLIENTS, SEND_GRADIENTS, SERVER_ARTIFICIAL_DELAY, STALENESS_ALPHA, TOTAL_SAMPLES,
        USE_SAMPLE_WEIGHING, USE_STALENESS,
    },
    paflm,
    parameters::{ACCEPT_FAILURES, ASYNC_REFERENCE, ParameterInfo, Parameters, StrategyError, StrategyInfo},
    reduce::{sum_of, sums},
    source::Input,
};

const OF_PAFLM: &str = "only with reference flower-async, whose AsyncFedED is paflm";

const fn of_paflm(info: ParameterInfo) -> ParameterInfo {
    ParameterInfo { meaning: OF_PAFLM, ..info }
}

const PAFLMS: [ParameterInfo; 9] = [
    of_paflm(STALENESS_ALPHA),
    of_paflm(NUM_CLIENTS),
    of_paflm(USE_STALENESS),
    of_paflm(USE_SAMPLE_WEIGHING),
    of_paflm(TOTAL_SAMPLES),
    of_paflm(SEND_GRADIENTS),
    of_paflm(MIXING_ALPHA),
    of_paflm(FEDASYNC_A),
    of_paflm(SERVER_ARTIFICIAL_DELAY),
];

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "asyncfeded",
    aliases: &[],
    summary: "one update after the other: x += η·Δ, η = lambda/(γ + epsilon), γ = ‖x - x_τ‖/‖Δ‖, Δ = w - x_τ, x_τ the own \
              x of τ folds ago, which approximates what the update began from",
    paper: "Wang et al. 2022, AsyncFedED: Asynchronous Federated Learning with Euclidean Distance based Adaptive Weight \
            Aggregation",
    parameters: &[
        ParameterInfo { name: "lambda", default: "1", meaning: "λ, a number above 0" },
        ParameterInfo { name: "epsilon", default: "1", meaning: "ε, a number above 0" },
        ParameterInfo {
            name: "history",
            default: "4",
            meaning: "how many earlier x are kept, a whole number from 0 to 100; each takes the memory of the weights",
        },
        ACCEPT_FAILURES,
        ASYNC_REFERENCE,
        PAFLMS[0],
        PAFLMS[1],
        PAFLMS[2],
        PAFLMS[3],
        PAFLMS[4],
        PAFLMS[5],
        PAFLMS[6],
        PAFLMS[7],
        PAFLMS[8],
    ],
    build,
};

/// γ = ‖x_t − x_{t−τ}‖/‖Δ‖; η = λ/(γ + ε); x_{t+1} = x_t + η·Δ, for each update in the round's order (Wang et al. 2022,
/// equations 4 to 7). In the paper x_{t−τ} is what the client began from. Here it is this node's own x of τ folds ago,
/// or the oldest that is kept, which is an approximation.
struct AsyncFedEd {
    lambda: f64,
    epsilon: f64,
    history: u64,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let common = parameters.async_common()?;
    if common.reference == Some(Reference::FlowerAsync) {
        return paflm::build(parameters);
    }
    if let Some(info) = PAFLMS.iter().find(|info| parameters.is_set(info.name)) {
        return Err(parameters.rejected(info.name, "reference = flower-async beside it, or the strategy paflm"));
    }
    let above_0 = |name| parameters.number(name, 1.0, "a number above 0", |number| number > 0.0);
    let history = parameters.whole("history", 4, 0)?;
    if history > 100 {
        return Err(parameters.rejected("history", "a whole number from 0 to 100"));
    }
    let rule = AsyncFedEd { lambda: above_0("lambda")?, epsilon: above_0("epsilon")?, history };
    Ok(Combined::strategy(rule, common))
}

impl Combination for AsyncFedEd {
    const INFO: StrategyInfo = INFO;
    const MEMORY: bool = true;
    const STEPS: bool = true;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        let updates = at.source.updates();
        // The x of this many folds ago; 0 is the last fold's.
        let past: Vec<Input<'a>> = std::iter::once(at.x())
            .chain(at.kept.iter().filter_map(|kept| kept.weights.as_ref()))
            .map(Input::Kept)
            .collect();
        let began = |number: usize| (updates[number].staleness.round() as usize).min(past.len() - 1);
        // Products of all Δ_k = w_k − x_τ and of all x − x_τ.
        let mut inputs = past.clone();
        inputs.extend(at.source.inputs());
        let differences: Vec<(usize, usize)> = (0..updates.len())
            .map(|number| (past.len() + number, began(number)))
            .chain((0..past.len()).map(|ago| (0, ago)))
            .collect();
        let products = products(at, &inputs, &differences)?;
        let mut rates = vec![0.0; updates.len()];
        for number in 0..updates.len() {
            // x_t − x_{t−τ} = Σ η_j·Δ_j + (x − x_τ), over those that were taken in before.
            let mut moved = vec![0.0; differences.len()];
            moved[..number].copy_from_slice(&rates[..number]);
            moved[updates.len() + began(number)] = 1.0;
            let square: f64 = (moved.iter().enumerate().filter(|(_, a)| **a != 0.0))
                .map(|(i, a)| a * moved.iter().zip(&products[i]).map(|(b, product)| b * product).sum::<f64>())
                .sum();
            let length = products[number][number].sqrt();
            if length > 0.0 {
                rates[number] = self.lambda / (square.max(0.0).sqrt() / length + self.epsilon);
            }
        }
        let mut terms = vec![(past[0], 1.0)];
        for (number, &rate) in rates.iter().enumerate() {
            terms.extend([(at.source.input(number), rate), (past[began(number)], -rate)]);
        }
        let integers = at.source.newest(0..updates.len()).ok_or(FoldError::NoUpdates)?;
        let now = Kept { author: Vec::new(), epoch: 0, num_examples: 0, fold: at.folds, weights: Some(at.x().clone()) };
        let kept = std::iter::once(now).chain(at.kept.iter().cloned()).take(self.history as usize).collect();
        Ok(Plan { terms, rounding: Rounding::Once, shares: rates, integers, kept })
    }
}

/// The inner products of differences of inputs.
fn products(at: &At<'_>, inputs: &[Input<'_>], differences: &[(usize, usize)]) -> Result<Vec<Vec<f64>>, FoldError> {
    let count = differences.len();
    let pairs: Vec<(usize, usize)> = (0..count).flat_map(|i| (i..count).map(move |j| (i, j))).collect();
    let sums = sums::<Vec<Vec<f64>>>(at.source.layout(), inputs, pairs.len(), |vectors, rows, sums| {
        vectors.resize_with(count, Vec::new);
        for (vector, &(a, b)) in vectors.iter_mut().zip(differences) {
            vector.clear();
            vector.extend(rows.row(a).iter().zip(rows.row(b)).map(|(a, b)| a - b));
        }
        for (sum, &(i, j)) in sums.iter_mut().zip(&pairs) {
            *sum += sum_of(&vectors[i], &vectors[j], |a, b| a * b);
        }
    })?;
    let mut products = vec![vec![0.0; count]; count];
    for (&(i, j), sum) in pairs.iter().zip(sums) {
        (products[i][j], products[j][i]) = (sum, sum);
    }
    Ok(products)
}
