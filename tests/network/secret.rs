//! Federations with a secret: who has it meets the others, and who has another one or none gets nothing, not even a name.

use crate::{
    bootstrapped::bootstrap_node,
    network_tests,
    node::{Homes, Node, by_way_of},
    samples::*,
};
use libp2p_identity::Keypair;
use peerfold::{
    folder::{CachedFolder, CachedOptions, FolderError, SharedFolder},
    p2p::{BootstrapNode, NetworkError, NetworkOptions, NetworkSettings, PeerRole},
    secret::Secret,
    weights::Key,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What every libp2p connection begins with, where nothing hides it.
const FIRST: &[u8] = b"\x13/multistream/1.0.0\n";

/// Forwards connections to a node, and keeps all that passes in either direction.
async fn tap(target: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, passed) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<u8>>>::default());
    let kept = passed.clone();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let (near, far) = (near.into_split(), TcpStream::connect(target).await.unwrap().into_split());
            for (mut from, mut to) in [(near.0, far.1), (far.0, near.1)] {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(read @ 1..) = from.read(&mut buffer).await {
                        kept.lock().unwrap().extend(&buffer[..read]);
                        if to.write_all(&buffer[..read]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    (address, passed)
}

fn has(passed: &Mutex<Vec<u8>>, part: &[u8]) -> bool {
    passed.lock().unwrap().windows(part.len()).any(|window| window == part)
}

async fn is_alone(node: &Node, words: &str) {
    let around = node.look_around(PATIENCE).await.unwrap();
    assert!(around.is_alone() && around.listed_connected == 0, "{around}");
    assert!(around.to_string().contains(words), "{around}");
    assert!(node.list("").await.unwrap().is_empty());
    assert!(node.network().await.peers.is_empty());
}

network_tests! {
    /// Two with the secret find each other by a bootstrap node that has it. Others with the same federation's name and the
    /// same addresses stay outside.
    async fn only_who_has_the_secret_is_let_in() {
        let homes = Homes::new();
        let (bootstrap, _stop, _running) = bootstrap_node(Some(&Secret::from_bytes([1; 32]))).await;
        let writes = homes.node("writes").having(1).knowing([&bootstrap]).open();
        let reads = homes.node("reads").having(1).knowing([&bootstrap]).open();
        writes.meets(&reads).await;
        let entry = writes.put(&Key::start(writes.id()), &numbered(1), epoch(0)).await.unwrap();
        learn(&*reads, &entry).await;
        assert_eq!(fetch_at_last(&*reads, &entry).await.unwrap(), numbered(1));

        let known = [bootstrap, writes.address(), reads.address()];
        let other = homes.node("other").having(2).knowing(&known).open();
        let none = homes.node("none").knowing(&known).open();
        tokio::join!(is_alone(&other, "--secret"), is_alone(&none, "none of the 3 peers"));
        for node in [&writes, &reads] {
            let peers = node.network().await.peers;
            let members = peers.iter().filter(|peer| peer.role == PeerRole::Member).count();
            assert!(members == 1 && peers.len() <= 2, "{peers:?}");
        }
    }

    /// A stranger who speaks the protocol is sent 24 random bytes and no more, and whoever listens on the way reads nothing:
    /// no protocol, no topic. Without a secret both would.
    async fn a_stranger_and_a_listener_on_the_way_learn_no_name() {
        let homes = Homes::new();
        let [secret, open] = [true, false].map(|secret| {
            let plan = |name: &str| {
                let plan = homes.node(&format!("{name} {secret}"));
                if secret { plan.having(1) } else { plan }
            };
            (plan("writes").open(), plan("reads"))
        });
        for ((writes, reads), is_open) in [(secret, false), (open, true)] {
            let (way, passed) = tap(writes.socket()).await;
            let reads = reads.knowing([&by_way_of(&writes, way)]).open();
            reads.meets(&writes).await;
            let entry = writes.put(&Key::start(writes.id()), &numbered(1), epoch(0)).await.unwrap();
            learn(&*reads, &entry).await;
            assert!(passed.lock().unwrap().len() > 1000);
            assert_eq!(has(&passed, FIRST), is_open);
            assert_eq!(has(&passed, b"/noise"), is_open);

            let mut stranger = TcpStream::connect(writes.socket()).await.unwrap();
            stranger.write_all(&[FIRST, b"\x07/noise\n", &[0; 64]].concat()).await.unwrap();
            let mut told = Vec::new();
            // The end may be a reset, as what was sent isn't read.
            let mut buffer = [0; 1024];
            while let Ok(read @ 1..) = stranger.read(&mut buffer).await {
                told.extend(&buffer[..read]);
                if told.starts_with(FIRST) {
                    break;
                }
            }
            assert_eq!(told.starts_with(FIRST), is_open);
            assert!(is_open || told.len() <= 24, "{told:?}");
        }
    }

    /// What a secret can't protect is refused in one line, and nothing listens there.
    async fn quic_is_refused_with_a_secret() {
        let homes = Homes::new();
        let quic = "/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap();
        let options = NetworkOptions {
            secret: Some(Secret::from_bytes([1; 32])),
            ..NetworkSettings { listen: vec![quic], ..NetworkSettings::default() }.into()
        };
        let options = CachedOptions { network: Some(options), ..CachedOptions::new(homes.node("quic").cache()) };
        let refused = tokio::task::spawn_blocking(|| CachedFolder::open(author(1), options)).await.unwrap();
        match refused {
            Err(FolderError::Network(error @ NetworkError::Private { .. })) => {
                let text = error.to_string();
                assert!(text.contains("quic-v1") && text.contains("/tcp/") && !text.contains('\n'), "{text}");
            }
            other => panic!("{:?}", other.err()),
        }
        let listen = ["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()];
        let refused = BootstrapNode::start_with(&Keypair::generate_ed25519(), &listen, Some(&Secret::generate()), None);
        assert!(matches!(refused.err().unwrap(), NetworkError::Private { .. }));
    }
}
