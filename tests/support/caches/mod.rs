//! Values, entries and caches for the tests.
#![allow(dead_code, unreachable_pub)]

use bytesize::ByteSize;
use libp2p_identity::{Keypair, PeerId};
use peerfold::cache::{Cache, CacheSettings, Look, Opened, Stored};
use peerfold::weights::*;
use std::{
    fs,
    path::{Path, PathBuf},
};

pub const ROOMY: u64 = 1 << 40;

pub fn federation() -> FederationId {
    FederationId::new("caches", "1")
}

pub fn keypair(number: u8) -> Keypair {
    Keypair::ed25519_from_bytes([number; 32]).unwrap()
}

pub fn author(number: u8) -> PeerId {
    keypair(number).public().to_peer_id()
}

/// One tensor of this many bytes for each seed. Equal seeds and lengths give equal tensors.
pub fn weights(tensors: &[(u64, usize)]) -> Weights {
    let tensor = |(number, &(seed, length)): (usize, &(u64, usize))| {
        let mut data = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut data);
        let spec = TensorSpec { name: format!("{number:03}"), dtype: DType::U8, shape: vec![length as u64] };
        Tensor { spec, data: data.into() }
    };
    Weights::new(tensors.iter().enumerate().map(tensor).collect()).unwrap()
}

/// Weights whose three chunks no other seed has: two of one tensor, and a pack.
pub fn small(seed: u64) -> Weights {
    weights(&[(seed, CHUNK_BYTES as usize + 70_000), (seed + (1 << 32), 100)])
}

pub fn entry(signer: u8, name: &str, sequence: u64, manifest: &Manifest) -> SignedEntry {
    entry_in(federation(), signer, name, sequence, manifest)
}

pub fn entry_in(federation: FederationId, signer: u8, name: &str, sequence: u64, manifest: &Manifest) -> SignedEntry {
    let metadata = Metadata { epoch: sequence, num_examples: 1, metrics: vec![] };
    let content = Content::Put { root: manifest.root(), length: manifest.layout().bytes(), metadata };
    let key = Key::new(author(signer), name).unwrap();
    let entry = Entry { federation, layout: manifest.layout().id(), key, sequence, content };
    SignedEntry::sign(entry, &keypair(signer)).unwrap()
}

pub fn settings(quota: u64) -> CacheSettings {
    CacheSettings { quota: ByteSize(quota), ..CacheSettings::default() }
}

/// A quota under which blobs have so much room, as long as there are no entries: the rest is for the index.
pub fn quota_for(room: u64) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let figures = open(dir.path(), ROOMY).cache.figures();
    // The index takes no more than half.
    room + (figures.quota - figures.room).min(room)
}

pub fn open(dir: &Path, quota: u64) -> Opened {
    Cache::open(dir, federation(), &settings(quota)).unwrap()
}

/// Stores a value as if it had been fetched; `keep` says which of its chunks.
pub fn fetch_some(cache: &Cache, value: &Weights, keep: impl Fn(usize) -> bool) -> Root {
    let manifest = value.manifest();
    let root = manifest.root();
    assert_eq!(cache.store_blob(root, root.into(), &manifest.encode()).unwrap(), Stored::Stored);
    for chunk in (0..manifest.chunks().len()).filter(|&chunk| keep(chunk)) {
        let bytes = manifest.chunk_bytes(value, chunk);
        assert_eq!(cache.store_blob(root, manifest.chunks()[chunk].into(), &bytes).unwrap(), Stored::Stored);
    }
    root
}

pub fn fetch(cache: &Cache, value: &Weights) -> Root {
    fetch_some(cache, value, |_| true)
}

/// Reads a whole value, every chunk verified, or `None` if it isn't there whole.
pub fn read(cache: &Cache, root: Root) -> Option<Vec<u8>> {
    let value = cache.value(root).unwrap()?;
    let mut all = Vec::new();
    for (number, &hash) in value.manifest().chunks().iter().enumerate() {
        let bytes = value.chunk(number).unwrap();
        assert_eq!(ChunkHash::of(&bytes), hash, "chunk {number} is damaged");
        all.extend_from_slice(&bytes);
    }
    Some(all)
}

/// The chunks of weights one after another.
pub fn bytes_of(value: &Weights) -> Vec<u8> {
    let manifest = value.manifest();
    let mut bytes = Vec::new();
    for chunk in 0..manifest.chunks().len() {
        bytes.extend_from_slice(&manifest.chunk_bytes(value, chunk));
    }
    bytes
}

pub fn missing(cache: &Cache, root: Root) -> Option<usize> {
    match cache.look(root).unwrap() {
        Look::NoManifest => None,
        Look::Missing { chunks, .. } => Some(chunks.len()),
        Look::Whole { .. } => Some(0),
    }
}

/// All files under a directory of a cache.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Bytes of the files of blobs.
pub fn blob_bytes(dir: &Path) -> u64 {
    files(&dir.join("blobs")).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

pub fn blob_path(dir: &Path, hash: impl Into<BlobHash>) -> PathBuf {
    let name = hash.into().to_string();
    dir.join("blobs").join(&name[..2]).join(name)
}
