//! Folding: how a node makes new weights out of its own and its peers'.
//!
//! A strategy is a deterministic state machine over weights: no I/O of its own, no clock, no randomness without a seed.
//! It reads updates piece by piece through [`TensorReader`], so that a fold needs memory for its accumulator and about
//! one update, not for all of them.
//!
//! Strategies are built by name from a [`StrategySpec`]; [`STRATEGIES`] lists the names with their parameters.
//!
//! # Whose arithmetic
//!
//! Without the parameter `reference`, sums run in f64 (f64 tensors: twice that), are divided once and rounded once to
//! the tensor's dtype, and run over the updates in ascending order of their authors, so that every node that folds the
//! same updates gets the same bits. With `reference = flwr-1.6 | flwr-1.41 | flwr-1.41-message` the operations, their
//! order and their roundings are those of that version of Flower on f32 and f64 tensors; f16 and bf16 tensors are then
//! summed in f32, where the reference sums in f16. `reference = flower-async` does the same for the rules of flower-async.
//! See [`Reference`].
//!
//! # Inside
//!
//! `source` checks a round and reads from it; `engine` runs a closure over every piece of the layout on a few threads
//! and gives it the same piece of each output plane. Four frames are built on them, and a rule is a file that fills in
//! one: `combination` for rules that find coefficients first (by passes over whole vectors, `reduce`) and then take one
//! weighted `mean`; `optimizer` for steps from x towards the mean, with `adaptive` for those of Adagrad's kin;
//! `coordinates` for rules that go by the order of each coordinate's values (`sorting`); `mixing` for those that take
//! one update after the other. What is remembered from fold to fold is a `memory`, which `remembering` saves and
//! restores. `out_of_line` and `losses` are no rules: they find updates that are far out of line with the others, by
//! whatever rule they are folded.

mod adaptive;
mod asofed;
mod asyncfeded;
mod bulyan;
mod centeredclipping;
mod combination;
mod coordinates;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod diloco;
mod dpsgd;
mod engine;
mod faulttolerantfedavg;
mod fedadagrad;
mod fedadam;
mod fedasync;
mod fedavg;
mod fedavgm;
mod fedbuff;
mod fedmedian;
mod fedprox;
mod fedtrimmedavg;
mod fedyogi;
mod geometricmedian;
mod gossip;
mod integer_mean;
mod krum;
mod losses;
mod mean;
mod memory;
mod mixing;
mod multikrum;
mod normbound;
mod number;
mod numpy;
mod optimizer;
mod out_of_line;
mod own;
mod paflm;
mod parameters;
mod per_tensor;
mod port;
mod qfedavg;
mod reduce;
mod registry;
mod remembering;
mod safa;
mod selection;
mod sorting;
mod source;
mod tensor_rules;
mod unweighted;

pub use self::losses::losses_out_of_line;
pub use self::out_of_line::{FEWEST_OTHERS, OutOfLine, out_of_line};
pub use self::own::{fold_coordinates, weighted_mean};
pub use self::parameters::{ParameterInfo, Reference, StrategyError, StrategyInfo};
pub use self::per_tensor::PerTensor;
pub use self::registry::{STRATEGIES, StrategySpec};
pub use self::tensor_rules::{TENSOR_PARAMETERS, TensorRules, Treatment};

use crate::weights::{Metric, ReadError, TensorReader, Weights};
use libp2p_identity::PeerId;
use std::io::{self, Write};

