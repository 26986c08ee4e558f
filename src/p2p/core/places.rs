//! Which of the values to fetch have one of the few places: those that somebody waits for first, and no member more than
//! one while another waits. A value that hardly comes in makes way.

use super::{
    Core,
    job::{Claim, Job, Place, Stage},
};
use crate::weights::Root;
use libp2p_identity::PeerId;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long the bytes of a value are counted before it is judged by them. Longer than a request may take, so that what is
/// on its way counts.
const JUDGED_EVERY: Duration = Duration::from_secs(30);

impl Core {
    /// Gives places to jobs that wait, as far as there are any.
    pub(super) fn start_queued(&mut self) {
        while let Some((root, gives_way)) = self.next_to_start() {
            if let Some(other) = gives_way {
                self.fetches.requeue(other);
            }
            if let Some(job) = self.fetches.jobs.get_mut(&root) {
                job.place = Place { began: self.now, since: self.now, bytes: 0 };
            }
            self.fetches.set_stage(root, Stage::Looking);
            self.look_up(root);
        }
    }

    /// The job to start next, and the one that gives way to it, if all places are taken. Each that gives way ranks after
    /// the one that it gives way to, so this comes to an end.
    fn next_to_start(&self) -> Option<(Root, Option<Root>)> {
        let places = self.config.limits.values_at_once.max(1);
        let is_free = self.fetches.active.len() < places;
        let wanted = self.fetches.queued(Claim::Wanted).next();
        // However many ask, half is left to what was announced.
        let kept = self.fetches.with_place().filter(|(_, job)| job.claim() == Claim::Kept).count();
        let to_keep = self.fetches.queued(Claim::Kept).next().filter(|_| kept < (places / 2).max(1));
        let first = wanted.or(to_keep);
        if is_free {
            return first.or_else(|| self.fetches.queued(Claim::Announced).next()).map(|root| (root, None));
        }
        let least_of = |above: Claim| {
            let below = self.fetches.with_place().filter(|(_, job)| job.claim() > above);
            below.max_by_key(|(_, job)| (job.claim(), job.place.began)).map(|(root, _)| Some(root))
        };
        if let Some(root) = wanted {
            return Some((root, least_of(Claim::Wanted)?));
        }
        if let Some((root, other)) = to_keep.zip(least_of(Claim::Kept)) {
            return Some((root, other));
        }
        let (others, second) = self.second_place()?;
        let newcomer = |root: &Root| {
            self.fetches.jobs.get(root).is_some_and(|job| job.behind().any(|author| !others.contains_key(author)))
        };
        self.fetches.queued(Claim::Announced).find(newcomer).map(|root| (root, Some(second)))
    }

    /// How many places members have by what they announced or want kept; and the announced value that is fetched only for
    /// members who have another place, the latest of several. What was begun first goes on, or one that publishes faster
    /// than it gives would never be had.
    fn second_place(&self) -> Option<(BTreeMap<PeerId, usize>, Root)> {
        let mut places: BTreeMap<PeerId, usize> = BTreeMap::new();
        let unwanted = || self.fetches.with_place().filter(|(_, job)| job.claim() > Claim::Wanted);
        for author in unwanted().flat_map(|(_, job)| job.behind().copied().collect::<BTreeSet<_>>()) {
            *places.entry(author).or_default() += 1;
        }
        let has_another = |job: &Job| job.behind().all(|author| places.get(author).is_some_and(|held| *held > 1));
        let second = unwanted().filter(|(_, job)| job.claim() == Claim::Announced && has_another(job));
        let (root, _) = second.max_by_key(|(root, job)| (job.place.began, Reverse(*root)))?;
        Some((places, root))
    }

    /// When the next value is judged by what has come of it.
    pub(super) fn next_judgement(&self) -> Option<Duration> {
        let due = self.fetches.with_place().map(|(_, job)| job.place.since.saturating_add(JUDGED_EVERY));
        due.min().filter(|_| self.config.limits.least_rate.as_u64() > 0)
    }

    /// Looks at what has come of each value. Of one that hardly comes in, other peers are asked first from now on, and if
    /// another value waits that may take its place, it does. Nobody is struck: the line may be slow, and it may be ours.
    pub(super) fn judge_places(&mut self) {
        let least = self.config.limits.least_rate.as_u64().saturating_mul(JUDGED_EVERY.as_secs());
        let due = |job: &Job| job.place.since.saturating_add(JUDGED_EVERY) <= self.now;
        let due: Vec<Root> = self.fetches.with_place().filter(|(_, job)| due(job)).map(|(root, _)| root).collect();
        for root in due {
            let Some(job) = self.fetches.jobs.get_mut(&root) else { continue };
            let slow = job.place.bytes < least && job.stage == Stage::Fetching;
            job.place = Place { since: self.now, bytes: 0, ..job.place };
            if slow {
                self.is_slow(root);
            }
        }
    }

    fn is_slow(&mut self, root: Root) {
        let asked = self.fetches.requests.values().filter(|request| request.root == root && !request.answered);
        let asked: Vec<PeerId> = asked.map(|request| request.peer).collect();
        let first = self.fetches.queue.first().map(|(claim, ..)| *claim);
        let Some(job) = self.fetches.jobs.get_mut(&root) else { return };
        asked.into_iter().for_each(|peer| job.tried.note_slow(peer));
        let claim = job.claim();
        match first {
            // Its author asks again, and of what has come nothing is lost.
            Some(_) if claim == Claim::Kept => {
                job.kept.clear();
                if job.entry().is_none() {
                    self.fetches.remove(root);
                } else {
                    self.fetches.requeue(root);
                }
            }
            Some(first) if first <= claim => self.fetches.requeue(root),
            _ => {}
        }
    }
}
