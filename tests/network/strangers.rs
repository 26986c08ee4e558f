//! Peers that don't belong: from another federation or run, or with another layout.

use crate::{network_tests, node::Homes, samples::*};
use peerfold::{
    folder::SharedFolder,
    p2p::PeerRole,
    weights::{FederationId, Key},
};

network_tests! {
    /// Two federations and two runs on one network, each knowing but one address: they find their own, and nothing of the
    /// others gets to them.
    async fn federations_and_runs_share_a_network_and_nothing_else() {
        let homes = Homes::new();
        let federations = ["here 1", "there 1", "here 2"].map(|name| {
            let (name, run) = name.split_once(' ').unwrap();
            FederationId::new(&format!("{} {name}", homes.federation), run)
        });
        let infrastructure = homes.node("first").in_federation(federations[0]).open();
        let known = [infrastructure.address()];
        let open = |name: &str, number: usize| homes.node(name).in_federation(federations[number]).knowing(&known).open();
        let pairs = [("a", 0), ("b", 1), ("c", 2)].map(|(name, number)| {
            (open(&format!("{name} writes"), number), open(&format!("{name} reads"), number))
        });
        let mut entries = Vec::new();
        for (number, (writes, reads)) in pairs.iter().enumerate() {
            let number = number as u64;
            let entry = writes.put(&Key::update(writes.id(), 1), &numbered(number), epoch(1)).await.unwrap();
            learn(&**reads, &entry).await;
            // It may have been told before it has met the author.
            assert_eq!(fetch_at_last(&**reads, &entry).await.unwrap(), numbered(number));
            entries.push(entry);
        }
        for ((writes, reads), entry) in pairs.iter().zip(&entries) {
            agree(&**writes, &**reads).await;
            for node in [writes, reads] {
                assert_eq!(node.list("").await.unwrap(), [entry.clone()]);
                // In the first federation there is one more.
                let own = if entry.federation == federations[0] { 2 } else { 1 };
                let members = async || {
                    let peers = node.network().await.peers;
                    peers.iter().filter(|peer| peer.role == PeerRole::Member).count()
                };
                eventually(async || members().await == own).await;
            }
        }
        assert_eq!(infrastructure.list("").await.unwrap(), [entries[0].clone()]);
        assert!(infrastructure.conflicts().await.unwrap().is_empty());
    }

    /// The entries of another layout are known and passed on like any others; its values stay where they are.
    async fn another_layout_is_known_but_not_fetched() {
        let homes = Homes::new();
        let trains = homes.node("trains").training().open();
        let same = homes.node("same").training().knowing(&[trains.address()]).open();
        let other = homes.node("other").knowing(&[trains.address(), same.address()]).open();
        for (one, another) in [(&trains, &same), (&same, &other), (&other, &trains)] {
            one.meets(another).await;
        }
        let large = artifact(distinct_bytes(8 << 20));
        let of_other = other.put(&Key::update(other.id(), 1), &large, epoch(1)).await.unwrap();
        learn(&*trains, &of_other).await;
        learn(&*same, &of_other).await;
        // What comes after it is fetched, so that its turn would have come too.
        let update = same.put(&Key::update(same.id(), 1), &numbered(1), epoch(1)).await.unwrap();
        learn(&*trains, &update).await;
        same.hand_over(PATIENCE).await;
        eventually(async || trains.network().await.cached > update_bytes()).await;
        for node in [&trains, &same] {
            assert!(node.network().await.cached < 8 << 20, "fetched unasked");
        }
        assert!(other.network().await.sent < 8 << 20);
        // A peer that asks gets it.
        assert_eq!(fetch(&*trains, &of_other).await.unwrap(), large);
        agree(&*trains, &*other).await;
    }
}

fn update_bytes() -> u64 {
    numbered(1).layout().bytes()
}
