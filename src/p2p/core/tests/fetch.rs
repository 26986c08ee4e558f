//! Which values are fetched, from whom, and what happens when peers lie, fail or leave.

use super::*;
use bytesize::ByteSize;
use std::slice;

#[test]
fn an_announced_update_is_fetched_and_its_author_told() {
    let mut rig = Rig::new(Some(layout(2)));
    rig.members(&[1, 2]);
    let (value, entry) = update(2, 1);
    assert_eq!(rig.gossip(1, data(&entry)), Verdict::Accept);
    assert_eq!(rig.lookups(), slice::from_ref(&entry));
    rig.looked(root(&entry), Looked::NoManifest);
    let asked = rig.asked().remove(0);
    assert_eq!((asked.peer, &asked.hashes[..]), (peer(2), &[root(&entry).into()][..]));
    rig.answer(asked.id, some(&value, &asked));
    rig.store_all();
    assert_eq!(rig.lookups(), slice::from_ref(&entry));
    rig.looked(root(&entry), missing(&value, &[]));
    let asked = rig.asked().remove(0);
    // The second chunk was left out.
    rig.answer(asked.id, some(&value, &asked)[..1].to_vec());
    let rest = rig.asked().remove(0);
    assert_eq!(rest.hashes, asked.hashes[1..]);
    rig.store_all();
    rig.answer(rest.id, some(&value, &rest));
    assert!(rig.lookups().is_empty());
    rig.store_all();
    assert_eq!(rig.lookups(), slice::from_ref(&entry));
    rig.looked(root(&entry), Looked::Whole);
    assert_eq!(rig.fetched(), [(root(&entry), Ok(()))]);
    assert_eq!(rig.notices()[0].1, peer(2));
    assert!(rig.core.fetches.jobs.is_empty() && rig.core.fetches.requests.is_empty());
}

#[test]
fn only_what_is_worth_it_is_fetched_unasked() {
    let limits = Limits { prefetch_bytes: ByteSize(1 << 17), ..Limits::default() };
    let (_, old) = update(2, 1);
    let (_, new) = update(2, 2);
    let mut rig = Rig::with(Some(layout(2)), limits, &[&old, &new]);
    rig.members(&[1]);
    // Of what was known at the start the newest.
    assert_eq!(rig.lookups(), slice::from_ref(&new));
    for entry in [
        entry_of(3, "update/1", 1, &weights(3, 1)),
        entry_of(4, "start", 1, &weights(4, 2)),
        tombstone(5, "update/1", 1),
        update(ME, 1).1,
    ] {
        rig.gossip(1, data(&entry));
    }
    rig.core.config.layout = Some(layout(3));
    rig.gossip(1, data(&entry_of(6, "update/1", 1, &weights(6, 3))));
    assert!(rig.lookups().is_empty());
}

#[test]
fn a_late_joiner_has_a_gone_authors_newest_from_another() {
    let (value, entry) = update(9, 3);
    let mut rig = Rig::with(Some(layout(2)), Limits::default(), &[&entry]);
    rig.input(Input::Tick);
    rig.lookups();
    rig.looked(root(&entry), Looked::NoManifest);
    // Nobody is there, which is no reason to try again and again.
    rig.wait(seconds(3600));
    assert!(rig.asked().is_empty() && rig.lookups().is_empty() && rig.fetched().is_empty());
    // One comes that doesn't have it, then one that has.
    rig.members(&[1]);
    assert_eq!(rig.lookups().len(), 1);
    rig.looked(root(&entry), Looked::NoManifest);
    let asked = rig.asked().remove(0);
    rig.answer(asked.id, nothing(&asked));
    assert!(rig.asked().is_empty());
    rig.members(&[2]);
    assert_eq!(rig.lookups().len(), 1);
    rig.give(&value);
    assert_eq!(rig.fetched(), [(root(&entry), Ok(()))]);
}

