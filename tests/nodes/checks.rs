//! What a node does with updates that don't count, and with a folder that fails.

use crate::nodes;

use nodes::{Peer, Recorder, faulty::FaultyFolder, federation, keypair, local, options, participant, patiently, peers};
use nodes::{
    share::{Share, damage, large},
    value_of, weights,
};
use peerfold::{
    folder::{Author, FolderError, MemoryFolder, SharedFolder},
    node::{
        AsyncNode, AsyncOptions, BelowQuorum, Checks, Event, EventSink, LocalUpdate, Members, NodeError, Origin,
        Participant, ParticipantOptions, Session, SessionOptions, Standpoint, Suspicion, SyncNode, SyncOptions,
    },
    strategy::StrategySpec,
    weights::{DType, Key, Metadata, Tensor, TensorSpec, Weights},
};
use std::{sync::Arc, time::Duration};

/// Far longer than any case waits.
const NEVER: Duration = Duration::from_secs(3600);

fn fedavg() -> StrategySpec {
    StrategySpec::new("fedavg")
}

fn over(folder: &FaultyFolder, options: ParticipantOptions) -> AsyncNode {
    AsyncNode::new(participant(Arc::new(folder.clone()), &fedavg(), options), AsyncOptions::default())
}

fn opened(folder: &FaultyFolder) -> usize {
    folder.faults.lock().unwrap().opened.len()
}

#[tokio::test]
async fn each_bad_update_is_named_once_read_at_most_once_and_the_rest_is_folded() {
    let (storage, peers) = peers(9);
    let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
    let checks = Checks { max_num_examples: 1000, max_norm: Some(1000.0), ..Checks::default() };
    let mut node = over(&folder, ParticipantOptions { checks, ..options(&events) });
    peers[1].publish(1, f32::NAN).await;
    peers[2].publish(1, f32::NEG_INFINITY).await;
    peers[3].publish_weights(1, &weights(50.0), 1001).await;
    let other = TensorSpec { name: "other".to_owned(), dtype: DType::F32, shape: vec![1] };
    let other = Weights::new(vec![Tensor { spec: other, data: vec![0; 4].into() }]).unwrap();
    peers[4].publish_weights(1, &other, 10).await;
    peers[5].publish(1, 5000.0).await;
    let damaged = peers[6].publish(1, 6.0).await;
    assert!(storage.damage(&damaged, 3));
    let metadata = Metadata { epoch: 7, num_examples: 10, ..Metadata::default() };
    peers[7].folder.put(&Key::update(peers[7].id, 1), &weights(7.0), metadata).await.unwrap();
    peers[8].publish(1, 8.0).await;
    for epoch in 1..=3 {
        let (folded, _) = patiently(node.exchange(&local(epoch, 0.0))).await.unwrap();
        assert_eq!(value_of(&folded), 4.0);
    }
    let mut rejected = events.rejected();
    rejected.sort_by_key(|(author, _)| peers.iter().position(|peer| peer.id.to_string() == *author));
    let authors: Vec<_> = rejected.iter().map(|(author, _)| author.clone()).collect();
    assert_eq!(authors, peers[1..8].iter().map(|peer| peer.id.to_string()).collect::<Vec<_>>());
    let expected = ["not finite", "not finite", "1001 examples", "layout", "norm", "hash", "different epochs"];
    for ((_, reason), expected) in rejected.iter().zip(expected) {
        assert!(reason.contains(expected), "{reason:?} where {expected:?} is expected");
    }
    // The two that are not finite, the long one, the damaged one twice and the good one.
    assert_eq!((opened(&folder), events.received().len()), (6, 1));
}

#[tokio::test]
async fn a_better_update_of_a_rejected_author_counts_even_with_the_same_weights() {
    let (_storage, peers) = peers(2);
    let events = Recorder::new();
    let mut node = AsyncNode::new(peers[0].participant(&events), AsyncOptions::default());
    peers[1].publish_weights(1, &weights(2.0), u64::MAX).await;
    patiently(node.exchange(&local(1, 0.0))).await.unwrap();
    assert_eq!((events.rejected().len(), events.folds().len()), (1, 0));
    peers[1].publish_weights(1, &weights(2.0), 10).await;
    assert_eq!(value_of(&patiently(node.exchange(&local(2, 0.0))).await.unwrap().0), 1.0);
}

