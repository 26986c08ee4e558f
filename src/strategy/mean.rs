//! The weighted mean Σ a_k·w_k / Σ a_k of a piece, in several arithmetics.

use super::{
    FoldError,
    number::{BF16, F16, F32, F64, Wire, encode},
    source::Input,
};
use crate::weights::{DType, Piece};
use bytes::Bytes;
use std::ops::Range;

/// Updates whose pieces are held at the same time: as many as are read while one accumulator stays in the cache.
const GROUP: usize = 8;
/// Elements that are summed over all updates of a group before the next ones: their f64 accumulator takes 16 KiB, half
/// of the smallest L1 cache around.
const BLOCK: usize = 2048;

/// Rounding of the mean's operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounding {
    /// Peerfold's own: Σ a_k·w_k in f64 (f64 tensors: in two f64, at two scales), over Σ a_k, rounded.
    Once,
    /// `(Σ w·n_k) / N`, each operation rounded to f32 (f64 tensors: to f64).
    SumThenDivide,
    /// `Σ f32(f64(w)·(n_k/N))`, summed in f32 (f64 tensors: all in f64).
    ShareInDouble,
    /// `Σ w·f32(n_k/N)` in f32 (f64 tensors: all in f64).
    ShareInSingle,
}

/// A weighted mean.
pub(super) struct Mean<'a> {
    rounding: Rounding,
    terms: Vec<(Input<'a>, f64)>,
    total: f64,
}

/// Memory of one thread, kept from piece to piece.
#[derive(Default)]
pub(super) struct Scratch {
    single: Vec<f32>,
    double: Vec<f64>,
    twofold: Vec<AtTwoScales>,
    mean: Vec<f64>,
}

