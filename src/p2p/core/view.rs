//! Whose entries are followed where there are too many authors for everybody to know everybody.
//!
//! In a federation of ten thousand, all entries would be 20 MB for each node and epoch. So once a node knows as many
//! authors as it follows, it takes in entries of connected peers only, whom it hears directly, and passes on none of
//! others, until it ends: how many there are it can't tell any more. When there is no room for another, all who aren't
//! connected go, so that nobody who is connected goes for another. Connections change slowly. What a node folds is then a
//! sample of its neighbours in a graph that is drawn at random; what it has learned reaches everybody in a few epochs, by
//! way of weights instead of entries.

use super::{Core, Output};
use crate::{
    entries::BucketSet,
    weights::{Key, UnverifiedEntry},
};
use libp2p_identity::PeerId;
use std::collections::BTreeSet;

impl Core {
    /// Whether there are, or were, more authors than are followed.
    pub(super) fn is_narrow(&self) -> bool {
        self.narrow
    }

    /// Makes room for the next author, if there is none. At the start what is known from the last run stays until somebody
    /// comes.
    pub(super) fn make_room_in_view(&mut self) {
        let Some(most) = self.config.limits.view else { return };
        if self.board.set().author_count() < most {
            return;
        }
        self.narrow = true;
        let lists = self.lists_of_members();
        let follows =
            |author: PeerId| author == self.config.me || self.peers.contains_key(&author) || lists.contains(&author);
        if !self.peers.is_empty() && self.board.retain_authors(follows) {
            self.push(Output::Retain);
            self.refresh_all_prefetches();
        }
    }

    /// The authors of lists of members.
    fn lists_of_members(&self) -> BTreeSet<PeerId> {
        let set = self.board.set();
        set.authors().filter(|author| set.get(&Key::members(*author)).is_some()).collect()
    }

    /// Whether an entry under this key is taken in. A list of members concerns everybody.
    fn follows(&self, key: &Key) -> bool {
        let author = key.author();
        author == self.config.me || self.peers.contains_key(&author) || *key == Key::members(author)
    }

    /// Whether these bytes are an entry that isn't followed, so that it needn't be verified.
    pub(super) fn is_out_of_view(&self, bytes: &[u8]) -> bool {
        // What can't be read is for the decoder to say.
        self.is_narrow() && UnverifiedEntry::decode(bytes).is_ok_and(|entry| !self.follows(&entry.entry().key))
    }

    /// Whether others are told of an entry. Where only connected peers are followed, its author has told all who follow it.
    pub(super) fn passes_on(&self, key: &Key) -> bool {
        !self.is_narrow() || *key == Key::members(key.author())
    }

    /// Of these buckets of a peer those in which it has something that is followed: its own, and those with lists of
    /// members.
    pub(super) fn in_view(&self, peer: PeerId, buckets: BucketSet) -> BucketSet {
        if !self.is_narrow() {
            return buckets;
        }
        let mut followed = BucketSet::default();
        for bucket in self.lists_of_members().into_iter().chain([peer]).map(|author| BucketSet::bucket_of(&author)) {
            if buckets.contains(bucket) {
                followed.insert(bucket);
            }
        }
        followed
    }
}