#[tokio::test]
async fn own_weights_that_peers_would_refuse_are_an_error_and_are_not_published() {
    let (_storage, peers) = peers(1);
    let mut node = AsyncNode::new(peers[0].participant(&Recorder::new()), AsyncOptions::default());
    let error = patiently(node.exchange(&local(3, f32::NAN))).await.unwrap_err();
    assert!(matches!(error, NodeError::Diverged { epoch: 3, .. }), "{error}");
    assert_eq!(peers[0].folder.list("").await.unwrap(), []);
}

#[tokio::test]
async fn an_own_claim_that_peers_would_refuse_is_an_error_that_names_it() {
    let (_storage, peers) = peers(1);
    let mut node = AsyncNode::new(peers[0].participant(&Recorder::new()), AsyncOptions::default());
    let many = LocalUpdate { num_examples: 100_000_001, ..local(3, 1.0) };
    for (update, claim) in [(many, "100000001 examples"), (local(1_000_000_001, 1.0), "epoch 1000000001")] {
        let error = patiently(node.exchange(&update)).await.unwrap_err();
        assert!(matches!(error, NodeError::Claim { .. }), "{error}");
        assert!(error.to_string().contains(claim) && !error.to_string().contains("learning rate"), "{error}");
    }
    assert_eq!(peers[0].folder.list("").await.unwrap(), []);
}

#[tokio::test]
async fn claims_of_epochs_that_nobody_can_reach_are_rejected_and_move_nobody() {
    let (_storage, peers) = peers(4);
    for peer in &peers[1..3] {
        peer.publish(u64::MAX, 9.0).await;
    }
    peers[3].publish(1, 2.0).await;
    let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
    let mut session = Session::new(over(&folder, nodes::options(&events)), nodes::session_options());
    let begun = patiently(session.begin((weights(0.0), Origin::Seed), Default::default())).await.unwrap();
    assert_eq!((begun.epoch, value_of(&begun.weights)), (1, 2.0));
    let completed = patiently(session.epoch_trained(local(2, 0.0), Default::default())).await.unwrap();
    assert_eq!(value_of(&completed.weights), 1.0);
    assert_eq!(events.rejected().len(), 2);
    assert!(events.rejected().iter().all(|(_, reason)| reason.contains("claims epoch")));
    assert!(!folder.faults.lock().unwrap().opened.iter().any(|key| key.update_epoch() == Some(u64::MAX)));
    let pace = SyncOptions { nodes: 4, quorum: 3, deadline: NEVER, below_quorum: BelowQuorum::Wait };
    let mut synchronous = SyncNode::new(peers[0].participant(&events), pace, Members::first_seen(peers[0].id, 4));
    assert_eq!(patiently(synchronous.catch_up(1)).await.unwrap(), None);
}

#[tokio::test]
async fn rejected_and_unreadable_claims_make_nobody_look_stale() {
    for unreadable in [false, true] {
        let (_storage, peers) = peers(6);
        let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
        let bad = &peers[1..5];
        for peer in bad {
            peer.publish(1000, if unreadable { 9.0 } else { f32::NAN }).await;
        }
        if unreadable {
            folder.set(|faults| faults.get = bad.iter().map(|peer| peer.id).collect());
        }
        peers[5].publish(1, 2.0).await;
        let mut node = over(&folder, options(&events));
        for epoch in 1..=3 {
            assert_eq!(value_of(&patiently(node.exchange(&local(epoch, 0.0))).await.unwrap().0), 1.0);
        }
        assert_eq!(events.pick(|event| matches!(event, Event::LeftOut { .. }).then_some(())), []);
        assert_eq!(events.rejected().len(), 4);
    }
}

