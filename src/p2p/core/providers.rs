//! Which peers to ask for blobs, and what to do with the answers.

use super::{
    Core, FetchError, Limits, Output, RequestFailed, RequestId, StoreResult,
    fetchers::drawn,
    fetches::{Fetches, Request},
    job::{Job, Stage},
    peers::{Peer, Relation},
    strikes::Severity,
};
use crate::{
    p2p::message::{Blob, BlobRequest, MAX_BLOBS},
    weights::{BlobHash, Root, SignedEntry},
};
use bytes::Bytes;
use libp2p_identity::PeerId;
use rand_chacha::rand_core::Rng;
use std::{collections::BTreeSet, ops::Bound, sync::Arc, time::Duration};

/// How often it is looked for others who could give what a late peer doesn't.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);
/// What a manifest is taken for until it has come.
const USUAL_MANIFEST: u64 = 64 << 10;
/// Bounds of how long a peer may put this node off at a time.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long it may do so without giving anything.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a peer can be asked for of a value, in the order in which peers are asked. What is this node's to take comes
/// first, for it is what the others wait for; and of those who have all of it the author comes last, as everybody asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// It has said that it has all of it.
    Holder,
    /// It has signed it.
    Author,
    /// It fetches it too, and has said which chunks it has.
    Fetcher,
    /// A member that has said nothing.
    Member,
    /// It hasn't said yet what it is.
    Unknown,
}

impl Source {
    fn has_all(self) -> bool {
        matches!(self, Self::Holder | Self::Author)
    }

    fn has_said(self) -> bool {
        self < Self::Member
    }
}

/// A peer that may give something of a value.
struct Provider {
    peer: PeerId,
    source: Source,
    /// Something was wrong with it, or it is slow: others are asked for the same first.
    is_doubtful: bool,
    /// Something was wrong with it: it is asked only if nobody else is left.
    is_bad: bool,
}

/// What to do next for a value.
enum Next {
    /// Ask this provider for these blobs, with their lengths.
    Ask(Provider, Vec<(BlobHash, u64)>),
    /// Nothing now.
    Wait,
    /// Nobody is left to ask.
    Nobody,
}

impl Core {
    pub(super) fn has_anyone_to_ask(&self) -> bool {
        self.peers.iter().any(|(id, peer)| !peer.relation.is_stranger() && self.is_direct(id))
    }

    /// Sends those requests of a job that may be sent now. Returns true if the job has ended because nobody is left to
    /// ask.
    pub(super) fn ask_providers(&mut self, root: Root) -> bool {
        loop {
            let fetches = |job: &Job| job.stage == Stage::Fetching;
            if !self.fetches.jobs.get(&root).is_some_and(fetches) {
                return false;
            }
            match self.next_request(root) {
                Next::Ask(provider, blobs) => self.request(root, &provider, &blobs),
                Next::Wait => return false,
                Next::Nobody => {
                    self.unreachable(root);
                    return true;
                }
            }
        }
    }

    fn next_request(&mut self, root: Root) -> Next {
        let Limits { requests_at_once, request_bytes, providers_at_once, .. } = self.config.limits;
        let most = request_bytes.as_u64().saturating_mul(requests_at_once as u64);
        let under_way = self.fetches.bytes_for(&root);
        if under_way >= most {
            return Next::Wait;
        }
        let providers = self.providers(root);
        let asked: BTreeSet<PeerId> = self.fetches.requests_for(&root).map(|request| request.peer).collect();
        let of_whole = self.fetches.requests_for(&root).filter(|request| request.of_whole);
        let of_whole: u64 = of_whole.map(|request| request.bytes).sum();
        let is_shared = self.fetches.jobs.get(&root).is_some_and(|job| job.fetchers.any());
        let is_good = |job: &Job| providers.iter().any(|other| !other.is_bad && self.may_give_any(job, other));
        let any_good = self.fetches.jobs.get(&root).is_some_and(is_good);
        for at in 0..providers.len() {
            let Provider { peer, source, is_bad, .. } = providers[at];
            if is_bad && any_good {
                continue;
            }
            if asked.len() >= providers_at_once.max(1) && !asked.contains(&peer) {
                continue;
            }
            // While others fetch it too, half is left to what they give.
            let most =
                if is_shared && source.has_all() { (most / 2).saturating_sub(of_whole) } else { most - under_way };
            let room = self.room_at(&peer, !asked.contains(&peer)).min(most);
            if room == 0 {
                continue;
            }
            let blobs = self.blobs_for(root, at, &providers, is_shared, room);
            if !blobs.is_empty() {
                let mut providers = providers;
                return Next::Ask(providers.swap_remove(at), blobs);
            }
        }
        let Some(job) = self.fetches.jobs.get(&root) else { return Next::Wait };
        let is_under_way = || job.todo.keys().any(|hash| self.fetches.in_flight.contains_key(hash));
        let may_come = || providers.iter().any(|provider| self.may_give_any(job, provider));
        if is_under_way() || may_come() || self.is_put_off(job) { Next::Wait } else { Next::Nobody }
    }

