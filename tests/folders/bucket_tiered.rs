//! Nodes with a network and a bucket behind it: either may fail and come back, and each carries what it should.

use crate::{bucket_nodes, buckets, samples};

use bucket_nodes::*;
use buckets::{Class, FaultProxy, Server};
use peerfold::{
    folder::{CachedFolder, CachedOptions, SharedFolder},
    p2p::{NetworkOptions, NetworkSettings, PeerAddress},
    weights::SignedEntry,
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use samples::{LONG_PATIENCE, PATIENCE, author, eventually, fetch, learn};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

async fn in_time(patience: Duration, case: impl Future<Output = ()>) {
    tokio::time::timeout(patience, case).await.expect("it hangs");
}

fn network(bootstrap: Vec<PeerAddress>) -> NetworkOptions {
    NetworkSettings {
        listen: vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()],
        bootstrap,
        no_mdns: true,
        sync_every: Duration::from_secs(1),
        ..NetworkSettings::default()
    }
    .into()
}

/// With both, in touch with these.
async fn both(homes: &Homes, seed: u8, endpoint: String, peers: &[&CachedFolder]) -> CachedFolder {
    let bootstrap = peers.iter().flat_map(|peer| peer.listening().to_vec()).collect();
    homes.try_open(seed, options(endpoint), Some(network(bootstrap))).await.unwrap()
}

/// Without a bucket.
async fn network_only(homes: &Homes, seed: u8, peers: &[&CachedFolder]) -> CachedFolder {
    let bootstrap = peers.iter().flat_map(|peer| peer.listening().to_vec()).collect();
    let options = CachedOptions { network: Some(network(bootstrap)), ..CachedOptions::new(homes.dir(seed)) };
    tokio::task::spawn_blocking(move || CachedFolder::open(author(seed), options)).await.unwrap().unwrap()
}

async fn connected(folder: &CachedFolder) {
    eventually(async || folder.figures().network.unwrap().peers > 0).await;
}

/// How often parts of values were asked for.
fn reads(server: &Server) -> usize {
    server.requests().iter().filter(|seen| seen.class == Class::Get && seen.key().ends_with(".pack")).count()
}

