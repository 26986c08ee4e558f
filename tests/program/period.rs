//! `--period`: epochs of a fixed time.

use super::process::{Ended, Running, Sandbox};
use peerfold::node::{Event, Origin};
use std::collections::BTreeSet;

/// Epoch and steps of each epoch that is done.
fn steps(events: &[Event]) -> Vec<(u64, u64)> {
    let done = |event: &Event| match event {
        Event::EpochDone { epoch, steps, .. } => Some((*epoch, *steps)),
        _ => None,
    };
    events.iter().filter_map(done).collect()
}

fn examples(events: &[Event]) -> Vec<u64> {
    let published = |event: &Event| match event {
        Event::Published { num_examples, .. } => Some(*num_examples),
        _ => None,
    };
    events.iter().filter_map(published).collect()
}

#[test]
fn a_slow_node_does_fewer_steps_and_both_do_all_epochs() {
    for sync in [false, true] {
        let sandbox = Sandbox::new();
        let folder = sandbox.folder();
        let node = |number: usize, batch: &str| {
            let partition = format!("{number}/2");
            let mut args = vec!["--folder", &folder, "--partition", &partition, "--min-peers", "1", "--epochs", "3"];
            args.extend(["--period", "0.3", "--threads", "1", "--batch-size", batch]);
            args.extend(sync.then_some("--sync"));
            Running::start(sandbox.node(&number.to_string(), &args))
        };
        // A step of the one takes thousands of times as long as one of the other.
        let (quick, slow) = (node(0, "1"), node(1, "32768"));
        let (quick, slow) = (quick.wait().success().events(), slow.wait().success().events());
        let (quick_steps, slow_steps) = (steps(&quick), steps(&slow));
        assert_eq!((quick_steps.len(), slow_steps.len()), (3, 3));
        for ((epoch, quick), (slow_epoch, slow)) in quick_steps.iter().zip(&slow_steps) {
            assert!(epoch == slow_epoch && *slow >= 1 && quick > slow, "{quick_steps:?} {slow_steps:?}");
        }
        // Each of its batches has all examples; the other has seen at most as many as it has done steps.
        let part = examples(&slow)[0];
        assert!(part > 500 && examples(&slow) == [part; 3]);
        let seen = examples(&quick);
        assert!(seen.iter().zip(quick_steps).all(|(&seen, (_, steps))| seen >= 1 && seen <= steps), "{seen:?}");
        for events in [&quick, &slow] {
            let folds =
                events.iter().filter(|event| matches!(event, Event::Folded { updates, .. } if updates.len() == 2));
            assert!(!sync || folds.count() == 3, "{events:?}");
        }
    }
}

#[test]
fn a_stop_does_not_wait_for_the_end_of_the_period() {
    let sandbox = Sandbox::new();
    let args = ["--folder", "memory:", "--period", "100000000"];
    let mut node = Running::start(sandbox.node("node", &args));
    node.event(|event| matches!(event, Event::Started { .. }));
    node.signal("TERM");
    let events = node.wait().success().events();
    assert!(matches!(events.last(), Some(Event::Finished { epoch: 0, stopped: true, .. })), "{events:?}");
}

#[test]
fn peers_compare_the_period_instead_of_the_steps() {
    let sandbox = Sandbox::new();
    let folder = sandbox.folder();
    let common = ["--folder", &folder, "--epochs", "1"];
    Ended::of(sandbox.node("a", &[&common[..], &["--period", "0.05"]].concat())).success();
    let told = |home: &str, args: &[&str]| {
        let events = Ended::of(sandbox.node(home, &[&common[..], args].concat())).success().events();
        assert!(events.iter().any(|event| matches!(event, Event::Started { origin: Origin::Fold, .. })));
        let differences = events.into_iter().filter_map(|event| match event {
            Event::Mismatch { differences, .. } => Some(differences.join("; ")),
            _ => None,
        });
        differences.collect::<BTreeSet<String>>()
    };
    assert_eq!(told("b", &["--period", "0.05"]), BTreeSet::new());
    assert_eq!(told("c", &["--period", "0.25"]), BTreeSet::from(["period: 0.05, here 0.25".to_owned()]));
    let different = ["0.05", "0.25"];
    let different = different.map(|period| format!("period: {period}, here not set; steps-per-epoch: not set, here 5"));
    assert_eq!(told("d", &[]), BTreeSet::from(different));
}

#[test]
fn a_demo_of_a_period() {
    let sandbox = Sandbox::new();
    let demo = sandbox.command(["demo", "--nodes", "2", "--epochs", "2", "--period", "0.05", "--strategy", "fedprox"]);
    let text = Ended::of(demo).success().text();
    for part in ["2 epochs of 0.05 seconds", "same data, seeds and time to train", "epoch 2/2", "folded node "] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}
