//! Which of the values to fetch have one of the few places: those that somebody waits for first, and no member more than
//! one while another waits. A value that hardly comes in makes way.
//!
//! Authors whose updates this node has folded come before all others, who are left one place: anybody makes a thousand
//! authors whose values never come, and who is new must become known all the same. Of the others those who are connected
//! come first: a thousand connections are not to be had. And those who aren't are looked for at a rate, as long
//! as it is in vain.

use super::{
    Core,
    job::{Claim, Job, Place, Sake, Stage, Whose},
};
use crate::weights::Root;
use libp2p_identity::PeerId;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How long the bytes of a value are counted before it is judged by them. On a line where a chunk takes longer all values
/// are slow alike, and those that wait take turns: what is on its way counts when it comes.
const JUDGED_EVERY: Duration = Duration::from_secs(30);

impl Core {
    /// Gives places to jobs that wait, as far as there are any.
    pub(super) fn start_queued(&mut self) {
        while let Some((root, gives_way)) = self.next_to_start() {
            if let Some(other) = gives_way {
                self.fetches.requeue(other);
            }
            if let Some(job) = self.fetches.jobs.get_mut(&root) {
                if job.whose == Whose::Absent {
                    self.absent.take(self.now);
                }
                job.place = Place { began: self.now, since: self.now, bytes: 0 };
            }
            self.fetches.set_stage(root, Stage::Looking);
            self.look_up(root);
        }
    }

    /// The job to start next, and the one that gives way to it, if all places are taken. Each that gives way ranks after
    /// the one that it gives way to, but for strangers' one place, so this comes to an end.
    fn next_to_start(&self) -> Option<(Root, Option<Root>)> {
        let places = self.config.limits.values_at_once.max(1);
        let strangers = self.fetches.with_place().filter(|(_, job)| job.whose.is_stranger()).count();
        let of_known = || self.first(Whose::Known);
        let of_stranger = || Whose::STRANGERS.into_iter().find_map(|whose| self.first(whose));
        // They are left one.
        let theirs = || of_stranger().filter(|_| strangers == 0 && places > 1);
        if self.fetches.active.len() < places {
            let is_last = self.fetches.active.len() + 1 == places;
            let last = theirs().filter(|_| is_last);
            return last.or_else(of_known).or_else(of_stranger).map(|root| (root, None));
        }
        if let Some(root) = theirs() {
            return Some((root, Some(self.latest_after(None)?)));
        }
        if let Some(root) = of_known().filter(|_| strangers > 1 || places == 1 && strangers > 0) {
            let latest = self.fetches.with_place().filter(|(_, job)| job.whose.is_stranger());
            let latest = latest.max_by_key(|(_, job)| (job.claim(), job.place.began));
            return Some((root, Some(latest?.0)));
        }
        [Whose::Known, Whose::Present, Whose::Absent].into_iter().find_map(|whose| self.next_among(whose))
    }

    /// The first of those that wait.
    fn first(&self, whose: Whose) -> Option<Root> {
        if !self.may_start(whose) {
            return None;
        }
        let first = |sake| self.fetches.queued(Claim { whose, sake }).next();
        let to_keep = || first(Sake::Kept).filter(|_| self.may_keep());
        first(Sake::Wanted).or_else(to_keep).or_else(|| first(Sake::Announced))
    }

    /// Those who may be made up are looked for at a rate: each costs questions to several peers. What comes counts for
    /// nothing.
    fn may_start(&self, whose: Whose) -> bool {
        whose != Whose::Absent || self.absent.has(self.now)
    }

    /// When the next of them may be.
    pub(super) fn next_absent(&self) -> Option<Duration> {
        let waits = Whose::Absent.claims().into_iter().any(|claim| self.fetches.queued(claim).next().is_some());
        Some(self.absent.next()).filter(|next| waits && *next > self.now)
    }

    /// Whether one more may have a place because somebody wants it kept. However many ask, half is left to what was
    /// announced.
    fn may_keep(&self) -> bool {
        let kept = self.fetches.with_place().filter(|(_, job)| job.claim().sake == Sake::Kept).count();
        kept < (self.config.limits.values_at_once.max(1) / 2).max(1)
    }

    /// Of the jobs with a place that rank after this claim, and are of strangers if it is, or of all, the last that began.
    fn latest_after(&self, claim: Option<Claim>) -> Option<Root> {
        let is_like = |job: &Job, claim: Claim| job.whose.is_stranger() == claim.whose.is_stranger();
        let ranks = |job: &Job| claim.is_none_or(|claim| is_like(job, claim) && job.claim() > claim);
        let after = self.fetches.with_place().filter(|(_, job)| ranks(job));
        after.max_by_key(|(_, job)| (job.claim(), job.place.began)).map(|(root, _)| root)
    }

    /// The same where all that matters is who waits and who has a place of such authors.
    fn next_among(&self, whose: Whose) -> Option<(Root, Option<Root>)> {
        if !self.may_start(whose) {
            return None;
        }
        let claim = |sake| Claim { whose, sake };
        if let Some(root) = self.fetches.queued(claim(Sake::Wanted)).next() {
            return Some((root, Some(self.latest_after(Some(claim(Sake::Wanted)))?)));
        }
        let to_keep = self.fetches.queued(claim(Sake::Kept)).next().filter(|_| self.may_keep());
        if let Some((root, other)) = to_keep.zip(self.latest_after(Some(claim(Sake::Kept)))) {
            return Some((root, Some(other)));
        }
        // Of strangers who are absent.
        let announced = self.fetches.queued(claim(Sake::Announced)).next();
        if let Some((root, other)) = announced.zip(self.latest_after(Some(claim(Sake::Announced)))) {
            return Some((root, Some(other)));
        }
        let (others, second) = self.second_place(whose)?;
        let newcomer = |root: &Root| {
            self.fetches.jobs.get(root).is_some_and(|job| job.behind().any(|author| !others.contains_key(author)))
        };
        self.fetches.queued(claim(Sake::Announced)).find(newcomer).map(|root| (root, Some(second)))
    }

    /// How many places members have by what they announced or want kept; and the announced value that is fetched only for
    /// members who have another place, the latest of several. What was begun first goes on, or one that publishes faster
    /// than it gives would never be had.
    fn second_place(&self, whose: Whose) -> Option<(BTreeMap<PeerId, usize>, Root)> {
        let mut places: BTreeMap<PeerId, usize> = BTreeMap::new();
        let unwanted = || self.fetches.with_place().filter(|(_, job)| job.claim().sake > Sake::Wanted);
        for author in unwanted().flat_map(|(_, job)| job.behind().copied().collect::<BTreeSet<_>>()) {
            *places.entry(author).or_default() += 1;
        }
        let has_another = |job: &Job| job.behind().all(|author| places.get(author).is_some_and(|held| *held > 1));
        let announced = Claim { whose, sake: Sake::Announced };
        let second = unwanted().filter(|(_, job)| job.claim() == announced && has_another(job));
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
            Some(_) if claim.sake == Sake::Kept => {
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
