//! Nodes that share nothing but the network, each started separately.

use super::process::{Ended, Running, Sandbox};
use libp2p_identity::PeerId;
use peerfold::{
    node::{Event, Origin},
    p2p::{NetworkStatus, PeerAddress, PeerRole, Transport},
};
use std::{
    cell::Cell,
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, TcpListener},
    process::Command,
};

/// Nobody answers there, and nobody is called so.
const DEAD: &str = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWPnfEHvMo1WEsMrwy5HSkijx33tpcNNZJZ1L5cp4DxsQ7";

/// A bootstrap node on loopback, and its address.
pub(super) fn bootstrap(sandbox: &Sandbox, listen: &str) -> (Running, PeerAddress) {
    let command = sandbox.command(["bootstrap", "--home", "bootstrap", "--listen", listen]);
    let mut node = Running::start(command);
    let address = node.line(|line| line.contains("/p2p/")).parse().unwrap();
    (node, address)
}

/// A node on the network of loopback, whose home has this name.
fn node(sandbox: &Sandbox, home: &str, args: &[&str]) -> Command {
    let network = ["--folder", "p2p:", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--epochs", "4"];
    sandbox.node(home, &[&network[..], &["--steps-per-epoch", "30"], args].concat())
}

fn is_finished(event: &Event) -> bool {
    matches!(event, Event::Finished { epoch: 4, stopped: false, .. })
}

/// What a running node says of its network.
pub(super) fn status(sandbox: &Sandbox, home: &str) -> NetworkStatus {
    let ended = Ended::of(sandbox.command(["peers", "--json", "--home", home])).success();
    serde_json::from_str(&ended.text()).unwrap()
}

#[test]
fn they_find_each_other_in_any_order_and_one_that_stays_is_enough_for_who_comes_late() {
    let sandbox = Sandbox::new();
    let (first_life, address) = bootstrap(&sandbox, "/ip4/127.0.0.1/tcp/0");
    first_life.kill();
    fs::write(sandbox.path("peers.txt"), format!("# one is dead\n{DEAD}\n{address}\nrubbish\n")).unwrap();
    let list = ["--bootstrap", "peers.txt", "--min-peers", "1"];

    // The first node waits for the others and for the bootstrap node.
    let mut staying = Running::start(node(&sandbox, "a", &[&list[..], &["--partition", "0/3", "--stay"]].concat()));
    staying.event(|event| matches!(event, Event::Waiting { .. }));
    let mut leaving = Running::start(node(&sandbox, "b", &[&list[..], &["--partition", "1/3"]].concat()));
    leaving.event(|event| matches!(event, Event::Waiting { .. }));
    let (bootstrap, again) = bootstrap(&sandbox, &address.address.to_string());
    assert_eq!(again, address);

    let folds = |event: &Event| matches!(event, Event::Folded { updates, .. } if updates.len() == 2);
    let ended = leaving.wait().success();
    assert!(ended.log.contains("peers.txt: line 4: \"rubbish\""), "{}", ended.log);
    let events = ended.events();
    assert!(events.iter().any(folds));
    let Some(Event::Finished { sent, received, .. }) = events.iter().find(|event| is_finished(event)) else {
        panic!("{events:?}")
    };
    assert!(sent.is_some_and(|sent| sent > 0) && received.is_some_and(|received| received > 0));
    // Whichever of the two is later may begin where the other is, and then trains fewer epochs.
    let trained = Cell::new(0);
    staying.event(|event| {
        trained.set(trained.get() + u64::from(matches!(event, Event::EpochDone { .. })));
        is_finished(event)
    });
    bootstrap.kill();

    // Of a list in which the bootstrap node is dead too, the peer is left.
    let told = status(&sandbox, "a");
    assert!(told.entries >= 4 && told.authors == 2 && told.cached > 0, "{told:?}");
    let figures = told.figures.as_ref().unwrap();
    let epochs = (&figures["run"]["epoch"], &figures["training"]["epochs"]);
    assert_eq!(epochs, (&4.into(), &trained.get().into()), "{figures}");
    for (part, count) in [("network", "sent"), ("cache", "used"), ("traffic", "written")] {
        assert!(figures["folder"][part][count].as_u64() > Some(0), "{part} {count}: {figures}");
    }
    let late = [
        "--bootstrap",
        "peers.txt",
        "--bootstrap",
        &told.listening[0],
        "--partition",
        "2/3",
        "--stay",
        "--min-peers",
        "2",
    ];
    let mut late = Running::start(node(&sandbox, "c", &late));
    let started = late.event(|event| matches!(event, Event::Started { .. }));
    assert!(matches!(&started, Event::Started { epoch: 4, origin: Origin::Fold, authors, .. } if authors.len() == 2));
    late.event(is_finished);

    let told = status(&sandbox, "c");
    let member = |peer: &&peerfold::p2p::PeerStatus| peer.role == PeerRole::Member;
    let members: Vec<_> = told.peers.iter().filter(member).collect();
    assert!(members.len() == 1 && members[0].transport == Transport::Tcp && members[0].received > 0, "{told:?}");
    let table = Ended::of(sandbox.command(["peers", "--home", "c"])).success().text();
    for part in [&told.peer, "listens on /ip4/127.0.0.1/tcp/", "member", "/ip4/127.0.0.1/tcp/", "TCP", "ago"] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    for node in [staying, late] {
        node.signal("TERM");
        node.wait().success();
    }
}

#[test]
fn a_port_in_use_is_one_line() {
    let sandbox = Sandbox::new();
    let (_bootstrap, address) = bootstrap(&sandbox, "/ip4/127.0.0.1/tcp/0");
    let address = address.address.to_string();
    let args = ["--folder", "p2p:", "--no-mdns", "--allow", &DEAD[DEAD.len() - 52..], "--listen", &address];
    let ended = Ended::of(sandbox.node("node", &args));
    assert!(ended.error().contains("another program listens there already"), "{}", ended.error());
}

/// All of a list is dead but one.
#[test]
fn a_list_with_a_thousand_dead_addresses_costs_a_few_lines_and_hides_nobody() {
    let sandbox = Sandbox::new();
    let (_bootstrap, alive) = bootstrap(&sandbox, "/ip4/127.0.0.1/tcp/0");
    let dead = (0..1000).map(|number| {
        let address = match number % 2 {
            0 => format!("/ip4/127.0.0.1/tcp/{}", 1 + number % 9),
            _ => format!("/ip4/127.{}.0.1/tcp/9", 1 + number % 200),
        };
        format!("{address}/p2p/{}\n", PeerId::random())
    });
    let list = dead.chain([format!("{alive}\n")]).collect::<String>();
    fs::write(sandbox.path("list"), list).unwrap();
    // Each waits for the other in each epoch, however late it found it.
    let args = ["--bootstrap", "list", "--sync", "--min-peers", "1", "--start-deadline", "60"];
    let nodes = [("a", "0/2"), ("b", "1/2")]
        .map(|(home, part)| Running::start(node(&sandbox, home, &[&args[..], &["--partition", part]].concat())));
    for mut node in nodes {
        node.event(|event| matches!(event, Event::Folded { updates, .. } if updates.len() == 2));
        node.event(is_finished);
        let log = node.wait().success().log;
        let told = log.lines().filter(|line| line.contains("can't be reached")).count();
        assert!((1..=16).contains(&told), "{told}: {log}");
    }
}

/// Where it listens, of all interfaces, each address once.
fn listening(sandbox: &Sandbox) -> BTreeSet<String> {
    let args = ["--folder", "p2p:", "--no-mdns", "--min-peers", "1", "--start-deadline", "60"];
    let mut node = Running::start(sandbox.node("a", &args));
    node.event(|event| matches!(event, Event::Waiting { .. }));
    let listening = status(sandbox, "a").listening.into_iter().collect();
    node.signal("TERM");
    node.wait();
    listening
}

#[test]
fn a_restarted_node_is_found_where_it_was() {
    let sandbox = Sandbox::new();
    let first = listening(&sandbox);
    assert_eq!(listening(&sandbox), first);
    // Another program may have taken a port meanwhile: that one is another then.
    let taken = first.iter().find(|address| address.contains("/ip4/127.0.0.1/tcp/")).unwrap();
    let port: u16 = taken.split('/').nth(4).unwrap().parse().unwrap();
    let _other = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let later = listening(&sandbox);
    let udp = |listening: &BTreeSet<String>| {
        listening.iter().filter(|address| address.contains("/udp/")).cloned().collect::<Vec<_>>()
    };
    assert!(!later.contains(taken) && udp(&later) == udp(&first), "{first:#?} {later:#?}");
}

#[test]
fn a_home_restored_from_an_old_copy_does_not_wait_for_peers_that_have_its_newest_update() {
    let sandbox = Sandbox::new();
    let peer_args = ["--partition", "0/2", "--stay", "--min-peers", "1"];
    let mut peer = Running::start(node(&sandbox, "a", &peer_args));
    peer.event(|event| matches!(event, Event::Waiting { .. }));
    let address = status(&sandbox, "a").listening[0].clone();
    let life = |epochs: &str, linger: &str| {
        let args = ["--folder", "p2p:", "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--bootstrap", &address];
        let mut command = sandbox.node("b", &args);
        command.args(["--partition", "1/2", "--min-peers", "1", "--epochs", epochs, "--linger", linger]);
        Ended::of(command).success().events()
    };
    let copy = |from: &str, to: &str| {
        let copied = Command::new("cp").arg("-r").args([sandbox.path(from), sandbox.path(to)]).status().unwrap();
        assert!(copied.success());
    };
    life("2", "60");
    copy("b", "backup");
    life("4", "60");
    fs::remove_dir_all(sandbox.path("b")).unwrap();
    copy("backup", "b");
    // It has nothing to train, and learns from its peer what it has published since.
    let events = life("2", "300");
    let Some(Event::Finished { epoch: 2, seconds, .. }) = events.last() else { panic!("{events:?}") };
    assert!(*seconds < 100.0, "it waited for {seconds} s");
    peer.event(is_finished);
    peer.signal("TERM");
    peer.wait().success();
}