fn writes(server: &Server) -> usize {
    server.requests().iter().filter(|seen| seen.class == Class::Put).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_peers_give_is_not_fetched_from_the_bucket_and_is_published_once() {
    in_time(PATIENCE, async {
        let (server, homes) = (Server::start(), Homes::new());
        let first = both(&homes, 1, server.endpoint(), &[]).await;
        let second = both(&homes, 2, server.endpoint(), &[&first]).await;
        connected(&second).await;
        for epoch in 1..4 {
            let entry = put(&first, &format!("update/{epoch}"), &value(epoch), epoch).await;
            learn(&second, &entry).await;
            assert_eq!(fetch(&second, &entry).await.unwrap(), value(epoch));
            // In the cache now: nobody is asked.
            let received = second.figures().network.unwrap().received;
            assert_eq!(fetch(&second, &entry).await.unwrap(), value(epoch));
            assert!(second.figures().network.unwrap().received - received < 100_000);
        }
        assert_eq!(reads(&server), 0);
        first.hand_over(SOON).await;
        second.hand_over(SOON).await;
        // Who fetched it doesn't upload it too.
        assert_eq!(writes(&server), 6);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_gives_what_no_peer_has() {
    in_time(PATIENCE, async {
        let (server, homes) = (Server::start(), Homes::new());
        let author = homes.open(1, server.endpoint()).await;
        let entry = put(&author, "update/1", &value(1), 1).await;
        author.hand_over(SOON).await;
        drop(author);
        let first = both(&homes, 2, server.endpoint(), &[]).await;
        let second = both(&homes, 3, server.endpoint(), &[&first]).await;
        connected(&second).await;
        arrives(&second, &entry, &value(1)).await;
        assert_eq!(reads(&server), 1);
        // The other one has it from its peer now.
        arrives(&first, &entry, &value(1)).await;
        assert_eq!(reads(&server), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_both_hands_on_between_those_who_have_one() {
    in_time(PATIENCE, async {
        let (server, homes) = (Server::start(), Homes::new());
        let between = both(&homes, 1, server.endpoint(), &[]).await;
        let networked = network_only(&homes, 2, &[&between]).await;
        let alone = homes.open(3, server.endpoint()).await;
        connected(&networked).await;
        let entry = put(&alone, "update/1", &value(1), 1).await;
        arrives(&between, &entry, &value(1)).await;
        // Passed on, and given by a member that has it.
        arrives(&networked, &entry, &value(1)).await;
        // What a member with both publishes is in both.
        let entry = put(&between, "update/1", &value(2), 1).await;
        arrives(&networked, &entry, &value(2)).await;
        arrives(&alone, &entry, &value(2)).await;
        let said = between.routes().unwrap().borrow().clone();
        assert_eq!(said.words(), "network and bucket");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reaches_nobody_works_through_the_bucket_and_the_other_way_round() {
    in_time(PATIENCE, async {
        let (server, homes) = (Server::start(), Homes::new());
        let proxy = FaultProxy::start(server.address());
        let first = both(&homes, 1, server.endpoint(), &[]).await;
        let second = both(&homes, 2, proxy.endpoint(), &[&first]).await;
        // A bootstrap that nobody answers at.
        let nobody = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", samples::peer(77)).parse().unwrap();
        let lost = homes.try_open(3, options(server.endpoint()), Some(network(vec![nobody]))).await.unwrap();
        connected(&second).await;
        proxy.stop();
        fails_with(&second, "doesn't answer").await;
        let mut said = second.routes().unwrap();
        said.wait_for(|routes| routes.words() == "network only").await.unwrap();
        assert_eq!(lost.routes().unwrap().borrow().words(), "bucket only");
        let of_lost = put(&lost, "update/1", &value(1), 1).await;
        let of_second = put(&second, "update/1", &value(2), 1).await;
        // By way of the first one, which has both.
        arrives(&first, &of_lost, &value(1)).await;
        arrives(&second, &of_lost, &value(1)).await;
        arrives(&first, &of_second, &value(2)).await;
        // The bucket returns, and what was put in the meantime reaches the member that has nothing else.
        proxy.resume();
        arrives(&lost, &of_second, &value(2)).await;
        said.wait_for(|routes| routes.words() == "network and bucket").await.unwrap();
    })
    .await;
}

/// A way to a peer on which everything can be held up.
struct Way {
    address: SocketAddr,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Way {
    fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let way = Self { address: listener.local_addr().unwrap(), open: Arc::new((Mutex::new(true), Condvar::new())) };
        let open = way.open.clone();
        // For as long as the process lives.
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(target) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to, open) = (from.try_clone().unwrap(), to.try_clone().unwrap(), open.clone());
                    thread::spawn(move || Self::pass(from, to, &open));
                }
            }
        });
        way
    }

    fn pass(mut from: TcpStream, mut to: TcpStream, (open, opened): &(Mutex<bool>, Condvar)) {
        let mut bytes = [0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let _open = opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap();
            if to.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }

    fn set(&self, open: bool) {
        *self.open.0.lock().unwrap() = open;
        self.open.1.notify_all();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_is_asked_after_a_while_when_peers_give_no_answer() {
    in_time(PATIENCE, async {
        let (server, homes) = (Server::start(), Homes::new());
        let first = both(&homes, 1, server.endpoint(), &[]).await;
        let listening = first.listening()[0].clone();
        let port = listening.address.to_string().rsplit('/').next().unwrap().parse().unwrap();
        let way = Way::to(([127, 0, 0, 1], port).into());
        let address = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", way.address.port(), listening.peer);
        let after = Duration::from_secs(2);
        let bucket = options_with(server.endpoint(), |settings| settings.after = after);
        let second = homes.try_open(2, bucket, Some(network(vec![address.parse().unwrap()]))).await.unwrap();
        connected(&second).await;
        let entry = put(&first, "update/1", &value(1), 1).await;
        arrives(&second, &entry, &value(1)).await;
        assert_eq!(reads(&server), 0);
        way.set(false);
        let entry = put(&first, "update/2", &value(2), 2).await;
        first.hand_over(Duration::from_secs(2)).await;
        learn(&second, &entry).await;
        assert_eq!(second.figures().network.unwrap().peers, 1);
        let asked = Instant::now();
        assert_eq!(fetch(&second, &entry).await.unwrap(), value(2));
        assert!(asked.elapsed() >= after, "{:?}", asked.elapsed());
        assert_eq!(reads(&server), 1);
        way.set(true);
    })
    .await;
}

/// A node that is there or not, with or without a network, and a bucket that can be taken away.
struct Member {
    seed: u8,
    proxy: FaultProxy,
    folder: CachedFolder,
    networked: bool,
    newest: Option<(Arc<SignedEntry>, u64)>,
}

impl Member {
    async fn reopen(members: &mut BTreeMap<u8, Self>, homes: &Homes, seed: u8, networked: bool) {
        let Member { proxy, folder, newest, .. } = members.remove(&seed).unwrap();
        drop(folder);
        let peers: Vec<&CachedFolder> =
            members.values().filter(|member| member.networked).map(|member| &member.folder).collect();
        let folder = match networked {
            true => both(homes, seed, proxy.endpoint(), &peers).await,
            false => homes.open(seed, proxy.endpoint()).await,
        };
        members.insert(seed, Member { seed, proxy, folder, networked, newest });
    }
}

async fn run(seed: u64, ends_with_bucket: bool) {
    let (server, homes) = (Server::start(), Homes::new());
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |below: u64| random.next_u64() % below;
    let mut members = BTreeMap::new();
    for member in 1..4 {
        let proxy = FaultProxy::start(server.address());
        let peers: Vec<&CachedFolder> = members.values().map(|member: &Member| &member.folder).collect();
        let folder = both(&homes, member, proxy.endpoint(), &peers).await;
        members.insert(member, Member { seed: member, proxy, folder, networked: true, newest: None });
    }
    for step in 1..20u64 {
        let who = 1 + draw(3) as u8;
        let member = members.get_mut(&who).unwrap();
        match draw(6) {
            0 => member.proxy.stop(),
            1 => member.proxy.resume(),
            2 => {
                let networked = !member.networked;
                Member::reopen(&mut members, &homes, who, networked).await;
            }
            _ => {
                // It may end at any moment, whatever happens to the upload.
                let entry = put(&member.folder, &format!("update/{step}"), &value(step), step).await;
                member.newest = Some((entry, step));
            }
        }
    }
    // One of the two is there for all in the end, and the other for nobody.
    for member in members.values() {
        match ends_with_bucket {
            true => member.proxy.resume(),
            false => member.proxy.stop(),
        }
    }
    for seed in 1..4 {
        Member::reopen(&mut members, &homes, seed, !ends_with_bucket).await;
    }
    for member in members.values() {
        for other in members.values().filter(|other| other.seed != member.seed) {
            if let Some((entry, number)) = &other.newest {
                arrives(&member.folder, entry, &value(*number)).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_when_the_network_remains() {
    in_time(LONG_PATIENCE, async {
        for seed in 0..2 {
            run(seed, false).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_when_the_bucket_remains() {
    in_time(LONG_PATIENCE, async {
        for seed in 2..4 {
            run(seed, true).await;
        }
    })
    .await;
}
