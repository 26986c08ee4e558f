//! Wraps a strategy with rules for single tensors, and reports what a fold did to them.

use super::{
    FoldError, Folded, Round, Strategy, TensorRules, Treatment, Unaveraged, Update,
    combination::Plan,
    engine::{self, Plane},
    integer_mean::{IntegerMean, example_weights},
    mean::{Mean, Rounding, Scratch, write_to},
    memory::{Form, Memory},
    number::decode,
    source::Source,
};
use crate::weights::{CHUNK_BYTES, DType, Layout, ReadError, TensorReader, Weights};
use bytes::Bytes;
use std::{
    cmp::Reverse,
    io::{self, Write},
    ops::Range,
    sync::Arc,
};

/// Prefix of a state in which some tensors are kept apart from the rule's.
const MAGIC: &[u8; 16] = b"peerfold tensors";
const FORM: Form = Form { strategy: "tensor rules", reference: None, wide: false, moments: 0 };

/// A strategy whose rule folds only the tensors that [`TensorRules`] leave to it.
/// [`StrategySpec::build`](super::StrategySpec::build) always returns one of these; a user's own rule becomes one
/// through [`new`](Self::new).
pub struct PerTensor {
    inner: Box<dyn Strategy>,
    rules: TensorRules,
    /// The tensors kept apart, as they were after the last fold. Differences refer to these.
    x: Option<Weights>,
}

impl PerTensor {
    /// Puts the rules around a strategy without a state.
    pub fn new(inner: Box<dyn Strategy>, rules: TensorRules) -> Self {
        Self { inner, rules, x: None }
    }

    /// The tensors' numbers in the layout: those of the rule, and those kept apart.
    fn split(&self, layout: &Layout) -> (Vec<usize>, Vec<usize>) {
        let apart = self.rules.apart(layout, self.inner.takes_steps());
        (0..apart.len()).partition(|&tensor| !apart[tensor])
    }

    /// The fold of the tensors kept apart, by the shares that the updates have in the others.
    fn fold_apart(&self, round: &Round<'_>, shares: &[f64]) -> Result<Weights, FoldError> {
        let source = Source::check(round, self.x.as_ref(), true, self.inner.name())?;
        let updates = source.updates();
        let all: Vec<usize> = (0..updates.len()).collect();
        let mut weights: Vec<f64> = shares.iter().map(|share| share.max(0.0)).collect();
        if weights.iter().sum::<f64>() <= 0.0 {
            weights = source.examples(&all, 1.0)?;
        }
        let counted: Vec<usize> = all.into_iter().filter(|&number| weights[number] > 0.0).collect();
        let weights: Vec<f64> = counted.iter().map(|&number| weights[number]).collect();
        let examples: Vec<u64> = counted.iter().map(|&number| updates[number].num_examples).collect();
        let whole = example_weights(&weights, &examples);
        let inputs: Vec<_> = counted.iter().map(|&number| source.input(number)).collect();
        let own = updates.iter().position(|update| update.own).map(|number| source.input(number));
        let Plan { terms, rounding, .. } = Plan::mean(&source, &counted, &weights, Rounding::Once);
        let (mean, layout, rules) = (Mean::new(rounding, terms), source.layout(), &self.rules);
        let done = engine::run(layout, mean.held(), &[Plane::Weights], Scratch::default, |scratch, piece, outputs| {
            let [weights] = outputs else { unreachable!("one plane was asked for") };
            let tensor = &layout.tensors()[piece.tensor];
            match own {
                Some(own) if rules.treatment(&tensor.name) == Treatment::Local => {
                    weights.copy_from_slice(&own.read(piece)?);
                }
                _ if tensor.dtype.is_float() => {
                    mean.piece(tensor.dtype, piece, scratch, &mut write_to(tensor.dtype, weights))?;
                }
                _ => {
                    let mut mean = IntegerMean::new(tensor.dtype, &whole);
                    for input in &inputs {
                        mean.add(&input.read(piece)?);
                    }
                    mean.write(weights);
                }
            }
            Ok(())
        })?;
        Ok(engine::weights(layout, done.planes.into_iter().next().unwrap_or_default()))
    }

