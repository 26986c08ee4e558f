//! Strangers in an entry set: however many there are, they have a bounded room of their own.

use libp2p_identity::{Keypair, PeerId};
use peerfold::entries::{Conflict, EntryLimits, EntrySet, FOLDS_TO_BE_KNOWN, Refused};
use peerfold::weights::{Content, Entry, FederationId, Key, LayoutId, Metadata, Root, SignedEntry};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{collections::BTreeSet, sync::Arc};

fn limits() -> EntryLimits {
    EntryLimits { authors: 24, per_author: 8, strangers: 10, stranger_entries: 25, stranger_bytes: 200_000 }
}

fn federation() -> FederationId {
    FederationId::new("strangers", "1")
}

fn set() -> EntrySet {
    EntrySet::with_limits(federation(), limits())
}

fn keypair(author: u32) -> Keypair {
    let mut secret = [7; 32];
    secret[..4].copy_from_slice(&author.to_le_bytes());
    Keypair::ed25519_from_bytes(secret).unwrap()
}

fn id(author: u32) -> PeerId {
    keypair(author).public().to_peer_id()
}

fn signed(author: u32, name: &str, sequence: u64, length: u64) -> Arc<SignedEntry> {
    let keypair = keypair(author);
    let key = Key::new(keypair.public().to_peer_id(), name).unwrap();
    let root = Root::from_bytes(*blake3::hash(format!("{author} {name} {sequence}").as_bytes()).as_bytes());
    let content = Content::Put { root, length, metadata: Metadata::default() };
    let entry = Entry { federation: federation(), layout: LayoutId::from_bytes([0; 32]), key, sequence, content };
    Arc::new(SignedEntry::sign(entry, &keypair).unwrap())
}

fn update(author: u32, epoch: u64, length: u64) -> Arc<SignedEntry> {
    signed(author, &format!("update/{epoch}"), epoch, length)
}

/// Folds as many updates of an author as make it known.
fn befriend(set: &mut EntrySet, author: u32) {
    for epoch in 1..=u64::from(FOLDS_TO_BE_KNOWN) {
        assert!(!set.is_known(id(author)));
        set.insert(update(author, epoch, 1000)).unwrap();
        // The same update counts once.
        let now_known = epoch == u64::from(FOLDS_TO_BE_KNOWN);
        assert_eq!(set.folded(id(author), epoch), now_known);
        assert!(!set.folded(id(author), epoch));
    }
    assert!(set.is_known(id(author)));
}

/// What is held is within every limit, and all authors whom the node knows are there.
fn check(set: &EntrySet, known: &[u32]) {
    let limits = limits();
    assert!(set.author_count() <= limits.authors && set.strangers() <= limits.strangers);
    let (mut entries, mut bytes) = (0, 0);
    for author in set.authors().filter(|author| !set.is_known(*author)) {
        entries += set.of_author(author).count();
        if let Some(Content::Put { length, .. }) = set.newest_update(author).map(|entry| &entry.content)
            && *length < limits.stranger_bytes
        {
            bytes += length;
        }
    }
    assert!(entries <= limits.stranger_entries && bytes <= limits.stranger_bytes, "{entries} entries, {bytes} bytes");
    assert!(known.iter().all(|&author| set.newest_update(id(author)).is_some()));
}

