//! The shared folder: where updates are put and found.
//!
//! One async, object-safe trait, and one conformance suite (`tests/folders/conformance`) that every implementation
//! passes. A folder is one participant's view of one federation: it signs with that participant's identity and shows
//! nothing of other federations.

mod author;
mod cached;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod decoders;
mod error;
mod figures;
mod local;
mod memory;
mod staged;
mod url;
mod value;

pub use self::{
    author::Author,
    cached::{CachedFolder, CachedOptions},
    error::FolderError,
    figures::{FolderFigures, Traffic},
    local::LocalFolder,
    memory::{MemoryFolder, MemoryStorage},
    staged::{Staged, StagedFiles},
    url::{FolderUrl, FolderUrlError, Ways},
    value::{ChunkStore, Value},
};

use crate::{
    bucket::Routes,
    entries::{Conflict, Watch},
    p2p::{self, DroppedPeer, ReachedPeer, Surroundings},
    weights::{Digest, Entry, Key, Metadata, SignedEntry, Weights},
};
use async_trait::async_trait;
use libp2p_identity::PeerId;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::{broadcast, watch};

/// Where a handle's published values are, besides its own disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HandedOver {
    /// What peers have, for a network folder.
    pub network: Option<p2p::HandedOver>,
    /// Whether the bucket has all of it, for a folder that has one.
    pub bucket: Option<bool>,
}

impl HandedOver {
    /// Whether it would outlive the handle: the storage is separate from it, or a peer or the bucket has all of it.
    pub fn outlives(&self) -> bool {
        let peers = self.network.map(|network| network.knowing > 0 && network.holding > 0);
        (peers, self.bucket) == (None, None) || peers == Some(true) || self.bucket == Some(true)
    }
}

/// Where updates are put and found. One handle belongs to one author.
///
/// Every method may be cancelled: dropping the future of a `put` or `remove` leaves either the old or the new state,
/// never a mixture, and what a crash leaves half-written is never shown and is cleaned up when its author opens the
/// folder again.
#[async_trait]
pub trait SharedFolder: Send + Sync {
    /// The author that this handle signs for.
    fn author(&self) -> PeerId;

    /// Publishes a value under a key of the handle's author, replacing what stood there. Others see it whole or not at
    /// all. Returns when it is durable locally; waits for no peer and no bucket.
    ///
    /// Putting the value and metadata that are already there changes nothing and returns the existing entry.
    ///
    /// Errors: [`FolderError::NotAuthor`] for another author's key, [`FolderError::Entry`] for metadata over a limit,
    /// [`FolderError::Io`] when the storage can't be written.
    async fn put(&self, key: &Key, value: &Weights, metadata: Metadata) -> Result<Arc<SignedEntry>, FolderError>;

    /// Takes in a value that will be put, without showing it to anybody: the first half of a [`put`](Self::put), which
    /// doesn't write it again. Says in which files it has the bytes, so that a caller that keeps them too can hard-link
    /// those files. When it returns they are on the disk, and they stay as long as the [`Staged`] lives, or until the
    /// next value is staged. A folder without files only makes the manifest.
    ///
    /// Errors: [`FolderError::Io`] and [`FolderError::Cache`] when the storage can't be written.
    async fn stage(&self, value: &Weights) -> Result<Staged, FolderError> {
        Staged::nowhere(value.clone()).await
    }

    /// The newest entry of every key that begins with `prefix`, in order of keys, without tombstones and without the
    /// entries of excluded authors. Moves no value.
    async fn list(&self, prefix: &str) -> Result<Vec<Arc<SignedEntry>>, FolderError>;

    /// A handle to the value of an entry. It keeps giving this value after an overwrite; what it gives is verified
    /// against the entry's root.
    ///
    /// Errors: [`FolderError::Gone`] if the value was replaced or removed before the handle was made,
    /// [`FolderError::Damaged`] if what is stored doesn't have the entry's root.
    async fn get(&self, entry: &Entry) -> Result<Value, FolderError>;

    /// The same for a value that needn't be fetched from others first; `None` for one that must be, which
    /// [`get`](Self::get) does. A folder whose storage is separate from its handles has every value that it shows.
    async fn get_here(&self, entry: &Entry) -> Result<Option<Value>, FolderError> {
        self.get(entry).await.map(Some)
    }

    /// Whether anything of an entry's value is here, as far as that is known without looking: of many values those are
    /// looked for first. Waits for nothing.
    fn has_part(&self, entry: &Entry) -> bool {
        let _ = entry;
        true
    }

    /// The entries under `prefix`: first those that stand, then each change as it becomes known. If one key changes
    /// several times, the newest entry is given. Never ends before the handle is dropped.
    fn watch(&self, prefix: &str) -> Watch;

    /// Removes a key of the handle's author and leaves a tombstone, which no older entry can undo. Removing what isn't
    /// there leaves a tombstone too.
    async fn remove(&self, key: &Key) -> Result<Arc<SignedEntry>, FolderError>;

    /// One hash over all entries and tombstones: equal for two handles exactly if they know the same.
    async fn digest(&self) -> Result<Digest, FolderError>;

    /// Authors who signed two different entries under one number, each with the proof. Nothing of theirs is listed.
    async fn conflicts(&self) -> Result<Vec<Conflict>, FolderError>;

    /// What this handle has moved so far, and the figures of the folder's parts.
    fn figures(&self) -> FolderFigures;

    /// Says that these authors' updates, by their numbers, were folded. A folder that keeps only some of those whom
    /// nobody knows learns so whom to keep.
    async fn folded(&self, updates: &[(PeerId, u64)]) {
        let _ = updates;
    }

    /// Says that the caller will take updates of these authors next, and of no others, so that a folder fetches those early.
    /// Only for one that was opened to fetch [sampled](CachedOptions::sampled) authors' updates only.
    async fn expects(&self, authors: BTreeSet<PeerId>) {
        let _ = authors;
    }

    /// When the entry was written, by the file system's or the store's clock, if the folder knows. A network doesn't:
    /// entries carry no time.
    async fn written_at(&self, entry: &SignedEntry) -> Option<SystemTime> {
        let _ = entry;
        None
    }

    /// Which routes to others work, as that changes, for a folder that has a bucket.
    fn routes(&self) -> Option<watch::Receiver<Routes>> {
        None
    }

    /// Peers that are dropped from now on for what they did, for a folder in a network. Whoever takes them too slowly misses
    /// some; the folder's figures count all.
    fn dropped_peers(&self) -> Option<broadcast::Receiver<DroppedPeer>> {
        None
    }

    /// How peers have been reached until now, if this is the first who asks, and how from now on, as that changes, for a
    /// folder in a network. Whoever takes it too slowly misses some; the status of the network has all.
    fn reached_peers(&self) -> Option<(Vec<ReachedPeer>, broadcast::Receiver<ReachedPeer>)> {
        None
    }

    /// Waits until it is known what the others that can be found now have published, at most `patience`. A node does
    /// this before it begins, so as not to begin alone beside others, and again when it has waited for somebody. For a
    /// network folder it says who is there; a folder whose storage is separate from its handles has nothing to wait
    /// for.
    async fn look_around(&self, patience: Duration) -> Option<Surroundings> {
        let _ = patience;
        None
    }

    /// Waits until what this handle has published would outlive it, at most `patience`: until peers or the bucket have
    /// its newest update and its artifacts, and know what it has removed. It doesn't wait if nobody is there. Says how
    /// far that has got. A folder whose storage is separate from its handles has nothing to wait for.
    async fn hand_over(&self, patience: Duration) -> HandedOver {
        let _ = patience;
        HandedOver::default()
    }
}
