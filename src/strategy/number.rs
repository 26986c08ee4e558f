//! Little-endian elements to numbers and back.
//!
//! The loops here and in `mean` are over arrays of constant length without branches, so that LLVM vectorises them;
//! tensors come as bytes of any alignment, and reading them by `from_le_bytes` costs nothing more than a load.

use crate::weights::DType;
use half::{bf16, f16};

/// An element type as it lies in a tensor's bytes.
pub(super) trait Wire {
    /// The wider type in which a reference computes, which holds every value of this one.
    type Value: Copy;

    /// The elements of these bytes.
    fn values(bytes: &[u8]) -> impl Iterator<Item = Self::Value>;
}

pub(super) struct F64;
pub(super) struct F32;
pub(super) struct F16;
pub(super) struct BF16;

impl Wire for F64 {
    type Value = f64;

    #[inline(always)]
    fn values(bytes: &[u8]) -> impl Iterator<Item = f64> {
        bytes.as_chunks().0.iter().map(|&element| f64::from_le_bytes(element))
    }
}

impl Wire for F32 {
    type Value = f32;

    #[inline(always)]
    fn values(bytes: &[u8]) -> impl Iterator<Item = f32> {
        bytes.as_chunks().0.iter().map(|&element| f32::from_le_bytes(element))
    }
}

impl Wire for F16 {
    type Value = f32;

    #[inline(always)]
    fn values(bytes: &[u8]) -> impl Iterator<Item = f32> {
        bytes.as_chunks().0.iter().map(|&element| from_f16(u16::from_le_bytes(element)))
    }
}

impl Wire for BF16 {
    type Value = f32;

    #[inline(always)]
    fn values(bytes: &[u8]) -> impl Iterator<Item = f32> {
        bytes.as_chunks().0.iter().map(|&element| f32::from_bits(u32::from(u16::from_le_bytes(element)) << 16))
    }
}

/// `half`'s own conversion checks the processor's features for every element; this one vectorises.
#[inline(always)]
fn from_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff);
    // Exponent and fraction at their places in a binary32 are off by a bias of 112: a factor of 2^112, which also
    // normalises the subnormal ones.
    let finite = f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23);
    let special = f32::from_bits(magnitude << 13 | 0x7f80_0000);
    let value = if magnitude >= 0x7c00 { special } else { finite };
    f32::from_bits(value.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// Rounds to the next f32 towards zero, with the last bit set if that was inexact. Rounding the result to f16 or bf16
/// is then the same as rounding the f64 directly; by way of the nearest f32 it would be rounded twice.
fn to_odd_f32(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) == value || value.is_nan() {
        return nearest;
    }
    let away = f64::from(nearest).abs() > value.abs();
    f32::from_bits((nearest.to_bits() - u32::from(away)) | 1)
}

/// Writes numbers as elements of this float dtype, each rounded once to the nearest.
pub(super) fn encode(dtype: DType, values: &[f64], bytes: &mut [u8]) {
    fn each<const N: usize>(values: &[f64], bytes: &mut [u8], element: impl Fn(f64) -> [u8; N]) {
        for (bytes, &value) in bytes.as_chunks_mut().0.iter_mut().zip(values) {
            *bytes = element(value);
        }
    }
    match dtype {
        DType::F64 => each(values, bytes, f64::to_le_bytes),
        DType::F32 => each(values, bytes, |value| (value as f32).to_le_bytes()),
        DType::F16 => each(values, bytes, |value| f16::from_f32(to_odd_f32(value)).to_le_bytes()),
        DType::BF16 => each(values, bytes, |value| bf16::from_f32(to_odd_f32(value)).to_le_bytes()),
        DType::I64
        | DType::I32
        | DType::U8
        | DType::Bool
        | DType::I8
        | DType::I16
        | DType::U16
        | DType::U32
        | DType::U64 => debug_assert!(false, "{dtype} is not averaged"),
    }
}

/// Reads elements of this float dtype, exactly.
pub(super) fn decode(dtype: DType, bytes: &[u8], values: &mut [f64]) {
    fn each(elements: impl Iterator<Item = f64>, values: &mut [f64]) {
        values.iter_mut().zip(elements).for_each(|(value, element)| *value = element);
    }
    match dtype {
        DType::F64 => each(F64::values(bytes), values),
        DType::F32 => each(F32::values(bytes).map(f64::from), values),
        DType::F16 => each(F16::values(bytes).map(f64::from), values),
        DType::BF16 => each(BF16::values(bytes).map(f64::from), values),
        DType::I64
        | DType::I32
        | DType::U8
        | DType::Bool
        | DType::I8
        | DType::I16
        | DType::U16
        | DType::U32
        | DType::U64 => debug_assert!(false, "{dtype} is not averaged"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_is_read_as_half_reads_it() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (from_f16(bits), f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:#06x}");
        }
    }

    #[test]
    fn halves_are_rounded_once() {
        // Halfway between two neighbours plus less than an f32 can tell: up, not to the even one below.
        let mut bytes = [0; 2];
        encode(DType::F16, &[1.0 + 2f64.powi(-11) + 2f64.powi(-40)], &mut bytes);
        assert_eq!(f16::from_le_bytes(bytes), f16::from_bits(f16::ONE.to_bits() + 1));
        encode(DType::BF16, &[-(1.0 + 2f64.powi(-8) + 2f64.powi(-40))], &mut bytes);
        assert_eq!(bf16::from_le_bytes(bytes), -bf16::from_bits(bf16::ONE.to_bits() + 1));
        encode(DType::F16, &[1.0 + 2f64.powi(-11) - 2f64.powi(-40)], &mut bytes);
        assert_eq!(f16::from_le_bytes(bytes), f16::ONE);
        encode(DType::F16, &[1e300], &mut bytes);
        assert_eq!(f16::from_le_bytes(bytes), f16::INFINITY);
        encode(DType::F16, &[f64::NAN], &mut bytes);
        assert!(f16::from_le_bytes(bytes).is_nan());
    }

    #[test]
    fn every_half_survives_the_way_to_f64_and_back() {
        for dtype in [DType::F16, DType::BF16] {
            for bits in 0..=u16::MAX {
                let (mut value, mut bytes) = ([0.0], [0; 2]);
                decode(dtype, &bits.to_le_bytes(), &mut value);
                encode(dtype, &value, &mut bytes);
                assert!(u16::from_le_bytes(bytes) == bits || value[0].is_nan(), "{dtype} {bits:#06x}");
            }
        }
    }
}
