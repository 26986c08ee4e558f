//! Nodes at sites that can't be reached from outside, and a bootstrap node between them: in network namespaces.

use super::{
    network::status,
    process::{Ended, LOOK, PATIENCE, Running, Sandbox, event, timed},
    sites::{Internet, Nat, Site},
};
use peerfold::{
    node::Event,
    p2p::{NetworkStatus, PeerRole, PeerStatus, Transport, Way},
};
use std::{
    collections::BTreeMap,
    fmt, fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// How late a connection that can be punched may be direct.
const SOON: Duration = Duration::from_secs(10);

/// Which transports the nodes know of the bootstrap node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Both,
    Tcp,
    Quic,
}

/// A bootstrap node with an address of the internet, which others find in the sandbox's list.
pub(super) fn bootstrap(sandbox: &Sandbox, internet: &mut Internet, over: Over, args: &[&str]) -> Running {
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
pub(super) fn node(sandbox: &Sandbox, site: &Site, home: &str, part: &str, args: &[&str]) -> Running {
    Running::start(site.at(&training(sandbox, home, part, args)))
}

/// The same as a command of no site yet.
pub(super) fn training(sandbox: &Sandbox, home: &str, part: &str, args: &[&str]) -> Command {
    let network =
        ["--folder", "p2p:", "--bootstrap", "peers.txt", "--no-mdns", "--epochs", "100000", "--partition", part];
    let wait = ["--min-peers", "1", "--start-deadline", "30", "--steps-per-epoch", "20"];
    sandbox.node(home, &[&network[..], &wait, args].concat())
}

/// What the node says of the only other member, once it is connected.
pub(super) fn member(sandbox: &Sandbox, home: &str) -> Option<PeerStatus> {
    let NetworkStatus { peers, .. } = status(sandbox, home);
    peers.into_iter().find(|peer| peer.role == PeerRole::Member)
}

pub(super) fn is_folded_with_a_peer(event: &Event) -> bool {
    matches!(event, Event::Folded { updates, .. } if updates.len() == 2)
}

pub(super) fn is_reached(event: &Event, wanted: Way) -> bool {
    matches!(event, Event::PeerReached { way, .. } if *way == wanted)
}

/// Waits until a node reaches another directly. It may be so soon that a relay isn't told of.
fn is_punched_soon(node: &mut Running) {
    let is_punched = |line: &str| is_reached(&event(line), Way::Punched);
    let reached = node.line(|line| is_punched(line) || is_reached(&event(line), Way::Relayed));
    let punched = if is_punched(&reached) { reached.clone() } else { node.line(is_punched) };
    let took = timed(&punched).time.duration_since(timed(&reached).time).unwrap();
    assert!(took < SOON, "it took {took:?}");
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

/// How a node at one site reaches one at another.
#[derive(Debug, Clone, Copy)]
struct Reached {
    way: Way,
    transport: Transport,
    /// After both were started.
    after: Duration,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?}) after {:.1} s", self.way, self.transport, self.after.as_secs_f64())
    }
}

/// A site: how it is connected, and whether UDP passes.
type Kind = (Nat, bool);

/// How two sites reach each other within some time: directly, or else by a relay.
fn reached(kinds: [Kind; 2], over: Over, patience: Duration) -> Option<Reached> {
    let mut internet = Internet::new("which_pairs_are_reached_how")?;
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox, &mut internet, over, &[]);
    let sites = kinds.map(|(nat, udp)| internet.site(nat, udp));
    let began = Instant::now();
    let _nodes = [node(&sandbox, &sites[0], "a", "0/2", &[]), node(&sandbox, &sites[1], "b", "1/2", &[])];
    let mut relayed = None;
    while began.elapsed() < patience {
        // The socket isn't there at first.
        let listens = sandbox.path("a").join(peerfold::p2p::NETWORK_SOCKET).exists();
        if let Some(PeerStatus { way, transport, .. }) = listens.then(|| member(&sandbox, "a")).flatten() {
            let reached = Reached { way, transport, after: began.elapsed() };
            if way != Way::Relayed {
                return Some(reached);
            }
            relayed.get_or_insert(reached);
        }
        thread::sleep(Duration::from_millis(100));
    }
    relayed
}

/// What may be expected of two sites. A router that draws another port for each other end can't be told where to let
/// others in, and tells nobody in time where it will come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// One of them lets in whoever comes.
    Open,
    /// Both have to send at the same time.
    Punched,
    Relayed,
}

