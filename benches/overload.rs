//! What hostile peers cost two nodes that train and fold each other: epochs a second, memory, and whether a newcomer
//! still gets in.
//!
//! `cargo bench --bench overload [-- NAME…]`. Each attack meets a fresh pair of nodes: ten seconds without it, twenty with
//! it, and a newcomer in the middle of them. `busy` attacks nobody and only takes a processor, as the others do too, so it
//! is what they are compared with. `overload` is no attack but ten times the entries of such nodes, from members.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../tests/support/net/mod.rs"]
mod net;

use libp2p_identity::Keypair;
use net::{Announcer, Happened, Rogue, hoard};
use peerfold::{
    p2p::{BlobRequest, PeerAddress},
    weights::{Content, Entry, FederationId, Key, LayoutId, Metadata, Root, SignedEntry},
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{net::TcpStream, time::sleep};

const QUIET: Duration = Duration::from_secs(10);
const UNDER_ATTACK: Duration = Duration::from_secs(20);
const NEWCOMER_WITHIN: Duration = Duration::from_secs(60);
const STEPS: &str = "20";
/// What an attack doesn't live to see.
const ALL_EPOCHS: &str = "1000000";

const ATTACKS: [&str; 10] =
    ["busy", "overload", "far", "vain", "authors", "unread", "newer", "idle", "silent", "table"];

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!(
        "{:<10}{:>10}{:>10}{:>7}{:>8}{:>8}{:>8}{:>10}{:>9}{:>9}",
        "attack", "epochs/s", "attacked", "ratio", "folds", "MB", "peak MB", "newcomer", "began", "dropped"
    );
    for name in ATTACKS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            measure(name);
        }
    }
}

/// A node of the program, in a process of its own.
struct Node {
    process: Child,
    address: PeerAddress,
    events: Arc<Mutex<Vec<(Instant, Value)>>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

impl Node {
    fn start(home: PathBuf, part: &str, bootstrap: Option<&PeerAddress>) -> Self {
        let listen = format!("/ip4/127.0.0.1/tcp/{}", free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_peerfold"));
        command.args(["node", "--json", "--federation", "overload", "--dataset", "digits", "--no-mdns"]);
        command.args(["--threads", "1", "--steps-per-epoch", STEPS, "--epochs", ALL_EPOCHS, "--partition", part]);
        command.arg("--home").arg(home).args(["--listen", &listen]);
        if let Some(peer) = bootstrap {
            command.args(["--bootstrap", &peer.to_string()]);
        }
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let events = Arc::<Mutex<Vec<(Instant, Value)>>>::default();
        let told = events.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                told.lock().unwrap().push((Instant::now(), serde_json::from_str(&line).unwrap()));
            }
        });
        let started = wait_for(&events, "started", QUIET * 6).expect("it doesn't start");
        let address = format!("{listen}/p2p/{}", started["peer"].as_str().unwrap()).parse().unwrap();
        Self { process, address, events }
    }

    fn event(&self, name: &str) -> Option<Value> {
        wait_for(&self.events, name, Duration::ZERO)
    }

    fn count(&self, name: &str, from: Instant, until: Instant) -> usize {
        let events = self.events.lock().unwrap();
        events.iter().filter(|(at, event)| (from..until).contains(at) && event["event"] == name).count()
    }

    fn resident_mb(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
    }
}

fn wait_for(events: &Mutex<Vec<(Instant, Value)>>, name: &str, patience: Duration) -> Option<Value> {
    let began = Instant::now();
    loop {
        let found = events.lock().unwrap().iter().rev().find(|(_, event)| event["event"] == name).cloned();
        if found.is_some() || began.elapsed() >= patience {
            return found.map(|(_, event)| event);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn measure(name: &str) {
    let homes = TempDir::new().unwrap();
    let home = |name: &str| homes.path().join(name);
    let first = Node::start(home("first"), "0/2", None);
    let second = Node::start(home("second"), "1/2", Some(&first.address));
    wait_for(&first.events, "folded", QUIET * 3).expect("the two don't meet");
    let began = Instant::now();
    thread::sleep(QUIET);
    let attacked = Instant::now();
    let mb = first.resident_mb();

    let over = Arc::new(AtomicBool::new(false));
    let attacker = {
        let (name, over, target) = (name.to_owned(), over.clone(), Target::of(&first));
        thread::spawn(move || attack(&name, &target, &over))
    };
    let mut peak = mb;
    let mut watch = |time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            peak = peak.max(first.resident_mb());
            thread::sleep(Duration::from_millis(100));
        }
    };
    watch(UNDER_ATTACK);
    let ended = Instant::now();
    let newcomer = newcomer(&home("newcomer"), &first.address);
    over.store(true, Ordering::Relaxed);
    attacker.join().unwrap();

    let both = |event, from, until| first.count(event, from, until) + second.count(event, from, until);
    let a_second = |count: usize, time: Duration| count as f64 / 2.0 / time.as_secs_f64();
    let before = a_second(both("epoch_done", began, attacked), attacked - began);
    let during = a_second(both("epoch_done", attacked, ended), ended - attacked);
    let folds = both("folded", attacked, ended);
    let dropped = both("peer_dropped", attacked, Instant::now());
    let (took, origin) = newcomer
        .map_or(("never".to_owned(), String::new()), |(took, origin)| (format!("{:.1} s", took.as_secs_f64()), origin));
    let ratio = during / before;
    println!(
        "{name:<10}{before:>10.1}{during:>10.1}{ratio:>7.2}{folds:>8}{mb:>8}{peak:>8}{took:>10}{origin:>9}{dropped:>9}"
    );
}

/// How long a third node takes until it has begun, and what it begins with.
fn newcomer(home: &Path, bootstrap: &PeerAddress) -> Option<(Duration, String)> {
    let began = Instant::now();
    let node = Node::start(home.to_owned(), "0/2", Some(bootstrap));
    let origin = node.event("started")?["origin"].as_str()?.to_owned();
    wait_for(&node.events, "folded", NEWCOMER_WITHIN)?;
    Some((began.elapsed(), origin))
}

/// What an attacker knows of a node.
struct Target {
    address: PeerAddress,
    federation: FederationId,
    layout: LayoutId,
    newest: Root,
}

impl Target {
    fn of(node: &Node) -> Self {
        let (started, published) = (node.event("started").unwrap(), node.event("published").unwrap());
        let id = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
        Self {
            address: node.address.clone(),
            federation: id(&started, "federation").parse().unwrap(),
            layout: id(&started, "layout").parse().unwrap(),
            newest: id(&published, "root").parse().unwrap(),
        }
    }

    /// An update that nobody will ever get.
    fn entry(&self, keypair: &Keypair, sequence: u64, epoch: u64) -> Vec<u8> {
        let key = Key::update(keypair.public().to_peer_id(), epoch);
        let root = Root::from_bytes(rand::random());
        let metadata = Metadata { epoch, num_examples: 500, ..Metadata::default() };
        let content = Content::Put { root, length: 20_000, metadata };
        let entry = Entry { federation: self.federation, layout: self.layout, key, sequence, content };
        SignedEntry::sign(entry, keypair).unwrap().bytes().to_vec()
    }
}

fn attack(name: &str, target: &Target, over: &Arc<AtomicBool>) {
    if name == "busy" {
        while !over.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ends = async {
        while !over.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = ends => {}
            () = run(name, target) => {}
        }
    });
}