#[test]
fn a_flood_of_authors_pushes_out_only_its_own() {
    for seed in 0..4 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut set = set();
        let known: Vec<u32> = (1..=6).collect();
        known.iter().for_each(|&author| befriend(&mut set, author));
        for number in 0..400u32 {
            let stranger = 100 + random.random_range(0..150);
            let lengths = [10, 1000, 60_000, 190_000, 10_000_000, u64::MAX];
            let length = lengths[random.random_range(0..lengths.len())];
            let sequence = u64::from(number) + 1;
            let entry = match random.random_range(0..4) {
                0 => signed(stranger, &format!("file {}", random.random_range(0..9)), sequence, length),
                _ => update(stranger, sequence, length),
            };
            match random.random_range(0..10) {
                0 => {
                    let other = signed(stranger, "another", sequence, 1);
                    let _ = set.insert_proof(Conflict::new(entry, other).unwrap());
                }
                _ => {
                    let told = set.insert_pushing_out(entry.clone());
                    let excluded = matches!(told, Err(Refused::Excluded | Refused::Conflict(_)));
                    assert!(set.holds(&entry.hash()) || excluded || told.is_err(), "what came last stays");
                    for gone in told.ok().flatten().unwrap_or_default() {
                        assert!(set.of_author(gone).next().is_none() && !set.is_known(gone) && !set.is_excluded(gone));
                    }
                }
            }
            check(&set, &known);
            // An honest newcomer is heard again and again; the others are silent after their entries.
            set.insert(update(50, sequence, 1000)).unwrap();
            assert!(set.newest_update(id(50)).is_some());
            check(&set, &known);
        }
        assert!(set.pushed_out() > 50, "{}", set.pushed_out());
        // Nothing is left of those who were pushed out: what is held has the digest of a set that was given only that.
        let mut again = EntrySet::new(federation());
        set.iter("").for_each(|entry| assert!(again.insert(entry.clone()).unwrap()));
        set.conflicts().for_each(|proof| assert!(again.insert_proof(proof.clone()).unwrap()));
        assert_eq!(again.digest(), set.digest());
    }
}

#[test]
fn who_has_been_silent_for_the_longest_goes_first() {
    let mut set = set();
    (0..10).for_each(|stranger| assert!(set.insert(update(stranger, 1, 10)).unwrap()));
    set.insert(update(0, 2, 10)).unwrap();
    assert_eq!(set.insert_pushing_out(update(20, 1, 10)), Ok(Some(vec![id(1)])));
    // A large one takes the room of several.
    assert_eq!(set.insert_pushing_out(update(21, 1, 170_000)), Ok(Some((2..=5).map(id).collect())));
    let left: BTreeSet<PeerId> = set.authors().collect();
    assert_eq!(left, [0, 6, 7, 8, 9, 20, 21].map(id).into());
    // What is too long for all of their room is fetched by nobody unasked, so it takes none of it.
    assert_eq!(set.insert_pushing_out(update(22, 1, 1 << 40)), Ok(Some(vec![])));
}

#[test]
fn where_too_many_are_known_the_most_silent_are_so_no_more() {
    let mut set = set();
    set.know_own(id(0));
    for author in 1..24 {
        assert!(set.insert(update(author, 1, 1000)).unwrap() && set.know(id(author)));
    }
    set.insert(update(0, 1, 10)).unwrap();
    // A quarter of the 24 authors is left to strangers.
    let known: Vec<u32> = (0..24).filter(|&author| set.is_known(id(author))).collect();
    assert_eq!(known, [vec![0], (7..24).collect()].concat());
    // Who comes has the place of a stranger, can become known, and takes that from the most silent one.
    assert_eq!(set.insert(update(7, 2, 10)), Ok(true));
    befriend(&mut set, 30);
    assert!(set.is_known(id(7)) && !set.is_known(id(8)) && set.is_known(id(0)));
    assert!(set.newest_update(id(8)).is_some(), "what is held of it stays for now");
    assert!(set.author_count() <= 24 && set.strangers() <= 10);
    befriend(&mut set, 8);
    // Where all are strangers' places too, nobody is left out.
    for author in 100..200 {
        set.insert(update(author, 1, 10)).unwrap();
    }
    let kept: Vec<u32> = (9..24).chain([0, 7, 8, 30]).filter(|&author| set.is_known(id(author))).collect();
    assert!(kept.len() == 18 && kept.iter().all(|&author| set.newest_update(id(author)).is_some()), "{kept:?}");
}

