//! Files that are whole or not there (written beside, flushed to the disk, renamed into place), and locks on files.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::Path,
    thread,
    time::Duration,
};
use tempfile::{Builder, NamedTempFile};

/// Prefix of a file's name while it is being written.
const PARTIAL: &str = ".partial-";
/// How often and how long to wait for a lock before it counts as held.
const LOOKS: u32 = 25;
const LOOK: Duration = Duration::from_millis(2);

/// Whether an error says that there is no room: on the disk, or for this user on it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Locks a file that nobody else holds. Whoever has it for a moment only is waited for: a process that checks whether it
/// is locked, or one that this process is starting, which has all its files until the other program runs. Blocks for
/// some 50 ms if somebody holds it.
pub(crate) fn lock(file: &File) -> Result<(), TryLockError> {
    for _ in 1..LOOKS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(LOOK),
            locked => return locked,
        }
    }
    file.try_lock()
}

/// Replaces the file at `path` by what `write` writes. After a crash at any moment there is either the old file or the
/// new one, and perhaps a leftover that [`remove_partial`] finds. When it returns, file and name are on the disk.
///
/// If `secret`, only the owner can read new files; otherwise whoever the process's umask allows.
pub(crate) fn replace(
    path: &Path,
    secret: bool,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let dir = parent(path)?;
    write_beside(dir, secret, write)?.persist(path).map_err(|error| error.error)?;
    sync_dir(dir)
}

/// Like [`replace`], but `AlreadyExists` if there is such a file, which is left as it is.
pub(crate) fn create(
    path: &Path,
    secret: bool,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let dir = parent(path)?;
    write_beside(dir, secret, write)?.persist_noclobber(path).map_err(|error| error.error)?;
    sync_dir(dir)
}

fn write_beside(
    dir: &Path,
    secret: bool,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<NamedTempFile> {
    let mut file = unnamed(dir, secret)?;
    let mut buffered = io::BufWriter::with_capacity(1 << 16, file.as_file_mut());
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.as_file().sync_all()?;
    Ok(file)
}

/// A file that gets its name once it is written, for names that follow from the content. Until then it is a leftover
/// that [`remove_partial`] finds.
pub(crate) fn unnamed(dir: &Path, secret: bool) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(PARTIAL);
    #[cfg(unix)]
    if !secret {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(dir)
}

/// The directory of a path; of a bare name, the current one.
fn parent(path: &Path) -> io::Result<&Path> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
}

/// Makes a directory and those above it, and flushes their names to the disk: a flushed file is lost with a directory
/// that isn't. Only its owner may enter what is made `secret`.
pub(crate) fn create_dir_all(dir: &Path, secret: bool) -> io::Result<()> {
    if dir.is_dir() || dir.as_os_str().is_empty() {
        return Ok(());
    }
    let parent = parent(dir)?;
    create_dir_all(parent, secret)?;
    #[allow(unused_mut)]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    if secret {
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    }
    match builder.create(dir) {
        Err(error) if !dir.is_dir() => return Err(error),
        _ => {}
    }
    match sync_dir(parent) {
        // Creating a name in a directory doesn't need permission to read it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Flushes a directory's names to the disk, where the system can.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match File::open(dir)?.sync_all() {
        // Some network shares have no such thing.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

/// Flushes the names in a directory, and its own, as an earlier process left them: it may have been killed before it did,
/// and then a cut of the power would take away what is built on them now.
pub(crate) fn settle(dir: &Path) -> io::Result<()> {
    sync_dir(dir)?;
    match sync_dir(parent(dir)?) {
        // As when it was made.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Removes what a crash left half-written in a directory. Only for a directory that no other process writes.
pub(crate) fn remove_partial(dir: &Path) -> io::Result<()> {
    for file in fs::read_dir(dir)? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with(PARTIAL) {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}
