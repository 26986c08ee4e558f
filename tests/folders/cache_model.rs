//! Random operations on a cache and on a model of it, which must agree.

use super::caches::*;
use peerfold::cache::{Cache, Look, Pin, Retention, Stored};
use peerfold::weights::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

const SPARE: u8 = 0;
const STRANGER: u8 = 1;
const KNOWN: u8 = 2;

/// The steps of a run follow from its seed.
struct Draws(blake3::OutputReader);

impl Draws {
    fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    fn below(&mut self, bound: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % bound as u64) as usize
    }

    fn some<T: Copy + Ord>(&mut self, of: &[T], one_in: usize) -> BTreeSet<T> {
        of.iter().copied().filter(|_| self.below(one_in) == 0).collect()
    }
}

/// What a cache should hold.
#[derive(Default)]
struct Model {
    /// What blobs may take.
    room: u64,
    /// Known values and when they were used last.
    known: BTreeMap<Root, u64>,
    stored: BTreeMap<BlobHash, u64>,
    entries: BTreeMap<EntryHash, Root>,
    pins: Vec<Root>,
    /// Known values that were this node's own at some retention.
    own: BTreeSet<Root>,
    /// Blobs that were given to peers, all of them lately.
    given: BTreeSet<BlobHash>,
    /// What may be evicted, and how much it is worth.
    evictable: BTreeMap<Root, u8>,
    clock: u64,
    /// What each value names, its manifest included.
    named: BTreeMap<Root, BTreeMap<BlobHash, u64>>,
}

impl Model {
    fn used(&self) -> u64 {
        self.stored.values().sum()
    }

    fn touch(&mut self, root: Root) {
        self.clock += 1;
        self.known.entry(root).and_modify(|used| *used = self.clock);
    }

    fn learn(&mut self, root: Root) {
        self.known.entry(root).or_default();
        self.touch(root);
    }

    fn forget(&mut self, root: Root) {
        self.known.remove(&root);
        let named = |hash: &BlobHash| self.known.keys().any(|root| self.named[root].contains_key(hash));
        self.stored = std::mem::take(&mut self.stored).into_iter().filter(|(hash, _)| named(hash)).collect();
    }

    /// Whether a peer is fetching this value of the node's own: something that it alone names was given.
    fn is_being_given(&self, root: Root) -> bool {
        let is_of_others =
            |hash: &BlobHash| self.known.keys().any(|other| *other != root && self.named[other].contains_key(hash));
        self.own.contains(&root)
            && self.named[&root].keys().any(|hash| self.given.contains(hash) && !is_of_others(hash))
    }

    /// What nothing names, nothing is remembered of.
    fn tidy(&mut self) {
        self.own.retain(|root| self.known.contains_key(root));
        let named = |hash: &BlobHash| self.known.keys().any(|root| self.named[root].contains_key(hash));
        self.given = std::mem::take(&mut self.given).into_iter().filter(named).collect();
    }

    /// Whether there is room for so many bytes of a value, after evicting what isn't worth more than `most`.
    fn make_room(&mut self, needed: u64, root: Option<Root>, most: u8) -> bool {
        let may_go = |other: &Root, worth: u8| worth <= most && !self.pins.contains(other) && Some(*other) != root;
        let free = self.evictable.iter().filter(|(other, worth)| may_go(other, **worth));
        let mut in_order: Vec<(u8, u64, Root)> =
            free.filter_map(|(other, worth)| self.known.get(other).map(|&used| (*worth, used, *other))).collect();
        in_order.sort_unstable();
        let before = (self.known.clone(), self.stored.clone());
        for (.., other) in in_order {
            if self.used() + needed > self.room {
                self.forget(other);
            }
        }
        let has_room = self.used() + needed <= self.room;
        if !has_room && root.is_some() {
            // Nothing is evicted in vain.
            (self.known, self.stored) = before;
        }
        has_room
    }

    /// What a blob of this value may evict.
    fn most(&self, root: Root) -> u8 {
        if self.evictable.get(&root) == Some(&KNOWN) { KNOWN } else { STRANGER }
    }

    fn missing(&self, root: Root) -> Option<usize> {
        let there = self.known.contains_key(&root) && self.stored.contains_key(&root.into());
        there.then(|| self.named[&root].keys().filter(|hash| !self.stored.contains_key(hash)).count())
    }
}

