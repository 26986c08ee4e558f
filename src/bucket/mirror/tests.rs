//! An author and a reader on a bucket that is a map, driven by a seed: puts, overwrites, removals, listings that come late,
//! objects that somebody changes or deletes.
#![allow(clippy::unwrap_used)]

use super::{
    super::record::{PACK_BYTES, Spot},
    own_object::MISSED,
    *,
};
use crate::weights::{Content, DType, Entry, FederationId, Key, LayoutId, Metadata, Tensor, TensorSpec, Weights};
use libp2p_identity::Keypair;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

const GRACE: Duration = Duration::from_secs(60);

/// What a store holds, and its clock in milliseconds.
#[derive(Default)]
struct Store {
    objects: BTreeMap<Name, (Bytes, i64)>,
    clock: i64,
    written: u64,
}

impl Store {
    fn put(&mut self, name: Name, bytes: Bytes) -> Written {
        self.clock += 1;
        self.written += bytes.len() as u64;
        // Writes give it in quotes, listings don't.
        let tag = Some(format!("\"{}\"", blake3::hash(&bytes)));
        let written = Written { size: bytes.len() as u64, tag, at: Duration::ZERO };
        self.objects.insert(name, (bytes, self.clock));
        written
    }

    fn list(&self) -> Vec<Listed> {
        let mark = |(bytes, modified): &(Bytes, i64)| Mark {
            size: bytes.len() as u64,
            modified: *modified,
            tag: Some(blake3::hash(bytes).to_string()),
        };
        self.objects.iter().map(|(name, object)| Listed { name: name.clone(), mark: mark(object) }).collect()
    }
}

struct Author {
    keypair: Keypair,
    set: EntrySet,
    mirror: Mirror,
    values: BTreeMap<crate::weights::Root, Weights>,
    sequence: u64,
    /// What it has noted of its objects.
    notes: BTreeMap<Name, Mark>,
}

fn federation() -> FederationId {
    FederationId::new("mirror", "1")
}

/// Tensors of 100 KB, each a chunk of its own, filled by these numbers.
fn weights(numbers: &[u8]) -> Weights {
    let tensor = |(at, &number): (usize, &u8)| Tensor {
        spec: TensorSpec { name: format!("{at}"), dtype: DType::U8, shape: vec![100_000] },
        data: vec![number; 100_000].into(),
    };
    Weights::new(numbers.iter().enumerate().map(tensor).collect()).unwrap()
}

impl Author {
    fn new() -> Self {
        Self::of([3; 32])
    }

    fn of(secret: [u8; 32]) -> Self {
        let keypair = Keypair::ed25519_from_bytes(secret).unwrap();
        let me = keypair.public().to_peer_id();
        let (set, mirror) = (EntrySet::new(federation()), Mirror::new(me, BTreeMap::new()));
        Self { keypair, set, mirror, values: BTreeMap::new(), sequence: 0, notes: BTreeMap::new() }
    }

    fn me(&self) -> PeerId {
        self.keypair.public().to_peer_id()
    }

    fn sign(&mut self, name: &str, value: Option<&Weights>) {
        self.sequence += 1;
        let content = match value {
            Some(value) => {
                let manifest = value.manifest();
                self.values.insert(manifest.root(), value.clone());
                Content::Put { root: manifest.root(), length: manifest.layout().bytes(), metadata: Metadata::default() }
            }
            None => Content::Tombstone,
        };
        let layout = value.map_or(LayoutId::from_bytes([0; 32]), |value| value.layout().id());
        let key = Key::new(self.me(), name).unwrap();
        let entry = Entry { federation: federation(), layout, key, sequence: self.sequence, content };
        self.set.insert(Arc::new(SignedEntry::sign(entry, &self.keypair).unwrap())).unwrap();
    }

    /// Writes what is wanted, as the uploader does.
    fn upload(&mut self, store: &mut Store) {
        while let Some(entry) = self.mirror.wanting(&self.set).first().cloned() {
            self.write(&entry, store);
        }
    }

