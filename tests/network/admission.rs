//! Networks with an allow-list: who isn't on it gets nothing and leaves nothing.

use crate::{
    net::{Happened, Rogue},
    network_tests,
    node::{Homes, Node},
    samples::*,
};
use libp2p_identity::PeerId;
use peerfold::{
    entries::{MemberList, Membership},
    folder::{FolderError, SharedFolder},
    p2p::{BlobRequest, PeerAddress, PeerRole},
    weights::Key,
};
use std::sync::Arc;

/// Whether a node speaks the federation's protocols with this peer; false if it puts it out before.
async fn is_let_in(rogue: &mut Rogue, node: &Node) -> bool {
    rogue.dial(&node.address());
    loop {
        match rogue.next().await {
            Happened::Closed(_) => return false,
            Happened::Connected(_) => {}
            _ => return true,
        }
    }
}

fn only(peers: &[PeerId]) -> MemberList {
    peers.iter().copied().collect()
}

network_tests! {
    /// A peer that knows the federation's name and speaks all its protocols. Where there is no list it gets everything.
    async fn a_stranger_is_put_out_before_it_is_told_anything() {
        let homes = Homes::new();
        let membership = Arc::new(Membership::only([]));
        let closed = homes.node("closed").admitting(&membership).open();
        let open = homes.node("open").open();
        for node in [&closed, &open] {
            node.put(&Key::update(node.id(), 1), &numbered(1), epoch(1)).await.unwrap();
        }
        let mut rogue = Rogue::new(homes.federation);
        for _ in 0..20 {
            assert!(!is_let_in(&mut rogue, &closed).await);
        }
        let network = closed.network().await;
        assert_eq!((network.sent, network.received, network.peers.len()), (0, 0, 0), "{network:?}");
        assert!(is_let_in(&mut rogue, &open).await);
        drop(rogue);
        // Added while the node runs, it is let in.
        let mut rogue = Rogue::new(homes.federation);
        membership.replace(only(&[rogue.peer_id()]));
        assert!(is_let_in(&mut rogue, &closed).await);
        // And put out when it is revoked.
        membership.replace(only(&[]));
        while !matches!(rogue.next().await, Happened::Closed(_)) {}
        assert!(!is_let_in(&mut rogue, &closed).await);
    }

    /// The bootstrap list names peers that tell where members are. They get no entry for it, and no value.
    async fn a_bootstrap_peer_that_is_not_on_the_list_is_connected_and_told_nothing() {
        let homes = Homes::new();
        let membership = Arc::new(Membership::only([]));
        let mut rogue = Rogue::new(homes.federation);
        let nowhere = PeerAddress { peer: rogue.peer_id(), address: "/ip4/127.0.0.1/tcp/9".parse().unwrap() };
        let node = homes.node("node").admitting(&membership).knowing([&nowhere]).open();
        let entry = node.put(&Key::update(node.id(), 1), &numbered(1), epoch(1)).await.unwrap();
        let federation = homes.federation;
        rogue.dial(&node.address());
        let (mut asked, mut refused) = (false, 0);
        while refused < 2 {
            match rogue.next().await {
                Happened::Connected(_) => {
                    rogue.compare(node.id());
                    let hashes = vec![entry.root().unwrap().into()];
                    rogue.blob(node.id(), BlobRequest::Get { federation, hashes });
                    asked = true;
                }
                // Also what is not even understood there is answered.
                Happened::SyncAnswered(_) | Happened::BlobAnswered(_) => refused += 1,
                Happened::Closed(_) => panic!("it is on the bootstrap list"),
                _ => panic!("it is asked or told something"),
            }
        }
        assert!(asked);
        // What comes now would be gossiped to it.
        node.put(&Key::update(node.id(), 2), &numbered(2), epoch(2)).await.unwrap();
        let peer = node.network().await.peers.remove(0);
        assert_eq!((peer.peer, peer.role), (rogue.peer_id().to_string(), PeerRole::Bootstrap));
        assert_eq!((peer.sent, peer.received), (0, 0));
        // As a member it is another peer: it connects anew and is told.
        membership.replace(only(&[rogue.peer_id()]));
        while !matches!(rogue.next().await, Happened::Closed(_)) {}
        assert!(is_let_in(&mut rogue, &node).await);
    }

    /// Another member, which admits everybody, goes on passing on what the revoked one publishes.
    async fn who_is_revoked_is_put_out_forgotten_and_back_when_it_is_added() {
        let homes = Homes::new();
        let membership = Arc::new(Membership::only([]));
        let plan = homes.node("closed").admitting(&membership).training();
        let closed = plan.open();
        let known = [closed.address()];
        let member = homes.node("member").knowing(&known).training().open();
        let revoked = homes.node("revoked").knowing(&[closed.address(), member.address()]).training().open();
        let (id, both) = (revoked.id(), only(&[member.id(), revoked.id()]));
        membership.replace(both.clone());
        for (one, other) in [(&closed, &member), (&closed, &revoked), (&member, &revoked)] {
            one.meets(other).await;
        }
        let update = async |node: &Node, number: u64| {
            node.put(&Key::update(node.id(), number), &numbered(10 * number), epoch(number)).await.unwrap()
        };
        let first = update(&revoked, 1).await;
        learn(&*closed, &first).await;
        let of_revoked = async |node: &Node| node.list(&format!("{id}/")).await.unwrap();

        membership.replace(only(&[member.id()]));
        closed.loses(id).await;
        eventually(async || of_revoked(&closed).await.is_empty()).await;
        eventually(async || matches!(fetch(&*closed, &first).await, Err(FolderError::Gone { .. }))).await;
        let second = update(&revoked, 2).await;
        learn(&*member, &second).await;
        let of_member = update(&member, 1).await;
        learn(&*closed, &of_member).await;
        assert!(of_revoked(&closed).await.is_empty());
        // Nor is it in the cache.
        drop(closed);
        let closed = plan.clone().knowing(&[member.address()]).open();
        learn(&*closed, &of_member).await;
        closed.meets(&member).await;
        assert!(of_revoked(&closed).await.is_empty());

        membership.replace(both);
        learn(&*closed, &second).await;
        assert_eq!(fetch_at_last(&*closed, &second).await.unwrap(), numbered(20));
        agree(&*closed, &*member).await;
    }
}
