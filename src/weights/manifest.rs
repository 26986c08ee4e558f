//! How a value is cut into chunks, and the manifest that lists the chunks' hashes.

use super::{Annotations, ChunkHash, Layout, LayoutError, MAX_TENSORS, Root, TensorSpec, Weights};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{ops::Range, sync::Arc};

/// Most bytes of a chunk: 1 MiB.
pub const CHUNK_BYTES: u64 = 1 << 20;
/// Tensors with fewer bytes than this (64 KiB) share chunks.
pub const PACK_BELOW_BYTES: u64 = 1 << 16;
/// Most bytes of an encoded manifest: 16 MiB.
pub const MAX_MANIFEST_BYTES: usize = 1 << 24;

/// Version of a manifest without annotations. It is unchanged since before there were any, so that roots stay the same.
const PLAIN: u8 = 1;
/// Version of a manifest that ends with annotations, at least one.
const ANNOTATED: u8 = 2;

/// A range of one tensor inside a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Number of the tensor in the layout.
    pub tensor: usize,
    /// Bytes of the tensor.
    pub range: Range<u64>,
}

/// How a layout is cut into chunks. It follows from the layout alone, so no manifest can lie about it.
///
/// First come the packs: the tensors under [`PACK_BELOW_BYTES`] in manifest order, a new pack where the next tensor
/// would make it longer than [`CHUNK_BYTES`]. Then each larger tensor in manifest order, in chunks of [`CHUNK_BYTES`],
/// the last one shorter. Tensors without bytes are in no chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkPlan {
    chunks: Vec<Vec<Piece>>,
    /// For each tensor the chunk in which it starts and its offset there.
    starts: Vec<(usize, u64)>,
}

impl ChunkPlan {
    /// The plan of a layout.
    pub fn new(layout: &Layout) -> Self {
        let mut chunks: Vec<Vec<Piece>> = Vec::new();
        let mut starts = vec![(0, 0); layout.tensors().len()];
        let mut filled = CHUNK_BYTES;
        let sized = || layout.tensors().iter().map(TensorSpec::bytes).enumerate().filter(|&(_, bytes)| bytes > 0);
        for (tensor, bytes) in sized().filter(|&(_, bytes)| bytes < PACK_BELOW_BYTES) {
            if filled + bytes > CHUNK_BYTES {
                chunks.push(Vec::new());
                filled = 0;
            }
            starts[tensor] = (chunks.len() - 1, filled);
            filled += bytes;
            if let Some(pack) = chunks.last_mut() {
                pack.push(Piece { tensor, range: 0..bytes });
            }
        }
        for (tensor, bytes) in sized().filter(|&(_, bytes)| bytes >= PACK_BELOW_BYTES) {
            starts[tensor] = (chunks.len(), 0);
            for start in (0..bytes).step_by(CHUNK_BYTES as usize) {
                chunks.push(vec![Piece { tensor, range: start..bytes.min(start + CHUNK_BYTES) }]);
            }
        }
        Self { chunks, starts }
    }

    /// The pieces of each chunk, in the chunk's byte order.
    pub fn chunks(&self) -> &[Vec<Piece>] {
        &self.chunks
    }

    /// Bytes of a chunk. Panics if the plan has no such chunk.
    pub fn length(&self, chunk: usize) -> u64 {
        self.chunks[chunk].iter().map(|piece| piece.range.end - piece.range.start).sum()
    }

    /// Where these bytes of a tensor are: chunks with the ranges inside them, in order. The range must be within the
    /// tensor.
    pub fn locate(&self, tensor: usize, range: Range<u64>) -> Vec<(usize, Range<u64>)> {
        let (first, offset) = self.starts[tensor];
        let mut found = Vec::new();
        let mut at = range.start + offset;
        let end = range.end + offset;
        while at < end {
            let in_chunk = at % CHUNK_BYTES;
            let length = (CHUNK_BYTES - in_chunk).min(end - at);
            found.push((first + (at / CHUNK_BYTES) as usize, in_chunk..in_chunk + length));
            at += length;
        }
        found
    }
}

/// Why bytes aren't a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// More bytes than [`MAX_MANIFEST_BYTES`].
    #[error("a manifest of {got} bytes, but at most {MAX_MANIFEST_BYTES} are allowed")]
    TooLong {
        /// Bytes given.
        got: usize,
    },
    /// Written by a newer version.
    #[error("a manifest of version {got}, but this program knows up to {ANNOTATED}")]
    Version {
        /// The version found.
        got: u8,
    },
    /// Not in the canonical form.
    #[error("the manifest is malformed")]
    Malformed,
    /// Its tensors don't form a valid layout.
    #[error("the manifest's layout is not acceptable: {0}")]
    Layout(#[from] LayoutError),
    /// Not as many hashes as the layout has chunks.
    #[error("the manifest lists {got} chunks where its layout has {expected}")]
    ChunkCount {
        /// Hashes listed.
        got: usize,
        /// Chunks of the layout.
        expected: usize,
    },
}

