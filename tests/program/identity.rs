//! Identity: copied homes, missing homes, parts of the data, and which model is *the* model.

use super::{
    files::saved_digits,
    network::bootstrap,
    process::{Ended, Running, Sandbox},
};
use peerfold::{node::Event, weights::Weights};
use serde_json::Value;
use std::{collections::BTreeSet, fs, process::Command};

/// Copies a home as an operator does.
pub(super) fn copy(sandbox: &Sandbox, from: &str, to: &str) {
    let copied = Command::new("/bin/cp").arg("-r").arg(sandbox.path(from)).arg(sandbox.path(to)).status().unwrap();
    assert!(copied.success());
}

/// The peer id of a node that has begun.
pub(super) fn started(ended: &Ended) -> String {
    let started = |event: &Event| match event {
        Event::Started { peer, .. } => Some(peer.clone()),
        _ => None,
    };
    ended.events().iter().find_map(started).unwrap()
}

fn load(sandbox: &Sandbox, file: &str) -> Weights {
    Weights::from_safetensors(&fs::read(sandbox.path(file)).unwrap().into()).unwrap()
}

fn command(sandbox: &Sandbox, args: &[&str]) -> Ended {
    let mut command = sandbox.command(args);
    command.env("PEERFOLD_FEDERATION", "test");
    Ended::of(command)
}

/// A node on the network of loopback, with part 0 of 2.
fn on_network(sandbox: &Sandbox, home: &str, args: &[&str]) -> Command {
    let network = ["--folder", "p2p:", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"];
    sandbox.node(home, &[&network[..], args].concat())
}

#[test]
fn whose_home_was_copied_tells_its_peers_and_the_remedy_that_is_told_works() {
    let sandbox = Sandbox::new();
    let (_bootstrap, address) = bootstrap(&sandbox, "/ip4/127.0.0.1/tcp/0");
    let address = address.to_string();
    let list = ["--bootstrap", &address];
    let part = ["--partition", "0/2"];
    let run = |args: &[&[&str]]| on_network(&sandbox, "one", &args.concat());
    let peer = started(&Ended::of(run(&[&part, &["--epochs", "2"]])).success());
    copy(&sandbox, "one", "two");
    // Both sign under the same numbers, where neither sees the other.
    Ended::of(run(&[&part, &["--epochs", "4"]])).success();
    let third = ["--partition", "1/2", "--epochs", "100000", "--period", "0.1"];
    let mut third = Running::start(on_network(&sandbox, "third", &[&list[..], &third].concat()));
    third.event(|event| matches!(event, Event::Started { .. }));
    let two = ["--epochs", "4", "--data-seed", "7", "--stay", "--linger", "100"];
    let mut two = Running::start(on_network(&sandbox, "two", &[&list[..], &part, &two].concat()));
    two.event(|event| matches!(event, Event::Finished { .. }));
    // Which it does when its peer has its newest update.
    // It is connected under the same name as the other copy, which still runs.
    let copied = Ended::of(run(&[&list, &part, &["--epochs", "6"]]));
    let remedy = format!("--readmit {peer}");
    let told = |ended: &Ended| !ended.status.success() && ended.log.lines().last().unwrap().contains(&remedy);
    assert!(told(&copied), "{}", copied.log);
    let excluded = |event: &Event| matches!(event, Event::Excluded { author, .. } if *author == peer);
    assert!(copied.events().iter().any(excluded));
    third.event(excluded);
    two.kill();
    // By hand too.
    fs::write(sandbox.path("note"), "x").unwrap();
    let network = ["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--home", "one"];
    let put = command(&sandbox, &[&["folder", "put", "p2p:", "note", "note"][..], &network, &list].concat());
    assert!(told(&put), "{}", put.log);
    assert!(told(&Ended::of(run(&[&list, &part, &["--epochs", "6"]]))));
    let again = Ended::of(run(&[&list, &part, &["--epochs", "6", "--readmit", &peer]])).success();
    assert!(matches!(again.events().last(), Some(Event::Finished { epoch: 6, stopped: false, .. })));
}

#[test]
fn in_a_directory_the_remedy_works_too() {
    let sandbox = Sandbox::new();
    let folder = sandbox.folder();
    let run = |home: &str, args: &[&str]| {
        sandbox.node(home, &[&["--folder", &folder, "--partition", "0/2", "--period", "0.05"][..], args].concat())
    };
    let peer = started(&Ended::of(run("one", &["--epochs", "2"])).success());
    copy(&sandbox, "one", "two");
    let mut both = ["one", "two"].map(|home| (home, Running::start(run(home, &["--epochs", "100000"]))));
    let home = loop {
        if let Some(home) = both.iter_mut().find_map(|(home, node)| (!node.is_running()).then_some(*home)) {
            break home;
        }
        std::thread::sleep(super::process::LOOK);
    };
    for (name, node) in both {
        let ended = if name == home { node.wait() } else { node.kill() };
        if name == home {
            let error = ended.log.lines().last().unwrap_or_default();
            assert!(error.contains(&format!("--readmit {peer}")), "{}", ended.log);
        }
    }
    let at = |ended: &Ended| match ended.events().first() {
        Some(Event::Started { epoch, .. }) => *epoch,
        other => panic!("{other:?}"),
    };
    let again = Ended::of(run(home, &["--epochs", "1", "--readmit", &peer])).success();
    let more = (at(&again) + 2).to_string();
    Ended::of(run(home, &["--epochs", &more, "--readmit", &peer])).success();
}

#[test]
fn a_home_that_is_not_there_is_none_that_was_meant() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("note"), "x").unwrap();
    let folder = sandbox.folder();
    for args in [&["peers"][..], &["model", "--out", "m.safetensors"], &["folder", "rm", &folder, "note"]] {
        let ended = command(&sandbox, &[args, &["--home", "mistyped"]].concat());
        assert!(!ended.status.success() && ended.log.contains("there is no home mistyped"), "{args:?}: {}", ended.log);
        assert!(!sandbox.path("mistyped").exists() && !sandbox.path("folder").exists(), "{args:?}");
        let ended = command(&sandbox, args);
        assert!(!ended.status.success() && ended.log.contains("there is no home"), "{args:?}: {}", ended.log);
        assert!(!sandbox.user_home().join(".peerfold").exists());
    }
}

