//! How a node without a checkpoint begins.

use crate::nodes;

use nodes::{Peer, Recorder, faulty::FaultyFolder, local, options, patiently, peers, value_of, weights};
use peerfold::{
    entries::Membership,
    node::{
        AsyncNode, AsyncOptions, Begun, Event, Members, NodeError, Origin, ParticipantOptions, Session, SessionOptions,
        StartOptions, Stop, SyncNode, SyncOptions,
    },
    strategy::StrategySpec,
    weights::Weights,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

/// Far longer than any case waits.
const NEVER: Duration = Duration::from_secs(3600);

fn wanting(min_peers: usize, deadline: Duration) -> SessionOptions {
    let start = StartOptions { min_peers, deadline };
    let hyperparameters = BTreeMap::from([("lr".to_owned(), "0.1".to_owned())]);
    SessionOptions { start, hyperparameters, ..nodes::session_options() }
}

fn session(peer: &Peer, events: &Recorder, options: SessionOptions) -> Session {
    Session::new(AsyncNode::new(peer.participant(events), AsyncOptions::default()), options)
}

async fn begin(session: &mut Session) -> Result<Begun, NodeError> {
    patiently(session.begin((weights(0.5), Origin::Seed), Default::default())).await
}

fn mismatch(event: &Event) -> Option<(String, Vec<String>)> {
    match event {
        Event::Mismatch { author, differences } => Some((author.clone(), differences.clone())),
        _ => None,
    }
}

fn mismatches(events: &Recorder) -> Vec<(String, Vec<String>)> {
    events.pick(mismatch)
}

#[tokio::test]
async fn alone_it_begins_with_the_initial_weights_and_says_so_in_its_first_entry() {
    let (_storage, peers) = peers(2);
    let events = Recorder::new();
    let begun = begin(&mut session(&peers[0], &events, wanting(0, NEVER))).await.unwrap();
    assert_eq!(begun, Begun { weights: weights(0.5), epoch: 0, origin: Origin::Seed, trainer: None, progress: None });
    let root = weights(0.5).manifest().root().to_string();
    let started = events.pick(|event| match event {
        Event::Started { root, authors, epoch, .. } => Some((root.clone(), authors.len(), *epoch)),
        _ => None,
    });
    assert_eq!(started, [(root.clone(), 0, 0)]);
    let entries = peers[1].folder.list("").await.unwrap();
    let names: Vec<_> = entries.iter().map(|entry| (entry.key.author(), entry.key.name())).collect();
    assert_eq!(names, [(peers[0].id, "start")]);
    let value = peers[1].folder.get(&entries[0]).await.unwrap();
    let said: serde_json::Value =
        serde_json::from_slice(peerfold::weights::read_all(&value).unwrap().artifact_bytes().unwrap()).unwrap();
    assert_eq!(said["weights"], root);
    assert_eq!(said["hyperparameters"]["lr"], "0.1");
}

#[tokio::test]
async fn with_updates_there_it_begins_from_their_mean_and_their_lower_median_epoch() {
    for strategy in [StrategySpec::new("fedavg"), StrategySpec::new("fedavgm").with("server_momentum", 0.9)] {
        let (_storage, peers) = peers(5);
        for (peer, (epoch, value)) in peers[1..].iter().zip([(3, 1.0), (5, 2.0), (9, 3.0), (9, 6.0)]) {
            peer.publish(epoch, value).await;
        }
        let events = Recorder::new();
        let participant = peers[0].participant_with(&strategy, options(&events));
        let mut session = Session::new(AsyncNode::new(participant, AsyncOptions::default()), wanting(4, NEVER));
        let begun = begin(&mut session).await.unwrap();
        assert_eq!((value_of(&begun.weights), begun.epoch, begun.origin), (3.0, 5, Origin::Fold));
        // It is no fold of its own, and it is from here that the strategy takes its steps.
        assert!(events.folds().is_empty());
        for peer in &peers[1..] {
            peer.publish(10, 3.0).await;
        }
        patiently(session.epoch_trained(local(6, 3.0), Default::default())).await.unwrap();
        let rounds = events.pick(|event| match event {
            Event::Folded { round, .. } => Some(*round),
            _ => None,
        });
        assert_eq!(rounds, [1]);
    }
}

/// Nor does any number of authors whose values never come keep a newcomer from those that do.
#[tokio::test]
async fn in_a_crowd_that_gives_nothing_it_begins_from_all_who_give() {
    let (storage, peers) = peers(4);
    let crowd: Vec<Peer> = (0..300).map(|_| Peer::stranger(&storage)).collect();
    for stranger in &crowd {
        stranger.publish(4, 90.0).await;
    }
    for (peer, value) in peers[1..].iter().zip([1.0, 2.0, 6.0]) {
        peer.publish(4, value).await;
    }
    let folder = FaultyFolder::new(peers[0].folder.clone());
    folder.set(|faults| {
        faults.dead = crowd.iter().map(|stranger| stranger.id).collect();
        faults.away = crowd.iter().chain(&peers[1..]).map(|peer| peer.id).collect();
    });
    let events = Recorder::new();
    let participant = nodes::participant(Arc::new(folder), &StrategySpec::new("fedavg"), options(&events));
    let node = AsyncNode::new(participant, AsyncOptions::default());
    let begun = begin(&mut Session::new(node, nodes::session_options())).await.unwrap();
    assert_eq!((begun.origin, begun.epoch, value_of(&begun.weights)), (Origin::Fold, 4, 3.0));
}

/// Most of those that are there claim a far epoch: it begins where the others are, and goes on from there.
#[tokio::test]
async fn a_majority_that_claims_a_far_epoch_lets_no_newcomer_end_untrained() {
    for claim in [500, 999_999_999] {
        let (_storage, peers) = peers(8);
        for (peer, epoch) in peers[1..3].iter().zip([7, 9]) {
            peer.publish(epoch, 1.0).await;
        }
        for liar in &peers[3..] {
            liar.publish(claim, 1.0).await;
        }
        let events = Recorder::new();
        let mut session = session(&peers[0], &events, wanting(0, NEVER));
        assert_eq!(begin(&mut session).await.unwrap().epoch, 7);
        for epoch in 8..=20 {
            let completed = patiently(session.epoch_trained(local(epoch, 1.0), Default::default())).await.unwrap();
            assert_eq!(completed.epoch, epoch);
        }
        // Honest peers alone, at such an epoch, are joined there.
        let (_storage, peers) = nodes::peers(3);
        for (peer, epoch) in peers[1..].iter().zip([claim, claim + 3]) {
            peer.publish(epoch, 1.0).await;
        }
        let begun = begin(&mut self::session(&peers[0], &events, wanting(0, NEVER))).await.unwrap();
        assert_eq!(begun.epoch, claim);
    }
}

/// One of two has published its first epoch before the other has looked: both train the first epoch and fold it.
#[tokio::test]
async fn synchronous_members_that_start_together_start_together() {
    let (_storage, peers) = peers(2);
    let sync = |peer: &Peer, events: &Recorder| {
        let options =
            SyncOptions { nodes: 2, quorum: 2, deadline: NEVER, below_quorum: peerfold::node::BelowQuorum::Wait };
        let node = SyncNode::new(peer.participant(events), options, Members::first_seen(peer.id, 2));
        Session::new(node, wanting(0, NEVER))
    };
    let (first_events, events) = (Recorder::new(), Recorder::new());
    let mut first = sync(&peers[0], &first_events);
    assert_eq!(begin(&mut first).await.unwrap().epoch, 0);
    let task = tokio::spawn(async move {
        patiently(first.epoch_trained(local(1, 1.0), Default::default())).await.unwrap();
    });
    first_events.wait_for(|event| matches!(event, Event::Published { .. }).then_some(())).await;
    let mut second = sync(&peers[1], &events);
    let begun = begin(&mut second).await.unwrap();
    assert_eq!((begun.epoch, begun.origin, value_of(&begun.weights)), (0, Origin::Seed, 0.5));
    let folded = patiently(second.epoch_trained(local(1, 3.0), Default::default())).await.unwrap();
    assert_eq!((folded.epoch, value_of(&folded.weights)), (1, 2.0));
    patiently(task).await.unwrap();
    for fold in first_events.folds().iter().chain(&events.folds()) {
        assert!(fold.iter().all(|update| update.epoch == 1), "{fold:?}");
    }
    // A node that comes when they are further along begins from their fold.
    let (_storage, peers) = nodes::peers(2);
    peers[0].publish(2, 7.0).await;
    assert_eq!(begin(&mut sync(&peers[1], &Recorder::new())).await.unwrap().epoch, 2);
}

#[tokio::test]
async fn being_alone_is_said_at_the_start_and_at_the_end() {
    let alone = |events: &Recorder| {
        events.pick(|event| match event {
            Event::Alone { reason, ended, .. } => Some((reason.clone(), *ended)),
            _ => None,
        })
    };
    let (_storage, peers) = peers(2);
    let events = Recorder::new();
    let mut node = session(&peers[0], &events, wanting(0, NEVER));
    begin(&mut node).await.unwrap();
    assert_eq!(
        alone(&events),
        [("nobody else is in federation test yet: nobody else has published in the folder; training alone until somebody comes".into(), false)]
    );
    patiently(node.epoch_trained(local(1, 1.0), Default::default())).await.unwrap();
    patiently(node.finish()).await.unwrap();
    patiently(node.finish()).await.unwrap();
    let told = alone(&events);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[1], ("no update of a peer was folded in federation test in this run".to_owned(), true));

    let events = Recorder::new();
    let mut other = session(&peers[1], &events, wanting(0, NEVER));
    begin(&mut other).await.unwrap();
    patiently(other.epoch_trained(local(2, 1.0), Default::default())).await.unwrap();
    patiently(other.finish()).await.unwrap();
    assert_eq!(alone(&events), []);
}

