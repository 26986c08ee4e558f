//! What a cache promises: nothing that was put is lost, nothing unverified is returned, and what needn't be kept is
//! removed.

use crate::caches;

use caches::*;
use peerfold::cache::{Cache, CacheError, KnownPeer, Look, Retention, Stored};
use peerfold::entries::{Conflict, EntrySet};
use peerfold::weights::*;
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

fn keeping<'a>(kept: impl IntoIterator<Item = &'a Root>, spare: impl IntoIterator<Item = &'a Root>) -> Retention {
    let [kept, spare] = [kept.into_iter().copied().collect(), spare.into_iter().copied().collect::<BTreeSet<_>>()];
    Retention { kept, spare, ..Retention::default() }
}

fn hashes<'a>(entries: impl IntoIterator<Item = &'a Arc<SignedEntry>>) -> BTreeSet<EntryHash> {
    entries.into_iter().map(|entry| entry.hash()).collect()
}

#[test]
fn what_was_put_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let value = small(1);
    let manifest = value.manifest();
    let put = entry(1, "update/1", 7, &manifest);
    let cache = open(dir.path(), ROOMY).cache;
    let pin = cache.put_value(&manifest, &value).unwrap();
    let published = cache.put_entry(&put, || 42).unwrap();
    assert_eq!((published, pin.root()), (42, manifest.root()));
    drop(pin);
    cache.close();
    let error = cache.put_entry(&put, || ()).unwrap_err();
    assert!(matches!(error, CacheError::Closed { .. }), "{error}");

    let opened = open(dir.path(), ROOMY);
    assert_eq!(opened.entries, [Arc::new(put)]);
    assert_eq!(read(&opened.cache, manifest.root()).unwrap(), bytes_of(&value));
    assert_eq!(opened.cache.used(), blob_bytes(dir.path()));
}

#[test]
fn values_without_chunks_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), ROOMY).cache;
    for value in [weights(&[]), weights(&[(1, 0)])] {
        let pin = cache.put_value(&value.manifest(), &value).unwrap();
        assert_eq!(read(&cache, pin.root()).unwrap(), Vec::<u8>::new());
        assert!(matches!(cache.look(pin.root()).unwrap(), Look::Whole { .. }));
    }
}

#[test]
fn a_cache_is_open_once_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), ROOMY);
    let again = || Cache::open(dir.path(), federation(), &settings(ROOMY));
    let error = again().unwrap_err();
    assert!(matches!(error, CacheError::InUse { .. }), "{error}");
    // A pin is a handle too.
    let pin = opened.cache.pin(small(1).manifest().root());
    drop(opened);
    assert!(matches!(again(), Err(CacheError::InUse { .. })));
    drop(pin);
    again().unwrap();
}

#[test]
fn an_interrupted_fetch_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let value = small(1);
    let manifest = value.manifest();
    let root = manifest.root();
    for clean in [true, false] {
        let cache = open(dir.path(), ROOMY).cache;
        if clean {
            assert_eq!(cache.look(root).unwrap(), Look::NoManifest);
            fetch_some(&cache, &value, |chunk| chunk == 1);
            cache.save_entry(&entry(2, "update/1", 1, &manifest)).unwrap();
        } else {
            fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        let Look::Missing { manifest: looked, here, chunks } = cache.look(root).unwrap() else { panic!() };
        assert_eq!((&*looked, &here[..]), (&manifest, &manifest.chunks()[1..2]));
        let plan = manifest.plan();
        let expected: Vec<_> = [0, 2].map(|chunk| (manifest.chunks()[chunk], plan.length(chunk))).into();
        assert_eq!(chunks, expected);
        assert!(cache.value(root).unwrap().is_none());
        // What is there of it is given to others.
        assert_eq!(cache.blob(manifest.chunks()[1].into()).unwrap().unwrap(), manifest.chunk_bytes(&value, 1));
        assert_eq!(cache.blob(manifest.chunks()[0].into()).unwrap(), None);
        cache.close();
    }
    let cache = open(dir.path(), ROOMY).cache;
    fetch(&cache, &value);
    assert_eq!(read(&cache, root).unwrap(), bytes_of(&value));
}

