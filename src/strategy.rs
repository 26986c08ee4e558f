//! Folding: how a node makes new weights of its own and its peers'.
//!
//! A strategy is a deterministic state machine over weights: no I/O of its own, no clock, no randomness without a seed.
//! It reads updates piece by piece through [`TensorReader`], so that a fold needs memory for its accumulator and about
//! one update, not for all of them.

use crate::weights::{ReadError, TensorReader, Weights};
use libp2p_identity::PeerId;

/// An update as a strategy sees it.
pub struct Update<'a> {
    /// Who published it.
    pub author: PeerId,
    /// The weights, before any fold. All updates of a round have the same layout.
    pub weights: &'a dyn TensorReader,
    /// Examples trained on.
    pub num_examples: u64,
    /// The epoch that the weights come after.
    pub epoch: u64,
    /// Staleness τ as the folding node counts it, 0 for its own update.
    pub staleness: u64,
    /// The training loss that the author claims.
    pub loss: Option<f64>,
    /// Whether it is the folding node's own.
    pub own: bool,
}

/// What is folded at once.
pub struct Round<'a> {
    /// The node's own count of folds, from 1 (Flower's `server_round`).
    pub number: u64,
    /// The updates, the node's own among them, in the order in which the strategy sums them.
    pub updates: &'a [Update<'a>],
}

/// A fold's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Folded {
    /// The new weights, of the updates' layout.
    pub weights: Weights,
    /// The share of each update in the result, in the round's order; they add up to 1 where the rule is a mean.
    pub shares: Vec<f64>,
}

/// Why a fold gave nothing. The strategy's state is as before.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// There is nothing to fold.
    #[error("a fold needs at least one update")]
    NoUpdates,
    /// Every update says that it was trained on no example.
    #[error("no update was trained on any example")]
    NoExamples,
    /// Two updates, or an update and the strategy's state, differ in layout.
    #[error("the update of {author} has another layout: {difference}")]
    Layout {
        /// Whose update.
        author: PeerId,
        /// The first difference.
        difference: String,
    },
    /// An update can't be read.
    #[error("the update of {author} can't be read: {source}")]
    Read {
        /// Whose update.
        author: PeerId,
        /// Why.
        source: ReadError,
    },
    /// Saved state that isn't this strategy's.
    #[error("the saved state is not one of {strategy}: {what}")]
    State {
        /// The strategy.
        strategy: &'static str,
        /// What is wrong.
        what: String,
    },
}

/// A rule for folding.
pub trait Strategy: Send {
    /// Its name, as in `--strategy`.
    fn name(&self) -> &'static str;

    /// Tells the weights from which the node begins: x of the rules that take steps from it. Called once before the
    /// first fold, and not after [`restore`](Self::restore).
    fn begin(&mut self, initial: &Weights);

    /// Folds. On an error the state is as before. Reads may block and the arithmetic takes a while: call it off the
    /// async runtime.
    fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError>;

    /// The state, to survive a restart; empty for a rule without memory.
    fn save(&self) -> Vec<u8>;

    /// Takes up a saved state. On an error the state is as before.
    fn restore(&mut self, state: &[u8]) -> Result<(), FoldError>;
}
