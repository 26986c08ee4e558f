//! Bringing entry sets into agreement. A session with a peer compares digests, then fetches the pages of the buckets
//! that differ. It only learns; the asked peer starts a session of its own to learn what the asker has.

use super::{
    Core, Output, RequestFailed, RequestId, Token,
    peers::{Peer, Relation},
    session::{Asked, Session, Settled, Stage},
    strikes::Severity,
};
use crate::{
    entries::{BucketSet, Conflict, Fingerprints, Position, ProofError, ShortHash, Standing},
    p2p::message::{Item, MAX_ITEMS, MAX_NAMED, SyncRequest, SyncResponse},
    weights::{FederationId, SignedEntry, UnverifiedEntry},
};
use libp2p_identity::PeerId;
use rand_chacha::rand_core::Rng;
use std::{sync::Arc, time::Duration};

/// Most pages in a session. The next session continues from there.
const MAX_PAGES: usize = 4096;
/// How soon to ask a peer again whose first sync failed: we still don't know what it knows.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// Members told in one round that this node has learned something by sync, or published something that gossip didn't
/// carry.
const TOLD_AT_ONCE: usize = 16;
/// Time between two such rounds. Each makes up to [`TOLD_AT_ONCE`] peers ask back. In a large federation, where
/// something is always on its way, rounds without a pause would never stop.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// When to sync without being prompted.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    next: Duration,
    /// Whether members need to be told that the set has changed.
    tell: bool,
    /// The peer that the change came from, if it was a single one: it needn't be told.
    source: Option<PeerId>,
    /// Not before.
    tell_after: Duration,
}

/// Why a session ended early.
enum Abort {
    /// Not known to be anybody's fault.
    Failed,
    /// The peer's fault.
    Wrong(String),
}

impl Core {
    /// The first sync is at a random moment; otherwise nodes that start together would all sync together.
    pub(super) fn start_syncs(&mut self) {
        let part = (self.random.next_u64() >> 32) as f64 / f64::from(u32::MAX);
        self.syncs.next = self.now.saturating_add(self.config.sync_every.mul_f64(part));
    }

    /// Whether we are waiting for pages of a peer's entries.
    pub fn is_learning(&self) -> bool {
        let paging = |session: &Session| matches!(session.stage, Stage::Paging { .. });
        self.peers.values().any(|peer| peer.session.as_ref().is_some_and(paging))
    }

    pub(super) fn next_sync_time(&self) -> Duration {
        if self.syncs.tell { self.syncs.next.min(self.syncs.tell_after) } else { self.syncs.next }
    }

    pub(super) fn sync_in_time(&mut self) {
        if self.syncs.tell && self.now >= self.syncs.tell_after {
            let source = self.syncs.source.take();
            self.syncs.tell = false;
            self.syncs.tell_after = self.now.saturating_add(TELL_EVERY);
            let members = self.members().filter(|peer| Some(*peer) != source).collect();
            self.draw(members, TOLD_AT_ONCE).into_iter().for_each(|peer| self.compare(peer));
        }
        if self.now >= self.syncs.next {
            self.syncs.next = self.now.saturating_add(self.config.sync_every);
            // A peer that hasn't said yet what it is or what it knows was asked, but the answer was lost.
            let unheard = |(_, state): &(&PeerId, &Peer)| !state.synced && !state.relation.is_stranger();
            let mut peers: Vec<_> = self.peers.iter().filter(unheard).map(|(peer, _)| *peer).collect();
            let members = self.members().filter(|peer| !peers.contains(peer)).collect();
            peers.extend(self.draw(members, 1));
            peers.retain(|peer| self.peers.get(peer).is_some_and(|state| state.session.is_none()));
            peers.into_iter().for_each(|peer| self.compare(peer));
            self.tell_held_again();
        }
    }

    /// A sync with this peer has changed the set: tell the cache now, and members soon.
    pub(super) fn set_changed(&mut self, source: Option<PeerId>) {
        self.push(Output::Retain);
        self.syncs.source = source.filter(|_| !self.syncs.tell || self.syncs.source == source);
        // Who follows others than this node doesn't ask.
        self.syncs.tell = !self.is_narrow();
    }

