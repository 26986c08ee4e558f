//! `peerfold bootstrap`: where nodes find each other.

use super::process::{Ended, Running, Sandbox};
use futures::StreamExt;
use libp2p::{
    Multiaddr, StreamProtocol, Swarm, SwarmBuilder, identify, kad,
    multiaddr::Protocol,
    noise,
    swarm::{
        NetworkBehaviour, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
    tcp, yamux,
};
use libp2p_identity::PeerId;
use peerfold::p2p::{PeerAddress, PeerList};
use std::{fs, time::Duration};

const ANY_TCP: &str = "/ip4/127.0.0.1/tcp/0";
const ANY_QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// A bootstrap node on loopback.
fn bootstrap(sandbox: &Sandbox, home: &str, listen: &[&str]) -> Running {
    let mut command = sandbox.command(["bootstrap", "--home", home]);
    command.args(listen.iter().flat_map(|address| ["--listen", *address]));
    Running::start(command)
}

fn address(line: &str) -> PeerAddress {
    line.parse().unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn it_prints_its_addresses_under_one_identity_until_it_is_stopped() {
    let sandbox = Sandbox::new();
    let mut peers = Vec::new();
    for signal in ["TERM", "INT"] {
        let mut node = bootstrap(&sandbox, "home", &[ANY_TCP, ANY_QUIC]);
        let lines = [node.line(|line| line.contains("/tcp/")), node.line(|line| line.contains("/quic-v1/"))];
        peers.extend(lines.iter().map(|line| address(line).peer));
        node.signal(signal);
        let ended = node.wait().success();
        assert_eq!((ended.lines.len(), ended.log.as_str()), (2, ""));
        // What it prints is a list.
        fs::write(sandbox.path("list"), ended.text()).unwrap();
        assert_eq!(PeerList::read(&sandbox.path("list")).unwrap().peers.len(), 2);
    }
    peers.dedup();
    assert_eq!(peers.len(), 1, "the identity stays");
}

#[test]
fn mistakes_are_one_line() {
    let sandbox = Sandbox::new();
    let mut first = bootstrap(&sandbox, "home", &[ANY_TCP, ANY_QUIC]);
    let tcp = address(&first.line(|line| line.contains("/tcp/"))).address.to_string();
    let quic = address(&first.line(|line| line.contains("/quic-v1/"))).address.to_string();
    for (home, listen, parts) in [
        ("other", tcp.as_str(), &["another program listens there", &tcp][..]),
        ("other", &quic, &["another program listens there", &quic]),
        ("home", ANY_TCP, &["in use", "(process "]),
        ("other", "127.0.0.1:4600", &["--listen 127.0.0.1:4600", "/ip4/"]),
        ("other", "/ip4/127.0.0.1/udp/4600", &["--listen", "quic-v1"]),
        ("other", "/ip4/192.0.2.1/tcp/0", &["/ip4/192.0.2.1/tcp/0", "this machine doesn't have that address"]),
        ("/proc/none", ANY_TCP, &["/proc/none"]),
    ] {
        let ended = bootstrap(&sandbox, home, &[listen]).wait();
        assert_eq!((ended.status.code(), &ended.lines[..]), (Some(1), &[][..]), "{listen}");
        for part in parts {
            assert!(ended.error().contains(part), "{part} is not in: {}", ended.error());
        }
    }
    assert!(first.is_running());
    let ended = Ended::of(sandbox.command(["bootstrap", "--port", "1"]));
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.error().contains("--port"));
}

#[test]
fn it_ends_with_who_started_it() {
    let sandbox = Sandbox::new();
    // Standard input has ended already.
    let args = ["bootstrap", "--end-with-stdin", "--home", "home", "--listen", ANY_TCP];
    assert_eq!(Running::start(sandbox.command(args)).wait().status.code(), Some(1));
}

#[derive(NetworkBehaviour)]
struct Member {
    identify: identify::Behaviour,
    kademlia: kad::Behaviour<kad::store::MemoryStore>,
}

fn member() -> Swarm<Member> {
    let behaviour = |keypair: &libp2p_identity::Keypair| {
        let me = keypair.public().to_peer_id();
        let kademlia = kad::Config::new(StreamProtocol::new("/peerfold/kad/1"));
        let mut kademlia = kad::Behaviour::with_config(me, kad::store::MemoryStore::new(me), kademlia);
        kademlia.set_mode(Some(kad::Mode::Server));
        let identify = identify::Config::new("/peerfold/1".to_owned(), keypair.public());
        Member { identify: identify::Behaviour::new(identify), kademlia }
    };
    let builder = SwarmBuilder::with_new_identity().with_tokio();
    let builder = builder.with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default).unwrap();
    let builder = builder.with_quic().with_behaviour(behaviour).unwrap();
    builder.with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600))).build()
}

