//! Tensors and what is derived from them: layout, safetensors files, manifests of chunks, and signed entries.
//!
//! Only [`SafetensorsFile`] does I/O. Every decoder is bounded before it allocates, and every encoding except
//! safetensors is canonical: whatever decodes encodes to the same bytes.

mod annotations;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod dtype;
mod encoding;
mod entry;
mod hash;
mod key;
mod layout;
mod manifest;
mod reader;
mod safetensors;

pub use self::{
    annotations::{Annotations, AnnotationsError, MAX_ANNOTATION_BYTES, MAX_ANNOTATIONS},
    dtype::DType,
    encoding::Encoding,
    entry::{
        Content, Entry, EntryError, MAX_ENTRY_BYTES, MAX_METRIC_NAME, MAX_METRICS, Metadata, Metric, SignedEntry,
        UnverifiedEntry,
    },
    hash::{BlobHash, ChunkHash, Digest, EntryHash, FederationId, LayoutId, ParseHashError, Root},
    key::{Key, KeyError, MAX_KEY_BYTES},
    layout::{
        Layout, LayoutError, MAX_NAMES_BYTES, MAX_RANK, MAX_TENSOR_NAME, MAX_TENSORS, MAX_VALUE_BYTES, TensorSpec,
    },
    manifest::{CHUNK_BYTES, ChunkPlan, MAX_MANIFEST_BYTES, Manifest, ManifestError, PACK_BELOW_BYTES, Piece},
    reader::{ReadError, TensorReader, read_all},
    safetensors::{SafetensorsError, SafetensorsFile},
};
pub(crate) use key::KeyPrefix;
pub(crate) use reader::checked_spec;

use bytes::Bytes;
use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

/// Name of the one tensor of a plain artifact.
const ARTIFACT: &str = "artifact";

/// A tensor with its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Name, dtype and shape.
    pub spec: TensorSpec,
    /// The elements: little-endian, row-major, without gaps.
    pub data: Bytes,
}

/// Why tensors can't be weights.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// The specs don't form a valid layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A tensor has too few or too many bytes.
    #[error("tensor {tensor} has {got} bytes, but its shape needs {expected}")]
    Length {
        /// The tensor.
        tensor: TensorSpec,
        /// Bytes it has.
        got: u64,
        /// Bytes it needs.
        expected: u64,
    },
    /// There are not as many tensors as the layout names.
    #[error("{got} tensors where the layout names {expected}")]
    Count {
        /// Tensors given.
        got: usize,
        /// Tensors named.
        expected: usize,
    },
}

/// Named tensors, ordered by name. Cloning is cheap: the bytes are shared.
///
/// A plain artifact (a JSON file, say) is a value too: one `u8` tensor, see [`Weights::artifact`].
///
/// Weights are equal if their tensors are, whatever their [annotations](Self::annotations).
#[derive(Debug, Clone)]
pub struct Weights {
    layout: Arc<Layout>,
    data: Vec<Bytes>,
    annotations: Annotations,
    /// Once it was asked for; what is cloned has it too.
    manifest: Arc<OnceLock<Manifest>>,
}

impl PartialEq for Weights {
    fn eq(&self, other: &Self) -> bool {
        self.layout == other.layout && self.data == other.data
    }
}

impl Eq for Weights {}

impl Weights {
    /// Weights of these tensors, in any order. Errors name the tensor.
    pub fn new(mut tensors: Vec<Tensor>) -> Result<Self, WeightsError> {
        tensors.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        let (specs, data) = tensors.into_iter().map(|tensor| (tensor.spec, tensor.data)).unzip();
        Self::from_layout(Layout::new(specs)?, data)
    }

    /// Weights of a known layout; `data` in the layout's order.
    pub fn from_layout(layout: impl Into<Arc<Layout>>, data: Vec<Bytes>) -> Result<Self, WeightsError> {
        let layout = layout.into();
        if data.len() != layout.tensors().len() {
            return Err(WeightsError::Count { got: data.len(), expected: layout.tensors().len() });
        }
        for (spec, bytes) in layout.tensors().iter().zip(&data) {
            if bytes.len() as u64 != spec.bytes() {
                let (got, expected) = (bytes.len() as u64, spec.bytes());
                return Err(WeightsError::Length { tensor: spec.clone(), got, expected });
            }
        }
        Ok(Self { layout, data, annotations: Annotations::default(), manifest: Arc::default() })
    }