#[test]
fn what_nobody_gives_is_tried_again_later_and_later() {
    let (value, entry) = update(9, 3);
    let mut rig = Rig::with(Some(layout(2)), Limits::default(), &[&entry]);
    rig.members(&[1]);
    let mut tries = Vec::new();
    while rig.now < seconds(4000) {
        for _ in rig.lookups() {
            rig.looked(root(&entry), Looked::NoManifest);
        }
        for asked in rig.asked() {
            tries.push(rig.now.as_secs());
            rig.answer(asked.id, nothing(&asked));
        }
        rig.wait(seconds(1));
        rig.syncs();
    }
    assert!((12..20).contains(&tries.len()), "{tries:?}");
    assert!(tries.windows(2).all(|pair| pair[1] - pair[0] <= 961), "{tries:?}");
    // A peer that says it holds the value is asked at once.
    rig.input(Input::Holds { peer: peer(1), roots: vec![root(&entry)] });
    assert_eq!(rig.lookups().len(), 1);
    rig.give(&value);
    assert_eq!(rig.fetched().len(), 1);
}

#[test]
fn a_newer_update_takes_the_place_of_one_that_waits() {
    let mut rig = Rig::new(Some(layout(2)));
    rig.members(&[1, 2]);
    let updates: Vec<_> = (1..=4).map(|epoch| update(2, epoch)).collect();
    rig.gossip(1, data(&updates[0].1));
    rig.lookups();
    rig.looked(root(&updates[0].1), Looked::NoManifest);
    let first = rig.asked().remove(0);
    // What is under way goes on as long as its entry stands.
    rig.gossip(1, data(&updates[1].1));
    assert_eq!(rig.lookups(), slice::from_ref(&updates[1].1));
    assert!(rig.core.fetches.jobs.contains_key(&root(&updates[0].1)));
    rig.gossip(1, data(&updates[2].1));
    assert!(!rig.core.fetches.jobs.contains_key(&root(&updates[0].1)));
    // Its bytes are of no use any more.
    rig.answer(first.id, some(&updates[0].0, &first));
    assert!(rig.stores().is_empty());
    // One that nobody gives doesn't wait for a better time when there is a newer one.
    rig.looked(root(&updates[1].1), Looked::NoManifest);
    for _ in 0..2 {
        let asked = rig.asked().remove(0);
        rig.answer(asked.id, nothing(&asked));
    }
    assert!(!rig.core.fetches.jobs.contains_key(&root(&updates[1].1)));
    // Nor is it fetched from who was excluded.
    assert_eq!(rig.core.fetches.jobs.len(), 1);
    rig.gossip(1, data(&entry_of(2, "start", 3, &weights(1, 1))));
    assert!(rig.board.is_excluded(peer(2)));
    assert!(rig.core.fetches.jobs.is_empty() && rig.core.fetches.active.is_empty());
}

#[test]
fn wrong_bytes_are_asked_for_elsewhere() {
    let mut rig = Rig::new(None);
    rig.members(&[1, 2]);
    let (value, entry) = update(2, 1);
    rig.board.insert(entry.clone()).unwrap();
    rig.input(Input::Want(entry.clone()));
    rig.lookups();
    rig.looked(root(&entry), missing(&value, &[]));
    let asked = rig.asked().remove(0);
    assert_eq!((asked.peer, asked.hashes.len()), (peer(2), 2));
    // One of another length, and one of the right length.
    let wrong = vec![Some(Bytes::from_static(b"x")), Some(vec![0; 1 << 16].into())];
    rig.answer(asked.id, wrong);
    rig.store_all();
    // An answer is one strike, and the next is asked.
    let again = rig.asked();
    assert!(rig.bans().is_empty());
    assert!(again.iter().all(|asked| asked.peer == peer(1)));
    assert_eq!(again.iter().map(|asked| asked.hashes.len()).sum::<usize>(), 2);
    for asked in &again {
        rig.answer(asked.id, nothing(asked));
    }
    // There is no other: the first again, until it is dropped.
    for _ in 0..2 {
        for asked in rig.asked() {
            assert_eq!(asked.peer, peer(2));
            rig.answer(asked.id, vec![Some(Bytes::new()); asked.hashes.len()]);
            rig.store_all();
        }
    }
    assert_eq!(rig.bans(), [peer(2)]);
    assert_eq!(rig.fetched(), [(root(&entry), Err(FetchError::Unreachable { asked: 2 }))]);
    assert!(rig.core.fetches.in_flight.is_empty());
}

