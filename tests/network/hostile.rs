//! Peers that take more than their share: of memory, of connections, of the table. Each goes past a limit, is told apart
//! from the honest ones, and leaves them what they need.

use crate::{
    net::{Announcer, Happened, Rogue, hoard},
    network_tests,
    node::{Homes, Node},
    samples::*,
};
use bytesize::ByteSize;
use libp2p_identity::Keypair;
use peerfold::{
    folder::SharedFolder,
    p2p::{BlobRequest, PeerAddress},
    weights::{BlobHash, Content, Entry, FederationId, Key, Root, SignedEntry},
};
use std::time::{Duration, Instant};
use tokio::{io::AsyncReadExt, net::TcpStream, time::sleep};

/// One node publishes, the other learns of it and fetches it.
async fn exchange(from: &Node, to: &Node, number: u64) {
    let entry = from.put(&Key::update(from.id(), number), &numbered(number), epoch(number)).await.unwrap();
    learn(&**to, &entry).await;
    assert_eq!(fetch(&**to, &entry).await.unwrap(), numbered(number));
}

/// An entry whose value nobody has.
fn never_given(keypair: &Keypair, federation: FederationId, number: u64) -> Vec<u8> {
    let (layout, metadata) = (numbered(0).layout().clone(), epoch(1));
    let root = Root::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
    let content = Content::Put { root, length: layout.bytes(), metadata };
    let key = Key::new(keypair.public().to_peer_id(), format!("note {number}")).unwrap();
    let entry = Entry { federation, layout: layout.id(), key, sequence: number, content };
    SignedEntry::sign(entry, keypair).unwrap().bytes().to_vec()
}

/// Whether the node keeps somebody out for a reason with this in it.
async fn bans(node: &Node, reason: &str) -> bool {
    node.network().await.banned.iter().any(|banned| banned.reason.contains(reason))
}

/// Stays connected, answers nothing, and ends when it is disconnected.
pub(crate) async fn idle(node: PeerAddress, mut rogue: Rogue) {
    rogue.dial(&node);
    while !matches!(rogue.next().await, Happened::Closed(_)) {}
}

