//! Brings values from a bucket into the cache.

use super::{
    BucketError, OpenBucket,
    mirror::Copy,
    names::{Name, PackId},
    record::{Head, MAX_RECORD_BYTES, Spot, split},
    seal::TAG_BYTES,
    trouble::Trouble,
};
use crate::{
    cache::{Cache, CacheError, Look, Stored},
    weights::{BlobHash, ChunkHash, Root, SignedEntry},
};
use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Shared as SharedFuture},
    stream,
};
use libp2p_identity::PeerId;
use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, PoisonError},
};
use tokio::runtime::Handle;

/// Most bytes asked for in one request.
const REQUEST_BYTES: u64 = 8 << 20;
/// How often to ask again for bytes that are wrong: they may only have been changed on the way.
const READS: usize = 2;

/// Why a value can't be fetched from a bucket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfetched {
    /// The bucket doesn't have it, or no longer.
    #[error("the bucket doesn't have it")]
    Gone,
    /// What lies there isn't what its author published.
    #[error("{object} {what}")]
    Damaged { object: String, what: String },
    /// The bucket can't be read.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The cache can't be read or written.
    #[error("{0}")]
    Cache(String),
    /// The cache drops stored parts before the value is complete.
    #[error("the cache doesn't keep it")]
    NotKept,
    /// The task that fetched it has panicked, or ended with the runtime.
    #[error("the task that fetched it has ended: {0}")]
    Worker(String),
}

/// The values that are on their way.
pub(super) type Fetches = BTreeMap<Root, SharedFuture<BoxFuture<'static, Result<(), Unfetched>>>>;

/// Fetches a value once for all that want it.
pub(super) async fn fetch(
    shared: &Arc<OpenBucket>,
    runtime: &Handle,
    entry: Arc<SignedEntry>,
) -> Result<(), Unfetched> {
    let Some(root) = entry.root() else { return Err(Unfetched::Gone) };
    let fetching = {
        let mut fetches = shared.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        fetches.entry(root).or_insert_with(|| begin(shared, runtime, entry, root)).clone()
    };
    fetching.await
}

fn begin(
    shared: &Arc<OpenBucket>,
    runtime: &Handle,
    entry: Arc<SignedEntry>,
    root: Root,
) -> SharedFuture<BoxFuture<'static, Result<(), Unfetched>>> {
    let shared = shared.clone();
    let task = runtime.spawn(async move {
        let result = fetch_value(&shared, &entry, root).await;
        shared.fetches.lock().unwrap_or_else(PoisonError::into_inner).remove(&root);
        result
    });
    let lost = |error: tokio::task::JoinError| Err(Unfetched::Worker(error.to_string()));
    task.map(move |joined| joined.unwrap_or_else(lost)).boxed().shared()
}

/// A part of a pack, and the chunks in it.
struct Part {
    pack: PackId,
    range: Range<u64>,
    chunks: Vec<(ChunkHash, Range<u64>)>,
}

async fn fetch_value(shared: &Arc<OpenBucket>, entry: &Arc<SignedEntry>, root: Root) -> Result<(), Unfetched> {
    let _pin = shared.cache.pin(root);
    let copies = shared.mirror().copies(entry);
    let mut result = Err(Unfetched::Gone);
    for copy in copies {
        result = fetch_copy(shared, entry, root, copy).await;
        // Another member's copy may be intact where this one isn't.
        let is_its_own = match &result {
            Err(Unfetched::Gone | Unfetched::Damaged { .. }) => true,
            Err(Unfetched::Bucket(error)) => error.trouble == Trouble::NotS3,
            _ => false,
        };
        if !is_its_own {
            break;
        }
    }
    result
}

async fn fetch_copy(
    shared: &Arc<OpenBucket>,
    entry: &Arc<SignedEntry>,
    root: Root,
    copy: Copy,
) -> Result<(), Unfetched> {
    let (holder, name) = (copy.name.holder, Name::Entry(copy.name.clone()));
    let head = head(shared, entry, copy).await?;
    let manifest = Bytes::from(head.manifest.encode());
    store(shared, root, root.into(), manifest, &name).await?;
    let missing = match with_cache(shared, move |cache| cache.look(root)).await? {
        Look::Missing { chunks, .. } => chunks,
        Look::Whole { .. } => return Ok(()),
        Look::NoManifest => return Err(Unfetched::NotKept),
    };
    let mut parts = stream::iter(parts(&head.places(), &missing, shared.store.seal().map_or(0, |_| TAG_BYTES)))
        .map(|part| fetch_part(shared, entry, holder, root, part))
        .buffer_unordered(super::REQUESTS);
    while let Some(result) = parts.next().await {
        result?;
    }
    Ok(())
}

/// What to ask for. Adjacent chunks are asked for together. In its pack a chunk is longer by `overhead`.
fn parts(places: &BTreeMap<ChunkHash, Spot>, missing: &[(ChunkHash, u64)], overhead: u64) -> Vec<Part> {
    let mut spots: Vec<(PackId, u64, u64, ChunkHash)> = missing
        .iter()
        .filter_map(|&(chunk, length)| {
            places.get(&chunk).map(|spot| (spot.pack, spot.offset, length + overhead, chunk))
        })
        .collect();
    spots.sort_unstable();
    let mut parts: Vec<Part> = Vec::new();
    for (pack, offset, length, chunk) in spots {
        let end = offset + length;
        match parts.last_mut() {
            Some(part) if part.pack == pack && part.range.end == offset && end - part.range.start <= REQUEST_BYTES => {
                part.range.end = end;
                part.chunks.push((chunk, offset..end));
            }
            _ => parts.push(Part { pack, range: offset..end, chunks: vec![(chunk, offset..end)] }),
        }
    }
    parts
}

