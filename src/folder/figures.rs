//! What a folder has moved and holds: each of its parts counts for itself, and a folder gathers them.

use crate::{bucket::BucketFigures, cache::CacheFigures, p2p::NetworkFigures};
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
    /// What counters of bytes written and read say.
    pub(super) fn of([written, read]: &[AtomicU64; 2]) -> Self {
        Self { written: written.load(Ordering::Relaxed), read: read.load(Ordering::Relaxed) }
    }
}

/// The figures of a folder handle, since it was opened. What a folder doesn't have is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FolderFigures {
    /// What was put and read through the handle.
    pub traffic: Traffic,
    /// How its network stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkFigures>,
    /// What its bucket has cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<BucketFigures>,
    /// How full its cache is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheFigures>,
}

impl From<Traffic> for FolderFigures {
    /// Of a folder that is nothing but a storage.
    fn from(traffic: Traffic) -> Self {
        Self { traffic, ..Self::default() }
    }
}