#[test]
fn only_what_verifies_and_is_named_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), ROOMY).cache;
    let value = small(1);
    let manifest = value.manifest();
    let (root, encoded) = (manifest.root(), manifest.encode());
    let chunk = manifest.chunk_bytes(&value, 0);
    let hash = BlobHash::from(manifest.chunks()[0]);
    let store = |root, hash, bytes: &[u8]| cache.store_blob(root, hash, bytes).unwrap();

    assert_eq!(store(root, hash, &chunk), Stored::Unnamed);
    assert_eq!(store(root, root.into(), &encoded[1..]), Stored::WrongHash);
    let rubbish = b"no manifest";
    let rubbish_root = Manifest::root_of(rubbish);
    assert_eq!(store(rubbish_root, rubbish_root.into(), rubbish), Stored::NotManifest);
    assert_eq!(store(root, root.into(), &encoded), Stored::Stored);
    assert_eq!(store(root, hash, &chunk[1..]), Stored::WrongHash);
    assert_eq!(store(root, BlobHash::of(rubbish), rubbish), Stored::Unnamed);
    assert_eq!(store(root, hash, &chunk), Stored::Stored);
    assert_eq!(store(root, hash, &chunk), Stored::Stored);
    let used = (encoded.len() + chunk.len()) as u64;
    assert_eq!((cache.used(), blob_bytes(dir.path())), (used, used));
    assert!(files(&dir.path().join("partial")).is_empty());
}

/// A manifest with these chunk hashes in the place of those of the weights: what a liar can sign.
fn lying(value: &Weights, chunks: &[ChunkHash]) -> Vec<u8> {
    let manifest = value.manifest();
    let mut encoded = manifest.encode();
    let start = encoded.len() - manifest.chunks().len() * 32;
    for (number, hash) in chunks.iter().enumerate() {
        encoded[start + number * 32..][..32].copy_from_slice(hash.as_bytes());
    }
    encoded
}

#[test]
fn a_manifest_that_lies_about_lengths_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), ROOMY).cache;
    let honest = small(1);
    let root = fetch(&cache, &honest);
    let first = honest.manifest().chunks()[0];
    let liar = lying(&weights(&[(5, 1000)]), &[first]);
    let liar_root = Manifest::root_of(&liar);
    assert_eq!(cache.store_blob(liar_root, liar_root.into(), &liar).unwrap(), Stored::Stored);
    assert_eq!(missing(&cache, liar_root), Some(1));
    let chunk = honest.manifest().chunk_bytes(&honest, 0);
    assert_eq!(cache.store_blob(liar_root, first.into(), &chunk).unwrap(), Stored::WrongLength);
    assert!(cache.value(liar_root).unwrap().is_none());
    // Of one that contradicts itself it is known at once.
    let contradiction = lying(&small(9), &[first, first, first]);
    let its_root = Manifest::root_of(&contradiction);
    assert_eq!(cache.store_blob(its_root, its_root.into(), &contradiction).unwrap(), Stored::NotManifest);
    // Nor does it at a start.
    for (signer, manifest) in [(2, honest.manifest()), (3, Manifest::decode(&liar).unwrap())] {
        cache.save_entry(&entry(signer, "update/1", 1, &manifest)).unwrap();
    }
    drop(cache);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let cache = open(dir.path(), ROOMY).cache;
    assert_eq!(read(&cache, root).unwrap(), bytes_of(&honest));
    assert_eq!(missing(&cache, liar_root), Some(1));
}

#[test]
fn a_manifest_may_be_a_chunk_of_another_value() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), ROOMY).cache;
    let value = small(1);
    let root = value.manifest().root();
    let of_manifest = Weights::artifact(value.manifest().encode()).unwrap();
    let outer = fetch(&cache, &of_manifest);
    // The blob is there, but as a chunk: of the value nothing is known.
    assert_eq!(cache.look(root).unwrap(), Look::NoManifest);
    fetch(&cache, &value);
    cache.retain(|| keeping([&outer], [])).unwrap();
    assert_eq!(cache.look(root).unwrap(), Look::NoManifest);
    assert_eq!(read(&cache, outer).unwrap(), bytes_of(&of_manifest));
    fetch(&cache, &value);
    cache.retain(|| keeping([&root], [])).unwrap();
    assert_eq!(cache.look(outer).unwrap(), Look::NoManifest);
    assert_eq!(read(&cache, root).unwrap(), bytes_of(&value));
}

