//! What a node needs to go on after it was killed, in one file.

use super::{Beginning, Roster, sealed};
use crate::weights::{Layout, Metric, Tensor, TensorSpec, Weights, WeightsError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
};

const FILE: &str = "checkpoint";
/// Magic and version.
const MAGIC: &[u8; 8] = b"PFCKPT\x00\x02";

/// Why a checkpoint can't be used or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Not what was written.
    #[error(
        "the checkpoint {} is damaged ({what}); remove it to begin anew from the peers' updates, under the same identity",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        what: String,
    },
    /// It belongs to a run with other settings.
    #[error(
        "the checkpoint {} was made with {what}; use the same settings, another --run label, or another --home",
        path.display()
    )]
    Settings {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// It can't be read or written.
    #[error("{what} the checkpoint {} failed: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Where in an epoch a checkpoint was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// The epoch is trained; what was trained is to be published and folded.
    Trained {
        /// Examples trained on.
        num_examples: u64,
        /// What the update's entry says.
        metrics: Vec<Metric>,
    },
    /// The epoch is complete: the weights are those after the fold.
    Folded,
    /// The epoch is complete without a fold, for the folder failed: the weights, as they were trained, are still to be
    /// published.
    Unpublished {
        /// Examples trained on.
        num_examples: u64,
        /// What the update's entry says.
        metrics: Vec<Metric>,
    },
}

/// A node at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Where in the epoch.
    pub phase: Phase,
    /// The epoch, 0 before the first one.
    pub epoch: u64,
    /// Trained or folded weights, by the phase.
    pub weights: Weights,
    /// Optimizer, data cursor and whatever else the training program needs, as it made it at the end of the epoch.
    pub trainer: Bytes,
    /// The strategy's name and state.
    pub strategy: (String, Bytes),
    /// Peers and staleness.
    pub roster: Roster,
    /// Members of a synchronous federation, as bytes of their peer ids.
    pub members: Vec<Vec<u8>>,
    /// What the node began from in its first life, and the run's hyper-parameters.
    pub beginning: Beginning,
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    phase: Phase,
    epoch: u64,
    tensors: Vec<(TensorSpec, Bytes)>,
    trainer: Bytes,
    strategy: (String, Bytes),
    roster: Roster,
    members: Vec<Vec<u8>>,
    beginning: Beginning,
}

impl Checkpoint {
    /// Where the checkpoint of a run lies.
    pub fn path(run_dir: &Path) -> PathBuf {
        run_dir.join(FILE)
    }

    /// Replaces the checkpoint in `run_dir`. A crash leaves the old one or the new one. Blocks on the disk.
    pub fn save(&self, run_dir: &Path) -> Result<(), CheckpointError> {
        let path = Self::path(run_dir);
        let encoded = Encoded {
            phase: self.phase.clone(),
            epoch: self.epoch,
            tensors: self.weights.tensors().map(|(spec, data)| (spec.clone(), data.clone())).collect(),
            trainer: self.trainer.clone(),
            strategy: self.strategy.clone(),
            roster: self.roster.clone(),
            members: self.members.clone(),
            beginning: self.beginning.clone(),
        };
        let body = postcard::to_stdvec(&encoded).map_err(|error| CheckpointError::Io {
            what: "writing",
            path: path.clone(),
            source: io::Error::other(error),
        })?;
        sealed::write(&path, MAGIC, &body)
    }

    /// Reads the checkpoint in `run_dir`, if there is one. Blocks on the disk.
    pub fn load(run_dir: &Path) -> Result<Option<Self>, CheckpointError> {
        let path = Self::path(run_dir);
        let Some(body) = sealed::read(&path, MAGIC)? else { return Ok(None) };
        let damaged = |what: &str| CheckpointError::Damaged { path: path.clone(), what: what.to_owned() };
        let encoded: Encoded = postcard::from_bytes(&body).map_err(|error| damaged(&error.to_string()))?;
        let tensors = encoded.tensors.into_iter().map(|(spec, data)| Tensor { spec, data }).collect();
        let weights = Weights::new(tensors).map_err(|error: WeightsError| damaged(&error.to_string()))?;
        Ok(Some(Self {
            phase: encoded.phase,
            epoch: encoded.epoch,
            weights,
            trainer: encoded.trainer,
            strategy: encoded.strategy,
            roster: encoded.roster,
            members: encoded.members,
            beginning: encoded.beginning,
        }))
    }

    /// Whether this epoch is trained, and its weights are saved here or folded already.
    pub(super) fn has_trained(&self, epoch: u64) -> bool {
        epoch <= self.epoch
    }

    /// Errors unless the checkpoint can go on with this layout and strategy.
    pub(super) fn check(&self, run_dir: &Path, layout: &Layout, strategy: &str) -> Result<(), CheckpointError> {
        let settings = |what| CheckpointError::Settings { path: Self::path(run_dir), what };
        if let Some(difference) = layout.difference(self.weights.layout()) {
            return Err(settings(format!("another model: {difference}")));
        }
        if self.strategy.0 != strategy {
            return Err(settings(format!("the strategy {}, not {strategy}", self.strategy.0)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{node::Origin, weights::DType};
    use std::{collections::BTreeMap, fs};

    fn checkpoint() -> Checkpoint {
        let spec = TensorSpec { name: "w".to_owned(), dtype: DType::F32, shape: vec![2] };
        let weights = Weights::new(vec![Tensor { spec, data: Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8]) }]).unwrap();
        let metrics = vec![Metric { name: "loss".to_owned(), value: 0.5 }];
        Checkpoint {
            phase: Phase::Trained { num_examples: 7, metrics },
            epoch: 3,
            weights,
            trainer: Bytes::from_static(b"moments"),
            strategy: ("fedavg".to_owned(), Bytes::new()),
            roster: Roster::default(),
            members: vec![vec![1, 2]],
            beginning: Beginning {
                origin: Origin::Init,
                weights: "00".to_owned(),
                epoch: 2,
                hyperparameters: BTreeMap::from([("lr".to_owned(), "0.1".to_owned())]),
            },
        }
    }

    #[test]
    fn comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Checkpoint::load(dir.path()).unwrap(), None);
        checkpoint().save(dir.path()).unwrap();
        assert_eq!(Checkpoint::load(dir.path()).unwrap(), Some(checkpoint()));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        checkpoint().save(dir.path()).unwrap();
        let path = Checkpoint::path(dir.path());
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(matches!(Checkpoint::load(dir.path()), Err(CheckpointError::Damaged { .. })), "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&path, changed).unwrap();
            assert!(matches!(Checkpoint::load(dir.path()), Err(CheckpointError::Damaged { .. })), "changed at {at}");
        }
    }
}
