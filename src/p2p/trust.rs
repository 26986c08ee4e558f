//! Whom a node keeps room for when strangers crowd it.

use crate::entries::Board;
use libp2p_identity::PeerId;
use std::{collections::BTreeSet, sync::Arc};

/// The peers of the bootstrap list, and the authors of entries that are known. Others are strangers: they may use what is
/// free, but at most half of everything.
///
/// An author has signed an entry with the key by which it proves who it is to us, so this can't be borrowed from another
/// peer. It also outlives connections and restarts, as entries do.
#[derive(Clone)]
pub(super) struct Trust {
    board: Arc<Board>,
    listed: Arc<BTreeSet<PeerId>>,
}

impl Trust {
    pub(super) fn new(board: Arc<Board>, listed: impl IntoIterator<Item = PeerId>) -> Self {
        Self { board, listed: Arc::new(listed.into_iter().collect()) }
    }

    /// Takes the lock of the board for a moment.
    pub(super) fn holds(&self, peer: &PeerId) -> bool {
        self.listed.contains(peer) || self.board.set().of_author(*peer).next().is_some()
    }
}
