//! Who may take part, and what follows when that changes.

use super::{
    Core,
    peers::{Peer, Relation},
};
use libp2p_identity::PeerId;

impl Core {
    /// Whether this peer, or this author, may take part. This node itself always may.
    pub fn admits(&self, peer: &PeerId) -> bool {
        *peer == self.config.me || self.config.membership.allows(*peer)
    }

    /// Forgets the entries of those who were revoked, and asks members for those of who was added.
    pub(super) fn membership_changed(&mut self) {
        let (me, membership) = (self.config.me, self.config.membership.clone());
        self.board.retain_authors(|author| author == me || membership.allows(author));
        self.saved.retain(|&author| author == me || membership.allows(author));
        let revoked: Vec<PeerId> = self.peers.keys().filter(|peer| !self.admits(peer)).copied().collect();
        for peer in revoked {
            // It stays one until its connections are closed.
            self.disconnected(peer);
            self.peers.insert(peer, Peer { relation: Relation::NoNode, ..Peer::default() });
        }
        for peer in self.peers.values_mut() {
            // What they were asked for in vain may count now.
            (peer.settled, peer.barren) = (None, None);
        }
        self.refresh_all_prefetches();
        self.set_changed(None);
    }
}
