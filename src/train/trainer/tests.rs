//! Training learns, is the same bit for bit with any number of threads, and goes on after a restart as if
//! uninterrupted.

use super::*;
use crate::{
    experiment::digits,
    weights::{Tensor as NamedTensor, Weights},
};
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

const OPTIONS: TrainOptions =
    TrainOptions { learning_rate: 1e-3, batch: 32, model_seed: 1, data_seed: 2, threads: 2, proximal_mu: 0.0 };

fn never() -> bool {
    false
}

fn new(options: TrainOptions) -> Box<dyn Train> {
    trainer(Model::Digits, Device::Cpu, options, Arc::new(digits().train)).unwrap()
}

fn trained(steps: u64) -> Box<dyn Train> {
    let mut trainer = new(OPTIONS);
    trainer.train_steps(0, steps, &never).unwrap();
    trainer
}

/// Weights and optimizer.
fn state(trainer: &dyn Train) -> (Weights, Vec<u8>) {
    let mut optimizer = Vec::new();
    trainer.save(&mut optimizer).unwrap();
    (trainer.weights().unwrap(), optimizer)
}

fn restore(trainer: &mut dyn Train, (weights, optimizer): &(Weights, Vec<u8>)) {
    trainer.restore(&mut &optimizer[..]).unwrap();
    trainer.load_weights(weights).unwrap();
}

#[test]
fn the_digits_are_learnt() {
    let test = digits().test;
    let mut trainer = new(TrainOptions { learning_rate: 3e-3, ..OPTIONS });
    let before = trainer.evaluate(&test, 100).unwrap();
    assert!(before.accuracy < 0.3 && before.loss > 2.0, "{before:?}");
    let first = trainer.train_steps(0, 20, &never).unwrap();
    let last = trainer.train_steps(20, 280, &never).unwrap();
    assert!(first.loss() > last.loss(), "{first:?} {last:?}");
    let after = trainer.evaluate(&test, 100).unwrap();
    assert!(after.accuracy > 0.95 && after.loss < 0.3, "{after:?}");
    // The batch size of a measurement makes no difference but in the last bits.
    let again = trainer.evaluate(&test, 7).unwrap();
    assert!(again.accuracy == after.accuracy && (again.loss - after.loss).abs() < 1e-6);
}

#[test]
fn equal_seeds_give_equal_bits_with_any_number_of_threads() {
    let run = |threads| {
        let mut trainer = new(TrainOptions { threads, ..OPTIONS });
        let steps = trainer.train_steps(0, 30, &never).unwrap();
        (steps, state(&*trainer))
    };
    let one = run(1);
    assert!(run(2) == one && run(5) == one);
    let other = |options| {
        let mut trainer = new(options);
        trainer.train_steps(0, 30, &never).unwrap();
        state(&*trainer)
    };
    assert!(other(TrainOptions { data_seed: 3, ..OPTIONS }) != one.1);
    assert!(other(TrainOptions { model_seed: 3, ..OPTIONS }) != one.1);
}

/// Convolution, pooling and larger matrix products take other paths, some of which use several threads.
#[test]
fn the_convolutional_network_too_gives_equal_bits_with_any_number_of_threads() {
    let examples = 64;
    let features = (0..examples * 784).map(|index| (index * 7919 % 1009) as f32 / 1009.0).collect();
    let labels = (0..examples).map(|index| (index % 10) as u8).collect();
    let examples = Arc::new(Examples::new(features, [1, 28, 28], labels, 10).unwrap());
    let run = |threads| {
        let options = TrainOptions { threads, ..OPTIONS };
        let mut trainer = trainer(Model::Mnist, Device::Cpu, options, examples.clone()).unwrap();
        let steps = trainer.train_steps(0, 4, &never).unwrap();
        (steps, state(&*trainer), trainer.evaluate(&examples, 32).unwrap())
    };
    let one = run(1);
    assert!(run(2) == one && run(3) == one && run(8) == one);
}

/// Large enough that burn lets all threads work on it.
#[test]
fn a_large_matrix_product_gives_equal_bits_with_any_number_of_threads() {
    let values = |seed: u32| {
        let hashed = (0..600 * 600u32).map(|index| (index ^ seed).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32);
        Tensor::<Cpu, 2>::from_data(TensorData::new(hashed.collect::<Vec<_>>(), [600, 600]), &Default::default())
    };
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| values(1).matmul(values(2)).into_data())
    };
    let one = run(1);
    assert!([2, 3, 8].into_iter().all(|threads| run(threads) == one));
}

