//! What fuzzers try: a decoder of bytes that others wrote, with valid bytes to begin from. Each layer lists its own in
//! its `decoders`, and `crate::decoders` has all of them.

use std::fmt::Display;

/// A decoder of bytes that others wrote.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Decodes, and asserts what must hold: no panic for any bytes, and what is decoded is within its limits and encodes
    /// to what decodes to the same.
    pub run: fn(&[u8]),
    /// What this program writes itself, so that a change of it begins inside of the format. The same every time.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Asserts that an error is one line that a terminal shows as it is, whatever the bytes were.
pub(crate) fn check_told(error: impl Display) {
    let text = error.to_string();
    let wrong = text.chars().find(|character| character.is_control());
    assert!(wrong.is_none(), "{wrong:?} is told: {text:?}");
}

/// What was decoded; asserts that an error is one line.
pub(crate) fn told<T>(result: Result<T, impl Display>) -> Option<T> {
    result.map_err(check_told).ok()
}

/// As text, whatever the bytes are.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