#[test]
fn unchanged_tensors_are_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), ROOMY).cache;
    let frozen = 3 * CHUNK_BYTES as usize;
    let [first, second] = [2, 3].map(|seed| weights(&[(1, frozen), (seed, 100_000)]));
    drop(cache.put_value(&first.manifest(), &first).unwrap());
    let before = blob_bytes(dir.path());
    drop(cache.put_value(&second.manifest(), &second).unwrap());
    let added = 100_000 + second.manifest().encode().len() as u64;
    assert_eq!(blob_bytes(dir.path()) - before, added);
    assert_eq!(cache.used(), before + added);
    // Within a value too.
    let repeated = weights(&[(7, 70_000), (7, 70_000), (7, 70_000)]);
    drop(cache.put_value(&repeated.manifest(), &repeated).unwrap());
    assert_eq!(cache.used() - before - added, 70_000 + repeated.manifest().encode().len() as u64);
    // What they share goes with the last of them.
    let [first_root, second_root] = [&first, &second].map(|value| value.manifest().root());
    cache.retain(|| keeping([&second_root], [])).unwrap();
    assert!(cache.value(first_root).unwrap().is_none());
    assert_eq!(read(&cache, second_root).unwrap(), bytes_of(&second));
    cache.retain(Retention::default).unwrap();
    assert_eq!((cache.used(), blob_bytes(dir.path())), (0, 0));
}

#[test]
fn damage_is_found_and_dropped() {
    let damages: [(&str, fn(&Path)); 4] = [
        ("a flipped bit", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[17] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("a truncated file", |path| fs::File::options().write(true).open(path).unwrap().set_len(99).unwrap()),
        ("a file of no length", |path| fs::write(path, b"").unwrap()),
        ("a lost file", |path| fs::remove_file(path).unwrap()),
    ];
    for (what, damage) in damages {
        for restart in [None, Some(true), Some(false)] {
            let dir = tempfile::tempdir().unwrap();
            let mut cache = open(dir.path(), ROOMY).cache;
            let value = small(1);
            let manifest = value.manifest();
            let root = manifest.root();
            drop(cache.put_value(&manifest, &value).unwrap());
            cache.put_entry(&entry(1, "update/1", 1, &manifest), || ()).unwrap();
            damage(&blob_path(dir.path(), manifest.chunks()[1]));
            if let Some(clean) = restart {
                drop(cache);
                if !clean {
                    fs::remove_dir_all(dir.path().join("index")).unwrap();
                }
                cache = open(dir.path(), ROOMY).cache;
            }
            assert_eq!(cache.blob(manifest.chunks()[1].into()).unwrap(), None, "{what}");
            assert_eq!(missing(&cache, root), Some(1), "{what}");
            assert!(!blob_path(dir.path(), manifest.chunks()[1]).exists(), "{what}");
            // It is fetched again, or put again.
            if restart.is_some() {
                fetch(&cache, &value);
            } else {
                drop(cache.put_value(&manifest, &value).unwrap());
            }
            assert_eq!(read(&cache, root).unwrap(), bytes_of(&value), "{what}");

            damage(&blob_path(dir.path(), root));
            assert_eq!(cache.look(root).unwrap(), Look::NoManifest, "{what}");
            assert!(cache.value(root).unwrap().is_none(), "{what}");
            assert_eq!(cache.store_blob(root, root.into(), &manifest.encode()).unwrap(), Stored::Stored, "{what}");
            assert_eq!(read(&cache, root).unwrap(), bytes_of(&value), "{what}");
            assert_eq!(cache.used(), blob_bytes(dir.path()), "{what}");
        }
    }
}

#[test]
fn a_put_repairs_what_is_damaged_in_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), ROOMY).cache;
    let value = small(1);
    let root = fetch(&cache, &value);
    fs::write(blob_path(dir.path(), value.manifest().chunks()[0]), b"nothing of the kind").unwrap();
    fs::remove_file(blob_path(dir.path(), root)).unwrap();
    drop(cache.put_value(&value.manifest(), &value).unwrap());
    assert_eq!(read(&cache, root).unwrap(), bytes_of(&value));
    assert_eq!(cache.used(), blob_bytes(dir.path()));
}

