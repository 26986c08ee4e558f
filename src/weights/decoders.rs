//! The decoders of this layer, as fuzzers try them; and fixed values and entries for those of the others.
#![allow(clippy::unwrap_used)]

use super::{
    Annotations, BlobHash, Content, DType, Entry, FederationId, Key, KeyPrefix, LayoutId, MAX_ANNOTATION_BYTES,
    MAX_ANNOTATIONS, MAX_ENTRY_BYTES, MAX_KEY_BYTES, MAX_METRICS, MAX_RANK, MAX_TENSORS, MAX_VALUE_BYTES, Manifest,
    Metadata, SignedEntry, Tensor, TensorSpec, Weights, entry::signed_message,
};
use crate::untrusted::{Target, check_told, text, told};
use libp2p_identity::Keypair;

const AUTHOR: u8 = 7;

/// An author that is the same every time.
pub(crate) fn keypair(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

/// The federation of all seeds.
pub(crate) fn federation() -> FederationId {
    FederationId::new("ward", "1")
}

/// A small value with all that a value can have.
pub(crate) fn weights() -> Weights {
    let tensor = |name: &str, dtype, shape: &[u64], bytes: &'static [u8]| Tensor {
        spec: TensorSpec { name: name.to_owned(), dtype, shape: shape.to_vec() },
        data: bytes.into(),
    };
    let tensors = vec![
        tensor("dense.weight", DType::F32, &[2, 2], &[0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 128, 191, 1, 0, 0, 0]),
        tensor("scale", DType::F64, &[], &[0, 0, 0, 0, 0, 0, 240, 63]),
        tensor("steps", DType::I64, &[1], &[9, 0, 0, 0, 0, 0, 0, 0]),
        tensor("empty", DType::BF16, &[0, 3], &[]),
    ];
    let annotations = Annotations::default().with("format", "pt").unwrap().with("site", "Ward 3").unwrap();
    Weights::new(tensors).unwrap().with_annotations(annotations)
}

/// An entry of an author for these weights.
pub(crate) fn put(author: u8, sequence: u64, weights: &Weights) -> SignedEntry {
    let keypair = keypair(author);
    let key = Key::update(keypair.public().to_peer_id(), sequence);
    let metadata = Metadata { epoch: sequence, num_examples: 600, ..Metadata::default() };
    let metadata = metadata.with_metrics([("accuracy", 0.9), ("loss", f64::NAN)]);
    let (root, length) = (weights.manifest().root(), weights.layout().bytes());
    let content = Content::Put { root, length, metadata };
    let layout = weights.layout().id();
    SignedEntry::sign(Entry { federation: federation(), layout, key, sequence, content }, &keypair).unwrap()
}

fn tombstone(author: u8, sequence: u64) -> SignedEntry {
    let keypair = keypair(author);
    let key = Key::start(keypair.public().to_peer_id());
    let layout = LayoutId::from_bytes([0; 32]);
    let entry = Entry { federation: federation(), layout, key, sequence, content: Content::Tombstone };
    SignedEntry::sign(entry, &keypair).unwrap()
}

/// Entries that are the same every time: of two authors, two of them under one number, one a tombstone.
pub(crate) fn entries() -> Vec<SignedEntry> {
    let other = Weights::from_f32s(&[("mean", &[1], &[1.5])]).unwrap();
    vec![put(AUTHOR, 3, &weights()), put(AUTHOR, 3, &other), put(8, u64::MAX, &weights()), tombstone(AUTHOR, 4)]
}

/// An entry of the first author that names this manifest, whatever its bytes are. If they are one, the entry says what
/// it says.
pub(crate) fn entry_naming(manifest: &[u8]) -> SignedEntry {
    let keypair = keypair(AUTHOR);
    let decoded = Manifest::decode(manifest).ok();
    let layout = decoded.as_ref().map_or(LayoutId::from_bytes([0; 32]), |decoded| decoded.layout().id());
    let length = decoded.map_or(0, |decoded| decoded.layout().bytes());
    let key = Key::update(keypair.public().to_peer_id(), 1);
    let content = Content::Put { root: Manifest::root_of(manifest), length, metadata: Metadata::default() };
    SignedEntry::sign(Entry { federation: federation(), layout, key, sequence: 1, content }, &keypair).unwrap()
}

fn check_entry(bytes: &[u8]) -> Option<SignedEntry> {
    let claimed = SignedEntry::claimed_author(bytes);
    let entry = told(SignedEntry::decode(bytes))?;
    assert_eq!(entry.bytes(), bytes);
    assert!(bytes.len() <= MAX_ENTRY_BYTES && entry.key.to_string().len() <= MAX_KEY_BYTES);
    assert!(entry.metadata().is_none_or(|metadata| metadata.metrics.len() <= MAX_METRICS));
    assert_eq!(claimed, Some(entry.key.author()));
    assert_eq!(entry.key.to_string().parse(), Ok(entry.key.clone()));
    Some(entry)
}

/// As it comes: nearly all changes are found by the signature.
fn entry(bytes: &[u8]) {
    check_entry(bytes);
}

/// What a cheating author may sign.
fn signed_body(body: &[u8]) {
    let keypair = keypair(AUTHOR);
    let signature = keypair.sign(&signed_message(body)).unwrap();
    if let Some(entry) = check_entry(&[body, &signature].concat()) {
        let again = SignedEntry::sign(entry.entry().clone(), &keypair).unwrap();
        assert_eq!(again.bytes(), entry.bytes(), "an entry has one form only");
    }
}

