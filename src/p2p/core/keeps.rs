//! Values that departing peers have asked this node to keep for others. They are fetched before those that were only
//! announced, and of each peer one after the other.

use super::{Core, Output, strikes::Severity};
use crate::{
    p2p::message::BlobRequest,
    weights::{Content, Root, SignedEntry},
};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// Most values that a peer can ask this node to keep while it is connected.
const MAX_OF_PEER: usize = 64;

/// Which values each peer asked to be kept, for as long as that peer is connected.
#[derive(Debug, Default)]
pub(super) struct Keeps {
    peers: BTreeMap<PeerId, OfPeer>,
}

#[derive(Debug, Default)]
struct OfPeer {
    /// All of them, those that are here included.
    asked: BTreeSet<Root>,
    /// The one that is fetched now, or waits for a place.
    next: Option<Root>,
    /// Those after it.
    later: VecDeque<Arc<SignedEntry>>,
}

impl Keeps {
    /// Returns what is to be fetched no more.
    pub(super) fn disconnected(&mut self, peer: &PeerId) -> Option<Root> {
        self.peers.remove(peer)?.next
    }

    /// Notes that a peer asks for it, if it may.
    fn ask(&mut self, peer: PeerId, root: Root, entry: Arc<SignedEntry>) {
        let of_peer = self.peers.entry(peer).or_default();
        if of_peer.asked.len() >= MAX_OF_PEER && !of_peer.asked.contains(&root) {
            return;
        }
        of_peer.asked.insert(root);
        // Who leaves asks again and again.
        if of_peer.next != Some(root) && !of_peer.later.iter().any(|later| later.root() == Some(root)) {
            of_peer.later.push_back(entry);
        }
    }

    fn is_asked(&self, peer: &PeerId, root: &Root) -> bool {
        self.peers.get(peer).is_some_and(|of_peer| of_peer.asked.contains(root))
    }

    /// How many values this peer has asked for.
    #[cfg(test)]
    pub(super) fn asked_by(&self, peer: &PeerId) -> usize {
        self.peers.get(peer).map_or(0, |of_peer| of_peer.asked.len())
    }
}

impl Core {
    /// A peer asks for one of its own values to be kept. Requests for other authors' values, for values too long to be
    /// fetched unasked, and from peers that may not take part are ignored.
    pub(super) fn keep(&mut self, peer: PeerId, entry: &[u8]) {
        if !self.peers.contains_key(&peer) || !self.admits(&peer) {
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
        let stands = self.board.set().holds(&entry.hash());
        if stands && length <= self.config.limits.prefetch_bytes.as_u64() {
            self.keeps.ask(peer, root, entry);
        }
    }

    /// Fetches the next value of each peer that has asked for several, once the one before has come or can't be had.
    pub(super) fn keep_next(&mut self) {
        let jobs = &self.fetches.jobs;
        let set = self.board.set();
        let mut next = Vec::new();
        for (peer, of_peer) in &mut self.keeps.peers {
            of_peer.next.take_if(|root| jobs.get(root).is_none_or(|job| !job.kept.contains_key(peer)));
            while of_peer.next.is_none()
                && let Some(entry) = of_peer.later.pop_front()
            {
                if let Some(root) = entry.root().filter(|_| set.holds(&entry.hash())) {
                    of_peer.next = Some(root);
                    next.push((root, entry));
                }
            }
        }
        drop(set);
        next.into_iter().for_each(|(root, entry)| self.want_kept(root, entry));
    }

    /// All of a value is here: tells its author, if the author asked for it to be kept.
    pub(super) fn tell_kept(&mut self, author: PeerId, root: Root) {
        if self.keeps.is_asked(&author, &root) && self.is_direct(&author) {
            let (federation, id) = (self.config.federation, self.new_id());
            let request = BlobRequest::Holds { federation, roots: vec![root] };
            self.push(Output::Blobs { id, peer: author, request });
        }
    }
}
