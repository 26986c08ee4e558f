//! Whom a node keeps room for when strangers crowd it.

use crate::entries::{Board, Membership};
use libp2p_identity::PeerId;
use std::{collections::BTreeSet, sync::Arc};

/// What a node knows of a peer, in the order in which peers go when there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// Nothing.
    Stranger,
    /// It has signed an entry, which takes a millisecond.
    Author,
    /// The node has folded several of its updates, or its operator has named it.
    Trusted,
}

/// The peers of the bootstrap list and of the allow-list, and the authors whose updates this node has folded: see
/// [`EntrySet::is_known`](crate::entries::EntrySet::is_known). Others may use what is free, but at most half of
/// everything.
///
/// An author has signed an entry with the key by which it proves who it is to us, so this can't be borrowed from another
/// peer. It also outlives connections and restarts, as entries do.
#[derive(Clone)]
pub(super) struct Trust {
    board: Arc<Board>,
    membership: Arc<Membership>,
    listed: Arc<BTreeSet<PeerId>>,
}

impl Trust {
    pub(super) fn new(
        board: Arc<Board>,
        membership: Arc<Membership>,
        listed: impl IntoIterator<Item = PeerId>,
    ) -> Self {
        Self { board, membership, listed: Arc::new(listed.into_iter().collect()) }
    }

    /// Takes the lock of the board for a moment.
    pub(super) fn standing(&self, peer: &PeerId) -> Standing {
        if self.listed.contains(peer) || !self.membership.is_open() && self.membership.allows(*peer) {
            return Standing::Trusted;
        }
        let set = self.board.set();
        if set.is_known(*peer) {
            Standing::Trusted
        } else if set.of_author(*peer).next().is_some() {
            Standing::Author
        } else {
            Standing::Stranger
        }
    }

    /// Whether half of everything is kept for it and its like.
    pub(super) fn holds(&self, peer: &PeerId) -> bool {
        self.standing(peer) == Standing::Trusted
    }
}
