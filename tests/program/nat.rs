//! Nodes at sites that can't be reached from outside, and a bootstrap node between them: in network namespaces.

use super::{
    network::status,
    process::{Ended, LOOK, PATIENCE, Running, Sandbox, event, timed},
    sites::{Internet, Nat, Site},
};
use peerfold::{
    node::Event,
    p2p::{NetworkStatus, PeerRole, PeerStatus, Way},
};
use std::{
    fs, thread,
    time::{Duration, Instant},
};

/// Which transports the nodes know of the bootstrap node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Both,
    Tcp,
    Quic,
}

/// A bootstrap node with an address of the internet, which others find in the sandbox's list.
fn bootstrap(sandbox: &Sandbox, internet: &mut Internet, over: Over, args: &[&str]) -> Running {
    let site = internet.site(Nat::None, true);
    let listen = [format!("/ip4/{}/tcp/4600", site.address), format!("/ip4/{}/udp/4600/quic-v1", site.address)];
    let listen = match over {
        Over::Both => &listen[..],
        Over::Tcp => &listen[..1],
        Over::Quic => &listen[1..],
    };
    let flags: Vec<&str> = listen.iter().flat_map(|address| ["--listen", address]).collect();
    let command = sandbox.command([&["bootstrap", "--home", "bootstrap"], &flags[..], args].concat());
    let mut running = Running::start(site.at(&command));
    let known: String = listen.iter().map(|_| running.line(|line| line.contains("/p2p/")) + "\n").collect();
    fs::write(sandbox.path("peers.txt"), known).unwrap();
    running
}

/// A node at a site, which trains until it is stopped.
fn node(sandbox: &Sandbox, site: &Site, home: &str, part: &str, args: &[&str]) -> Running {
    let network =
        ["--folder", "p2p:", "--bootstrap", "peers.txt", "--no-mdns", "--epochs", "100000", "--partition", part];
    let wait = ["--min-peers", "1", "--start-deadline", "30", "--steps-per-epoch", "20"];
    Running::start(site.at(&sandbox.node(home, &[&network[..], &wait, args].concat())))
}

/// What the node says of the only other member, once it is connected.
fn member(sandbox: &Sandbox, home: &str) -> Option<PeerStatus> {
    let NetworkStatus { peers, .. } = status(sandbox, home);
    peers.into_iter().find(|peer| peer.role == PeerRole::Member)
}

fn is_folded_with_a_peer(event: &Event) -> bool {
    matches!(event, Event::Folded { updates, .. } if updates.len() == 2)
}

fn is_reached(event: &Event, wanted: Way) -> bool {
    matches!(event, Event::PeerReached { way, .. } if *way == wanted)
}

/// Waits until a node reaches another directly. It may be so soon that a relay isn't told of.
fn is_punched_soon(node: &mut Running) {
    let is_punched = |line: &str| is_reached(&event(line), Way::Punched);
    let reached = node.line(|line| is_punched(line) || is_reached(&event(line), Way::Relayed));
    let punched = if is_punched(&reached) { reached.clone() } else { node.line(is_punched) };
    let took = timed(&punched).time.duration_since(timed(&reached).time).unwrap();
    assert!(took < Duration::from_secs(10), "it took {took:?}");
}

#[test]
fn sites_behind_two_routers_get_a_direct_connection_and_fold_each_other() {
    let Some(mut internet) = Internet::new("sites_behind_two_routers_get_a_direct_connection") else { return };
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox, &mut internet, Over::Both, &[]);
    let sites = [internet.site(Nat::Cone, true), internet.site(Nat::Cone, true)];
    let mut nodes = [node(&sandbox, &sites[0], "a", "0/2", &[]), node(&sandbox, &sites[1], "b", "1/2", &[])];
    for node in &mut nodes {
        is_punched_soon(node);
        node.event(is_folded_with_a_peer);
    }
    for home in ["a", "b"] {
        let told = status(&sandbox, home);
        assert!(told.announced.iter().any(|address| address.contains("/p2p-circuit/p2p/")), "{told:?}");
        assert!(told.listening.iter().all(|address| !address.contains("/p2p-circuit")), "{told:?}");
        assert!(!told.announced.iter().any(|address| address.starts_with("/ip4/203") && !address.contains("circuit")));
    }
}

