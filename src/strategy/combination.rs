//! The frame of the rules whose result is a combination of weights, with coefficients that the rule finds first.

use super::{
    FoldError, Folded, Round, Strategy, engine,
    mean::{Mean, Rounding, Scratch, write_to},
    memory::{Form, Kept, Memory},
    parameters::{Common, StrategyInfo},
    remembering::{Remembering, Remembers},
    source::{Input, Source},
};
use crate::weights::{Layout, Piece, Weights};
use std::sync::Arc;

/// A rule that finds coefficients.
pub(super) trait Combination: Send + Sync {
    /// Name and parameters.
    const INFO: StrategyInfo;

    /// Whether it remembers x, the result of its last fold, and whatever a [`Plan`] keeps.
    const MEMORY: bool = false;

    /// Whether the result may lie outside the range of the updates and x, so that a mean of positive numbers could turn
    /// negative.
    const STEPS: bool = false;

    /// Whether it uses [`Update::degree`](super::Update::degree).
    const DEGREES: bool = false;

    /// The terms of the result.
    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError>;
}

/// What a rule finds its coefficients from.
pub(super) struct At<'a> {
    pub(super) round: &'a Round<'a>,
    pub(super) source: &'a Source<'a>,
    pub(super) common: &'a Common,
    /// x, for a rule with memory.
    pub(super) x: Option<&'a Weights>,
    /// What the last plan kept.
    pub(super) kept: &'a [Kept],
    /// Folds before this one.
    pub(super) folds: u64,
}

impl<'a> At<'a> {
    /// x, for a rule with memory.
    pub(super) fn x(&self) -> &'a Weights {
        self.x.expect("a rule with memory folds only after it was told x")
    }
}

/// What a rule has found.
pub(super) struct Plan<'a> {
    /// The terms of the sum and their coefficients, which are divided by their total.
    pub(super) terms: Vec<(Input<'a>, f64)>,
    pub(super) rounding: Rounding,
    /// The share of each update.
    pub(super) shares: Vec<f64>,
    /// Where integer tensors come from.
    pub(super) integers: Input<'a>,
    /// What to remember besides x.
    pub(super) kept: Vec<Kept>,
}

impl<'a> Plan<'a> {
    /// The mean of these updates of a round, by number, with these weights. Without a reference they are summed by
    /// author.
    pub(super) fn mean(source: &Source<'a>, among: &[usize], weights: &[f64], rounding: Rounding) -> Self {
        let mut numbered: Vec<(usize, f64)> = among.iter().copied().zip(weights.iter().copied()).collect();
        if rounding == Rounding::Once {
            let mut place = vec![0; source.updates().len()];
            source.by_author().into_iter().enumerate().for_each(|(at, number)| place[number] = at);
            numbered.sort_by_key(|&(number, _)| place[number]);
        }
        let total: f64 = numbered.iter().map(|&(_, weight)| weight).sum();
        let mut shares = vec![0.0; source.updates().len()];
        numbered.iter().for_each(|&(number, weight)| shares[number] += weight / total);
        let integers = source.newest(among.iter().copied()).expect("a mean is of at least one update");
        let terms = numbered.into_iter().map(|(number, weight)| (source.input(number), weight)).collect();
        Self { terms, rounding, shares, integers, kept: Vec::new() }
    }

    /// x + Σ c_k·(w_k − x), c_k the coefficients of all updates.
    pub(super) fn towards(source: &Source<'a>, x: &'a Weights, coefficients: Vec<f64>) -> Self {
        let order = source.by_author();
        let rest = 1.0 - order.iter().map(|&number| coefficients[number]).sum::<f64>();
        let updates = order.into_iter().map(|number| (source.input(number), coefficients[number]));
        let terms = std::iter::once((Input::Kept(x), rest)).chain(updates).collect();
        let integers = source.newest(0..coefficients.len()).expect("a round has at least one update");
        Self { terms, rounding: Rounding::Once, shares: coefficients, integers, kept: Vec::new() }
    }
}

/// A strategy that combines.
pub(super) struct Combined<R> {
    rule: R,
    common: Common,
}

impl<R: Combination + 'static> Combined<R> {
    pub(super) fn strategy(rule: R, common: Common) -> Box<dyn Strategy> {
        Box::new(Remembering::new(Self { rule, common }))
    }
}

impl<R: Combination> Remembers for Combined<R> {
    fn form(&self) -> Form {
        Form { strategy: R::INFO.name, reference: self.common.reference, wide: false, moments: 0 }
    }

    fn fold(&self, memory: &Memory, round: &Round<'_>) -> Result<(Folded, Memory), FoldError> {
        let source = Source::check(round, memory.x.as_ref(), self.common.accept_failures, R::INFO.name)?;
        if R::MEMORY && memory.x.is_none() {
            return Err(FoldError::NotBegun { strategy: R::INFO.name });
        }
        let at = At {
            round,
            source: &source,
            common: &self.common,
            x: memory.x.as_ref(),
            kept: &memory.kept,
            folds: memory.folds,
        };
        let Plan { terms, rounding, shares, integers, kept } = self.rule.plan(&at)?;
        if let Some((_, coefficient)) = terms.iter().find(|(_, coefficient)| !coefficient.is_finite()) {
            let what = format!("a coefficient of {coefficient}");
            return Err(FoldError::NotFinite { strategy: R::INFO.name, what });
        }
        let mean = Mean::new(rounding, terms);
        let weights = combine(source.layout(), &mean, integers)?;
        // A rule without memory needs x only for differences, which the next round may contain.
        let x = Some(weights.clone());
        Ok((Folded::new(weights, shares), Memory { x, kept, ..Memory::default() }))
    }

    fn saves(&self) -> bool {
        R::MEMORY
    }

    fn takes_steps(&self) -> bool {
        R::STEPS
    }

    fn needs_degrees(&self) -> bool {
        R::DEGREES
    }
}

/// The mean's weights, with the integer tensors of `integers`.
pub(super) fn combine(layout: &Arc<Layout>, mean: &Mean<'_>, integers: Input<'_>) -> Result<Weights, FoldError> {
    let work = |scratch: &mut Scratch, dtype, piece: &Piece, weights: &mut [u8], _: &mut [&mut [u8]]| {
        mean.piece(dtype, piece, scratch, &mut write_to(dtype, weights))
    };
    Ok(engine::fold_floats(layout, mean.held(), &[], integers, Scratch::default, work)?.0)
}
