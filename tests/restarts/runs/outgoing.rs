//! What acts on weights before they leave the node: peers see what it gives, and see the same after a kill.

use fail::FailScenario;
use peerfold::prelude::*;
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

fn weights(value: f32) -> Weights {
    Weights::from_f32s(&[("w", &[2], &[value, -value])]).unwrap()
}

/// Rounds to sixteenths, and adds noise that no two calls have alike.
#[derive(Clone, Default)]
struct Rounding {
    calls: Arc<AtomicU32>,
    gave: Arc<Mutex<Vec<Weights>>>,
}

impl Outgoing for Rounding {
    fn prepare(&mut self, mut update: LocalUpdate, start: &Weights) -> Result<LocalUpdate, LearnerError> {
        assert_eq!(update.weights.layout(), start.layout());
        let noise = self.calls.fetch_add(1, Ordering::Relaxed) as f32;
        let value = update.weights.f32s("w").ok_or("no w")?[0];
        update.weights = weights((value * 16.0).round() / 16.0 + noise);
        self.gave.lock().unwrap().push(update.weights.clone());
        Ok(update)
    }

    fn needs_start(&self) -> bool {
        true
    }
}

/// Joins and trains to this epoch. Gives the roots that were published.
fn life(dir: &Path, outgoing: &Rounding, last: u64) -> (Vec<String>, Result<Weights, RunError>) {
    let published = Arc::new(Mutex::new(Vec::new()));
    let mut config = NodeConfig::new("rounded", FolderUrl::Local(dir.join("shared")));
    let heard = published.clone();
    config.events = Arc::new(move |event| {
        if let Event::Published { root, .. } = event {
            heard.lock().unwrap().push(root.clone());
        }
    });
    let mut run = Run::join(&config, dir.join("home"), weights(0.5)).unwrap();
    run.set_outgoing(outgoing.clone());
    let mut ended = Ok(());
    while let (Ok(()), Some(epoch)) = (&ended, run.next_epoch(last)) {
        ended = run.epoch_end(weights(epoch as f32 / 10.0), Trained::on(1));
    }
    let weights = ended.map(|()| run.weights().clone());
    drop(run);
    let published = published.lock().unwrap().clone();
    (published, weights)
}

fn roots(weights: &[Weights]) -> Vec<String> {
    weights.iter().map(|weights| weights.manifest().root().to_string()).collect()
}

#[test]
fn peers_see_what_it_gives_and_so_does_the_node_itself() {
    let _scenario = FailScenario::setup();
    let (dir, outgoing) = (tempfile::tempdir().unwrap(), Rounding::default());
    let (published, last) = life(dir.path(), &outgoing, 2);
    let gave = outgoing.gave.lock().unwrap().clone();
    assert_eq!(gave, [weights(2.0 / 16.0), weights(3.0 / 16.0 + 1.0)]);
    assert_eq!(published, roots(&gave));
    assert_eq!(last.unwrap(), gave[1]);
}

#[test]
fn killed_after_the_checkpoint_the_same_root_is_put_and_nothing_is_drawn_again() {
    let _scenario = FailScenario::setup();
    let (dir, outgoing) = (tempfile::tempdir().unwrap(), Rounding::default());
    fail::cfg("session::trained-saved", "1*off->panic").unwrap();
    let (published, killed) = life(dir.path(), &outgoing, 3);
    fail::remove("session::trained-saved");
    assert!(killed.is_err());
    let gave = outgoing.gave.lock().unwrap().clone();
    assert_eq!((gave.len(), published), (2, roots(&gave[..1])));
    let (published, ended) = life(dir.path(), &outgoing, 3);
    ended.unwrap();
    let all = outgoing.gave.lock().unwrap().clone();
    assert_eq!(all.len(), 3, "epoch 2 was prepared once");
    assert_eq!(published, roots(&all[1..]));
}

#[test]
fn killed_before_the_checkpoint_it_is_asked_again_for_nothing_had_left_the_node() {
    let _scenario = FailScenario::setup();
    let (dir, outgoing) = (tempfile::tempdir().unwrap(), Rounding::default());
    fail::cfg("session::trained", "panic").unwrap();
    let (published, killed) = life(dir.path(), &outgoing, 1);
    fail::remove("session::trained");
    assert!(killed.is_err() && published.is_empty());
    let (published, _) = life(dir.path(), &outgoing, 1);
    let gave = outgoing.gave.lock().unwrap().clone();
    assert_eq!((gave.len(), published), (2, roots(&gave[1..])));
}