async fn run(name: &str, target: &Target) {
    let identity = Keypair::generate_ed25519;
    match name {
        // Twenty members that publish as often as ten times the two nodes do.
        "overload" => {
            let members: Vec<Keypair> = (0..20).map(|_| identity()).collect();
            let mut number = 0;
            gossip(target, Duration::from_millis(5), || {
                number += 1;
                target.entry(&members[number as usize % 20], number, number)
            })
            .await;
        }
        "far" => {
            let authors: Vec<Keypair> = (0..5).map(|_| identity()).collect();
            let mut number = 0;
            gossip(target, Duration::from_millis(200), || {
                number += 1;
                target.entry(&authors[number as usize % 5], number, 999_999_000 + number)
            })
            .await;
        }
        "vain" => {
            let (author, mut number) = (identity(), 0);
            gossip(target, Duration::from_secs(1), || {
                number += 1;
                target.entry(&author, number, number)
            })
            .await;
        }
        "authors" => gossip(target, Duration::ZERO, || target.entry(&identity(), 1, 1)).await,
        "newer" => {
            let mut number = 0_u64;
            gossip(target, Duration::ZERO, || {
                number += 1;
                [&[200][..], &number.to_le_bytes()].concat()
            })
            .await;
        }
        "unread" => loop {
            let hash = target.newest.to_string().parse().unwrap();
            let request = BlobRequest::Get { federation: target.federation, hashes: vec![hash] };
            hoard(target.address.clone(), request, 32, 64).await;
        },
        "idle" => {
            let all: Vec<_> = (0..254).map(|_| tokio::spawn(idle(target.address.clone(), target.federation))).collect();
            for task in all {
                let _ = task.await;
            }
        }
        "silent" => {
            let mut open = Vec::new();
            loop {
                open.retain(|stream: &TcpStream| stream.try_read(&mut [0; 256]).map_or(true, |read| read > 0));
                while open.len() < 300 {
                    let Some(peerfold_socket) = socket(&target.address) else { return };
                    match TcpStream::connect(peerfold_socket).await {
                        Ok(stream) => open.push(stream),
                        Err(_) => sleep(Duration::from_millis(100)).await,
                    }
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        "table" => loop {
            let mut announcer = Announcer::of(&target.address).await;
            let keys = (0..500).map(|_| rand::random::<[u8; 32]>().to_vec());
            let _ = tokio::time::timeout(Duration::from_secs(3), announcer.announce(keys)).await;
        },
        _ => unreachable!("it is one of the attacks"),
    }
}

fn socket(address: &PeerAddress) -> Option<(Ipv4Addr, u16)> {
    let text = address.address.to_string();
    let port = text.split('/').nth(4)?.parse().ok()?;
    Some((Ipv4Addr::LOCALHOST, port))
}

/// Comes again whenever it is put out.
async fn idle(address: PeerAddress, federation: FederationId) {
    loop {
        let mut rogue = Rogue::new(federation);
        rogue.dial(&address);
        while !matches!(rogue.next().await, Happened::Closed(_)) {}
        sleep(Duration::from_millis(500)).await;
    }
}

/// Sends messages as often as `every`, and comes again as somebody else when it is put out.
async fn gossip(target: &Target, every: Duration, mut message: impl FnMut() -> Vec<u8>) {
    let mut subscribed = BTreeSet::new();
    loop {
        let mut rogue = Rogue::new(target.federation);
        rogue.dial(&target.address);
        subscribed.clear();
        let mut next = tokio::time::Instant::now();
        loop {
            let happened = tokio::time::timeout_at(next, rogue.next()).await;
            match happened {
                Ok(Happened::Closed(_)) => break,
                Ok(Happened::Subscribed(peer)) => drop(subscribed.insert(peer)),
                Ok(_) => {}
                Err(_) => {
                    if !subscribed.is_empty() {
                        rogue.gossip(&message());
                    }
                    next = tokio::time::Instant::now() + every.max(Duration::from_micros(50));
                }
            }
        }
        sleep(Duration::from_millis(200)).await;
    }
}