#[test]
fn what_others_pass_on_pushes_nobody_out() {
    let mut set = set();
    let takes = |set: &mut EntrySet, entry: Arc<SignedEntry>| {
        let pushed_out = set.pushed_out();
        let has_room = set.has_room_for(&entry);
        if has_room {
            set.insert(entry).unwrap();
            assert_eq!(set.pushed_out(), pushed_out);
        }
        has_room
    };
    (0..10).for_each(|stranger| assert!(takes(&mut set, update(stranger, 1, 19_000 / 2))));
    assert!(!takes(&mut set, update(10, 1, 10)));
    // Of those who are there news are taken in, as long as there is room for them.
    assert!(takes(&mut set, update(0, 2, 10)) && !takes(&mut set, update(1, 2, 150_000)));
    let file = |number: u32| signed(2 + number % 8, &format!("{number}"), 10 + u64::from(number), 1);
    (0..14).for_each(|number| assert!(takes(&mut set, file(number))));
    assert!(!takes(&mut set, signed(9, "one more", 90, 1)));
    assert!(takes(&mut set, update(0, 3, 10)), "it replaces an older one");
    set.know(id(11));
    assert!(takes(&mut set, update(11, 1, 1 << 30)));
}

/// Takes in a first update of each of these authors.
fn crowd(set: &mut EntrySet, authors: std::ops::Range<u32>) {
    authors.for_each(|author| assert!(set.insert(update(author, 1, 10)).unwrap()));
}

#[test]
fn who_was_folded_once_outstays_a_flood() {
    let mut set = set();
    crowd(&mut set, 50..52);
    assert!(!set.folded(id(50), 1));
    crowd(&mut set, 100..400);
    assert!(set.newest_update(id(50)).is_some() && set.newest_update(id(51)).is_none());
    // Those whom that keeps have half of the room at most; among them the most silent goes.
    for author in 60..70 {
        crowd(&mut set, author..author + 1);
        assert!(!set.folded(id(author), 1));
    }
    let kept: Vec<u32> =
        [50].into_iter().chain(60..70).filter(|&author| set.of_author(id(author)).count() > 0).collect();
    assert!((5..=6).contains(&kept.len()) && kept.last() == Some(&69), "{kept:?}");
    // So others find a place among many who were folded.
    crowd(&mut set, 400..404);
    assert_eq!((400..404).filter(|&author| set.newest_update(id(author)).is_some()).count(), 4);
    // The same is true of what they have.
    let mut set = self::set();
    crowd(&mut set, 50..51);
    assert!(!set.folded(id(50), 1));
    set.insert(update(50, 2, 150_000)).unwrap();
    crowd(&mut set, 60..63);
    assert_eq!(set.insert_pushing_out(update(70, 1, 60_000)), Ok(Some(vec![id(50)])));
}

#[test]
fn what_was_folded_of_one_who_was_pushed_out_counts() {
    let mut set = set();
    for epoch in 1..FOLDS_TO_BE_KNOWN {
        set.insert(update(50, epoch.into(), 10)).unwrap();
        assert!(!set.folded(id(50), epoch.into()));
    }
    let last = u64::from(FOLDS_TO_BE_KNOWN);
    set.insert(update(50, last, 10)).unwrap();
    // The others who were folded have more than half of the room, and 50 has been silent for longer.
    for author in 60..72 {
        crowd(&mut set, author..author + 1);
        set.folded(id(author), 1);
    }
    assert!(set.of_author(id(50)).next().is_none());
    // Its update was there when the fold began.
    assert!(!set.folded(id(50), last - 1), "the same counts once");
    assert!(set.folded(id(50), last));
    crowd(&mut set, 100..200);
    assert_eq!(set.insert(update(50, 9, 10)), Ok(true));
    crowd(&mut set, 200..300);
    assert!(set.newest_update(id(50)).is_some());
}

#[test]
fn what_was_folded_is_remembered_of_so_many() {
    let mut set = set();
    let twice = |set: &mut EntrySet, author: u32| [1, 2].map(|epoch| assert!(!set.folded(id(author), epoch)));
    twice(&mut set, 50);
    assert!(!set.folded(id(51), 1));
    (100..200).for_each(|author| assert!(!set.folded(id(author), 1)));
    // Of 51 nothing is remembered, so it begins anew; 50 isn't pushed out by those who were folded less.
    assert!([2, 3].iter().all(|epoch| !set.folded(id(51), *epoch)) && set.folded(id(51), 4));
    assert!(set.folded(id(50), 3));
}