/// Lets the swarm work until it says this.
async fn wait<T>(swarm: &mut Swarm<Member>, mut wanted: impl FnMut(SwarmEvent<MemberEvent>) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = wanted(swarm.select_next_some().await) {
                return found;
            }
        }
    };
    tokio::time::timeout(super::process::PATIENCE, found).await.unwrap()
}

/// Connects to the bootstrap node and waits until both know who the other is.
async fn join(swarm: &mut Swarm<Member>, bootstrap: &PeerAddress) -> Vec<Multiaddr> {
    swarm.listen_on(ANY_TCP.parse().unwrap()).unwrap();
    let own = wait(swarm, |event| match event {
        SwarmEvent::NewListenAddr { address, .. } => Some(address),
        _ => None,
    });
    let own = own.await;
    swarm.behaviour_mut().kademlia.add_address(&bootstrap.peer, bootstrap.address.clone());
    swarm.dial(bootstrap.address.clone()).unwrap();
    let mut told = None;
    let mut sent = false;
    let protocols = wait(swarm, |event| {
        match event {
            SwarmEvent::Behaviour(MemberEvent::Identify(identify::Event::Received { info, .. })) => {
                told = Some(info.protocols);
            }
            SwarmEvent::Behaviour(MemberEvent::Identify(identify::Event::Sent { .. })) => sent = true,
            _ => {}
        }
        told.take_if(|_| sent)
    });
    let protocols: Vec<String> = protocols.await.iter().map(ToString::to_string).collect();
    assert!(protocols.contains(&"/peerfold/kad/1".to_owned()));
    let foreign = |protocol: &&String| protocol.contains("meshsub") || protocol.contains("sync");
    assert_eq!(protocols.iter().find(foreign), None, "it belongs to no federation");
    vec![own]
}

#[tokio::test]
async fn members_of_a_federation_find_each_other_through_it() {
    let sandbox = Sandbox::new();
    let mut node = bootstrap(&sandbox, "home", &[ANY_TCP, ANY_QUIC]);
    let over_tcp = address(&node.line(|line| line.contains("/tcp/")));
    let over_quic = address(&node.line(|line| line.contains("/quic-v1/")));
    let key = kad::RecordKey::new(&[7; 32]);

    let mut first = member();
    let listening = join(&mut first, &over_tcp).await;
    first.behaviour_mut().kademlia.start_providing(key.clone()).unwrap();
    wait(&mut first, |event| match event {
        SwarmEvent::Behaviour(MemberEvent::Kademlia(kad::Event::OutboundQueryProgressed {
            result: kad::QueryResult::StartProviding(result),
            ..
        })) => Some(result.unwrap()),
        _ => None,
    })
    .await;
    let first_id = *first.local_peer_id();
    let answers = tokio::spawn(async move { while first.next().await.is_some() {} });

    let mut second = member();
    join(&mut second, &over_quic).await;
    // Announcements are not acknowledged: it is asked until it knows.
    let found: PeerId = loop {
        second.behaviour_mut().kademlia.get_providers(key.clone());
        let providers = wait(&mut second, |event| match event {
            SwarmEvent::Behaviour(MemberEvent::Kademlia(kad::Event::OutboundQueryProgressed {
                result: kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders { providers, .. })),
                ..
            })) => Some(providers),
            SwarmEvent::Behaviour(MemberEvent::Kademlia(kad::Event::OutboundQueryProgressed { step, .. }))
                if step.last =>
            {
                Some(Default::default())
            }
            _ => None,
        });
        if let Some(provider) = providers.await.into_iter().next() {
            break provider;
        }
    };
    assert_eq!(found, first_id);
    // And where it listens, so that it can be dialled. The query may have dialled it already.
    second.dial(DialOpts::peer_id(found).condition(PeerCondition::Always).build()).unwrap();
    let endpoint = wait(&mut second, |event| match event {
        SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } if peer_id == first_id => Some(endpoint),
        _ => None,
    });
    let mut dialled = endpoint.await.get_remote_address().clone();
    if matches!(dialled.iter().last(), Some(Protocol::P2p(_))) {
        dialled.pop();
    }
    assert!(listening.contains(&dialled));
    answers.abort();
}
