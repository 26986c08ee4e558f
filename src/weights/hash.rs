//! The 32-byte BLAKE3 hashes of the project, each a separate type, so that a root can't be mistaken for a layout id.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The text was not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a hash of 64 hexadecimal digits")]
pub struct ParseHashError {
    text: String,
}

macro_rules! hash_types {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The hash with these bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Its first 8 hexadecimal digits, for people.
            pub fn short(&self) -> String {
                self.to_string()[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseHashError;

            fn from_str(text: &str) -> Result<Self, ParseHashError> {
                blake3::Hash::from_hex(text)
                    .map(|hash| Self(*hash.as_bytes()))
                    .map_err(|_| ParseHashError { text: text.to_owned() })
            }
        }
    )*};
}

hash_types! {
    /// BLAKE3 of a chunk's bytes: the chunk's address.
    ChunkHash;
    /// BLAKE3 of a manifest's bytes: the address of a value. Equal weights have equal roots, whoever made them.
    Root;
    /// The address of a blob, which is a chunk or a manifest: its [`ChunkHash`] or its [`Root`].
    BlobHash;
    /// BLAKE3 of a [`Layout`](super::Layout)'s canonical encoding.
    LayoutId;
    /// BLAKE3 of a federation's name and run label.
    FederationId;
    /// BLAKE3 of a signed entry's bytes.
    EntryHash;
    /// One hash over all entries and tombstones of a folder.
    Digest;
}

impl ChunkHash {
    /// The address of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl BlobHash {
    /// The address of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl EntryHash {
    /// The hash of a signed entry with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl From<ChunkHash> for BlobHash {
    fn from(chunk: ChunkHash) -> Self {
        Self(chunk.0)
    }
}

impl From<Root> for BlobHash {
    fn from(root: Root) -> Self {
        Self(root.0)
    }
}

impl FederationId {
    /// The federation of this name and run label. The name's length is hashed too, so that no other pair of name and
    /// label shares it.
    pub fn new(name: &str, run: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("peerfold 2026 federation id v1");
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(run.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }
}