#[test]
fn a_want_ends_when_its_providers_die() {
    let mut rig = Rig::new(None);
    let (value, entry) = update(2, 1);
    rig.board.insert(entry.clone()).unwrap();
    rig.members(&[1, 2, 3]);
    rig.input(Input::Want(entry.clone()));
    rig.lookups();
    rig.looked(root(&entry), missing(&value, &[]));
    let first = rig.asked().remove(0);
    assert_eq!(first.peer, peer(2));
    rig.input(Input::Disconnected(peer(2)));
    let second = rig.asked().remove(0);
    assert_eq!(second.hashes, first.hashes);
    // Too late, and so nothing.
    rig.answer(first.id, some(&value, &first));
    assert!(rig.stores().is_empty());
    rig.fails(second.id);
    let third = rig.asked().remove(0);
    assert_ne!(third.peer, second.peer);
    rig.input(Input::Disconnected(third.peer));
    // The one that failed gets a second chance, as there is no other.
    let fourth = rig.asked().remove(0);
    assert_eq!(fourth.peer, second.peer);
    assert!(rig.fetched().is_empty());
    rig.fails(fourth.id);
    assert_eq!(rig.fetched(), [(root(&entry), Err(FetchError::Unreachable { asked: 3 }))]);
    // A value that is no longer current is a different error.
    let (value, entry) = update(3, 1);
    rig.input(Input::Want(entry.clone()));
    rig.lookups();
    rig.looked(root(&entry), missing(&value, &[]));
    let asked = rig.asked().remove(0);
    rig.answer(asked.id, nothing(&asked));
    assert_eq!(rig.fetched(), [(root(&entry), Err(FetchError::Gone))]);
}

#[test]
fn what_is_wanted_goes_before_what_was_announced() {
    let limits = Limits { values_at_once: 1, ..Limits::default() };
    let mut rig = Rig::with(Some(layout(2)), limits, &[]);
    rig.members(&[1, 2, 3]);
    let (value, announced) = update(2, 1);
    let (other, wanted) = update(3, 1);
    rig.gossip(1, data(&announced));
    assert_eq!(rig.lookups(), slice::from_ref(&announced));
    rig.looked(root(&announced), missing(&value, &[]));
    let asked = rig.asked().remove(0);
    rig.input(Input::Want(wanted.clone()));
    assert_eq!(rig.lookups(), slice::from_ref(&wanted));
    // What still comes of the other is kept.
    rig.answer(asked.id, some(&value, &asked));
    rig.store_all();
    rig.give(&other);
    assert_eq!(rig.fetched(), [(root(&wanted), Ok(()))]);
    assert_eq!(rig.lookups(), slice::from_ref(&announced));
    rig.looked(root(&announced), Looked::Whole);
    assert_eq!(rig.fetched(), [(root(&announced), Ok(()))]);
}

#[test]
fn a_want_that_nobody_waits_for_is_let_go() {
    let mut rig = Rig::new(None);
    rig.members(&[1]);
    let (value, entry) = update(2, 1);
    rig.input(Input::Want(entry.clone()));
    rig.lookups();
    rig.looked(root(&entry), missing(&value, &[]));
    let asked = rig.asked().remove(0);
    rig.input(Input::Unwant(root(&entry)));
    rig.answer(asked.id, some(&value, &asked));
    assert!(rig.stores().is_empty() && rig.fetched().is_empty());
    assert!(rig.core.fetches.requests.is_empty() && rig.core.fetches.in_flight.is_empty());
}