#[derive(Serialize, Deserialize)]
struct Encoded<'a> {
    version: u8,
    tensors: std::borrow::Cow<'a, [TensorSpec]>,
    chunks: std::borrow::Cow<'a, [ChunkHash]>,
}

/// A value's list of tensors and chunk hashes, with its annotations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    layout: Arc<Layout>,
    plan: Arc<ChunkPlan>,
    chunks: Vec<ChunkHash>,
    annotations: Annotations,
}

impl Manifest {
    pub(super) fn of(weights: &Weights) -> Self {
        let layout = weights.layout.clone();
        let plan = Arc::new(ChunkPlan::new(&layout));
        let chunks = (0..plan.chunks.len()).map(|chunk| ChunkHash::of(&chunk_bytes(weights, &plan, chunk))).collect();
        Self { layout, plan, chunks, annotations: weights.annotations.clone() }
    }

    /// Reads what [`encode`](Self::encode) wrote. Bounded by the input's length, which is checked first.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLong { got: bytes.len() });
        }
        match bytes.first() {
            None => return Err(ManifestError::Malformed),
            Some(&(PLAIN | ANNOTATED)) => {}
            Some(&got) => return Err(ManifestError::Version { got }),
        }
        // A tensor takes twenty times the memory of its shortest encoding, so they are counted before any is created.
        let ((_, tensors), _) = postcard::take_from_bytes::<(u8, u64)>(bytes).map_err(|_| ManifestError::Malformed)?;
        if tensors > MAX_TENSORS as u64 {
            let (what, limit) = ("the number of tensors".to_owned(), MAX_TENSORS as u64);
            return Err(LayoutError::Limit { what, got: tensors, limit }.into());
        }
        let (encoded, rest) = postcard::take_from_bytes::<Encoded<'_>>(bytes).map_err(|_| ManifestError::Malformed)?;
        let annotations = match encoded.version {
            ANNOTATED => postcard::from_bytes(rest).map_err(|_| ManifestError::Malformed)?,
            _ => Annotations::default(),
        };
        let layout = Arc::new(Layout::new(encoded.tensors.into_owned())?);
        let plan = Arc::new(ChunkPlan::new(&layout));
        if encoded.chunks.len() != plan.chunks.len() {
            return Err(ManifestError::ChunkCount { got: encoded.chunks.len(), expected: plan.chunks.len() });
        }
        let manifest = Self { layout, plan, chunks: encoded.chunks.into_owned(), annotations };
        // Integers have several encodings in postcard, and tensors could come unsorted: only one form has this root.
        if manifest.encode() != bytes {
            return Err(ManifestError::Malformed);
        }
        Ok(manifest)
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        let tensors = self.layout.tensors().into();
        let version = if self.annotations.is_empty() { PLAIN } else { ANNOTATED };
        let encoded = Encoded { version, tensors, chunks: self.chunks.as_slice().into() };
        let written = match version {
            PLAIN => postcard::to_stdvec(&encoded),
            _ => postcard::to_stdvec(&(encoded, &self.annotations)),
        };
        written.expect("writing to memory, and no map or sequence without a length")
    }

    /// The value's address: the hash of the encoding.
    pub fn root(&self) -> Root {
        Self::root_of(&self.encode())
    }

    /// The root of an encoded manifest.
    pub fn root_of(encoded: &[u8]) -> Root {
        Root::from_bytes(*blake3::hash(encoded).as_bytes())
    }

    /// Names, dtypes and shapes of the value.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The annotations of the tensors.
    pub fn annotations(&self) -> &Annotations {
        &self.annotations
    }

    /// How the value is cut.
    pub fn plan(&self) -> &Arc<ChunkPlan> {
        &self.plan
    }

    /// The address of each chunk.
    pub fn chunks(&self) -> &[ChunkHash] {
        &self.chunks
    }

    /// The bytes of a chunk of these weights, which must have this manifest's layout.
    pub fn chunk_bytes(&self, weights: &Weights, chunk: usize) -> Bytes {
        chunk_bytes(weights, &self.plan, chunk)
    }
}

fn chunk_bytes(weights: &Weights, plan: &ChunkPlan, chunk: usize) -> Bytes {
    let piece_bytes =
        |piece: &Piece| weights.data[piece.tensor].slice(piece.range.start as usize..piece.range.end as usize);
    match plan.chunks[chunk].as_slice() {
        [only] => piece_bytes(only),
        pieces => {
            let mut packed = Vec::with_capacity(plan.length(chunk) as usize);
            pieces.iter().for_each(|piece| packed.extend_from_slice(&piece_bytes(piece)));
            packed.into()
        }
    }
}
