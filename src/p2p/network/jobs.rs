//! Blocking work: reading and writing the cache, off the network's task.

use super::{bans, ports};
use crate::{
    cache::{Cache, KnownPeer, Look, Retention, Stored},
    entries::{Board, Conflict},
    p2p::{
        core::{Looked, StoreResult, Token},
        message::Blob,
        wire::ANSWER_BYTES,
    },
    weights::{BlobHash, Content, Root, SignedEntry},
};
use bytes::Bytes;
use libp2p_identity::PeerId;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// What a job found.
pub(super) enum Done {
    Looked { root: Root, looked: Looked },
    Stored { hash: BlobHash, result: StoreResult },
    Read { token: Token, blobs: Vec<Blob> },
    Kept { took: Duration },
}

/// What the cache is to be told, together, one job at a time.
#[derive(Default)]
pub(super) struct Housekeeping {
    pub(super) entries: Vec<Arc<SignedEntry>>,
    pub(super) proofs: Vec<Conflict>,
    pub(super) peers: Vec<KnownPeer>,
    /// The bans, as they are kept for the next run.
    pub(super) bans: Option<Vec<u8>>,
    /// The ports, likewise.
    pub(super) ports: Option<Vec<u8>>,
    pub(super) retain: bool,
}

impl Housekeeping {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.proofs.is_empty()
            && self.peers.is_empty()
            && self.bans.is_none()
            && self.ports.is_none()
            && !self.retain
    }

    /// A cache that can't be written only costs another fetch after the next start, so this is a warning.
    pub(super) fn run(self, cache: &Cache, board: &Board, me: PeerId) -> Done {
        let began = Instant::now();
        // What was replaced or pushed out in the meantime needn't be written: a flood costs no more files than stay.
        let stands = |entry: &&Arc<SignedEntry>| board.set().holds(&entry.hash());
        let entries = self.entries.iter().filter(stands).try_for_each(|entry| cache.save_entry(entry));
        let excluded = |proof: &&Conflict| board.set().is_excluded(proof.author());
        let proofs = self.proofs.iter().filter(excluded).try_for_each(|proof| cache.save_proof(proof));
        let peers = self.peers.iter().try_for_each(|peer| cache.remember(peer));
        let retained = if self.retain { cache.retain(|| Retention::of(&board.set(), me)) } else { Ok(()) };
        let bans = self.bans.as_deref().map_or(Ok(()), |bans| cache.note(bans::NOTE, Some(bans)));
        let ports = self.ports.as_deref().map_or(Ok(()), |ports| cache.note(ports::NOTE, Some(ports)));
        for error in [entries, proofs, peers, bans, ports, retained].into_iter().filter_map(Result::err) {
            cache.complain(&error);
        }
        Done::Kept { took: began.elapsed() }
    }
}

/// What the cache has of an entry's value.
pub(super) fn look(cache: &Cache, entry: &SignedEntry) -> Done {
    let Content::Put { root, length, .. } = entry.content else {
        return Done::Looked { root: Root::from_bytes([0; 32]), looked: Looked::NotAsSigned };
    };
    let as_signed = |manifest: &crate::weights::Manifest| {
        manifest.layout().id() == entry.layout && manifest.layout().bytes() == length
    };
    let looked = match cache.look(root) {
        Ok(Look::NoManifest) => Looked::NoManifest,
        Ok(Look::Missing { manifest, .. } | Look::Whole { manifest }) if !as_signed(&manifest) => Looked::NotAsSigned,
        Ok(Look::Missing { here, chunks, .. }) => Looked::Part { here, missing: chunks },
        Ok(Look::Whole { .. }) => Looked::Whole,
        Err(error) => Looked::Failed(error.to_string()),
    };
    Done::Looked { root, looked }
}

/// Verifies a blob and stores it.
pub(super) fn store(cache: &Cache, root: Root, hash: BlobHash, bytes: &Bytes) -> Done {
    let result = match cache.store_blob(root, hash, bytes) {
        // A chunk that no manifest names any more belongs to an abandoned value; looking again will show that.
        Ok(Stored::Stored | Stored::Unnamed) => StoreResult::Stored,
        Ok(Stored::WrongHash) => StoreResult::WrongHash,
        Ok(Stored::NotManifest | Stored::WrongLength) => StoreResult::NotAsSigned,
        Err(error) => StoreResult::Failed(error.to_string()),
    };
    Done::Stored { hash, result }
}

/// What a peer asks for, up to the limit of an answer.
pub(super) fn read(cache: &Cache, token: Token, hashes: &[BlobHash]) -> Done {
    let mut blobs = Vec::with_capacity(hashes.len());
    let mut total = 0;
    for hash in hashes {
        let blob = cache.blob(*hash).unwrap_or_else(|error| {
            tracing::warn!(%error, "a blob that a peer asks for can't be read");
            None
        });
        total += blob.as_ref().map_or(0, Bytes::len);
        if total > ANSWER_BYTES && !blobs.is_empty() {
            break;
        }
        blobs.push(blob);
    }
    Done::Read { token, blobs }
}
