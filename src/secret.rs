//! A federation's secret: 32 random bytes that all of its members have, the file that it lies in, and the keys that
//! follow from it.
//!
//! A file has two lines, what it is and the secret as text to paste:
//!
//! ```text
//! peerfold secret 1: whoever has this file can read and join the federation
//! eaai…
//! ```
//!
//! The secret itself encrypts nothing. Each use has a key of its own, derived with BLAKE3 from the
//! secret and a context that says what the key is for, so that no use gives anything away about another.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;

use crate::{
    durable_file,
    pasted::{self, PasteError},
    printable::printable,
    settings::{Form, Unfit, Value, Written, settings},
};
use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// How the first line begins, before the version.
const TITLE: &str = "peerfold secret ";
const VERSION: &str = "1";
/// The rest of the first line, for people.
const MEANING: &str = "whoever has this file can read and join the federation";
/// Larger than any file with a secret.
const MAX_BYTES: u64 = 4096;

settings! {
    /// What hides a federation from who isn't in it.
    pub struct SecretSettings under "Trust" {
        /// The file with the federation's secret, from `peerfold secret new`. Who doesn't have it can't connect, learns
        /// no name, and reads nothing in a bucket. Over TCP alone; the local network isn't searched.
        pub secret as "secret": Option<SecretFile> = None, "FILE";
    }
}

/// What a federation's members have and nobody else.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

/// It doesn't go into logs.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({})", self.fingerprint())
    }
}

/// What is wrong with a file that should have a secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It can't be read.
    #[error("the secret {} can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Others than its owner may read or change it.
    #[error(
        "the secret {path} is open to other users of this machine (mode {mode:03o}): run chmod 600 {path}; if one of them \
         may have read it, the federation needs a new one",
        path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Its first line doesn't say that it is a secret.
    #[error("{} is no federation's secret: `peerfold secret new FILE` makes one", path.display())]
    NotSecret {
        /// The file.
        path: PathBuf,
    },
    /// A later version of this program has made it.
    #[error("the secret {} has version {version}, of a newer peerfold than this: update this one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: String,
    },
    /// It isn't as it was written.
    #[error("the secret {} is damaged: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How.
        source: PasteError,
    },
    /// There is such a file, with something else in it.
    #[error("{} is there already and is left as it is: name another file, or move that away", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It can't be written.
    #[error("the secret {} can't be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Secret {
    /// A new one, from the system's source of randomness.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// The one with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to hand it on.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key for one purpose, which the context names, and perhaps for one thing.
    pub(crate) fn derive(&self, context: &'static str, of: &[u8]) -> [u8; 32] {
        *blake3::Hasher::new_derive_key(context).update(&self.0).update(of).finalize().as_bytes()
    }

    /// Eight digits by which people can compare secrets. They tell nothing about it.
    pub fn fingerprint(&self) -> String {
        let [a, b, c, d, ..] = self.derive("peerfold 2026 fingerprint of a secret v1", &[]);
        format!("{:08x}", u32::from_be_bytes([a, b, c, d]))
    }

    /// Reads a file. Errors if other users of the machine may read or change it.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(SecretError::Exposed { path: path.to_owned(), mode });
            }
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed)?;
        Self::parse(path, &String::from_utf8_lossy(&bytes))
    }

    fn parse(path: &Path, text: &str) -> Result<Self, SecretError> {
        let path = || path.to_owned();
        let (title, rest) = text.split_once('\n').unwrap_or((text, ""));
        let version = title.trim_end().strip_prefix(TITLE).ok_or_else(|| SecretError::NotSecret { path: path() })?;
        let version = version.split(':').next().unwrap_or_default().trim();
        if version != VERSION {
            return Err(SecretError::Newer { path: path(), version: printable(version).chars().take(20).collect() });
        }
        let content = pasted::read(rest).map_err(|source| SecretError::Damaged { path: path(), source })?;
        let bytes = content.try_into();
        bytes.map(Self).map_err(|_| SecretError::Damaged { path: path(), source: PasteError::Changed })
    }

    /// Writes a file that only its owner can read. One that is there stays as it is, and is an error unless it has this
    /// secret.
    pub fn write_new(&self, path: &Path) -> Result<(), SecretError> {
        let text = format!("{TITLE}{VERSION}: {MEANING}\n{}\n", pasted::written(&self.0));
        match durable_file::create(path, true, |file| file.write_all(text.as_bytes())) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match Self::read(path) {
                Ok(same) if same == *self => Ok(()),
                _ => Err(SecretError::Exists { path: path.to_owned() }),
            },
            Err(source) => Err(SecretError::Write { path: path.to_owned(), source }),
        }
    }
}

/// A file with a secret, as a setting names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What it has.
    pub secret: Secret,
}

impl Value for SecretFile {
    const FORM: Form = Form::Path;

    fn read(written: &Written) -> Result<Self, Unfit> {
        let path = PathBuf::from(written.to_string());
        let secret = Secret::read(&path).map_err(Unfit::new)?;
        Ok(Self { path, secret })
    }

    fn write(&self) -> Option<Written> {
        Some(Written::Text(self.path.display().to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_private_and_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ward.secret");
        let secret = Secret::generate();
        secret.write_new(&path).unwrap();
        assert_eq!(Secret::read(&path).unwrap(), secret);
        assert!(fs::read_to_string(&path).unwrap().starts_with("peerfold secret 1"));
        // The same again is no mistake; another one is.
        secret.write_new(&path).unwrap();
        let error = Secret::generate().write_new(&path).unwrap_err();
        assert!(matches!(error, SecretError::Exists { .. }), "{error}");
        assert_eq!(Secret::read(&path).unwrap(), secret);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            for open in [0o640, 0o604, 0o620] {
                mode(open);
                let error = Secret::read(&path).unwrap_err().to_string();
                assert!(error.contains("chmod 600") && error.contains(&format!("{open:o}")), "{error}");
            }
            mode(0o400);
            Secret::read(&path).unwrap();
        }
    }

    #[test]
    fn what_is_no_secret_says_what_it_is() {
        let path = Path::new("ward.secret");
        let whole = format!("{TITLE}1: x\n{}\n", pasted::written(&[9; 32]));
        assert_eq!(Secret::parse(path, &whole).unwrap(), Secret::from_bytes([9; 32]));
        for (text, part) in [
            (String::new(), "no federation's secret"),
            ("{\"a\": 1}".to_owned(), "no federation's secret"),
            (whole.replace("secret 1", "secret 2"), "newer peerfold"),
            (whole[..whole.len() - 9].to_owned(), "cut short"),
            (format!("{TITLE}1\n{}", pasted::written(&[9; 31])), "damaged"),
            (whole.replace(": x", ""), ""),
        ] {
            match Secret::parse(path, &text) {
                Ok(_) => assert_eq!(part, ""),
                Err(error) => assert!(!part.is_empty() && error.to_string().contains(part), "{text}: {error}"),
            }
        }
    }

    #[test]
    fn keys_differ_by_purpose_and_by_thing_and_nothing_shows_the_secret() {
        let secret = Secret::from_bytes([1; 32]);
        let keys = [
            secret.derive("a", &[]),
            secret.derive("b", &[]),
            secret.derive("a", b"x"),
            Secret::from_bytes([2; 32]).derive("a", &[]),
            [1; 32],
        ];
        for (n, key) in keys.iter().enumerate() {
            assert!(!keys[..n].contains(key), "{n}");
        }
        assert_eq!(format!("{secret:?}"), format!("Secret({})", secret.fingerprint()));
    }
}
