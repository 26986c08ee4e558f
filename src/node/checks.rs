//! What a peer's update must satisfy before it counts.

use super::suspicion::Suspicion;
use crate::{
    settings::{Range, settings},
    weights::{CHUNK_BYTES, DType, ReadError, TensorReader},
};
use half::{bf16, f16};

settings! {
    /// What an update must satisfy before it counts.
    pub struct Checks under "Folding" {
        /// Leave out updates that are staler than this.
        pub max_staleness as "max-staleness": u64 = 10, "EPOCHS";
        /// Refuse updates that claim more examples.
        pub max_num_examples as "max-num-examples": u64 = 100_000_000, "N";
        /// Count no more examples of an update than so many times the median of those that it is folded with.
        ///
        /// The median of what they claim, the node's own update included; of two numbers in the middle the lower one.
        /// Nobody can check what a peer claims, and in a mean weighted by examples a claim decides. Should be the same
        /// on all nodes that fold synchronously.
        pub max_examples_ratio as "max-examples-ratio": f64 = 5.0, "F", Range::at_least(1.0);
        /// Refuse updates whose weights have a larger Euclidean norm. [default: any]
        pub max_norm as "max-norm": Option<f64> = None, "F", Range::above(0.0);
        /// Leave out updates whose weights have a norm of more than so many times the median of those of their fold.
        ///
        /// The node's own update included; of two numbers in the middle the lower one. A single update of finite but
        /// absurd weights would otherwise end the training of all. Should be the same on all nodes that fold
        /// synchronously.
        pub max_norm_ratio as "max-norm-ratio": f64 = 100.0, "F", Range::at_least(1.0);
        /// What to do about an update that is far out of line with at least three others, in length or direction, or in
        /// its loss on --validation.
        ///
        /// See [`out_of_line`](crate::strategy::out_of_line). It takes one more pass over the values of each fold, and
        /// the weights that the epoch began with stay in memory. Should be the same on all nodes that fold
        /// synchronously. With --sync a loss never leaves an update out: each node measures its own, and they would
        /// fold different updates.
        pub suspect as "suspect": Suspicion = Suspicion::Warn, "WHAT";
    }
    beside {
        /// Highest epoch that an update may claim: no claim comes near to where arithmetic with epochs ends.
        pub max_epoch: u64 = 1_000_000_000;
    }
}

/// Why an update doesn't count.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// Names, dtypes or shapes differ.
    #[error("it has another layout: {difference}")]
    Layout {
        /// The first difference.
        difference: String,
    },
    /// NaN or an infinity.
    #[error("tensor {tensor:?} is not finite at element {element}")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The first such element, row-major.
        element: u64,
    },
    /// Longer than allowed.
    #[error("its norm is {norm:.6}, but at most {limit} is allowed")]
    Norm {
        /// Its norm.
        norm: f64,
        /// The limit.
        limit: f64,
    },
    /// It claims too many examples.
    #[error("it claims {claimed} examples, but at most {limit} are believed")]
    NumExamples {
        /// What it claims.
        claimed: u64,
        /// The limit.
        limit: u64,
    },
    /// It claims an epoch that nobody can have reached.
    #[error("it claims epoch {claimed}, but at most {limit} is believed")]
    Epoch {
        /// What it claims.
        claimed: u64,
        /// The limit.
        limit: u64,
    },
    /// What is stored isn't what its author signed.
    #[error("{0}")]
    Damaged(String),
    /// It can't be read now, but may be later.
    #[error("{0}")]
    OutOfReach(String),
}

impl Checks {
    /// Checks what an entry claims.
    pub fn claim(&self, epoch: u64, num_examples: u64) -> Result<(), Rejection> {
        if epoch > self.max_epoch {
            return Err(Rejection::Epoch { claimed: epoch, limit: self.max_epoch });
        }
        if num_examples > self.max_num_examples {
            return Err(Rejection::NumExamples { claimed: num_examples, limit: self.max_num_examples });
        }
        Ok(())
    }

    /// Reads the weights once, piece by piece, and gives their Euclidean norm. Blocks: call it off the async runtime.
    pub fn weights(&self, weights: &dyn TensorReader) -> Result<f64, Rejection> {
        let mut square = 0.0;
        for (tensor, spec) in weights.layout().tensors().iter().enumerate() {
            // Integers are read too, because every chunk must be there and be what was signed.
            for start in (0..spec.bytes()).step_by(CHUNK_BYTES as usize) {
                let end = spec.bytes().min(start + CHUNK_BYTES);
                let bytes = weights.read(tensor, start..end).map_err(|error| match error {
                    ReadError::Io { .. } => Rejection::OutOfReach(error.to_string()),
                    ReadError::Damaged { .. } | ReadError::OutOfRange { .. } => Rejection::Damaged(error.to_string()),
                })?;
                let sum = sum_of_squares(spec.dtype, &bytes).map_err(|at| Rejection::NotFinite {
                    tensor: spec.name.clone(),
                    element: start / spec.dtype.size() + at,
                })?;
                square += sum;
            }
        }
        let norm = square.sqrt();
        match self.max_norm {
            Some(limit) if norm > limit => Err(Rejection::Norm { norm, limit }),
            _ => Ok(norm),
        }
    }
}

