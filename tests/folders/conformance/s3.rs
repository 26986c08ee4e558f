//! `s3://`, on a real S3 server over HTTP with signed requests, on moto's, and on whichever store is named; and the same
//! behind a network.

use super::{
    Harness,
    p2p::{invert, own_loopback_address},
};
use crate::{
    bucket_nodes::options_with,
    buckets::{ACCESS_KEY, BUCKET, Moto, REGION, SECRET_KEY, Server},
};
use async_trait::async_trait;
use futures::TryStreamExt;
use libp2p_identity::PeerId;
use object_store::{
    ObjectStore, ObjectStoreExt,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path as ObjectPath,
};
use peerfold::{
    bucket::{BucketKeys, BucketOptions},
    folder::{Author, CachedFolder, CachedOptions, SharedFolder},
    p2p::{NetworkOptions, NetworkSettings},
    secret::Secret,
    weights::{FederationId, SignedEntry},
};
use std::{
    env,
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

/// Who serves the bucket.
pub trait Service: Send + Sync + Sized + 'static {
    /// Whether it is available here.
    fn is_there() -> bool {
        true
    }

    fn start() -> Self;

    fn endpoint(&self) -> String;

    fn bucket(&self) -> String {
        BUCKET.to_owned()
    }

    /// Access key and secret key.
    fn keys(&self) -> [String; 2] {
        [ACCESS_KEY, SECRET_KEY].map(str::to_owned)
    }

    fn region(&self) -> String {
        REGION.to_owned()
    }
}

impl Service for Server {
    fn start() -> Self {
        Server::start()
    }

    fn endpoint(&self) -> String {
        Server::endpoint(self)
    }
}

/// One process for all cases that run at a time: it takes a second to start.
impl Service for Arc<Moto> {
    fn is_there() -> bool {
        Moto::is_installed()
    }

    fn start() -> Self {
        static RUNNING: Mutex<Weak<Moto>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        running.upgrade().unwrap_or_else(|| {
            let moto = Arc::new(Moto::start().expect("moto is installed"));
            *running = Arc::downgrade(&moto);
            moto
        })
    }

    fn endpoint(&self) -> String {
        Moto::endpoint(self)
    }
}

/// The store that variables name: `PEERFOLD_TEST_ENDPOINT`, `PEERFOLD_TEST_BUCKET`, and those of AWS's programs for the
/// keys and the region. What the cases leave in the bucket stays there, under `some/where`.
pub struct Named {
    endpoint: String,
    bucket: String,
    keys: [String; 2],
}

impl Named {
    const VARIABLES: [&str; 4] =
        ["PEERFOLD_TEST_ENDPOINT", "PEERFOLD_TEST_BUCKET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
}

impl Service for Named {
    fn is_there() -> bool {
        let missing = Self::VARIABLES.into_iter().find(|name| env::var_os(name).is_none());
        if let Some(name) = missing {
            eprintln!("skipped: no store is named, as {name} is not set");
        }
        missing.is_none()
    }

    fn start() -> Self {
        let [endpoint, bucket, key, secret] = Self::VARIABLES.map(|name| env::var(name).unwrap());
        Self { endpoint, bucket, keys: [key, secret] }
    }

    fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    fn bucket(&self) -> String {
        self.bucket.clone()
    }

    fn keys(&self) -> [String; 2] {
        self.keys.clone()
    }

    fn region(&self) -> String {
        env::var("AWS_REGION").unwrap_or_else(|_| REGION.to_owned())
    }
}

/// Handles with caches of their own on one bucket; `TIERED`, they are a network too; `SEALED`, they have a secret.
pub struct S3<S, const TIERED: bool, const SEALED: bool = false> {
    service: S,
    /// Of this storage alone, for the service may be that of others too.
    prefix: String,
    dir: TempDir,
    address: Ipv4Addr,
    homes: Mutex<Vec<Home>>,
}

struct Home {
    author: PeerId,
    federation: FederationId,
    dir: PathBuf,
    folder: Weak<CachedFolder>,
    addresses: Vec<String>,
}

impl<S: Service, const TIERED: bool, const SEALED: bool> S3<S, TIERED, SEALED> {
    /// The bucket, as somebody else who can write to it has it.
    fn bucket(&self) -> AmazonS3 {
        let [key, secret] = self.service.keys();
        AmazonS3Builder::new()
            .with_endpoint(self.service.endpoint())
            .with_allow_http(true)
            .with_bucket_name(self.service.bucket())
            .with_region(self.service.region())
            .with_access_key_id(key)
            .with_secret_access_key(secret)
            .build()
            .unwrap()
    }

    /// The name that the program gives an entry's object, if these bytes are an entry.
    fn entry_file(bytes: &[u8]) -> String {
        let Ok(entry) = SignedEntry::decode(bytes) else {
            return format!("00000000000000000900.k.{:.8}.entry", blake3_hex(bytes));
        };
        let kept = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '.' };
        let key: String = entry.key.name().chars().map(kept).take(20).collect();
        format!("{:020}.{key}.{:.8}.entry", entry.sequence, entry.hash().to_string())
    }

    fn live(&self, federation: FederationId) -> Vec<Arc<CachedFolder>> {
        let homes = self.homes.lock().unwrap();
        homes.iter().filter(|home| home.federation == federation).filter_map(|home| home.folder.upgrade()).collect()
    }
}

fn blake3_hex(bytes: &[u8]) -> String {
    peerfold::weights::BlobHash::of(bytes).to_string()
}

#[async_trait]
impl<S: Service, const TIERED: bool, const SEALED: bool> Harness for S3<S, TIERED, SEALED> {
    type Folder = CachedFolder;

    const NETWORK: bool = true;

