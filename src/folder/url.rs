use super::{
    Author, FolderError, LocalFolder, MemoryFolder, MemoryStorage, SharedFolder,
    cached::{CachedFolder, CachedOptions},
};
use crate::{
    bucket::{BucketOptions, BucketUrl, BucketUrlError},
    p2p::NetworkOptions,
    weights::LayoutId,
};
use libp2p_identity::PeerId;
use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};
use url::Url;

/// The cache in what belongs to a federation in the node's home.
const CACHE: &str = "cache";

/// Why a text names no folder.
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
    /// A `file:` URL that isn't an absolute directory of this machine.
    #[error("{text:?} doesn't name a directory of this machine; three slashes begin an absolute path: file:///dir")]
    Path {
        /// The text.
        text: String,
    },
    /// An `s3:` URL that names no bucket.
    #[error(transparent)]
    Bucket(#[from] BucketUrlError),
}

/// Which shared folder: what `--folder` takes.
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

/// What a folder is opened with, beside its author.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Authors to be trusted although they signed two entries under one number.
    pub readmitted: Vec<PeerId>,
    /// How to take part in the network.
    pub network: NetworkOptions,
    /// How to use a bucket.
    pub bucket: BucketOptions,
    /// A bucket behind the network.
    pub fallback: Option<BucketUrl>,
    /// Bytes that the cache of a network or a bucket may take before it drops what it needn't keep.
    pub cache_quota: u64,
    /// What belongs to this federation in the node's home: the cache lies in it.
    pub dir: PathBuf,
    /// Where `peerfold peers` asks how the network stands; nowhere if `None`.
    pub socket: Option<PathBuf>,
    /// The layout of the node's weights: newest updates that have it are fetched as soon as they are known.
    pub layout: Option<LayoutId>,
}

impl FolderUrl {
    /// Opens the author's view of the folder. Blocks on a disk, and until the network listens.
    pub fn open(&self, author: Author, options: &OpenOptions) -> Result<Arc<dyn SharedFolder>, FolderError> {
        Ok(match self {
            Self::Memory => Arc::new(MemoryFolder::new(&MemoryStorage::new(), author)),
            Self::Local(dir) => {
                let folder = LocalFolder::open(dir, author)?;
                options.readmitted.iter().try_for_each(|&author| folder.readmit(author))?;
                Arc::new(folder)
            }
            Self::P2p | Self::Bucket(_) => {
                let OpenOptions { readmitted, network, bucket, fallback, cache_quota, dir, socket, layout } =
                    options.clone();
                let (network, url) = match self {
                    Self::Bucket(url) => (None, Some(url.clone())),
                    _ => (Some(network), fallback),
                };
                let bucket = url.map(|url| (url, bucket));
                let dir = dir.join(CACHE);
                let options = CachedOptions { network, bucket, cache_quota, dir, socket, layout, readmitted };
                Arc::new(CachedFolder::open(author, options)?)
            }
        })
    }
}

impl FolderUrl {
    /// Opens a view for somebody who publishes nothing: a directory is left as it is. Blocks as [`open`](Self::open)
    /// does.
    pub fn open_to_read(&self, author: Author, options: &OpenOptions) -> Result<Arc<dyn SharedFolder>, FolderError> {
        match self {
            Self::Local(dir) => {
                let folder = LocalFolder::open_to_read(dir, author)?;
                options.readmitted.iter().try_for_each(|&author| folder.readmit(author))?;
                Ok(Arc::new(folder))
            }
            _ => self.open(author, options),
        }
    }
}

impl FromStr for FolderUrl {
    type Err = FolderUrlError;

    fn from_str(text: &str) -> Result<Self, FolderUrlError> {
        let url = Url::parse(text).map_err(|_| FolderUrlError::NotUrl { text: text.to_owned() })?;
        match url.scheme() {
            "memory" => Ok(Self::Memory),
            "p2p" if url.as_str() == "p2p:" => Ok(Self::P2p),
            "s3" => Ok(Self::Bucket(text.parse()?)),
            "p2p" => Err(FolderUrlError::Network { text: text.to_owned() }),
            "file" => {
                // `file:dir` and `file://dir` would silently become other directories than the ones meant.
                let absolute = text.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("file:///"));
                let path = url.to_file_path().ok().filter(|_| absolute);
                path.map(Self::Local).ok_or_else(|| FolderUrlError::Path { text: text.to_owned() })
            }
            _ => Err(FolderUrlError::Scheme { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for FolderUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::P2p => f.write_str("p2p:"),
            Self::Bucket(url) => url.fmt(f),
            Self::Local(dir) => match Url::from_directory_path(dir) {
                Ok(url) => f.write_str(url.as_str().trim_end_matches('/')),
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
        for (text, path) in [("file:///a/b", "/a/b"), ("file:///a%20b/", "/a b/"), ("file:///a b", "/a b")] {
            let url: FolderUrl = text.parse().unwrap();
            assert_eq!(url, FolderUrl::Local(path.into()));
            let again: FolderUrl = url.to_string().parse().unwrap();
            assert_eq!(again.to_string(), url.to_string());
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
