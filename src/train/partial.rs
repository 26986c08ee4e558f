//! What a training loop of one's own saves of the middle of an epoch.

use super::state::StateError;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Magic and version.
const MAGIC: &[u8; 16] = b"peerfold part 1\0";

/// How far an epoch of one's own training loop has come, for
/// [`FederatedCallback::save_progress`](super::FederatedCallback::save_progress).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    steps: u64,
    figures: Vec<(String, f64)>,
}

#[derive(Serialize, Deserialize)]
struct Encoded {
    partial: Partial,
    state: Bytes,
}

impl Partial {
    /// An epoch of which this many steps are done.
    pub fn after(steps: u64) -> Self {
        Self { steps, figures: Vec::new() }
    }

    /// Adds a figure that the rest of the epoch needs: a sum of losses, a number of examples.
    #[must_use]
    pub fn figure(mut self, name: impl Into<String>, value: f64) -> Self {
        self.figures.push((name.into(), value));
        self
    }

    /// The steps that are done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// A figure that was [added](Self::figure), the last one of that name, bit for bit.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures.iter().rev().find(|(figure, _)| figure == name).map(|(_, value)| *value)
    }

    /// With the state of model and optimizer.
    pub(super) fn encode(self, state: Vec<u8>) -> Result<Bytes, StateError> {
        let encoded = postcard::to_stdvec(&Encoded { partial: self, state: state.into() });
        let encoded = encoded.map_err(|_| StateError::Damaged { what: "it can't be encoded" })?;
        Ok([MAGIC.as_slice(), &encoded].concat().into())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, Bytes), StateError> {
        let body = bytes.strip_prefix(MAGIC).ok_or(StateError::Damaged { what: "it is no part of an epoch" })?;
        let Encoded { partial, state } =
            postcard::from_bytes(body).map_err(|_| StateError::Damaged { what: "it can't be decoded" })?;
        Ok((partial, state))
    }
}
