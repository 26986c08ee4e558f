//! Weights as [safetensors](https://huggingface.co/docs/safetensors) files.

mod file;
mod header;

pub use self::file::SafetensorsFile;

use self::header::{Header, file_dtype};
use super::{Annotations, AnnotationsError, TensorSpec, Weights, WeightsError};
use crate::file_format::FileFormat;
use bytes::Bytes;
use safetensors::tensor::TensorInfo;
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::io::{self, Write};

const RESERVED: &str = "__metadata__";
/// Bytes before the header, which hold its length.
const LENGTH_BYTES: u64 = 8;

/// Why a file isn't a safetensors file of weights.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    /// The header or the offsets are wrong, or the file is cut short.
    #[error("not a whole safetensors file: {0}")]
    Format(String),
    /// Another format, as the first bytes say.
    #[error("not a safetensors file but {0}; {advice}", advice = .0.to_safetensors())]
    OtherFormat(FileFormat),
    /// A dtype that Peerfold doesn't know.
    #[error("tensor {name:?} has the dtype {dtype}, which Peerfold doesn't fold")]
    DType {
        /// The tensor.
        name: String,
        /// Its dtype in the file.
        dtype: String,
    },
    /// A tensor has the name under which the format keeps its metadata.
    #[error("a safetensors file can't hold a tensor of the name {RESERVED:?}")]
    ReservedName,
    /// More `__metadata__` than is kept.
    #[error("the file has {0}")]
    Annotations(#[from] AnnotationsError),
    /// Too many tensors, a name that is too long, or a name that occurs twice.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The file can't be opened or read.
    #[error("it can't be read: {0}")]
    Io(#[source] io::Error),
}

impl Weights {
    /// Reads a safetensors file, with its `__metadata__` as [annotations](Self::annotations). The header's length and every offset are checked against the file's length before
    /// anything is allocated; the tensors' bytes are shared with `file`. [`SafetensorsFile`] needs no memory for them.
    pub fn from_safetensors(file: &Bytes) -> Result<Self, SafetensorsError> {
        let header = Header::of(file.len() as u64, |range| Ok(file.slice(range.start as usize..range.end as usize)))?;
        let tensors = header.layout.tensors().iter().zip(&header.starts);
        let data = tensors.map(|(spec, &start)| file.slice(start as usize..(start + spec.bytes()) as usize)).collect();
        Ok(Self::from_layout(header.layout, data)?.with_annotations(header.annotations))
    }

    /// Writes a safetensors file into memory, annotations included. Equal weights with equal annotations give equal bytes.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, SafetensorsError> {
        let mut file = Vec::new();
        self.write_safetensors(&mut file).map_err(|error| match error.downcast::<SafetensorsError>() {
            Ok(error) => error,
            Err(error) => SafetensorsError::Io(error),
        })?;
        Ok(file)
    }

    /// Writes a safetensors file, one tensor at a time. If the format can't hold the weights, that is an error of kind
    /// `InvalidInput` with a [`SafetensorsError`] in it, and nothing is written.
    pub fn write_safetensors(&self, out: &mut dyn Write) -> io::Result<()> {
        let invalid = |error: SafetensorsError| io::Error::new(io::ErrorKind::InvalidInput, error);
        if self.get(RESERVED).is_some() {
            return Err(invalid(SafetensorsError::ReservedName));
        }
        // As the safetensors library orders them, so that all elements are aligned.
        let mut tensors: Vec<(&TensorSpec, &Bytes)> = self.tensors().collect();
        tensors.sort_by(|(a, _), (b, _)| file_dtype(b.dtype).cmp(&file_dtype(a.dtype)).then(a.name.cmp(&b.name)));
        let mut end = 0;
        let infos = tensors.iter().map(|(spec, data)| {
            let start = end;
            end += data.len();
            let shape = spec.shape.iter().map(|&side| side as usize).collect();
            (spec.name.as_str(), TensorInfo { dtype: file_dtype(spec.dtype), shape, data_offsets: (start, end) })
        });
        let header = Written { annotations: self.annotations(), infos: infos.collect() };
        let mut header = serde_json::to_vec(&header)?;
        header.resize(header.len().next_multiple_of(LENGTH_BYTES as usize), b' ');
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        tensors.iter().try_for_each(|(_, data)| out.write_all(data))
    }
}

/// A header as it is written.
struct Written<'a> {
    annotations: &'a Annotations,
    infos: Vec<(&'a str, TensorInfo)>,
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut header = serializer.serialize_map(None)?;
        if !self.annotations.is_empty() {
            header.serialize_entry(RESERVED, self.annotations)?;
        }
        self.infos.iter().try_for_each(|(name, info)| header.serialize_entry(name, info))?;
        header.end()
    }
}