#[tokio::test]
async fn what_does_not_count_later_does_not_count_at_the_start() {
    let (_storage, peers) = peers(4);
    peers[1].publish(2, f32::NAN).await;
    peers[2].publish(2, 4.0).await;
    peers[3].publish(2, 9.0).await;
    let events = Recorder::new();
    let membership = Arc::new(Membership::only([peers[1].id, peers[2].id]));
    let strategy = StrategySpec::new("fedavg");
    let participant = peers[0].participant_with(&strategy, ParticipantOptions { membership, ..options(&events) });
    let mut session = Session::new(AsyncNode::new(participant, AsyncOptions::default()), wanting(2, NEVER));
    assert_eq!(value_of(&begin(&mut session).await.unwrap().weights), 4.0);
    assert_eq!(events.rejected().len(), 2);
}

#[tokio::test]
async fn it_waits_for_peers_until_they_announce_themselves() {
    let (_storage, peers) = peers(4);
    let events = Recorder::new();
    let membership = Arc::new(Membership::only([peers[1].id, peers[2].id]));
    let strategy = StrategySpec::new("fedavg");
    let participant = peers[0].participant_with(&strategy, ParticipantOptions { membership, ..options(&events) });
    let mut session = Session::new(AsyncNode::new(participant, AsyncOptions::default()), wanting(2, NEVER));
    let task = tokio::spawn(async move { begin(&mut session).await });
    let present = |wanted| {
        move |event: &Event| match event {
            Event::Waiting { epoch: 0, present, needed: 2, .. } if *present == wanted => Some(()),
            _ => None,
        }
    };
    events.wait_for(present(0)).await;
    // Who isn't allowed is nobody to wait for; its own start is announced meanwhile.
    peers[3].publish_start("{}").await;
    assert!(peers[3].folder.list(&peers[0].id.to_string()).await.unwrap().len() == 1);
    peers[1].publish_start("{}").await;
    events.wait_for(present(1)).await;
    peers[2].publish(7, 3.0).await;
    let begun = patiently(task).await.unwrap().unwrap();
    assert_eq!((value_of(&begun.weights), begun.epoch), (3.0, 7));
    assert_eq!(events.waiting(), [0, 1]);
}