#[test]
fn a_restored_run_is_the_straight_run() {
    let straight = state(&*trained(40));
    let saved = state(&*trained(17));
    let mut other = new(TrainOptions { model_seed: 77, ..OPTIONS });
    other.train_steps(0, 3, &never).unwrap();
    restore(&mut *other, &saved);
    assert!(state(&*other) == saved);
    other.train_steps(17, 23, &never).unwrap();
    assert!(state(&*other) == straight);
    assert!(other.restore(&mut &saved.1[..100]).is_err());
    assert!(state(&*other) == straight);
}

#[test]
fn loaded_weights_leave_the_optimizer_its_moments() {
    let mut kept = trained(20);
    let weights = kept.weights().unwrap();
    // A fold that gives back the same weights changes nothing at all.
    let saved = state(&*kept);
    kept.load_weights(&weights).unwrap();
    assert!(state(&*kept) == saved);
    // With the same weights but a fresh optimizer the next step is another one.
    let mut fresh = new(OPTIONS);
    fresh.load_weights(&weights).unwrap();
    assert_eq!(fresh.weights().unwrap(), weights);
    kept.train_steps(20, 1, &never).unwrap();
    fresh.train_steps(20, 1, &never).unwrap();
    assert_ne!(kept.weights().unwrap(), fresh.weights().unwrap());
    assert!(kept.weights().unwrap() == trained(21).weights().unwrap());
}

#[test]
fn weights_of_another_model_are_refused() {
    let mut trainer = trained(1);
    let before = trainer.weights().unwrap();
    let (spec, data) = before.tensors().next().unwrap();
    let other = Weights::new(vec![NamedTensor { spec: spec.clone(), data: data.clone() }]).unwrap();
    let error = trainer.load_weights(&other).unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
    assert_eq!(trainer.weights().unwrap(), before);
    assert_eq!(**before.layout(), trainer.layout().unwrap());
}

#[test]
fn training_stops_when_asked() {
    let mut trainer = new(OPTIONS);
    let asked = AtomicU32::new(0);
    let stop = || asked.fetch_add(1, Ordering::Relaxed) >= 5;
    let steps = trainer.train_steps(0, 100, &stop).unwrap();
    assert_eq!((steps.done, steps.interrupted), (5, true));
    assert_eq!(trainer.weights().unwrap(), trained(5).weights().unwrap());
    let none = trainer.train_steps(5, 10, &|| true).unwrap();
    assert_eq!(none, Steps { interrupted: true, ..Steps::default() });
    assert_eq!(none.loss(), None);
    let nothing_to_do = trainer.train_steps(5, 0, &|| true).unwrap();
    assert!(!nothing_to_do.interrupted);
}

#[test]
fn a_batch_may_be_larger_than_the_partition() {
    let few = Arc::new(digits().train.select(&[0, 1, 2]));
    let mut trainer = trainer(Model::Digits, Device::Cpu, OPTIONS, few.clone()).unwrap();
    trainer.train_steps(0, 60, &never).unwrap();
    assert_eq!(trainer.evaluate(&few, 32).unwrap().accuracy, 1.0);
    assert_eq!(trainer.examples().len(), 3);
}

#[test]
fn what_cannot_be_trained_is_an_error() {
    let all = Arc::new(digits().train);
    let new = |model, options, examples: &Arc<Examples>| trainer(model, Device::Cpu, options, examples.clone()).err();
    assert!(matches!(new(Model::Mnist, OPTIONS, &all), Some(TrainError::Examples { .. })));
    assert!(matches!(new(Model::Digits, OPTIONS, &Arc::new(all.select(&[]))), Some(TrainError::NoExamples)));
    for learning_rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let options = TrainOptions { learning_rate, ..OPTIONS };
        assert!(matches!(new(Model::Digits, options, &all), Some(TrainError::Options { .. })));
    }
    for options in [TrainOptions { batch: 0, ..OPTIONS }, TrainOptions { threads: 0, ..OPTIONS }] {
        assert!(matches!(new(Model::Digits, options, &all), Some(TrainError::Options { .. })));
    }
    for proximal_mu in [-1.0, f64::NAN, f64::INFINITY] {
        let options = TrainOptions { proximal_mu, ..OPTIONS };
        assert!(matches!(new(Model::Digits, options, &all), Some(TrainError::Options { .. })));
    }
    #[cfg(not(feature = "cuda"))]
    assert!(matches!(
        trainer(Model::Digits, Device::Cuda, OPTIONS, all),
        Err(TrainError::Device(DeviceError::NotBuilt))
    ));
}

