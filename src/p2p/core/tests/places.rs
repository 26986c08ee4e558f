//! Who has one of the few places, and who makes way.

use super::*;
use bytesize::ByteSize;
use std::{collections::BTreeSet, slice};

/// A member's artifact, as one that leaves asks for it to be kept.
fn keep(rig: &mut Rig, author: u8, number: u64) -> (Weights, Arc<SignedEntry>) {
    let value = weights(author * 16 + number as u8, 1);
    let entry = entry_of(author, &format!("note {number}"), number, &value);
    rig.input(Input::Keep { peer: peer(author), entry: data(&entry) });
    (value, entry)
}

fn authors(entries: &[Arc<SignedEntry>]) -> Vec<PeerId> {
    entries.iter().map(|entry| entry.key.author()).collect()
}

#[test]
fn what_members_want_kept_has_a_place_of_each_and_half_of_all() {
    let mut rig = Rig::new(Some(layout(2)));
    rig.members(&[1, 2, 3, 4, 5, 6]);
    let notes = [1, 2, 3].map(|author| [1, 2, 3].map(|number| keep(&mut rig, author, number)));
    assert_eq!(authors(&rig.lookups()), [peer(1), peer(2)]);
    // The other half is there for what is announced, and for it alone.
    for author in [4, 5, 6] {
        rig.gossip(1, data(&update(author, 1).1));
    }
    assert_eq!(authors(&rig.lookups()), [peer(4), peer(5)]);
    // One that nobody gives makes way for that of the next member, and then it is the first one's turn again.
    let mut kept = Vec::new();
    for (author, number) in [(0, 0), (1, 0), (2, 0), (0, 1)] {
        rig.looked(root(&notes[author][number].1), Looked::NoManifest);
        assert!(nobody_has(&mut rig) > 0);
        kept.extend(authors(&rig.lookups()));
    }
    assert_eq!(kept, [3, 1, 2, 3].map(peer));
    // Somebody here goes before them all.
    let (_, wanted) = update(6, 2);
    rig.input(Input::Want(wanted.clone()));
    assert_eq!(rig.lookups(), [wanted]);
}

#[test]
fn what_a_member_wants_kept_goes_before_what_is_announced() {
    let limits = Limits { values_at_once: 1, ..Limits::default() };
    let mut rig = Rig::with(Some(layout(2)), limits, &[]);
    rig.members(&[1, 2]);
    rig.gossip(1, data(&update(2, 1).1));
    assert_eq!(authors(&rig.lookups()), [peer(2)]);
    let (value, note) = keep(&mut rig, 1, 1);
    assert_eq!(rig.lookups(), slice::from_ref(&note));
    keep(&mut rig, 1, 2);
    // Who is gone needs nothing kept that isn't under way.
    keep(&mut rig, 2, 9);
    rig.input(Input::Disconnected(peer(2)));
    rig.give(&value);
    assert_eq!(rig.notices().remove(0).2, [root(&note)]);
    assert_eq!(authors(&rig.lookups()), [peer(1)]);
    assert_eq!(rig.core.fetches.jobs.len(), 2, "the second note, and the update");
}

#[test]
fn no_member_has_two_places_while_another_waits() {
    let limits = Limits { values_at_once: 2, ..Limits::default() };
    let mut rig = Rig::with(Some(layout(2)), limits, &[]);
    rig.members(&[1, 2, 3]);
    let updates = [(2, 1), (2, 2), (3, 1), (1, 1)].map(|(author, epoch)| update(author, epoch).1);
    rig.gossip(1, data(&updates[0]));
    rig.wait(seconds(1));
    rig.gossip(1, data(&updates[1]));
    assert_eq!(rig.lookups(), updates[..2]);
    // The one that was begun first goes on.
    rig.gossip(1, data(&updates[2]));
    assert_eq!(rig.lookups(), updates[2..3]);
    let active: Vec<_> = rig.core.fetches.active.iter().copied().collect();
    assert!(active.contains(&root(&updates[0])) && active.contains(&root(&updates[2])));
    // Each has one now: the next waits.
    rig.gossip(1, data(&updates[3]));
    assert!(rig.lookups().is_empty());
    // What is asked to be kept is a place as well.
    let mut rig = Rig::with(Some(layout(2)), Limits { values_at_once: 2, ..Limits::default() }, &[]);
    rig.members(&[1, 2]);
    keep(&mut rig, 2, 9);
    rig.gossip(1, data(&updates[0]));
    assert_eq!(authors(&rig.lookups()), [peer(2), peer(2)]);
    rig.gossip(1, data(&updates[3]));
    assert_eq!(authors(&rig.lookups()), [peer(1)]);
}

