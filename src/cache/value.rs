//! A value that the cache holds whole, pinned so that it isn't evicted while somebody reads it.

use super::Cache;
use crate::weights::{Manifest, Root};
use bytes::Bytes;
use std::{io, sync::Arc};

/// Keeps a value from being removed as long as it lives.
pub struct Pin {
    cache: Cache,
    root: Root,
}

impl Pin {
    pub(super) fn new(cache: Cache, root: Root) -> Self {
        cache.inner().state.pin(root);
        Self { cache, root }
    }

    /// What is pinned.
    pub fn root(&self) -> Root {
        self.root
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.cache.inner().state.unpin(self.root);
    }
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pin").field(&self.root).finish()
    }
}

/// A complete, pinned value. A reader is unaffected by what happens to its key.
#[derive(Debug)]
pub struct CachedValue {
    manifest: Arc<Manifest>,
    pin: Pin,
}

impl CachedValue {
    pub(super) fn new(manifest: Arc<Manifest>, pin: Pin) -> Self {
        Self { manifest, pin }
    }

    /// The value's tensors and chunks.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// Its address.
    pub fn root(&self) -> Root {
        self.pin.root
    }

    /// Where a chunk is stored, for messages.
    pub fn path(&self, chunk: usize) -> std::path::PathBuf {
        self.pin.cache.shared.files.blob(self.manifest.chunks()[chunk].into())
    }

    /// The stored bytes of a chunk, **unverified**, and perhaps too few or one too many. A caller that finds them
    /// damaged, or gets `NotFound`, should call [`Cache::drop_blob`], so that the chunk can be fetched again. Panics if
    /// there is no such chunk.
    pub fn chunk(&self, chunk: usize) -> io::Result<Bytes> {
        let hash = self.manifest.chunks()[chunk].into();
        let length = self.manifest.plan().length(chunk);
        self.pin.cache.shared.files.read_blob(hash, length).map(Bytes::from)
    }
}
