//! However nodes start, they are one federation: in any order, all at once with every bootstrap node dead, or as two that
//! come to know each other late.

use crate::{
    bootstrapped::bootstrap_node,
    hosts::{Proxy, Setup},
    network_tests,
    node::{Homes, Node, Plan},
    samples::*,
};
use futures::{StreamExt, stream};
use peerfold::{
    folder::SharedFolder,
    home::Home,
    p2p::{PeerAddress, PeerRole},
    weights::{FederationId, Key, SignedEntry},
};
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;

/// In how long nodes that can reach each other must be one federation, at the pace that they have by default.
const A_MINUTE: Duration = Duration::from_secs(60);
/// Nodes that start together.
const NODES: usize = 5;
/// The most that one of them starts after the one before.
const LATER: Duration = Duration::from_millis(700);
/// How often they start in the test's own process, and in processes of their own; and with `PEERFOLD_SOAK=1`.
const STARTS: [u64; 2] = [3, 1];
const MANY_STARTS: [u64; 2] = [1000, 50];
/// How many of these are under way together.
const AT_ONCE: usize = 4;

fn starts() -> [u64; 2] {
    if std::env::var_os("PEERFOLD_SOAK").is_some() { MANY_STARTS } else { STARTS }
}

/// An address of the loopback that no other node of this process has, for one that listens where it was again.
fn own_address() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    // Another process of the same tests has other ones.
    let process = std::process::id() % 64;
    let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 64 + process as u8, 0, 1)) + number);
    format!("/ip4/{ip}/tcp/4611")
}

async fn publish(node: &Node, number: u64) -> Arc<SignedEntry> {
    node.put(&Key::update(node.id(), number), &numbered(number), epoch(number)).await.unwrap()
}

/// Each is connected with all others, and knows what they have published.
async fn are_one(nodes: &[&Node], published: &[Arc<SignedEntry>]) {
    for one in nodes {
        for other in nodes.iter().filter(|other| other.id() != one.id()) {
            one.meets(other).await;
        }
        for entry in published {
            learn(&***one, entry).await;
        }
    }
}

/// Where the nodes of a start listen, and whom each knows: one of those before it in some order, whether that one runs
/// already or not.
struct Draw {
    listen: Vec<String>,
    knows: Vec<Option<usize>>,
    /// In which order they start, and how long each waits for.
    order: Vec<(usize, Duration)>,
}

impl Draw {
    fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let knows = (0..NODES).map(|node| (node > 0).then(|| random.random_range(0..node))).collect();
        let mut order: Vec<usize> = (0..NODES).collect();
        order.shuffle(&mut random);
        let order = order.into_iter().map(|node| (node, LATER.mul_f64(random.random()))).collect();
        Self { listen: (0..NODES).map(|_| own_address()).collect(), knows, order }
    }
}

async fn start_here(seed: u64) {
    let (homes, draw) = (Homes::new(), Draw::new(seed));
    let plans: Vec<Plan> = (0..NODES)
        .map(|node| homes.node(&node.to_string()).listening_on(&draw.listen[node]).at_its_own_pace())
        .collect();
    let address = |node: usize| PeerAddress {
        peer: Home::peer_id(plans[node].home()).unwrap(),
        address: draw.listen[node].parse().unwrap(),
    };
    let mut nodes: Vec<Option<Node>> = (0..NODES).map(|_| None).collect();
    for &(node, wait) in &draw.order {
        tokio::time::sleep(wait).await;
        let known = draw.knows[node].map(address);
        let plan = plans[node].clone().knowing(known.iter());
        nodes[node] = Some(tokio::task::spawn_blocking(move || plan.open()).await.unwrap());
    }
    let nodes: Vec<&Node> = nodes.iter().flatten().collect();
    timeout(A_MINUTE, are_one(&nodes, &[])).await.unwrap_or_else(|_| panic!("seed {seed}: they are not one"));
}

