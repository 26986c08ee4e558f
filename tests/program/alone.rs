//! Knowing who is there: nodes and folders on a network that is empty, wrong, or behind a bootstrap node.

use super::process::{Ended, Running, Sandbox};
use peerfold::node::{Event, Origin};
use std::{
    fs,
    process::{Child, Command, Stdio},
    thread::{self, available_parallelism},
};

/// Nobody answers there, and nobody is called so.
const DEAD: &str = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7";
const LOOPBACK: [&str; 3] = ["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"];
const FEW: [&str; 4] = ["--epochs", "2", "--steps-per-epoch", "2"];

fn bootstrap(sandbox: &Sandbox) -> Running {
    let mut node =
        Running::start(sandbox.command(["bootstrap", "--home", "bootstrap", "--listen", "/ip4/127.0.0.1/tcp/0"]));
    let address = node.line(|line| line.contains("/p2p/"));
    fs::write(sandbox.path("list"), format!("{}\n", address.trim())).unwrap();
    node
}

fn node(sandbox: &Sandbox, home: &str, args: &[&str]) -> Command {
    sandbox.node(home, &[&["--folder", "p2p:"][..], &LOOPBACK, args].concat())
}

/// A node behind the bootstrap node that stays after its last epoch, which it has done.
fn member(sandbox: &Sandbox) -> Running {
    let args = ["--bootstrap", "list", "--linger", "0", "--stay"];
    let mut member = Running::start(node(sandbox, "member", &[&args[..], &FEW].concat()));
    member.event(|event| matches!(event, Event::Finished { .. }));
    member
}

fn folder(sandbox: &Sandbox, federation: &str, command: &[&str], list: &str) -> Command {
    let (what, rest) = command.split_first().unwrap();
    let place = ["folder", what, "p2p:", "--federation", federation, "--bootstrap", list];
    sandbox.command([&place[..], &LOOPBACK, rest].concat())
}

/// The error of a program that has failed; what it was warned of comes before.
fn failure(command: Command) -> String {
    let ended = Ended::of(command);
    assert!(!ended.status.success(), "no error, but {}", ended.text());
    ended.log.lines().last().unwrap().strip_prefix("error: ").unwrap().to_owned()
}

fn told_alone(events: &[Event]) -> Vec<(&str, bool)> {
    let alone = events.iter().filter_map(|event| match event {
        Event::Alone { reason, ended, .. } => Some((reason.as_str(), *ended)),
        _ => None,
    });
    alone.collect()
}

