//! What a user's own training loop saves in the middle of an epoch.

use super::state::StateError;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// Magic and version.
const MAGIC: &[u8; 16] = b"peerfold part 2\0";

/// How far an epoch of a user's own training loop has got, for
/// [`FederatedCallback::save_progress`](super::FederatedCallback::save_progress).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    steps: u64,
    figures: Vec<(String, f64)>,
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

    /// Writes it before the optimizer's state.
    pub(super) fn write(&self, out: &mut dyn Write) -> Result<(), StateError> {
        let encoded = postcard::to_stdvec(self).map_err(io::Error::other)?;
        let length =
            u32::try_from(encoded.len()).map_err(|_| io::Error::other("the part of an epoch has too many figures"))?;
        out.write_all(MAGIC)?;
        out.write_all(&length.to_le_bytes())?;
        Ok(out.write_all(&encoded)?)
    }

    /// Reads what [`write`](Self::write) wrote. What follows is left unread.
    pub(super) fn read(from: &mut dyn Read) -> Result<Self, StateError> {
        let (mut magic, mut length, mut encoded) = ([0; MAGIC.len()], [0; 4], Vec::new());
        from.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(StateError::Damaged { what: "it is no part of an epoch" });
        }
        from.read_exact(&mut length)?;
        from.take(u64::from(u32::from_le_bytes(length))).read_to_end(&mut encoded)?;
        postcard::from_bytes(&encoded).map_err(|_| StateError::Damaged { what: "it can't be decoded" })
    }
}
