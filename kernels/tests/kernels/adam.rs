//! Adam's step against the paper's formulas.

use crate::plain::{bits, values};
use peerfold_kernels::{
    adam::{Parameters, Step, step, step_with},
    instructions,
};

const SETTINGS: Step = Step { learning_rate: 0.01, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, time: 1 };

/// Weights and both moments.
#[derive(Clone)]
struct State([Vec<f32>; 3]);

impl State {
    fn new(len: usize) -> Self {
        Self([values(len, 1), vec![0.0; len], vec![0.0; len]])
    }

    fn parameters(&mut self) -> Parameters<'_> {
        let [weights, moment_1, moment_2] = &mut self.0;
        Parameters { weights, moment_1, moment_2 }
    }
}

#[test]
fn every_step_follows_the_paper() {
    let settings = Step { learning_rate: 0.03, beta_1: 0.8, beta_2: 0.99, epsilon: 1e-5, time: 0 };
    let [alpha, beta_1, beta_2, epsilon] =
        [settings.learning_rate, settings.beta_1, settings.beta_2, settings.epsilon].map(f64::from);
    for len in [1, 7, 100, 20_001] {
        let mut state = State::new(len);
        let (mut weights, mut moments): (Vec<f64>, _) =
            (state.0[0].iter().copied().map(f64::from).collect(), vec![[0.0; 2]; len]);
        for time in 1..=12 {
            let gradient = values(len, 100 + time as u64);
            step(state.parameters(), &gradient, Step { time, ..settings });
            for ((weight, [moment_1, moment_2]), &gradient) in weights.iter_mut().zip(&mut moments).zip(&gradient) {
                let gradient = f64::from(gradient);
                *moment_1 = beta_1 * *moment_1 + (1.0 - beta_1) * gradient;
                *moment_2 = beta_2 * *moment_2 + (1.0 - beta_2) * gradient * gradient;
                let corrected_1 = *moment_1 / (1.0 - beta_1.powi(time));
                let corrected_2 = *moment_2 / (1.0 - beta_2.powi(time));
                *weight -= alpha * corrected_1 / (corrected_2.sqrt() + epsilon);
            }
        }
        for (place, (plain, actual)) in weights.iter().zip(&state.0[0]).enumerate() {
            assert!((plain - f64::from(*actual)).abs() < 1e-5, "weight {place} of {len}: {actual} instead of {plain}");
        }
    }
}

#[test]
fn every_instruction_set_takes_the_same_step() {
    for len in [1, 3, 17, 1000, 9001] {
        let mut states: Vec<State> = instructions::all().iter().map(|_| State::new(len)).collect();
        for time in 1..=5 {
            let gradient = values(len, time as u64);
            for (state, arch) in states.iter_mut().zip(instructions::all()) {
                step_with(arch, state.parameters(), &gradient, Step { time, ..SETTINGS });
            }
        }
        let mut together = State::new(len);
        for time in 1..=5 {
            step(together.parameters(), &values(len, time as u64), Step { time, ..SETTINGS });
        }
        for state in states {
            assert_eq!(state.0.map(|values| bits(&values)), together.clone().0.map(|values| bits(&values)));
        }
    }
}

#[test]
fn weights_without_a_gradient_stay() {
    let mut state = State::new(5);
    let before = state.0[0].clone();
    for time in 1..4 {
        step(state.parameters(), &[0.0; 5], Step { time, ..SETTINGS });
    }
    assert_eq!(bits(&state.0[0]), bits(&before));
    step(State::new(0).parameters(), &[], SETTINGS);
}

#[test]
fn tensors_of_several_lengths_are_refused() {
    for place in 0..3 {
        let refused = std::panic::catch_unwind(|| {
            let mut state = State::new(5);
            state.0[place].push(0.0);
            step(state.parameters(), &[0.0; 5], SETTINGS);
        });
        assert!(refused.is_err(), "tensor {place}");
    }
}
