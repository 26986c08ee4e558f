//! How nodes find each other, over which transport, and what they report about it.

use crate::{network_tests, node::Homes, samples::*};
use peerfold::{
    folder::SharedFolder,
    p2p::{PeerRole, Transport},
    weights::Key,
};

network_tests! {
    async fn each_transport_is_spoken_and_told() {
        for (listen, transport) in
            [("/ip4/127.0.0.1/tcp/0", Transport::Tcp), ("/ip4/127.0.0.1/udp/0/quic-v1", Transport::Quic)]
        {
            let homes = Homes::new();
            let listens = homes.node("listens").listening_on(listen).open();
            let dials = homes.node("dials").listening_on(listen).knowing(&[listens.address()]).open();
            let key = Key::start(listens.id());
            let value = artifact(distinct_bytes(5 << 20));
            let entry = listens.put(&key, &value, epoch(0)).await.unwrap();
            learn(&*dials, &entry).await;
            assert_eq!(fetch(&*dials, &entry).await.unwrap(), value);
            listens.meets(&dials).await;

            let network = dials.network().await;
            assert_eq!(network.peer, dials.id().to_string());
            assert_eq!(network.federation, homes.federation.to_string());
            assert_eq!(network.listening, [dials.address().to_string()]);
            assert_eq!((network.entries, network.authors), (1, 1));
            assert!(network.received > 5 << 20 && network.cached > 5 << 20);
            let [peer] = &network.peers[..] else { panic!("{:#?}", network.peers) };
            assert_eq!((peer.peer.clone(), peer.role, peer.transport), (listens.id().to_string(), PeerRole::Member, transport));
            assert_eq!((peer.address.clone(), peer.entries), (listens.address().address.to_string(), 1));
            assert!(peer.received > 5 << 20 && peer.sent > 0 && peer.sent < 1 << 20);
            let network = listens.network().await;
            assert!(network.sent > 5 << 20 && network.received < 1 << 20);
            assert_eq!(network.peers[0].transport, transport);
        }
    }

    /// Of a list of several, one that answers is enough; and one that answers as someone else is nobody's peer.
    async fn dead_and_wrong_addresses_are_passed_over() {
        let homes = Homes::new();
        let (first, other) = (homes.node("first").open(), homes.node("other").open());
        let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let dead = crate::node::by_way_of(&other, nobody);
        let wrong = crate::node::by_way_of(&other, first.socket());
        let joins = homes.node("joins").knowing([&dead, &wrong, &first.address()]).open();
        joins.meets(&first).await;
        let entry = joins.put(&Key::start(joins.id()), &numbered(1), epoch(0)).await.unwrap();
        learn(&*first, &entry).await;
        let connected = joins.network().await.peers;
        assert!(connected.iter().all(|peer| peer.peer != other.id().to_string()), "{connected:#?}");
    }
}