    fn write(&mut self, entry: &SignedEntry, store: &mut Store) {
        let head = entry.root().map(|root| {
            let value = self.values[&root].clone();
            let manifest = value.manifest();
            for chunks in self.mirror.plan(&self.set, &manifest).packs {
                let (mut bytes, mut places) = (Vec::new(), BTreeMap::new());
                for number in chunks {
                    places.insert(manifest.chunks()[number], bytes.len() as u64);
                    bytes.extend_from_slice(&manifest.chunk_bytes(&value, number));
                }
                assert!(bytes.len() as u64 <= PACK_BYTES);
                let hash = PackId::of(blake3::hash(&bytes));
                let written = store.put(Name::Pack { holder: self.me(), hash }, bytes.into());
                self.mirror.packed(hash, places, written);
            }
            self.mirror.compose(&self.set, &manifest).unwrap()
        });
        let name = EntryName::held_by(self.me(), entry);
        let written = store.put(Name::Entry(name.clone()), record::encode(entry, head.as_ref()).into());
        self.mirror.uploaded(name, entry.hash(), head.as_ref(), written);
    }

    fn look(&mut self, store: &Store, now: Duration) -> Vec<Name> {
        let lost = self.mirror.listed(store.list(), now);
        read_all(&mut self.mirror, store);
        for (name, mark) in self.mirror.take_notes() {
            match mark {
                Some(mark) => self.notes.insert(name, mark),
                None => self.notes.remove(&name),
            };
        }
        lost
    }

    /// Another process with the same cache.
    fn begin_anew(&mut self) {
        self.mirror = Mirror::new(self.me(), self.notes.clone());
    }
}

/// Reads what needs reading, as the poller does. Returns the entries, and how many objects were refused.
fn read_all(mirror: &mut Mirror, store: &Store) -> (Vec<Arc<SignedEntry>>, usize) {
    let (mut entries, mut refused) = (Vec::new(), 0);
    loop {
        let reads = mirror.to_read(&BTreeSet::new(), 3);
        if reads.is_empty() {
            return (entries, refused);
        }
        for (name, mark) in reads {
            let (bytes, _) = &store.objects[&Name::Entry(name.clone())];
            match mirror.read(&name, &mark, bytes) {
                Ok(entry) => entries.push(entry),
                Err(_) => refused += 1,
            }
        }
    }
}

/// Everything that stands can be read, and nothing else is asked for.
fn check(store: &Store, author: &Author) {
    for entry in author.set.of_author(author.me()) {
        let (record, _) = &store.objects[&Name::Entry(EntryName::of(entry))];
        let (found, head) = record::split(record).unwrap();
        assert_eq!(found.hash(), entry.hash());
        let Some(root) = entry.root() else { continue };
        let head = Head::decode(entry, head).unwrap();
        assert_eq!(head.manifest.root(), root);
        for (number, chunk) in head.manifest.chunks().iter().enumerate() {
            let Spot { pack, offset } = head.spots[number];
            let (bytes, _) = &store.objects[&Name::Pack { holder: author.me(), hash: pack }];
            let length = head.manifest.plan().length(number);
            let part = &bytes[offset as usize..(offset + length) as usize];
            assert_eq!(ChunkHash::of(part), *chunk, "{}", entry.key);
        }
    }
}

