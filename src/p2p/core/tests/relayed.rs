//! Members to whom there is only a relayed connection.

use super::*;

/// The second member is one.
fn rig(layout: Option<LayoutId>) -> Rig {
    let mut rig = Rig::new(layout);
    rig.input(Input::Relayed { peer: peer(2), only: true });
    rig.members(&[1, 2]);
    rig
}

fn is_direct(rig: &mut Rig) {
    rig.input(Input::Relayed { peer: peer(2), only: false });
    rig.input(Input::Connected(peer(2)));
}

#[test]
fn a_value_waits_for_the_direct_connection_but_not_for_long() {
    let mut rig = Rig::new(None);
    rig.input(Input::Relayed { peer: peer(2), only: true });
    rig.members(&[2]);
    let (value, entry) = update(2, 1);
    rig.board.insert(entry.clone()).unwrap();
    rig.input(Input::Want(entry.clone()));
    rig.looked(root(&entry), Looked::NoManifest);
    rig.wait(seconds(9));
    assert!(rig.asked().is_empty() && rig.fetched().is_empty());
    rig.wait(seconds(2));
    assert_eq!(rig.fetched(), [(root(&entry), Err(FetchError::Unreachable { asked: 0 }))]);
    rig.input(Input::Want(entry.clone()));
    rig.looked(root(&entry), Looked::NoManifest);
    assert_eq!(rig.fetched().len(), 1, "it has waited");
    // When it comes, nothing is held against it.
    is_direct(&mut rig);
    rig.input(Input::Want(entry.clone()));
    rig.lookups();
    rig.give(&value);
    assert_eq!(rig.fetched(), [(root(&entry), Ok(()))]);
    assert!(rig.bans().is_empty());
}

#[test]
fn others_are_asked_at_once() {
    let mut rig = rig(None);
    let (value, entry) = update(2, 1);
    rig.board.insert(entry.clone()).unwrap();
    rig.input(Input::Want(entry.clone()));
    rig.looked(root(&entry), Looked::NoManifest);
    let asked = rig.asked().remove(0);
    assert_eq!(asked.peer, peer(1), "though the author has it");
    rig.answer(asked.id, some(&value, &asked));
}

#[test]
fn what_is_announced_comes_with_the_direct_connection() {
    let mut rig = rig(Some(layout(2)));
    let (value, entry) = update(2, 1);
    rig.gossip(2, data(&entry));
    rig.lookups();
    rig.looked(root(&entry), Looked::NoManifest);
    let asked = rig.asked().remove(0);
    rig.answer(asked.id, nothing(&asked));
    rig.wait(seconds(10));
    assert!(rig.asked().is_empty() && rig.lookups().is_empty());
    is_direct(&mut rig);
    assert_eq!(rig.lookups(), std::slice::from_ref(&entry), "woken");
    rig.looked(root(&entry), Looked::NoManifest);
    let asked = rig.asked().remove(0);
    assert_eq!(asked.peer, peer(2));
    rig.answer(asked.id, some(&value, &asked));
}

#[test]
fn an_author_is_told_who_holds_its_update_once_it_is_direct() {
    let mut rig = rig(Some(layout(2)));
    let (value, entry) = update(2, 1);
    rig.gossip(1, data(&entry));
    rig.lookups();
    rig.give(&value);
    assert_eq!(rig.fetched(), [(root(&entry), Ok(()))]);
    rig.wait(seconds(200));
    assert!(rig.notices().is_empty());
    is_direct(&mut rig);
    assert_eq!(rig.notices().len(), 1);
}
