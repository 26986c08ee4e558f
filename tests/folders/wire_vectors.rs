//! The test vectors of `docs/wire.md`: computed and decoded by this program, and by `docs/wire/check.py`, a second
//! implementation that knows only the page. Files, objects and what a node says are in [`wire_nodes`](crate::wire_nodes).

use crate::python::python;
use bytes::Bytes;
use bytesize::ByteSize;
use futures::executor::block_on;
use futures::io::Cursor;
use libp2p::request_response::Codec;
use libp2p_identity::Keypair;
use peerfold::{
    bucket::BucketSettings,
    cache::CacheSettings,
    entries::{
        BucketSet, Conflict, EntrySet, Fingerprints, MAX_AUTHORS, MAX_ENTRIES_PER_AUTHOR, Position, Standing,
        UPDATES_KEPT,
    },
    p2p::{
        BLOB_PROTOCOL, BlobCodec, BlobRequest, BlobResponse, BootstrapNode, Item, MAX_BLOBS, MAX_ITEMS,
        NetworkSettings, RelayLimits, SYNC_PROTOCOL, SYNC_PROTOCOL_2, SyncCodec, SyncRequest, SyncResponse,
    },
    secret::Secret,
    weights::{
        Annotations, CHUNK_BYTES, ChunkPlan, Content, DType, Entry, FederationId, Key, Layout, LayoutId,
        MAX_ANNOTATION_BYTES, MAX_ANNOTATIONS, MAX_ENTRY_BYTES, MAX_KEY_BYTES, MAX_MANIFEST_BYTES, MAX_METRIC_NAME,
        MAX_METRICS, MAX_NAMES_BYTES, MAX_RANK, MAX_TENSOR_NAME, MAX_TENSORS, MAX_VALUE_BYTES, Manifest, Metadata,
        Metric, PACK_BELOW_BYTES, SignedEntry, Tensor, TensorSpec, Weights,
    },
};
use serde_json::{Map, Value, json};
use std::{fmt::Debug, fs, io, path::Path, process::Output, str::FromStr, sync::Arc, time::Duration};

pub const PAGE: &str = include_str!("../../docs/wire.md");
const DOMAIN: &[u8] = b"peerfold/entry\0";
/// What `wire_nodes` computes.
const OF_NODES: [&str; 6] = ["federation", "secret federation", "invitation", "directory", "object", "sealed object"];
/// What is computed here, so that a kind that the page has lost is noticed.
const KINDS: [&str; 12] = [
    "blob answer",
    "blob request",
    "entry",
    "identity",
    "numbers",
    "plan",
    "secret",
    "set",
    "sync answer",
    "sync request",
    "value",
    "verdicts",
];

/// The vectors of a kind: what goes in, and what the page says comes out.
pub fn vectors(kind: &str) -> Vec<(Value, Value)> {
    let found: Vec<_> = all_vectors().into_iter().filter(|(of, ..)| of == kind).map(|(_, i, o)| (i, o)).collect();
    assert!(!found.is_empty(), "the page has no vector of the kind {kind:?}");
    found
}

fn all_vectors() -> Vec<(String, Value, Value)> {
    let blocks = PAGE.split("```json vector\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let read = |block: &str| -> (String, Value, Value) {
        let mut vector: Value = serde_json::from_str(block).unwrap();
        (text(&vector["vector"]).to_owned(), vector["in"].take(), vector["out"].take())
    };
    blocks.map(read).collect()
}

pub fn text(of: &Value) -> &str {
    of.as_str().unwrap_or_else(|| panic!("{of} is no text"))
}

fn list(of: &Value) -> &[Value] {
    of.as_array().unwrap_or_else(|| panic!("{of} is no list"))
}

