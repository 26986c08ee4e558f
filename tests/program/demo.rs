//! `peerfold demo` shows what it promises.

use super::process::{Ended, Running, Sandbox, event};
use peerfold::node::{Event, Origin};
use serde_json::Value;
use std::process::Command;

fn demo(sandbox: &Sandbox, args: &[&str]) -> Command {
    sandbox.command(["demo"].iter().chain(args))
}

/// What a demo with `--json` has told.
struct Told {
    /// Events of the phase in which the nodes are together, with the node's number.
    together: Vec<(u64, Event)>,
    notes: Vec<(u64, String)>,
    /// What has happened to all nodes, with how many events were told before.
    announced: Vec<(usize, String)>,
    summary: Value,
}

fn told(args: &[&str]) -> Told {
    told_with(args, &[])
}

/// With these variables set.
fn told_with(args: &[&str], variables: &[(&str, &str)]) -> Told {
    told_in(&Sandbox::new(), args, variables)
}

fn told_in(sandbox: &Sandbox, args: &[&str], variables: &[(&str, &str)]) -> Told {
    let mut command = demo(sandbox, &[args, &["--json"]].concat());
    command.envs(variables.iter().copied());
    let ended = Ended::of(command).success();
    assert_eq!(ended.log, "");
    let (mut together, mut notes, mut announced) = (Vec::new(), Vec::new(), Vec::new());
    let (last, lines) = ended.lines.split_last().unwrap();
    for line in lines {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["event"].is_string(), "{line}");
        assert_eq!(line["note"].is_string(), line["event"] == "note", "{line}");
        let Some(number) = line["node"].as_u64() else {
            announced.push((together.len(), line["note"].as_str().unwrap().to_owned()));
            continue;
        };
        if let Some(note) = line["note"].as_str() {
            notes.push((number, note.to_owned()));
        } else {
            let mut of_node = line.clone();
            for added in ["phase", "node"] {
                of_node.as_object_mut().unwrap().remove(added);
            }
            let event = event(&of_node.to_string());
            match line["phase"].as_str() {
                Some("together") => together.push((number, event)),
                Some("alone") => assert!(!matches!(event, Event::Folded { .. }), "{event:?}"),
                other => panic!("{other:?}"),
            }
        }
    }
    let summary: Value = serde_json::from_str(last).unwrap();
    assert_eq!(summary["event"], "summary");
    sandbox.wait_until_nothing_is_left();
    Told { together, notes, announced, summary: summary["summary"].clone() }
}

impl Told {
    fn gains(&self) -> Vec<f64> {
        let nodes = self.summary["nodes"].as_array().unwrap();
        nodes.iter().map(|node| node["gain_points"].as_f64().unwrap()).collect()
    }

    /// Where in the events of the node is the first such one?
    fn position(&self, node: u64, wanted: impl Fn(&Event) -> bool) -> Option<usize> {
        self.together.iter().position(|(number, event)| *number == node && wanted(event))
    }

    /// Every node has come to the last epoch.
    fn all_finished(&self, nodes: u64, epochs: u64) -> bool {
        let at_end = |event: &Event| matches!(event, Event::Finished { epoch, stopped: false, .. } if *epoch == epochs);
        (0..nodes).all(|node| self.position(node, at_end).is_some())
    }
}

#[test]
fn federating_gains_ten_points_and_five_on_every_node() {
    let mut means = Vec::new();
    for seed in ["0", "1", "2"] {
        let told = told(&["--seed", seed]);
        assert!(told.all_finished(3, 8));
        let gains = told.gains();
        assert!(gains.len() == 3 && gains.iter().all(|gain| *gain >= 5.0), "seed {seed}: {gains:?}");
        means.push(told.summary["gain_points"].as_f64().unwrap());
    }
    assert!(means.iter().sum::<f64>() / 3.0 >= 10.0, "{means:?}");
}

#[test]
fn a_killed_node_resumes_and_the_others_go_on() {
    let told = told(&["--kill", "1@3", "--epochs", "12"]);
    let notes: Vec<&str> = told.notes.iter().map(|(node, note)| (assert_eq!(*node, 1), note.as_str()).1).collect();
    assert_eq!(notes, ["killed with SIGKILL in its epoch 3", "started again"]);
    let resumed = |event: &Event| match event {
        // It may have come further in the moment before the signal.
        Event::Started { origin: Origin::Checkpoint, epoch, .. } => (3..=5).contains(epoch),
        _ => false,
    };
    let resumed = told.position(1, resumed).unwrap();
    for other in [0, 2] {
        let on = |event: &Event| matches!(event, Event::EpochDone { epoch, .. } if *epoch == 5);
        assert!(told.position(other, on).unwrap() < resumed, "the others went on meanwhile");
    }
    let folds = |event: &Event| matches!(event, Event::Folded { updates, .. } if updates.len() > 1);
    assert!(told.together[resumed..].iter().any(|(node, event)| *node == 1 && folds(event)));
    assert!(told.all_finished(3, 12));
    let stale =
        |event: &Event| matches!(event, Event::Folded { updates, .. } if updates.iter().any(|u| u.staleness > 0));
    assert!(told.together.iter().any(|(_, event)| stale(event)), "the others fold what it had published");
}

