//! The peers that fetch a value at the same time as this node. They tell each other which of its chunks have come, and
//! each chunk is one fetcher's to take from whoever has all of the value: so its author gives most chunks once, whatever
//! the number of readers, and they give them to each other while they still fetch.

use super::{Core, Output, RequestId, job::Stage};
use crate::{
    p2p::message::{BlobRequest, MAX_BLOBS},
    weights::{BlobHash, Content, Root},
};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Bytes from which a value is shared out. Of a shorter one, telling each other would cost more than it saves.
pub(super) const SHARED_FROM: u64 = 4 << 20;
/// Members that are told at the beginning that this node fetches a value. Who fetches it too tells back.
const INVITED: usize = 16;
/// Peers of which it is remembered what they have of a value.
const MAX_FETCHERS: usize = 32;
/// Chunks that a peer is told of together, or after this time those that there are.
const TOGETHER: usize = 8;
const TOLD_EVERY: Duration = Duration::from_millis(100);
/// Chunks remembered of a fetcher until it is known which ones the value has.
const MAX_UNKNOWN: usize = 4 * MAX_BLOBS;
/// How long this node waits for the others' chunks, when it has nothing else to ask for, before it takes theirs: twice as
/// long as a chunk takes from who has all of the value, which they all ask. At first that isn't known.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
const SHORTEST_PATIENCE: Duration = Duration::from_millis(300);
const LONGEST_PATIENCE: Duration = Duration::from_secs(10);

/// Those who fetch one value.
#[derive(Debug, Default)]
pub(super) struct Fetchers {
    others: BTreeMap<PeerId, Fetcher>,
    /// The chunks that have come here, in their order.
    came: Vec<BlobHash>,
    /// Whether members were told that this node fetches it.
    invited: bool,
    /// When something last got on: a blob came, was asked for, or was told of.
    progress: Duration,
    /// How long a chunk takes at present from who has all of the value.
    usual: Option<Duration>,
}

#[derive(Debug, Default)]
struct Fetcher {
    /// What it has told, as far as it is missing here.
    has: BTreeSet<BlobHash>,
    /// How many of the chunks that have come here it was told of.
    told: usize,
    told_at: Duration,
    /// The notice that it hasn't answered yet. There is one at a time.
    notice: Option<RequestId>,
    /// It doesn't know yet that this node fetches the value.
    owed: bool,
    /// This node has waited for it in vain: no chunk is its to take any more.
    lags: bool,
}

impl Fetchers {
    /// Whether anybody is known to fetch the value too.
    pub(super) fn any(&self) -> bool {
        !self.others.is_empty()
    }

    /// Who else fetches it.
    pub(super) fn contains(&self, peer: &PeerId) -> bool {
        self.others.contains_key(peer)
    }

    /// What a fetcher has that is missing here.
    pub(super) fn has(&self, peer: &PeerId) -> impl Iterator<Item = &BlobHash> {
        self.others.get(peer).into_iter().flat_map(|fetcher| &fetcher.has)
    }

    /// Whether a fetcher has said that it has this chunk.
    pub(super) fn has_told(&self, peer: &PeerId, hash: &BlobHash) -> bool {
        self.others.get(peer).is_some_and(|fetcher| fetcher.has.contains(hash))
    }

    /// The fetchers that have said that they have it, without those that this node has waited for in vain.
    pub(super) fn with(&self, hash: &BlobHash) -> impl Iterator<Item = &PeerId> {
        let have = self.others.iter().filter(move |(_, fetcher)| !fetcher.lags && fetcher.has.contains(hash));
        have.map(|(peer, _)| peer)
    }

    /// It doesn't have what it has said.
    pub(super) fn lacks(&mut self, peer: &PeerId, hash: &BlobHash) {
        if let Some(fetcher) = self.others.get_mut(peer) {
            fetcher.has.remove(hash);
        }
    }

    /// How many fetchers have it.
    pub(super) fn count(&self, hash: &BlobHash) -> usize {
        self.others.values().filter(|fetcher| fetcher.has.contains(hash)).count()
    }

    /// The fetcher whose turn it is to take this chunk from who has all of the value; `None` for this node.
    ///
    /// Each fetcher draws a number for each chunk, and the highest takes it: rendezvous hashing (Thaler and Ravishankar
    /// 1998). All fetchers that know of each other get the same answer, and if one leaves or lags, only its chunks change
    /// hands.
    pub(super) fn turn(&self, me: &PeerId, hash: &BlobHash) -> Option<PeerId> {
        let own = drawn(me, hash);
        let counts = self.others.iter().filter(|(_, fetcher)| !fetcher.lags);
        let first = counts.map(|(peer, _)| (drawn(peer, hash), *peer)).max();
        first.filter(|(other, peer)| (*other, peer) > (own, me)).map(|(_, peer)| peer)
    }

    /// A chunk has come here.
    pub(super) fn came(&mut self, hash: BlobHash) {
        self.came.push(hash);
        self.others.values_mut().for_each(|fetcher| _ = fetcher.has.remove(&hash));
    }

    /// Who has all of the value has answered with a chunk after this time.
    pub(super) fn answered_after(&mut self, took: Duration) {
        self.usual = Some(self.usual.map_or(took, |usual| (usual * 3 + took) / 4));
    }

    /// What is known of that before.
    pub(super) fn expects_answer_after(&mut self, took: Option<Duration>) {
        self.usual = self.usual.or(took);
    }

    pub(super) fn gets_on(&mut self, now: Duration) {
        self.progress = now;
    }

    /// It fetches the value no more: it has all of it, or is gone.
    pub(super) fn remove(&mut self, peer: &PeerId) -> bool {
        self.others.remove(peer).is_some()
    }

    /// The value isn't being fetched any more; perhaps later again.
    pub(super) fn pause(&mut self) {
        self.others.clear();
        self.invited = false;
    }

    fn patience(&self) -> Duration {
        let patience = self.usual.map_or(FIRST_PATIENCE, |usual| 2 * usual);
        patience.clamp(SHORTEST_PATIENCE, LONGEST_PATIENCE)
    }

    /// Those who haven't been told all.
    fn next_notice(&self) -> Option<Duration> {
        let waits = |fetcher: &&Fetcher| fetcher.notice.is_none() && fetcher.told < self.came.len();
        self.others.values().filter(waits).map(|fetcher| fetcher.told_at.saturating_add(TOLD_EVERY)).min()
    }
}

/// The number that a fetcher draws for a chunk: of the last eight bytes of its id and the first eight of the chunk's hash,
/// mixed as SplitMix64 does (Steele, Lea and Flood 2014).
pub(super) fn drawn(peer: &PeerId, hash: &BlobHash) -> u64 {
    let id = peer.to_bytes();
    let of_peer = id.last_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let of_chunk = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let mixed = of_peer ^ of_chunk;
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

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
        let has_others = |job: &super::job::Job| job.fetchers.others.values().any(|fetcher| !fetcher.lags);
        let waits = self.fetches.with_place().filter(|(_, job)| job.stage == Stage::Fetching && has_others(job));
        waits.map(|(root, _)| root).filter(|root| self.fetches.bytes_for(root) == 0).collect()
    }
}
