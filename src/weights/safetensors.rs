//! Weights as [safetensors](https://huggingface.co/docs/safetensors) files.

mod file;
mod header;

pub use self::file::SafetensorsFile;

use self::header::{Header, file_dtype};
use super::{TensorSpec, Weights, WeightsError};
use bytes::Bytes;
use safetensors::tensor::{Metadata, TensorInfo};
use std::io::{self, Write};

const RESERVED: &str = "__metadata__";
/// What stands before the header: its length.
const LENGTH_BYTES: u64 = 8;

/// Why a file is no safetensors file of weights.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    /// The header or the offsets are wrong, or the file is cut short.
    #[error("not a whole safetensors file: {0}")]
    Format(String),
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
    /// Too many tensors, too long a name, a name that stands twice.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The file can't be opened or read.
    #[error("it can't be read: {0}")]
    Io(#[source] io::Error),
}

impl Weights {
    /// Reads a safetensors file. The header's length and every offset are checked against the file's length before
    /// anything is allocated; the tensors' bytes are shared with `file`. [`SafetensorsFile`] needs no memory for them.
    pub fn from_safetensors(file: &Bytes) -> Result<Self, SafetensorsError> {
        let header = Header::of(file.len() as u64, |range| Ok(file.slice(range.start as usize..range.end as usize)))?;
        let tensors = header.layout.tensors().iter().zip(&header.starts);
        let data = tensors.map(|(spec, &start)| file.slice(start as usize..(start + spec.bytes()) as usize)).collect();
        Ok(Self::from_layout(header.layout, data)?)
    }

    /// Writes a safetensors file into memory. Equal weights give equal bytes.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, SafetensorsError> {
        let mut file = Vec::new();
        self.write_safetensors(&mut file).map_err(|error| match error.downcast::<SafetensorsError>() {
            Ok(error) => error,
            Err(error) => SafetensorsError::Io(error),
        })?;
        Ok(file)
    }

    /// Writes a safetensors file, a tensor at a time. That the weights can be none is an error of kind `InvalidInput`
    /// with a [`SafetensorsError`] in it; then nothing is written.
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
            (spec.name.clone(), TensorInfo { dtype: file_dtype(spec.dtype), shape, data_offsets: (start, end) })
        });
        let metadata = Metadata::new(None, infos.collect());
        let metadata = metadata.map_err(|error| invalid(SafetensorsError::Format(error.to_string())))?;
        let mut header = serde_json::to_vec(&metadata)?;
        header.resize(header.len().next_multiple_of(LENGTH_BYTES as usize), b' ');
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        tensors.iter().try_for_each(|(_, data)| out.write_all(data))
    }
}
