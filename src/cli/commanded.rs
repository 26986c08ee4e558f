//! A command as what trains: `--exec`.

use super::{
    init_file,
    run::SavedAs,
    settings::{BeginSettings, SettingsError, read, wrong},
    training::Training,
};
use crate::{
    exec::{ExecLearner, ExecOptions, ExecSettings},
    experiment::DataSettings,
    node::{Checks, Origin, Stop},
    run::Learner,
    settings::Values,
    train::TrainOptions,
    weights::{Annotations, Weights},
};
use anyhow::anyhow;
use std::{collections::BTreeMap, path::Path};

/// Settings of built-in models, which have nothing to say where a command trains. Not --data-dir: its variable may be set for
/// all programs.
pub(super) const OF_BUILT_IN: [&str; 11] = [
    "dataset",
    "skew",
    "validation",
    "steps-per-epoch",
    "period",
    "checkpoint-every",
    "batch-size",
    "lr",
    "threads",
    "device",
    "layout",
];

/// A command whose settings are right.
pub(super) struct Commanded {
    command: String,
    settings: ExecSettings,
    partition: (usize, usize),
    options: TrainOptions,
    init: Option<(Weights, Annotations)>,
}

impl Commanded {
    /// `None` if no command is to train. Reports mistakes before anything is begun.
    pub(super) fn planned(values: &Values, options: TrainOptions) -> anyhow::Result<Option<Self>> {
        let settings: ExecSettings = read(values)?;
        let Some(command) = settings.exec.clone() else { return Ok(None) };
        if command.trim().is_empty() {
            return Err(wrong("exec", "\"\"", "a command has a name").into());
        }
        if let Some(key) = OF_BUILT_IN.into_iter().find(|key| values.contains_key(*key)) {
            let what = "it is about built-in models, and --exec trains another; leave it away";
            return Err(wrong(key, &values[key], what).into());
        }
        let DataSettings { partition, .. } = read(values)?;
        let init = read::<BeginSettings>(values)?.init;
        let init = init.as_deref().map(init_file::read_as_it_is).transpose()?;
        let partition = (partition.index, partition.of);
        Ok(Some(Self { command, settings, partition, options, init }))
    }

    pub(super) fn prepared(self, run_dir: &Path, checks: Checks, stop: Stop) -> anyhow::Result<Training> {
        let Self { command, settings, partition, options, init } = self;
        let (first, annotations) = init.unzip();
        let origin = if first.is_some() { Origin::Init } else { Origin::Seed };
        let options = ExecOptions {
            command,
            timeout: settings.timeout,
            retries: settings.retries,
            seed: options.model_seed,
            data_seed: options.data_seed,
            partition,
            proximal_mu: options.proximal_mu,
            checks,
            stop,
        };
        let failed = |error| anyhow!("the weights to begin from (epoch 0) can't be had: {error}");
        let mut learner = ExecLearner::new(options, run_dir.join("exec"), first).map_err(failed)?;
        let initial = learner.weights().map_err(|error| anyhow!(error))?;
        Ok(Training {
            learner: Box::new(learner),
            initial: (initial, origin),
            annotations: annotations.unwrap_or_default(),
            recipe: BTreeMap::new(),
            hyperparameters: BTreeMap::new(),
            judge: None,
            steps_per_epoch: None,
            saved: SavedAs::Trained,
        })
    }
}

/// Whether a command is to train, as far as these settings say.
pub(super) fn is_commanded(set: &Values) -> Result<bool, SettingsError> {
    Ok(read::<ExecSettings>(set)?.exec.is_some())
}
