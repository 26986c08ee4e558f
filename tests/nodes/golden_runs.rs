//! Asynchronous nodes against whole runs of flwr-serverless.

use crate::{golden, nodes};

use golden::{GoldenRun, numbers};
use libp2p_identity::PeerId;
use nodes::{Peer, Recorder, options, patiently};
use peerfold::{
    folder::MemoryStorage,
    node::{
        AsyncNode, AsyncOptions, Beginning, Checks, Event, LocalUpdate, Origin, Participant, ParticipantOptions,
        Session,
    },
    weights::Metric,
};
use std::collections::BTreeMap;

/// Each event of the file is an epoch of a node: what it puts, takes and folds must give the file's bits, and peers are
/// in the order of their ids.
#[tokio::test]
async fn whole_runs_of_flwr_serverless_to_the_bit() {
    let files = golden::files("flwr-serverless", &["async_FedAvg"]);
    assert!(files.len() >= 2);
    for path in files {
        patiently(replay(&golden::read(&path), &path.display().to_string())).await;
    }
}

async fn replay(run: &GoldenRun, place: &str) {
    let (storage, initial) = (MemoryStorage::new(), golden::weights(&run.initial));
    let mut sessions: BTreeMap<&str, (Session, Recorder, u64)> = BTreeMap::new();
    for event in &run.events {
        if sessions.contains_key(event.node.as_str()) {
            continue;
        }
        let number: usize = event.node.strip_prefix("node").unwrap().parse().unwrap();
        let (peer, recorder) = (Peer::new(&storage, number), Recorder::new());
        let strategy = run.spec().build().unwrap();
        let layout = initial.layout().clone();
        // The reference believes every claim of examples.
        let checks = Checks { max_examples_ratio: 1e9, max_norm_ratio: 1e9, ..Checks::default() };
        let options = ParticipantOptions { checks, ..options(&recorder) };
        let participant = Participant::new(peer.folder.clone(), strategy, layout, options);
        let node = AsyncNode::new(participant, AsyncOptions::default());
        let mut session = Session::new(node, nodes::session_options());
        // Nobody has published yet, so x is the file's initial weights for every node.
        let begun = session.begin((initial.clone(), Origin::Seed), Default::default()).await.unwrap();
        assert_eq!((begun.epoch, begun.weights), (0, initial.clone()));
        sessions.insert(&event.node, (session, recorder, 0));
    }
    assert!(sessions.len() >= 3, "{place}");
    for (number, event) in run.events.iter().enumerate() {
        let (session, recorder, epoch) = sessions.get_mut(event.node.as_str()).unwrap();
        *epoch += 1;
        let metrics = event.metrics.iter().map(|(name, &value)| Metric { name: name.clone(), value }).collect();
        let weights = golden::weights(&event.input);
        let local = LocalUpdate { weights, epoch: *epoch, num_examples: event.num_examples, metrics };
        let completed = session.epoch_trained(local, Default::default()).await.unwrap();
        let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
        let expected: Vec<f32> = event.output.iter().flat_map(|array| &array.data).map(|&value| value as f32).collect();
        assert_eq!(bits(&numbers(&completed.weights)), bits(&expected), "{place} event {number}");
        for fold in recorder.folds() {
            let peers: Vec<PeerId> = fold[1..].iter().map(|update| update.author.parse().unwrap()).collect();
            assert!(fold[0].own && peers.is_sorted(), "{fold:?}");
        }
    }
    for (_, recorder, _) in sessions.values() {
        let rounds = recorder.pick(|event| match event {
            Event::Folded { round, .. } => Some(*round),
            _ => None,
        });
        assert!(rounds.iter().copied().eq(1..=rounds.len() as u64), "{rounds:?}");
        assert_eq!(recorder.rejected(), []);
    }
}

/// What a start says can be read by whoever looks into the folder.
#[tokio::test]
async fn a_beginning_is_json() {
    let beginning = Beginning {
        origin: Origin::Seed,
        weights: "00".to_owned(),
        epoch: 0,
        hyperparameters: BTreeMap::new(),
        distinct: BTreeMap::new(),
    };
    let json = serde_json::to_string(&beginning).unwrap();
    assert_eq!(json, r#"{"origin":"seed","weights":"00","epoch":0,"hyperparameters":{}}"#);
}
