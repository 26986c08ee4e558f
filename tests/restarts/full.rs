//! A disk without room, at every write: nothing that was acknowledged is lost, the node trains on, and it goes on as
//! before when there is room again.

use super::checkpoints::{EPOCHS, Run, fedavgm, session_options, train, uninterrupted};
use crate::nodes::{
    Peer, Recorder, faulty::FaultyFolder, federation, options, participant, patiently, value_of, weights,
};
use fail::FailScenario;
use peerfold::{
    folder::{Author, CachedFolder, CachedOptions, FolderError, MemoryFolder, SharedFolder},
    home::Home,
    node::{AsyncNode, AsyncOptions, BelowQuorum, Event, Members, Origin, Session, SyncNode, SyncOptions},
    weights::{Key, Metadata, read_all},
};
use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

/// Where a folder writes for a put.
const PUTS: [&str; 5] =
    ["sequence::reserve", "cache::write", "cache::place", "cache::write-entry", "cache::mark-closed"];
/// Where a checkpoint is written.
const CHECKPOINTS: [&str; 3] = ["checkpoint::write-head", "checkpoint::write-weights", "checkpoint::write-state"];

fn open(home: &Home, run_dir: &Path) -> CachedFolder {
    CachedFolder::open(Author::from_home(home, federation()), CachedOptions::in_run(run_dir)).unwrap()
}

async fn put(folder: &CachedFolder, epoch: u64) -> Result<u64, FolderError> {
    let metadata = Metadata { epoch, num_examples: 1, ..Metadata::default() };
    let key = Key::update(folder.author(), epoch);
    folder.put(&key, &weights(epoch as f32), metadata).await.map(|entry| entry.sequence)
}

#[tokio::test]
async fn a_put_that_finds_no_room_says_so_and_can_be_repeated() {
    let _scenario = FailScenario::setup();
    for point in PUTS {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = Home::open(dir.path()).unwrap().run_dir(&federation()).unwrap();
        let mut numbers = BTreeSet::new();
        // In a life of its own each, so that a number has to be reserved first.
        for epoch in 1..=4u64 {
            let home = Home::open(dir.path()).unwrap();
            let folder = open(&home, &run_dir);
            if epoch > 1 {
                fail::cfg(point, "return").unwrap();
                let refused = put(&folder, epoch).await;
                if point == "cache::mark-closed" {
                    assert!(numbers.insert(refused.unwrap()));
                } else {
                    let error = refused.unwrap_err();
                    assert!(error.may_pass(), "{point}: {error}");
                    assert!(error.to_string().contains(&*dir.path().to_string_lossy()), "{point}: {error}");
                }
                // What is there is whole.
                for entry in folder.list("").await.unwrap() {
                    let value = read_all(&folder.get(&entry).await.unwrap()).unwrap();
                    assert_eq!(value, weights(entry.metadata().unwrap().epoch as f32), "{point}");
                }
                let newest = folder.list("").await.unwrap().iter().filter_map(|entry| entry.key.update_epoch()).max();
                assert_eq!(newest, Some(epoch - u64::from(point != "cache::mark-closed")), "{point}");
                if epoch % 2 == 0 {
                    // A start over it changes nothing.
                    drop(folder);
                    fail::remove(point);
                    let again = open(&home, &run_dir);
                    numbers.insert(put(&again, epoch).await.unwrap());
                    continue;
                }
                fail::remove(point);
            }
            numbers.insert(put(&folder, epoch).await.unwrap());
        }
        assert_eq!(numbers.len(), 4, "{point}: a number was used twice");
    }
}

/// What was published, in which order, and what was said of a full disk.
fn seen(run: &Run) -> (Vec<u64>, usize) {
    let published = run.events.pick(|event| match event {
        Event::Published { epoch, .. } => Some(*epoch),
        _ => None,
    });
    let told = run.events.pick(|event| matches!(event, Event::FolderFailed { .. }).then_some(()));
    (published, told.len())
}

