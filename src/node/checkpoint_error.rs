//! What can go wrong with a checkpoint, each error with the file it is about and what to do.

use crate::durable_file;
use std::{io, path::PathBuf};

/// Why a checkpoint can't be used or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It isn't what was written.
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
    /// Another version of the program wrote it.
    #[error(
        "the checkpoint {} has format {found}, and this version of peerfold reads {known}; go on with the version that \
         wrote it, or remove it to begin anew from the peers' updates, under the same identity",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u8,
        /// The one that this program reads.
        known: u8,
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

impl CheckpointError {
    /// Whether there is no room on the disk. That may pass.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if durable_file::is_full(source))
    }
}
