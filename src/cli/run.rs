//! The program's own part of a node's end: writing the model to a file, and answering peers afterwards.

use super::{events::EventOutput, init_file};
use crate::{
    durable_file,
    home::Home,
    node::{NodeConfig, Origin},
    run::{Learner, Run, RunOptions},
    train::{Model, SavedLayout},
    weights::{Annotations, Weights},
};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// How the final weights are saved.
pub(super) struct Saving {
    /// Where to, if anywhere.
    pub(super) out: Option<PathBuf>,
    pub(super) saved: SavedAs,
    /// The metadata of the file that the weights begin from, if this is the run's first life.
    pub(super) annotations: Annotations,
    /// Where a later life finds it.
    pub(super) run_dir: PathBuf,
}

/// What the tensors of a file are.
#[derive(Debug, Clone, Copy)]
pub(super) enum SavedAs {
    /// Those of a built-in model, with its linear layers in this order.
    Model(Model, SavedLayout),
    /// Those that were trained, as they are.
    Trained,
}

/// How long a node goes on.
pub(super) struct Until {
    pub(super) epochs: u64,
    /// Whether to answer peers after the last epoch until a stop is requested.
    pub(super) stay: bool,
}

/// Runs to the last epoch. A stop request is no error: what is complete is published and saved, and so is the middle of
/// the epoch under way, from which the next run goes on.
pub(super) fn run(
    (config, home): (&NodeConfig, Home),
    learner: &mut dyn Learner,
    initial: (Weights, Origin),
    options: RunOptions,
    until: &Until,
    saving: &Saving,
    events: &EventOutput,
) -> anyhow::Result<()> {
    let Saving { out, saved, annotations, run_dir } = saving;
    init_file::keep(run_dir, annotations)?;
    let mut run = match Run::start(config, home, learner, initial, options) {
        Err(error) if error.is_stopped() => return Ok(()),
        run => run?,
    };
    let annotations = init_file::kept(run_dir, run.origin(), annotations)?;
    let (at, epochs) = (run.epoch(), until.epochs);
    if at >= epochs {
        tracing::warn!(at, epochs, "nothing is left to train; a higher --epochs goes on");
    }
    run.train(learner, epochs)?;
    if let Some(path) = out {
        let weights = run.weights().clone().with_annotations(annotations);
        let weights = match saved {
            SavedAs::Model(model, layout) => {
                layout.save(*model, &weights).with_context(|| format!("--out {} can't be written", path.display()))?
            }
            SavedAs::Trained => weights,
        };
        write_model(path, &weights)?;
    }
    run.finish()?;
    if until.stay && !config.stop.is_requested() {
        events.remark("answering peers until stopped (Ctrl-C)");
        run.stay()?;
    }
    Ok(())
}

/// Saves a model's weights under `--out`: those of a run's end, or a home's newest.
pub(super) fn write_model(path: &Path, weights: &Weights) -> anyhow::Result<()> {
    durable_file::replace(path, false, |out| weights.write_safetensors(out))
        .with_context(|| format!("--out {} can't be written", path.display()))
}
