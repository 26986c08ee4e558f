use super::{SafetensorsError, header::Header};
use crate::weights::{Layout, ReadError, TensorReader, checked_spec};
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
/// The file must stay as it is meanwhile. One that was shortened or written to since it was opened gives errors; one
/// that was replaced under its name, as programs do that write files whole, is still the one that was opened.
#[derive(Debug)]
pub struct SafetensorsFile {
    place: String,
    layout: Arc<Layout>,
    /// For each tensor the byte of the file at which it begins.
    starts: Vec<u64>,
    file: Positioned,
    stamp: Stamp,
}

impl SafetensorsFile {
    /// Opens a file and reads its header. The header's length and every offset are checked against the file's length
    /// before anything is allocated.
    pub fn open(path: &Path) -> Result<Self, SafetensorsError> {
        // Before it is opened: to open a pipe is to wait for its writer.
        if !fs::metadata(path).map_err(SafetensorsError::Io)?.is_file() {
            return Err(SafetensorsError::Format("it is no regular file".to_owned()));
        }
        let file = File::open(path).map_err(SafetensorsError::Io)?;
        let metadata = file.metadata().map_err(SafetensorsError::Io)?;
        let (stamp, file) = (Stamp::of(&metadata), Positioned::new(file));
        let Header { layout, starts } = Header::of(metadata.len(), |range| match file.read(range) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(SafetensorsError::Format("it became shorter while it was read".to_owned()))
            }
            read => read.map_err(SafetensorsError::Io),
        })?;
        Ok(Self { place: path.display().to_string(), layout, starts, file, stamp })
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
        let damaged = |what: &str| ReadError::Damaged { place: self.place.clone(), what: what.to_owned() };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof => damaged("it became shorter while it was read"),
            _ => ReadError::Io { place: self.place.clone(), source },
        };
        let bytes = self.file.read(start + range.start..start + range.end).map_err(failed)?;
        // Afterwards: whoever changed these bytes before they were read has left a new time by now.
        if self.file.stamp().map_err(failed)? != self.stamp {
            return Err(damaged("it was changed while it was read"));
        }
        Ok(bytes)
    }
}

/// By what a change is noticed.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    /// `None` where the system keeps none.
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { length: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// A file that several threads read at any place.
#[cfg(unix)]
#[derive(Debug)]
struct Positioned(File);

#[cfg(unix)]
impl Positioned {
    fn new(file: File) -> Self {
        Self(file)
    }

    /// These bytes; `UnexpectedEof` if the file has fewer.
    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        std::os::unix::fs::FileExt::read_exact_at(&self.0, &mut bytes, range.start)?;
        Ok(bytes.into())
    }

    fn stamp(&self) -> io::Result<Stamp> {
        Ok(Stamp::of(&self.0.metadata()?))
    }
}

/// A file that several threads read at any place, one after the other.
#[cfg(not(unix))]
#[derive(Debug)]
struct Positioned(std::sync::Mutex<File>);

#[cfg(not(unix))]
impl Positioned {
    fn new(file: File) -> Self {
        Self(file.into())
    }

    fn file(&self) -> std::sync::MutexGuard<'_, File> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// These bytes; `UnexpectedEof` if the file has fewer.
    fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        use std::io::{Read, Seek, SeekFrom};
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let mut file = self.file();
        file.seek(SeekFrom::Start(range.start))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }

    fn stamp(&self) -> io::Result<Stamp> {
        Ok(Stamp::of(&self.file().metadata()?))
    }
}