fn named(manifest: &Manifest) -> BTreeMap<BlobHash, u64> {
    let chunks = manifest.chunks().iter().enumerate();
    let chunks = chunks.map(|(number, &hash)| (hash.into(), manifest.plan().length(number)));
    chunks.chain([(manifest.root().into(), manifest.encode().len() as u64)]).collect()
}

fn run(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut draws = Draws::new(seed);
    // Tensors large enough for chunks of their own, which the values share.
    let values: Vec<Weights> = (0..7)
        .map(|number| weights(&[(draws.below(4) as u64, 70_000), (draws.below(4) as u64, 80_000), (number, 10)]))
        .collect();
    let manifests: Vec<Manifest> = values.iter().map(Weights::manifest).collect();
    let roots: Vec<Root> = manifests.iter().map(Manifest::root).collect();
    let quota = quota_for([1 << 30, 600_000, 300_000][draws.below(3)]);
    let mut model =
        Model { named: roots.iter().copied().zip(manifests.iter().map(named)).collect(), ..Model::default() };
    let mut cache: Cache = open(dir.path(), quota).cache;
    let mut pins: Vec<Pin> = Vec::new();
    for step in 0..120u64 {
        model.room = cache.figures().room;
        let at = draws.below(roots.len());
        let (value, manifest, root) = (&values[at], &manifests[at], roots[at]);
        model.tidy();
        match draws.below(13) {
            0 => {
                model.learn(root);
                let new = model.named[&root].iter().filter(|(hash, _)| !model.stored.contains_key(hash));
                let needed = new.map(|(_, length)| length).sum();
                let has_room = model.make_room(needed, Some(root), KNOWN);
                match cache.put_value(manifest, value) {
                    Ok(pin) => pins.push(pin),
                    Err(error) => assert!(error.is_full() && !has_room, "step {step}: {error}"),
                }
                if has_room {
                    model.pins.push(root);
                    model.stored.extend(model.named[&root].clone());
                }
            }
            1 | 2 => {
                let length = manifest.encode().len() as u64;
                let has_room =
                    model.stored.contains_key(&root.into()) || model.make_room(length, Some(root), model.most(root));
                match cache.store_blob(root, root.into(), &manifest.encode()) {
                    Ok(stored) => assert!(stored == Stored::Stored && has_room, "step {step}"),
                    Err(error) => assert!(error.is_full() && !has_room, "step {step}: {error}"),
                }
                if has_room {
                    model.stored.insert(root.into(), length);
                    model.learn(root);
                }
            }
            3..=5 => {
                let chunk = draws.below(manifest.chunks().len());
                let hash = BlobHash::from(manifest.chunks()[chunk]);
                let length = manifest.plan().length(chunk);
                let is_named = |model: &Model| model.known.keys().any(|root| model.named[root].contains_key(&hash));
                let was_named = is_named(&model);
                let has_room = !was_named
                    || model.stored.contains_key(&hash)
                    || model.make_room(length, Some(root), model.most(root));
                // The last value that named it may have been evicted for it.
                let stored = if was_named && is_named(&model) { Stored::Stored } else { Stored::Unnamed };
                match cache.store_blob(root, hash, &manifest.chunk_bytes(value, chunk)) {
                    Ok(result) => assert!(result == stored && has_room, "step {step}"),
                    Err(error) => assert!(error.is_full() && !has_room, "step {step}: {error}"),
                }
                if has_room && stored == Stored::Stored {
                    model.stored.insert(hash, length);
                }
            }
            6 => {
                let entry = entry(1 + draws.below(2) as u8, "a", step, manifest);
                match entry.key.author() == author(1) {
                    true => cache.put_entry(&entry, || ()).unwrap(),
                    false => cache.save_entry(&entry).unwrap(),
                }
                model.entries.insert(entry.hash(), root);
            }
            7 => {
                let hashes: Vec<EntryHash> = model.entries.keys().copied().collect();
                let retention = Retention {
                    entries: draws.some(&hashes, 2),
                    kept: draws.some(&roots, 4),
                    known: draws.some(&roots, 4),
                    strangers: draws.some(&roots, 4),
                    spare: draws.some(&roots, 2),
                    ..Retention::default()
                };
                cache.retain(|| retention.clone()).unwrap();
                model.room = cache.figures().room;
                let Retention { entries, kept, known, strangers, spare, .. } = retention;
                // What is in several of them is worth the most.
                let worth = [(spare, SPARE), (strangers, STRANGER), (known, KNOWN)];
                let worth =
                    worth.into_iter().flat_map(|(roots, worth)| roots.into_iter().map(move |root| (root, worth)));
                model.evictable = worth.filter(|(root, _)| !kept.contains(root)).collect();
                model.entries.retain(|hash, _| entries.contains(hash));
                model.own.extend(kept.iter().filter(|root| model.known.contains_key(root)));
                let is_needless = |model: &Model, root: &Root| {
                    !kept.contains(root) && !model.evictable.contains_key(root) && !model.pins.contains(root)
                };
                let needless: Vec<Root> = roots.iter().copied().filter(|root| is_needless(&model, root)).collect();
                let (given, needless): (Vec<Root>, Vec<Root>) =
                    needless.into_iter().partition(|root| model.is_being_given(*root));
                model.evictable.extend(given.into_iter().map(|root| (root, SPARE)));
                needless.into_iter().for_each(|root| model.forget(root));
                model.make_room(0, None, KNOWN);
            }
            8 => {
                if !pins.is_empty() {
                    let pin = draws.below(pins.len());
                    drop(pins.swap_remove(pin));
                    model.pins.swap_remove(pin);
                }
            }
            9 => {
                let stored: Vec<BlobHash> = model.stored.keys().copied().collect();
                if let Some(&hash) = stored.get(draws.below(stored.len().max(1))) {
                    fs::write(blob_path(dir.path(), hash), b"damaged").unwrap();
                    assert_eq!(cache.blob(hash).unwrap(), None);
                    model.touch(Root::from_bytes(*hash.as_bytes()));
                    model.stored.remove(&hash);
                }
            }
            10 => {
                let stored: Vec<BlobHash> = model.stored.keys().copied().collect();
                if let Some(&hash) = stored.get(draws.below(stored.len().max(1))) {
                    assert!(cache.blob(hash).unwrap().is_some());
                    model.touch(Root::from_bytes(*hash.as_bytes()));
                    model.given.insert(hash);
                }
            }
            11 => {
                let found = read(&cache, root);
                assert_eq!(found.is_some(), model.missing(root) == Some(0), "step {step}");
                if let Some(found) = found {
                    assert!(found == bytes_of(value));
                    model.touch(root);
                }
            }
            _ => {
                pins.clear();
                model.pins.clear();
                drop(cache);
                let index_is_lost = draws.below(2) == 0;
                match draws.below(3) {
                    _ if index_is_lost => fs::remove_dir_all(dir.path().join("index")).unwrap(),
                    0 => fs::remove_file(dir.path().join("closed")).unwrap(),
                    _ => {}
                }
                let opened = open(dir.path(), quota);
                cache = opened.cache;
                let entries: BTreeSet<EntryHash> = opened.entries.iter().map(|entry| entry.hash()).collect();
                assert_eq!(entries, model.entries.keys().copied().collect(), "step {step}");
                for &root in &roots {
                    let is_found = !index_is_lost || model.entries.values().any(|&named| named == root);
                    if !is_found || !model.stored.contains_key(&root.into()) {
                        model.forget(root);
                    } else if index_is_lost {
                        model.known.entry(root).and_modify(|used| *used = 0);
                    }
                }
                model.evictable.clear();
                model.own.clear();
                model.given.clear();
            }
        }
        assert_eq!(cache.used(), model.used(), "step {step}");
        for &root in &roots {
            assert_eq!(missing(&cache, root), model.missing(root), "step {step}");
            if let Look::Whole { manifest } = cache.look(root).unwrap() {
                assert_eq!(manifest.root(), root);
            }
        }
        let on_disk: BTreeSet<BlobHash> = files(&dir.path().join("blobs"))
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().parse().unwrap())
            .collect();
        assert_eq!(on_disk, model.stored.keys().copied().collect(), "step {step}");
    }
}

#[test]
fn a_cache_does_what_its_model_does() {
    for seed in 0..12 {
        let done = std::panic::catch_unwind(|| run(seed));
        assert!(done.is_ok(), "with seed {seed}");
    }
}
