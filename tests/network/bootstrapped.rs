//! Nodes that are given nothing but the address of a bootstrap node.

use crate::{hostile::idle, net::Rogue, network_tests, node::Homes, samples::*};
use libp2p_identity::Keypair;
use peerfold::{
    folder::SharedFolder,
    p2p::{BootstrapNode, PeerAddress, PeerRole, RelayLimits},
    secret::Secret,
    weights::Key,
};
use tokio::{sync::oneshot, task::JoinHandle};

/// A bootstrap node on the loopback, with a secret or without; it ends when the sender goes.
pub(crate) async fn bootstrap_node(secret: Option<&Secret>) -> (PeerAddress, oneshot::Sender<()>, JoinHandle<()>) {
    bootstrap_node_with(secret, |node| node).await
}

async fn bootstrap_node_with(
    secret: Option<&Secret>,
    change: impl FnOnce(BootstrapNode) -> BootstrapNode,
) -> (PeerAddress, oneshot::Sender<()>, JoinHandle<()>) {
    let (keypair, listen) = (Keypair::generate_ed25519(), ["/ip4/127.0.0.1/tcp/0".parse().unwrap()]);
    let node = match secret {
        Some(secret) => {
            BootstrapNode::start_with(&keypair, &listen, Some(secret), Some(RelayLimits::default())).unwrap()
        }
        None => BootstrapNode::start(&keypair, &listen).unwrap(),
    };
    let node = change(node);
    let (stop, stopped) = oneshot::channel();
    let (listening, address) = oneshot::channel();
    let mut listening = Some(listening);
    let running = tokio::spawn(async move {
        let told = |address: &PeerAddress| {
            listening.take().into_iter().for_each(|listening| listening.send(address.clone()).unwrap());
        };
        let until = async { drop(stopped.await) };
        node.run(told, until).await.unwrap();
    });
    (address.await.unwrap(), stop, running)
}

network_tests! {
    /// Those that do nothing go for those that come.
    async fn idle_strangers_keep_nobody_from_a_bootstrap_node() {
        let homes = Homes::new();
        let (bootstrap, _stop, _running) = bootstrap_node_with(None, |node| node.limited(40)).await;
        let first = homes.node("first").knowing([&bootstrap]).open();
        let strangers: Vec<_> =
            (0..30).map(|_| tokio::spawn(idle(bootstrap.clone(), Rogue::new(homes.federation)))).collect();
        // Ten of forty may be of one address.
        eventually(async || strangers.iter().filter(|stranger| stranger.is_finished()).count() >= 20).await;
        let second = homes.node("second").knowing([&bootstrap]).open();
        second.meets(&first).await;
        strangers.iter().for_each(|stranger| stranger.abort());
    }

    /// The nodes know the bootstrap node and nobody else, and need it no more once they have met.
    async fn a_bootstrap_node_may_die_after_the_start() {
        let homes = Homes::new();
        let (bootstrap, stop, running) = bootstrap_node(None).await;
        let plans = ["first", "second", "third"].map(|name| homes.node(name).knowing([&bootstrap]));
        let [first, second, third] = plans.each_ref().map(|plan| plan.open());
        for (one, other) in [(&first, &second), (&second, &third), (&third, &first)] {
            one.meets(other).await;
        }
        let infrastructure = first.network().await.peers.into_iter().find(|peer| peer.peer == bootstrap.peer.to_string());
        assert_eq!(infrastructure.unwrap().role, PeerRole::Bootstrap);
        drop(stop);
        running.await.unwrap();
        first.loses(bootstrap.peer).await;
        let entry = first.put(&Key::start(first.id()), &numbered(1), epoch(0)).await.unwrap();
        for node in [&second, &third] {
            learn(&**node, &entry).await;
            assert_eq!(fetch(&**node, &entry).await.unwrap(), numbered(1));
        }
        // Also who restarts finds the others: it remembers them.
        drop(second);
        let second = plans[1].open();
        let entry = third.put(&Key::start(third.id()), &numbered(2), epoch(0)).await.unwrap();
        learn(&*second, &entry).await;
    }
}
