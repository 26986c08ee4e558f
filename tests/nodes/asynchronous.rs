//! Asynchronous nodes: whom they fold, and when.

use crate::nodes;

use nodes::{Peer, Recorder, faulty::FaultyFolder, local, options, patiently, peers, value_of, weights};
use peerfold::{
    entries::Membership,
    node::{
        AsyncNode, AsyncOptions, Checks, Event, Figures, FoldFigures, FoldedUpdate, LocalUpdate, Origin,
        ParticipantOptions, Session, SessionOptions, Stop, Suspicion, TrainingFigures,
    },
    strategy::StrategySpec,
    weights::{DType, Metric, Tensor, TensorSpec, Weights},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Barrier, Notify};

fn node(peer: &Peer, events: &Recorder, options: AsyncOptions) -> AsyncNode {
    AsyncNode::new(peer.participant(events), options)
}

fn strict(peer: &Peer, options: ParticipantOptions) -> AsyncNode {
    AsyncNode::new(peer.participant_with(&StrategySpec::new("fedavg"), options), AsyncOptions::default())
}

fn ids(peers: &[&Peer]) -> Vec<String> {
    peers.iter().map(|peer| peer.id.to_string()).collect()
}

#[tokio::test]
async fn without_peers_the_weights_stay_as_they_are_and_no_fold_is_counted() {
    let (_storage, peers) = peers(2);
    let events = Recorder::new();
    let mut node = node(&peers[0], &events, AsyncOptions::default());
    for epoch in 1..=3 {
        let update = local(epoch, 0.1 * epoch as f32);
        assert_eq!(patiently(node.exchange(&update)).await.unwrap().0, update.weights);
    }
    assert_eq!((events.folds().len(), events.not_folded().len()), (0, 3));
    peers[1].publish(3, 0.5).await;
    patiently(node.exchange(&local(4, 1.0))).await.unwrap();
    let rounds = events.pick(|event| match event {
        Event::Folded { round, epoch, .. } => Some((*round, *epoch)),
        _ => None,
    });
    assert_eq!(rounds, [(1, 4)]);
}

#[tokio::test]
async fn its_own_update_comes_first_and_what_peers_see_is_what_was_trained() {
    let (_storage, peers) = peers(4);
    let events = Recorder::new();
    for number in [3, 0, 1] {
        peers[number].publish(1, number as f32).await;
    }
    let mut node = node(&peers[2], &events, AsyncOptions::default());
    let (folded, _) = patiently(node.exchange(&local(1, 2.0))).await.unwrap();
    assert_eq!(value_of(&folded), 1.5);
    assert_eq!(events.folded_authors(), [ids(&[&peers[2], &peers[0], &peers[1], &peers[3]])]);
    let fold = events.folds().remove(0);
    assert!(fold.iter().all(|update| update.weight == 0.25 && update.staleness == 0 && update.num_examples == 10));
    assert!(fold[0].own && fold[1..].iter().all(|update| !update.own));
    let published = peers[0].folder.list(&format!("{}/", peers[2].id)).await.unwrap();
    let roots: Vec<_> = published.iter().map(|entry| entry.root().unwrap()).collect();
    assert_eq!(roots, [weights(2.0).manifest().root()]);
}

/// A node over a folder with faults.
fn faulty(peer: &Peer, events: &Recorder) -> (FaultyFolder, AsyncNode) {
    let folder = FaultyFolder::new(peer.folder.clone());
    let participant =
        nodes::participant(Arc::new(folder.clone()), &StrategySpec::new("fedavg"), nodes::options(events));
    (folder, AsyncNode::new(participant, AsyncOptions::default()))
}

#[tokio::test]
async fn values_are_fetched_side_by_side_and_folded_by_author() {
    let (_storage, peers) = peers(9);
    for peer in &peers[1..] {
        peer.publish(1, 1.0).await;
    }
    let events = Recorder::new();
    let (folder, mut node) = faulty(&peers[0], &events);
    // One after the other, not one of them would come.
    folder.set(|faults| faults.together = Some(Arc::new(Barrier::new(8))));
    patiently(node.exchange(&local(1, 1.0))).await.unwrap();
    assert_eq!(events.folded_authors(), [ids(&peers.iter().collect::<Vec<_>>())]);
    assert_eq!(events.rejected(), []);
}

