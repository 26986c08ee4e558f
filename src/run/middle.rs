//! The middle of an epoch: saving it, with how far it has got and everything that decides the rest, and resuming it.

use super::{LearnerError, Recipe, Run, RunError, Steps, life::written};
use crate::{
    node::{Event, Progress, SavedState},
    weights::Weights,
};
use serde::{Deserialize, Serialize};
use std::{
    fmt::Display,
    io::{self, Read, Write},
};

/// Magic and version.
const MAGIC: &[u8; 16] = b"peerfold pause 2";
/// Longest header that is decoded: a recipe is a few settings.
const MAX_HEADER: u32 = 1 << 20;

/// The header before the learner's state, which extends to the end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) recipe: Recipe,
    pub(super) steps: Steps,
}

impl Header {
    /// Writes magic, length, and the header: the learner's state follows.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let header = postcard::to_stdvec(self).map_err(io::Error::other)?;
        let length = u32::try_from(header.len()).ok().filter(|&length| length <= MAX_HEADER);
        let length = length.ok_or_else(|| io::Error::other("the recipe has more than a mebibyte"))?;
        out.write_all(MAGIC)?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&header)
    }

    /// What [`write`](Self::write) wrote, if this version did. What follows is left to be read.
    pub(super) fn read(from: &mut dyn Read) -> Option<Self> {
        let (mut magic, mut length, mut header) = ([0; MAGIC.len()], [0; 4], Vec::new());
        from.read_exact(&mut magic).ok().filter(|()| magic == *MAGIC)?;
        from.read_exact(&mut length).ok()?;
        let length = Some(u32::from_le_bytes(length)).filter(|&length| length <= MAX_HEADER)?;
        from.take(length.into()).read_to_end(&mut header).ok().filter(|&read| read == length as usize)?;
        match postcard::take_from_bytes(&header) {
            Ok((header, [])) => Some(header),
            _ => None,
        }
    }

    /// How an epoch by this recipe would differ: `batch-size was 32 and is 16`.
    pub(super) fn differences(&self, now: &Recipe) -> Vec<String> {
        let mut names: Vec<&String> = self.recipe.keys().chain(now.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let shown = |value: Option<&String>| match value {
            None => "not set".to_owned(),
            // A hash, whose beginning is enough.
            Some(value) => value.chars().take(16).collect(),
        };
        let different = names.into_iter().filter(|&name| self.recipe.get(name) != now.get(name));
        different
            .map(|name| format!("{name} was {} and is {}", shown(self.recipe.get(name)), shown(now.get(name))))
            .collect()
    }
}

/// A partly trained epoch to go on with.
pub struct Middle<'a> {
    /// How far it has got.
    pub steps: Steps,
    /// The weights after these steps.
    pub weights: &'a Weights,
    /// The learner's state at that point.
    pub state: &'a mut dyn Read,
    /// The weights that the epoch began from.
    pub start: &'a Weights,
}

/// What a learner has written within an epoch, with everything that the rest of the epoch needs to know.
#[derive(Debug)]
pub struct MiddleState {
    steps: Steps,
    state: SavedState,
}

