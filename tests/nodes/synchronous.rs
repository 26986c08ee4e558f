//! Synchronous nodes: equal bits, deadlines and quorums.

use crate::nodes;

use nodes::{Peer, Recorder, faulty::FaultyFolder, hooked::HookedStrategy, local, options, participant};
use nodes::{
    patiently, peers,
    share::{Share, damage, large},
    value_of,
};
use peerfold::{
    node::{
        BelowQuorum, Checks, Event, LocalUpdate, Members, NodeError, Participant, ParticipantOptions, Stop, SyncNode,
        SyncOptions,
    },
    strategy::StrategySpec,
    weights::Weights,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{sync::Arc, time::Duration};

/// Far longer than any case waits for the members it has.
const NEVER: Duration = Duration::from_secs(3600);
/// A deadline that is meant to pass.
const SOON: Duration = Duration::from_millis(50);

fn of(nodes: usize, quorum: usize, deadline: Duration, below_quorum: BelowQuorum) -> SyncOptions {
    SyncOptions { nodes, quorum, deadline, below_quorum }
}

fn node(peer: &Peer, events: &Recorder, options: SyncOptions) -> SyncNode {
    let members = Members::first_seen(peer.id, options.nodes);
    SyncNode::new(peer.participant(events), options, members)
}

async fn exchange(node: &mut SyncNode, update: &LocalUpdate) -> (Weights, u64) {
    patiently(node.exchange(update, &Stop::new())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_all_members_present_every_node_holds_equal_bits_after_every_epoch() {
    for strategy in [StrategySpec::new("fedavg"), StrategySpec::new("fedavg").with("reference", "flwr-1.6")] {
        let (_storage, peers) = peers(3);
        let tasks = peers.iter().enumerate().map(|(number, peer)| {
            let (peer, strategy) = (peer.clone(), strategy.clone());
            tokio::spawn(async move {
                let events = Recorder::new();
                // As large as what they are given here.
                let checks = Checks { max_norm_ratio: 1e12, ..Checks::default() };
                let participant = peer.participant_with(&strategy, ParticipantOptions { checks, ..options(&events) });
                let members = Members::first_seen(peer.id, 3);
                let mut node = SyncNode::new(participant, of(3, 2, NEVER, BelowQuorum::Wait), members);
                let mut random = ChaCha8Rng::seed_from_u64(number as u64);
                let mut after = Vec::new();
                for epoch in 1..=8 {
                    for _ in 0..random.random_range(0..200) {
                        tokio::task::yield_now().await;
                    }
                    // Sums of these depend on the order in f32.
                    let update = local(epoch, random.random_range(-1.0f32..1.0) * 10f32.powi(number as i32 * 4));
                    let (weights, reached) = exchange(&mut node, &update).await;
                    assert_eq!(reached, epoch);
                    after.push(weights);
                }
                (after, events)
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut results = Vec::new();
        for task in tasks {
            results.push(patiently(task).await.unwrap());
        }
        let ids: Vec<String> = peers.iter().map(|peer| peer.id.to_string()).collect();
        for (number, (weights, events)) in results.iter().enumerate() {
            assert_eq!(weights, &results[0].0, "node {number}");
            assert_eq!(events.folded_authors(), vec![ids.clone(); 8]);
            let own: Vec<_> = events.folds().iter().map(|fold| fold[number].own).collect();
            assert_eq!(own, [true; 8]);
            assert_eq!(events.rejected(), []);
        }
    }
}

#[tokio::test]
async fn an_update_of_the_next_epoch_answers_and_those_of_others_than_members_do_not() {
    let (_storage, peers) = peers(4);
    let events = Recorder::new();
    let mut node = node(&peers[1], &events, of(3, 3, NEVER, BelowQuorum::Wait));
    // Node 3 sees these two first.
    peers[0].publish(4, 3.0).await;
    peers[2].publish(5, 6.0).await;
    let (weights, epoch) = exchange(&mut node, &local(4, 0.0)).await;
    assert_eq!((value_of(&weights), epoch), (3.0, 4));
    peers[3].publish(5, 100.0).await;
    peers[0].publish(5, 3.0).await;
    let (weights, epoch) = exchange(&mut node, &local(5, 0.0)).await;
    assert_eq!((value_of(&weights), epoch), (3.0, 5));
    assert_eq!(events.folds()[0].iter().map(|update| update.epoch).collect::<Vec<_>>(), [4, 4, 5]);
}

#[tokio::test]
async fn allowed_members_are_waited_for_though_others_came_first() {
    let (_storage, peers) = peers(3);
    let events = Recorder::new();
    let members = Members::allowed(peers[0].id, [peers[2].id]);
    let mut node = SyncNode::new(peers[0].participant(&events), of(2, 2, NEVER, BelowQuorum::Wait), members);
    peers[1].publish(1, 100.0).await;
    let late = peers[2].clone();
    let task = tokio::spawn(async move { exchange(&mut node, &local(1, 0.0)).await });
    events.wait_for(|event| matches!(event, Event::Waiting { .. }).then_some(())).await;
    late.publish(1, 4.0).await;
    assert_eq!(value_of(&patiently(task).await.unwrap().0), 2.0);
}

#[tokio::test]
async fn after_the_deadline_a_quorum_is_enough_and_a_dead_peer_hangs_nobody() {
    let (_storage, peers) = peers(3);
    let events = Recorder::new();
    let mut node = node(&peers[0], &events, of(3, 2, SOON, BelowQuorum::Wait));
    for epoch in 1..=3 {
        peers[1].publish(epoch, 2.0).await;
        let (weights, reached) = exchange(&mut node, &local(epoch, 0.0)).await;
        assert_eq!((value_of(&weights), reached), (1.0, epoch));
    }
    assert!(events.waiting().len() <= 3, "{:?}", events.waiting());
}

#[tokio::test]
async fn a_quorum_above_the_members_is_all_of_them() {
    let (_storage, peers) = peers(2);
    let mut node = node(&peers[0], &Recorder::new(), of(2, 5, Duration::ZERO, BelowQuorum::Wait));
    peers[1].publish(1, 2.0).await;
    assert_eq!(value_of(&exchange(&mut node, &local(1, 0.0)).await.0), 1.0);
}

#[tokio::test]
async fn below_quorum_it_waits_says_so_once_and_goes_on_when_a_member_comes() {
    let (_storage, peers) = peers(4);
    let events = Recorder::new();
    let mut node = node(&peers[0], &events, of(4, 3, SOON, BelowQuorum::Wait));
    let task = tokio::spawn(async move { exchange(&mut node, &local(1, 0.0)).await });
    let below = |event: &Event| match event {
        Event::Waiting { present, needed: 3, reason, .. } if reason.contains("below quorum") => Some(*present),
        _ => None,
    };
    assert_eq!(events.wait_for(below).await, 1);
    // Entries that change nothing wake it, and are no news.
    for number in 0..20 {
        peers[3].publish_start(format!("{number}")).await;
        tokio::task::yield_now().await;
    }
    peers[1].publish(1, 3.0).await;
    events.wait_for(|event| below(event).filter(|&present| present == 2)).await;
    peers[2].publish(1, 6.0).await;
    assert_eq!(value_of(&patiently(task).await.unwrap().0), 3.0);
    assert_eq!(events.pick(below), [1, 2]);
}

#[tokio::test]
async fn below_quorum_it_goes_on_alone_or_stops() {
    let (_storage, peers) = peers(3);
    let events = Recorder::new();
    let mut alone = node(&peers[0], &events, of(3, 3, SOON, BelowQuorum::Alone));
    for epoch in 1..=2 {
        let update = local(epoch, 5.0);
        assert_eq!(exchange(&mut alone, &update).await, (update.weights, epoch));
    }
    assert_eq!((events.folds().len(), events.not_folded().len()), (0, 2));
    // With one that has answered it folds that one.
    peers[1].publish(3, 1.0).await;
    assert_eq!(value_of(&exchange(&mut alone, &local(3, 5.0)).await.0), 3.0);
    let mut stops = node(&peers[2], &Recorder::new(), of(3, 3, SOON, BelowQuorum::Stop));
    peers[0].folder.remove(&peerfold::weights::Key::update(peers[0].id, 3)).await.unwrap();
    let error = patiently(stops.exchange(&local(3, 0.0), &Stop::new())).await.unwrap_err();
    assert!(matches!(error, NodeError::BelowQuorum { epoch: 3, present: 2, quorum: 3 }), "{error}");
}

#[tokio::test]
async fn a_node_far_behind_adopts_the_epoch_and_the_fold_of_the_others() {
    for at_resume in [false, true] {
        let (_storage, peers) = peers(3);
        let [mut first, mut second] =
            [0, 2].map(|at| node(&peers[at], &Recorder::new(), of(3, 2, Duration::ZERO, BelowQuorum::Wait)));
        let mut of_others = None;
        for epoch in 1..=6 {
            let (one, two) = (local(epoch, 0.3), local(epoch, 7.1));
            let (one, two) = tokio::join!(exchange(&mut first, &one), exchange(&mut second, &two));
            assert_eq!(one, two);
            of_others = Some(one);
        }
        let events = Recorder::new();
        let mut behind = node(&peers[1], &events, of(3, 2, NEVER, BelowQuorum::Wait));
        let caught_up = if at_resume {
            patiently(behind.catch_up(4)).await.unwrap()
        } else {
            Some(exchange(&mut behind, &local(4, 1000.0)).await)
        };
        assert_eq!(caught_up, of_others);
        let told = events.pick(|event| match event {
            Event::CaughtUp { from, epoch } => Some((*from, *epoch)),
            _ => None,
        });
        assert_eq!(told, [(4, 6)]);
        // One epoch behind is not far.
        assert_eq!(patiently(behind.catch_up(5)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn one_members_claim_of_a_far_epoch_moves_nobody_past_a_quorum() {
    let (_storage, peers) = peers(4);
    let mut node = node(&peers[0], &Recorder::new(), of(4, 3, NEVER, BelowQuorum::Wait));
    peers[1].publish(1_000_000_000, 8.0).await;
    peers[2].publish(1, 0.0).await;
    peers[3].publish(2, 0.0).await;
    assert_eq!(patiently(node.catch_up(0)).await.unwrap(), None);
    let (weights, epoch) = exchange(&mut node, &local(1, 0.0)).await;
    assert_eq!((value_of(&weights), epoch), (2.0, 1));
}

#[tokio::test]
async fn whatever_the_quorum_half_of_the_others_are_needed_to_take_a_node_along() {
    let (_storage, peers) = peers(4);
    let mut node = node(&peers[0], &Recorder::new(), of(4, 1, NEVER, BelowQuorum::Alone));
    peers[1].publish(1_000_000, 8.0).await;
    assert_eq!(patiently(node.catch_up(0)).await.unwrap(), None);
    peers[2].publish(5, 4.0).await;
    let (weights, epoch) = patiently(node.catch_up(0)).await.unwrap().unwrap();
    assert_eq!((value_of(&weights), epoch), (6.0, 5));
}

#[tokio::test]
async fn a_stop_request_ends_the_wait_with_the_update_published() {
    let (_storage, peers) = peers(2);
    let (events, stop) = (Recorder::new(), Stop::new());
    let mut node = node(&peers[0], &events, of(2, 2, NEVER, BelowQuorum::Wait));
    let stopping = stop.clone();
    let task = tokio::spawn(async move { node.exchange(&local(1, 0.0), &stopping).await });
    events.wait_for(|event| matches!(event, Event::Waiting { .. }).then_some(())).await;
    stop.request();
    assert!(matches!(patiently(task).await.unwrap(), Err(NodeError::Stopped)));
    assert_eq!(peers[1].folder.list("").await.unwrap().len(), 1);
    assert!(events.folds().is_empty());
}

#[tokio::test]
async fn a_single_member_waits_for_nobody() {
    let (_storage, peers) = peers(2);
    let events = Recorder::new();
    let mut node = node(&peers[0], &events, of(1, 1, NEVER, BelowQuorum::Stop));
    peers[1].publish(9, 100.0).await;
    for epoch in 1..=3 {
        let update = local(epoch, 2.0);
        assert_eq!(exchange(&mut node, &update).await, (update.weights, epoch));
    }
    assert!(events.waiting().is_empty());
}

#[tokio::test]
async fn a_folder_that_fails_for_a_while_is_tried_again() {
    let (_storage, peers) = peers(2);
    let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
    folder.set(|faults| faults.put = true);
    let participant = participant(Arc::new(folder.clone()), &StrategySpec::new("fedavg"), options(&events));
    let members = Members::first_seen(peers[0].id, 2);
    let mut node = SyncNode::new(participant, of(2, 2, NEVER, BelowQuorum::Wait), members);
    peers[1].publish(1, 2.0).await;
    let task = tokio::spawn(async move { exchange(&mut node, &local(1, 0.0)).await });
    let failed = |event: &Event| matches!(event, Event::FolderFailed { epoch: 1, .. }).then_some(());
    events.wait_for(failed).await;
    // Then it can write but not list, and a value can't be read: all of it passes without a word of the watch.
    folder.set(|faults| (faults.put, faults.list) = (false, true));
    let listing = |event: &Event| match event {
        Event::FolderFailed { reason, .. } if reason.contains("listing") => Some(()),
        _ => None,
    };
    events.wait_for(listing).await;
    folder.set(|faults| (faults.list, faults.get) = (false, vec![peers[1].id]));
    events.wait_for(|event| matches!(event, Event::Rejected { .. }).then_some(())).await;
    folder.set(|faults| faults.get = Vec::new());
    assert_eq!(value_of(&patiently(task).await.unwrap().0), 1.0);
    assert_eq!(events.pick(failed).len(), 2);
    assert_eq!(events.rejected().len(), 1);
}

#[tokio::test]
async fn a_value_that_appears_after_its_entry_is_found_though_nothing_tells_of_it() {
    let (_storage, peers) = peers(2);
    let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
    folder.set(|faults| faults.gone = vec![peers[1].id]);
    let participant = participant(Arc::new(folder.clone()), &StrategySpec::new("fedavg"), options(&events));
    let members = Members::first_seen(peers[0].id, 2);
    let mut node = SyncNode::new(participant, of(2, 2, NEVER, BelowQuorum::Wait), members);
    peers[1].publish(1, 2.0).await;
    let task = tokio::spawn(async move { exchange(&mut node, &local(1, 0.0)).await });
    events.wait_for(|event| matches!(event, Event::Rejected { .. }).then_some(())).await;
    folder.set(|faults| faults.gone = Vec::new());
    assert_eq!(value_of(&patiently(task).await.unwrap().0), 1.0);
    assert_eq!(
        events.rejected(),
        [(peers[1].id.to_string(), "its value is not there yet; it is tried again".to_owned())]
    );
}

/// Files that go bad between the check and the fold.
#[tokio::test]
async fn an_answer_that_is_lost_before_the_fold_is_waited_for_again() {
    for (below_quorum, deadline) in [(BelowQuorum::Wait, NEVER), (BelowQuorum::Stop, SOON), (BelowQuorum::Alone, SOON)]
    {
        let share = Share::new();
        let [mine, other] = [0, 1].map(|number| share.peer(number));
        let entry = other.publish_weights(1, &large(100.0), 10).await;
        let file = share.file(&entry);
        let strategy = HookedStrategy::new();
        *strategy.before_fold.lock().unwrap() = Some(Box::new(move || damage(&file)));
        let events = Recorder::new();
        let layout = large(0.0).layout().clone();
        let participant = Participant::new(mine.folder, Box::new(strategy), layout, options(&events));
        let members = Members::first_seen(mine.id, 2);
        let mut node = SyncNode::new(participant, of(2, 2, deadline, below_quorum), members);
        let update = LocalUpdate { weights: large(0.0), ..local(1, 0.0) };
        let task = tokio::spawn(async move { node.exchange(&update, &Stop::new()).await });
        events.wait_for(|event| matches!(event, Event::Rejected { .. }).then_some(())).await;
        match below_quorum {
            BelowQuorum::Wait => {
                other.publish_weights(1, &large(4.0), 10).await;
                assert_eq!(value_of(&patiently(task).await.unwrap().unwrap().0), 2.0);
                assert_eq!((events.folds().len(), events.waiting()), (1, vec![1]));
                assert_eq!(events.not_folded(), [""; 0]);
            }
            BelowQuorum::Stop => {
                let error = patiently(task).await.unwrap().unwrap_err();
                assert!(matches!(error, NodeError::BelowQuorum { present: 1, quorum: 2, .. }), "{error}");
            }
            BelowQuorum::Alone => {
                assert_eq!(value_of(&patiently(task).await.unwrap().unwrap().0), 0.0);
                assert_eq!((events.folds().len(), events.not_folded().len()), (0, 1));
            }
        }
    }
}
