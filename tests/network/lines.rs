//! Lines of a known speed: how long a value takes to many at once, beside one alone.

use crate::{
    hosts::{Proxy, Setup},
    net::Switch,
    samples::*,
};
use peerfold::{
    folder::SharedFolder,
    home::Home,
    p2p::{NetworkStatus, PeerRole},
    weights::{DType, FederationId, Key, Tensor, TensorSpec, Weights},
};
use std::time::{Duration, Instant};

/// The speed of each line, unless `PEERFOLD_TEST_MBITS` says otherwise.
const MBITS: u32 = 40;
const READERS: usize = 8;
/// MiB of a value: chunks enough for everybody to have something to give; and as many as take some seconds at the speed that
/// is asked for.
const MEBIBYTES: u64 = 16;
const SECONDS: u64 = 6;

/// Random bytes, so that no two chunks are equal, in tensors of 1 MiB.
fn long(seed: u64, mebibytes: u64) -> Weights {
    let tensor = |number: u64| {
        let mut random =
            blake3::Hasher::new().update([seed, number].map(u64::to_le_bytes).as_flattened()).finalize_xof();
        let mut data = vec![0; 1 << 20];
        random.fill(&mut data);
        let spec = TensorSpec { name: format!("{number:03}"), dtype: DType::U8, shape: vec![1 << 20] };
        Tensor { spec, data: data.into() }
    };
    Weights::new((0..mebibytes).map(tensor).collect()).unwrap()
}

fn members(status: &NetworkStatus) -> usize {
    status.peers.iter().filter(|peer| peer.role == PeerRole::Member).count()
}

async fn start(switch: &Switch, host: usize, home: std::path::PathBuf, setup: Setup) -> Proxy {
    let namespace = switch.name(host);
    let start = move || Proxy::start_in(&namespace, Home::peer_id(&home).unwrap(), &setup).unwrap();
    tokio::task::spawn_blocking(start).await.unwrap()
}

/// How long it takes until these readers have the author's value, and how often the author has sent it.
async fn published(author: &Proxy, readers: &[&Proxy], epoch: u64, value: &Weights) -> (Duration, f64) {
    let before = author.status().await.unwrap().sent;
    let key = Key::update(author.author(), epoch);
    let entry = author.put(&key, value, crate::samples::epoch(epoch)).await.unwrap();
    let began = Instant::now();
    let read = readers.iter().map(async |reader| {
        learn(*reader, &entry).await;
        while reader.get(&entry).await.is_err() {}
    });
    futures::future::join_all(read).await;
    let sent = author.status().await.unwrap().sent - before;
    (began.elapsed(), sent as f64 / value.layout().bytes() as f64)
}

/// Eight who read at once, each on a line of its own. With `PEERFOLD_TEST_MBITS` they must have it in three times as long as
/// one alone: where the lines are slower than the machine, the ratio says nothing of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_on_slow_lines_have_a_value_from_each_other() {
    let asked: Option<u32> = std::env::var("PEERFOLD_TEST_MBITS").ok().map(|mbits| mbits.parse().unwrap());
    let mbits = asked.unwrap_or(MBITS);
    let mebibytes = asked.map_or(MEBIBYTES, |mbits| (u64::from(mbits) * SECONDS / 8).max(MEBIBYTES));
    let test = "eight_on_slow_lines_have_a_value_from_each_other";
    let Some(switch) = Switch::new(test, READERS + 1, mbits) else { return };
    let homes = tempfile::tempdir().unwrap();
    let (first, second) = (long(1, mebibytes), long(2, mebibytes));
    let setup = |host: usize, bootstrap: Vec<String>| Setup {
        home: homes.path().join(host.to_string()),
        federation: FederationId::new("lines", "1"),
        listen: vec![format!("/ip4/{}/tcp/0", switch.address(host))],
        bootstrap,
        mdns: false,
        layout: Some(first.layout().id()),
    };
    let home = |host: usize| homes.path().join(host.to_string());
    let author = start(&switch, 0, home(0), setup(0, vec![])).await;
    let mut readers = vec![start(&switch, 1, home(1), setup(1, author.listening.clone())).await];
    eventually(async || members(&author.status().await.unwrap()) == 1).await;
    let (alone, once) = published(&author, &[&readers[0]], 1, &first).await;
    for host in 2..=READERS {
        readers.push(start(&switch, host, home(host), setup(host, author.listening.clone())).await);
    }
    for node in readers.iter().chain([&author]) {
        eventually(async || members(&node.status().await.unwrap()) == READERS).await;
    }
    // What was published before has come to the others, too.
    for reader in &readers {
        let entry = &author.list("").await.unwrap()[0];
        while reader.get(entry).await.is_err() {}
    }
    let (together, times) = published(&author, &readers.iter().collect::<Vec<_>>(), 2, &second).await;
    let ratio = together.as_secs_f64() / alone.as_secs_f64();
    println!(
        "{mbits} Mbit/s: one {alone:.1?}, {once:.2} times sent; eight {together:.1?} ({ratio:.2}), {times:.2} times"
    );
    // 8.0 if each had it from the author.
    assert!(times < if asked.is_some() { 2.5 } else { 4.0 }, "sent {times} times");
    assert!(asked.is_none() || ratio < 3.0, "{together:?} instead of {alone:?}");
}
