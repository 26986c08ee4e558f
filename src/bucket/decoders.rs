//! The decoders of this layer, as fuzzers try them.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "s3")]
use super::{answers::Document, listing};
use super::{
    mirror::{Mark, Mirror},
    names::{EntryName, Name, PackId, Place},
    record::{self, Head, MAX_RECORD_BYTES, PACK_BYTES, Spot},
    seal::Seal,
    url::{BucketUrl, check_endpoint},
};
use crate::{
    secret::Secret,
    untrusted::{Target, check_told, text, told},
    weights::{
        ChunkHash, MAX_MANIFEST_BYTES, SignedEntry, Weights,
        decoders::{entries, entry_naming, federation, keypair, put, weights},
    },
};
use object_store::path::Path;
use std::{collections::BTreeMap, sync::Arc};

fn seal() -> Arc<Seal> {
    Arc::new(Seal::new(&Secret::from_bytes([5; 32]), federation()))
}

fn places() -> [Place; 2] {
    let prefix = Path::from("a/b c");
    [Place::new(&prefix, federation()), Place::sealed(&prefix, federation(), seal())]
}

fn names() -> Vec<Name> {
    let member = keypair(9).public().to_peer_id();
    let of = |entry: &SignedEntry| [EntryName::of(entry), EntryName::held_by(member, entry)].map(Name::Entry);
    let mut names: Vec<Name> = entries().iter().flat_map(of).collect();
    names.push(Name::Pack { holder: member, hash: PackId::of(blake3::hash(b"x")) });
    names
}

fn check_name(place: &Place, path: &Path) {
    if let Some(name) = place.name(path) {
        assert_eq!(place.path(&name), *path, "an object has one name only");
    }
}

/// What a listing shows.
fn object_name(bytes: &[u8]) {
    if let Ok(path) = Path::parse(text(bytes)) {
        places().iter().for_each(|place| check_name(place, &path));
    }
}

fn paths() -> Vec<Vec<u8>> {
    let path = |place: &Place| names().iter().map(|name| place.path(name).as_ref().as_bytes().to_vec()).collect();
    let mut paths: Vec<Vec<u8>> = places().iter().flat_map::<Vec<_>, _>(path).collect();
    // Another spelling of the first.
    paths.push(String::from_utf8_lossy(&paths[0]).replace("update", "%75pdate").into_bytes());
    paths
}

/// What somebody with the secret may seal as a name.
fn sealed_name(bytes: &[u8]) {
    let [_, place] = places();
    check_name(&place, &place.root().clone().join(seal().name(bytes).as_str()));
}

fn packed_names() -> Vec<Vec<u8>> {
    let [_, place] = places();
    let sealed = |name| place.path(name).filename().map(str::to_owned);
    names().iter().filter_map(sealed).filter_map(|sealed| seal().open_name(&sealed)).collect()
}

fn check_head(entry: &SignedEntry, bytes: &[u8]) {
    let Some(head) = told(Head::decode(entry, bytes)) else { return };
    let chunks = head.manifest.chunks().len();
    assert!(head.spots.len() == chunks && head.packs.len() <= chunks && head.places().len() <= chunks);
    assert!(head.packs.values().all(|length| (1..=PACK_BYTES).contains(length)));
    let record = record::encode(entry, Some(&head));
    assert!(record.len() as u64 <= MAX_RECORD_BYTES);
    let (again, rest) = record::split(&record).unwrap();
    assert_eq!((again.bytes(), Head::decode(&again, rest).unwrap()), (entry.bytes(), head));
}

fn object(bytes: &[u8]) {
    let mark = Mark { size: bytes.len() as u64, modified: 0, tag: None };
    let me = keypair(9).public().to_peer_id();
    let name = EntryName::of(&entries()[0]);
    if let Err(error) = Mirror::new(me, BTreeMap::new()).read(&name, &mark, &bytes.to_vec().into()) {
        check_told(error);
    }
    if let Some((entry, head)) = told(record::split(bytes)) {
        check_head(&entry, head);
    }
}

/// As object, but whatever the manifest has become, there is an entry that names it.
fn head(bytes: &[u8]) {
    let length = bytes.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let manifest = bytes.get(4..).and_then(|rest| rest.get(..length)).unwrap_or_default();
    check_head(&entry_naming(&manifest[..manifest.len().min(MAX_MANIFEST_BYTES)]), bytes);
}