#[test]
fn what_a_reader_finds_damaged_is_dropped_unless_it_was_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), ROOMY).cache;
    let value = small(1);
    let hash = value.manifest().chunks()[0];
    let root = fetch(&cache, &value);
    cache.drop_blob(hash.into());
    assert_eq!(missing(&cache, root), Some(0));
    fs::write(blob_path(dir.path(), hash), b"rubbish").unwrap();
    let handle = cache.value(root).unwrap().unwrap();
    assert_eq!(&handle.chunk(0).unwrap()[..], b"rubbish");
    assert_eq!(handle.path(0), blob_path(dir.path(), hash));
    cache.drop_blob(hash.into());
    assert_eq!(missing(&cache, root), Some(1));
    assert_eq!(handle.chunk(0).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn nothing_is_lost_with_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<Weights> = (0..4).map(small).collect();
    {
        let cache = open(dir.path(), ROOMY).cache;
        for (number, value) in values.iter().enumerate() {
            drop(cache.put_value(&value.manifest(), value).unwrap());
            cache.put_entry(&entry(1, &format!("{number}"), number as u64, &value.manifest()), || ()).unwrap();
        }
        // Removed at the next start: nothing names it.
        fetch(&cache, &small(99));
    }
    let used = |values: &[Weights]| -> u64 {
        values.iter().map(|value| (value.manifest().encode().len() + bytes_of(value).len()) as u64).sum()
    };
    let index = dir.path().join("index");
    let check = |what: &str| {
        let opened = open(dir.path(), ROOMY);
        assert_eq!(opened.entries.len(), 4, "{what}");
        for value in &values {
            assert_eq!(read(&opened.cache, value.manifest().root()).unwrap(), bytes_of(value), "{what}");
        }
        assert_eq!(opened.cache.used(), used(&values), "{what}");
        assert_eq!(blob_bytes(dir.path()), used(&values), "{what}");
    };
    fs::remove_dir_all(&index).unwrap();
    check("no index");
    // Whole files, and stretches of them.
    for file in files(&index) {
        let length = fs::metadata(&file).unwrap().len() as usize;
        for (at, count) in [(0, length), (0, 64), (length / 2, 64), (length.saturating_sub(64), 64)] {
            let Ok(mut bytes) = fs::read(&file) else { continue };
            for byte in bytes.iter_mut().skip(at).take(count) {
                *byte ^= 0x5a;
            }
            fs::write(&file, bytes).unwrap();
            check(&format!("{count} bytes of {} from {at}", file.display()));
        }
        fs::write(&file, b"").unwrap();
        check(&format!("{} emptied", file.display()));
        fs::remove_file(&file).unwrap();
        check(&format!("{} removed", file.display()));
    }
    // Single bytes, wherever they are in use.
    let file = index.join("db");
    for step in 0..40u64 {
        let mut bytes = fs::read(&file).unwrap();
        let used: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
        let draw = blake3::hash(&step.to_le_bytes());
        let at = used[u32::from_le_bytes(*draw.as_bytes().first_chunk().unwrap()) as usize % used.len()];
        bytes[at] ^= 1 << (step % 8);
        fs::write(&file, bytes).unwrap();
        check(&format!("byte {at} of {}", file.display()));
    }
}

#[test]
fn an_index_of_an_earlier_day_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = [1, 2].map(small);
    let put = |number: u64, value: &Weights| {
        let cache = open(dir.path(), ROOMY).cache;
        drop(cache.put_value(&value.manifest(), value).unwrap());
        cache.put_entry(&entry(1, &format!("{number}"), number, &value.manifest()), || ()).unwrap();
    };
    put(1, &old);
    let saved: Vec<_> =
        files(&dir.path().join("index")).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    put(2, &new);
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    fs::create_dir_all(dir.path().join("index/blobs")).unwrap();
    saved.iter().for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
    let cache = open(dir.path(), ROOMY).cache;
    for value in [&old, &new] {
        assert_eq!(read(&cache, value.manifest().root()).unwrap(), bytes_of(value));
    }
}