/// The new node knows the bootstrap node only, and is started so often, many at once, that everything between them comes
/// in every order and late.
#[test]
fn whoever_comes_late_never_begins_alone() {
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox);
    let _member = member(&sandbox);
    let at_once = 2 * available_parallelism().map_or(2, usize::from);
    for round in 0..3 {
        let started: Vec<Child> = (0..at_once)
            .map(|number| {
                let args = [&["--bootstrap", "list", "--linger", "0"][..], &FEW].concat();
                let mut command = node(&sandbox, &format!("late {round} {number}"), &args);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for child in started {
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let events: Vec<Event> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let begins = |event: &Event| matches!(event, Event::Started { epoch: 2, origin: Origin::Fold, .. });
            assert!(events.iter().any(begins), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(told_alone(&events), []);
        }
    }
    let listed = Ended::of(folder(&sandbox, "test", &["ls"], "list")).success();
    assert!(listed.text().contains("update/2"), "{}", listed.text());
    assert!(listed.log.contains("asked"), "{}", listed.log);
}

#[test]
fn a_node_without_anybody_says_so_at_once_and_at_its_end() {
    let sandbox = Sandbox::new();
    let run = |home: &str, args: &[&str]| {
        let ended = Ended::of(node(&sandbox, home, &[&FEW[..], args].concat())).success();
        let events = ended.events();
        let alone = told_alone(&events);
        assert_eq!(alone.iter().map(|(_, ended)| *ended).collect::<Vec<_>>(), [false, true], "{events:?}");
        let begun = events.iter().position(|event| matches!(event, Event::Published { .. })).unwrap();
        let told = events.iter().position(|event| matches!(event, Event::Alone { .. })).unwrap();
        assert!(told < begun, "it is said before anything is trained");
        assert!(alone[1].0.contains("no update of a peer was folded"), "{alone:?}");
        alone[0].0.to_owned()
    };
    let none = run("none", &[]);
    assert!(none.contains("no --bootstrap list is given") && none.contains("--no-mdns"), "{none}");
    let dead = run("dead", &["--bootstrap", DEAD]);
    assert!(dead.contains("the peer on the bootstrap list doesn't answer"), "{dead}");

    let _bootstrap = bootstrap(&sandbox);
    let empty = run("empty", &["--bootstrap", "list"]);
    assert_eq!(
        empty,
        "nobody else is in federation 'test' yet: the bootstrap node answers; training alone until somebody comes"
    );
    let _member = member(&sandbox);
    for (home, wrong) in [("name", ["--federation", "tset"]), ("run", ["--run", "2"])] {
        let reason = run(home, &[&["--bootstrap", "list"][..], &wrong].concat());
        assert!(reason.contains(if home == "name" { "'tset'" } else { "'test', run '2'," }), "{reason}");
        assert!(reason.contains("the bootstrap node answers"), "{reason}");
    }

    let text = Ended::of(
        sandbox.command([&["node", "--federation", "tyr", "--folder", "memory:", "--home", "text"][..], &FEW].concat()),
    )
    .success()
    .text();
    assert!(text.contains("nobody else is in federation 'tyr' yet"), "{text}");
    assert!(text.contains("training alone until somebody comes") && text.contains("trained alone"), "{text}");
}

#[test]
fn what_is_put_by_hand_is_with_somebody_or_it_is_an_error() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("note"), "hello").unwrap();
    let home = ["--home", "hand"];
    let put = [&["put"][..], &home, &["note", "note"]].concat();
    let error = failure(folder(&sandbox, "test", &put, DEAD));
    assert!(
        error.contains("nobody in federation 'test' has note: the peer on the bootstrap list doesn't answer"),
        "{error}"
    );
    let rm = [&["rm"][..], &home, &["note"]].concat();
    let error = failure(folder(&sandbox, "test", &rm, DEAD));
    assert!(error.contains("nobody in federation 'test' knows that note is gone"), "{error}");
    // At once: each gives the list its time.
    thread::scope(|scope| {
        for command in [&["ls"][..], &["digest"], &["get", "12D3/note", "--output", "got"]] {
            let command = folder(&sandbox, "test", command, DEAD);
            scope.spawn(move || {
                let error = failure(command);
                assert!(error.contains("nobody in federation 'test' could be asked"), "{error}");
            });
        }
    });

    let _bootstrap = bootstrap(&sandbox);
    let error = failure(folder(&sandbox, "test", &put, "list"));
    assert!(error.contains("the bootstrap node answers"), "{error}");

    let _member = member(&sandbox);
    let done = Ended::of(folder(&sandbox, "test", &put, "list")).success();
    assert!(done.log.contains("1 peer holds it"), "{}", done.log);
    // The program that put it has gone.
    let rows = Ended::of(folder(&sandbox, "test", &["ls", "--json"], "list")).success().text();
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    let own = Ended::of(sandbox.command(["id", "--home", "hand"])).success().text();
    assert!(rows.as_array().unwrap().iter().any(|row| row["author"] == own.trim()), "{rows}");
    let key = format!("{}/note", own.trim());
    Ended::of(folder(&sandbox, "test", &["get", &key, "--output", "got"], "list")).success();
    assert_eq!(fs::read_to_string(sandbox.path("got")).unwrap(), "hello");

    let done = Ended::of(folder(&sandbox, "test", &rm, "list")).success();
    assert!(done.log.contains("1 peer knows that it is gone"), "{}", done.log);
    let error = failure(folder(&sandbox, "test", &["get", &key, "--output", "got"], "list"));
    assert!(error.contains("there is no"), "{error}");
}
