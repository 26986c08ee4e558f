//! How full a cache is.

use serde::{Deserialize, Serialize};

/// What a cache holds, and what it had to let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CacheFigures {
    /// Bytes of the stored blobs.
    pub used: u64,
    /// Bytes above which values are evicted that needn't be kept.
    pub quota: u64,
    /// Values evicted since the cache was opened.
    pub evicted: u64,
}
