//! Buckets of federations with a secret: what their owner sees, what it can do unnoticed, and who is told that its secret
//! is not the right one.

use crate::{bucket_nodes::*, buckets, samples};

use buckets::{Class, Server};
use peerfold::{
    bucket::{BucketOptions, Trouble},
    folder::{CachedFolder, FolderError, SharedFolder},
    secret::Secret,
    weights::Weights,
};
use samples::{PATIENCE, artifact, eventually, federation, keypair, learn};
use std::fs;

/// The federation's secret.
fn secret() -> Secret {
    Secret::from_bytes([7; 32])
}

fn with(server: &Server, secret: Option<Secret>) -> BucketOptions {
    BucketOptions { secret, ..options(server.endpoint()) }
}

async fn open(homes: &Homes, seed: u8, server: &Server) -> CachedFolder {
    homes.try_open(seed, with(server, Some(secret())), None).await.unwrap()
}

/// Objects with their bytes, but for what says that the prefix is sealed.
fn objects(server: &Server) -> Vec<(String, Vec<u8>)> {
    let keys = server.keys().into_iter().filter(|key| !key.ends_with("peerfold-sealed"));
    keys.map(|key| (key.clone(), fs::read(server.object_path(&key)).unwrap())).collect()
}

/// Floats that lie side by side in it nowhere else.
fn floats() -> Weights {
    let values: Vec<f32> = (0..100_000).map(|n| 0.5 + n as f32 / 300_000.0).collect();
    Weights::from_f32s(&[("a-telling-name", &[100_000], &values)]).unwrap()
}

