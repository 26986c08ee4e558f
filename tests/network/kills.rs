//! Processes that are killed in the middle of their work.

use crate::{
    hosts::{Proxy, Setup},
    network_tests,
    samples::*,
};
use peerfold::{
    folder::{FolderError, SharedFolder},
    home::Home,
    weights::{FederationId, Key, SignedEntry},
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// How often, unless `PEERFOLD_TEST_KILLS` says otherwise: `PEERFOLD_TEST_KILLS=100 cargo test kill` is the long form of
/// all tests that kill at random moments.
const KILLS: u64 = 20;

/// A node of its own process, in a home that stays.
async fn start(home: PathBuf, training: bool, bootstrap: Vec<String>) -> Arc<Proxy> {
    let setup = Setup {
        home: home.clone(),
        federation: FederationId::new("kills", home.parent().unwrap().to_str().unwrap()),
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        bootstrap,
        mdns: false,
        layout: training.then(|| numbered(0).layout().id()),
    };
    let started = tokio::task::spawn_blocking(move || Proxy::start(Home::peer_id(&home).unwrap(), &setup).unwrap());
    Arc::new(started.await.unwrap())
}

/// What must stand after these puts, all of one author: the newest of each key, and two updates.
fn standing(entries: &[Arc<SignedEntry>]) -> BTreeMap<Key, Arc<SignedEntry>> {
    let mut newest = BTreeMap::new();
    let mut updates = Vec::new();
    for entry in entries {
        newest.insert(entry.key.clone(), entry.clone());
        if entry.key.update_epoch().is_some() {
            updates.push(entry.key.clone());
        }
    }
    updates.iter().rev().skip(2).for_each(|key| drop(newest.remove(key)));
    newest
}

/// Puts one value after the other, until the process is killed. The last one may be there or not.
async fn put_until_killed(node: Arc<Proxy>, first: u64, returned: Arc<Mutex<Vec<Arc<SignedEntry>>>>) {
    for number in first.. {
        let key = match number % 3 {
            0 => Key::update(node.author(), number),
            other => Key::new(node.author(), format!("key {other}")).unwrap(),
        };
        match node.put(&key, &numbered(number), epoch(number)).await {
            Ok(entry) => returned.lock().unwrap().push(entry),
            Err(FolderError::Worker(_)) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Fetches everything it hears of, until the process is killed.
async fn fetch_until_killed(node: Arc<Proxy>, fetched: Arc<Mutex<u64>>) {
    let mut watch = node.watch("");
    loop {
        let entry = watch.next().await;
        match fetch(&*node, &entry).await {
            Ok(weights) => {
                assert_eq!(weights, numbered(entry.metadata().unwrap().epoch));
                *fetched.lock().unwrap() += 1;
            }
            Err(FolderError::Gone { .. } | FolderError::Unreachable { .. }) => {}
            // It was killed.
            Err(FolderError::Worker(_)) => return,
            // Or in the middle of a read.
            Err(FolderError::Read(peerfold::weights::ReadError::Io { .. })) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Everything that a node shows while alone is either what its author published or can't be fetched.
async fn verify_alone(node: &Proxy) -> Vec<Arc<SignedEntry>> {
    let listed = node.list("").await.unwrap();
    for entry in &listed {
        match fetch(node, entry).await {
            Ok(weights) => assert_eq!(weights, numbered(entry.metadata().unwrap().epoch)),
            Err(error) => {
                let own = entry.key.author() == node.author();
                assert!(!own && matches!(error, FolderError::Unreachable { .. }), "{error}");
            }
        }
    }
    assert!(node.conflicts().await.unwrap().is_empty());
    listed
}

network_tests! {
    within LONG_PATIENCE:

    /// The one that writes and the one that reads are killed in turn, twenty times, each time while one puts and the other
    /// fetches. Each opens again, alone, with everything that it must have; then they go on together.
    async fn a_kill_at_any_moment_loses_nothing() {
        let homes = tempfile::tempdir().unwrap();
        let (writes, reads) = (homes.path().join("writes"), homes.path().join("reads"));
        let returned = Arc::new(Mutex::new(Vec::new()));
        let kills = std::env::var("PEERFOLD_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
        for round in 0..kills {
            let writer = start(writes.clone(), true, vec![]).await;
            let reader = start(reads.clone(), true, writer.listening.clone()).await;
            let fetched = Arc::new(Mutex::new(0));
            let before = returned.lock().unwrap().len();
            let putting = beside(put_until_killed(writer.clone(), round * 1000, returned.clone()));
            let fetching = beside(fetch_until_killed(reader.clone(), fetched.clone()));
            // Both are in the middle of it, each time a little further.
            let far = 1 + round % KILLS / 2;
            eventually(async || {
                assert!(!putting.is_finished(), "it ended before it was killed");
                returned.lock().unwrap().len() as u64 > before as u64 + far && *fetched.lock().unwrap() >= far.min(4)
            })
            .await;
            if round % 2 == 0 {
                writer.kill();
                reader.kill();
            } else {
                reader.kill();
                writer.kill();
            }
            putting.await.unwrap();
            fetching.abort();
            let _ = fetching.await;
            drop((writer, reader));

            let reader = start(reads.clone(), false, vec![]).await;
            verify_alone(&reader).await;
            // They know each other from before, and must not meet now.
            drop(reader);
            let writer = start(writes.clone(), false, vec![]).await;
            let listed = verify_alone(&writer).await;
            let returned = returned.lock().unwrap();
            assert!(returned.is_sorted_by_key(|entry: &Arc<SignedEntry>| entry.sequence), "a number was given twice");
            for (key, entry) in standing(&returned) {
                // One put more may be there than has returned: the one that was cut off. It may have pushed an update out.
                let newest = listed.iter().find(|found| found.key == key);
                let pushed_out = key.update_epoch().is_some()
                    && listed.iter().filter(|found| found.key.update_epoch() > key.update_epoch()).count() == 2;
                assert!(pushed_out || newest.is_some_and(|newest| newest.sequence >= entry.sequence), "{key} is lost");
            }
        }
    }
}