#[test]
fn what_lies_in_a_folder_says_what_it_is_and_its_key_is_what_get_takes() {
    let sandbox = Sandbox::new();
    let folder = sandbox.folder();
    let nodes = [("a", "0/2"), ("b", "1/2")].map(|(home, part)| {
        let out = format!("{home}.safetensors");
        let args = ["--folder", &folder, "--sync", "--partition", part, "--epochs", "3", "--out", &out];
        Running::start(sandbox.node(home, &[&args[..], &["--publish-folded"]].concat()))
    });
    let peers = nodes.map(|node| started(&node.wait().success()));
    let out = fs::read(sandbox.path("a.safetensors")).unwrap();
    // What is folded, what it was folded from, and that it is what the node itself has saved.
    let model = command(&sandbox, &["model", "--home", "a", "--out", "model.safetensors", "--json"]).success();
    let saved: Value = serde_json::from_str(&model.text()).unwrap();
    assert_eq!(fs::read(sandbox.path("model.safetensors")).unwrap(), out);
    assert_eq!(
        (saved["epoch"].as_u64(), saved["federation"].as_str(), saved["run"].as_str()),
        (Some(3), Some("test"), Some("1"))
    );
    assert_eq!(saved["root"], saved_digits(&sandbox.path("a.safetensors")).manifest().root().to_string());
    let from: BTreeSet<&str> =
        saved["folded_from"].as_array().unwrap().iter().map(|from| from["author"].as_str().unwrap()).collect();
    assert_eq!(from, peers.iter().map(String::as_str).collect());
    let text = command(&sandbox, &["model", "--home", "a", "--out", "model.safetensors"]).success().text();
    assert!(text.contains("epoch 3: folded from") && text.contains("weight"), "{text}");

    let rows = command(&sandbox, &["folder", "ls", &folder, "--json"]).success().text();
    let rows: Vec<Value> = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows.len(), 8, "{rows:#?}");
    for row in &rows {
        let (key, kind) = (row["key"].as_str().unwrap(), row["kind"].as_str().unwrap());
        assert_eq!(key, format!("{}/{}", row["author"].as_str().unwrap(), row["name"].as_str().unwrap()));
        let got = command(&sandbox, &["folder", "get", &folder, key, "--output", "got"]).success().text();
        assert!(got.starts_with("wrote got: ") && got.contains(&row["root"].as_str().unwrap()[..16]), "{got}");
        let update = row["name"].as_str().unwrap().starts_with("update/");
        assert_eq!(kind == "local_update", update);
        assert_eq!(got.contains("before the fold") && got.contains("its folded model is"), update, "{got}");
        if kind == "folded_model" {
            assert!(got.contains("folded"), "{got}");
            assert_eq!(load(&sandbox, "got"), load(&sandbox, "a.safetensors"));
            assert_eq!((row["epoch"].as_u64(), row["metrics"]["folded"].as_f64()), (Some(3), Some(2.0)));
        } else if update {
            assert_ne!(load(&sandbox, "got"), load(&sandbox, "a.safetensors"));
        }
    }
    assert_eq!(rows.iter().filter(|row| row["kind"] == "folded_model").count(), 2);
    let table = command(&sandbox, &["folder", "ls", &folder]).success().text();
    assert!(table.contains("unfolded") && table.contains("/model") && table.contains("age"), "{table}");
}

