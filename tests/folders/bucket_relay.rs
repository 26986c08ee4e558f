//! A member with both routes relays between one that has only the network and one that has only the bucket.

use crate::{bucket_nodes, buckets, samples};

use buckets::{BUCKET, Class, Server};
use peerfold::{
    entries::Membership,
    folder::{CachedFolder, CachedOptions, SharedFolder},
    node::{AsyncNode, AsyncOptions, Checks, Event, LocalUpdate, Participant, ParticipantOptions},
    p2p::{NetworkOptions, NetworkSettings, PeerAddress},
    strategy::StrategySpec,
    weights::{DType, Key, Layout, SignedEntry, Tensor, TensorSpec, Weights},
};
use samples::{PATIENCE, author, epoch, eventually, learn, numbered, peer};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;
use tokio::time::timeout;

const FAR: u8 = 1;
const BOTH: u8 = 2;
const NEAR: u8 = 3;
const GUEST: u8 = 4;

struct Member {
    folder: Arc<CachedFolder>,
    _dir: TempDir,
}

async fn open(seed: u8, network: Option<Vec<PeerAddress>>, bucket: Option<&Server>) -> Member {
    open_for(seed, network, bucket, numbered(0).layout(), Arc::default()).await
}

async fn open_for(
    seed: u8,
    network: Option<Vec<PeerAddress>>,
    bucket: Option<&Server>,
    layout: &Layout,
    membership: Arc<Membership>,
) -> Member {
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
        let options = bucket_nodes::options_with(server.endpoint(), |settings| {
            settings.after = Duration::from_millis(200);
            settings.relay_after = Duration::from_millis(300);
        });
        (format!("s3://{BUCKET}/relay").parse().unwrap(), options)
    });
    let layout = Some(layout.id());
    let options = CachedOptions { network, bucket, layout, membership, ..CachedOptions::new(dir.path().join("cache")) };
    let opened = tokio::task::spawn_blocking(move || CachedFolder::open(author(seed), options)).await.unwrap();
    Member { folder: Arc::new(opened.unwrap()), _dir: dir }
}

impl Member {
    async fn publish(&self, number: u64) -> Arc<SignedEntry> {
        self.publish_value(number, &numbered(number)).await
    }

    async fn publish_value(&self, number: u64, value: &Weights) -> Arc<SignedEntry> {
        let key = Key::update(self.folder.author(), number);
        self.folder.put(&key, value, epoch(number)).await.unwrap()
    }

    /// Waits until it has heard of the entry and has its value, whole.
    async fn has(&self, entry: &SignedEntry) {
        let mut watch = self.folder.watch(&entry.key.to_string());
        let heard = timeout(PATIENCE, async { while *watch.next().await != *entry {} }).await;
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

/// A value of 1 MiB.
fn large(number: u64) -> Weights {
    let spec = TensorSpec { name: "large".to_owned(), dtype: DType::F32, shape: vec![1 << 18] };
    let data: Vec<u8> = (0..1 << 18).flat_map(|at| ((at % 1000) as f32 + number as f32).to_le_bytes()).collect();
    Weights::new(vec![Tensor { spec, data: data.into() }]).unwrap()
}

/// One decision reaches all three: the network, which takes in nothing of anybody else's, also if a member passes it on,
/// the bucket, in which nobody else is relayed, and the participant, which folds nobody else's updates.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_take_part_is_neither_known_nor_fetched_nor_relayed_nor_folded() {
    let server = Server::start();
    let membership = Arc::new(Membership::only([peer(GUEST)]));
    let (value, everybody) = (large(0), Arc::<Membership>::default());
    let far = open_for(FAR, Some(Vec::new()), None, value.layout(), everybody.clone()).await;
    let bootstrap = far.folder.listening().to_vec();
    let guest = open_for(GUEST, Some(bootstrap.clone()), None, value.layout(), everybody).await;
    let both = open_for(BOTH, Some(bootstrap), Some(&server), value.layout(), membership.clone()).await;
    let stranger = far.publish_value(1, &large(100)).await;
    learn(&*guest.folder, &stranger).await;
    let relayed = |author: u8, number: u64| {
        let name = peer(author).to_string();
        let begins = format!("/relayed/{}.{number:020}.", &name[name.len() - 6..]);
        server.keys().iter().any(|key| key.contains(&begins))
    };
    // For several times as long as an absent author is waited for.
    for number in 1..5 {
        let update = guest.publish_value(number, &large(number)).await;
        let wait = eventually(async || relayed(GUEST, update.sequence));
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{number} is not relayed: {:?}", server.keys()));
    }
    let known = both.folder.list("").await.unwrap();
    assert!(known.iter().all(|entry| entry.key.author() == peer(GUEST)), "{known:?}");
    assert!(!relayed(FAR, stranger.sequence), "{:?}", server.keys());
    let received = both.folder.figures().network.unwrap().received;
    assert!((4 << 20..9 << 19).contains(&received), "{received}");
    let told: Arc<Mutex<Vec<Event>>> = Arc::default();
    let events = told.clone();
    let options = ParticipantOptions {
        checks: Checks::default(),
        membership,
        events: Arc::new(move |event| events.lock().unwrap().push(event.clone())),
    };
    let fedavg = StrategySpec::new("fedavg").build().unwrap();
    let participant = Participant::new(both.folder.clone(), fedavg, value.layout().clone(), options);
    let local = LocalUpdate { weights: value, epoch: 4, num_examples: 1, metrics: Vec::new() };
    AsyncNode::new(participant, AsyncOptions::default()).exchange(&local).await.unwrap();
    let told = told.lock().unwrap();
    let of = |pick: &dyn Fn(&Event) -> Vec<String>| told.iter().flat_map(pick).collect::<Vec<_>>();
    let rejected = of(&|event| match event {
        Event::Rejected { author, .. } => vec![author.clone()],
        _ => Vec::new(),
    });
    let folded = of(&|event| match event {
        Event::Folded { updates, .. } => updates.iter().map(|update| update.author.clone()).collect(),
        _ => Vec::new(),
    });
    assert_eq!((rejected, folded), (Vec::<String>::new(), [BOTH, GUEST].map(|id| peer(id).to_string()).to_vec()));
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
