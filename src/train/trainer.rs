//! A built-in model in training: steps, epochs, evaluation, and its state for a checkpoint.

use super::{
    Adam, BatchOrder, Classifier, Cpu, Device, DeviceError, DigitsMlp, EpochLength, Examples, MAX_BATCH, MAX_THREADS,
    MnistCnn, Model, TrainOptions, add_proximal_gradient,
    epoch::has_room,
    init_seeded,
    module_weights::{self, ModuleWeightsError},
    state::{self, StateError},
};
use crate::{
    run::Steps,
    weights::{Layout, Weights},
};
use burn::{
    backend::Autodiff,
    module::AutodiffModule,
    nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig},
    optim::{GradientsParams, Optimizer, adaptor::OptimizerAdaptor},
    tensor::{
        ElementConversion, Int, Tensor, TensorData,
        backend::{AutodiffBackend, Backend},
    },
};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

/// Why training can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The device can't be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The images don't fit the model.
    #[error("the model {model} takes images of shape {expected:?} in {classes} classes, not {got:?} in {got_classes}")]
    Examples {
        /// The model.
        model: Model,
        /// The shape that it takes: channels, height, width.
        expected: [usize; 3],
        /// The classes that it tells apart.
        classes: usize,
        /// The examples' shape.
        got: [usize; 3],
        /// The examples' classes.
        got_classes: usize,
    },
    /// There is nothing to train on.
    #[error("there are no examples to train on")]
    NoExamples,
    /// An option is out of range.
    #[error("{what}")]
    Options {
        /// Which one, and what it must be.
        what: &'static str,
    },
    /// The system gives no threads.
    #[error("{threads} threads to train with can't be started: {source}")]
    Threads {
        /// How many.
        threads: usize,
        /// What rayon says.
        source: rayon::ThreadPoolBuildError,
    },
    /// Weights that can't be applied to the model, or collected from it.
    #[error(transparent)]
    Weights(#[from] ModuleWeightsError),
    /// Bytes that aren't a valid checkpoint.
    #[error(transparent)]
    State(#[from] StateError),
}

/// How good a model is on some examples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy, natural logarithm; NaN for no examples.
    pub loss: f64,
    /// Share of the examples whose class gets the highest logit, 0 to 1; NaN for no examples.
    pub accuracy: f64,
}

