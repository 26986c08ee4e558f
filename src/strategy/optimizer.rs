//! The frame of the rules that take a step from x towards the mean of the updates.

use super::{
    FoldError, Folded, Round, Strategy,
    combination::Plan,
    engine::{self, Plane},
    mean::{self, Mean, Rounding},
    number::{decode, encode},
    registry::{Common, StrategyInfo},
    source::Source,
    state::{Form, State},
};
use crate::weights::{DType, Piece, Weights};
use bytes::Bytes;
use std::io::{self, Write};

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

    /// Moments that it keeps of each coordinate.
    fn moments(&self) -> usize;

    /// Whether x and the moments are kept in f64 whatever the dtype of the weights.
    fn wide(&self) -> bool {
        false
    }

    /// Whether the step ends at the mean: then no x is needed.
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

/// A strategy with x for a memory, and moments beside it.
pub(super) struct Optimizer<R> {
    rule: R,
    common: Common,
    state: State,
}

/// Memory of one thread: what it decodes from x and the moments.
#[derive(Default)]
struct Scratch {
    mean: mean::Scratch,
    x: Vec<f64>,
    moments: Vec<Vec<f64>>,
}

impl<R: Rule> Optimizer<R> {
    pub(super) fn new(rule: R, common: Common) -> Self {
        Self { rule, common, state: State::default() }
    }

    fn form(&self) -> Form {
        let (reference, wide, moments) = (self.common.reference, self.rule.wide(), self.rule.moments());
        Form { strategy: R::INFO.name, reference, wide, moments }
    }
}

impl<R: Rule> Strategy for Optimizer<R> {
    fn name(&self) -> &'static str {
        R::INFO.name
    }

    fn begin(&mut self, initial: &Weights) {
        self.state = State { x: Some(initial.clone()), ..State::default() };
    }

    fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError> {
        let (rule, state, form) = (&self.rule, &self.state, self.form());
        let source = Source::check(round, state.x.as_ref(), self.common.accept_failures, form.strategy)?;
        if state.x.is_none() && !rule.ends_at_mean() {
            return Err(FoldError::NotBegun { strategy: form.strategy });
        }
        let layout = source.layout();
        let all: Vec<usize> = (0..source.updates().len()).collect();
        let weights = rule.weights(&source, &self.common)?;
        let Plan { terms, rounding, shares, integers, .. } =
            Plan::mean(&source, &all, &weights, rule.rounding(&self.common));
        let mean = Mean::new(rounding, terms);
        let x: Vec<Bytes> = match &state.x {
            Some(x) if state.wide.is_empty() => x.tensors().map(|(_, data)| data.clone()).collect(),
            _ => state.wide.clone(),
        };
        let x_plane = if state.wide.is_empty() { Plane::Weights } else { Plane::Wide };
        let mut planes = vec![Plane::Weights];
        planes.extend(form.wide.then_some(Plane::Wide));
        planes.extend(vec![form.moment(); form.moments]);

        let work = |scratch: &mut Scratch, piece: &Piece, outputs: &mut [&mut [u8]]| {
            let dtype = layout.tensors()[piece.tensor].dtype;
            if !dtype.is_float() {
                outputs[0].copy_from_slice(&integers.read(piece)?);
                return Ok(());
            }
            let at = At { round: round.number, folds: state.folds, single: dtype != DType::F64 };
            let part =
                |plane: Plane, buffers: &Vec<Bytes>| Some((plane.dtype(dtype)?, plane.part(layout, buffers, piece)));
            let x_part = if x.is_empty() { None } else { part(x_plane, &x) };
            let moment_parts: Vec<_> = state.moments.iter().map(|moment| part(form.moment(), moment)).collect();
            let Scratch { mean: mean_scratch, x: x_block, moments } = scratch;
            moments.resize_with(form.moments, Vec::new);
            mean.piece(dtype, piece, mean_scratch, &mut |start, values| {
                read_block(x_part.as_ref(), start, values.len(), x_block);
                for (number, block) in moments.iter_mut().enumerate() {
                    read_block(moment_parts.get(number).and_then(Option::as_ref), start, values.len(), block);
                }
                rule.step(&at, x_block, values, moments);
                let wide = form.wide.then_some(&*values);
                let blocks = std::iter::once(&*values).chain(wide).chain(moments.iter().map(Vec::as_slice));
                for ((plane, output), block) in planes.iter().zip(outputs.iter_mut()).zip(blocks) {
                    if let Some(dtype) = plane.dtype(dtype) {
                        let size = dtype.size() as usize;
                        encode(dtype, block, &mut output[start * size..(start + block.len()) * size]);
                    }
                }
            })
        };
        let mut planes = engine::run(layout, mean.held(), &planes, Scratch::default, work)?.planes.into_iter();
        let weights = engine::weights(layout, planes.next().unwrap_or_default());
        let wide = if form.wide { planes.next().unwrap_or_default() } else { Vec::new() };
        let folds = self.state.folds + 1;
        let moments = planes.collect();
        self.state = State { x: Some(weights.clone()), wide, moments, folds, ..State::default() };
        Ok(Folded::new(weights, shares))
    }

    fn takes_steps(&self) -> bool {
        true
    }

    fn folds(&self) -> u64 {
        self.state.folds
    }

    fn save(&self) -> Vec<u8> {
        self.state.encode(&self.form())
    }

    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        self.state.write(&self.form(), out)
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), FoldError> {
        self.state = State::decode(state, &self.form())?;
        Ok(())
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
