//! The figures of an entry set: how many authors it knows, and how many of them are strangers.

use super::EntrySet;
use serde::{Deserialize, Serialize};

/// How many authors a folder knows, and how many strangers it had no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EntryFigures {
    /// Authors of whom anything is kept, excluded ones included.
    pub authors: u64,
    /// Those of them of whom this node has not folded enough to know them.
    pub strangers: u64,
    /// Strangers that had to go for others since the folder was opened.
    pub pushed_out: u64,
}

impl EntryFigures {
    /// Those of a set as it is now.
    pub fn of(set: &EntrySet) -> Self {
        Self { authors: set.author_count() as u64, strangers: set.strangers() as u64, pushed_out: set.pushed_out() }
    }
}
