//! Somebody with write access to the bucket changes, swaps, truncates, deletes and forges objects under running nodes.
//! Nothing wrong is ever given, what is wrong is named, and authors write again what was theirs.

use crate::{bucket_nodes, buckets, samples};

use bucket_nodes::*;
use buckets::{ACCESS_KEY, BUCKET, Class, Moto, REGION, SECRET_KEY, Server};
use object_store::{
    ObjectStoreExt,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path as ObjectPath,
};
use peerfold::{
    folder::{CachedFolder, FolderError, SharedFolder},
    weights::Weights,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use samples::{PATIENCE, eventually, fetch, learn};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

async fn in_time(case: impl Future<Output = ()>) {
    tokio::time::timeout(PATIENCE, case).await.expect("it hangs");
}

/// The bucket, as somebody else who can write to it has it.
struct Intruder {
    store: AmazonS3,
    server: Server,
}

impl Intruder {
    fn new() -> Self {
        let server = Server::start();
        let store = AmazonS3Builder::new()
            .with_endpoint(server.endpoint())
            .with_allow_http(true)
            .with_bucket_name(BUCKET)
            .with_region(REGION)
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(SECRET_KEY)
            .build()
            .unwrap();
        Self { store, server }
    }

    /// The keys of an author's objects that end like this.
    fn keys(&self, seed: u8, end: &str) -> Vec<String> {
        let dir = author_dir(seed);
        self.server.keys().into_iter().filter(|key| key.starts_with(&dir) && key.ends_with(end)).collect()
    }

    async fn read(&self, key: &str) -> Vec<u8> {
        self.store.get(&ObjectPath::from(key)).await.unwrap().bytes().await.unwrap().to_vec()
    }

    async fn write(&self, key: &str, bytes: Vec<u8>) {
        self.store.put(&ObjectPath::from(key), bytes.into()).await.unwrap();
    }

    async fn delete(&self, key: &str) {
        self.store.delete(&ObjectPath::from(key)).await.unwrap();
    }

    /// Inverts bytes all over an object.
    async fn change(&self, key: &str) {
        let bytes = self.read(key).await.into_iter().enumerate();
        self.write(key, bytes.map(|(at, byte)| if at % 97 == 0 { !byte } else { byte }).collect()).await;
    }

    async fn cut(&self, key: &str) {
        let mut bytes = self.read(key).await;
        bytes.truncate(bytes.len() / 2);
        self.write(key, bytes).await;
    }

    /// Waits until an object has these bytes again.
    async fn until_mended(&self, key: &str, bytes: &[u8]) {
        eventually(async || {
            self.server.object_path(key).exists() && {
                let found = self.store.get(&ObjectPath::from(key)).await.unwrap().bytes().await.unwrap();
                found == bytes
            }
        })
        .await;
    }
}

/// Asserts that a value can't be fetched, for this reason.
async fn is_damaged(folder: &CachedFolder, entry: &peerfold::weights::SignedEntry, words: &str) {
    match folder.get(entry).await {
        Err(error @ (FolderError::Damaged { .. } | FolderError::Unreachable { .. })) => {
            assert!(error.to_string().contains(words), "{error}");
        }
        other => panic!("{:?}", other.err()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_cut_or_deleted_is_an_error_and_its_author_mends_it() {
    in_time(async {
        for end in [".pack", ".entry"] {
            for deed in 0..3 {
                let (bucket, homes) = (Intruder::new(), Homes::new());
                let author = homes.open(1, bucket.server.endpoint()).await;
                let reader = homes.open(2, bucket.server.endpoint()).await;
                let entry = put(&author, "update/1", &value(1), 1).await;
                learn(&reader, &entry).await;
                author.hand_over(SOON).await;
                // What was listed once is soon missed; what never was may only be listed late.
                author.list("").await.unwrap();
                let key = bucket.keys(1, end).pop().unwrap();
                let bytes = bucket.read(&key).await;
                match deed {
                    0 => bucket.change(&key).await,
                    1 => bucket.cut(&key).await,
                    _ => bucket.delete(&key).await,
                }
                // Never anything else, at whatever moment.
                assert_eq!(at_last(&reader, &entry).await, value(1));
                bucket.until_mended(&key, &bytes).await;
                let third = homes.open(3, bucket.server.endpoint()).await;
                arrives(&third, &entry, &value(1)).await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named() {
    in_time(async {
        let (bucket, homes) = (Intruder::new(), Homes::new());
        let author = homes.open(1, bucket.server.endpoint()).await;
        let mut entries = Vec::new();
        for (number, name) in [(1, "changed"), (2, "cut"), (3, "deleted"), (4, "swapped")] {
            entries.push(put(&author, name, &value(number), 0).await);
            author.hand_over(SOON).await;
        }
        author.list("").await.unwrap();
        // Nobody mends it.
        drop(author);
        let reader = homes.open(2, bucket.server.endpoint()).await;
        for entry in &entries {
            learn(&reader, entry).await;
        }
        // By the bytes that are in it: a pack holds one value here.
        let mut packs = vec![String::new(); 4];
        for key in bucket.keys(1, ".pack") {
            let bytes = bucket.read(&key).await;
            let number = u64::from_le_bytes(bytes[8..16].try_into().unwrap()) >> 32;
            packs[number as usize - 1] = key;
        }
        bucket.change(&packs[0]).await;
        bucket.cut(&packs[1]).await;
        let (whole, third) = (bucket.read(&packs[0]).await, packs[2].clone());
        bucket.delete(&third).await;
        bucket.write(&packs[3], whole).await;
        for (entry, pack) in entries.iter().zip(&packs) {
            is_damaged(&reader, entry, pack).await;
        }
        // The author writes all of it again when it is back.
        let author = homes.open(1, bucket.server.endpoint()).await;
        for (number, entry) in entries.iter().enumerate() {
            assert_eq!(at_last(&reader, entry).await, value(number as u64 + 1));
        }
        drop(author);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_objects_pass_for_nothing() {
    in_time(async {
        let (bucket, homes) = (Intruder::new(), Homes::new());
        let nodes = [homes.open(1, bucket.server.endpoint()).await, homes.open(2, bucket.server.endpoint()).await];
        let entries = [put(&nodes[0], "update/1", &value(1), 1).await, put(&nodes[1], "update/1", &value(2), 1).await];
        for node in &nodes {
            node.hand_over(SOON).await;
        }
        for end in [".pack", ".entry"] {
            let keys = [1, 2].map(|seed| bucket.keys(seed, end).pop().unwrap());
            let bytes = [bucket.read(&keys[0]).await, bucket.read(&keys[1]).await];
            bucket.write(&keys[0], bytes[1].clone()).await;
            bucket.write(&keys[1], bytes[0].clone()).await;
            // A third one that sees it so, and gets what is right or nothing.
            let third = homes.open(3 + u8::from(end == ".entry"), bucket.server.endpoint()).await;
            for (number, entry) in entries.iter().enumerate() {
                arrives(&third, entry, &value(number as u64 + 1)).await;
            }
            for (key, bytes) in keys.iter().zip(&bytes) {
                bucket.until_mended(key, bytes).await;
            }
        }
        // A whole directory of one author under the name of another who isn't there, and of this federation in another.
        for key in bucket.keys(1, "") {
            let bytes = bucket.read(&key).await;
            bucket.write(&key.replace(&author_dir(1), &author_dir(9)), bytes).await;
        }
        let fourth = homes.open(5, bucket.server.endpoint()).await;
        arrives(&fourth, &entries[0], &value(1)).await;
        assert_eq!(fourth.list("").await.unwrap(), nodes[0].list("").await.unwrap());
        assert!(fourth.list(&samples::peer(9).to_string()).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_entries_are_refused() {
    in_time(async {
        let (bucket, homes) = (Intruder::new(), Homes::new());
        let author = homes.open(1, bucket.server.endpoint()).await;
        let entry = put(&author, "update/1", &value(1), 1).await;
        author.hand_over(SOON).await;
        let key = bucket.keys(1, ".entry").pop().unwrap();
        let record = bucket.read(&key).await;
        // Under newer numbers, which a reader asks for first; none of them is what its name says.
        let forged =
            |number: u64| key.replace("00000000000000000001.update.1.", &format!("{number:020}.update.{number}."));
        assert_ne!(forged(7), key);
        let mut changed = record.clone();
        changed[40] ^= 1;
        bucket.write(&forged(7), changed).await;
        bucket.write(&forged(8), record.clone()).await;
        bucket.write(&forged(9), Vec::new()).await;
        bucket.write(&forged(10), vec![0xff; 1000]).await;
        // Larger than anything that is read.
        let huge = fs::File::create(bucket.server.object_path(&forged(11))).unwrap();
        huge.set_len(200 << 20).unwrap();
        // Names that mean nothing.
        for name in ["entries/README", "entries/00000000000000000001.x.entry", "packs/x.pack", "x", "entries/x/y/z"] {
            bucket.write(&format!("{}/{name}", author_dir(1)), b"x".to_vec()).await;
        }
        bucket.write(&format!("{}/entries/x.entry", author_dir(1).replace("12D3", "nobody")), b"x".to_vec()).await;
        let reader = homes.open(2, bucket.server.endpoint()).await;
        arrives(&reader, &entry, &value(1)).await;
        assert_eq!(reader.list("").await.unwrap(), [entry]);
        assert!(reader.routes().unwrap().borrow().bucket);
        let received = reader.figures().bucket.unwrap().received;
        assert!(received < 1 << 20, "{received} bytes");
        // The author isn't held up by what is in its directory.
        let next = put(&author, "update/2", &value(2), 2).await;
        arrives(&reader, &next, &value(2)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_before_its_author_has_seen_it_listed_is_found_out() {
    in_time(async {
        let (bucket, homes) = (Intruder::new(), Homes::new());
        // It looks only when it is asked to.
        let rarely = options_with(bucket.server.endpoint(), |settings| {
            settings.poll = Duration::from_secs(3600);
            settings.poll_idle = settings.poll;
        });
        let author = homes.try_open(1, rarely, None).await.unwrap();
        let reader = homes.open(2, bucket.server.endpoint()).await;
        let entry = put(&author, "update/1", &value(1), 1).await;
        author.hand_over(SOON).await;
        for end in [".pack", ".entry"] {
            let key = bucket.keys(1, end).pop().unwrap();
            let bytes = bucket.read(&key).await;
            bucket.change(&key).await;
            author.list("").await.unwrap();
            bucket.until_mended(&key, &bytes).await;
        }
        arrives(&reader, &entry, &value(1)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_while_its_author_was_away_is_written_again() {
    in_time(async {
        let (bucket, homes) = (Intruder::new(), Homes::new());
        let author = homes.open(1, bucket.server.endpoint()).await;
        let entries = [put(&author, "update/1", &value(1), 1).await, put(&author, "update/2", &value(2), 2).await];
        author.hand_over(SOON).await;
        drop(author);
        for key in bucket.keys(1, "") {
            bucket.delete(&key).await;
        }
        let author = homes.open(1, bucket.server.endpoint()).await;
        let reader = homes.open(2, bucket.server.endpoint()).await;
        for (number, entry) in entries.iter().enumerate() {
            arrives(&reader, entry, &value(number as u64 + 1)).await;
        }
        // It goes on above its numbers.
        assert!(put(&author, "update/3", &value(3), 3).await.sequence > entries[1].sequence);
    })
    .await;
}

/// What its length doesn't give away.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_while_its_author_was_away_is_written_again() {
    in_time(async {
        let (bucket, homes) = (Intruder::new(), Homes::new());
        let author = homes.open(1, bucket.server.endpoint()).await;
        let weights = |number| Weights::new(vec![tensor("frozen", 0, 200_000), tensor("w", number, 200_000)]).unwrap();
        put(&author, "start", &value(7), 0).await;
        author.hand_over(SOON).await;
        // It sees that listings show the tags of writes.
        author.list("").await.unwrap();
        let before = bucket.keys(1, ".pack");
        let entry = put(&author, "update/1", &weights(1), 1).await;
        author.hand_over(SOON).await;
        drop(author);
        let mut packs = bucket.keys(1, ".pack");
        packs.retain(|pack| !before.contains(pack));
        for pack in &packs {
            bucket.change(pack).await;
        }
        let reader = homes.open(2, bucket.server.endpoint()).await;
        learn(&reader, &entry).await;
        is_damaged(&reader, &entry, &packs[0]).await;
        let author = homes.open(1, bucket.server.endpoint()).await;
        arrives(&reader, &entry, &weights(1)).await;
        // What is in them is used again.
        let next = put(&author, "update/2", &weights(2), 2).await;
        arrives(&reader, &next, &weights(2)).await;
        assert!(author.figures().bucket.unwrap().sent < 700_000, "{:?}", author.figures().bucket);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_go_on_while_somebody_does_as_he_likes() {
    in_time(async {
        let (bucket, homes) = (Intruder::new(), Homes::new());
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut draw = |below: usize| (random.next_u64() % below as u64) as usize;
        let mut nodes = Vec::new();
        for seed in 1..4 {
            nodes.push(homes.open(seed, bucket.server.endpoint()).await);
        }
        let mut newest = Vec::new();
        for epoch in 1..8u64 {
            newest.clear();
            for (at, node) in nodes.iter().enumerate() {
                let number = epoch * 10 + at as u64;
                newest.push((put(node, &format!("update/{epoch}"), &value(number), epoch).await, number));
            }
            for _ in 0..4 {
                let keys = bucket.server.keys();
                let Some(key) = (!keys.is_empty()).then(|| keys[draw(keys.len())].clone()) else { continue };
                let path = ObjectPath::from(key.as_str());
                // It may be gone by now.
                let Ok(found) = bucket.store.get(&path).await else { continue };
                let Ok(bytes) = found.bytes().await else { continue };
                match draw(4) {
                    0 => bucket.delete(&key).await,
                    1 => bucket.write(&key, bytes[..bytes.len() / 2].to_vec()).await,
                    2 => bucket.write(&key, bytes.iter().map(|byte| !byte).collect()).await,
                    _ => bucket.write(&keys[draw(keys.len())], bytes.to_vec()).await,
                }
            }
            // Whatever can be fetched in the meantime is right.
            for node in &nodes {
                for (entry, number) in &newest {
                    if let Ok(weights) = fetch(node, entry).await {
                        assert_eq!(weights, value(*number));
                    }
                }
            }
        }
        for node in &nodes {
            for (entry, number) in &newest {
                arrives(node, entry, &value(*number)).await;
            }
        }
    })
    .await;
}

/// A store that has objects of which the store's client says that they can't be.
#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_paths_hide_nothing() {
    let Some(moto) = Moto::start() else { return };
    in_time(async {
        let homes = Homes::new();
        let author = homes.open(1, moto.endpoint()).await;
        let entry = put(&author, "update/1", &value(1), 1).await;
        author.hand_over(SOON).await;
        let dir = author_dir(1);
        for key in [format!("{dir}/entries//x"), format!("{dir}/%01"), format!("{dir}/a%2F..%2Fb"), format!("{dir}/")] {
            let mut stream = TcpStream::connect(moto.address()).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            let head = format!("PUT /{BUCKET}/{key} HTTP/1.1\r\nHost: {}\r\nContent-Length: 1\r\n", moto.address());
            write!(stream, "{head}Connection: close\r\n\r\nx").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.split(' ').nth(1) == Some("200"), "{key}: {answer}");
        }
        let reader = homes.open(2, moto.endpoint()).await;
        arrives(&reader, &entry, &value(1)).await;
        let next = put(&author, "update/2", &value(2), 2).await;
        arrives(&reader, &next, &value(2)).await;
        assert!(reader.routes().unwrap().borrow().bucket);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_for_that_is_too_large() {
    in_time(async {
        let (bucket, homes) = (Intruder::new(), Homes::new());
        let author = homes.open(1, bucket.server.endpoint()).await;
        put(&author, "update/1", &value(1), 1).await;
        author.hand_over(SOON).await;
        let key = bucket.keys(1, ".entry").pop().unwrap();
        let huge = key.replace("00000000000000000001.update.1.", "00000000000000000009.update.9.");
        fs::File::create(bucket.server.object_path(&huge)).unwrap().set_len(100 << 20).unwrap();
        let reader = homes.open(2, bucket.server.endpoint()).await;
        eventually(async || reader.list("").await.unwrap().len() == 1).await;
        assert!(!bucket.server.requests().iter().any(|seen| seen.class == Class::Get && seen.key() == huge));
    })
    .await;
}