#[test]
fn what_stands_is_always_there_and_what_does_not_goes_in_time() {
    for seed in 0..40 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |below: u64| random.next_u64() % below;
        let (mut author, mut store, mut now) = (Author::new(), Store::default(), Duration::ZERO);
        author.look(&store, now);
        for step in 0..60 {
            match draw(8) {
                0..4 => {
                    let numbers: Vec<u8> = (0..4).map(|_| draw(3) as u8).collect();
                    author.sign(&format!("update/{step}"), Some(&weights(&numbers)));
                }
                4 => author.sign("start", Some(&weights(&[draw(4) as u8]))),
                5 => author.sign("start", None),
                6 => {
                    // While none runs somebody may change an object, and not its length.
                    let names = author.notes.keys().filter(|name| store.objects.contains_key(name));
                    let names: Vec<Name> = names.cloned().collect();
                    if draw(2) == 0 && !names.is_empty() {
                        let name = &names[draw(names.len() as u64) as usize];
                        let bytes = changed(&store, name);
                        store.put(name.clone(), bytes);
                    }
                    author.begin_anew();
                    author.look(&store, now);
                }
                _ => {}
            }
            // Somebody else changes or deletes an object now and then.
            if draw(6) == 0 && !store.objects.is_empty() {
                let at = draw(store.objects.len() as u64) as usize;
                let name = store.objects.keys().nth(at).unwrap().clone();
                if draw(2) == 0 {
                    store.objects.remove(&name);
                } else {
                    let (bytes, _) = &store.objects[&name];
                    let changed: Bytes = bytes.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>().into();
                    store.put(name, changed);
                }
            }
            // The time until an object that no listing shows counts as lost.
            for _ in 0..2 {
                now += MISSED;
                store.clock += 20_000;
                author.look(&store, now);
                if author.mirror.is_known() {
                    author.upload(&mut store);
                }
            }
            let garbage = author.mirror.garbage(&author.set, GRACE, 1);
            for name in &garbage {
                assert!(store.objects.remove(name).is_some(), "{name:?} is not there");
            }
            author.look(&store, now);
            author.upload(&mut store);
            // Now and then somebody changes what no listing has shown yet.
            let names: Vec<Name> =
                author.mirror.placed.values().map(|placed| Name::Entry(placed.name.clone())).collect();
            if draw(4) == 0 && !names.is_empty() {
                let name = &names[draw(names.len() as u64) as usize];
                let bytes = changed(&store, name);
                store.put(name.clone(), bytes);
                author.look(&store, now);
                author.upload(&mut store);
            }
            author.look(&store, now);
            check(&store, &author);
        }
        // Nothing piles up: two updates, the other key, and what the grace keeps.
        for _ in 0..5 {
            store.clock += GRACE.as_millis() as i64;
            author.sign("tick", None);
            author.upload(&mut store);
            author.look(&store, now);
            for name in author.mirror.garbage(&author.set, GRACE, 1) {
                store.objects.remove(&name);
            }
        }
        check(&store, &author);
        assert!(store.objects.len() <= 3 + 2 * 4 + 4, "{} objects are left", store.objects.len());
    }
}

#[test]
fn unchanged_chunks_are_written_once() {
    let (mut author, mut store) = (Author::new(), Store::default());
    author.look(&store, Duration::ZERO);
    let mut numbers: Vec<u8> = (0..64).collect();
    author.sign("update/1", Some(&weights(&numbers)));
    author.upload(&mut store);
    assert!(store.written > 6_400_000);
    store.written = 0;
    numbers[7] = 100;
    author.sign("update/2", Some(&weights(&numbers)));
    // Also by a new process.
    author.begin_anew();
    author.look(&store, Duration::ZERO);
    author.upload(&mut store);
    assert!((100_000..120_000).contains(&store.written), "{} bytes", store.written);
    check(&store, &author);
}

#[test]
fn what_was_just_replaced_stays_for_the_time_of_grace() {
    let (mut author, mut store) = (Author::new(), Store::default());
    author.look(&store, Duration::ZERO);
    for epoch in 1..5u8 {
        author.sign(&format!("update/{epoch}"), Some(&weights(&[epoch])));
        author.upload(&mut store);
    }
    author.look(&store, Duration::ZERO);
    assert_eq!(author.mirror.garbage(&author.set, GRACE, 1), []);
    store.clock += GRACE.as_millis() as i64 - 10;
    author.sign("other", None);
    author.upload(&mut store);
    author.look(&store, Duration::ZERO);
    assert_eq!(author.mirror.garbage(&author.set, GRACE, 1), []);
    store.clock += 20;
    author.sign("other", None);
    author.upload(&mut store);
    author.look(&store, Duration::ZERO);
    // Too few for a request of their own.
    assert_eq!(author.mirror.garbage(&author.set, GRACE, 10), []);
    assert_eq!(author.mirror.garbage(&author.set, GRACE, 4).len(), 4);
}

