//! A value that a folder has taken in but doesn't show to anybody yet.

use super::FolderError;
use crate::weights::{Manifest, Root, Weights};
use std::{any::Any, fmt, path::PathBuf};

/// A value in a folder's own storage that has no entry yet.
pub struct Staged {
    manifest: Manifest,
    files: StagedFiles,
    /// Keeps the folder from cleaning it up.
    _hold: Box<dyn Any + Send + Sync>,
}

/// Where the bytes of a staged value are. The files never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StagedFiles {
    /// In no file.
    None,
    /// All chunks one after another in one file.
    Whole {
        /// The file.
        path: PathBuf,
        /// Where the first chunk begins.
        start: u64,
    },
    /// Each chunk in a file, in the manifest's order.
    Chunks(Vec<PathBuf>),
}

impl Staged {
    /// A value with this manifest in these files, which stay as long as `hold` lives.
    pub fn new(manifest: Manifest, files: StagedFiles, hold: impl Any + Send + Sync) -> Self {
        Self { manifest, files, _hold: Box::new(hold) }
    }

    /// A value that isn't in any file. Hashes it, on a blocking thread.
    pub async fn nowhere(value: Weights) -> Result<Self, FolderError> {
        let manifest = tokio::task::spawn_blocking(move || value.manifest()).await;
        let manifest = manifest.map_err(|error| FolderError::Worker(error.to_string()))?;
        Ok(Self::new(manifest, StagedFiles::None, ()))
    }

    /// The value's tensors and chunks.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its address.
    pub fn root(&self) -> Root {
        self.manifest.root()
    }

    /// Where its bytes lie.
    pub fn files(&self) -> &StagedFiles {
        &self.files
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("root", &self.root()).field("files", &self.files).finish_non_exhaustive()
    }
}
