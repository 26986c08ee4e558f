//! Training with burn: models, data order, optimizer, and their conversion to and from
//! [`Weights`](crate::weights::Weights).
//!
//! Everything random here follows from a seed alone. No generator is shared between threads, so equal seeds give equal
//! initial weights on every machine, and equal trained weights on equal processors. (On different processors the last
//! bits of a matrix product may differ, because its blocks depend on the caches and its instructions on the processor.
//! The number of threads makes no difference.)

mod adam;
mod batches;
mod callback;
mod cpu;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod device;
mod draws;
mod epoch;
mod examples;
mod init;
mod learner;
mod model;
mod module_weights;
mod partial;
mod proximal;
mod saved_layout;
mod settings;
mod state;
mod trainer;
mod validation;

pub use self::{
    adam::Adam,
    batches::BatchOrder,
    callback::{CallbackError, Epoch, FederatedCallback},
    cpu::Cpu,
    device::{Device, DeviceError, ParseDeviceError},
    draws::Draws,
    epoch::EpochLength,
    examples::{Examples, ExamplesError},
    init::init_seeded,
    learner::ModelLearner,
    model::{Classifier, DigitsMlp, MnistCnn, Model, ParseModelError},
    module_weights::{ModuleWeightsError, apply, collect, layout_of},
    partial::Partial,
    proximal::add_proximal_gradient,
    saved_layout::{
        ForFileError, LAYOUT_ANNOTATION, ParseSavedLayoutError, SavedLayout, SavedLayoutError, for_file, from_saved,
    },
    settings::{MAX_BATCH, MAX_THREADS, RunSettings, STEPS_PER_EPOCH, TrainOptions},
    state::{StateError, restore_optimizer, save_optimizer},
    trainer::{Evaluation, Train, TrainError, Trainer, trainer},
    validation::validation,
};