#[test]
fn over_a_network_no_age_is_made_up() {
    let sandbox = Sandbox::new();
    let args = ["--epochs", "2", "--stay"];
    let mut node = Running::start(on_network(&sandbox, "a", &args));
    node.event(|event| matches!(event, Event::Finished { .. }));
    let peers = command(&sandbox, &["peers", "--home", "a", "--json"]).success().text();
    let status: Value = serde_json::from_str(&peers).unwrap();
    let address = status["listening"][0].as_str().unwrap();
    let ls = |more: &[&str]| {
        let network = ["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--bootstrap", address];
        command(&sandbox, &[&["folder", "ls", "p2p:"][..], &network, more].concat()).success().text()
    };
    let rows: Vec<Value> = serde_json::from_str(&ls(&["--json"])).unwrap();
    assert!(rows.len() >= 3 && rows.iter().all(|row| row.get("age_seconds").is_none()), "{rows:?}");
    let table = ls(&[]);
    assert!(table.contains("/update/2") && !table.contains(" age "), "{table}");
}

#[test]
fn a_home_gives_its_newest_folded_model_while_its_node_runs_and_after() {
    let sandbox = Sandbox::new();
    let model = |args: &[&str]| {
        let mut command =
            sandbox.command([&["model", "--home", "a", "--out", "m.safetensors", "--json"][..], args].concat());
        command.env_remove("PEERFOLD_FEDERATION");
        Ended::of(command)
    };
    let saved = |args: &[&str]| serde_json::from_str::<Value>(&model(args).success().text()).unwrap();
    command(&sandbox, &["id", "--home", "a"]).success();
    assert!(model(&[]).error().contains("no checkpoint yet"), "{}", model(&[]).error());
    assert!(!sandbox.path("m.safetensors").exists());
    // Epoch 3 is trained, and isn't folded: that is the moment to be caught in.
    let mut command = sandbox.node("a", &["--folder", "memory:", "--epochs", "3"]);
    command.env("FAILPOINTS", "session::trained-saved=2*off->sleep(600000)");
    let mut node = Running::start(command);
    node.event(|event| matches!(event, Event::EpochDone { epoch: 2, .. }));
    node.sleeps();
    let second = saved(&[]);
    assert_eq!((second["epoch"].as_u64(), second["complete"].as_bool()), (Some(2), Some(true)), "{second}");
    node.kill();
    assert_eq!(saved(&[]), second);
    let out = ["--folder", "memory:", "--epochs", "3", "--out", "out.safetensors"];
    Ended::of(sandbox.node("a", &out)).success();
    assert_eq!(saved(&[])["epoch"], 3);
    assert_eq!(fs::read(sandbox.path("m.safetensors")).unwrap(), fs::read(sandbox.path("out.safetensors")).unwrap());
    // Of several federations one is to be named.
    for (federation, run) in [("other", "1"), ("other", "2")] {
        let args = ["--folder", "memory:", "--epochs", "1", "--federation", federation, "--run", run];
        Ended::of(sandbox.node("a", &args)).success();
    }
    let error = model(&[]).error().to_owned();
    for part in ["--federation", "federation \"test\", run \"1\"", "federation \"other\", run \"2\""] {
        assert!(error.contains(part), "{part} is not in {error}");
    }
    assert_eq!(saved(&["--federation", "test"])["epoch"], 3);
    assert_eq!(saved(&["--run", "2"])["federation"], "other");
    assert_eq!(saved(&["--federation", "other", "--run", "2"])["run"], "2");
    let error = model(&["--federation", "tset"]).error().to_owned();
    assert!(error.contains("no checkpoint of that federation") && error.contains("\"test\""), "{error}");
}

#[test]
fn who_goes_on_with_another_part_or_has_one_that_is_taken_is_told() {
    let sandbox = Sandbox::new();
    let folder = sandbox.folder();
    let run = |home: &str, part: &str, epochs: &str| {
        let args = ["--folder", &folder, "--partition", part, "--epochs", epochs];
        Ended::of(sandbox.node(home, &args)).success()
    };
    let mismatches = |ended: &Ended| {
        let mismatch = |event: &Event| match event {
            Event::Mismatch { author, differences } => Some((author.clone(), differences.clone())),
            _ => None,
        };
        ended.events().iter().filter_map(mismatch).collect::<Vec<_>>()
    };
    let first = run("a", "0/2", "1");
    assert!(mismatches(&first).is_empty());
    let same = run("b", "0/2", "2");
    let [(author, differences)] = mismatches(&same).try_into().unwrap();
    assert_eq!(author, started(&first));
    assert_eq!(differences, ["partition: 0/2, here the same, but each node should have its own"]);
    let other = run("b", "1/2", "3");
    let [(author, differences)] = mismatches(&other).try_into().unwrap();
    assert_eq!((author, differences), (started(&same), vec!["partition: 1/2, until this start 0/2".to_owned()]));
    // The whole is no part.
    let whole = Sandbox::new();
    let run = |home: &str| Ended::of(whole.node(home, &["--folder", &whole.folder(), "--epochs", "1"])).success();
    assert!(mismatches(&run("a")).is_empty() && mismatches(&run("b")).is_empty());
}
