//! Checks that a file can be written before there is anything to write.

use super::settings::{SettingsError, wrong};
use std::path::Path;

/// Reports at the beginning that a file could not be written at the end.
pub(super) fn check_writable(key: &'static str, path: &Path) -> Result<(), SettingsError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let writable = tempfile::tempfile_in(dir);
    writable.map_err(|error| wrong(key, path.display(), format!("{} can't be written: {error}", dir.display())))?;
    // The result will be renamed over it, which must not replace a device or a directory.
    if path.exists() && !path.is_file() {
        return Err(wrong(key, path.display(), "is there and is no regular file; name another one"));
    }
    Ok(())
}
