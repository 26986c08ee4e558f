//! Weights as [safetensors](https://huggingface.co/docs/safetensors) files.

use super::{DType, Tensor, TensorSpec, Weights, WeightsError};
use bytes::Bytes;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

const RESERVED: &str = "__metadata__";

/// Why bytes are no safetensors file of weights.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    /// The header or the offsets are wrong, or the file is cut short.
    #[error("not a whole safetensors file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
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
    /// Too many tensors, too long a name.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

impl Weights {
    /// Reads a safetensors file. The header's length and every offset are checked against the file's length before
    /// anything is allocated; the tensors' bytes are shared with `file`.
    pub fn from_safetensors(file: &Bytes) -> Result<Self, SafetensorsError> {
        let parsed = SafeTensors::deserialize(file)?;
        let tensors = parsed.iter().map(|(name, view)| {
            let dtype = dtype_of(name, view.dtype())?;
            let shape = view.shape().iter().map(|&side| side as u64).collect();
            let data = file.slice_ref(view.data());
            Ok(Tensor { spec: TensorSpec { name: name.to_owned(), dtype, shape }, data })
        });
        Ok(Self::new(tensors.collect::<Result<_, SafetensorsError>>()?)?)
    }

    /// Writes a safetensors file into memory. Equal weights give equal bytes.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, SafetensorsError> {
        if self.get(RESERVED).is_some() {
            return Err(SafetensorsError::ReservedName);
        }
        let views = self.tensors().map(|(spec, data)| {
            let shape = spec.shape.iter().map(|&side| side as usize).collect();
            Ok((spec.name.as_str(), TensorView::new(file_dtype(spec.dtype), shape, data)?))
        });
        let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
        Ok(safetensors::serialize(views, None)?)
    }
}

fn dtype_of(name: &str, dtype: Dtype) -> Result<DType, SafetensorsError> {
    Ok(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool,
        other => return Err(SafetensorsError::DType { name: name.to_owned(), dtype: format!("{other:?}") }),
    })
}

fn file_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