    /// How many bytes a peer may be asked for now; for a value of which it isn't asked for anything, if it is the first.
    fn room_at(&self, peer: &PeerId, is_first: bool) -> u64 {
        let (requests, bytes) = self.fetches.requests_to(peer);
        let most = self.config.limits.requests_at_once;
        self.peers.get(peer).map_or(0, |state| state.pace.room(requests, bytes, most, is_first))
    }

    fn may_give_any(&self, job: &Job, provider: &Provider) -> bool {
        let open = |hash: &&BlobHash| !self.fetches.in_flight.contains_key(*hash);
        match provider.source {
            Source::Fetcher => job.fetchers.has(&provider.peer).any(|hash| may_give(job, provider, hash)),
            _ => job.todo.keys().filter(open).any(|hash| may_give(job, provider, hash)),
        }
    }

    /// The peers that may be asked for something of this value, best first.
    fn providers(&mut self, root: Root) -> Vec<Provider> {
        let Some(job) = self.fetches.jobs.get_mut(&root) else { return Vec::new() };
        let mut found = Vec::new();
        let now = self.now;
        let may_be_asked = |state: &Peer| !state.relation.is_stranger() && state.later <= now;
        let direct = |peer: &PeerId| !self.relayed.contains_key(peer);
        for (peer, state) in self.peers.iter().filter(|(peer, state)| may_be_asked(state) && direct(peer)) {
            if !job.tried.may_be_asked(peer) {
                continue;
            }
            let source = if job.holders.contains(peer) {
                Source::Holder
            } else if job.entries().any(|entry| entry.key.author() == *peer) {
                Source::Author
            } else if job.fetchers.contains(peer) {
                Source::Fetcher
            } else if state.relation == Relation::Member {
                Source::Member
            } else {
                Source::Unknown
            };
            let rank = *job.tried.ranks.entry(*peer).or_insert_with(|| self.random.next_u64());
            let against = self.strikes.against(peer, self.now);
            found.push((job.tried.demerits(peer), against, source, rank, *peer));
        }
        found.sort_unstable();
        let provider = |((wrong, failures, slow), _, source, _, peer)| {
            let is_bad = wrong || failures > 0;
            Provider { peer, source, is_doubtful: is_bad || slow, is_bad }
        };
        found.into_iter().map(provider).collect()
    }

