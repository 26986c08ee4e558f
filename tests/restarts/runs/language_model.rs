//! A language model learns with others and survives a restart, by the same loop as a classifier.

use super::bigrams::{Bigrams, TOKENS, text};
use fail::FailScenario;
use peerfold::prelude::*;
use std::{path::Path, sync::Arc, sync::Mutex, thread, time::Duration};

const EPOCHS: u64 = 6;

/// The perplexities that are told after each epoch, and at the end.
fn federated(dir: &Path, home: &str, text: Vec<usize>, epochs: u64, nodes: usize) -> (Bigrams, Vec<f64>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let mut config = NodeConfig::new("tokens", FolderUrl::Local(dir.join("shared")));
    let heard = told.clone();
    config.events = Arc::new(move |event| {
        if let Event::EpochDone { metrics, .. } | Event::Finished { metrics, .. } = event {
            heard.lock().unwrap().push(metrics["perplexity"]);
        }
    });
    if nodes > 1 {
        let deadline = Duration::from_secs(120);
        config.pace = Pace::Sync(SyncOptions { nodes, quorum: nodes, deadline, below_quorum: BelowQuorum::Stop });
        config.start = StartOptions { min_peers: nodes - 1, deadline };
    }
    let mut bigrams = Bigrams::new(text);
    let run = federate(&config, dir.join(home), &mut bigrams, epochs).unwrap().unwrap();
    assert_eq!(run.epoch(), epochs);
    let told = told.lock().unwrap().clone();
    (bigrams, told)
}

#[test]
fn two_nodes_learn_the_whole_language_of_which_each_has_a_half() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().to_owned();
    let second = thread::spawn(move || federated(&other, "b", text(1, 2), EPOCHS, 2));
    let (mut first, told) = federated(dir.path(), "a", text(0, 2), EPOCHS, 2);
    let (mut second, _) = second.join().unwrap();
    assert_eq!(first.weights().unwrap(), second.weights().unwrap());
    assert_eq!(told.len() as u64, EPOCHS + 1);
    assert!(told.is_sorted_by(|before, after| before >= after), "{told:?}");
    let alone = tempfile::tempdir().unwrap();
    let (lonely, _) = federated(alone.path(), "c", text(0, 2), EPOCHS, 1);
    // Alone it guesses the half that it has never seen: no better than √300 · 1.
    assert!(lonely.perplexity() > (TOKENS as f64).sqrt(), "{}", lonely.perplexity());
    assert!(first.perplexity() < lonely.perplexity() / 2.0, "{} and {}", first.perplexity(), lonely.perplexity());
    assert_eq!(told.last(), Some(&first.perplexity()));
}

#[test]
fn started_again_it_is_the_uninterrupted_run() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let straight = dir.path().join("straight");
    let (mut expected, _) = federated(&straight, "a", text(0, 1), 4, 1);
    let (mut bigrams, _) = federated(dir.path(), "a", text(0, 1), 2, 1);
    assert!(bigrams.weights().unwrap() != expected.weights().unwrap());
    // Nothing is left to train; what is told is of the weights that there are.
    let (_, told) = federated(dir.path(), "a", text(0, 1), 2, 1);
    assert_eq!(told, [bigrams.perplexity()]);
    (bigrams, _) = federated(dir.path(), "a", text(0, 1), 4, 1);
    assert!(bigrams.weights().unwrap() == expected.weights().unwrap(), "other bits after restarts");
}