#[test]
fn requests_and_bytes_in_flight_are_bounded() {
    let mut rig = Rig::new(None);
    rig.members(&[1, 2]);
    let value = weights(1, 240);
    let entry = entry_of(2, "big", 1, &value);
    rig.input(Input::Want(entry.clone()));
    rig.lookups();
    rig.looked(root(&entry), missing(&value, &[]));
    let mut asked = rig.asked();
    assert_eq!(asked.len(), 2, "until it is known how fast it is");
    for answered in 0..2 {
        rig.answer(asked[answered].id, some(&value, &asked[answered]));
        rig.store_all();
        asked.extend(rig.asked());
    }
    let mut asked = asked.split_off(2);
    assert_eq!(asked.len(), 4);
    // 64 KiB each, 2 MiB a request.
    assert!(asked.iter().all(|asked| asked.peer == peer(2) && asked.hashes.len() == 32));
    // What has come and isn't stored counts.
    rig.answer(asked[0].id, some(&value, &asked[0]));
    assert!(rig.asked().is_empty());
    rig.store_all();
    let more = rig.asked();
    assert_eq!((more.len(), more[0].hashes.len()), (1, 32));
    asked.remove(0);
    // A short answer frees nothing but is asked for again.
    rig.answer(asked[0].id, some(&value, &asked[0])[..10].to_vec());
    assert!(rig.asked().is_empty());
    rig.store_all();
    assert_eq!(rig.asked()[0].hashes.len(), 32);
    // More than was asked for is a mistake.
    let too_many = vec![None; asked[1].hashes.len() + 1];
    rig.answer(asked[1].id, too_many);
    assert_eq!(rig.asked()[0].peer, peer(1));
}

#[test]
fn equal_roots_are_one_fetch_and_a_liar_spoils_nothing() {
    let mut rig = Rig::new(Some(layout(2)));
    rig.members(&[1, 2, 3]);
    let value = weights(1, 2);
    let content = |length| {
        let root = value.manifest().root();
        Content::Put { root, length, metadata: Metadata::default() }
    };
    let liar = signed(2, "update/1", 1, content(7), layout(2));
    let honest = entry_of(3, "update/1", 1, &value);
    rig.gossip(1, data(&liar));
    assert_eq!(rig.lookups(), slice::from_ref(&liar));
    rig.gossip(1, data(&honest));
    assert_eq!(rig.core.fetches.jobs.len(), 1);
    rig.looked(root(&honest), Looked::NotAsSigned);
    assert_eq!(rig.lookups(), slice::from_ref(&honest));
    assert!(rig.fetched().is_empty());
    rig.give(&value);
    assert_eq!(rig.fetched(), [(root(&honest), Ok(()))]);
    assert_eq!(rig.notices()[0].1, peer(3));
    // Asked for, it is an error. Unasked it isn't fetched again.
    rig.input(Input::Want(liar.clone()));
    rig.lookups();
    rig.looked(root(&liar), Looked::NotAsSigned);
    assert_eq!(rig.fetched(), [(root(&liar), Err(FetchError::NotAsSigned))]);
    rig.input(Input::BoardChanged);
    assert!(rig.lookups().is_empty());
}

#[test]
fn a_manifest_that_lies_is_its_authors_fault_alone() {
    let mut rig = Rig::with(None, Limits { strikes: 1, ..Limits::default() }, &[]);
    rig.members(&[1]);
    let value = weights(1, 2);
    let chunk = value.manifest().chunks()[0];
    let liar = entry_of(2, "a", 1, &weights(2, 2));
    let honest = entry_of(3, "a", 1, &value);
    rig.input(Input::Want(liar.clone()));
    rig.input(Input::Want(honest.clone()));
    rig.lookups();
    // One lists a chunk of the other, with another length.
    rig.looked(root(&liar), Looked::Part { here: Vec::new(), missing: vec![(chunk, 5)] });
    rig.looked(root(&honest), missing(&value, &[]));
    let [first, second] = &rig.asked()[..] else { panic!("not two requests") };
    assert_eq!(first.hashes, [chunk.into()]);
    rig.answer(first.id, some(&value, first));
    rig.answer(second.id, some(&value, second));
    rig.input(Input::Stored { hash: chunk.into(), result: StoreResult::NotAsSigned });
    assert_eq!(rig.fetched(), [(root(&liar), Err(FetchError::NotAsSigned))]);
    rig.stores();
    second.hashes.iter().for_each(|hash| rig.input(Input::Stored { hash: *hash, result: StoreResult::Stored }));
    let again = rig.asked().remove(0);
    assert_eq!(again.hashes, [chunk.into()]);
    rig.answer(again.id, some(&value, &again));
    rig.store_all();
    assert_eq!(rig.lookups(), [honest]);
    assert!(rig.bans().is_empty());
}

