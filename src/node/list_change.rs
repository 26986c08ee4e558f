//! How `peerfold members` has the administrator's running node publish a change, as the node has the home: a file with
//! what is wanted, and one with what became of it. Both are in the run's directory, which only the home's owner enters.

use super::ListFileError;
use crate::durable_file;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

const WANTED: &str = "members.wanted";
const TOLD: &str = "members.told";
/// Longer than any of them.
const MAX_BYTES: u64 = 1 << 20;

/// A list to sign and publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListChange {
    /// The number of the list that was changed; 0 if there was none.
    pub after: u64,
    /// The list as text.
    pub list: String,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ListTold {
    /// The number of the list.
    pub number: u64,
    /// Connected members that know it, if the folder is a network.
    pub known_by: Option<usize>,
    /// Whether it is in the bucket, if there is one.
    pub bucket: Option<bool>,
    /// Why it was not published.
    pub trouble: Option<String>,
}

impl ListTold {
    /// Whether somebody else can get the list now, or nobody else needs it.
    pub fn is_told(&self, members: usize) -> bool {
        let nowhere_else = (self.known_by, self.bucket) == (None, None);
        nowhere_else || members == 0 || self.known_by.is_some_and(|peers| peers > 0) || self.bucket == Some(true)
    }
}

fn failed(what: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> ListFileError {
    move |source| ListFileError::Io { what, path, source }
}

fn remove(path: PathBuf) -> Result<(), ListFileError> {
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", path)(error)),
        _ => Ok(()),
    }
}

fn read<T: DeserializeOwned>(path: PathBuf) -> Result<Option<T>, ListFileError> {
    let mut bytes = Vec::new();
    match File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("reading", path)(error)),
        Ok(_) => {}
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| failed("reading", path)(error.into()))
}

fn write<T: Serialize>(path: PathBuf, what: &T) -> Result<(), ListFileError> {
    let written = serde_json::to_vec(what).map_err(io::Error::from);
    let written = written.and_then(|bytes| durable_file::replace(&path, true, |file| file.write_all(&bytes)));
    written.map_err(failed("writing", path))
}

impl ListChange {
    /// Asks the node that runs on the home for this change. What became of an earlier one is forgotten.
    pub fn ask(&self, run_dir: &Path) -> Result<(), ListFileError> {
        remove(run_dir.join(TOLD))?;
        write(run_dir.join(WANTED), self)
    }

    /// The node's answer, if there is one. It is given once.
    pub fn answer(run_dir: &Path) -> Result<Option<ListTold>, ListFileError> {
        let told = read(run_dir.join(TOLD))?;
        if told.is_some() {
            remove(run_dir.join(TOLD))?;
        }
        Ok(told)
    }

    /// Takes back what wasn't done: it must not be done later, when nobody waits for it any more.
    pub fn withdraw(run_dir: &Path) -> Result<(), ListFileError> {
        remove(run_dir.join(WANTED))?;
        // Otherwise a cut of the power could bring it back. Where there is no directory, nothing was asked for.
        match durable_file::sync_dir(run_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(failed("flushing", run_dir.to_owned())),
        }
    }

    /// What is asked for. A request that can't be read is none.
    pub(super) fn asked(run_dir: &Path) -> Option<Self> {
        let asked = read(run_dir.join(WANTED));
        asked.inspect_err(|error| tracing::debug!(%error, "no change of the list")).ok()?
    }

    /// Answers, and forgets the request.
    pub(super) fn done(run_dir: &Path, told: &ListTold) -> Result<(), ListFileError> {
        Self::withdraw(run_dir)?;
        write(run_dir.join(TOLD), told)
    }
}
