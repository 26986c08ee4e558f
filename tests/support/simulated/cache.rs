//! A cache in memory, standing in for a node's disk.

use bytes::Bytes;
use peerfold::{
    entries::{Board, EntryLimits, MAX_AUTHORS, Standing},
    p2p::core::{Looked, StoreResult},
    weights::{BlobHash, Content, FederationId, Manifest, Root, SignedEntry, Weights},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

#[derive(Default)]
pub struct Cache {
    pub blobs: BTreeMap<BlobHash, Bytes>,
    /// What the core had saved, and what the node itself has put.
    pub saved: Vec<Standing>,
}

impl Cache {
    pub fn put(&mut self, weights: &Weights) {
        let manifest = weights.manifest();
        for (at, hash) in manifest.chunks().iter().enumerate() {
            self.blobs.insert((*hash).into(), manifest.chunk_bytes(weights, at));
        }
        self.blobs.insert(manifest.root().into(), manifest.encode().into());
    }

    fn manifest(&self, root: Root) -> Option<Manifest> {
        self.blobs.get(&root.into()).map(|bytes| Manifest::decode(bytes).unwrap())
    }

    pub fn look_up(&self, entry: &SignedEntry) -> Looked {
        let Content::Put { root, length, .. } = entry.content else { panic!("a tombstone has no value") };
        let Some(manifest) = self.manifest(root) else { return Looked::NoManifest };
        if manifest.layout().id() != entry.layout || manifest.layout().bytes() != length {
            return Looked::NotAsSigned;
        }
        let chunks = manifest.chunks().iter().enumerate().map(|(at, hash)| (*hash, manifest.plan().length(at)));
        let (here, missing): (Vec<_>, Vec<_>) = chunks.partition(|(hash, _)| self.blobs.contains_key(&(*hash).into()));
        let here = here.into_iter().map(|(hash, _)| hash).collect();
        if missing.is_empty() { Looked::Whole } else { Looked::Part { here, missing } }
    }

    pub fn store(&mut self, hash: BlobHash, bytes: Bytes) -> StoreResult {
        if BlobHash::of(&bytes) != hash {
            return StoreResult::WrongHash;
        }
        self.blobs.insert(hash, bytes);
        StoreResult::Stored
    }

    /// Drops the entries, proofs and values that no longer stand.
    pub fn retain(&mut self, board: &Board) {
        let set = board.set();
        self.saved.retain(|standing| match standing {
            Standing::Entry(entry) => set.holds(&entry.hash()),
            Standing::Proof(proof) => set.is_excluded(proof.author()),
        });
        drop(set);
        let roots: BTreeSet<Root> = board.list("").iter().filter_map(|entry| entry.root()).collect();
        let mut kept: BTreeSet<BlobHash> = roots.iter().map(|root| (*root).into()).collect();
        for manifest in roots.iter().filter_map(|root| self.manifest(*root)) {
            kept.extend(manifest.chunks().iter().map(|hash| BlobHash::from(*hash)));
        }
        self.blobs.retain(|hash, _| kept.contains(hash));
    }

    /// The board of a node that starts again: what was saved, and nothing else.
    pub fn board(&self, federation: FederationId, view: Option<usize>) -> Arc<Board> {
        let limits = EntryLimits { authors: view.unwrap_or(MAX_AUTHORS), ..EntryLimits::WIDE };
        let board = Board::with_limits(federation, limits);
        for standing in self.saved.iter().cloned() {
            // What was saved and is refused now was excluded later.
            let _ = match standing {
                Standing::Entry(entry) => board.insert(entry),
                Standing::Proof(proof) => board.insert_proof(proof),
            };
        }
        Arc::new(board)
    }
}
