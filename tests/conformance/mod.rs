//! The cases, and what they need of an implementation.

pub mod authors;
pub mod concurrency;
pub mod entries;
pub mod harnesses;
mod local_files;
mod local_processes;
pub mod values;
pub mod watching;

use async_trait::async_trait;
use bytes::Bytes;
use libp2p_identity::{Keypair, PeerId};
use peerfold::folder::{Author, FolderError, SharedFolder, Value};
use peerfold::weights::{
    Content, DType, Entry, FederationId, Key, Metadata, SignedEntry, Tensor, TensorSpec, Weights, read_all,
};
use std::{future::Future, sync::Arc, time::Duration};

/// Longer than any case takes on a loaded machine; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A storage of one implementation, empty at first, and the ways in which it can be tampered with.
///
/// Several handles on one storage may learn of each other's entries late, as over a network: the cases wait for them.
#[async_trait]
pub trait Harness: Sized + Send + Sync + 'static {
    type Folder: SharedFolder + 'static;

    /// An empty storage.
    async fn new() -> Self;

    /// A handle for this author on the storage.
    async fn open(&self, author: Author) -> Arc<Self::Folder>;

    /// Inverts the byte at this offset of the stored value, not counting its manifest.
    async fn damage(&self, entry: &SignedEntry, at: u64);

    /// Stores these bytes where an entry of this author in this federation would be. `false` where the storage takes
    /// in nothing but through a handle.
    async fn plant(&self, federation: FederationId, author: PeerId, bytes: &[u8]) -> bool;

    /// The operator's word that this author is to be trusted.
    async fn readmit(folder: &Arc<Self::Folder>, author: PeerId);
}

/// Declares a test of every case for one implementation.
macro_rules! suite {
    ($name:ident, $harness:ty) => {
        mod $name {
            use super::*;

            $crate::conformance::suite!(@cases $harness,
                authors: [
                    another_authors_key_is_refused, a_forged_entry_is_refused, an_old_entry_put_back_changes_nothing,
                    a_copied_identity_is_found_out, federations_are_invisible_to_each_other,
                    a_late_handle_goes_on_above_its_own_numbers,
                ],
                concurrency: [
                    several_authors_write_at_once, one_author_writes_from_several_tasks,
                    readers_never_see_half_a_value, a_cancelled_put_is_whole_or_nothing,
                ],
                entries: [
                    list_is_ordered_and_honours_prefixes, overwriting_replaces, removing_leaves_a_tombstone,
                    digests_tell_what_is_known, only_two_updates_stay, the_same_again_changes_nothing,
                    what_cannot_be_signed_leaves_nothing, keys_are_bounded, odd_keys,
                ],
                values: [
                    every_dtype, empty_values, list_moves_no_value, a_large_value, a_handle_outlives_overwrites,
                    damage_is_an_error, ranges_are_checked, digest_ignores_what_was_read,
                ],
                watching: [
                    existing_first_then_changes, tombstones_are_told, prefixes_are_honoured, many_watchers,
                    cancelling_loses_nothing, of_several_changes_the_newest,
                ],
            );
        }
    };
    (@cases $harness:ty, $($module:ident: [$($case:ident),* $(,)?],)*) => {$($(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            use $crate::conformance::{PATIENCE, $module};
            tokio::time::timeout(PATIENCE, $module::$case::<$harness>()).await.expect("it hangs");
        }
    )*)*};
}
pub(crate) use suite;

pub fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

pub fn peer(seed: u8) -> PeerId {
    keypair(seed).public().to_peer_id()
}

pub fn federation() -> FederationId {
    FederationId::new("conformance", "1")
}

/// The identity of this seed, with numbers that begin at 1.
pub fn author(seed: u8) -> Author {
    Author::in_memory(keypair(seed), federation())
}

pub fn key(seed: u8, name: &str) -> Key {
    Key::new(peer(seed), name).unwrap()
}

pub fn epoch(epoch: u64) -> Metadata {
    Metadata { epoch, num_examples: 10 * epoch, ..Metadata::default() }
}

/// A value that can be told from that of any other number, some of it in a pack and some in chunks of its own.
pub fn numbered(number: u64) -> Weights {
    let repeat = |count| number.to_le_bytes().repeat(count);
    let tensor = |name: &str, count: usize| Tensor {
        spec: TensorSpec { name: name.to_owned(), dtype: DType::I64, shape: vec![count as u64] },
        data: repeat(count).into(),
    };
    Weights::new(vec![tensor("bias", 5), tensor("kernel", 140_000), tensor("scale", 1)]).unwrap()
}

pub fn artifact(bytes: impl Into<Bytes>) -> Weights {
    Weights::artifact(bytes).unwrap()
}

/// Everything in a value, read off the runtime.
pub async fn read(value: Value) -> Result<Weights, FolderError> {
    Ok(tokio::task::spawn_blocking(move || read_all(&value)).await.unwrap()?)
}

/// The weights of an entry, by a handle.
pub async fn fetch(folder: &dyn SharedFolder, entry: &Entry) -> Result<Weights, FolderError> {
    read(folder.get(entry).await?).await
}

/// Waits until the handle has learned of this entry.
pub async fn learn(folder: &dyn SharedFolder, entry: &SignedEntry) {
    let mut watch = folder.watch(&entry.key.to_string());
    while watch.next().await != *entry {}
}

/// Waits until two handles know the same.
pub async fn agree(a: &dyn SharedFolder, b: &dyn SharedFolder) {
    eventually(async || a.digest().await.unwrap() == b.digest().await.unwrap()).await;
}

/// Waits for what no watch tells. The case's own time limit ends it.
pub async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is listed, as names and numbers.
pub async fn listed(folder: &dyn SharedFolder, prefix: &str) -> Vec<(String, u64)> {
    let entries = folder.list(prefix).await.unwrap();
    entries.iter().map(|entry| (entry.key.name().to_owned(), entry.sequence)).collect()
}

/// An entry that is signed past every folder.
pub fn forge(seed: u8, name: &str, sequence: u64, federation: FederationId) -> SignedEntry {
    let manifest = numbered(sequence).manifest();
    let content =
        Content::Put { root: manifest.root(), length: manifest.layout().bytes(), metadata: Metadata::default() };
    let (layout, key) = (manifest.layout().id(), key(seed, name));
    SignedEntry::sign(Entry { federation, layout, key, sequence, content }, &keypair(seed)).unwrap()
}

/// Runs a task beside the case.
pub fn beside<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}