#[tokio::test]
async fn without_room_for_checkpoints_a_node_trains_on_and_publishes_nothing_that_a_restart_would_contradict() {
    let _scenario = FailScenario::setup();
    let expected = uninterrupted().await;
    for point in CHECKPOINTS {
        for killed in [false, true] {
            let run = Arc::new(Run::new().await);
            let weights = patiently(run.clone().live_with(|epoch| {
                if epoch == 3 {
                    fail::cfg(point, "return").unwrap();
                }
                // The disk has room again for epoch 5, or the node is killed before.
                if epoch == 5 {
                    fail::remove(point);
                }
                !(killed && epoch == 5)
            }))
            .await;
            let (published, told) = seen(&run);
            assert_eq!(told, 1, "{point}: it is said once");
            if killed {
                assert_eq!(published, [1, 2], "{point}");
                assert_eq!(patiently(run.clone().live()).await, expected, "{point}");
                run.check(point);
            } else {
                assert_eq!(published, [1, 2, 5, EPOCHS], "{point}");
                // And what it ends with outlives it.
                let again = patiently(run.clone().live()).await;
                assert_eq!(again, weights, "{point}");
            }
        }
    }
}

#[tokio::test]
async fn what_could_not_be_saved_by_the_end_is_told_then_and_trained_again() {
    let _scenario = FailScenario::setup();
    let home_dir = tempfile::tempdir().unwrap();
    let storage = peerfold::folder::MemoryStorage::new();
    let home = Home::open(home_dir.path()).unwrap();
    let run_dir = home.run_dir(&federation()).unwrap();
    let events = Recorder::new();
    let folder = Arc::new(MemoryFolder::new(&storage, Author::from_home(&home, federation())));
    let participant = participant(folder.clone(), &fedavgm(), options(&events));
    let mut session = Session::new(AsyncNode::new(participant, AsyncOptions::default()), session_options(&run_dir));
    let start = bytes::Bytes::from(0u64.to_le_bytes().to_vec());
    let begun = patiently(session.begin((weights(0.5), Origin::Seed), start.clone().into())).await.unwrap();
    fail::cfg("checkpoint::write-head", "return").unwrap();
    let (local, state) = train(&begun.weights, 1, &start);
    let trained = local.weights.clone();
    patiently(session.epoch_trained(local, state.into())).await.unwrap();
    let error = patiently(session.finish()).await.unwrap_err();
    assert!(error.to_string().contains("checkpoint"), "{error}");
    assert!(folder.list(&format!("{}/update", folder.author())).await.unwrap().is_empty());
    // When it is asked again there is room.
    fail::remove("checkpoint::write-head");
    patiently(session.finish()).await.unwrap();
    let published = folder.list(&format!("{}/update", folder.author())).await.unwrap();
    let value = read_all(&folder.get(&published[0]).await.unwrap()).unwrap();
    assert_eq!(value_of(&value), value_of(&trained));
}

#[tokio::test]
async fn a_synchronous_node_waits_for_room_because_others_wait_for_it() {
    let _scenario = FailScenario::setup();
    let home_dir = tempfile::tempdir().unwrap();
    let storage = peerfold::folder::MemoryStorage::new();
    let peer = Peer::new(&storage, 1);
    let home = Home::open(home_dir.path()).unwrap();
    let run_dir = home.run_dir(&federation()).unwrap();
    let events = Recorder::new();
    let inner = MemoryFolder::new(&storage, Author::from_home(&home, federation()));
    let me = inner.author();
    let participant = participant(Arc::new(FaultyFolder::new(Arc::new(inner))), &fedavgm(), options(&events));
    let deadline = Duration::from_secs(3600);
    let pace = SyncOptions { nodes: 2, quorum: 2, deadline, below_quorum: BelowQuorum::Wait };
    let node = SyncNode::new(participant, pace, Members::first_seen(me, 2));
    let mut session = Session::new(node, session_options(&run_dir));
    let start = bytes::Bytes::from(0u64.to_le_bytes().to_vec());
    let begun = patiently(session.begin((weights(0.5), Origin::Seed), start.clone().into())).await.unwrap();
    peer.publish(1, 2.5).await;
    fail::cfg("checkpoint::write-head", "return").unwrap();
    let (local, state) = train(&begun.weights, 1, &start);
    let epoch = tokio::spawn(async move { session.epoch_trained(local, state.into()).await });
    events.wait_for(|event| matches!(event, Event::FolderFailed { epoch: 1, .. }).then_some(())).await;
    assert!(!epoch.is_finished());
    fail::remove("checkpoint::write-head");
    assert_eq!(patiently(epoch).await.unwrap().unwrap().epoch, 1);
    assert_eq!(events.folds().len(), 1);
}