/// Sums that are taken at the same time.
const SUMS: usize = 8;

/// The sum of the elements' squares, or the number of the first one that is not finite.
fn sum_of_squares(dtype: DType, bytes: &[u8]) -> Result<f64, u64> {
    fn sum<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Result<f64, u64> {
        let (elements, _) = bytes.as_chunks::<N>();
        // The common case has no branch in its loop: every non-finite element makes the sum of zeros NaN. There are
        // several sums, because one would have each addition wait for the one before.
        let (mut zeros, mut squares) = ([0.0; SUMS], [0.0; SUMS]);
        let mut add = |lane: usize, element: [u8; N]| {
            let element = value(element);
            zeros[lane] += element * 0.0;
            squares[lane] += element * element;
        };
        let (rows, rest) = elements.as_chunks::<SUMS>();
        rows.iter().for_each(|row| (0..SUMS).for_each(|lane| add(lane, row[lane])));
        rest.iter().enumerate().for_each(|(lane, &element)| add(lane, element));
        if zeros.iter().sum::<f64>() == 0.0 {
            return Ok(squares.iter().sum());
        }
        Err(elements.iter().take_while(|&&element| value(element).is_finite()).count() as u64)
    }
    match dtype {
        DType::F64 => sum(bytes, f64::from_le_bytes),
        DType::F32 => sum(bytes, |element| f32::from_le_bytes(element).into()),
        DType::F16 => sum(bytes, |element| f16::from_le_bytes(element).into()),
        DType::BF16 => sum(bytes, |element| bf16::from_le_bytes(element).into()),
        DType::I64
        | DType::I32
        | DType::U8
        | DType::Bool
        | DType::I8
        | DType::I16
        | DType::U16
        | DType::U32
        | DType::U64 => Ok(0.0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::weights::{Tensor, TensorSpec, Weights};

    type Encode = fn(f64) -> Vec<u8>;

    fn tensor(name: &str, dtype: DType, data: Vec<u8>) -> Tensor {
        let shape = vec![data.len() as u64 / dtype.size()];
        Tensor { spec: TensorSpec { name: name.to_owned(), dtype, shape }, data: data.into() }
    }

    #[test]
    fn finds_the_first_element_that_is_not_finite_in_every_float_dtype() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let encode: [(DType, Encode); 4] = [
                (DType::F64, |value| value.to_le_bytes().to_vec()),
                (DType::F32, |value| (value as f32).to_le_bytes().to_vec()),
                (DType::F16, |value| f16::from_f64(value).to_le_bytes().to_vec()),
                (DType::BF16, |value| bf16::from_f64(value).to_le_bytes().to_vec()),
            ];
            for (dtype, encode) in encode {
                // Far enough to lie behind the first block that is read.
                let at = 600_000;
                let mut data: Vec<u8> = std::iter::repeat_with(|| encode(1.5)).take(at).flatten().collect();
                data.extend(encode(bad));
                data.extend(encode(bad));
                let weights = Weights::new(vec![tensor("w", dtype, data)]).unwrap();
                let error = Checks::default().weights(&weights).unwrap_err();
                assert!(matches!(error, Rejection::NotFinite { element, .. } if element == at as u64), "{error}");
            }
        }
    }

    #[test]
    fn large_finite_values_pass_and_integers_are_not_floats() {
        let data = [f64::MAX, -f64::MAX].iter().flat_map(|value| value.to_le_bytes()).collect();
        let weights =
            Weights::new(vec![tensor("w", DType::F64, data), tensor("n", DType::I32, vec![0xff; 8])]).unwrap();
        Checks::default().weights(&weights).unwrap();
    }

    #[test]
    fn the_norm_is_taken_over_all_tensors() {
        let weights = Weights::new(vec![
            tensor("a", DType::F32, 3f32.to_le_bytes().to_vec()),
            tensor("b", DType::F64, 4f64.to_le_bytes().to_vec()),
        ])
        .unwrap();
        let bound = |max_norm| Checks { max_norm: Some(max_norm), ..Checks::default() };
        assert_eq!(bound(5.0).weights(&weights).unwrap(), 5.0);
        assert!(matches!(bound(4.99).weights(&weights), Err(Rejection::Norm { .. })));
    }

    #[test]
    fn every_element_counts_in_the_norm() {
        for length in 0..=2 * SUMS as u64 + 3 {
            let data = (1..=length).flat_map(|element| (element as f32).to_le_bytes()).collect();
            let norm = Checks::default().weights(&Weights::new(vec![tensor("w", DType::F32, data)]).unwrap()).unwrap();
            assert_eq!(norm, ((length * (length + 1) * (2 * length + 1) / 6) as f64).sqrt());
        }
    }

    #[test]
    fn absurd_claims_are_refused() {
        let checks = Checks::default();
        checks.claim(0, 0).unwrap();
        checks.claim(checks.max_epoch, checks.max_num_examples).unwrap();
        assert!(matches!(checks.claim(1, 1_000_000_000_000_000), Err(Rejection::NumExamples { .. })));
        assert!(matches!(checks.claim(u64::MAX, 1), Err(Rejection::Epoch { claimed: u64::MAX, .. })));
    }
}