#[test]
fn a_killed_node_of_a_synchronous_federation_catches_up() {
    for nodes in ["2", "3"] {
        let told = told(&["--sync", "--kill", "1@2", "--epochs", "6", "--nodes", nodes, "--steps-per-epoch", "10"]);
        // Where it was killed: it may have come an epoch further in the moment before the signal.
        let resumed = |event: &Event| match event {
            Event::Started { origin: Origin::Checkpoint, epoch, .. } => Some(*epoch),
            _ => None,
        };
        let of_victim = told.together.iter().filter(|(node, _)| *node == 1);
        let killed_at = of_victim.clone().find_map(|(_, event)| resumed(event)).unwrap();
        assert!((2..=3).contains(&killed_at), "killed in epoch {killed_at}");
        // A peer's update of that epoch may have come before the signal: then it folds it, and stands one further.
        let stood = killed_at..=killed_at + 1;
        let caught_up = |event: &Event| matches!(event, Event::CaughtUp { from, .. } if stood.contains(from));
        assert!(of_victim.clone().any(|(_, event)| caught_up(event)), "{:#?}", of_victim.collect::<Vec<_>>());
        assert!(told.all_finished(nodes.parse().unwrap(), 6));
    }
}

#[test]
fn few_nodes_many_nodes_and_a_kill_in_the_last_epoch() {
    for (nodes, args) in [
        (1, &["--nodes", "1"][..]),
        (1, &["--nodes", "1", "--kill", "0@2"]),
        (1, &["--nodes", "1", "--sync", "--kill", "0@3"]),
        (3, &["--kill", "2@3"]),
        (3, &["--kill", "2@3", "--sync"]),
        (2, &["--kill", "0@2", "--nodes", "2", "--strategy", "fedadam", "--param", "eta=0.01"]),
        (12, &["--nodes", "12"]),
        (12, &["--nodes", "12", "--sync"]),
    ] {
        // A node that doesn't wait needs enough epochs for another's update to arrive.
        let length = if args.contains(&"--sync") { ["--steps-per-epoch", "5"] } else { ["--period", "0.3"] };
        let told = told_in(&Sandbox::alone(), &[args, &["--epochs", "3"], &length].concat(), &[]);
        assert!(told.all_finished(nodes, 3), "{args:?}: {:?}", told.notes);
        assert_eq!(told.gains().len() as u64, nodes);
        assert_eq!(told.notes.len(), if args.contains(&"--kill") { 2 } else { 0 }, "{args:?}: {:?}", told.notes);
    }
}

/// Why a demo has failed, as its standard error says and its last line of JSON.
fn failure(mut command: Command) -> String {
    command.arg("--json");
    let ended = Ended::of(command);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.text());
    let last: Value = serde_json::from_str(ended.lines.last().unwrap()).unwrap();
    let reason = last["reason"].as_str().unwrap().to_owned();
    assert_eq!((&last["event"], ended.error()), (&"failed".into(), reason.as_str()));
    assert!(!ended.text().contains("gained"), "{}", ended.text());
    reason
}

#[test]
fn a_demo_whose_nodes_never_meet_has_failed() {
    let sandbox = Sandbox::new();
    let short = ["--nodes", "2", "--epochs", "4", "--period", "0.5"];
    // A rule that folds fewer updates than it needs has averaged nothing.
    let refused = failure(demo(
        &sandbox,
        &[&short[..], &["--strategy", "bulyan", "--param", "num_malicious_clients=1"]].concat(),
    ));
    assert!(refused.contains("no node ever folded an update of another, so nothing was averaged: bulyan"), "{refused}");
    // For people it is one line too.
    let ended = Ended::of(demo(
        &sandbox,
        &[&short[..], &["--strategy", "bulyan", "--param", "num_malicious_clients=1"]].concat(),
    ));
    assert!(ended.error().starts_with("the demo has failed: ") && ended.status.code() == Some(1));
    assert!(!ended.text().contains("gained") && !ended.text().contains("alone"), "{}", ended.text());
    sandbox.wait_until_nothing_is_left();
}

#[test]
fn synchronous_nodes_end_with_equal_weights() {
    let told = told(&["--sync", "--epochs", "3", "--steps-per-epoch", "10", "--seed", "5"]);
    let root = |(_, event): &(u64, Event)| match event {
        Event::Finished { root, .. } => Some(root.clone()),
        _ => None,
    };
    let mut roots: Vec<String> = told.together.iter().filter_map(root).collect();
    assert_eq!(roots.len(), 3);
    roots.dedup();
    assert_eq!(roots.len(), 1, "with all members present every node holds equal bits");
}

#[test]
fn piped_it_writes_plain_lines_and_a_table() {
    let sandbox = Sandbox::new();
    let mut command = demo(&sandbox, &["--nodes", "2", "--epochs", "2", "--period", "0.3"]);
    // Settings of the user's own nodes are not the demo's.
    command.env("PEERFOLD_FOLDER", "memory:").env("PEERFOLD_EPOCHS", "1").env("PEERFOLD_HOME", "/proc/none");
    let ended = Ended::of(command).success();
    let text = ended.text();
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text}");
    for part in ["epoch 2/2  loss ", "accuracy ", "folded node ", "1 peer, sent ", " received ", "federated", "points"]
    {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(ended.lines.iter().filter(|line| line.contains("epoch 2/2")).count(), 4);
}

