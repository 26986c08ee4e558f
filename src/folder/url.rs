//! The URL of a shared folder, and how a folder is opened from it.

use super::{
    Author, FolderError, LocalFolder, MemoryFolder, MemoryStorage, SharedFolder,
    cached::{CachedFolder, CachedOptions},
};
use crate::{
    bucket::{BucketOptions, BucketUrl, BucketUrlError, url_parts},
    p2p::NetworkOptions,
    settings::{Form, Unfit, Value, Written},
};
use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};
use url::Url;

/// How the URL of a directory begins.
const FILE: &str = "file:///";

/// Why a text doesn't name a folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FolderUrlError {
    /// Not a URL at all.
    #[error("{text:?} is not a folder's URL; write p2p:, s3://bucket/prefix, file:///absolute/directory, or memory:")]
    NotUrl {
        /// The text.
        text: String,
    },
    /// A URL of another kind.
    #[error(
        "{text:?} names a kind of folder that this version doesn't have; it has p2p:, s3://bucket/prefix, \
         file:///absolute/directory and memory:"
    )]
    Scheme {
        /// The text.
        text: String,
    },
    /// Something after `p2p:`.
    #[error("{text:?} is no folder's URL; the network is p2p: alone, and --bootstrap says where to find others")]
    Network {
        /// The text.
        text: String,
    },
    /// A `file:` URL that isn't an absolute directory on this machine.
    #[error("{text:?} doesn't name a directory of this machine; three slashes begin an absolute path: file:///dir")]
    Path {
        /// The text.
        text: String,
    },
    /// A `file:` URL that a URL parser would normalise into a different directory.
    #[error("{text:?} names no directory: {reason}, as in file:///dir")]
    Part {
        /// The text.
        text: String,
        /// What can't be in it.
        reason: &'static str,
    },
    /// Something after `memory:`.
    #[error("{text:?} is no folder's URL; what only this process has is memory: alone")]
    Memory {
        /// The text.
        text: String,
    },
    /// An `s3:` URL that names no bucket.
    #[error(transparent)]
    Bucket(#[from] BucketUrlError),
}

/// The URL of a shared folder, as `--folder` takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderUrl {
    /// `memory:`: this process alone.
    Memory,
    /// `file:///dir`: a directory.
    Local(PathBuf),
    /// `p2p:`: the federation's own network.
    P2p,
    /// `s3://bucket/prefix`: a bucket.
    Bucket(BucketUrl),
}

impl FolderUrl {
    /// Opens the author's view of the folder; what it doesn't need of the options is left aside. Blocks on a disk, and
    /// until the network listens.
    pub fn open(&self, author: Author, options: CachedOptions) -> Result<Arc<dyn SharedFolder>, FolderError> {
        Ok(match self {
            Self::Memory => Arc::new(MemoryFolder::new(&MemoryStorage::new(), author)),
            Self::Local(dir) => {
                let folder = LocalFolder::open(dir, author)?;
                options.readmitted.iter().try_for_each(|&author| folder.readmit(author))?;
                Arc::new(folder)
            }
            Self::P2p | Self::Bucket(_) => Arc::new(CachedFolder::open(author, options)?),
        })
    }

    /// Opens a view for a reader, which leaves a directory unchanged. Blocks like [`open`](Self::open).
    pub fn open_to_read(&self, author: Author, options: CachedOptions) -> Result<Arc<dyn SharedFolder>, FolderError> {
        match self {
            Self::Local(dir) => {
                let folder = LocalFolder::open_to_read(dir, author)?;
                options.readmitted.iter().try_for_each(|&author| folder.readmit(author))?;
                Ok(Arc::new(folder))
            }
            _ => self.open(author, options),
        }
    }

    /// The folder's routes to others: the network, with the fallback behind it if there is one, or the bucket alone.
    pub fn ways(&self, network: NetworkOptions, bucket: BucketOptions) -> Ways {
        match self {
            Self::Memory | Self::Local(_) => (None, None),
            Self::P2p => (Some(network), bucket.settings.fallback.clone().map(|url| (url, bucket))),
            Self::Bucket(url) => (None, Some((url.clone(), bucket))),
        }
    }
}

/// How to take part in a network, and which bucket to use how.
pub type Ways = (Option<NetworkOptions>, Option<(BucketUrl, BucketOptions)>);

impl Value for FolderUrl {
    const FORM: Form = Form::Text;

    /// If the text is a path, the error suggests the URL.
    fn read(written: &Written) -> Result<Self, Unfit> {
        let text = written.to_string();
        text.parse().map_err(|error: FolderUrlError| {
            let path = match &error {
                FolderUrlError::NotUrl { .. } => Some(text.clone()),
                // One of the two slashes was meant to begin the path.
                FolderUrlError::Path { .. } => text.strip_prefix("file://").map(|path| format!("/{path}")),
                _ => None,
            };
            let path = path.or_else(|| text.strip_prefix("file:").map(str::to_owned)).filter(|path| !path.is_empty());
            let meant = path.and_then(|path| std::path::absolute(path).ok()).map(Self::Local);
            let meant = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
            Unfit::new(format!("{error}{meant}"))
        })
    }

