//! Nodes on a bucket for the tests, and waiting for what they learn and report.
#![allow(dead_code)]

use crate::{
    buckets::{ACCESS_KEY, BUCKET, SECRET_KEY},
    samples::{author, keypair, learn, read},
};
use libp2p_identity::PeerId;
use peerfold::{
    bucket::{BucketKeys, BucketOptions, BucketSettings, Endpoint, Routes},
    folder::{CachedFolder, CachedOptions, FolderError, SharedFolder},
    p2p::NetworkOptions,
    weights::{DType, Entry, SignedEntry, Tensor, TensorSpec, Weights},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::time::sleep;

/// Nothing that only the node's own disk has to do with takes longer, however busy the machine is.
pub const SOON: Duration = Duration::from_secs(20);

/// How tests use a bucket at this endpoint: keys are given, so that nobody is asked for any.
pub fn options(endpoint: impl Into<String>) -> BucketOptions {
    let settings = BucketSettings {
        endpoint: Some(Endpoint(endpoint.into())),
        allow_http: true,
        poll: Duration::from_millis(100),
        poll_idle: Duration::from_millis(400),
        after: Duration::from_millis(300),
        ..BucketSettings::default()
    };
    BucketOptions { settings, keys: Some(BucketKeys::new(ACCESS_KEY, SECRET_KEY)), secret: None }
}

/// The same with other settings.
pub fn options_with(endpoint: impl Into<String>, change: impl FnOnce(&mut BucketSettings)) -> BucketOptions {
    let mut options = options(endpoint);
    change(&mut options.settings);
    options
}

/// The homes of nodes, which are named by the seeds of their authors.
pub struct Homes(TempDir);

impl Homes {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn dir(&self, seed: u8) -> PathBuf {
        self.0.path().join(seed.to_string())
    }

    /// A node with a bucket only.
    pub async fn open(&self, seed: u8, endpoint: impl Into<String>) -> CachedFolder {
        self.try_open(seed, options(endpoint), None).await.unwrap()
    }

    pub async fn try_open(
        &self,
        seed: u8,
        bucket: BucketOptions,
        network: Option<NetworkOptions>,
    ) -> Result<CachedFolder, FolderError> {
        let url = format!("s3://{BUCKET}/ward").parse().unwrap();
        let options = CachedOptions { bucket: Some((url, bucket)), network, ..CachedOptions::new(self.dir(seed)) };
        tokio::task::spawn_blocking(move || CachedFolder::open(author(seed), options)).await.unwrap()
    }
}

/// The directory of an author in the bucket.
pub fn author_dir(seed: u8) -> String {
    let peer: PeerId = keypair(seed).public().to_peer_id();
    format!("ward/{:.16}/{peer}", crate::samples::federation().to_string())
}

/// A tensor of this many bytes. No 8 bytes are the same in the values of different numbers.
pub fn tensor(name: &str, number: u64, bytes: usize) -> Tensor {
    let data: Vec<u8> = (0..bytes as u64 / 8).flat_map(|at| ((number << 32) | at).to_le_bytes()).collect();
    let spec = TensorSpec { name: name.to_owned(), dtype: DType::I64, shape: vec![data.len() as u64 / 8] };
    Tensor { spec, data: data.into() }
}

/// A value that can be told from that of any other number: 200 KB.
pub fn value(number: u64) -> Weights {
    Weights::new(vec![tensor("w", number, 200_000)]).unwrap()
}

/// The value of an entry, once it can be fetched. Damage may be repaired in between, but nothing wrong may arrive.
pub async fn at_last(folder: &CachedFolder, entry: &Entry) -> Weights {
    loop {
        match folder.get(entry).await {
            Ok(value) => match read(value).await {
                Ok(weights) => return weights,
                Err(error) => panic!("{error}"),
            },
            Err(FolderError::Unreachable { .. } | FolderError::Damaged { .. }) => {
                sleep(Duration::from_millis(20)).await
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits until a node has learned of an entry and has its value.
pub async fn arrives(folder: &CachedFolder, entry: &SignedEntry, weights: &Weights) {
    learn(folder, entry).await;
    assert_eq!(at_last(folder, entry).await, *weights);
}

/// Waits until a node says whether it reaches the bucket.
pub async fn routes(folder: &CachedFolder, bucket: bool) -> Routes {
    let mut routes = folder.routes().expect("there is a bucket");
    routes.wait_for(|routes| routes.bucket == bucket).await.expect("the folder lives").clone()
}

/// Waits until a node says that it doesn't reach the bucket, with these words.
pub async fn fails_with(folder: &CachedFolder, words: &str) {
    let mut routes = folder.routes().expect("there is a bucket");
    let says = |routes: &Routes| routes.reason.as_ref().is_some_and(|reason| reason.contains(words));
    routes.wait_for(says).await.expect("the folder lives");
}

/// A put must not wait for the bucket.
pub async fn put(folder: &CachedFolder, name: &str, weights: &Weights, epoch: u64) -> Arc<SignedEntry> {
    let key = peerfold::weights::Key::new(folder.author(), name).unwrap();
    let putting = folder.put(&key, weights, crate::samples::epoch(epoch));
    tokio::time::timeout(SOON, putting).await.expect("a put waits for nobody").unwrap()
}
