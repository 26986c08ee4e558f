//! Authors and values for folder tests, and waiting for what folders learn.
// Not every program uses all of it.
#![allow(dead_code)]

use bytes::Bytes;
use libp2p_identity::{Keypair, PeerId};
use peerfold::folder::{Author, FolderError, SharedFolder, Value};
use peerfold::weights::{
    Content, DType, Entry, FederationId, Key, Metadata, SignedEntry, Tensor, TensorSpec, Weights, read_all,
};
use std::time::Duration;

/// Longer than anything takes on a loaded machine; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// The same for what restarts many processes, or waits until connections are given up.
pub const LONG_PATIENCE: Duration = Duration::from_secs(600);

pub fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

pub fn peer(seed: u8) -> PeerId {
    keypair(seed).public().to_peer_id()
}

pub fn federation() -> FederationId {
    FederationId::new("conformance", "1")
}

/// The identity of this seed, with numbers that begin at 1.
pub fn author(seed: u8) -> Author {
    Author::in_memory(keypair(seed), federation())
}

pub fn key(seed: u8, name: &str) -> Key {
    Key::new(peer(seed), name).unwrap()
}

pub fn epoch(epoch: u64) -> Metadata {
    Metadata { epoch, num_examples: 10 * epoch, ..Metadata::default() }
}

/// A value that can be told from that of any other number, some of it in a pack and some in chunks of its own.
pub fn numbered(number: u64) -> Weights {
    let repeat = |count| number.to_le_bytes().repeat(count);
    let tensor = |name: &str, count: usize| Tensor {
        spec: TensorSpec { name: name.to_owned(), dtype: DType::I64, shape: vec![count as u64] },
        data: repeat(count).into(),
    };
    Weights::new(vec![tensor("bias", 5), tensor("kernel", 140_000), tensor("scale", 1)]).unwrap()
}

pub fn artifact(bytes: impl Into<Bytes>) -> Weights {
    Weights::artifact(bytes).unwrap()
}

/// This many bytes, with no two equal chunks: equal ones would be stored and moved once.
pub fn distinct_bytes(length: usize) -> Vec<u8> {
    (0..length as u32 / 4).flat_map(u32::to_le_bytes).collect()
}

/// Everything in a value, read off the runtime.
pub async fn read(value: Value) -> Result<Weights, FolderError> {
    Ok(tokio::task::spawn_blocking(move || read_all(&value)).await.unwrap()?)
}

/// The weights of an entry, by a handle.
pub async fn fetch(folder: &dyn SharedFolder, entry: &Entry) -> Result<Weights, FolderError> {
    read(folder.get(entry).await?).await
}

/// The same from a network, where a value may be listed before anybody who has it is connected.
pub async fn fetch_at_last(folder: &dyn SharedFolder, entry: &Entry) -> Result<Weights, FolderError> {
    loop {
        match fetch(folder, entry).await {
            Err(FolderError::Unreachable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            result => return result,
        }
    }
}

/// Waits until the handle has learned of this entry.
pub async fn learn(folder: &dyn SharedFolder, entry: &SignedEntry) {
    let mut watch = folder.watch(&entry.key.to_string());
    while *watch.next().await != *entry {}
}

/// Waits until two handles know the same.
pub async fn agree(a: &dyn SharedFolder, b: &dyn SharedFolder) {
    eventually(async || a.digest().await.unwrap() == b.digest().await.unwrap()).await;
}

/// Waits for what no watch tells. The case's own time limit ends it.
pub async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    while !holds().await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is listed, as names and numbers.
pub async fn listed(folder: &dyn SharedFolder, prefix: &str) -> Vec<(String, u64)> {
    let entries = folder.list(prefix).await.unwrap();
    entries.iter().map(|entry| (entry.key.name().to_owned(), entry.sequence)).collect()
}

/// An entry that is signed past every folder.
pub fn forge(seed: u8, name: &str, sequence: u64, federation: FederationId) -> SignedEntry {
    let manifest = numbered(sequence).manifest();
    let content =
        Content::Put { root: manifest.root(), length: manifest.layout().bytes(), metadata: Metadata::default() };
    let (layout, key) = (manifest.layout().id(), key(seed, name));
    SignedEntry::sign(Entry { federation, layout, key, sequence, content }, &keypair(seed)).unwrap()
}

/// An entry's bytes as a later version may sign them, with the value's encoding after the body.
pub fn encoded(seed: u8, entry: &SignedEntry, encoding: &[u8]) -> Vec<u8> {
    let plain = entry.bytes();
    let body = [&plain[..plain.len() - 64], encoding].concat();
    let signature = keypair(seed).sign(&[b"peerfold/entry\0", &body[..]].concat()).unwrap();
    [body, signature].concat()
}

/// Runs a task beside the case.
pub fn beside<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}
