//! The values of peers' updates, fetched and checked side by side, so that a slow or dead peer doesn't delay the
//! others'.

use super::{Checks, NodeError, Rejection, background::off_runtime};
use crate::{
    folder::{FolderError, SharedFolder, Value},
    weights::{Layout, SignedEntry, TensorReader},
};
use std::{future::Future, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

/// How long all values of one look may take to arrive, together. What arrives later counts at the next look.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The time that each of them gets in any case, enough for a value that is already here.
pub(super) const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// Values opened or checked at the same time. Each takes a thread and a chunk of at most 1 MiB, and a few of them keep
/// a disk and the processors busy. The folder itself limits what moves over the network.
const AT_ONCE: usize = 16;

/// A value, or why it doesn't count.
pub(super) type Verdict = Result<Arc<Value>, Rejection>;

/// Fetches and checks the values of updates.
#[derive(Clone)]
pub(super) struct Values {
    folder: Arc<dyn SharedFolder>,
    layout: Arc<Layout>,
    checks: Checks,
    /// A place for each of those [at once](AT_ONCE).
    places: Arc<Semaphore>,
}

impl Values {
    pub(super) fn new(folder: Arc<dyn SharedFolder>, layout: Arc<Layout>, checks: Checks) -> Self {
        Self { folder, layout, checks, places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Fetches the value of an entry, until the deadline, and checks it. A damaged value is opened again once, so that
    /// a folder that can fetch it again does.
    ///
    /// The future borrows nothing, so any number of them can be in flight. Dropping it gives up.
    pub(super) fn fetch_and_check(
        &self,
        entry: Arc<SignedEntry>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Verdict, NodeError>> + Send + 'static {
        let values = self.clone();
        async move {
            match values.fetch_and_check_once(&entry, deadline).await? {
                Err(Rejection::Damaged(_)) => values.fetch_and_check_once(&entry, deadline).await,
                verdict => Ok(verdict),
            }
        }
    }

    async fn fetch_and_check_once(&self, entry: &SignedEntry, deadline: Instant) -> Result<Verdict, NodeError> {
        let Some(got) = self.get(entry, deadline).await else {
            return Ok(Err(Rejection::OutOfReach("it is still on its way".to_owned())));
        };
        let value = match got {
            Ok(value) => Arc::new(value),
            Err(error @ FolderError::Damaged { .. }) => return Ok(Err(Rejection::Damaged(error.to_string()))),
            // This node must not end because one peer's files are out of reach.
            Err(error) if error.may_pass() => return Ok(Err(Rejection::OutOfReach(error.to_string()))),
            Err(error) => return Err(error.into()),
        };
        if let Some(difference) = self.layout.difference(value.layout()) {
            return Ok(Err(Rejection::Layout { difference }));
        }
        let (checks, place) = (self.checks.clone(), self.places.clone().acquire_owned().await);
        off_runtime(move || {
            // Here, because the work goes on if its caller is cancelled.
            let _place = place;
            checks.weights(value.as_ref()).map(|()| value)
        })
        .await
    }

    /// `None` if it hasn't arrived by the deadline. A value that doesn't arrive at once gives up its place and waits
    /// without one, so any number of dead peers can't keep places from the others.
    async fn get(&self, entry: &SignedEntry, deadline: Instant) -> Option<Result<Value, FolderError>> {
        let place = place(&self.places, deadline).await;
        let mut got = pin!(self.folder.get(entry));
        let at_least = Instant::now() + LEAST_PATIENCE;
        if let Ok(got) = timeout_at(at_least, &mut got).await {
            return Some(got);
        }
        drop(place);
        timeout_at(deadline.max(at_least), got).await.ok()
    }
}

/// A place, or none: whoever has waited for one until the deadline goes on without, so that even behind hundreds of dead
/// peers no value waits longer than all of them may take together.
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
