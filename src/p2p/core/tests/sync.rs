//! Two entry sets come to agree, and a peer that breaks the protocol is caught.

use super::*;
use crate::{
    entries::{BUCKETS, Fingerprints, Position},
    p2p::message::{Item, MAX_ITEMS},
};

/// Passes messages between two rigs, which are connected, until nothing more is said. The number of requests.
fn talk(rigs: &mut [Rig; 2]) -> usize {
    let mut said = 0;
    loop {
        let before = said;
        for (asker, asked) in [(0, 1), (1, 0)] {
            for (id, to, request) in rigs[asker].syncs() {
                assert_eq!(to, rigs[asked].core.config.me);
                let me = rigs[asker].core.config.me;
                rigs[asked].input(Input::SyncRequest { token: 1, peer: me, request });
                let mut replies = rigs[asked].take(|output| match output {
                    Output::SyncReply { response, .. } => Some(response.clone()),
                    _ => None,
                });
                rigs[asker].input(Input::SyncResponse { id, response: Ok(replies.remove(0)) });
                said += 1;
                assert!(said < 10_000, "it doesn't come to an end");
            }
        }
        if said == before {
            return said;
        }
    }
}

fn pair() -> [Rig; 2] {
    let mut rigs = [Rig::new(None), Rig::new(None)];
    rigs[1].core.config.me = peer(200);
    rigs
}

fn connect(rigs: &mut [Rig; 2]) -> usize {
    rigs[0].input(Input::Connected(peer(200)));
    rigs[1].input(Input::Connected(peer(ME)));
    talk(rigs)
}

#[test]
fn two_sets_of_many_pages_come_to_agree() {
    let mut rigs = pair();
    for author in 1..=40u8 {
        rigs.iter().for_each(|rig| assert!(rig.board.know(peer(author))));
        for number in 0..20u64 {
            let rig = &rigs[(number % 2) as usize];
            rig.board.insert(tombstone(author, &format!("{number}"), number + 1)).unwrap();
        }
    }
    rigs[0].board.insert_proof(proof(41, 7)).unwrap();
    rigs[1].board.insert(tombstone(41, "a", 1)).unwrap();
    connect(&mut rigs);
    assert_eq!(rigs[0].board.digest(), rigs[1].board.digest());
    assert_eq!(rigs[0].board.set().iter("").count(), 800);
    assert!(rigs[1].board.is_excluded(peer(41)));
    for rig in &mut rigs {
        assert_eq!(rig.core.members().count(), 1);
        // Nothing is saved twice.
        let saved = rig.take(|output| matches!(output, Output::Save(_)).then_some(())).len();
        assert_eq!(saved, 400);
    }
    // They know the same: a question each minute, and no more.
    for _ in 0..3 {
        rigs.iter_mut().for_each(|rig| rig.wait(seconds(60)));
        assert_eq!(talk(&mut rigs), 2);
    }
}

#[test]
fn who_can_never_agree_does_not_go_on_about_it() {
    let mut rigs = pair();
    let proof = proof(3, 7);
    for rig in &mut rigs {
        rig.board.insert_proof(proof.clone()).unwrap();
    }
    connect(&mut rigs);
    rigs[0].board.readmit(peer(3));
    rigs[0].input(Input::BoardChanged);
    assert!(talk(&mut rigs) < 8);
    assert_ne!(rigs[0].board.digest(), rigs[1].board.digest());
    assert!(!rigs[0].board.is_excluded(peer(3)) && rigs[1].board.is_excluded(peer(3)));
    for _ in 0..10 {
        rigs.iter_mut().for_each(|rig| rig.wait(seconds(60)));
        assert!(talk(&mut rigs) <= 8);
    }
    // What is new still passes.
    rigs[0].board.insert(tombstone(4, "a", 1)).unwrap();
    rigs.iter_mut().for_each(|rig| rig.wait(seconds(61)));
    talk(&mut rigs);
    assert_eq!(rigs[1].board.set().of_author(peer(4)).count(), 1);
}