/// A model in training, whatever its backend and architecture.
///
/// All methods block. They work with or without an async runtime.
pub trait Train: Send {
    /// Does the steps `first_step..first_step + count` of this node's data order, Adam on the mean cross-entropy of a
    /// batch, of which those in `before` are already done. `stop` is asked before each step whether to stop instead.
    ///
    /// The losses are cross-entropies with the natural logarithm. The result, their sum included, depends on the state and on the numbers of the steps only: ten and ten
    /// steps are twenty, bit for bit.
    fn train_on(
        &mut self,
        before: Steps,
        first_step: u64,
        count: u64,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Steps, TrainError>;

    /// [`train_on`](Self::train_on) from the first of the steps.
    fn train_steps(
        &mut self,
        first_step: u64,
        count: u64,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Steps, TrainError> {
        self.train_on(Steps::default(), first_step, count, stop)
    }

    /// Trains epoch `epoch`, from 1: the steps from [`EpochLength::first_step`] on, as many as the length says, of which
    /// those in `before` are done already. A stop that is asked for interrupts it before the next step; the end of a
    /// period is no interruption.
    ///
    /// How many steps fit in a period is up to the clock; which examples they see, and what they make of the weights,
    /// is not. If a period was interrupted, the rest of it remains: only the time spent training counts.
    fn train_epoch(
        &mut self,
        epoch: u64,
        length: EpochLength,
        before: Steps,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Steps, TrainError> {
        let (first_step, most, began) = (length.first_step(epoch), length.most_steps(), Instant::now());
        let time = || before.time + began.elapsed();
        let steps = match length {
            EpochLength::Steps(_) => self.train_on(before, first_step, most, stop)?,
            EpochLength::Period(period) => {
                let (done, stopped) = (AtomicU64::new(before.done), AtomicBool::new(false));
                // Asked before each step, by one thread.
                let over = || {
                    let stop = stop();
                    stopped.store(stop, Ordering::Relaxed);
                    stop || !has_room(period, time(), done.fetch_add(1, Ordering::Relaxed))
                };
                let steps = self.train_on(before, first_step, most, &over)?;
                Steps { interrupted: stopped.load(Ordering::Relaxed), ..steps }
            }
        };
        Ok(Steps { time: time(), ..steps })
    }

    /// How many different examples the steps `first_step..first_step + steps` see.
    fn examples_seen(&mut self, first_step: u64, steps: u64) -> u64;

    /// Measures the model, `batch` (at least 1) examples at a time. Errors if the examples are not the model's.
    fn evaluate(&self, examples: &Examples, batch: usize) -> Result<Evaluation, TrainError>;

    /// Names, dtypes and shapes of the weights.
    fn layout(&self) -> Result<Layout, TrainError>;

    /// A copy of the weights.
    fn weights(&self) -> Result<Weights, TrainError>;

    /// Trains on from these weights, which are also the ones that a proximal term pulls towards. The optimizer's
    /// moments stay. On an error nothing changes.
    fn load_weights(&mut self, weights: &Weights) -> Result<(), TrainError>;

    /// Writes the optimizer's state; equal states give equal bytes. The [weights](Self::weights) and the number of steps
    /// done are the caller's to remember.
    fn save(&self, out: &mut dyn Write) -> Result<(), TrainError>;

    /// Goes on with the optimizer that [`save`](Self::save) wrote, bit for bit, once the weights are
    /// [loaded](Self::load_weights). Reads exactly what was written. Nothing changes if it is an error.
    fn restore(&mut self, from: &mut dyn Read) -> Result<(), TrainError>;

    /// Goes on in the middle of an epoch: with these weights and with what [`save`](Self::save) wrote there, and with a
    /// proximal term that holds on to `start`, the weights from which the epoch began. Nothing changes if it is an error.
    fn resume(&mut self, weights: &Weights, from: &mut dyn Read, start: &Weights) -> Result<(), TrainError>;

    /// The examples trained on.
    fn examples(&self) -> &Examples;
}

/// A built-in model on a device, with initial weights from the options' seed, ready to be trained on these examples.
///
/// Errors if the device can't be used, if there are no examples or they don't fit the model, or if an option is out of
/// range.
pub fn trainer(
    model: Model,
    device: Device,
    options: TrainOptions,
    examples: Arc<Examples>,
) -> Result<Box<dyn Train>, TrainError> {
    device.check()?;
    match device {
        Device::Cpu => on_backend::<Autodiff<Cpu>>(model, Default::default(), options, examples),
        #[cfg(feature = "cuda")]
        Device::Cuda => on_backend::<Autodiff<burn::backend::Cuda>>(model, Default::default(), options, examples),
        #[cfg(not(feature = "cuda"))]
        Device::Cuda => Err(DeviceError::NotBuilt.into()),
    }
}

fn on_backend<B: AutodiffBackend>(
    model: Model,
    device: B::Device,
    options: TrainOptions,
    examples: Arc<Examples>,
) -> Result<Box<dyn Train>, TrainError> {
    Ok(match model {
        Model::Digits => {
            let module = DigitsMlp::<B>::new(&device);
            Box::new(Trainer::new(model, module, device, options, examples)?)
        }
        Model::Mnist => {
            let module = MnistCnn::<B>::new(&device);
            Box::new(Trainer::new(model, module, device, options, examples)?)
        }
    })
}

/// A built-in model in training on backend `B`; [`trainer`] makes one without naming types.
pub struct Trainer<B: AutodiffBackend, M: AutodiffModule<B>> {
    kind: Model,
    module: M,
    /// The module as it was when its weights were loaded, if there is a proximal term.
    start: Option<M>,
    optimizer: OptimizerAdaptor<Adam, M, B>,
    loss: CrossEntropyLoss<B>,
    device: B::Device,
    options: TrainOptions,
    examples: Arc<Examples>,
    order: BatchOrder,
    threads: Arc<ThreadPool>,
}

impl<B, M> Trainer<B, M>
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + Classifier<B>,
{
    /// A trainer of `module`, which takes what `kind` takes; its weights are replaced by those of the options' seed.
    pub fn new(
        kind: Model,
        module: M,
        device: B::Device,
        options: TrainOptions,
        examples: Arc<Examples>,
    ) -> Result<Self, TrainError> {
        check_examples(kind, &examples)?;
        if examples.is_empty() {
            return Err(TrainError::NoExamples);
        }
        if !(options.learning_rate.is_finite() && options.learning_rate > 0.0) {
            return Err(TrainError::Options { what: "the learning rate must be above 0 and finite" });
        }
        if !(1..=MAX_BATCH).contains(&options.batch) {
            return Err(TrainError::Options { what: "the batch size must be between 1 and 65536" });
        }
        if !(options.proximal_mu.is_finite() && options.proximal_mu >= 0.0) {
            return Err(TrainError::Options { what: "the proximal term's factor mu must be finite and not negative" });
        }
        let count = options.threads;
        if !(1..=MAX_THREADS).contains(&count) {
            return Err(TrainError::Options { what: "the number of threads must be between 1 and 1024" });
        }
        let threads =
            ThreadPoolBuilder::new().num_threads(count).thread_name(|number| format!("train {number}")).build();
        let mut trainer = Self {
            kind,
            module: init_seeded(module, options.model_seed),
            start: None,
            optimizer: Adam::default().init(),
            threads: Arc::new(threads.map_err(|source| TrainError::Threads { threads: count, source })?),
            loss: CrossEntropyLossConfig::new().init(&device),
            order: BatchOrder::new(options.data_seed, examples.len(), options.batch),
            device,
            options,
            examples,
        };
        trainer.hold_on();
        Ok(trainer)
    }

    /// Makes the proximal term pull towards the current weights.
    fn hold_on(&mut self) {
        self.start = (self.options.proximal_mu > 0.0).then(|| self.module.clone());
    }

    fn step(&mut self, step: u64) -> f64 {
        fail::fail_point!("train::step");
        let indices = self.order.batch(step);
        let images = images(&self.examples, &indices, &self.device);
        let labels: Vec<i64> = indices.iter().map(|&index| i64::from(self.examples.labels()[index])).collect();
        let labels = Tensor::<B, 1, Int>::from_data(TensorData::new(labels, [indices.len()]), &self.device);
        let loss = self.loss.forward(self.module.forward(images), labels);
        let value = loss.clone().into_scalar().elem();
        let mut gradients = GradientsParams::from_grads(loss.backward(), &self.module);
        if let Some(start) = &self.start {
            add_proximal_gradient(&mut gradients, &self.module, start, self.options.proximal_mu);
        }
        self.module = self.optimizer.step(self.options.learning_rate, self.module.clone(), gradients);
        value
    }
}

impl<B, M> Train for Trainer<B, M>
where
    B: AutodiffBackend,
    M: AutodiffModule<B> + Classifier<B>,
    M::InnerModule: Classifier<B::InnerBackend>,
{
    fn train_on(
        &mut self,
        before: Steps,
        first_step: u64,
        count: u64,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Steps, TrainError> {
        let threads = self.threads.clone();
        let Steps { mut done, mut loss_sum, .. } = before;
        threads.install(|| {
            while done < count && !stop() {
                loss_sum += self.step(first_step.saturating_add(done));
                done += 1;
            }
        });
        Ok(Steps { done, loss_sum, interrupted: done < count, ..before })
    }

    fn examples_seen(&mut self, first_step: u64, steps: u64) -> u64 {
        self.order.different(first_step, steps) as u64
    }

    fn evaluate(&self, examples: &Examples, batch: usize) -> Result<Evaluation, TrainError> {
        check_examples(self.kind, examples)?;
        let (module, device, batch) = (self.module.valid(), self.device.clone(), batch.max(1));
        let (loss, right) = self.threads.install(move || {
            let (mut loss, mut right) = (0.0, 0usize);
            let all: Vec<usize> = (0..examples.len()).collect();
            for indices in all.chunks(batch) {
                let logits = module.forward(images::<B::InnerBackend>(examples, indices, &device)).into_data();
                let logits: Vec<f64> = logits.iter::<f64>().collect();
                for (&index, logits) in indices.iter().zip(logits.chunks_exact(examples.classes())) {
                    let label = usize::from(examples.labels()[index]);
                    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    loss +=
                        highest + logits.iter().map(|logit| (logit - highest).exp()).sum::<f64>().ln() - logits[label];
                    right += usize::from(logits.iter().position(|&logit| logit == highest) == Some(label));
                }
            }
            (loss, right)
        });
        let count = examples.len() as f64;
        Ok(Evaluation { loss: loss / count, accuracy: right as f64 / count })
    }

    fn layout(&self) -> Result<Layout, TrainError> {
        Ok(module_weights::layout_of(&self.module)?)
    }

    fn weights(&self) -> Result<Weights, TrainError> {
        Ok(module_weights::collect(&self.module)?)
    }

    fn load_weights(&mut self, weights: &Weights) -> Result<(), TrainError> {
        self.module = module_weights::apply(self.module.clone(), weights)?;
        self.hold_on();
        Ok(())
    }

    fn save(&self, out: &mut dyn Write) -> Result<(), TrainError> {
        Ok(state::save_optimizer(&self.module, &self.optimizer, out)?)
    }

    fn restore(&mut self, from: &mut dyn Read) -> Result<(), TrainError> {
        self.optimizer = state::restore_optimizer(&self.module, self.optimizer.clone(), from)?;
        Ok(())
    }

    fn resume(&mut self, weights: &Weights, from: &mut dyn Read, start: &Weights) -> Result<(), TrainError> {
        let optimizer = state::restore_optimizer(&self.module, self.optimizer.clone(), from)?;
        let module = module_weights::apply(self.module.clone(), weights)?;
        let start = module_weights::apply(module.clone(), start)?;
        (self.module, self.optimizer) = (module, optimizer);
        self.start = (self.options.proximal_mu > 0.0).then_some(start);
        Ok(())
    }

    fn examples(&self) -> &Examples {
        &self.examples
    }
}

fn check_examples(model: Model, examples: &Examples) -> Result<(), TrainError> {
    let (expected, classes) = (model.image_shape(), model.classes());
    let (got, got_classes) = (examples.shape(), examples.classes());
    if (expected, classes) != (got, got_classes) {
        return Err(TrainError::Examples { model, expected, classes, got, got_classes });
    }
    Ok(())
}

fn images<B: Backend>(examples: &Examples, indices: &[usize], device: &B::Device) -> Tensor<B, 4> {
    let [channels, height, width] = examples.shape();
    let mut pixels = Vec::with_capacity(indices.len() * channels * height * width);
    indices.iter().for_each(|&index| pixels.extend_from_slice(examples.image(index)));
    Tensor::from_data(TensorData::new(pixels, [indices.len(), channels, height, width]), device)
}

#[cfg(test)]
mod tests;
