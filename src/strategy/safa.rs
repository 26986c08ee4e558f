//! SAFA: the mean of everybody's newest weights, remembered.

use super::{
    FoldError, Strategy,
    combination::{At, Combination, Combined, Plan},
    engine::{self, Plane},
    mean::Rounding,
    memory::Kept,
    parameters::{ACCEPT_FAILURES, MAX_SHARE, ParameterInfo, Parameters, StrategyError, StrategyInfo},
    source::{Input, capped},
};
use crate::weights::{Layout, Weights};
use std::{collections::BTreeMap, sync::Arc};

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "safa",
    aliases: &[],
    summary: "mean, weighted by examples, of everybody's newest weights, also of those who are missing; x for those \
              who are out of date",
    paper: "Wu et al. 2021, SAFA: A Semi-Asynchronous Protocol for Fast Federated Learning with Low Overhead",
    parameters: &[
        ParameterInfo {
            name: "lag_tolerance",
            default: "5",
            meaning: "τ, a whole number from 0: whose newest weights are older than this many folds counts with x",
        },
        MAX_SHARE,
        ACCEPT_FAILURES,
    ],
    build,
};

/// A cache of w*_k by author: what came in this round, else what came last, else, if that is older than τ, x;
/// x ← Σ (n_k/n)·w*_k over all of the cache (Wu et al. 2021, equations 6 to 8). The state has the weights of every author.
struct Safa {
    tolerance: u64,
}

/// Most authors in the cache. Beyond that, those with the oldest weights are forgotten.
const MAX_AUTHORS: usize = 256;

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let tolerance = parameters.whole("lag_tolerance", 5, 0)?;
    Ok(Combined::strategy(Safa { tolerance }, parameters.common()?))
}

impl Combination for Safa {
    const INFO: StrategyInfo = INFO;
    const MEMORY: bool = true;

    fn plan<'a>(&self, at: &At<'a>) -> Result<Plan<'a>, FoldError> {
        let updates = at.source.updates();
        let mut cached: BTreeMap<Vec<u8>, Cached<'a>> = BTreeMap::new();
        for kept in at.kept {
            let input = kept.weights.as_ref().map(Input::Kept);
            let cached_one =
                Cached { epoch: kept.epoch, num_examples: kept.num_examples, fold: kept.fold, input, number: None };
            cached.insert(kept.author.clone(), cached_one);
        }
        for number in at.source.by_author() {
            let update = &updates[number];
            let author = update.author.to_bytes();
            let known = cached.get(&author);
            if known.is_some_and(|known| known.epoch > update.epoch) {
                continue;
            }
            // An update that is folded again has grown older.
            let first = known.filter(|known| known.epoch == update.epoch).map_or(at.folds, |known| known.fold);
            let fold = first.min(at.folds.saturating_sub(update.staleness.ceil() as u64));
            let (epoch, num_examples) = (update.epoch, update.num_examples);
            let input = Some(at.source.input(number));
            cached.insert(author, Cached { epoch, num_examples, fold, input, number: Some(number) });
        }
        while cached.len() > MAX_AUTHORS {
            let oldest = cached.iter().min_by_key(|(_, cached)| cached.fold).map(|(author, _)| author.clone());
            oldest.and_then(|author| cached.remove(&author));
        }
        for cached in cached.values_mut() {
            if at.folds - cached.fold > self.tolerance {
                cached.input = None;
            }
        }
        let counts: Vec<f64> = cached.values().map(|cached| cached.num_examples as f64).collect();
        if counts.iter().all(|&count| count == 0.0) {
            return Err(FoldError::NoExamples);
        }
        let weights = capped(counts, at.common.max_share);
        let total: f64 = weights.iter().sum();
        let mut shares = vec![0.0; updates.len()];
        let (mut terms, mut kept) = (Vec::new(), Vec::new());
        for ((author, cached), weight) in cached.into_iter().zip(weights) {
            let Cached { epoch, num_examples, fold, input, number } = cached;
            terms.push((input.unwrap_or(Input::Kept(at.x())), weight));
            if let Some(number) = number.filter(|_| input.is_some()) {
                shares[number] = weight / total;
            }
            let copied = input.map(|input| copy(at.source.layout(), input)).transpose()?;
            kept.push(Kept { author, epoch, num_examples, fold, weights: copied });
        }
        let integers = at.source.newest(0..updates.len()).ok_or(FoldError::NoUpdates)?;
        Ok(Plan { terms, rounding: Rounding::Once, shares, integers, kept })
    }
}

/// An author's newest weights, or x if it has none that count.
struct Cached<'a> {
    epoch: u64,
    num_examples: u64,
    fold: u64,
    input: Option<Input<'a>>,
    /// The update of this round that it is.
    number: Option<usize>,
}

/// The input's weights in memory, to be read when their author is missing.
fn copy(layout: &Arc<Layout>, input: Input<'_>) -> Result<Weights, FoldError> {
    if let Input::Kept(weights) = input {
        return Ok(weights.clone());
    }
    let done = engine::run(
        layout,
        1,
        &[Plane::Weights],
        || (),
        |(), piece, outputs| {
            outputs[0].copy_from_slice(&input.read(piece)?);
            Ok(())
        },
    )?;
    Ok(engine::weights(layout, done.planes.into_iter().next().unwrap_or_default()))
}