#[test]
fn another_federation_is_told_nothing() {
    let mut rig = Rig::new(None);
    rig.board.insert(tombstone(2, "a", 1)).unwrap();
    let federation = FederationId::new("other", "1");
    let digest = rig.board.digest();
    let compare = SyncRequest::Compare { federation, digest };
    let items = SyncRequest::Items { federation, buckets: crate::entries::BucketSet::ALL, after: None };
    assert_eq!(rig.asked_to_sync(1, compare), SyncResponse::NotMember);
    assert_eq!(rig.asked_to_sync(1, items), SyncResponse::NotMember);
    // And it asks nothing more of a peer that is in another one, or doesn't speak the protocol.
    for (seed, response) in [(1, Ok(SyncResponse::NotMember)), (2, Err(RequestFailed::Unsupported))] {
        rig.input(Input::Connected(peer(seed)));
        let (id, ..) = rig.syncs()[0];
        rig.input(Input::SyncResponse { id, response });
    }
    rig.wait(seconds(600));
    assert!(rig.syncs().is_empty());
    assert_eq!(rig.core.members().count(), 0);
    // Unless it asks itself.
    assert_eq!(rig.asked_to_sync(1, super::compare(digest)), SyncResponse::Same);
    assert_eq!(rig.core.members().collect::<Vec<_>>(), [peer(1)]);
}

#[test]
fn whose_home_was_copied_tells_each_member_of_it_before_it_ends() {
    let mut rig = Rig::new(None);
    rig.members(&[1, 2]);
    assert!(!rig.core.is_telling_own_proof());
    let proof = proof(ME, 7);
    let entries = proof.entries.each_ref().map(|entry| entry.bytes().to_vec());
    // Found out by a put, past the core.
    rig.board.insert_proof(proof.clone()).unwrap();
    rig.input(Input::Tick);
    let told = |rig: &mut Rig| {
        let proofs = rig.syncs().into_iter().filter_map(|(id, peer, request)| match request {
            SyncRequest::Proof { entries, .. } => Some((id, peer, entries)),
            _ => None,
        });
        proofs.collect::<Vec<_>>()
    };
    let first = told(&mut rig);
    let peers: Vec<PeerId> = first.iter().map(|(_, peer, _)| *peer).collect();
    assert!(peers.len() == 2 && peers.contains(&peer(1)) && peers.contains(&peer(2)));
    assert!(first.iter().all(|(.., told)| *told == entries));
    // One has taken it, the other is too old to, or gone: no longer waited for, and not told again.
    rig.input(Input::SyncResponse { id: first[0].0, response: Ok(SyncResponse::Same) });
    assert!(rig.core.is_telling_own_proof());
    rig.input(Input::SyncResponse { id: first[1].0, response: Err(RequestFailed::Failed) });
    assert!(!rig.core.is_telling_own_proof() && told(&mut rig).is_empty());
    // A newcomer is told too.
    rig.members(&[3]);
    assert_eq!(told(&mut rig).len(), 1);
    rig.input(Input::Disconnected(peer(3)));
    assert!(!rig.core.is_telling_own_proof());
    // Nobody is, when the operator says otherwise.
    rig.board.readmit(peer(ME));
    rig.members(&[4]);
    assert!(told(&mut rig).is_empty());
}

#[test]
fn who_is_told_a_proof_excludes_its_author_and_tells_the_others() {
    let mut rig = Rig::new(None);
    rig.members(&[1, 2]);
    let told = |author| {
        let entries = proof(author, 7).entries.each_ref().map(|entry| entry.bytes().to_vec());
        SyncRequest::Proof { federation: federation(), entries }
    };
    assert_eq!(rig.asked_to_sync(1, told(1)), SyncResponse::Same);
    assert!(rig.board.is_excluded(peer(1)));
    assert_eq!(rig.take(|output| matches!(output, Output::SaveProof(_)).then_some(())).len(), 1);
    rig.wait(seconds(2));
    assert!(
        rig.syncs().iter().any(|(_, to, request)| *to == peer(2) && matches!(request, SyncRequest::Compare { .. }))
    );
    // Known already.
    assert_eq!(rig.asked_to_sync(1, told(1)), SyncResponse::Same);
    assert!(rig.take(|output| matches!(output, Output::SaveProof(_)).then_some(())).is_empty());
    // Two times the same proves nothing, nor does rubbish.
    let one = proof(2, 7).entries[0].bytes().to_vec();
    for entries in [[one.clone(), one], [vec![1], vec![]]] {
        let request = SyncRequest::Proof { federation: federation(), entries };
        assert_eq!(rig.asked_to_sync(2, request), SyncResponse::NotMember);
    }
    assert!(!rig.board.is_excluded(peer(2)));
    let other = SyncRequest::Proof { federation: FederationId::new("other", "1"), entries: [vec![], vec![]] };
    assert_eq!(rig.asked_to_sync(1, other), SyncResponse::NotMember);
}

