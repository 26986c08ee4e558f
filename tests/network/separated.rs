//! Nodes that lose each other and find each other again.

use crate::{
    hosts::{Proxy, Setup},
    net::{Forwarder, Link, Namespaces},
    network_tests,
    node::{Homes, by_way_of},
    samples::*,
};
use peerfold::{
    folder::SharedFolder,
    home::Home,
    p2p::PeerRole,
    weights::{FederationId, Key, SignedEntry},
};
use std::{path::PathBuf, sync::Arc};

async fn publish(folder: &dyn SharedFolder, name: &str, number: u64) -> Arc<SignedEntry> {
    folder.put(&Key::new(folder.author(), name).unwrap(), &numbered(number), epoch(number)).await.unwrap()
}

/// A node in one of two namespaces. It is told of others on its side, and of one on the other side.
async fn node_in(namespaces: &Namespaces, side: usize, home: PathBuf, bootstrap: Vec<String>) -> Arc<Proxy> {
    let federation = FederationId::new("separated", "1");
    let listen = vec![format!("/ip4/{}/tcp/0", namespaces.address(side))];
    let setup = Setup { home: home.clone(), federation, listen, bootstrap, mdns: false, layout: None };
    let namespace = namespaces.name(side).to_owned();
    let started = tokio::task::spawn_blocking(move || {
        Proxy::start_in(&namespace, Home::peer_id(&home).unwrap(), &setup).unwrap()
    });
    Arc::new(started.await.unwrap())
}

/// How many members of the federation are connected.
async fn members(node: &Proxy) -> usize {
    let peers = node.status().await.unwrap().peers;
    peers.iter().filter(|peer| peer.role == PeerRole::Member).count()
}

network_tests! {
    within LONG_PATIENCE:

    /// Two and two, with a cable between them that is pulled until both sides have given each other up. Each side goes on,
    /// and when the cable is back, all know all.
    async fn halves_that_lost_each_other_find_together() {
        let Some(namespaces) = Namespaces::new("halves_that_lost_each_other_find_together") else { return };
        let homes = tempfile::tempdir().unwrap();
        let mut nodes: Vec<Arc<Proxy>> = Vec::new();
        for number in 0..4 {
            let known = nodes.iter().flat_map(|node| node.listening.clone()).collect();
            nodes.push(node_in(&namespaces, number / 2, homes.path().join(number.to_string()), known).await);
        }
        for node in &nodes {
            eventually(async || members(node).await == 3).await;
        }
        let before = publish(&*nodes[0], "before", 1).await;
        for node in &nodes[1..] {
            learn(&**node, &before).await;
        }
        namespaces.pull();
        let left = publish(&*nodes[1], "meanwhile", 2).await;
        let right = publish(&*nodes[3], "meanwhile", 3).await;
        let over = publish(&*nodes[0], "before", 4).await;
        for (node, entry) in [(0, &left), (1, &over), (2, &right)] {
            learn(&*nodes[node], entry).await;
        }
        for node in &nodes {
            eventually(async || members(node).await == 1).await;
        }
        assert_eq!(nodes[2].list("").await.unwrap().len(), 2, "the cable isn't pulled");
        namespaces.plug();
        for node in &nodes {
            for entry in [&left, &right, &over] {
                learn(&**node, entry).await;
            }
            agree(&**node, &*nodes[0]).await;
        }
        // Not everybody holds everything: the entries came first.
        for (node, entry, number) in [(2, &left, 2), (0, &right, 3), (3, &over, 4)] {
            assert_eq!(fetch_at_last(&*nodes[node], entry).await.unwrap(), numbered(number));
        }
        for node in &nodes {
            eventually(async || members(node).await == 3).await;
        }
    }

    /// The line is cut again and again, while both publish.
    async fn a_line_that_breaks_all_the_time() {
        let homes = Homes::new();
        let one = homes.node("one").open();
        let line = Forwarder::start(one.socket(), Link::default()).await;
        let other = homes.node("other").knowing([&by_way_of(&one, line.address())]).open();
        for round in 0..10 {
            one.meets(&other).await;
            let before = publish(&*one, "before", round).await;
            line.cut();
            let meanwhile = publish(&*one, "meanwhile", 100 + round).await;
            let there = publish(&*other, "meanwhile", 200 + round).await;
            line.restore();
            learn(&*other, &before).await;
            learn(&*other, &meanwhile).await;
            learn(&*one, &there).await;
        }
        agree(&*one, &*other).await;
        assert_eq!(one.list("").await.unwrap().len(), 3);
    }

    /// A peer that is there, but says nothing more, holds nobody up: not the node that published, and not a third.
    async fn a_peer_that_falls_silent_holds_nobody_up() {
        let homes = Homes::new();
        let one = homes.node("one").open();
        let line = Forwarder::start(one.socket(), Link::default()).await;
        let silent = homes.node("silent").knowing([&by_way_of(&one, line.address())]).open();
        one.meets(&silent).await;
        let entry = publish(&*silent, "k", 1).await;
        learn(&*one, &entry).await;
        line.hold();
        let third = homes.node("third").knowing(&[one.address()]).open();
        third.meets(&one).await;
        for round in 0..3 {
            let entry = publish(&*one, "k", round).await;
            learn(&*third, &entry).await;
            assert_eq!(fetch(&*third, &entry).await.unwrap(), numbered(round));
            let entry = publish(&*third, "k", round).await;
            learn(&*one, &entry).await;
        }
        line.restore();
        agree(&*one, &*silent).await;
    }
}
