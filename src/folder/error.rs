//! What can go wrong in a shared folder.

use crate::bucket::BucketError;
use crate::cache::CacheError;
use crate::entries::Refused;
use crate::home::SequenceError;
use crate::p2p::NetworkError;
use crate::weights::{EntryError, Key, ReadError};
use libp2p_identity::PeerId;
use std::path::PathBuf;

/// What can go wrong in a shared folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The key belongs to another author.
    #[error("only {} can publish under {}; this folder signs for {signer}", key.author(), key.shown())]
    NotAuthor {
        /// The key.
        key: Key,
        /// The author whose handle it is.
        signer: PeerId,
    },
    /// The entry can't be signed as it is.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The author's sequence number can't be reserved.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The value is no longer stored: its author has published a newer one or removed it. List again.
    #[error("the value of {} with sequence number {sequence} is no longer there; list the folder again", key.shown())]
    Gone {
        /// Its key.
        key: Key,
        /// Its number.
        sequence: u64,
    },
    /// No connected peer has the value. It may be available later.
    #[error("the value of {} can't be had now: {reason}", key.shown())]
    Unreachable {
        /// Its key.
        key: Key,
        /// The peers that were asked.
        reason: String,
    },
    /// What is stored isn't what the author published.
    #[error("the value of {} is damaged: {what}", key.shown())]
    Damaged {
        /// Its key.
        key: Key,
        /// How.
        what: String,
    },
    /// The storage failed.
    #[error("{what} {path} failed: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The cache can't be read or written.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The node can't take part in the network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The bucket can't be used.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A value could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The author already has the maximum number of keys.
    #[error("{author} has {limit} keys already; remove some")]
    TooManyKeys {
        /// Whose keys.
        author: PeerId,
        /// The limit.
        limit: usize,
    },
    /// The folder already holds entries of the maximum number of authors.
    #[error("the folder has entries of {limit} authors already; use another --run, or remove old authors' directories")]
    TooManyAuthors {
        /// The limit.
        limit: usize,
    },
    /// Another process signs with the same identity: the home directory was copied. By the time this is returned,
    /// connected members or the bucket have the proof. `--readmit` is
    /// [`TrustSettings::readmit`](crate::node::TrustSettings::readmit).
    #[error(
        "another node signs as {author} too: its home directory was copied. Stop one of the two for good; then start the \
         other with --readmit {author}, and so its peers, which leave it out until then. Or go on as a new node, with \
         another --home"
    )]
    CopiedIdentity {
        /// The identity.
        author: PeerId,
    },
    /// A value that arrived can't be written to the cache, or can't be read there.
    #[error("the value of {} can't be kept in the cache: {reason}", key.shown())]
    Uncached {
        /// Its key.
        key: Key,
        /// What the cache says.
        reason: String,
    },
    /// The cache drops the value before it is complete.
    #[error("the cache doesn't keep the value of {}; raise its quota (--cache-quota)", key.shown())]
    NotKept {
        /// Its key.
        key: Key,
    },
    /// A background task of the folder has panicked, or ended with its runtime.
    #[error("the folder's worker failed: {0}")]
    Worker(String),
}

impl FolderError {
    /// Whether the storage or the network failed in a way that may be temporary, so that a node goes on and tries
    /// again.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Io { .. }
                | Self::Unreachable { .. }
                | Self::Cache(_)
                | Self::Network(_)
                | Self::Bucket(_)
                | Self::Sequence(SequenceError::Io { .. })
        )
    }
}

/// The error for an author whose entry was refused.
pub(super) fn refused_own(refused: Refused, author: PeerId) -> FolderError {
    match refused {
        Refused::TooManyKeys { limit } => FolderError::TooManyKeys { author, limit },
        Refused::TooManyAuthors { limit } => FolderError::TooManyAuthors { limit },
        Refused::OtherFederation | Refused::Excluded | Refused::Conflict(_) | Refused::NoProof => {
            FolderError::CopiedIdentity { author }
        }
    }
}
