//! Settings of the data that a node learns from.

use crate::{
    settings::{Range, named, settings},
    train::Model,
};
use std::{fmt, path::PathBuf, str::FromStr};

settings! {
    /// What a node learns from.
    pub struct DataSettings under "Data" {
        /// What to learn: digits (embedded) or mnist (in --data-dir). Each has its model.
        pub dataset as "dataset": Model = Model::Digits, "NAME";
        /// Directory with the data set's files, or with a folder mnist of them.
        pub data_dir as "data-dir": Option<PathBuf> = None, "DIR";
        /// Which part of the training examples is this node's: part I, from 0, of N.
        pub partition as "partition": Part = Part { index: 0, of: 1 }, "I/N";
        /// Label skew: the probability with which an example goes to the part that owns its label.
        pub skew as "skew": f64 = 0.0, "0..1", Range::between(0.0, 1.0).of("the label skew");
        /// Hold this part of the node's training examples out of training, 0.2 for a fifth, and measure others' updates
        /// on it: see --suspect.
        ///
        /// Drawn by --seed, each class by itself. What is held out isn't counted in the node's number of examples.
        pub validation as "validation": f64 = 0.0, "PART", Range::between(0.0, 0.5).of("the part held out");
    }
}

/// One of several parts: `0/2` is the first of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which, from 0.
    pub index: usize,
    /// How many there are.
    pub of: usize,
}

/// The text names no part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// Not two numbers.
    #[error("write I/N: 0/2 is the first of two parts")]
    Form,
    /// There is no such part.
    #[error("parts are numbered from 0 to {}", of.saturating_sub(1))]
    Number {
        /// How many there are.
        of: usize,
    },
}

impl FromStr for Part {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let (index, of) = text.split_once('/').ok_or(PartError::Form)?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| PartError::Form);
        let (index, of) = (number(index)?, number(of)?);
        if index < of { Ok(Self { index, of }) } else { Err(PartError::Number { of }) }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

named!(Part);
