//! A cache's figures: how full it is, and what it has evicted.

use serde::{Deserialize, Serialize};

/// What a cache holds, and what it had to evict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CacheFigures {
    /// Bytes of the stored blobs.
    pub used: u64,
    /// Bytes above which values that needn't be kept are evicted.
    pub quota: u64,
    /// Values evicted since the cache was opened.
    pub evicted: u64,
}
