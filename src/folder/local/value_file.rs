//! The format of a value's file: the manifest's length (4 bytes, little-endian), the manifest, then the chunks one after
//! another.

use super::{Counters, failed};
use crate::{
    descriptors::SharedFile,
    folder::{FolderError, Value, value::ChunkStore},
    weights::{Content, Entry, MAX_MANIFEST_BYTES, Manifest, Weights},
};
use bytes::Bytes;
use std::{
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
    sync::atomic::Ordering,
};

const PREFIX_BYTES: u64 = 4;

/// Writes a value and returns how many bytes that took.
pub(super) fn write(file: &mut dyn Write, manifest: &Manifest, value: &Weights) -> io::Result<u64> {
    let encoded = manifest.encode();
    let length = u32::try_from(encoded.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(&encoded)?;
    for chunk in 0..manifest.chunks().len() {
        file.write_all(&manifest.chunk_bytes(value, chunk))?;
    }
    Ok(PREFIX_BYTES + encoded.len() as u64 + manifest.layout().bytes())
}

/// Where the first chunk begins.
pub(super) fn start(manifest: &Manifest) -> u64 {
    PREFIX_BYTES + manifest.encode().len() as u64
}

/// Opens the value of an entry: manifest, root, layout and length are checked here, chunks when they are read.
pub(super) fn open(mut file: File, path: PathBuf, entry: &Entry, counters: Counters) -> Result<Value, FolderError> {
    let damaged =
        |what: String| FolderError::Damaged { key: entry.key.clone(), what: format!("{what} ({})", path.display()) };
    let io_error = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("its file is cut short".to_owned()),
        _ => failed("reading", &path)(error),
    };
    let mut prefix = [0; PREFIX_BYTES as usize];
    file.read_exact(&mut prefix).map_err(io_error)?;
    let length = u32::from_le_bytes(prefix) as usize;
    let size = file.metadata().map_err(io_error)?.len();
    if length > MAX_MANIFEST_BYTES || length as u64 > size {
        return Err(damaged(format!("its file claims a manifest of {length} bytes")));
    }
    let mut encoded = vec![0; length];
    file.read_exact(&mut encoded).map_err(io_error)?;
    if Some(Manifest::root_of(&encoded)) != entry.root() {
        return Err(damaged("its manifest doesn't have the hash that its author signed".to_owned()));
    }
    let manifest = Manifest::decode(&encoded).map_err(|error| damaged(error.to_string()))?;
    if manifest.layout().id() != entry.layout {
        return Err(damaged("its layout isn't the one that its entry names".to_owned()));
    }
    if !matches!(entry.content, Content::Put { length, .. } if length == manifest.layout().bytes()) {
        return Err(damaged("its length isn't the one that its entry names".to_owned()));
    }
    let start = PREFIX_BYTES + length as u64;
    if size != start + manifest.layout().bytes() {
        return Err(damaged(format!("its file has {size} bytes, not {}", start + manifest.layout().bytes())));
    }
    counters[1].fetch_add(start, Ordering::Relaxed);
    Ok(Value::new(manifest, FileChunks { file: SharedFile::new(file, path), start, counters }))
}

/// The chunks of a file. While the file is kept open, it stays readable even if its name is removed. If there are very
/// many values at once, most aren't kept open, and one that its author has replaced twice in the meantime is gone.
struct FileChunks {
    file: SharedFile,
    start: u64,
    counters: Counters,
}

impl ChunkStore for FileChunks {
    fn place(&self) -> String {
        self.file.path().display().to_string()
    }

    fn chunk(&self, _chunk: usize, offset: u64, length: u64) -> io::Result<Bytes> {
        let start = self.start + offset;
        let (bytes, _) = self.file.read(start..start + length)?;
        self.counters[1].fetch_add(length, Ordering::Relaxed);
        Ok(bytes.into())
    }
}
