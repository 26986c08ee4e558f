//! Who is not on the list gets nothing and leaves nothing, also once it has been revoked.

use super::*;
use crate::{
    entries::{BucketSet, MemberList},
    p2p::message::Item,
};

fn closed(members: &[u8]) -> Rig {
    Rig::admitting(Membership::only(members.iter().map(|seed| peer(*seed))), None, Limits::default(), &[])
}

impl Rig {
    fn now_admits(&mut self, members: &[u8]) {
        self.core.config.membership.replace(MemberList::from_iter(members.iter().map(|seed| peer(*seed))));
        self.input(Input::MembershipChanged);
    }

    fn authors(&self) -> Vec<PeerId> {
        self.board.set().authors().collect()
    }
}

#[test]
fn nothing_of_a_stranger_is_taken_in_whoever_brings_it() {
    let mut rig = closed(&[1]);
    rig.members(&[1]);
    rig.out.clear();
    // A member whose own list is longer passes it on, and isn't to blame.
    let (_, stranger) = update(2, 1);
    assert_eq!(rig.gossip(1, data(&stranger)), Verdict::Ignore);
    rig.input(Input::Learned(vec![stranger.clone()]));
    let digest = Board::new(federation()).digest();
    rig.asked_to_sync(1, compare(crate::weights::Digest::from_bytes([7; 32])));
    let (id, ..) = rig.syncs().pop().unwrap();
    let theirs = Board::new(federation());
    theirs.insert(stranger.clone()).unwrap();
    let response = SyncResponse::Differs(theirs.set().fingerprints());
    rig.input(Input::SyncResponse { id, response: Ok(response) });
    let (id, ..) = rig.syncs().pop().unwrap();
    let of_proof = proof(2, 7);
    let items = vec![
        Item::Entry(stranger.bytes().to_vec()),
        Item::Proof(of_proof.entries.each_ref().map(|entry| entry.bytes().to_vec())),
    ];
    rig.input(Input::SyncResponse { id, response: Ok(SyncResponse::Items { items, next: None }) });
    assert_eq!(rig.board.digest(), digest);
    assert!(rig.board.conflicts().is_empty());
    assert!(!rig.out.iter().any(|output| matches!(output, Output::Save(_) | Output::SaveProof(_))), "{:?}", rig.out);
    assert!(rig.bans().is_empty());
    // A member's own entry is taken in as ever.
    assert_eq!(rig.gossip(1, data(&update(1, 1).1)), Verdict::Accept);
}

#[test]
fn who_is_connected_but_no_member_is_asked_and_told_nothing() {
    let mut rig = closed(&[1]);
    let (_, own) = update(ME, 1);
    rig.board.insert(own.clone()).unwrap();
    // It is on the bootstrap list.
    rig.input(Input::Connected(peer(9)));
    rig.input(Input::Connected(peer(9)));
    assert_eq!(rig.core.heard(&peer(9)), Heard::NoNode);
    let digest = rig.board.digest();
    assert_eq!(rig.asked_to_sync(9, compare(digest)), SyncResponse::NotMember);
    let items = SyncRequest::Items { federation: federation(), buckets: BucketSet::ALL, after: None };
    assert_eq!(rig.asked_to_sync(9, items), SyncResponse::NotMember);
    assert_eq!(rig.gossip(9, data(&update(1, 1).1)), Verdict::Ignore);
    rig.input(Input::Asked(peer(9)));
    rig.input(Input::Keep { peer: peer(9), entry: data(&update(9, 1).1) });
    rig.wait(seconds(300));
    assert_eq!((rig.core.members().count(), rig.authors()), (0, vec![peer(ME)]));
    assert!(rig.out.is_empty(), "{:?}", rig.out);
}

