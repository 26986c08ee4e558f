//! The header of a safetensors file: JSON in which each tensor has a dtype, a shape, and a range of the bytes behind.
//!
//! What the safetensors library refuses is refused here too. We don't use that library to read, because it makes a
//! table of whatever a header claims before counting anything, wants the whole file in memory, and doesn't say which
//! tensor has an unknown dtype.

use super::{LENGTH_BYTES, RESERVED, SafetensorsError};
use crate::{
    file_format::FileFormat,
    weights::{
        Annotations, AnnotationsError, DType, Layout, LayoutError, MAX_RANK, MAX_TENSORS, TensorSpec, WeightsError,
        annotations::Gather,
    },
};
use bytes::Bytes;
use safetensors::Dtype;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use std::{fmt, ops::Range, sync::Arc};

/// Longest header, as the safetensors library has it: 100 MB.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// No dtype's name is longer. If one is, its beginning is enough for the error.
const MAX_DTYPE_NAME: usize = 32;

/// Where the tensors of a file are.
pub(super) struct Header {
    pub(super) layout: Arc<Layout>,
    /// For each tensor of the layout the byte of the file at which it begins.
    pub(super) starts: Vec<u64>,
    /// `__metadata__`.
    pub(super) annotations: Annotations,
}

impl Header {
    /// Reads the header of a file of this length through `read`. Nothing is read beyond the file's length, and besides
    /// the header's own bytes only what the limits of [`Layout`] and [`Annotations`] allow is allocated.
    ///
    /// If a file has no header, the error says what it is instead, as far as its first bytes show.
    pub(super) fn of(
        file_bytes: u64,
        read: impl Fn(Range<u64>) -> Result<Bytes, SafetensorsError>,
    ) -> Result<Self, SafetensorsError> {
        let error = match Self::whole(file_bytes, &read) {
            Err(error @ SafetensorsError::Format(_)) => error,
            result => return result,
        };
        let head = read(0..file_bytes.min(FileFormat::HEAD_BYTES as u64))?;
        // If it begins like a header, it is a damaged header.
        let format = FileFormat::of(&head).filter(|_| head.get(LENGTH_BYTES as usize) != Some(&b'{'));
        Err(format.map_or(error, SafetensorsError::OtherFormat))
    }

    fn whole(
        file_bytes: u64,
        read: impl Fn(Range<u64>) -> Result<Bytes, SafetensorsError>,
    ) -> Result<Self, SafetensorsError> {
        let wrong = |what: String| Err(SafetensorsError::Format(what));
        if file_bytes == 0 {
            return wrong("it is empty".to_owned());
        }
        if file_bytes < LENGTH_BYTES {
            return wrong(format!("it has {file_bytes} bytes, too few for the length of a header"));
        }
        let length = read(0..LENGTH_BYTES)?;
        let length = u64::from_le_bytes(length[..].try_into().expect("as many bytes as were asked for"));
        let rest = file_bytes - LENGTH_BYTES;
        if length > rest {
            let begins = read(LENGTH_BYTES..LENGTH_BYTES + rest.min(1))?;
            if begins.iter().any(|byte| *byte != b'{' && !byte.is_ascii_whitespace()) {
                return wrong("it doesn't begin with the header of one".to_owned());
            }
            return wrong(format!("its header is to have {length} bytes, but only {rest} follow"));
        }
        if length > MAX_HEADER_BYTES {
            return wrong(format!("its header has {length} bytes, but at most {MAX_HEADER_BYTES} are allowed"));
        }
        let json = read(LENGTH_BYTES..LENGTH_BYTES + length)?;
        Self::parse(&json, LENGTH_BYTES + length, rest - length)
    }

