//! The frame of the rules that go by the order of the values of each coordinate. They have no memory.

use super::{
    FoldError, Folded, Round, Strategy,
    combination::At,
    engine,
    mean::write_to,
    parameters::{Common, StrategyInfo},
    sorting::{self, Network, Pick, Scratch},
    source::{Input, Source},
};
use crate::weights::{Piece, Weights};
use std::ops::Range;

/// A rule that works coordinate by coordinate.
pub(super) trait Coordinates: Send + Sync {
    /// Name and parameters.
    const INFO: StrategyInfo;

    /// Which updates it looks at, by number. Unsorted values come in this order.
    fn among(&self, at: &At<'_>) -> Result<Vec<usize>, FoldError> {
        Ok(at.source.by_author())
    }

    /// Which places of the sorted values it looks at; empty if it wants the values unsorted.
    fn wanted(&self, updates: usize) -> Range<usize>;

    /// Computes the result from the values.
    fn pick(&self, updates: usize) -> impl Pick;
}

/// A strategy over sorted values.
pub(super) struct Sorted<R> {
    rule: R,
    common: Common,
    /// For differences.
    x: Option<Weights>,
}

impl<R> Sorted<R> {
    pub(super) fn new(rule: R, common: Common) -> Self {
        Self { rule, common, x: None }
    }
}

impl<R: Coordinates> Strategy for Sorted<R> {
    fn name(&self) -> &'static str {
        R::INFO.name
    }

    fn begin(&mut self, initial: &Weights) {
        self.x = Some(initial.clone());
    }

    fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError> {
        let source = Source::check(round, self.x.as_ref(), self.common.accept_failures, R::INFO.name)?;
        let at = At { round, source: &source, common: &self.common, x: None, kept: &[], folds: 0 };
        let among = self.rule.among(&at)?;
        let inputs: Vec<Input<'_>> = among.iter().map(|&number| source.input(number)).collect();
        let integers = source.newest(among.iter().copied()).ok_or(FoldError::NoUpdates)?;
        let wanted = self.rule.wanted(inputs.len());
        let network = if wanted.is_empty() { Network::none() } else { Network::new(inputs.len(), wanted) };
        let pick = self.rule.pick(inputs.len());
        let work = |scratch: &mut Scratch, dtype, piece: &Piece, weights: &mut [u8], _: &mut [&mut [u8]]| {
            sorting::piece(dtype, piece, &inputs, (&network, &pick), scratch, &mut write_to(dtype, weights))
        };
        let held = inputs.as_slice();
        let (weights, _) = engine::fold_floats(source.layout(), held, &[], integers, Scratch::default, work)?;
        let mut shares = vec![0.0; round.updates.len()];
        among.iter().for_each(|&number| shares[number] = 1.0 / among.len() as f64);
        self.x = Some(weights.clone());
        Ok(Folded::new(weights, shares))
    }
}