#[test]
fn who_is_revoked_is_forgotten_and_learned_again_when_it_is_back() {
    let mut rig = closed(&[1, 2]);
    rig.members(&[1, 2]);
    let (_, first) = update(1, 1);
    let (_, second) = update(2, 1);
    for entry in [&first, &second] {
        assert_eq!(rig.gossip(1, data(entry)), Verdict::Accept);
    }
    rig.out.clear();
    rig.now_admits(&[1]);
    assert_eq!(rig.authors(), [peer(1)]);
    assert_eq!(rig.core.members().collect::<Vec<_>>(), [peer(1)]);
    assert_eq!(rig.take(|output| matches!(output, Output::Retain).then_some(())).len(), 1, "its files go");
    let digest = rig.board.digest();
    assert_eq!(rig.asked_to_sync(2, compare(digest)), SyncResponse::NotMember);
    assert_eq!(rig.gossip(2, data(&update(1, 2).1)), Verdict::Ignore);
    assert_eq!(rig.gossip(1, data(&update(2, 2).1)), Verdict::Ignore);
    rig.input(Input::Disconnected(peer(2)));
    // The other member knows more, and is asked for it once only.
    let theirs = Board::new(federation());
    for entry in [&first, &second] {
        theirs.insert(entry.clone()).unwrap();
    }
    let answer = |rig: &mut Rig| {
        let mut pages = 0;
        while let Some((id, to, request)) = rig.syncs().pop() {
            assert_eq!(to, peer(1));
            let response = match request {
                SyncRequest::Compare { digest, .. } if digest == theirs.digest() => SyncResponse::Same,
                SyncRequest::Compare { .. } => SyncResponse::Differs(theirs.set().fingerprints()),
                SyncRequest::Items { buckets, .. } | SyncRequest::Others { buckets, .. } => {
                    pages += 1;
                    let (items, next) = theirs.set().items_after(&buckets, None, 100);
                    SyncResponse::Items { items: items.iter().map(Item::from).collect(), next }
                }
                SyncRequest::Proof { .. } => SyncResponse::Same,
            };
            rig.input(Input::SyncResponse { id, response: Ok(response) });
        }
        pages
    };
    let mut pages = 0;
    for _ in 0..5 {
        rig.wait(seconds(61));
        pages += answer(&mut rig);
    }
    assert_eq!((pages, rig.authors()), (1, vec![peer(1)]));
    // What is new in another bucket is still asked for, and that alone.
    let (_, newer) = update(1, 2);
    theirs.insert(newer.clone()).unwrap();
    rig.wait(seconds(61));
    assert_eq!(answer(&mut rig), 1);
    assert!(rig.board.set().holds(&newer.hash()));
    rig.now_admits(&[1, 2]);
    rig.wait(seconds(2));
    answer(&mut rig);
    assert_eq!(rig.board.digest(), theirs.digest());
}

/// Nodes of which each has a list of its own, and gossip and sync between all of them in a random order: each comes to
/// know all that the authors on its list have said, and of nobody else anything; then all is quiet.
#[test]
fn lists_that_differ_come_to_rest_with_what_each_admits() {
    const NODES: u8 = 6;
    for seed in 0..20u64 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let lists: Vec<Vec<u8>> = (0..NODES)
            .map(|node| (0..2 * NODES).filter(|other| other == &node || random.next_u64() % 4 > 0).collect())
            .collect();
        let mut rigs: Vec<Rig> = lists
            .iter()
            .enumerate()
            .map(|(node, list)| {
                let mut rig = closed(list);
                rig.core.config.me = peer(node as u8);
                rig
            })
            .collect();
        let both = |one: u8, other: u8| lists[one as usize].contains(&other) && lists[other as usize].contains(&one);
        for (one, other) in (0..NODES).flat_map(|one| (0..NODES).map(move |other| (one, other))) {
            if one != other && both(one, other) {
                rigs[one as usize].input(Input::Connected(peer(other)));
            }
        }
        // Authors beyond the nodes are known to those that admit them, from earlier.
        for author in 0..2 * NODES {
            let (_, entry) = update(author, 1);
            for node in (0..NODES).filter(|node| lists[*node as usize].contains(&author) && random.next_u64() % 2 == 0)
            {
                let _ = rigs[node as usize].board.insert(entry.clone());
            }
        }
        let of = |id: PeerId| (0..NODES).find(|node| peer(*node) == id).unwrap();
        let mut said = 0;
        for round in 0..12 {
            let before = said;
            loop {
                let mut questions = Vec::new();
                for (node, rig) in rigs.iter_mut().enumerate() {
                    questions.extend(rig.syncs().into_iter().map(|sync| (node, sync)));
                }
                if questions.is_empty() {
                    break;
                }
                while !questions.is_empty() {
                    let (node, (id, to, request)) =
                        questions.swap_remove((random.next_u64() % questions.len() as u64) as usize);
                    said += 1;
                    let response = rigs[of(to) as usize].asked_to_sync(node as u8, request);
                    rigs[node].input(Input::SyncResponse { id, response: Ok(response) });
                }
                assert!(said < 5000, "seed {seed}: it doesn't come to rest");
            }
            rigs.iter_mut().for_each(|rig| rig.wait(seconds(60)));
            // Each asks about one member a minute, who may ask back; nothing moves any more.
            assert!(round < 8 || said - before <= 4 * usize::from(NODES), "seed {seed}: {} questions", said - before);
        }
        for (rig, list) in rigs.iter().zip(&lists) {
            let me = rig.core.config.me;
            let admitted: Vec<PeerId> = list.iter().map(|author| peer(*author)).collect();
            assert!(rig.authors().iter().all(|author| *author == me || admitted.contains(author)), "seed {seed}");
        }
        // Two that are connected know the same of whom both admit.
        for (one, other) in (0..NODES).flat_map(|one| (0..one).map(move |other| (one, other))) {
            if both(one, other) {
                let (ours, theirs) = (rigs[one as usize].authors(), rigs[other as usize].authors());
                for author in 0..2 * NODES {
                    if lists[one as usize].contains(&author) && lists[other as usize].contains(&author) {
                        let id = peer(author);
                        assert_eq!(
                            ours.contains(&id),
                            theirs.contains(&id),
                            "seed {seed}: {one} and {other} of {author}"
                        );
                    }
                }
            }
        }
    }
}