/// Node threads hold their trainer.
#[test]
fn a_trainer_can_move_to_another_thread() {
    let trainer = new(OPTIONS);
    let weights = std::thread::spawn(move || trainer.weights().unwrap()).join().unwrap();
    assert_eq!(weights, new(OPTIONS).weights().unwrap());
}

/// Two epochs of ten steps, as a loop of one's own would do them; `between` is what the fold makes of the weights.
fn by_hand(mu: f64, between: &Weights) -> Weights {
    type B = Autodiff<Cpu>;
    let (device, examples) = (Default::default(), digits().train);
    let mut module = init_seeded(DigitsMlp::<B>::new(&device), OPTIONS.model_seed);
    let mut optimizer = Adam::default().init();
    let mut order = BatchOrder::new(OPTIONS.data_seed, examples.len(), OPTIONS.batch);
    for epoch in 0..2 {
        if epoch == 1 {
            module = module_weights::apply(module, between).unwrap();
        }
        let start = module.clone();
        for step in 0..10 {
            let indices = order.batch(10 * epoch + step);
            let labels: Vec<i64> = indices.iter().map(|&index| i64::from(examples.labels()[index])).collect();
            let labels = Tensor::<B, 1, Int>::from_data(TensorData::new(labels, [indices.len()]), &device);
            let logits = module.forward(images(&examples, &indices, &device));
            let loss = CrossEntropyLossConfig::new().init(&device).forward(logits, labels);
            let mut gradients = GradientsParams::from_grads(loss.backward(), &module);
            if mu > 0.0 {
                add_proximal_gradient(&mut gradients, &module, &start, mu);
            }
            module = optimizer.step(OPTIONS.learning_rate, module, gradients);
        }
    }
    module_weights::collect(&module).unwrap()
}

/// Some other weights of the model.
fn folded() -> Weights {
    new(TrainOptions { model_seed: 9, ..OPTIONS }).weights().unwrap()
}

#[test]
fn the_proximal_term_holds_on_to_the_weights_that_each_epoch_began_from() {
    let straight = |mu| {
        let mut trainer = new(TrainOptions { proximal_mu: mu, ..OPTIONS });
        trainer.train_steps(0, 10, &never).unwrap();
        trainer.load_weights(&folded()).unwrap();
        trainer.train_steps(10, 10, &never).unwrap();
        trainer.weights().unwrap()
    };
    for mu in [0.0, 0.5] {
        assert!(straight(mu) == by_hand(mu, &folded()), "mu {mu}");
    }
    assert_ne!(straight(0.0), straight(0.5));
}

#[test]
fn with_a_proximal_term_a_restart_between_epochs_changes_no_bit() {
    let options = TrainOptions { proximal_mu: 0.5, ..OPTIONS };
    let mut straight = new(options);
    straight.train_steps(0, 10, &never).unwrap();
    let saved = state(&*straight);
    straight.load_weights(&folded()).unwrap();
    straight.train_steps(10, 10, &never).unwrap();
    // Killed before the end of its second epoch: it begins that epoch again.
    let mut restarted = new(TrainOptions { model_seed: 77, ..options });
    restarted.restore(&mut &saved.1[..]).unwrap();
    restarted.load_weights(&folded()).unwrap();
    restarted.train_steps(10, 4, &never).unwrap();
    restarted.restore(&mut &saved.1[..]).unwrap();
    restarted.load_weights(&folded()).unwrap();
    restarted.train_steps(10, 10, &never).unwrap();
    assert!(state(&*restarted) == state(&*straight));
}

