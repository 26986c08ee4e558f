//! Why the cache can't do something.

use crate::{
    durable_file,
    weights::{Key, Root},
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why the cache can't do something.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file can't be read or written.
    #[error("{what} {} failed: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is already open, in this process or in another one.
    #[error("the cache {} is in use; close it, or stop the process that has it open", dir.display())]
    InUse {
        /// The cache.
        dir: PathBuf,
    },
    /// The index fails, even a new one.
    #[error("the index {} can't be used: {source}; what it lists is in the files beside it, so it can be removed", dir.display())]
    Index {
        /// The index.
        dir: PathBuf,
        /// The error of the database.
        source: sled::Error,
    },
    /// Its quota has no room for this, whatever else it evicts. Nothing that it had is lost, and what doesn't fit can be
    /// stored when there is room again.
    #[error(
        "the cache {} has no room for {needed} bytes more: its quota is {quota} bytes, and {kept} of them are what it \
         has to keep; raise the quota",
        dir.display()
    )]
    Full {
        /// The cache.
        dir: PathBuf,
        /// The bytes that don't fit.
        needed: u64,
        /// Bytes that can't be evicted for it.
        kept: u64,
        /// The quota.
        quota: u64,
    },
    /// It was closed.
    #[error("the cache {} is closed", dir.display())]
    Closed {
        /// The cache.
        dir: PathBuf,
    },
    /// The entry belongs to another federation or run.
    #[error("the entry {key} belongs to another federation or run than the cache {}", dir.display())]
    OtherFederation {
        /// The cache.
        dir: PathBuf,
        /// The entry's key.
        key: Key,
    },
    /// The manifest has a different layout from the weights.
    #[error("the manifest {root} doesn't belong to these weights: its layout is another one")]
    OtherLayout {
        /// The manifest's root.
        root: Root,
    },
}

impl CacheError {
    /// Whether the quota or the disk has no room. That may pass.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => durable_file::is_full(source),
            _ => false,
        }
    }
}

/// An error of the file system, with what was tried.
pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError::Io { what, path, source }
}
