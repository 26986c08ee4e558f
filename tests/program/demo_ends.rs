//! However a demo ends, it leaves no process and no file behind.

use super::{
    mistakes::{small_mnist, truncate},
    process::{Ended, Running, Sandbox, signal, until},
};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::Stdio,
};

const LONG: [&str; 4] = ["demo", "--json", "--epochs", "100000"];

/// A demo whose nodes are at work.
fn at_work(sandbox: &Sandbox) -> Running {
    let mut demo = Running::start(sandbox.command(LONG));
    demo.line(|line| line.contains("\"epoch_done\""));
    assert_eq!(fs::read_dir(sandbox.temporary()).unwrap().count(), 1);
    demo
}

/// The ids of the demo's processes that do this.
fn doing(sandbox: &Sandbox, subcommand: &str) -> Vec<u32> {
    let does = |id: &u32| {
        let arguments = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        arguments.split(|&byte| byte == 0).nth(1) == Some(subcommand.as_bytes())
    };
    sandbox.processes().into_iter().filter(does).collect()
}

/// Whether this process, and so those that it starts, ignores SIGHUP, which is number 1.
fn ignores_hangups() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}

#[test]
fn after_a_signal() {
    for name in ["INT", "TERM"] {
        let sandbox = Sandbox::new();
        let demo = at_work(&sandbox);
        demo.signal(name);
        let ended = demo.wait();
        assert_eq!(ended.status.code(), Some(130));
        let last: serde_json::Value = serde_json::from_str(ended.lines.last().unwrap()).unwrap();
        assert!(last["event"] == "stopped" && last["time"].is_string(), "{last}");
        // Not later: the demo itself has cleaned up.
        assert_eq!(sandbox.processes(), [0; 0]);
        assert_eq!(fs::read_dir(sandbox.temporary()).unwrap().count(), 0);
    }
}

#[test]
fn after_two_signals() {
    let sandbox = Sandbox::new();
    let demo = at_work(&sandbox);
    demo.signal("INT");
    // It may have ended already.
    if sandbox.processes().contains(&demo.id()) {
        demo.signal("TERM");
    }
    assert_eq!(demo.wait().status.code(), Some(130));
    sandbox.wait_until_nothing_is_left();
}

#[test]
fn after_a_kill() {
    // HUP: its terminal was closed. Who runs the tests under nohup has it ignored, by all processes that come of it.
    let names: &[&str] = if ignores_hangups() { &["KILL"] } else { &["KILL", "HUP"] };
    for name in names {
        let sandbox = Sandbox::new();
        let demo = at_work(&sandbox);
        demo.signal(name);
        assert_eq!(demo.wait().status.code(), None);
        sandbox.wait_until_nothing_is_left();
    }
}

#[test]
fn after_a_kill_at_the_start() {
    let sandbox = Sandbox::new();
    for processes in [1, 2, 3, 4, 5, 6] {
        let demo = Running::start(sandbox.command(LONG));
        until(|| sandbox.processes().len() >= processes, || format!("never {processes} processes"));
        demo.kill();
        sandbox.wait_until_nothing_is_left();
    }
}

#[test]
fn after_the_guard_was_killed() {
    let sandbox = Sandbox::new();
    let demo = at_work(&sandbox);
    signal(doing(&sandbox, "demo-guard")[0], "KILL");
    demo.signal("INT");
    assert_eq!(demo.wait().status.code(), Some(130));
    sandbox.wait_until_nothing_is_left();
}

#[test]
fn after_the_bootstrap_node_was_killed() {
    let sandbox = Sandbox::new();
    let mut demo = Running::start(sandbox.command(["demo", "--epochs", "12"]));
    demo.line(|line| line.contains("epoch 2/12"));
    signal(doing(&sandbox, "bootstrap")[0], "KILL");
    assert!(demo.wait().success().text().contains("federated"), "who has met needs it no more");
    sandbox.wait_until_nothing_is_left();
}

#[test]
fn after_a_node_was_killed() {
    let sandbox = Sandbox::new();
    let demo = at_work(&sandbox);
    signal(doing(&sandbox, "node")[0], "KILL");
    let ended = demo.wait();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.error().contains("failed: it ended with signal: 9"), "{}", ended.error());
    let last: serde_json::Value = serde_json::from_str(ended.lines.last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["reason"]), (&"failed".into(), &ended.error().into()));
    assert_eq!(sandbox.processes(), [0; 0]);
    sandbox.wait_until_nothing_is_left();
}

#[test]
fn after_a_node_was_stopped() {
    let sandbox = Sandbox::new();
    let demo = at_work(&sandbox);
    signal(doing(&sandbox, "node")[0], "TERM");
    let ended = demo.wait();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.error().contains("failed: it ended after epoch"), "{}", ended.error());
    sandbox.wait_until_nothing_is_left();
}

#[test]
fn after_nodes_that_cannot_begin() {
    let sandbox = Sandbox::new();
    let data = sandbox.path("data");
    small_mnist(&data);
    truncate(&data.join("train-labels-idx1-ubyte"));
    let ended = Ended::of(sandbox.command(["demo", "--dataset", "mnist", "--data-dir", "data"]));
    assert_eq!(ended.status.code(), Some(1));
    let error = ended.error();
    assert!(error.contains("node ") && error.contains("train-labels-idx1-ubyte"), "{error}");
    sandbox.wait_until_nothing_is_left();
}

#[test]
fn after_its_reader_has_left() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(["demo", "--epochs", "100000"]);
    let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(demo.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("3 nodes learn digits"), "{first}");
    let ended = demo.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    sandbox.wait_until_nothing_is_left();
}
