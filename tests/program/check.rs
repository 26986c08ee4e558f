//! `peerfold check`, with each kind of mistake that its users make.

use super::{
    network::{bootstrap, status},
    process::{Ended, Running, Sandbox},
};
use peerfold::p2p::{Between, CheckReport, PeerAddress, Standing};
use std::net::TcpListener;

/// Nobody is called so.
const NOBODY: &str = "12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7";

fn check(sandbox: &Sandbox, args: &[&str]) -> Ended {
    let listen = ["check", "--home", "none", "--listen", "/ip4/127.0.0.1/tcp/0", "--handshake-timeout", "3"];
    Ended::of(sandbox.command(listen.iter().chain(args)))
}

#[test]
fn who_is_reached_and_who_reaches_is_told() {
    let sandbox = Sandbox::new();
    let (_bootstrap, address) = bootstrap(&sandbox, "/ip4/127.0.0.1/tcp/0");
    let address = address.to_string();
    let network = ["--folder", "p2p:", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--bootstrap", &address];
    let mut node = Running::start(sandbox.node("a", &[&network[..], &["--min-peers", "1"]].concat()));
    // It has announced itself once others wait with it.
    node.line(|line| line.contains("\"waiting\""));

    let told = |federation: &str| {
        let ended = check(&sandbox, &["--bootstrap", &address, "--federation", federation, "--json"]).success();
        serde_json::from_str::<CheckReport>(&ended.text()).unwrap()
    };
    let report = told("test");
    let [checked] = &report.list[..] else { panic!("{report:?}") };
    assert!(checked.reached && checked.relays && checked.wrong.is_none(), "{report:?}");
    assert_eq!(checked.protocol.as_deref(), Some("/peerfold/1"));
    assert_eq!(checked.federation, Some(Standing::Known));
    assert!(checked.clock_ahead_ms.is_some_and(|ahead| ahead.abs() < 60_000), "it is the same clock: {report:?}");
    assert!(report.own.iter().any(|own| own.reached), "{report:?}");
    assert_eq!((report.between, report.members), (Between::Nothing, Some(1)), "{report:?}");
    let another = told("another");
    assert_eq!((another.members, another.list[0].federation), (Some(0), Some(Standing::Unknown)));

    let text = check(&sandbox, &["--bootstrap", &address, "--federation", "test"]).success().text();
    for part in [
        "is reached in ",
        "peerfold-bootstrap/",
        ", relays, knows members of the federation\n",
        "1 member of the federation is known there",
        "seen at /ip4/127.0.0.1/tcp/",
        "there is nothing to do",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(!sandbox.path("none").exists(), "it makes no home");
}

#[test]
fn a_member_says_that_it_is_one_to_those_it_admits() {
    let sandbox = Sandbox::new();
    let listen = ["--folder", "p2p:", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--min-peers", "1"];
    let waits = |home: &str, args: &[&str]| {
        let mut node = Running::start(sandbox.node(home, &[&listen[..], args].concat()));
        node.line(|line| line.contains("\"waiting\""));
        let told = status(&sandbox, home);
        (node, told.listening[0].clone())
    };
    let (_open, address) = waits("open", &[]);
    let told = |address: &str, federation: &str| {
        let ended = check(&sandbox, &["--bootstrap", address, "--federation", federation, "--json"]).success();
        serde_json::from_str::<CheckReport>(&ended.text()).unwrap().list.remove(0)
    };
    assert_eq!(told(&address, "test").federation, Some(Standing::Member));
    assert_eq!(told(&address, "another").federation, Some(Standing::Unknown));
    let ended = check(&sandbox, &["--bootstrap", &address]).success();
    assert!(!ended.text().contains("of the federation"), "none was named: {}", ended.text());

    // Who isn't admitted is told nothing.
    std::fs::write(sandbox.path("members.txt"), format!("{NOBODY} ward\n")).unwrap();
    let (_closed, address) = waits("closed", &["--allow", "members.txt"]);
    let checked = told(&address, "test");
    assert_eq!((checked.federation, checked.clock_ahead_ms), (None, None), "{checked:?}");
}

#[test]
fn a_bootstrap_node_relays_unless_it_is_told_not_to() {
    let sandbox = Sandbox::new();
    let args = ["bootstrap", "--home", "quiet", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-relay"];
    let mut quiet = Running::start(sandbox.command(args));
    let address = quiet.line(|line| line.contains("/p2p/"));
    let ended = check(&sandbox, &["--bootstrap", &address, "--json"]).success();
    let report: CheckReport = serde_json::from_str(&ended.text()).unwrap();
    assert!(report.list[0].reached && !report.list[0].relays && report.members.is_none(), "{report:?}");
}

#[test]
fn each_mistake_has_a_line_that_says_what_to_do() {
    let sandbox = Sandbox::new();
    let (_bootstrap, address) = bootstrap(&sandbox, "/ip4/127.0.0.1/tcp/0");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // The system takes the connections, and nobody says anything.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|at| (at.port(), silent)).unwrap();
    Ended::of(sandbox.command(["secret", "new", "ward.secret"])).success();
    let at = |port: u16, peer: &str| format!("/ip4/127.0.0.1/tcp/{port}/p2p/{peer}");
    let PeerAddress { address: plain, .. } = &address;
    for (listed, args, parts) in [
        (at(closed, NOBODY), &[][..], &["refused", "is it the right one"][..]),
        (format!("{plain}/p2p/{NOBODY}"), &[], &["answers there", "write its peer id into the list"]),
        (at(silent.0, NOBODY), &[], &["isn't reached", "nobody answers"]),
        (format!("/dns/nowhere.invalid/tcp/1/p2p/{NOBODY}"), &[], &["the name can't be looked up"]),
        (address.to_string(), &["--secret", "ward.secret"], &["secret", "both ends need the same file"]),
    ] {
        let ended = check(&sandbox, &[&["--bootstrap", &listed], args].concat());
        assert_eq!(ended.status.code(), Some(1), "{listed}: {}", ended.log);
        let [line, nobody] = &ended.lines[..] else { panic!("{listed}: {:#?}", ended.lines) };
        assert!(line.starts_with(&listed) && nobody == "nobody was reached", "{line}");
        for part in parts {
            assert!(line.contains(part), "{part} is not in: {line}");
        }
    }
    for (args, part) in [
        (&[][..], "--bootstrap is missing"),
        (&["--bootstrap", "127.0.0.1:4600"], "neither a peer's multiaddr"),
        (&["--bootstrap", plain.to_string().as_str()], "lacks /p2p/"),
    ] {
        let ended = check(&sandbox, args);
        assert!(ended.log.lines().count() <= 3 && ended.log.contains(part), "{part} is not in: {}", ended.log);
        assert_ne!(ended.status.code(), Some(0));
    }
    // One that works is enough.
    let dead = at(closed, NOBODY);
    let ended = check(&sandbox, &["--bootstrap", &dead, "--bootstrap", &address.to_string()]).success();
    assert!(ended.lines[0].contains("isn't reached") && ended.lines[1].contains("is reached in"), "{:#?}", ended.lines);
}