#[test]
fn what_is_not_the_caches_own_is_removed_or_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let value = small(1);
    let good = entry(1, "a", 1, &value.manifest());
    // Entries of later versions.
    let later = [vec![250; 100], {
        let body = [&good.bytes()[..good.bytes().len() - 64], &[2, 1]].concat();
        let signature = keypair(1).sign(&[b"peerfold/entry\0", &body[..]].concat()).unwrap();
        [body, signature].concat()
    }];
    let name_of = |bytes: &[u8]| BlobHash::of(bytes).to_string();
    {
        let cache = open(dir.path(), ROOMY).cache;
        drop(cache.put_value(&value.manifest(), &value).unwrap());
        cache.put_entry(&good, || ()).unwrap();
        let foreign = entry_in(FederationId::new("caches", "2"), 1, "a", 2, &value.manifest());
        let error = cache.save_entry(&foreign).unwrap_err();
        assert!(matches!(error, CacheError::OtherFederation { .. }), "{error}");
        for (name, bytes) in [
            (foreign.hash().to_string(), foreign.bytes()),
            ("0".repeat(64), good.bytes()),
            ("1".repeat(64), &good.bytes()[1..]),
            ("2".repeat(64), b""),
            ("3".repeat(64), &[1; 5000]),
        ] {
            fs::write(dir.path().join("entries").join(name), bytes).unwrap();
        }
        for bytes in &later {
            fs::write(dir.path().join("entries").join(name_of(bytes)), bytes).unwrap();
        }
        fs::write(dir.path().join("proofs").join(author(1).to_base58()), b"rubbish").unwrap();
        fs::create_dir_all(dir.path().join("blobs/00")).unwrap();
        fs::write(dir.path().join("blobs/00/nonsense"), b"rubbish").unwrap();
        fs::write(dir.path().join("blobs/00").join("a".repeat(64)), b"misplaced").unwrap();
        fs::write(dir.path().join("partial/0"), b"half").unwrap();
        fs::create_dir(dir.path().join("blobs/00/directory")).unwrap();
        fs::create_dir(dir.path().join("entries/directory")).unwrap();
    }
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let opened = open(dir.path(), ROOMY);
    assert_eq!(opened.entries, [Arc::new(good.clone())]);
    assert!(opened.proofs.is_empty());
    // Entries of later versions aren't ours to remove.
    let left: Vec<_> = files(&dir.path().join("entries"));
    let names = later.iter().map(|bytes| name_of(bytes)).chain([good.hash().to_string()]);
    let mut expected: Vec<_> = names.map(|name| dir.path().join("entries").join(name)).collect();
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(blob_bytes(dir.path()), opened.cache.used());
    assert!(files(&dir.path().join("partial")).is_empty());
}

#[test]
fn proofs_are_kept_until_they_are_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = small(1).manifest();
    let mut entries = ["a", "b"].map(|name| Arc::new(entry(3, name, 5, &manifest)));
    entries.sort_by_key(|entry| entry.hash());
    let proof = Conflict { entries };
    for restart in 0..3 {
        let opened = open(dir.path(), ROOMY);
        match restart {
            0 => opened.cache.save_proof(&proof).unwrap(),
            1 => assert_eq!(opened.proofs, [proof.clone()]),
            _ => opened.cache.forget_proof(&author(3)).unwrap(),
        }
        opened.cache.retain(Retention::default).unwrap();
        opened.cache.save_proof(&proof).unwrap();
    }
    let opened = open(dir.path(), ROOMY);
    opened.cache.forget_proof(&author(3)).unwrap();
    drop(opened);
    assert!(open(dir.path(), ROOMY).proofs.is_empty());
}

#[test]
fn peers_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let peer = |number: u8| KnownPeer {
        peer: author(number),
        addresses: vec![format!("/ip4/127.0.0.1/tcp/{number}")],
        last_seen: u64::from(number),
    };
    {
        let cache = open(dir.path(), ROOMY).cache;
        (1..5).for_each(|number| cache.remember(&peer(number)).unwrap());
        cache.forget(&author(3)).unwrap();
    }
    assert_eq!(open(dir.path(), ROOMY).peers, [4, 2, 1].map(peer));
}

#[test]
fn notes_are_kept_until_they_are_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    {
        let cache = open(dir.path(), ROOMY).cache;
        for (name, note) in [("a/1", "x"), ("a/2", "y"), ("b/1", "z"), ("a/1", "changed")] {
            cache.note(name.as_bytes(), Some(note.as_bytes())).unwrap();
        }
        cache.note(b"a/2", None).unwrap();
        cache.note(b"nothing", None).unwrap();
    }
    let cache = open(dir.path(), ROOMY).cache;
    let note = |name: &str, note: &str| (name.as_bytes().to_vec(), note.as_bytes().to_vec());
    assert_eq!(cache.notes(b"a/").unwrap(), [note("a/1", "changed")].into());
    assert_eq!(cache.notes(b"").unwrap(), [note("a/1", "changed"), note("b/1", "z")].into());
    cache.close();
    assert!(cache.note(b"a/1", None).is_err() && cache.notes(b"").is_err());
}

