//! How much a node takes in of a federation's entries, and how little of it strangers may have.

use crate::settings::{Range, settings};

/// Most keys held per author, tombstones included, where no other limit is set.
pub const MAX_ENTRIES_PER_AUTHOR: usize = 256;
/// Most authors of whom anything is held, excluded ones included, where no other limit is set.
pub const MAX_AUTHORS: usize = 100_000;

settings! {
    /// How many entries a node keeps. An author is known once this node has folded three of its updates, and a stranger
    /// until then. In the whole of what is kept strangers have a room of their own: a new one takes the place of the one
    /// that has been silent for the longest, first of those of whom nothing was folded as long as the others have half of
    /// the room at most, and never that of an author who is known. If all but a quarter of the authors
    /// are known, the one of them that has been silent for the longest becomes a stranger for the next.
    pub struct EntryLimits under "Network limits" {
        /// Authors of whom entries are kept.
        pub authors as "max-authors": usize = 4096, "N", Range::at_least(1.0);
        /// Entries kept of one author, what it has removed included.
        pub per_author as "max-author-entries": usize = 256, "N", Range::at_least(4.0);
        /// Authors of whom entries are kept although this node has not folded three of their updates.
        pub strangers as "max-strangers": usize = 1024, "N", Range::at_least(1.0);
        /// Entries kept of all those together.
        pub stranger_entries as "max-stranger-entries": usize = 4096, "N", Range::at_least(4.0);
    }
    beside {
        /// Bytes that the newest updates of strangers may have together. A longer one isn't counted, as nobody fetches
        /// it unasked.
        pub stranger_bytes: u64 = u64::MAX;
    }
}

impl EntryLimits {
    /// For a folder in which nobody can put what its operator doesn't want there: only what would fill the memory is
    /// refused, and nobody is pushed out.
    pub const WIDE: Self = Self {
        authors: MAX_AUTHORS,
        per_author: MAX_ENTRIES_PER_AUTHOR,
        strangers: usize::MAX,
        stranger_entries: usize::MAX,
        stranger_bytes: u64::MAX,
    };
}
