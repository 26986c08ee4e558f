//! The frame of the rules whose result is a combination of weights, with coefficients that the rule finds first.

use super::{
    FoldError, Folded, Round, Strategy,
    engine::{self, Plane},
    mean::{Mean, Rounding, Scratch, write_to},
    registry::{Common, StrategyInfo},
    source::{Input, Source},
    state::{Form, Kept, State},
};
use crate::weights::{Layout, Weights};
use std::{
    io::{self, Write},
    sync::Arc,
};

/// A rule that finds coefficients.
pub(super) trait Combination: Send + Sync {
    /// Name and parameters.
    const INFO: StrategyInfo;

    /// Whether it remembers x, the result of its last fold, and what a [`Plan`] keeps.
    const MEMORY: bool = false;

    /// Whether the result may lie beyond the updates and x: then a mean of positive numbers may turn negative.
    const STEPS: bool = false;

    /// Whether it uses [`Update::degree`](super::Update::degree).
    const DEGREES: bool = false;

    /// The terms of the result.
    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError>;
}

/// What a rule has to find coefficients with.
pub(super) struct At<'a> {
    pub(super) round: &'a Round<'a>,
    pub(super) source: &'a Source<'a>,
    pub(super) common: &'a Common,
    /// x; there for a rule with memory.
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
    /// What is summed, with coefficients whose sum is what they are divided by.
    pub(super) terms: Vec<(Input<'a>, f64)>,
    pub(super) rounding: Rounding,
    /// The share of each update.
    pub(super) shares: Vec<f64>,
    /// Where integer tensors come from.
    pub(super) integers: Input<'a>,
    /// What to remember beside x.
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
    state: State,
}

impl<R: Combination> Combined<R> {
    pub(super) fn new(rule: R, common: Common) -> Self {
        Self { rule, common, state: State::default() }
    }

    fn form(&self) -> Form {
        Form { strategy: R::INFO.name, reference: self.common.reference, wide: false, moments: 0 }
    }
}

impl<R: Combination> Strategy for Combined<R> {
    fn name(&self) -> &'static str {
        R::INFO.name
    }

    fn begin(&mut self, initial: &Weights) {
        self.state = State { x: Some(initial.clone()), ..State::default() };
    }

    fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError> {
        let state = &self.state;
        let source = Source::check(round, state.x.as_ref(), self.common.accept_failures, R::INFO.name)?;
        if R::MEMORY && state.x.is_none() {
            return Err(FoldError::NotBegun { strategy: R::INFO.name });
        }
        let at = At {
            round,
            source: &source,
            common: &self.common,
            x: state.x.as_ref(),
            kept: &state.kept,
            folds: state.folds,
        };
        let Plan { terms, rounding, shares, integers, kept } = self.rule.plan(&at)?;
        if let Some((_, coefficient)) = terms.iter().find(|(_, coefficient)| !coefficient.is_finite()) {
            let what = format!("a coefficient of {coefficient}");
            return Err(FoldError::NotFinite { strategy: R::INFO.name, what });
        }
        let mean = Mean::new(rounding, terms);
        let weights = combine(source.layout(), &mean, integers)?;
        // A rule without memory needs it for differences only, of which the next round may have some.
        let x = Some(weights.clone());
        self.state = State { x, kept, folds: self.state.folds + 1, ..State::default() };
        Ok(Folded::new(weights, shares))
    }

    fn folds(&self) -> u64 {
        self.state.folds
    }

    fn save(&self) -> Vec<u8> {
        if R::MEMORY { self.state.encode(&self.form()) } else { Vec::new() }
    }

    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        if R::MEMORY { self.state.write(&self.form(), out) } else { Ok(()) }
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), FoldError> {
        if R::MEMORY {
            self.state = State::decode(state, &self.form())?;
        } else if !state.is_empty() {
            let what = format!("{} bytes where there are none", state.len());
            return Err(FoldError::State { strategy: R::INFO.name, what });
        }
        Ok(())
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
    let done = engine::run(layout, mean.held(), &[Plane::Weights], Scratch::default, |scratch, piece, outputs| {
        let [weights] = outputs else { unreachable!("one plane was asked for") };
        let dtype = layout.tensors()[piece.tensor].dtype;
        if dtype.is_float() {
            mean.piece(dtype, piece, scratch, &mut write_to(dtype, weights))?;
        } else {
            weights.copy_from_slice(&integers.read(piece)?);
        }
        Ok(())
    })?;
    Ok(engine::weights(layout, done.planes.into_iter().next().unwrap_or_default()))
}
