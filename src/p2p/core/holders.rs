//! Which peers hold which newest updates: what this node tells authors, and what others tell it about its own.

use super::{Core, Output, RequestFailed, RequestId};
use crate::{
    p2p::message::{BlobRequest, MAX_BLOBS},
    weights::{Root, SignedEntry},
};
use libp2p_identity::PeerId;
use std::collections::{BTreeMap, BTreeSet};

/// Most peers that are remembered to hold one value.
const MAX_HOLDERS: usize = 4096;

/// Which peers hold which values.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// The newest update of each author that this node holds whole.
    held: BTreeMap<PeerId, Held>,
    /// Notices in flight, and to which author.
    notices: BTreeMap<RequestId, PeerId>,
    /// The peers that hold this node's own current values.
    own: BTreeMap<Root, BTreeSet<PeerId>>,
    /// The value of this node's own that each connected peer last said it holds, whether it is current here or not: a
    /// node restored from an old copy of its home is told about updates that it has yet to learn of, or to publish
    /// again, and it is told only once.
    told: BTreeMap<PeerId, Root>,
}

#[derive(Debug)]
struct Held {
    root: Root,
    /// Whether its author was told, for as long as the author is connected: after a restart it has forgotten.
    told: bool,
}

impl Holders {
    pub(super) fn is_held(&self, author: &PeerId, root: &Root) -> bool {
        self.held.get(author).is_some_and(|held| held.root == *root)
    }

    /// Whether this node holds all of a value that is some author's newest update.
    pub(super) fn holds_whole(&self, root: &Root) -> bool {
        self.held.values().any(|held| held.root == *root)
    }

    fn holds(&self, peer: &PeerId, root: &Root) -> bool {
        self.told.get(peer) == Some(root) || self.own.get(root).is_some_and(|holders| holders.contains(peer))
    }

    pub(super) fn disconnected(&mut self, peer: PeerId) {
        self.told.remove(&peer);
        self.notices.retain(|_, author| *author != peer);
        self.forgets(&peer);
    }

    /// This author has forgotten what it was told.
    pub(super) fn forgets(&mut self, author: &PeerId) {
        if let Some(held) = self.held.get_mut(author) {
            held.told = false;
        }
    }
}

impl Core {
    /// The peers that say they hold this value. Known only for values that this node has put and that are still
    /// current.
    pub fn holders(&self, root: &Root) -> impl Iterator<Item = PeerId> {
        self.holders.own.get(root).into_iter().flatten().copied()
    }

    /// The connected members that can be expected to fetch this value of this node's own and haven't said yet that they
    /// hold it. A node that waits for them for a while leaves its last update with its peers before it goes.
    ///
    /// Every member is expected to, except those with at least one update on the board and all of them of other
    /// layouts. A member that fetches nothing unasked looks the same as a slow one, so the caller needs a deadline.
    pub fn unheld(&self, root: &Root) -> Vec<PeerId> {
        let set = self.board.set();
        let own = set.of_author(self.config.me).find(|entry| entry.root() == Some(*root));
        let Some(layout) = own.map(|entry| entry.layout) else { return Vec::new() };
        let fetches = |peer: &PeerId| {
            let mut updates = set.of_author(*peer).filter(|entry| entry.key.update_epoch().is_some()).peekable();
            updates.peek().is_none() || updates.any(|entry| entry.layout == layout)
        };
        // Who is reached by relays alone can't.
        let can = |peer: &PeerId| self.is_direct(peer) || self.may_become_direct(peer);
        self.members().filter(|peer| !self.holders.holds(peer, root) && fetches(peer) && can(peer)).collect()
    }

    pub(super) fn holds(&mut self, peer: PeerId, roots: &[Root]) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        self.found_member(peer);
        let own: BTreeSet<Root> = self.own_roots();
        if let Some(newest) = roots.iter().take(MAX_BLOBS).next_back() {
            self.holders.told.insert(peer, *newest);
        }
        for root in roots.iter().take(MAX_BLOBS) {
            if own.contains(root) {
                let holders = self.holders.own.entry(*root).or_default();
                if holders.len() < MAX_HOLDERS {
                    holders.insert(peer);
                }
            }
            self.fetches.note_holder(*root, peer);
        }
    }

    fn own_roots(&self) -> BTreeSet<Root> {
        self.board.set().of_author(self.config.me).filter_map(|entry| entry.root()).collect()
    }

    /// Drops what is known about values that are no longer current.
    pub(super) fn forget_old_holders(&mut self) {
        let own = self.own_roots();
        self.holders.own.retain(|root, _| own.contains(root));
    }

    /// This node now holds all of an entry's value. If it is the author's newest update, the author is told.
    pub(super) fn note_held(&mut self, root: Root, entry: &SignedEntry) {
        let author = entry.key.author();
        let is_newest = |newest: &SignedEntry| newest.hash() == entry.hash();
        let newest = self.board.set().newest_update(author).is_some_and(|newest| is_newest(newest));
        if newest && author != self.config.me {
            // What was announced and waited for as well is told once.
            let held = self.holders.held.entry(author).or_insert(Held { root, told: false });
            if held.root != root {
                *held = Held { root, told: false };
            }
            self.tell_held(author);
        }
        self.tell_kept(author, root);
    }

    /// Tells an author, if it is connected, that its newest update is held here.
    pub(super) fn tell_held(&mut self, author: PeerId) {
        let Some(held) = self.holders.held.get_mut(&author).filter(|held| !held.told) else { return };
        // Nor by a relay: it is told once there is a direct connection.
        if !self.peers.contains_key(&author) || self.relayed.contains_key(&author) {
            return;
        }
        held.told = true;
        let (federation, roots, id) = (self.config.federation, vec![held.root], self.new_id());
        self.holders.notices.insert(id, author);
        self.push(Output::Blobs { id, peer: author, request: BlobRequest::Holds { federation, roots } });
    }

    /// Returns true if this was the answer to a notice. A failed notice is sent again with the next sync.
    pub(super) fn notice_answered(&mut self, id: RequestId, error: Option<&RequestFailed>) -> bool {
        let Some(author) = self.holders.notices.remove(&id) else { return false };
        if error.is_some()
            && let Some(held) = self.holders.held.get_mut(&author)
        {
            held.told = false;
        }
        true
    }

    pub(super) fn tell_held_again(&mut self) {
        let authors: Vec<PeerId> = self.members().collect();
        authors.into_iter().for_each(|author| self.tell_held(author));
    }
}
