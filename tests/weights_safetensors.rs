//! Files of Python's safetensors library, and files that are none.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use half::{bf16, f16};
use peerfold::weights::{DType, SafetensorsError, Tensor, TensorSpec, Weights};

const PYTHON: &[u8] = include_bytes!("data/python.safetensors");
const FLOATS: [f64; 6] = [0.0, -1.5, 2.0, 0.25, -65504.0, 1e-3];

fn bytes<T, const N: usize>(elements: impl IntoIterator<Item = T>, encode: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    elements.into_iter().flat_map(encode).collect()
}

fn weights(tensors: impl IntoIterator<Item = (&'static str, DType, Vec<u64>, Vec<u8>)>) -> Weights {
    let tensor = |(name, dtype, shape, data): (&str, _, _, Vec<u8>)| Tensor {
        spec: TensorSpec { name: name.to_owned(), dtype, shape },
        data: data.into(),
    };
    Weights::new(tensors.into_iter().map(tensor).collect()).unwrap()
}

fn in_python_file() -> Weights {
    weights([
        ("layer.f64", DType::F64, vec![2, 3], bytes(FLOATS, f64::to_le_bytes)),
        ("layer.f32", DType::F32, vec![2, 3], bytes(FLOATS, |x| (x as f32).to_le_bytes())),
        ("layer.f16", DType::F16, vec![2, 3], bytes(FLOATS, |x| f16::from_f64(x).to_le_bytes())),
        ("layer.bf16", DType::BF16, vec![2, 3], bytes(FLOATS, |x| bf16::from_f64(x).to_le_bytes())),
        ("count.i64", DType::I64, vec![4], bytes([i64::MIN, -1, 0, i64::MAX], i64::to_le_bytes)),
        ("count.i32", DType::I32, vec![4], bytes([i32::MIN, -1, 0, i32::MAX], i32::to_le_bytes)),
        ("count.u8", DType::U8, vec![4], vec![0, 1, 127, 255]),
        ("mask", DType::Bool, vec![2, 2], vec![1, 0, 0, 1]),
        ("scalar", DType::F32, vec![], 3.5f32.to_le_bytes().to_vec()),
        ("none", DType::F32, vec![0, 3], vec![]),
        ("ünïcode/ name", DType::U8, vec![1, 1], vec![7]),
    ])
}

#[test]
fn a_file_of_python_is_read() {
    let read = Weights::from_safetensors(&Bytes::from_static(PYTHON)).unwrap();
    assert_eq!(read, in_python_file());
}

#[test]
fn what_is_written_is_read_again() {
    for weights in [in_python_file(), weights([]), Weights::artifact("").unwrap()] {
        let file = Bytes::from(weights.to_safetensors().unwrap());
        assert_eq!(Weights::from_safetensors(&file).unwrap(), weights);
        assert_eq!(weights.to_safetensors().unwrap(), file);
        // The way to have Python read it: PEERFOLD_TEST_WRITE=/tmp/ours.safetensors.
        if let Ok(path) = std::env::var("PEERFOLD_TEST_WRITE")
            && weights.layout().tensors().len() > 1
        {
            std::fs::write(path, file).unwrap();
        }
    }
}

#[test]
fn a_name_that_the_format_reserves_is_an_error() {
    let reserved = weights([("__metadata__", DType::U8, vec![1], vec![7])]);
    assert!(matches!(reserved.to_safetensors(), Err(SafetensorsError::ReservedName)));
}

#[test]
fn what_is_cut_or_unknown_is_an_error() {
    for length in 0..PYTHON.len() {
        let cut = Bytes::from_static(&PYTHON[..length]);
        assert!(matches!(Weights::from_safetensors(&cut), Err(SafetensorsError::Format(_))), "{length}");
    }
    let file = |header: &str, data: &[u8]| {
        Bytes::from([&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat())
    };
    let u16s = file(r#"{"a":{"dtype":"U16","shape":[1],"data_offsets":[0,2]}}"#, &[0; 2]);
    assert!(matches!(Weights::from_safetensors(&u16s), Err(SafetensorsError::DType { .. })));
    for header in [
        r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#,
        r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,18446744073709551615]}}"#,
        r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}"#,
        r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
        "{",
        "",
    ] {
        assert!(matches!(Weights::from_safetensors(&file(header, &[0; 8])), Err(SafetensorsError::Format(_))));
    }
    let huge = Bytes::from([&u64::MAX.to_le_bytes()[..], b"{}"].concat());
    assert!(matches!(Weights::from_safetensors(&huge), Err(SafetensorsError::Format(_))));
}
