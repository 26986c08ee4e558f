//! The directory in which a command keeps what training needs besides the weights: copied for each attempt, and kept in the
//! checkpoint as a tar archive.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
};

/// Why a command's state can't be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system can't read or write it.
    #[error("can't be used: {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// There is something in it that is neither a file nor a directory.
    #[error("has {}, which is neither a file nor a directory, so that it can't be kept", path.display())]
    NeitherFileNorDirectory {
        /// Where.
        path: PathBuf,
    },
    /// What the checkpoint has isn't a state.
    #[error("can't be restored from the checkpoint: {0}")]
    NoState(String),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Io { path, source }
}

/// A command's state after the last epoch that counts.
pub(super) struct State {
    dir: PathBuf,
}

impl State {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Begins with an empty one.
    pub(super) fn clear(&self) -> Result<(), StateError> {
        remove(&self.dir)?;
        fs::create_dir_all(&self.dir).map_err(io_error(&self.dir))
    }

    /// Makes a copy to work on.
    pub(super) fn copy_to(&self, copy: &Path) -> Result<(), StateError> {
        fs::create_dir_all(copy).map_err(io_error(copy))?;
        for found in contents(&self.dir)? {
            let (from, to) = (self.dir.join(&found.path), copy.join(&found.path));
            match found.is_dir {
                true => fs::create_dir(&to).map_err(io_error(&to))?,
                false => _ = fs::copy(&from, &to).map_err(io_error(&from))?,
            }
        }
        Ok(())
    }

    /// Takes a copy that was worked on in the place of this one. If it is cut short, the checkpoint's is restored.
    pub(super) fn take_from(&self, copy: &Path) -> Result<(), StateError> {
        // Nothing that can't be saved.
        contents(copy)?;
        remove(&self.dir)?;
        fs::rename(copy, &self.dir).map_err(io_error(&self.dir))
    }

    /// Writes all of it. Equal states are written as equal bytes, whoever owns the files and whenever they were written.
    pub(super) fn save(&self, out: &mut dyn Write) -> Result<(), StateError> {
        let mut archive = tar::Builder::new(out);
        archive.mode(tar::HeaderMode::Deterministic);
        for found in contents(&self.dir)? {
            let path = self.dir.join(&found.path);
            let appended = match found.is_dir {
                true => archive.append_dir(&found.path, &path),
                false => File::open(&path).and_then(|mut file| archive.append_file(&found.path, &mut file)),
            };
            appended.map_err(io_error(&path))?;
        }
        archive.finish().map_err(io_error(&self.dir))
    }

    /// Makes it what was [saved](Self::save): files and directories inside of its own, and nothing else. On an error it stays
    /// as it is.
    pub(super) fn restore(&self, from: &mut dyn Read) -> Result<(), StateError> {
        let wrong = |what: &dyn std::fmt::Display| StateError::NoState(what.to_string());
        let parent = self.dir.parent().unwrap_or(&self.dir);
        fs::create_dir_all(parent).map_err(io_error(parent))?;
        let restored = tempfile::tempdir_in(parent).map_err(io_error(parent))?;
        let mut archive = tar::Archive::new(from);
        for entry in archive.entries().map_err(|error| wrong(&error))? {
            let mut entry = entry.map_err(|error| wrong(&error))?;
            let path = entry.path().map_err(|error| wrong(&error))?.into_owned();
            let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
            let kind = entry.header().entry_type();
            if !is_inside || !(kind.is_file() || kind.is_dir()) {
                return Err(wrong(&format!("{} is no file of a state", path.display())));
            }
            entry.unpack(restored.path().join(&path)).map_err(|error| wrong(&error))?;
        }
        remove(&self.dir)?;
        fs::rename(restored.keep(), &self.dir).map_err(io_error(&self.dir))
    }
}

/// A file or directory of a state.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    path: PathBuf,
    is_dir: bool,
}

/// All that is in a directory, in the order of the paths, so that a directory comes before what it has.
fn contents(dir: &Path) -> Result<Vec<Found>, StateError> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(inside) = open.pop() {
        let path = dir.join(&inside);
        for entry in fs::read_dir(&path).map_err(io_error(&path))? {
            let entry = entry.map_err(io_error(&path))?;
            let kind = entry.file_type().map_err(io_error(&entry.path()))?;
            let path = inside.join(entry.file_name());
            if kind.is_dir() {
                open.push(path.clone());
            } else if !kind.is_file() {
                return Err(StateError::NeitherFileNorDirectory { path });
            }
            found.push(Found { path, is_dir: kind.is_dir() });
        }
    }
    found.sort();
    Ok(found)
}

fn remove(dir: &Path) -> Result<(), StateError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(dir)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn saved(state: &State) -> Vec<u8> {
        let mut bytes = Vec::new();
        state.save(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_saved_is_restored_and_equal_states_have_equal_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| State::new(dir.path().join(name)));
        one.clear().unwrap();
        let long = "n".repeat(200);
        for (path, bytes) in [("moments", &[1u8, 2, 3][..]), ("a/b/step", b"7"), (&long, b"")] {
            let path = one.dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let bytes = saved(&one);
        other.clear().unwrap();
        fs::write(other.dir.join("old"), "gone").unwrap();
        other.restore(&mut &bytes[..]).unwrap();
        assert_eq!(contents(&one.dir).unwrap(), contents(&other.dir).unwrap());
        assert_eq!(fs::read(other.dir.join("a/b/step")).unwrap(), b"7");
        assert_eq!(saved(&other), bytes);
        // A copy that is given up changes nothing; one that is taken does.
        let copy = dir.path().join("copy");
        other.copy_to(&copy).unwrap();
        fs::write(copy.join("moments"), [9]).unwrap();
        assert_eq!(saved(&other), bytes);
        other.take_from(&copy).unwrap();
        assert_eq!(fs::read(other.dir.join("moments")).unwrap(), [9]);
    }

    #[test]
    fn nothing_but_files_and_directories_inside_is_kept_or_restored() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path().join("state"));
        state.clear().unwrap();
        fs::write(state.dir.join("kept"), "1").unwrap();
        let good = saved(&state);
        let copy = dir.path().join("copy");
        state.copy_to(&copy).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", copy.join("link")).unwrap();
        assert!(
            matches!(state.take_from(&copy), Err(StateError::NeitherFileNorDirectory { path }) if path == Path::new("link"))
        );
        let mut outside = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.as_gnu_mut().unwrap().name[..10].copy_from_slice(b"../outside");
        header.set_cksum();
        outside.append(&header, &b"x"[..]).unwrap();
        let outside = outside.into_inner().unwrap();
        for wrong in [&outside[..], &good[..700], b"no archive at all, and far too short"] {
            if state.restore(&mut &wrong[..]).is_ok() {
                panic!("{} bytes are a state", wrong.len());
            }
            assert_eq!(saved(&state), good);
        }
        assert!(!dir.path().join("outside").exists());
    }
}