    pub(super) fn gossip_failed(&mut self) {
        self.syncs.source = None;
        self.syncs.tell = true;
    }

    /// Starts a session, or makes the running one start again when it ends.
    pub(super) fn compare(&mut self, peer: PeerId) {
        let (federation, digest, id) = (self.config.federation, self.board.digest(), self.new_id());
        let Some(state) = self.peers.get_mut(&peer).filter(|state| !state.relation.is_stranger()) else {
            return;
        };
        if let Some(session) = &mut state.session {
            session.again = true;
            return;
        }
        let stage = Stage::Comparing { ours: digest };
        state.session = Some(Session::new(id, stage));
        self.push(Output::Sync { id, peer, request: SyncRequest::Compare { federation, digest } });
    }

    pub(super) fn sync_request(&mut self, token: Token, peer: PeerId, request: SyncRequest) {
        let asked = match &request {
            SyncRequest::Compare { federation, .. }
            | SyncRequest::Items { federation, .. }
            | SyncRequest::Others { federation, .. }
            | SyncRequest::Proof { federation, .. } => *federation,
        };
        if !self.serves(asked, &peer) {
            return self.push(Output::SyncReply { token, response: SyncResponse::NotMember });
        }
        self.found_member(peer);
        let response = match request {
            SyncRequest::Compare { digest: theirs, .. } => {
                let fingerprints = self.board.set().fingerprints();
                let ours = fingerprints.digest();
                if theirs == ours {
                    SyncResponse::Same
                } else {
                    // Where everybody follows others, sets differ for good.
                    if !self.is_narrow() {
                        self.learn_from(peer, Settled { theirs, ours });
                    }
                    SyncResponse::Differs(fingerprints)
                }
            }
            SyncRequest::Items { buckets, after, .. } => {
                let (items, next) = self.board.set().items_after(&buckets, after.as_ref(), MAX_ITEMS);
                SyncResponse::Items { items: items.iter().map(Item::from).collect(), next }
            }
            SyncRequest::Others { buckets, after, named, .. } => {
                let named = named.into_iter().collect();
                let (items, next) = self.board.set().others_after(&buckets, after.as_ref(), &named, MAX_ITEMS);
                SyncResponse::Items { items: items.iter().map(Item::from).collect(), next }
            }
            SyncRequest::Proof { entries, .. } => return self.proof_told(token, peer, entries),
        };
        self.push(Output::SyncReply { token, response });
    }

    fn serves(&self, federation: FederationId, peer: &PeerId) -> bool {
        federation == self.config.federation && !self.is_banned(peer) && self.admits(peer)
    }