async fn fetch_part(
    shared: &Arc<OpenBucket>,
    entry: &SignedEntry,
    holder: PeerId,
    root: Root,
    part: Part,
) -> Result<(), Unfetched> {
    let name = Name::Pack { holder, hash: part.pack };
    let mut result = Ok(());
    for _ in 0..READS {
        let Ok(permit) = shared.requests.acquire().await else { return Err(Unfetched::Gone) };
        let got = shared.store.get_part(&name, part.range.clone()).await?;
        drop(permit);
        let Some(bytes) = got else {
            // An author who published something newer has removed it; a current entry should still have it.
            return Err(match shared.board.set().holds(&entry.hash()) {
                true => damaged(shared, &name, "is missing or shorter than its entry says"),
                false => Unfetched::Gone,
            });
        };
        result = Ok(());
        for (chunk, range) in &part.chunks {
            let (start, end) = (range.start - part.range.start, range.end - part.range.start);
            let (chunk, bytes) = (*chunk, bytes.slice(start as usize..end as usize));
            let stored = match unsealed(shared, holder, chunk, bytes).await? {
                Some(bytes) => store(shared, root, chunk.into(), bytes, &name).await,
                None => Err(damaged(shared, &name, "is not sealed with this federation's secret, or was changed")),
            };
            result = result.and(stored);
        }
        if !matches!(result, Err(Unfetched::Damaged { .. })) {
            break;
        }
    }
    result
}

/// A chunk as it was before it was sealed, if there is a secret; `None` if that wasn't done with this secret.
async fn unsealed(
    shared: &Arc<OpenBucket>,
    holder: PeerId,
    chunk: ChunkHash,
    bytes: Bytes,
) -> Result<Option<Bytes>, Unfetched> {
    let Some(seal) = shared.store.seal().cloned() else { return Ok(Some(bytes)) };
    let opened = tokio::task::spawn_blocking(move || seal.open_chunk(holder, chunk, &bytes)).await;
    opened.map(|opened| opened.map(Bytes::from)).map_err(|lost| Unfetched::Worker(lost.to_string()))
}

async fn store(
    shared: &Arc<OpenBucket>,
    root: Root,
    hash: BlobHash,
    bytes: Bytes,
    from: &Name,
) -> Result<(), Unfetched> {
    match with_cache(shared, move |cache| cache.store_blob(root, hash, &bytes)).await? {
        // A chunk that no manifest names any more belongs to an abandoned value; looking again will show that.
        Stored::Stored | Stored::Unnamed => Ok(()),
        Stored::WrongHash => Err(damaged(shared, from, "doesn't hold what its author signed")),
        Stored::NotManifest | Stored::WrongLength => Err(damaged(shared, from, "holds what can't be a value")),
    }
}

/// Works with the cache on a blocking thread.
async fn with_cache<T: Send + 'static>(
    shared: &OpenBucket,
    work: impl FnOnce(&Cache) -> Result<T, CacheError> + Send + 'static,
) -> Result<T, Unfetched> {
    let cache = shared.cache.clone();
    match tokio::task::spawn_blocking(move || work(&cache)).await {
        Ok(done) => done.map_err(|error| Unfetched::Cache(error.to_string())),
        Err(lost) => Err(Unfetched::Worker(lost.to_string())),
    }
}

async fn head(shared: &Arc<OpenBucket>, entry: &SignedEntry, copy: Copy) -> Result<Head, Unfetched> {
    if let Some(head) = copy.head.and_then(|head| Head::decode(entry, &head).ok()) {
        return Ok(head);
    }
    let mark = shared.mirror().mark(&copy.name).filter(|mark| mark.size <= MAX_RECORD_BYTES);
    let name = Name::Entry(copy.name);
    let mut result = Err(Unfetched::Gone);
    for _ in 0..READS {
        let record = match &mark {
            Some(mark) => shared.store.get(&name, mark).await?,
            // It may be there although no listing has shown it yet: we may have heard of it from a peer.
            None => shared.store.get_at_most(&name, MAX_RECORD_BYTES).await?,
        };
        let record = record.ok_or(Unfetched::Gone)?;
        result = head_of(shared, entry, &name, &record)
            .map_err(|error| damaged(shared, &name, &format!("can't be read: {error}")));
        if result.is_ok() {
            break;
        }
    }
    result
}

/// The head in the bytes of an entry's object.
fn head_of(shared: &OpenBucket, entry: &SignedEntry, name: &Name, bytes: &Bytes) -> Result<Head, String> {
    let record = shared.store.opened(name, bytes)?;
    let (found, head) = split(&record).map_err(|error| error.to_string())?;
    if found.hash() != entry.hash() {
        return Err("it is another entry".to_owned());
    }
    Head::decode(entry, head).map_err(|error| error.to_string())
}

fn damaged(shared: &OpenBucket, name: &Name, what: &str) -> Unfetched {
    Unfetched::Damaged { object: shared.store.path(name).to_string(), what: what.to_owned() }
}