#[tokio::test]
async fn any_number_of_dead_peers_delay_nobody_elses_value() {
    let (_storage, peers) = peers(40);
    for peer in &peers[1..] {
        peer.publish(1, 1.0).await;
    }
    let events = Recorder::new();
    let (folder, mut node) = faulty(&peers[0], &events);
    folder.set(|faults| faults.dead = peers[1..39].iter().map(|peer| peer.id).collect());
    let exchange = tokio::spawn(async move { node.exchange(&local(1, 1.0)).await.map(|_| ()) });
    let living = peers[39].id.to_string();
    events.wait_for(|event| matches!(event, Event::Received { author, .. } if *author == living).then_some(())).await;
    // The others are still waited for.
    assert_eq!(events.rejected(), []);
    exchange.abort();
}

/// The same one that announces an update in every epoch, and one more that nobody has seen before: neither gives
/// anything.
#[tokio::test]
async fn who_announces_and_never_gives_costs_a_node_little_and_is_told() {
    let (_storage, peers) = peers(40);
    let events = Recorder::new();
    let (folder, mut node) = faulty(&peers[0], &events);
    let never = peers[2..].iter().map(|peer| peer.id).collect::<Vec<_>>();
    folder.set(|faults| (faults.away, faults.dead) = (never.clone(), never));
    let began = Instant::now();
    for epoch in 1..=38 {
        peers[1].publish(epoch, 1.0).await;
        peers[2].publish(epoch, 1.0).await;
        peers[2 + epoch as usize - 1].publish(epoch, 1.0).await;
        patiently(node.exchange(&local(epoch, 1.0))).await.unwrap();
    }
    // It was ten seconds a fold; now it is one for all, and a part of the time that the node has trained.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let with_honest = ids(&[&peers[0], &peers[1]]);
    assert_eq!(events.folded_authors(), vec![with_honest; 38]);
    let told: Vec<_> = events.rejected().into_iter().filter(|(author, _)| *author == peers[2].id.to_string()).collect();
    assert!(told.len() == 1 && told[0].1.contains("too late"), "{told:?}");
}

/// A thousand made-up authors whose values never come: whether each has come is not asked at every fold.
#[tokio::test]
async fn a_crowd_that_gives_nothing_is_looked_for_a_few_at_a_time() {
    let (storage, peers) = peers(4);
    let events = Recorder::new();
    let (folder, mut node) = faulty(&peers[0], &events);
    let crowd: Vec<Peer> = (0..300).map(|_| Peer::stranger(&storage)).collect();
    for stranger in &crowd {
        stranger.publish(1, 9.0).await;
    }
    peers[1].publish(1, 1.0).await;
    folder.set(|faults| {
        faults.away = crowd.iter().map(|stranger| stranger.id).collect();
        faults.dead = faults.away.clone();
    });
    let asked = |folder: &FaultyFolder| std::mem::take(&mut folder.faults.lock().unwrap().opened).len();
    // It looks for others of them until it has something to fold.
    patiently(node.exchange(&local(1, 1.0))).await.unwrap();
    assert_eq!(events.folded_authors(), [ids(&[&peers[0], &peers[1]])]);
    asked(&folder);
    for epoch in 2..=4 {
        patiently(node.exchange(&local(epoch, 1.0))).await.unwrap();
        let asked = asked(&folder);
        assert!(asked <= 2 * 33, "{asked} at epoch {epoch}");
    }
    // Once it has given something, it is folded every time, and newcomers are found in between.
    peers[2].publish(1, 1.0).await;
    let mut epoch = 4;
    while events.folded_authors().last().is_some_and(|authors| authors.len() < 3) {
        epoch += 1;
        // Before it is stale.
        peers[1].publish(epoch, 1.0 + epoch as f32 * 1e-3).await;
        patiently(node.exchange(&local(epoch, 1.0))).await.unwrap();
        assert_eq!(events.folds().len() as u64, epoch);
    }
    // At once, if it is known that their values are here.
    folder.set(|faults| faults.shows_parts = true);
    peers[3].publish(epoch, 1.0).await;
    patiently(node.exchange(&local(epoch + 1, 1.0))).await.unwrap();
    assert_eq!(events.folded_authors().last().map(Vec::len), Some(4));
}

