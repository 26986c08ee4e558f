//! What a hosting process and its proxy say to each other: postcard in frames over a pair of sockets.

use bytes::Bytes;
use libp2p_identity::PeerId;
use peerfold::{
    entries::Conflict,
    folder::{FolderError, Traffic},
    weights::{
        Content, Digest, Entry, EntryError, FederationId, Key, LayoutId, Metadata, ReadError, SignedEntry, TensorSpec,
        Weights,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    io::{self, Read},
    sync::Arc,
};

/// To the host. The number names the request in its answer.
#[derive(Serialize, Deserialize)]
pub struct ToHost {
    pub id: u64,
    pub request: Request,
}

#[derive(Serialize, Deserialize)]
pub enum Request {
    Put { key: String, value: Vec<(TensorSpec, Bytes)>, metadata: Metadata },
    List { prefix: String },
    Get(PlainEntry),
    Chunk { handle: u64, chunk: usize },
    Remove { key: String },
    Digest,
    Conflicts,
    Traffic,
    Readmit { author: Vec<u8> },
    Status,
    // What follows has no answer.
    Cancel { id: u64 },
    Release { handle: u64 },
}

/// From the host.
#[derive(Serialize, Deserialize)]
pub enum FromHost {
    /// The folder is open; where it listens.
    Ready(Vec<String>),
    /// The folder can't be opened.
    Failed(String),
    /// What a watch told: a signed entry.
    Told(Vec<u8>),
    /// The answer to the request of this number.
    Answer(u64, Result<Answer, Fault>),
}

#[derive(Serialize, Deserialize)]
pub enum Answer {
    Entry(Vec<u8>),
    Entries(Vec<Vec<u8>>),
    Value {
        handle: u64,
        manifest: Bytes,
        place: String,
    },
    Chunk(Bytes),
    Digest(Digest),
    Conflicts(Vec<[Vec<u8>; 2]>),
    Traffic {
        written: u64,
        read: u64,
    },
    /// As JSON, which it is for on its own socket too.
    Status(Option<String>),
    Done,
}

/// An entry without its signature, which is all that `get` is given.
#[derive(Serialize, Deserialize)]
pub struct PlainEntry {
    federation: FederationId,
    layout: LayoutId,
    key: String,
    sequence: u64,
    content: Content,
}

impl From<&Entry> for PlainEntry {
    fn from(entry: &Entry) -> Self {
        let Entry { federation, layout, key, sequence, content } = entry.clone();
        Self { federation, layout, key: key.to_string(), sequence, content }
    }
}

impl From<PlainEntry> for Entry {
    fn from(plain: PlainEntry) -> Self {
        let PlainEntry { federation, layout, key, sequence, content } = plain;
        Self { federation, layout, key: parse_key(&key), sequence, content }
    }
}

/// A [`FolderError`] that comes out as it went in, where anyone could tell the difference.
#[derive(Serialize, Deserialize)]
pub enum Fault {
    NotAuthor { key: String, signer: Vec<u8> },
    Gone { key: String, sequence: u64 },
    Unreachable { key: String, reason: String },
    Damaged { key: String, what: String },
    Metrics { key: String, what: String },
    EntryTooLong { got: usize },
    TooManyKeys { author: Vec<u8>, limit: usize },
    TooManyAuthors { limit: usize },
    CopiedIdentity { author: Vec<u8> },
    ReadDamaged { place: String, what: String },
    Other(String),
}

impl From<FolderError> for Fault {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::NotAuthor { key, signer } => {
                Self::NotAuthor { key: key.to_string(), signer: signer.to_bytes() }
            }
            FolderError::Gone { key, sequence } => Self::Gone { key: key.to_string(), sequence },
            FolderError::Unreachable { key, reason } => Self::Unreachable { key: key.to_string(), reason },
            FolderError::Damaged { key, what } => Self::Damaged { key: key.to_string(), what },
            FolderError::Entry(EntryError::Metrics { key, what }) => Self::Metrics { key: key.to_string(), what },
            FolderError::Entry(EntryError::TooLong { got }) => Self::EntryTooLong { got },
            FolderError::TooManyKeys { author, limit } => Self::TooManyKeys { author: author.to_bytes(), limit },
            FolderError::TooManyAuthors { limit } => Self::TooManyAuthors { limit },
            FolderError::CopiedIdentity { author } => Self::CopiedIdentity { author: author.to_bytes() },
            FolderError::Read(error) => error.into(),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged { place, what } => Self::ReadDamaged { place, what },
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<Fault> for FolderError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NotAuthor { key, signer } => Self::NotAuthor { key: parse_key(&key), signer: parse_peer(&signer) },
            Fault::Gone { key, sequence } => Self::Gone { key: parse_key(&key), sequence },
            Fault::Unreachable { key, reason } => Self::Unreachable { key: parse_key(&key), reason },
            Fault::Damaged { key, what } => Self::Damaged { key: parse_key(&key), what },
            Fault::Metrics { key, what } => EntryError::Metrics { key: parse_key(&key), what }.into(),
            Fault::EntryTooLong { got } => EntryError::TooLong { got }.into(),
            Fault::TooManyKeys { author, limit } => Self::TooManyKeys { author: parse_peer(&author), limit },
            Fault::TooManyAuthors { limit } => Self::TooManyAuthors { limit },
            Fault::CopiedIdentity { author } => Self::CopiedIdentity { author: parse_peer(&author) },
            Fault::ReadDamaged { place, what } => ReadError::Damaged { place, what }.into(),
            Fault::Other(what) => Self::Worker(what),
        }
    }
}

impl Answer {
    pub fn of_traffic(traffic: Traffic) -> Self {
        Self::Traffic { written: traffic.written, read: traffic.read }
    }

    pub fn of_conflicts(conflicts: &[Conflict]) -> Self {
        let proof = |conflict: &Conflict| conflict.entries.each_ref().map(|entry| entry.bytes().to_vec());
        Self::Conflicts(conflicts.iter().map(proof).collect())
    }
}

pub fn conflict(proof: &[Vec<u8>; 2]) -> Conflict {
    Conflict { entries: proof.each_ref().map(|bytes| Arc::new(parse_entry(bytes))) }
}

pub fn parse_entry(bytes: &[u8]) -> SignedEntry {
    SignedEntry::decode(bytes).expect("the other process is of the same program")
}

pub fn parse_key(text: &str) -> Key {
    text.parse().expect("the other process is of the same program")
}

pub fn parse_peer(bytes: &[u8]) -> PeerId {
    PeerId::from_bytes(bytes).expect("the other process is of the same program")
}

pub fn tensors_of(value: &Weights) -> Vec<(TensorSpec, Bytes)> {
    value.tensors().map(|(spec, bytes)| (spec.clone(), bytes.clone())).collect()
}

/// A message with its length before it.
pub fn frame(message: &impl Serialize) -> Vec<u8> {
    let message = postcard::to_stdvec(message).unwrap();
    [&(message.len() as u64).to_le_bytes()[..], &message].concat()
}

/// The next message; `None` at the end of the stream, also in the middle of a frame.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> Option<T> {
    let read = || -> io::Result<Vec<u8>> {
        let mut length = [0; 8];
        from.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length) as usize;
        let mut bytes = Vec::with_capacity(length);
        if from.take(length as u64).read_to_end(&mut bytes)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    };
    let bytes = { read }().ok()?;
    Some(postcard::from_bytes(&bytes).expect("the other process is of the same program"))
}
