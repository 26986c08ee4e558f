//! The values that are being fetched or wait to be, and the requests in flight for their blobs. `fetch` decides when a
//! value is fetched, `providers` from whom.

use super::{
    RequestId,
    job::{Claim, Job, Sake, Stage, Whose},
};
use crate::weights::{BlobHash, EntryHash, Root};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The values that are being fetched, or wait to be.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    /// All jobs. The three sets below give their order.
    pub(super) jobs: BTreeMap<Root, Job>,
    /// Jobs that wait for their turn.
    pub(super) queue: BTreeSet<(Claim, u64, Root)>,
    /// Jobs that wait until this time.
    pub(super) parked: BTreeSet<(Duration, Root)>,
    /// Jobs that are being looked up or fetched now.
    pub(super) active: BTreeSet<Root>,
    last_number: u64,
    /// The values that the cache is being asked about, and for which entry.
    pub(super) lookups: BTreeMap<Root, EntryHash>,
    /// Requests whose blobs have not all been stored.
    pub(super) requests: BTreeMap<RequestId, Request>,
    /// The blobs of these requests, without those of late ones. No blob is stored twice at the same time.
    pub(super) in_flight: BTreeMap<BlobHash, RequestId>,
    /// What fetchers of a value were told, until they answer.
    pub(super) told: BTreeMap<RequestId, (Root, PeerId)>,
}

/// A request for blobs. It stays until all of them are stored or known not to come, because received blobs that aren't
/// on the disk yet take memory like those in flight.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) peer: PeerId,
    /// The job that asked.
    pub(super) root: Root,
    pub(super) asked: Vec<BlobHash>,
    /// Those that are under way, or being stored for this value.
    pub(super) open: BTreeMap<BlobHash, Option<Root>>,
    pub(super) answered: bool,
    /// One strike per answer, however much of it is wrong.
    pub(super) struck: bool,
    /// Bytes asked for, as far as their lengths are known.
    pub(super) bytes: u64,
    /// Whether it was asked of a peer that has all of the value.
    pub(super) of_whole: bool,
    pub(super) sent: Duration,
    /// Bytes under way from this peer when it was sent, these included.
    pub(super) ahead: u64,
    /// When to see whether somebody else may give the same.
    pub(super) due: Duration,
    /// Somebody else may be asked for the same. What comes of it nevertheless is taken.
    pub(super) late: bool,
}

impl Fetches {
    /// The job for this root, queued if it is new, for such an author.
    pub(super) fn job(&mut self, root: Root, sake: Sake, whose: Whose) -> &mut Job {
        let Self { jobs, queue, last_number, .. } = self;
        let claim = Claim { whose, sake };
        let job = jobs.entry(root).or_insert_with(|| {
            *last_number += 1;
            queue.insert((claim, *last_number, root));
            Job::new(Stage::Queued { claim, number: *last_number })
        });
        job.whose = job.whose.min(whose);
        job
    }

    fn next_in_queue(&mut self, claim: Claim) -> Stage {
        self.last_number += 1;
        Stage::Queued { claim, number: self.last_number }
    }

    /// The values that wait for their turn with this claim.
    pub(super) fn queued(&self, claim: Claim) -> impl Iterator<Item = Root> {
        let from = (claim, 0, Root::from_bytes([0; 32]));
        self.queue.range(from..).take_while(move |(of, ..)| *of == claim).map(|(.., root)| *root)
    }

    /// The jobs that have a place.
    pub(super) fn with_place(&self) -> impl Iterator<Item = (Root, &Job)> {
        self.active.iter().filter_map(|root| Some((*root, self.jobs.get(root)?)))
    }

    fn list(&mut self, root: Root, stage: Stage) {
        match stage {
            Stage::Queued { claim, number } => self.queue.insert((claim, number, root)),
            Stage::Looking | Stage::Fetching => self.active.insert(root),
            Stage::Parked(until) => self.parked.insert((until, root)),
        };
    }

    fn unlist(&mut self, root: Root, stage: Stage) {
        match stage {
            Stage::Queued { claim, number } => self.queue.remove(&(claim, number, root)),
            Stage::Looking | Stage::Fetching => self.active.remove(&root),
            Stage::Parked(until) => self.parked.remove(&(until, root)),
        };
    }

