//! The decoders of this layer, as fuzzers try them.
#![allow(clippy::unwrap_used)]

use super::{
    Beginning, Checkpoint, FoldedFrom, Origin, Phase, Roster, SavedState, allow_list,
    blobs::Blobs,
    checkpoint::{self, Head},
    progress::{self, SavedProgress},
    sealed,
};
use crate::{
    node::Progress,
    untrusted::{Target, check_told, text, told},
    weights::{
        Metadata, Metric,
        decoders::{keypair, weights},
    },
};
use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

/// Where there is nothing.
const NOWHERE: &str = "/nonexistent/peerfold";

fn file(bytes: &[u8]) {
    let path = Path::new("checkpoint");
    for magic in [checkpoint::MAGIC, progress::MAGIC] {
        told(sealed::opened(path, magic, bytes.to_vec()));
    }
}

/// What a checkpoint's file holds, whose hash is right.
fn checkpoint(body: &[u8]) {
    let path = Path::new("checkpoint");
    let Some(head) = told(Head::decode(path, body)) else { return };
    let again = postcard::to_stdvec(&head).unwrap();
    assert_eq!(postcard::to_stdvec(&Head::decode(path, &again).unwrap()).unwrap(), again);
    // The states have no files, so this ends at them at the latest.
    let blobs = Arc::new(Blobs::new(Path::new(NOWHERE)));
    told(head.with(path, &blobs));
}

fn middle(body: &[u8]) {
    let path = Path::new("progress");
    let Some(saved) = told(SavedProgress::decode(path, body)) else { return };
    let again = postcard::to_stdvec(&saved).unwrap();
    assert_eq!(postcard::to_stdvec(&SavedProgress::decode(path, &again).unwrap()).unwrap(), again);
    told(saved.load(Path::new(NOWHERE), &Arc::new(Blobs::new(Path::new(NOWHERE)))));
}

fn beginning() -> Beginning {
    Beginning {
        origin: Origin::Seed,
        weights: weights().manifest().root().to_string(),
        epoch: 3,
        hyperparameters: [("lr", "0.01"), ("batch-size", "32")].map(|(name, text)| (name.into(), text.into())).into(),
        distinct: [("data-part".to_owned(), "1/4".to_owned())].into(),
    }
}

fn saved() -> [Vec<u8>; 2] {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Arc::new(Blobs::new(dir.path()));
    let peer = keypair(1).public().to_peer_id();
    let metrics: Vec<Metric> = Metadata::default().with_metrics([("loss", 0.5)]).metrics;
    let checkpoint = Checkpoint {
        phase: Phase::Unpublished { num_examples: 600, metrics },
        epoch: 3,
        weights: weights(),
        trainer: SavedState::from(&b"moments"[..]),
        strategy: ("fedadam".to_owned(), SavedState::from(&b"state"[..])),
        roster: Roster::default(),
        members: vec![peer.to_bytes()],
        beginning: beginning(),
        folded_from: vec![FoldedFrom { author: peer.to_string(), epoch: 3, num_examples: 600, weight: 0.5 }],
    };
    checkpoint.save(dir.path(), &blobs, None).unwrap();
    let progress = Progress { epoch: 4, steps: 17, weights: weights(), trainer: SavedState::from(&b"moments"[..]) };
    progress.save(dir.path(), &blobs, blake3::hash(b"base")).unwrap();
    [Checkpoint::path(dir.path()), Progress::path(dir.path())].map(|path| fs::read(path).unwrap())
}

fn bodies(of: usize) -> Vec<Vec<u8>> {
    let start = checkpoint::MAGIC.len() + sealed::HASH_BYTES;
    vec![saved()[of][start..].to_vec()]
}

/// What a peer says of how it began: what differs is told to people.
fn start(bytes: &[u8]) {
    let Some(theirs) = told(Beginning::parse(bytes)) else { return };
    let ours = beginning();
    for lines in [ours.differences(&theirs), ours.changes(&theirs)] {
        assert!(lines.len() <= 21 && lines.iter().all(|line| line.chars().count() <= 200));
        lines.iter().for_each(check_told);
    }
    let json = serde_json::to_vec(&theirs).unwrap();
    assert_eq!(Beginning::parse(&json).unwrap(), theirs);
}

fn starts() -> Vec<Vec<u8>> {
    let many = (0..100).map(|n| (format!("name-{n}"), "\u{1b}[31m\n".to_owned())).collect::<BTreeMap<_, _>>();
    let other = Beginning { hyperparameters: many, weights: "x".to_owned(), ..beginning() };
    [beginning(), other].iter().map(|beginning| serde_json::to_vec(beginning).unwrap()).collect()
}

fn allow_list(bytes: &[u8]) {
    told(allow_list::parse(Path::new("sites.txt"), &text(bytes)));
}

fn lists() -> Vec<Vec<u8>> {
    let peer = keypair(1).public().to_peer_id();
    vec![format!("{peer} Ward 3\n{peer} \x1b[31m\n").into_bytes()]
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    vec![
        Target { name: "checkpoint-file", run: file, seeds: || saved().to_vec() },
        Target { name: "checkpoint", run: checkpoint, seeds: || bodies(0) },
        Target { name: "progress", run: middle, seeds: || bodies(1) },
        Target { name: "start", run: start, seeds: starts },
        Target { name: "allow-list", run: allow_list, seeds: lists },
    ]
}
