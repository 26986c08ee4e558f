//! Entries that arrive without being asked for: by gossip, from this node itself, or from a bucket.

use super::{Core, Output, Taken, Token, Verdict, strikes::Severity};
use crate::{
    entries::{Conflict, Refused},
    weights::{EntryError, EntryHash, MAX_ENTRY_BYTES, SignedEntry},
};
use libp2p_identity::PeerId;
use std::sync::Arc;

impl Core {
    pub(super) fn gossip(&mut self, token: Token, from: PeerId, data: &[u8]) {
        let verdict = match self.judge(from, data) {
            Ok(verdict) => verdict,
            Err(error) => {
                self.strike(from, Severity::LowTolerance, &format!("it forwarded what is no entry: {error}"));
                Verdict::Reject
            }
        };
        self.push(Output::Verdict { token, verdict });
    }

    fn judge(&mut self, from: PeerId, data: &[u8]) -> Result<Verdict, EntryError> {
        let is_nobody = self.is_banned(&from) || !self.admits(&from);
        if is_nobody || self.is_known(data) || self.is_out_of_view(data) || self.is_passed_over(data) {
            return Ok(Verdict::Ignore);
        }
        match SignedEntry::decode(data) {
            Ok(entry) => {
                let author = entry.key.author();
                let had_files = self.saved.contains(&author);
                let passed_on = self.passes_on(&entry.key);
                if !self.take_in(Arc::new(entry)) {
                    return Ok(Verdict::Ignore);
                }
                if had_files {
                    self.push(Output::Retain);
                }
                Ok(if passed_on { Verdict::Accept } else { Verdict::Ignore })
            }
            Err(error) if error.is_newer() => {
                self.forwards_newer(from);
                Ok(Verdict::Ignore)
            }
            Err(error) => Err(error),
        }
    }

    /// A message of a newer version: it may be anything, so a peer may only forward so many.
    fn forwards_newer(&mut self, from: PeerId) {
        if self.newer.take(from, true, 1.0, self.now) == Taken::Over {
            self.strike(from, Severity::HighTolerance, "it forwards messages of a newer version without end");
        }
    }

    /// Whether these bytes are an entry that is already held, so that its signature needn't be checked again.
    pub(super) fn is_known(&self, bytes: &[u8]) -> bool {
        bytes.len() <= MAX_ENTRY_BYTES && self.board.set().holds(&EntryHash::of(bytes))
    }

    /// Whether these bytes claim an author who may not take part, so that their signature needn't be checked at all.
    pub(super) fn is_of_stranger(&self, bytes: &[u8]) -> bool {
        SignedEntry::claimed_author(bytes).is_some_and(|author| !self.admits(&author))
    }

    /// Whether these bytes aren't even verified: their author may not take part, or may be made up, and of such there have
    /// been too many.
    fn is_passed_over(&mut self, bytes: &[u8]) -> bool {
        // What can't be read is for the decoder to say.
        let Some(author) = SignedEntry::claimed_author(bytes) else { return false };
        if !self.admits(&author) {
            return true;
        }
        let is_shown = author == self.config.me || self.peers.contains_key(&author);
        if is_shown || !self.config.membership.is_open() || self.board.set().has_folded(author) {
            return false;
        }
        let is_over = !self.absent_entries.has(self.now);
        if !is_over {
            self.absent_entries.take(self.now);
        }
        is_over
    }

    /// Whether an entry is saved though nothing of its value may be here: where anybody may take part, those of made-up
    /// authors would be files without end, for nothing.
    fn is_saved_at_once(&self, entry: &SignedEntry) -> bool {
        let author = entry.key.author();
        let is_here = entry.root().is_some_and(|root| self.holders.is_held(&author, &root));
        is_here || !self.config.membership.is_open() || self.board.set().has_folded(author)
    }

    /// Takes in a peer's entry, if its author may take part. Returns true if that changed the set, also by excluding its
    /// author. For what it replaces [`Output::Retain`] is left to the caller.
    ///
    /// An entry that isn't [saved at once](Self::is_saved_at_once) is saved with the first part of its value. Until then a
    /// restart forgets it, and others bring it again.
    pub(super) fn take_in(&mut self, entry: Arc<SignedEntry>) -> bool {
        let author = entry.key.author();
        if !self.admits(&author) {
            return false;
        }
        if author == self.config.me && entry.federation == self.config.federation {
            self.push(Output::OwnSequence(entry.sequence));
        }
        match self.board.insert_pushing_out(entry.clone()) {
            Ok(Some(pushed_out)) => {
                if self.is_saved_at_once(&entry) {
                    self.save(entry);
                }
                for stranger in pushed_out {
                    // What was to be fetched of it isn't any more.
                    self.refresh_prefetch(stranger);
                    if self.saved.remove(&stranger) {
                        self.push(Output::Retain);
                    }
                }
            }
            Err(Refused::Conflict(conflict)) => self.push(Output::SaveProof(*conflict)),
            Ok(None) | Err(_) => return false,
        }
        self.make_room_in_view();
        self.refresh_prefetch(author);
        true
    }

    /// Keeps an entry for the next start, if it still stands.
    pub(super) fn save(&mut self, entry: Arc<SignedEntry>) {
        let stands = self.board.set().holds(&entry.hash());
        if stands {
            self.saved.insert(entry.key.author());
            self.push(Output::Save(entry));
        }
    }

    /// Takes in an entry that somebody else passes on. It pushes nobody out: of two nodes with different strangers each
    /// would give the other its own for ever.
    pub(super) fn take_in_if_room(&mut self, entry: Arc<SignedEntry>) -> bool {
        let has_room = self.board.set().has_room_for(&entry);
        has_room && self.take_in(entry)
    }

    /// Takes in a peer's proof, as [`take_in_if_room`](Self::take_in_if_room) does an entry.
    pub(super) fn take_in_proof(&mut self, proof: Conflict) -> bool {
        let author = proof.author();
        let has_room = self.board.set().has_room_for_proof(author);
        if !has_room || !self.admits(&author) || self.board.insert_proof(proof.clone()) != Ok(true) {
            return false;
        }
        self.push(Output::SaveProof(proof));
        self.refresh_prefetch(author);
        true
    }

    pub(super) fn published(&mut self, entry: &SignedEntry) {
        self.push(Output::Gossip(entry.bytes().to_vec().into()));
        // It may have replaced another of this node's own.
        self.push(Output::Retain);
        self.forget_old_holders();
        let set = self.board.set();
        self.saved.retain(|&author| set.is_excluded(author) || set.of_author(author).next().is_some());
        drop(set);
        self.peers.values_mut().for_each(|peer| peer.knows_own = false);
    }

    /// Entries from a bucket. Connected peers learn of them by sync, as they do of what another peer has told us.
    pub(super) fn learned(&mut self, entries: Vec<Arc<SignedEntry>>) {
        let mut changed = false;
        for entry in entries {
            changed |= self.take_in_if_room(entry);
        }
        if changed {
            self.set_changed(None);
        }
    }

    pub(super) fn board_changed(&mut self) {
        self.refresh_all_prefetches();
        self.set_changed(None);
    }
}