#[test]
fn readers_read_only_what_counts_and_refuse_what_is_forged() {
    let (mut author, mut store) = (Author::new(), Store::default());
    author.look(&store, Duration::ZERO);
    for epoch in 1..20u8 {
        author.sign(&format!("update/{epoch}"), Some(&weights(&[epoch])));
        author.upload(&mut store);
    }
    let reader = Keypair::ed25519_from_bytes([4; 32]).unwrap().public().to_peer_id();
    let mut mirror = Mirror::new(reader, BTreeMap::new());
    mirror.listed(store.list(), Duration::ZERO);
    let (entries, refused) = read_all(&mut mirror, &store);
    assert_eq!((entries.len(), refused), (2, 0), "of nineteen updates the two newest");
    // Nothing has changed, so nothing is read again.
    mirror.listed(store.list(), Duration::ZERO);
    assert_eq!(mirror.to_read(&BTreeSet::new(), 10), []);
    // The newest is changed: it is refused, and the one before the two counts.
    let newest = EntryName::of(author.set.newest_update(author.me()).unwrap());
    let (bytes, _) = store.objects[&Name::Entry(newest.clone())].clone();
    let mut changed = bytes.to_vec();
    changed[100] ^= 1;
    store.put(Name::Entry(newest.clone()), changed.into());
    mirror.listed(store.list(), Duration::ZERO);
    let (entries, refused) = read_all(&mut mirror, &store);
    assert_eq!((entries.len(), refused), (1, 1));
    assert_eq!(entries[0].key.name(), "update/17");
    // Another's entry under its name is refused too, and one of another number.
    let (older, _) = store.objects[&Name::Entry(EntryName::of(&entries[0]))].clone();
    store.put(Name::Entry(newest.clone()), older);
    mirror.listed(store.list(), Duration::ZERO);
    assert_eq!(read_all(&mut mirror, &store).1, 1);
    store.put(Name::Entry(newest), bytes);
    mirror.listed(store.list(), Duration::ZERO);
    assert_eq!(read_all(&mut mirror, &store).0.len(), 1);
}

/// What one member has, the other has too, as by gossip.
fn share(from: &Author, to: &mut Author) {
    for entry in from.set.of_author(from.me()) {
        to.set.insert(entry.clone()).unwrap();
        if let Some(root) = entry.root() {
            to.values.insert(root, from.values[&root].clone());
        }
    }
}

/// A member that looks at the bucket, relays and removes.
fn turn_of(member: &mut Author, store: &mut Store, now: Duration) -> usize {
    member.look(store, now);
    member.upload(store);
    let due = member.mirror.due_relays(&member.set, |_| true, |_| AFTER, now);
    for entry in &due {
        member.write(entry, store);
    }
    for name in member.mirror.garbage(&member.set, GRACE, 1) {
        assert_eq!(name.holder(), member.me(), "each removes only what is its own");
        store.objects.remove(&name);
    }
    due.len()
}

const AFTER: Duration = Duration::from_secs(10);

#[test]
fn who_has_no_way_to_the_bucket_is_relayed_by_one_member_and_only_then() {
    let mut store = Store::default();
    let mut far = Author::of([3; 32]);
    let mut members = [Author::of([4; 32]), Author::of([5; 32]), Author::of([6; 32])];
    let mut now = Duration::ZERO;
    let mut relayed = 0;
    for epoch in 0..100u8 {
        // Quicker than the wait for an author: the newest is always another one.
        now += Duration::from_secs(1);
        store.clock += 1000;
        far.sign(&format!("update/{epoch}"), Some(&weights(&[epoch, 7])));
        for member in &mut members {
            share(&far, member);
            relayed += turn_of(member, &mut store, now);
        }
        assert!(now > AFTER || relayed == 0, "the author is waited for");
    }
    // By one in each turn, from some moment between the wait and twice the wait on.
    assert!((80..=90).contains(&relayed), "{relayed}");
    // A reader finds it, whole, and nothing but what stands and the grace keeps.
    let mut reader = Mirror::new(Author::of([8; 32]).me(), BTreeMap::new());
    reader.listed(store.list(), now);
    let (entries, refused) = read_all(&mut reader, &store);
    assert_eq!(refused, 0);
    let newest = far.set.newest_update(far.me()).unwrap();
    assert!(entries.iter().any(|entry| entry.hash() == newest.hash()));
    let copies = reader.copies(newest);
    let [copy] = copies.as_slice() else { panic!("{} copies", copies.len()) };
    let head = Head::decode(newest, copy.head.as_ref().unwrap()).unwrap();
    assert!(
        head.packs
            .keys()
            .all(|hash| { store.objects.contains_key(&Name::Pack { holder: copy.name.holder, hash: *hash }) })
    );
    assert!(store.objects.len() < 2 * (GRACE.as_secs() as usize + 10), "{}", store.objects.len());
    // It reaches the bucket itself: then nobody relays, and what was relayed is removed.
    far.look(&store, now);
    far.upload(&mut store);
    for epoch in 100..200u8 {
        now += Duration::from_secs(1);
        store.clock += 1000;
        far.sign(&format!("update/{epoch}"), Some(&weights(&[epoch, 7])));
        turn_of(&mut far, &mut store, now);
        for member in &mut members {
            share(&far, member);
            assert_eq!(turn_of(member, &mut store, now), 0);
        }
    }
    let left = store.objects.keys().filter(|name| name.holder() != far.me()).count();
    assert_eq!(left, 0, "what was relayed is gone");
}