/// An update as a strategy sees it.
#[derive(Clone, Copy)]
pub struct Update<'a> {
    /// Who published it.
    pub author: PeerId,
    /// The weights, before any fold. All updates of a round have the same layout.
    pub weights: &'a dyn TensorReader,
    /// Whether `weights` are a difference Δ, so that the update is x + Δ.
    pub delta: bool,
    /// Examples trained on.
    pub num_examples: u64,
    /// The epoch that the weights come after.
    pub epoch: u64,
    /// Staleness τ as the folding node counts it, in epochs, 0 for its own update. Finite and not negative.
    pub staleness: f64,
    /// The training loss F that the author claims.
    pub loss: Option<f64>,
    /// All figures that the author claims, the loss among them. No built-in rule reads them.
    pub metrics: &'a [Metric],
    /// The number of peers that the author says it knows.
    pub degree: Option<u64>,
    /// Whether it is the folding node's own.
    pub own: bool,
}

impl<'a> Update<'a> {
    /// A fresh update of epoch 1 by a peer, with nothing set but its number of examples.
    pub fn new(author: PeerId, weights: &'a dyn TensorReader, num_examples: u64) -> Self {
        Self {
            author,
            weights,
            delta: false,
            num_examples,
            epoch: 1,
            staleness: 0.0,
            loss: None,
            metrics: &[],
            degree: None,
            own: false,
        }
    }
}

/// The input of a fold.
#[derive(Clone, Copy)]
pub struct Round<'a> {
    /// The node's own count of folds, this one included: from 1 (Flower's `server_round`).
    pub number: u64,
    /// The updates. A node puts its own first, or in its place among the authors. A `reference` sums in this order, and
    /// rules that take one update after the other go in it. For all others the order doesn't matter.
    pub updates: &'a [Update<'a>],
    /// Updates that the node knew of but could not use: unavailable, damaged or rejected. Flower's `failures`.
    pub failures: u64,
}

/// A fold's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Folded {
    /// The new weights, of the updates' layout.
    pub weights: Weights,
    /// The share of each update in the result (in the mean, for a rule that takes a step towards one), in the round's
    /// order. They add up to 1, except for what x or an earlier round's updates retain.
    pub shares: Vec<f64>,
    /// The integer and boolean tensors that were not averaged but taken whole, by the update they come from.
    pub unaveraged: Vec<Unaveraged>,
    /// Tensors that have a number below 0 where no update has one. If one of them is a variance, it will produce NaN.
    pub turned_negative: Vec<String>,
}

impl Folded {
    /// A result that says nothing of single tensors.
    pub fn new(weights: Weights, shares: Vec<f64>) -> Self {
        Self { weights, shares, unaveraged: Vec::new(), turned_negative: Vec::new() }
    }
}

/// Tensors that a fold took whole from one update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unaveraged {
    /// The place in the round of the update they come from; `None` if the strategy kept them from an earlier round.
    pub update: Option<usize>,
    /// Their names.
    pub tensors: Vec<String>,
}

