//! A node's own directory: its identity, its sequence numbers, and the lock that keeps two processes from using both.
//!
//! | file | what |
//! | --- | --- |
//! | `identity.key` | the ed25519 key, mode 0600: whoever has it can sign as this node |
//! | `sequence` | numbers up to this one may have been used |
//! | `lock` | locked while a node runs; holds its process id |
//! | `network.sock` | where a node on the network says how it stands |
//! | `runs/<federation id>/` | checkpoints, one directory a federation, whose name and run `federation.json` says; in `members` the newest list that its administrator has signed |

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod sequence;

pub use sequence::{SequenceError, Sequences};

use crate::{durable_file, weights::FederationId};
use libp2p_identity::{Keypair, PeerId};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

const IDENTITY: &str = "identity.key";
const LOCK: &str = "lock";
const RUNS: &str = "runs";
/// File in a run's directory with its name, which can't be told from its id.
const NAME: &str = "federation.json";
/// Larger than any file with a federation's name.
const MAX_NAME_BYTES: u64 = 64 << 10;
/// Larger than the encoding of any key.
const MAX_IDENTITY_BYTES: u64 = 1024;

/// What can be wrong with a home.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Another process runs on it.
    #[error("the home {} is in use by another process{holder}; stop it, or give this node another --home", dir.display())]
    InUse {
        /// The home.
        dir: PathBuf,
        /// ` (process N)`, where known.
        holder: String,
    },
    /// A file can't be read or written.
    #[error("{what} {} failed: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The key file isn't one.
    #[error(
        "{} is not an ed25519 key; restore it from a backup, or remove it and become a new node",
        path.display()
    )]
    Identity {
        /// The file.
        path: PathBuf,
    },
    /// There is no home, and only an existing one will do.
    #[error("there is no home {}: no node has run there; is --home what you meant?", dir.display())]
    Missing {
        /// Where it should be.
        dir: PathBuf,
    },
    /// The sequence file isn't one.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
}

/// What a home keeps of one federation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The federation's id, as the directory is called.
    pub id: String,
    /// Name and run label, unless an older version made it.
    pub name: Option<(String, String)>,
    /// Where checkpoint and cache lie.
    pub dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct RunName {
    federation: String,
    run: String,
}

/// A home in use by this process. The lock is released with the value, or with the process.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    keypair: Keypair,
    sequences: Arc<Sequences>,
    _lock: File,
}

