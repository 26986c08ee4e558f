//! A safetensors file whose tensors are read from the disk when they are needed.

use super::{SafetensorsError, header::Header};
use crate::{
    descriptors::SharedFile,
    weights::{Annotations, Layout, ReadError, TensorReader, checked_spec},
};
use bytes::Bytes;
use std::{
    fs::{self, File, Metadata},
    io,
    ops::Range,
    path::Path,
    sync::Arc,
    time::SystemTime,
};

/// A safetensors file whose tensors are read from the disk, in pieces and as often as needed: only the header is in
/// memory.
///
/// The file must not change in the meantime. If it is shortened or written to after it was opened, reads fail. If it is
/// replaced under its name, as programs that write whole files do, reads still see the old file as long as there were
/// descriptors to keep it open. With a thousand files most are closed between reads, and reads then fail.
#[derive(Debug)]
pub struct SafetensorsFile {
    layout: Arc<Layout>,
    annotations: Annotations,
    /// For each tensor the byte of the file at which it begins.
    starts: Vec<u64>,
    file: SharedFile,
    stamp: Stamp,
}

impl SafetensorsFile {
    /// Opens a file and reads its header. The header's length and every offset are checked against the file's length
    /// before anything is allocated.
    pub fn open(path: &Path) -> Result<Self, SafetensorsError> {
        // Before it is opened, because opening a pipe waits for its writer.
        if !fs::metadata(path).map_err(SafetensorsError::Io)?.is_file() {
            return Err(SafetensorsError::Format("it is no regular file".to_owned()));
        }
        let file = File::open(path).map_err(SafetensorsError::Io)?;
        let metadata = file.metadata().map_err(SafetensorsError::Io)?;
        let (stamp, file) = (Stamp::of(&metadata), SharedFile::new(file, path.to_owned()));
        let Header { layout, starts, annotations } = Header::of(metadata.len(), |range| match file.read(range) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(SafetensorsError::Format("it became shorter while it was read".to_owned()))
            }
            Ok((_, read_from)) if Stamp::of(&read_from) != stamp => {
                Err(SafetensorsError::Format("it was changed while it was read".to_owned()))
            }
            read => read.map(|(bytes, _)| bytes.into()).map_err(SafetensorsError::Io),
        })?;
        Ok(Self { layout, annotations, starts, file, stamp })
    }

    /// Names, dtypes and shapes.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }
}

impl TensorReader for SafetensorsFile {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn reads_parts(&self) -> bool {
        true
    }

    fn read(&self, tensor: usize, range: Range<u64>) -> Result<Bytes, ReadError> {
        checked_spec(&self.layout, tensor, &range)?;
        let start = self.starts[tensor];
        let place = || self.file.path().display().to_string();
        let damaged = |what: &str| ReadError::Damaged { place: place(), what: what.to_owned() };
        let read = self.file.read(start + range.start..start + range.end);
        let (bytes, read_from) = read.map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => damaged("it became shorter while it was read"),
            _ => ReadError::Io { place: place(), source },
        })?;
        // Checked afterwards: anything that changed these bytes before they were read has left a new time by now.
        if Stamp::of(&read_from) != self.stamp {
            return Err(damaged("it was changed while it was read"));
        }
        Ok(bytes.into())
    }

    fn annotations(&self) -> Annotations {
        self.annotations.clone()
    }
}

/// What a change is noticed by.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    /// `None` where the system keeps none.
    modified: Option<SystemTime>,
    /// Device and inode of the file, where the system has them: a replacement has a different inode.
    file: Option<(u64, u64)>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        let file = {
            use std::os::unix::fs::MetadataExt;
            Some((metadata.dev(), metadata.ino()))
        };
        #[cfg(not(unix))]
        let file = None;
        Self { length: metadata.len(), modified: metadata.modified().ok(), file }
    }
}
