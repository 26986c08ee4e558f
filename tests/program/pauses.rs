//! Nodes that are stopped or killed in the middle of an epoch go on there, and come to the same bits.

use super::process::{Ended, Running, Sandbox};
use peerfold::node::Event;
use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

const STEPS: u64 = 40;
const EPOCHS: u64 = 3;
/// Each life does this many steps and then very slow ones, so that it ends in the middle of an epoch.
const QUICK_STEPS: u64 = 17;

/// What a run is known by, over all its lives.
#[derive(Debug, Default, PartialEq)]
struct Run {
    /// Root and number of examples of each epoch's update.
    published: BTreeMap<u64, (String, u64)>,
    /// Steps and figures of each epoch.
    done: BTreeMap<u64, (u64, BTreeMap<String, f64>)>,
    model: Vec<u8>,
}

impl Run {
    fn note(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Published { epoch, root, num_examples, .. } => {
                    let this = (root.clone(), *num_examples);
                    let first = self.published.entry(*epoch).or_insert_with(|| this.clone());
                    assert_eq!(*first, this, "epoch {epoch} was published with different weights");
                }
                Event::EpochDone { epoch, steps, metrics, .. } => {
                    let before = self.done.insert(*epoch, (*steps, metrics.clone()));
                    assert_eq!(before, None, "epoch {epoch} was trained twice");
                }
                _ => {}
            }
        }
    }

    /// The last life.
    fn end(&mut self, sandbox: &Sandbox, command: Command) -> Vec<Event> {
        let events = Ended::of(command).success().events();
        self.note(&events);
        self.model = fs::read(sandbox.path("model.safetensors")).unwrap();
        assert!(self.published.keys().copied().eq(1..=EPOCHS) && self.done.keys().copied().eq(1..=EPOCHS), "{self:?}");
        events
    }
}

fn node(sandbox: &Sandbox, more: &[&str]) -> Command {
    let mut command = sandbox.node("node", &["--folder", "memory:", "--out", "model.safetensors"]);
    // As variables, so that flags win.
    command.env("PEERFOLD_STEPS_PER_EPOCH", STEPS.to_string()).env("PEERFOLD_EPOCHS", EPOCHS.to_string());
    command.env("PEERFOLD_SKEW", "0.3").env("PEERFOLD_PARTITION", "0/2").args(more);
    command
}

fn slow_in_the_end(mut command: Command) -> Command {
    command.env("FAILPOINTS", format!("train::step={QUICK_STEPS}*off->sleep(300)"));
    command
}

fn undisturbed(more: &[&str]) -> Run {
    let (sandbox, mut run) = (Sandbox::new(), Run::default());
    run.end(&sandbox, node(&sandbox, more));
    run
}

/// Epoch and steps of what was saved last, and whether because of a stop.
fn saved(events: &[Event]) -> Option<(u64, u64, bool)> {
    let mut saved = events.iter().filter_map(|event| match event {
        Event::ProgressSaved { epoch, steps, steps_per_epoch: Some(STEPS), stopping } => {
            Some((*epoch, *steps, *stopping))
        }
        _ => None,
    });
    saved.next_back()
}

fn resumed(events: &[Event]) -> Option<(u64, u64)> {
    events.iter().find_map(|event| match event {
        Event::ProgressResumed { epoch, steps, steps_per_epoch: Some(STEPS) } => Some((*epoch, *steps)),
        _ => None,
    })
}

/// One life that is stopped in the middle of an epoch.
fn stopped(command: Command, signal: &str) -> Vec<Event> {
    let mut node = Running::start(slow_in_the_end(command));
    node.event(|event| matches!(event, Event::Started { .. }));
    // In its first slow step, or in one after.
    node.sleeps();
    node.signal(signal);
    let events = node.wait().success().events();
    assert!(matches!(events.last(), Some(Event::Finished { stopped: true, .. })), "{events:?}");
    events
}

#[test]
fn stopped_again_and_again_in_the_middle_of_epochs_it_is_the_same_run() {
    for strategy in [&["--strategy", "fedavgm"][..], &["--strategy", "fedprox", "--param", "proximal_mu=0.5"]] {
        let (sandbox, mut run) = (Sandbox::new(), Run::default());
        let (mut position, mut in_the_middle) = (None, 0);
        for life in 0..5 {
            let threads = (life % 3 + 1).to_string();
            let command = node(&sandbox, &[strategy, &["--threads", &threads]].concat());
            let events = stopped(command, if life % 2 == 0 { "TERM" } else { "INT" });
            assert_eq!(resumed(&events), position, "life {life} goes on where the one before was stopped: {events:?}");
            run.note(&events);
            position = saved(&events).map(|(epoch, steps, stopping)| {
                assert!(stopping && steps < STEPS, "{events:?}");
                (epoch, steps)
            });
            in_the_middle += usize::from(position.is_some());
        }
        assert!(in_the_middle >= 3);
        let last = run.end(&sandbox, node(&sandbox, strategy));
        assert_eq!(resumed(&last), position);
        assert_eq!(run, undisturbed(strategy), "{strategy:?}");
    }
}