    /// A header with the bytes of data behind it, which begin at this byte of the file.
    fn parse(json: &[u8], data_start: u64, data_bytes: u64) -> Result<Self, SafetensorsError> {
        let wrong = |what: String| SafetensorsError::Format(what);
        let json = std::str::from_utf8(json).map_err(|error| wrong(format!("its header is no text: {error}")))?;
        let Tensors { mut infos, count, annotations } =
            serde_json::from_str(json).map_err(|error| wrong(format!("its header can't be understood: {error}")))?;
        if count > infos.len() {
            let (what, limit) = ("the number of tensors".to_owned(), MAX_TENSORS as u64);
            return Err(WeightsError::from(LayoutError::Limit { what, got: count as u64, limit }).into());
        }
        let annotations = annotations?;
        infos.sort_by_key(|(_, info)| info.data_offsets);
        let mut tensors = Vec::with_capacity(infos.len());
        let mut end = 0;
        for (name, Info { dtype: DTypeName(dtype), shape: Shape(shape), data_offsets: (from, to) }) in infos {
            let dtype = weights_dtype(&dtype)
                .ok_or_else(|| SafetensorsError::DType { name: name.clone(), dtype: dtype.clone() })?;
            if shape.len() > MAX_RANK {
                let what = format!("the rank of tensor {name:?}");
                let error = LayoutError::Limit { what, got: shape.len() as u64, limit: MAX_RANK as u64 };
                return Err(WeightsError::from(error).into());
            }
            let spec = TensorSpec { name, dtype, shape };
            if from != end || to < from {
                let name = &spec.name;
                return Err(wrong(format!("tensor {name:?} lies at bytes {from} to {to} where byte {end} is next")));
            }
            if spec.checked_bytes() != Some(to - from) {
                return Err(wrong(format!("tensor {spec} has {} bytes, which its shape doesn't", to - from)));
            }
            end = to;
            tensors.push((spec, from));
        }
        if end != data_bytes {
            return Err(wrong(format!("its tensors have {end} bytes together, but {data_bytes} follow the header")));
        }
        tensors.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let (specs, starts): (_, Vec<u64>) = tensors.into_iter().map(|(spec, from)| (spec, data_start + from)).unzip();
        Ok(Self { layout: Arc::new(Layout::new(specs).map_err(WeightsError::from)?), starts, annotations })
    }
}

/// What a header holds.
struct Tensors {
    /// The first [`MAX_TENSORS`] tensors, in the header's order.
    infos: Vec<(String, Info)>,
    /// How many tensors there are.
    count: usize,
    annotations: Result<Annotations, AnnotationsError>,
}

#[derive(Deserialize)]
struct Info {
    dtype: DTypeName,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// The name of a dtype, or its beginning.
struct DTypeName(String);

/// As many sides as a tensor may have, and one more if there are more.
struct Shape(Vec<u64>);

/// `__metadata__`: strings by name, or null.
struct Notes(Result<Annotations, AnnotationsError>);

impl<'de> Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Tensors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
                let (mut infos, mut count) = (Vec::new(), 0);
                let mut annotations = Ok(Annotations::default());
                while let Some(name) = map.next_key::<String>()? {
                    if name == RESERVED {
                        Notes(annotations) = map.next_value()?;
                        continue;
                    }
                    count += 1;
                    if count <= MAX_TENSORS {
                        infos.push((name, map.next_value()?));
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Tensors { infos, count, annotations })
            }
        }
        deserializer.deserialize_map(Map)
    }
}

impl<'de> Deserialize<'de> for DTypeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = DTypeName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a dtype")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<DTypeName, E> {
                Ok(DTypeName(name.chars().take(MAX_DTYPE_NAME).collect()))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sides;
        impl<'de> Visitor<'de> for Sides {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a shape")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sides: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(side) = sides.next_element()? {
                    if shape.len() <= MAX_RANK {
                        shape.push(side);
                    }
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(Sides)
    }
}

impl<'de> Deserialize<'de> for Notes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Gather { stops: false }).map(Notes)
    }
}

/// The dtype of this name in a file.
fn weights_dtype(name: &str) -> Option<DType> {
    DType::ALL.into_iter().find(|&dtype| file_name(dtype) == name)
}

fn file_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F64 => "F64",
        DType::F32 => "F32",
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::I64 => "I64",
        DType::I32 => "I32",
        DType::U8 => "U8",
        DType::Bool => "BOOL",
        DType::I8 => "I8",
        DType::I16 => "I16",
        DType::U16 => "U16",
        DType::U32 => "U32",
        DType::U64 => "U64",
    }
}

/// The dtype as the safetensors library has it.
pub(super) fn file_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
        DType::I8 => Dtype::I8,
        DType::I16 => Dtype::I16,
        DType::U16 => Dtype::U16,
        DType::U32 => Dtype::U32,
        DType::U64 => Dtype::U64,
    }
}
