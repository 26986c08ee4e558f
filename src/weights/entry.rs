//! The signed record of one value in a folder: encoding, limits, signing and verification.

use super::{Encoding, EntryHash, FederationId, Key, KeyError, LayoutId, Root};
use libp2p_identity::{Keypair, PeerId, PublicKey, ed25519};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most bytes in a signed entry.
pub const MAX_ENTRY_BYTES: usize = 1024;
/// Most metrics in an entry.
pub const MAX_METRICS: usize = 16;
/// Longest name of a metric, in bytes.
pub const MAX_METRIC_NAME: usize = 24;

const VERSION: u8 = 1;
const SIGNATURE_BYTES: usize = 64;
/// Prefix of what is signed, so that a signature made for another purpose can't pass for an entry's.
const DOMAIN: &[u8] = b"peerfold/entry\0";

/// A named figure of an update: a loss, an accuracy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Metric {
    /// At most [`MAX_METRIC_NAME`] bytes.
    pub name: String,
    /// Any number, NaN included.
    pub value: f64,
}

/// Compared as encoded, so that NaN equals itself; otherwise an update with a loss of NaN would differ from itself.
impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value.to_bits() == other.value.to_bits()
    }
}

/// What an author says about a value when publishing it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// The epoch after which the weights were taken; 0 for values that don't belong to one.
    pub epoch: u64,
    /// Examples that were trained on in that epoch.
    pub num_examples: u64,
    /// At most [`MAX_METRICS`], in ascending order of their names; [`Metadata::with_metrics`] sorts.
    pub metrics: Vec<Metric>,
}

impl Metadata {
    /// Sets the metrics. Of two with the same name the last one counts; past [`MAX_METRICS`] it is an error at `put`.
    #[must_use]
    pub fn with_metrics<'a>(mut self, metrics: impl IntoIterator<Item = (&'a str, f64)>) -> Self {
        let by_name: std::collections::BTreeMap<_, _> = metrics.into_iter().collect();
        self.metrics = by_name.into_iter().map(|(name, value)| Metric { name: name.to_owned(), value }).collect();
        self
    }

    /// The metric of this name.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
    }
}

/// What an entry says about its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Content {
    /// There is a value.
    Put {
        /// The value's address.
        root: Root,
        /// Its bytes, without the manifest.
        length: u64,
        /// What the author says about it.
        metadata: Metadata,
    },
    /// The value was removed.
    Tombstone,
}

/// The record of one value in a folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The federation it belongs to. In any other it is void.
    pub federation: FederationId,
    /// The layout of the value.
    pub layout: LayoutId,
    /// Where the value stands, and who signs.
    pub key: Key,
    /// Rises with every entry of the author; the newest wins.
    pub sequence: u64,
    /// The value, or the fact that it was removed.
    pub content: Content,
}

impl Entry {
    /// The value's address, unless this is a tombstone.
    pub fn root(&self) -> Option<Root> {
        match self.content {
            Content::Put { root, .. } => Some(root),
            Content::Tombstone => None,
        }
    }

    /// What the author says of the value, unless this is a tombstone.
    pub fn metadata(&self) -> Option<&Metadata> {
        match &self.content {
            Content::Put { metadata, .. } => Some(metadata),
            Content::Tombstone => None,
        }
    }
}