    /// Which update the integer tensors of the result come from, judged by their bytes. Unknown if updates are
    /// differences.
    fn unaveraged(&self, round: &Round<'_>, folded: &Folded) -> Result<Vec<Unaveraged>, FoldError> {
        let updates = round.updates;
        let mut newest: Vec<usize> = (0..updates.len()).collect();
        newest.sort_by_key(|&number| {
            let counts = folded.shares.get(number).is_some_and(|&share| share > 0.0);
            (!counts, Reverse(updates[number].epoch), updates[number].author)
        });
        let mut told: Vec<Unaveraged> = Vec::new();
        for (tensor, (spec, data)) in folded.weights.tensors().enumerate() {
            let apart = self.rules.round_integers || self.rules.treatment(&spec.name) == Treatment::Local;
            if spec.dtype.is_float() || apart || data.is_empty() {
                continue;
            }
            let mut whose = None;
            for &number in &newest {
                if !updates[number].delta && same(&updates[number], tensor, data)? {
                    whose = Some(number);
                    break;
                }
            }
            match told.iter_mut().find(|told| told.update == whose) {
                Some(told) => told.tensors.push(spec.name.clone()),
                None => told.push(Unaveraged { update: whose, tensors: vec![spec.name.clone()] }),
            }
        }
        Ok(told)
    }

    /// Tensors with a number below 0 where no update has one.
    fn turned_negative(round: &Round<'_>, weights: &Weights) -> Result<Vec<String>, FoldError> {
        let mut names = Vec::new();
        for (tensor, (spec, data)) in weights.tensors().enumerate() {
            if !spec.dtype.is_float() || !any_below_zero(spec.dtype, data) {
                continue;
            }
            let mut before = false;
            for update in round.updates {
                // Differences are naturally below 0 at times.
                before |= update.delta || has_below_zero(update, tensor)?;
                if before {
                    break;
                }
            }
            if !before {
                names.push(spec.name.clone());
            }
        }
        Ok(names)
    }
}

impl Strategy for PerTensor {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn begin(&mut self, initial: &Weights) {
        let (taken, apart) = self.split(initial.layout());
        if apart.is_empty() {
            self.x = None;
            return self.inner.begin(initial);
        }
        self.inner.begin(&some_of(initial, &taken));
        self.x = Some(some_of(initial, &apart));
    }

    fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError> {
        let Some(first) = round.updates.iter().find(|update| update.own).or(round.updates.first()) else {
            return self.inner.fold(round);
        };
        let layout = first.weights.layout();
        for update in round.updates {
            if let Some(difference) = layout.difference(update.weights.layout()) {
                return Err(FoldError::Layout { author: update.author, difference });
            }
        }
        let averaged = |tensor: usize| layout.tensors()[tensor].dtype.is_float() || self.rules.round_integers;
        if round.updates.len() > 1 && !layout.tensors().is_empty() && !(0..layout.tensors().len()).any(averaged) {
            return Err(FoldError::OnlyIntegers { tensors: layout.tensors().len() });
        }
        let (taken, apart) = self.split(layout);
        let mut folded = if apart.is_empty() {
            self.inner.fold(round)?
        } else {
            let mine: Vec<Part<'_>> = parts(round, &apart);
            let apart_round = of_parts(round, &mine);
            let apart_round = Round { updates: &apart_round, ..*round };
            // Everything that can fail is done before the rule takes its step, except what needs the shares that follow
            // from it.
            let theirs: Vec<Part<'_>> = parts(round, &taken);
            let theirs = of_parts(round, &theirs);
            let saved = self.inner.save();
            let Folded { weights, shares, .. } = if taken.is_empty() {
                let total = round.updates.iter().map(|update| update.num_examples as f64).sum::<f64>();
                if total <= 0.0 {
                    return Err(FoldError::NoExamples);
                }
                let shares = round.updates.iter().map(|update| update.num_examples as f64 / total).collect();
                Folded::new(Weights::new(Vec::new()).expect("no tensor breaks a limit"), shares)
            } else {
                self.inner.fold(&Round { updates: &theirs, ..*round })?
            };
            let kept = match self.fold_apart(&apart_round, &shares) {
                Ok(kept) => kept,
                Err(error) => {
                    self.inner.restore(&saved)?;
                    return Err(error);
                }
            };
            let mut data: Vec<Bytes> = vec![Bytes::new(); layout.tensors().len()];
            let folded = taken.iter().zip(weights.tensors()).chain(apart.iter().zip(kept.tensors()));
            folded.for_each(|(&tensor, (_, bytes))| data[tensor] = bytes.clone());
            let weights = Weights::from_layout(layout.clone(), data).expect("each tensor is that of its place");
            self.x = Some(kept);
            Folded::new(weights, shares)
        };
        if round.updates.len() > 1 {
            folded.unaveraged = self.unaveraged(round, &folded)?;
        }
        if self.inner.takes_steps() {
            folded.turned_negative = Self::turned_negative(round, &folded.weights)?;
        }
        Ok(folded)
    }

    fn save(&self) -> Vec<u8> {
        let inner = self.inner.save();
        if self.x.is_none() || inner.is_empty() {
            return inner;
        }
        let x = Memory { x: self.x.clone(), ..Memory::default() }.encode(&FORM);
        [MAGIC.as_slice(), &(x.len() as u64).to_le_bytes(), &x, &inner].concat()
    }