network_tests! {
    /// Answers that nobody reads take the room that they are given, whoever asks over however many connections; and whoever
    /// reads is served meanwhile.
    async fn answers_that_are_not_read_are_bounded() {
        let homes = Homes::new();
        let (of_peer, in_all) = (2 << 20, 6 << 20);
        let node = homes.node("node").limited(|limits| {
            limits.answers_per_peer = ByteSize(of_peer);
            limits.answers = ByteSize(in_all);
            limits.waiting = 64;
            limits.stall_timeout = Duration::from_secs(2);
        });
        let node = node.open();
        let large = artifact(distinct_bytes(4 << 20));
        let entry = node.put(&Key::new(node.id(), "large").unwrap(), &large, epoch(1)).await.unwrap();
        let hashes = vec![large.manifest().chunks()[0].into()];
        let request = BlobRequest::Get { federation: homes.federation, hashes };
        let hoarders: Vec<_> =
            (0..4).map(|_| tokio::spawn(hoard(node.address(), request.clone(), 4, 32))).collect();
        eventually(async || node.network().await.unread >= in_all / 4).await;
        // Another peer, of whom nothing is known but an entry.
        let reads = homes.node("reads").knowing(&[node.address()]).open();
        exchange(&reads, &node, 1).await;
        learn(&*reads, &entry).await;
        assert_eq!(fetch_at_last(&*reads, &entry).await.unwrap(), large);
        // A blob is a little over its chunk, as it has a length before it.
        let most = in_all + (4 << 20);
        eventually(async || {
            let unread = node.network().await.unread;
            assert!(unread <= most, "{unread}");
            hoarders.iter().all(|hoarder| hoarder.is_finished())
        })
        .await;
        eventually(async || node.network().await.unread == 0).await;
        assert!(node.network().await.refused.requests > 0);
        exchange(&node, &reads, 2).await;
    }

    /// Whoever asks for values to be kept that it never gives has one place for them, however many they are; and is told
    /// apart from the others once it has made the node wait often enough.
    async fn who_gives_nothing_of_what_it_wants_kept_keeps_nobody_waiting() {
        let homes = Homes::new();
        let node = homes.node("node").training().limited(|limits| limits.request_timeout = Duration::from_secs(1));
        let node = node.open();
        let keypair = Keypair::generate_ed25519();
        let mut rogue = Rogue::of(keypair.clone(), homes.federation);
        rogue.dial(&node.address());
        let (id, federation) = (node.id(), homes.federation);
        let (waits, mut waiting) = tokio::sync::watch::channel(0);
        let rogue = tokio::spawn(async move {
            let mut unanswered = Vec::new();
            loop {
                match rogue.next().await {
                    Happened::Connected(_) => {
                        for number in 1..=64 {
                            let entry = never_given(&keypair, federation, number).into();
                            rogue.blob(id, BlobRequest::Keep { federation, entry });
                        }
                    }
                    // Its stream stays open, with no answer on it.
                    Happened::BlobAsked(_, BlobRequest::Get { .. }, channel) => {
                        unanswered.push(channel);
                        waits.send_replace(unanswered.len());
                    }
                    Happened::Closed(_) => return,
                    _ => {}
                }
            }
        });
        waiting.changed().await.unwrap();
        let friend = homes.node("friend").training().knowing(&[node.address()]).open();
        friend.meets(&node).await;
        for number in 1..=3 {
            friend.put(&Key::update(friend.id(), number), &numbered(number), epoch(number)).await.unwrap();
            let handed_over = friend.hand_over(PATIENCE).await;
            assert!(handed_over.network.is_some_and(|network| network.is_done()), "{handed_over:?}");
        }
        assert!(*waiting.borrow() < 64, "they aren't fetched all at once");
        eventually(async || rogue.is_finished()).await;
        assert!(bans(&node, "asked to be kept").await);
    }

    /// Who takes all that it can is given so many bytes a second. It is told when to ask again, so no request comes to
    /// nothing, nobody is struck, and all of it arrives.
    async fn bytes_a_second_are_bounded_and_all_of_it_arrives() {
        let homes = Homes::new();
        let rate = 512 << 10;
        let node = homes.node("node").limited(|limits| limits.upload_per_peer = ByteSize(rate)).open();
        let reads = homes.node("reads").knowing(&[node.address()]).open();
        let large = artifact(distinct_bytes(3 << 20));
        let entry = node.put(&Key::new(node.id(), "large").unwrap(), &large, epoch(1)).await.unwrap();
        learn(&*reads, &entry).await;
        let began = Instant::now();
        assert_eq!(fetch(&*reads, &entry).await.unwrap(), large);
        // What is saved up in a second, and an answer that was begun meanwhile.
        let bounded = (large.layout().bytes() - (2 << 20) - rate) as f64 / rate as f64;
        assert!(began.elapsed().as_secs_f64() >= bounded, "{:?}", began.elapsed());
        assert!(node.network().await.put_off > 0);
        assert!(node.network().await.banned.is_empty() && reads.network().await.banned.is_empty());
        // The bound of all of them holds too, and leaves a part to each.
        let node = homes.node("other").limited(|limits| limits.upload = ByteSize(4 * rate)).open();
        let known = [node.address()];
        let readers = ["one", "another"].map(|name| homes.node(name).knowing(&known).open());
        let entry = node.put(&Key::new(node.id(), "large").unwrap(), &large, epoch(1)).await.unwrap();
        for reads in &readers {
            learn(&**reads, &entry).await;
        }
        let [one, another] = &readers;
        let (one, another) = tokio::join!(fetch(&**one, &entry), fetch(&**another, &entry));
        assert!(one.unwrap() == large && another.unwrap() == large);
        assert!(node.network().await.put_off > 0);
    }

    /// Messages of a version that isn't known can't be judged, but they can be counted.
    async fn a_flood_of_gossip_is_dropped_and_its_sender_too() {
        let homes = Homes::new();
        let first = homes.node("first").limited(|limits| limits.gossip_rate = 20.0).open();
        let second = homes.node("second").knowing(&[first.address()]).open();
        exchange(&second, &first, 1).await;
        let mut rogue = Rogue::new(homes.federation);
        let peer = rogue.peer_id().to_string();
        rogue.dial(&first.address());
        let flood = tokio::spawn(async move {
            while !matches!(rogue.next().await, Happened::Subscribed(_)) {}
            for number in 0_u64.. {
                let mut newer = vec![200];
                newer.extend(number.to_le_bytes());
                rogue.gossip(&newer);
                // Each is sent in a packet of its own.
                if let Ok(Happened::Closed(_)) = tokio::time::timeout(Duration::from_micros(50), rogue.next()).await {
                    return;
                }
            }
        });
        eventually(async || flood.is_finished()).await;
        let network = first.network().await;
        assert!(network.banned.iter().any(|banned| banned.peer == peer), "{:?}", network.banned);
        assert!(network.refused.gossip >= 256, "{:?}", network.refused);
        assert!(second.network().await.banned.is_empty());
        exchange(&first, &second, 2).await;
        exchange(&second, &first, 3).await;
    }

    /// Idle strangers take half of the places and keep nobody out.
    async fn idle_strangers_make_room() {
        let homes = Homes::new();
        let node = homes.node("node").limited(|limits| limits.connections = 12).open();
        let member = homes.node("member").knowing(&[node.address()]).open();
        exchange(&member, &node, 1).await;
        let strangers: Vec<_> =
            (0..20).map(|_| tokio::spawn(idle(node.address(), Rogue::new(homes.federation)))).collect();
        // Of twenty at least fourteen have to go again.
        eventually(async || strangers.iter().filter(|stranger| stranger.is_finished()).count() >= 14).await;
        let late = homes.node("late").knowing(&[node.address()]).open();
        late.meets(&node).await;
        exchange(&late, &node, 1).await;
        let more: Vec<_> =
            (0..20).map(|_| tokio::spawn(idle(node.address(), Rogue::new(homes.federation)))).collect();
        eventually(async || more.iter().filter(|stranger| stranger.is_finished()).count() >= 14).await;
        // Those that make room are listed until their connections are closed.
        eventually(async || node.network().await.peers.len() <= 12).await;
        let peers = node.network().await.peers;
        for known in [&member, &late] {
            assert!(peers.iter().any(|peer| peer.peer == known.id().to_string() && peer.connected_seconds < 3600));
        }
        exchange(&late, &node, 2).await;
        exchange(&node, &member, 1).await;
        strangers.iter().chain(&more).for_each(|stranger| stranger.abort());
    }

    /// Whoever renews silent connections all the time, from the same address, loses the oldest of them to whoever speaks.
    async fn silent_connections_that_come_again_keep_nobody_out() {
        let homes = Homes::new();
        let node = homes.node("node").limited(|limits| limits.pending_per_address = 60).open();
        let socket = node.socket();
        let crowd = tokio::spawn(async move {
            let mut open: Vec<TcpStream> = Vec::new();
            loop {
                open.retain(|stream| stream.try_read(&mut [0; 64]).map_or(true, |read| read > 0));
                while open.len() < 90 {
                    open.push(TcpStream::connect(socket).await.unwrap());
                }
                // So fast that a place is silent for 25 milliseconds: whoever is slower to say something than that doesn't
                // get in at its first attempt.
                sleep(Duration::from_millis(50)).await;
            }
        });
        eventually(async || node.network().await.refused.connections >= 100).await;
        let late = homes.node("late").knowing(&[node.address()]).open();
        late.meets(&node).await;
        exchange(&late, &node, 1).await;
        crowd.abort();
    }

    /// Connections on which nothing is said are let go, and others get in meanwhile: from another address at once, because
    /// one address has only its part of the places.
    async fn silent_connections_keep_nobody_out() {
        let homes = Homes::new();
        let short = Duration::from_secs(3);
        let limited = homes.node("node").limited(|limits| limits.handshake_timeout = short);
        let node = limited.limited(|limits| limits.pending_per_address = 200).open();
        let mut silent = Vec::new();
        for _ in 0..300 {
            silent.push(TcpStream::connect(node.socket()).await.unwrap());
        }
        eventually(async || node.network().await.refused.connections >= 100).await;
        let late = homes.node("late").knowing(&[node.address()]).open();
        late.meets(&node).await;
        exchange(&late, &node, 1).await;
        for mut stream in silent {
            // It may say what it speaks before it goes.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        exchange(&node, &late, 1).await;
    }

    /// Whoever announces itself everywhere is remembered in so many places, and not in all.
    async fn announcements_are_bounded() {
        let homes = Homes::new();
        let node = homes.node("node").open();
        let mut announcer = Announcer::of(&node.address()).await;
        let key = |number: u8| vec![number; 32];
        announcer.announce((0..100).map(key)).await;
        let mut asker = Announcer::of(&node.address()).await;
        let mut found = 0;
        for number in 0..100 {
            found += usize::from(asker.finds(key(number)).await);
        }
        assert_eq!(found, 64);
        // Who comes after it is remembered as well.
        let mut other = Announcer::of(&node.address()).await;
        other.announce([key(200)]).await;
        eventually(async || {
            // What it has sent leaves only as long as it is asked something.
            other.finds(key(201)).await;
            asker.finds(key(200)).await
        })
        .await;
    }

    /// A peer that does what no honest one does is dropped at once, and can't come back, not even after a restart.
    async fn a_ban_outlives_a_restart() {
        let homes = Homes::new();
        let plan = homes.node("node");
        let node = plan.open();
        let keypair = Keypair::generate_ed25519();
        let mut rogue = Rogue::of(keypair.clone(), homes.federation);
        let peer = rogue.peer_id().to_string();
        let mut told = node.dropped_peers().unwrap();
        rogue.dial(&node.address());
        let twice = BlobRequest::Get { federation: homes.federation, hashes: vec![BlobHash::of(b"any"); 2] };
        loop {
            match rogue.next().await {
                Happened::Connected(_) => rogue.blob(node.id(), twice.clone()),
                Happened::Closed(_) => break,
                _ => {}
            }
        }
        assert!(bans(&node, "twice").await);
        let dropped = told.recv().await.unwrap();
        assert_eq!((dropped.peer.to_string(), dropped.length.as_secs()), (peer.clone(), 600));
        assert!(dropped.reason.contains("twice"), "{}", dropped.reason);
        drop(node);
        let node = plan.open();
        let banned = node.network().await.banned;
        assert_eq!(banned.iter().map(|banned| banned.peer.clone()).collect::<Vec<_>>(), [peer]);
        assert!((500..=600).contains(&banned[0].seconds), "{banned:?}");
        idle(node.address(), Rogue::of(keypair, homes.federation)).await;
        // Others of its address can.
        let member = homes.node("member").knowing(&[node.address()]).open();
        member.meets(&node).await;
    }

    /// Requests beyond a rate aren't answered, and whoever goes on is dropped.
    async fn requests_have_a_rate() {
        let homes = Homes::new();
        let node = homes.node("node").limited(|limits| limits.request_rate = 5.0).open();
        let member = homes.node("member").knowing(&[node.address()]).open();
        let mut rogue = Rogue::new(homes.federation);
        rogue.dial(&node.address());
        loop {
            match rogue.next().await {
                Happened::Connected(_) => (0..50).for_each(|_| rogue.compare(node.id())),
                Happened::SyncAnswered(_) => rogue.compare(node.id()),
                Happened::Closed(_) => break,
                _ => {}
            }
        }
        assert!(bans(&node, "requests").await);
        assert!(node.network().await.refused.requests >= 48);
        exchange(&member, &node, 1).await;
    }
}
