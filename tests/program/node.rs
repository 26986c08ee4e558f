//! `peerfold node`: the events it reports and the files it writes.

use super::{
    files::saved_digits,
    mistakes::small_mnist,
    process::{Ended, Running, Sandbox, event, signal, timed},
};
use peerfold::node::{Event, Origin};
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

fn root(file: &Path) -> String {
    saved_digits(file).manifest().root().to_string()
}

fn started(events: &[Event]) -> (u64, Origin, usize) {
    let of = |event: &Event| match event {
        Event::Started { epoch, origin, authors, .. } => Some((*epoch, *origin, authors.len())),
        _ => None,
    };
    events.iter().find_map(of).unwrap()
}

/// Epoch, accuracy and root at the end.
fn finished(events: &[Event]) -> (u64, f64, String) {
    match events.last() {
        Some(Event::Finished { epoch, metrics, root, stopped: false, .. }) => {
            (*epoch, metrics["accuracy"], root.clone())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_identity_is_made_once_and_is_private() {
    let sandbox = Sandbox::new();
    let first = Ended::of(sandbox.command(["id"])).success();
    assert!(first.log.contains("it was made, with a new identity"), "{}", first.log);
    let key = sandbox.user_home().join(".peerfold/identity.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(key.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let again = Ended::of(sandbox.command(["id"])).success();
    assert_eq!((again.lines, again.log.as_str()), (first.lines.clone(), ""));
    let mut by_variable = sandbox.command(["id"]);
    by_variable.env("PEERFOLD_HOME", "a relative home");
    let other = Ended::of(by_variable).success();
    assert!(other.lines != first.lines && sandbox.path("a relative home/identity.key").exists());
    let events =
        Ended::of(sandbox.node("a relative home", &["--folder", "memory:", "--epochs", "1"])).success().events();
    assert!(matches!(&events[0], Event::Started { peer, .. } if [peer.clone()] == other.lines[..]));
}

#[test]
fn events_tell_the_epochs_and_the_output_is_the_last_fold() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(["node", "--json", "--federation=test", "--steps-per-epoch=5", "--epochs=3"]);
    command.args(["--home", "relative home", "--folder", "memory:", "--out", "model.safetensors"]);
    command.env("RUST_LOG", "debug");
    let ended = Ended::of(command).success();
    assert!(ended.log.contains("DEBUG"), "logs go to standard error: {}", ended.log);
    let events = ended.events();
    let (epoch, _, last) = finished(&events);
    assert_eq!((epoch, started(&events)), (3, (0, Origin::Seed, 0)));
    assert_eq!(root(&sandbox.path("model.safetensors")), last);
    let done = events.iter().filter_map(|event| match event {
        Event::EpochDone { epoch, epochs: 3, steps: 5, metrics, .. } => {
            assert!(["loss", "test_loss", "accuracy"].iter().all(|&name| metrics.contains_key(name)));
            Some(*epoch)
        }
        _ => None,
    });
    assert!(done.eq(1..=3));
    let sequences: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Published { sequence, .. } => Some(*sequence),
            _ => None,
        })
        .collect();
    assert!(sequences.len() == 3 && sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");

    // The same without JSON.
    let mut command = sandbox.command(["node", "--federation", "test", "--steps-per-epoch", "5", "--epochs", "3"]);
    command.args(["--home", "another", "--folder", "memory:", "--out", "again.safetensors"]);
    let text = Ended::of(command).success();
    assert!(text.text().contains("epoch 3 of 3: loss") && text.log.is_empty(), "{}{}", text.text(), text.log);
    let [one, other] = ["model", "again"].map(|name| fs::read(sandbox.path(format!("{name}.safetensors"))).unwrap());
    assert!(one == other, "the same seed gives the same bits under another identity");
}

#[test]
fn what_is_held_out_for_validation_is_neither_trained_on_nor_counted() {
    let sandbox = Sandbox::new();
    // So few that an epoch sees all of them.
    let examples = |home, validation: &[&str]| {
        let args = ["--folder", "memory:", "--partition", "1/20", "--epochs", "1"];
        let events = Ended::of(sandbox.node(home, &[&args, validation].concat())).success().events();
        let published = events.iter().find_map(|event| match event {
            Event::Published { num_examples, root, .. } => Some((*num_examples, root.clone())),
            _ => None,
        });
        published.unwrap()
    };
    let (all, none_held_out) = (examples("a", &[]), examples("b", &["--validation", "0"]));
    assert_eq!(all, none_held_out);
    let (left, root) = examples("c", &["--validation", "0.2"]);
    assert!(all.0 > 50 && left == all.0 - all.0 / 5, "{left} of {}", all.0);
    assert_ne!(root, all.1);
    assert_eq!(examples("d", &["--validation", "0.2"]), (left, root), "the same are held out everywhere");
}

#[test]
fn a_node_that_nobody_reads_trains_on() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.node("node", &["--folder", "memory:", "--out", "model.safetensors"]);
    let mut node = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(node.stdout.take());
    let ended = node.wait_with_output().unwrap();
    let log = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{log}");
    assert_eq!(log.matches("nobody reads standard output any more").count(), 1, "{log}");
    assert!(sandbox.path("model.safetensors").exists());
    // A home that it makes is said.
    Ended::of(sandbox.command(["id"])).success();
    for args in [
        &["node", "--print-config"][..],
        &["strategies"],
        &["strategies", "--json"],
        &["event-schema"],
        &["completions", "bash"],
        &["id"],
    ] {
        let mut command = sandbox.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert!(ended.status.success() && ended.stderr.is_empty(), "{args:?}: {ended:?}");
    }
}

#[test]
fn what_cannot_be_written_is_no_success() {
    let sandbox = Sandbox::new();
    let full = |mut command: Command| {
        let out = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let ended = command.stdout(out).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    for json in ["true", "false"] {
        let mut node = sandbox.node(json, &["--folder", "memory:", "--epochs", "2", "--out", "model.safetensors"]);
        node.env("PEERFOLD_JSON", json);
        let (code, log) = full(node);
        assert_eq!(code, Some(1), "{log}");
        assert!(log.contains("events are lost; going on") && log.lines().last().unwrap().contains("No space"), "{log}");
        assert!(sandbox.path("model.safetensors").exists(), "it trains on");
        fs::remove_file(sandbox.path("model.safetensors")).unwrap();
    }
    let folder = sandbox.folder();
    Ended::of(sandbox.node("node", &["--folder", &folder, "--epochs", "1"])).success();
    for args in [
        &["node", "--federation", "test", "--print-config"][..],
        &["strategies"],
        &["strategies", "--json"],
        &["event-schema"],
        &["completions", "bash"],
        &["id"],
        &["--help"],
        &["node", "--help"],
        &["--version"],
        &["folder", "ls", &folder, "--federation", "test"],
        &["folder", "ls", &folder, "--federation", "test", "--json"],
        &["folder", "digest", &folder, "--federation", "test"],
        &["demo", "--nodes", "1", "--epochs", "1", "--json"],
        &["demo", "--nodes", "1", "--epochs", "1"],
    ] {
        let (code, log) = full(sandbox.command(args));
        assert_eq!(code, Some(1), "{args:?}: {log}");
        assert!(log.contains("error: writing to standard output: No space left"), "{args:?}: {log}");
    }
}

#[test]
fn a_bootstrap_node_that_cannot_tell_its_addresses_serves_and_says_so() {
    let sandbox = Sandbox::new();
    let out = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = sandbox.command(["bootstrap", "--home", "home", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    let mut node = command.stdout(out).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(node.stderr.take().unwrap()).lines().map_while(Result::ok);
    let told = log.find(|line| line.contains("isn't told: writing to standard output: No space left"));
    assert!(told.is_some() && node.try_wait().unwrap().is_none());
    signal(node.id(), "TERM");
    let last = log.last().unwrap();
    assert!(last.starts_with("error: writing to standard output"), "{last}");
    assert_eq!(node.wait().unwrap().code(), Some(1));
}

#[test]
fn a_failing_node_says_so_in_its_last_event() {
    let sandbox = Sandbox::new();
    // It can't begin, or not go on: without a peer it is below its quorum.
    let folder = sandbox.folder();
    let below = ["--sync", "--nodes", "2", "--deadline", "0.1", "--below-quorum", "stop", "--min-peers", "0"];
    for args in [&["--init", "none.safetensors"][..], &["--param", "eta"], &below] {
        let ended = Ended::of(sandbox.node("node", &[&["--folder", &folder], args].concat()));
        let (error, mut events) = (ended.error(), ended.lines.iter().map(|line| event(line)));
        assert_eq!(events.next_back(), Some(Event::Failed { reason: error.to_owned() }), "{args:?}");
        assert_eq!(ended.status.code(), Some(1));
    }
    let began = Ended::of(sandbox.node("node", &[&["--folder", &folder], &below[..]].concat()));
    assert!(began.lines.len() > 1 && matches!(event(&began.lines[0]), Event::Started { .. }), "{:?}", began.lines);
}

#[test]
fn events_have_their_times() {
    let sandbox = Sandbox::new();
    let before = SystemTime::now() - Duration::from_millis(1);
    let args = ["--folder", "memory:", "--epochs", "2"];
    let ended = Ended::of(sandbox.node("node", &args)).success();
    let times: Vec<_> = ended.lines.iter().map(|line| timed(line).time).collect();
    assert!(times.is_sorted() && times[0] >= before && times[times.len() - 1] <= SystemTime::now(), "{times:?}");
    let mut text = sandbox.node("text", &args);
    text.env("PEERFOLD_JSON", "false");
    for line in Ended::of(text).success().lines {
        let (time, _) = line.split_once(' ').unwrap();
        // 2026-01-31T23:59:59.999Z
        assert!(time.len() == 24 && humantime::parse_rfc3339(time).is_ok_and(|time| time >= before), "{line}");
    }
}

#[test]
fn the_order_of_the_starts_does_not_matter() {
    for order in [[0, 1, 2], [2, 0, 1]] {
        let sandbox = Sandbox::new();
        let folder = sandbox.folder();
        let common = ["--folder", &folder, "--skew", "0.5", "--steps-per-epoch", "30", "--epochs", "4"];
        let node = |number: usize, more: &[&str]| {
            let (partition, out) = (format!("{number}/3"), format!("{number}.safetensors"));
            let args = [&common[..], &["--partition", &partition, "--out", &out], more].concat();
            Running::start(sandbox.node(&number.to_string(), &args))
        };
        let [first, second, late] = order;
        let mut nodes = vec![node(first, &["--min-peers", "1"])];
        nodes[0].event(|event| matches!(event, Event::Waiting { .. }));
        nodes.push(node(second, &["--min-peers", "1"]));
        let ended: Vec<_> = nodes.into_iter().map(|node| finished(&node.wait().success().events())).collect();
        assert!(ended.iter().all(|(epoch, accuracy, _)| *epoch == 4 && *accuracy > 0.8), "{ended:?}");

        // One that comes when all is over begins where they ended, and has nothing left to do.
        let joined = node(late, &[]).wait().success().events();
        assert_eq!(started(&joined), (4, Origin::Fold, 2));
        let (epoch, accuracy, last) = finished(&joined);
        assert!(epoch == 4 && accuracy > 0.8, "{joined:?}");
        assert_eq!(root(&sandbox.path(format!("{late}.safetensors"))), last);
        assert!(!joined.iter().any(|event| matches!(event, Event::Published { .. } | Event::EpochDone { .. })));
    }
}

#[test]
fn one_that_joins_for_more_epochs_trains_them() {
    let sandbox = Sandbox::new();
    let folder = sandbox.folder();
    let args = |partition, epochs| ["--folder", &folder, "--partition", partition, "--epochs", epochs];
    Ended::of(sandbox.node("early", &args("0/2", "3"))).success();
    let events = Ended::of(sandbox.node("late", &args("1/2", "5"))).success().events();
    assert_eq!(started(&events), (3, Origin::Fold, 1));
    let done = events.iter().filter_map(|event| match event {
        Event::EpochDone { epoch, .. } => Some(*epoch),
        _ => None,
    });
    assert!(done.eq(4..=5));
    let peers_folded = |event: &Event| matches!(event, Event::Folded { updates, .. } if updates.len() == 2);
    assert_eq!(events.iter().filter(|event| peers_folded(event)).count(), 2);
}

#[test]
fn mnist_is_learned_from_its_files() {
    let sandbox = Sandbox::new();
    small_mnist(&sandbox.path("data/mnist"));
    let args =
        ["--folder", "memory:", "--dataset", "mnist", "--data-dir", "data", "--epochs", "2", "--batch-size", "4"];
    let events = Ended::of(sandbox.node("node", &args)).success().events();
    assert_eq!(finished(&events).0, 2);
}