#[test]
fn killed_it_goes_on_from_what_was_saved_every_so_many_minutes() {
    let (sandbox, mut run) = (Sandbox::new(), Run::default());
    let (mut position, mut in_the_middle) = (None, 0);
    for _ in 0..4 {
        let often = ["--checkpoint-every", "0.0005"];
        let mut node = Running::start(slow_in_the_end(node(&sandbox, &often)));
        // After each slow step, except the last of an epoch.
        node.event(|event| matches!(event, Event::ProgressSaved { stopping: false, .. }));
        node.sleeps();
        let events = node.kill().events();
        assert!(resumed(&events) >= position, "{position:?}: {events:?}");
        run.note(&events);
        let (epoch, steps, _) = saved(&events).unwrap();
        let complete =
            events.iter().any(|event| matches!(event, Event::EpochDone { epoch: done, .. } if *done == epoch));
        position = (!complete).then_some((epoch, steps));
        in_the_middle += usize::from(!complete);
    }
    assert!(in_the_middle >= 2);
    let last = run.end(&sandbox, node(&sandbox, &[]));
    assert!(resumed(&last) >= position, "{position:?}: {last:?}");
    assert_eq!(run, undisturbed(&[]));
}

#[test]
fn members_that_wait_for_each_other_come_to_the_same_bits_if_one_is_stopped_in_its_epochs() {
    let roots = |disturbed: bool| {
        let (sandbox, mut run) = (Sandbox::new(), Run::default());
        let folder = sandbox.folder();
        let member = |number: usize| {
            let partition = format!("{number}/2");
            let args = ["--folder", &folder, "--partition", &partition, "--skew", "0.5", "--sync", "--deadline", "600"];
            let mut command = sandbox.node(&number.to_string(), &args);
            command.args(["--steps-per-epoch", &STEPS.to_string(), "--epochs", &EPOCHS.to_string()]);
            command.args(["--data-seed", &number.to_string(), "--out", &format!("{number}.safetensors")]);
            command
        };
        let peer = Running::start(member(1));
        for life in 0..if disturbed { 3 } else { 0 } {
            let mut node = Running::start(slow_in_the_end(member(0)));
            node.event(|event| matches!(event, Event::Started { .. }));
            node.sleeps();
            node.signal("TERM");
            let events = node.wait().success().events();
            assert!(life > 0 || saved(&events).is_some(), "{events:?}");
            run.note(&events);
        }
        let events = Ended::of(member(0)).success().events();
        assert!(!disturbed || resumed(&events).is_some(), "{events:?}");
        run.note(&events);
        peer.wait().success();
        let models = ["0", "1"].map(|number| fs::read(sandbox.path(format!("{number}.safetensors"))).unwrap());
        assert!(models[0] == models[1]);
        (run.published, models)
    };
    assert!(roots(true) == roots(false));
}

/// What a node says that goes on with these settings, to its last epoch.
fn told(sandbox: &Sandbox, more: &[&str]) -> Vec<Event> {
    Ended::of(node(sandbox, more)).success().events()
}

fn dropped(events: &[Event]) -> Option<(Option<u64>, String)> {
    events.iter().find_map(|event| match event {
        Event::ProgressDropped { epoch, reason, .. } => Some((*epoch, reason.clone())),
        _ => None,
    })
}

#[test]
fn with_other_settings_the_epoch_is_trained_anew_and_this_is_said() {
    for (settings, part) in [
        (&["--batch-size", "16"][..], "batch-size was 32 and is 16"),
        (&["--lr", "0.01"], "lr was 0.003 and is 0.01"),
        (&["--steps-per-epoch", "50"], "steps-per-epoch was 40 and is 50"),
        (&["--data-seed", "5"], "data-seed was"),
        (&["--partition", "1/2"], "this node's examples (data set, partition, skew, seed) was"),
        (&["--skew", "0.5"], "this node's examples"),
    ] {
        let sandbox = Sandbox::new();
        let (epoch, steps, _) = saved(&stopped(node(&sandbox, &[]), "TERM")).unwrap();
        let events = told(&sandbox, settings);
        let (at, reason) = dropped(&events).unwrap();
        assert!(at == Some(epoch) && reason.contains(part), "{settings:?} after {steps}: {reason}");
        assert!(matches!(events.last(), Some(Event::Finished { epoch: EPOCHS, .. })));
    }
    // How many threads train decides nothing.
    let sandbox = Sandbox::new();
    let saved = saved(&stopped(node(&sandbox, &["--threads", "1"]), "TERM")).unwrap();
    let events = told(&sandbox, &["--threads", "3"]);
    assert_eq!((dropped(&events), resumed(&events)), (None, Some((saved.0, saved.1))));
}

