//! The values of peers' updates, fetched and checked side by side, so that a slow or dead peer doesn't delay the
//! others'. What comes too late for one look goes on in the background, and is there for the next.

use super::{Checks, NodeError, Rejection, Stop, background::off_runtime, update::Listing};
use crate::{
    folder::{FolderError, SharedFolder, Value},
    weights::{Layout, Root, SignedEntry, TensorReader},
};
use libp2p_identity::PeerId;
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit, oneshot},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

/// How long all values of one look of a node that waits for them may take to arrive, together. What arrives later counts
/// at the next look.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The time that a value gets in any case if its folder has it already.
pub(super) const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// Values opened or checked at the same time. Each takes a thread and a chunk of at most 1 MiB, and a few of them keep
/// a disk and the processors busy. The folder itself limits what moves over the network.
const AT_ONCE: usize = 16;
/// Values that came too late and are still being fetched. One more gives up its fetch; in a network, a peer's newest
/// update is fetched without that too.
const LATE_AT_ONCE: usize = 64;

/// How long to wait for a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait {
    /// For one that the folder has.
    pub(super) here: Duration,
    /// For one that it has to fetch first; `None` if that is not to be fetched.
    pub(super) until: Option<Instant>,
}

impl Wait {
    /// For a node that can do nothing without the values.
    pub(super) fn long(now: Instant) -> Self {
        Self { here: LEAST_PATIENCE, until: Some(now + PATIENCE) }
    }
}

/// What became of a value.
pub(super) enum Verdict {
    /// It has passed the checks; its norm.
    Counts(Arc<Value>, f64),
    /// It doesn't count, or can't be read.
    Rejected(Rejection),
    /// It isn't here yet.
    Late,
}

/// A verdict, and how long a value was waited for that wasn't here.
pub(super) type Fetched = Result<(Verdict, Duration), NodeError>;

/// A fetch that goes on without anybody who waits for it, until this is dropped.
struct Fetching {
    entry: Arc<SignedEntry>,
    task: JoinHandle<()>,
    got: oneshot::Receiver<Result<Value, FolderError>>,
}

