//! A handle to a value: its chunks, wherever they lie, verified at every read.

use crate::weights::{Annotations, CHUNK_BYTES, ChunkHash, Layout, Manifest, ReadError, TensorReader, checked_spec};
use bytes::{Bytes, BytesMut};
use std::{
    collections::BTreeSet,
    fmt,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

/// Where the chunks of one value are stored.
///
/// `chunk` returns the stored bytes unverified and may block. It must go on doing so after the key was overwritten.
pub trait ChunkStore: Send + Sync {
    /// What to call this place in an error.
    fn place(&self) -> String;

    /// The stored bytes of a chunk; `offset` is where it begins when all chunks lie one after another.
    fn chunk(&self, chunk: usize, offset: u64, length: u64) -> std::io::Result<Bytes>;

    /// A chunk was missing or had the wrong hash. A store that can get it again drops it.
    fn damaged(&self, _chunk: usize) {}
}

/// A handle to a value: its manifest, and its tensors to read as often as needed.
///
/// Every chunk is verified at every read, so a value that is damaged after it was opened is an error too. The chunk
/// read last is kept, because small tensors share one. Reading may block: call it off the async runtime.
pub struct Value {
    manifest: Manifest,
    offsets: Vec<u64>,
    store: Box<dyn ChunkStore>,
    last: Mutex<Option<(usize, Bytes)>>,
    /// Chunks that were found damaged. A store may have dropped them since, which would make them look missing.
    damaged: Mutex<BTreeSet<usize>>,
}

impl Value {
    /// A handle to the value with this manifest, whose root the caller has checked.
    pub fn new(manifest: Manifest, store: impl ChunkStore + 'static) -> Self {
        let plan = manifest.plan();
        let offsets = (0..manifest.chunks().len()).scan(0, |end, chunk| {
            let start = *end;
            *end += plan.length(chunk);
            Some(start)
        });
        let offsets = offsets.collect();
        Self { manifest, offsets, store: Box::new(store), last: Mutex::default(), damaged: Mutex::default() }
    }

    /// The value's tensors and chunks.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The layout, to be shared.
    pub fn shared_layout(&self) -> &Arc<Layout> {
        self.manifest.layout()
    }

    /// A chunk, verified.
    pub fn chunk(&self, chunk: usize) -> Result<Bytes, ReadError> {
        let last = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = last().as_ref().filter(|(number, _)| *number == chunk) {
            return Ok(bytes.clone());
        }
        let found_damaged = || self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if found_damaged().contains(&chunk) {
            let what = format!("chunk {chunk} was found damaged before");
            return Err(ReadError::Damaged { place: self.store.place(), what });
        }
        let damaged = |what: String| {
            found_damaged().insert(chunk);
            self.store.damaged(chunk);
            ReadError::Damaged { place: self.store.place(), what }
        };
        let length = self.manifest.plan().length(chunk);
        let bytes = self.store.chunk(chunk, self.offsets[chunk], length).map_err(|source| match source.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged(format!("it ends before chunk {chunk}")),
            std::io::ErrorKind::NotFound => {
                self.store.damaged(chunk);
                ReadError::Io { place: self.store.place(), source }
            }
            _ => ReadError::Io { place: self.store.place(), source },
        })?;
        if ChunkHash::of(&bytes) != self.manifest.chunks()[chunk] {
            return Err(damaged(format!("chunk {chunk} doesn't have the hash that its author signed")));
        }
        *last() = Some((chunk, bytes.clone()));
        Ok(bytes)
    }
}

impl TensorReader for Value {
    fn layout(&self) -> &Layout {
        self.manifest.layout()
    }

    fn annotations(&self) -> Annotations {
        self.manifest.annotations().clone()
    }

    fn read(&self, tensor: usize, range: Range<u64>) -> Result<Bytes, ReadError> {
        checked_spec(self.manifest.layout(), tensor, &range)?;
        let slice = |bytes: Bytes, part: Range<u64>| bytes.slice(part.start as usize..part.end as usize);
        match self.manifest.plan().locate(tensor, range.clone()).as_slice() {
            [(chunk, part)] => Ok(slice(self.chunk(*chunk)?, part.clone())),
            parts => {
                debug_assert!(parts.len() as u64 <= (range.end - range.start) / CHUNK_BYTES + 2);
                let mut joined = BytesMut::with_capacity((range.end - range.start) as usize);
                for (chunk, part) in parts {
                    joined.extend_from_slice(&slice(self.chunk(*chunk)?, part.clone()));
                }
                Ok(joined.freeze())
            }
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("place", &self.store.place()).finish_non_exhaustive()
    }
}
