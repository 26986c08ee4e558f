//! What a node needs to go on after it was killed, in one file; and beside it, while an epoch is trained but not folded,
//! the one of the last complete epoch, for who wants the newest folded weights.

use super::{
    Beginning, Origin, Roster,
    sealed::{self, HASH_BYTES},
};
use crate::weights::{Layout, Metric, Tensor, TensorSpec, Weights, WeightsError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

const FILE: &str = "checkpoint";
/// The last complete epoch's, as long as [`FILE`] is of a later one that isn't folded.
const COMPLETE: &str = "checkpoint.complete";
/// How often both files are read anew because the node has replaced one meanwhile.
const LOOKS: usize = 5;
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

impl Phase {
    /// Whether the weights are those to go on with, folded as far as there was anything to fold.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Folded | Self::Unpublished { .. })
    }
}

/// An update that was folded into a checkpoint's weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoldedFrom {
    /// Peer id of its author.
    pub author: String,
    /// The epoch that it comes after.
    pub epoch: u64,
    /// Examples it was trained on.
    pub num_examples: u64,
    /// Its weight in the fold.
    pub weight: f64,
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
    /// What the weights were folded from: the own update alone if there was nothing else; nothing if they aren't folded
    /// yet, or are the first ones.
    pub folded_from: Vec<FoldedFrom>,
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
    beginning: SavedBeginning,
}

/// A [`Beginning`] as the first versions saved it.
#[derive(Serialize, Deserialize)]
struct SavedBeginning {
    origin: Origin,
    weights: String,
    epoch: u64,
    hyperparameters: BTreeMap<String, String>,
}

