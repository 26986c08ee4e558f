//! Equal inputs for both backends, and comparing their results.

use burn::{
    backend::{
        Autodiff,
        flex::{Flex, FlexDevice},
    },
    tensor::{Tensor, TensorData, backend::Backend},
};
use peerfold::train::Cpu;

pub(crate) type Ours = Autodiff<Cpu>;
pub(crate) type Plain = Autodiff<Flex>;

/// A name and what came out.
pub(crate) type Results = Vec<(String, TensorData)>;

pub(crate) const DEVICE: FlexDevice = FlexDevice;

/// Values from -1 to 1 that follow from the seed.
pub(crate) fn values(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40
    };
    (0..len + 4).map(|_| next() as f32 / (1 << 23) as f32 - 1.0).skip(4).collect()
}

pub(crate) fn data<const D: usize>(shape: [usize; D], seed: u64) -> TensorData {
    TensorData::new(values(shape.iter().product(), seed), shape)
}

pub(crate) fn tensor<B: Backend<Device = FlexDevice>, const D: usize>(shape: [usize; D], seed: u64) -> Tensor<B, D> {
    Tensor::from_data(data(shape, seed), &DEVICE)
}

fn numbers(data: &TensorData) -> Vec<f64> {
    data.iter::<f64>().collect()
}

/// Equal to a hundred thousandth of the greatest value: sums are in another order.
#[track_caller]
pub(crate) fn assert_alike(ours: &TensorData, plain: &TensorData, what: &str) {
    assert_eq!(ours.shape, plain.shape, "shape of {what}");
    let (ours, plain) = (numbers(ours), numbers(plain));
    let scale = plain.iter().filter(|value| value.is_finite()).fold(1.0_f64, |most, value| most.max(value.abs()));
    for (place, (ours, plain)) in ours.iter().zip(&plain).enumerate() {
        let equal = ours == plain || (ours.is_nan() && plain.is_nan()) || (ours - plain).abs() <= 1e-5 * scale;
        assert!(equal, "{what}, element {place}: {ours} instead of {plain}");
    }
}

#[track_caller]
pub(crate) fn assert_equal(ours: &TensorData, plain: &TensorData, what: &str) {
    assert_eq!(ours.shape, plain.shape, "shape of {what}");
    let bits = |data: &TensorData| numbers(data).into_iter().map(f64::to_bits).collect::<Vec<_>>();
    assert!(bits(ours) == bits(plain), "{what}: {ours} instead of {plain}");
}

#[track_caller]
pub(crate) fn assert_results_alike(ours: &[(String, TensorData)], plain: &[(String, TensorData)], what: &str) {
    assert_eq!(ours.len(), plain.len(), "{what}");
    for ((name, ours), (_, plain)) in ours.iter().zip(plain) {
        assert_alike(ours, plain, &format!("{name} of {what}"));
    }
}

/// How a tensor of [batch, channels, height, width] lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lies {
    RowMajor,
    ChannelsLast,
    /// Height and width are swapped.
    Swapped,
    /// A part of a larger one.
    Within,
    /// A part of a larger one with the channels last.
    WithinChannelsLast,
    /// Every other row and column.
    EveryOther,
    /// From the last row to the first, and so the columns.
    Flipped,
    /// One image, repeated.
    Repeated,
    /// One channel, repeated.
    RepeatedChannel,
}

impl Lies {
    pub(crate) const ALL: [Self; 9] = [
        Self::RowMajor,
        Self::ChannelsLast,
        Self::Swapped,
        Self::Within,
        Self::WithinChannelsLast,
        Self::EveryOther,
        Self::Flipped,
        Self::Repeated,
        Self::RepeatedChannel,
    ];

    pub(crate) fn tensor<B: Backend<Device = FlexDevice>>(self, shape: [usize; 4], seed: u64) -> Tensor<B, 4> {
        let [n, c, h, w] = shape;
        match self {
            Self::RowMajor => tensor(shape, seed),
            Self::ChannelsLast => tensor::<B, 4>([n, h, w, c], seed).permute([0, 3, 1, 2]),
            Self::Swapped => tensor::<B, 4>([n, c, w, h], seed).swap_dims(2, 3),
            Self::Within => {
                tensor::<B, 4>([n + 1, c + 2, h + 1, w + 2], seed).slice([1..n + 1, 1..c + 1, 0..h, 1..w + 1])
            }
            Self::WithinChannelsLast => {
                let whole = tensor::<B, 4>([n + 1, h + 1, w + 2, c + 2], seed);
                whole.permute([0, 3, 1, 2]).slice([1..n + 1, 1..c + 1, 1..h + 1, 0..w])
            }
            Self::EveryOther => {
                let whole = tensor::<B, 4>([n, c, 2 * h, 2 * w], seed);
                whole.slice(burn::tensor::s![.., .., ..;2, ..;2])
            }
            Self::Flipped => tensor::<B, 4>(shape, seed).flip([2, 3]),
            Self::Repeated => tensor::<B, 4>([1, c, h, w], seed).expand(shape),
            Self::RepeatedChannel => tensor::<B, 4>([n, 1, h, w], seed).expand(shape),
        }
    }
}