    fn write(&self) -> Option<Written> {
        Some(Written::Text(self.to_string()))
    }
}

impl FromStr for FolderUrl {
    type Err = FolderUrlError;

    fn from_str(text: &str) -> Result<Self, FolderUrlError> {
        let url = Url::parse(text).map_err(|_| FolderUrlError::NotUrl { text: text.to_owned() })?;
        match url.scheme() {
            "memory" if text.eq_ignore_ascii_case("memory:") => Ok(Self::Memory),
            "memory" => Err(FolderUrlError::Memory { text: text.to_owned() }),
            "p2p" if text.eq_ignore_ascii_case("p2p:") => Ok(Self::P2p),
            "s3" => Ok(Self::Bucket(text.parse()?)),
            "p2p" => Err(FolderUrlError::Network { text: text.to_owned() }),
            "file" => local(text),
            _ => Err(FolderUrlError::Scheme { text: text.to_owned() }),
        }
    }
}

/// The directory of a `file:` URL: what is written, or an error. `file:dir` and `file://dir` would be other directories
/// than the ones meant.
fn local(text: &str) -> Result<FolderUrl, FolderUrlError> {
    let not_a_directory = || FolderUrlError::Path { text: text.to_owned() };
    let start = text.get(..FILE.len()).filter(|start| start.eq_ignore_ascii_case(FILE)).ok_or_else(not_a_directory)?;
    let parts = url_parts(&text[start.len()..]);
    let mut parts = parts.map_err(|reason| FolderUrlError::Part { text: text.to_owned(), reason })?;
    // The trailing slash of a directory.
    while parts.last().is_some_and(String::is_empty) {
        parts.pop();
    }
    if cfg!(windows) {
        // Drives are its own.
        let url = Url::parse(text).map_err(|_| not_a_directory())?;
        return url.to_file_path().map(FolderUrl::Local).map_err(|()| not_a_directory());
    }
    Ok(FolderUrl::Local(format!("/{}", parts.join("/")).into()))
}

impl fmt::Display for FolderUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::P2p => f.write_str("p2p:"),
            Self::Bucket(url) => url.fmt(f),
            Self::Local(dir) => match Url::from_directory_path(dir) {
                // The root keeps its slash.
                Ok(url) => {
                    f.write_str(url.as_str().strip_suffix('/').filter(|url| url.len() > FILE.len()).unwrap_or(FILE))
                }
                Err(()) => write!(f, "file://{}", dir.display()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_are_read_and_shown() {
        assert_eq!("memory:".parse(), Ok(FolderUrl::Memory));
        assert_eq!("p2p:".parse(), Ok(FolderUrl::P2p));
        assert_eq!(FolderUrl::P2p.to_string(), "p2p:");
        for (text, path) in [
            ("file:///a/b", "/a/b"),
            ("FILE:///a%20b/", "/a b"),
            ("file:///a b", "/a b"),
            ("file:///run%231", "/run#1"),
            ("file:///run%3F2", "/run?2"),
            ("file:///100%25/a\\b", "/100%/a\\b"),
            ("file:///c|/..x", "/c|/..x"),
            ("file:///", "/"),
        ] {
            let url: FolderUrl = text.parse().unwrap();
            assert_eq!(url, FolderUrl::Local(path.into()), "{text}");
            let again: FolderUrl = url.to_string().parse().unwrap();
            assert_eq!(again, url, "{text}");
        }
    }

    #[test]
    fn what_would_become_another_directory_is_an_error() {
        for (text, part) in [
            ("file:///x/run#1", "%23"),
            ("file:///x/run?2", "%3F"),
            ("file:///x/../y", ".."),
            ("file:///x/./y", ".."),
            ("file:///x/%2e%2e/y", ".."),
            ("file:///x%2Fy", "slash"),
            ("file:///100%", "%25"),
            ("file:///x%00", "control"),
            ("file:///x\ty", "control"),
            ("memory:run", "memory: alone"),
            ("memory:?x", "memory: alone"),
        ] {
            let error = text.parse::<FolderUrl>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn buckets_are_folders() {
        let url: FolderUrl = "s3://weights/ward 7/".parse().unwrap();
        assert!(matches!(&url, FolderUrl::Bucket(bucket) if bucket.bucket() == "weights"));
        assert_eq!(url.to_string(), "s3://weights/ward 7");
        assert!("s3://".parse::<FolderUrl>().unwrap_err().to_string().contains("s3://BUCKET"));
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for text in ["", "./dir", "/dir", "file://dir", "file:dir", "file:", "https://x"] {
            let error = text.parse::<FolderUrl>().unwrap_err().to_string();
            assert!(error.contains("file:///"), "{text}: {error}");
        }
        for text in ["p2p://192.0.2.1:4600", "p2p:/ip4/192.0.2.1", "p2p:?x"] {
            let error = text.parse::<FolderUrl>().unwrap_err().to_string();
            assert!(error.contains("--bootstrap"), "{text}: {error}");
        }
    }
}