impl<'a> Mean<'a> {
    /// The mean of these inputs with these weights, summed in this order. There is at least one input, and the sum of
    /// the weights is not 0.
    pub(super) fn new(rounding: Rounding, mut terms: Vec<(Input<'a>, f64)>) -> Self {
        let total = terms.iter().map(|&(_, weight)| weight).sum();
        if rounding == Rounding::Once {
            // An update with weight 0 must not even contribute a NaN.
            terms.retain(|&(_, weight)| weight != 0.0);
        }
        Self { rounding, terms, total }
    }

    /// How many inputs it holds a piece of at the same time.
    pub(super) fn held(&self) -> usize {
        self.terms.len().min(GROUP)
    }

    /// The mean of a piece of a tensor of this float dtype, given to `sink` in f64 and block by block, in order: number
    /// of the block's first element in the piece, and the elements, which are `sink`'s to overwrite.
    pub(super) fn piece(
        &self,
        dtype: DType,
        piece: &Piece,
        scratch: &mut Scratch,
        sink: &mut dyn FnMut(usize, &mut [f64]),
    ) -> Result<(), FoldError> {
        let Scratch { single, double, twofold, mean } = scratch;
        let job = Job { mean: self, dtype, piece, out: mean, sink };
        match dtype {
            DType::F64 => self.doubles(job, double, twofold),
            DType::F32 => self.singles::<F32>(job, single, double),
            DType::F16 => self.singles::<F16>(job, single, double),
            DType::BF16 => self.singles::<BF16>(job, single, double),
            DType::I64
            | DType::I32
            | DType::U8
            | DType::Bool
            | DType::I8
            | DType::I16
            | DType::U16
            | DType::U32
            | DType::U64 => unreachable!("{dtype} is not averaged"),
        }
    }

    fn singles<W: Wire<Value = f32>>(
        &self,
        job: Job<'_>,
        single: &mut Vec<f32>,
        double: &mut Vec<f64>,
    ) -> Result<(), FoldError> {
        let total = self.total;
        match self.rounding {
            Rounding::Once => {
                let term = |count| Term(count, |count: f64, weight: f32| count * f64::from(weight));
                job.run::<W, f64, _>(double, term, |sum| sum / total)
            }
            Rounding::SumThenDivide => {
                let total = total as f32;
                let term = |count: f64| Term(count as f32, |count: f32, weight: f32| weight * count);
                job.run::<W, f32, _>(single, term, |sum| f64::from(sum / total))
            }
            Rounding::ShareInDouble => {
                let term =
                    |count: f64| Term(count / total, |share: f64, weight: f32| (f64::from(weight) * share) as f32);
                job.run::<W, f32, _>(single, term, f64::from)
            }
            Rounding::ShareInSingle => {
                let term = |count: f64| Term((count / total) as f32, |share: f32, weight: f32| weight * share);
                job.run::<W, f32, _>(single, term, f64::from)
            }
        }
    }

    fn doubles(&self, job: Job<'_>, double: &mut Vec<f64>, twofold: &mut Vec<AtTwoScales>) -> Result<(), FoldError> {
        let total = self.total;
        match self.rounding {
            Rounding::Once => {
                let scales = Scales::of(self.terms.iter().map(|&(_, weight)| weight));
                let term = |count| Term(scales.both(count), AtTwoScales::product);
                // Fractions can't be added without rounding.
                let whole = |&(_, weight): &(Input<'_>, f64)| Twofold { sum: weight, lost: 0.0 };
                let total = self.terms.iter().map(whole).fold(Twofold::NOTHING, Twofold::plus);
                let scaled = |scale: f64| Twofold { sum: total.sum * scale, lost: total.lost * scale };
                let totals = (scaled(scales.large), scaled(scales.small));
                job.run::<F64, _, _>(twofold, term, |sum| sum.over(totals))
            }
            Rounding::SumThenDivide => {
                let term = |count| Term(count, |count: f64, weight: f64| weight * count);
                job.run::<F64, _, _>(double, term, |sum| sum / total)
            }
            Rounding::ShareInDouble | Rounding::ShareInSingle => {
                let term = |count: f64| Term(count / total, |share: f64, weight: f64| weight * share);
                job.run::<F64, _, _>(double, term, |sum| sum)
            }
        }
    }
}

/// What an update adds for one element: a factor of the update, and how an element is multiplied by it.
struct Term<F, M>(F, M);

trait Addend<W, A> {
    fn of(&self, weight: W) -> A;
}

impl<W, A, F: Copy, M: Fn(F, W) -> A> Addend<W, A> for Term<F, M> {
    #[inline(always)]
    fn of(&self, weight: W) -> A {
        (self.1)(self.0, weight)
    }
}

trait Accumulator: Copy + Default {
    /// What a sum starts from: -0, as adding a first term of -0 to +0 would give +0.
    const NOTHING: Self;

    fn plus(self, term: Self) -> Self;
}

impl Accumulator for f32 {
    const NOTHING: f32 = -0.0;

    #[inline(always)]
    fn plus(self, term: f32) -> f32 {
        self + term
    }
}

impl Accumulator for f64 {
    const NOTHING: f64 = -0.0;

    #[inline(always)]
    fn plus(self, term: f64) -> f64 {
        self + term
    }
}

/// A sum and what its roundings lost. There is no wider type in which to sum f64 tensors, and equal updates must still
/// fold into themselves.
#[derive(Debug, Clone, Copy, Default)]
struct Twofold {
    sum: f64,
    lost: f64,
}

impl Twofold {
    /// n·w. Both are split in two by their bits, so that nothing can overflow. 26 bits of one times 27 of the other are
    /// 53, so the product of the high parts is exact (Dekker); the low parts' lose far less than a last place.
    #[inline(always)]
    fn product(count: f64, weight: f64) -> Self {
        let high_of = |number: f64, low: u32| f64::from_bits(number.to_bits() >> low << low);
        let (count_high, high) = (high_of(count, 27), high_of(weight, 26));
        let (count_low, low) = (count - count_high, weight - high);
        let sum = count * weight;
        let lost = ((high * count_high - sum) + high * count_low + low * count_high) + low * count_low;
        Self { sum, lost }
    }

    #[inline(always)]
    fn value(self) -> f64 {
        self.sum + self.lost
    }

    /// The quotient, rounded nearly as if once: what the first division leaves is divided too.
    #[inline(always)]
    fn over(self, total: Self) -> f64 {
        let quotient = self.sum / total.sum;
        let back = Self::product(quotient, total.sum);
        let rest = (self.sum - back.sum) - back.lost + self.lost - quotient * total.lost;
        quotient + rest / total.sum
    }
}

impl Accumulator for Twofold {
    const NOTHING: Self = Self { sum: -0.0, lost: 0.0 };

    #[inline(always)]
    fn plus(self, term: Self) -> Self {
        let sum = self.sum + term.sum;
        let part = sum - self.sum;
        let lost = (self.sum - (sum - part)) + (term.sum - part);
        Self { sum, lost: self.lost + term.lost + lost }
    }
}

/// Powers of two by which the weights of a mean are multiplied, so that the mean works for all f64 numbers.
#[derive(Debug, Clone, Copy)]
struct Scales {
    large: f64,
    small: f64,
}

impl Scales {
    /// At the large scale the weights add up to about 2^200, and no product with the smallest numbers loses a bit; at the
    /// small one they add up to at most a half, and no sum of the largest ones overflows.
    fn of(weights: impl Iterator<Item = f64>) -> Self {
        let exponent = weights.map(f64::abs).sum::<f64>().log2().ceil() + 1.0;
        Self { large: (200.0 - exponent).exp2(), small: (-exponent).exp2() }
    }

    fn both(self, number: f64) -> (f64, f64) {
        (number * self.large, number * self.small)
    }
}

/// The same sum at both [`Scales`].
#[derive(Debug, Clone, Copy, Default)]
struct AtTwoScales {
    large: Twofold,
    small: Twofold,
}

impl AtTwoScales {
    #[inline(always)]
    fn product((large, small): (f64, f64), weight: f64) -> Self {
        Self { large: Twofold::product(large, weight), small: Twofold::product(small, weight) }
    }

    /// The sum over the sum of the weights, each at its scale: at the large one unless that has overflowed.
    #[inline(always)]
    fn over(self, (large, small): (Twofold, Twofold)) -> f64 {
        if self.large.value().is_finite() {
            return self.large.over(large);
        }
        // Rounding must not turn the largest numbers into infinity.
        let half = Twofold { sum: self.small.sum / 2.0, lost: self.small.lost / 2.0 }.over(small);
        let beyond = (half / (f64::MAX / 2.0)).abs();
        if (1.0..=1.0 + 8.0 * f64::EPSILON).contains(&beyond) { f64::MAX.copysign(half) } else { 2.0 * half }
    }
}

impl Accumulator for AtTwoScales {
    const NOTHING: Self = Self { large: Twofold::NOTHING, small: Twofold::NOTHING };

    #[inline(always)]
    fn plus(self, term: Self) -> Self {
        Self { large: self.large.plus(term.large), small: self.small.plus(term.small) }
    }
}

/// One piece to be averaged.
struct Job<'j> {
    mean: &'j Mean<'j>,
    dtype: DType,
    piece: &'j Piece,
    out: &'j mut Vec<f64>,
    sink: &'j mut dyn FnMut(usize, &mut [f64]),
}

impl Job<'_> {
    fn run<W: Wire, A: Accumulator, T: Addend<W::Value, A>>(
        self,
        accumulator: &mut Vec<A>,
        term: impl Fn(f64) -> T,
        finish: impl Fn(A) -> f64,
    ) -> Result<(), FoldError> {
        let Self { mean, dtype, piece, out, sink } = self;
        let size = dtype.size() as usize;
        let elements = (piece.range.end - piece.range.start) as usize / size;
        // With one group each block is finished before the next and a block's accumulator is enough.
        let groups = mean.terms.len().div_ceil(GROUP);
        let kept = if groups == 1 { BLOCK.min(elements) } else { elements };
        accumulator.resize(accumulator.len().max(kept), A::default());
        out.resize(BLOCK, 0.0);
        for (number, group) in mean.terms.chunks(GROUP).enumerate() {
            let inputs = group.iter().map(|(input, weight)| Ok((term(*weight), input.read(piece)?)));
            let inputs = inputs.collect::<Result<Vec<(T, Bytes)>, FoldError>>()?;
            for start in (0..elements).step_by(BLOCK) {
                let length = BLOCK.min(elements - start);
                let first = if groups == 1 { 0 } else { start };
                let sums = &mut accumulator[first..first + length];
                let part = start * size..(start + length) * size;
                if number == 0 {
                    sums.fill(A::NOTHING);
                }
                let last = number + 1 == groups;
                let out = &mut out[..length];
                add::<W, A, T>(sums, out, &inputs, part, last.then_some(&finish));
                if last {
                    sink(start, out);
                }
            }
        }
        Ok(())
    }
}

