//! Centered clipping: steps from x towards the updates, each cut to a length.

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    normbound::cut,
    parameters::{ACCEPT_FAILURES, ParameterInfo, Parameters, StrategyError, StrategyInfo},
    reduce::{squared_difference, sum_of, sums},
    source::Input,
};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "centeredclipping",
    aliases: &[],
    summary: "v = x, then v += mean of (w - v)·min(1, tau/‖w - v‖), a few times; not weighted",
    paper: "Karimireddy et al. 2021, Learning from History for Byzantine Robust Optimization",
    parameters: &[
        ParameterInfo {
            name: "tau",
            default: "10",
            meaning: "τ, a number above 0: no update moves v by more than τ/n in an iteration",
        },
        ParameterInfo { name: "iterations", default: "1", meaning: "how often, a whole number from 1 to 1000" },
        ACCEPT_FAILURES,
    ],
    build,
};

/// v_0 = x; v_{l+1} = v_l + (1/n)·Σ (w_k − v_l)·min(1, τ/‖w_k − v_l‖); x ← v_L (Karimireddy et al. 2021, section 4.2).
struct CenteredClipping {
    tau: f64,
    iterations: u64,
}

/// Most iterations: each reads all updates.
const MAX_ITERATIONS: u64 = 1000;

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let rule = CenteredClipping {
        tau: parameters.number("tau", 10.0, "a number above 0", |tau| tau > 0.0)?,
        iterations: parameters.whole("iterations", 1, 1)?,
    };
    if rule.iterations > MAX_ITERATIONS {
        return Err(parameters.rejected("iterations", "a whole number from 1 to 1000"));
    }
    Ok(Combined::strategy(rule, parameters.common()?))
}

impl Combination for CenteredClipping {
    const INFO: StrategyInfo = INFO;
    const MEMORY: bool = true;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        let mut inputs = vec![Input::Kept(at.x())];
        let order = at.source.by_author();
        inputs.extend(order.iter().map(|&number| at.source.input(number)));
        let updates = order.len();
        // v = x + Σ c_k·(w_k − x).
        let mut coefficients = vec![0.0; updates];
        for _ in 0..self.iterations {
            let squares = squared_distances_from(at, &inputs, &coefficients)?;
            let steps: Vec<f64> = squares.into_iter().map(|square| cut(self.tau, square) / updates as f64).collect();
            let kept = 1.0 - steps.iter().sum::<f64>();
            coefficients
                .iter_mut()
                .zip(steps)
                .for_each(|(coefficient, step)| *coefficient = *coefficient * kept + step);
        }
        let mut by_number = vec![0.0; updates];
        order.into_iter().zip(coefficients).for_each(|(number, coefficient)| by_number[number] = coefficient);
        Ok(Plan::towards(at.source, at.x(), by_number))
    }
}

/// ‖w_k − v‖² of each update, v = x + Σ c_k·(w_k − x). The first input is x.
fn squared_distances_from(at: &At<'_>, inputs: &[Input<'_>], coefficients: &[f64]) -> Result<Vec<f64>, FoldError> {
    sums::<Vec<f64>>(at.source.layout(), inputs, coefficients.len(), |v, rows, sums| {
        let x = rows.row(0);
        v.clear();
        v.extend_from_slice(x);
        for (number, &coefficient) in coefficients.iter().enumerate().filter(|(_, coefficient)| **coefficient != 0.0) {
            let pairs = rows.row(number + 1).iter().zip(x);
            v.iter_mut().zip(pairs).for_each(|(v, (w, x))| *v += coefficient * (w - x));
        }
        for (number, sum) in sums.iter_mut().enumerate() {
            *sum += sum_of(rows.row(number + 1), v, squared_difference);
        }
    })
}
