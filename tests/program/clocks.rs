//! Nodes whose clocks are wrong by hours and by years, in one federation with one whose clock is right: by libfaketime.

use super::{
    network::bootstrap,
    process::{Running, Sandbox, event, timed},
};
use peerfold::node::Event;
use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    time::SystemTime,
};

/// How wrong they are, in the words of libfaketime, and by how many hours at least.
const CLOCKS: [(&str, i64); 3] = [("+0", 0), ("+5h", 4), ("-3y", -25_000)];
const EPOCHS: &str = "5";

/// The library that answers for the clock of a process, wherever this system has it; or says why a test is skipped.
fn faketime(test: &str) -> Option<PathBuf> {
    let dirs = fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok).map(|dir| dir.path());
    let libraries = dirs.map(|dir| dir.join("faketime/libfaketimeMT.so.1"));
    let found = libraries.into_iter().find(|library| library.exists());
    if found.is_none() {
        // Past what the test runner keeps of a test that passes.
        let _ = writeln!(io::stderr(), "\nSKIPPED {test}: libfaketime isn't installed: .ci/install-tools does it");
    }
    found
}

/// Whether an update of each node is in it.
fn is_fold_of_all(event: &Event) -> bool {
    matches!(event, Event::Folded { updates, .. } if updates.len() == CLOCKS.len())
}

fn they_finish(test: &str, more: &[&str]) {
    let Some(library) = faketime(test) else { return };
    let sandbox = Sandbox::new();
    let (_bootstrap, address) = bootstrap(&sandbox, "/ip4/127.0.0.1/tcp/0");
    let address = address.to_string();
    let mut nodes: Vec<(Running, i64)> = (CLOCKS.iter().enumerate())
        .map(|(number, (clock, hours))| {
            let part = format!("{number}/3");
            let network =
                ["--folder", "p2p:", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--bootstrap", &address];
            let run = ["--epochs", EPOCHS, "--min-peers", "2", "--sync-every", "1", "--partition", &part];
            let mut command = sandbox.node(&format!("node{number}"), &[&network[..], &run, more].concat());
            // What measures time still does: only what says what time it is doesn't.
            command.env("LD_PRELOAD", &library).env("FAKETIME", clock).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            (Running::start(command), *hours)
        })
        .collect();
    for (node, hours) in &mut nodes {
        let line = node.line(|line| is_fold_of_all(&event(line)));
        let hour =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed() / 3600;
        let wrong = hour(timed(&line).time) - hour(SystemTime::now());
        assert!(if *hours < 0 { wrong <= *hours } else { wrong >= *hours }, "its clock is wrong by {wrong} hours");
    }
    for (node, _) in nodes {
        let events = node.wait().success().events();
        assert!(matches!(events.last(), Some(Event::Finished { stopped: false, .. })), "{events:?}");
        let wrong = |event: &&Event| matches!(event, Event::PeerDropped { .. } | Event::Excluded { .. });
        let wrong: Vec<&Event> = events.iter().filter(wrong).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

#[test]
fn whatever_their_clocks_say_they_fold_each_other_and_finish() {
    they_finish("whatever_their_clocks_say_they_fold_each_other_and_finish", &[]);
}

#[test]
fn whatever_their_clocks_say_they_train_in_step() {
    they_finish("whatever_their_clocks_say_they_train_in_step", &["--sync"]);
}
