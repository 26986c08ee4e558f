//! Whose entries are followed where there are too many authors for everybody to know everybody.
//!
//! In a federation of ten thousand, all entries would be 20 MB for each node and epoch. So once a node knows as many
//! authors as it follows, it takes in entries of connected peers only, whom it hears directly, and passes on none of
//! others. Who isn't connected any more makes room, as it is silent, and connections change slowly. What a node folds is
//! then a sample of its neighbours in a graph that is drawn at random; what it has learned reaches everybody in a few
//! epochs, by way of weights instead of entries.

use super::Core;
use crate::{
    entries::BucketSet,
    weights::{Key, UnverifiedEntry},
};
use libp2p_identity::PeerId;

impl Core {
    /// Whether there are more authors than are followed.
    pub(super) fn is_narrow(&self) -> bool {
        self.config.limits.view.is_some_and(|most| self.board.set().author_count() >= most)
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
        let set = self.board.set();
        let lists = set.authors().filter(|author| set.get(&Key::members(*author)).is_some());
        let mut followed = BucketSet::default();
        for bucket in lists.chain([peer]).map(|author| BucketSet::bucket_of(&author)) {
            if buckets.contains(bucket) {
                followed.insert(bucket);
            }
        }
        followed
    }
}
