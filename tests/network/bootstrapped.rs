//! Nodes that are given nothing but the address of a bootstrap node.

use crate::{network_tests, node::Homes, samples::*};
use libp2p_identity::Keypair;
use peerfold::{
    folder::SharedFolder,
    p2p::{BootstrapNode, PeerAddress, PeerRole},
    secret::Secret,
    weights::Key,
};
use tokio::{sync::oneshot, task::JoinHandle};

/// A bootstrap node on the loopback, with a secret or without; it ends when the sender goes.
pub(crate) async fn bootstrap_node(secret: Option<&Secret>) -> (PeerAddress, oneshot::Sender<()>, JoinHandle<()>) {
    let (keypair, listen) = (Keypair::generate_ed25519(), ["/ip4/127.0.0.1/tcp/0".parse().unwrap()]);
    let node = match secret {
        Some(secret) => BootstrapNode::start_private(&keypair, &listen, secret).unwrap(),
        None => BootstrapNode::start(&keypair, &listen).unwrap(),
    };
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