#[tokio::test]
async fn who_has_left_the_folder_is_forgotten_in_the_checkpoint_too() {
    let dir = tempfile::tempdir().unwrap();
    let (_storage, peers) = peers(20);
    let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
    let options = SessionOptions { run_dir: Some(dir.path().to_owned()), ..nodes::session_options() };
    let mut session = Session::new(over(&folder, nodes::options(&events)), options);
    patiently(session.begin((weights(0.0), Origin::Seed), Default::default())).await.unwrap();
    let from = Standpoint { epoch: Some(7), reach: 10 };
    let median = || peerfold::node::Checkpoint::load(dir.path()).unwrap().unwrap().roster.median_epoch(from);
    for peer in &peers[1..] {
        peer.publish(7, 2.0).await;
    }
    patiently(session.epoch_trained(local(1, 0.0), Default::default())).await.unwrap();
    assert_eq!(median(), Some(7));
    for peer in &peers[1..] {
        peer.folder.remove(&Key::update(peer.id, 7)).await.unwrap();
    }
    patiently(session.epoch_trained(local(2, 0.0), Default::default())).await.unwrap();
    assert_eq!(median(), Some(2));
}

#[tokio::test]
async fn an_update_replaced_between_the_listing_and_the_reading_gives_way_to_the_newer_one() {
    let (_storage, peers) = peers(3);
    let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
    let mut node = over(&folder, options(&events));
    peers[1].publish(1, 1.0).await;
    peers[2].publish(1, 5.0).await;
    let (first, second) = (peers[1].clone(), peers[2].clone());
    folder.before_get(move || async move {
        for epoch in 2..=3 {
            first.publish(epoch, 4.0 + epoch as f32).await;
        }
        second.publish(2, 5.0).await;
    });
    let (folded, _) = patiently(node.exchange(&local(1, 0.0))).await.unwrap();
    assert_eq!(value_of(&folded), 4.0);
    assert!(events.folds()[0][1..].iter().all(|update| update.weight > 0.3));
    assert_eq!((events.folds()[0][1].epoch, events.folds()[0][2].epoch), (3, 2));
    assert_eq!(events.rejected(), []);
}

#[tokio::test]
async fn who_signs_two_entries_under_one_number_is_excluded() {
    let (storage, peers) = peers(2);
    // Two homes with one identity, both before their first number.
    let [copy, cheat] = [(), ()].map(|()| MemoryFolder::new(&storage, Author::in_memory(keypair(2), federation())));
    let events = Recorder::new();
    let mut node = AsyncNode::new(peers[0].participant(&events), AsyncOptions::default());
    peers[1].publish(1, 2.0).await;
    let key = Key::update(copy.author(), 1);
    let metadata = Metadata { epoch: 1, num_examples: 10, ..Metadata::default() };
    copy.put(&key, &weights(4.0), metadata.clone()).await.unwrap();
    assert_eq!(value_of(&patiently(node.exchange(&local(1, 0.0))).await.unwrap().0), 2.0);
    let error = cheat.put(&key, &weights(9.0), metadata).await.unwrap_err();
    assert!(matches!(error, FolderError::CopiedIdentity { .. }), "{error}");
    for epoch in 2..=3 {
        assert_eq!(value_of(&patiently(node.exchange(&local(epoch, 0.0))).await.unwrap().0), 1.0);
    }
    let excluded = events.pick(|event| match event {
        Event::Excluded { author, reason } => Some((author.clone(), reason.contains("number 1"))),
        _ => None,
    });
    assert_eq!(excluded, [(copy.author().to_string(), true)]);
}

