//! What is stored of a value and what is missing; storing fetched blobs, and giving blobs to others.

use super::{
    Cache, CacheError, CachedValue, Pin,
    contents::{Worth, distinct_chunks},
    error::failed,
    files::Checked,
};
use crate::weights::{BlobHash, CHUNK_BYTES, ChunkHash, Manifest, Root};
use bytes::Bytes;
use std::{collections::HashSet, io, sync::Arc, time::Instant};

/// How much of a value is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Its manifest isn't there.
    NoManifest,
    /// Some of its chunks aren't.
    Missing {
        /// The manifest.
        manifest: Arc<Manifest>,
        /// The chunks that are stored, each once.
        here: Vec<ChunkHash>,
        /// The chunks that are missing with their lengths, each once, in the order in which the manifest first lists
        /// them.
        chunks: Vec<(ChunkHash, u64)>,
    },
    /// All of it.
    Whole {
        /// The manifest.
        manifest: Arc<Manifest>,
    },
}

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is stored, now or already.
    Stored,
    /// It has a different hash: the sender is to blame.
    WrongHash,
    /// Its hash is right, but it isn't a manifest: the author signed the root of something else, and there is no such
    /// value.
    NotManifest,
    /// Its hash is right, but not its length: the manifest lies, and there is no such value.
    WrongLength,
    /// Its hash is right, but no known value names it: the value was abandoned in the meantime, or never known.
    Unnamed,
}

impl Cache {
    /// How much of a value is stored. The manifest is verified; of the chunks only their presence is checked.
    pub fn look(&self, root: Root) -> Result<Look, CacheError> {
        let Some(manifest) = self.manifest(root)? else { return Ok(Look::NoManifest) };
        let inner = self.open_inner()?;
        let mut seen = HashSet::new();
        let listed = manifest.chunks().iter().enumerate();
        let (here, chunks): (Vec<_>, Vec<(ChunkHash, u64)>) = listed
            .map(|(number, &hash)| (hash, manifest.plan().length(number)))
            .filter(|&(hash, _)| seen.insert(hash))
            .partition(|&(hash, length)| inner.state.has_chunk((hash.into(), length)));
        let here = here.into_iter().map(|(hash, _)| hash).collect();
        Ok(if chunks.is_empty() { Look::Whole { manifest } } else { Look::Missing { manifest, here, chunks } })
    }

    /// Verifies a blob that was fetched for a value and stores it: as its manifest if `hash` is the root. Not flushed.
    ///
    /// The manifest comes first, for chunks that no known value names aren't stored; pin what is fetched, so that no
    /// [`retain`](Self::retain) gives it up. What is stored can be given to others before the value is whole. For want of
    /// room other values are evicted, but none that is worth more; see [`Retention`](super::Retention).
    ///
    /// [`CacheError::Full`] if there is no room for it.
    pub fn store_blob(&self, root: Root, hash: BlobHash, bytes: &[u8]) -> Result<Stored, CacheError> {
        if BlobHash::of(bytes) != hash {
            return Ok(Stored::WrongHash);
        }
        let chunks = if hash == root.into() {
            match Manifest::decode(bytes).ok().and_then(|manifest| distinct_chunks(&manifest)) {
                Some(chunks) => Some(chunks),
                None => return Ok(Stored::NotManifest),
            }
        } else if bytes.len() as u64 > CHUNK_BYTES {
            return Ok(Stored::WrongLength);
        } else {
            None
        };
        let length = bytes.len() as u64;
        let is_named = |inner: &super::Inner| chunks.is_some() || inner.state.is_named(hash);
        {
            let mut inner = self.open_inner()?;
            if inner.state.listed_length(root, hash).is_some_and(|listed| listed != length) {
                return Ok(Stored::WrongLength);
            }
            if !is_named(&inner) {
                return Ok(Stored::Unnamed);
            }
            if inner.state.length(hash) == Some(length) {
                inner.learn(root, chunks);
                return Ok(Stored::Stored);
            }
        }
        // What the latest retention doesn't know yet may be anybody's.
        let worth = self.open_inner()?.state.worth(root);
        let most = worth.filter(|&worth| worth == Worth::Known).unwrap_or(Worth::Stranger);
        let mut reserved = self.reserve(root, length, most)?;
        let partial = self.shared.files.write_partial(bytes, false)?;
        let mut inner = self.open_inner()?;
        if !is_named(&inner) {
            // Its room is given back under the lock.
            drop(inner);
            return Ok(Stored::Unnamed);
        }
        self.shared.files.place_blob(partial, hash)?;
        inner.learn(root, chunks);
        reserved.used(&mut inner, length);
        inner.state.stored(hash, length);
        inner.index(|index| index.blob_stored(hash, length));
        inner.told_full = false;
        Ok(Stored::Stored)
    }