/// Why an entry can't be signed, or bytes aren't an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Written by a newer version of this program: to be ignored, not punished.
    #[error("an entry of version {got}, but this program knows {VERSION}")]
    Version {
        /// The version found.
        got: u8,
    },
    /// Its value is encoded in a way that only a newer version of this program knows: to be ignored, not punished. The
    /// signature is valid.
    #[error("the value of {} is {encoding}, and this program reads plain ones only", key.shown())]
    Encoding {
        /// The entry's key.
        key: Key,
        /// How.
        encoding: Encoding,
    },
    /// More than [`MAX_ENTRY_BYTES`].
    #[error("an entry of {got} bytes, but at most {MAX_ENTRY_BYTES} are allowed")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Not in the canonical form.
    #[error("the entry is malformed")]
    Malformed,
    /// It has no valid key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The signature isn't the author's.
    #[error("the entry {} is not signed by its author", key.shown())]
    Signature {
        /// The key it claims.
        key: Key,
    },
    /// The key belongs to another author.
    #[error("only {} can publish under {}, not {signer}", key.author(), key.shown())]
    NotAuthor {
        /// The key.
        key: Key,
        /// Who tried.
        signer: PeerId,
    },
    /// Too many metrics, a metric's name that is too long, or names that are not ascending.
    #[error("the metrics of {} are not acceptable: {what}", key.shown())]
    Metrics {
        /// The entry's key.
        key: Key,
        /// What is wrong.
        what: String,
    },
}

impl EntryError {
    /// Whether a newer version of this program wrote it, so that a peer that passes it on isn't to blame.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::Encoding { .. })
    }
}

/// What is signed, followed by an [`Encoding`] if the value has one.
#[derive(Serialize, Deserialize)]
struct Encoded {
    version: u8,
    federation: FederationId,
    layout: LayoutId,
    author: [u8; 32],
    name: String,
    sequence: u64,
    content: Content,
}

/// The beginning of [`Encoded`].
#[derive(Deserialize)]
struct Beginning {
    _version: u8,
    _federation: FederationId,
    _layout: LayoutId,
    author: [u8; 32],
}

/// An entry with its author's signature, which has been checked: there is no other way to make one than to sign it or
/// to decode it.
#[derive(Clone, PartialEq)]
pub struct SignedEntry {
    entry: Entry,
    bytes: Vec<u8>,
    hash: EntryHash,
}

impl SignedEntry {
    fn new(entry: Entry, bytes: Vec<u8>) -> Self {
        let hash = EntryHash::of(&bytes);
        Self { entry, bytes, hash }
    }

    /// Signs. Errors if the key isn't the signer's, or the metrics pass a limit.
    pub fn sign(entry: Entry, keypair: &Keypair) -> Result<Self, EntryError> {
        let signer = keypair.public().to_peer_id();
        if entry.key.author() != signer {
            return Err(EntryError::NotAuthor { key: entry.key, signer });
        }
        check_metrics(&entry)?;
        let author = keypair.public().try_into_ed25519().map_err(|_| EntryError::Malformed)?.to_bytes();
        let mut bytes = postcard::to_stdvec(&Encoded {
            version: VERSION,
            federation: entry.federation,
            layout: entry.layout,
            author,
            name: entry.key.name().to_owned(),
            sequence: entry.sequence,
            content: entry.content.clone(),
        })
        .map_err(|_| EntryError::Malformed)?;
        let signature = keypair.sign(&signed_message(&bytes)).map_err(|_| EntryError::Malformed)?;
        bytes.extend_from_slice(&signature);
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLong { got: bytes.len() });
        }
        Ok(Self::new(entry, bytes))
    }

    /// Reads and verifies what [`bytes`](Self::bytes) gave. At most [`MAX_ENTRY_BYTES`] are looked at.
    ///
    /// An entry written by a newer version is an error that [says so](EntryError::is_newer).
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        UnverifiedEntry::decode(bytes)?.verify()
    }

    /// The author that these bytes claim, unverified; `None` if they are no entry of this version. Much quicker than
    /// [`decode`](Self::decode), for entries of authors that don't count anyway.
    pub fn claimed_author(bytes: &[u8]) -> Option<PeerId> {
        if bytes.len() > MAX_ENTRY_BYTES || bytes.first() != Some(&VERSION) {
            return None;
        }
        let (beginning, _): (Beginning, _) = postcard::take_from_bytes(bytes).ok()?;
        let public_key = ed25519::PublicKey::try_from_bytes(&beginning.author).ok()?;
        Some(PublicKey::from(public_key).to_peer_id())
    }

    /// What was signed.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The canonical encoding, signature included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The hash of the encoding.
    pub fn hash(&self) -> EntryHash {
        self.hash
    }
}

