//! What a rule remembers from fold to fold, and its encoding.

use super::{FoldError, Reference, engine::Plane};
use crate::{
    printable::printable,
    weights::{Layout, TensorSpec, Weights},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::Arc,
};

const VERSION: u8 = 2;
const HASH_BYTES: usize = 32;
/// Most buffers that a state may have if it has fewer bytes than that: of tensors without elements, and of moments of
/// integers, which have none. Of very many tensors it may have four for each.
const MAX_EMPTY_BUFFERS: usize = 1 << 16;

/// The memory of a rule.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Memory {
    /// The weights after the last fold, or those that the node began from.
    pub(super) x: Option<Weights>,
    /// x as the rule computed it, if that has more digits than the weights: a [`Plane::Wide`]. Empty before the first
    /// fold.
    pub(super) wide: Vec<Bytes>,
    /// The moments. Empty before the first fold.
    pub(super) moments: Vec<Vec<Bytes>>,
    /// Folds that the moments know of.
    pub(super) folds: u64,
    /// Updates in a buffer.
    pub(super) buffered: u64,
    /// What is remembered of individual updates or earlier folds.
    pub(super) kept: Vec<Kept>,
}

/// What a rule remembers of an author's update, or of an earlier fold.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    /// The author; empty for what belongs to nobody.
    pub(super) author: Vec<u8>,
    /// The update's epoch.
    pub(super) epoch: u64,
    /// Its number of examples.
    pub(super) num_examples: u64,
    /// The rule's count of folds when it came.
    pub(super) fold: u64,
    /// Its weights, of the layout of x.
    pub(super) weights: Option<Weights>,
}

/// Most authors that a rule remembers without their weights. Beyond that, the earliest are forgotten.
const MAX_AUTHORS: usize = 10_000;

/// Merges what is remembered with what is new: for each author the one with the higher epoch, in ascending order of the
/// authors.
pub(super) fn newest_by_author(kept: &[Kept], news: impl IntoIterator<Item = Kept>) -> Vec<Kept> {
    let mut newest: BTreeMap<Vec<u8>, Kept> = kept.iter().map(|kept| (kept.author.clone(), kept.clone())).collect();
    for new in news {
        if newest.get(&new.author).is_none_or(|known| known.epoch <= new.epoch) {
            newest.insert(new.author.clone(), new);
        }
    }
    while newest.len() > MAX_AUTHORS {
        let oldest = newest.values().min_by_key(|kept| kept.fold).map(|kept| kept.author.clone());
        oldest.and_then(|author| newest.remove(&author));
    }
    newest.into_values().collect()
}

/// Which strategy a state belongs to, and its form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) strategy: &'static str,
    pub(super) reference: Option<Reference>,
    /// Whether x is kept wide.
    pub(super) wide: bool,
    /// How many moments there are.
    pub(super) moments: usize,
}

impl Form {
    /// The plane that a moment is: as wide as x.
    pub(super) fn moment(&self) -> Plane {
        if self.wide { Plane::Wide } else { Plane::Moment }
    }

    fn error(&self, what: impl Into<String>) -> FoldError {
        FoldError::State { strategy: self.strategy, what: what.into() }
    }
}

/// Stands before the bytes of x, of wide x, of the moments and of what is kept, tensor by tensor without gaps.
#[derive(Serialize, Deserialize)]
struct Header {
    version: u8,
    strategy: String,
    reference: Option<Reference>,
    /// The layout of x, if there is an x.
    tensors: Option<Vec<TensorSpec>>,
    folds: u64,
    buffered: u64,
    wide: bool,
    moments: u8,
    kept: Vec<KeptHeader>,
}

#[derive(Serialize, Deserialize)]
struct KeptHeader {
    author: Vec<u8>,
    epoch: u64,
    num_examples: u64,
    fold: u64,
    weights: bool,
}