fn bodies() -> Vec<Vec<u8>> {
    let of_author = entries().into_iter().filter(|entry| entry.key.author() == keypair(AUTHOR).public().to_peer_id());
    let mut bodies: Vec<Vec<u8>> = of_author.map(|entry| entry.bytes()[..entry.bytes().len() - 64].to_vec()).collect();
    // A difference to another value, compressed.
    bodies.push([&bodies[0][..], &[3], &[7; 32], &[9]].concat());
    bodies
}

fn check_layout(layout: &super::Layout) {
    assert!(layout.tensors().len() <= MAX_TENSORS && layout.bytes() <= MAX_VALUE_BYTES);
    assert!(layout.tensors().iter().all(|tensor| tensor.shape.len() <= MAX_RANK));
    let ours = weights().layout().clone();
    layout.difference(&ours).into_iter().chain(ours.difference(layout)).for_each(check_told);
}

fn check_annotations(annotations: &Annotations) {
    let bytes: usize = annotations.iter().map(|(name, text)| name.len() + text.len()).sum();
    assert!(annotations.iter().count() <= MAX_ANNOTATIONS && bytes <= MAX_ANNOTATION_BYTES);
}

fn manifest(bytes: &[u8]) {
    let Some(manifest) = told(Manifest::decode(bytes)) else { return };
    assert_eq!(manifest.encode(), bytes, "a manifest has one form only");
    check_layout(manifest.layout());
    check_annotations(manifest.annotations());
    let plan = manifest.plan();
    let length: u64 = (0..plan.chunks().len()).map(|chunk| plan.length(chunk)).sum();
    assert_eq!(length, manifest.layout().bytes());
}

fn manifests() -> Vec<Vec<u8>> {
    let plain = weights().with_annotations(Annotations::default());
    // Several chunks.
    let large = Weights::artifact(vec![5; (1 << 20) + 1]).unwrap();
    // More tensors, and longer shapes, than what follows has.
    let claims = |numbers: &[u8]| [&[1][..], numbers].concat();
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    vec![
        weights().manifest().encode(),
        plain.manifest().encode(),
        large.manifest().encode(),
        claims(&huge),
        claims(&[0x80, 0x80, 4]),
        claims(&[&[1, 1, b'w', 1][..], &huge].concat()),
        claims(&[&[0][..], &huge].concat()),
    ]
}

fn safetensors(bytes: &[u8]) {
    let Some(read) = told(Weights::from_safetensors(&bytes.to_vec().into())) else { return };
    check_layout(read.layout());
    check_annotations(read.annotations());
    let again = read.to_safetensors().unwrap();
    let again = Weights::from_safetensors(&again.into()).unwrap();
    assert_eq!((&again, again.annotations()), (&read, read.annotations()));
}

fn files() -> Vec<Vec<u8>> {
    let whole = weights().to_safetensors().unwrap();
    let with = |json: &str, data: &[u8]| [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat();
    let bool_only = "{\"a\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[0,2]}}";
    vec![
        with(bool_only, &[0, 1]),
        with("{\"a\\n\\u001b[31m\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,2]}}", &[0, 1]),
        with("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,2],\"data_offsets\":[0,0]}}", &[]),
        with("{\"a\":{\"dtype\":\"U8\",\"shape\":[0,18446744073709551615],\"data_offsets\":[0,0]}}", &[]),
        // Headers of 2^60 bytes, and of all that there could be.
        [&(1_u64 << 60).to_le_bytes()[..], b"{}"].concat(),
        [&[0xff; 8][..], b"{}"].concat(),
        whole,
    ]
}

fn annotations(bytes: &[u8]) {
    if let Some(annotations) = told(serde_json::from_slice::<Annotations>(bytes)) {
        check_annotations(&annotations);
        let json = serde_json::to_vec(&annotations).unwrap();
        assert_eq!(serde_json::from_slice::<Annotations>(&json).unwrap(), annotations);
    }
}

fn key(bytes: &[u8]) {
    let text = text(bytes);
    if let Some(key) = told(text.parse::<Key>()) {
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        assert!(key.to_string().len() <= MAX_KEY_BYTES && KeyPrefix::new(&key.to_string()).matches(&key));
        assert!(key.update_epoch().is_none_or(|epoch| Key::update(key.author(), epoch) == key));
    }
    let _ = KeyPrefix::new(&text).first();
}

fn keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = entries().iter().map(|entry| entry.key.to_string().into_bytes()).collect();
    keys.push([keys[0].as_slice(), b"\n\x1b[31m"].concat());
    keys
}

fn hash(bytes: &[u8]) {
    if let Some(hash) = told(text(bytes).parse::<BlobHash>()) {
        assert_eq!(hash.to_string().parse(), Ok(hash));
    }
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    let encoded = || entries().iter().map(|entry| entry.bytes().to_vec()).collect();
    let json = || vec![serde_json::to_vec(weights().annotations()).unwrap(), b"{\"a\\u0007\":1}".to_vec()];
    let hashes = || vec![BlobHash::of(b"x").to_string().into_bytes()];
    vec![
        Target { name: "entry", run: entry, seeds: encoded },
        Target { name: "signed-entry-body", run: signed_body, seeds: bodies },
        Target { name: "manifest", run: manifest, seeds: manifests },
        Target { name: "safetensors", run: safetensors, seeds: files },
        Target { name: "annotations", run: annotations, seeds: json },
        Target { name: "key", run: key, seeds: keys },
        Target { name: "hash", run: hash, seeds: hashes },
    ]
}
