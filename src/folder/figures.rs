//! A folder's figures: each of its parts counts for itself, and the folder gathers them.

use crate::{bucket::BucketFigures, cache::CacheFigures, entries::EntryFigures, p2p::NetworkFigures};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that a folder handle has moved since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes of entries, manifests and chunks written.
    pub written: u64,
    /// Bytes of entries, manifests and chunks read.
    pub read: u64,
}

impl Traffic {
    /// The values of two counters, bytes written and bytes read.
    pub(super) fn of([written, read]: &[AtomicU64; 2]) -> Self {
        Self { written: written.load(Ordering::Relaxed), read: read.load(Ordering::Relaxed) }
    }
}

/// The figures of a folder handle since it was opened. Parts that a folder doesn't have are `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FolderFigures {
    /// What was put and read through the handle.
    pub traffic: Traffic,
    /// Its network's figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkFigures>,
    /// What its bucket has cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<BucketFigures>,
    /// Its cache's figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheFigures>,
    /// What is known of the federation, for a folder that takes in what others pass on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<EntryFigures>,
}

impl From<Traffic> for FolderFigures {
    /// For a folder that is only a storage.
    fn from(traffic: Traffic) -> Self {
        Self { traffic, ..Self::default() }
    }
}
