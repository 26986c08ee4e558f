//! Entry sets converge in whatever order they learn of entries.

use libp2p_identity::Keypair;
use peerfold::entries::{
    Board, BucketSet, Conflict, EntrySet, MAX_ENTRIES_PER_AUTHOR, Position, Refused, Standing, UPDATES_KEPT, Watch,
};
use peerfold::weights::{Content, Entry, FederationId, Key, LayoutId, Metadata, Root, SignedEntry};
use proptest::{collection::vec, prelude::*};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
};

fn federation() -> FederationId {
    FederationId::new("sets", "1")
}

fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed + 1; 32]).unwrap()
}

fn signed(seed: u8, name: &str, sequence: u64, content: Option<u8>) -> Arc<SignedEntry> {
    let keypair = keypair(seed);
    let key = Key::new(keypair.public().to_peer_id(), name).unwrap();
    let put = |root| Content::Put { root: Root::from_bytes([root; 32]), length: 1, metadata: Metadata::default() };
    let content = content.map_or(Content::Tombstone, put);
    let entry = Entry { federation: federation(), layout: LayoutId::from_bytes([0; 32]), key, sequence, content };
    Arc::new(SignedEntry::sign(entry, &keypair).unwrap())
}

/// Entries of three authors under few keys, each author's with numbers of their own.
fn entries() -> impl Strategy<Value = Vec<Arc<SignedEntry>>> {
    let name = prop::sample::select(vec!["a", "b", "update/1", "update/2", "update/3", "update/4", "update/x"]);
    vec((0u8..3, name, prop::option::weighted(0.8, any::<u8>())), 0..40).prop_map(|entries| {
        let numbered = entries.into_iter().enumerate();
        numbered.map(|(number, (seed, name, content))| signed(seed, name, number as u64 + 1, content)).collect()
    })
}

fn set_of(entries: &[Arc<SignedEntry>]) -> EntrySet {
    let mut set = EntrySet::new(federation());
    for entry in entries {
        set.insert(entry.clone()).unwrap();
    }
    set
}

fn held(set: &EntrySet) -> Vec<Arc<SignedEntry>> {
    set.iter("").cloned().collect()
}

