//! Bytes as text that people copy and paste: base32 with a length and a checksum, so that a part that is missing and a
//! character that is wrong are found and told apart.
//!
//! ```text
//! base32 (RFC 4648, small letters, no padding) of: u16 length of the content | the content | 4 bytes of BLAKE3 of both
//! ```
//!
//! Spaces and line breaks don't count, because terminals and mail programs add some; nor does the case of letters.

use std::iter;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const LENGTH_BYTES: usize = 2;
const CHECKSUM_BYTES: usize = 4;
/// Most characters that are read.
const MAX_CHARACTERS: usize = 128 << 10;

/// Why a text is not what was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasteError {
    /// The end is missing.
    #[error("it is cut short: it has {characters} of {whole} characters; copy it again, to its end")]
    Cut {
        /// How many there are.
        characters: usize,
        /// How many there should be.
        whole: usize,
    },
    /// A character that never is in such a text.
    #[error("{character:?} can't be in it; copy it again, and nothing around it")]
    Character {
        /// The first such character.
        character: char,
    },
    /// Characters were changed, or something follows it.
    #[error("some of its characters have changed, or something follows it; copy it again")]
    Changed,
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::hash(bytes);
    std::array::from_fn(|at| hash.as_bytes()[at])
}

fn characters_of(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Bytes as base32.
pub(crate) fn base32(bytes: &[u8]) -> String {
    let (mut text, mut bits, mut held) = (String::with_capacity(characters_of(bytes.len())), 0_u32, 0);
    // Zeros fill up the last character.
    for byte in bytes.iter().copied().map(Some).chain(iter::once(None)) {
        match byte {
            Some(byte) => (bits, held) = (bits << 8 | u32::from(byte), held + 8),
            None if held > 0 => (bits, held) = (bits << (5 - held), 5),
            None => {}
        }
        while held >= 5 {
            held -= 5;
            text.push(char::from(ALPHABET[(bits >> held & 31) as usize]));
        }
        bits &= (1 << held) - 1;
    }
    text
}

/// The bytes whose base32 these characters are; an `Err` has one that can't be in it. What is left over is dropped.
fn of_base32(characters: impl Iterator<Item = char>) -> Result<Vec<u8>, char> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for character in characters {
        let value = ALPHABET.iter().position(|known| char::from(*known) == character).ok_or(character)?;
        (bits, held) = (bits << 5 | value as u32, held + 5);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 255) as u8);
        }
        bits &= (1 << held) - 1;
    }
    Ok(bytes)
}

/// The bytes whose [`base32`] this text is.
pub(crate) fn from_base32(text: &str) -> Option<Vec<u8>> {
    let bytes = of_base32(text.chars()).ok()?;
    // One spelling only.
    if base32(&bytes) == text { Some(bytes) } else { None }
}

/// The text for these bytes, of which there may be at most 65,535.
pub(crate) fn written(content: &[u8]) -> String {
    let length = u16::try_from(content.len()).expect("what is copied by hand is short");
    let mut bytes = [&length.to_le_bytes(), content].concat();
    bytes.extend(checksum(&bytes));
    base32(&bytes)
}

/// The bytes that a text was written for.
pub(crate) fn read(text: &str) -> Result<Vec<u8>, PasteError> {
    let text: String = text.chars().filter(|character| !character.is_whitespace()).take(MAX_CHARACTERS + 1).collect();
    let text = text.to_ascii_lowercase();
    let bytes = of_base32(text.chars()).map_err(|character| PasteError::Character { character })?;
    let characters = text.len();
    let Some(&length) = bytes.first_chunk::<LENGTH_BYTES>() else {
        return Err(PasteError::Cut { characters, whole: characters_of(LENGTH_BYTES + CHECKSUM_BYTES) });
    };
    let length = LENGTH_BYTES + usize::from(u16::from_le_bytes(length));
    let whole = characters_of(length + CHECKSUM_BYTES);
    if characters < whole {
        return Err(PasteError::Cut { characters, whole });
    }
    match bytes.split_at_checked(length) {
        Some((counted, sum)) if base32(&bytes) == text && sum == checksum(counted) => {
            Ok(counted[LENGTH_BYTES..].to_vec())
        }
        _ => Err(PasteError::Changed),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(content in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = written(&content);
            prop_assert_eq!(read(&text).unwrap(), content.clone());
            let wrapped: Vec<&str> = text.as_bytes().chunks(60).map(|line| std::str::from_utf8(line).unwrap()).collect();
            prop_assert_eq!(read(&format!("  {}\n", wrapped.join("\r\n "))).unwrap(), content.clone());
            prop_assert_eq!(read(&text.to_uppercase()).unwrap(), content);
        }

        #[test]
        fn rubbish_is_an_error(text in "[a-z2-7 ]{0,200}") {
            let _ = read(&text);
        }
    }

    #[test]
    fn every_cut_says_how_much_came_and_every_change_is_found() {
        let text = written(&[7; 40]);
        for end in 0..text.len() {
            let error = read(&text[..end]).unwrap_err();
            assert!(matches!(error, PasteError::Cut { characters, .. } if characters == end), "{end}: {error:?}");
            if end > 3 {
                assert!(error.to_string().contains(&format!("{end} of {} characters", text.len())), "{error}");
            }
        }
        // The first characters are the length: changed ones make it longer or shorter.
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'a' { b'b' } else { b'a' };
            read(std::str::from_utf8(&changed).unwrap()).unwrap_err();
        }
        assert_eq!(read(&format!("{text}a")), Err(PasteError::Changed));
        assert_eq!(read(&format!("\"{text}\"")), Err(PasteError::Character { character: '"' }));
    }
}