#[test]
fn a_lost_question_is_asked_again() {
    let mut rig = Rig::new(None);
    rig.input(Input::Connected(peer(1)));
    let (id, ..) = rig.syncs()[0];
    rig.input(Input::SyncResponse { id, response: Err(RequestFailed::Failed) });
    assert!(rig.syncs().is_empty());
    rig.wait(seconds(60));
    assert_eq!(rig.syncs().len(), 1);
}

#[test]
fn what_sync_brings_is_told_to_the_others() {
    let mut rig = Rig::new(None);
    rig.members(&[1, 2, 3]);
    let other = Board::new(federation());
    other.insert(tombstone(9, "a", 1)).unwrap();
    assert!(matches!(rig.asked_to_sync(1, compare(other.digest())), SyncResponse::Differs(_)));
    let (id, to, _) = rig.syncs()[0].clone();
    assert_eq!(to, peer(1));
    let fingerprints = other.set().fingerprints();
    rig.input(Input::SyncResponse { id, response: Ok(SyncResponse::Differs(fingerprints)) });
    let (id, _, request) = rig.syncs()[0].clone();
    let SyncRequest::Items { buckets, after: None, .. } = request else { panic!("{request:?}") };
    let (items, next) = other.set().items_after(&buckets, None, MAX_ITEMS);
    let response = SyncResponse::Items { items: items.iter().map(Item::from).collect(), next };
    rig.input(Input::SyncResponse { id, response: Ok(response) });
    let told: Vec<_> = rig.syncs().into_iter().map(|(_, peer, _)| peer).collect();
    assert_eq!(told.len(), 2);
    assert!(!told.contains(&peer(1)));
    // An answer that comes twice is nothing.
    rig.input(Input::SyncResponse { id, response: Ok(SyncResponse::Same) });
    assert!(rig.bans().is_empty());
}

/// A session with a peer that claims to know something in every bucket; the answer to the first question for a page.
fn page(rig: &mut Rig, items: Vec<Item>, next: Option<Position>) {
    rig.input(Input::Connected(peer(1)));
    for response in
        [SyncResponse::Differs(Fingerprints(Box::new([[1; 16]; BUCKETS]))), SyncResponse::Items { items, next }]
    {
        let (id, ..) = rig.syncs()[0];
        rig.input(Input::SyncResponse { id, response: Ok(response) });
    }
}

#[test]
fn pages_without_an_end_are_the_peers_fault() {
    let position = |bucket| Some(Position { bucket, text: "x".to_owned() });
    let entry = || Item::Entry(tombstone(9, "a", 1).bytes().to_vec());
    let limits = || Limits { strikes: 1, ..Limits::default() };
    // Empty, and yet more to come.
    let mut rig = Rig::with(None, limits(), &[]);
    page(&mut rig, vec![], position(3));
    assert_eq!(rig.bans(), [peer(1)]);
    // The same position twice.
    let mut rig = Rig::with(None, limits(), &[]);
    page(&mut rig, vec![entry()], position(3));
    let (id, ..) = rig.syncs()[0];
    rig.input(Input::SyncResponse {
        id,
        response: Ok(SyncResponse::Items { items: vec![entry()], next: position(3) }),
    });
    assert_eq!(rig.bans(), [peer(1)]);
    assert_eq!(rig.board.set().iter("").count(), 1);
    // Too much at once.
    let mut rig = Rig::with(None, limits(), &[]);
    page(&mut rig, vec![entry(); MAX_ITEMS + 1], None);
    assert_eq!(rig.bans(), [peer(1)]);
    // An answer to another question.
    let mut rig = Rig::with(None, limits(), &[]);
    rig.input(Input::Connected(peer(1)));
    let (id, ..) = rig.syncs()[0];
    rig.input(Input::SyncResponse { id, response: Ok(SyncResponse::Items { items: vec![], next: None }) });
    assert_eq!(rig.bans(), [peer(1)]);
}