/// Adds the terms of these bytes of the inputs to the sums, in the order of the inputs; with a `finish`, what it makes
/// of the sums goes to `out` instead. There is at least one input.
fn add<W: Wire, A: Accumulator, T: Addend<W::Value, A>>(
    sums: &mut [A],
    out: &mut [f64],
    inputs: &[(T, Bytes)],
    part: Range<usize>,
    finish: Option<&impl Fn(A) -> f64>,
) {
    let inputs: Vec<(&T, &[u8])> = inputs.iter().map(|(term, bytes)| (term, &bytes[part.clone()])).collect();
    let mut rest = inputs.as_slice();
    while !rest.is_empty() {
        // Several at a time: each sum is loaded and stored once for all of them, and the processor fetches several
        // parts of memory in parallel.
        let taken = [8, 4, 1].into_iter().find(|&count| count <= rest.len()).unwrap_or(1);
        let (now, later) = rest.split_at(taken);
        match finish.filter(|_| later.is_empty()) {
            // In the same loop, so that the division goes on while the next elements come from memory.
            Some(finish) => add_some::<W, A, T>(sums, out, now, |_, out, sum| *out = finish(sum)),
            None => add_some::<W, A, T>(sums, out, now, |kept, _, sum| *kept = sum),
        }
        rest = later;
    }
}

