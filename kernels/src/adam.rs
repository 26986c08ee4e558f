//! The step of Adam (Kingma and Ba, 2014, arXiv:1412.6980), all of it in one pass.

use super::{
    instructions::{self, Arch, vectorized},
    parts,
};

/// Settings and time of a step, in the form of the paper's section 2 in which both corrections are one factor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// The learning rate.
    pub learning_rate: f32,
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the corrected second moment.
    pub epsilon: f32,
    /// The number of this step, from 1.
    pub time: i32,
}

/// What a step changes, tensors of one length.
#[derive(Debug)]
pub struct Parameters<'a> {
    /// The weights.
    pub weights: &'a mut [f32],
    /// Decaying mean of the gradients.
    pub moment_1: &'a mut [f32],
    /// Decaying mean of their squares.
    pub moment_2: &'a mut [f32],
}

/// Updates moments and weights. The operations and their order are those of burn's own Adam, so the bits are too.
///
/// Panics if the lengths differ.
pub fn step(parameters: Parameters<'_>, gradient: &[f32], settings: Step) {
    let Parameters { weights, moment_1, moment_2 } = parameters;
    let len = gradient.len();
    assert!([weights.len(), moment_1.len(), moment_2.len()] == [len; 3], "tensors of one step differ in length");
    let part = parts::units(4);
    if len <= part || rayon::current_num_threads() == 1 {
        return step_part(instructions::best(), weights, moment_1, moment_2, gradient, settings);
    }
    rayon::scope(|scope| {
        let moments = moment_1.chunks_mut(part).zip(moment_2.chunks_mut(part));
        for ((weights, moments), gradient) in weights.chunks_mut(part).zip(moments).zip(gradient.chunks(part)) {
            scope.spawn(move |_| {
                step_part(instructions::best(), weights, moments.0, moments.1, gradient, settings);
            });
        }
    });
}

/// The same with a given instruction set, on this thread.
pub fn step_with(arch: Arch, parameters: Parameters<'_>, gradient: &[f32], settings: Step) {
    step_part(arch, parameters.weights, parameters.moment_1, parameters.moment_2, gradient, settings);
}

vectorized! {
    fn step_part<'a>(
        weights: &'a mut [f32],
        moment_1: &'a mut [f32],
        moment_2: &'a mut [f32],
        gradient: &'a [f32],
        settings: Step,
    ) {
        let Step { learning_rate, beta_1, beta_2, epsilon, time } = settings;
        let (rest_1, rest_2) = (1.0 - beta_1, 1.0 - beta_2);
        let correction_2 = (1.0 - beta_2.powi(time)).sqrt();
        let factor = correction_2 / (1.0 - beta_1.powi(time));
        let epsilon = epsilon * correction_2;
        let moments = moment_1.iter_mut().zip(moment_2);
        for ((weight, (moment_1, moment_2)), &gradient) in weights.iter_mut().zip(moments).zip(gradient) {
            *moment_1 = *moment_1 * beta_1 + gradient * rest_1;
            *moment_2 = *moment_2 * beta_2 + gradient * gradient * rest_2;
            *weight -= *moment_1 * factor / (moment_2.sqrt() + epsilon) * learning_rate;
        }
    }
}