#[test]
fn chunks_of_two_values_are_fetched_once() {
    let mut rig = Rig::new(None);
    rig.members(&[1]);
    let value = weights(1, 2);
    let mut tensors: Vec<_> =
        value.tensors().map(|(spec, data)| Tensor { spec: spec.clone(), data: data.clone() }).collect();
    tensors[1].data = vec![77; 1 << 16].into();
    let other = Weights::new(tensors).unwrap();
    let entries = [entry_of(2, "a", 1, &value), entry_of(2, "b", 2, &other)];
    for (entry, value) in entries.iter().zip([&value, &other]) {
        rig.input(Input::Want(entry.clone()));
        rig.lookups();
        rig.looked(root(entry), missing(value, &[]));
    }
    let asked = rig.asked();
    assert_eq!(asked.iter().map(|asked| asked.hashes.len()).collect::<Vec<_>>(), [2, 1]);
    rig.answer(asked[0].id, some(&value, &asked[0]));
    rig.answer(asked[1].id, some(&other, &asked[1]));
    rig.store_all();
    assert_eq!(rig.lookups().len(), 2);
}

#[test]
fn a_failing_cache_is_an_error_and_never_a_loop() {
    let mut rig = Rig::new(None);
    rig.members(&[1]);
    let (value, entry) = update(2, 1);
    rig.input(Input::Want(entry.clone()));
    rig.looked(root(&entry), Looked::Failed("no disk".to_owned()));
    assert_eq!(rig.fetched(), [(root(&entry), Err(FetchError::Cache("no disk".to_owned())))]);
    // It forgets what it is given.
    rig.input(Input::Want(entry.clone()));
    for _ in 0..100 {
        if !rig.lookups().is_empty() {
            rig.looked(root(&entry), missing(&value, &[]));
        }
        for asked in rig.asked() {
            rig.answer(asked.id, some(&value, &asked));
        }
        rig.store_all();
    }
    assert_eq!(rig.fetched(), [(root(&entry), Err(FetchError::NotKept))]);
    // It can't be written.
    rig.input(Input::Want(entry.clone()));
    rig.lookups();
    rig.looked(root(&entry), missing(&value, &[]));
    let asked = rig.asked().remove(0);
    rig.answer(asked.id, some(&value, &asked));
    let (hash, _) = rig.stores()[0].clone();
    rig.input(Input::Stored { hash, result: StoreResult::Failed("full".to_owned()) });
    assert_eq!(rig.fetched(), [(root(&entry), Err(FetchError::Cache("full".to_owned())))]);
}

/// One who says that it holds a value and doesn't is asked last, also for other values, and dropped if it goes on.
#[test]
fn a_broken_promise_counts_for_the_next_value() {
    let mut rig = Rig::new(None);
    rig.members(&[1, 2]);
    let mut asked_first = 0;
    for number in 1..100 {
        let (value, entry) = (weights(number, 1), entry_of(3, "a", number.into(), &weights(number, 1)));
        rig.core.board.insert(entry.clone()).unwrap();
        rig.input(Input::Want(entry.clone()));
        [1, 2].into_iter().for_each(|seed| rig.input(Input::Holds { peer: peer(seed), roots: vec![root(&entry)] }));
        rig.lookups();
        rig.looked(root(&entry), missing(&value, &[]));
        while let Some(asked) = rig.asked().pop() {
            if asked.peer == peer(1) {
                asked_first += 1;
                rig.answer(asked.id, vec![None; asked.hashes.len()]);
            } else {
                rig.answer(asked.id, some(&value, &asked));
                rig.store_all();
                rig.lookups();
                rig.looked(root(&entry), Looked::Whole);
            }
        }
        assert_eq!(rig.fetched(), [(root(&entry), Ok(()))]);
    }
    assert!(asked_first <= 1, "{asked_first}");
    // Where there is nobody else it is asked, until it is dropped.
    rig.input(Input::Disconnected(peer(2)));
    for number in 100..200 {
        let (value, entry) = (weights(number, 1), entry_of(3, "a", number.into(), &weights(number, 1)));
        rig.core.board.insert(entry.clone()).unwrap();
        rig.input(Input::Want(entry.clone()));
        rig.input(Input::Holds { peer: peer(1), roots: vec![root(&entry)] });
        rig.lookups();
        rig.looked(root(&entry), missing(&value, &[]));
        rig.asked().iter().for_each(|asked| rig.answer(asked.id, vec![None; asked.hashes.len()]));
    }
    assert_eq!(rig.bans(), [peer(1)]);
}

