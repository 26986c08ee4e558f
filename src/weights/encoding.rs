//! How a value's bytes encode its tensors: room in the signed entry for encodings of later versions.
//!
//! Plain values, the only ones that this version writes and reads, don't mention it. For any other encoding the signed
//! body ends with
//!
//! ```text
//! u8 flags: 1 a difference, 2 compressed; the others are unassigned
//! 32 bytes root of the value that it is a difference to, if it is one
//! u8 number of the compression, if it is compressed
//! ```
//!
//! and nothing more. What follows unassigned flags is up to the version that assigns them.

use super::Root;
use std::fmt;

const DELTA: u8 = 1;
const COMPRESSED: u8 = 2;

/// How a value's bytes encode its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// They are the tensors' bytes.
    Plain,
    /// They are something from which the tensors can be computed.
    Packed {
        /// The base value, if they are a difference to one.
        base: Option<Root>,
        /// The number of the compression, if they are compressed. None is assigned yet.
        compression: Option<u8>,
    },
    /// Something that a later version has assigned.
    Unknown {
        /// Its flags.
        flags: u8,
    },
}

impl Encoding {
    /// Decodes the end of a body. Each encoding has one form; `None` if it isn't one.
    pub(super) fn parse(end: &[u8]) -> Option<Self> {
        let Some((&flags, mut rest)) = end.split_first() else { return Some(Self::Plain) };
        if flags == 0 {
            return None;
        }
        if flags & !(DELTA | COMPRESSED) != 0 {
            return Some(Self::Unknown { flags });
        }
        let (mut base, mut compression) = (None, None);
        if flags & DELTA != 0 {
            let (root, tail) = rest.split_first_chunk::<32>()?;
            (base, rest) = (Some(Root::from_bytes(*root)), tail);
        }
        if flags & COMPRESSED != 0 {
            let (&number, tail) = rest.split_first()?;
            (compression, rest) = (Some(number), tail);
        }
        rest.is_empty().then_some(Self::Packed { base, compression })
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("plain"),
            Self::Packed { base, compression } => {
                let compressed = compression.map(|number| format!("compressed by number {number}"));
                let delta = base.map(|base| format!("a difference to {}", base.short()));
                let both: Vec<String> = [delta, compressed].into_iter().flatten().collect();
                f.write_str(&both.join(", "))
            }
            Self::Unknown { flags } => write!(f, "encoded by flags {flags:#04x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These are part of the protocol.
    #[test]
    fn each_encoding_has_one_form() {
        let base = Some(Root::from_bytes([7; 32]));
        let delta = [&[1][..], &[7; 32]].concat();
        let both = [&[3][..], &[7; 32], &[9]].concat();
        assert_eq!(Encoding::parse(&[]), Some(Encoding::Plain));
        assert_eq!(Encoding::parse(&delta), Some(Encoding::Packed { base, compression: None }));
        assert_eq!(Encoding::parse(&[2, 9]), Some(Encoding::Packed { base: None, compression: Some(9) }));
        assert_eq!(Encoding::parse(&both), Some(Encoding::Packed { base, compression: Some(9) }));
        for flags in [4, 5, 0x80, 0xff] {
            assert_eq!(Encoding::parse(&[flags]), Some(Encoding::Unknown { flags }));
            assert_eq!(Encoding::parse(&[flags, 1, 2, 3]), Some(Encoding::Unknown { flags }));
        }
        let longer = |bytes: &[u8]| [bytes, &[0]].concat();
        for wrong in [vec![0], vec![0, 1], vec![2], delta[..32].to_vec(), both[..33].to_vec()] {
            assert_eq!(Encoding::parse(&wrong), None, "{wrong:?}");
        }
        for right in [&delta[..], &[2, 9], &both] {
            assert_eq!(Encoding::parse(&longer(right)), None, "{right:?}");
        }
        assert_eq!(
            Encoding::parse(&both).map(|encoding| encoding.to_string()),
            Some("a difference to 07070707, compressed by number 9".to_owned())
        );
    }
}
