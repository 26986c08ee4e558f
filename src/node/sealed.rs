//! Heads: small files in a run's directory that name [blobs](super::blobs), and are whole or known not to be. Magic and
//! version, the hash of the rest, the rest.

use super::CheckpointError;
use crate::{durable_file, weights::MAX_MANIFEST_BYTES};
use bytes::Bytes;
use std::{
    fs,
    io::{self, Read},
    path::Path,
};

pub(super) const HASH_BYTES: usize = 32;
/// Most bytes in a head: a manifest of maximum length, and as much again for members and everything else.
const MAX_BYTES: u64 = 2 * MAX_MANIFEST_BYTES as u64;

/// Replaces the file. A crash leaves the old one or the new one. Blocks on the disk.
pub(super) fn write(path: &Path, magic: &[u8; 8], body: &[u8]) -> Result<(), CheckpointError> {
    fail::fail_point!("checkpoint::write-head", |_| {
        let source = io::ErrorKind::StorageFull.into();
        Err(CheckpointError::Io { what: "writing", path: path.to_owned(), source })
    });
    durable_file::replace(path, true, |file| {
        file.write_all(magic)?;
        file.write_all(blake3::hash(body).as_bytes())?;
        file.write_all(body)
    })
    .map_err(|source| CheckpointError::Io { what: "writing", path: path.to_owned(), source })
}

/// A file's bytes as they are, no more than one above the most that a head can have: an earlier version's file had the
/// weights in it. Blocks on the disk.
pub(super) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What [`write`] wrote, if there is such a file. Blocks on the disk.
pub(super) fn read(path: &Path, magic: &[u8; 8]) -> Result<Option<Bytes>, CheckpointError> {
    let io_error = |source| CheckpointError::Io { what: "reading", path: path.to_owned(), source };
    let bytes = match bytes(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(io_error)?,
    };
    opened(path, magic, bytes).map(Some)
}

/// The body of a file with these bytes, which is as it was written.
pub(super) fn opened(path: &Path, magic: &[u8; 8], bytes: Vec<u8>) -> Result<Bytes, CheckpointError> {
    let damaged = |what: &str| CheckpointError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let (kind, version) = magic.split_at(magic.len() - 1);
    if let Some([found]) = bytes.get(..magic.len()).and_then(|found| found.strip_prefix(kind))
        && [*found] != version
    {
        return Err(CheckpointError::Version { path: path.to_owned(), found: *found, known: version[0] });
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(damaged("it is longer than any"));
    }
    let rest = bytes.strip_prefix(magic).ok_or_else(|| damaged("it doesn't begin as one of this version"))?;
    let (hash, body) = rest.split_at_checked(HASH_BYTES).ok_or_else(|| damaged("it is cut short"))?;
    if blake3::hash(body).as_bytes() != hash {
        return Err(damaged("its hash is wrong"));
    }
    Ok(Bytes::from(bytes).slice(magic.len() + HASH_BYTES..))
}
