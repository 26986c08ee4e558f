//! The middle of an epoch: a head beside the checkpoint that it continues from, which names its own blobs.
//!
//! The checkpoint says what the epoch is trained from, and is left alone: a file that can't be used costs the steps
//! that were done, never the run.

use super::{
    CheckpointError, SavedState,
    blobs::{BlobError, BlobId, Blobs, SavedWeights},
    checkpoint::readable,
    sealed,
};
use crate::weights::{Root, Weights};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

const FILE: &str = "progress";
/// Magic and version.
pub(super) const MAGIC: &[u8; 8] = b"PFPROG\x00\x02";

/// A partly trained epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The epoch, from 1.
    pub epoch: u64,
    /// Training steps done of it.
    pub steps: u64,
    /// The weights after these steps.
    pub weights: Weights,
    /// Whatever else the training program needs to do the rest: optimizer, sums.
    pub trainer: SavedState,
}

/// Identifies what an epoch is trained from.
pub(super) type Base = blake3::Hash;

/// The middle of an epoch as its file has it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedProgress {
    base: [u8; 32],
    pub(super) epoch: u64,
    pub(super) steps: u64,
    weights: SavedWeights,
    trainer: BlobId,
}

/// What the epoch after this complete one is trained from: its weights, and the training program's state after it. It
/// makes no difference whether its update has been published yet.
pub(super) fn base_of(epoch: u64, weights: Root, trainer: &SavedState) -> Base {
    let trainer = trainer.id();
    let mut hasher = blake3::Hasher::new_derive_key("peerfold 2026 epoch base v2");
    hasher.update(&epoch.to_le_bytes()).update(weights.as_bytes());
    hasher.update(&trainer.length.to_le_bytes()).update(trainer.hash().as_bytes());
    hasher.finalize()
}

impl Progress {
    /// The path of the file in a run's directory.
    pub fn path(run_dir: &Path) -> PathBuf {
        run_dir.join(FILE)
    }

    /// Replaces the one in `run_dir`. A crash leaves the old one or the new one. Blocks on the disk.
    pub(super) fn save(&self, run_dir: &Path, blobs: &Arc<Blobs>, base: Base) -> Result<(), CheckpointError> {
        let path = Self::path(run_dir);
        let keep = || {
            let weights = blobs.keep_weights(&self.weights.manifest(), &self.weights, None)?;
            let trainer = self.trainer.keep(blobs)?;
            blobs.sync().map(|()| (weights, trainer))
        };
        let (weights, trainer) = keep().map_err(|error: BlobError| error.of(&path))?;
        let saved = SavedProgress { base: base.into(), epoch: self.epoch, steps: self.steps, weights, trainer };
        let body = postcard::to_stdvec(&saved).map_err(|error| CheckpointError::Io {
            what: "writing",
            path: path.clone(),
            source: io::Error::other(error),
        })?;
        sealed::write(&path, MAGIC, &body)
    }

    /// Removes the head, if there is one; its blobs are left to be swept. Blocks on the disk.
    pub(super) fn remove(run_dir: &Path) -> Result<(), CheckpointError> {
        let path = Self::path(run_dir);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(CheckpointError::Io { what: "removing", path, source })
            }
            _ => Ok(()),
        }
    }
}

impl SavedProgress {
    /// The head in `run_dir`, if there is one. No blob is looked at. Blocks on the disk.
    pub(super) fn read(run_dir: &Path) -> Result<Option<Self>, CheckpointError> {
        let path = Progress::path(run_dir);
        let Some(body) = sealed::read(&path, MAGIC)? else { return Ok(None) };
        Self::decode(&path, &body).map(Some)
    }

    /// What the file at `path` holds.
    pub(super) fn decode(path: &Path, body: &[u8]) -> Result<Self, CheckpointError> {
        let damaged =
            |error: postcard::Error| CheckpointError::Damaged { path: path.to_owned(), what: error.to_string() };
        postcard::from_bytes(body).map_err(damaged)
    }