    fn save_to(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.x.is_none() { self.inner.save_to(out) } else { out.write_all(&self.save()) }
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), FoldError> {
        let Some(rest) = state.strip_prefix(MAGIC) else {
            self.inner.restore(state)?;
            self.x = None;
            return Ok(());
        };
        let short = || FoldError::State { strategy: self.inner.name(), what: "it is too short".to_owned() };
        let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| short())?;
        let (x, inner) = rest.split_at_checked(length).ok_or_else(short)?;
        let x = Memory::decode(x, &FORM)?.x;
        self.inner.restore(inner)?;
        self.x = x;
        Ok(())
    }

    fn folds(&self) -> u64 {
        self.inner.folds()
    }

    fn needs_degrees(&self) -> bool {
        self.inner.needs_degrees()
    }

    fn takes_steps(&self) -> bool {
        self.inner.takes_steps()
    }
}

/// Some tensors of a reader.
struct Part<'a> {
    whole: &'a dyn TensorReader,
    tensors: &'a [usize],
    layout: Arc<Layout>,
}

impl TensorReader for Part<'_> {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn read(&self, tensor: usize, range: Range<u64>) -> Result<Bytes, ReadError> {
        match self.tensors.get(tensor) {
            Some(&tensor) => self.whole.read(tensor, range),
            None => Err(ReadError::OutOfRange { tensor, range }),
        }
    }

    fn reads_parts(&self) -> bool {
        self.whole.reads_parts()
    }
}

fn parts<'a>(round: &Round<'a>, tensors: &'a [usize]) -> Vec<Part<'a>> {
    let Some(first) = round.updates.first() else { return Vec::new() };
    let layout = some_layout(first.weights.layout(), tensors);
    let part = |update: &Update<'a>| Part { whole: update.weights, tensors, layout: layout.clone() };
    round.updates.iter().map(part).collect()
}

fn of_parts<'a>(round: &Round<'a>, parts: &'a [Part<'a>]) -> Vec<Update<'a>> {
    let update = |(update, part): (&Update<'a>, &'a Part<'a>)| Update {
        author: update.author,
        weights: part,
        delta: update.delta,
        num_examples: update.num_examples,
        epoch: update.epoch,
        staleness: update.staleness,
        loss: update.loss,
        metrics: update.metrics,
        degree: update.degree,
        own: update.own,
    };
    round.updates.iter().zip(parts).map(update).collect()
}

/// A layout of some tensors keeps their order.
fn some_layout(layout: &Layout, tensors: &[usize]) -> Arc<Layout> {
    let specs = tensors.iter().map(|&tensor| layout.tensors()[tensor].clone()).collect();
    Arc::new(Layout::new(specs).expect("a part of a layout is one"))
}

fn some_of(weights: &Weights, tensors: &[usize]) -> Weights {
    let data: Vec<Bytes> = weights.tensors().map(|(_, data)| data.clone()).collect();
    let data = tensors.iter().map(|&tensor| data[tensor].clone()).collect();
    Weights::from_layout(some_layout(weights.layout(), tensors), data).expect("each tensor is that of its place")
}

/// Reads the tensor a piece at a time until `stop` returns true. Returns whether it did.
fn any_piece(update: &Update<'_>, tensor: usize, stop: impl Fn(Range<u64>, &[u8]) -> bool) -> Result<bool, FoldError> {
    let bytes = update.weights.layout().tensors()[tensor].bytes();
    for start in (0..bytes).step_by(CHUNK_BYTES as usize) {
        let range = start..bytes.min(start + CHUNK_BYTES);
        let read = update.weights.read(tensor, range.clone());
        let read = read.map_err(|source| FoldError::Read { author: update.author, source })?;
        if stop(range, &read) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn same(update: &Update<'_>, tensor: usize, data: &[u8]) -> Result<bool, FoldError> {
    any_piece(update, tensor, |range, read| data[range.start as usize..range.end as usize] != *read).map(|other| !other)
}

fn has_below_zero(update: &Update<'_>, tensor: usize) -> Result<bool, FoldError> {
    let dtype = update.weights.layout().tensors()[tensor].dtype;
    any_piece(update, tensor, |_, read| any_below_zero(dtype, read))
}

fn any_below_zero(dtype: DType, bytes: &[u8]) -> bool {
    let mut values = vec![0.0; 1024];
    bytes.chunks(1024 * dtype.size() as usize).any(|bytes| {
        let values = &mut values[..bytes.len() / dtype.size() as usize];
        decode(dtype, bytes, values);
        values.iter().any(|&value| value < 0.0)
    })
}
