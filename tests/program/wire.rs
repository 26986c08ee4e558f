//! A peer in Python that knows only `docs/wire.md` takes part in a node's federation over TCP.

use super::{
    network::status,
    process::{Ended, Running, Sandbox},
    python::python,
};
use peerfold::node::Event;
use serde_json::Value;
use std::path::Path;

/// A node that waits after each of three epochs for the update of the one other node, which is `docs/wire/peer.py`. With
/// these flags, on both sides.
fn fold_a_peer_that_knows_only_the_page(sandbox: &Sandbox, flags: &[&str]) {
    let Some(mut command) = python() else { return };
    let network = ["--folder", "p2p:", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"];
    let waiting = ["--epochs", "3", "--sync", "--nodes", "2", "--min-peers", "0"];
    let mut node = Running::start(sandbox.node("node", &[&network[..], &waiting, flags].concat()));
    node.event(|event| matches!(event, Event::Started { .. }));
    let told = status(sandbox, "node");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/wire/peer.py");
    // Other weights than the node's, which it has to fetch.
    command.current_dir(sandbox.path("")).arg("-B").arg(script).args(["join", &told.listening[0]]);
    command.args(["--federation", "test", "--shift", "0.25"]).args(flags);
    let said = Running::start(command).wait().success();
    let said: Vec<Value> = said.lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let texts = |event: &str, key: &str| -> Vec<String> {
        let of = said.iter().filter(|said| said["event"] == event);
        of.map(|said| said[key].as_str().unwrap().to_owned()).collect()
    };
    let peer = texts("started", "peer").remove(0);
    assert_eq!(texts("connected", "peer"), std::slice::from_ref(&told.peer), "{said:#?}");

    let events = node.wait().success().events();
    let (mut published, mut received, mut folded) = (Vec::new(), Vec::new(), Vec::new());
    for event in &events {
        match event {
            Event::Published { root, .. } => published.push(root.clone()),
            Event::Received { author, root, .. } if *author == peer => received.push(root.clone()),
            Event::Folded { updates, .. } => {
                let theirs = updates.iter().filter(|update| !update.own);
                folded.extend(theirs.map(|update| (update.author.as_str(), update.epoch)));
            }
            Event::Rejected { .. } | Event::PeerDropped { .. } => panic!("{event:?}"),
            _ => {}
        }
    }
    assert_eq!(folded, [1, 2, 3].map(|epoch| (peer.as_str(), epoch)), "{events:#?}");
    assert_eq!((texts("took", "root"), texts("published", "root")), (published, received), "{said:#?}");
    assert!(texts("served", "peer").contains(&told.peer), "{said:#?}");
}

#[test]
fn a_peer_that_knows_only_the_page_is_folded() {
    fold_a_peer_that_knows_only_the_page(&Sandbox::new(), &[]);
}

#[test]
fn a_peer_that_knows_only_the_page_and_the_secret_is_folded() {
    let sandbox = Sandbox::new();
    Ended::of(sandbox.command(["secret", "new", "ward.secret"])).success();
    fold_a_peer_that_knows_only_the_page(&sandbox, &["--secret", "ward.secret"]);
}
