//! The task that writes what this node has published into a bucket, and removes what is no longer needed there.

use super::{
    BucketError, OpenBucket,
    mirror::Written,
    names::{EntryName, Name, PackId},
    poller::{backoff, keep_notes},
    record, sealed,
    store::{Put, Standing},
    trouble::Trouble,
};
use crate::{
    cache::{CachedValue, Retention},
    weights::{ChunkHash, EntryHash, SignedEntry},
};
use bytes::Bytes;
use libp2p_identity::PeerId;
use object_store::PutPayload;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// How many objects are deleted together: a request costs the same for one.
const GARBAGE: usize = 16;
/// How many bytes an author's own upload is assumed to move in a second.
const RELAYED_A_SECOND: u64 = 1 << 20;
/// How often an upload starts again because one of its packs was lost in the meantime.
const ATTEMPTS: usize = 3;

/// Uploads whenever there is something to upload, for ever.
pub(super) async fn run(shared: Arc<OpenBucket>) {
    let (mut failures, mut recovered) = (0, 0);
    // Our own entries whose values turned out to be lost here, so that each is reported once.
    let mut told = BTreeSet::new();
    let mut health = shared.health.subscribe();
    loop {
        if failures == 0 {
            shared.uploads.notified().await;
        } else {
            // If the bucket has answered again since the upload began, that may have been before the upload gave up.
            let answers_again = health.wait_for(|health| health.recovered != recovered);
            _ = tokio::time::timeout(backoff(failures), answers_again).await;
        }
        recovered = health.borrow_and_update().recovered;
        if !shared.mirror().is_known() {
            // The first look finds out what is there, and wakes this task.
            failures = 0;
            continue;
        }
        let result = upload(&shared, &mut told).await;
        failures = if result.is_ok() { 0 } else { failures + 1 };
        let error = result.err();
        shared.change_health(|health| health.writing = error);
    }
}

