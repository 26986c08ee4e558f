//! Values that departing peers have asked this node to keep for others. They are fetched as if they were wanted here.

use super::{Core, Output, strikes::Severity};
use crate::{
    p2p::message::BlobRequest,
    weights::{Content, Root, SignedEntry},
};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Most values that a peer can ask this node to keep while it is connected.
const MAX_OF_PEER: usize = 64;

/// Which values each peer asked to be kept, for as long as that peer is connected.
#[derive(Debug, Default)]
pub(super) struct Keeps {
    asked: BTreeMap<PeerId, BTreeSet<Root>>,
}

impl Keeps {
    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        self.asked.remove(peer);
    }

    /// Whether this peer may ask for it.
    fn admit(&mut self, peer: PeerId, root: Root) -> bool {
        let asked = self.asked.entry(peer).or_default();
        let room = asked.len() < MAX_OF_PEER || asked.contains(&root);
        if room {
            asked.insert(root);
        }
        room
    }

    fn is_asked(&self, peer: &PeerId, root: &Root) -> bool {
        self.asked.get(peer).is_some_and(|asked| asked.contains(root))
    }
}

impl Core {
    /// A peer asks for one of its own values to be kept. Requests for other authors' values, for values too long to be
    /// fetched unasked, and from peers that may not take part are ignored.
    pub(super) fn keep(&mut self, peer: PeerId, entry: &[u8]) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        self.found_member(peer);
        let entry = match SignedEntry::decode(entry) {
            Ok(entry) => Arc::new(entry),
            Err(error) if error.is_newer() => return,
            Err(error) => {
                return self.strike(
                    peer,
                    Severity::LowTolerance,
                    &format!("it asked for what is no entry to be kept: {error}"),
                );
            }
        };
        if entry.key.author() != peer {
            return;
        }
        if self.take_in(entry.clone()) {
            self.set_changed(Some(peer));
        }
        let Content::Put { root, length, .. } = entry.content else { return };
        let stands = self.config.membership.allows(peer) && self.board.set().holds(&entry.hash());
        if stands && length <= self.config.limits.prefetch_bytes.as_u64() && self.keeps.admit(peer, root) {
            self.want(entry);
        }
    }

    /// All of a value is here: tells its author, if the author asked for it to be kept.
    pub(super) fn tell_kept(&mut self, author: PeerId, root: Root) {
        if self.keeps.is_asked(&author, &root) {
            let (federation, id) = (self.config.federation, self.new_id());
            let request = BlobRequest::Holds { federation, roots: vec![root] };
            self.push(Output::Blobs { id, peer: author, request });
        }
    }
}
