//! `peerfold members`: a list that an administrator signs at one place, and that running nodes follow.

use super::process::{Ended, Running, Sandbox, until};
use peerfold::{
    node::Event,
    p2p::{NetworkStatus, PeerRole},
};
use std::process::Command;

const ANY: &str = "/ip4/127.0.0.1/tcp/0";

fn id(sandbox: &Sandbox, home: &str) -> String {
    Ended::of(sandbox.command(["id", "--home", home])).success().text()
}

fn status(sandbox: &Sandbox, home: &str) -> NetworkStatus {
    let ended = Ended::of(sandbox.command(["peers", "--json", "--home", home])).success();
    serde_json::from_str(&ended.text()).unwrap()
}

/// The list that a home has; empty if it has none.
fn list(sandbox: &Sandbox, home: &str) -> String {
    Ended::of(sandbox.command(["members", "--federation", "test", "--home", home])).text()
}

/// The number of the list that a command has shown.
fn number(shown: &Ended) -> u64 {
    let text = shown.text();
    text.strip_prefix("list ").and_then(|rest| rest.split_once(',')).unwrap().0.parse().unwrap()
}

#[test]
fn sites_come_and_go_by_one_command_while_the_nodes_run() {
    let sandbox = Sandbox::new();
    let [admin, b, c] = ["a", "b", "c"].map(|home| id(&sandbox, home));
    let network = ["--folder", "p2p:", "--listen", ANY, "--no-mdns"];
    let members = |args: &[&str]| {
        let at = ["--federation", "test", "--home", "a"];
        Ended::of(sandbox.command([&["members"][..], args, &at, &network].concat()))
    };
    let node = |home: &str, args: &[&str]| {
        let common = ["--epochs", "1", "--stay", "--admin", &admin];
        sandbox.node(home, &[&network[..], &common, args].concat())
    };
    // With nobody there it is signed, and nobody is said to know it.
    let alone = members(&["add", &b, "--name", "ward-b"]);
    assert_eq!(alone.status.code(), Some(1), "{}", alone.text());
    assert!(alone.log.contains("nobody in federation 'test' knows list"), "{}", alone.log);
    assert!(list(&sandbox, "a").contains(&format!("{b} ward-b")));

    let mut a = Running::start(node("a", &[]));
    a.event(|event| matches!(event, Event::Finished { .. }));
    let address = status(&sandbox, "a").listening[0].clone();
    let start = |home: &str| {
        let mut running = Running::start(node(home, &["--bootstrap", &address]));
        running.event(|event| matches!(event, Event::Finished { .. }));
        running
    };
    let _b = start("b");
    until(|| list(&sandbox, "b").contains("ward-b"), || list(&sandbox, "b"));
    let mut outside = start("c");
    let peers = |home: &str| -> Vec<String> {
        let peers = status(&sandbox, home).peers.into_iter().filter(|peer| peer.role == PeerRole::Member);
        peers.map(|peer| peer.peer).collect()
    };
    let authors = |home: &str| status(&sandbox, home).authors;
    until(|| authors("b") == 2, || format!("{:?}", status(&sandbox, "b")));
    assert_eq!((peers("a"), authors("a")), (vec![b.clone()], 2));

    // The node that has the home publishes it.
    let added = members(&["add", &c, "--name", "ward-c"]).success();
    // The one that was there, or the new one as well if it is as quick.
    let told = ["1 peer knows it", "2 peers know it"].iter().any(|told| added.log.contains(told));
    assert!(added.text().contains(&format!("{c} ward-c")) && told, "{}", added.log);
    until(|| authors("b") == 3 && authors("c") == 3, || format!("{:?}", status(&sandbox, "b")));
    assert!(peers("a").contains(&c));
    until(|| list(&sandbox, "c") == added.text(), || list(&sandbox, "c"));

    let revoked = members(&["revoke", "ward-c"]).success();
    assert!(!revoked.text().contains(&c) && number(&revoked) > number(&added), "{}", revoked.text());
    let gone = |home: &str| authors(home) == 2 && !peers(home).contains(&c);
    until(|| gone("a") && gone("b"), || format!("{:?}", [status(&sandbox, "a"), status(&sandbox, "b")]));
    assert_eq!(list(&sandbox, "b"), revoked.text());
    assert!(outside.is_running());
    let again = members(&["revoke", "ward-c"]);
    assert!(again.error().contains("nobody in the list is called \"ward-c\""), "{}", again.error());
    let mine =
        Ended::of(sandbox.command(["members", "add", &c, "--federation", "test", "--home", "b", "--admin", &admin]));
    assert!(mine.error().contains("only the administrator signs"), "{}", mine.error());
    let both = sandbox.node("d", &[&network[..], &["--admin", &admin, "--allow", &admin]].concat());
    let both = Ended::of(both);
    assert!(!both.status.success() && both.log.contains("--allow too"), "{}", both.log);

    // Who joins knows the members before it has met anybody.
    let settings = ["--federation", "test", "--admin", &admin, "--bootstrap", &address, "--home", "a"];
    let invited = Ended::of(sandbox.command([&["invite"][..], &settings].concat())).success();
    Ended::of(sandbox.command(["join", &invited.text(), "--home", "e"])).success();
    assert_eq!(list(&sandbox, "e"), revoked.text());
}

/// Publishes from the administrator's home, where no node runs.
fn through(sandbox: &Sandbox, url: &str, with: impl Fn(Command) -> Command) {
    let [admin, b, c] = ["a", "b", "c"].map(|home| id(sandbox, home));
    let members = |args: &[&str]| {
        let at = ["--federation", "test", "--home", "a", "--folder", url];
        Ended::of(with(sandbox.command([&["members"][..], args, &at].concat()))).success()
    };
    let node = |home: &str| {
        let args = ["--epochs", "1000000", "--admin", &admin, "--folder", url];
        Running::start(with(sandbox.node(home, &args)))
    };
    members(&["add", &b]);
    members(&["add", &c]);
    let [mut one, mut other] = ["b", "c"].map(node);
    let folds = |event: &Event, author: &str| {
        let Event::Folded { updates, .. } = event else { return false };
        updates.iter().any(|update| update.author == author)
    };
    one.event(|event| folds(event, &c));
    other.event(|event| folds(event, &b));
    let revoked = members(&["revoke", &c]);
    until(|| list(sandbox, "b") == revoked.text(), || list(sandbox, "b"));
    // What was told before is still to be read. The other one trains on, so its updates would be folded.
    let without = std::cell::Cell::new(0);
    one.event(|event| {
        if folds(event, &c) {
            without.set(0);
        }
        without.set(without.get() + usize::from(matches!(event, Event::EpochDone { .. })));
        without.get() == 6
    });
    assert!(other.is_running());
    members(&["add", &c]);
    one.event(|event| folds(event, &c));
}

#[test]
fn a_directory_carries_the_list() {
    let sandbox = Sandbox::new();
    let url = sandbox.folder();
    through(&sandbox, &url, |command| command);
}

#[cfg(feature = "s3")]
#[test]
fn a_bucket_carries_the_list() {
    use super::buckets::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, Server};
    let (sandbox, server) = (Sandbox::new(), Server::start());
    through(&sandbox, &format!("s3://{BUCKET}/ward"), |mut command| {
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY).env("AWS_REGION", REGION);
        command.env("PEERFOLD_S3_ENDPOINT", server.endpoint()).env("PEERFOLD_S3_ALLOW_HTTP", "true");
        command
    });
}