async fn upload(shared: &OpenBucket, told: &mut BTreeSet<EntryHash>) -> Result<(), BucketError> {
    let (mut hopeless, mut first_error) = (BTreeSet::new(), None);
    loop {
        let next = {
            let mirror = shared.mirror();
            let set = shared.board.set();
            mirror.wanting(&set).into_iter().find(|entry| !hopeless.contains(&entry.hash()))
        };
        let Some(entry) = next else { break };
        match upload_entry(shared, &entry).await {
            Ok(true) => {}
            Ok(false) => {
                if told.insert(entry.hash()) {
                    tracing::warn!(key = %entry.key, "its value is damaged or lost in the cache and can't be uploaded");
                }
                hopeless.insert(entry.hash());
            }
            // The store may refuse one entry and accept another.
            Err(error) if matches!(error.trouble, Trouble::Other | Trouble::Vanishes | Trouble::NoPermission) => {
                hopeless.insert(entry.hash());
                first_error = first_error.or(Some(error));
            }
            Err(error) => return Err(error),
        }
        // Before it counts as done: whoever waits for that may end this process.
        keep_notes(shared).await;
        shared.settled.send_replace(());
    }
    if shared.learned.is_some() {
        let relayed = relay(shared).await;
        first_error = first_error.or(relayed.err());
    }
    if shared.learned.is_none() {
        let (cache, board, me) = (shared.cache.clone(), shared.board.clone(), shared.me);
        let kept = tokio::task::spawn_blocking(move || cache.retain(|| Retention::of(&board.set(), me)));
        if let Ok(Err(error)) = kept.await {
            shared.cache.complain(&error);
        }
    }
    let garbage = {
        let mut mirror = shared.mirror();
        let set = shared.board.set();
        mirror.garbage(&set, shared.options.settings.grace, GARBAGE)
    };
    if !garbage.is_empty() {
        tracing::debug!(objects = garbage.len(), "deleting");
        // What stays is in the next listing again.
        if let Err(error) = shared.store.delete(&garbage).await {
            tracing::warn!(%error, "what nobody needs stays in the bucket");
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// Relays entries whose authors don't bring them to the bucket, as far as their values are here.
async fn relay(shared: &OpenBucket) -> Result<(), BucketError> {
    let due = {
        let after = |bytes: u64| shared.options.settings.relay_after + Duration::from_secs(bytes / RELAYED_A_SECOND);
        let may = |author: &PeerId| shared.membership.allows(*author);
        let now = shared.now();
        let mut mirror = shared.mirror();
        let set = shared.board.set();
        mirror.due_relays(&set, may, after, now)
    };
    for entry in due {
        if upload_entry(shared, &entry).await? {
            tracing::debug!(key = %entry.key, "relayed into the bucket");
        }
    }
    Ok(())
}

/// Whether it is in the bucket now, or needn't be any more.
async fn upload_entry(shared: &OpenBucket, entry: &Arc<SignedEntry>) -> Result<bool, BucketError> {
    sealed::leave(shared).await?;
    let stands = || shared.board.set().holds(&entry.hash());
    // An entry that serves as proof needs no value, and nobody would read it.
    let is_proof = entry.key.author() == shared.me && shared.board.is_excluded(shared.me);
    let Some(root) = entry.root().filter(|_| !is_proof) else {
        let written = write_record(shared, entry, record::encode(entry, None)).await?;
        let name = EntryName::held_by(shared.me, entry);
        shared.mirror().uploaded(name, entry.hash(), None, written);
        return Ok(true);
    };
    let cache = shared.cache.clone();
    let cached = tokio::task::spawn_blocking(move || cache.value(root)).await;
    let Ok(Ok(Some(value))) = cached else { return Ok(!stands()) };
    let value = Arc::new(value);
    for _ in 0..ATTEMPTS {
        let plan = {
            let mirror = shared.mirror();
            let set = shared.board.set();
            mirror.plan(&set, value.manifest())
        };
        for chunks in plan.packs {
            if !stands() {
                return Ok(true);
            }
            let Some(pack) = read_pack(shared, value.clone(), chunks).await else { return Ok(!stands()) };
            let Pack { hash, length, places, payload } = pack;
            let tag = shared.store.put(&Name::Pack { holder: shared.me, hash }, payload).await?;
            let written = Written { size: length, tag, at: shared.now() };
            shared.mirror().packed(hash, places, written);
        }
        let head = {
            let mirror = shared.mirror();
            let set = shared.board.set();
            mirror.compose(&set, value.manifest())
        };
        if let Some(head) = head {
            let written = write_record(shared, entry, record::encode(entry, Some(&head))).await?;
            let name = EntryName::held_by(shared.me, entry);
            shared.mirror().uploaded(name, entry.hash(), Some(&head), written);
            return Ok(true);
        }
    }
    Err(shared.store.error("uploading", Trouble::Vanishes, "its packs are gone as soon as they are written".to_owned()))
}

async fn write_record(shared: &OpenBucket, entry: &SignedEntry, record: Vec<u8>) -> Result<Written, BucketError> {
    let name = Name::Entry(EntryName::held_by(shared.me, entry));
    let record = shared.store.sealed(&name, record);
    let size = record.len() as u64;
    let payload = PutPayload::from(Bytes::from(record.clone()));
    let tag = match shared.store.create(&name, payload.clone()).await? {
        Put::Written(tag) => tag,
        // Our own, if the answer to the write was lost, or one that somebody has changed.
        Put::Exists => match shared.store.standing(&name, &record).await? {
            Standing::Same(tag) => tag,
            Standing::Other => {
                tracing::warn!(object = %shared.store.path(&name), "something else stands there; it is written over");
                shared.store.put(&name, payload).await?
            }
            Standing::Unread => shared.store.put(&name, payload).await?,
        },
    };
    Ok(Written { size, tag, at: shared.now() })
}

struct Pack {
    hash: PackId,
    length: u64,
    places: BTreeMap<ChunkHash, u64>,
    payload: PutPayload,
}

/// These chunks of a value, verified, and sealed if there is a secret. `None` if one is damaged.
async fn read_pack(shared: &OpenBucket, value: Arc<CachedValue>, chunks: Vec<usize>) -> Option<Pack> {
    let (cache, seal, me) = (shared.cache.clone(), shared.store.seal().cloned(), shared.me);
    let read = tokio::task::spawn_blocking(move || {
        let (mut hasher, mut length) = (blake3::Hasher::new(), 0);
        let (mut places, mut parts) = (BTreeMap::new(), Vec::with_capacity(chunks.len()));
        for number in chunks {
            let hash = value.manifest().chunks()[number];
            let bytes = value.chunk(number).ok().filter(|bytes| ChunkHash::of(bytes) == hash);
            let Some(bytes) = bytes else {
                cache.drop_blob(hash.into());
                return None;
            };
            let bytes = match &seal {
                Some(seal) => Bytes::from(seal.chunk(me, hash, &bytes)),
                None => bytes,
            };
            hasher.update(&bytes);
            places.insert(hash, length);
            length += bytes.len() as u64;
            parts.push(bytes);
        }
        let hash = PackId::of(hasher.finalize());
        Some(Pack { hash, length, places, payload: parts.into_iter().collect() })
    });
    read.await.ok().flatten()
}
