//! Which secret a bucket's prefix is sealed with: one for all that lies there.
//!
//! A node with another secret would see an empty bucket, and train alone without a word. So the first node that uploads
//! leaves an object at the prefix that shows others whether they have the same secret. It says nothing of the secret or
//! the federation. Whoever finds its own federation's objects there in the other form is told, too.

use super::{BucketError, OpenBucket, seal::Seal, store::Put, trouble::Trouble};
use std::sync::atomic::Ordering;

/// What the object says before the check. Who looks into the bucket may read it.
const MEANING: &str = "What lies here is encrypted by Peerfold with a federation's secret.\n";

fn mark(seal: &Seal) -> String {
    format!("{MEANING}{}\n", seal.check())
}

/// Errors if what lies at the prefix is sealed with another secret than this node's, or is not sealed and should be.
/// Asks until it is known.
pub(super) async fn check(shared: &OpenBucket) -> Result<(), BucketError> {
    let Some(seal) = shared.store.seal() else { return Ok(()) };
    if shared.is_marked.load(Ordering::Relaxed) {
        return Ok(());
    }
    let what = "looking for the seal";
    match shared.store.get_mark().await? {
        Some(found) if found == mark(seal) => shared.is_marked.store(true, Ordering::Relaxed),
        Some(_) => return Err(shared.store.error(what, Trouble::OtherSecret, String::new())),
        None if shared.store.has_open_objects().await? => {
            return Err(shared.store.error(what, Trouble::NotSealed, String::new()));
        }
        None => {}
    }
    Ok(())
}

/// Errors if a node without a secret, which sees nothing of its federation, looks at a prefix that is sealed.
pub(super) async fn check_empty(shared: &OpenBucket) -> Result<(), BucketError> {
    if shared.store.seal().is_some() || shared.is_marked.load(Ordering::Relaxed) {
        return Ok(());
    }
    if shared.store.get_mark().await?.is_some() {
        return Err(shared.store.error("looking for the seal", Trouble::NeedsSecret, String::new()));
    }
    // Nobody with a secret has been here. Whoever comes will see our objects.
    shared.is_marked.store(true, Ordering::Relaxed);
    Ok(())
}

/// Sees to it that others are told, before anything is uploaded.
pub(super) async fn leave(shared: &OpenBucket) -> Result<(), BucketError> {
    let Some(seal) = shared.store.seal() else { return Ok(()) };
    if shared.is_marked.load(Ordering::Relaxed) {
        return Ok(());
    }
    match shared.store.put_mark(mark(seal)).await? {
        Put::Written(_) => shared.is_marked.store(true, Ordering::Relaxed),
        // Somebody was faster.
        Put::Exists => check(shared).await?,
    }
    Ok(())
}