#[test]
fn who_relays_can_fail_and_another_takes_its_place() {
    let (mut store, mut far, mut now) = (Store::default(), Author::of([3; 32]), Duration::ZERO);
    let mut members = vec![Author::of([4; 32]), Author::of([5; 32])];
    far.sign("update/1", Some(&weights(&[1])));
    let relays = |members: &mut Vec<Author>, far: &Author, store: &mut Store, now: Duration| {
        let at = members.iter_mut().position(|member| {
            share(far, member);
            turn_of(member, store, now) > 0
        });
        at.map(|at| (at, members.remove(at)))
    };
    let mut first = None;
    for _ in 0..20 {
        now += Duration::from_secs(1);
        first = first.or_else(|| relays(&mut members, &far, &mut store, now));
    }
    assert!(first.is_some());
    far.sign("update/2", Some(&weights(&[2])));
    let mut second = None;
    for _ in 0..21 {
        now += Duration::from_secs(1);
        second = second.or_else(|| relays(&mut members, &far, &mut store, now));
    }
    assert!(second.is_some(), "the other one relays now");
    // A bucket that could not be read proves nobody's absence.
    let mut third = Author::of([9; 32]);
    far.sign("update/3", Some(&weights(&[3])));
    share(&far, &mut third);
    assert_eq!(turn_of(&mut third, &mut store, now), 0);
    third.mirror.interrupted();
    assert_eq!(turn_of(&mut third, &mut store, now + Duration::from_secs(3600)), 0);
}

fn pack_name(author: &Author, store: &Store) -> Name {
    let is_pack = |name: &&Name| matches!(name, Name::Pack { holder: whose, .. } if *whose == author.me());
    store.objects.keys().find(is_pack).unwrap().clone()
}

/// An object of the same size, which the store shows with another tag.
fn changed(store: &Store, name: &Name) -> Bytes {
    let (bytes, _) = &store.objects[name];
    bytes.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>().into()
}

#[test]
fn what_is_changed_before_any_listing_shows_it_is_found_out() {
    let (mut author, mut store) = (Author::new(), Store::default());
    author.look(&store, Duration::ZERO);
    author.sign("update/1", Some(&weights(&[1])));
    author.upload(&mut store);
    let name = pack_name(&author, &store);
    let bytes = changed(&store, &name);
    store.put(name.clone(), bytes);
    assert_eq!(author.look(&store, Duration::ZERO), [name]);
    author.upload(&mut store);
    assert_eq!(author.look(&store, Duration::ZERO), []);
    check(&store, &author);
}

#[test]
fn a_listing_that_began_before_a_write_says_nothing_of_it() {
    let (mut author, mut store) = (Author::new(), Store::default());
    author.look(&store, Duration::ZERO);
    let before = store.list();
    author.sign("update/1", Some(&weights(&[1])));
    let entry = author.mirror.wanting(&author.set)[0].clone();
    author.upload(&mut store);
    for placed in author.mirror.placed.values_mut() {
        placed.object.written.at = Duration::from_secs(2);
    }
    // A listing that lacks it, and much later another one that does.
    author.mirror.listed(before.clone(), Duration::from_secs(1));
    assert!(author.mirror.placed[&entry.hash()].object.missed.is_none());
    assert_eq!(author.mirror.listed(before.clone(), Duration::from_secs(3)), []);
    assert!(author.mirror.misses());
    let lost = author.mirror.listed(before, Duration::from_secs(3) + MISSED);
    assert!(lost.contains(&Name::Entry(EntryName::of(&entry))), "{lost:?}");
}

