//! The middle of an epoch, in a file beside the checkpoint that it goes on from.
//!
//! The checkpoint says from what the epoch is trained, and stays as it is: what can't be gone on with costs the steps
//! that were done, and never the run.

use super::{CheckpointError, sealed};
use crate::weights::Weights;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const FILE: &str = "progress";
/// Magic and version.
const MAGIC: &[u8; 8] = b"PFPROG\x00\x01";

/// An epoch that is trained in part.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The epoch, from 1.
    pub epoch: u64,
    /// Training steps done of it.
    pub steps: u64,
    /// Whatever the training program needs to do the rest: weights, optimizer, sums.
    pub trainer: Bytes,
}

/// Says from what an epoch is trained.
pub(super) type Base = blake3::Hash;

#[derive(Serialize, Deserialize)]
struct Encoded {
    base: [u8; 32],
    epoch: u64,
    steps: u64,
    trainer: Bytes,
}

/// What the epoch after this complete one is trained from: its weights, and the training program's state after it.
/// Whether its update is published yet makes no difference.
pub(super) fn base_of(epoch: u64, weights: &Weights, trainer: &[u8]) -> Base {
    let mut hasher = blake3::Hasher::new_derive_key("peerfold 2026 epoch base v1");
    hasher.update(&epoch.to_le_bytes());
    hasher.update(&(trainer.len() as u64).to_le_bytes());
    hasher.update(trainer);
    weights.tensors().for_each(|(_, data)| _ = hasher.update(data));
    hasher.finalize()
}

impl Progress {
    /// Where the middle of a run's epoch lies.
    pub fn path(run_dir: &Path) -> PathBuf {
        run_dir.join(FILE)
    }

    /// Replaces the file in `run_dir`. A crash leaves the old one or the new one. Blocks on the disk.
    pub(super) fn save(self, run_dir: &Path, base: Base) -> Result<(), CheckpointError> {
        let path = Self::path(run_dir);
        let Self { epoch, steps, trainer } = self;
        let body = postcard::to_stdvec(&Encoded { base: base.into(), epoch, steps, trainer }).map_err(|error| {
            CheckpointError::Io { what: "writing", path: path.clone(), source: io::Error::other(error) }
        })?;
        sealed::write(&path, MAGIC, &body)
    }

    /// Reads the file in `run_dir`, if there is one. Blocks on the disk.
    pub(super) fn load(run_dir: &Path) -> Result<Option<(Self, Base)>, CheckpointError> {
        let path = Self::path(run_dir);
        let Some(body) = sealed::read(&path, MAGIC)? else { return Ok(None) };
        let decoded = postcard::from_bytes(&body);
        let Encoded { base, epoch, steps, trainer } =
            decoded.map_err(|error| CheckpointError::Damaged { path, what: error.to_string() })?;
        Ok(Some((Self { epoch, steps, trainer }, base.into())))
    }

    /// Removes the file, if there is one. Blocks on the disk.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::weights::{DType, Tensor, TensorSpec};

    fn weights(first: u8) -> Weights {
        let spec = TensorSpec { name: "w".to_owned(), dtype: DType::U8, shape: vec![2] };
        Weights::new(vec![Tensor { spec, data: vec![first, 2].into() }]).unwrap()
    }

    #[test]
    fn comes_back_as_it_was_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let progress = Progress { epoch: 3, steps: 17, trainer: Bytes::from_static(b"moments") };
        let base = base_of(2, &weights(1), b"state");
        assert_eq!(Progress::load(dir.path()).unwrap(), None);
        progress.clone().save(dir.path(), base).unwrap();
        assert_eq!(Progress::load(dir.path()).unwrap(), Some((progress, base)));
        Progress::remove(dir.path()).unwrap();
        Progress::remove(dir.path()).unwrap();
        assert_eq!(Progress::load(dir.path()).unwrap(), None);
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let progress = Progress { epoch: 3, steps: 17, trainer: Bytes::from_static(b"moments") };
        progress.save(dir.path(), base_of(2, &weights(1), b"state")).unwrap();
        let path = Progress::path(dir.path());
        let whole = fs::read(&path).unwrap();
        let mut variants: Vec<Vec<u8>> = (0..whole.len()).map(|cut| whole[..cut].to_vec()).collect();
        variants.extend((0..whole.len()).map(|at| {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            changed
        }));
        for variant in variants {
            fs::write(&path, &variant).unwrap();
            let loaded = Progress::load(dir.path());
            assert!(matches!(loaded, Err(CheckpointError::Damaged { .. })), "{variant:?}: {loaded:?}");
        }
    }

    #[test]
    fn a_base_is_epoch_weights_and_state() {
        let base = base_of(2, &weights(1), b"state");
        assert_eq!(base, base_of(2, &weights(1), b"state"));
        let others = [(3, 1, b"state"), (2, 2, b"state"), (2, 1, b"stats")];
        assert!(others.into_iter().all(|(epoch, first, state)| base_of(epoch, &weights(first), state) != base));
    }
}