impl Run {
    /// Goes on in the middle of the epoch that [`next_epoch`](Self::next_epoch) gave, if an earlier life has saved it by
    /// the same recipe: `resume` makes it the learner's. `None` if the epoch begins at its beginning; a second call gives
    /// `None` too. If `resume` fails, what was saved is dropped, and its error is given.
    pub fn take_up<T, E: Display>(&mut self, resume: impl FnOnce(Middle<'_>) -> Result<T, E>) -> Result<Option<T>, E> {
        let Some(Progress { epoch, steps, weights, trainer }) = self.progress.take() else { return Ok(None) };
        let dropped = |reason| Event::ProgressDropped { epoch: Some(epoch), steps: Some(steps), reason };
        let mut from = match trainer.reader() {
            Ok(from) => from,
            Err(error) => {
                (self.events)(&dropped(error.to_string()));
                return Ok(None);
            }
        };
        let Some(header) = Header::read(&mut from) else {
            (self.events)(&dropped("it was saved by another version of the program".to_owned()));
            return Ok(None);
        };
        let differences = header.differences(&self.options.recipe);
        if !differences.is_empty() {
            (self.events)(&dropped(differences.join(", ")));
            return Ok(None);
        }
        let steps_before = Steps { interrupted: false, ..header.steps };
        let middle = Middle { steps: steps_before, weights: &weights, state: &mut from, start: &self.weights };
        match resume(middle) {
            Ok(resumed) => {
                if let Some(under_way) = &mut self.under_way {
                    under_way.before = header.steps.time;
                }
                let steps_per_epoch = self.options.steps_per_epoch;
                (self.events)(&Event::ProgressResumed { epoch, steps, steps_per_epoch });
                Ok(Some(resumed))
            }
            Err(error) => {
                (self.events)(&dropped(error.to_string()));
                Err(error)
            }
        }
    }

    /// Writes a learner's state within the epoch under way, after these steps, for
    /// [`save_progress`](Self::save_progress). Their time is counted by the run.
    pub fn write_middle(
        &self,
        steps: Steps,
        save: impl FnOnce(&mut dyn Write) -> Result<(), LearnerError>,
    ) -> Result<MiddleState, RunError> {
        let time = self.under_way.as_ref().map_or(steps.time, |way| way.before + way.began.elapsed());
        self.middle_after(Steps { time, ..steps }, save)
    }

    /// [`write_middle`](Self::write_middle) where the time is known.
    pub(super) fn middle_after(
        &self,
        steps: Steps,
        save: impl FnOnce(&mut dyn Write) -> Result<(), LearnerError>,
    ) -> Result<MiddleState, RunError> {
        let header = Header { recipe: self.options.recipe.clone(), steps };
        let state = written(&self.session, |out| {
            header.write(out)?;
            save(out)
        });
        Ok(MiddleState { steps, state: state? })
    }

    /// Saves the middle of the epoch under way, in the home: these weights, and the learner's state that was
    /// [written](Self::write_middle). A process that ends after it goes on there; what was saved before is replaced, and
    /// removed with the epoch's end. A crash leaves what was saved before or this.
    pub fn save_progress(&mut self, weights: Weights, middle: MiddleState) -> Result<(), RunError> {
        let stopping = self.stop.is_requested();
        self.save_middle(weights, middle, stopping)
    }

    pub(super) fn save_middle(
        &mut self,
        weights: Weights,
        middle: MiddleState,
        stopping: bool,
    ) -> Result<(), RunError> {
        let MiddleState { steps, state } = middle;
        let epoch = self.epoch + 1;
        let saved = self.session.save_progress(steps.done, weights, state)?;
        let (steps, steps_per_epoch) = (steps.done, self.options.steps_per_epoch);
        if saved {
            (self.events)(&Event::ProgressSaved { epoch, steps, steps_per_epoch, stopping });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn recipe(values: &[(&str, &str)]) -> Recipe {
        values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn comes_back_as_it_was_and_nothing_else_does() {
        let steps = Steps { done: 17, loss_sum: f64::INFINITY, interrupted: true, ..Steps::default() };
        let header = Header { recipe: recipe(&[("lr", "0.1")]), steps };
        let mut before = Vec::new();
        header.write(&mut before).unwrap();
        let whole = [before.as_slice(), b"state"].concat();
        let mut from = &whole[..];
        assert_eq!((Header::read(&mut from), from), (Some(header), &b"state"[..]));
        assert!((0..before.len()).all(|length| Header::read(&mut &before[..length]).is_none()));
        for foreign in ["whatever else", "peerfold pause 1 and what it had", "peerfold pause 2\u{7f}\u{7f}\u{7f}\u{7f}"]
        {
            assert_eq!(Header::read(&mut foreign.as_bytes()), None);
        }
    }

    #[test]
    fn differences_are_named() {
        let before = recipe(&[("batch-size", "32"), ("lr", "0.1"), ("steps-per-epoch", "60")]);
        let header = Header { recipe: before.clone(), steps: Steps::default() };
        assert_eq!(header.differences(&before), Vec::<String>::new());
        let now = recipe(&[("batch-size", "16"), ("lr", "0.1"), ("period", "2.5")]);
        let expected =
            ["batch-size was 32 and is 16", "period was not set and is 2.5", "steps-per-epoch was 60 and is not set"];
        assert_eq!(header.differences(&now), expected);
    }
}