    /// A blob to give to others, verified. If it is damaged, it is forgotten with a warning, and `None` is returned.
    pub fn blob(&self, hash: BlobHash) -> Result<Option<Bytes>, CacheError> {
        // If the blob is a manifest, this counts as a use of its value.
        self.open_inner()?.touch(Root::from_bytes(*hash.as_bytes()));
        let blob = self.verified(hash)?;
        if blob.is_some() {
            self.open_inner()?.state.given(hash, Instant::now());
        }
        Ok(blob)
    }

    fn verified(&self, hash: BlobHash) -> Result<Option<Bytes>, CacheError> {
        let Some(length) = self.open_inner()?.state.length(hash) else { return Ok(None) };
        match self.shared.files.read_blob(hash, length) {
            Ok(bytes) if BlobHash::of(&bytes) == hash => Ok(Some(bytes.into())),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.drop_blob(hash);
                Err(failed("reading", &self.shared.files.blob(hash))(error))
            }
            // It may have been removed in the meantime because nothing names it any more.
            _ => {
                self.drop_blob(hash);
                Ok(None)
            }
        }
    }

    /// Forgets a blob that was found damaged or missing, and removes its file, so that it can be fetched again. It is
    /// checked once more, so that a blob that was repaired in the meantime stays.
    pub fn drop_blob(&self, hash: BlobHash) {
        let Ok(mut inner) = self.open_inner() else { return };
        if inner.state.length(hash).is_none() {
            return;
        }
        // Under the lock, so that nobody repairs it between the look and the removal. This is rare.
        let path = self.shared.files.blob(hash);
        match self.shared.files.check_blob(hash) {
            Ok(Checked::Good) => return,
            Ok(what @ (Checked::Damaged | Checked::Missing)) => {
                let what = if matches!(what, Checked::Missing) { "missing" } else { "damaged" };
                tracing::warn!(path = %path.display(), "a blob that is {what} is forgotten");
            }
            Err(error) => return tracing::warn!(path = %path.display(), %error, "can't be read"),
        }
        inner.state.removed(hash);
        inner.index(|index| index.blob_removed(hash));
        if let Err(error) = self.shared.files.remove_blob(hash) {
            tracing::warn!(%error, "a damaged blob stays in its place");
        }
    }

    /// Keeps a value from being removed, whether it is there or not yet.
    pub fn pin(&self, root: Root) -> Pin {
        Pin::new(self.clone(), root)
    }

    /// A value of which everything is there, pinned.
    pub fn value(&self, root: Root) -> Result<Option<CachedValue>, CacheError> {
        let pin = self.pin(root);
        if !self.open_inner()?.state.is_whole(root) {
            return Ok(None);
        }
        let manifest = self.manifest(root)?;
        self.open_inner()?.touch(root);
        Ok(manifest.map(|manifest| CachedValue::new(manifest, pin)))
    }

    /// The manifest of a known value.
    fn manifest(&self, root: Root) -> Result<Option<Arc<Manifest>>, CacheError> {
        if !self.open_inner()?.state.has_manifest(root) {
            return Ok(None);
        }
        let bytes = self.verified(root.into())?;
        Ok(bytes.and_then(|bytes| Manifest::decode(&bytes).ok()).map(Arc::new))
    }
}

impl super::Inner {
    /// Records a use of a value.
    fn touch(&mut self, root: Root) {
        if let Some(used) = self.state.touch(root) {
            self.index(|index| index.value_used(root, used));
        }
    }

    /// Records a value, if there are chunks.
    fn learn(&mut self, root: Root, chunks: Option<Arc<[super::contents::Chunk]>>) {
        if let Some(chunks) = chunks {
            self.state.learn(root, chunks, None);
            self.touch(root);
        }
    }
}
