//! The middle of an epoch as the program saves it, with all that decides the rest of the epoch.

use crate::train::Steps;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
};

/// Magic and version.
const MAGIC: &[u8; 16] = b"peerfold pause 2";

/// What decides an epoch besides what it is trained from, by name: the data, their order, the steps.
pub(super) type Recipe = BTreeMap<String, String>;

/// An epoch that is trained in part.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Paused {
    pub(super) recipe: Recipe,
    pub(super) steps: Steps,
}

impl Paused {
    /// Writes it before the trainer's state.
    pub(super) fn write(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let encoded = postcard::to_stdvec(self)?;
        out.write_all(MAGIC)?;
        out.write_all(&u32::try_from(encoded.len())?.to_le_bytes())?;
        Ok(out.write_all(&encoded)?)
    }

    /// What [`write`](Self::write) wrote, if this program knows it. What follows is left to be read.
    pub(super) fn read(from: &mut dyn Read) -> Option<Self> {
        let (mut magic, mut length, mut encoded) = ([0; MAGIC.len()], [0; 4], Vec::new());
        from.read_exact(&mut magic).ok()?;
        from.read_exact(&mut length).ok().filter(|()| magic == *MAGIC)?;
        from.take(u64::from(u32::from_le_bytes(length))).read_to_end(&mut encoded).ok()?;
        postcard::from_bytes(&encoded).ok()
    }

    /// In what an epoch by this recipe would be another one: `batch-size was 32 and is 16`.
    pub(super) fn differences(&self, now: &Recipe) -> Vec<String> {
        let mut names: Vec<&String> = self.recipe.keys().chain(now.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let shown = |value: Option<&String>| match value {
            None => "not set".to_owned(),
            // A hash, of which the beginning tells enough.
            Some(value) => value.chars().take(16).collect(),
        };
        let different = names.into_iter().filter(|&name| self.recipe.get(name) != now.get(name));
        different
            .map(|name| format!("{name} was {} and is {}", shown(self.recipe.get(name)), shown(now.get(name))))
            .collect()
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
        let paused = Paused { recipe: recipe(&[("lr", "0.1")]), steps };
        let mut bytes = Vec::new();
        paused.write(&mut bytes).unwrap();
        let mut followed = [&bytes, &b"state"[..]].concat();
        let mut from = &followed[..];
        assert_eq!((Paused::read(&mut from), from), (Some(paused), &b"state"[..]));
        assert!((0..bytes.len()).all(|length| Paused::read(&mut &bytes[..length]).is_none()));
        followed[0] ^= 1;
        assert_eq!(Paused::read(&mut &followed[..]), None);
    }

    #[test]
    fn differences_are_named() {
        let before = recipe(&[("batch-size", "32"), ("lr", "0.1"), ("steps-per-epoch", "60")]);
        let paused = Paused { recipe: before.clone(), steps: Steps::default() };
        assert_eq!(paused.differences(&before), Vec::<String>::new());
        let now = recipe(&[("batch-size", "16"), ("lr", "0.1"), ("period", "2.5")]);
        let expected =
            ["batch-size was 32 and is 16", "period was not set and is 2.5", "steps-per-epoch was 60 and is not set"];
        assert_eq!(paused.differences(&now), expected);
    }
}