#[inline(always)]
fn add_some<W: Wire, A: Accumulator, T: Addend<W::Value, A>>(
    sums: &mut [A],
    out: &mut [f64],
    inputs: &[(&T, &[u8])],
    store: impl Fn(&mut A, &mut f64, A),
) {
    let places = sums.iter_mut().zip(out);
    match *inputs {
        [a, b, c, d, e, f, g, h] => {
            let (first, second) = (four::<W>(a.1, b.1, c.1, d.1), four::<W>(e.1, f.1, g.1, h.1));
            for ((sum, out), ((wa, wb, wc, wd), (we, wf, wg, wh))) in places.zip(first.zip(second)) {
                let half = sum.plus(a.0.of(wa)).plus(b.0.of(wb)).plus(c.0.of(wc)).plus(d.0.of(wd));
                store(sum, out, half.plus(e.0.of(we)).plus(f.0.of(wf)).plus(g.0.of(wg)).plus(h.0.of(wh)));
            }
        }
        [a, b, c, d] => {
            for ((sum, out), (wa, wb, wc, wd)) in places.zip(four::<W>(a.1, b.1, c.1, d.1)) {
                store(sum, out, sum.plus(a.0.of(wa)).plus(b.0.of(wb)).plus(c.0.of(wc)).plus(d.0.of(wd)));
            }
        }
        [(term, bytes)] => {
            places.zip(W::values(bytes)).for_each(|((sum, out), weight)| store(sum, out, sum.plus(term.of(weight))));
        }
        _ => unreachable!("{} inputs at a time", inputs.len()),
    }
}

/// The elements of four tensors side by side.
#[inline(always)]
fn four<W: Wire>(
    a: &[u8],
    b: &[u8],
    c: &[u8],
    d: &[u8],
) -> impl Iterator<Item = (W::Value, W::Value, W::Value, W::Value)> {
    let (first, second) = (W::values(a).zip(W::values(b)), W::values(c).zip(W::values(d)));
    first.zip(second).map(|((a, b), (c, d))| (a, b, c, d))
}

/// A sink that writes the blocks as elements of a tensor.
pub(super) fn write_to(dtype: DType, bytes: &mut [u8]) -> impl FnMut(usize, &mut [f64]) {
    let size = dtype.size() as usize;
    move |start, values| encode(dtype, values, &mut bytes[start * size..(start + values.len()) * size])
}
