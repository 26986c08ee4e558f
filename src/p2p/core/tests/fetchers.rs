//! Peers that fetch a value at the same time: whose turn each chunk is, what they tell each other, and what becomes of that
//! when they lie, lag or leave.

use super::*;
use crate::p2p::core::sharing::SHARED_FROM;

const CHUNKS: u64 = 128;

/// A core that fetches a long value of peer 2, with these members, and the value.
fn fetching(members: &[u8]) -> (Rig, Weights, Root) {
    let mut rig = Rig::new(None);
    rig.members(members);
    let value = weights(1, CHUNKS);
    assert!(value.layout().bytes() >= SHARED_FROM);
    let entry = entry_of(2, "big", 1, &value);
    rig.board.insert(entry.clone()).unwrap();
    rig.input(Input::Want(entry.clone()));
    rig.lookups();
    rig.looked(root(&entry), missing(&value, &[]));
    (rig, value, root(&entry))
}

fn told(rig: &mut Rig) -> Vec<(RequestId, PeerId, Vec<BlobHash>)> {
    rig.take(|output| match output {
        Output::Blobs { id, peer, request: BlobRequest::Fetching { hashes, .. } } => Some((*id, *peer, hashes.clone())),
        _ => None,
    })
}

fn tells(rig: &mut Rig, seed: u8, root: Root, hashes: &[BlobHash]) {
    rig.input(Input::Fetching { peer: peer(seed), root, hashes: hashes.to_vec() });
}

/// All notices are noted, and all of these answered in full.
fn serve(rig: &mut Rig, value: &Weights, asked: Vec<Asked>) {
    for asked in asked {
        rig.answer(asked.id, some(value, &asked));
        rig.store_all();
    }
    told(rig).into_iter().for_each(|(id, ..)| rig.answer(id, vec![]));
}

fn chunks(value: &Weights) -> Vec<BlobHash> {
    value.manifest().chunks().iter().map(|hash| (*hash).into()).collect()
}

#[test]
fn members_are_told_at_the_beginning_and_not_of_short_values() {
    let (mut rig, ..) = fetching(&[1, 2, 3]);
    let invited: BTreeSet<PeerId> = told(&mut rig).into_iter().map(|(_, peer, _)| peer).collect();
    assert_eq!(invited, [peer(1), peer(3)].into(), "the author has it");

    let mut rig = Rig::new(None);
    rig.members(&[1, 2, 3]);
    let (value, entry) = update(2, 1);
    rig.input(Input::Want(entry.clone()));
    rig.lookups();
    rig.looked(root(&entry), missing(&value, &[]));
    assert!(told(&mut rig).is_empty());
}

#[test]
fn of_two_who_fetch_a_value_each_takes_its_chunks_from_the_author_and_gives_them_to_the_other() {
    let (mut rig, value, root) = fetching(&[1, 2, 3]);
    let before = rig.asked();
    tells(&mut rig, 3, root, &[]);
    serve(&mut rig, &value, before.clone());
    let mut of_author: BTreeSet<BlobHash> = before.into_iter().flat_map(|asked| asked.hashes).collect();
    let early = of_author.len();
    loop {
        let asked = rig.asked();
        if asked.is_empty() {
            break;
        }
        assert!(asked.iter().all(|asked| asked.peer == peer(2)), "the other hasn't got anything");
        of_author.extend(asked.iter().flat_map(|asked| asked.hashes.clone()));
        serve(&mut rig, &value, asked);
    }
    // What was asked for before the other was known of, and half of the rest.
    let share = early + (CHUNKS as usize - early) / 2;
    assert!((share - 16..=share + 16).contains(&of_author.len()), "{} of {CHUNKS}, {early} early", of_author.len());
    // What the other gets is had from it.
    let rest: Vec<BlobHash> = chunks(&value).into_iter().filter(|hash| !of_author.contains(hash)).collect();
    for some in rest.chunks(20) {
        tells(&mut rig, 3, root, some);
        let asked = rig.asked();
        assert!(!asked.is_empty() && asked.iter().all(|asked| asked.peer == peer(3)));
        serve(&mut rig, &value, asked);
        loop {
            let more = rig.asked();
            if more.is_empty() {
                break;
            }
            serve(&mut rig, &value, more);
        }
    }
    assert_eq!(rig.lookups().len(), 1);
    rig.looked(root, Looked::Whole);
    // Whoever still fetches it learns that all of it is here.
    assert!(rig.notices().iter().any(|(_, to, roots)| *to == peer(3) && roots == &[root]));
    assert!(rig.bans().is_empty());
}

