//! What it costs a node to know ten thousand authors, with its cache on a disk and a peer over loopback.
//!
//! `cargo bench --bench many [-- AUTHORS]`. Each node is a process of its own. Three figures: how long a node that differs
//! from its peer in ten entries takes to agree with it, and the bytes of that; how much of a core and of memory a node has
//! once it knows them all and nothing happens, for a minute; and how long it took to get there from nothing.
#![allow(clippy::unwrap_used)]

use libp2p_identity::{Keypair, PeerId};
use peerfold::{
    cache::{Cache, CacheSettings},
    entries::EntryLimits,
    folder::{Author, CachedFolder, CachedOptions, SharedFolder},
    p2p::{NetworkSettings, PeerAddress},
    weights::{
        BlobHash, Content, DType, Entry, FederationId, Key, Metadata, Metric, SignedEntry, Tensor, TensorSpec, Weights,
    },
};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::runtime::{Builder, Runtime};

const AUTHORS: u32 = 10_000;
/// Updates of each, as a node keeps them.
const UPDATES: u64 = 2;
/// In how many entries two nodes differ.
const DIFFERING: u32 = 10;
const IDLE: Duration = Duration::from_secs(60);
/// How long a node has to come to rest.
const REST: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(600);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "node") {
        Some(at) => node(Path::new(&arguments[at + 1]), &arguments[at + 2..]),
        None => compare(arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(AUTHORS)),
    }
}

fn compare(authors: u32) {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    println!("{authors} authors, {UPDATES} updates each");
    let began = Instant::now();
    // The first knows newer updates of some authors than the second, and the second of others than the first.
    fill(&one, authors, |author| author < DIFFERING / 2);
    fill(&other, authors, |author| (DIFFERING / 2..DIFFERING).contains(&author));
    eprintln!("two caches written in {:.0} s", began.elapsed().as_secs_f64());

    let mut first = Process::start(&one, &[]);
    let opened = first.line("listens");
    let address = opened.split_whitespace().last().unwrap().to_owned();
    println!("  opened with them in its cache:  {} s", opened.split_whitespace().next().unwrap());
    let mut second = Process::start(&other, &[address]);
    println!("  agrees with a peer that differs in {DIFFERING} entries: {}", second.line("agrees"));
    std::thread::sleep(REST);
    let before = first.processor();
    std::thread::sleep(IDLE);
    let used = (first.processor() - before).as_secs_f64() / IDLE.as_secs_f64();
    println!("  idle with one peer:             {:.2} % of a core, {} MB", used * 100.0, first.memory() / 1000);
    drop(second);

    let mut new = Process::start(&dir.path().join("new"), &[first.address()]);
    println!("  a new node:                     {}", new.line("agrees"));
}

/// A process with a node in it.
struct Process {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    address: String,
}