#[test]
fn retention_counts_what_stands() {
    let mut set = EntrySet::new(federation());
    let value = |number| small(number).manifest();
    let names = ["update/1", "update/2", "update/3", "start"];
    let mut insert = |signer: u8, sequence: usize| {
        let entry = entry(signer, names[sequence], sequence as u64, &value(u64::from(signer) * 10 + sequence as u64));
        set.insert(Arc::new(entry)).unwrap();
    };
    (0..4).for_each(|sequence| insert(1, sequence));
    (0..4).rev().for_each(|sequence| insert(2, sequence));
    // Another author has the same as 2's older update, and one whose newest is 2's artifact.
    set.insert(Arc::new(entry(3, "update/9", 1, &value(21)))).unwrap();
    set.insert(Arc::new(entry(4, "file", 1, &value(40)))).unwrap();

    let retention = Retention::of(&set, author(1));
    let roots = |numbers: &[u64]| numbers.iter().map(|&number| value(number).root()).collect::<BTreeSet<_>>();
    assert_eq!(retention.entries, hashes(set.iter("")));
    assert_eq!(retention.kept, roots(&[11, 12, 13]));
    assert_eq!((retention.known, retention.strangers), (roots(&[]), roots(&[22, 21])));
    assert_eq!(retention.spare, roots(&[23, 40]));
    // What a stranger has too is worth what it is worth of the other.
    set.know(author(2));
    let retention = Retention::of(&set, author(1));
    assert_eq!((retention.known, retention.strangers), (roots(&[22]), roots(&[21])));
}

#[test]
fn retaining_removes_what_no_longer_stands() {
    let dir = tempfile::tempdir().unwrap();
    let opened = open(dir.path(), ROOMY);
    let cache = opened.cache;
    let mut set = EntrySet::new(federation());
    for epoch in 1..=5u64 {
        for signer in [1, 2] {
            let value = small(epoch * 10 + u64::from(signer));
            let entry = Arc::new(entry(signer, &format!("update/{epoch}"), epoch, &value.manifest()));
            if signer == 1 {
                let _pin = cache.put_value(&value.manifest(), &value).unwrap();
                cache.put_entry(&entry, || set.insert(entry.clone())).unwrap().unwrap();
            } else {
                set.insert(entry.clone()).unwrap();
                cache.save_entry(&entry).unwrap();
                fetch(&cache, &value);
            }
        }
        cache.retain(|| Retention::of(&set, author(1))).unwrap();
    }
    let standing: Vec<Root> = set.iter("").filter_map(|entry| entry.root()).collect();
    assert_eq!(standing.len(), 4);
    assert!(standing.iter().all(|&root| read(&cache, root).is_some()));
    assert_eq!(cache.used(), blob_bytes(dir.path()));
    assert_eq!(files(&dir.path().join("blobs")).len(), 4 * 4);
    drop(cache);
    let opened = open(dir.path(), ROOMY);
    assert_eq!(hashes(&opened.entries), hashes(set.iter("")));
}

/// Six values of equal length, and that length.
fn six() -> (Vec<Weights>, Vec<Root>, u64) {
    let values: Vec<Weights> = (0..6).map(small).collect();
    let roots = values.iter().map(|value| value.manifest().root()).collect();
    let one = values[0].manifest().encode().len() as u64 + bytes_of(&values[0]).len() as u64;
    (values, roots, one)
}

fn whole(cache: &Cache, roots: &[Root]) -> Vec<usize> {
    (0..roots.len()).filter(|&number| missing(cache, roots[number]) == Some(0)).collect()
}