#[tokio::test]
async fn training_goes_on_while_the_folder_fails() {
    let (_storage, peers) = peers(2);
    let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
    let mut node = over(&folder, options(&events));
    peers[1].publish(1, 2.0).await;
    for epoch in 1..=4 {
        folder.set(|faults| (faults.put, faults.list) = (epoch == 1, epoch == 3));
        let update = local(epoch, 0.0);
        let (weights, _) = patiently(node.exchange(&update)).await.unwrap();
        assert_eq!(weights == update.weights, epoch % 2 == 1);
    }
    let failed = events.pick(|event| match event {
        Event::FolderFailed { epoch, reason } => Some((*epoch, reason.contains("the share"))),
        _ => None,
    });
    assert_eq!(failed, [(1, true), (3, true)]);
    // The number of folds goes on without a gap.
    let rounds = events.pick(|event| match event {
        Event::Folded { round, .. } => Some(*round),
        _ => None,
    });
    assert_eq!(rounds, [1, 2]);
}

#[tokio::test]
async fn an_update_out_of_reach_is_told_once_tried_again_and_hinders_nobody() {
    let (_storage, peers) = peers(3);
    let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
    let mut node = over(&folder, options(&events));
    peers[1].publish(1, 2.0).await;
    peers[2].publish(1, 4.0).await;
    folder.set(|faults| faults.get = vec![peers[2].id]);
    for epoch in 1..=3 {
        assert_eq!(value_of(&patiently(node.exchange(&local(epoch, 0.0))).await.unwrap().0), 1.0);
    }
    assert_eq!(events.rejected().len(), 1);
    folder.set(|faults| faults.get = Vec::new());
    assert_eq!(value_of(&patiently(node.exchange(&local(4, 0.0))).await.unwrap().0), 2.0);
}

#[tokio::test]
async fn failures_reach_the_strategy() {
    let (_storage, peers) = peers(3);
    let events = Recorder::new();
    let strategy = fedavg().with("accept_failures", false);
    let participant = peers[0].participant_with(&strategy, options(&events));
    let mut node = AsyncNode::new(participant, AsyncOptions::default());
    peers[1].publish(1, 2.0).await;
    peers[2].publish(1, f32::NAN).await;
    for epoch in 1..=2 {
        let update = local(epoch, 0.0);
        assert_eq!(patiently(node.exchange(&update)).await.unwrap().0, update.weights);
    }
    assert_eq!(events.not_folded(), ["1 updates could not be used, and accept_failures is false"; 2]);
    peers[2].publish(2, 4.0).await;
    assert_eq!(value_of(&patiently(node.exchange(&local(3, 0.0))).await.unwrap().0), 2.0);
}

/// Files that go bad after the check, while the node has them open: every fold reads them again.
#[tokio::test]
async fn storage_that_goes_bad_between_two_folds_costs_one_update_not_the_fold() {
    let share = Share::new();
    let [mine, good, bad] = [0, 1, 2].map(|number| share.peer(number));
    let good_entry = good.publish_weights(1, &large(2.0), 10).await;
    let entry = bad.publish_weights(1, &large(4.0), 10).await;
    let events = Recorder::new();
    let layout = large(0.0).layout().clone();
    let participant = Participant::new(mine.folder, fedavg().build().unwrap(), layout, options(&events));
    let mut node = AsyncNode::new(participant, AsyncOptions::default());
    let exchange = async |node: &mut AsyncNode, epoch| {
        let update = LocalUpdate { weights: large(0.0), ..local(epoch, 0.0) };
        value_of(&patiently(node.exchange(&update)).await.unwrap().0)
    };
    assert_eq!(exchange(&mut node, 1).await, 2.0);
    damage(&share.file(&entry));
    for epoch in 2..=4 {
        assert_eq!(exchange(&mut node, epoch).await, 1.0);
    }
    assert!(events.rejected().iter().all(|(author, _)| *author == bad.id.to_string()));
    assert_eq!(events.rejected().len(), 1);
    assert_eq!(events.folds().len(), 4);
    // With nobody left there is no fold at all.
    damage(&share.file(&good_entry));
    let events_before = events.not_folded().len();
    assert_eq!(exchange(&mut node, 5).await, 0.0);
    assert_eq!((events.folds().len(), events.not_folded().len()), (4, events_before + 1));
}