    pub(super) fn set_stage(&mut self, root: Root, stage: Stage) {
        let Some(job) = self.jobs.get_mut(&root) else { return };
        let before = std::mem::replace(&mut job.stage, stage);
        self.unlist(root, before);
        self.list(root, stage);
    }

    /// Abandons a job. What is in flight for it is thrown away on arrival, unless another job needs it.
    pub(super) fn remove(&mut self, root: Root) -> Option<Job> {
        let job = self.jobs.remove(&root)?;
        self.unlist(root, job.stage);
        Some(job)
    }

    /// Lets a job that waits in the queue wait with the claim that it has now, where it was among its like.
    pub(super) fn reclaim(&mut self, root: Root) {
        let Some(job) = self.jobs.get(&root) else { return };
        if let Stage::Queued { number, .. } = job.stage {
            let claim = job.claim();
            self.set_stage(root, Stage::Queued { claim, number });
        }
    }

    /// Has a job wait for a place: where it is, if it does already, and else at the end.
    pub(super) fn wait(&mut self, root: Root) {
        match self.jobs.get(&root).map(|job| job.stage) {
            Some(Stage::Queued { .. }) => self.reclaim(root),
            _ => self.requeue(root),
        }
    }

    /// Where a job waits, if it does.
    pub(super) fn turn(&self, root: &Root) -> Option<u64> {
        match self.jobs.get(root)?.stage {
            Stage::Queued { number, .. } => Some(number),
            _ => None,
        }
    }

    /// Has a job that waits take a turn before its own.
    pub(super) fn take_turn(&mut self, root: Root, turn: u64) {
        if let Some(Stage::Queued { claim, number }) = self.jobs.get(&root).map(|job| job.stage) {
            self.set_stage(root, Stage::Queued { claim, number: number.min(turn) });
        }
    }

    /// Puts a waiting job, whatever it waits for, at the end of the queue.
    pub(super) fn requeue(&mut self, root: Root) {
        let Some(job) = self.jobs.get_mut(&root) else { return };
        job.lookups = 0;
        job.fetchers.pause();
        let claim = job.claim();
        let stage = self.next_in_queue(claim);
        self.set_stage(root, stage);
    }

    /// This peer may have what no other peer had.
    fn wake(&mut self, root: Root, peer: PeerId) {
        let Some(job) = self.jobs.get_mut(&root) else { return };
        job.tried.forgive(&peer);
        if matches!(job.stage, Stage::Parked(_)) {
            job.tried.only.insert(peer);
            self.requeue(root);
        }
    }

    pub(super) fn wake_all(&mut self, peer: PeerId) {
        let waiting: Vec<Root> = self.jobs.iter().filter(|(_, job)| !job.is_active()).map(|(root, _)| *root).collect();
        waiting.into_iter().for_each(|root| self.wake(root, peer));
    }

    /// This peer says that it holds the value.
    pub(super) fn note_holder(&mut self, root: Root, peer: PeerId) {
        if let Some(job) = self.jobs.get_mut(&root) {
            job.holders.insert(peer);
            job.fetchers.remove(&peer);
            job.ring.changed();
            self.wake(root, peer);
        }
    }

    pub(super) fn forgive(&mut self, peer: PeerId) {
        self.jobs.values_mut().for_each(|job| job.tried.forgive(&peer));
    }

    /// How many requests this peer still has to answer, or has answered with blobs that aren't stored yet, and their bytes.
    pub(super) fn requests_to(&self, peer: &PeerId) -> (usize, u64) {
        let of_peer = self.requests.values().filter(|request| request.peer == *peer);
        of_peer.fold((0, 0), |(count, bytes), request| (count + 1, bytes + request.bytes))
    }

    /// Bytes under way for a value, or come and not stored yet; without those of late requests.
    pub(super) fn bytes_for(&self, root: &Root) -> u64 {
        self.requests_for(root).map(|request| request.bytes.max(1)).sum()
    }

