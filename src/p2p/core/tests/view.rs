//! Where there are more authors than are followed, entries of connected peers are taken in, and others' aren't.

use super::*;
use crate::{
    entries::{BUCKETS, BucketSet, Fingerprints},
    p2p::message::Item,
};

/// A node that follows two authors, and knows two.
fn narrow() -> Rig {
    let board = Board::with_limits(federation(), EntryLimits { authors: 2, ..EntryLimits::WIDE });
    [8, 9].into_iter().for_each(|author| assert!(board.insert(tombstone(author, "a", 1)).unwrap()));
    Rig::on(board, Membership::open(), None, Limits { view: Some(2), ..Limits::default() })
}

#[test]
fn who_is_not_connected_is_neither_taken_in_nor_verified_nor_passed_on() {
    let mut rig = narrow();
    rig.members(&[1]);
    let mut forged = tombstone(5, "a", 1).bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    for unfollowed in [forged, update(5, 1).1.bytes().to_vec()] {
        assert_eq!(rig.gossip(1, unfollowed), Verdict::Ignore);
    }
    assert!(rig.bans().is_empty() && rig.board.set().of_author(peer(5)).next().is_none());
    // Who is connected tells all who follow it by itself. It takes the place of who isn't.
    assert_eq!(rig.gossip(1, data(&update(1, 1).1)), Verdict::Ignore);
    assert_eq!(rig.board.set().authors().collect::<BTreeSet<_>>(), BTreeSet::from([peer(1)]));
    // A list of members concerns everybody.
    assert_eq!(rig.gossip(1, data(&tombstone(6, "members", 1))), Verdict::Accept);
    // As long as there is room, everybody is followed.
    let mut rig = Rig::with(None, Limits { view: Some(2), ..Limits::default() }, &[]);
    assert_eq!(rig.gossip(1, data(&update(5, 1).1)), Verdict::Accept);
}

#[test]
fn nobody_who_is_connected_goes_for_another() {
    let board = Board::with_limits(federation(), EntryLimits { authors: 3, ..EntryLimits::WIDE });
    let mut rig = Rig::on(board, Membership::open(), None, Limits { view: Some(3), ..Limits::default() });
    rig.members(&[1, 2, 3]);
    for author in [1, 5, 6, 7, 2, 8, 3] {
        rig.gossip(1, data(&update(author, 1).1));
    }
    assert_eq!(rig.board.set().authors().collect::<BTreeSet<_>>(), [1, 2, 3].map(peer).into());
}

#[test]
fn a_peer_is_asked_for_its_own_entries_and_not_asked_back() {
    let mut rig = narrow();
    assert!(rig.board.set().holds(&tombstone(9, "a", 1).hash()));
    rig.input(Input::Connected(peer(9)));
    let theirs = Fingerprints(Box::new([[1; 16]; BUCKETS]));
    let (id, ..) = rig.syncs()[0];
    rig.input(Input::SyncResponse { id, response: Ok(SyncResponse::Differs(theirs)) });
    let (id, _, request) = rig.syncs().remove(0);
    let (SyncRequest::Items { buckets, .. } | SyncRequest::Others { buckets, .. }) = request else {
        panic!("{request:?}")
    };
    let mut own = BucketSet::default();
    own.insert(BucketSet::bucket_of(&peer(9)));
    assert_eq!(buckets, own);
    // Of what it gives only that is taken in.
    let items = [tombstone(9, "a", 2), tombstone(5, "a", 1)].map(|entry| Item::Entry(entry.bytes().to_vec()));
    rig.input(Input::SyncResponse { id, response: Ok(SyncResponse::Items { items: items.to_vec(), next: None }) });
    let set = rig.board.set();
    assert!(set.holds(&tombstone(9, "a", 2).hash()) && set.of_author(peer(5)).next().is_none());
    drop(set);
    // Sets differ for good, so nobody is told, and nobody who asks is asked back.
    rig.wait(seconds(2));
    let digest = crate::weights::Digest::from_bytes([7; 32]);
    assert!(matches!(rig.asked_to_sync(9, compare(digest)), SyncResponse::Differs(_)));
    assert!(rig.syncs().is_empty());
}