    /// What to ask a provider for now, of at most so many bytes unless it is a single blob.
    fn blobs_for(
        &mut self,
        root: Root,
        at: usize,
        providers: &[Provider],
        is_shared: bool,
        room: u64,
    ) -> Vec<(BlobHash, u64)> {
        let me = self.config.me;
        let Fetches { jobs, in_flight, .. } = &mut self.fetches;
        let (Some(job), Some(provider)) = (jobs.get_mut(&root), providers.get(at)) else { return Vec::new() };
        let limit = self.config.limits.request_bytes.as_u64().min(room);
        let mut chosen = Chosen { blobs: Vec::new(), bytes: 0, limit };
        let is_open = |hash: &BlobHash| !in_flight.contains_key(hash);
        if provider.source == Source::Fetcher {
            let open = job.fetchers.has(&provider.peer).filter(|hash| is_open(hash) && may_give(job, provider, hash));
            // What the fewest have first, so that nothing hangs on one of them.
            let mut rare: Vec<_> =
                open.take(MAX_BLOBS).map(|hash| (job.fetchers.count(hash), drawn(&me, hash), *hash)).collect();
            rare.sort_unstable();
            let length = |hash: &BlobHash| job.todo.get(hash).copied().flatten().unwrap_or_default();
            rare.iter().map(|(.., hash)| *hash).take_while(|hash| chosen.add(*hash, length(hash))).for_each(drop);
            return chosen.blobs;
        }
        if is_shared && provider.source.has_all() {
            if job.ring.is_empty {
                return Vec::new();
            }
            // One chunk at a time: then others have it sooner.
            chosen.limit = 1;
        }
        // Where everybody begins elsewhere, they have something to give each other.
        let from =
            job.ring.at.unwrap_or_else(|| BlobHash::from(Root::from_bytes(*blake3::hash(&me.to_bytes()).as_bytes())));
        let after = (Bound::Excluded(from), Bound::Unbounded);
        let round = job.todo.range(after).chain(job.todo.range(..=from));
        // Whoever has said nothing is asked for what nobody else is good for.
        let others: Vec<&Provider> =
            providers.iter().filter(|other| other.source.has_said() && !other.is_doubtful).collect();
        let is_its = |hash: &BlobHash| match provider.source {
            source if source.has_all() => {
                let is_told = |hash| job.fetchers.with(hash).any(|other| job.tried.may_give(other, hash));
                !is_shared || *hash == root.into() || job.fetchers.turn(&me, hash).is_none() && !is_told(hash)
            }
            _ => !others.iter().any(|other| has_said_to_give(job, other, hash)),
        };
        for (hash, length) in round {
            if is_open(hash)
                && may_give(job, provider, hash)
                && is_its(hash)
                && !chosen.add(*hash, length.unwrap_or(USUAL_MANIFEST))
            {
                break;
            }
        }
        if provider.source.has_all() {
            match chosen.blobs.last() {
                Some((hash, _)) => job.ring.at = Some(*hash),
                None => job.ring.is_empty = is_shared,
            }
        }
        chosen.blobs
    }

    /// Whether somebody may still give blobs of it, though not now.
    fn is_put_off(&self, job: &Job) -> bool {
        let waits = |peer, state: &Peer| match self.is_direct(peer) {
            true => state.later > self.now,
            false => self.may_become_direct(peer),
        };
        let later = self.peers.iter().filter(|(peer, state)| !state.relation.is_stranger() && waits(peer, state));
        later.map(|(peer, _)| peer).any(|peer| job.todo.keys().any(|hash| job.tried.may_give(peer, hash)))
    }

    /// When a peer that has put this node off may be asked again for what is being fetched.
    pub(super) fn next_later(&self) -> Option<Duration> {
        let later = self.peers.values().map(|state| state.later).filter(|later| *later > self.now);
        later.min().filter(|_| !self.fetches.active.is_empty())
    }

