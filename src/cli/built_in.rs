//! A built-in model as what trains: its data, its settings, and what nodes must agree on.

use super::{
    init_file,
    run::SavedAs,
    settings::{BeginSettings, SaveSettings, SettingsError, missing, read, wrong},
    training::Training,
};
use crate::{
    experiment::{DataSet, DataSettings, LabelSkew, Part, PartitionError, digits, hold_out, mnist},
    node::Origin,
    settings::Values,
    train::{Device, EpochLength, Examples, Model, ModelLearner, RunSettings, TrainOptions, trainer, validation},
    weights::{Annotations, Weights},
};
use anyhow::Context;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// A built-in model whose settings are right.
pub(super) struct BuiltIn {
    model: Model,
    data_dir: Option<PathBuf>,
    partition: Part,
    split: LabelSkew,
    skew: f64,
    held_part: f64,
    options: TrainOptions,
    length: EpochLength,
    device: Device,
    init: Option<(Weights, Annotations)>,
    saved: SavedAs,
}

impl BuiltIn {
    /// Reports mistakes before anything is begun.
    pub(super) fn planned(values: &Values, options: TrainOptions) -> anyhow::Result<Self> {
        let DataSettings { dataset: model, data_dir, partition, skew, validation: held_part } = read(values)?;
        let length = read::<RunSettings>(values)?.length().map_err(SettingsError::from)?;
        let BeginSettings { device, init } = read(values)?;
        let saved = SavedAs::Model(model, read::<SaveSettings>(values)?.layout);
        let split = split_of(partition.of, skew, options.model_seed)?;
        let init = init.as_deref().map(|path| init_file::read(path, model)).transpose()?;
        device.check()?;
        Ok(Self { model, data_dir, partition, split, skew, held_part, options, length, device, init, saved })
    }

    /// Loads the data, and makes the model.
    pub(super) fn prepared(self) -> anyhow::Result<Training> {
        let Self { model, partition, options, length, device, .. } = self;
        let DataSet { train, test } = load(model, self.data_dir.as_deref())?;
        let part = self.split.part(&train, partition.index)?;
        drop(train);
        let (part, held) = held_out(part, self.held_part, options.model_seed, partition)?;
        let judge = held.map(|held| validation(model, device, options, held)).transpose()?;
        let trainer = trainer(model, device, options, Arc::new(part))?;
        let (initial, annotations) = match self.init {
            Some((weights, annotations)) => ((weights, Origin::Init), annotations),
            None => ((trainer.weights()?, Origin::Seed), Annotations::default()),
        };
        let recipe = [
            ("batch-size", options.batch.to_string()),
            ("lr", options.learning_rate.to_string()),
            length_setting(length),
            ("data-seed", options.data_seed.to_string()),
            ("param proximal_mu", options.proximal_mu.to_string()),
            ("this node's examples (data set, partition, skew, seed)", trainer.examples().fingerprint()),
        ];
        let hyperparameters = [
            ("model", model.to_string()),
            ("batch-size", options.batch.to_string()),
            ("lr", options.learning_rate.to_string()),
            length_setting(length),
            ("skew", self.skew.to_string()),
        ];
        let named = |(name, value): (&str, String)| (name.to_owned(), value);
        Ok(Training {
            learner: Box::new(ModelLearner::new(trainer, length, test)),
            initial,
            annotations,
            recipe: recipe.map(named).into(),
            hyperparameters: hyperparameters.map(named).into(),
            judge,
            steps_per_epoch: match length {
                EpochLength::Steps(steps) => Some(steps),
                EpochLength::Period(_) => None,
            },
            saved: self.saved,
        })
    }
}

/// An epoch's length by the name of its setting.
fn length_setting(length: EpochLength) -> (&'static str, String) {
    match length {
        EpochLength::Steps(steps) => ("steps-per-epoch", steps.to_string()),
        EpochLength::Period(period) => ("period", period.as_secs_f64().to_string()),
    }
}

/// The split of the examples, of which this node has one part.
fn split_of(parts: usize, skew: f64, seed: u64) -> Result<LabelSkew, SettingsError> {
    LabelSkew::new(parts, skew, seed).map_err(|error| match error {
        PartitionError::Skew { skew } => wrong("skew", skew, error),
        _ => wrong("partition", format!("…/{parts}"), error),
    })
}

/// A node's examples without those that it holds out, and these, if it wants any.
fn held_out(examples: Examples, part: f64, seed: u64, of: Part) -> Result<(Examples, Option<Examples>), SettingsError> {
    if part == 0.0 {
        return Ok((examples, None));
    }
    let (kept, held) = hold_out(&examples, part, seed, of.to_string().as_bytes());
    if held.is_empty() {
        let what =
            format!("of this node's {} examples that is none; take a larger part, or leave it away", examples.len());
        return Err(wrong("validation", part, what));
    }
    Ok((kept, Some(held)))
}

fn load(model: Model, data_dir: Option<&Path>) -> anyhow::Result<DataSet> {
    match model {
        Model::Digits => Ok(digits()),
        Model::Mnist => {
            let dir = data_dir.ok_or_else(|| missing("data-dir"))?;
            mnist(dir).context("the data set mnist can't be loaded")
        }
    }
}
