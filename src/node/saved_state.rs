//! What a checkpoint saves besides the weights, as bytes: the training program's optimizer and whatever else it needs,
//! and the strategy's memory.

use super::{
    CheckpointError, NodeError,
    blobs::{BlobError, BlobId, Blobs, Held},
};
use bytes::Bytes;
use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A state besides the weights, as bytes that only its owner understands: the training program's or the strategy's.
/// Cloning is cheap.
///
/// A large state is written once and piece by piece by [`Session::write_state`](super::Session::write_state), and stays
/// in a file from then on. A small one can be made [from bytes](From). The default has no bytes.
#[derive(Debug, Clone)]
pub struct SavedState(Place);

#[derive(Debug, Clone)]
enum Place {
    Memory(Bytes),
    File(Arc<Held>),
    /// There was no room for it in this directory.
    Unwritten(PathBuf),
}

impl Default for SavedState {
    fn default() -> Self {
        Self(Place::Memory(Bytes::new()))
    }
}

impl<T: Into<Bytes>> From<T> for SavedState {
    fn from(bytes: T) -> Self {
        Self(Place::Memory(bytes.into()))
    }
}

/// States are equal if their bytes are.
impl PartialEq for SavedState {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl SavedState {
    pub(super) fn held(held: Held) -> Self {
        Self(Place::File(Arc::new(held)))
    }

    /// A state for which there was no room on the disk: no checkpoint can be made of it.
    pub(super) fn unwritten(dir: &Path) -> Self {
        Self(Place::Unwritten(dir.to_owned()))
    }

    /// A state that a head names.
    pub(super) fn named(blobs: &Arc<Blobs>, id: BlobId) -> Self {
        if id.length == 0 { Self::default() } else { Self::held(blobs.hold(id)) }
    }

    /// Hash and length.
    pub(super) fn id(&self) -> BlobId {
        match &self.0 {
            Place::Memory(bytes) => BlobId::of(bytes),
            Place::File(held) => held.id(),
            Place::Unwritten(_) => BlobId::of(&[]),
        }
    }

    /// Stores it for a checkpoint that will name it, unless it is there already.
    pub(super) fn keep(&self, blobs: &Arc<Blobs>) -> Result<BlobId, BlobError> {
        match &self.0 {
            Place::Memory(bytes) => blobs.keep_bytes(bytes),
            Place::File(held) => held.keep(blobs),
            Place::Unwritten(dir) => Err(no_room(dir)),
        }
    }

    /// The bytes, which should be those that `head` names.
    pub(super) fn read(&self, head: &Path) -> Result<Bytes, CheckpointError> {
        match &self.0 {
            Place::Memory(bytes) => Ok(bytes.clone()),
            Place::File(held) => held.read().map_err(|error| error.of(head)),
            Place::Unwritten(dir) => Err(no_room(dir).of(head)),
        }
    }

    /// Whether it is what `head` names. Reads all of it.
    pub(super) fn verify(&self, head: &Path) -> Result<(), CheckpointError> {
        match &self.0 {
            Place::Memory(_) => Ok(()),
            Place::File(held) => held.verify().map_err(|error| error.of(head)),
            Place::Unwritten(dir) => Err(no_room(dir).of(head)),
        }
    }

    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        match &self.0 {
            Place::Memory(bytes) => bytes.len() as u64,
            Place::File(held) => held.id().length,
            Place::Unwritten(_) => 0,
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, from the first one. Blocks on the disk. Those of a checkpoint were verified when the session began.
    pub fn reader(&self) -> Result<Box<dyn Read + Send>, NodeError> {
        Ok(match &self.0 {
            Place::Memory(bytes) => Box::new(io::Cursor::new(bytes.clone())),
            Place::File(held) => Box::new(held.reader()?),
            Place::Unwritten(dir) => return Err(no_room(dir).of(dir).into()),
        })
    }
}

fn no_room(dir: &Path) -> BlobError {
    let source = io::ErrorKind::StorageFull.into();
    BlobError::Io { what: "writing the training state of", path: dir.to_owned(), source }
}