#[test]
fn where_only_a_relay_leads_entries_go_and_no_weights() {
    let Some(mut internet) = Internet::new("where_only_a_relay_leads_entries_go_and_no_weights") else { return };
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox, &mut internet, Over::Both, &[]);
    let sites = [internet.site(Nat::Symmetric, true), internet.site(Nat::Symmetric, true)];
    let mut nodes = [node(&sandbox, &sites[0], "a", "0/2", &[]), node(&sandbox, &sites[1], "b", "1/2", &[])];
    for (node, home) in nodes.iter_mut().zip(["a", "b"]) {
        node.event(|event| is_reached(event, Way::Relayed));
        // It learns what the other has published, again and again, and gets none of it.
        let began = Instant::now();
        loop {
            let other = member(&sandbox, home);
            // How it starts, and two updates.
            if let Some(PeerStatus { entries: 3.., way: Way::Relayed, .. }) = other {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{other:?}");
            thread::sleep(LOOK);
        }
    }
    let mut moved = Vec::new();
    for node in nodes {
        let lines = node.kill().lines;
        let events: Vec<Event> = lines.iter().filter(|line| line.ends_with('}')).map(|line| event(line)).collect();
        let published = events.iter().filter(|event| matches!(event, Event::Published { .. })).count() as u64;
        assert!(published > 0 && !events.iter().any(|event| matches!(event, Event::Received { .. })), "{events:#?}");
        let bytes = events.iter().rev().find_map(|event| match event {
            Event::EpochDone { sent, received, .. } => Some((*sent, *received)),
            _ => None,
        });
        let (sent, received) = bytes.unwrap();
        moved.push((published, sent.unwrap(), received.unwrap()));
    }
    // An entry has some 230 bytes, and each update about 20,000. One node may begin long before the other.
    let entries = |published: u64| 15_000 + 300 * published;
    for ((published, sent, _), (.., received)) in [(moved[0], moved[1]), (moved[1], moved[0])] {
        assert!(sent < entries(published) && received < entries(published), "{moved:?}");
    }
}

#[test]
fn weights_go_by_a_relay_if_that_is_allowed() {
    let Some(mut internet) = Internet::new("weights_go_by_a_relay_if_that_is_allowed") else { return };
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox, &mut internet, Over::Both, &[]);
    let sites = [internet.site(Nat::Symmetric, true), internet.site(Nat::Symmetric, true)];
    let allowed = ["--relay-weights"];
    let mut nodes = [node(&sandbox, &sites[0], "a", "0/2", &allowed), node(&sandbox, &sites[1], "b", "1/2", &allowed)];
    for (node, home) in nodes.iter_mut().zip(["a", "b"]) {
        node.event(is_folded_with_a_peer);
        assert_eq!(member(&sandbox, home).map(|peer| peer.way), Some(Way::Relayed));
    }
}

#[test]
fn a_secret_is_kept_through_a_relay() {
    let Some(mut internet) = Internet::new("a_secret_is_kept_through_a_relay") else { return };
    let sandbox = Sandbox::new();
    Ended::of(sandbox.command(["secret", "new", "ward.secret"])).success();
    let secret = ["--secret", "ward.secret"];
    let _bootstrap = bootstrap(&sandbox, &mut internet, Over::Tcp, &secret);
    let sites = [internet.site(Nat::Cone, true), internet.site(Nat::Cone, true)];
    let mut nodes = [node(&sandbox, &sites[0], "a", "0/2", &secret), node(&sandbox, &sites[1], "b", "1/2", &secret)];
    for node in &mut nodes {
        is_punched_soon(node);
        node.event(is_folded_with_a_peer);
    }
}

#[test]
fn a_direct_connection_is_tried_again_when_none_could_be_made() {
    let Some(mut internet) = Internet::new("a_direct_connection_is_tried_again") else { return };
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox, &mut internet, Over::Both, &[]);
    let sites = [internet.site(Nat::Cone, true), internet.site(Nat::Cone, true)];
    sites[0].shut_out(&sites[1]);
    sites[1].shut_out(&sites[0]);
    let mut nodes = [node(&sandbox, &sites[0], "a", "0/2", &[]), node(&sandbox, &sites[1], "b", "1/2", &[])];
    let is_given_up = |event: &Event| {
        let Event::PeerReached { way: Way::Relayed, reason: Some(reason), .. } = event else { return false };
        reason.contains("tried again")
    };
    let began = Instant::now();
    let mut given_up = false;
    while !given_up {
        assert!(began.elapsed() < PATIENCE, "neither has given up");
        thread::sleep(LOOK);
        given_up = nodes.iter_mut().any(|node| node.has_said(|line| is_given_up(&event(line))));
    }
    sites[0].let_out(&sites[1]);
    sites[1].let_out(&sites[0]);
    for node in &mut nodes {
        node.event(|event| is_reached(event, Way::Punched));
        node.event(is_folded_with_a_peer);
    }
}

