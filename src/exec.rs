//! A learner that is a command: any program that reads and writes safetensors files, in whatever language.
//!
//! In each epoch the command is run once, by `sh -c`, in the directory in which the node was started. It finds what it
//! needs in its environment:
//!
//! | variable | what it has |
//! | --- | --- |
//! | `EXEC_EPOCH` | the epoch to train, from 1; 0 to write the weights that a new federation begins from |
//! | `EXEC_WEIGHTS` | the safetensors file to begin from; not set in epoch 0 |
//! | `EXEC_OUT` | the safetensors file to write: the same tensors, trained |
//! | `EXEC_REPORT` | the JSON file to write: see [`Report`] |
//! | `EXEC_STATE` | a directory of its own, for what training needs besides the weights: it finds there what it left |
//! | `EXEC_SEED` | the run's seed, the same on all nodes: the weights of epoch 0 must follow from it |
//! | `EXEC_DATA_SEED` | this node's own seed, for the order of its examples |
//! | `EXEC_PARTITION`, `EXEC_PARTITIONS` | which part of the data is this node's, from 0, and of how many |
//! | `EXEC_PROXIMAL_MU` | the μ of FedProx' term, 0 for all other strategies |
//!
//! A command that fails is run again, as often as is wanted, from the same weights and the same state; nothing that it has
//! written until then counts. A node that is killed repeats the epoch. What the command says goes to the node's log.

mod process;
mod report;
mod settings;
mod state;

pub use self::{
    report::{MAX_REPORT_BYTES, Report, ReportError},
    settings::ExecSettings,
    state::StateError,
};

use self::{
    process::{Ended, Spoken},
    state::State,
};
use crate::{
    durable_file,
    node::{Checks, Rejection, Stop},
    run::{Learner, LearnerError, Steps, Trained},
    weights::{Annotations, Layout, ReadError, SafetensorsFile, Weights, read_all},
};
use std::{
    ffi::OsString,
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    time::sleep,
};