#[test]
fn a_store_whose_listings_have_tags_of_their_own_is_believed_in_the_end() {
    let (mut author, mut store) = (Author::new(), Store::default());
    author.look(&store, Duration::ZERO);
    author.sign("update/1", Some(&weights(&[1])));
    let mut rounds = 0;
    loop {
        author.upload(&mut store);
        let mut listed = store.list();
        listed.iter_mut().for_each(|object| object.mark.tag = Some("of its own".to_owned()));
        if author.mirror.listed(listed, Duration::ZERO).is_empty() {
            break;
        }
        rounds += 1;
        assert!(rounds < 10, "it is written again and again");
    }
}

#[test]
fn what_cannot_be_read_makes_room_for_older_updates() {
    let (mut author, mut store) = (Author::new(), Store::default());
    author.look(&store, Duration::ZERO);
    for epoch in 1..5u8 {
        author.sign(&format!("update/{epoch}"), Some(&weights(&[epoch])));
        author.upload(&mut store);
    }
    let reader = Keypair::ed25519_from_bytes([4; 32]).unwrap().public().to_peer_id();
    let mut mirror = Mirror::new(reader, BTreeMap::new());
    mirror.listed(store.list(), Duration::ZERO);
    let mut absent = BTreeSet::new();
    let first = mirror.to_read(&absent, 10);
    assert_eq!(first.len(), 2);
    absent.insert(first[0].0.clone());
    mirror.refuse(&first[1].0, first[1].1.clone());
    let next = mirror.to_read(&absent, 10);
    assert_eq!(next.len(), 2);
    assert!(next.iter().all(|(name, _)| first.iter().all(|(other, _)| other != name)));
    // Until it changes, it is not asked for again.
    mirror.listed(store.list(), Duration::ZERO);
    assert!(mirror.to_read(&BTreeSet::new(), 10).iter().all(|(name, _)| *name != first[1].0));
}

#[test]
fn the_proof_of_a_copied_home_is_brought_there_kept_and_compared_once_however_old() {
    let (mut one, mut two, mut store) = (Author::new(), Author::new(), Store::default());
    one.sign("a", Some(&weights(&[1])));
    // The other copy has gone on, and is alone in the bucket.
    for epoch in 1..5u8 {
        two.sign(&format!("update/{epoch}"), Some(&weights(&[epoch])));
        two.upload(&mut store);
    }
    let mine = one.set.iter("").next().unwrap().clone();
    // Of the other's first number only the signed bytes are known here.
    let first = {
        let mut again = Author::new();
        again.sign("update/1", Some(&weights(&[1])));
        again.set.iter("").next().unwrap().clone()
    };
    one.look(&store, Duration::ZERO);
    assert!(matches!(one.set.insert(first.clone()), Err(crate::entries::Refused::Conflict(_))));
    // What the bucket shows already is not written again, the other entry is: without a value.
    let wanted = one.mirror.wanting(&one.set);
    assert_eq!(wanted.iter().map(|entry| entry.hash()).collect::<Vec<_>>(), [mine.hash()]);
    let name = EntryName::held_by(one.me(), &mine);
    let written = store.put(Name::Entry(name.clone()), record::encode(&mine, None).into());
    one.mirror.uploaded(name.clone(), mine.hash(), None, written);
    one.look(&store, Duration::from_secs(1));
    assert!(one.mirror.wanting(&one.set).is_empty());
    // A reader asks for both, though it needs neither.
    let mut reader = Mirror::new(Keypair::ed25519_from_bytes([4; 32]).unwrap().public().to_peer_id(), BTreeMap::new());
    reader.listed(store.list(), Duration::ZERO);
    read_all(&mut reader, &store);
    let twice = reader.twice();
    let names: BTreeSet<EntryName> = twice.iter().flatten().map(|(name, _)| name.clone()).collect();
    assert_eq!((twice.len(), names), (1, [name.clone(), EntryName::of(&first)].into()));
    reader.compared(&name);
    assert!(reader.twice().is_empty());
}

/// What one look does first: it lists, and hasn't read anything yet.
fn only_list(member: &mut Author, store: &Store, now: Duration) {
    member.mirror.listed(store.list(), now);
}

fn relays_of(member: &mut Author, now: Duration) -> usize {
    member.mirror.due_relays(&member.set, |_| true, |_| AFTER, now).len()
}