fn number(of: &Value) -> u64 {
    of.as_u64().unwrap_or_else(|| panic!("{of} is no number"))
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn bytes_of_digits(digits: &str) -> Vec<u8> {
    digits.as_bytes().chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// Bytes as the page shows them.
pub fn hexed(bytes: &[u8]) -> Value {
    json!({"hex": bytes.chunks(48).map(digits).collect::<Vec<_>>()})
}

fn unhex(of: &Value) -> Vec<u8> {
    bytes_of_digits(&list(&of["hex"]).iter().map(text).collect::<String>())
}

/// The same, or length and hash of many.
pub fn told(bytes: &[u8]) -> Value {
    match bytes.len() {
        0..=1024 => hexed(bytes),
        length => json!({"length": length, "hash": blake3::hash(bytes).to_string()}),
    }
}

fn hash<H: FromStr<Err: Debug>>(of: &Value) -> H {
    text(of).parse().unwrap()
}

pub fn keypair(secret: &Value) -> Keypair {
    Keypair::ed25519_from_bytes(bytes_of_digits(text(secret))).unwrap()
}

fn spec(of: &Value) -> TensorSpec {
    let dtype = *DType::ALL.iter().find(|dtype| dtype.to_string() == text(&of["dtype"])).unwrap();
    TensorSpec { name: text(&of["name"]).to_owned(), dtype, shape: list(&of["shape"]).iter().map(number).collect() }
}

pub fn weights(of: &Value) -> Weights {
    let tensor = |of: &Value| {
        let times = of.get("times").map_or(1, number) as usize;
        Tensor { spec: spec(of), data: bytes_of_digits(text(&of["data"])).repeat(times).into() }
    };
    let weights = Weights::new(list(&of["tensors"]).iter().map(tensor).collect()).unwrap();
    let annotations = of.get("annotations").map(|of| serde_json::from_value(of.clone()).unwrap());
    weights.with_annotations(Annotations::new(annotations.unwrap_or_default()).unwrap())
}

pub fn metadata(put: &Value) -> Metadata {
    let metrics = put["metrics"].as_object().unwrap().iter();
    let metrics = metrics.map(|(name, value)| Metric { name: name.clone(), value: value.as_f64().unwrap() }).collect();
    Metadata { epoch: number(&put["epoch"]), num_examples: number(&put["num_examples"]), metrics }
}

/// The entry of a vector, as this program signs it.
pub fn entry(of: &Value) -> SignedEntry {
    let keypair = keypair(&of["secret"]);
    let content = of.get("put").map_or(Content::Tombstone, |put| Content::Put {
        root: hash(&put["root"]),
        length: number(&put["length"]),
        metadata: metadata(put),
    });
    let key = Key::new(keypair.public().to_peer_id(), text(&of["name"])).unwrap();
    let (federation, layout, sequence) = (hash(&of["federation"]), hash(&of["layout"]), number(&of["sequence"]));
    SignedEntry::sign(Entry { federation, layout, key, sequence, content }, &keypair).unwrap()
}

/// What this program says of possible entries.
fn verdict(bytes: &[u8]) -> &'static str {
    match SignedEntry::decode(bytes) {
        Ok(_) => "accepted",
        Err(error) if error.is_newer() => "ignored",
        Err(_) => "refused",
    }
}

fn identity(given: &Value) -> Value {
    let keypair = keypair(&given["secret"]);
    let peer = keypair.public().to_peer_id();
    let key = Key::new(peer, "any").unwrap();
    let (federation, layout) = (FederationId::from_bytes([0; 32]), LayoutId::from_bytes([0; 32]));
    let entry = Entry { federation, layout, key, sequence: 1, content: Content::Tombstone };
    let entry = Arc::new(SignedEntry::sign(entry, &keypair).unwrap());
    json!({
        "public_key": digits(&keypair.public().try_into_ed25519().unwrap().to_bytes()),
        "peer_id_bytes": digits(&peer.to_bytes()),
        "peer_id": peer.to_string(),
        "bucket": Position::of(&Standing::Entry(entry)).bucket,
    })
}

/// The secret of a vector.
pub fn secret(of: &Value) -> Secret {
    Secret::from_bytes(bytes_of_digits(text(of)).try_into().unwrap())
}

fn secret_file(given: &Value) -> Value {
    let (dir, secret) = (tempfile::tempdir().unwrap(), secret(&given["secret"]));
    let file = dir.path().join("ward.secret");
    secret.write_new(&file).unwrap();
    assert_eq!(Secret::read(&file).unwrap(), secret);
    json!({"file": fs::read_to_string(&file).unwrap(), "fingerprint": secret.fingerprint()})
}

fn numbers(given: &Value) -> Value {
    let varint = |of: &Value| digits(&postcard::to_stdvec(&number(of)).unwrap());
    json!({"varints": list(&given["numbers"]).iter().map(varint).collect::<Vec<_>>()})
}

fn plan(given: &Value) -> Value {
    let layout = Layout::new(list(&given["tensors"]).iter().map(spec).collect()).unwrap();
    let plan = ChunkPlan::new(&layout);
    let chunks = plan.chunks().iter().map(|pieces| {
        let pieces = pieces.iter().map(|piece| json!([piece.tensor, piece.range.start, piece.range.end]));
        pieces.collect::<Vec<_>>()
    });
    json!({"layout": layout.id().to_string(), "length": layout.bytes(), "chunks": chunks.collect::<Vec<_>>()})
}

fn value(given: &Value) -> Value {
    let weights = weights(given);
    let manifest = weights.manifest();
    let encoded = manifest.encode();
    assert_eq!(Manifest::decode(&encoded).unwrap(), manifest);
    let chunks =
        manifest.chunks().iter().enumerate().map(
            |(chunk, hash)| json!({"bytes": told(&manifest.chunk_bytes(&weights, chunk)), "hash": hash.to_string()}),
        );
    json!({
        "layout": manifest.layout().id().to_string(),
        "length": manifest.layout().bytes(),
        "chunks": chunks.collect::<Vec<_>>(),
        "manifest": hexed(&encoded),
        "root": manifest.root().to_string(),
    })
}

fn signed(given: &Value) -> Value {
    let plain = entry(given);
    assert_eq!(SignedEntry::decode(plain.bytes()).unwrap(), plain);
    let mut bytes = plain.bytes().to_vec();
    if let Some(encoding) = given.get("encoding") {
        // No version signs these yet.
        bytes.truncate(bytes.len() - 64);
        bytes.extend(bytes_of_digits(text(encoding)));
        let signature = keypair(&given["secret"]).sign(&[DOMAIN, &bytes].concat()).unwrap();
        bytes.extend(signature);
    }
    json!({"bytes": hexed(&bytes), "hash": blake3::hash(&bytes).to_string(), "verdict": verdict(&bytes)})
}

fn verdicts(given: &Value) -> Value {
    let verdicts = list(&given["entries"]).iter().map(|of| verdict(&unhex(&of["bytes"])));
    json!({"verdicts": verdicts.collect::<Vec<_>>()})
}

fn set(given: &Value) -> Value {
    let entries: Vec<Arc<SignedEntry>> = list(&given["entries"]).iter().map(|of| Arc::new(entry(of))).collect();
    let mut set = EntrySet::new(entries[0].federation);
    for entry in entries {
        assert_eq!(set.insert(entry), Ok(true));
    }
    for proof in list(&given["excluded"]) {
        let [one, other] = [unhex(&proof[0]), unhex(&proof[1])];
        let proof = Conflict::decode([&one, &other]).unwrap();
        assert_eq!(
            proof.entries.each_ref().map(|entry| entry.bytes().to_vec()),
            [one, other],
            "the smaller hash first"
        );
        assert_eq!(set.insert_proof(proof), Ok(true));
    }
    let (mut order, mut after) = (Vec::new(), None);
    loop {
        let (items, next) = set.items_after(&BucketSet::ALL, after.as_ref(), 2);
        order.extend(items.iter().map(Position::of));
        after = next;
        if after.is_none() {
            break;
        }
    }
    let order = order.iter().map(|at| json!({"bucket": at.bucket, "text": at.text}));
    json!({
        "order": order.collect::<Vec<_>>(),
        "fingerprints": shown_fingerprints(&set.fingerprints()),
        "digest": set.digest().to_string(),
    })
}

/// Those that aren't zeros.
fn shown_fingerprints(of: &Fingerprints) -> Map<String, Value> {
    let numbered = of.0.iter().enumerate().filter(|(_, print)| **print != [0; 16]);
    numbered.map(|(bucket, print)| (bucket.to_string(), digits(print).into())).collect()
}

fn position(of: &Value) -> Option<Position> {
    let bucket = |of: &Value| u8::try_from(number(of)).unwrap();
    (!of.is_null()).then(|| Position { bucket: bucket(&of["bucket"]), text: text(&of["text"]).to_owned() })
}

fn two(of: &Value) -> [Vec<u8>; 2] {
    [unhex(&of[0]), unhex(&of[1])]
}

/// A message with one more byte in its frame.
fn with_more(written: &[u8]) -> Cursor<Vec<u8>> {
    let (length, rest) = written.split_at(4);
    let length = u32::from_le_bytes(length.try_into().unwrap());
    let (frame, blobs) = rest.split_at(length as usize);
    Cursor::new([&(length + 1).to_le_bytes(), frame, &[0], blobs].concat())
}

/// A request as it is on the wire, from where it was read back.
fn request_as_written<C>(mut codec: C, protocol: &C::Protocol, request: C::Request) -> Value
where
    C: Codec<Request: Clone + Debug + PartialEq>,
{
    let mut written = Vec::new();
    block_on(codec.write_request(protocol, &mut written, request.clone())).unwrap();
    assert_eq!(block_on(codec.read_request(protocol, &mut Cursor::new(&written))).unwrap(), request);
    let refused = block_on(codec.read_request(protocol, &mut with_more(&written))).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    json!({"bytes": told(&written)})
}

/// The same of an answer.
fn answer_as_written<C>(mut codec: C, protocol: &C::Protocol, answer: C::Response) -> Value
where
    C: Codec<Response: Clone + Debug + PartialEq>,
{
    let mut written = Vec::new();
    block_on(codec.write_response(protocol, &mut written, answer.clone())).unwrap();
    assert_eq!(block_on(codec.read_response(protocol, &mut Cursor::new(&written))).unwrap(), answer);
    let refused = block_on(codec.read_response(protocol, &mut with_more(&written))).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    json!({"bytes": told(&written)})
}

fn sync_request(given: &Value) -> Value {
    let fields = &given["fields"];
    let federation = hash(&fields["federation"]);
    let request = match text(&given["message"]) {
        "Compare" => SyncRequest::Compare { federation, digest: hash(&fields["digest"]) },
        "Items" => {
            let mut buckets = BucketSet::default();
            list(&fields["buckets"]).iter().for_each(|bucket| buckets.insert(number(bucket).try_into().unwrap()));
            SyncRequest::Items { federation, buckets, after: position(&fields["after"]) }
        }
        "Proof" => SyncRequest::Proof { federation, entries: two(&fields["entries"]) },
        "Others" => {
            let mut buckets = BucketSet::default();
            list(&fields["buckets"]).iter().for_each(|bucket| buckets.insert(number(bucket).try_into().unwrap()));
            let name = |name: &Value| bytes_of_digits(text(name)).try_into().unwrap();
            let named = list(&fields["named"]).iter().map(name).collect();
            SyncRequest::Others { federation, buckets, after: position(&fields["after"]), named }
        }
        other => panic!("no request {other}"),
    };
    request_as_written(SyncCodec, &SYNC_PROTOCOL_2, request)
}

fn sync_answer(given: &Value) -> Value {
    let fields = &given["fields"];
    let item = |of: &Value| match of.get("proof") {
        Some(proof) => Item::Proof(two(proof)),
        None => Item::Entry(unhex(&of["entry"])),
    };
    let answer = match text(&given["message"]) {
        "NotMember" => SyncResponse::NotMember,
        "Same" => SyncResponse::Same,
        "Differs" => {
            let mut prints = Box::new([[0; 16]; 256]);
            for (bucket, print) in fields["fingerprints"].as_object().unwrap() {
                prints[bucket.parse::<usize>().unwrap()] = bytes_of_digits(text(print)).try_into().unwrap();
            }
            SyncResponse::Differs(Fingerprints(prints))
        }
        "Page" => SyncResponse::Items {
            items: list(&fields["items"]).iter().map(item).collect(),
            next: position(&fields["next"]),
        },
        other => panic!("no answer {other}"),
    };
    answer_as_written(SyncCodec, &SYNC_PROTOCOL, answer)
}

fn blob_request(given: &Value) -> Value {
    let fields = &given["fields"];
    let federation = hash(&fields["federation"]);
    let request = match text(&given["message"]) {
        "Get" => BlobRequest::Get { federation, hashes: list(&fields["hashes"]).iter().map(hash).collect() },
        "Holds" => BlobRequest::Holds { federation, roots: list(&fields["roots"]).iter().map(hash).collect() },
        "Keep" => BlobRequest::Keep { federation, entry: unhex(&fields["entry"]).into() },
        "Fetching" => BlobRequest::Fetching {
            federation,
            root: hash(&fields["root"]),
            hashes: list(&fields["hashes"]).iter().map(hash).collect(),
        },
        other => panic!("no request {other}"),
    };
    request_as_written(BlobCodec, &BLOB_PROTOCOL, request)
}

fn blob_answer(given: &Value) -> Value {
    let blob = |of: &Value| (!of.is_null()).then(|| Bytes::from(unhex(of)));
    let answer = match text(&given["message"]) {
        "NotMember" => BlobResponse::NotMember,
        "Blobs" => BlobResponse::Blobs(list(&given["fields"]["blobs"]).iter().map(blob).collect()),
        "Noted" => BlobResponse::Noted,
        "Later" => BlobResponse::Later(number(&given["fields"]["seconds"]).try_into().unwrap()),
        other => panic!("no answer {other}"),
    };
    answer_as_written(BlobCodec, &BLOB_PROTOCOL, answer)
}

#[test]
fn every_vector_is_as_the_page_says() {
    let mut seen = std::collections::BTreeSet::new();
    for (kind, given, expected) in all_vectors() {
        let compute = match kind.as_str() {
            "identity" => identity,
            "numbers" => numbers,
            "secret" => secret_file,
            "plan" => plan,
            "value" => value,
            "entry" => signed,
            "verdicts" => verdicts,
            "set" => set,
            "sync request" => sync_request,
            "sync answer" => sync_answer,
            "blob request" => blob_request,
            "blob answer" => blob_answer,
            other if OF_NODES.contains(&other) => continue,
            other => panic!("a vector of a kind that nobody computes: {other}"),
        };
        assert_eq!(compute(&given), expected, "{kind}: {given:#}");
        seen.insert(kind);
    }
    assert!(seen.iter().eq(KINDS), "{seen:?}");
}

/// Every message of sync and blobs has a vector.
#[test]
fn no_message_is_left_out() {
    for (kind, messages) in [
        ("sync request", &["Compare", "Items", "Proof", "Others"][..]),
        ("sync answer", &["NotMember", "Same", "Differs", "Page"]),
        ("blob request", &["Get", "Holds", "Keep", "Fetching"]),
        ("blob answer", &["NotMember", "Blobs", "Noted", "Later"]),
    ] {
        let vectors = vectors(kind);
        for message in messages {
            assert!(vectors.iter().any(|(given, _)| given["message"] == *message), "{kind} {message}");
        }
    }
}

fn check_in(dir: &Path) -> Option<Output> {
    Some(python()?.arg("-B").arg(dir.join("docs/wire/check.py")).output().unwrap())
}

#[test]
fn the_page_is_enough_for_another_implementation() {
    let Some(checked) = check_in(Path::new(env!("CARGO_MANIFEST_DIR"))) else { return };
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let counted = format!("{} vectors are as the page says\n", all_vectors().len());
    assert_eq!(String::from_utf8_lossy(&checked.stdout), counted);
}

#[test]
fn the_other_implementation_finds_a_vector_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("docs/wire")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/wire/check.py");
    fs::copy(script, dir.path().join("docs/wire/check.py")).unwrap();
    let (_, federation) = vectors("federation").remove(0);
    let key = text(&federation["table_key"]);
    let flipped = format!("{}{}", if key.starts_with('0') { '1' } else { '0' }, &key[1..]);
    fs::write(dir.path().join("docs/wire.md"), PAGE.replace(key, &flipped)).unwrap();
    let Some(checked) = check_in(dir.path()) else { return };
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!checked.status.success() && said.starts_with("federation of"), "{said}");
}

