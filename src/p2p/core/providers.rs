//! Which peers to ask for blobs, and what to do with the answers.

use super::{
    Core, FetchError, Output, RequestFailed, RequestId, StoreResult,
    fetches::{Fetches, Request},
    job::{Job, Stage},
    peers::{Peer, Relation},
    strikes::Severity,
};
use crate::{
    p2p::message::{Blob, BlobRequest, MAX_BLOBS},
    weights::{BlobHash, MAX_MANIFEST_BYTES, Root, SignedEntry},
};
use bytes::Bytes;
use libp2p_identity::PeerId;
use rand_chacha::rand_core::Rng;
use std::{sync::Arc, time::Duration};

/// Bounds of how long a peer may put this node off at a time.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long it may do so without giving anything.
const PATIENCE: Duration = Duration::from_secs(600);

impl Core {
    pub(super) fn has_anyone_to_ask(&self) -> bool {
        self.peers.iter().any(|(id, peer)| !peer.relation.is_stranger() && self.is_direct(id))
    }

    /// Sends those requests of a job that may be sent now. Returns true if the job has ended because nobody is left to
    /// ask.
    pub(super) fn ask_providers(&mut self, root: Root) -> bool {
        loop {
            let providers = self.providers(root);
            let Some(job) = self.fetches.jobs.get(&root).filter(|job| job.stage == Stage::Fetching) else {
                return false;
            };
            if providers.is_empty() {
                if job.todo.keys().any(|hash| self.fetches.in_flight.contains_key(hash)) || self.is_put_off(job) {
                    return false;
                }
                self.unreachable(root);
                return true;
            }
            let limit = self.config.limits.requests_at_once.max(1);
            let has_room = |peer: &PeerId| self.fetches.requests_to(peer) < limit;
            let Some(peer) = providers.into_iter().find(has_room) else { return false };
            self.request(root, peer);
        }
    }

    /// The peers to ask for blobs of this value, best first: its authors, peers that say they hold it, other members,
    /// and peers that haven't said yet what they are. At most `providers_at_once`, each with something to ask for.
    fn providers(&mut self, root: Root) -> Vec<PeerId> {
        let Fetches { jobs, in_flight, .. } = &mut self.fetches;
        let Some(job) = jobs.get_mut(&root) else { return Vec::new() };
        let mut open = job.todo.keys().filter(|hash| !in_flight.contains_key(*hash));
        // Nearly every peer may give it; and those in flight are passed over once, not for each peer.
        let Some(first) = open.next() else { return Vec::new() };
        let mut found = Vec::new();
        let now = self.now;
        let may_be_asked = |state: &Peer| !state.relation.is_stranger() && state.later <= now;
        let direct = |peer: &PeerId| !self.relayed.contains_key(peer);
        for (peer, state) in self.peers.iter().filter(|(peer, state)| may_be_asked(state) && direct(peer)) {
            if !job.tried.may_give(peer, first) && !open.clone().any(|hash| job.tried.may_give(peer, hash)) {
                continue;
            }
            let class = if job.entries().any(|entry| entry.key.author() == *peer) {
                0
            } else if job.holders.contains(peer) {
                1
            } else if state.relation == Relation::Member {
                2
            } else {
                3
            };
            let rank = *job.tried.ranks.entry(*peer).or_insert_with(|| self.random.next_u64());
            let against = self.strikes.against(peer, self.now);
            found.push((job.tried.demerits(peer), against, class, rank, *peer));
        }
        found.sort_unstable();
        found.truncate(self.config.limits.providers_at_once.max(1));
        found.into_iter().map(|(.., peer)| peer).collect()
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

    fn request(&mut self, root: Root, peer: PeerId) {
        let id = self.new_id();
        let Fetches { jobs, in_flight, requests, .. } = &mut self.fetches;
        let Some(job) = jobs.get_mut(&root) else { return };
        let mut asked = Vec::new();
        let mut bytes = 0;
        for (hash, length) in &job.todo {
            if in_flight.contains_key(hash) || !job.tried.may_give(&peer, hash) {
                continue;
            }
            bytes += length.unwrap_or(MAX_MANIFEST_BYTES as u64);
            if asked.len() == MAX_BLOBS || (!asked.is_empty() && bytes > self.config.limits.request_bytes.as_u64()) {
                break;
            }
            asked.push(*hash);
        }
        job.tried.note_asked(peer);
        in_flight.extend(asked.iter().map(|hash| (*hash, id)));
        let open = asked.iter().map(|hash| (*hash, None)).collect();
        let request = Request { peer, root, asked: asked.clone(), open, answered: false, struck: false };
        requests.insert(id, request);
        let request = BlobRequest::Get { federation: self.config.federation, hashes: asked };
        self.push(Output::Blobs { id, peer, request });
    }

    pub(super) fn blob_response(&mut self, id: RequestId, response: Result<Vec<Blob>, RequestFailed>) {
        if self.notice_answered(id, response.as_ref().err()) {
            return;
        }
        let Some(request) = self.fetches.requests.get_mut(&id).filter(|request| !request.answered) else { return };
        request.answered = true;
        let (peer, root, asked) = (request.peer, request.root, request.asked.clone());
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
        let broken = blobs.iter().any(Option::is_none) && self.has_promised(&root, &peer);
        for (&hash, blob) in asked.iter().zip(blobs) {
            match blob {
                Some(bytes) => self.blob_came(id, hash, bytes),
                None => {
                    self.fetches.release(id, &hash);
                    if let Some(job) = self.fetches.jobs.get_mut(&root) {
                        job.tried.note_lack(peer, hash);
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
        let Some(request) = self.fetches.requests.get(&id) else { return };
        if let Some(job) = self.fetches.jobs.get_mut(&request.root) {
            job.place.bytes += bytes.len() as u64;
            job.tried.note_given(&request.peer);
        }
        let Some(root) = self.fetches.needed_for(&hash, request.root) else { return self.fetches.release(id, &hash) };
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
