//! Looks at a bucket, and takes in what others have left there.

use super::{
    BucketError, Shared,
    mirror::Mark,
    names::{EntryName, Name},
    pace::Pace,
    record::MAX_RECORD_BYTES,
};
use crate::{
    cache::Retention,
    entries::{Conflict, Refused},
    weights::SignedEntry,
};
use futures::{StreamExt, stream};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// Looks when it is time or somebody wishes it, for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut wished = shared.wished.subscribe();
    let mut pace = Pace::new(shared.options.poll.clone());
    let mut next = pace.after(true);
    loop {
        tokio::select! {
            _ = wished.changed() => {}
            () = tokio::time::sleep(next) => {}
        }
        let wish = *wished.borrow_and_update();
        let news = look(&shared).await;
        next = pace.after(news.unwrap_or(false));
        shared.fulfilled.send_replace(wish);
    }
}

/// One listing, and the entries in it that are new. Gives whether there were any.
pub(super) async fn look(shared: &Shared) -> Result<bool, BucketError> {
    let result = look_once(shared).await;
    let error = result.as_ref().err().cloned();
    if error.is_some() {
        shared.mirror().interrupted();
    }
    shared.change_health(|health| health.reading = error);
    result
}

async fn look_once(shared: &Shared) -> Result<bool, BucketError> {
    let listed = shared.store.list().await?;
    let lost = shared.mirror().listed(listed, shared.now());
    for name in &lost {
        tracing::warn!(object = %shared.store.path(name), "somebody has changed or removed it; it is written again");
    }
    let mut absent = BTreeSet::new();
    let mut news = !lost.is_empty();
    loop {
        let mut reads = shared.mirror().to_read();
        reads.retain(|(name, _)| !absent.contains(name));
        if reads.is_empty() {
            break;
        }
        news = true;
        let mut records =
            stream::iter(reads).map(|(name, mark)| read(shared, name, mark)).buffer_unordered(super::REQUESTS);
        let mut entries = Vec::new();
        while let Some(result) = records.next().await {
            match result? {
                Ok(entry) => entries.push(entry),
                Err(name) => _ = absent.insert(name),
            }
        }
        drop(records);
        take_in(shared, entries.into_iter().flatten().collect()).await;
    }
    shared.uploads.notify_one();
    shared.settled.send_replace(());
    Ok(news)
}

/// The entry of an object, `None` if it is refused, or the object's name if it isn't there.
async fn read(
    shared: &Shared,
    name: EntryName,
    mark: Mark,
) -> Result<Result<Option<Arc<SignedEntry>>, EntryName>, BucketError> {
    let object = Name::Entry(name.clone());
    let refused = |reason: String| {
        tracing::warn!(object = %shared.store.path(&object), author = %name.author(), reason, "entry refused");
    };
    let record = if mark.size > MAX_RECORD_BYTES {
        bytes::Bytes::new()
    } else {
        let Ok(_permit) = shared.requests.acquire().await else { return Ok(Ok(None)) };
        match shared.store.get(&object, None, mark.size).await? {
            Some(record) => record,
            None => return Ok(Err(name)),
        }
    };
    let judged = shared.mirror().read(&name, &mark, &record);
    Ok(Ok(match judged {
        Ok(entry) if entry.federation != shared.federation => {
            refused(Refused::OtherFederation.to_string());
            None
        }
        Ok(entry) => Some(entry),
        Err(reason) => {
            refused(reason);
            None
        }
    }))
}

/// Gives entries to the network, or takes them in here.
async fn take_in(shared: &Shared, mut entries: Vec<Arc<SignedEntry>>) {
    entries.retain(|entry| !shared.board.set().holds(&entry.hash()));
    if entries.is_empty() {
        return;
    }
    entries.sort_by_key(|entry| entry.sequence);
    for own in entries.iter().filter(|entry| entry.key.author() == shared.me) {
        (shared.raise_above)(own.sequence);
    }
    if let Some(learned) = &shared.learned {
        return learned(entries).await;
    }
    let (mut taken, mut proofs) = (Vec::new(), Vec::<Conflict>::new());
    for entry in entries {
        match shared.board.insert(entry.clone()) {
            Ok(true) => taken.push(entry),
            Err(Refused::Conflict(proof)) => {
                tracing::warn!("{proof}; its author is excluded");
                proofs.push(*proof);
            }
            Ok(false) | Err(Refused::Excluded) => {}
            Err(refused) => tracing::warn!(key = %entry.key, %refused, "entry refused"),
        }
    }
    let (cache, board, me) = (shared.cache.clone(), shared.board.clone(), shared.me);
    let kept = tokio::task::spawn_blocking(move || {
        let entries = taken.iter().try_for_each(|entry| cache.save_entry(entry));
        let proofs = proofs.iter().try_for_each(|proof| cache.save_proof(proof));
        entries.and(proofs).and(cache.retain(|| Retention::of(&board.set(), me)))
    });
    if let Ok(Err(error)) = kept.await {
        // It costs reading them again after the next start.
        tracing::warn!(%error, "the cache can't be kept");
    }
}

/// How long to wait before what failed is tried again.
pub(super) fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(5))
}
