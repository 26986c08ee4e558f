//! `p2p:`, between processes: each handle is a process of its own, and nothing is shared but sockets on the loopback.

use super::{Harness, keypair, peer};
use crate::{
    hosts::{Proxy, Setup, chunk_file},
    net::plant,
};
use async_trait::async_trait;
use libp2p_identity::PeerId;
use peerfold::{
    folder::{Author, SharedFolder},
    weights::{ChunkHash, FederationId, SignedEntry},
};
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
};
use tempfile::TempDir;

/// Processes that were all told of those before them.
pub struct P2p {
    dir: TempDir,
    address: Ipv4Addr,
    homes: Mutex<Vec<NodeHome>>,
}

/// Where an author's process keeps what it has, and the process while it lives.
struct NodeHome {
    author: PeerId,
    federation: FederationId,
    dir: PathBuf,
    process: Weak<Proxy>,
    /// Every address that a process of this home has had.
    addresses: Vec<String>,
}

impl P2p {
    /// The processes of a federation that are running.
    fn live(&self, federation: FederationId) -> Vec<Arc<Proxy>> {
        let homes = self.homes.lock().unwrap();
        homes.iter().filter(|home| home.federation == federation).filter_map(|home| home.process.upgrade()).collect()
    }

    /// An author's home that no process uses, or else a new one; and what a process in it is to open.
    fn set_up(&self, author: &Author) -> (usize, Setup) {
        let mut homes = self.homes.lock().unwrap();
        let free = |home: &NodeHome| home.author == author.peer_id() && home.process.strong_count() == 0;
        let number = homes.iter().position(free).unwrap_or(homes.len());
        if number == homes.len() {
            let dir = self.dir.path().join(format!("home-{number}"));
            create_home(&dir, author.peer_id());
            let (author, federation) = (author.peer_id(), author.federation());
            homes.push(NodeHome { author, federation, dir, process: Weak::new(), addresses: Vec::new() });
        }
        let bootstrap = homes.iter().flat_map(|home| home.addresses.clone()).collect();
        let home = &mut homes[number];
        home.federation = author.federation();
        // Both transports are in use, whichever two processes meet.
        let transport = if number % 2 == 0 { "tcp/0" } else { "udp/0/quic-v1" };
        let listen = vec![format!("/ip4/{}/{transport}", self.address)];
        let (home, federation) = (home.dir.clone(), author.federation());
        (number, Setup { home, federation, listen, bootstrap, mdns: false, layout: None })
    }

    /// Opens a handle, which can fail.
    async fn try_open(&self, author: &Author) -> Result<Arc<Proxy>, String> {
        let (number, setup) = self.set_up(author);
        let peer_id = author.peer_id();
        let started = tokio::task::spawn_blocking(move || Proxy::start(peer_id, &setup));
        let proxy = Arc::new(started.await.unwrap()?);
        let mut homes = self.homes.lock().unwrap();
        homes[number].process = Arc::downgrade(&proxy);
        homes[number].addresses.extend(proxy.listening.iter().cloned());
        Ok(proxy)
    }

    /// The files in all homes that hold this chunk.
    fn chunk_files(&self, chunk: ChunkHash) -> Vec<PathBuf> {
        let homes = self.homes.lock().unwrap();
        let files = homes.iter().map(|home| chunk_file(&home.dir, home.federation, chunk));
        files.filter(|file| file.exists()).collect()
    }
}

#[async_trait]
impl Harness for P2p {
    type Folder = Proxy;

    const NETWORK: bool = true;

    async fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), address: own_loopback_address(), homes: Mutex::default() }
    }

    async fn open(&self, author: Author) -> Arc<Proxy> {
        self.try_open(&author).await.unwrap()
    }

    async fn damage(&self, entry: &SignedEntry, at: u64) {
        let live = self.live(entry.federation);
        let holder = live.iter().find(|proxy| proxy.author() == entry.key.author()).unwrap();
        let manifest = holder.get(entry).await.unwrap().manifest().clone();
        let mut start = 0;
        for (number, &chunk) in manifest.chunks().iter().enumerate() {
            let length = manifest.plan().length(number);
            if let Some(offset) = at.checked_sub(start).filter(|&offset| offset < length) {
                let files = self.chunk_files(chunk);
                assert!(!files.is_empty(), "no home holds the chunk");
                files.iter().for_each(|file| invert(file, offset as usize));
                return;
            }
            start += length;
        }
        panic!("the value has no byte {at}");
    }

    /// What a stranger sends, by gossip and by sync.
    async fn plant(&self, federation: FederationId, _author: PeerId, bytes: &[u8]) -> bool {
        let addresses = self.live(federation).iter().map(|proxy| proxy.listening[0].parse().unwrap()).collect();
        plant(federation, addresses, bytes).await;
        true
    }

    async fn readmit(folder: &Arc<Proxy>, author: PeerId) {
        folder.readmit(author).await.unwrap();
    }
}

pub fn invert(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0xff;
    fs::write(file, bytes).unwrap();
}

/// A home with the identity of one of the suite's authors.
fn create_home(dir: &Path, author: PeerId) {
    let seed = (0..=u8::MAX).find(|&seed| peer(seed) == author).expect("an author of the suite");
    fs::create_dir(dir).unwrap();
    fs::write(dir.join("identity.key"), keypair(seed).to_protobuf_encoding().unwrap()).unwrap();
}

/// A loopback address that no other storage uses: the storages of tests that run beside each other are of one
/// federation and have the same authors, so that a port which passes from one to the other would join the two.
pub fn own_loopback_address() -> Ipv4Addr {
    static STORAGES: AtomicU32 = AtomicU32::new(0);
    if cfg!(not(target_os = "linux")) {
        return Ipv4Addr::LOCALHOST;
    }
    let number = STORAGES.fetch_add(1, Ordering::Relaxed);
    let number = ((std::process::id() % (1 << 14)) << 8) | (number % (1 << 8));
    let [.., high, middle, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 128 + high, middle, low)
}
