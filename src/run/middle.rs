//! The middle of an epoch as it is saved: how far it has come, all that decides its rest, and the learner's state.

use super::Steps;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

/// Magic and version.
const MAGIC: &[u8; 16] = b"peerfold pause 2";
/// Longest header that is decoded: a recipe is a few settings.
const MAX_HEADER: u32 = 1 << 20;

/// What decides an epoch besides what it is trained from, by name: the data, their order, the steps. An epoch that was
/// begun by another recipe is trained anew.
pub type Recipe = BTreeMap<String, String>;

/// What stands before the learner's state, which goes on to the end.
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