#[tokio::test]
async fn the_start_deadline_passes_and_a_stop_ends_the_wait() {
    let (_storage, peers) = peers(2);
    let begun = begin(&mut session(&peers[0], &Recorder::new(), wanting(5, Duration::from_millis(20)))).await.unwrap();
    assert_eq!(begun.origin, Origin::Seed);
    let events = Recorder::new();
    // No moment is that far ahead.
    let options = wanting(5, Duration::MAX);
    let stop = options.stop.clone();
    let mut waiting = session(&peers[1], &events, options);
    let task = tokio::spawn(async move { begin(&mut waiting).await });
    events.wait_for(|event| matches!(event, Event::Waiting { .. }).then_some(())).await;
    stop.request();
    assert!(matches!(patiently(task).await.unwrap(), Err(NodeError::Stopped)));
}

#[tokio::test]
async fn with_its_checkpoint_lost_it_goes_on_from_its_own_update_above_its_own_numbers() {
    let storage = peerfold::folder::MemoryStorage::new();
    let mut highest = 0;
    for life in 0..3 {
        // A new home state under the old identity: its numbers would begin at 1.
        let (peer, events) = (Peer::new(&storage, 0), Recorder::new());
        let mut session = session(&peer, &events, wanting(0, NEVER));
        let begun = begin(&mut session).await.unwrap();
        assert_eq!((begun.epoch, begun.origin == Origin::Fold), (2 * life, life > 0));
        if life > 0 {
            assert_eq!(begun.weights, weights(10.0 * (2 * life) as f32));
        }
        for epoch in begun.epoch + 1..=begun.epoch + 2 {
            let update = local(epoch, 10.0 * epoch as f32);
            patiently(session.epoch_trained(update, Default::default())).await.unwrap();
        }
        let sequences = events.pick(|event| match event {
            Event::Published { sequence, .. } => Some(*sequence),
            _ => None,
        });
        assert!(sequences[0] > highest && sequences.is_sorted());
        highest = sequences[1];
    }
}