impl Process {
    fn start(dir: &Path, bootstrap: &[String]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("node").arg(dir).args(bootstrap).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, address: String::new() }
    }

    /// What it says under this name.
    fn line(&mut self, name: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the node has ended");
            if let Some(said) = line.strip_prefix(name) {
                if name == "listens" {
                    self.address = said.split_whitespace().last().unwrap().to_owned();
                }
                return said.trim().to_owned();
            }
        }
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    /// What it has used of the processor.
    fn processor(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    /// What it has in memory, in KB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024 / 1000
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn federation() -> FederationId {
    FederationId::new("many", "1")
}

fn keypair(author: u32) -> Keypair {
    let mut secret = [5; 32];
    secret[..4].copy_from_slice(&author.to_le_bytes());
    Keypair::ed25519_from_bytes(secret).unwrap()
}

fn limits() -> EntryLimits {
    let authors = 16_384;
    EntryLimits { authors, strangers: authors, stranger_entries: 4 * authors, ..EntryLimits::default() }
}

fn settings() -> CacheSettings {
    CacheSettings { entries: limits(), ..CacheSettings::default() }
}

/// A model of 1 KiB.
fn weights(author: u32, epoch: u64) -> Weights {
    let mut data = vec![0; 1 << 10];
    data[..4].copy_from_slice(&author.to_le_bytes());
    data[4..12].copy_from_slice(&epoch.to_le_bytes());
    let spec = TensorSpec { name: "all".to_owned(), dtype: DType::U8, shape: vec![1 << 10] };
    Weights::new(vec![Tensor { spec, data: data.into() }]).unwrap()
}

fn update(author: u32, epoch: u64) -> (SignedEntry, Weights) {
    let (keypair, weights) = (keypair(author), weights(author, epoch));
    let manifest = weights.manifest();
    let metric = |name: &str, value| Metric { name: name.to_owned(), value };
    let metrics = vec![metric("accuracy", 0.9), metric("loss", 0.1)];
    let metadata = Metadata { epoch, num_examples: 60_000, metrics };
    let content = Content::Put { root: manifest.root(), length: manifest.layout().bytes(), metadata };
    let key = Key::update(keypair.public().to_peer_id(), epoch);
    let entry = Entry { federation: federation(), layout: manifest.layout().id(), key, sequence: epoch, content };
    (SignedEntry::sign(entry, &keypair).unwrap(), weights)
}

/// A cache that has all updates, and of some authors newer ones.
fn fill(dir: &Path, authors: u32, is_newer: impl Fn(u32) -> bool) {
    let cache = Cache::open(&dir.join("cache"), federation(), &settings()).unwrap().cache;
    for author in 0..authors {
        let newer = u64::from(is_newer(author));
        for epoch in 1 + newer..=UPDATES + newer {
            let (entry, weights) = update(author, epoch);
            let manifest = weights.manifest();
            cache.store_blob(manifest.root(), manifest.root().into(), &manifest.encode()).unwrap();
            for (at, hash) in manifest.chunks().iter().enumerate() {
                let bytes = manifest.chunk_bytes(&weights, at);
                cache.store_blob(manifest.root(), BlobHash::from(*hash), &bytes).unwrap();
            }
            cache.save_entry(&entry).unwrap();
        }
    }
    cache.close();
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A node that says where it listens, and when it agrees with the first peer it has.
fn node(dir: &Path, bootstrap: &[String]) {
    let bootstrap: Vec<PeerAddress> = bootstrap.iter().filter_map(|address| address.parse().ok()).collect();
    fs::create_dir_all(dir).unwrap();
    let joins = !bootstrap.is_empty();
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let network = NetworkSettings { listen, bootstrap, no_mdns: true, ..NetworkSettings::default() };
    let layout = Some(weights(0, 0).layout().id());
    let known: Vec<PeerId> = (0..AUTHORS).map(|author| keypair(author).public().to_peer_id()).collect();
    let dir = PathBuf::from(dir).join("cache");
    let options =
        CachedOptions { network: Some(network.into()), layout, cache: settings(), known, ..CachedOptions::new(dir) };
    let runtime = runtime();
    let _inside = runtime.enter();
    let began = Instant::now();
    let folder = CachedFolder::open(Author::in_memory(Keypair::generate_ed25519(), federation()), options).unwrap();
    println!("listens {:.1} {}", began.elapsed().as_secs_f64(), folder.listening()[0]);
    if joins {
        runtime.block_on(agree(&folder));
    }
    runtime.block_on(std::future::pending::<()>());
}

/// Until nothing has changed for a while; tells how long it took from the connection to the last change.
async fn agree(folder: &CachedFolder) {
    // What it knew before is told first.
    let mut watch = folder.watch("");
    while watch.try_next().is_some() {}
    while folder.status().await.is_none_or(|status| status.peers.is_empty()) {
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    let (mut last, mut changes) = (began, 0);
    let waits = Duration::from_secs(3);
    while let Ok(entry) = tokio::time::timeout(waits, watch.next()).await {
        assert!(entry.key.update_epoch().is_some());
        (last, changes) = (Instant::now(), changes + 1);
        assert!(began.elapsed() < PATIENCE);
    }
    let status = folder.status().await.unwrap();
    let milliseconds = (last - began).as_secs_f64() * 1e3;
    println!(
        "agrees {milliseconds:.0} ms, {changes} entries; sent {}, received {} bytes",
        status.sent, status.received
    );
}