    /// A peer's digest shows that it knows something different.
    fn learn_from(&mut self, peer: PeerId, differing: Settled) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if let Some(session) = &mut state.session {
            session.told = Some(differing.theirs);
        } else if state.settled != Some(differing) {
            self.compare(peer);
        }
    }

    pub(super) fn sync_response(&mut self, id: RequestId, response: Result<SyncResponse, RequestFailed>) {
        if self.own_proof_answered(id) {
            return;
        }
        let running = |session: &Session| session.id == id;
        let found = self.peers.iter_mut().find(|(_, state)| state.session.as_ref().is_some_and(running));
        let Some((&peer, session)) = found.and_then(|(peer, state)| Some((peer, state.session.as_mut()?))) else {
            return;
        };
        let wrong = |what: &str| Err(Abort::Wrong(what.to_owned()));
        let ended = match (response, &session.stage) {
            (Err(RequestFailed::Unsupported), _) => return self.left_by(peer, Relation::NoNode),
            (Ok(SyncResponse::NotMember), _) => return self.left_by(peer, Relation::Elsewhere),
            (Err(RequestFailed::Failed | RequestFailed::Later(_)), _) => Err(Abort::Failed),
            (Err(RequestFailed::Malformed), _) => wrong("its answer to a sync is malformed"),
            (Ok(SyncResponse::Same), &Stage::Comparing { ours }) => {
                session.theirs = Some(ours);
                self.found_member(peer);
                self.note_knows_own(peer, ours == self.board.digest());
                Ok(true)
            }
            (Ok(SyncResponse::Differs(theirs)), Stage::Comparing { .. }) => {
                session.theirs = Some(theirs.digest());
                self.found_member(peer);
                let knows_own = self.board.set().fingerprints().agree_on(&theirs, &self.config.me);
                self.note_knows_own(peer, knows_own);
                Ok(self.begin_paging(peer, &theirs))
            }
            (Ok(SyncResponse::Items { items, next }), Stage::Paging { .. }) => self.page(peer, &items, next),
            (Ok(_), _) => wrong("its answer to a sync is to another question"),
        };
        match ended {
            Ok(false) => {}
            Ok(true) => self.end_session(peer, true),
            Err(Abort::Failed) => self.end_session(peer, false),
            Err(Abort::Wrong(reason)) => {
                self.end_session(peer, false);
                self.strike(peer, Severity::LowTolerance, &reason);
            }
        }
    }

    /// It isn't a member after all; what it told us earlier still counts.
    fn left_by(&mut self, peer: PeerId, is: Relation) {
        let session = self.peers.get(&peer).and_then(|state| state.session.as_ref());
        if session.is_some_and(|session| session.changed) {
            self.set_changed(None);
        }
        self.found_stranger(peer, is);
    }

    fn note_knows_own(&mut self, peer: PeerId, knows: bool) {
        if let Some(state) = self.peers.get_mut(&peer) {
            state.knows_own = knows;
        }
    }

    /// Returns true if there is nothing to learn.
    fn begin_paging(&mut self, peer: PeerId, theirs: &Fingerprints) -> bool {
        let ours = self.board.set().fingerprints();
        let mut buckets = self.in_view(peer, ours.differing_in(theirs));
        let Some(state) = self.peers.get_mut(&peer) else { return true };
        if let Some(barren) = &state.barren {
            buckets = barren.not_in(buckets, theirs, &ours);
        }
        if buckets.is_empty() {
            return true;
        }
        if let Some(session) = &mut state.session {
            session.asked = Some(Asked { buckets, theirs: theirs.clone(), ours });
        }
        self.ask_buckets(peer, buckets);
        false
    }

    /// Asks for the first of these buckets, as many as what this node has in them can be named in one request.
    fn ask_buckets(&mut self, peer: PeerId, mut later: BucketSet) {
        let (mut buckets, mut names) = (BucketSet::default(), 0);
        let set = self.board.set();
        for bucket in later.iter() {
            names += set.count_in(bucket);
            if names > MAX_NAMED && !buckets.is_empty() {
                break;
            }
            buckets.insert(bucket);
        }
        drop(set);
        buckets.iter().for_each(|bucket| later.remove(bucket));
        self.ask_page(peer, buckets, None, later);
    }

    /// What this node has in these buckets after this position. What is too much isn't named, and comes again.
    fn named(&self, buckets: &BucketSet, after: Option<&Position>) -> Vec<ShortHash> {
        let (known, _) = self.board.set().items_after(buckets, after, MAX_NAMED);
        known.iter().map(Standing::short_hash).collect()
    }

    fn ask_page(&mut self, peer: PeerId, buckets: BucketSet, after: Option<Position>, later: BucketSet) {
        let (federation, id) = (self.config.federation, self.new_id());
        let named = self.named(&buckets, after.as_ref());
        let Some(session) = self.peers.get_mut(&peer).and_then(|state| state.session.as_mut()) else { return };
        session.id = id;
        session.pages += 1;
        session.stage = Stage::Paging { buckets, after: after.clone(), later };
        let request = if named.is_empty() {
            SyncRequest::Items { federation, buckets, after }
        } else {
            SyncRequest::Others { federation, buckets, after, named }
        };
        self.push(Output::Sync { id, peer, request });
    }

    /// Returns true if it was the last page.
    fn page(&mut self, peer: PeerId, items: &[Item], next: Option<Position>) -> Result<bool, Abort> {
        let session = self.peers.get(&peer).and_then(|state| state.session.as_ref());
        let Some(&Session { stage: Stage::Paging { buckets, ref after, later }, pages, .. }) = session else {
            return Err(Abort::Failed);
        };
        let advances = next.as_ref().is_none_or(|next| !items.is_empty() && after.as_ref() < Some(next));
        if !advances || items.len() > MAX_ITEMS {
            return Err(Abort::Wrong("its pages of entries don't come to an end".to_owned()));
        }
        for item in items {
            let changed = self.take_in_item(item);
            if let (Ok(true), Some(state)) = (&changed, self.peers.get_mut(&peer)) {
                state.session.iter_mut().for_each(|session| session.changed = true);
            }
            changed.map_err(|error| Abort::Wrong(format!("it sent what is no entry: {error}")))?;
        }
        match next {
            Some(next) if pages < MAX_PAGES => {
                self.ask_page(peer, buckets, Some(next), later);
                Ok(false)
            }
            None if later.is_empty() => Ok(true),
            None if pages < MAX_PAGES => {
                self.ask_buckets(peer, later);
                Ok(false)
            }
            _ => {
                // What the other pages have is not known.
                if let Some(session) = self.peers.get_mut(&peer).and_then(|state| state.session.as_mut()) {
                    session.asked = None;
                }
                Ok(true)
            }
        }
    }

    /// Returns true if it changed the set. Errors if the peer is to blame; an entry written by a newer version isn't an
    /// error. What there is no room for isn't verified: checking signatures takes most of the time of a page.
    pub(super) fn take_in_item(&mut self, item: &Item) -> Result<bool, ProofError> {
        let taken_in = match item {
            Item::Entry(bytes) if self.is_known(bytes) || self.is_of_stranger(bytes) => Ok(false),
            Item::Entry(bytes) if self.is_out_of_view(bytes) => Ok(false),
            Item::Proof([one, _]) if self.is_of_stranger(one) => Ok(false),
            Item::Proof([one, _]) if !self.has_room_for_proof(one) => Ok(false),
            Item::Entry(bytes) => match UnverifiedEntry::decode(bytes) {
                Ok(entry) if !self.board.set().has_room_for(entry.entry()) => Ok(false),
                Ok(entry) => entry.verify().map(|entry| self.take_in_if_room(Arc::new(entry))).map_err(Into::into),
                Err(error) => Err(error.into()),
            },
            Item::Proof([one, other]) => Conflict::decode([one, other]).map(|proof| self.take_in_proof(proof)),
        };
        match taken_in {
            Err(ProofError::Entry(error)) if error.is_newer() => Ok(false),
            result => result,
        }
    }

    /// Whether there is room for a proof of which this is one entry.
    fn has_room_for_proof(&self, one: &[u8]) -> bool {
        // What can't be read is for the decoder to say.
        SignedEntry::claimed_author(one).is_none_or(|author| self.board.set().has_room_for_proof(author))
    }

    fn end_session(&mut self, peer: PeerId, done: bool) {
        let Some(session) = self.peers.get_mut(&peer).and_then(|state| state.session.take()) else { return };
        if session.changed {
            self.set_changed(Some(peer));
        }
        // A peer that doesn't answer is asked again when its turn comes, or soon if nothing is known of it yet.
        let ours = self.board.digest();
        let soon = self.now.saturating_add(ASK_AGAIN);
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !done {
            if !state.synced {
                self.syncs.next = self.syncs.next.min(soon);
            }
            return;
        }
        state.synced = true;
        if let Some(asked) = session.asked {
            let ours = self.board.set().fingerprints();
            state.barren.get_or_insert_default().note(&asked, &ours);
        }
        if !session.changed {
            state.settled = session.theirs.map(|theirs| Settled { theirs, ours });
        }
        let unknown = |theirs| Some(theirs) != session.theirs && theirs != ours;
        let told = session.told.filter(|&theirs| unknown(theirs) && state.settled != Some(Settled { theirs, ours }));
        if session.again || told.is_some() {
            self.compare(peer);
        }
    }
}