/// A value takes five epochs to come, and its author keeps two updates. The folder's own rule alone would leave nothing to
/// fold: what has come is never among the two.
async fn folded_of_a_slow_peer(options: AsyncOptions) -> Vec<Option<u64>> {
    const TAKES: u64 = 5;
    let (_storage, peers) = peers(2);
    let events = Recorder::new();
    let folder = FaultyFolder::new(peers[0].folder.clone());
    let participant =
        nodes::participant(Arc::new(folder.clone()), &StrategySpec::new("fedavg"), nodes::options(&events));
    let mut node = AsyncNode::new(participant, options);
    // Nothing is waited for longer because there was none before.
    peers[1].publish(1, 0.0).await;
    patiently(node.exchange(&local(1, 0.0))).await.unwrap();
    let fetches = Arc::new(Notify::new());
    folder.set(|faults| (faults.away, faults.fetches_wait) = (vec![peers[1].id], Some(fetches.clone())));
    for epoch in 2..=24 {
        peers[1].publish(epoch, epoch as f32).await;
        patiently(node.exchange(&local(epoch, 0.0))).await.unwrap();
        if epoch % TAKES == 0 {
            // The first that waits.
            fetches.notify_one();
            let came = (epoch / TAKES) as usize;
            patiently(async {
                while folder.faults.lock().unwrap().came.len() < came {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
    }
    let of_peer = |fold: &Vec<FoldedUpdate>| fold.iter().find(|update| !update.own).map(|update| update.epoch);
    let folds = events.folds();
    (2..=24)
        .map(|epoch| {
            let fold = folds.iter().find(|fold| fold.iter().any(|update| update.own && update.epoch == epoch));
            fold.and_then(of_peer)
        })
        .collect()
}

/// Each once: it is old by then.
#[tokio::test]
async fn of_a_peer_whose_values_come_late_each_that_comes_is_folded_once() {
    for ignore_seen in [false, true] {
        let options = AsyncOptions { max_wait: 0.0, ignore_seen, ..AsyncOptions::default() };
        let folded: Vec<u64> = folded_of_a_slow_peer(options).await.into_iter().flatten().collect();
        assert!(folded.len() >= 3 && folded.is_sorted_by(|one, next| one < next), "{folded:?}");
    }
}

/// Else a node on a busy machine could end without having learned from anyone.
#[tokio::test]
async fn the_first_value_of_all_is_waited_for_longer() {
    let (_storage, peers) = peers(3);
    let events = Recorder::new();
    let (folder, mut node) = faulty(&peers[0], &events);
    let fetches = Arc::new(Notify::new());
    folder.set(|faults| {
        faults.away = peers[1..].iter().map(|peer| peer.id).collect();
        faults.dead = vec![peers[2].id];
        faults.fetches_wait = Some(fetches.clone());
    });
    peers[1].publish(1, 1.0).await;
    peers[2].publish(1, 1.0).await;
    let began = Instant::now();
    let slow = tokio::spawn(async move {
        // Longer than a node waits for values otherwise.
        tokio::time::sleep(Duration::from_secs(4)).await;
        fetches.notify_one();
    });
    patiently(node.exchange(&local(1, 0.0))).await.unwrap();
    slow.await.unwrap();
    assert_eq!(events.folded_authors(), [ids(&[&peers[0], &peers[1]])]);
    // Once it has one it goes on, and doesn't wait for the other that long.
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_comes_late_is_folded_next_time_and_the_update_before_it_until_then() {
    for ignore_seen in [false, true] {
        let (_storage, peers) = peers(2);
        let events = Recorder::new();
        let folder = FaultyFolder::new(peers[0].folder.clone());
        let participant =
            nodes::participant(Arc::new(folder.clone()), &StrategySpec::new("fedavg"), nodes::options(&events));
        let mut node = AsyncNode::new(participant, AsyncOptions { ignore_seen, ..AsyncOptions::default() });
        peers[1].publish(1, 1.0).await;
        patiently(node.exchange(&local(1, 0.0))).await.unwrap();
        let fetches = Arc::new(Notify::new());
        folder.set(|faults| (faults.away, faults.fetches_wait) = (vec![peers[1].id], Some(fetches.clone())));
        peers[1].publish(2, 2.0).await;
        patiently(node.exchange(&local(2, 0.0))).await.unwrap();
        let epochs = || events.folds().iter().map(|fold| fold[1].epoch).collect::<Vec<_>>();
        assert_eq!(epochs(), if ignore_seen { vec![1] } else { vec![1, 1] });
        fetches.notify_one();
        let mut epoch = 2;
        while epochs().last() != Some(&2) {
            epoch += 1;
            patiently(node.exchange(&local(epoch, 0.0))).await.unwrap();
        }
        // It was asked for once, in the background.
        let asked = folder.faults.lock().unwrap().opened.iter().filter(|key| key.update_epoch() == Some(2)).count();
        assert_eq!((asked, events.rejected().len()), (1, 0));
    }
}

/// Garbage, and a claim to have seen more examples than everybody else.
#[tokio::test]
async fn no_claim_of_examples_takes_all_the_weight() {
    let (_storage, peers) = peers(5);
    for peer in &peers[1..3] {
        peer.publish(1, 0.0).await;
    }
    peers[3].publish_weights(1, &weights(8.0), 100_000_000).await;
    let events = Recorder::new();
    let mut first = node(&peers[0], &events, AsyncOptions::default());
    for epoch in 1..=2 {
        // 10, 10, 10 and five times their median.
        assert_eq!(value_of(&patiently(first.exchange(&local(epoch, 0.0))).await.unwrap().0), 5.0);
    }
    let cut = |events: &Recorder| {
        events.pick(|event| match event {
            Event::ClaimCut { author, epoch, claimed, counted } => Some((author.clone(), *epoch, *claimed, *counted)),
            _ => None,
        })
    };
    assert_eq!(cut(&events), [(peers[3].id.to_string(), 1, 100_000_000, 50)]);
    assert!(events.folds()[0].iter().all(|update| update.weight <= 0.625));
    // Nor of what a newcomer begins with, and a setting says how much.
    let events = Recorder::new();
    let checks = Checks { max_examples_ratio: 1.0, ..Checks::default() };
    let strict = strict(&peers[4], ParticipantOptions { checks, ..options(&events) });
    let mut session = Session::new(strict, nodes::session_options());
    let begun = patiently(session.begin((weights(0.5), Origin::Seed), Default::default())).await.unwrap();
    assert_eq!(value_of(&begun.weights), 2.0);
    assert_eq!((cut(&events).len(), session.figures().fold.cut), (1, 1));
}

/// A single update of finite but absurd weights would end the training of all, and a restart would fold it again.
#[tokio::test]
async fn an_update_of_absurd_weights_is_folded_by_nobody() {
    for suspect in [Suspicion::Off, Suspicion::Warn, Suspicion::LeaveOut] {
        let (_storage, peers) = peers(3);
        peers[1].publish(1, 1e37).await;
        let events = Recorder::new();
        let checks = Checks { suspect, ..Checks::default() };
        let mut node = strict(&peers[0], ParticipantOptions { checks: checks.clone(), ..options(&events) });
        assert_eq!(value_of(&patiently(node.exchange(&local(1, 1.0))).await.unwrap().0), 1.0);
        assert_eq!(events.not_folded(), ["1 peer's update was left out as suspect, and no other could be read"]);
        peers[2].publish(1, 3.0).await;
        assert_eq!(value_of(&patiently(node.exchange(&local(2, 1.0))).await.unwrap().0), 2.0);
        let told = events.pick(|event| match event {
            Event::Suspect { author, reason, left_out: true, .. } => Some((author.clone(), reason.clone())),
            _ => None,
        });
        assert!(told.len() == 1 && told[0].0 == peers[1].id.to_string(), "once: {told:?}");
        assert!(told[0].1.contains("--max-norm-ratio"), "{told:?}");
        // Nor does a newcomer begin with it, as long as there is more that it can be compared with.
        peers[0].publish(3, 1.0).await;
        let newcomer = Peer::new(&_storage, 3);
        let mut session = Session::new(
            strict(&newcomer, ParticipantOptions { checks, ..options(&Recorder::new()) }),
            nodes::session_options(),
        );
        let begun = patiently(session.begin((weights(0.5), Origin::Seed), Default::default())).await.unwrap();
        assert_eq!(value_of(&begun.weights), 2.0);
    }
}

/// Who says nothing of its loss isn't folded by a strategy that goes by losses, and the others are.
#[tokio::test]
async fn an_update_without_what_the_strategy_needs_of_it_hinders_nobody() {
    let (_storage, peers) = peers(3);
    let with_loss = |epoch, value| LocalUpdate {
        metrics: vec![Metric { name: "loss".to_owned(), value: 0.5 }],
        ..local(epoch, value)
    };
    let events = Recorder::new();
    let participant = peers[0].participant_with(&StrategySpec::new("qfedavg"), options(&events));
    let first = AsyncNode::new(participant, AsyncOptions::default());
    let mut session = Session::new(first, nodes::session_options());
    patiently(session.begin((weights(0.5), Origin::Seed), Default::default())).await.unwrap();
    peers[1].publish(1, 2.0).await;
    let mut other = node(&peers[2], &Recorder::new(), AsyncOptions { upload_only: true, ..AsyncOptions::default() });
    patiently(other.exchange(&with_loss(1, 3.0))).await.unwrap();
    patiently(session.epoch_trained(with_loss(1, 1.0), Default::default())).await.unwrap();
    assert_eq!(events.folded_authors(), [ids(&[&peers[0], &peers[2]])], "{:?}", events.not_folded());
    let rejected = events.rejected();
    assert!(rejected.len() == 1 && rejected[0].0 == peers[1].id.to_string(), "{rejected:?}");
    assert!(rejected[0].1.contains("qfedavg") && rejected[0].1.contains("no loss"), "{rejected:?}");
    // Its own is its user's to mend.
    patiently(session.epoch_trained(local(2, 1.0), Default::default())).await.unwrap();
    assert!(events.not_folded().last().unwrap().contains("no loss"), "{:?}", events.not_folded());
}

/// At its first fold a node waits for half a minute; who stops it doesn't.
#[tokio::test]
async fn a_stop_ends_the_wait_for_the_first_value_of_all() {
    let (_storage, peers) = peers(2);
    let (events, stop) = (Recorder::new(), Stop::new());
    let (folder, node) = faulty(&peers[0], &events);
    folder.set(|faults| (faults.away, faults.dead) = (vec![peers[1].id], vec![peers[1].id]));
    let mut session = Session::new(node, SessionOptions { stop: stop.clone(), ..nodes::session_options() });
    patiently(session.begin((weights(1.0), Origin::Seed), Default::default())).await.unwrap();
    peers[1].publish(1, 1.0).await;
    let trained = tokio::spawn(async move { session.epoch_trained(local(1, 1.0), Default::default()).await });
    // What it does next is to look at the peer's update.
    events.wait_for(|event| matches!(event, Event::Published { .. }).then_some(())).await;
    stop.request();
    let stopped = Instant::now();
    let completed = patiently(trained).await.unwrap().unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(15), "{:?}", stopped.elapsed());
    assert_eq!((completed.epoch, value_of(&completed.weights)), (1, 1.0));
    assert_eq!(events.not_folded(), ["what peers have to fold has not come in time"]);
}

#[tokio::test]
async fn what_a_node_has_done_is_one_tree_of_figures() {
    let (_storage, peers) = peers(4);
    let events = Recorder::new();
    let mut session = Session::new(node(&peers[0], &events, AsyncOptions::default()), nodes::session_options());
    patiently(session.begin((weights(0.5), Origin::Seed), Default::default())).await.unwrap();
    let before = session.figures();
    assert_eq!((before.fold, before.training, before.run.epoch), Default::default());
    peers[1].publish(1, 1.0).await;
    peers[2].publish(1, f32::NAN).await;
    peers[3].publish(1, 2.0).await;
    for epoch in 1..=2 {
        patiently(session.epoch_trained(local(epoch, 1.0), Default::default())).await.unwrap();
    }
    let figures = session.figures();
    let fold = FoldFigures { received: 2, rejected: 1, folds: 2, folded: 4, ..FoldFigures::default() };
    assert_eq!((figures.fold, figures.training), (fold, TrainingFigures { epochs: 2, examples: 20 }));
    assert_eq!((figures.run.epoch, figures.folder), (2, peers[0].folder.figures()));
    assert!(figures.folder.traffic.written > before.folder.traffic.written && figures.run.seconds > 0.0);
    // A storage in memory has neither network nor bucket nor cache.
    let json = serde_json::to_value(figures).unwrap();
    assert_eq!(json["fold"]["folded"], 4);
    assert_eq!(json["folder"].as_object().unwrap().keys().collect::<Vec<_>>(), ["traffic"]);
    assert_eq!(serde_json::from_value::<Figures>(json).unwrap(), figures);
}

#[tokio::test]
async fn an_update_is_folded_again_until_a_newer_one_comes_unless_seen_ones_are_ignored() {
    for ignore_seen in [false, true] {
        let (_storage, peers) = peers(2);
        let events = Recorder::new();
        let mut node = node(&peers[0], &events, AsyncOptions { ignore_seen, ..AsyncOptions::default() });
        peers[1].publish(1, 1.0).await;
        for epoch in 1..=3 {
            patiently(node.exchange(&local(epoch, 0.0))).await.unwrap();
        }
        peers[1].publish(2, 2.0).await;
        patiently(node.exchange(&local(4, 0.0))).await.unwrap();
        let staleness: Vec<_> = events.folds().iter().map(|fold| (fold[1].epoch, fold[1].staleness)).collect();
        if ignore_seen {
            assert_eq!(staleness, [(1, 0), (2, 0)]);
        } else {
            assert_eq!(staleness, [(1, 0), (1, 1), (1, 2), (2, 0)]);
            // It was read and checked only once.
            assert_eq!(events.received().len(), 2);
        }
    }
}

#[tokio::test]
async fn participation_is_drawn_by_the_seed_and_publishing_is_not() {
    let draw = async |seed: u64, participation: f64| {
        let (_storage, peers) = peers(2);
        let events = Recorder::new();
        peers[1].publish(1, 1.0).await;
        let options = AsyncOptions { participation, seed, ..AsyncOptions::default() };
        let mut node = node(&peers[0], &events, options);
        let mut folded = Vec::new();
        for epoch in 1..=24 {
            let before = events.folds().len();
            let update = local(epoch, 0.0);
            let (weights, _) = patiently(node.exchange(&update)).await.unwrap();
            folded.push(events.folds().len() > before);
            assert_eq!(weights == update.weights, !folded[folded.len() - 1]);
        }
        let published = events.pick(|event| matches!(event, Event::Published { .. }).then_some(()));
        assert_eq!(published.len(), 24);
        folded
    };
    // Twenty-four epochs, so that staleness leaves nothing out before the end.
    let first = draw(7, 0.4).await;
    assert!(first[..10].contains(&true) && first[..10].contains(&false), "{first:?}");
    assert_eq!(draw(7, 0.4).await, first);
    assert_ne!(draw(8, 0.4).await, first);
    assert!(!draw(7, 0.0).await.contains(&true));
    assert!(!draw(7, 1.0).await[..10].contains(&false));
}

#[tokio::test]
async fn epochs_between_folds_and_upload_only() {
    let (_storage, peers) = peers(3);
    let (events, uploads) = (Recorder::new(), Recorder::new());
    let mut every_third = node(&peers[0], &events, AsyncOptions { epochs_between_folds: 3, ..AsyncOptions::default() });
    let mut uploader = node(&peers[1], &uploads, AsyncOptions { upload_only: true, ..AsyncOptions::default() });
    for epoch in 1..=7 {
        let update = local(epoch, 1.0);
        assert_eq!(patiently(uploader.exchange(&update)).await.unwrap().0, update.weights);
        patiently(every_third.exchange(&local(epoch, 0.0))).await.unwrap();
    }
    let epochs: Vec<_> = events.folds().iter().map(|fold| fold[0].epoch).collect();
    assert_eq!(epochs, [3, 6]);
    assert_eq!((uploads.folds().len(), uploads.received().len(), uploads.not_folded().len()), (0, 0, 7));
}

#[tokio::test]
async fn a_sample_of_peers_is_fresh_each_epoch_and_repeatable() {
    let run = async |seed: u64| {
        let (_storage, peers) = peers(20);
        for peer in &peers[1..] {
            peer.publish(1, 1.0).await;
        }
        let events = Recorder::new();
        let options = AsyncOptions { max_peers: Some(4), seed, ..AsyncOptions::default() };
        let mut node = node(&peers[0], &events, options);
        for epoch in 1..=8 {
            patiently(node.exchange(&local(epoch, 0.0))).await.unwrap();
        }
        let authors = events.folded_authors();
        assert!(authors.iter().all(|fold| fold.len() == 5 && fold[0] == peers[0].id.to_string()));
        authors
    };
    let first = run(1).await;
    assert!(first.windows(2).any(|pair| pair[0] != pair[1]), "{first:?}");
    assert_eq!(run(1).await, first);
    assert_ne!(run(2).await, first);
}

#[tokio::test]
async fn what_is_too_old_is_left_out_unread_and_takes_no_place_in_the_sample() {
    let (_storage, peers) = peers(4);
    let events = Recorder::new();
    let mut node = AsyncNode::new(
        peers[0].participant_with(
            &StrategySpec::new("fedavg"),
            ParticipantOptions { checks: Checks { max_staleness: 2, ..Checks::default() }, ..options(&events) },
        ),
        AsyncOptions { max_peers: Some(2), ..AsyncOptions::default() },
    );
    // The lower median of 1, 8, 9 and 9 is 8.
    peers[1].publish(1, 100.0).await;
    peers[2].publish(9, 2.0).await;
    peers[3].publish(9, 4.0).await;
    let (folded, _) = patiently(node.exchange(&local(8, 0.0))).await.unwrap();
    assert_eq!(value_of(&folded), 2.0);
    let left_out = || {
        events.pick(|event| match event {
            Event::LeftOut { author, epoch, staleness } => Some((author.clone(), *epoch, *staleness)),
            _ => None,
        })
    };
    assert_eq!(left_out(), [(peers[1].id.to_string(), 1, 7)]);
    assert!(!events.received().contains(&peers[1].id.to_string()));
    // By its own folds: after three more, nothing of the others is fresh any more.
    for epoch in 9..=11 {
        patiently(node.exchange(&local(epoch, 0.0))).await.unwrap();
    }
    assert_eq!(events.folds().len(), 3);
    // The median has risen meanwhile, but each was told once.
    let authors: Vec<_> = left_out().into_iter().map(|(author, ..)| author).collect();
    assert_eq!(authors, ids(&[&peers[1], &peers[2], &peers[3]]));
}

/// Or whoever makes itself many names would fill a node's log.
#[tokio::test]
async fn of_a_crowd_of_old_updates_a_hundred_are_told_and_all_counted() {
    let (storage, peers) = peers(1);
    let events = Recorder::new();
    let checks = Checks { max_staleness: 2, ..Checks::default() };
    let participant =
        peers[0].participant_with(&StrategySpec::new("fedavg"), ParticipantOptions { checks, ..options(&events) });
    let node = AsyncNode::new(participant, AsyncOptions::default());
    let mut session = Session::new(node, nodes::session_options());
    patiently(session.begin((weights(0.5), Origin::Seed), Default::default())).await.unwrap();
    for _ in 0..150 {
        Peer::stranger(&storage).publish(1, 1.0).await;
    }
    for epoch in 1..=5 {
        patiently(session.epoch_trained(local(epoch, 1.0), Default::default())).await.unwrap();
    }
    let told = events.pick(|event| matches!(event, Event::LeftOut { .. }).then_some(())).len();
    assert_eq!((told, session.figures().fold.left_out), (100, 150));
}

/// Two quick nodes and one that is far behind them, because it was cut off or is slow: they leave its updates out, until it
/// has seen them go on and taken over their epoch. What it has learned meanwhile is in what it takes over with.
#[tokio::test]
async fn who_has_fallen_behind_too_far_to_be_heard_finds_back() {
    let (_storage, peers) = peers(3);
    let events: [Recorder; 3] = Default::default();
    let mut nodes: Vec<AsyncNode> =
        peers.iter().zip(&events).map(|(peer, events)| node(peer, events, AsyncOptions::default())).collect();
    let of_slow = |fold: &Vec<String>| fold.contains(&peers[2].id.to_string());
    for epoch in 1..=20 {
        for quick in &mut nodes[..2] {
            patiently(quick.exchange(&local(epoch, 1.0))).await.unwrap();
        }
        if epoch == 19 {
            // Ten epochs behind are not too old yet, eleven are.
            let (_, epoch) = patiently(nodes[2].exchange(&local(9, 4.0))).await.unwrap();
            assert_eq!(epoch, 9);
        }
    }
    let (weights, epoch) = patiently(nodes[2].exchange(&local(9, 4.0))).await.unwrap();
    assert_eq!((value_of(&weights), epoch), (2.0, 20));
    let caught_up = events[2].pick(|event| match event {
        Event::CaughtUp { from, epoch } => Some((*from, *epoch)),
        _ => None,
    });
    assert_eq!(caught_up, [(9, 20)]);
    patiently(nodes[0].exchange(&local(21, 1.0))).await.unwrap();
    assert!(!of_slow(events[0].folded_authors().last().unwrap()));
    patiently(nodes[2].exchange(&local(21, 4.0))).await.unwrap();
    patiently(nodes[0].exchange(&local(22, 1.0))).await.unwrap();
    assert!(of_slow(events[0].folded_authors().last().unwrap()));
}

/// Half of the others can't set anybody's epoch.
#[tokio::test]
async fn one_peer_that_claims_to_be_far_ahead_takes_nobody_along() {
    let (_storage, peers) = peers(2);
    peers[1].publish(1000, 3.0).await;
    let (weights, epoch) =
        patiently(node(&peers[0], &Recorder::new(), AsyncOptions::default()).exchange(&local(1, 1.0))).await.unwrap();
    assert_eq!((value_of(&weights), epoch), (2.0, 1));
}

/// Nor can all of them, by saying so.
#[tokio::test]
async fn a_majority_that_claims_to_be_far_ahead_takes_nobody_along_and_leaves_nobody_out() {
    for claim in [500, 999_999_999] {
        let (_storage, peers) = peers(7);
        let events: [Recorder; 2] = Default::default();
        let mut nodes: Vec<AsyncNode> =
            peers.iter().zip(&events).map(|(peer, events)| node(peer, events, AsyncOptions::default())).collect();
        for epoch in 1..=30 {
            if epoch == 5 {
                for (number, liar) in peers[2..].iter().enumerate() {
                    liar.publish(claim, number as f32).await;
                }
            }
            for node in &mut nodes {
                let (_, reached) = patiently(node.exchange(&local(epoch, 1.0))).await.unwrap();
                assert_eq!(reached, epoch);
            }
        }
        for (events, other) in events.iter().zip([&peers[1], &peers[0]]) {
            let folds = events.folded_authors();
            let with_other = folds.iter().filter(|fold| fold.contains(&other.id.to_string())).count();
            assert!(with_other >= 29 && with_other == folds.len(), "{folds:?}");
        }
    }
}

/// A node that was away for hundreds of epochs is heard again as soon as it has seen that the others are real.
#[tokio::test]
async fn peers_hundreds_of_epochs_ahead_are_believed_once_they_have_been_seen_to_go_on() {
    let (_storage, peers) = peers(3);
    let mut node = node(&peers[0], &Recorder::new(), AsyncOptions::default());
    let mut epoch = 10;
    let mut reached = Vec::new();
    for ahead in 500..=506 {
        for peer in &peers[1..] {
            peer.publish(ahead, ahead as f32).await;
        }
        epoch = patiently(node.exchange(&local(epoch + 1, 1.0))).await.unwrap().1;
        reached.push(epoch);
    }
    assert_eq!(reached, [11, 12, 13, 14, 15, 505, 506]);
}

/// Two that were apart: each folds the other's as soon as it sees it, however far they have drifted.
#[tokio::test]
async fn two_that_have_drifted_apart_fold_each_other_again() {
    let (_storage, peers) = peers(2);
    let events: [Recorder; 2] = Default::default();
    let mut nodes: Vec<AsyncNode> =
        peers.iter().zip(&events).map(|(peer, events)| node(peer, events, AsyncOptions::default())).collect();
    for epoch in 1..=40 {
        patiently(nodes[0].exchange(&local(epoch, 1.0))).await.unwrap();
    }
    patiently(nodes[1].exchange(&local(3, 3.0))).await.unwrap();
    patiently(nodes[0].exchange(&local(41, 1.0))).await.unwrap();
    for events in &events {
        assert_eq!(events.folds().last().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn integers_are_those_of_the_newest_update() {
    let counted = |value: f32, count: i64| {
        let tensor = |name: &str, dtype, data: &[u8]| Tensor {
            spec: TensorSpec { name: name.to_owned(), dtype, shape: vec![1] },
            data: data.to_vec().into(),
        };
        let tensors =
            vec![tensor("n", DType::I64, &count.to_le_bytes()), tensor("w", DType::F32, &value.to_le_bytes())];
        Weights::new(tensors).unwrap()
    };
    let (_storage, peers) = peers(3);
    peers[1].publish_weights(4, &counted(2.0, 400), 10).await;
    peers[2].publish_weights(2, &counted(3.0, 200), 10).await;
    let events = Recorder::new();
    let layout = counted(0.0, 0).layout().clone();
    let strategy = StrategySpec::new("fedavg").build().unwrap();
    let participant = peerfold::node::Participant::new(peers[0].folder.clone(), strategy, layout, options(&events));
    let mut node = AsyncNode::new(participant, AsyncOptions::default());
    let update = LocalUpdate { weights: counted(1.0, 300), ..local(3, 0.0) };
    assert_eq!(patiently(node.exchange(&update)).await.unwrap().0, counted(2.0, 400));
}

#[tokio::test]
async fn other_federations_are_invisible_and_those_not_allowed_are_named() {
    let (storage, peers) = peers(3);
    let events = Recorder::new();
    for run in ["2", ""] {
        let stranger = Peer::within(&storage, 5, peerfold::weights::FederationId::new("nodes", run));
        stranger.publish(1, 1000.0).await;
    }
    peers[1].publish(1, 2.0).await;
    peers[2].publish(1, 1000.0).await;
    let membership = Arc::new(Membership::only([peers[1].id]));
    let mut node = strict(&peers[0], ParticipantOptions { membership, ..options(&events) });
    for epoch in 1..=2 {
        let (folded, _) = patiently(node.exchange(&local(epoch, 0.0))).await.unwrap();
        assert_eq!(value_of(&folded), 1.0);
    }
    let rejected = events.rejected();
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].0, peers[2].id.to_string());
    assert!(rejected[0].1.contains("allow-list"));
}

#[test]
fn nodes_can_be_sent_between_threads() {
    fn is_send<T: Send + Sync>() {}
    is_send::<AsyncNode>();
    is_send::<Arc<peerfold::node::SyncNode>>();
}
