//! Nodes that join late, restart, or lose their state.

use crate::{
    network_tests,
    node::{Homes, Node},
    samples::*,
};
use peerfold::{folder::SharedFolder, weights::Key, weights::SignedEntry};
use std::{fs, sync::Arc};

async fn publish(node: &Node, number: u64) -> Arc<SignedEntry> {
    node.put(&Key::update(node.id(), number), &numbered(number), epoch(number)).await.unwrap()
}

network_tests! {
    /// Nobody publishes again, and no author is there any more: what the last peer has fetched unasked is enough.
    async fn a_late_joiner_gets_every_authors_newest_update_from_the_last_one_alive() {
        let homes = Homes::new();
        let keeper = homes.node("keeper").training().open();
        let mut newest = Vec::new();
        for name in ["first", "second", "third"] {
            let author = homes.node(name).training().knowing(&[keeper.address()]).open();
            author.meets(&keeper).await;
            publish(&author, 1).await;
            let entry = publish(&author, 2).await;
            learn(&*keeper, &entry).await;
            author.hand_over(PATIENCE).await;
            newest.push(entry);
        }
        let late = homes.node("late").training().knowing(&[keeper.address()]).open();
        for entry in newest {
            learn(&*late, &entry).await;
            assert_eq!(fetch(&*late, &entry).await.unwrap(), numbered(2));
        }
    }

    async fn a_node_restarted_under_its_identity_is_no_stranger() {
        let homes = Homes::new();
        let stays = homes.node("stays").training().open();
        let mut returns = homes.node("returns").training().knowing(&[stays.address()]).open();
        let (id, mut last) = (returns.id(), 0);
        for number in 1..=3 {
            returns.meets(&stays).await;
            let own = publish(&returns, number).await;
            assert!(own.sequence > last, "a number was given twice");
            last = own.sequence;
            learn(&*stays, &own).await;
            // Meanwhile something happens that it has to catch up with.
            drop(returns);
            stays.loses(id).await;
            let missed = publish(&stays, number).await;
            // It listens elsewhere now, and remembers whom it knew.
            returns = homes.node("returns").training().open();
            assert_eq!(returns.id(), id);
            learn(&*returns, &missed).await;
            assert_eq!(fetch(&*returns, &missed).await.unwrap(), numbered(number));
            assert_eq!(fetch(&*returns, &own).await.unwrap(), numbered(number));
            assert_eq!(stays.network().await.authors, 2);
        }
        assert!(stays.conflicts().await.unwrap().is_empty());
    }

    /// A node that lost its disk, but not its key, goes on above what its peers show.
    async fn a_node_that_lost_its_numbers_learns_them() {
        let homes = Homes::new();
        let stays = homes.node("stays").open();
        let plan = homes.node("forgets").knowing(&[stays.address()]);
        let forgets = plan.open();
        let mut last = None;
        for number in 1..=5 {
            last = Some(publish(&forgets, number).await);
        }
        let last = last.unwrap();
        learn(&*stays, &last).await;
        drop(forgets);
        fs::remove_dir_all(plan.cache()).unwrap();
        fs::remove_file(plan.home().join("sequence")).unwrap();
        let forgets = plan.open();
        forgets.look_around(PATIENCE).await;
        let next = publish(&forgets, 6).await;
        assert!(next.sequence > last.sequence);
        learn(&*stays, &next).await;
        assert!(stays.conflicts().await.unwrap().is_empty());
    }

    /// No list, no bootstrap node: what each remembers is enough, although in the end nobody is where he was.
    async fn nodes_that_all_restarted_find_together_again() {
        let homes = Homes::new();
        let names = ["first", "second", "third"];
        let ports = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"];
        let mut nodes: Vec<Node> = Vec::new();
        for (name, port) in names.iter().zip(ports) {
            let known: Vec<_> = nodes.first().map(Node::address).into_iter().collect();
            nodes.push(homes.node(name).listening_on(port).knowing(&known).open());
        }
        for (number, node) in nodes.iter().enumerate() {
            publish(node, number as u64).await;
        }
        for (one, other) in [(0, 1), (1, 2), (2, 0)] {
            nodes[one].meets(&nodes[other]).await;
            nodes[other].meets(&nodes[one]).await;
        }
        // One after the other, so that each finds two of the others.
        for (number, (name, port)) in names.iter().zip(ports).enumerate() {
            drop(nodes.remove(0));
            let node = homes.node(name).listening_on(port).open();
            let entry = publish(&node, 10 + number as u64).await;
            for other in &nodes {
                learn(&**other, &entry).await;
                node.meets(other).await;
            }
            nodes.push(node);
        }
    }
}