impl Home {
    /// Opens a home, creating it with a new identity if it doesn't exist. Errors if another process has it open.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, HomeError> {
        let dir = dir.into();
        create_private_dir(&dir)?;
        let lock = lock(&dir)?;
        durable_file::remove_partial(&dir).map_err(failed("cleaning", &dir))?;
        durable_file::settle(&dir).map_err(failed("flushing", &dir))?;
        let keypair = load_or_create_identity(&dir)?;
        let sequences = Arc::new(Sequences::open(dir.join("sequence"))?);
        Ok(Self { dir, keypair, sequences, _lock: lock })
    }

    /// Opens an existing home. If there is none, errors and creates nothing.
    pub fn open_existing(dir: impl Into<PathBuf>) -> Result<Self, HomeError> {
        let dir = dir.into();
        Self::check_exists(&dir)?;
        Self::open(dir)
    }

    /// Errors if there is no home in `dir`. Makes nothing.
    pub fn check_exists(dir: &Path) -> Result<(), HomeError> {
        let exists = dir.join(IDENTITY).exists();
        if exists { Ok(()) } else { Err(HomeError::Missing { dir: dir.to_owned() }) }
    }

    /// What the home in `dir` keeps of federations, in order of their ids. Needs no lock, so it works while a node runs.
    pub fn runs(dir: &Path) -> Result<Vec<Run>, HomeError> {
        Self::check_exists(dir)?;
        let runs_dir = dir.join(RUNS);
        let listed = match fs::read_dir(&runs_dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(failed("listing", &runs_dir))?,
        };
        let mut runs = Vec::new();
        for run in listed {
            let dir = run.map_err(failed("listing", &runs_dir))?.path();
            let Some(id) = dir.file_name().and_then(|id| id.to_str()).map(str::to_owned) else { continue };
            runs.push(Run { id, name: name_of_run(&dir), dir });
        }
        runs.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        Ok(runs)
    }

    /// The peer id of the home in `dir`, which is made with a new identity if there is none. Needs no lock, so it works
    /// while a node runs.
    pub fn peer_id(dir: &Path) -> Result<PeerId, HomeError> {
        create_private_dir(dir)?;
        Ok(load_or_create_identity(dir)?.public().to_peer_id())
    }

    /// The peer id of the home in `dir`, if there is one already. Makes nothing.
    pub fn existing_peer_id(dir: &Path) -> Result<Option<PeerId>, HomeError> {
        match dir.join(IDENTITY).exists() {
            true => Self::peer_id(dir).map(Some),
            false => Ok(None),
        }
    }

    /// Blocks until no process has the home in `dir` open, and keeps others from opening it as long as the returned
    /// file is open. Errors if there is no such directory.
    pub fn wait_until_free(dir: &Path) -> io::Result<File> {
        let file = File::options().write(true).create(true).truncate(false).open(dir.join(LOCK))?;
        file.lock()?;
        Ok(file)
    }

    /// Whether a process has the home in `dir` open.
    pub fn is_in_use(dir: &Path) -> bool {
        let lock = File::open(dir.join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The key that this home's node signs with.
    pub fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    /// The node's sequence numbers.
    pub fn sequences(&self) -> &Arc<Sequences> {
        &self.sequences
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the home in `dir` keeps what belongs to one federation, whether or not it is there. Needs no lock.
    pub fn run_path(dir: &Path, federation: &FederationId) -> PathBuf {
        dir.join(RUNS).join(federation.to_string())
    }

    /// The directory for one federation, created if needed.
    pub fn run_dir(&self, federation: &FederationId) -> Result<PathBuf, HomeError> {
        let dir = Self::run_path(&self.dir, federation);
        create_private_dir(&dir)?;
        durable_file::settle(&dir).map_err(failed("flushing", &dir))?;
        Ok(dir)
    }

    /// Like [`run_dir`](Self::run_dir), and records there the names of the federation and its run.
    pub fn name_run(&self, federation: &str, run: &str) -> Result<PathBuf, HomeError> {
        let dir = self.run_dir(&FederationId::new(federation, run))?;
        let path = dir.join(NAME);
        let known = name_of_run(&dir).is_some_and(|(name, label)| name == federation && label == run);
        if !known {
            let name = RunName { federation: federation.to_owned(), run: run.to_owned() };
            let written = serde_json::to_vec(&name).map_err(io::Error::other);
            let written = written.and_then(|name| durable_file::replace(&path, true, |file| file.write_all(&name)));
            written.map_err(failed("writing", &path))?;
        }
        Ok(dir)
    }
}

/// The name of a run, if it was recorded.
fn name_of_run(dir: &Path) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    File::open(dir.join(NAME)).ok()?.take(MAX_NAME_BYTES).read_to_end(&mut bytes).ok()?;
    run_name_of(&bytes).map(|RunName { federation, run }| (federation, run))
}

fn run_name_of(bytes: &[u8]) -> Option<RunName> {
    serde_json::from_slice(bytes).ok()
}

/// The key in a file with these bytes.
fn identity_of(bytes: &[u8]) -> Option<Keypair> {
    let keypair = Keypair::from_protobuf_encoding(bytes).ok();
    keypair.filter(|keypair| keypair.clone().try_into_ed25519().is_ok())
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> HomeError + 'a {
    move |source| HomeError::Io { what, path: path.to_owned(), source }
}

fn create_private_dir(dir: &Path) -> Result<(), HomeError> {
    durable_file::create_dir_all(dir, true).map_err(failed("creating", dir))
}

fn lock(dir: &Path) -> Result<File, HomeError> {
    let path = dir.join(LOCK);
    let mut options = File::options();
    let opened = options.read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(failed("opening", &path))?;
    match durable_file::lock(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let read = file.take(20).read_to_string(&mut pid);
            let known = read.is_ok() && !pid.is_empty();
            let holder = if known { format!(" (process {})", pid.trim()) } else { String::new() };
            return Err(HomeError::InUse { dir: dir.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(failed("locking", &path)(error)),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(failed("writing", &path))?;
    Ok(file)
}

fn load_or_create_identity(dir: &Path) -> Result<Keypair, HomeError> {
    let path = dir.join(IDENTITY);
    match File::open(&path) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(MAX_IDENTITY_BYTES).read_to_end(&mut bytes).map_err(failed("reading", &path))?;
            identity_of(&bytes).ok_or(HomeError::Identity { path })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keypair = Keypair::generate_ed25519();
            let bytes = keypair.to_protobuf_encoding().map_err(|_| HomeError::Identity { path: path.clone() })?;
            match durable_file::create(&path, true, |file| file.write_all(&bytes)) {
                Ok(()) => Ok(keypair),
                // Another process was faster, because `Home::peer_id` takes no lock.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load_or_create_identity(dir),
                Err(error) => Err(failed("writing", &path)(error)),
            }
        }
        Err(error) => Err(failed("reading", &path)(error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn identity_stays_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = Home::peer_id(dir.path()).unwrap();
        let home = Home::open(dir.path()).unwrap();
        assert_eq!(home.keypair().public().to_peer_id(), first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(dir.path().join(IDENTITY)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_home_is_used_once_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let error = Home::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
        assert!(Home::is_in_use(dir.path()));
        drop(home);
        assert!(!Home::is_in_use(dir.path()));
        Home::open(dir.path()).unwrap();
    }

    #[test]
    fn a_damaged_key_is_an_error_and_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(IDENTITY), b"rubbish").unwrap();
        let error = Home::open(dir.path()).unwrap_err();
        assert!(matches!(error, HomeError::Identity { .. }), "{error}");
        assert_eq!(fs::read(dir.path().join(IDENTITY)).unwrap(), b"rubbish");
    }
}
