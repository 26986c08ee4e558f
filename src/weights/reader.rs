//! Reading weights piece by piece, wherever they are stored.

use super::{Annotations, Layout, TensorSpec, Weights, WeightsError};
use bytes::Bytes;
use std::ops::Range;

/// Why the bytes of a tensor could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What is stored is not what its author published.
    #[error("{place} is damaged: {what}")]
    Damaged {
        /// The file or value.
        place: String,
        /// Which part, and how.
        what: String,
    },
    /// Reading failed.
    #[error("reading {place} failed: {source}")]
    Io {
        /// The file or value.
        place: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The caller asked for bytes that the tensor doesn't have.
    #[error("bytes {} to {} of tensor {tensor} are outside of it", range.start, range.end)]
    OutOfRange {
        /// Number of the tensor in its layout.
        tensor: usize,
        /// The bytes asked for.
        range: Range<u64>,
    },
}

/// Weights whose tensors can be read piece by piece and as often as needed, without all of them being in memory.
///
/// `read` may block on a disk: call it off the async runtime. Pieces that start at multiples of
/// [`CHUNK_BYTES`](super::CHUNK_BYTES) and are at most that long are the cheapest.
pub trait TensorReader: Send + Sync {
    /// What tensors there are.
    fn layout(&self) -> &Layout;

    /// These bytes of the tensor with this number in the layout; exactly as many as asked for, verified against what
    /// the author published.
    fn read(&self, tensor: usize, range: Range<u64>) -> Result<Bytes, ReadError>;

    /// Whether shorter pieces cost no more than whole ones: a reader that verifies must read a chunk for each part of it.
    fn reads_parts(&self) -> bool {
        false
    }

    /// The annotations of the tensors.
    fn annotations(&self) -> Annotations {
        Annotations::default()
    }
}

/// The tensor's spec, if it has these bytes.
pub(crate) fn checked_spec<'a>(
    layout: &'a Layout,
    tensor: usize,
    range: &Range<u64>,
) -> Result<&'a TensorSpec, ReadError> {
    let spec = layout.tensors().get(tensor);
    spec.filter(|spec| range.start <= range.end && range.end <= spec.bytes())
        .ok_or_else(|| ReadError::OutOfRange { tensor, range: range.clone() })
}

/// Reads everything into memory, annotations included.
pub fn read_all(reader: &dyn TensorReader) -> Result<Weights, ReadError> {
    let layout = reader.layout();
    let data = (0..layout.tensors().len())
        .map(|tensor| reader.read(tensor, 0..layout.tensors()[tensor].bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    Weights::from_layout(layout.clone(), data)
        .map(|weights| weights.with_annotations(reader.annotations()))
        .map_err(|error: WeightsError| ReadError::Damaged { place: "the value".to_owned(), what: error.to_string() })
}