impl Fetching {
    /// Tells `fetched` when the value can be had here.
    fn start(folder: Arc<dyn SharedFolder>, entry: Arc<SignedEntry>, fetched: Arc<Notify>) -> Self {
        let (give, got) = oneshot::channel();
        let fetched_entry = entry.clone();
        let task = tokio::spawn(async move {
            let value = folder.get(&fetched_entry).await;
            let is_value = value.is_ok();
            // Nobody takes it if the fetch has been given up.
            let _ = give.send(value);
            if is_value {
                fetched.notify_waiters();
            }
        });
        Self { entry, task, got }
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Fetches and checks the values of updates.
#[derive(Clone)]
pub(super) struct Values {
    folder: Arc<dyn SharedFolder>,
    layout: Arc<Layout>,
    checks: Checks,
    /// Ends all waiting for values that aren't here.
    stop: Stop,
    /// A place for each of those [at once](AT_ONCE).
    places: Arc<Semaphore>,
    /// What came too late, by author and root.
    late: Arc<Mutex<BTreeMap<(PeerId, Root), Fetching>>>,
    /// Told whenever a value has been fetched.
    fetched: Arc<Notify>,
}

impl Values {
    pub(super) fn new(folder: Arc<dyn SharedFolder>, layout: Arc<Layout>, checks: Checks) -> Self {
        Self {
            folder,
            layout,
            checks,
            stop: Stop::new(),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            late: Arc::default(),
            fetched: Arc::default(),
        }
    }

    /// Waits no more for values that aren't here once this is requested: they are late then.
    pub(super) fn end_waits_with(&mut self, stop: Stop) {
        self.stop = stop;
    }

    /// Told whenever a value has been fetched, also one that comes too late for its look.
    pub(super) fn fetched(&self) -> Arc<Notify> {
        self.fetched.clone()
    }

    /// Gives up what came too late, except what is listed, and of each listed author one that newer ones have overtaken, if
    /// a part of it is here: the first after what `has` of that author, its number. If those were given up too, nothing
    /// would ever come of an author whose values take longer than it publishes two more. What hasn't begun to come by then
    /// won't be given any more.
    pub(super) fn retain(&self, listing: &Listing, has: impl Fn(PeerId) -> Option<u64>) {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let mut first: BTreeMap<PeerId, u64> = BTreeMap::new();
        for (&(author, root), Fetching { entry, .. }) in late.iter() {
            let is_overtaken = !listing.has(author, root) && !listing.of(author).is_empty();
            let is_new = has(author).is_none_or(|number| entry.sequence > number);
            if is_overtaken && is_new && self.folder.has_part(entry) {
                let first = first.entry(author).or_insert(entry.sequence);
                *first = entry.sequence.min(*first);
            }
        }
        late.retain(|&(author, root), Fetching { entry, .. }| {
            listing.has(author, root) || first.get(&author) == Some(&entry.sequence)
        });
    }

    /// The author's updates that came too late and that newer ones have overtaken: at most one, after
    /// [`retain`](Self::retain).
    pub(super) fn overtaken(&self, listing: &Listing, author: PeerId) -> Option<Arc<SignedEntry>> {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let of_author = late.iter().filter(|((of, root), _)| *of == author && !listing.has(author, *root));
        of_author.map(|(_, fetching)| &fetching.entry).min_by_key(|entry| entry.sequence).cloned()
    }

    /// Fetches the value of an entry and checks it. A damaged value is opened again once, so that a folder that can
    /// fetch it again does.
    ///
    /// The future borrows nothing, so any number of them can be in flight. Dropping it gives up.
    pub(super) fn fetch_and_check(
        &self,
        entry: Arc<SignedEntry>,
        wait: Wait,
    ) -> impl Future<Output = Fetched> + Send + 'static {
        let values = self.clone();
        async move {
            match values.fetch_and_check_once(&entry, wait).await? {
                (Verdict::Rejected(Rejection::Damaged(_)), _) => values.fetch_and_check_once(&entry, wait).await,
                fetched => Ok(fetched),
            }
        }
    }

    async fn fetch_and_check_once(&self, entry: &Arc<SignedEntry>, wait: Wait) -> Fetched {
        let (got, waited) = self.get(entry, wait).await;
        let rejected = |rejection| Ok((Verdict::Rejected(rejection), waited));
        let value = match got {
            None => return Ok((Verdict::Late, waited)),
            Some(Ok(value)) => Arc::new(value),
            Some(Err(error @ FolderError::Damaged { .. })) => return rejected(Rejection::Damaged(error.to_string())),
            // This node must not end because one peer's files are out of reach.
            Some(Err(error)) if error.may_pass() => return rejected(Rejection::OutOfReach(error.to_string())),
            Some(Err(error)) => return Err(error.into()),
        };
        if let Some(difference) = self.layout.difference(value.layout()) {
            return rejected(Rejection::Layout { difference });
        }
        let (checks, place) = (self.checks.clone(), self.places.clone().acquire_owned().await);
        let checked = off_runtime(move || {
            // Here, because the work goes on if its caller is cancelled.
            let _place = place;
            checks.weights(value.as_ref()).map(|norm| (value, norm))
        });
        let checked = checked.await?;
        Ok((checked.map_or_else(Verdict::Rejected, |(value, norm)| Verdict::Counts(value, norm)), waited))
    }

    /// `None` if it hasn't arrived in time; then it is fetched on in the background, unless it isn't to be fetched at
    /// all. A value that isn't here gives up its place and is waited for without one, so any number of dead peers can't
    /// keep places from the others. With it, how long it was waited for.
    async fn get(&self, entry: &Arc<SignedEntry>, wait: Wait) -> (Option<Result<Value, FolderError>>, Duration) {
        let Some(root) = entry.root() else { return (None, Duration::ZERO) };
        let late = (entry.key.author(), root);
        let began = Instant::now();
        let fetching = self.late.lock().unwrap_or_else(PoisonError::into_inner).remove(&late);
        let fetching = match fetching {
            Some(fetching) => fetching,
            None => {
                let place = place(&self.places, began + wait.here).await;
                match timeout_at(Instant::now() + wait.here, self.folder.get_here(entry)).await {
                    Ok(Ok(Some(value))) => return (Some(Ok(value)), Duration::ZERO),
                    Ok(Err(error)) => return (Some(Err(error)), Duration::ZERO),
                    Ok(Ok(None)) | Err(_) => drop(place),
                }
                if wait.until.is_none() {
                    return (None, began.elapsed());
                }
                Fetching::start(self.folder.clone(), entry.clone(), self.fetched.clone())
            }
        };
        let mut fetching = fetching;
        let in_time = tokio::select! {
            biased;
            got = timeout_at(wait.until.unwrap_or(began), &mut fetching.got) => got.ok(),
            () = self.stop.requested() => None,
        };
        match in_time {
            Some(Ok(got)) => (Some(got), began.elapsed()),
            Some(Err(_)) => (Some(Err(FolderError::Worker("it panicked".to_owned()))), began.elapsed()),
            None => {
                let mut others = self.late.lock().unwrap_or_else(PoisonError::into_inner);
                if others.len() < LATE_AT_ONCE {
                    others.insert(late, fetching);
                }
                (None, began.elapsed())
            }
        }
    }
}

/// A place, or none: whoever has waited for one until the deadline goes on without, so that no value waits long behind
/// hundreds that their storage doesn't give.
async fn place(places: &Semaphore, deadline: Instant) -> Option<SemaphorePermit<'_>> {
    timeout_at(deadline, places.acquire()).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn nobody_waits_for_a_place_past_the_deadline() {
        let places = Semaphore::new(1);
        let past = Instant::now();
        let taken = place(&places, past).await;
        assert!(taken.is_some(), "one that is free is taken at any time");
        let waiting = tokio::time::timeout(Duration::from_secs(60), place(&places, past)).await;
        assert!(waiting.unwrap().is_none());
    }
}
