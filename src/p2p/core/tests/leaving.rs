//! A node that leaves, and one that is asked to keep what others leave.

use super::*;
use bytesize::ByteSize;

fn keeps(rig: &mut Rig) -> Vec<(PeerId, Bytes)> {
    rig.take(|output| match output {
        Output::Blobs { peer, request: BlobRequest::Keep { entry, .. }, .. } => Some((*peer, entry.clone())),
        _ => None,
    })
}

fn publish(rig: &mut Rig, entry: &Arc<SignedEntry>) {
    rig.board.insert(entry.clone()).unwrap();
    rig.input(Input::Published(entry.clone()));
}

/// Answers comparisons as peers do that know all of what this node has published, or nothing of it.
fn compared(rig: &mut Rig, knows: bool) {
    for (id, _, request) in rig.syncs() {
        assert!(matches!(request, SyncRequest::Compare { .. }));
        let theirs = Board::new(federation()).set().fingerprints();
        let response = if knows { SyncResponse::Same } else { SyncResponse::Differs(theirs) };
        rig.input(Input::SyncResponse { id, response: Ok(response) });
    }
}

#[test]
fn a_value_that_nobody_fetches_is_given_into_keeping() {
    let mut rig = Rig::new(None);
    rig.members(&[1, 2, 3]);
    let note = entry_of(ME, "note", 1, &weights(1, 1));
    publish(&mut rig, &note);
    assert!(!rig.core.handed_over().is_done());
    rig.input(Input::Leaves(true));
    let asked = keeps(&mut rig);
    assert_eq!(asked.len(), 2, "two are enough");
    assert!(asked.iter().all(|(_, entry)| *entry == data(&note)));
    compared(&mut rig, false);
    assert_eq!(rig.core.handed_over(), HandedOver { members: 3, knowing: 0, holding: 0, missing: 0 });
    // Who hasn't answered is asked again, in time.
    rig.wait(seconds(1));
    compared(&mut rig, true);
    assert!(keeps(&mut rig).is_empty());
    rig.wait(seconds(2));
    assert_eq!(keeps(&mut rig).len(), 2);
    rig.input(Input::Holds { peer: asked[0].0, roots: vec![root(&note)] });
    let handed_over = rig.core.handed_over();
    assert_eq!((handed_over.knowing, handed_over.holding), (3, 1));
    assert!(handed_over.is_done());
    rig.wait(seconds(10));
    assert!(keeps(&mut rig).is_empty());
}

#[test]
fn what_is_published_anew_is_not_known_yet() {
    let mut rig = Rig::new(None);
    rig.members(&[1]);
    assert_eq!(rig.core.handed_over().knowing, 1);
    publish(&mut rig, &tombstone(ME, "note", 1));
    assert_eq!(rig.core.handed_over().knowing, 0);
    rig.input(Input::Leaves(true));
    compared(&mut rig, true);
    assert!(rig.core.handed_over().is_done(), "a removal has no value to be held");
    rig.input(Input::Leaves(false));
    rig.wait(seconds(5));
    assert!(rig.syncs().is_empty());
}

#[test]
fn nobody_there_is_no_success() {
    let mut rig = Rig::new(None);
    publish(&mut rig, &tombstone(ME, "note", 1));
    rig.input(Input::Leaves(true));
    assert_eq!(rig.core.handed_over(), HandedOver::default());
    assert!(!rig.core.handed_over().is_done());
}

#[test]
fn who_is_asked_to_keep_a_value_fetches_it_and_says_so() {
    let mut rig = Rig::new(None);
    rig.members(&[1]);
    let value = weights(9, 2);
    let note = entry_of(1, "note", 1, &value);
    rig.input(Input::Keep { peer: peer(1), entry: data(&note) });
    assert_eq!(rig.lookups().len(), 1);
    rig.give(&value);
    assert_eq!(rig.notices().remove(0).2, [root(&note)]);
    // Asked again, as who didn't hear it does, it says it again.
    rig.input(Input::Keep { peer: peer(1), entry: data(&note) });
    rig.looked(root(&note), Looked::Whole);
    assert_eq!(rig.notices().len(), 1);
}

#[test]
fn of_who_may_not_take_part_nothing_is_fetched_or_kept() {
    let mut rig = Rig::admitting(Membership::only([peer(2)]), Some(layout(2)), Limits::default(), &[]);
    rig.input(Input::Connected(peer(1)));
    rig.members(&[2]);
    let [stranger, member] = [1, 2].map(|author| update(author, 1).1);
    assert_eq!(rig.gossip(2, data(&stranger)), Verdict::Ignore);
    assert_eq!(rig.gossip(2, data(&member)), Verdict::Accept);
    assert_eq!(rig.lookups(), [member]);
    let [strange, own] = [1, 2].map(|author| entry_of(author, "note", 2, &weights(9 + author, 1)));
    for (from, note) in [(1, &strange), (2, &own)] {
        rig.input(Input::Keep { peer: peer(from), entry: data(note) });
    }
    assert_eq!(rig.lookups(), [own]);
    assert!(!rig.board.set().holds(&strange.hash()) && rig.bans().is_empty());
}

#[test]
fn nobody_gives_others_values_or_rubbish_into_keeping() {
    let limits = Limits { strikes: 1, prefetch_bytes: ByteSize(1 << 16), ..Limits::default() };
    let mut rig = Rig::with(None, limits, &[]);
    rig.members(&[1, 2]);
    for entry in [
        entry_of(2, "note", 1, &weights(9, 1)),
        // Longer than what is fetched unasked.
        entry_of(1, "note", 1, &weights(9, 2)),
        tombstone(1, "gone", 2),
    ] {
        rig.input(Input::Keep { peer: peer(1), entry: data(&entry) });
    }
    // Nor who isn't connected.
    rig.input(Input::Keep { peer: peer(5), entry: data(&entry_of(5, "note", 1, &weights(9, 1))) });
    assert!(rig.lookups().is_empty());
    for number in 0..80u64 {
        let entry = entry_of(2, &format!("{number}"), number + 1, &weights(number as u8, 1));
        rig.input(Input::Keep { peer: peer(2), entry: data(&entry) });
    }
    assert_eq!(rig.core.keeps.asked_by(&peer(2)), 64, "one peer may ask for so many");
    assert_eq!(rig.core.fetches.jobs.len(), 1, "which are fetched one after the other");
    rig.input(Input::Keep { peer: peer(1), entry: Bytes::from_static(b"\x01rubbish") });
    assert_eq!(rig.bans(), [peer(1)]);
}
