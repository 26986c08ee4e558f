//! The updates of a round, checked, and which of them gives the integer tensors.

use super::{FoldError, Round, Update, number};
use crate::weights::{DType, Layout, Piece, ReadError, TensorReader, Weights};
use bytes::Bytes;
use std::{cmp::Reverse, sync::Arc};

/// A round whose layouts agree.
pub(super) struct Source<'a> {
    updates: &'a [Update<'a>],
    layout: Arc<Layout>,
    x: Option<&'a Weights>,
}

/// Something whose pieces a rule reads.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// An update; a difference is added to x.
    Update(&'a Update<'a>, Option<&'a Weights>),
    /// Weights that the rule keeps, of the round's layout.
    Kept(&'a Weights),
}

impl<'a> Source<'a> {
    /// Checks a round without reading a value: that there are updates, that none failed unless that is accepted, that
    /// all layouts are that of x (of the node's own update, without one), and that there is an x if an update is a
    /// difference.
    pub(super) fn check(
        round: &Round<'a>,
        x: Option<&'a Weights>,
        accept_failures: bool,
        strategy: &'static str,
    ) -> Result<Self, FoldError> {
        let updates = round.updates;
        if updates.is_empty() {
            return Err(FoldError::NoUpdates);
        }
        if round.failures > 0 && !accept_failures {
            return Err(FoldError::Failures { failures: round.failures });
        }
        let layout = x.map(|x| x.layout().clone()).unwrap_or_else(|| {
            // The node's own layout is the reference, so that an error names the peer as the one that differs.
            let own = updates.iter().find(|update| update.own).unwrap_or(&updates[0]);
            Arc::new(own.weights.layout().clone())
        });
        for update in updates {
            if let Some(difference) = layout.difference(update.weights.layout()) {
                return Err(FoldError::Layout { author: update.author, difference });
            }
            if update.delta && x.is_none() {
                return Err(FoldError::NotBegun { strategy });
            }
        }
        Ok(Self { updates, layout, x })
    }

    /// The updates, in the round's order.
    pub(super) fn updates(&self) -> &'a [Update<'a>] {
        self.updates
    }

    /// The layout of every update.
    pub(super) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// An update to be read.
    pub(super) fn input(&self, number: usize) -> Input<'a> {
        Input::Update(&self.updates[number], self.x)
    }

    /// All of them, in the round's order.
    pub(super) fn inputs(&self) -> Vec<Input<'a>> {
        (0..self.updates.len()).map(|number| self.input(number)).collect()
    }

    /// The numbers of the updates in the order in which every node sums: by author, then by epoch.
    pub(super) fn by_author(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.updates.len()).collect();
        order.sort_by_key(|&number| (self.updates[number].author, self.updates[number].epoch));
        order
    }

    /// Where integer tensors come from: among these updates, the one with the highest epoch and then the smallest
    /// author id, so that every node chooses the same one.
    pub(super) fn newest(&self, among: impl IntoIterator<Item = usize>) -> Option<Input<'a>> {
        let key = |&number: &usize| (Reverse(self.updates[number].epoch), self.updates[number].author);
        among.into_iter().min_by_key(key).map(|number| self.input(number))
    }

    /// The numbers of examples of these updates, capped so that none has more than `max_share` of the total. An error
    /// if they are all 0.
    pub(super) fn examples(&self, among: &[usize], max_share: f64) -> Result<Vec<f64>, FoldError> {
        let counts: Vec<f64> = among.iter().map(|&number| self.updates[number].num_examples as f64).collect();
        if counts.iter().all(|&count| count == 0.0) {
            return Err(FoldError::NoExamples);
        }
        Ok(capped(counts, max_share))
    }
}