async fn refused(homes: &Homes, server: &Server, secret: Option<Secret>, trouble: Trouble, words: &str) {
    match homes.try_open(9, with(server, secret), None).await {
        Err(FolderError::Bucket(error)) => {
            assert_eq!(error.trouble, trouble, "{error}");
            let text = error.to_string();
            assert!(text.contains(words) && text.contains("prefix") && !text.contains('\n'), "{text}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it sees nothing and goes on"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_owner_sees_no_name_and_no_number() {
    let case = async {
        let (server, homes) = (Server::start(), Homes::new());
        let author = open(&homes, 1, &server).await;
        let update = put(&author, "update/1", &floats(), 1).await;
        put(&author, "telling", &artifact("a telling text, ".repeat(50)), 1).await;
        author.hand_over(SOON).await;
        let reader = open(&homes, 2, &server).await;
        arrives(&reader, &update, &floats()).await;

        let found = objects(&server);
        assert!(found.len() >= 3, "{found:?}");
        let [author, federation] = [keypair(1).public().to_peer_id().to_string(), federation().to_string()];
        let floats = floats();
        let (_, data) = floats.tensors().next().unwrap();
        for (key, bytes) in &found {
            assert!(key.starts_with("ward/") && !key.contains("update") && !key.contains(&author), "{key}");
            assert!(!key.contains(&federation[..16]), "{key}");
            let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
            for part in [&b"telling"[..], b"update", author.as_bytes(), &federation.as_bytes()[..16]] {
                assert!(!has(part), "{key}");
            }
            assert!(!has(&data[40_000..40_016]), "{key}");
            assert!(!has(&keypair(1).public().to_peer_id().to_bytes()[6..]), "{key}");
        }
        // What says that it is sealed names neither the federation nor the secret.
        let mark = fs::read_to_string(server.object_path("ward/peerfold-sealed")).unwrap();
        assert!(mark.contains("encrypted") && !mark.contains(&federation[..16]), "{mark}");
    };
    tokio::time::timeout(PATIENCE, case).await.expect("it hangs");
}

/// Where the owner of the bucket puts another object, or changes one, readers get what was published or an error, and its
/// author writes it again.
#[tokio::test(flavor = "multi_thread")]
async fn its_owner_can_swap_and_change_nothing_unnoticed() {
    let case = async {
        let (server, homes) = (Server::start(), Homes::new());
        let author = open(&homes, 1, &server).await;
        let entries = [
            put(&author, "one", &value(1), 1).await,
            put(&author, "two", &value(2), 1).await,
            put(&author, "update/1", &value(3), 1).await,
        ];
        author.hand_over(SOON).await;
        drop(author);
        let found = objects(&server);
        // Entries are small, packs large; each goes in the place of the next of its size, and one is changed.
        let of = |large: bool| found.iter().filter(move |(_, bytes)| (bytes.len() > 100_000) == large);
        for large in [false, true] {
            let (keys, bytes): (Vec<_>, Vec<_>) = of(large).cloned().unzip();
            assert_eq!(keys.len(), 3);
            for (at, key) in keys.iter().enumerate() {
                let mut other = bytes[(at + 1) % keys.len()].clone();
                if at == 0 {
                    other = bytes[0].clone();
                    other[50] ^= 1;
                }
                fs::write(server.object_path(key), other).unwrap();
            }
            let reader = open(&homes, 2 + u8::from(large), &server).await;
            if large {
                for (entry, number) in entries.iter().zip(1..) {
                    learn(&reader, entry).await;
                    match reader.get(entry).await {
                        Err(error @ (FolderError::Damaged { .. } | FolderError::Unreachable { .. })) => {
                            assert!(error.to_string().contains("not sealed with this federation's secret"), "{error}");
                        }
                        Ok(found) => assert_eq!(samples::read(found).await.unwrap(), value(number)),
                        Err(error) => panic!("{error}"),
                    }
                }
            } else {
                assert!(reader.list("").await.unwrap().is_empty());
            }
            for (key, bytes) in keys.iter().zip(bytes) {
                fs::write(server.object_path(key), bytes).unwrap();
            }
        }
        let reader = open(&homes, 4, &server).await;
        for (entry, number) in entries.iter().zip(1..) {
            arrives(&reader, entry, &value(number)).await;
        }
    };
    tokio::time::timeout(PATIENCE, case).await.expect("it hangs");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_another_secret_or_none_is_told_and_leaves_nothing() {
    let case = async {
        let (server, homes) = (Server::start(), Homes::new());
        let author = open(&homes, 1, &server).await;
        put(&author, "update/1", &value(1), 1).await;
        author.hand_over(SOON).await;
        let before = server.keys();
        refused(&homes, &server, Some(Secret::from_bytes([8; 32])), Trouble::OtherSecret, "another secret").await;
        refused(&homes, &server, None, Trouble::NeedsSecret, "--secret").await;
        assert_eq!(server.keys(), before);

        // A federation without a secret, which some of its nodes now have.
        let server = Server::start();
        let author = homes.try_open(5, with(&server, None), None).await.unwrap();
        put(&author, "update/1", &value(1), 1).await;
        author.hand_over(SOON).await;
        let before = server.keys();
        refused(&homes, &server, Some(secret()), Trouble::NotSealed, "without a secret").await;
        assert_eq!(server.keys(), before);
    };
    tokio::time::timeout(PATIENCE, case).await.expect("it hangs");
}

/// It knows its own objects again, and writes none of them twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_author_goes_on_where_it_was_after_a_restart() {
    let case = async {
        let (server, homes) = (Server::start(), Homes::new());
        for epoch in 1..=3 {
            let author = open(&homes, 1, &server).await;
            put(&author, &format!("update/{epoch}"), &value(epoch), epoch).await;
            author.hand_over(SOON).await;
        }
        server.forget_requests();
        let author = open(&homes, 1, &server).await;
        author.hand_over(SOON).await;
        drop(author);
        assert!(server.requests().iter().all(|request| request.class != Class::Put), "{:?}", server.requests());
        let reader = open(&homes, 2, &server).await;
        let listed = reader.list("").await.unwrap();
        assert_eq!(listed.len(), 2, "{listed:?}");
        for entry in &listed {
            let number = entry.key.update_epoch().unwrap();
            assert_eq!(at_last(&reader, entry).await, value(number));
        }
    };
    tokio::time::timeout(PATIENCE, case).await.expect("it hangs");
}

/// Two homes with one identity, which write where they can't see each other. What proves it is brought together by
/// whoever copies the one's object to the other's.
#[tokio::test(flavor = "multi_thread")]
async fn two_entries_under_one_number_are_found_out() {
    let case = async {
        let (server, homes) = (Server::start(), Homes::new());
        let (elsewhere, copied) = (Server::start(), Homes::new());
        let (original, copy) = (open(&homes, 1, &server).await, open(&copied, 1, &elsewhere).await);
        let one = put(&original, "one", &value(1), 1).await;
        let two = put(&copy, "two", &value(2), 1).await;
        assert_eq!(one.sequence, two.sequence);
        original.hand_over(SOON).await;
        copy.hand_over(SOON).await;
        for (key, bytes) in objects(&elsewhere) {
            let path = server.object_path(&key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let reader = open(&homes, 2, &server).await;
        eventually(async || !reader.conflicts().await.unwrap().is_empty()).await;
        let found = reader.conflicts().await.unwrap()[0].author();
        assert_eq!(found, keypair(1).public().to_peer_id());
        assert!(reader.list("").await.unwrap().is_empty());
    };
    tokio::time::timeout(PATIENCE, case).await.expect("it hangs");
}
