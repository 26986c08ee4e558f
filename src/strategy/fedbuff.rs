//! FedBuff: a step as soon as a buffer of updates is full.

use super::{
    FoldError, Folded, Round, Strategy, engine,
    memory::{Form, Kept, Memory, newest_by_author},
    number::{decode, encode},
    parameters::{ACCEPT_FAILURES, Common, ParameterInfo, Parameters, StrategyError, StrategyInfo},
    remembering::{Remembering, Remembers},
    source::{Source, part},
};
use crate::weights::Piece;

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedbuff",
    aliases: &[],
    summary: "updates are buffered, and with every K-th x += eta_g/K·Σ s(τ)·(w - x), s = 1/√(1 + τ); until then x stays",
    paper: "Nguyen et al. 2022, Federated Learning with Buffered Asynchronous Aggregation",
    parameters: &[
        ParameterInfo { name: "buffer_size", default: "10", meaning: "K, a whole number from 1" },
        ParameterInfo { name: "server_learning_rate", default: "1", meaning: "eta_g, a number above 0" },
        ACCEPT_FAILURES,
    ],
    build,
};

/// A buffer takes each update once, by author and epoch, in ascending order of the authors: Σ s(τ)·(w_k − x), s(τ) =
/// 1/√(1 + τ), x as it was before the round. With its K-th x ← x + (η_g/K)·Σ, and the buffer is empty (Nguyen et al.
/// 2022, algorithm 1 and section 6). Until then the fold returns x, and the node trains on from there, like a client
/// that takes the server's model.
struct FedBuff {
    size: u64,
    rate: f64,
    common: Common,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    Ok(Box::new(Remembering::new(FedBuff {
        size: parameters.whole("buffer_size", 10, 1)?,
        rate: parameters.number("server_learning_rate", 1.0, "a number above 0", |rate| rate > 0.0)?,
        common: parameters.common()?,
    })))
}

/// Memory of one thread.
#[derive(Default)]
struct Scratch {
    x: Vec<f64>,
    stepped: Vec<f64>,
    sum: Vec<f64>,
    update: Vec<f64>,
}

/// The numbers of the updates that were never buffered, by author.
fn new_ones(source: &Source<'_>, kept: &[Kept]) -> Vec<usize> {
    let updates = source.updates();
    let seen = |number: &usize| {
        let author = updates[*number].author.to_bytes();
        kept.iter().any(|kept| kept.author == author && kept.epoch >= updates[*number].epoch)
    };
    source.by_author().into_iter().filter(|number| !seen(number)).collect()
}

impl Remembers for FedBuff {
    /// Its one moment is the sum in the buffer.
    fn form(&self) -> Form {
        Form { strategy: INFO.name, reference: None, wide: false, moments: 1 }
    }

    fn fold(&self, memory: &Memory, round: &Round<'_>) -> Result<(Folded, Memory), FoldError> {
        let x = memory.x.as_ref().ok_or(FoldError::NotBegun { strategy: INFO.name })?;
        let source = Source::check(round, Some(x), self.common.accept_failures, INFO.name)?;
        let new = new_ones(&source, &memory.kept);
        let updates = source.updates();
        let discount = |number: usize| 1.0 / (1.0 + updates[number].staleness).sqrt();
        let integers = source.newest(0..updates.len()).ok_or(FoldError::NoUpdates)?;
        let (layout, form) = (source.layout(), self.form());
        let work = |scratch: &mut Scratch, dtype, piece: &Piece, weights: &mut [u8], outputs: &mut [&mut [u8]]| {
            let ([buffer], Some(moment)) = (outputs, form.moment().dtype(dtype)) else {
                unreachable!("one plane was asked for beside the weights, and each float has its moment")
            };
            let Scratch { x: begun, stepped, sum, update } = scratch;
            let elements = weights.len() / dtype.size() as usize;
            for values in [&mut *begun, &mut *stepped, &mut *sum, &mut *update] {
                values.resize(elements, 0.0);
            }
            decode(dtype, &part(x, piece), begun);
            stepped.copy_from_slice(begun);
            match memory.moments.first() {
                Some(moments) => decode(moment, &form.moment().part(layout, moments, piece), sum),
                None => sum.fill(0.0),
            }
            let mut buffered = memory.buffered;
            for &number in &new {
                decode(dtype, &source.input(number).read(piece)?, update);
                let factor = discount(number);
                for ((sum, x), update) in sum.iter_mut().zip(&*begun).zip(&*update) {
                    *sum += factor * (update - x);
                }
                buffered += 1;
                if buffered >= self.size {
                    let rate = self.rate / buffered as f64;
                    stepped.iter_mut().zip(&mut *sum).for_each(|(x, sum)| *x += rate * std::mem::take(sum));
                    buffered = 0;
                }
            }
            encode(dtype, stepped, weights);
            encode(moment, sum, buffer);
            Ok(())
        };
        let (weights, planes) = engine::fold_floats(layout, 1, &[form.moment()], integers, Scratch::default, work)?;
        let mut shares = vec![0.0; updates.len()];
        let mut buffered = memory.buffered;
        let mut waiting = Vec::new();
        for &number in &new {
            (buffered, waiting) = (buffered + 1, [waiting, vec![number]].concat());
            if buffered >= self.size {
                let rate = self.rate / buffered as f64;
                waiting.drain(..).for_each(|number: usize| shares[number] = rate * discount(number));
                buffered = 0;
            }
        }
        let news = new.iter().map(|&number| Kept {
            author: updates[number].author.to_bytes(),
            epoch: updates[number].epoch,
            num_examples: updates[number].num_examples,
            fold: memory.folds,
            weights: None,
        });
        let kept = newest_by_author(&memory.kept, news);
        let (x, moments) = (Some(weights.clone()), planes.collect());
        Ok((Folded::new(weights, shares), Memory { x, moments, buffered, kept, ..Memory::default() }))
    }

    fn takes_steps(&self) -> bool {
        true
    }
}
