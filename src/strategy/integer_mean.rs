//! The mean of integer and boolean tensors, computed exactly and rounded to the nearest integer, halves to even. Only
//! with `integers=mean`: else they are the newest update's.

use crate::weights::DType;

/// Above this, a sum of products with 65-bit differences would not fit into 128 bits.
const MOST: i128 = 1 << 60;

/// Integer weights in the same proportions: the numbers of examples themselves if the proportions are theirs, which
/// makes the mean exact; otherwise the weights to within 2^-60 of their sum.
pub(super) fn example_weights(weights: &[f64], examples: &[u64]) -> Vec<i128> {
    let (sum, total) = (weights.iter().sum::<f64>(), examples.iter().map(|&count| i128::from(count)).sum::<i128>());
    let alike = |(&weight, &count): (&f64, &u64)| (weight / sum - count as f64 / total as f64).abs() < 1e-12;
    if (1..=MOST).contains(&total) && weights.iter().zip(examples).all(alike) {
        return examples.iter().map(|&count| i128::from(count)).collect();
    }
    weights.iter().map(|weight| (weight / sum * MOST as f64) as i128).collect()
}

/// A mean under way, of one piece. The inputs are added in the order of their weights.
pub(super) struct IntegerMean<'w> {
    dtype: DType,
    weights: &'w [i128],
    /// The first input's values, to which the sums are relative.
    first: Vec<i128>,
    sums: Vec<i128>,
    added: usize,
}

impl<'w> IntegerMean<'w> {
    pub(super) fn new(dtype: DType, weights: &'w [i128]) -> Self {
        Self { dtype, weights, first: Vec::new(), sums: Vec::new(), added: 0 }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        let weight = self.weights[self.added];
        let values = bytes.chunks_exact(self.dtype.size() as usize).map(|bytes| value(self.dtype, bytes));
        if self.added == 0 {
            self.first = values.collect();
            self.sums = vec![0; self.first.len()];
        } else {
            let places = self.sums.iter_mut().zip(&self.first).zip(values);
            places.for_each(|((sum, first), value)| *sum += weight * (value - first));
        }
        self.added += 1;
    }

    /// Writes the rounded means. A mean lies between its inputs, so it fits in their dtype.
    pub(super) fn write(self, out: &mut [u8]) {
        let total: i128 = self.weights.iter().sum();
        let size = self.dtype.size() as usize;
        let means = self.first.iter().zip(&self.sums).map(|(first, &sum)| first + rounded(sum, total, *first));
        out.chunks_exact_mut(size).zip(means).for_each(|(out, mean)| out.copy_from_slice(&mean.to_le_bytes()[..size]));
    }
}

/// The quotient to be added to `first`, rounded so that halves give an even sum.
fn rounded(sum: i128, total: i128, first: i128) -> i128 {
    let (quotient, rest) = (sum.div_euclid(total), sum.rem_euclid(total));
    let up = match (2 * rest).cmp(&total) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => (first + quotient) % 2 != 0,
        std::cmp::Ordering::Greater => true,
    };
    quotient + i128::from(up)
}

fn value(dtype: DType, bytes: &[u8]) -> i128 {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let wide = u64::from_le_bytes(wide);
    match dtype {
        DType::I8 => i128::from(wide as i8),
        DType::I16 => i128::from(wide as i16),
        DType::I32 => i128::from(wide as i32),
        DType::I64 => i128::from(wide as i64),
        _ => i128::from(wide),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean<const N: usize>(dtype: DType, inputs: &[[u8; N]], examples: &[u64]) -> Vec<u8> {
        let weights: Vec<f64> = examples.iter().map(|&count| count as f64).collect();
        let weights = example_weights(&weights, examples);
        let mut mean = IntegerMean::new(dtype, &weights);
        inputs.iter().for_each(|input| mean.add(input));
        let mut out = vec![0; N];
        mean.write(&mut out);
        out
    }

    #[test]
    fn the_mean_is_exact_at_the_ends_of_every_range() {
        let i64s = |values: &[i64], examples: &[u64]| {
            let inputs: Vec<[u8; 8]> = values.iter().map(|value| value.to_le_bytes()).collect();
            i64::from_le_bytes(mean(DType::I64, &inputs, examples).try_into().unwrap())
        };
        let odd = (1 << 53) + 1;
        assert_eq!(i64s(&[odd, odd], &[1, 2]), odd);
        assert_eq!(i64s(&[odd, odd + 3], &[1, 2]), odd + 2);
        assert_eq!(i64s(&[i64::MAX, i64::MAX - 2], &[1, 1]), i64::MAX - 1);
        assert_eq!(i64s(&[i64::MIN, i64::MAX], &[1, 1]), 0);
        assert_eq!(i64s(&[i64::MIN, i64::MIN], &[7, 3]), i64::MIN);
        let (most, less) = (u64::MAX.to_le_bytes(), (u64::MAX - 2).to_le_bytes());
        assert_eq!(mean(DType::U64, &[most, less], &[1, 1]), (u64::MAX - 1).to_le_bytes());
    }

    #[test]
    fn small_and_boolean_ones_are_rounded_halves_to_even() {
        assert_eq!(mean(DType::I8, &[[0, 156, 1], [100, 100, 2]], &[1, 3]), [75, 50, 2]);
        assert_eq!(mean(DType::U8, &[[0, 255, 1, 2], [1, 255, 2, 3]], &[1, 1]), [0, 255, 2, 2]);
        assert_eq!(mean(DType::Bool, &[[0, 1, 0, 1], [1, 1, 0, 0]], &[1, 3]), [1, 1, 0, 0]);
        assert_eq!(mean(DType::I16, &[(-3i16).to_le_bytes(), (-4i16).to_le_bytes()], &[1, 1]), (-4i16).to_le_bytes());
    }
}