impl Expected {
    fn of([one, other]: [Kind; 2]) -> Self {
        let either = |wanted| one.0 == wanted || other.0 == wanted;
        match () {
            () if either(Nat::None) => Self::Open,
            () if either(Nat::Symmetric) => Self::Relayed,
            () => Self::Punched,
        }
    }

    fn is_met(self, reached: Option<Reached>) -> bool {
        reached.is_some_and(|reached| (reached.way == Way::Relayed) == (self == Self::Relayed))
    }
}

/// Prints which pairs of sites reach each other how. `cargo test --test program which_pairs -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes, and prints a table"]
fn which_pairs_are_reached_how() {
    if Internet::new("which_pairs_are_reached_how").is_none() {
        return;
    }
    let kinds = [
        ("no NAT", (Nat::None, true)),
        ("firewall", (Nat::Firewall, true)),
        ("cone", (Nat::Cone, true)),
        ("double NAT", (Nat::Carrier, true)),
        ("symmetric", (Nat::Symmetric, true)),
        ("no NAT, UDP blocked", (Nat::None, false)),
        ("cone, UDP blocked", (Nat::Cone, false)),
    ];
    let mut wrong = Vec::new();
    // Of the pairs that can be punched.
    let (mut pairs, mut at_once, mut at_last) = (0, 0, 0);
    for (over, what) in [(Over::Both, "TCP and QUIC"), (Over::Quic, "QUIC")] {
        for (number, (name, kind)) in kinds.iter().enumerate() {
            for (other, other_kind) in &kinds[number..] {
                if over == Over::Quic && (!kind.1 || !other_kind.1) {
                    continue;
                }
                let both = [*kind, *other_kind];
                let expected = Expected::of(both);
                let show = |reached: Option<Reached>| {
                    let how = reached.map_or("not reached".to_owned(), |reached| reached.to_string());
                    let row = format!("{what}: {name} and {other}: {how}");
                    println!("{row}");
                    row
                };
                let try_it = || reached(both, over, Duration::from_secs(20));
                let soon = |reached: Option<Reached>| {
                    expected.is_met(reached) && reached.is_some_and(|reached| reached.after < SOON)
                };
                let mut how = try_it();
                let mut row = show(how);
                if expected == Expected::Punched {
                    pairs += 1;
                    at_once += u32::from(soon(how));
                    if !soon(how) {
                        how = try_it();
                        row = show(how);
                    }
                    at_last += u32::from(soon(how));
                }
                if !expected.is_met(how) {
                    wrong.push(row);
                }
            }
        }
    }
    println!(
        "of {pairs} pairs that can be punched, {at_once} were direct within {SOON:?}, {at_last} with a second try"
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(at_last * 100 >= pairs * 95, "{at_last} of {pairs}");
}

#[test]
fn sites_behind_firewalls_and_two_routers_in_a_row_all_get_direct_connections() {
    let Some(mut internet) = Internet::new("sites_behind_firewalls_and_two_routers_in_a_row") else { return };
    let sandbox = Sandbox::new();
    let _bootstrap = bootstrap(&sandbox, &mut internet, Over::Both, &[]);
    let sites = [Nat::Firewall, Nat::Firewall, Nat::Carrier, Nat::Carrier].map(|nat| internet.site(nat, true));
    let mut nodes: Vec<Running> = (sites.iter().enumerate())
        .map(|(number, site)| node(&sandbox, site, &format!("node{number}"), &format!("{number}/4"), &[]))
        .collect();
    for node in &mut nodes {
        // How each of the others is reached in the end.
        let mut ways = BTreeMap::new();
        while ways.values().filter(|way| **way != Way::Relayed).count() < sites.len() - 1 {
            if let Event::PeerReached { peer, way, .. } = node.event(|event| matches!(event, Event::PeerReached { .. }))
            {
                ways.insert(peer, way);
            }
        }
    }
    for node in &mut nodes {
        node.event(|event| matches!(event, Event::Folded { updates, .. } if updates.len() == sites.len()));
    }
    // Who came through a hole that was made for it has not shown that anybody can.
    for number in 0..sites.len() {
        let told = status(&sandbox, &format!("node{number}"));
        let is_open = |address: &&String| address.starts_with("/ip4/203") && !address.contains("/p2p-circuit");
        assert_eq!(told.announced.iter().find(is_open), None, "{told:?}");
    }
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
