//! Nodes in the test's own process.

use crate::samples::{PATIENCE, eventually, numbered};
use libp2p::{Multiaddr, multiaddr::Protocol};
use libp2p_identity::PeerId;
use peerfold::{
    cache::{CacheError, CacheSettings},
    entries::Membership,
    folder::{Author, CachedFolder, CachedOptions, FolderError, SharedFolder},
    home::{Home, HomeError},
    p2p::{NetworkOptions, NetworkSettings, NetworkStatus, PeerAddress, PeerRole, SwarmLimits},
    secret::Secret,
    weights::{FederationId, LayoutId},
};
use std::{
    fmt::Debug,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Homes of nodes, in a federation that no other test has: a port that passes from one test's node to another's joins
/// nobody.
pub struct Homes {
    dir: TempDir,
    pub federation: FederationId,
}

impl Homes {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let federation = FederationId::new(dir.path().to_str().unwrap(), "1");
        Self { dir, federation }
    }

    /// A node in the home of this name, to be opened.
    pub fn node(&self, name: &str) -> Plan {
        Plan {
            home: self.dir.path().join(name),
            federation: self.federation,
            listen: "/ip4/127.0.0.1/tcp/0".to_owned(),
            bootstrap: Vec::new(),
            layout: None,
            sampled: false,
            sync_every: Duration::from_secs(1),
            membership: Arc::default(),
            limits: SwarmLimits::default(),
            secret: None,
            cache: CacheSettings::default(),
        }
    }
}

/// How to open a node. It listens on the loopback over TCP, unless it is said otherwise.
#[derive(Clone)]
pub struct Plan {
    home: PathBuf,
    federation: FederationId,
    listen: String,
    bootstrap: Vec<PeerAddress>,
    layout: Option<LayoutId>,
    sampled: bool,
    sync_every: Duration,
    membership: Arc<Membership>,
    limits: SwarmLimits,
    secret: Option<Secret>,
    cache: CacheSettings,
}

impl Plan {
    pub fn knowing<'a>(mut self, peers: impl IntoIterator<Item = &'a PeerAddress>) -> Self {
        self.bootstrap.extend(peers.into_iter().cloned());
        self
    }

    pub fn listening_on(mut self, address: &str) -> Self {
        self.listen = address.to_owned();
        self
    }

    pub fn in_federation(mut self, federation: FederationId) -> Self {
        self.federation = federation;
        self
    }

    /// Trains weights like [`numbered`]'s: such updates are fetched when they are announced.
    pub fn training(self) -> Self {
        self.training_layout(numbered(0).layout().id())
    }

    pub fn training_layout(mut self, layout: LayoutId) -> Self {
        self.layout = Some(layout);
        self
    }

    /// Of these only those of authors whom it expects.
    pub fn sampled(mut self) -> Self {
        self.sampled = true;
        self
    }

    /// Syncs, and asks the table, as seldom as nodes do.
    pub fn at_its_own_pace(mut self) -> Self {
        self.sync_every = NetworkSettings::default().sync_every;
        self
    }

    /// Lets only these take part.
    pub fn admitting(mut self, membership: &Arc<Membership>) -> Self {
        self.membership = membership.clone();
        self
    }

    /// With narrower limits, so that less goes past them.
    pub fn limited(mut self, narrow: impl FnOnce(&mut SwarmLimits)) -> Self {
        narrow(&mut self.limits);
        self
    }

    /// With a secret of this number.
    pub fn having(mut self, secret: u8) -> Self {
        self.secret = Some(Secret::from_bytes([secret; 32]));
        self
    }

    pub fn keeping(mut self, cache: CacheSettings) -> Self {
        self.cache = cache;
        self
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn cache(&self) -> PathBuf {
        self.home.join("cache")
    }

    pub fn open(&self) -> Node {
        let home = when_free(|| Home::open(&self.home), |error| matches!(error, HomeError::InUse { .. }));
        let network = NetworkSettings {
            listen: vec![self.listen.parse().unwrap()],
            bootstrap: self.bootstrap.clone(),
            no_mdns: true,
            sync_every: self.sync_every,
            swarm: self.limits.clone(),
            ..NetworkSettings::default()
        };
        let author = Author::from_home(&home, self.federation);
        let network = NetworkOptions { secret: self.secret.clone(), ..network.into() };
        let options = CachedOptions {
            network: Some(network),
            layout: self.layout,
            sampled: self.sampled,
            membership: self.membership.clone(),
            cache: self.cache.clone(),
            ..CachedOptions::new(self.cache())
        };
        let in_use = |error: &FolderError| matches!(error, FolderError::Cache(CacheError::InUse { .. }));
        let folder = when_free(|| CachedFolder::open(author.clone(), options.clone()), in_use);
        Node { folder: Arc::new(folder), _home: home }
    }
}

/// A running node. Dropped, it leaves, and its home can be opened again.
pub struct Node {
    folder: Arc<CachedFolder>,
    _home: Home,
}

impl Deref for Node {
    type Target = CachedFolder;

    fn deref(&self) -> &CachedFolder {
        &self.folder
    }
}

impl Node {
    /// The folder, for what owns one.
    pub fn folder(&self) -> Arc<dyn SharedFolder> {
        self.folder.clone()
    }

    pub fn id(&self) -> PeerId {
        self.folder.author()
    }

    /// Where it is reached.
    pub fn address(&self) -> PeerAddress {
        self.folder.listening()[0].clone()
    }

    pub fn socket(&self) -> SocketAddr {
        socket_address(&self.address().address)
    }

    pub async fn network(&self) -> NetworkStatus {
        self.folder.status().await.unwrap()
    }

    /// Waits until another node is connected and known to be of the same federation.
    pub async fn meets(&self, other: &Node) {
        let other = other.id().to_string();
        let is_other = |network: NetworkStatus| {
            network.peers.iter().any(|peer| peer.peer == other && peer.role == PeerRole::Member)
        };
        eventually(async || is_other(self.network().await)).await;
    }

    /// Waits until nobody of this id is connected.
    pub async fn loses(&self, other: PeerId) {
        let other = other.to_string();
        eventually(async || self.network().await.peers.iter().all(|peer| peer.peer != other)).await;
    }

    /// Bytes that have come to this node.
    pub async fn received(&self) -> u64 {
        self.network().await.received
    }
}

/// The node at this address, by another way.
pub fn by_way_of(node: &Node, way: SocketAddr) -> PeerAddress {
    let address = Multiaddr::empty().with(Protocol::from(way.ip())).with(Protocol::Tcp(way.port()));
    PeerAddress { peer: node.id(), address }
}

fn socket_address(address: &Multiaddr) -> SocketAddr {
    match address.iter().collect::<Vec<_>>()[..] {
        [Protocol::Ip4(ip), Protocol::Tcp(port)] | [Protocol::Ip4(ip), Protocol::Udp(port), ..] => (ip, port).into(),
        _ => panic!("{address} isn't on the loopback"),
    }
}

/// Opens what a node that has just left had open. A process that a test beside this one starts has the locks too, from
/// the fork until it executes.
fn when_free<T, E: Debug>(mut open: impl FnMut() -> Result<T, E>, in_use: impl Fn(&E) -> bool) -> T {
    let began = Instant::now();
    loop {
        match open() {
            Err(error) if in_use(&error) && began.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            opened => return opened.unwrap(),
        }
    }
}
