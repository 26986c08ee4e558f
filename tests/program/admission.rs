//! `--allow FILE`: followed while the node runs, and what the node says about it.

use super::process::{Ended, Running, Sandbox, until};
use peerfold::{
    node::Event,
    p2p::{NetworkStatus, PeerRole},
};
use std::{fs, process::Command};

/// A node on the network of loopback that stays.
fn node(sandbox: &Sandbox, home: &str, args: &[&str]) -> Command {
    let network = ["--folder", "p2p:", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--epochs", "1", "--stay"];
    sandbox.node(home, &[&network[..], args].concat())
}

/// The same command with its log in a file, which can be read while it runs.
fn logging(sandbox: &Sandbox, command: &Command, log: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    let script = format!("exec \"$0\" \"$@\" 2>'{}'", sandbox.path(log).display());
    shell.arg("-c").arg(script).arg(command.get_program()).args(command.get_args()).env_clear();
    shell.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    shell.current_dir(command.get_current_dir().unwrap());
    shell
}

fn status(sandbox: &Sandbox, home: &str) -> NetworkStatus {
    let ended = Ended::of(sandbox.command(["peers", "--json", "--home", home])).success();
    serde_json::from_str(&ended.text()).unwrap()
}

fn id(sandbox: &Sandbox, home: &str) -> String {
    Ended::of(sandbox.command(["id", "--home", home])).success().text()
}

#[test]
fn a_list_is_followed_while_the_node_runs_and_a_broken_edit_changes_nothing() {
    let sandbox = Sandbox::new();
    let guest = id(&sandbox, "b");
    // As editors do it, so that no reader sees half of it.
    let write = |text: &str| {
        fs::write(sandbox.path("new"), text).unwrap();
        fs::rename(sandbox.path("new"), sandbox.path("sites.txt")).unwrap();
    };
    write(&format!("# the wards\n{guest}  Ward 3\n"));
    let mut host = Running::start(logging(&sandbox, &node(&sandbox, "a", &["--allow", "sites.txt"]), "log"));
    host.event(|event| matches!(event, Event::Finished { .. }));
    let address = status(&sandbox, "a").listening[0].clone();
    let mut other = Running::start(node(&sandbox, "b", &["--bootstrap", &address, "--min-peers", "1"]));
    other.event(|event| matches!(event, Event::Finished { .. }));
    let members = || {
        let peers = status(&sandbox, "a").peers.into_iter().filter(|peer| peer.role == PeerRole::Member);
        peers.map(|peer| (peer.peer, peer.name)).collect::<Vec<_>>()
    };
    let named = [(guest.clone(), Some("Ward 3".to_owned()))];
    until(|| members() == named, || format!("{:?}", members()));
    let table = Ended::of(sandbox.command(["peers", "--home", "a"])).success().text();
    assert!(table.contains("Ward 3"), "{table}");

    let log = || fs::read_to_string(sandbox.path("log")).unwrap();
    let told = |what: &str| log().lines().filter(|line| line.contains(what)).count();
    write("# the wards\nward 4\n");
    until(|| told("line 2") == 1, log);
    assert_eq!(members(), named);
    fs::remove_file(sandbox.path("sites.txt")).unwrap();
    until(|| told("can't be read") == 1, log);
    assert_eq!(members(), named);

    write("# nobody\n");
    until(|| members().is_empty(), || format!("{:?}", members()));
    write(&format!("{guest} Ward 3a\n"));
    let named = [(guest, Some("Ward 3a".to_owned()))];
    until(|| members() == named, || format!("{:?}", members()));

    for node in [host, other] {
        node.signal("TERM");
        node.wait().success();
    }
    assert_eq!((told("line 2"), told("can't be read"), told("can join")), (1, 1, 0), "{}", log());
}

#[test]
fn an_open_federation_says_so_in_one_line_and_a_closed_one_does_not() {
    let sandbox = Sandbox::new();
    let guest = id(&sandbox, "guest");
    let network = ["--folder", "p2p:", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--epochs", "1"];
    for (home, list, lines) in [("open", None, 1), ("closed", Some(guest.as_str()), 0)] {
        let mut command = sandbox.node(home, &network);
        command.args(list.into_iter().flat_map(|list| ["--allow", list])).args(["--linger", "0"]);
        let ended = Ended::of(command).success();
        assert_eq!(ended.log.lines().filter(|line| line.contains("can join it")).count(), lines, "{}", ended.log);
    }
}

#[test]
fn a_wrong_list_is_one_line() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("sites.txt"), format!("{}\n\nward 4\n", id(&sandbox, "a"))).unwrap();
    let ended = Ended::of(sandbox.node("b", &["--folder", "p2p:", "--no-mdns", "--allow", "sites.txt"]));
    assert!(ended.error().contains("sites.txt, line 3: \"ward\" is no peer id"), "{}", ended.error());
}