#[test]
fn the_larger_the_factor_the_nearer_the_weights_stay() {
    let distance = |mu| {
        let mut trainer = new(TrainOptions { proximal_mu: mu, ..OPTIONS });
        let numbers = |weights: Weights| -> Vec<f32> {
            weights
                .tensors()
                .flat_map(|(_, data)| data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect::<Vec<_>>())
                .collect()
        };
        let start = numbers(trainer.weights().unwrap());
        trainer.train_steps(0, 60, &never).unwrap();
        let end = numbers(trainer.weights().unwrap());
        start.iter().zip(&end).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    let distances = [0.0, 0.1, 1.0, 10.0].map(distance);
    assert!(distances.is_sorted_by(|a, b| a > b), "{distances:?}");
}

#[test]
fn an_epoch_of_a_period_is_as_many_steps_of_its_own_as_fit() {
    // A step takes some of the time that there is: none, a moment, or enough for the stop to come first.
    for (seconds, stop_at) in [(0.0, u32::MAX), (0.05, u32::MAX), (3600.0, 7)] {
        let length = EpochLength::Period(Duration::from_secs_f64(seconds));
        let asked = AtomicU32::new(0);
        let mut trainer = new(OPTIONS);
        let stop = || asked.fetch_add(1, Ordering::Relaxed) >= stop_at;
        let steps = trainer.train_epoch(3, length, Steps::default(), &stop).unwrap();
        assert!(steps.done >= 1 && (seconds > 0.0 || steps.done == 1), "{steps:?}");
        assert_eq!(steps.interrupted, stop_at == 7);
        assert!(!steps.interrupted || steps.done == 7, "{steps:?}");
        // The same steps by their numbers.
        let mut other = new(OPTIONS);
        other.train_steps(2 << 32, steps.done, &never).unwrap();
        assert!(state(&*other) == state(&*trainer));
    }
    let mut stopped = new(OPTIONS);
    let hour = EpochLength::Period(Duration::from_secs(3600));
    let steps = stopped.train_epoch(1, hour, Steps::default(), &|| true).unwrap();
    assert_eq!((steps.done, steps.loss(), steps.interrupted), (0, None, true));
}

/// Epochs that are saved after some of their steps and gone on with by another trainer, as after a restart.
#[test]
fn an_epoch_in_pieces_is_the_whole_epoch() {
    for mu in [0.0, 0.5] {
        let options = TrainOptions { proximal_mu: mu, ..OPTIONS };
        let (start, length) = (folded(), EpochLength::Steps(20));
        let mut whole = new(options);
        whole.load_weights(&start).unwrap();
        let all = whole.train_epoch(2, length, Steps::default(), &never).unwrap();
        let mut pieces = new(options);
        pieces.load_weights(&start).unwrap();
        let mut steps = Steps::default();
        for piece in [0, 1, 6, 30] {
            let asked = AtomicU32::new(0);
            let stop = || asked.fetch_add(1, Ordering::Relaxed) >= piece;
            steps = pieces.train_epoch(2, length, steps, &stop).unwrap();
            let saved = state(&*pieces);
            pieces = new(TrainOptions { model_seed: 77, threads: 3, ..options });
            pieces.resume(&saved.0, &mut &saved.1[..], &start).unwrap();
            assert!(state(&*pieces) == saved);
        }
        assert_eq!(Steps { time: all.time, ..steps }, all, "mu {mu}");
        assert!(state(&*pieces) == state(&*whole), "mu {mu}");
    }
}

#[test]
fn of_an_interrupted_period_the_rest_remains() {
    let period = Duration::from_secs(3600);
    let before = Steps { done: 5, loss_sum: 4.5, time: period - Duration::from_millis(50), interrupted: true };
    let mut trainer = trained(5);
    let steps = trainer.train_epoch(1, EpochLength::Period(period), before, &never).unwrap();
    // By the average of the steps before, which took twelve minutes each, there is no room for another.
    assert_eq!((steps.done, steps.loss_sum, steps.interrupted), (5, 4.5, false));
    let before = Steps { time: Duration::from_micros(5), ..before };
    let length = EpochLength::Period(Duration::from_millis(50));
    let steps = trainer.train_epoch(1, length, before, &never).unwrap();
    assert!(steps.done > 5 && !steps.interrupted, "{steps:?}");
    assert!(
        state(&*trainer) == {
            let mut other = trained(5);
            other.train_steps(5, steps.done - 5, &never).unwrap();
            state(&*other)
        }
    );
}

#[test]
fn an_epoch_of_steps_is_those_steps() {
    let mut trainer = new(OPTIONS);
    for epoch in 1..=2 {
        let steps = trainer.train_epoch(epoch, EpochLength::Steps(20), Steps::default(), &never).unwrap();
        assert_eq!((steps.done, steps.interrupted), (20, false));
    }
    assert!(state(&*trainer) == state(&*trained(40)));
}

#[test]
fn examples_seen_twice_count_once() {
    let few = Arc::new(digits().train.select(&(0..100).collect::<Vec<_>>()));
    let mut trainer = trainer(Model::Digits, Device::Cpu, OPTIONS, few).unwrap();
    // Steps 2 and 3 are the end of one pass and the beginning of the next.
    let counts =
        [(0, 1), (0, 3), (0, 4), (7, 0), (1 << 32, 7)].map(|(first, steps)| trainer.examples_seen(first, steps));
    assert_eq!(counts, [32, 96, 100, 0, 100]);
    let across = trainer.examples_seen(2, 2);
    assert!((36..64).contains(&across), "{across}");
}