/// An entry as it was read, with a signature that nobody has checked: for deciding whether it is worth the check, which
/// takes most of the time.
pub struct UnverifiedEntry<'a> {
    entry: Entry,
    public_key: PublicKey,
    body: &'a [u8],
    signature: &'a [u8],
    encoding: Encoding,
    bytes: &'a [u8],
}

impl<'a> UnverifiedEntry<'a> {
    /// Reads what [`SignedEntry::bytes`] gave. At most [`MAX_ENTRY_BYTES`] are looked at.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EntryError> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLong { got: bytes.len() });
        }
        match bytes.first() {
            None => return Err(EntryError::Malformed),
            Some(&VERSION) => {}
            Some(&got) => return Err(EntryError::Version { got }),
        }
        let body_length = bytes.len().checked_sub(SIGNATURE_BYTES).ok_or(EntryError::Malformed)?;
        let (body, signature) = bytes.split_at(body_length);
        let (encoded, end): (Encoded, &[u8]) = postcard::take_from_bytes(body).map_err(|_| EntryError::Malformed)?;
        // Accept only one form; otherwise one entry could have several hashes and its author look like a cheat.
        if postcard::to_stdvec(&encoded).ok().as_deref() != body.strip_suffix(end) {
            return Err(EntryError::Malformed);
        }
        let encoding = Encoding::parse(end).ok_or(EntryError::Malformed)?;
        if encoding != Encoding::Plain && encoded.content == Content::Tombstone {
            return Err(EntryError::Malformed);
        }
        let public_key = ed25519::PublicKey::try_from_bytes(&encoded.author).map_err(|_| EntryError::Malformed)?;
        let public_key = PublicKey::from(public_key);
        let key = Key::new(public_key.to_peer_id(), encoded.name)?;
        let Encoded { federation, layout, sequence, content, .. } = encoded;
        let entry = Entry { federation, layout, key, sequence, content };
        Ok(Self { entry, public_key, body, signature, encoding, bytes })
    }

    /// What it claims.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Checks the signature, and what counts only if it is right.
    pub fn verify(self) -> Result<SignedEntry, EntryError> {
        let Self { entry, public_key, body, signature, encoding, bytes } = self;
        if !public_key.verify(&signed_message(body), signature) {
            return Err(EntryError::Signature { key: entry.key });
        }
        check_metrics(&entry)?;
        if encoding != Encoding::Plain {
            return Err(EntryError::Encoding { key: entry.key, encoding });
        }
        Ok(SignedEntry::new(entry, bytes.to_owned()))
    }
}

impl std::ops::Deref for SignedEntry {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.entry
    }
}

impl fmt::Debug for SignedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entry.fmt(f)
    }
}

pub(super) fn signed_message(body: &[u8]) -> Vec<u8> {
    [DOMAIN, body].concat()
}

fn check_metrics(entry: &Entry) -> Result<(), EntryError> {
    let Some(metadata) = entry.metadata() else { return Ok(()) };
    let metrics = &metadata.metrics;
    let long = metrics.iter().find(|metric| metric.name.len() > MAX_METRIC_NAME);
    let unordered = metrics.windows(2).any(|pair| pair[0].name >= pair[1].name);
    let what = if metrics.len() > MAX_METRICS {
        format!("{} of them, but at most {MAX_METRICS} are allowed", metrics.len())
    } else if let Some(metric) = long {
        format!("the name {:.40?} has over {MAX_METRIC_NAME} bytes", metric.name)
    } else if unordered {
        "their names are not in ascending order".to_owned()
    } else {
        return Ok(());
    };
    Err(EntryError::Metrics { key: entry.key.clone(), what })
}
