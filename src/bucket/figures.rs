//! What a bucket has cost so far: every request as it was sent, those that were tried again too.

use serde::{Deserialize, Serialize};
use std::{
    ops::{Add, Sub},
    sync::atomic::{AtomicU64, Ordering},
};

/// Requests to a bucket and bytes of their bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct BucketFigures {
    /// Listings, page by page.
    pub lists: u64,
    /// Objects or parts of them that were asked for.
    pub reads: u64,
    /// Objects that were written.
    pub writes: u64,
    /// Requests to delete, each of up to a thousand objects.
    pub deletes: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

impl BucketFigures {
    /// All requests.
    pub fn requests(&self) -> u64 {
        self.lists + self.reads + self.writes + self.deletes
    }
}

impl Add for BucketFigures {
    type Output = Self;

    /// What both have cost.
    fn add(self, other: Self) -> Self {
        Self {
            lists: self.lists + other.lists,
            reads: self.reads + other.reads,
            writes: self.writes + other.writes,
            deletes: self.deletes + other.deletes,
            sent: self.sent + other.sent,
            received: self.received + other.received,
        }
    }
}

impl Sub for BucketFigures {
    type Output = Self;

    /// What has come since `earlier`.
    fn sub(self, earlier: Self) -> Self {
        Self {
            lists: self.lists - earlier.lists,
            reads: self.reads - earlier.reads,
            writes: self.writes - earlier.writes,
            deletes: self.deletes - earlier.deletes,
            sent: self.sent - earlier.sent,
            received: self.received - earlier.received,
        }
    }
}

/// The figures while they grow.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) lists: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) deletes: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) received: AtomicU64,
}

impl Counters {
    pub(crate) fn figures(&self) -> BucketFigures {
        let [lists, reads, writes, deletes, sent, received] =
            [&self.lists, &self.reads, &self.writes, &self.deletes, &self.sent, &self.received]
                .map(|counter| counter.load(Ordering::Relaxed));
        BucketFigures { lists, reads, writes, deletes, sent, received }
    }
}
