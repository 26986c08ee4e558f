//! Ctrl-C and SIGTERM.

use super::{
    files::saved_digits,
    process::{Ended, Running, Sandbox, event},
};
use peerfold::node::Event;
use std::{os::unix::process::ExitStatusExt, path::Path};

fn root(file: &Path) -> String {
    saved_digits(file).manifest().root().to_string()
}

#[test]
fn a_signal_publishes_saves_and_ends_without_error() {
    for signal in ["TERM", "INT"] {
        let sandbox = Sandbox::new();
        let args = ["--folder", &sandbox.folder(), "--epochs", "100000", "--out", "model.safetensors"];
        let mut node = Running::start(sandbox.node("node", &args));
        node.event(|event| matches!(event, Event::EpochDone { epoch: 3, .. }));
        node.signal(signal);
        let ended = node.wait().success();
        let Event::Finished { epoch, stopped: true, root: last, .. } = event(ended.lines.last().unwrap()) else {
            panic!("{:?}", ended.lines.last())
        };
        assert!(epoch >= 3);
        assert_eq!(root(&sandbox.path("model.safetensors")), last, "the weights after the last fold");
        let published = ended.events().into_iter().filter(|event| matches!(event, Event::Published { .. })).count();
        assert_eq!(published as u64, epoch, "what is complete is published");

        let goes_on = (epoch + 1).to_string();
        let args = ["--folder", &sandbox.folder(), "--epochs", &goes_on];
        let events = Ended::of(sandbox.node("node", &args)).success().events();
        assert!(matches!(&events[0], Event::Started { epoch: from, root, .. } if *from == epoch && *root == last));
    }
}

#[test]
fn a_signal_ends_waiting() {
    let sandbox = Sandbox::new();
    let folder = sandbox.folder();
    let mut starting = Running::start(sandbox.node("a", &["--folder", &folder, "--min-peers", "5"]));
    starting.event(|event| matches!(event, Event::Waiting { .. }));
    starting.signal("TERM");
    starting.wait().success();

    let sync = ["--folder", &folder, "--sync", "--nodes", "3", "--min-peers", "0"];
    let mut answering = Running::start(sandbox.node("b", &sync));
    answering.event(|event| matches!(event, Event::Waiting { epoch: 1, .. }));
    answering.signal("INT");
    let events = answering.wait().success().events();
    assert!(matches!(events.last(), Some(Event::Finished { epoch: 0, stopped: true, .. })), "{events:?}");
    let published = |event: &Event| match event {
        Event::Published { epoch, root, .. } => Some((*epoch, root.clone())),
        _ => None,
    };
    let first = events.iter().find_map(published).unwrap();

    // The epoch that was waiting is published again as it was.
    let mut again = Running::start(sandbox.node("b", &sync));
    let second = again.event(|event| matches!(event, Event::Published { .. }));
    assert_eq!(published(&second), Some(first));
}

#[test]
fn a_second_signal_ends_at_once() {
    for second in ["TERM", "INT"] {
        let sandbox = Sandbox::new();
        let mut command = sandbox.node("node", &["--folder", "memory:"]);
        command.env("FAILPOINTS", "session::trained=1*off->sleep(600000)");
        let mut node = Running::start(command);
        node.event(|event| matches!(event, Event::EpochDone { epoch: 1, .. }));
        node.sleeps();
        node.signal("INT");
        node.sleeps();
        assert!(node.is_running(), "the first signal waits for what is under way");
        node.signal(second);
        let ended = node.wait();
        assert_eq!((ended.status.code(), ended.status.signal()), (Some(130), None));
    }
}