    fn is_there() -> bool {
        S::is_there()
    }

    async fn new() -> Self {
        static STORAGES: AtomicU32 = AtomicU32::new(0);
        // A store that is named is that of earlier runs too.
        let run = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
        let prefix = format!("some/where/{run}-{}", STORAGES.fetch_add(1, Ordering::Relaxed));
        let service = tokio::task::spawn_blocking(S::start).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { service, prefix, dir, address: own_loopback_address(), homes: Mutex::default() }
    }

    async fn open(&self, author: Author) -> Arc<CachedFolder> {
        let (number, dir, bootstrap) = {
            let mut homes = self.homes.lock().unwrap();
            let free = |home: &Home| {
                home.author == author.peer_id()
                    && home.federation == author.federation()
                    && home.folder.strong_count() == 0
            };
            let number = homes.iter().position(free).unwrap_or(homes.len());
            if number == homes.len() {
                let dir = self.dir.path().join(format!("home-{number}"));
                let (author, federation) = (author.peer_id(), author.federation());
                homes.push(Home { author, federation, dir, folder: Weak::new(), addresses: Vec::new() });
            }
            let bootstrap: Vec<_> = homes.iter().flat_map(|home| &home.addresses).map(|a| a.parse().unwrap()).collect();
            (number, homes[number].dir.clone(), bootstrap)
        };
        let network = TIERED.then(|| NetworkSettings {
            listen: vec![format!("/ip4/{}/tcp/0", self.address).parse().unwrap()],
            bootstrap,
            no_mdns: true,
            sync_every: Duration::from_secs(1),
            ..NetworkSettings::default()
        });
        let network = network.map(NetworkOptions::from);
        let url = format!("s3://{}/{}", self.service.bucket(), self.prefix).parse().unwrap();
        let [key, secret] = self.service.keys();
        let keys = Some(BucketKeys::new(key, secret));
        let options = options_with(self.service.endpoint(), |settings| settings.after = Duration::from_millis(500));
        let bucket =
            Some((url, BucketOptions { keys, secret: SEALED.then(|| Secret::from_bytes([7; 32])), ..options }));
        let options = CachedOptions { network, bucket, ..CachedOptions::new(dir) };
        let opened = tokio::task::spawn_blocking(move || CachedFolder::open(author, options)).await.unwrap();
        let folder = Arc::new(opened.unwrap());
        let mut homes = self.homes.lock().unwrap();
        homes[number].folder = Arc::downgrade(&folder);
        homes[number].addresses.extend(folder.listening().iter().map(ToString::to_string));
        folder
    }

    /// In every cache and every pack that has it.
    async fn damage(&self, entry: &SignedEntry, at: u64) {
        let live = self.live(entry.federation);
        let holder = live.iter().find(|folder| folder.author() == entry.key.author()).unwrap();
        // What is not in the bucket yet would be damaged only here.
        holder.hand_over(super::PATIENCE).await;
        let value = holder.get(entry).await.unwrap();
        let mut start = 0;
        for (number, &chunk) in value.manifest().chunks().iter().enumerate() {
            let length = value.manifest().plan().length(number);
            if let Some(offset) = at.checked_sub(start).filter(|&offset| offset < length) {
                let bytes = value.chunk(number).unwrap();
                // The caches first, or the author writes the packs again from its own.
                let name = chunk.to_string();
                for home in self.homes.lock().unwrap().iter() {
                    let path = home.dir.join("blobs").join(&name[..2]).join(&name);
                    if path.exists() {
                        invert(&path, offset as usize);
                    }
                }
                let bucket = self.bucket();
                let objects = bucket.list(Some(&ObjectPath::from(self.prefix.as_str())));
                let objects: Vec<_> = objects.try_collect().await.unwrap();
                if SEALED {
                    // Encrypted, each chunk is 16 bytes longer.
                    let chunks = value.manifest().chunks().len() as u64;
                    let whole = value.manifest().layout().bytes() + 16 * chunks;
                    let at = start + 16 * number as u64 + offset;
                    // Another value of this layout has a pack of this size, too, which was written later.
                    let packs = objects.into_iter().filter(|object| object.size == whole);
                    let path = packs.min_by_key(|object| object.last_modified).unwrap().location;
                    let mut pack = bucket.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
                    pack[at as usize] ^= 0xff;
                    bucket.put(&path, pack.into()).await.unwrap();
                    return;
                }
                for path in objects.into_iter().map(|object| object.location) {
                    if !path.as_ref().ends_with(".pack") {
                        continue;
                    }
                    let mut pack = bucket.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
                    // A pack of this value alone has its chunks in their order. The same bytes may be elsewhere too.
                    let at_start = pack.get(start as usize..).is_some_and(|rest| rest.starts_with(&bytes));
                    let found = match at_start {
                        true => Some(start as usize),
                        false => pack.windows(bytes.len()).rposition(|part| part == bytes),
                    };
                    if let Some(found) = found {
                        pack[found + offset as usize] ^= 0xff;
                        bucket.put(&path, pack.into()).await.unwrap();
                    }
                }
                return;
            }
            start += length;
        }
        panic!("the value has no byte {at}");
    }

    async fn plant(&self, federation: FederationId, author: PeerId, bytes: &[u8]) -> bool {
        if SEALED {
            return false;
        }
        let (prefix, federation) = (&self.prefix, federation.to_string());
        let path = format!("{prefix}/{federation:.16}/{author}/entries/{}", Self::entry_file(bytes));
        let record = [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat();
        self.bucket().put(&ObjectPath::from(path), record.into()).await.unwrap();
        true
    }

    async fn readmit(folder: &Arc<CachedFolder>, author: PeerId) {
        folder.readmit(author);
    }
}
