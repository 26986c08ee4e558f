//! A learner's state on its way into the home and back.

use super::{LearnerError, RunError};
use crate::weights::Weights;
use bytes::{Buf, Bytes};
use std::io::{self, Read, Write};

/// What a learner has written besides its weights. The default has no bytes: that of a program whose weights are all it
/// has.
#[derive(Debug, Clone, Default)]
pub struct LearnerState(Bytes);

impl LearnerState {
    /// What a session gives.
    pub(super) fn of(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// What a session takes.
    pub(super) fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Reads it from its beginning.
    pub fn reader(&self) -> impl Read + use<> {
        self.0.clone().reader()
    }
}

/// What `save` writes.
pub(super) fn written(save: impl FnOnce(&mut dyn Write) -> Result<(), LearnerError>) -> Result<LearnerState, RunError> {
    let mut bytes = Vec::new();
    save(&mut bytes).map_err(RunError::learner("saving the training state"))?;
    Ok(LearnerState(bytes.into()))
}

/// Weights before a state, for a session that saves one piece.
pub(super) fn joined(weights: &Weights, state: LearnerState) -> io::Result<Bytes> {
    let mut bytes = vec![0; size_of::<u64>()];
    weights.write_safetensors(&mut bytes)?;
    let length = (bytes.len() - size_of::<u64>()) as u64;
    bytes[..size_of::<u64>()].copy_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&state.0);
    Ok(bytes.into())
}

/// What [`joined`] made, if it did.
pub(super) fn parted(mut bytes: Bytes) -> Option<(Weights, LearnerState)> {
    let length = usize::try_from(bytes.try_get_u64_le().ok()?).ok().filter(|&length| length <= bytes.len())?;
    let weights = Weights::from_safetensors(&bytes.split_to(length)).ok()?;
    Some((weights, LearnerState(bytes)))
}
