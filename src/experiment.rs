//! Data sets, and how they are split between nodes.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod digits;
mod hold_out;
mod idx;
mod mnist;
mod partition;
mod settings;

pub use self::{
    digits::digits,
    hold_out::hold_out,
    idx::{Idx, IdxError, MAX_IDX_BYTES},
    mnist::{MnistError, mnist},
    partition::{LabelSkew, MAX_NODES, PartitionError},
    settings::{DataSettings, Part, PartError},
};

use crate::train::Examples;

/// Examples to train on, and others to measure with. Only the former are split between nodes.
#[derive(Debug, Clone)]
pub struct DataSet {
    /// To train on.
    pub train: Examples,
    /// To measure with.
    pub test: Examples,
}
