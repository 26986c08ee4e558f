//! A cache's figures: how full it is, and what it has evicted.

use serde::{Deserialize, Serialize};

/// What a cache holds, and what it had to evict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CacheFigures {
    /// Bytes of the stored blobs.
    pub used: u64,
    /// Bytes that everything in the cache may take together.
    pub quota: u64,
    /// Bytes of them that blobs may take: the rest is for entries and the index.
    #[serde(default)]
    pub room: u64,
    /// Values evicted since the cache was opened.
    pub evicted: u64,
    /// How often there was no room for something since the cache was opened: a value's blob, or an entry.
    #[serde(default)]
    pub refused: u64,
    /// Entries that are kept as files, those of this node included.
    #[serde(default)]
    pub entries: u64,
}