/// By the definition: of each key the newest, and of an author's updates the two newest of these.
fn expected(entries: &[Arc<SignedEntry>]) -> Vec<Arc<SignedEntry>> {
    let mut newest: BTreeMap<Key, Arc<SignedEntry>> = BTreeMap::new();
    for entry in entries {
        let standing = newest.entry(entry.key.clone()).or_insert_with(|| entry.clone());
        if standing.sequence < entry.sequence {
            *standing = entry.clone();
        }
    }
    let newer_updates = |entry: &SignedEntry| {
        let others = newest.values().filter(|other| other.key.author() == entry.key.author());
        others.filter(|other| other.key.update_epoch().is_some() && other.sequence > entry.sequence).count()
    };
    let kept =
        newest.values().filter(|entry| entry.key.update_epoch().is_none() || newer_updates(entry) < UPDATES_KEPT);
    kept.cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn order_makes_no_difference((entries, shuffled) in entries().prop_flat_map(|entries| {
        let again = [&entries[..], &entries[..entries.len() / 2]].concat();
        (Just(entries), Just(again).prop_shuffle())
    })) {
        let (one, other) = (set_of(&entries), set_of(&shuffled));
        prop_assert_eq!(held(&one), expected(&entries));
        prop_assert_eq!(held(&other), held(&one));
        prop_assert_eq!(other.digest(), one.digest());
        for entry in held(&one) {
            prop_assert!(one.of_author(entry.key.author()).any(|other| *other == entry));
        }
    }

    #[test]
    fn insert_tells_whether_it_changed_something(entries in Just(()).prop_flat_map(|()| entries()).prop_shuffle()) {
        let mut set = EntrySet::new(federation());
        for entry in &entries {
            let (digest, revision) = (set.digest(), set.revision());
            let changed = set.insert(entry.clone()).unwrap();
            prop_assert_eq!(changed, set.digest() != digest);
            prop_assert_eq!(changed, set.revision() > revision);
            prop_assert!(!set.insert(entry.clone()).unwrap());
        }
    }

    #[test]
    fn who_follows_the_changes_knows_all(entries in entries().prop_shuffle(), every in 1usize..6, prefix in 0u8..4) {
        let prefix = if prefix == 3 { String::new() } else { keypair(prefix).public().to_peer_id().to_string() };
        let mut set = EntrySet::new(federation());
        let (mut seen, mut known) = (0, BTreeMap::new());
        for (number, entry) in entries.iter().enumerate() {
            set.insert(entry.clone()).unwrap();
            if number % every == 0 || number + 1 == entries.len() {
                while let Some((revision, entry)) = set.changed_since(seen, &prefix) {
                    prop_assert!(revision > seen && revision <= set.revision());
                    seen = revision;
                    known.insert(entry.key.clone(), entry.clone());
                }
            }
        }
        for entry in set.iter(&prefix) {
            prop_assert_eq!(known.get(&entry.key), Some(entry));
        }
    }

    #[test]
    fn a_second_entry_under_a_number_excludes(entries in entries(), at in any::<prop::sample::Index>()) {
        prop_assume!(!entries.is_empty());
        let mut set = set_of(&entries);
        let standing = held(&set);
        let first = standing[at.index(standing.len())].clone();
        let seed = (0..3).find(|&seed| keypair(seed).public().to_peer_id() == first.key.author()).unwrap();
        let second = signed(seed, "elsewhere", first.sequence, Some(7));
        let Err(Refused::Conflict(conflict)) = set.insert(second.clone()) else { panic!("not noticed") };
        prop_assert!(conflict.entries.contains(&first) && conflict.entries.contains(&second));
        prop_assert!(conflict.entries[0].hash() < conflict.entries[1].hash());
        let others: Vec<_> = standing.into_iter().filter(|entry| entry.key.author() != first.key.author()).collect();
        prop_assert_eq!(held(&set), others);
        prop_assert_eq!(set.insert(first.clone()), Err(Refused::Excluded));
        // Which of the two came first makes no difference.
        let mut other = set_of(&entries.iter().filter(|entry| **entry != first).cloned().collect::<Vec<_>>());
        other.insert(second).unwrap();
        prop_assert!(matches!(other.insert(first), Err(Refused::Conflict(found)) if found == conflict));
        prop_assert_eq!(other.digest(), set.digest());
    }

    #[test]
    fn a_readmitted_author_comes_to_the_same_in_any_order(
        (entries, one, other) in vec((1u64..6, 0usize..5, any::<u8>()), 0..12).prop_flat_map(|entries| {
            let names = ["a", "b", "update/1", "update/2", "update/3"];
            // Each number belongs to one name, so that no set lets one entry go before the other comes.
            let entries: Vec<_> = entries.iter().map(|&(n, name, root)| signed(0, names[name], n * 5 + name as u64, Some(root))).collect();
            (Just(entries.clone()), Just(entries.clone()).prop_shuffle(), Just(entries).prop_shuffle())
        }),
    ) {
        let author = keypair(0).public().to_peer_id();
        let sets = [&entries, &one, &other].map(|entries| {
            let mut set = EntrySet::new(federation());
            set.readmit(author);
            for entry in entries {
                let digest = set.digest();
                let changed = set.insert(entry.clone()).unwrap();
                assert_eq!(changed, set.digest() != digest);
            }
            set
        });
        prop_assert_eq!(sets[0].digest(), sets[1].digest());
        prop_assert_eq!(held(&sets[0]), held(&sets[2]));
    }
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// What `from` has, in pages of this many, taken in by `to`; what is refused is left away.
fn sync(from: &EntrySet, to: &mut EntrySet, page: usize) -> Vec<Standing> {
    let buckets = to.fingerprints().differing_in(&from.fingerprints());
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (items, next) = from.items_after(&buckets, after.as_ref(), page);
        assert!(items.len() <= page);
        all.extend(items);
        assert!(next.is_none() || next > after);
        assert_eq!(next.is_some().then(|| Position::of(all.last().unwrap())), next);
        after = next;
        if after.is_none() {
            break;
        }
    }
    for item in all.clone() {
        let _ = match item {
            Standing::Entry(entry) => to.insert(entry),
            Standing::Proof(proof) => to.insert_proof(proof),
        };
    }
    all
}

