//! The frame of the rules that take a step from x towards the mean of the updates.

use super::{
    FoldError, Folded, Round, Strategy,
    combination::Plan,
    engine::{self, Plane},
    mean::{self, Mean, Rounding},
    memory::{Form, Memory},
    number::{decode, encode},
    parameters::{Common, StrategyInfo},
    remembering::{Remembering, Remembers},
    source::Source,
};
use crate::weights::{DType, Piece};
use bytes::Bytes;

/// A step that is the same for every coordinate.
pub(super) trait Rule: Send + Sync {
    /// Name and parameters.
    const INFO: StrategyInfo;

    /// How the mean is rounded.
    fn rounding(&self, common: &Common) -> Rounding;

    /// How much each update counts in the mean, in the round's order: by its examples.
    fn weights(&self, source: &Source<'_>, common: &Common) -> Result<Vec<f64>, FoldError> {
        let all: Vec<usize> = (0..source.updates().len()).collect();
        source.examples(&all, common.max_share)
    }

    /// The number of moments kept for each coordinate.
    fn moments(&self) -> usize;

    /// Whether x and the moments are kept in f64 whatever the dtype of the weights.
    fn wide(&self) -> bool {
        false
    }

    /// Whether the step ends at the mean, so that no x is needed.
    fn ends_at_mean(&self) -> bool {
        false
    }

    /// Takes the step for some coordinates. `mean` becomes the new x and `moments` the new moments; they are 0 in the
    /// first fold. All of them have the same length.
    fn step(&self, at: &At, x: &[f64], mean: &mut [f64], moments: &mut [Vec<f64>]);
}

/// Where a step is taken.
pub(super) struct At {
    /// The round's number.
    pub(super) round: u64,
    /// Folds that the moments know of.
    pub(super) folds: u64,
    /// Whether the tensor is one on which a reference computes in f32.
    pub(super) single: bool,
}

/// A strategy whose memory is x and moments.
pub(super) struct Optimizer<R> {
    rule: R,
    common: Common,
}

/// Memory of one thread: what it decodes from x and the moments.
#[derive(Default)]
struct Scratch {
    mean: mean::Scratch,
    x: Vec<f64>,
    moments: Vec<Vec<f64>>,
}

impl<R: Rule + 'static> Optimizer<R> {
    pub(super) fn strategy(rule: R, common: Common) -> Box<dyn Strategy> {
        Box::new(Remembering::new(Self { rule, common }))
    }
}

impl<R: Rule> Remembers for Optimizer<R> {
    fn form(&self) -> Form {
        let (reference, wide, moments) = (self.common.reference, self.rule.wide(), self.rule.moments());
        Form { strategy: R::INFO.name, reference, wide, moments }
    }

    fn fold(&self, memory: &Memory, round: &Round<'_>) -> Result<(Folded, Memory), FoldError> {
        let (rule, form) = (&self.rule, self.form());
        let source = Source::check(round, memory.x.as_ref(), self.common.accept_failures, form.strategy)?;
        if memory.x.is_none() && !rule.ends_at_mean() {
            return Err(FoldError::NotBegun { strategy: form.strategy });
        }
        let layout = source.layout();
        let all: Vec<usize> = (0..source.updates().len()).collect();
        let weights = rule.weights(&source, &self.common)?;
        let Plan { terms, rounding, shares, integers, .. } =
            Plan::mean(&source, &all, &weights, rule.rounding(&self.common));
        let mean = Mean::new(rounding, terms);
        let x: Vec<Bytes> = match &memory.x {
            Some(x) if memory.wide.is_empty() => x.tensors().map(|(_, data)| data.clone()).collect(),
            _ => memory.wide.clone(),
        };
        let x_plane = if memory.wide.is_empty() { Plane::Weights } else { Plane::Wide };
        let mut beside: Vec<Plane> = form.wide.then_some(Plane::Wide).into_iter().collect();
        beside.extend(vec![form.moment(); form.moments]);

        let work = |scratch: &mut Scratch, dtype, piece: &Piece, weights: &mut [u8], outputs: &mut [&mut [u8]]| {
            let at = At { round: round.number, folds: memory.folds, single: dtype != DType::F64 };
            let part =
                |plane: Plane, buffers: &Vec<Bytes>| Some((plane.dtype(dtype)?, plane.part(layout, buffers, piece)));
            let x_part = if x.is_empty() { None } else { part(x_plane, &x) };
            let moment_parts: Vec<_> = memory.moments.iter().map(|moment| part(form.moment(), moment)).collect();
            let Scratch { mean: mean_scratch, x: x_block, moments } = scratch;
            moments.resize_with(form.moments, Vec::new);
            mean.piece(dtype, piece, mean_scratch, &mut |start, values| {
                read_block(x_part.as_ref(), start, values.len(), x_block);
                for (number, block) in moments.iter_mut().enumerate() {
                    read_block(moment_parts.get(number).and_then(Option::as_ref), start, values.len(), block);
                }
                rule.step(&at, x_block, values, moments);
                let wide = form.wide.then_some(&*values);
                write_block(dtype, values, start, weights);
                let blocks = wide.into_iter().chain(moments.iter().map(Vec::as_slice));
                for ((plane, output), block) in beside.iter().zip(outputs.iter_mut()).zip(blocks) {
                    if let Some(dtype) = plane.dtype(dtype) {
                        write_block(dtype, block, start, output);
                    }
                }
            })
        };
        let (weights, mut planes) =
            engine::fold_floats(layout, mean.held(), &beside, integers, Scratch::default, work)?;
        let wide = if form.wide { planes.next().unwrap_or_default() } else { Vec::new() };
        let (x, moments) = (Some(weights.clone()), planes.collect());
        Ok((Folded::new(weights, shares), Memory { x, wide, moments, ..Memory::default() }))
    }

    fn takes_steps(&self) -> bool {
        true
    }
}

/// A block of a part of a plane; zeros, where there is none yet.
fn read_block(part: Option<&(DType, Bytes)>, start: usize, length: usize, block: &mut Vec<f64>) {
    block.clear();
    block.resize(length, 0.0);
    if let Some((dtype, bytes)) = part {
        let size = dtype.size() as usize;
        decode(*dtype, &bytes[start * size..(start + length) * size], block);
    }
}

/// Writes a block to its place.
fn write_block(dtype: DType, block: &[f64], start: usize, output: &mut [u8]) {
    let size = dtype.size() as usize;
    encode(dtype, block, &mut output[start * size..(start + block.len()) * size]);
}
