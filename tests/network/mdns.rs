//! Finding peers on the local network. mDNS doesn't use the loopback, so each node is in a separate network namespace.

use crate::{hosts, net, samples};

use hosts::{Proxy, Setup};
use net::Namespaces;
use peerfold::{
    folder::SharedFolder,
    home::Home,
    weights::{FederationId, Key},
};
use samples::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_on_one_network_find_each_other_without_a_list() {
    let Some(namespaces) = Namespaces::new("nodes_on_one_network_find_each_other_without_a_list") else { return };
    tokio::time::timeout(PATIENCE, find_each_other(&namespaces)).await.expect("they don't find each other");
}

async fn find_each_other(namespaces: &Namespaces) {
    let homes = tempfile::tempdir().unwrap();
    let mut nodes = Vec::new();
    for (side, transport) in ["tcp/0", "udp/0/quic-v1"].into_iter().enumerate() {
        let home = homes.path().join(side.to_string());
        let setup = Setup {
            home: home.clone(),
            federation: FederationId::new("mdns", "1"),
            listen: vec![format!("/ip4/0.0.0.0/{transport}")],
            bootstrap: vec![],
            mdns: true,
            layout: None,
        };
        let namespace = namespaces.name(side).to_owned();
        let start = move || Proxy::start_in(&namespace, Home::peer_id(&home).unwrap(), &setup).unwrap();
        nodes.push(tokio::task::spawn_blocking(start).await.unwrap());
    }
    for (node, other) in [(0, 1), (1, 0)].map(|(node, other)| (&nodes[node], &nodes[other])) {
        let entry = node.put(&Key::start(node.author()), &numbered(7), epoch(0)).await.unwrap();
        learn(other, &entry).await;
        assert_eq!(fetch(other, &entry).await.unwrap(), numbered(7));
    }
    let peers = nodes[0].status().await.unwrap().peers;
    assert!(peers.iter().all(|peer| peer.address.contains(&namespaces.address(1))), "{peers:#?}");
}
