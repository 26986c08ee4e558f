//! The sequence numbers of an author's entries, kept so that none is handed out twice.

use crate::durable_file;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// How many numbers one write to the disk reserves. A restart skips the unused ones.
const BLOCK: u64 = 64;

/// Why there is no sequence number.
#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    /// The file doesn't hold a number.
    #[error(
        "{} doesn't hold a sequence number; write into it a number above every one this node has used",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// It can't be read or written.
    #[error("reserving sequence numbers in {} failed: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// All 2^64 numbers have been used, or somebody showed an entry of this author with the last one.
    #[error("no sequence number is left")]
    Exhausted,
}

#[derive(Debug)]
struct Numbers {
    /// The last number that was handed out, or seen with an entry of this author.
    last: u64,
    /// The last number reserved on the disk.
    reserved: u64,
}

/// An author's sequence numbers. Each is handed out once, across all restarts.
///
/// A number is reserved on the disk before it is handed out. Gaps are allowed, so a restart continues above the
/// reservation.
#[derive(Debug)]
pub struct Sequences {
    state: Mutex<Numbers>,
    file: Option<PathBuf>,
}

impl Sequences {
    /// Numbers that live as long as the process: for tests and simulations.
    pub fn in_memory() -> Self {
        Self { state: Mutex::new(Numbers { last: 0, reserved: 0 }), file: None }
    }

    /// Numbers above the one in the file, or from 1 if there is no file.
    pub(super) fn open(file: PathBuf) -> Result<Self, SequenceError> {
        let last = match fs::read_to_string(&file) {
            Ok(text) => text.trim().parse().map_err(|_| SequenceError::Malformed { path: file.clone() })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(SequenceError::Malformed { path: file });
            }
            Err(source) => return Err(SequenceError::Io { path: file, source }),
        };
        Ok(Self { state: Mutex::new(Numbers { last, reserved: last }), file: Some(file) })
    }

    /// A number above every earlier one. May write to the disk: call it off the async runtime.
    pub fn next(&self) -> Result<u64, SequenceError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.last.checked_add(1).ok_or(SequenceError::Exhausted)?;
        if next > state.reserved {
            let reserved = state.last.saturating_add(BLOCK);
            if let Some(file) = &self.file {
                reserve(file, reserved)?;
            }
            state.reserved = reserved;
        }
        state.last = next;
        Ok(next)
    }

    /// The highest number that may have been handed out.
    pub fn last(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    /// Continues above this number, with which an entry of this author was seen.
    pub fn raise_above(&self, seen: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last = state.last.max(seen);
    }
}

fn reserve(file: &Path, number: u64) -> Result<(), SequenceError> {
    fail::fail_point!("sequence::reserve", |_| {
        let source = io::ErrorKind::StorageFull.into();
        Err(SequenceError::Io { path: file.to_owned(), source })
    });
    durable_file::replace(file, false, |out| writeln!(out, "{number}"))
        .map_err(|source| SequenceError::Io { path: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_number_is_given_twice_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sequence");
        let mut given = 0;
        for _ in 0..5 {
            let sequences = Sequences::open(file.clone()).unwrap();
            for _ in 0..100 {
                let next = sequences.next().unwrap();
                assert!(next > given);
                given = next;
            }
        }
        assert!(given < 5 * (100 + BLOCK));
    }

    #[test]
    fn goes_on_above_what_others_show() {
        let sequences = Sequences::in_memory();
        sequences.raise_above(1_000);
        assert_eq!(sequences.next().unwrap(), 1_001);
        sequences.raise_above(5);
        assert_eq!(sequences.next().unwrap(), 1_002);
        sequences.raise_above(u64::MAX);
        assert!(matches!(sequences.next(), Err(SequenceError::Exhausted)));
    }

    #[test]
    fn a_malformed_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sequence");
        for rubbish in [&b""[..], b"-3", b"\xff\xfe", b"12 13"] {
            fs::write(&file, rubbish).unwrap();
            assert!(matches!(Sequences::open(file.clone()), Err(SequenceError::Malformed { .. })));
        }
    }
}
