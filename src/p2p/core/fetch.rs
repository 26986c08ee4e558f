//! Which values are fetched, and when: first those of authors of whom something was folded, then those of strangers who
//! are connected, then all others'; of each of these first those that somebody waits for, then those that departing peers
//! want kept, then those that were announced. [`places`](super::places) decides which of them have a place, and
//! [`providers`](super::providers) where their blobs come from.

use super::{
    Core, FetchError, Looked, Output,
    job::{Job, Sake, Stage, Tried, Whose},
};
use crate::{
    entries::EntrySet,
    weights::{BlobHash, EntryHash, Root, SignedEntry},
};
use libp2p_identity::PeerId;
use std::{sync::Arc, time::Duration};

/// How often the cache is asked in one attempt. Two or three times is usual: before the manifest, before the chunks,
/// and after them.
const MAX_LOOKUPS: u32 = 6;
/// How long to wait before first retrying, unasked, a value that nobody had. Doubled with each attempt.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// At most this many times the interval between syncs.
const LONGEST_RETRY: u32 = 16;

impl Core {
    pub(super) fn whose(&self, set: &EntrySet, author: PeerId) -> Whose {
        if set.is_known(author) {
            Whose::Known
        } else if self.peers.contains_key(&author) {
            Whose::Present
        } else {
            Whose::Absent
        }
    }

    /// This peer is connected from now on, or no longer: what is to be fetched of it waits with others.
    pub(super) fn came_or_went(&mut self, peer: PeerId) {
        let Self { peers, fetches, .. } = self;
        let is_present = |entry: &Arc<SignedEntry>| peers.contains_key(&entry.key.author());
        let mut changed = Vec::new();
        for (root, job) in fetches.jobs.iter_mut().filter(|(_, job)| job.whose.is_stranger()) {
            if job.entries().any(|entry| entry.key.author() == peer) {
                job.whose = if job.entries().any(is_present) { Whose::Present } else { Whose::Absent };
                changed.push(*root);
            }
        }
        changed.into_iter().for_each(|root| fetches.reclaim(root));
    }

    pub(super) fn want(&mut self, entry: Arc<SignedEntry>) {
        let Some(root) = entry.root() else { return };
        let whose = self.whose(&self.board.set(), entry.key.author());
        let job = self.fetches.job(root, Sake::Wanted, whose);
        if !job.wanted.contains(&entry) {
            job.wanted.insert(0, entry);
        }
        if !job.is_active() {
            job.tried = Tried::default();
            self.fetches.wait(root);
        }
    }

    pub(super) fn unwant(&mut self, root: Root) {
        let Some(job) = self.fetches.jobs.get_mut(&root) else { return };
        job.wanted.clear();
        match job.entry() {
            None => drop(self.fetches.remove(root)),
            Some(_) => self.fetches.reclaim(root),
        }
    }

    /// Fetches a value that its departing author wants kept. One attempt: the author asks again if it has to.
    pub(super) fn want_kept(&mut self, root: Root, entry: Arc<SignedEntry>) {
        let whose = self.whose(&self.board.set(), entry.key.author());
        let job = self.fetches.job(root, Sake::Kept, whose);
        job.kept.insert(entry.key.author(), entry);
        if !job.is_active() {
            job.tried = Tried::default();
            self.fetches.requeue(root);
        }
    }

    /// This author's value needn't be kept any more. What is under way goes on.
    pub(super) fn drop_kept(&mut self, root: Root, author: PeerId) {
        let Some(job) = self.fetches.jobs.get_mut(&root).filter(|job| !job.is_active()) else { return };
        job.kept.remove(&author);
        match job.entry() {
            None => drop(self.fetches.remove(root)),
            Some(_) => self.fetches.reclaim(root),
        }
    }

    /// Fetches a value that nobody has asked for.
    pub(super) fn want_unasked(&mut self, root: Root, entry: Arc<SignedEntry>, whose: Whose) {
        let job = self.fetches.job(root, Sake::Announced, whose);
        let new = job.unasked.insert(entry.key.author(), entry).is_none();
        if new && matches!(job.stage, Stage::Parked(_)) {
            job.tried = Tried::default();
            self.fetches.requeue(root);
        } else {
            self.fetches.reclaim(root);
        }
    }

    /// This author's value needn't be fetched any more, unless somebody waits for it.
    pub(super) fn drop_unasked(&mut self, root: Root, author: PeerId) {
        let Some(job) = self.fetches.jobs.get_mut(&root) else { return };
        job.unasked.remove(&author);
        if job.entry().is_none() {
            self.fetches.remove(root);
        }
    }

    /// Starts the jobs that may start, and sends the requests that may be sent.
    pub(super) fn fetch(&mut self) {
        loop {
            self.keep_next();
            self.start_queued();
            let fetching = |root: &&Root| self.fetches.jobs.get(*root).is_some_and(|job| job.stage == Stage::Fetching);
            let active: Vec<Root> = self.fetches.active.iter().filter(fetching).copied().collect();
            // A value that nobody has leaves its place to the next.
            let mut ended = false;
            for root in active {
                ended |= self.ask_providers(root);
            }
            if !ended {
                return;
            }
        }
    }

    pub(super) fn look_up(&mut self, root: Root) {
        // One question at a time: the answers to two about one root couldn't be told apart.
        if self.fetches.lookups.contains_key(&root) {
            return;
        }
        let Some(entry) = self.fetches.jobs.get(&root).and_then(Job::entry).cloned() else { return };
        self.fetches.lookups.insert(root, entry.hash());
        self.push(Output::Lookup(entry));
    }

