//! The identity that signs entries in a folder, with its sequence numbers.

use super::FolderError;
use crate::{
    home::{Home, Sequences},
    weights::{Content, Entry, FederationId, Key, LayoutId, Metadata, Root, SignedEntry},
};
use libp2p_identity::{Keypair, PeerId};
use std::{fmt, sync::Arc};

/// The identity that signs in a folder: one author in one federation, with its sequence numbers.
#[derive(Clone)]
pub struct Author {
    keypair: Keypair,
    peer_id: PeerId,
    federation: FederationId,
    sequences: Arc<Sequences>,
}

/// The content of an entry before it is signed.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) key: Key,
    pub(super) layout: LayoutId,
    pub(super) content: Content,
}

impl Draft {
    pub(super) fn put(key: Key, layout: LayoutId, root: Root, length: u64, metadata: Metadata) -> Self {
        Self { key, layout, content: Content::Put { root, length, metadata } }
    }

    /// A tombstone. It names the layout of the value that it removes, if any.
    pub(super) fn tombstone(key: Key, layout: Option<LayoutId>) -> Self {
        let layout = layout.unwrap_or(LayoutId::from_bytes([0; 32]));
        Self { key, layout, content: Content::Tombstone }
    }

    /// Whether this entry already says the same.
    pub(super) fn is_said_by(&self, entry: &Entry) -> bool {
        entry.key == self.key && entry.layout == self.layout && entry.content == self.content
    }
}

impl Author {
    /// The identity of a home, with numbers that survive restarts.
    pub fn from_home(home: &Home, federation: FederationId) -> Self {
        Self::new(home.keypair().clone(), home.sequences().clone(), federation)
    }

    /// An identity whose numbers begin at 1: for tests and simulations.
    pub fn in_memory(keypair: Keypair, federation: FederationId) -> Self {
        Self::new(keypair, Arc::new(Sequences::in_memory()), federation)
    }

    fn new(keypair: Keypair, sequences: Arc<Sequences>, federation: FederationId) -> Self {
        let peer_id = keypair.public().to_peer_id();
        Self { keypair, peer_id, federation, sequences }
    }

    /// Its peer id.
    pub fn peer_id(&self) -> PeerId {
        self.peer_id
    }

    /// The federation it signs for.
    pub fn federation(&self) -> FederationId {
        self.federation
    }

    /// The key it signs with.
    pub(super) fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    /// The highest number that it may have signed with.
    pub(super) fn last_sequence(&self) -> u64 {
        self.sequences.last()
    }

    /// Continues above this number of its own, which a folder holds.
    pub fn raise_above(&self, seen: u64) {
        self.sequences.raise_above(seen);
    }

    /// Errors unless the key is this author's.
    pub(super) fn check_owns(&self, key: &Key) -> Result<(), FolderError> {
        if key.author() != self.peer_id {
            return Err(FolderError::NotAuthor { key: key.clone(), signer: self.peer_id });
        }
        Ok(())
    }

    /// Errors if the draft can't be signed, before a number or a stored value is spent on it.
    pub(super) fn check(&self, draft: &Draft) -> Result<(), FolderError> {
        SignedEntry::sign(self.entry(draft.clone(), u64::MAX), &self.keypair)?;
        Ok(())
    }

    /// Signs under a new number. May write to the disk.
    pub(super) fn sign(&self, draft: Draft) -> Result<SignedEntry, FolderError> {
        self.check(&draft)?;
        let sequence = self.sequences.next()?;
        Ok(SignedEntry::sign(self.entry(draft, sequence), &self.keypair)?)
    }

    fn entry(&self, draft: Draft, sequence: u64) -> Entry {
        let Draft { key, layout, content } = draft;
        Entry { federation: self.federation, layout, key, sequence, content }
    }
}

impl fmt::Debug for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Author({} in {})", self.peer_id, self.federation.short())
    }
}
