//! What peers are told of an entry set.

use super::Conflict;
use crate::weights::SignedEntry;
use std::sync::Arc;

/// What stands in an entry set, and is told to peers.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// The newest entry of a key.
    Entry(Arc<SignedEntry>),
    /// Why an author is excluded, in the place of all its entries.
    Proof(Conflict),
}
