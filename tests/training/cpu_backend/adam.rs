//! Peerfold's Adam against burn's: the same bits, and each continues from the other's state.

use super::alike::{DEVICE, assert_equal, data, tensor};
use burn::{
    backend::{Flex, flex::FlexDevice},
    optim::{AdamConfig, AdamState, SimpleOptimizer},
    tensor::{DType, Tensor, TensorData, backend::Backend},
};
use peerfold::train::{Adam, Cpu};

fn config() -> AdamConfig {
    AdamConfig::new().with_beta_1(0.85).with_beta_2(0.97).with_epsilon(1e-6)
}

fn ours() -> Adam {
    Adam::new(0.85, 0.97, 1e-6)
}

/// Weights and both moments after each of the steps.
fn steps<B: Backend<Device = FlexDevice>, const D: usize>(
    shape: [usize; D],
    optimizers: impl IntoIterator<Item = Step<B, D>>,
    gradient: impl Fn(u64) -> Tensor<B, D>,
) -> Vec<TensorData> {
    let (mut weights, mut state, mut all) = (tensor::<B, D>(shape, 1), None, Vec::new());
    for (number, step) in optimizers.into_iter().enumerate() {
        (weights, state) = step(0.01 / (1.0 + number as f64), weights, gradient(10 + number as u64), state);
        let momentum = &state.as_ref().unwrap().momentum;
        assert_eq!(momentum.time, number + 1);
        all.extend([&weights, &momentum.moment_1, &momentum.moment_2].map(|tensor| tensor.clone().into_data()));
    }
    all
}

type Step<B, const D: usize> =
    Box<dyn Fn(f64, Tensor<B, D>, Tensor<B, D>, Option<AdamState<B, D>>) -> (Tensor<B, D>, Option<AdamState<B, D>>)>;

fn fused<B: Backend, const D: usize>() -> Step<B, D> {
    let adam = ours();
    Box::new(move |rate, weights, gradient, state| adam.step(rate, weights, gradient, state))
}

fn general<B: Backend, const D: usize>() -> Step<B, D> {
    let adam = config().build();
    Box::new(move |rate, weights, gradient, state| adam.step(rate, weights, gradient, state))
}

fn of<B: Backend, const D: usize>(count: usize, step: fn() -> Step<B, D>) -> Vec<Step<B, D>> {
    (0..count).map(|_| step()).collect()
}

fn assert_all_equal(ours: &[TensorData], plain: &[TensorData], what: &str) {
    assert_eq!(ours.len(), plain.len());
    for (place, (ours, plain)) in ours.iter().zip(plain).enumerate() {
        let part = ["weights", "first moment", "second moment"][place % 3];
        assert_equal(ours, plain, &format!("{part} after step {}, {what}", place / 3 + 1));
    }
}

#[test]
fn every_step_of_adam_is_burns_to_the_last_bit() {
    for shape in [[1, 1], [3, 7], [129, 200]] {
        let plain = steps::<Flex, 2>(shape, of(10, general), |seed| tensor(shape, seed));
        assert_all_equal(&steps::<Cpu, 2>(shape, of(10, fused), |seed| tensor(shape, seed)), &plain, "row-major");
        // Gradients of convolutions lie in other orders.
        let turned = |seed| {
            Tensor::<Cpu, 2>::from_data(tensor::<Cpu, 2>(shape, seed).transpose().into_data(), &DEVICE).transpose()
        };
        assert_all_equal(&steps::<Cpu, 2>(shape, of(10, fused), turned), &plain, "gradients turned");
        let within = |seed| {
            let gradient = tensor::<Cpu, 2>(shape, seed);
            Tensor::cat(vec![gradient.clone() * 2.0, gradient], 0).slice([shape[0]..2 * shape[0]])
        };
        assert_all_equal(&steps::<Cpu, 2>(shape, of(10, fused), within), &plain, "gradients within others");
        assert_all_equal(&steps::<Flex, 2>(shape, of(10, fused), |seed| tensor(shape, seed)), &plain, "on flex");
    }
}