#[test]
fn of_a_page_what_is_right_is_kept_and_what_is_wrong_ends_it() {
    let mut rig = Rig::new(None);
    let right = |name: &str, number| Item::Entry(tombstone(9, name, number).bytes().to_vec());
    let newer_version = Item::Entry(vec![2, 2, 2]);
    let no_proof = Item::Proof([tombstone(8, "a", 1).bytes().to_vec(), tombstone(8, "a", 2).bytes().to_vec()]);
    let newer_encoding = Item::Entry(encoded(7, &update(7, 1).1, &[0x80]));
    let newer_proof = Item::Proof([4, 5].map(|flags| encoded(7, &update(7, 1).1, &[flags])));
    let newer = [newer_version, newer_encoding, newer_proof];
    let items = [&[right("a", 1)], &newer[..], &[right("b", 2), no_proof, right("c", 3)]].concat();
    page(&mut rig, items, None);
    assert_eq!(rig.board.set().iter("").count(), 2);
    assert!(!rig.board.is_excluded(peer(8)));
    assert!(rig.bans().is_empty());
    let retains = rig.take(|output| matches!(output, Output::Retain).then_some(()));
    assert_eq!(retains.len(), 1);
    // It was one strike.
    rig.gossip(1, vec![]);
    rig.gossip(1, vec![]);
    assert_eq!(rig.bans(), [peer(1)]);
}

#[test]
fn what_there_is_no_room_for_pushes_nobody_out_and_is_not_even_verified() {
    let board = Board::with_limits(federation(), EntryLimits { strangers: 2, ..EntryLimits::WIDE });
    [8, 9].into_iter().for_each(|author| assert!(board.insert(tombstone(author, "a", 1)).unwrap()));
    let mut rig = Rig::on(board, Membership::open(), None, Limits::default());
    let bytes = |proof: &Conflict| proof.entries.each_ref().map(|entry| entry.bytes().to_vec());
    let forged = |mut bytes: Vec<u8>| {
        *bytes.last_mut().unwrap() ^= 1;
        bytes
    };
    let items = vec![
        Item::Entry(forged(tombstone(5, "a", 1).bytes().to_vec())),
        Item::Proof(bytes(&proof(6, 7)).map(forged)),
        Item::Proof(bytes(&proof(7, 7))),
        Item::Entry(tombstone(8, "b", 2).bytes().to_vec()),
        // The exclusion of one that is here needs no room.
        Item::Proof(bytes(&proof(9, 7))),
    ];
    page(&mut rig, items, None);
    assert_eq!(rig.core.strikes.against(&peer(1), rig.now), 0);
    let there = |rig: &Rig| {
        let set = rig.board.set();
        (set.pushed_out(), set.author_count(), set.of_author(peer(8)).count(), set.is_excluded(peer(9)))
    };
    assert_eq!(there(&rig), (0, 2, 2, true));
    // Nor does it if it is told as a peer's own.
    let told = SyncRequest::Proof { federation: federation(), entries: bytes(&proof(7, 7)) };
    assert_eq!(rig.asked_to_sync(1, told), SyncResponse::Same);
    assert_eq!(there(&rig), (0, 2, 2, true));
    // Of one that is here, a signature that is wrong is the peer's fault.
    rig.input(Input::Disconnected(peer(1)));
    page(&mut rig, vec![Item::Entry(forged(tombstone(8, "c", 3).bytes().to_vec()))], None);
    assert!(rig.core.strikes.against(&peer(1), rig.now) > 0);
}