/// A number as the page writes it.
fn commas(number: u64) -> String {
    let text = number.to_string();
    let parts: Vec<&[u8]> = text.as_bytes().rchunks(3).rev().collect();
    parts.iter().map(|part| str::from_utf8(part).unwrap()).collect::<Vec<_>>().join(",")
}

/// A size as the page writes it.
fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(bits, _)| bytes >= 1 << bits && bytes.is_multiple_of(1 << bits));
    unit.map_or_else(|| format!("{} bytes", commas(bytes)), |(bits, unit)| format!("{} {unit}", bytes >> bits))
}

/// What reading a frame of this length comes to, of which nothing follows.
fn outcome<M>(read: impl Future<Output = io::Result<M>>) -> io::ErrorKind {
    block_on(read).err().expect("nothing follows").kind()
}

#[test]
fn a_frame_may_be_as_long_as_the_page_says_and_no_longer() {
    for (limit, kind) in [(6_272_u32, io::ErrorKind::UnexpectedEof), (6_273, io::ErrorKind::InvalidData)] {
        let mut frame = Cursor::new(limit.to_le_bytes());
        assert_eq!(outcome(SyncCodec.read_request(&SYNC_PROTOCOL, &mut frame)), kind);
    }
    for (limit, kind) in [(2_176_u32, io::ErrorKind::UnexpectedEof), (2_177, io::ErrorKind::InvalidData)] {
        let mut frame = Cursor::new(limit.to_le_bytes());
        assert_eq!(outcome(BlobCodec.read_request(&BLOB_PROTOCOL, &mut frame)), kind);
    }
    for (limit, kind) in [(263_680_u32, io::ErrorKind::UnexpectedEof), (263_681, io::ErrorKind::InvalidData)] {
        let mut frame = Cursor::new(limit.to_le_bytes());
        assert_eq!(outcome(SyncCodec.read_response(&SYNC_PROTOCOL, &mut frame)), kind);
    }
    for (limit, kind) in [(16_u32, io::ErrorKind::UnexpectedEof), (17, io::ErrorKind::InvalidData)] {
        let mut frame = Cursor::new(limit.to_le_bytes());
        assert_eq!(outcome(BlobCodec.read_response(&BLOB_PROTOCOL, &mut frame)), kind);
    }
    for said in [
        "| request of sync; items that it names | 6,272 bytes; 512 |",
        "| request of blobs | 2,176 bytes |",
        "| answer of sync; items in a page | 263,680 bytes;",
    ] {
        assert!(PAGE.contains(said), "{said}");
    }
    assert!(PAGE.contains("The frame of an answer has at most 16 bytes"));
}

