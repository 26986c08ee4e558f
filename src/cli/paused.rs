//! The middle of an epoch as the program saves it, with all that decides the rest of the epoch.

use crate::train::Steps;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Magic and version.
const MAGIC: &[u8; 16] = b"peerfold pause 1";

/// What decides an epoch besides what it is trained from, by name: the data, their order, the steps.
pub(super) type Recipe = BTreeMap<String, String>;

/// An epoch that is trained in part.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Paused {
    pub(super) recipe: Recipe,
    pub(super) steps: Steps,
    /// The trainer's state after these steps.
    pub(super) state: Bytes,
}

impl Paused {
    pub(super) fn encode(&self) -> anyhow::Result<Bytes> {
        Ok(Bytes::from([MAGIC.as_slice(), &postcard::to_stdvec(self)?].concat()))
    }

    /// What [`encode`](Self::encode) made, if this program knows it.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes.strip_prefix(MAGIC)?).ok()
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
        let paused = Paused { recipe: recipe(&[("lr", "0.1")]), steps, state: Bytes::from_static(b"state") };
        let bytes = paused.encode().unwrap();
        assert_eq!(Paused::decode(&bytes), Some(paused));
        assert!((0..bytes.len()).all(|length| Paused::decode(&bytes[..length]).is_none()));
        assert_eq!(Paused::decode(b"whatever else a program may save"), None);
    }

    #[test]
    fn differences_are_named() {
        let before = recipe(&[("batch-size", "32"), ("lr", "0.1"), ("steps-per-epoch", "60")]);
        let paused = Paused { recipe: before.clone(), steps: Steps::default(), state: Bytes::new() };
        assert_eq!(paused.differences(&before), Vec::<String>::new());
        let now = recipe(&[("batch-size", "16"), ("lr", "0.1"), ("period", "2.5")]);
        let expected =
            ["batch-size was 32 and is 16", "period was not set and is 2.5", "steps-per-epoch was 60 and is not set"];
        assert_eq!(paused.differences(&now), expected);
    }
}
