//! The source of a setting's value: a flag, a variable, the file, or the default.

use crate::settings::Written;
use std::{collections::BTreeMap, fmt, path::PathBuf};

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag.
    Flag,
    /// An environment variable.
    Environment(String),
    /// The TOML file.
    File(PathBuf),
    /// Nobody set it.
    Default,
}

impl Source {
    /// The precedence of the sources.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(_) => 1,
            Self::Environment(_) => 2,
            Self::Flag => 3,
        }
    }

    /// How the value is written there.
    pub(super) fn of_value(&self, key: &str, value: &str) -> String {
        match self {
            Self::Environment(variable) => format!("{variable}={value}"),
            Self::File(path) => format!("{}: {key} = {value}", path.display()),
            Self::Flag | Self::Default => format!("--{key} {value}"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment(variable) => f.write_str(variable),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One setting as it will be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// Its value.
    pub value: Written,
    /// Where that comes from.
    pub source: Source,
}

/// Settings by their keys.
pub(super) type Given = BTreeMap<String, Setting>;