    /// A peer has given as much as it may for now. Others are asked meanwhile. That it does so for ever is a failure.
    fn put_off(&mut self, root: Root, peer: PeerId, pause: Duration) {
        let later = self.now.saturating_add(pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
        if let Some(state) = self.peers.get_mut(&peer) {
            state.later = later;
        }
        if let Some(job) = self.fetches.jobs.get_mut(&root)
            && job.tried.note_put_off(peer, self.now).saturating_add(PATIENCE) <= self.now
        {
            job.tried.note_failure(peer);
        }
    }

    fn request(&mut self, root: Root, provider: &Provider, blobs: &[(BlobHash, u64)]) {
        let (id, now, peer) = (self.new_id(), self.now, provider.peer);
        let bytes = blobs.iter().map(|(_, length)| length).sum();
        let ahead = self.fetches.requests_to(&peer).1.saturating_add(bytes);
        let late_after = self.peers.get(&peer).map_or(Duration::ZERO, |state| state.pace.late_after(ahead));
        let Fetches { jobs, in_flight, requests, .. } = &mut self.fetches;
        let Some(job) = jobs.get_mut(&root) else { return };
        job.tried.note_asked(peer);
        job.fetchers.gets_on(now);
        let hashes: Vec<BlobHash> = blobs.iter().map(|(hash, _)| *hash).collect();
        in_flight.extend(hashes.iter().map(|hash| (*hash, id)));
        let request = Request {
            peer,
            root,
            asked: hashes.clone(),
            open: hashes.iter().map(|hash| (*hash, None)).collect(),
            answered: false,
            struck: false,
            bytes,
            of_whole: provider.source.has_all(),
            sent: now,
            ahead,
            due: now.saturating_add(late_after),
            late: false,
        };
        requests.insert(id, request);
        let request = BlobRequest::Get { federation: self.config.federation, hashes };
        self.push(Output::Blobs { id, peer, request });
    }

    /// When a request is late next.
    pub(super) fn next_late(&self) -> Option<Duration> {
        self.fetches
            .requests
            .values()
            .filter(|request| !request.answered && !request.late)
            .map(|request| request.due)
            .min()
    }

    /// Of each request that is late: has its blobs asked for elsewhere, if somebody has said to have them. Nobody is struck:
    /// the line may be slow.
    pub(super) fn judge_late(&mut self) {
        let is_due = |request: &Request| !request.answered && !request.late && request.due <= self.now;
        let due: Vec<_> = self.fetches.requests.iter().filter(|(_, request)| is_due(request)).collect();
        let due: Vec<_> = due.into_iter().map(|(id, request)| (*id, request.peer, request.root)).collect();
        for (id, peer, root) in due {
            let providers = self.providers(root);
            let others = providers.iter().filter(|other| other.peer != peer && other.source.has_said());
            let others: Vec<&Provider> = others.filter(|other| self.room_at(&other.peer, true) > 0).collect();
            let Some(request) = self.fetches.requests.get(&id) else { continue };
            let elsewhere = self.fetches.jobs.get(&root).is_some_and(|job| {
                request.open.keys().any(|hash| others.iter().any(|other| has_said_to_give(job, other, hash)))
            });
            if let Some(state) = self.peers.get_mut(&peer).filter(|_| elsewhere) {
                state.pace.failed();
            }
            if elsewhere {
                self.fetches.give_up_waiting(id);
                if let Some(job) = self.fetches.jobs.get_mut(&root) {
                    job.tried.note_slow(peer);
                }
            } else if let Some(request) = self.fetches.requests.get_mut(&id) {
                request.due = self.now.saturating_add(LOOKED_AT_EVERY);
            }
        }
    }

    pub(super) fn blob_response(&mut self, id: RequestId, response: Result<Vec<Blob>, RequestFailed>) {
        if self.notice_answered(id, response.as_ref().err()) || self.fetcher_answered(id) {
            return;
        }
        let Some(request) = self.fetches.requests.get_mut(&id).filter(|request| !request.answered) else { return };
        request.answered = true;
        let (peer, root, asked) = (request.peer, request.root, request.asked.clone());
        self.note_pace(id, response.as_ref().ok());
        let mut vain = false;
        let failed = match response {
            // An empty answer would be asked for again for ever.
            Ok(blobs) if blobs.is_empty() => {
                vain = true;
                None
            }
            Ok(blobs) if blobs.len() <= asked.len() => return self.blobs_came(id, &asked, blobs),
            Ok(_) => Some("it sent more blobs than it was asked for"),
            Err(RequestFailed::Later(pause)) => {
                self.fetches.release_all(id);
                return self.put_off(root, peer, pause);
            }
            Err(RequestFailed::Malformed) => Some("its answer to a request for blobs is malformed"),
            Err(RequestFailed::Failed) => {
                vain = true;
                None
            }
            Err(RequestFailed::Unsupported) => {
                self.found_stranger(peer, Relation::Elsewhere);
                None
            }
        };
        self.fetches.release_all(id);
        if let Some(job) = self.fetches.jobs.get_mut(&root) {
            job.tried.note_failure(peer);
        }
        if let Some(reason) = failed {
            self.strike(peer, Severity::LowTolerance, reason);
        } else if vain && self.has_promised(&root, &peer) {
            self.promised_in_vain(root, peer);
        }
    }

    /// What an answer says of how fast a peer is.
    fn note_pace(&mut self, id: RequestId, blobs: Option<&Vec<Blob>>) {
        let Some(request) = self.fetches.requests.get(&id) else { return };
        let root = request.root;
        let Some(state) = self.peers.get_mut(&request.peer) else { return };
        let took = self.now.saturating_sub(request.sent);
        let came: u64 = blobs.into_iter().flatten().flatten().map(|blob| blob.len() as u64).sum();
        if came == 0 {
            return state.pace.failed();
        }
        // What was asked for before it came in that time too.
        let before = request.ahead.saturating_sub(request.bytes);
        state.pace.answered(before.saturating_add(came), took, self.config.limits.requests_at_once);
        // It gets on, so what else it was asked for has time again.
        let (peer, pace) = (request.peer, state.pace);
        // What is shorter says more of the way there and back.
        let is_chunk = request.of_whole && came > USUAL_MANIFEST;
        let due = self.now.saturating_add(pace.late_after(self.fetches.requests_to(&peer).1));
        let waits = |request: &&mut Request| request.peer == peer && !request.answered;
        self.fetches.requests.values_mut().filter(waits).for_each(|request| request.due = request.due.max(due));
        if let Some(job) = self.fetches.jobs.get_mut(&root).filter(|_| is_chunk) {
            job.fetchers.answered_after(took);
        }
    }

    /// A peer has said that it holds a value, was asked for it, and this node has waited for nothing. It may be overloaded,
    /// or its line broken, so that counts little, and once in an attempt. Who has asked for it to be fetched counts more.
    fn promised_in_vain(&mut self, root: Root, peer: PeerId) {
        let Some(job) = self.fetches.jobs.get_mut(&root) else { return };
        if !job.tried.blame(peer) {
            return;
        }
        let (severity, reason) = if job.kept.contains_key(&peer) {
            (Severity::MidTolerance, "it doesn't give what it asked to be kept")
        } else {
            (Severity::HighTolerance, "it doesn't give what it says it holds")
        };
        self.strike(peer, severity, reason);
    }

    fn blobs_came(&mut self, id: RequestId, asked: &[BlobHash], blobs: Vec<Blob>) {
        let Some(&Request { root, peer, .. }) = self.fetches.requests.get(&id) else { return };
        let unanswered = asked.get(blobs.len()..).unwrap_or_default();
        unanswered.iter().for_each(|hash| self.fetches.release(id, hash));
        let lacking = asked.iter().zip(&blobs).filter(|(_, blob)| blob.is_none()).map(|(hash, _)| *hash);
        let lacking: Vec<BlobHash> = lacking.collect();
        let has_told = |job: &Job| lacking.iter().any(|hash| job.fetchers.has_told(&peer, hash));
        let has_told = self.fetches.jobs.get(&root).is_some_and(has_told);
        let broken = !lacking.is_empty() && (has_told || self.has_promised(&root, &peer));
        for (&hash, blob) in asked.iter().zip(blobs) {
            match blob {
                Some(bytes) => self.blob_came(id, hash, bytes),
                None => {
                    self.fetches.release(id, &hash);
                    if let Some(job) = self.fetches.jobs.get_mut(&root) {
                        job.tried.note_lack(peer, hash);
                        job.fetchers.lacks(&peer, &hash);
                        job.ring.changed();
                    }
                }
            }
        }
        let kept = self.fetches.jobs.get(&root).is_some_and(|job| job.kept.contains_key(&peer));
        if broken && kept {
            self.promised_in_vain(root, peer);
        } else if broken {
            // An honest peer may have evicted it meanwhile.
            self.strike(peer, Severity::HighTolerance, "it doesn't have what it says it holds");
        }
    }

    /// Whether a peer has said that it holds this value, by a notice or by its own entry, which still stands.
    fn has_promised(&self, root: &Root, peer: &PeerId) -> bool {
        let Some(job) = self.fetches.jobs.get(root) else { return false };
        let set = self.board.set();
        let stands = |entry: &Arc<SignedEntry>| set.holds(&entry.hash());
        let announced = job.entries().any(|entry| entry.key.author() == *peer && stands(entry));
        announced || job.holders.contains(peer) && job.entries().any(stands)
    }

    /// The cache judges even a blob of the wrong length: if its hash is right, the author is to blame, whose manifest
    /// lies about the length, and not the peer.
    fn blob_came(&mut self, id: RequestId, hash: BlobHash, bytes: Bytes) {
        let Some(&Request { root, peer, .. }) = self.fetches.requests.get(&id) else { return };
        if let Some(job) = self.fetches.jobs.get_mut(&root) {
            job.place.bytes += bytes.len() as u64;
            job.tried.note_given(&peer);
            job.fetchers.gets_on(self.now);
        }
        if !self.fetches.is_first_with(id, &hash) {
            return self.fetches.release(id, &hash);
        }
        let Some(root) = self.fetches.needed_for(&hash, root) else { return self.fetches.release(id, &hash) };
        if let Some(request) = self.fetches.requests.get_mut(&id) {
            request.open.insert(hash, Some(root));
        }
        self.push(Output::Store { hash, root, bytes });
    }

    pub(super) fn stored(&mut self, hash: BlobHash, result: StoreResult) {
        let Some(&id) = self.fetches.in_flight.get(&hash) else { return };
        let open = self.fetches.requests.get(&id).and_then(|request| request.open.get(&hash));
        let Some(stored_for) = open.copied().flatten() else { return };
        match result {
            StoreResult::WrongHash => self.wrong_blob(id, &hash),
            StoreResult::Stored => {
                self.fetches.release(id, &hash);
                for root in self.needing(&hash) {
                    let Some(job) = self.fetches.jobs.get_mut(&root) else { continue };
                    job.todo.remove(&hash);
                    if hash != root.into() {
                        job.fetchers.came(hash);
                    }
                    if job.todo.is_empty() {
                        self.fetches.set_stage(root, Stage::Looking);
                        self.look_up(root);
                    }
                }
            }
            // Other values with this blob may be fine.
            StoreResult::NotAsSigned => {
                self.fetches.release(id, &hash);
                self.none_as_signed(stored_for);
            }
            StoreResult::Failed(error) => {
                self.fetches.release(id, &hash);
                for root in self.needing(&hash) {
                    self.fail(root, FetchError::Cache(error.clone()));
                }
            }
        }
    }

    fn needing(&self, hash: &BlobHash) -> Vec<Root> {
        let needs = |job: &Job| job.stage == Stage::Fetching && job.todo.contains_key(hash);
        let active = self.fetches.active.iter().copied();
        active.filter(|root| self.fetches.jobs.get(root).is_some_and(needs)).collect()
    }

    /// The peer is to blame, so ask another one. If there is no other, ask the same one again until it is dropped.
    fn wrong_blob(&mut self, id: RequestId, hash: &BlobHash) {
        let Some(request) = self.fetches.requests.get_mut(&id) else { return };
        let (peer, root) = (request.peer, request.root);
        let first = !std::mem::replace(&mut request.struck, true);
        self.fetches.release(id, hash);
        if let Some(job) = self.fetches.jobs.get_mut(&root) {
            job.tried.note_wrong(peer);
        }
        if first {
            self.strike(
                peer,
                Severity::LowTolerance,
                &format!("it sent other bytes than those of blob {}", hash.short()),
            );
        }
    }
}

/// Whether a provider may be asked for a blob.
fn may_give(job: &Job, provider: &Provider, hash: &BlobHash) -> bool {
    job.tried.may_give(&provider.peer, hash)
}

/// Whether a provider that has said something has said so of this blob, and may be asked for it.
fn has_said_to_give(job: &Job, provider: &Provider, hash: &BlobHash) -> bool {
    let has = provider.source != Source::Fetcher || job.fetchers.has_told(&provider.peer, hash);
    has && may_give(job, provider, hash)
}

/// Blobs to ask for in one request.
struct Chosen {
    blobs: Vec<(BlobHash, u64)>,
    bytes: u64,
    limit: u64,
}

impl Chosen {
    /// Takes one more, if there is room. The first always has.
    fn add(&mut self, hash: BlobHash, length: u64) -> bool {
        let is_first = self.blobs.is_empty();
        let fits = is_first || self.bytes.saturating_add(length) <= self.limit && self.blobs.len() < MAX_BLOBS;
        if fits {
            self.bytes = self.bytes.saturating_add(length);
            self.blobs.push((hash, length));
        }
        fits
    }
}