/// The same weights, with the largest capped to one value so that none is more than `most` of the sum. If too few of
/// them are above 0 for that, they are all made equal.
pub(super) fn capped(weights: Vec<f64>, most: f64) -> Vec<f64> {
    if most >= 1.0 {
        return weights;
    }
    let mut sorted: Vec<f64> = weights.iter().copied().filter(|&weight| weight > 0.0).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    // For each weight, the sum of it and all smaller ones, starting from the smallest: next to an absurdly large one,
    // all others would be lost in rounding.
    let mut rests: Vec<f64> = Vec::with_capacity(sorted.len());
    rests.extend(sorted.iter().rev().scan(0.0, |rest, weight| {
        *rest += weight;
        Some(*rest)
    }));
    for (cut, (&next, rest)) in sorted.iter().zip(rests.into_iter().rev()).enumerate() {
        // With the `cut` largest of them cut to `limit`, that is the share `most` of all.
        let free = 1.0 - most * cut as f64;
        let limit = most * rest / free;
        if free > 0.0 && next <= limit {
            return if cut == 0 { weights } else { weights.into_iter().map(|weight| weight.min(limit)).collect() };
        }
    }
    weights.into_iter().map(|weight| f64::from(weight > 0.0)).collect()
}

impl Input<'_> {
    /// Whether shorter pieces of it cost no more than whole ones.
    pub(super) fn reads_parts(&self) -> bool {
        match self {
            Input::Kept(_) => true,
            Input::Update(update, _) => update.weights.reads_parts(),
        }
    }

    /// Exactly these bytes.
    pub(super) fn read(&self, piece: &Piece) -> Result<Bytes, FoldError> {
        match self {
            Input::Kept(weights) => Ok(part(weights, piece)),
            Input::Update(update, None) => read(update, piece),
            Input::Update(update, Some(x)) => {
                let bytes = read(update, piece)?;
                if !update.delta {
                    return Ok(bytes);
                }
                let dtype = x.layout().tensors()[piece.tensor].dtype;
                Ok(sum(dtype, &part(x, piece), &bytes))
            }
        }
    }
}

/// A piece of weights in memory.
pub(super) fn part(weights: &Weights, piece: &Piece) -> Bytes {
    weights.read(piece.tensor, piece.range.clone()).expect("the layouts were compared, and it lies in memory")
}

fn read(update: &Update<'_>, piece: &Piece) -> Result<Bytes, FoldError> {
    let failed = |source| FoldError::Read { author: update.author, source };
    let bytes = update.weights.read(piece.tensor, piece.range.clone()).map_err(failed)?;
    let expected = piece.range.end - piece.range.start;
    if bytes.len() as u64 != expected {
        let place = format!("tensor {}", update.weights.layout().tensors()[piece.tensor]);
        let what = format!("{} bytes where {expected} were asked for", bytes.len());
        return Err(failed(ReadError::Damaged { place, what }));
    }
    Ok(bytes)
}

/// x + Δ, element by element; integers wrap around, and a boolean is Δ's.
fn sum(dtype: DType, x: &[u8], delta: &[u8]) -> Bytes {
    fn integers<const N: usize>(x: &[u8], delta: &[u8], add: impl Fn([u8; N], [u8; N]) -> [u8; N]) -> Vec<u8> {
        let pairs = x.as_chunks().0.iter().zip(delta.as_chunks().0);
        pairs.flat_map(|(&x, &delta)| add(x, delta)).collect()
    }
    if dtype == DType::Bool {
        return Bytes::copy_from_slice(delta);
    }
    if !dtype.is_float() {
        let add_8 = |x, delta| u64::from_le_bytes(x).wrapping_add(u64::from_le_bytes(delta)).to_le_bytes();
        let add_4 = |x, delta| u32::from_le_bytes(x).wrapping_add(u32::from_le_bytes(delta)).to_le_bytes();
        let add_2 = |x, delta| u16::from_le_bytes(x).wrapping_add(u16::from_le_bytes(delta)).to_le_bytes();
        let add_1 = |x, delta| u8::from_le_bytes(x).wrapping_add(u8::from_le_bytes(delta)).to_le_bytes();
        return Bytes::from(match dtype.size() {
            8 => integers(x, delta, add_8),
            4 => integers(x, delta, add_4),
            2 => integers(x, delta, add_2),
            _ => integers(x, delta, add_1),
        });
    }
    let elements = x.len() / dtype.size() as usize;
    let (mut sums, mut deltas, mut bytes) = (vec![0.0; elements], vec![0.0; elements], vec![0; x.len()]);
    number::decode(dtype, x, &mut sums);
    number::decode(dtype, delta, &mut deltas);
    sums.iter_mut().zip(deltas).for_each(|(sum, delta)| *sum += delta);
    number::encode(dtype, &sums, &mut bytes);
    Bytes::from(bytes)
}