#[tokio::test]
async fn what_differs_from_a_peer_is_told_once_by_name() {
    let (_storage, peers) = peers(4);
    let mut others: Vec<_> =
        peers[1..3].iter().map(|peer| session(peer, &Recorder::new(), wanting(0, NEVER))).collect();
    for other in &mut others {
        let initial: (Weights, _) = (weights(0.75), Origin::Init);
        patiently(other.begin(initial, Default::default())).await.unwrap();
    }
    let events = Recorder::new();
    let mut options = wanting(0, NEVER);
    options.hyperparameters =
        BTreeMap::from([("lr".to_owned(), "0.2".to_owned()), ("skew".to_owned(), "1".to_owned())]);
    let mut node = session(&peers[0], &events, options);
    begin(&mut node).await.unwrap();
    for epoch in 1..=3 {
        patiently(node.epoch_trained(local(epoch, 1.0), Default::default())).await.unwrap();
    }
    let told = events.wait_for_all(2, mismatch).await;
    let authors: Vec<_> = told.iter().map(|(author, _)| author.clone()).collect();
    // Both said the very same.
    assert_eq!(authors, [peers[1].id.to_string(), peers[2].id.to_string()]);
    let short = |weights: Weights| weights.manifest().root().short();
    let first = format!("first weights: {}, here {}", short(weights(0.75)), short(weights(0.5)));
    assert_eq!(told[0].1, [&first, "lr: 0.1, here 0.2", "skew: not set, here 1"]);
    // Said in other words, it is no news; another difference is.
    let root = weights(0.75).manifest().root();
    for (epoch, lr) in [(4, "0.1"), (5, "0.3")] {
        let start =
            format!(r#"{{"origin":"init","weights":"{root}","epoch":{epoch},"hyperparameters":{{"lr":"{lr}"}}}}"#);
        peers[1].publish_start(start).await;
        patiently(node.epoch_trained(local(epoch, 1.0), Default::default())).await.unwrap();
    }
    events.wait_for_all(3, mismatch).await;
    patiently(node.finish()).await.unwrap();
    assert_eq!(mismatches(&events).len(), 3);
}

#[tokio::test]
async fn who_has_what_each_should_have_to_itself_is_told_and_who_changes_its_own_too() {
    let (_storage, peers) = peers(5);
    let part = |part: &str| SessionOptions {
        distinct: BTreeMap::from([("partition".to_owned(), part.to_owned())]),
        ..wanting(0, NEVER)
    };
    let events: Vec<Recorder> = (0..4).map(|_| Recorder::new()).collect();
    let options = [part("0/2"), part("1/2"), part("0/2"), wanting(0, NEVER)];
    // One of an older version says nothing of it.
    let root = weights(0.5).manifest().root();
    peers[4]
        .publish_start(format!(r#"{{"origin":"seed","weights":"{root}","epoch":0,"hyperparameters":{{"lr":"0.1"}}}}"#))
        .await;
    let mut nodes: Vec<_> =
        options.into_iter().enumerate().map(|(at, options)| session(&peers[at], &events[at], options)).collect();
    for node in &mut nodes {
        begin(node).await.unwrap();
    }
    for node in &mut nodes {
        patiently(node.epoch_trained(local(1, 1.0), Default::default())).await.unwrap();
    }
    let told = |of: usize| {
        let difference = "partition: 0/2, here the same, but each node should have its own".to_owned();
        vec![(peers[of].id.to_string(), vec![difference])]
    };
    for at in [0, 2] {
        events[at].wait_for(mismatch).await;
    }
    for node in &mut nodes {
        patiently(node.finish()).await.unwrap();
    }
    let all: Vec<_> = events.iter().map(mismatches).collect();
    assert_eq!(all, [told(2), vec![], told(0), vec![]]);

    let dir = tempfile::tempdir().unwrap();
    let (_storage, peers) = nodes::peers(1);
    let mut said = Vec::new();
    for part_now in ["0/2", "0/2", "1/2", "1/2"] {
        let events = Recorder::new();
        let options = SessionOptions { run_dir: Some(dir.path().to_owned()), ..part(part_now) };
        let mut node = session(&peers[0], &events, options);
        let epoch = begin(&mut node).await.unwrap().epoch + 1;
        patiently(node.epoch_trained(local(epoch, 1.0), Default::default())).await.unwrap();
        said.push(mismatches(&events));
    }
    let changed = vec![(peers[0].id.to_string(), vec!["partition: 1/2, until this start 0/2".to_owned()])];
    assert_eq!(said, [vec![], vec![], changed, vec![]]);
}

/// What a peer says of its start comes only in the middle of an epoch: whoever waited for it before would never have it.
#[tokio::test]
async fn starts_are_compared_beside_the_epochs() {
    let (_storage, peers) = peers(2);
    peers[1].publish_start(r#"{"origin":"seed","weights":"","epoch":0,"hyperparameters":{"lr":"0.5"}}"#).await;
    let events = Recorder::new();
    let folder = FaultyFolder::new(peers[0].folder.clone());
    folder.set(|faults| faults.starts_wait = Some(Arc::default()));
    let participant = nodes::participant(Arc::new(folder), &StrategySpec::new("fedavg"), options(&events));
    let mut node = Session::new(AsyncNode::new(participant, AsyncOptions::default()), wanting(0, NEVER));
    begin(&mut node).await.unwrap();
    assert_eq!(mismatches(&events), []);
    let epochs = async {
        let mut epoch = 0;
        while mismatches(&events).is_empty() {
            epoch += 1;
            node.epoch_trained(local(epoch, 1.0), Default::default()).await.unwrap();
        }
    };
    patiently(epochs).await;
    assert_eq!(mismatches(&events)[0].0, peers[1].id.to_string());
}

#[tokio::test]
async fn of_many_starts_a_few_are_compared_at_a_time_until_all_are() {
    let mut told = Vec::new();
    for me in [0, 0, 1] {
        let (_storage, peers) = peers(40);
        for (_, peer) in peers.iter().enumerate().filter(|(at, _)| *at != me) {
            peer.publish_start(r#"{"origin":"seed","weights":"","epoch":0,"hyperparameters":{"lr":"0.5"}}"#).await;
        }
        let events = Recorder::new();
        let mut node = session(&peers[me], &events, wanting(0, NEVER));
        begin(&mut node).await.unwrap();
        events.wait_for_all(16, mismatch).await;
        patiently(node.finish()).await.unwrap();
        let first: Vec<String> = mismatches(&events).into_iter().map(|(author, _)| author).collect();
        assert!(
            first.len() == 16 && first.is_sorted_by_key(|author| author.parse::<libp2p_identity::PeerId>().unwrap())
        );
        told.push(first);
        for epoch in 1..=2 {
            patiently(node.epoch_trained(local(epoch, 1.0), Default::default())).await.unwrap();
            events.wait_for_all(39.min(16 * (epoch as usize + 1)), mismatch).await;
        }
        patiently(node.finish()).await.unwrap();
        let authors: BTreeSet<String> = mismatches(&events).into_iter().map(|(author, _)| author).collect();
        assert_eq!((authors.len(), mismatches(&events).len()), (39, 39));
    }
    // A node's sample is its own.
    assert!(told[0] == told[1] && told[0] != told[2]);
}

#[tokio::test]
async fn what_a_node_goes_on_with_is_published_if_it_is_to_be() {
    let (_storage, peers) = peers(2);
    peers[1].publish(1, 3.0).await;
    let mut with = session(&peers[0], &Recorder::new(), SessionOptions { publish_folded: true, ..wanting(1, NEVER) });
    begin(&mut with).await.unwrap();
    let folded = patiently(with.epoch_trained(local(2, 1.0), Default::default())).await.unwrap();
    assert_eq!(value_of(&folded.weights), 2.0);
    let entries = peers[1].folder.list(&peers[0].id.to_string()).await.unwrap();
    let of = |name: &str| entries.iter().find(|entry| entry.key.name() == name).unwrap();
    let read = async |name: &str| peerfold::weights::read_all(&peers[1].folder.get(of(name)).await.unwrap()).unwrap();
    assert_eq!(value_of(&read("update/2").await), 1.0);
    assert_eq!(read("model").await, folded.weights);
    let metadata = of("model").metadata().unwrap();
    assert_eq!((metadata.epoch, metadata.num_examples, metadata.metric("folded")), (2, 20, Some(2.0)));
    // By default nothing is.
    let mut without = session(&peers[1], &Recorder::new(), wanting(1, NEVER));
    begin(&mut without).await.unwrap();
    patiently(without.epoch_trained(local(3, 1.0), Default::default())).await.unwrap();
    let models = peers[0].folder.list("").await.unwrap().into_iter().filter(|entry| entry.key.name() == "model");
    assert_eq!(models.count(), 1);
}

#[tokio::test]
async fn a_hostile_start_harms_nothing() {
    let (_storage, peers) = peers(8);
    let evil = "\u{1b}]0;x\u{7}\r\n".escape_default().to_string();
    let evil_json = serde_json::to_string("\u{1b}]0;x\u{7}\r\n").unwrap();
    let many: Vec<String> = (0..3000).map(|name| format!(r#""{name}":"x""#)).collect();
    let start = |weights: &str, hyperparameters: &str| {
        format!(r#"{{"origin":"seed","weights":{weights},"epoch":0,"hyperparameters":{{{hyperparameters}}}}}"#)
    };
    peers[1].publish_start(vec![b'['; 3_000_000]).await;
    peers[2].publish_start(vec![b'['; 60_000]).await;
    peers[3].publish_start(b"\xff\xfe{}".to_vec()).await;
    peers[4].publish_start(start(&evil_json, &format!("{evil_json}:{evil_json}"))).await;
    peers[5].publish_start(start(r#""é""#, &many.join(","))).await;
    peers[6].publish_start(Vec::new()).await;
    let long = "y".repeat(50_000);
    peers[7].publish_start(start(r#""00""#, &format!(r#""{long}":"{long}""#).replace(&evil, ""))).await;
    let events = Recorder::new();
    let mut node = session(&peers[0], &events, wanting(7, NEVER));
    assert_eq!(begin(&mut node).await.unwrap().epoch, 0);
    for epoch in 1..=2 {
        patiently(node.epoch_trained(local(epoch, 1.0), Default::default())).await.unwrap();
    }
    events.wait_for_all(2, mismatch).await;
    patiently(node.finish()).await.unwrap();
    let told = mismatches(&events);
    let authors: Vec<_> = told.iter().map(|(author, _)| author.clone()).collect();
    assert_eq!(authors, [4, 5].map(|at| peers[at].id.to_string()));
    for line in told.iter().flat_map(|(_, differences)| differences) {
        assert!(!line.contains(char::is_control) && line.chars().count() <= 200, "{line:?}");
    }
    assert!(told.iter().all(|(_, differences)| differences.len() <= 21));
    assert!(told[1].1[20].starts_with("and "));
}

/// It would begin from less than is there.
#[tokio::test]
async fn a_stop_ends_the_wait_for_what_a_node_begins_with() {
    let (_storage, peers) = peers(2);
    let (folder, stop) = (FaultyFolder::new(peers[0].folder.clone()), Stop::new());
    peers[1].publish(1, 2.0).await;
    let fetched = Arc::new(Notify::new());
    let (asked, request) = (fetched.clone(), stop.clone());
    folder.before_get(move || async move {
        // The fetch is under way, and goes on after the stop.
        request.request();
        asked.notified().await;
    });
    folder.set(|faults| faults.away = vec![peers[1].id]);
    let participant = nodes::participant(Arc::new(folder), &StrategySpec::new("fedavg"), options(&Recorder::new()));
    let options = SessionOptions { stop, ..nodes::session_options() };
    let mut session = Session::new(AsyncNode::new(participant, AsyncOptions::default()), options);
    let error = patiently(session.begin((weights(0.5), Origin::Seed), Default::default())).await.unwrap_err();
    assert!(matches!(error, NodeError::Stopped), "{error}");
    let published = peers[1].folder.list(&format!("{}/update", peers[0].id)).await.unwrap();
    assert!(published.is_empty(), "it has begun from nothing: {published:?}");
}
