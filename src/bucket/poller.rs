//! The task that looks at a bucket and takes in what others have left there.

use super::{
    BucketError, OpenBucket,
    mirror::{Mark, judge},
    names::{EntryName, Name},
    poll_interval::PollInterval,
    record::MAX_RECORD_BYTES,
    sealed,
    store::Store,
    trouble::Trouble,
};
use crate::{
    cache::{Cache, Retention},
    entries::{Conflict, MemberList, Refused},
    weights::SignedEntry,
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Entries that are read before they are taken in together.
const BATCH: usize = 256;

/// Looks whenever it is time or somebody asks for it, for ever.
pub(super) async fn run(shared: Arc<OpenBucket>, mut membership: watch::Receiver<Option<Arc<MemberList>>>) {
    let mut wished = shared.wished.subscribe();
    let settings = &shared.options.settings;
    let mut interval = PollInterval::new(settings.poll..=settings.poll_idle);
    let (mut due, mut failures) = (Instant::now() + interval.after(true), 0);
    loop {
        tokio::select! {
            _ = wished.changed() => {}
            Ok(()) = membership.changed() => {
                // What those left who were added may have been read, and passed over, before.
                shared.mirror().forget();
                forget_revoked(&shared).await;
            }
            () = shared.published.notified() => {
                // Others will answer it, as in a synchronous epoch. Otherwise two nodes that wait for each other would
                // look less and less often.
                due = due.min(Instant::now() + interval.after(true));
                continue;
            }
            () = sleep_until(due) => {}
        }
        let wish = *wished.borrow_and_update();
        let looked = look(&shared).await;
        if looked.is_ok() {
            shared.seen.send_replace(wish);
        }
        failures = if looked.is_ok() { 0 } else { failures + 1 };
        let mut next = interval.after(looked.unwrap_or(false));
        if failures > 0 {
            // However rarely we look, we want to notice soon that the bucket answers again.
            next = next.min(backoff(failures));
        }
        due = Instant::now() + next;
        shared.fulfilled.send_replace(wish);
    }
}

/// Takes one listing, and reads the entries in it that are new. Returns whether there were any.
async fn look(shared: &OpenBucket) -> Result<bool, BucketError> {
    let looked = look_once(shared).await;
    note(shared, &looked);
    looked
}

/// Says how a look went, to who follows it.
pub(super) fn note(shared: &OpenBucket, looked: &Result<bool, BucketError>) {
    let error = looked.as_ref().err().cloned();
    if error.is_some() {
        shared.mirror().interrupted();
    }
    shared.change_health(|health| health.reading = error);
}

pub(super) async fn look_once(shared: &OpenBucket) -> Result<bool, BucketError> {
    sealed::check(shared).await?;
    let began = shared.now();
    let mut listed = shared.store.list(shared.me).await?;
    if listed.is_empty() {
        sealed::check_empty(shared).await?;
    }
    listed.retain(|object| shared.admits(object.name.holder()));
    let (lost, misses) = {
        let mut mirror = shared.mirror();
        (mirror.listed(listed, began), mirror.misses())
    };
    for name in &lost {
        tracing::warn!(object = %shared.store.path(name), "somebody has changed or removed it; it is written again");
    }
    compare_twice(shared).await?;
    // What is missing is soon looked for again.
    let mut news = misses || !lost.is_empty();
    let (mut absent, mut own_absent, mut unreadable) = (BTreeSet::new(), Vec::new(), Vec::new());
    loop {
        let reads = shared.mirror().to_read(&absent, BATCH);
        if reads.is_empty() {
            break;
        }
        let mut records =
            stream::iter(reads).map(|(name, mark)| read(shared, name, mark)).buffer_unordered(super::REQUESTS);
        let (mut entries, mut failed) = (Vec::new(), None);
        while let Some((name, mark, result)) = records.next().await {
            match result {
                Ok(Some(record)) => {
                    news = true;
                    entries.extend(judged(shared, &name, mark, record));
                }
                Ok(None) => {
                    if name.holder == shared.me {
                        own_absent.push((name.clone(), mark));
                    }
                    absent.insert(name);
                }
                // Only this object may be affected.
                Err(error) if matches!(error.trouble, Trouble::NoPermission | Trouble::Other) => {
                    absent.insert(name.clone());
                    unreadable.push((name, mark, error));
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(records);
        // Entries read before the failure too: they aren't read again.
        take_in(shared, entries).await;
        if let Some(error) = failed {
            return Err(error);
        }
    }
    if let Some((_, _, error)) = unreadable.first().filter(|_| !shared.mirror().can_read()) {
        return Err(error.clone());
    }
    for (name, mark, error) in unreadable {
        tracing::warn!(author = %name.author(), %error, "entry refused");
        shared.mirror().refuse(&name, mark);
    }
    // It is listed but isn't there, so it is written again.
    own_absent.into_iter().for_each(|(name, mark)| shared.mirror().refuse(&name, mark));
    let changed = shared.mirror().take_changed();
    for name in &changed {
        let object = shared.store.path(name);
        tracing::warn!(%object, "somebody has changed it while this node was away; it is written again");
    }
    keep_notes(shared).await;
    shared.uploads.notify_one();
    shared.settled.send_replace(());
    Ok(news)
}

/// Reads two objects with the same number of one author, and excludes the author if it has signed both.
async fn compare_twice(shared: &OpenBucket) -> Result<(), BucketError> {
    let twice = shared.mirror().twice();
    for [(name, mark), (other, other_mark)] in twice {
        let records = [read(shared, name, mark).await, read(shared, other, other_mark).await];
        let mut entries = Vec::new();
        for (name, _, record) in records {
            let record = match record {
                Ok(record) => record.unwrap_or_default(),
                // It may be this object's alone; it is tried again at the next look.
                Err(error) if matches!(error.trouble, Trouble::NoPermission | Trouble::Other) => continue,
                Err(error) => return Err(error),
            };
            shared.mirror().compared(&name);
            entries.extend(open_and_judge(shared, &name, &record).ok());
        }
        let Ok([one, other]) = <[Arc<SignedEntry>; 2]>::try_from(entries) else { continue };
        let Some(proof) = Conflict::new(one, other) else { continue };
        if shared.board.insert_proof(proof.clone()) == Ok(true) {
            tracing::warn!("{proof}; its author is excluded");
            let cache = shared.cache.clone();
            let saved = tokio::task::spawn_blocking(move || cache.save_proof(&proof)).await;
            if let Ok(Err(error)) = saved {
                tracing::warn!(%error, "the proof can't be kept");
            }
        }
    }
    Ok(())
}

/// The bytes of an entry's object, none if it is too large to be one; `None` if it isn't there.
async fn read(
    shared: &OpenBucket,
    name: EntryName,
    mark: Mark,
) -> (EntryName, Mark, Result<Option<Bytes>, BucketError>) {
    if mark.size > MAX_RECORD_BYTES {
        return (name, mark, Ok(Some(Bytes::new())));
    }
    let object = Name::Entry(name.clone());
    let mut result = shared.store.get(&object, &mark).await;
    // If it was only changed on the way, it will be right the second time.
    if matches!(&result, Ok(Some(record)) if open_and_judge(shared, &name, record).is_err()) {
        result = shared.store.get(&object, &mark).await;
    }
    (name, mark, result)
}

/// The entry of an object's bytes.
fn open_and_judge(shared: &OpenBucket, name: &EntryName, bytes: &Bytes) -> Result<Arc<SignedEntry>, String> {
    let record = shared.store.opened(&Name::Entry(name.clone()), bytes)?;
    judge(name, &record).map(|(entry, _)| entry)
}

/// The entry that these bytes of an object are, unless they are refused.
fn judged(shared: &OpenBucket, name: &EntryName, mark: Mark, record: Bytes) -> Option<Arc<SignedEntry>> {
    let judged = if mark.size > MAX_RECORD_BYTES {
        let size = mark.size;
        shared.mirror().refuse(name, mark);
        Err(format!("it has {size} bytes, more than an entry can have"))
    } else {
        match shared.store.opened(&Name::Entry(name.clone()), &record) {
            Ok(record) => shared.mirror().read(name, &mark, &record),
            Err(reason) => {
                shared.mirror().refuse(name, mark);
                Err(reason.to_owned())
            }
        }
    };
    let reason = match judged {
        Ok(entry) if entry.federation != shared.federation => Refused::OtherFederation.to_string(),
        Ok(entry) => return Some(entry),
        Err(reason) => reason,
    };
    let object = shared.store.path(&Name::Entry(name.clone()));
    tracing::warn!(%object, author = %name.author(), reason, "entry refused");
    None
}

/// Passes entries to the network, or takes them in here.
async fn take_in(shared: &OpenBucket, mut entries: Vec<Arc<SignedEntry>>) {
    // A member may have relayed for somebody whom this node doesn't admit.
    entries.retain(|entry| shared.admits(entry.key.author()) && !shared.board.set().holds(&entry.hash()));
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
        // As with what peers pass on: nobody is pushed out for it.
        if !shared.board.set().has_room_for(&entry) {
            continue;
        }
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
        // The only cost is reading them again after the next start.
        shared.cache.complain(&error);
    }
}

/// Drops the entries of those who may no longer take part. Where there is a network, it does that.
async fn forget_revoked(shared: &OpenBucket) {
    if shared.learned.is_some() || !shared.board.retain_authors(|author| shared.admits(author)) {
        return;
    }
    let (cache, board, me) = (shared.cache.clone(), shared.board.clone(), shared.me);
    let kept = tokio::task::spawn_blocking(move || cache.retain(|| Retention::of(&board.set(), me)));
    if let Ok(Err(error)) = kept.await {
        tracing::warn!(%error, "the cache can't be kept");
    }
}

/// How our own objects were shown to earlier processes of this node.
pub(super) async fn noted(store: &Store, cache: &Cache) -> BTreeMap<Name, Mark> {
    let (beginning, cache) = (store.note_name(""), cache.clone());
    let read = tokio::task::spawn_blocking(move || cache.notes(beginning.as_bytes()).map(|notes| (beginning, notes)));
    let Ok(Ok((beginning, notes))) = read.await else { return BTreeMap::new() };
    let mark = |(name, mark): (Vec<u8>, Vec<u8>)| {
        let path = std::str::from_utf8(&name).ok()?.strip_prefix(&beginning)?;
        Some((store.name(path)?, postcard::from_bytes(&mark).ok()?))
    };
    notes.into_iter().filter_map(mark).collect()
}

/// Saves what must be known about our own objects after a restart.
pub(super) async fn keep_notes(shared: &OpenBucket) {
    let notes = shared.mirror().take_notes();
    if notes.is_empty() {
        return;
    }
    let note = |(name, mark): (Name, Option<Mark>)| {
        let mark = mark.map(|mark| postcard::to_stdvec(&mark).expect("writing to memory, and all lengths are known"));
        (shared.store.note_name(shared.store.path(&name).as_ref()), mark)
    };
    let (notes, cache): (Vec<_>, _) = (notes.into_iter().map(note).collect(), shared.cache.clone());
    let kept = tokio::task::spawn_blocking(move || {
        notes.into_iter().try_for_each(|(name, mark)| cache.note(name.as_bytes(), mark.as_deref()))
    });
    if let Ok(Err(error)) = kept.await {
        tracing::warn!(%error, "what is changed while this node is away won't be found out by itself");
    }
}

/// How long to wait before what failed is tried again.
pub(super) fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(5))
}