/// A crowd of made-up authors whose values never come, some of them waited for here.
#[test]
fn strangers_have_one_place_while_those_who_are_known_wait_and_have_it() {
    let mut rig = Rig::with(Some(layout(2)), Limits { values_at_once: 4, ..Limits::default() }, &[]);
    rig.members(&[1, 2, 3, 4, 5, 6]);
    let announce = |rig: &mut Rig, author, epoch| {
        let (_, entry) = update(author, epoch);
        rig.gossip(1, data(&entry));
        entry
    };
    for stranger in 7..16 {
        let entry = announce(&mut rig, stranger, 1);
        if stranger % 2 == 0 {
            rig.input(Input::Want(entry));
        }
    }
    assert!(authors(&rig.lookups()).len() >= 4, "as long as nobody else is there");
    for known in 2..6 {
        announce(&mut rig, known, 1);
        for sequence in 1..=3 {
            rig.board.folded(peer(known), sequence);
        }
        assert!(rig.board.set().is_known(peer(known)));
    }
    let known: Vec<_> = (2..6).map(|author| announce(&mut rig, author, 9)).collect();
    let placed = |rig: &Rig| {
        let of_known = |root: &Root| !rig.core.fetches.jobs[root].whose.is_stranger();
        let active = rig.core.fetches.active.iter();
        (active.clone().filter(|root| of_known(root)).count(), active.count())
    };
    assert_eq!(placed(&rig), (3, 4), "{:?}", rig.core.fetches.active);
    // Nor does who is waited for take more of them.
    rig.input(Input::Want(known[3].clone()));
    assert_eq!(placed(&rig), (3, 4));
    assert!(rig.core.fetches.active.contains(&root(&known[3])));
}

/// Or a newcomer, to whom all are strangers, would never have a value of those who publish while it works through a crowd.
#[test]
fn of_strangers_those_who_are_connected_come_first() {
    let mut rig = Rig::with(Some(layout(2)), Limits { values_at_once: 2, ..Limits::default() }, &[]);
    rig.members(&[1]);
    let announce = |rig: &mut Rig, author, epoch| {
        let (_, entry) = update(author, epoch);
        rig.gossip(1, data(&entry));
        entry
    };
    for absent in 6..16 {
        let entry = announce(&mut rig, absent, 1);
        rig.input(Input::Want(entry));
    }
    let active = |rig: &Rig| rig.core.fetches.active.clone();
    let waits = announce(&mut rig, 2, 1);
    assert!(!active(&rig).contains(&root(&waits)), "nobody has come from there");
    rig.members(&[2]);
    assert!(active(&rig).contains(&root(&waits)), "it takes the place of another");
    // So does its next, at once.
    let next = announce(&mut rig, 1, 7);
    assert_eq!(active(&rig), BTreeSet::from([root(&waits), root(&next)]));
    // Who leaves goes back among the others.
    rig.input(Input::Disconnected(peer(2)));
    let last = announce(&mut rig, 1, 8);
    assert_eq!(active(&rig), BTreeSet::from([root(&next), root(&last)]));
}

/// Each of them costs questions to several peers, for nothing.
#[test]
fn strangers_who_are_not_connected_are_looked_for_at_a_rate() {
    let mut rig = Rig::with(Some(layout(2)), Limits { absent_rate: 0.5, ..Limits::default() }, &[]);
    rig.members(&[1]);
    let looked_for = |rig: &mut Rig| {
        let mut count = 0;
        loop {
            let entries = rig.lookups();
            if entries.is_empty() {
                return count;
            }
            count += entries.len();
            entries.iter().for_each(|entry| rig.looked(root(entry), Looked::NoManifest));
            nobody_has(rig);
        }
    };
    for absent in 2..16 {
        rig.gossip(1, data(&update(absent, 1).1));
    }
    assert_eq!(looked_for(&mut rig), 4, "what eight seconds bring");
    assert_eq!(rig.core.next_wakeup(), Some(seconds(1)), "one of the four is tried again, if there is one");
    let mut found = 0;
    while rig.now < seconds(60) {
        rig.wait(seconds(1));
        rig.syncs();
        found += looked_for(&mut rig);
    }
    assert_eq!(found, 30);
    // Nobody else waits for that.
    rig.gossip(1, data(&update(1, 1).1));
    assert_eq!(looked_for(&mut rig), 1);
}

