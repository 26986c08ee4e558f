//! The names, dtypes and shapes of weights, their limits, and the hash that identifies them.

use super::{DType, LayoutId};
use crate::printable::printable;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};
use std::fmt;

/// Longest name of a tensor, in bytes.
pub const MAX_TENSOR_NAME: usize = 256;
/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 8;
/// Most tensors in one value.
pub const MAX_TENSORS: usize = 65_536;
/// Most bytes of the names of all tensors together: 4 MiB. With the limits above it keeps every manifest under
/// [`MAX_MANIFEST_BYTES`](super::MAX_MANIFEST_BYTES).
pub const MAX_NAMES_BYTES: u64 = 1 << 22;
/// Most bytes in one value: 64 GiB.
pub const MAX_VALUE_BYTES: u64 = 1 << 36;

/// What is known of a tensor without its elements.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Its name, unique among the weights, at most [`MAX_TENSOR_NAME`] bytes.
    pub name: String,
    /// Type of its elements.
    pub dtype: DType,
    /// Its dimensions, row-major, at most [`MAX_RANK`]; empty for a scalar; a dimension may be 0.
    #[serde(deserialize_with = "bounded_shape")]
    pub shape: Vec<u64>,
}

/// Stops at the first dimension too many, before it is stored.
fn bounded_shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    struct Shape;
    impl<'de> Visitor<'de> for Shape {
        type Value = Vec<u64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_RANK} dimensions")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sides: A) -> Result<Vec<u64>, A::Error> {
            let mut shape = Vec::new();
            while let Some(side) = sides.next_element()? {
                if shape.len() == MAX_RANK {
                    return Err(de::Error::invalid_length(MAX_RANK + 1, &self));
                }
                shape.push(side);
            }
            Ok(shape)
        }
    }
    deserializer.deserialize_seq(Shape)
}

impl TensorSpec {
    /// Number of elements. Valid only inside a [`Layout`], which has checked that it fits.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Number of bytes.
    pub fn bytes(&self) -> u64 {
        self.elements() * self.dtype.size()
    }

    /// Number of bytes; `None` on overflow.
    pub(super) fn checked_bytes(&self) -> Option<u64> {
        let elements = self.shape.iter().try_fold(1u64, |product, &side| product.checked_mul(side))?;
        elements.checked_mul(self.dtype.size())
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{:?}", printable(&self.name), self.dtype, self.shape)
    }
}

/// Why a list of tensors isn't a layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A limit of this module was exceeded.
    #[error("{what} is {got}, but at most {limit} is allowed")]
    Limit {
        /// What was measured.
        what: String,
        /// Its measure.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// The number of bytes doesn't fit in 64 bits.
    #[error("tensor {name:?} has the shape {shape:?}, which no memory holds")]
    Overflow {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A name occurs twice.
    #[error("the tensor name {name:?} stands twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
}

/// Names, dtypes and shapes of weights.
///
/// The tensors are in ascending byte order of their names, whatever order the program that made them used: safetensors
/// files carry no order, and two programs that federate must come to the same layout, manifest and root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
}

impl Layout {
    /// Sorts and checks. Errors name the tensor and the limit that it exceeds.
    pub fn new(mut tensors: Vec<TensorSpec>) -> Result<Self, LayoutError> {
        check(|| "the number of tensors".to_owned(), tensors.len() as u64, MAX_TENSORS as u64)?;
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(LayoutError::DuplicateName { name: pair[0].name.clone() });
        }
        let (mut total, mut names) = (0u64, 0);
        for tensor in &tensors {
            let name_length = || format!("the length of tensor name {:.32?}", tensor.name);
            check(name_length, tensor.name.len() as u64, MAX_TENSOR_NAME as u64)?;
            check(|| format!("the rank of tensor {:?}", tensor.name), tensor.shape.len() as u64, MAX_RANK as u64)?;
            names += tensor.name.len() as u64;
            let bytes = tensor
                .checked_bytes()
                .ok_or_else(|| LayoutError::Overflow { name: tensor.name.clone(), shape: tensor.shape.clone() })?;
            total = total.saturating_add(bytes);
            check(|| "the number of bytes".to_owned(), total, MAX_VALUE_BYTES)?;
        }
        check(|| "the length of all tensor names together".to_owned(), names, MAX_NAMES_BYTES)?;
        Ok(Self { tensors })
    }

    /// The tensors, in order of their names.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Where the tensor of this name stands.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.tensors.binary_search_by(|tensor| tensor.name.as_str().cmp(name)).ok()
    }

    /// Bytes of all tensors together.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(TensorSpec::bytes).sum()
    }

    /// Elements of all tensors together.
    pub fn elements(&self) -> u64 {
        self.tensors.iter().map(TensorSpec::elements).sum()
    }

    /// The layout's hash.
    pub fn id(&self) -> LayoutId {
        let mut hasher = blake3::Hasher::new_derive_key("peerfold 2026 layout id v1");
        hasher.update(&(self.tensors.len() as u64).to_le_bytes());
        for tensor in &self.tensors {
            hasher.update(&(tensor.name.len() as u64).to_le_bytes());
            hasher.update(tensor.name.as_bytes());
            hasher.update(&[tensor.dtype as u8]);
            hasher.update(&(tensor.shape.len() as u64).to_le_bytes());
            for side in &tensor.shape {
                hasher.update(&side.to_le_bytes());
            }
        }
        LayoutId::from_bytes(*hasher.finalize().as_bytes())
    }

    /// The first difference to another layout, in words, or `None` if they are equal.
    pub fn difference(&self, other: &Layout) -> Option<String> {
        for tensor in &self.tensors {
            match other.position(&tensor.name) {
                None => return Some(format!("{tensor} is missing")),
                Some(at) if other.tensors[at] != *tensor => {
                    return Some(format!("{} where {tensor} is expected", other.tensors[at]));
                }
                Some(_) => {}
            }
        }
        let extra = other.tensors.iter().find(|tensor| self.position(&tensor.name).is_none());
        extra.map(|tensor| format!("{tensor} is not expected"))
    }
}

fn check(what: impl FnOnce() -> String, got: u64, limit: u64) -> Result<(), LayoutError> {
    if got > limit {
        return Err(LayoutError::Limit { what: what(), got, limit });
    }
    Ok(())
}
