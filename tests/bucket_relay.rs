//! A member with both ways joins one that has only the network with one that has only the bucket.
#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod buckets;
mod samples;

use buckets::{ACCESS_KEY, BUCKET, Class, SECRET_KEY, Server};
use peerfold::{
    bucket::{BucketKeys, BucketOptions, BucketSettings, Endpoint},
    folder::{CachedFolder, CachedOptions, SharedFolder},
    p2p::{NetworkOptions, NetworkSettings, PeerAddress},
    weights::{Key, SignedEntry},
};
use samples::{PATIENCE, author, epoch, numbered, peer};
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::time::timeout;

const FAR: u8 = 1;
const BOTH: u8 = 2;
const NEAR: u8 = 3;

struct Member {
    folder: Arc<CachedFolder>,
    _dir: TempDir,
}

async fn open(seed: u8, network: Option<Vec<PeerAddress>>, bucket: Option<&Server>) -> Member {
    let dir = tempfile::tempdir().unwrap();
    let network = network.map(|bootstrap| NetworkSettings {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        bootstrap,
        no_mdns: true,
        sync_every: Duration::from_secs(1),
        ..NetworkSettings::default()
    });
    let network = network.map(NetworkOptions::from);
    let bucket = bucket.map(|server| {
        let settings = BucketSettings {
            endpoint: Some(Endpoint(server.endpoint())),
            allow_http: true,
            poll: Duration::from_millis(50),
            poll_idle: Duration::from_millis(200),
            after: Duration::from_millis(200),
            relay_after: Duration::from_millis(300),
            ..BucketSettings::default()
        };
        let keys = Some(BucketKeys::new(ACCESS_KEY, SECRET_KEY));
        let options = BucketOptions { settings, keys, relayed: None };
        (format!("s3://{BUCKET}/relay").parse().unwrap(), options)
    });
    let layout = Some(numbered(0).layout().id());
    let options = CachedOptions { network, bucket, layout, ..CachedOptions::new(dir.path().join("cache")) };
    let opened = tokio::task::spawn_blocking(move || CachedFolder::open(author(seed), options)).await.unwrap();
    Member { folder: Arc::new(opened.unwrap()), _dir: dir }
}

impl Member {
    async fn publish(&self, number: u64) -> SignedEntry {
        let key = Key::update(self.folder.author(), number);
        self.folder.put(&key, &numbered(number), epoch(number)).await.unwrap()
    }

    /// Waits until it has heard of the entry and has its value, whole.
    async fn has(&self, entry: &SignedEntry) {
        let mut watch = self.folder.watch(&entry.key.to_string());
        let heard = timeout(PATIENCE, async { while watch.next().await != *entry {} }).await;
        heard.unwrap_or_else(|_| panic!("{} has not heard of {}", self.folder.author(), entry.key));
        let value = self.folder.get(entry).await.unwrap();
        assert_eq!(value.manifest().root(), entry.root().unwrap());
        for chunk in 0..value.manifest().chunks().len() {
            value.chunk(chunk).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_only_the_network_and_who_has_only_the_bucket_learn_of_each_other() {
    let server = Server::start();
    let far = open(FAR, Some(Vec::new()), None).await;
    let both = open(BOTH, Some(far.folder.listening().to_vec()), Some(&server)).await;
    let near = open(NEAR, None, Some(&server)).await;
    for number in 1..6 {
        let (of_far, of_near) = (far.publish(number).await, near.publish(number).await);
        // As its fold does.
        both.has(&of_near).await;
        near.has(&of_far).await;
        far.has(&of_near).await;
    }
    let keys = server.keys();
    let relayed: Vec<&String> = keys.iter().filter(|key| key.contains("/relayed/")).collect();
    assert!(!relayed.is_empty(), "{keys:?}");
    // Everybody has written in its own directory alone.
    assert!(relayed.iter().all(|key| key.contains(&peer(BOTH).to_string())), "{keys:?}");
    assert!(!keys.iter().any(|key| key.contains(&peer(FAR).to_string())), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_relayed_who_brings_its_updates_itself() {
    let server = Server::start();
    let first = open(FAR, Some(Vec::new()), Some(&server)).await;
    let second = open(BOTH, Some(first.folder.listening().to_vec()), Some(&server)).await;
    // For several times as long as an absent author is waited for.
    for number in 1..20 {
        let (one, other) = (first.publish(number).await, second.publish(number).await);
        second.has(&one).await;
        first.has(&other).await;
        let before = server.requests().len();
        let listed = || server.requests()[before..].iter().filter(|seen| seen.class == Class::List).count() >= 2;
        timeout(PATIENCE, async {
            while !listed() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap();
    }
    let keys = server.keys();
    assert!(!keys.iter().any(|key| key.contains("/relayed/")), "{keys:?}");
}