#[test]
fn who_wants_kept_what_it_never_gives_is_dropped() {
    let mut rig = Rig::new(None);
    rig.members(&[1]);
    let mut tries = 0;
    while rig.bans().is_empty() {
        tries += 1;
        let (_, note) = keep(&mut rig, 1, tries);
        rig.lookups();
        rig.looked(root(&note), Looked::NoManifest);
        // It lets the time pass, or says that it has nothing.
        while let Some(asked) = rig.asked().pop() {
            if tries % 2 == 0 { rig.answer(asked.id, nothing(&asked)) } else { rig.fails(asked.id) }
        }
    }
    assert_eq!(tries, 12, "a quarter of a strike each");
}

#[test]
fn a_value_that_comes_in_drips_makes_way_and_is_asked_for_elsewhere() {
    let limits = Limits { values_at_once: 1, ..Limits::default() };
    let mut rig = Rig::with(Some(layout(4)), limits, &[]);
    rig.members(&[1, 2, 3]);
    let value = weights(2, 4);
    let dripping = entry_of(2, "update/1", 1, &value);
    rig.gossip(1, data(&dripping));
    rig.lookups();
    rig.looked(root(&dripping), missing(&value, &[]));
    let drip = |rig: &mut Rig| {
        let asked = rig.asked().remove(0);
        rig.wait(seconds(19));
        rig.answer(asked.id, some(&value, &asked)[..1].to_vec());
        rig.store_all();
        (asked.peer, asked.hashes[0])
    };
    let dripped = [drip(&mut rig), drip(&mut rig)];
    assert!(dripped.iter().all(|(from, _)| *from == peer(2)));
    // Nobody waits, so it goes on, but others are asked first.
    let mut others = 0;
    let third = loop {
        let asked = rig.asked().remove(0);
        if asked.peer == peer(2) {
            break asked;
        }
        rig.answer(asked.id, nothing(&asked));
        others += 1;
    };
    assert_eq!(others, 2);
    let honest = weights(3, 4);
    let other = entry_of(3, "update/1", 1, &honest);
    rig.gossip(1, data(&other));
    assert!(rig.lookups().is_empty());
    rig.wait(seconds(30));
    assert_eq!(rig.lookups(), slice::from_ref(&other), "it has made way");
    rig.give(&honest);
    assert_eq!(rig.fetched(), [(root(&other), Ok(()))]);
    // It has its turn again, and what has come of it is there.
    rig.fails(third.id);
    assert_eq!(rig.lookups(), slice::from_ref(&dripping));
    let has_come = |chunk: &&ChunkHash| dripped.iter().any(|(_, hash)| *hash == BlobHash::from(**chunk));
    let there: Vec<ChunkHash> = value.manifest().chunks().iter().filter(has_come).copied().collect();
    rig.looked(root(&dripping), missing(&value, &there));
    assert_eq!(rig.asked().remove(0).hashes.len(), 2);
    assert_eq!(rig.core.strikes.against(&peer(2), rig.now), 1, "for the answer that didn't come");
    assert!(rig.bans().is_empty());
}

#[test]
fn a_value_that_comes_in_fast_enough_keeps_its_place() {
    let limits = Limits { values_at_once: 1, least_rate: ByteSize(1 << 16), ..Limits::default() };
    let mut rig = Rig::with(Some(layout(120)), limits, &[]);
    rig.members(&[1, 2, 3]);
    let value = weights(2, 120);
    let entry = entry_of(2, "update/1", 1, &value);
    rig.gossip(1, data(&entry));
    rig.gossip(1, data(&entry_of(3, "update/1", 1, &weights(3, 120))));
    assert_eq!(rig.lookups(), slice::from_ref(&entry));
    rig.looked(root(&entry), missing(&value, &[]));
    // Every twenty seconds 2 MiB, of which thirty seconds need 1.9.
    let mut requests = rig.asked();
    for _ in 0..3 {
        let asked = requests.remove(0);
        rig.wait(seconds(20));
        assert_eq!(asked.peer, peer(2));
        rig.answer(asked.id, some(&value, &asked));
        rig.store_all();
        requests.extend(rig.asked());
    }
    assert!(rig.lookups().is_empty());
}
