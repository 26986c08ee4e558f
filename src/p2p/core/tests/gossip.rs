//! The verdict on each kind of gossip message, and what publishing tells others.

use super::*;

#[test]
fn each_message_gets_its_verdict() {
    let mut rig = Rig::new(None);
    let (_, first) = update(2, 1);
    assert_eq!(rig.gossip(1, data(&first)), Verdict::Accept);
    assert!(rig.out.is_empty(), "it may be made up: {:?}", rig.out);
    assert_eq!(rig.gossip(1, data(&first)), Verdict::Ignore);
    // Newer, then older.
    let newer = tombstone(2, "start", 9);
    assert_eq!(rig.gossip(1, data(&newer)), Verdict::Accept);
    assert_eq!(rig.gossip(1, data(&tombstone(2, "start", 8))), Verdict::Ignore);
    // Another federation's.
    let elsewhere = Entry { federation: FederationId::new("other", "1"), ..newer.entry().clone() };
    assert_eq!(rig.gossip(1, data(&SignedEntry::sign(elsewhere, &keypair(2)).unwrap())), Verdict::Ignore);
    // A newer version's.
    assert_eq!(rig.gossip(1, vec![2, 0, 0]), Verdict::Ignore);
    let later = update(2, 3).1;
    for encoding in [&[2, 1][..], &[0x80], &[0x81, 1, 2, 3]] {
        assert_eq!(rig.gossip(1, encoded(2, &later, encoding)), Verdict::Ignore);
    }
    let digest = rig.board.digest();
    assert!(rig.bans().is_empty());
    // Signed by its author or not, it must be an entry.
    let mut forged = encoded(2, &later, &[2, 1]);
    *forged.last_mut().unwrap() ^= 1;
    for wrong in [forged, encoded(2, &later, &[2]), encoded(2, &tombstone(2, "start", 10), &[2, 1])] {
        assert_eq!(rig.gossip(1, wrong), Verdict::Reject);
    }
    assert_eq!((rig.bans(), rig.board.digest()), (vec![peer(1)], digest));
}

#[test]
fn rubbish_is_rejected_until_its_forwarder_is_dropped_for_a_while() {
    let mut rig = Rig::new(None);
    rig.members(&[1]);
    let mut forged = tombstone(2, "start", 1).bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(rig.gossip(1, forged), Verdict::Reject);
    assert_eq!(rig.gossip(1, vec![1; 5000]), Verdict::Reject);
    // Strikes outlive the connection.
    rig.input(Input::Disconnected(peer(1)));
    rig.members(&[1]);
    assert!(rig.bans().is_empty());
    assert_eq!(rig.gossip(1, vec![]), Verdict::Reject);
    assert_eq!(rig.bans(), [peer(1)]);
    assert_eq!(rig.core.members().count(), 0);
    // It can't say anything any more.
    assert_eq!(rig.gossip(1, data(&tombstone(2, "start", 1))), Verdict::Ignore);
    let digest = rig.board.digest();
    assert_eq!(rig.asked_to_sync(1, compare(digest)), SyncResponse::NotMember);
    rig.input(Input::Connected(peer(1)));
    assert_eq!(rig.bans(), [peer(1)]);
    rig.wait(seconds(601));
    rig.members(&[1]);
}

#[test]
fn entries_of_strangers_who_are_not_connected_are_taken_in_at_a_rate() {
    let mut rig = Rig::with(None, Limits { absent_entry_rate: 0.5, ..Limits::default() }, &[]);
    rig.members(&[1]);
    let accepted = |rig: &mut Rig, authors: std::ops::Range<u8>, epoch| {
        let entries = authors.map(|author| update(author, epoch).1);
        entries.filter(|entry| rig.gossip(1, data(entry)) == Verdict::Accept).count()
    };
    assert_eq!(accepted(&mut rig, 2..12, 1), 4, "what eight seconds bring");
    // Nobody else is kept waiting by that.
    rig.board.folded(peer(2), 1);
    rig.members(&[3]);
    assert_eq!((accepted(&mut rig, 1..2, 2), accepted(&mut rig, 2..4, 2), accepted(&mut rig, 4..12, 2)), (1, 2, 0));
    rig.wait(seconds(2));
    assert_eq!(accepted(&mut rig, 4..12, 2), 1);
    // Where all are admitted by name, nobody is made up.
    let limits = Limits { absent_entry_rate: 0.5, ..Limits::default() };
    let mut closed = Rig::admitting(Membership::only((0..16).map(peer)), None, limits, &[]);
    closed.members(&[1]);
    assert_eq!(accepted(&mut closed, 2..12, 1), 10);
}

#[test]
fn a_second_entry_under_a_number_is_passed_on() {
    let mut rig = Rig::new(None);
    let proof = proof(2, 4);
    let [one, other] = proof.entries.clone();
    assert_eq!(rig.gossip(1, data(&one)), Verdict::Accept);
    assert_eq!(rig.gossip(1, data(&other)), Verdict::Accept);
    assert!(rig.board.is_excluded(peer(2)));
    assert!(rig.out.iter().any(|output| matches!(output, Output::SaveProof(saved) if *saved == proof)));
    assert_eq!(rig.gossip(1, data(&tombstone(2, "start", 5))), Verdict::Ignore);
}

#[test]
fn what_an_earlier_life_published_is_gone_on_from() {
    let mut rig = Rig::new(Some(layout(2)));
    rig.board.know_own(peer(ME));
    let (_, own) = update(ME, 41);
    assert_eq!(rig.gossip(1, data(&own)), Verdict::Accept);
    assert!(matches!(&rig.out[..], [Output::OwnSequence(41), Output::Save(_)]));
    // Its own values it doesn't fetch unasked.
    assert!(rig.lookups().is_empty());
}

#[test]
fn what_is_published_is_told() {
    let mut rig = Rig::new(None);
    rig.members(&[1, 2]);
    let (_, own) = update(ME, 1);
    rig.board.insert(own.clone()).unwrap();
    rig.input(Input::Published(own.clone()));
    assert!(matches!(&rig.out[..], [Output::Gossip(bytes), Output::Retain] if *bytes == own.bytes()));
    // Where there is no gossip, members are asked to compare, and ask back.
    rig.input(Input::GossipFailed);
    assert_eq!(rig.syncs().len(), 2);
}

#[test]
fn so_many_messages_of_a_newer_version_are_nobodys_fault_and_no_more() {
    let mut rig = Rig::new(None);
    rig.members(&[1, 2]);
    // As many as a peer may know, and then what a federation with newer members says in an hour.
    for number in 0..256_u64 {
        assert_eq!(rig.gossip(1, [vec![2], number.to_le_bytes().to_vec()].concat()), Verdict::Ignore);
    }
    for _ in 0..3600 {
        rig.wait(seconds(1));
        (0..4).for_each(|_| _ = rig.gossip(1, vec![2, 1]));
    }
    assert!(rig.bans().is_empty());
    for number in 0..1000_u64 {
        rig.gossip(2, [vec![2], number.to_le_bytes().to_vec()].concat());
    }
    assert_eq!(rig.bans(), [peer(2)]);
}