/// The same for what a newcomer begins with: it is told what is in it, and nothing else.
#[tokio::test]
async fn a_file_that_goes_bad_before_a_newcomer_folds_it_is_no_part_of_what_it_begins_with() {
    for suspect in [Suspicion::Off, Suspicion::Warn] {
        let share = Share::new();
        let [mine, good, bad] = [0, 1, 2].map(|number| share.peer(number));
        good.publish_weights(1, &large(2.0), 10).await;
        let entry = bad.publish_weights(1, &large(4.0), 10).await;
        let file = share.file(&entry);
        let (recorder, name) = (Recorder::new(), bad.id.to_string());
        let sink = recorder.sink();
        let events: EventSink = Arc::new(move |event| {
            if matches!(event, Event::Received { author, .. } if *author == name) {
                damage(&file);
            }
            sink(event);
        });
        let options =
            ParticipantOptions { checks: Checks { suspect, ..Checks::default() }, events, ..options(&recorder) };
        let layout = large(0.0).layout().clone();
        let participant = Participant::new(mine.folder, fedavg().build().unwrap(), layout, options);
        let mut session = Session::new(AsyncNode::new(participant, AsyncOptions::default()), nodes::session_options());
        let begun = patiently(session.begin((large(0.5), Origin::Seed), Default::default())).await.unwrap();
        assert_eq!(value_of(&begun.weights), 2.0);
        let started = recorder.pick(|event| match event {
            Event::Started { origin, authors, .. } => Some((*origin, authors.clone())),
            _ => None,
        });
        assert_eq!(started, [(Origin::Fold, vec![good.id.to_string()])]);
        assert_eq!(recorder.rejected().iter().map(|(author, _)| author).collect::<Vec<_>>(), [&bad.id.to_string()]);
    }
}

/// Dropped at each of its awaits in turn, a node has published or not and has counted no fold; unless that was in the
/// middle of the fold, it goes on.
#[tokio::test]
async fn cancelling_an_exchange_counts_no_fold() {
    for polls in 0..40 {
        let (_storage, peers) = peers(2);
        let events = Recorder::new();
        peers[1].publish(1, 2.0).await;
        let mut node = AsyncNode::new(peers[0].participant(&events), AsyncOptions::default());
        let update = local(1, 0.0);
        let finished = {
            let mut exchange = Box::pin(node.exchange(&update));
            let mut left = polls;
            std::future::poll_fn(|context| {
                if left == 0 {
                    return std::task::Poll::Ready(false);
                }
                left -= 1;
                exchange.as_mut().poll(context).map(|result| result.is_ok())
            })
            .await
        };
        // How many awaits are ready at once depends on the threads.
        if finished {
            return;
        }
        assert_eq!(events.folds().len(), 0);
        match patiently(node.exchange(&update)).await {
            Ok((folded, _)) => assert_eq!(value_of(&folded), 1.0),
            Err(error) => assert!(matches!(error, NodeError::FoldCancelled), "{error}"),
        }
        assert!(events.received().len() <= 1, "read twice, cancelled after {polls} polls");
        assert!(peers[0].folder.list("").await.unwrap().len() == 2);
    }
    panic!("never finished");
}

/// A peer of this number that isn't allowed to be more than a name in the log.
#[tokio::test]
async fn a_hostile_tensor_name_reaches_no_terminal() {
    let (_storage, peers) = peers(2);
    let events = Recorder::new();
    let evil: &Peer = &peers[1];
    let spec = TensorSpec { name: "\u{1b}[2Jkernel".to_owned(), dtype: DType::F32, shape: vec![1] };
    let weights = Weights::new(vec![Tensor { spec, data: vec![0; 4].into() }]).unwrap();
    evil.publish_weights(1, &weights, 10).await;
    let mut node = AsyncNode::new(peers[0].participant(&events), AsyncOptions::default());
    patiently(node.exchange(&local(1, 0.0))).await.unwrap();
    let rejected = events.rejected();
    assert_eq!(rejected.len(), 1);
    assert!(!rejected[0].1.contains(char::is_control));
}