/// A flood of made-up authors, whose values never come, writes nothing.
#[test]
fn an_entry_is_saved_once_a_part_of_its_value_is_here_or_its_author_was_folded() {
    let mut rig = Rig::new(Some(layout(2)));
    rig.members(&[1]);
    let saved =
        |rig: &mut Rig| rig.take(|output| if let Output::Save(entry) = output { Some(entry.clone()) } else { None });
    let (value, entry) = update(2, 1);
    rig.gossip(1, data(&entry));
    rig.lookups();
    rig.looked(root(&entry), Looked::NoManifest);
    assert!(saved(&mut rig).is_empty());
    // A restart must know whose the part is that it has.
    let asked = rig.asked().remove(0);
    rig.answer(asked.id, some(&value, &asked));
    rig.store_all();
    rig.lookups();
    rig.looked(root(&entry), missing(&value, &[]));
    assert_eq!(saved(&mut rig), [entry]);

    let (_, second) = update(3, 1);
    rig.board.folded(peer(3), 1);
    rig.gossip(1, data(&second));
    assert_eq!(saved(&mut rig), [second]);
}

#[test]
fn who_announces_what_it_never_gives_is_struck_a_little() {
    let against = |rig: &Rig, seed| rig.core.strikes.against(&peer(seed), rig.now);
    let mut rig = Rig::new(Some(layout(2)));
    rig.members(&[1, 2]);
    rig.gossip(1, data(&update(2, 1).1));
    rig.lookups();
    rig.looked(root(&update(2, 1).1), Looked::NoManifest);
    // Both are asked twice, and only one of them has said anything.
    let mut asked = Vec::new();
    while let Some(now) = rig.asked().pop() {
        asked.push(now.peer);
        rig.fails(now.id);
    }
    assert_eq!((asked.len(), against(&rig, 2), against(&rig, 1)), (4, 1, 0));
    // So for every attempt; an honest one may be overloaded for an hour.
    while rig.now < seconds(3600) {
        rig.wait(seconds(1));
        rig.syncs();
        for entry in rig.lookups() {
            rig.looked(root(&entry), Looked::NoManifest);
        }
        while let Some(now) = rig.asked().pop() {
            rig.fails(now.id);
        }
    }
    assert!(rig.bans().is_empty());
}