/// Entries of many authors, some of whom sign twice under one number.
fn crowd() -> impl Strategy<Value = Vec<Arc<SignedEntry>>> {
    vec((0u8..60, prop::sample::select(vec!["a", "b", "update/1", "update/2", "c"]), 0u64..200), 0..80).prop_map(
        |entries| entries.into_iter().map(|(seed, name, number)| signed(seed, name, number, Some(1))).collect(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn two_sets_that_sync_come_to_agree(one in crowd(), other in crowd(), page in 1usize..20) {
        let [mut one, mut other] = [one, other].map(|entries| {
            let mut set = EntrySet::new(federation());
            entries.into_iter().for_each(|entry| drop(set.insert(entry)));
            set
        });
        // Once each way, and once more if a proof came of it: what it excluded had been given before.
        for _ in 0..2 {
            sync(&other, &mut one, page);
            sync(&one, &mut other, page);
        }
        prop_assert_eq!(one.digest(), other.digest());
        prop_assert_eq!(one.fingerprints(), other.fingerprints());
        prop_assert_eq!(held(&one), held(&other));
        prop_assert!(sync(&one, &mut other, page).is_empty());
    }

    #[test]
    fn fingerprints_tell_what_differs(entries in crowd(), at in any::<prop::sample::Index>()) {
        let mut set = EntrySet::new(federation());
        let empty = set.fingerprints();
        prop_assert_eq!(&empty.0[..], &[[0; 16]; 256][..]);
        entries.into_iter().for_each(|entry| drop(set.insert(entry)));
        // What is remembered of the buckets is what a new set would hash.
        let mut again = EntrySet::new(federation());
        for item in set.items_after(&BucketSet::ALL, None, usize::MAX).0 {
            match item {
                Standing::Entry(entry) => again.insert(entry).unwrap(),
                Standing::Proof(proof) => again.insert_proof(proof).unwrap(),
            };
        }
        prop_assert_eq!(again.fingerprints(), set.fingerprints());
        prop_assert_eq!(set.fingerprints().digest(), set.digest());
        let standing = held(&set);
        prop_assume!(!standing.is_empty());
        let before = set.fingerprints();
        let entry = &standing[at.index(standing.len())];
        let seed = (0..60).find(|&seed| keypair(seed).public().to_peer_id() == entry.key.author()).unwrap();
        set.insert(signed(seed, entry.key.name(), 1000, None)).unwrap();
        let after = set.fingerprints();
        prop_assert_eq!((0..256).filter(|&bucket| before.0[bucket] != after.0[bucket]).count(), 1);
        prop_assert_ne!(before.digest(), after.digest());
    }
}

#[test]
fn a_proof_excludes_unless_its_author_is_trusted() {
    let entries = [signed(0, "a", 5, Some(1)), signed(0, "b", 5, Some(2))];
    let [one, other] = entries.clone();
    let proof = Conflict::new(other, one).unwrap();
    assert!(proof.entries[0].hash() < proof.entries[1].hash());
    let [one, other] = proof.entries.each_ref().map(|entry| entry.bytes());
    assert_eq!(Conflict::decode([other, one]), Ok(proof.clone()));
    assert!(Conflict::decode([one, one]).is_err() && Conflict::decode([one, b"x"]).is_err());
    let author = proof.author();
    let mut set = set_of(&[signed(0, "c", 6, Some(1)), signed(1, "c", 6, Some(1))]);
    let revision = set.revision();
    assert_eq!(set.insert_proof(proof.clone()), Ok(true));
    assert!(set.revision() > revision && set.is_excluded(author));
    assert_eq!(set.of_author(author).count(), 0);
    assert_eq!(set.insert_proof(proof.clone()), Ok(false));
    let no_proof = Conflict { entries: [entries[0].clone(), entries[0].clone()] };
    assert_eq!(set.insert_proof(no_proof), Err(Refused::NoProof));
    let digest = set.digest();
    set.readmit(author);
    assert_ne!(set.digest(), digest);
    assert_eq!(set.insert_proof(proof.clone()), Ok(false));
    assert!(!set.is_excluded(author));
    let mut elsewhere = EntrySet::new(FederationId::new("elsewhere", "1"));
    assert_eq!(elsewhere.insert_proof(proof), Err(Refused::OtherFederation));
}

#[test]
fn an_exclusion_wakes_who_watches() {
    let board = Arc::new(Board::new(federation()));
    let mut watch = Watch::new(board.clone(), "", ());
    let [one, other] = [signed(0, "a", 5, Some(1)), signed(0, "b", 5, Some(2))];
    let mut next = Box::pin(watch.next());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let mut poll = || next.as_mut().poll(&mut Context::from_waker(&waker));
    assert!(poll().is_pending());
    assert_eq!(board.insert_proof(Conflict::new(one, other).unwrap()), Ok(true));
    assert_eq!(woken.0.load(Ordering::SeqCst), 1);
    // There is no entry to give, and it waits on.
    assert!(poll().is_pending());
    board.insert(signed(1, "a", 1, None)).unwrap();
    assert!(poll().is_ready());
}

#[test]
fn after_a_position_that_nothing_has_there_is_nothing() {
    let set = set_of(&[signed(0, "a", 1, Some(1))]);
    for text in ["", "/", "nobody", "nobody/a", "\u{1f980}"] {
        let after = Position { bucket: 0, text: text.to_owned() };
        assert_eq!(set.items_after(&BucketSet::ALL, Some(&after), 10), (vec![], None));
    }
}

#[test]
fn a_readmitted_authors_loser_pushes_nothing_out() {
    let mut pair = [signed(0, "a", 5, Some(1)), signed(0, "b", 5, Some(2))];
    pair.sort_by_key(|entry| entry.hash());
    let [smaller, larger] = pair;
    let newer = signed(0, larger.key.name(), 6, Some(3));
    let mut set = EntrySet::new(federation());
    set.readmit(larger.key.author());
    set.insert(smaller.clone()).unwrap();
    set.insert(newer.clone()).unwrap();
    // It is older than what stands under its key, so the other one under its number isn't dropped for it.
    assert_eq!(set.insert(larger), Ok(false));
    assert_eq!(set.get(&smaller.key), Some(&smaller));
    assert_eq!(set.get(&newer.key), Some(&newer));
}

#[test]
fn authors_are_bounded() {
    let mut set = EntrySet::new(federation());
    for number in 0..MAX_ENTRIES_PER_AUTHOR as u64 {
        let name = if number < 2 { format!("update/{number}") } else { format!("{number}") };
        set.insert(signed(0, &name, number + 1, Some(1))).unwrap();
    }
    let digest = set.digest();
    let one_more = signed(0, "one more", 1000, Some(1));
    assert_eq!(set.check_room(&one_more.key), Err(Refused::TooManyKeys { limit: MAX_ENTRIES_PER_AUTHOR }));
    assert_eq!(set.insert(one_more), Err(Refused::TooManyKeys { limit: MAX_ENTRIES_PER_AUTHOR }));
    assert_eq!(set.digest(), digest);
    // A change, and an update that takes the place of the older of two.
    assert_eq!(set.insert(signed(0, "7", 1001, None)), Ok(true));
    assert_eq!(set.insert(signed(0, "update/9", 1002, Some(1))), Ok(true));
    assert_eq!(set.insert(signed(1, "another author's", 1, Some(1))), Ok(true));
    assert_eq!(set.of_author(keypair(0).public().to_peer_id()).count(), MAX_ENTRIES_PER_AUTHOR);
}
