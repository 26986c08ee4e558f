//! The conformance suite's cases, and the `Harness` that an implementation must provide.

pub mod authors;
pub mod concurrency;
pub mod entries;
pub mod harnesses;
mod local_files;
mod local_processes;
pub mod p2p;
#[cfg(feature = "s3")]
pub mod s3;
pub mod values;
pub mod watching;

pub use crate::samples::*;

use async_trait::async_trait;
use libp2p_identity::PeerId;
use peerfold::entries::Watch;
use peerfold::folder::{Author, FolderError, SharedFolder};
use peerfold::weights::{
    Content, DType, Entry, FederationId, Key, Metadata, SignedEntry, Tensor, TensorSpec, Weights, read_all,
};
use std::sync::Arc;

/// A storage of one implementation, empty at first, and the ways in which it can be tampered with.
///
/// Several handles on one storage may learn of each other's entries late, as over a network: the cases wait for them.
#[async_trait]
pub trait Harness: Sized + Send + Sync + 'static {
    type Folder: SharedFolder + 'static;

    /// Whether handles learn of each other only after some time. Where they don't, nothing is waited for that must hold
    /// at once.
    const NETWORK: bool = false;

    /// Whether there can be such a storage here: what it needs may not be installed.
    fn is_there() -> bool {
        true
    }

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
                    every_dtype, empty_values, a_staged_value_is_shown_when_it_is_put, list_moves_no_value, a_large_value,
                    a_handle_outlives_overwrites,
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
            use $crate::conformance::{Harness, PATIENCE, $module};
            if !<$harness>::is_there() {
                return;
            }
            tokio::time::timeout(PATIENCE, $module::$case::<$harness>()).await.expect("it hangs");
        }
    )*)*};
}
pub(crate) use suite;

/// The weights of an entry, by a handle; on a network from whoever gives them first.
pub async fn fetch(folder: &dyn SharedFolder, entry: &Entry) -> Result<Weights, FolderError> {
    fetch_at_last(folder, entry).await
}

/// Waits until a handle that has to be told has learned of this entry.
pub async fn be_told<H: Harness>(folder: &H::Folder, entry: &SignedEntry) {
    if H::NETWORK {
        learn(folder, entry).await;
    }
}

/// The next entries that a watch tells of one author, who published them in this order. Over a network an entry that is
/// lost on the way comes later than the next.
pub async fn next_entries<H: Harness>(watch: &mut Watch, count: usize) -> Vec<Arc<SignedEntry>> {
    let mut told = Vec::new();
    while told.len() < count {
        told.push(watch.next().await);
    }
    in_order::<H>(told)
}

/// What a watch has reported of one author, in the order in which it was published, if that is also the order in which
/// it was reported.
pub fn in_order<H: Harness>(mut told: Vec<Arc<SignedEntry>>) -> Vec<Arc<SignedEntry>> {
    if H::NETWORK {
        told.sort_by_key(|entry| entry.sequence);
    }
    told
}