    pub(super) fn looked(&mut self, root: Root, looked: Looked) {
        let Some(about) = self.fetches.lookups.remove(&root) else { return };
        let Some(job) = self.fetches.jobs.get_mut(&root).filter(|job| job.stage == Stage::Looking) else { return };
        if job.entry().is_none_or(|entry| entry.hash() != about) {
            return self.look_up(root);
        }
        job.lookups += 1;
        let is_begun = matches!(looked, Looked::Part { .. });
        let missing: Vec<_> = match looked {
            Looked::Whole => return self.complete(root),
            Looked::NotAsSigned => return self.not_as_signed(root, about),
            Looked::Failed(error) => return self.fail(root, FetchError::Cache(error)),
            Looked::NoManifest => vec![(root.into(), None)],
            Looked::Part { here, missing } => {
                job.fetchers.are_here(here.into_iter().map(BlobHash::from));
                missing.into_iter().map(|(hash, length)| (hash.into(), Some(length))).collect()
            }
        };
        if job.lookups > MAX_LOOKUPS {
            return self.fail(root, FetchError::NotKept);
        }
        job.todo = missing.into_iter().collect();
        if job.todo.is_empty() {
            return self.complete(root);
        }
        let entries: Vec<_> = job.entries().filter(|_| is_begun).cloned().collect();
        self.fetches.set_stage(root, Stage::Fetching);
        self.invite_fetchers(root);
        // A restart must know whose the part is that is here.
        entries.into_iter().for_each(|entry| self.save(entry));
    }

    fn complete(&mut self, root: Root) {
        let Some(job) = self.fetches.remove(root) else { return };
        if job.whose == Whose::Absent {
            self.absent.give_back();
        }
        self.tell_fetchers_all(root, &job.fetchers);
        self.push(Output::Fetched { root, result: Ok(()) });
        for entry in job.entries() {
            self.save(entry.clone());
            self.prefetches.ended(&entry.key.author(), &root);
            self.note_held(root, entry);
        }
    }

    /// The entry that the cache was asked about lies. Others with the same root may not.
    fn not_as_signed(&mut self, root: Root, about: EntryHash) {
        let Some(job) = self.fetches.jobs.get_mut(&root) else { return };
        let liar = job.entry().map(|entry| entry.key.author());
        let told = job.drop_entry(about);
        let left = job.entry().is_some();
        if let Some(author) = liar {
            self.prefetches.ended(&author, &root);
            self.prefetches.reject(author, about);
        }
        if told || !left {
            self.push(Output::Fetched { root, result: Err(FetchError::NotAsSigned) });
        }
        if left {
            self.look_up(root);
        } else {
            self.fetches.remove(root);
        }
    }

    /// The bytes with this root are not a value, whatever its entries say.
    pub(super) fn none_as_signed(&mut self, root: Root) {
        let Some(job) = self.fetches.remove(root) else { return };
        for entry in job.entries() {
            self.prefetches.ended(&entry.key.author(), &root);
            self.prefetches.reject(entry.key.author(), entry.hash());
        }
        self.push(Output::Fetched { root, result: Err(FetchError::NotAsSigned) });
    }

    pub(super) fn unreachable(&mut self, root: Root) {
        let Some(job) = self.fetches.jobs.get(&root) else { return };
        let set = self.board.set();
        let stands = job.entries().any(|entry| set.holds(&entry.hash()));
        drop(set);
        let asked = job.tried.asked();
        self.fail(root, if stands { FetchError::Unreachable { asked } } else { FetchError::Gone });
    }

    /// Ends an attempt. An announced value is tried again later, as long as it is worth fetching.
    pub(super) fn fail(&mut self, root: Root, error: FetchError) {
        let Some(job) = self.fetches.jobs.get_mut(&root) else { return };
        let waited = !std::mem::take(&mut job.wanted).is_empty();
        job.kept.clear();
        job.tried = Tried::default();
        job.todo.clear();
        let authors: Vec<PeerId> = job.unasked.keys().copied().collect();
        if authors.is_empty() {
            self.fetches.remove(root);
        } else {
            let longest = self.config.sync_every.saturating_mul(LONGEST_RETRY).max(FIRST_RETRY);
            let pause = FIRST_RETRY.saturating_mul(1u32.checked_shl(job.failed_tries).unwrap_or(u32::MAX)).min(longest);
            job.failed_tries = (job.failed_tries + 1).min(u32::BITS);
            self.fetches.set_stage(root, Stage::Parked(self.now.saturating_add(pause)));
        }
        if waited {
            self.push(Output::Fetched { root, result: Err(error) });
        }
        authors.into_iter().for_each(|author| self.refresh_prefetch(author));
    }

    /// With nobody to ask there is nothing to retry: the next connection wakes the job.
    pub(super) fn next_retry_time(&self) -> Option<Duration> {
        self.fetches.parked.first().map(|(until, _)| *until).filter(|_| self.has_anyone_to_ask())
    }

    pub(super) fn retry_parked(&mut self) {
        while self.next_retry_time().is_some_and(|until| until <= self.now) {
            let Some(&(_, root)) = self.fetches.parked.first() else { return };
            self.fetches.requeue(root);
        }
    }
}