/// Why a fold gave nothing. The strategy's state is as before.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// There is nothing to fold.
    #[error("a fold needs at least one update")]
    NoUpdates,
    /// There is no floating-point tensor, and rounding integers wasn't asked for.
    #[error(
        "nothing can be averaged: all {tensors} tensors are integers or booleans; the parameter integers=mean \
         averages and rounds them"
    )]
    OnlyIntegers {
        /// How many tensors there are.
        tensors: usize,
    },
    /// Every update claims that it was trained on no examples.
    #[error("no update was trained on any example")]
    NoExamples,
    /// Updates failed, and the strategy was told not to fold then.
    #[error("{failures} updates could not be used, and accept_failures is false")]
    Failures {
        /// How many.
        failures: u64,
    },
    /// Too large a part of the updates failed.
    #[error("{results} updates arrived and {failures} failed: fewer than {rate} of them are here")]
    Incomplete {
        /// How many arrived.
        results: usize,
        /// How many failed.
        failures: u64,
        /// The share that must arrive.
        rate: f64,
    },
    /// The rule can't keep its promise with so few updates.
    #[error("{strategy} needs at least {needed} updates for {what}, and there are {updates}")]
    TooFew {
        /// The strategy.
        strategy: &'static str,
        /// How many it needs.
        needed: usize,
        /// For which of its parameters.
        what: String,
        /// How many there are.
        updates: usize,
    },
    /// A figure that the rule needs of an update is missing or invalid.
    #[error("the update of {author} can't be folded by {strategy}: {what}")]
    Figure {
        /// Whose update.
        author: PeerId,
        /// The strategy.
        strategy: &'static str,
        /// Which figure, and what it must be.
        what: String,
    },
    /// The length of a vector, or something computed from it, overflows.
    #[error("{strategy} comes to a number that is not finite: {what}")]
    NotFinite {
        /// The strategy.
        strategy: &'static str,
        /// Which number.
        what: String,
    },
    /// Weights with which no mean can be taken.
    #[error("{strategy} can't take a mean with these weights: {what}")]
    Weights {
        /// The strategy.
        strategy: &'static str,
        /// What is wrong with them, and what they must be.
        what: String,
    },
    /// A rule that takes steps from x was never told x, or an update is a difference to it.
    #[error("{strategy} starts from the weights of the last fold, or those that all began from, and was told none")]
    NotBegun {
        /// The strategy.
        strategy: &'static str,
    },
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
    /// A rule of the user's own has failed, for a reason of its own.
    #[error("{strategy} failed: {what}")]
    Own {
        /// The strategy.
        strategy: &'static str,
        /// Why, in its own words; several lines if it has a traceback.
        what: String,
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
///
/// A user's own rule needs a name and [`fold`](Self::fold); [`weighted_mean`] and [`fold_coordinates`] do the reading
/// and the writing. If it remembers anything, it also saves and restores it. See `examples/own_strategy.rs`.
///
/// ```
/// use peerfold::strategy::StrategySpec;
///
/// let strategy = StrategySpec::new("fedavgm").with("server_momentum", 0.9).build()?;
/// assert_eq!(strategy.name(), "fedavgm");
/// # Ok::<(), peerfold::strategy::StrategyError>(())
/// ```
pub trait Strategy: Send {
    /// Its name, as in `--strategy`. A checkpoint is only for the strategy of the same name.
    fn name(&self) -> &'static str;

    /// Sets the weights from which the node begins: x, for rules that take steps from it. Called once before the first
    /// fold; not needed before a [`restore`](Self::restore). Calling it again resets the rule.
    fn begin(&mut self, initial: &Weights) {
        let _ = initial;
    }

    /// Folds. On an error the state is as before. Reads may block and the arithmetic takes a while, on several threads:
    /// call it off the async runtime.
    ///
    /// Integer and boolean tensors are not averaged, unless [`TensorRules`] say so. They come from the update with the
    /// highest epoch, and among several of those from the smallest author id. Layouts are compared before anything is
    /// read.
    fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError>;

    /// The state, to survive a restart; empty for a rule without memory.
    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Writes what [`save`](Self::save) returns, without a copy in memory if the rule can do that.
    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.save())
    }

    /// Restores a state saved by the same strategy with the same `reference`; other parameters may have changed. On an
    /// error the state is as before.
    fn restore(&mut self, state: &[u8]) -> Result<(), FoldError> {
        no_state(self.name(), state)
    }

    /// How many folds have gone into its state; 0 for a rule without memory.
    fn folds(&self) -> u64 {
        0
    }

    /// Whether the result may lie outside the range of the updates and x, so that variances would not become a mean of
    /// variances. [`PerTensor`] keeps running statistics away from such a rule.
    fn takes_steps(&self) -> bool {
        false
    }

    /// Whether the rule uses [`Update::degree`]. If so, nodes publish how many peers they know.
    fn needs_degrees(&self) -> bool {
        false
    }
}

/// For a strategy without state there is nothing to restore.
fn no_state(strategy: &'static str, state: &[u8]) -> Result<(), FoldError> {
    if state.is_empty() {
        return Ok(());
    }
    Err(FoldError::State { strategy, what: format!("{} bytes where there are none", state.len()) })
}