#[test]
fn the_quota_evicts_the_least_recently_used() {
    let dir = tempfile::tempdir().unwrap();
    let (values, roots, one) = six();
    let cache = open(dir.path(), ROOMY).cache;
    for (number, value) in values.iter().enumerate() {
        fetch(&cache, value);
        cache.save_entry(&entry(2, &format!("{number}"), number as u64, &value.manifest())).unwrap();
    }
    assert_eq!(whole(&cache, &roots).len(), 6);
    drop(cache);
    let entries: BTreeSet<EntryHash> = hashes(&open(dir.path(), ROOMY).entries);
    let keeping = |kept: &[Root], spare: &[Root]| Retention { entries: entries.clone(), ..keeping(kept, spare) };
    let overhead = |cache: &Cache| cache.figures().quota - cache.figures().room;
    let room = |room: u64| room + overhead(&open(dir.path(), ROOMY).cache);
    let cache = open(dir.path(), room(4 * one)).cache;
    // 0 is kept and 1 was used last.
    cache.value(roots[1]).unwrap().unwrap();
    cache.retain(|| keeping(&roots[..1], &roots[1..])).unwrap();
    assert_eq!(whole(&cache, &roots), [0, 1, 4, 5]);
    assert_eq!((cache.used(), blob_bytes(dir.path())), (4 * one, 4 * one));
    // What comes in pushes out, by the latest retention; and the order of uses outlives a restart.
    fetch(&cache, &values[2]);
    assert_eq!(whole(&cache, &roots), [0, 1, 2, 5]);
    drop(cache);
    let cache = open(dir.path(), room(3 * one)).cache;
    cache.retain(|| keeping(&roots[..1], &roots[1..])).unwrap();
    assert_eq!(whole(&cache, &roots), [0, 1, 2]);
    // What is kept or pinned stays, and what there is no room for beside it is refused.
    let pin = cache.pin(roots[1]);
    let also_kept = cache.put_value(&values[3].manifest(), &values[3]).unwrap();
    let full = cache.put_value(&values[4].manifest(), &values[4]).unwrap_err();
    assert!(matches!(full, CacheError::Full { needed, .. } if needed == one), "{full}");
    cache.retain(|| keeping(&roots[..1], &roots[1..4])).unwrap();
    assert_eq!(whole(&cache, &roots), [0, 1, 3]);
    assert_eq!((cache.used(), blob_bytes(dir.path())), (3 * one, 3 * one));
    // As soon as there is room, it is stored.
    drop((pin, also_kept));
    drop(cache.put_value(&values[4].manifest(), &values[4]).unwrap());
    assert_eq!(whole(&cache, &roots), [0, 3, 4]);
    assert_eq!(cache.figures().refused, 1);
}

#[test]
fn the_quota_is_never_exceeded_and_what_is_worth_least_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let (values, roots, one) = six();
    let cache = open(dir.path(), quota_for(4 * one)).cache;
    let set = |numbers: &[usize]| -> BTreeSet<Root> { numbers.iter().map(|&number| roots[number]).collect() };
    let retention = Retention {
        kept: set(&[0]),
        known: set(&[1, 5]),
        strangers: set(&[2, 4]),
        spare: set(&[3]),
        ..keeping([], [])
    };
    cache.retain(|| retention.clone()).unwrap();
    // The known author's is used the longest ago, the spare one last.
    drop(cache.put_value(&values[0].manifest(), &values[0]).unwrap());
    for value in &values[1..=3] {
        fetch(&cache, value);
    }
    assert_eq!(whole(&cache, &roots), [0, 1, 2, 3]);
    let store = |number: usize| {
        let (value, manifest) = (&values[number], values[number].manifest());
        let store = |hash: BlobHash, bytes: &[u8]| cache.store_blob(manifest.root(), hash, bytes);
        store(manifest.root().into(), &manifest.encode())?;
        (0..manifest.chunks().len())
            .try_for_each(|chunk| store(manifest.chunks()[chunk].into(), &manifest.chunk_bytes(value, chunk)).map(drop))
    };
    // A stranger's takes the place of what is spare, then of another stranger's.
    store(4).unwrap();
    assert_eq!(whole(&cache, &roots), [0, 1, 2, 4]);
    store(2).unwrap();
    store(5).unwrap();
    assert_eq!(whole(&cache, &roots), [0, 1, 2, 5]);
    let _pin = cache.pin(roots[2]);
    let full = store(4).unwrap_err();
    assert!(full.is_full(), "{full}");
    assert!([0, 1, 2, 5].iter().all(|number| whole(&cache, &roots).contains(number)));
    // The node's own takes that of anybody else, but for what is read just now.
    let own = small(9);
    drop(cache.put_value(&own.manifest(), &own).unwrap());
    assert_eq!(whole(&cache, &roots), [0, 2, 5]);
    assert!(read(&cache, own.manifest().root()).is_some());
    assert!(cache.used() <= cache.figures().room && blob_bytes(dir.path()) == cache.used());
}

