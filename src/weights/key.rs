//! The name of a value, `<author>/<name>`, and matching by prefix.

use crate::printable::printable;
use libp2p_identity::PeerId;
use std::{fmt, str::FromStr};

/// Longest key, author and slash included, in bytes.
pub const MAX_KEY_BYTES: usize = 128;

const UPDATE: &str = "update/";

/// Why a text isn't a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// More than [`MAX_KEY_BYTES`].
    #[error("the key {key:.40?}… has {got} bytes, but at most {MAX_KEY_BYTES} are allowed")]
    TooLong {
        /// The key.
        key: String,
        /// Its length.
        got: usize,
    },
    /// There is nothing after the author.
    #[error("the key has no name after its author")]
    Empty,
    /// The text doesn't begin with a peer id and a slash.
    #[error("the key {key:?} doesn't begin with its author's peer id and a slash")]
    NoAuthor {
        /// The key.
        key: String,
    },
}

/// The name of a value: `<author>/<name>`. Only the author can sign under it.
///
/// The name is any non-empty UTF-8; the whole key has at most [`MAX_KEY_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    author: PeerId,
    name: String,
}

impl Key {
    /// The key of this name under this author.
    pub fn new(author: PeerId, name: impl Into<String>) -> Result<Self, KeyError> {
        let key = Self { author, name: name.into() };
        if key.name.is_empty() {
            return Err(KeyError::Empty);
        }
        let text = key.to_string();
        if text.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong { got: text.len(), key: text });
        }
        Ok(key)
    }

    /// `<author>/update/<epoch>`: where an author's update of an epoch stands.
    pub fn update(author: PeerId, epoch: u64) -> Self {
        Self { author, name: format!("{UPDATE}{epoch}") }
    }

    /// `<author>/start`: what a node began from and with which hyper-parameters.
    pub fn start(author: PeerId) -> Self {
        Self { author, name: "start".to_owned() }
    }

    /// `<author>/model`: the weights that a node goes on with after its newest fold, if it publishes them.
    pub fn model(author: PeerId) -> Self {
        Self { author, name: "model".to_owned() }
    }

    /// `<author>/members`: the list of those who may take part, if the author is the federation's administrator.
    pub fn members(author: PeerId) -> Self {
        Self { author, name: "members".to_owned() }
    }

    /// Who signs under this key.
    pub fn author(&self) -> PeerId {
        self.author
    }

    /// As text for people: the name is any that its author chose.
    pub(crate) fn shown(&self) -> String {
        printable(&self.to_string()).into_owned()
    }

    /// What stands after the author and the slash.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The epoch, if this is the key of an update.
    pub fn update_epoch(&self) -> Option<u64> {
        let digits = self.name.strip_prefix(UPDATE)?;
        // `update/007` and `update/+7` are other keys, not other spellings.
        let is_spelt_so = digits == "0" || digits.starts_with(|first: char| first.is_ascii_digit() && first != '0');
        if is_spelt_so { digits.parse().ok() } else { None }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.author, self.name)
    }
}

/// A prefix of keys, parsed once, so that matching doesn't turn peer ids into text.
pub(crate) enum KeyPrefix<'a> {
    /// The author is complete, and the name begins with this.
    Name(PeerId, &'a str),
    /// The beginning of an author's text; empty for everybody.
    Author(&'a str),
}

impl<'a> KeyPrefix<'a> {
    pub(crate) fn new(prefix: &'a str) -> Self {
        // Without the slash it may be the beginning of a longer id, even if it is an id itself.
        match prefix.split_once('/').and_then(|(author, name)| Some((author.parse().ok()?, name))) {
            Some((author, name)) => Self::Name(author, name),
            None => Self::Author(prefix),
        }
    }

    pub(crate) fn matches(&self, key: &Key) -> bool {
        match self {
            Self::Name(author, name) => key.author == *author && key.name.starts_with(name),
            Self::Author(text) => text.is_empty() || key.author.to_base58().starts_with(text),
        }
    }

    /// No matching key comes before this one, and the matching keys follow without a gap. `None` if there is no such
    /// key.
    pub(crate) fn first(&self) -> Option<Key> {
        match self {
            Self::Name(author, name) => Some(Key { author: *author, name: (*name).to_owned() }),
            Self::Author(_) => None,
        }
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let parts = text.split_once('/');
        let parsed = parts.and_then(|(author, name)| Some((author.parse::<PeerId>().ok()?, name)));
        let (author, name) = parsed.ok_or_else(|| KeyError::NoAuthor { key: text.to_owned() })?;
        Self::new(author, name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_epoch_has_one_key() {
        let author = PeerId::random();
        let epoch_of = |name: &str| Key::new(author, name).unwrap().update_epoch();
        for epoch in [0, 1, 9, 10, 70, u64::MAX] {
            assert_eq!(Key::update(author, epoch).update_epoch(), Some(epoch));
        }
        let others = ["007", "00", "+7", "-7", " 7", "7 ", "7x", "", "0x7", "1_000", "٧", "18446744073709551616"];
        for other in others.map(|digits| format!("update/{digits}")) {
            assert_eq!(epoch_of(&other), None, "{other}");
        }
        assert_eq!((epoch_of("update"), epoch_of("updates/7"), epoch_of("start")), (None, None, None));
    }
}
