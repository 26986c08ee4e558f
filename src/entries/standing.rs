//! An item of an entry set, as peers are told of it.

use super::Conflict;
use crate::weights::SignedEntry;
use std::sync::Arc;

/// An item of an entry set, as peers are told of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// The newest entry of a key.
    Entry(Arc<SignedEntry>),
    /// The proof for which an author is excluded, in place of all its entries.
    Proof(Conflict),
}