#[test]
fn entries_have_a_part_of_the_quota() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), 2 << 20).cache;
    let manifest = weights(&[(1, 10)]).manifest();
    let save = |number: u64| cache.save_entry(&entry(2, &format!("{number}"), number, &manifest));
    let saved = (1..=200).take_while(|&number| save(number).is_ok()).count();
    let full = save(300).unwrap_err();
    assert!(matches!(full, CacheError::Full { .. }), "{full}");
    let entries = dir.path().join("entries");
    assert_eq!((saved, files(&entries).len()), (64, 64), "an eighth of 2 MiB, in blocks of 4 KiB");
    assert!(cache.figures().room < (2 << 20) - 64 * 4096);
    // The node's own are kept all the same.
    cache.put_entry(&entry(1, "own", 1, &manifest), || ()).unwrap();
    cache.retain(Retention::default).unwrap();
    save(300).unwrap();
    assert_eq!(files(&entries).len(), 1);
}

#[test]
fn readers_with_pins_read_on_through_evictions() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, one) = six();
    // Room for what is pinned and one more.
    let cache = open(dir.path(), quota_for(5 * one)).cache;
    let values: Vec<Weights> = (0..4).map(small).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut readers = Vec::new();
        for value in &values {
            let pin = cache.put_value(&value.manifest(), value).unwrap();
            let (cache, over) = (cache.clone(), &over);
            readers.push(scope.spawn(move || {
                let handle = cache.value(pin.root()).unwrap().unwrap();
                drop(pin);
                let expected = bytes_of(value);
                let mut rounds = 0;
                while !over.load(Ordering::Relaxed) || rounds < 3 {
                    let read: Vec<u8> = (0..3).flat_map(|chunk| handle.chunk(chunk).unwrap()).collect();
                    assert!(read == expected);
                    rounds += 1;
                }
            }));
        }
        let roots: Vec<Root> = values.iter().map(|value| value.manifest().root()).collect();
        for round in 0..40 {
            let other = small(100 + round);
            drop(cache.put_value(&other.manifest(), &other).unwrap());
            cache.retain(|| if round % 2 == 0 { keeping([], &roots) } else { Retention::default() }).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    cache.retain(Retention::default).unwrap();
    assert_eq!((cache.used(), blob_bytes(dir.path())), (0, 0));
}

#[test]
fn an_entry_that_is_published_during_a_retention_stays() {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(dir.path(), ROOMY).cache;
    let set = std::sync::Mutex::new(EntrySet::new(federation()));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let retaining = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                cache.retain(|| Retention::of(&set.lock().unwrap(), author(1))).unwrap();
            }
        });
        let saving = scope.spawn(|| {
            for number in 1..=60u64 {
                let value = weights(&[(1000 + number, 500)]);
                let entry = Arc::new(entry(2, &format!("{number}"), number, &value.manifest()));
                set.lock().unwrap().insert(entry.clone()).unwrap();
                cache.save_entry(&entry).unwrap();
                fetch(&cache, &value);
            }
        });
        for number in 1..=60u64 {
            let value = weights(&[(number, 500)]);
            let entry = Arc::new(entry(1, &format!("{number}"), number, &value.manifest()));
            let _pin = cache.put_value(&value.manifest(), &value).unwrap();
            cache.put_entry(&entry, || set.lock().unwrap().insert(entry.clone())).unwrap().unwrap();
        }
        saving.join().unwrap();
        over.store(true, Ordering::Relaxed);
        retaining.join().unwrap();
    });
    drop(cache);
    let opened = open(dir.path(), ROOMY);
    let set = set.into_inner().unwrap();
    assert_eq!(hashes(&opened.entries), hashes(set.iter("")));
    for entry in &opened.entries {
        assert!(read(&opened.cache, entry.root().unwrap()).is_some(), "{}", entry.key);
    }
}

/// How long a put takes is printed, not judged: that depends on the disk.
#[test]
fn a_put_of_64_mib() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let cache = open(dir.path(), ROOMY).cache;
    for seed in 0..3 {
        let value = weights(&[(seed, 64 << 20)]);
        let manifest = value.manifest();
        let mut took = Vec::new();
        for _ in 0..2 {
            let started = Instant::now();
            let _pin = cache.put_value(&manifest, &value).unwrap();
            cache.put_entry(&entry(1, "update/1", seed + 1, &manifest), || ()).unwrap();
            took.push(started.elapsed());
        }
        let started = Instant::now();
        assert_eq!(read(&cache, manifest.root()).unwrap().len(), 64 << 20);
        println!("put {:?}, again {:?}, read and verified {:?}", took[0], took[1], started.elapsed());
    }
}
