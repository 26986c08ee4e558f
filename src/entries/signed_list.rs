//! A list of members that a federation's administrator has signed: the value of its entry `members`, with that entry.
//!
//! ```text
//! as bytes: u16 length of the entry | the entry, signature included | the list, as text
//! ```
//!
//! The entry's signature covers the federation, the number and the value's root, so nothing else has to be signed.

use super::{ListMistake, MemberList};
use crate::weights::{Content, EntryError, FederationId, Key, SignedEntry, Weights};
use libp2p_identity::PeerId;

/// Longest text of a signed list.
pub const MAX_LIST_BYTES: usize = 48 << 10;

const LENGTH_BYTES: usize = 2;

/// Why bytes, or an entry and its value, are no signed list.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SignedListError {
    /// Longer than any list.
    #[error("it has {bytes} bytes, but at most {MAX_LIST_BYTES} are allowed")]
    TooLong {
        /// How long.
        bytes: u64,
    },
    /// The end is missing.
    #[error("it is cut short")]
    Cut,
    /// Its entry is none, or not signed by who it says.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// It was signed for another federation, or another run.
    #[error("it was signed for another federation or run")]
    OtherFederation,
    /// What was signed is something else.
    #[error("what was signed is {key}, and no list of members")]
    NoList {
        /// Its key.
        key: Key,
    },
    /// The text is another one than that which was signed.
    #[error("it is not what {signer} has signed")]
    NotAsSigned {
        /// Who has signed.
        signer: PeerId,
    },
    /// What was signed can't be read.
    #[error("the list of {signer}, {mistake}")]
    Text {
        /// Who has signed.
        signer: PeerId,
        /// Which line, and what is wrong.
        mistake: ListMistake,
    },
}

/// Who may take part, as an administrator says.
#[derive(Debug, Clone, PartialEq)]
pub struct SignedList {
    entry: SignedEntry,
    text: String,
    list: MemberList,
}

impl SignedList {
    /// The list in an entry and its value. Errors if it is none.
    pub fn new(entry: SignedEntry, text: &[u8]) -> Result<Self, SignedListError> {
        Self::check_length(text.len() as u64)?;
        let signer = entry.key.author();
        let Content::Put { root, length, .. } = entry.content else {
            return Err(SignedListError::NoList { key: entry.key.clone() });
        };
        if entry.key != Key::members(signer) {
            return Err(SignedListError::NoList { key: entry.key.clone() });
        }
        let value = Weights::artifact(text.to_vec()).map(|value| value.manifest().root());
        if value.ok() != Some(root) || length != text.len() as u64 {
            return Err(SignedListError::NotAsSigned { signer });
        }
        let wrong = |mistake| SignedListError::Text { signer, mistake };
        let utf8 = || wrong(ListMistake { line: 1, what: "is no text".to_owned() });
        let text = std::str::from_utf8(text).map_err(|_| utf8())?;
        let list = MemberList::parse(text).map_err(wrong)?;
        Ok(Self { entry, text: text.to_owned(), list })
    }

    /// Errors if a list of so many bytes would be too long.
    pub fn check_length(bytes: u64) -> Result<(), SignedListError> {
        if bytes > MAX_LIST_BYTES as u64 { Err(SignedListError::TooLong { bytes }) } else { Ok(()) }
    }

    /// Reads and checks what [`bytes`](Self::bytes) gave, for this federation.
    pub fn read(bytes: &[u8], federation: FederationId) -> Result<Self, SignedListError> {
        let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>().ok_or(SignedListError::Cut)?;
        let parts = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)));
        let (entry, text) = parts.ok_or(SignedListError::Cut)?;
        Self::check_length(text.len() as u64)?;
        let entry = SignedEntry::decode(entry)?;
        if entry.federation != federation {
            return Err(SignedListError::OtherFederation);
        }
        Self::new(entry, text)
    }

    /// As a home and an invitation have it.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u16::try_from(self.entry.bytes().len()).expect("an entry is short");
        [&length.to_le_bytes(), self.entry.bytes(), self.text.as_bytes()].concat()
    }

    /// Rises with every list: the entry's number.
    pub fn number(&self) -> u64 {
        self.entry.sequence
    }

    /// Who has signed.
    pub fn signer(&self) -> PeerId {
        self.entry.key.author()
    }

    /// What was signed.
    pub fn list(&self) -> &MemberList {
        &self.list
    }

    /// Those who may take part: who is in the list, and who has signed it.
    pub fn admitted(&self) -> MemberList {
        let mut admitted = self.list.clone();
        admitted.extend(MemberList::from_iter([self.signer()]));
        admitted
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::weights::{Entry, Metadata};
    use libp2p_identity::Keypair;

    fn signed(keypair: &Keypair, name: &str, text: &str) -> (SignedEntry, Vec<u8>) {
        let value = Weights::artifact(text.as_bytes().to_vec()).unwrap();
        let manifest = value.manifest();
        let content =
            Content::Put { root: manifest.root(), length: manifest.layout().bytes(), metadata: Metadata::default() };
        let key = Key::new(keypair.public().to_peer_id(), name).unwrap();
        let federation = FederationId::new("ward", "1");
        let entry = Entry { federation, layout: manifest.layout().id(), key, sequence: 7, content };
        (SignedEntry::sign(entry, keypair).unwrap(), text.as_bytes().to_vec())
    }

    #[test]
    fn a_list_is_read_as_it_was_signed_and_every_changed_byte_is_found() {
        let (keypair, member) = (Keypair::generate_ed25519(), PeerId::random());
        let (me, federation) = (keypair.public().to_peer_id(), FederationId::new("ward", "1"));
        let (entry, text) = signed(&keypair, "members", &format!("{member} ward b\n"));
        let list = SignedList::new(entry, &text).unwrap();
        let bytes = list.bytes();
        assert_eq!(SignedList::read(&bytes, federation).unwrap(), list);
        assert_eq!((list.number(), list.signer(), list.list().name(&member)), (7, me, Some("ward b")));
        assert!(list.admitted().contains(&me) && list.admitted().contains(&member) && !list.list().contains(&me));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            SignedList::read(&changed, federation).unwrap_err();
            SignedList::read(&bytes[..at], federation).unwrap_err();
        }
        let other = SignedList::read(&bytes, FederationId::new("ward", "2"));
        assert_eq!(other, Err(SignedListError::OtherFederation));
    }

    #[test]
    fn what_an_administrator_signs_besides_is_no_list() {
        let keypair = Keypair::generate_ed25519();
        let (entry, text) = signed(&keypair, "start", "");
        assert!(matches!(SignedList::new(entry, &text), Err(SignedListError::NoList { .. })));
        let (entry, text) = signed(&keypair, "members", "nobody\n");
        assert!(matches!(SignedList::new(entry, &text), Err(SignedListError::Text { .. })));
        let (entry, text) = signed(&keypair, "members", &"#".repeat(MAX_LIST_BYTES + 1));
        assert!(matches!(SignedList::new(entry, &text), Err(SignedListError::TooLong { .. })));
        let (entry, _) = signed(&keypair, "members", "");
        assert!(matches!(SignedList::new(entry, b"#"), Err(SignedListError::NotAsSigned { .. })));
    }
}
