//! A file that several threads can read at any offset, whether or not it stays open.

use super::Kept;
use std::{
    fs::{File, Metadata},
    io,
    ops::Range,
    path::{Path, PathBuf},
};

/// A file that is read as often as needed, by several threads.
///
/// It stays open while there are descriptors to spare, and is then readable whatever happens to its name. With a
/// thousand files, most are reopened for each read: that reads whatever is under the name by then, and the caller has
/// to compare.
#[derive(Debug)]
pub(crate) struct SharedFile {
    path: PathBuf,
    kept: Option<(Positioned, Kept)>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

impl SharedFile {
    /// A file that was opened at this path.
    pub(crate) fn new(file: File, path: PathBuf) -> Self {
        let kept = Kept::new().map(|kept| (Positioned::new(file), kept));
        Self { path, kept }
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// These bytes, `UnexpectedEof` if the file has fewer; and what the system says of the file that they were read from,
    /// after they were.
    pub(crate) fn read(&self, range: Range<u64>) -> io::Result<(Vec<u8>, Metadata)> {
        match &self.kept {
            Some((file, _)) => file.read(range),
            None => Positioned::new(File::open(&self.path)?).read(range),
        }
    }
}

/// Reads at any place, at once.
#[cfg(unix)]
#[derive(Debug)]
struct Positioned(File);

#[cfg(unix)]
impl Positioned {
    fn new(file: File) -> Self {
        Self(file)
    }

    fn read(&self, range: Range<u64>) -> io::Result<(Vec<u8>, Metadata)> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        std::os::unix::fs::FileExt::read_exact_at(&self.0, &mut bytes, range.start)?;
        Ok((bytes, self.0.metadata()?))
    }
}

/// Reads at any place, one after the other.
#[cfg(not(unix))]
#[derive(Debug)]
struct Positioned(std::sync::Mutex<File>);

#[cfg(not(unix))]
impl Positioned {
    fn new(file: File) -> Self {
        Self(file.into())
    }

    fn read(&self, range: Range<u64>) -> io::Result<(Vec<u8>, Metadata)> {
        use std::io::{Read, Seek, SeekFrom};
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let mut file = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(range.start))?;
        file.read_exact(&mut bytes)?;
        Ok((bytes, file.metadata()?))
    }
}