/// The weights that a run begins from are kept in this file, so that a restart needn't have them made again.
const FIRST: &str = "first.safetensors";
/// What the directories of attempts are called.
const ATTEMPT: &str = "attempt-";
/// How long a command that has failed is not run again, at first. Doubled each time.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a command's epoch doesn't count.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It couldn't be run at all.
    #[error("the command can't be run: {0}")]
    Start(io::Error),
    /// It ended with a failure.
    #[error("the command {how}{}", said(.last))]
    Failed {
        /// How it ended.
        how: String,
        /// The last line that it wrote to its standard error, or else to its standard output.
        last: Option<String>,
    },
    /// It took longer than it may.
    #[error("the command was stopped, as it took longer than {} (--exec-timeout){}", humantime::format_duration(*.limit), said(.last))]
    TimedOut {
        /// How long it may take.
        limit: Duration,
        /// The last line that it wrote.
        last: Option<String>,
    },
    /// It wrote no weights.
    #[error("the command has written no weights: nothing is at $EXEC_OUT")]
    NoWeights,
    /// What it wrote can't be read as weights.
    #[error("the weights that the command has written can't be used: {0}")]
    Unreadable(String),
    /// It wrote other tensors than it was given.
    #[error("the command has written other tensors than it was given: {difference}")]
    OtherLayout {
        /// The first difference.
        difference: String,
    },
    /// The weights aren't such as peers would take.
    #[error("the weights that the command has written don't count: {0}")]
    Rejected(Rejection),
    /// Its report can't be read.
    #[error("the command's report, $EXEC_REPORT, {0}")]
    Report(#[from] ReportError),
    /// Its state can't be kept.
    #[error("the command's state, $EXEC_STATE, {0}")]
    State(#[from] StateError),
    /// A stop was requested before it was done.
    #[error("a stop was requested before the command was done")]
    Stopped,
    /// The home can't be read or written.
    #[error("{} can't be used: {source}", path.display())]
    Home {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

fn said(last: &Option<String>) -> String {
    last.as_ref().map_or_else(String::new, |last| format!("; the last that it said: {last}"))
}

fn home(path: &Path) -> impl FnOnce(io::Error) -> ExecError {
    let path = path.to_owned();
    move |source| ExecError::Home { path, source }
}

/// What a command is told in every epoch, and how it is run.
#[derive(Debug, Clone)]
pub struct ExecOptions {
    /// The command, for `sh -c`.
    pub command: String,
    /// How long an epoch may take.
    pub timeout: Duration,
    /// How often an epoch that failed is tried again before the learner fails.
    pub retries: u64,
    /// The same on all nodes.
    pub seed: u64,
    /// This node's own.
    pub data_seed: u64,
    /// Which part of the data is this node's, from 0, and of how many.
    pub partition: (usize, usize),
    /// The μ of the strategy's proximal term.
    pub proximal_mu: f64,
    /// What weights must satisfy: what peers would refuse isn't published.
    pub checks: Checks,
    /// Ends a command that runs.
    pub stop: Stop,
}

/// Trains by running a command. See the [module](self) for what the command is told and what it must write.
///
/// An epoch that is interrupted by a stop is lost: the command gets SIGTERM, and SIGKILL ten seconds later, together with
/// everything that it has started. If the node itself is killed, what it has started is killed too.
pub struct ExecLearner {
    options: ExecOptions,
    /// Where attempts, state and first weights are. No other process may use it.
    dir: PathBuf,
    state: State,
    runtime: Runtime,
    weights: Weights,
    layout: Arc<Layout>,
}

impl ExecLearner {
    /// One that keeps what it needs in this directory, and begins from these weights. Without them it begins from those that
    /// it began from before, or runs the command for epoch 0.
    ///
    /// Errors if that fails as often as it may, or the directory can't be used.
    pub fn new(options: ExecOptions, dir: PathBuf, first: Option<Weights>) -> Result<Self, ExecError> {
        fs::create_dir_all(&dir).map_err(home(&dir))?;
        remove_attempts(&dir).map_err(home(&dir))?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ExecError::Start)?;
        let none = Weights::new(Vec::new()).map_err(|error| ExecError::Unreadable(error.to_string()))?;
        let state = State::new(dir.join("state"));
        let mut learner = Self { options, state, runtime, layout: none.layout().clone(), weights: none, dir };
        let weights = match first {
            Some(first) => {
                learner.state.clear()?;
                first
            }
            None => learner.first()?,
        };
        (learner.layout, learner.weights) = (weights.layout().clone(), weights);
        Ok(learner)
    }

    /// The weights that a new federation begins from.
    fn first(&mut self) -> Result<Weights, ExecError> {
        let kept = self.dir.join(FIRST);
        if kept.exists() {
            return read(&kept);
        }
        self.state.clear()?;
        let done = self.try_often(0)?.ok_or(ExecError::Stopped)?;
        durable_file::replace(&kept, false, |out| done.weights.write_safetensors(out)).map_err(home(&kept))?;
        Ok(done.weights)
    }

    /// Runs the command until it succeeds, or has failed too often. `None` if a stop was requested.
    fn try_often(&mut self, epoch: u64) -> Result<Option<Done>, ExecError> {
        let mut pause = PAUSE;
        for left in (0..=self.options.retries).rev() {
            let error = match self.try_once(epoch) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if left == 0 {
                return Err(error);
            }
            tracing::warn!(epoch, "{error}; it is run again from the same weights and state, {left} times at most");
            let stop = self.options.stop.clone();
            self.runtime.block_on(async {
                tokio::select! {
                    () = stop.requested() => {}
                    () = sleep(pause) => {}
                }
            });
            pause *= 2;
        }
        Ok(None)
    }

    fn try_once(&mut self, epoch: u64) -> Result<Option<Done>, ExecError> {
        // Of its own, so that what an attempt before has left behind can't write there.
        let attempt = tempfile::Builder::new().prefix(ATTEMPT).tempdir_in(&self.dir).map_err(home(&self.dir))?;
        let path = |name: &str| attempt.path().join(name);
        let (weights, out, report, state) =
            (path("weights.safetensors"), path("out.safetensors"), path("report.json"), path("state"));
        let mut variables = self.variables(epoch);
        if epoch > 0 {
            let mut file = io::BufWriter::new(fs::File::create(&weights).map_err(home(&weights))?);
            self.weights.write_safetensors(&mut file).and_then(|()| file.flush()).map_err(home(&weights))?;
            variables.push(("EXEC_WEIGHTS", weights.into()));
        }
        self.state.copy_to(&state)?;
        for (name, path) in [("EXEC_OUT", &out), ("EXEC_REPORT", &report), ("EXEC_STATE", &state)] {
            variables.push((name, path.into()));
        }
        let ExecOptions { command, timeout, stop, .. } = &self.options;
        let ended =
            self.runtime.block_on(process::run(command, &variables, *timeout, stop)).map_err(ExecError::Start)?;
        let Spoken { last } = match ended {
            Ended::Stopped => return Ok(None),
            Ended::TimedOut(Spoken { last }) => return Err(ExecError::TimedOut { limit: *timeout, last }),
            Ended::By(status, spoken) if status.success() => spoken,
            Ended::By(status, Spoken { last }) => {
                return Err(ExecError::Failed { how: process::how(status), last });
            }
        };
        drop(last);
        let trained = read(&out)?;
        if epoch > 0
            && let Some(difference) = self.layout.difference(trained.layout())
        {
            return Err(ExecError::OtherLayout { difference });
        }
        self.options.checks.weights(&trained).map_err(ExecError::Rejected)?;
        let report = if epoch > 0 { Report::read(&report)? } else { Report::default() };
        self.state.take_from(&state)?;
        remove(attempt);
        Ok(Some(Done { weights: trained, report }))
    }

    fn variables(&self, epoch: u64) -> Vec<(&'static str, OsString)> {
        let ExecOptions { seed, data_seed, partition: (part, parts), proximal_mu, .. } = &self.options;
        [
            ("EXEC_EPOCH", epoch.to_string()),
            ("EXEC_SEED", seed.to_string()),
            ("EXEC_DATA_SEED", data_seed.to_string()),
            ("EXEC_PARTITION", part.to_string()),
            ("EXEC_PARTITIONS", parts.to_string()),
            ("EXEC_PROXIMAL_MU", proximal_mu.to_string()),
        ]
        .map(|(name, value)| (name, OsString::from(value)))
        .into()
    }
}

/// What a command has done in an epoch.
struct Done {
    weights: Weights,
    report: Report,
}

impl Learner for ExecLearner {
    fn weights(&mut self) -> Result<Weights, LearnerError> {
        Ok(self.weights.clone())
    }

    fn load(&mut self, weights: &Weights) -> Result<(), LearnerError> {
        self.weights = weights.clone().with_annotations(Annotations::default());
        Ok(())
    }

    fn train(&mut self, epoch: u64, before: Steps, _: &(dyn Fn() -> bool + Sync)) -> Result<Trained, LearnerError> {
        let interrupted = Trained { steps: Steps { interrupted: true, ..before }, ..Trained::default() };
        let Some(Done { weights, report }) = self.try_often(epoch)? else { return Ok(interrupted) };
        self.weights = weights;
        let Report { num_examples, metrics, steps } = report;
        // A loss that isn't told isn't a loss of 0.
        let steps = Steps { done: steps.unwrap_or(1).max(1), loss_sum: f64::NAN, interrupted: false, ..before };
        Ok(Trained { steps, num_examples, metrics })
    }

    fn save(&mut self, out: &mut dyn Write) -> Result<(), LearnerError> {
        Ok(self.state.save(out)?)
    }

    fn restore(&mut self, from: &mut dyn Read) -> Result<(), LearnerError> {
        Ok(self.state.restore(from)?)
    }
}

fn read(path: &Path) -> Result<Weights, ExecError> {
    let unreadable = |error: ReadError| ExecError::Unreadable(error.to_string());
    match SafetensorsFile::open(path) {
        Ok(file) => {
            let weights = read_all(&file).map_err(unreadable)?;
            Ok(weights.with_annotations(Annotations::default()))
        }
        Err(_) if !path.exists() => Err(ExecError::NoWeights),
        Err(error) => Err(ExecError::Unreadable(error.to_string())),
    }
}

/// Removes what attempts of an earlier life have left.
fn remove_attempts(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(ATTEMPT) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn remove(attempt: TempDir) {
    if let Err(error) = attempt.close() {
        tracing::warn!(%error, "what a command has written can't be removed; the next start tries again");
    }
}