#[test]
fn zeros_of_either_sign_and_tiny_gradients_are_burns_to_the_last_bit() {
    let gradient = [0.0, -0.0, 1e-30, -1e-30, f32::MIN_POSITIVE, -f32::MIN_POSITIVE, 1e-45, -1e-45, 1e18, -1e19];
    fn given<B: Backend<Device = FlexDevice>>(values: &[f32]) -> Tensor<B, 1> {
        Tensor::from_floats(values, &DEVICE)
    }
    let plain = steps::<Flex, 1>([10], of(4, general), |_| given(&gradient));
    assert_all_equal(&steps::<Cpu, 1>([10], of(4, fused), |_| given(&gradient)), &plain, "special gradients");
}

#[test]
fn the_two_go_on_from_each_others_state() {
    let shape = [17, 5];
    let plain = steps::<Cpu, 2>(shape, of(10, general), |seed| tensor(shape, seed));
    let turns = |first: usize| {
        (0..10).map(move |step| if (step + first).is_multiple_of(2_usize) { fused() } else { general() })
    };
    for first in [0, 1] {
        assert_all_equal(&steps::<Cpu, 2>(shape, turns(first), |seed| tensor(shape, seed)), &plain, "in turn");
    }
}

#[test]
fn a_step_does_not_write_over_what_others_hold() {
    let (weights, gradient) = (tensor::<Cpu, 2>([80, 90], 1), tensor::<Cpu, 2>([80, 90], 2));
    let (first, state) = ours().step(0.1, weights.clone(), gradient.clone(), None);
    let held: Vec<TensorData> = [&weights, &gradient, &first].map(|tensor| tensor.clone().into_data()).to_vec();
    let moments = state.clone().unwrap().momentum;
    let [before_1, before_2] = [&moments.moment_1, &moments.moment_2].map(|moment| moment.clone().into_data());
    let _ = ours().step(0.1, first.clone(), gradient.clone(), state.clone());
    for (tensor, before) in [&weights, &gradient, &first].into_iter().zip(&held) {
        assert_equal(&tensor.clone().into_data(), before, "what is held");
    }
    assert_equal(&moments.moment_1.into_data(), &before_1, "the first moment");
    assert_equal(&moments.moment_2.into_data(), &before_2, "the second moment");
    assert_equal(&weights.into_data(), &data([80, 90], 1), "the weights");
}

#[test]
fn weights_that_lie_in_another_order_are_updated_where_they_are() {
    let turned = tensor::<Cpu, 2>([7, 9], 1).transpose();
    let plain = Tensor::<Flex, 2>::from_data(turned.clone().into_data(), &DEVICE);
    let (ours, _) = ours().step(0.1, turned, tensor([9, 7], 2), None);
    let (plain, _) = config().build().step(0.1, plain, tensor([9, 7], 2), None);
    assert_equal(&ours.into_data(), &plain.into_data(), "turned weights");
}

#[test]
fn other_floats_and_states_with_a_maximum_are_left_to_burn() {
    let wide = |seed| tensor::<Flex, 1>([9], seed).cast(DType::F64);
    let (ours_wide, _) = ours().step(0.1, wide(1), wide(2), None);
    let (plain_wide, _) = config().build().step(0.1, wide(1), wide(2), None);
    assert_eq!(ours_wide.dtype(), DType::F64);
    assert_equal(&ours_wide.into_data(), &plain_wide.into_data(), "f64");

    let with_maximum = config().with_amsgrad(true).build();
    let (weights, state) = with_maximum.step(0.1, tensor::<Cpu, 1>([9], 1), tensor([9], 2), None);
    let (plain, _) = config().build().step(0.1, weights.clone(), tensor([9], 3), state.clone());
    let (fused, state) = ours().step(0.1, weights, tensor([9], 3), state);
    assert_equal(&fused.into_data(), &plain.into_data(), "a state with a maximum");
    assert!(state.unwrap().momentum.max_moment_2.is_some());
}