/// Where the middle of an epoch lies.
fn file(sandbox: &Sandbox) -> PathBuf {
    let run = fs::read_dir(sandbox.path("node/runs")).unwrap().next().unwrap().unwrap();
    run.path().join("progress")
}

#[test]
fn a_stop_that_cannot_save_is_no_success() {
    let sandbox = Sandbox::new();
    let mut stopping = Running::start(slow_in_the_end(node(&sandbox, &[])));
    stopping.event(|event| matches!(event, Event::Started { .. }));
    stopping.sleeps();
    fs::create_dir(file(&sandbox)).unwrap();
    stopping.signal("TERM");
    let ended = stopping.wait();
    assert!(ended.error().contains("steps of epoch 1 can't be saved; started again the node does them anew"));
    let mut run = Run::default();
    let events = ended.events();
    assert!(saved(&events).is_none() && matches!(events.last(), Some(Event::Failed { .. })), "{events:?}");
    run.note(&events);
    fs::remove_dir(file(&sandbox)).unwrap();
    run.end(&sandbox, node(&sandbox, &[]));
    assert_eq!(run, undisturbed(&[]));
}

#[test]
fn what_was_saved_and_is_damaged_or_another_checkpoints_costs_the_epoch_and_not_the_run() {
    let expected = undisturbed(&[]);
    let sandbox = Sandbox::new();
    let mut run = Run::default();
    run.note(&stopped(node(&sandbox, &[]), "TERM"));
    let saved = fs::read(file(&sandbox)).unwrap();
    fs::write(file(&sandbox), &saved[..saved.len() / 2]).unwrap();
    let events = run.end(&sandbox, node(&sandbox, &[]));
    let (epoch, reason) = dropped(&events).unwrap();
    assert!(epoch.is_none() && reason.contains("is damaged"), "{reason}");
    assert_eq!(run, expected);
    assert!(!file(&sandbox).exists(), "nothing is left of it");

    // Of an epoch that is trained since, as in a home of which parts were restored.
    fs::write(file(&sandbox), &saved).unwrap();
    let events = told(&sandbox, &["--epochs", &(EPOCHS + 1).to_string()]);
    assert_eq!((dropped(&events), resumed(&events)), (None, None));
    assert!(!file(&sandbox).exists());
}

#[test]
fn a_stop_is_told_in_words() {
    let sandbox = Sandbox::new();
    let mut command = slow_in_the_end(node(&sandbox, &[]));
    command.env("PEERFOLD_JSON", "false");
    let mut node_in_words = Running::start(command);
    node_in_words.line(|line| line.contains("begins at epoch 0"));
    node_in_words.sleeps();
    node_in_words.signal("INT");
    let text = node_in_words.wait().success().text();
    assert!(
        text.contains(" stopped in epoch 1 after ") && text.contains(" of 40 steps; started again it goes on there")
    );
    let mut command = node(&sandbox, &[]);
    command.env("PEERFOLD_JSON", "false");
    let text = Ended::of(command).success().text();
    assert!(text.contains(" goes on in epoch 1 after ") && text.contains(" of 40 steps\n"), "{text}");
}

#[test]
fn of_a_period_that_was_stopped_the_rest_remains() {
    let sandbox = Sandbox::new();
    let node = || {
        let args = ["--folder", "memory:", "--period", "6", "--epochs", "1"];
        let mut command = sandbox.node("node", &args);
        command.env("FAILPOINTS", "train::step=sleep(400)");
        command
    };
    let mut first = Running::start(node());
    first.event(|event| matches!(event, Event::Started { .. }));
    first.sleeps();
    first.signal("TERM");
    let events = first.wait().success().events();
    let before = events.iter().find_map(|event| match event {
        Event::ProgressSaved { epoch: 1, steps, steps_per_epoch: None, stopping: true } => Some(*steps),
        _ => None,
    });
    let events = Ended::of(node()).success().events();
    let resumed = events.iter().find_map(|event| match event {
        Event::ProgressResumed { epoch: 1, steps, steps_per_epoch: None } => Some(*steps),
        _ => None,
    });
    assert!(before.is_some() && resumed == before, "{before:?} {events:?}");
    let Some(Event::EpochDone { steps, seconds, .. }) =
        events.iter().find(|event| matches!(event, Event::EpochDone { epoch: 1, .. }))
    else {
        panic!("{events:?}")
    };
    // As many steps as have room in it, however they are shared by the two lives.
    assert!(*steps <= 15 && Some(*steps) > before && *seconds >= 4.0, "{before:?}: {steps} steps, {seconds} s");
}