/// What later versions have added, after the rest: older ones don't read so far, and their files end there.
#[derive(Default, Serialize, Deserialize)]
struct Added {
    distinct: BTreeMap<String, String>,
    folded_from: Vec<FoldedFrom>,
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
            beginning: SavedBeginning {
                origin: self.beginning.origin,
                weights: self.beginning.weights.clone(),
                epoch: self.beginning.epoch,
                hyperparameters: self.beginning.hyperparameters.clone(),
            },
        };
        let added = Added { distinct: self.beginning.distinct.clone(), folded_from: self.folded_from.clone() };
        let body = postcard::to_stdvec(&encoded).and_then(|body| postcard::to_extend(&added, body));
        let body = body.map_err(|error| CheckpointError::Io {
            what: "writing",
            path: path.clone(),
            source: io::Error::other(error),
        })?;
        if !self.phase.is_complete() {
            keep_complete(run_dir);
        }
        sealed::write(&path, MAGIC, &body)?;
        if self.phase.is_complete() {
            // Not there but after an epoch that wasn't; what stays costs nothing but room.
            let _ = fs::remove_file(run_dir.join(COMPLETE));
        }
        Ok(())
    }

    /// Reads the checkpoint in `run_dir`, if there is one. Blocks on the disk.
    pub fn load(run_dir: &Path) -> Result<Option<Self>, CheckpointError> {
        Self::read(Self::path(run_dir))
    }

    /// Reads the checkpoint of the newest complete epoch in `run_dir`, also while a node runs there: its weights are the
    /// newest folded ones. `None` if there is no checkpoint; one that isn't complete if there is no other. Blocks on the
    /// disk.
    pub fn newest_complete(run_dir: &Path) -> Result<Option<Self>, CheckpointError> {
        for _ in 0..LOOKS {
            match Self::load(run_dir)? {
                Some(checkpoint) if !checkpoint.phase.is_complete() => {}
                checkpoint => return Ok(checkpoint),
            }
            if let Some(checkpoint) = Self::read(run_dir.join(COMPLETE))? {
                return Ok(Some(checkpoint));
            }
            // The epoch was completed between the two looks.
        }
        Self::load(run_dir)
    }

    fn read(path: PathBuf) -> Result<Option<Self>, CheckpointError> {
        let Some(body) = sealed::read(&path, MAGIC)? else { return Ok(None) };
        let damaged = |what: &str| CheckpointError::Damaged { path: path.clone(), what: what.to_owned() };
        let (encoded, rest): (Encoded, _) =
            postcard::take_from_bytes(&body).map_err(|error| damaged(&error.to_string()))?;
        let added = if rest.is_empty() { Ok(Added::default()) } else { postcard::from_bytes(rest) };
        let added = added.map_err(|error| damaged(&error.to_string()))?;
        let SavedBeginning { origin, weights: first, epoch, hyperparameters } = encoded.beginning;
        let beginning = Beginning { origin, weights: first, epoch, hyperparameters, distinct: added.distinct };
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
            beginning,
            folded_from: added.folded_from,
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

/// Gives the checkpoint of a complete epoch a second name, before one that isn't complete replaces it. That it can't be
/// kept costs no more than that nobody can look at it.
fn keep_complete(run_dir: &Path) {
    let (path, kept) = (Checkpoint::path(run_dir), run_dir.join(COMPLETE));
    if !is_complete(&path) {
        return;
    }
    let removed = match fs::remove_file(&kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    // Not every file system has second names.
    let kept = removed.and_then(|()| fs::hard_link(&path, &kept).or_else(|_| fs::copy(&path, &kept).map(drop)));
    if let Err(error) = kept {
        tracing::debug!(path = %path.display(), %error, "the last complete epoch's checkpoint isn't kept");
    }
}

/// Whether a checkpoint is of a complete epoch, by its beginning alone: the phase is what is encoded first.
fn is_complete(path: &Path) -> bool {
    let mut start = [0; MAGIC.len() + HASH_BYTES + 1];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut start));
    let complete = |phase: Phase| postcard::to_stdvec(&phase).ok().and_then(|bytes| bytes.first().copied());
    let unpublished = Phase::Unpublished { num_examples: 0, metrics: Vec::new() };
    read.is_ok() && [complete(Phase::Folded), complete(unpublished)].contains(&start.last().copied())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::weights::DType;

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
                distinct: BTreeMap::from([("partition".to_owned(), "0/2".to_owned())]),
            },
            folded_from: vec![FoldedFrom { author: "a".to_owned(), epoch: 3, num_examples: 7, weight: 0.5 }],
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
    fn the_last_complete_epoch_stays_readable_until_the_next_is() {
        let dir = tempfile::tempdir().unwrap();
        let at = |epoch, phase| Checkpoint { epoch, phase, ..checkpoint() };
        let newest = || Checkpoint::newest_complete(dir.path()).unwrap().map(|checkpoint| checkpoint.epoch);
        let unpublished = Phase::Unpublished { num_examples: 7, metrics: Vec::new() };
        assert_eq!(newest(), None);
        for complete in [Phase::Folded, unpublished] {
            at(1, complete).save(dir.path()).unwrap();
            assert_eq!(newest(), Some(1));
            // Also if it is saved twice, as after a restart.
            for _ in 0..2 {
                at(2, checkpoint().phase).save(dir.path()).unwrap();
                assert_eq!((newest(), Checkpoint::load(dir.path()).unwrap().unwrap().epoch), (Some(1), 2));
            }
            at(2, Phase::Folded).save(dir.path()).unwrap();
            assert_eq!(newest(), Some(2));
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn what_was_added_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let bare = Checkpoint {
            beginning: Beginning { distinct: BTreeMap::new(), ..checkpoint().beginning },
            folded_from: Vec::new(),
            ..checkpoint()
        };
        bare.save(dir.path()).unwrap();
        let path = Checkpoint::path(dir.path());
        let whole = fs::read(&path).unwrap();
        // As the first versions wrote it: two empty collections less.
        let body = &whole[MAGIC.len() + HASH_BYTES..whole.len() - 2];
        fs::write(&path, [MAGIC, &blake3::hash(body).as_bytes()[..], body].concat()).unwrap();
        assert_eq!(Checkpoint::load(dir.path()).unwrap(), Some(bare));
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