impl Memory {
    /// What promises so many updates of these tensors, with nothing behind it.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn promising(form: &Form, tensors: Vec<TensorSpec>, updates: usize) -> Vec<u8> {
        let kept = |_| KeptHeader { author: Vec::new(), epoch: 1, num_examples: 1, fold: 1, weights: true };
        let header = Header {
            version: VERSION,
            strategy: form.strategy.to_owned(),
            reference: form.reference,
            tensors: Some(tensors),
            folds: 1,
            buffered: 0,
            wide: false,
            moments: 0,
            kept: (0..updates).map(kept).collect(),
        };
        postcard::to_stdvec(&header).expect("writing to memory")
    }

    /// What [`write`](Self::write) writes.
    pub(super) fn encode(&self, form: &Form) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(form, &mut bytes).expect("writing to memory");
        bytes
    }

    /// Hash, header, bytes. The hash makes sure that a truncated or damaged state is never restored.
    pub(super) fn write(&self, form: &Form, out: &mut dyn Write) -> io::Result<()> {
        let header = Header {
            version: VERSION,
            strategy: form.strategy.to_owned(),
            reference: form.reference,
            tensors: self.x.as_ref().map(|x| x.layout().tensors().to_vec()),
            folds: self.folds,
            buffered: self.buffered,
            wide: !self.wide.is_empty(),
            moments: self.moments.len() as u8,
            kept: (self.kept.iter())
                .map(|kept| KeptHeader {
                    author: kept.author.clone(),
                    epoch: kept.epoch,
                    num_examples: kept.num_examples,
                    fold: kept.fold,
                    weights: kept.weights.is_some(),
                })
                .collect(),
        };
        let header = postcard::to_stdvec(&header).map_err(io::Error::other)?;
        let x = self.x.iter().flat_map(|x| x.tensors().map(|(_, data)| data));
        let kept = self.kept.iter().filter_map(|kept| kept.weights.as_ref()).flat_map(Weights::tensors);
        let kept = kept.map(|(_, data)| data);
        let buffers: Vec<&Bytes> = x.chain(&self.wide).chain(self.moments.iter().flatten()).chain(kept).collect();
        let mut hasher = hasher();
        hasher.update(&header);
        buffers.iter().for_each(|buffer| _ = hasher.update(buffer));
        out.write_all(hasher.finalize().as_bytes())?;
        out.write_all(&header)?;
        buffers.iter().try_for_each(|buffer| out.write_all(buffer))
    }

    /// Reads what [`encode`](Self::encode) wrote for a strategy of this form. If the number of moments differs, because
    /// momentum was switched on say, they are left out and start afresh. Nothing is allocated that isn't in `bytes`.
    pub(super) fn decode(bytes: &[u8], form: &Form) -> Result<Self, FoldError> {
        let (expected, body) = bytes.split_at_checked(HASH_BYTES).ok_or_else(|| form.error("it is too short"))?;
        if hash(body).as_bytes() != expected {
            return Err(form.error("it is damaged, or none"));
        }
        if body.first() != Some(&VERSION) {
            return Err(form.error(format!("its version is not {VERSION}")));
        }
        let malformed = |_| form.error("it is malformed");
        let (header, rest): (Header, _) = postcard::take_from_bytes(body).map_err(malformed)?;
        if header.strategy != form.strategy {
            return Err(form.error(format!("it is one of {:.32}", printable(&header.strategy))));
        }
        if header.reference != form.reference {
            let name = |reference: Option<Reference>| reference.map_or("none".to_owned(), |known| known.to_string());
            let (saved, ours) = (name(header.reference), name(form.reference));
            return Err(form.error(format!("its reference is {saved}, and ours {ours}")));
        }
        let Some(tensors) = header.tensors else {
            return match (rest, header.folds, header.wide, header.moments, header.kept.as_slice()) {
                ([], 0, false, 0, []) => Ok(Self::default()),
                _ => Err(form.error("it has a past but no weights")),
            };
        };
        let layout = Arc::new(Layout::new(tensors).map_err(|error| form.error(error.to_string()))?);
        let planes = usize::from(header.wide) + usize::from(header.moments);
        let kept_weights = header.kept.iter().filter(|kept| kept.weights).count();
        // Counts that the input doesn't support allocate nothing. Each of what is kept is as long as x; but tensors may
        // be empty, and every one of them is a buffer.
        let tensors = layout.tensors().len();
        let buffers = tensors.saturating_mul(planes.saturating_add(kept_weights));
        let few = MAX_EMPTY_BUFFERS.max(4 * tensors);
        let kept_bytes = layout.bytes().saturating_mul(kept_weights as u64);
        if kept_bytes > rest.len() as u64 || buffers > rest.len().max(few) {
            return Err(form.error("it has fewer bytes than it says"));
        }
        let mut lengths: Vec<u64> = Plane::Weights.lengths(&layout).collect();
        lengths.extend(header.wide.then(|| Plane::Wide.lengths(&layout)).into_iter().flatten());
        (0..header.moments).for_each(|_| lengths.extend(form.moment().lengths(&layout)));
        (0..kept_weights).for_each(|_| lengths.extend(Plane::Weights.lengths(&layout)));
        // A state whose moments were left out is wide before its first fold.
        if header.wide && !form.wide || header.moments > 0 && header.folds == 0 {
            return Err(form.error("it has a form that no state of this strategy has"));
        }
        if lengths.iter().sum::<u64>() != rest.len() as u64 {
            return Err(form.error(format!("it has {} bytes of tensors, too few or too many", rest.len())));
        }
        let mut rest = Bytes::copy_from_slice(rest);
        let mut buffers = lengths.into_iter().map(|length| rest.split_to(length as usize));
        let mut plane = || buffers.by_ref().take(tensors).collect::<Vec<_>>();
        let weights =
            |plane| Weights::from_layout(layout.clone(), plane).map_err(|error| form.error(error.to_string()));
        let x = weights(plane())?;
        let wide = if header.wide { plane() } else { Vec::new() };
        let moments: Vec<_> = (0..header.moments).map(|_| plane()).collect();
        let kept = header.kept.into_iter().map(|kept| {
            let KeptHeader { author, epoch, num_examples, fold, weights: has_weights } = kept;
            let weights = has_weights.then(|| weights(plane())).transpose()?;
            Ok(Kept { author, epoch, num_examples, fold, weights })
        });
        let kept = kept.collect::<Result<Vec<_>, FoldError>>()?;
        if moments.len() != form.moments && header.folds > 0 {
            return Ok(Self { x: Some(x), wide, ..Self::default() });
        }
        Ok(Self { x: Some(x), wide, moments, folds: header.folds, buffered: header.buffered, kept })
    }
}

pub(super) fn hash(body: &[u8]) -> blake3::Hash {
    hasher().update(body).finalize()
}

fn hasher() -> blake3::Hasher {
    blake3::Hasher::new_derive_key("peerfold 2026 strategy state v1")
}