fn records() -> Vec<Vec<u8>> {
    let large = Weights::artifact(vec![5; (1 << 20) + 1]).unwrap();
    let record = |weights: &Weights| {
        let (manifest, entry) = (weights.manifest(), put(7, 3, weights));
        let packs: BTreeMap<PackId, u64> = [1, 2].map(|n| (PackId::from_bytes([n; 16]), PACK_BYTES)).into();
        let spot = |chunk: usize| Spot { pack: PackId::from_bytes([1 + (chunk % 2) as u8; 16]), offset: chunk as u64 };
        let spots: Vec<Spot> = (0..manifest.chunks().len()).map(spot).collect();
        let packs = packs.into_iter().take(spots.len()).collect();
        record::encode(&entry, Some(&Head { manifest, packs, spots }))
    };
    vec![record(&weights()), record(&large), record::encode(&entries()[3], None)]
}

fn heads() -> Vec<Vec<u8>> {
    let rest = |record: Vec<u8>| record::split(&record).unwrap().1.to_vec();
    let mut heads: Vec<Vec<u8>> = records().into_iter().map(rest).collect();
    heads.push(vec![0xff; 8]);
    heads
}

/// Whatever was not sealed is found by its tag, and what was sealed is opened.
fn sealed(bytes: &[u8]) {
    let (seal, holder, hash) = (seal(), keypair(9).public().to_peer_id(), ChunkHash::of(bytes));
    if let Some(record) = seal.open_record("a name", bytes) {
        assert_eq!(seal.record("a name", &record), bytes);
    }
    assert_eq!(seal.open_chunk(holder, hash, bytes), None);
    assert_eq!(seal.open_record("a name", &seal.record("a name", bytes)).unwrap(), bytes);
    assert_eq!(seal.open_chunk(holder, hash, &seal.chunk(holder, hash, bytes)).unwrap(), bytes);
}

fn noted_mark(bytes: &[u8]) {
    if let Ok(mark) = postcard::from_bytes::<Mark>(bytes) {
        assert_eq!(postcard::from_bytes::<Mark>(&postcard::to_stdvec(&mark).unwrap()).unwrap(), mark);
    }
}

fn marks() -> Vec<Vec<u8>> {
    vec![postcard::to_stdvec(&Mark { size: 7, modified: -1, tag: Some("\"x\"".to_owned()) }).unwrap()]
}

fn url(bytes: &[u8]) {
    let text = text(bytes);
    if let Some(url) = told(text.parse::<BucketUrl>()) {
        assert_eq!(url.to_string().parse(), Ok(url));
    }
    told(check_endpoint(&text));
}

fn urls() -> Vec<Vec<u8>> {
    let texts =
        ["s3://weights/a%20b/c%23", "s3://weights", "https://minio.example:9000", "s3://w/\n", "http://[::1]/a/../b"];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

#[cfg(feature = "s3")]
fn document(bytes: &[u8]) {
    let _ = Document::read(bytes);
    let page = text(bytes);
    assert!(listing::readable(&page).len() <= page.len());
}

#[cfg(feature = "s3")]
fn documents() -> Vec<Vec<u8>> {
    let texts = [
        "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>ward</Name>\
         <Prefix>a &amp; b/</Prefix><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>\
         <EncodingType>url</EncodingType><Contents><Key>a &amp; b/c&#228;</Key><Size>1</Size></Contents><Contents>\
         <Key>a//b</Key></Contents></ListBucketResult>",
        "<Error><Code>NoSuchKey</Code><Message><![CDATA[no]]></Message></Error>",
        "<DeleteResult><Error><Key>a</Key></Error></DeleteResult>",
        "<!DOCTYPE a [<!ENTITY b \"&b;&b;\">]><a>&b;</a>",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    vec![
        Target { name: "object-name", run: object_name, seeds: paths },
        Target { name: "sealed-name", run: sealed_name, seeds: packed_names },
        Target { name: "bucket-record", run: object, seeds: records },
        Target { name: "bucket-head", run: head, seeds: heads },
        Target { name: "sealed", run: sealed, seeds: || vec![seal().record("a name", b"a record")] },
        Target { name: "mark", run: noted_mark, seeds: marks },
        Target { name: "bucket-url", run: url, seeds: urls },
        #[cfg(feature = "s3")]
        Target { name: "s3-document", run: document, seeds: documents },
    ]
}