#[test]
fn on_a_terminal_it_updates_a_line_for_each_node() {
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: there is no `script` to make a terminal with");
        return;
    }
    let sandbox = Sandbox::new();
    let plain = sandbox.command([""; 0]);
    let mut command = Command::new("script");
    let program = format!("stty cols 110; exec '{}' demo --epochs 3 --period 0.3", plain.get_program().display());
    command.args(["-qec", &program, "/dev/null"]).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("TERM", "xterm").env("PATH", "/usr/local/bin:/usr/bin:/bin").env("SHELL", "/bin/sh");
    let ended = Running::start(command).wait().success();
    let text = ended.text();
    assert!(text.contains("\u{1b}["), "lines are written over: {text:?}");
    for part in ["3/3 loss ", " acc ", "⇄2", "↑", "↓", "folded ", "federated"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    sandbox.wait_until_nothing_is_left();
}

#[cfg(feature = "demo-s3")]
#[test]
fn nodes_that_share_only_a_bucket_learn_from_each_other() {
    let told = told(&["--folder", "s3", "--sync"]);
    assert!(told.all_finished(3, 8));
    let gains = told.gains();
    assert!(gains.iter().all(|gain| *gain > 0.0), "{gains:?}");
    for node in told.summary["nodes"].as_array().unwrap() {
        let bucket = &node["bucket"];
        assert!(bucket["writes"].as_u64().unwrap() > 0 && bucket["received"].as_u64().unwrap() > 100_000, "{node}");
        assert_eq!(node["sent"], 0, "there is no network");
    }
    for node in 0..3 {
        let folded = |event: &Event| matches!(event, Event::Folded { updates, .. } if updates.len() == 3);
        assert!(told.position(node, folded).is_some());
    }
}

/// The demo's own server is on this machine, whatever proxy there is for others.
#[cfg(feature = "demo-s3")]
#[test]
fn a_proxy_in_the_environment_is_not_for_the_demos_own_bucket() {
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let mut variables = names.map(|name| (name, "http://127.0.0.1:9")).to_vec();
    variables.push(("NO_PROXY", ""));
    let told = told_with(&["--folder", "s3", "--sync", "--nodes", "2", "--epochs", "2"], &variables);
    assert!(told.all_finished(2, 2));
    let folded = |event: &Event| matches!(event, Event::Folded { updates, .. } if updates.len() == 2);
    assert!((0..2).all(|node| told.position(node, folded).is_some()));
}

#[cfg(feature = "demo-s3")]
#[test]
fn network_and_bucket_are_cut_in_turn_and_nobody_stops() {
    // On a busy machine it can take seconds until a node has noticed what is back, and what it fetches is replaced before it
    // has come.
    let told = told_in(&Sandbox::alone(), &["--fallback", "--cut", "--epochs", "64"], &[]);
    assert!(told.all_finished(3, 64));
    let announced: Vec<&str> = told.announced.iter().map(|(_, text)| text.as_str()).collect();
    let parts = ["network is cut", "network is restored", "bucket is cut", "bucket is restored"];
    assert_eq!(announced.len(), 4, "{announced:?}");
    parts.iter().zip(&announced).for_each(|(part, text)| assert!(text.contains(part), "{announced:?}"));
    let at: Vec<usize> = told.announced.iter().map(|(at, _)| *at).collect();
    let routes = |wanted: (Option<bool>, bool), from: usize, node: u64| {
        let is =
            |event: &Event| matches!(event, Event::Routes { network, bucket, .. } if (*network, *bucket) == wanted);
        told.together[from..].iter().any(|(number, event)| *number == node && is(event))
    };
    for node in 0..3 {
        assert!(routes((Some(false), true), at[0], node), "node {node} is told that the network is away");
        assert!(routes((Some(true), true), at[1], node), "node {node} is told that it is back");
        assert!(routes((Some(true), false), at[2], node), "node {node} is told that the bucket is away");
        assert!(routes((Some(true), true), at[3], node), "node {node} is told that it is back");
    }
    // With either way alone they learn of updates that were made while the other was away.
    for (from, to, way) in [(at[0], at[1], "bucket"), (at[2], at[3], "network")] {
        let during = &told.together[from..to];
        let made: Vec<(&str, u64)> = during
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Received { author, epoch, .. } => Some((author.as_str(), *epoch)),
                _ => None,
            })
            .collect();
        let published: Vec<u64> = during
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Published { epoch, .. } => Some(*epoch),
                _ => None,
            })
            .collect();
        let first = *published.iter().min().unwrap();
        assert!(made.iter().any(|(_, epoch)| *epoch > first), "by the {way}: {made:?}");
    }
    assert!(told.gains().iter().all(|gain| *gain > 0.0), "{:?}", told.gains());
}