    /// The requests for a value that aren't late.
    pub(super) fn requests_for(&self, root: &Root) -> impl Iterator<Item = &Request> {
        self.requests.values().filter(move |request| request.root == *root && !request.late)
    }

    /// This blob is no longer in flight.
    pub(super) fn release(&mut self, id: RequestId, hash: &BlobHash) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.open.remove(hash);
        if request.answered && request.open.is_empty() {
            self.requests.remove(&id);
        }
        self.is_missing_again(id, hash);
    }

    /// No blob of this request comes.
    pub(super) fn release_all(&mut self, id: RequestId) {
        let Some(request) = self.requests.remove(&id) else { return };
        request.open.keys().for_each(|hash| self.is_missing_again(id, hash));
    }

    fn is_missing_again(&mut self, id: RequestId, hash: &BlobHash) {
        if self.in_flight.get(hash) == Some(&id) {
            self.in_flight.remove(hash);
            let Self { active, jobs, .. } = self;
            for root in &*active {
                if let Some(job) = jobs.get_mut(root).filter(|job| job.todo.contains_key(hash)) {
                    job.ring.changed();
                }
            }
        }
    }

    /// A request is late: its blobs may be asked for elsewhere.
    pub(super) fn give_up_waiting(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.late = true;
        let open: Vec<BlobHash> = request.open.keys().copied().collect();
        open.iter().for_each(|hash| self.is_missing_again(id, hash));
    }

    /// A blob of this request has come. Whether it is the first to bring it, and so may be stored.
    pub(super) fn is_first_with(&mut self, id: RequestId, hash: &BlobHash) -> bool {
        if !self.requests.get(&id).is_some_and(|request| request.open.contains_key(hash)) {
            return false;
        }
        let other = self.in_flight.get(hash).copied().filter(|other| *other != id);
        if let Some(other) = other.and_then(|other| self.requests.get_mut(&other)) {
            if other.open.get(hash).copied().flatten().is_some() {
                return false;
            }
            // What it still brings is passed over.
            other.open.remove(hash);
        }
        self.in_flight.insert(*hash, id);
        true
    }

    pub(super) fn disconnected(&mut self, peer: PeerId) {
        let unanswered = |request: &Request| request.peer == peer && !request.answered;
        let lost: Vec<_> = self.requests.iter().filter(|(_, request)| unanswered(request)).map(|(id, _)| *id).collect();
        lost.into_iter().for_each(|id| self.release_all(id));
        self.told.retain(|_, (_, told)| *told != peer);
        for job in self.jobs.values_mut() {
            job.holders.remove(&peer);
            if job.fetchers.remove(&peer) {
                job.ring.changed();
            }
        }
    }

    /// The value that a blob which has come is stored for: that of the job that asked, or of another that needs it.
    pub(super) fn needed_for(&self, hash: &BlobHash, asked_for: Root) -> Option<Root> {
        let needs = |root: &&Root| self.jobs.get(*root).is_some_and(|job| job.todo.contains_key(hash));
        std::iter::once(&asked_for).chain(&self.active).find(needs).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_the_place_of_a_value_that_waits_takes_its_turn() {
        let claim = Claim { whose: Whose::Known, sake: Sake::Announced };
        let [old, other, new] = [1, 2, 3].map(|byte| Root::from_bytes([byte; 32]));
        let mut fetches = Fetches::default();
        for root in [old, other, new] {
            fetches.job(root, Sake::Announced, Whose::Known);
        }
        let turn = fetches.turn(&old);
        fetches.remove(old);
        assert_eq!(fetches.queued(claim).collect::<Vec<_>>(), [other, new]);
        fetches.take_turn(new, turn.unwrap_or(u64::MAX));
        assert_eq!(fetches.queued(claim).collect::<Vec<_>>(), [new, other]);
        // It keeps the turn when somebody waits for it, and loses it when it has had it in vain.
        fetches.wait(new);
        assert_eq!(fetches.queued(claim).collect::<Vec<_>>(), [new, other]);
        fetches.set_stage(new, Stage::Looking);
        assert_eq!(fetches.turn(&new), None);
        fetches.wait(new);
        assert_eq!(fetches.queued(claim).collect::<Vec<_>>(), [other, new]);
    }
}
