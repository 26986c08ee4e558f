//! Nodes that are killed go on as if nothing had happened.

use super::process::{Ended, Running, Sandbox};
use peerfold::node::Event;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{collections::BTreeMap, env, fs, process::Command, thread, time::Duration};

/// Where a node can be killed: before and after each of an epoch's two checkpoints.
const POINTS: [&str; 4] = ["session::trained", "session::trained-saved", "session::folded", "session::folded-saved"];
const EPOCHS: u64 = 6;
/// Runs that are killed at three random moments, unless `PEERFOLD_TEST_KILLS` says how often to kill in all:
/// `PEERFOLD_TEST_KILLS=100 cargo test kill` is the long form of all tests that kill at random moments.
const RANDOM_RUNS: u64 = 6;
/// A node alone folds nothing, so that of its strategy only what it does to training shows.
const FEDAVGM: &[&str] = &["--strategy", "fedavgm"];
const FEDPROX: &[&str] = &["--strategy", "fedprox", "--param", "proximal_mu=0.5"];

/// All that one identity has published, over all its lives.
#[derive(Default)]
struct Published {
    roots: BTreeMap<u64, String>,
    sequences: BTreeMap<u64, (u64, String)>,
}

impl Published {
    /// Panics if an epoch was published with other weights before, or a number was used for something else.
    fn note(&mut self, events: &[Event]) {
        for event in events {
            let Event::Published { epoch, root, sequence, .. } = event else { continue };
            let before = self.roots.entry(*epoch).or_insert_with(|| root.clone());
            assert_eq!(before, root, "epoch {epoch} was published with different weights");
            let this = (*epoch, root.clone());
            let before = self.sequences.entry(*sequence).or_insert_with(|| this.clone());
            assert_eq!(*before, this, "the number {sequence} was used twice");
        }
    }

    /// Whether each epoch was published.
    fn all(&self) -> bool {
        self.roots.keys().copied().eq(1..=EPOCHS)
    }
}

fn node(sandbox: &Sandbox, strategy: &[&str], folder: &str, out: &str) -> Command {
    let mut command = sandbox.node("node", &["--folder", folder, "--skew", "0.3", "--partition", "0/2"]);
    command.args(strategy).args(["--steps-per-epoch", "8", "--out", out, "--epochs", &EPOCHS.to_string()]);
    command
}

/// The model of a run that nobody disturbs.
fn undisturbed(strategy: &[&str]) -> Vec<u8> {
    let sandbox = Sandbox::new();
    Ended::of(node(&sandbox, strategy, "memory:", "model.safetensors")).success();
    fs::read(sandbox.path("model.safetensors")).unwrap()
}

/// Runs a node to its end after lives that `live` ends; gives its model.
fn reborn(
    strategy: &[&str],
    folder: impl Fn(&Sandbox) -> String,
    lives: usize,
    mut live: impl FnMut(usize, Command) -> Ended,
) -> Vec<u8> {
    let sandbox = Sandbox::new();
    let folder = folder(&sandbox);
    let mut published = Published::default();
    for number in 0..lives {
        let killed = live(number, node(&sandbox, strategy, &folder, "model.safetensors"));
        published.note(&killed.events());
    }
    let last = Ended::of(node(&sandbox, strategy, &folder, "model.safetensors")).success();
    published.note(&last.events());
    assert!(published.all(), "{:?}", published.roots);
    fs::read(sandbox.path("model.safetensors")).unwrap()
}

fn memory(_: &Sandbox) -> String {
    "memory:".to_owned()
}

#[test]
fn killed_at_every_step_the_weights_are_the_same() {
    killed_at_every_step(FEDAVGM);
}

#[test]
fn with_a_proximal_term_the_weights_are_the_same_too() {
    let without = undisturbed(FEDAVGM);
    assert!(undisturbed(FEDPROX) != without);
    assert!(undisturbed(&["--strategy", "fedprox", "--param", "proximal_mu=0"]) == without);
    let by_default = undisturbed(&["--strategy", "fedprox"]);
    assert!(by_default != without && by_default == undisturbed(&["--strategy", "FedProx", "--param=proximal_mu=0.01"]));
    killed_at_every_step(FEDPROX);
}

fn killed_at_every_step(strategy: &[&str]) {
    let expected = undisturbed(strategy);
    for folder in [memory, Sandbox::folder] {
        for first in 0..POINTS.len() {
            let weights = reborn(strategy, folder, 3, |life, mut command| {
                let point = POINTS[(first + life) % POINTS.len()];
                // At the second time in the first life, then at once.
                let skip = if life == 0 { "1*off->" } else { "" };
                command.env("FAILPOINTS", format!("{point}={skip}sleep(600000)"));
                let mut node = Running::start(command);
                node.event(|event| matches!(event, Event::Started { .. }));
                // A node alone waits for nothing else.
                node.sleeps();
                assert!(node.is_running(), "{point} was not reached");
                node.kill()
            });
            assert!(weights == expected, "first killed at {}", POINTS[first]);
        }
    }
}

#[test]
fn killed_at_random_moments_the_weights_are_the_same() {
    let expected = undisturbed(FEDAVGM);
    let runs = env::var("PEERFOLD_TEST_KILLS").map_or(RANDOM_RUNS, |kills| kills.parse::<u64>().unwrap().div_ceil(3));
    for seed in 0..runs {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let folder = if seed % 2 == 0 { memory } else { Sandbox::folder };
        let weights = reborn(FEDAVGM, folder, 3, |_, command| {
            let node = Running::start(command);
            // Not to wait for anything: the moment is what is tested.
            thread::sleep(Duration::from_micros(random.random_range(0..150_000)));
            node.kill()
        });
        assert!(weights == expected, "seed {seed}");
    }
}

#[test]
fn killed_among_peers_nothing_is_published_twice() {
    for (sync, period) in [(false, false), (true, false), (false, true)] {
        let sandbox = Sandbox::new();
        let folder = sandbox.folder();
        let args = |number: usize| {
            let partition = format!("{number}/2");
            let mut args = vec!["--folder", &folder, "--skew", "0.5", "--min-peers", "1", "--epochs", "6"];
            args.extend(sync.then_some("--sync"));
            args.extend(period.then_some("--period=0.02"));
            let mut command = sandbox.node(&number.to_string(), &args);
            command.args(["--partition", &partition]);
            command
        };
        let peer = Running::start(args(1));
        let mut published = Published::default();
        for point in POINTS {
            let mut command = args(0);
            command.env("FAILPOINTS", format!("{point}=1*off->sleep(600000)"));
            let mut node = Running::start(command);
            node.event(|event| matches!(event, Event::Started { .. }));
            // At the point, or waiting for its peer: both are moments to be killed in.
            node.sleeps();
            published.note(&node.kill().events());
        }
        let last = Ended::of(args(0)).success();
        published.note(&last.events());
        assert!(matches!(last.events().last(), Some(Event::Finished { epoch: 6, stopped: false, .. })));
        peer.wait().success();
    }
}
