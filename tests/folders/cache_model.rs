//! Random operations on a cache and on a model of it, which must agree.

use super::caches::*;
use peerfold::cache::{Cache, Look, Pin, Retention, Stored};
use peerfold::weights::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

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
    quota: u64,
    /// Known values and when they were used last.
    known: BTreeMap<Root, u64>,
    stored: BTreeMap<BlobHash, u64>,
    entries: BTreeMap<EntryHash, Root>,
    pins: Vec<Root>,
    spare: BTreeSet<Root>,
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

    fn evict(&mut self, except: Option<Root>) {
        let may_go = |root: &Root| self.spare.contains(root) && !self.pins.contains(root) && Some(*root) != except;
        let mut by_use: Vec<(u64, Root)> =
            self.known.iter().filter(|(root, _)| may_go(root)).map(|(&root, &used)| (used, root)).collect();
        by_use.sort_unstable();
        for (_, root) in by_use {
            if self.used() > self.quota {
                self.forget(root);
            }
        }
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
    let mut model = Model {
        quota: [ROOMY, 600_000, 300_000][draws.below(3)],
        named: roots.iter().copied().zip(manifests.iter().map(named)).collect(),
        ..Model::default()
    };
    let mut cache: Cache = open(dir.path(), model.quota).cache;
    let mut pins: Vec<Pin> = Vec::new();
    for step in 0..120u64 {
        let at = draws.below(roots.len());
        let (value, manifest, root) = (&values[at], &manifests[at], roots[at]);
        match draws.below(12) {
            0 => {
                pins.push(cache.put_value(manifest, value).unwrap());
                model.pins.push(root);
                model.learn(root);
                model.stored.extend(model.named[&root].clone());
                model.evict(Some(root));
            }
            1 | 2 => {
                let stored = cache.store_blob(root, root.into(), &manifest.encode()).unwrap();
                assert_eq!(stored, Stored::Stored);
                let new = model.stored.insert(root.into(), manifest.encode().len() as u64).is_none();
                model.learn(root);
                if new {
                    model.evict(Some(root));
                }
            }
            3..=5 => {
                let chunk = draws.below(manifest.chunks().len());
                let hash = BlobHash::from(manifest.chunks()[chunk]);
                let stored = cache.store_blob(root, hash, &manifest.chunk_bytes(value, chunk)).unwrap();
                let is_named = model.known.keys().any(|root| model.named[root].contains_key(&hash));
                assert_eq!(stored, if is_named { Stored::Stored } else { Stored::Unnamed }, "step {step}");
                if is_named && model.stored.insert(hash, manifest.plan().length(chunk)).is_none() {
                    model.evict(Some(root));
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
                    spare: draws.some(&roots, 2),
                };
                cache.retain(|| retention.clone()).unwrap();
                let Retention { entries, kept, spare } = retention;
                model.entries.retain(|hash, _| entries.contains(hash));
                for &root in &roots {
                    if !kept.contains(&root) && !spare.contains(&root) && !model.pins.contains(&root) {
                        model.forget(root);
                    }
                }
                // What is in both stays.
                model.spare = spare.difference(&kept).copied().collect();
                model.evict(None);
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
                let opened = open(dir.path(), model.quota);
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
                model.spare.clear();
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