#[test]
fn who_puts_this_node_off_is_asked_again_when_it_said_and_others_meanwhile() {
    let later = |rig: &mut Rig, id, seconds| {
        let response = Err(RequestFailed::Later(Duration::from_secs(seconds)));
        rig.input(Input::BlobResponse { id, response });
    };
    let mut rig = Rig::new(None);
    rig.members(&[1, 2]);
    let (value, entry) = update(2, 1);
    rig.board.insert(entry.clone()).unwrap();
    rig.input(Input::Want(entry.clone()));
    rig.lookups();
    rig.looked(root(&entry), missing(&value, &[]));
    let first = rig.asked().remove(0);
    assert_eq!(first.peer, peer(2));
    later(&mut rig, first.id, 7);
    let other = rig.asked().remove(0);
    assert_eq!(other.peer, peer(1));
    rig.answer(other.id, nothing(&other));
    // Nobody has said that it can't be had.
    assert!(rig.asked().is_empty() && rig.fetched().is_empty());
    rig.wait(seconds(6));
    assert!(rig.asked().is_empty());
    rig.wait(seconds(1));
    let again = rig.asked().remove(0);
    assert_eq!((again.peer, &again.hashes), (peer(2), &first.hashes));
    rig.answer(again.id, some(&value, &again)[..1].to_vec());
    rig.store_all();
    // However long it may want, it is asked in half a minute; and not for ever.
    let mut asked = 0;
    while rig.fetched().is_empty() {
        for now in rig.asked() {
            asked += 1;
            later(&mut rig, now.id, 100_000);
        }
        rig.wait(seconds(30));
        assert!(rig.now < seconds(1000));
        rig.syncs();
    }
    assert!((20..24).contains(&asked), "{asked}");
    assert_eq!(rig.core.strikes.against(&peer(2), rig.now), 0);
}

#[test]
fn a_late_answer_is_not_waited_for_where_others_have_the_same_and_is_taken_if_it_comes() {
    let mut rig = Rig::new(None);
    rig.members(&[1, 2, 3]);
    let (value, entry) = update(2, 1);
    rig.board.insert(entry.clone()).unwrap();
    rig.input(Input::Want(entry.clone()));
    rig.lookups();
    rig.looked(root(&entry), missing(&value, &[]));
    let first = rig.asked().remove(0);
    assert_eq!(first.peer, peer(2));
    // Nobody else has said anything.
    rig.wait(seconds(10));
    assert!(rig.asked().is_empty());
    rig.input(Input::Holds { peer: peer(3), roots: vec![root(&entry)] });
    rig.wait(seconds(2));
    let second = rig.asked().remove(0);
    let sorted = |asked: &Asked| asked.hashes.iter().copied().collect::<BTreeSet<_>>();
    assert_eq!((second.peer, sorted(&second)), (peer(3), sorted(&first)));
    // What comes first is stored, and once.
    rig.answer(first.id, some(&value, &first)[..1].to_vec());
    assert_eq!(rig.stores().len(), 1);
    rig.answer(second.id, some(&value, &second));
    let stores = rig.stores();
    assert_eq!(stores.iter().map(|(hash, _)| *hash).collect::<Vec<_>>(), first.hashes[1..]);
    first.hashes.iter().for_each(|hash| rig.input(Input::Stored { hash: *hash, result: StoreResult::Stored }));
    rig.lookups();
    rig.looked(root(&entry), Looked::Whole);
    assert_eq!(rig.fetched(), [(root(&entry), Ok(()))]);
    assert!(rig.core.fetches.requests.is_empty() && rig.core.fetches.in_flight.is_empty());
    assert!(rig.bans().is_empty() && rig.core.strikes.against(&peer(2), rig.now) == 0);
}

#[test]
fn where_not_all_are_folded_only_what_is_expected_is_fetched() {
    let (value, entry) = update(2, 1);
    let mut rig = Rig::with(Some(layout(2)), Limits::default(), &[&entry]);
    rig.core.prefetches = Prefetches::new(true);
    rig.members(&[1]);
    rig.gossip(1, data(&update(3, 1).1));
    assert!(rig.lookups().is_empty());
    rig.input(Input::Expects([peer(3)].into()));
    assert_eq!(rig.lookups(), [update(3, 1).1]);
    rig.looked(root(&update(3, 1).1), Looked::NoManifest);
    assert_eq!(rig.asked().len(), 1);
    // It is another's turn: what is under way is given up.
    rig.input(Input::Expects([peer(2)].into()));
    assert_eq!(rig.lookups(), slice::from_ref(&entry));
    assert_eq!(rig.core.fetches.jobs.keys().collect::<Vec<_>>(), [&root(&entry)]);
    // And what is newer of it comes as well.
    rig.give(&value);
    rig.gossip(1, data(&update(3, 2).1));
    rig.gossip(1, data(&update(2, 2).1));
    assert_eq!(rig.lookups(), [update(2, 2).1]);
}