async fn start_processes(seed: u64) {
    let (homes, draw) = (tempfile::tempdir().unwrap(), Draw::new(seed));
    let federation = FederationId::new("starts", &seed.to_string());
    let home = |node: usize| homes.path().join(node.to_string());
    let peer = |node: usize| Home::peer_id(&home(node)).unwrap();
    let mut nodes: Vec<Arc<Proxy>> = Vec::new();
    for &(node, wait) in &draw.order {
        tokio::time::sleep(wait).await;
        let known = draw.knows[node].map(|known| format!("{}/p2p/{}", draw.listen[known], peer(known)));
        let setup = Setup {
            home: home(node),
            federation,
            listen: vec![draw.listen[node].clone()],
            bootstrap: known.into_iter().collect(),
            mdns: false,
            layout: None,
        };
        let own = peer(node);
        let started = tokio::task::spawn_blocking(move || Proxy::start(own, &setup).unwrap());
        nodes.push(Arc::new(started.await.unwrap()));
    }
    let all = async {
        for node in &nodes {
            eventually(async || {
                let peers = node.status().await.unwrap().peers;
                peers.iter().filter(|peer| peer.role == PeerRole::Member).count() == NODES - 1
            })
            .await;
        }
    };
    timeout(A_MINUTE, all).await.unwrap_or_else(|_| panic!("seed {seed}: they are not one"));
}

/// So often, a few at once.
async fn repeat<F: Future<Output = ()>>(times: u64, start: impl Fn(u64) -> F) {
    stream::iter(0..times).map(start).buffer_unordered(AT_ONCE).for_each(async |()| {}).await;
}

/// Nothing but a hang reaches it, in the long form either.
const SOAKING: Duration = Duration::from_secs(4 * 3600);

network_tests! {
    within SOAKING:

    async fn in_whatever_order_nodes_start_they_are_one_federation() {
        let [here, _] = starts();
        repeat(here, start_here).await;
    }

    async fn in_whatever_order_processes_start_they_are_one_federation() {
        let [_, processes] = starts();
        repeat(processes, start_processes).await;
    }
}

network_tests! {
    /// Each half has a bootstrap node of its own, and both halves are well. Then comes one who knows both.
    async fn two_federations_become_one_when_somebody_knows_both() {
        let homes = Homes::new();
        let mut halves = Vec::new();
        for names in [["a", "b"], ["c", "d"]] {
            let (bootstrap, stop, running) = bootstrap_node(None).await;
            let nodes = names.map(|name| homes.node(name).knowing([&bootstrap]).at_its_own_pace().open());
            nodes[0].meets(&nodes[1]).await;
            halves.push((bootstrap, stop, running, nodes));
        }
        let mut published = Vec::new();
        for (half, (.., nodes)) in halves.iter().enumerate() {
            for (number, node) in nodes.iter().enumerate() {
                let entry = publish(node, 1 + (2 * half + number) as u64).await;
                learn(&*nodes[1 - number], &entry).await;
                published.push(entry);
            }
        }
        for (.., nodes) in &halves {
            for node in nodes {
                assert_eq!(node.network().await.authors, 2, "they were never two");
            }
        }
        let both: Vec<&PeerAddress> = halves.iter().map(|(bootstrap, ..)| bootstrap).collect();
        let joins = homes.node("e").knowing(both).at_its_own_pace().open();
        let mut nodes: Vec<&Node> = halves.iter().flat_map(|(.., nodes)| nodes).collect();
        nodes.push(&joins);
        timeout(A_MINUTE, are_one(&nodes, &published)).await.expect("they are still two");
    }

    /// Nobody is up at first whom any of them knows from its list: what they remember of each other is enough.
    async fn all_that_restart_at_once_find_each_other_with_every_bootstrap_node_dead() {
        let homes = Homes::new();
        let (bootstrap, stop, running) = bootstrap_node(None).await;
        let plans = ["a", "b", "c", "d"]
            .map(|name| homes.node(name).listening_on(&own_address()).knowing([&bootstrap]).at_its_own_pace());
        let open = || plans.each_ref().map(|plan| plan.open());
        let first = open();
        timeout(A_MINUTE, are_one(&first.each_ref(), &[])).await.expect("they never met");
        drop((first, stop));
        running.await.unwrap();
        let again = open();
        let mut published = Vec::new();
        for (number, node) in again.iter().enumerate() {
            published.push(publish(node, 1 + number as u64).await);
        }
        timeout(A_MINUTE, are_one(&again.each_ref(), &published)).await.expect("they don't find each other");
    }
}
