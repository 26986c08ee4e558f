//! Sharing a value out among those who fetch it at the same time. They tell each other which of its chunks have come, and each
//! chunk is one fetcher's to take from whoever has all of the value: so its author gives most chunks once, whatever the
//! number of readers, and they give them to each other while they still fetch.

use super::{
    Core, Output, RequestId,
    fetchers::{Fetcher, Fetchers, TOGETHER, TOLD_EVERY},
    job::{Job, Stage},
};
use crate::{
    p2p::message::{BlobRequest, MAX_BLOBS},
    weights::{BlobHash, Content, Root},
};
use libp2p_identity::PeerId;
use std::{collections::BTreeSet, time::Duration};

/// Bytes from which a value is shared out. Of a shorter one, telling each other would cost more than it saves.
pub(super) const SHARED_FROM: u64 = 4 << 20;
/// Members that are told at the beginning that this node fetches a value. Who fetches it too tells back.
const INVITED: usize = 16;
/// Peers of which it is remembered what they have of a value.
const MAX_FETCHERS: usize = 32;
/// Chunks remembered of a fetcher until it is known which ones the value has.
const MAX_UNKNOWN: usize = 4 * MAX_BLOBS;

impl Core {
    /// Tells a few members that this node fetches a value, if it is worth sharing out. Those who fetch it too tell back
    /// what they have of it, and those who have all of it say so.
    pub(super) fn invite_fetchers(&mut self, root: Root) {
        let now = self.now;
        let Some(job) = self.fetches.jobs.get_mut(&root) else { return };
        let length = |content: &Content| if let Content::Put { length, .. } = content { *length } else { 0 };
        let is_long = job.entry().is_some_and(|entry| length(&entry.content) >= SHARED_FROM);
        job.fetchers.gets_on(now);
        if !is_long || std::mem::replace(&mut job.fetchers.invited, true) {
            return;
        }
        let authors: BTreeSet<PeerId> = job.entries().map(|entry| entry.key.author()).collect();
        let paces = authors.iter().filter_map(|author| self.peers.get(author));
        job.fetchers.expects_answer_after(paces.filter_map(|author| author.pace.chunk_takes()).min());
        let known = |peer: &PeerId| {
            let job = self.fetches.jobs.get(&root);
            job.is_some_and(|job| job.holders.contains(peer) || job.fetchers.contains(peer))
        };
        let members =
            self.members().filter(|peer| self.is_direct(peer) && !authors.contains(peer) && !known(peer)).collect();
        for peer in self.draw(members, INVITED) {
            let (federation, id) = (self.config.federation, self.new_id());
            let request = BlobRequest::Fetching { federation, root, hashes: Vec::new() };
            self.push(Output::Blobs { id, peer, request });
        }
    }

    /// A peer fetches a value, and these chunks of it have come there.
    pub(super) fn fetching(&mut self, peer: PeerId, root: Root, hashes: Vec<BlobHash>) {
        if !self.peers.contains_key(&peer) || !self.admits(&peer) {
            return;
        }
        self.found_member(peer);
        if self.has_whole(&root) {
            let (federation, id) = (self.config.federation, self.new_id());
            return self.push(Output::Blobs {
                id,
                peer,
                request: BlobRequest::Holds { federation, roots: vec![root] },
            });
        }
        let now = self.now;
        let Some(job) = self.fetches.jobs.get_mut(&root).filter(|job| job.is_active()) else { return };
        let knows_chunks = job.stage == Stage::Fetching && !job.todo.contains_key(&root.into());
        let fetchers = &mut job.fetchers;
        if fetchers.others.len() >= MAX_FETCHERS && !fetchers.contains(&peer) {
            return;
        }
        let fetcher = fetchers.others.entry(peer).or_insert_with(|| Fetcher { owed: true, ..Fetcher::default() });
        let before = fetcher.has.len();
        for hash in hashes.into_iter().take(MAX_BLOBS) {
            let counts = if knows_chunks { job.todo.contains_key(&hash) } else { fetcher.has.len() < MAX_UNKNOWN };
            if counts {
                fetcher.has.insert(hash);
            }
        }
        if fetcher.has.len() > before {
            fetchers.progress = now;
        }
        job.ring.changed();
    }

    /// Whether this node has told anybody that it has all of this value, or has put it itself.
    fn has_whole(&self, root: &Root) -> bool {
        self.holders.holds_whole(root) || {
            let set = self.board.set();
            set.of_author(self.config.me).any(|entry| entry.root() == Some(*root))
        }
    }

