//! What a command says of an epoch.

use crate::run::Metrics;
use serde::Deserialize;
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Longest report.
pub const MAX_REPORT_BYTES: u64 = 1 << 20;

/// What a command writes after an epoch: `{"num_examples": 120, "metrics": {"loss": 0.3}}`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Different examples seen in the epoch: how much the update counts in a mean.
    pub num_examples: u64,
    /// Figures that peers may see, by name; `loss` is what some strategies look at.
    #[serde(default)]
    pub metrics: Metrics,
    /// Training steps, for the node's own figures.
    #[serde(default)]
    pub steps: Option<u64>,
}

/// Why a report can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It isn't there.
    #[error("is not there: write one like {{\"num_examples\": 120, \"metrics\": {{\"loss\": 0.3}}}}")]
    Missing,
    /// The system can't read it.
    #[error("can't be read: {0}")]
    Io(io::Error),
    /// It is longer than one may be.
    #[error("is longer than {MAX_REPORT_BYTES} bytes")]
    TooLong,
    /// It is no report.
    #[error("is none: {0}; write one like {{\"num_examples\": 120, \"metrics\": {{\"loss\": 0.3}}}}")]
    NotOne(serde_json::Error),
}

impl Report {
    pub(super) fn read(path: &Path) -> Result<Self, ReportError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ReportError::Missing),
            file => file.map_err(ReportError::Io)?,
        };
        let mut json = Vec::new();
        file.take(MAX_REPORT_BYTES + 1).read_to_end(&mut json).map_err(ReportError::Io)?;
        if json.len() as u64 > MAX_REPORT_BYTES {
            return Err(ReportError::TooLong);
        }
        serde_json::from_slice(&json).map_err(ReportError::NotOne)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &[u8]) -> Result<Report, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Report::read(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_report_says_how_many_examples_and_what_else_it_likes() {
        let whole = read(br#"{"num_examples": 7, "metrics": {"loss": 0.5}, "steps": 3}"#).unwrap();
        assert_eq!((whole.num_examples, whole.metrics["loss"], whole.steps), (7, 0.5, Some(3)));
        assert_eq!(read(br#"{"num_examples": 7}"#).unwrap(), Report { num_examples: 7, ..Report::default() });
        for (wrong, says) in [
            (&b"{}"[..], "missing field `num_examples`"),
            (br#"{"num_example": 7}"#, "unknown field `num_example`"),
            (br#"{"num_examples": -1}"#, "invalid value"),
            (br#"{"num_examples": 7, "metrics": {"loss": NaN}}"#, "expected value"),
            (b"", "EOF"),
            (&vec![b' '; MAX_REPORT_BYTES as usize + 1], "longer than"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert!(matches!(Report::read(Path::new("/nowhere")), Err(ReportError::Missing)));
    }
}