#[test]
fn a_fetcher_is_told_of_everything_that_came_some_at_a_time() {
    let (mut rig, value, root) = fetching(&[1, 2, 3]);
    told(&mut rig);
    let first = rig.asked();
    let come: BTreeSet<BlobHash> = first.iter().flat_map(|asked| asked.hashes.clone()).collect();
    for asked in first {
        rig.answer(asked.id, some(&value, &asked));
        rig.store_all();
    }
    // It began later, and hears of all that came before.
    tells(&mut rig, 3, root, &[]);
    let mut heard = BTreeSet::new();
    let mut notices = told(&mut rig);
    while let Some((id, to, hashes)) = notices.pop() {
        assert!(notices.is_empty() && to == peer(3) && hashes.len() <= crate::p2p::message::MAX_BLOBS);
        heard.extend(hashes);
        assert!(told(&mut rig).is_empty(), "one at a time");
        rig.answer(id, vec![]);
        rig.wait(seconds(1));
        notices = told(&mut rig);
    }
    assert!(come.is_subset(&heard), "{} of {}", heard.len(), come.len());
    // Who has all of it says so to whoever fetches it.
    let own = entry_of(ME, "own", 1, &weights(9, CHUNKS));
    rig.board.insert(own.clone()).unwrap();
    tells(&mut rig, 3, super::root(&own), &[]);
    assert_eq!(rig.notices().pop().map(|(_, to, roots)| (to, roots)), Some((peer(3), vec![super::root(&own)])));
}

#[test]
fn a_fetcher_is_told_of_what_was_here_before() {
    let mut rig = Rig::new(None);
    rig.members(&[1, 2, 3]);
    let value = weights(1, CHUNKS);
    let entry = entry_of(2, "big", 1, &value);
    let here: Vec<_> = value.manifest().chunks()[..40].to_vec();
    rig.board.insert(entry.clone()).unwrap();
    rig.input(Input::Want(entry.clone()));
    rig.lookups();
    rig.looked(root(&entry), missing(&value, &here));
    told(&mut rig);
    tells(&mut rig, 3, root(&entry), &[]);
    let notices = told(&mut rig);
    let [(_, to, hashes)] = &notices[..] else { panic!("not one notice: {notices:?}") };
    let here: BTreeSet<BlobHash> = here.into_iter().map(BlobHash::from).collect();
    assert_eq!((*to, hashes.iter().copied().collect()), (peer(3), here));
}

/// Fifteen who only say that they fetch cost a moment, not the value.
#[test]
fn who_gets_nowhere_has_no_turn_any_more() {
    let others: Vec<u8> = (3..18).collect();
    let (mut rig, value, root) = fetching(&[&[2], &others[..]].concat());
    let mut asked = rig.asked();
    others.iter().for_each(|seed| tells(&mut rig, *seed, root, &[]));
    let mut waited = Duration::ZERO;
    let mut got = 0;
    while got < CHUNKS as usize {
        if asked.is_empty() {
            rig.wait(Duration::from_millis(100));
            waited += Duration::from_millis(100);
            assert!(waited < seconds(5), "{got} chunks after five seconds");
        }
        got += asked.iter().map(|asked| asked.hashes.len()).sum::<usize>();
        serve(&mut rig, &value, asked);
        asked = rig.asked();
    }
    assert!(waited <= seconds(1), "{waited:?}");
    assert_eq!(rig.lookups().len(), 1);
}

#[test]
fn who_tells_of_what_it_has_not_is_asked_once_and_struck_a_little() {
    let (mut rig, value, root) = fetching(&[2, 3]);
    let early = rig.asked();
    tells(&mut rig, 3, root, &chunks(&value));
    let mut asked = rig.asked();
    asked.extend(early);
    let (mut of_liar, mut against) = (0, 0);
    for _ in 0..1000 {
        let Some(next) = asked.pop() else { break };
        if next.peer == peer(3) {
            of_liar += next.hashes.len();
            rig.answer(next.id, nothing(&next));
            against = against.max(rig.core.strikes.against(&peer(3), rig.now));
        } else {
            rig.answer(next.id, some(&value, &next));
            rig.store_all();
        }
        asked.extend(rig.asked());
        if asked.is_empty() {
            rig.wait(seconds(1));
            asked.extend(rig.asked());
        }
        told(&mut rig);
    }
    assert_eq!(rig.lookups().len(), 1, "all has come");
    assert!(of_liar <= CHUNKS as usize && against > 0, "{of_liar} asked of it, {against} against it");
}

#[test]
fn what_fetchers_tell_is_bounded() {
    let others: Vec<u8> = (3..63).collect();
    let (mut rig, value, root) = fetching(&[&[2], &others[..]].concat());
    let made_up: Vec<BlobHash> = (0..64).map(|seed| BlobHash::of(&[seed])).collect();
    for seed in &others {
        tells(&mut rig, *seed, root, &made_up);
        tells(&mut rig, *seed, Root::from_bytes([7; 32]), &made_up);
    }
    let job = &rig.core.fetches.jobs[&root];
    let counted = others.iter().filter(|seed| job.fetchers.contains(&peer(**seed))).count();
    assert_eq!((counted, rig.core.fetches.jobs.len()), (32, 1));
    assert!(others.iter().all(|seed| job.fetchers.has(&peer(*seed)).next().is_none()), "they aren't of this value");
    // Whoever isn't connected, or may not take part, isn't heard.
    tells(&mut rig, 99, root, &chunks(&value));
    assert!(!rig.core.fetches.jobs[&root].fetchers.contains(&peer(99)));
    rig.input(Input::Disconnected(peer(3)));
    assert!(!rig.core.fetches.jobs[&root].fetchers.contains(&peer(3)));
}