    /// Tells the fetchers of each value what has come of it, some at a time.
    pub(super) fn tell_fetchers(&mut self) {
        let mut notices = Vec::new();
        for root in &self.fetches.active {
            let Some(job) = self.fetches.jobs.get_mut(root) else { continue };
            let Fetchers { others, came, .. } = &mut job.fetchers;
            for (peer, fetcher) in others.iter_mut().filter(|(_, fetcher)| fetcher.notice.is_none()) {
                let new = came.len() - fetcher.told;
                let is_time = new > 0 && fetcher.told_at.saturating_add(TOLD_EVERY) <= self.now;
                if !fetcher.owed && new < TOGETHER && !is_time {
                    continue;
                }
                let hashes: Vec<BlobHash> = came[fetcher.told..].iter().take(MAX_BLOBS).copied().collect();
                self.last_id += 1;
                fetcher.told += hashes.len();
                fetcher.told_at = self.now;
                fetcher.owed = false;
                fetcher.notice = Some(self.last_id);
                notices.push((self.last_id, *peer, *root, hashes));
            }
        }
        let federation = self.config.federation;
        for (id, peer, root, hashes) in notices {
            self.fetches.told.insert(id, (root, peer));
            self.push(Output::Blobs { id, peer, request: BlobRequest::Fetching { federation, root, hashes } });
        }
    }

    /// When a fetcher is to be told next.
    pub(super) fn next_told(&self) -> Option<Duration> {
        self.fetches.with_place().filter_map(|(_, job)| job.fetchers.next_notice()).min()
    }

    /// Returns true if this was the answer to what a fetcher was told.
    pub(super) fn fetcher_answered(&mut self, id: RequestId) -> bool {
        let Some((root, peer)) = self.fetches.told.remove(&id) else { return false };
        let fetchers = self.fetches.jobs.get_mut(&root).map(|job| &mut job.fetchers);
        if let Some(fetcher) = fetchers.and_then(|fetchers| fetchers.others.get_mut(&peer)) {
            fetcher.notice.take_if(|notice| *notice == id);
        }
        true
    }

    /// All of a value is here: those who still fetch it may have everything from this node.
    pub(super) fn tell_fetchers_all(&mut self, root: Root, fetchers: &Fetchers) {
        let federation = self.config.federation;
        for peer in fetchers.others.keys() {
            let id = self.new_id();
            self.push(Output::Blobs { id, peer: *peer, request: BlobRequest::Holds { federation, roots: vec![root] } });
        }
    }

    /// Of each value of which nothing is under way because all that is missing is others' to take first: takes it from
    /// now on itself, if nothing has got on for a while.
    pub(super) fn judge_laggards(&mut self) {
        let me = self.config.me;
        for root in self.waiting_for_others() {
            let now = self.now;
            let Some(job) = self.fetches.jobs.get_mut(&root) else { continue };
            if job.fetchers.progress.saturating_add(job.fetchers.patience()) > now {
                continue;
            }
            let turns = job.todo.keys().filter_map(|hash| job.fetchers.turn(&me, hash));
            let late: BTreeSet<PeerId> =
                turns.chain(job.todo.keys().flat_map(|hash| job.fetchers.with(hash)).copied()).collect();
            for (_, fetcher) in job.fetchers.others.iter_mut().filter(|(peer, _)| late.contains(peer)) {
                fetcher.lags = true;
            }
            job.fetchers.progress = now;
            job.ring.changed();
        }
    }

    /// When that is looked at next.
    pub(super) fn next_laggard(&self) -> Option<Duration> {
        let waits = self.waiting_for_others().into_iter().filter_map(|root| self.fetches.jobs.get(&root));
        waits.map(|job| job.fetchers.progress.saturating_add(job.fetchers.patience())).min()
    }

    /// The values of which nothing is under way here, while others fetch them too.
    fn waiting_for_others(&self) -> Vec<Root> {
        let has_others = |job: &Job| job.fetchers.others.values().any(|fetcher| !fetcher.lags);
        let waits = self.fetches.with_place().filter(|(_, job)| job.stage == Stage::Fetching && has_others(job));
        waits.map(|(root, _)| root).filter(|root| self.fetches.bytes_for(root) == 0).collect()
    }
}
