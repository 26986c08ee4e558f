//! Making weights out of numbers, and reading their numbers back.

use bytes::Bytes;
use half::{bf16, f16};
use peerfold::weights::{DType, Tensor, TensorSpec, Weights};

pub(crate) const FLOATS: [DType; 4] = [DType::F64, DType::F32, DType::F16, DType::BF16];

/// Numbers that follow from the seed (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Draws(pub u64);

impl Draws {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From -1 to 1.
    pub(crate) fn number(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    /// With a normal distribution, nearly: twelve uniform ones.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.number() / 2.0).sum()
    }
}

pub(crate) fn encode(dtype: DType, number: f64) -> Vec<u8> {
    match dtype {
        DType::F64 => number.to_le_bytes().to_vec(),
        DType::F32 => (number as f32).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f64(number).to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f64(number).to_le_bytes().to_vec(),
        other => panic!("{other} is none of the floats"),
    }
}

pub(crate) fn decode(dtype: DType, element: &[u8]) -> f64 {
    match dtype {
        DType::F64 => f64::from_le_bytes(element.try_into().unwrap()),
        DType::F32 => f32::from_le_bytes(element.try_into().unwrap()).into(),
        DType::F16 => f16::from_le_bytes(element.try_into().unwrap()).into(),
        DType::BF16 => bf16::from_le_bytes(element.try_into().unwrap()).into(),
        other => panic!("{other} is none of the floats"),
    }
}

/// The number as this dtype holds it.
pub(crate) fn rounded(dtype: DType, number: f64) -> f64 {
    decode(dtype, &encode(dtype, number))
}

/// The element that any bits of this dtype are, as an integer in the order of the numbers: neighbours differ by 1.
pub(crate) fn ordered(element: &[u8]) -> i128 {
    let mut bytes = [0; 16];
    bytes[..element.len()].copy_from_slice(element);
    let bits = i128::from_le_bytes(bytes);
    let sign = 1i128 << (element.len() * 8 - 1);
    if bits & sign == 0 { bits } else { sign - bits }
}

pub(crate) fn tensor(name: &str, dtype: DType, shape: &[u64], data: Vec<u8>) -> Tensor {
    let spec = TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec() };
    // At an odd address, as a tensor of a safetensors file can be.
    let mut shifted = vec![0xff];
    shifted.extend(data);
    Tensor { spec, data: Bytes::from(shifted).slice(1..) }
}

/// A tensor with these numbers.
pub(crate) fn floats(name: &str, dtype: DType, numbers: &[f64]) -> Tensor {
    let data = numbers.iter().flat_map(|&number| encode(dtype, number)).collect();
    tensor(name, dtype, &[numbers.len() as u64], data)
}

/// One tensor of numbers.
pub(crate) fn single(dtype: DType, numbers: &[f64]) -> Weights {
    Weights::new(vec![floats("w", dtype, numbers)]).unwrap()
}

/// One f32 tensor of numbers.
pub(crate) fn singles(numbers: &[f64]) -> Weights {
    single(DType::F32, numbers)
}

/// Tensors of all dtypes, among them scalars, some without elements, and integers with this `mark`.
pub(crate) fn of_all_kinds(mark: u8, mut number: impl FnMut() -> f64) -> Weights {
    let shapes: [(&str, DType, &[u64]); 11] = [
        ("a", DType::F64, &[3]),
        ("b", DType::F32, &[2, 2]),
        ("c", DType::F16, &[5]),
        ("d", DType::BF16, &[]),
        ("e", DType::F32, &[0, 3]),
        ("f", DType::F32, &[1, 259]),
        ("g", DType::F64, &[]),
        ("h", DType::BF16, &[3, 1]),
        ("i", DType::F16, &[]),
        ("j", DType::F64, &[2, 0]),
        ("k", DType::F32, &[]),
    ];
    let mut tensors: Vec<Tensor> = shapes
        .iter()
        .map(|&(name, dtype, shape)| {
            let count = shape.iter().product::<u64>();
            tensor(name, dtype, shape, (0..count).flat_map(|_| encode(dtype, number())).collect())
        })
        .collect();
    tensors.push(tensor("counter", DType::I64, &[2], [mark; 16].to_vec()));
    tensors.push(tensor("count", DType::I32, &[], [mark; 4].to_vec()));
    tensors.push(tensor("mask", DType::Bool, &[3], vec![mark & 1; 3]));
    tensors.push(tensor("none", DType::I64, &[0], Vec::new()));
    tensors.push(tensor("byte", DType::U8, &[1], vec![mark]));
    Weights::new(tensors).unwrap()
}

/// All numbers of the float tensors with their dtypes, in the layout's order.
pub(crate) fn numbers(weights: &Weights) -> Vec<(DType, f64)> {
    let tensors = weights.tensors().filter(|(spec, _)| spec.dtype.is_float());
    tensors
        .flat_map(|(spec, data)| {
            data.chunks_exact(spec.dtype.size() as usize).map(|element| (spec.dtype, decode(spec.dtype, element)))
        })
        .collect()
}

/// The same without their dtypes.
pub(crate) fn values(weights: &Weights) -> Vec<f64> {
    numbers(weights).into_iter().map(|(_, number)| number).collect()
}

/// The mark of [`of_all_kinds`], which all integer tensors must have.
pub(crate) fn mark(weights: &Weights) -> u8 {
    let mark = weights.get("byte").unwrap().1[0];
    for (name, expected) in [("counter", mark), ("count", mark), ("mask", mark & 1)] {
        assert!(weights.get(name).unwrap().1.iter().all(|&byte| byte == expected), "{name} is not of one update");
    }
    mark
}

pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}