#[test]
fn the_limits_are_as_the_page_says() {
    let (network, bucket) = (NetworkSettings::default(), BucketSettings::default());
    let relay = RelayLimits::default();
    let (limits, swarm, cache) = (&network.limits, &network.swarm, CacheSettings::default());
    let (seconds, number) =
        (|time: Duration| format!("{} s", time.as_secs_f64()), |number: usize| commas(number as u64));
    let bound = |rate: ByteSize| if rate.as_u64() == 0 { "no bound".to_owned() } else { size(rate.as_u64()) };
    let metric = MAX_METRIC_NAME;
    let rows = [
        format!("| signed entry | {} bytes |", commas(MAX_ENTRY_BYTES as u64)),
        format!("| key, the peer id's text and slash included | {MAX_KEY_BYTES} bytes |"),
        format!("| metrics of an entry, name of one | {MAX_METRICS}, {metric} bytes |"),
        format!(
            "| entries of an author in a set; authors | {MAX_ENTRIES_PER_AUTHOR}; {} |",
            commas(MAX_AUTHORS as u64)
        ),
        format!("| updates kept of an author | {UPDATES_KEPT} |"),
        format!(
            "| tensors, dimensions, name, names together, elements together | {}; {MAX_RANK}; {MAX_TENSOR_NAME} bytes; \
             {}; {} |",
            commas(MAX_TENSORS as u64),
            size(MAX_NAMES_BYTES),
            size(MAX_VALUE_BYTES)
        ),
        format!("| chunk; tensors that share chunks | {}; under {} |", size(CHUNK_BYTES), size(PACK_BELOW_BYTES)),
        format!(
            "| manifest; annotations; their bytes | {}; {}; {} |",
            size(MAX_MANIFEST_BYTES as u64),
            commas(MAX_ANNOTATIONS as u64),
            size(MAX_ANNOTATION_BYTES as u64)
        ),
        format!("items in a page | 263,680 bytes; {MAX_ITEMS} |"),
        format!("| hashes in a request, blobs in an answer | {MAX_BLOBS} |"),
        format!("| connections; of one peer | {}; {} |", swarm.connections, swarm.connections_per_peer),
        format!("| relayed connections; relays in use | {}; {} |", swarm.relayed, swarm.relays),
        format!("| addresses tried out for others at once; for one peer in a minute | {}; 8 |", swarm.dial_backs),
        format!(
            "| relay: reservations; connections; of one peer | {}; {}; {} |",
            number(relay.reservations),
            number(relay.circuits),
            relay.circuits_of_peer
        ),
        format!(
            "| relay: time of a reservation, and of a connection; bytes, each way | {}; {} |",
            seconds(relay.lasts.max(relay.reserved_for)),
            size(relay.bytes)
        ),
        format!("| connections being made, and being taken | {} each |", swarm.pending),
        format!("| those being taken from one address | {} |", swarm.pending_per_address),
        format!(
            "| bootstrap node: connections; being taken, of one address | {}; 256, 128 |",
            number(BootstrapNode::CONNECTIONS as usize)
        ),
        format!("| connections of newcomers | {}, and at most half of all |", swarm.strangers),
        format!("| connections of one address; of one network | {}; {} |", swarm.per_address, swarm.per_network),
        format!("| time to make a connection | {} |", seconds(swarm.handshake_timeout)),
        format!("| requests at once on a connection | {} |", swarm.streams),
        format!("| time until an answer begins | {} |", seconds(swarm.request_timeout)),
        format!(
            "| bytes of values a second to one peer; to all | {}; {} |",
            bound(swarm.upload_per_peer),
            bound(swarm.upload)
        ),
        format!("| time in which 16 KiB of an answer must come or be taken | {} |", seconds(swarm.stall_timeout)),
        format!(
            "| answers of one peer that aren't read; of all | {}; {} |",
            size(swarm.answers_per_peer.as_u64()),
            size(swarm.answers.as_u64())
        ),
        format!("| requests that wait; of one peer | {}; {} |", number(swarm.waiting), swarm.waiting / 8),
        format!(
            "| requests of one peer a second; of all | {}; {} |",
            number(swarm.request_rate as usize),
            number(swarm.requests_rate as usize)
        ),
        format!("| time for a question to the table | {} s |", swarm.table_timeout.as_secs()),
        format!("| a provider record counts | {} min |", swarm.provider_ttl.as_secs() / 60),
        format!(
            "| keys in a node's part of the table; providers of each; of all | {}; {}; {} |",
            number(swarm.federations),
            swarm.members,
            number(swarm.announcements)
        ),
        format!("| gossip remembers an id | {} min |", swarm.seen_for.as_secs() / 60),
        format!(
            "| messages of gossip in that time; of one peer a second | {}; {} |",
            number(swarm.gossip_seen),
            swarm.gossip_rate
        ),
        format!("| authors; entries of one | {}; {} |", number(cache.entries.authors), cache.entries.per_author),
        format!(
            "| strangers among them; their entries; bytes of their updates | {}; {}; {} |",
            number(cache.entries.strangers),
            number(cache.entries.stranger_entries),
            size(cache.entry_limits().stranger_bytes)
        ),
        format!("| bytes in the cache | {} |", size(cache.quota.as_u64())),
        format!("| longest that a peer is dropped | {} h |", limits.banned_at_most.as_secs() / 3600),
        format!("| sync with a random member | every {} s |", network.sync_every.as_secs()),
        format!(
            "| values fetched at once; peers for each; requests to each peer; bytes a request | {}; {}; {}; {} |",
            limits.values_at_once,
            limits.providers_at_once,
            limits.requests_at_once,
            size(limits.request_bytes.as_u64())
        ),
        format!("| entries a second of strangers who aren't connected | {} |", limits.absent_entry_rate),
        format!("| values a second looked for in vain of strangers who aren't connected | {} |", limits.absent_rate),
        format!(
            "| a value that comes in slower, over 30 s, makes way for others | {} a second |",
            size(limits.least_rate.as_u64())
        ),
        format!("| longest value fetched unasked | {} |", size(limits.prefetch_bytes.as_u64())),
        format!(
            "| strikes until a peer is dropped; for how long | {}; {} min |",
            limits.strikes,
            limits.banned_for.as_secs() / 60
        ),
        format!("| between two listings | {} to {} s |", bucket.poll.as_secs(), bucket.poll_idle.as_secs()),
        format!("| an object that nothing needs stays | {} s |", bucket.grace.as_secs()),
        format!("| an author is relayed after | {} s and 1 s a MiB, up to twice that |", bucket.relay_after.as_secs()),
    ];
    let missing: Vec<&String> = rows.iter().filter(|row| !PAGE.contains(row.as_str())).collect();
    assert!(missing.is_empty(), "the page lacks {missing:#?}");
}
