//! Leaving: making sure that others know and hold what a node has published before it goes.

use super::{Core, Output};
use crate::{
    p2p::message::BlobRequest,
    weights::{Root, SignedEntry},
};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// How often a leaving node asks members what they know of it.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it asks again for a value to be kept.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// Members asked at the same time to keep a value.
const KEEPERS: usize = 2;

/// What others have of what a node has published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HandedOver {
    /// Connected members.
    pub members: usize,
    /// Those of them that know all of its entries, removals included.
    pub knowing: usize,
    /// Peers that hold all of the value that the fewest peers hold. Older updates don't count. If it has no values, the
    /// peers that know this.
    pub holding: usize,
    /// Connected members that still have to fetch its newest update.
    pub missing: usize,
}

impl HandedOver {
    /// Whether all of it would outlive the node: some member knows its entries, somebody holds each value, and every
    /// connected member that trains the same layout holds its newest update.
    pub fn is_done(&self) -> bool {
        self.knowing > 0 && self.holding > 0 && self.missing == 0
    }
}

/// A departure under way.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// When to look next; `None` unless the node leaves and something is left to do.
    next: Option<Duration>,
    /// When members were asked last to keep a value.
    asked: BTreeMap<Root, Duration>,
}

impl Core {
    /// Begins to leave, or goes on as before.
    pub(super) fn leave(&mut self, leaves: bool) {
        self.leaving = Leaving { next: leaves.then_some(self.now), asked: BTreeMap::new() };
    }

    /// What others have of what this node has published.
    pub fn handed_over(&self) -> HandedOver {
        let members: Vec<PeerId> = self.members().collect();
        let knowing = members.iter().filter(|peer| self.peers.get(peer).is_some_and(|state| state.knows_own)).count();
        let holding = self.to_leave().keys().map(|root| self.holders(root).count()).min();
        let newest = self.board.set().newest_update(self.config.me).and_then(|entry| entry.root());
        // Where each node fetches a few only, those that fetch this node's aren't known; two are asked to keep it.
        let counts = newest.filter(|_| self.prefetches.of_everybody());
        let missing = counts.map_or(0, |root| self.unheld(&root).len());
        HandedOver { members: members.len(), knowing, holding: holding.unwrap_or(knowing), missing }
    }

    /// The values that should outlive this node: its newest update and its artifacts.
    fn to_leave(&self) -> BTreeMap<Root, Arc<SignedEntry>> {
        let set = self.board.set();
        let newest = set.newest_update(self.config.me).map(|entry| entry.hash());
        let own = set.of_author(self.config.me);
        let counts = own.filter(|entry| entry.key.update_epoch().is_none() || Some(entry.hash()) == newest);
        counts.filter_map(|entry| Some((entry.root()?, entry.clone()))).collect()
    }

    pub(super) fn next_hand_over(&self) -> Option<Duration> {
        self.leaving.next
    }

    /// Compares digests with members that may not know this node's entries yet, which makes them ask back if they
    /// don't. Asks a few members to keep the values that nobody holds.
    pub(super) fn hand_over(&mut self) {
        if self.leaving.next.is_none_or(|next| next > self.now) {
            return;
        }
        self.leaving.next = (!self.handed_over().is_done()).then(|| self.now.saturating_add(LOOK_EVERY));
        if self.leaving.next.is_none() {
            return;
        }
        let unaware =
            |peer: &PeerId| self.peers.get(peer).is_some_and(|state| !state.knows_own && state.session.is_none());
        let unaware: Vec<PeerId> = self.members().filter(unaware).collect();
        unaware.into_iter().for_each(|peer| self.compare(peer));
        let to_leave = self.to_leave();
        let roots: BTreeSet<Root> = to_leave.keys().copied().collect();
        self.leaving.asked.retain(|root, _| roots.contains(root));
        for (root, entry) in to_leave {
            let lately = self.leaving.asked.get(&root).is_some_and(|at| at.saturating_add(ASK_EVERY) > self.now);
            if lately || self.holders(&root).next().is_some() {
                continue;
            }
            let members = self.members().filter(|peer| self.is_direct(peer)).collect();
            let keepers = self.draw(members, KEEPERS);
            if !keepers.is_empty() {
                self.leaving.asked.insert(root, self.now);
            }
            for peer in keepers {
                let (federation, id) = (self.config.federation, self.new_id());
                let request = BlobRequest::Keep { federation, entry: entry.bytes().to_vec().into() };
                self.push(Output::Blobs { id, peer, request });
            }
        }
    }
}