#[test]
fn who_was_not_looked_for_yet_is_not_absent() {
    let (mut store, mut far, mut member) = (Store::default(), Author::of([3; 32]), Author::of([4; 32]));
    far.sign("update/1", Some(&weights(&[1])));
    share(&far, &mut member);
    let long = |times: u32| AFTER * 2 * times;
    // The bucket has not answered at all.
    for times in 0..5 {
        assert_eq!(relays_of(&mut member, long(times)), 0);
    }
    // It has, before the wait began, and nothing since: its next answer may show the author.
    only_list(&mut member, &store, long(5));
    assert_eq!(relays_of(&mut member, long(5)), 0);
    for times in 6..9 {
        assert_eq!(relays_of(&mut member, long(times)), 0, "no listing since the wait began");
    }
    // The author's object is listed; what it holds is still to be read, however long that takes.
    far.look(&store, long(9));
    far.upload(&mut store);
    only_list(&mut member, &store, long(10));
    for times in 10..13 {
        assert_eq!(relays_of(&mut member, long(times)), 0, "what is listed is not read yet");
        only_list(&mut member, &store, long(times));
    }
    read_all(&mut member.mirror, &store);
    for times in 14..16 {
        member.look(&store, long(times));
        assert_eq!(relays_of(&mut member, long(times)), 0, "it is there");
    }
    // Of something newer it may have no way to bring: the wait begins when a listing lacks it.
    far.sign("update/2", Some(&weights(&[2])));
    share(&far, &mut member);
    member.look(&store, long(16));
    assert_eq!(relays_of(&mut member, long(16)), 0);
    member.look(&store, long(17));
    assert_eq!(relays_of(&mut member, long(17)), 1, "now it is absent");
}

#[test]
fn what_another_relays_and_was_not_read_yet_is_there() {
    let (mut store, mut far) = (Store::default(), Author::of([3; 32]));
    let mut members = [Author::of([4; 32]), Author::of([5; 32])];
    far.sign("update/1", Some(&weights(&[1])));
    let [first, second] = &mut members;
    share(&far, first);
    share(&far, second);
    first.look(&store, Duration::ZERO);
    let entry = first.set.newest_update(far.me()).unwrap().clone();
    first.write(&entry, &mut store);
    for seconds in (0..100).step_by(10) {
        only_list(second, &store, Duration::from_secs(seconds));
        assert_eq!(relays_of(second, Duration::from_secs(seconds)), 0, "after {seconds} s");
    }
}

#[test]
fn own_entries_that_were_not_read_yet_are_neither_written_again_nor_removed() {
    let (mut author, mut store) = (Author::new(), Store::default());
    author.look(&store, Duration::ZERO);
    for epoch in 1..3u8 {
        author.sign(&format!("update/{epoch}"), Some(&weights(&[epoch])));
        author.upload(&mut store);
    }
    author.look(&store, Duration::ZERO);
    let there = store.objects.clone();
    // Another process with the same home: before a listing nothing is known of what is there.
    author.begin_anew();
    assert_eq!(author.mirror.garbage(&author.set, Duration::ZERO, 1), []);
    assert_eq!(author.mirror.due_relays(&author.set, |_| true, |_| Duration::ZERO, Duration::MAX).len(), 0);
    // It is listed, and then nothing can be read for a while.
    only_list(&mut author, &store, Duration::ZERO);
    assert_eq!(author.mirror.wanting(&author.set), []);
    // One whose cache is lost knows of none of its entries, and must not take them for anybody's leavings.
    let mut lost = Author::new();
    for minutes in 0..20 {
        store.clock += 60_000;
        only_list(&mut lost, &store, Duration::from_secs(minutes * 60));
        assert_eq!(lost.mirror.garbage(&lost.set, GRACE, 1), [], "after {minutes} minutes");
    }
    read_all(&mut lost.mirror, &store);
    assert_eq!(store.objects, there);
    // What is listed and turns out not to be there is written again.
    let newest = EntryName::of(author.set.newest_update(author.me()).unwrap());
    let mark = author.mirror.mark(&newest).unwrap();
    author.mirror.refuse(&newest, mark);
    assert_eq!(author.mirror.wanting(&author.set).len(), 1);
}