    /// Any bytes as a value: one `u8` tensor of one dimension. Errors past [`MAX_VALUE_BYTES`].
    pub fn artifact(bytes: impl Into<Bytes>) -> Result<Self, WeightsError> {
        let data = bytes.into();
        let shape = vec![data.len() as u64];
        Self::new(vec![Tensor { spec: TensorSpec { name: ARTIFACT.to_owned(), dtype: DType::U8, shape }, data }])
    }

    /// The bytes of a plain artifact, or `None` if this isn't one.
    pub fn artifact_bytes(&self) -> Option<&Bytes> {
        match self.layout.tensors() {
            [only]
                if only.name == ARTIFACT
                    && only.dtype == DType::U8
                    && only.shape.len() == 1
                    && self.annotations.is_empty() =>
            {
                self.data.first()
            }
            _ => None,
        }
    }

    /// Weights of `f32` tensors: name, shape, and elements in row-major order.
    ///
    /// ```
    /// # use peerfold::weights::Weights;
    /// let weights = Weights::from_f32s(&[("bias", &[2], &[0.5, -0.5]), ("slope", &[], &[3.0])])?;
    /// assert_eq!(weights.f32s("bias"), Some(vec![0.5, -0.5]));
    /// # Ok::<(), peerfold::weights::WeightsError>(())
    /// ```
    pub fn from_f32s(tensors: &[(&str, &[u64], &[f32])]) -> Result<Self, WeightsError> {
        let tensors = tensors.iter().map(|&(name, shape, elements)| Tensor {
            spec: TensorSpec { name: name.to_owned(), dtype: DType::F32, shape: shape.to_vec() },
            data: elements.iter().flat_map(|element| element.to_le_bytes()).collect(),
        });
        Self::new(tensors.collect())
    }

    /// A copy of the elements of an `f32` tensor; `None` if there is none of this name, or it is of another type.
    pub fn f32s(&self, name: &str) -> Option<Vec<f32>> {
        let (_, data) = self.get(name).filter(|(spec, _)| spec.dtype == DType::F32)?;
        Some(data.as_chunks().0.iter().map(|element| f32::from_le_bytes(*element)).collect())
    }

    /// Names, dtypes and shapes.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The tensors' annotations: the `__metadata__` of the file that they come from. Empty unless they were read from
    /// one or given [some](Self::with_annotations).
    pub fn annotations(&self) -> &Annotations {
        &self.annotations
    }

    /// The same tensors with these annotations, which travel with them in the manifest: weights with annotations have a
    /// different root from those without.
    pub fn with_annotations(self, annotations: Annotations) -> Self {
        Self { annotations, manifest: Arc::default(), ..self }
    }

    /// Spec and bytes of each tensor, in order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&TensorSpec, &Bytes)> {
        self.layout.tensors().iter().zip(&self.data)
    }

    /// The bytes of the tensor with this name.
    pub fn get(&self, name: &str) -> Option<(&TensorSpec, &Bytes)> {
        self.layout.position(name).map(|at| (&self.layout.tensors()[at], &self.data[at]))
    }

    /// The list of the chunks that these weights consist of. The first call, of these or of what was cloned from them,
    /// hashes every byte: call it off the async runtime.
    pub fn manifest(&self) -> Manifest {
        self.manifest.get_or_init(|| Manifest::of(self)).clone()
    }
}

impl TensorReader for Weights {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn read(&self, tensor: usize, range: Range<u64>) -> Result<Bytes, ReadError> {
        checked_spec(&self.layout, tensor, &range)?;
        Ok(self.data[tensor].slice(range.start as usize..range.end as usize))
    }

    fn reads_parts(&self) -> bool {
        true
    }

    fn annotations(&self) -> Annotations {
        self.annotations.clone()
    }
}
