//! What a node does about updates that are far out of line with the others of a fold, and what it says of one.

use crate::{
    settings::{Form, Unfit, Value, Written},
    strategy::OutOfLine,
};
use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a node does about updates that are far out of line with the others of a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suspicion {
    /// It doesn't look.
    Off,
    /// It folds them, and says so.
    #[default]
    Warn,
    /// It leaves peers' out of the fold, and says so.
    LeaveOut,
}

impl Value for Suspicion {
    const FORM: Form = Form::Choice(&[
        ("off", "Don't look"),
        ("warn", "Fold it and say so"),
        ("leave-out", "Leave it out of the fold and say so"),
    ]);

    fn read(written: &Written) -> Result<Self, Unfit> {
        match written.to_string().as_str() {
            "off" => Ok(Self::Off),
            "warn" => Ok(Self::Warn),
            "leave-out" => Ok(Self::LeaveOut),
            _ => Err(Unfit::new("write off, warn or leave-out")),
        }
    }

    fn write(&self) -> Option<Written> {
        let word = match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::LeaveOut => "leave-out",
        };
        Some(Written::Text(word.to_owned()))
    }
}

/// An update that is out of line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Suspect {
    pub(super) author: PeerId,
    pub(super) epoch: u64,
    pub(super) how: How,
    pub(super) left_out: bool,
}

/// In what an update is out of line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum How {
    /// As a difference to where the epoch began.
    OutOfLine(OutOfLine),
    /// Its weights are too large, whatever they are compared with.
    Norm { norm: f64, median: f64 },
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfLine(how) => how.fmt(f),
            Self::Norm { norm, median } => {
                write!(f, "its norm is {norm:.3e}; the median is {median:.3e} (--max-norm-ratio)")
            }
        }
    }
}