    /// What it was trained from.
    pub(super) fn base(&self) -> Base {
        self.base.into()
    }

    /// The blobs that the head in `run_dir` names. An error says that they can't be known now.
    pub(super) fn names(run_dir: &Path) -> Result<Vec<String>, CheckpointError> {
        let saved = readable(Self::read(run_dir))?;
        Ok(saved.map_or_else(Vec::new, |saved| vec![saved.weights.name(), saved.trainer.name()]))
    }

    /// With all that it names, verified. Blocks on the disk.
    pub(super) fn load(self, run_dir: &Path, blobs: &Arc<Blobs>) -> Result<Progress, CheckpointError> {
        let path = Progress::path(run_dir);
        let weights = blobs.read_weights(&self.weights).map_err(|error| error.of(&path))?;
        let trainer = SavedState::named(blobs, self.trainer);
        trainer.verify(&path)?;
        Ok(Progress { epoch: self.epoch, steps: self.steps, weights, trainer })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::weights::{DType, Tensor, TensorSpec};

    fn weights(first: u8) -> Weights {
        let spec = TensorSpec { name: "w".to_owned(), dtype: DType::U8, shape: vec![2] };
        Weights::new(vec![Tensor { spec, data: vec![first, 2].into() }]).unwrap()
    }

    fn state(bytes: &'static [u8]) -> SavedState {
        SavedState::from(bytes)
    }

    fn base(epoch: u64, first: u8, trainer: &'static [u8]) -> Base {
        base_of(epoch, weights(first).manifest().root(), &state(trainer))
    }

    fn progress() -> Progress {
        Progress { epoch: 3, steps: 17, weights: weights(7), trainer: state(b"moments") }
    }

    fn load(dir: &Path) -> Result<Option<(Progress, Base)>, CheckpointError> {
        let Some(saved) = SavedProgress::read(dir)? else { return Ok(None) };
        let base = saved.base();
        Ok(Some((saved.load(dir, &Arc::new(Blobs::new(dir)))?, base)))
    }

    #[test]
    fn comes_back_as_it_was_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let base = base(2, 1, b"state");
        assert_eq!(load(dir.path()).unwrap(), None);
        progress().save(dir.path(), &Arc::new(Blobs::new(dir.path())), base).unwrap();
        assert_eq!(load(dir.path()).unwrap(), Some((progress(), base)));
        Progress::remove(dir.path()).unwrap();
        Progress::remove(dir.path()).unwrap();
        assert_eq!(load(dir.path()).unwrap(), None);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        progress().save(dir.path(), &Arc::new(Blobs::new(dir.path())), base(2, 1, b"state")).unwrap();
        let blobs = fs::read_dir(dir.path().join("blobs")).unwrap().map(|file| file.unwrap().path());
        for path in blobs.chain([Progress::path(dir.path())]) {
            let whole = fs::read(&path).unwrap();
            let mut variants: Vec<Vec<u8>> = (0..whole.len()).map(|cut| whole[..cut].to_vec()).collect();
            variants.extend((0..whole.len()).map(|at| {
                let mut changed = whole.clone();
                changed[at] ^= 1;
                changed
            }));
            for variant in variants {
                fs::write(&path, &variant).unwrap();
                let loaded = load(dir.path());
                assert!(
                    matches!(loaded, Err(CheckpointError::Damaged { .. } | CheckpointError::Version { .. })),
                    "{variant:?}: {loaded:?}"
                );
            }
            fs::write(&path, &whole).unwrap();
        }
    }

    #[test]
    fn a_base_is_epoch_weights_and_state() {
        assert_eq!(base(2, 1, b"state"), base(2, 1, b"state"));
        let others = [base(3, 1, b"state"), base(2, 2, b"state"), base(2, 1, b"stats")];
        assert!(others.into_iter().all(|other| other != base(2, 1, b"state")));
    }
}
