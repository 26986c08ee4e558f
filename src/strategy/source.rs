//! The updates of a round, checked.

use super::{FoldError, Round, Update};
use crate::weights::{Layout, Piece, ReadError};
use bytes::Bytes;
use std::{cmp::Reverse, sync::Arc};

/// A round whose layouts agree and whose examples are not all zero.
pub(super) struct Source<'a> {
    updates: &'a [Update<'a>],
    layout: Arc<Layout>,
    newest: usize,
    total: u128,
}

impl<'a> Source<'a> {
    /// Checks a round without reading a value: that there are updates, that none failed unless that is accepted, that
    /// somebody trained, and that all layouts are that of `expected` (of the node's own update, without one).
    pub(super) fn check(
        round: &Round<'a>,
        expected: Option<&Arc<Layout>>,
        accept_failures: bool,
    ) -> Result<Self, FoldError> {
        let updates = round.updates;
        // The smallest author id of the highest epoch: every node chooses the same.
        let newest = (0..updates.len()).min_by_key(|&at| (Reverse(updates[at].epoch), updates[at].author));
        let newest = newest.ok_or(FoldError::NoUpdates)?;
        if round.failures > 0 && !accept_failures {
            return Err(FoldError::Failures { failures: round.failures });
        }
        let layout = expected.cloned().unwrap_or_else(|| {
            // The node's own layout is the one it can't do without, so that it is the peer who is named as different.
            let own = updates.iter().find(|update| update.own).unwrap_or(&updates[0]);
            Arc::new(own.weights.layout().clone())
        });
        for update in updates {
            if let Some(difference) = layout.difference(update.weights.layout()) {
                return Err(FoldError::Layout { author: update.author, difference });
            }
        }
        let total = updates.iter().map(|update| u128::from(update.num_examples)).sum();
        if total == 0 {
            return Err(FoldError::NoExamples);
        }
        Ok(Self { updates, layout, newest, total })
    }

    /// The updates, in the round's order.
    pub(super) fn updates(&self) -> &'a [Update<'a>] {
        self.updates
    }

    /// The layout of every update.
    pub(super) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Where integer tensors come from.
    pub(super) fn newest(&self) -> &'a Update<'a> {
        &self.updates[self.newest]
    }

    /// N: examples of all updates together, not 0.
    pub(super) fn total(&self) -> u128 {
        self.total
    }

    /// n_k/N of each update.
    pub(super) fn shares(&self) -> Vec<f64> {
        self.updates.iter().map(|update| update.num_examples as f64 / self.total as f64).collect()
    }
}

/// These bytes of an update, exactly as many.
pub(super) fn read(update: &Update<'_>, piece: &Piece) -> Result<Bytes, FoldError> {
    let failed = |source| FoldError::Read { author: update.author, source };
    let bytes = update.weights.read(piece.tensor, piece.range.clone()).map_err(failed)?;
    let expected = piece.range.end - piece.range.start;
    if bytes.len() as u64 != expected {
        let place = format!("tensor {}", update.weights.layout().tensors()[piece.tensor]);
        let what = format!("{} bytes where {expected} were asked for", bytes.len());
        return Err(failed(ReadError::Damaged { place, what }));
    }
    Ok(bytes)
}
