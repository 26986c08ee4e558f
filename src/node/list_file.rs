//! The newest list of members that an administrator has signed, as a home keeps it: what a node admits by before it has
//! heard from anybody.

use crate::{
    durable_file,
    entries::{MAX_LIST_BYTES, MemberList, SignedList, SignedListError},
    weights::{FederationId, MAX_ENTRY_BYTES},
};
use libp2p_identity::PeerId;
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The file in a run's directory.
const NAME: &str = "members";
/// Longer than any.
const MAX_BYTES: u64 = (MAX_LIST_BYTES + MAX_ENTRY_BYTES + 16) as u64;

/// Why the list in a home can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ListFileError {
    /// It can't be read, or written.
    #[error("{what} {} failed: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// It is damaged, or somebody has changed it.
    #[error(
        "the list of members {} can't be used: {reason}; remove it, and the node admits its administrator alone until it \
         gets the newest list again",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: SignedListError,
    },
}

/// Where a home keeps the newest list of one administrator for one federation.
#[derive(Debug, Clone)]
pub struct ListFile {
    dir: PathBuf,
    federation: FederationId,
    admin: PeerId,
}

impl ListFile {
    /// In this run's directory.
    pub fn new(run_dir: &Path, federation: FederationId, admin: PeerId) -> Self {
        Self { dir: run_dir.to_owned(), federation, admin }
    }

    /// Whose list it is.
    pub fn admin(&self) -> PeerId {
        self.admin
    }

    /// The run's directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The newest list; `None` if there is none yet, or only one of an earlier administrator.
    pub fn read(&self) -> Result<Option<SignedList>, ListFileError> {
        Ok(Self::read_any(&self.dir, self.federation)?.filter(|list| list.signer() == self.admin))
    }

    /// The list in a run's directory, whoever has signed it.
    pub fn read_any(run_dir: &Path, federation: FederationId) -> Result<Option<SignedList>, ListFileError> {
        let (path, mut bytes) = (run_dir.join(NAME), Vec::new());
        match File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ListFileError::Io { what: "reading", path, source }),
            Ok(_) => {}
        }
        let read = SignedList::read(&bytes, federation);
        read.map(Some).map_err(|reason| ListFileError::Damaged { path, reason })
    }

    /// Keeps a list in the place of an older one. When it returns, the list is on the disk. The run's directory is made
    /// if it isn't there.
    pub fn write(&self, list: &SignedList) -> Result<(), ListFileError> {
        let path = self.dir.join(NAME);
        let written = durable_file::create_dir_all(&self.dir, true)
            .and_then(|()| durable_file::replace(&path, true, |file| file.write_all(&list.bytes())));
        written.map_err(|source| ListFileError::Io { what: "writing", path, source })
    }

    /// Those who may take part by this list. By none it is the administrator alone.
    pub fn admitted(&self, list: Option<&SignedList>) -> MemberList {
        list.map_or_else(|| MemberList::from_iter([self.admin]), SignedList::admitted)
    }
}