/// How two sites reach each other, and after how long.
fn reached(kinds: [(Nat, bool); 2], over: Over, patience: Duration) -> String {
    let Some(mut internet) = Internet::new("which_pairs_are_reached_how") else { return "skipped".to_owned() };
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox, &mut internet, over, &[]);
    let sites = kinds.map(|(nat, udp)| internet.site(nat, udp));
    let began = Instant::now();
    let _nodes = [node(&sandbox, &sites[0], "a", "0/2", &[]), node(&sandbox, &sites[1], "b", "1/2", &[])];
    let mut relayed = None;
    while began.elapsed() < patience {
        // The socket isn't there at first.
        let listens = sandbox.path("a").join(peerfold::p2p::NETWORK_SOCKET).exists();
        match listens.then(|| member(&sandbox, "a")).flatten().map(|peer| (peer.way, peer.transport)) {
            Some((Way::Relayed, _)) => _ = relayed.get_or_insert(began.elapsed()),
            Some((way, transport)) => return format!("{way} ({transport:?}) after {:.1?}", began.elapsed()),
            None => {}
        }
        thread::sleep(Duration::from_millis(100));
    }
    relayed.map_or("not reached".to_owned(), |after| format!("relayed after {after:.1?}"))
}

/// Prints which pairs of sites reach each other how. `cargo test --test program which_pairs -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes, and prints a table"]
fn which_pairs_are_reached_how() {
    let kinds = [
        ("no NAT", (Nat::None, true)),
        ("cone", (Nat::Cone, true)),
        ("symmetric", (Nat::Symmetric, true)),
        ("no NAT, UDP blocked", (Nat::None, false)),
        ("cone, UDP blocked", (Nat::Cone, false)),
    ];
    let mut wrong = Vec::new();
    for (over, what) in [(Over::Both, "TCP and QUIC"), (Over::Quic, "QUIC")] {
        for (number, (name, kind)) in kinds.iter().enumerate() {
            for (other, other_kind) in &kinds[number..] {
                let blocked = over == Over::Quic && (!kind.1 || !other_kind.1);
                if blocked {
                    continue;
                }
                let how = reached([*kind, *other_kind], over, Duration::from_secs(20));
                println!("{what}: {name} and {other}: {how}");
                let has_address = kind.0 == Nat::None || other_kind.0 == Nat::None;
                let can_be_punched = kind.0 == Nat::Cone && other_kind.0 == Nat::Cone;
                let as_expected = if has_address || can_be_punched {
                    how.starts_with("direct") || how.starts_with("punched")
                } else {
                    how.starts_with("relayed")
                };
                if !as_expected && how != "skipped" {
                    wrong.push(format!("{what}: {name} and {other}: {how}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Cut off from the internet for so long that all connections are given up.
#[test]
#[ignore = "takes minutes: connections are given up late"]
fn a_site_that_was_cut_off_is_reached_again() {
    let Some(mut internet) = Internet::new("a_site_that_was_cut_off_is_reached_again") else { return };
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox, &mut internet, Over::Both, &[]);
    let sites = [internet.site(Nat::Cone, true), internet.site(Nat::Cone, true)];
    let _nodes = [node(&sandbox, &sites[0], "a", "0/2", &[]), node(&sandbox, &sites[1], "b", "1/2", &[])];
    let wait = |wanted: Option<Way>| {
        let began = Instant::now();
        while sandbox.path("a").join(peerfold::p2p::NETWORK_SOCKET).exists()
            && member(&sandbox, "a").map(|peer| peer.way) != wanted
            || began.elapsed() < Duration::from_secs(1)
        {
            assert!(began.elapsed() < 2 * PATIENCE, "{:?}", status(&sandbox, "a"));
            thread::sleep(Duration::from_millis(100));
        }
        println!("{wanted:?} after {:.1?}", began.elapsed());
    };
    wait(Some(Way::Punched));
    sites[1].pull();
    wait(None);
    sites[1].plug();
    wait(Some(Way::Punched));
}
