//! Authors learn which peers hold their newest update.

use super::*;

fn publish(rig: &mut Rig, epoch: u64) -> Arc<SignedEntry> {
    let (_, own) = update(ME, epoch);
    rig.board.insert(own.clone()).unwrap();
    rig.input(Input::Published(own.clone()));
    own
}

#[test]
fn an_author_learns_who_holds_its_update() {
    let mut rig = Rig::new(Some(layout(2)));
    rig.members(&[1, 2, 3]);
    let own = publish(&mut rig, 1);
    // The third trains another model.
    rig.board.insert(entry_of(3, "update/1", 1, &weights(3, 1))).unwrap();
    assert_eq!(rig.core.unheld(&root(&own)).len(), 2);
    rig.input(Input::Holds { peer: peer(1), roots: vec![root(&own), Root::from_bytes([9; 32])] });
    assert_eq!(rig.core.unheld(&root(&own)), [peer(2)]);
    // It stays known while the peer is away.
    rig.input(Input::Disconnected(peer(1)));
    rig.members(&[1]);
    assert_eq!(rig.core.holders(&root(&own)).collect::<Vec<_>>(), [peer(1)]);
    publish(&mut rig, 2);
    publish(&mut rig, 3);
    assert_eq!(rig.core.holders(&root(&own)).count(), 0);
    assert!(rig.core.unheld(&root(&own)).is_empty());
}

#[test]
fn an_author_is_told_once_it_can_be() {
    let mut rig = Rig::new(Some(layout(2)));
    rig.members(&[1]);
    let (value, entry) = update(2, 1);
    rig.gossip(1, data(&entry));
    rig.lookups();
    rig.give(&value);
    assert_eq!(rig.fetched(), [(root(&entry), Ok(()))]);
    assert!(rig.notices().is_empty());
    rig.members(&[2]);
    let (id, to, roots) = rig.notices().remove(0);
    assert_eq!((to, roots), (peer(2), vec![root(&entry)]));
    // A notice that is lost goes again, and to one that was away too.
    rig.fails(id);
    rig.wait(seconds(61));
    let (id, ..) = rig.notices().remove(0);
    rig.answer(id, vec![]);
    rig.wait(seconds(61));
    assert!(rig.notices().is_empty());
    rig.input(Input::Disconnected(peer(2)));
    rig.syncs();
    rig.members(&[2]);
    assert_eq!(rig.notices().len(), 1);
    // A process that ended without a word has taken what it was told along; the next one connects before that is noticed.
    rig.input(Input::Connected(peer(2)));
    assert_eq!(rig.notices().len(), 1);
}

#[test]
fn an_author_is_told_once_of_what_was_announced_and_waited_for() {
    let mut rig = Rig::new(Some(layout(2)));
    rig.members(&[2]);
    let (value, entry) = update(2, 1);
    rig.gossip(2, data(&entry));
    rig.input(Input::Want(entry));
    rig.lookups();
    rig.give(&value);
    assert_eq!(rig.notices().len(), 1);
}

/// A home that is restored from an old copy: it doesn't know yet what the others hold of it already.
#[test]
fn what_peers_said_to_hold_before_it_stood_here_counts() {
    let mut rig = Rig::new(Some(layout(2)));
    rig.members(&[1, 2]);
    let (_, own) = update(ME, 1);
    for number in [1, 2] {
        rig.input(Input::Holds { peer: peer(number), roots: vec![root(&own)] });
    }
    // Learned from a peer, or trained and published again.
    rig.board.insert(own.clone()).unwrap();
    rig.input(Input::Published(own.clone()));
    assert!(rig.core.unheld(&root(&own)).is_empty());
    // A peer that left says it again when it is back, and nothing is known of an update that replaced the other.
    rig.input(Input::Disconnected(peer(1)));
    rig.syncs();
    rig.members(&[1]);
    assert_eq!(rig.core.unheld(&root(&own)), [peer(1)]);
    let newer = publish(&mut rig, 2);
    assert_eq!(rig.core.unheld(&root(&newer)).len(), 2);
}
