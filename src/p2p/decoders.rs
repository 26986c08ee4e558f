//! The decoders of this layer, as fuzzers try them.
#![allow(clippy::unwrap_used)]

use super::{
    Blob, BlobCodec, BlobRequest, BlobResponse, Item, MAX_BLOBS, MAX_ITEMS, NetworkStatus, PeerAddress, PeerList,
    PeerRole, PeerStatus, Refusals, SYNC_PROTOCOL, SYNC_PROTOCOL_2, SoughtPeer, SyncCodec, SyncRequest, SyncResponse,
    Transport, Way,
    addresses::{MAX_ADDRESSES, usable},
    listen_address,
    network::{bans, ports::Ports},
    wire::{ANSWER_BYTES, WireBytes},
};
use crate::{
    entries::{BucketSet, Conflict, Fingerprints, Position},
    p2p::core::Ban,
    untrusted::{Target, check_told, text, told},
    weights::{
        Digest, MAX_MANIFEST_BYTES, SignedEntry,
        decoders::{entries, federation, keypair, weights},
    },
};
use futures::FutureExt;
use libp2p::{Multiaddr, request_response::Codec};
use std::{
    fmt::Debug,
    io,
    path::Path,
    time::{Duration, SystemTime},
};

/// What a read from memory gives, which never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory makes nobody wait")
}

/// Reads a message, and what is written of it again. Errors are logged, so they are one line.
fn check<T: PartialEq + Debug + Clone>(
    read: impl Fn(&[u8]) -> io::Result<T>,
    write: impl Fn(T, &mut Vec<u8>) -> io::Result<()>,
    bytes: &[u8],
) -> Option<T> {
    let message = told(read(bytes))?;
    let mut written = Vec::new();
    write(message.clone(), &mut written).unwrap();
    assert_eq!(read(&written).unwrap(), message);
    Some(message)
}

fn written<T>(
    messages: impl IntoIterator<Item = T>,
    write: impl Fn(T, &mut Vec<u8>) -> io::Result<()>,
) -> Vec<Vec<u8>> {
    let one = |message| {
        let mut bytes = Vec::new();
        write(message, &mut bytes).unwrap();
        bytes
    };
    messages.into_iter().map(one).collect()
}

fn sync_request(bytes: &[u8]) {
    let read = |mut bytes: &[u8]| at_once(SyncCodec.read_request(&SYNC_PROTOCOL_2, &mut bytes));
    if let Some(request) = check(read, write_sync_request, bytes) {
        assert!(request.wire_bytes() > 0);
        if let SyncRequest::Proof { entries: [one, other], .. } = &request {
            told(Conflict::decode([one, other])).into_iter().for_each(check_told);
        }
    }
}

fn write_sync_request(request: SyncRequest, out: &mut Vec<u8>) -> io::Result<()> {
    at_once(SyncCodec.write_request(&SYNC_PROTOCOL_2, out, request))
}

fn sync_requests() -> Vec<Vec<u8>> {
    let (federation, digest) = (federation(), Digest::from_bytes([3; 32]));
    let [one, other, ..] = &entries()[..] else { return Vec::new() };
    let after = Some(Position { bucket: 7, text: one.key.to_string() });
    let requests = [
        SyncRequest::Compare { federation, digest },
        SyncRequest::Items { federation, buckets: BucketSet::ALL, after: after.clone() },
        SyncRequest::Others { federation, buckets: BucketSet::ALL, after, named: vec![[5; 8]; 3] },
        SyncRequest::Proof { federation, entries: [one, other].map(|entry| entry.bytes().to_vec()) },
    ];
    let mut seeds = written(requests, write_sync_request);
    seeds.extend([vec![0xff; 4], vec![0xff; 8]]);
    seeds
}

fn sync_answer(bytes: &[u8]) {
    let read = |mut bytes: &[u8]| at_once(SyncCodec.read_response(&SYNC_PROTOCOL, &mut bytes));
    let Some(answer) = check(read, write_sync_answer, bytes) else { return };
    assert!(answer.wire_bytes() > 0);
    let SyncResponse::Items { items, .. } = answer else { return };
    assert!(items.len() <= MAX_ITEMS);
    for item in &items {
        match item {
            Item::Entry(entry) => drop(told(SignedEntry::decode(entry))),
            Item::Proof([one, other]) => told(Conflict::decode([one, other])).into_iter().for_each(check_told),
        }
    }
}

fn write_sync_answer(answer: SyncResponse, out: &mut Vec<u8>) -> io::Result<()> {
    at_once(SyncCodec.write_response(&SYNC_PROTOCOL, out, answer))
}

fn sync_answers() -> Vec<Vec<u8>> {
    let [one, other, third, ..] = &entries()[..] else { return Vec::new() };
    let items =
        vec![Item::Entry(third.bytes().to_vec()), Item::Proof([one, other].map(|entry| entry.bytes().to_vec()))];
    let next = Some(Position { bucket: 255, text: third.key.to_string() });
    let answers = [
        SyncResponse::NotMember,
        SyncResponse::Same,
        SyncResponse::Differs(Fingerprints(Box::new([[1; 16]; 256]))),
        SyncResponse::Items { items, next },
    ];
    let mut seeds = written(answers, write_sync_answer);
    // Many items that are empty, and 2^60 of them.
    let frame = |body: &[u8]| [&(body.len() as u32).to_le_bytes(), body].concat();
    seeds.push(frame(&[&[3, 0x80, 0x20][..], &[0; 8192]].concat()));
    seeds.push(frame(&[3, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]));
    seeds
}

fn blob_request(bytes: &[u8]) {
    let read = |mut bytes: &[u8]| at_once(BlobCodec.read_request(&SYNC_PROTOCOL, &mut bytes));
    if let Some(request) = check(read, write_blob_request, bytes) {
        assert!(request.wire_bytes() <= 128 + 33 * MAX_BLOBS as u64);
    }
}

fn write_blob_request(request: BlobRequest, out: &mut Vec<u8>) -> io::Result<()> {
    at_once(BlobCodec.write_request(&SYNC_PROTOCOL, out, request))
}

fn blob_requests() -> Vec<Vec<u8>> {
    let (federation, entry) = (federation(), entries()[0].bytes().to_vec());
    let root = weights().manifest().root();
    let requests = [
        BlobRequest::Get { federation, hashes: vec![root.into(); 3] },
        BlobRequest::Holds { federation, roots: vec![root; MAX_BLOBS] },
        BlobRequest::Keep { federation, entry: entry.into() },
        BlobRequest::Fetching { federation, root, hashes: vec![root.into(); 2] },
    ];
    written(requests, write_blob_request)
}

fn blob_answer(bytes: &[u8]) {
    let read = |mut bytes: &[u8]| at_once(BlobCodec.read_response(&SYNC_PROTOCOL, &mut bytes));
    if let Some(BlobResponse::Blobs(blobs)) = check(read, write_blob_answer, bytes) {
        let lengths: Vec<usize> = blobs.iter().flatten().map(bytes::Bytes::len).collect();
        let (total, longest) = (lengths.iter().sum::<usize>(), lengths.iter().max().copied().unwrap_or_default());
        assert!(blobs.len() <= MAX_BLOBS && (total <= ANSWER_BYTES || total == longest && total <= MAX_MANIFEST_BYTES));
    }
}

fn write_blob_answer(answer: BlobResponse, out: &mut Vec<u8>) -> io::Result<()> {
    at_once(BlobCodec.write_response(&SYNC_PROTOCOL, out, answer))
}

fn blob_answers() -> Vec<Vec<u8>> {
    let blob = |bytes: &'static [u8]| -> Blob { Some(bytes.into()) };
    let answers = [
        BlobResponse::NotMember,
        BlobResponse::Noted,
        BlobResponse::Later(300),
        BlobResponse::Blobs(vec![blob(b""), None, blob(b"a chunk"), blob(b"another")]),
    ];
    let mut seeds = written(answers, write_blob_answer);
    // One of 4 GiB less 2 bytes, one of 16 MiB, of which nothing comes, and two that are too long together.
    let frame = [2, 0, 0, 0, 1, 1];
    seeds.push([&frame[..], &0xffff_fffe_u32.to_le_bytes()].concat());
    seeds.push([&frame[..], &(16_u32 << 20).to_le_bytes()].concat());
    seeds.push([&[2, 0, 0, 0, 1, 2][..], &1_u32.to_le_bytes(), b"x", &(4_u32 << 20).to_le_bytes()].concat());
    seeds
}

fn kept_bans(bytes: &[u8]) {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 31);
    let kept = bans::decode(bytes, now);
    assert!(kept.len() <= bytes.len());
    assert_eq!(bans::decode(&bans::encode(&kept, now), now), kept);
}

fn kept_ports(bytes: &[u8]) {
    let kept = Ports::decode(bytes);
    assert_eq!(Ports::decode(&kept.encode()), kept);
}

fn notes_of_ports() -> Vec<Vec<u8>> {
    vec![vec![0, 1, 1, 1, 2, 1, 2, 255, 255, 3, 0, 4]]
}

fn notes_of_bans() -> Vec<Vec<u8>> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 31);
    let ban = |seed, seconds| {
        (keypair(seed).public().to_peer_id(), Ban { left: Duration::from_secs(seconds), times: seed.into() })
    };
    vec![bans::encode(&[ban(1, 600), ban(2, 0), ban(3, u64::MAX)], now)]
}

/// Most warnings of a list, and one that says how many more there are.
fn peer_list(bytes: &[u8]) {
    if let Some(list) = told(PeerList::parse(&text(bytes), Path::new("list"))) {
        list.warnings.iter().for_each(check_told);
        assert!(list.peers.len() <= 1024 && list.warnings.len() <= 34, "{}", list.warnings.len());
    }
}

fn peer_lists() -> Vec<Vec<u8>> {
    let peer = keypair(1).public().to_peer_id();
    let address = format!("/ip4/192.0.2.1/tcp/4600/p2p/{peer}");
    vec![
        format!("# ours\n{address} # one\n/dns4/node.example/udp/4600/quic-v1/p2p/{peer}\n192.0.2.1:1\n").into_bytes(),
        format!("peers = [\n  \"{address}\", # one\n  \"/dnsaddr/x/p2p/{peer}\",\n  '''/ip4/\n''']\n").into_bytes(),
        format!("{address}\n{}", "x\n".repeat(200)).into_bytes(),
        format!("{}\n{}", "[".repeat(500), "a={".repeat(300)).into_bytes(),
    ]
}

fn peer_address(bytes: &[u8]) {
    let text = text(bytes);
    if let Some(address) = told(text.parse::<PeerAddress>()) {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
    told(listen_address(&text));
}

fn addresses() -> Vec<Vec<u8>> {
    let peer = keypair(1).public().to_peer_id();
    vec![
        format!("/ip4/192.0.2.1/tcp/4600/p2p/{peer}").into_bytes(),
        format!("/ip6/2001:db8::1/udp/4600/quic-v1/p2p/{peer}").into_bytes(),
        format!("/dnsaddr/node.example/p2p/{peer}").into_bytes(),
        b"/ip4/0.0.0.0/tcp/0".to_vec(),
        b"/nothing\n\x1b[31m/x".to_vec(),
        b"/dns/a\x1b[31m/tcp/1".to_vec(),
    ]
}

/// Addresses as identify tells them, each after its length.
fn told_addresses(bytes: &[u8]) {
    let (mut addresses, mut rest) = (Vec::new(), bytes);
    while let Some((&length, tail)) = rest.split_first() {
        let (address, tail) = tail.split_at(tail.len().min(length.into()));
        addresses.extend(Multiaddr::try_from(address.to_vec()));
        rest = tail;
    }
    for local in [false, true] {
        let used = usable(addresses.clone(), local);
        assert!(used.len() <= MAX_ADDRESSES && used.iter().map(Multiaddr::len).sum::<usize>() <= 256);
    }
}

fn encoded_addresses() -> Vec<Vec<u8>> {
    let relayed = format!("/ip4/192.0.2.1/tcp/1/p2p/{}/p2p-circuit", keypair(1).public().to_peer_id());
    let texts =
        ["/ip4/192.0.2.1/tcp/4600", "/ip6/::1/udp/4600/quic-v1", "/dns/node.example/tcp/1", &relayed, "/memory/7"];
    let encoded = texts.map(|text| text.parse::<Multiaddr>().unwrap().to_vec());
    vec![encoded.iter().flat_map(|address| [&[address.len() as u8][..], address].concat()).collect()]
}

fn status(bytes: &[u8]) {
    if let Ok(status) = serde_json::from_slice::<NetworkStatus>(bytes) {
        let _ = status.refused.total();
        let json = serde_json::to_vec(&status).unwrap();
        let again: NetworkStatus = serde_json::from_slice(&json).unwrap();
        // serde_json may read a fraction's last digit differently each time.
        assert_eq!(NetworkStatus { figures: None, ..again }, NetworkStatus { figures: None, ..status });
    }
}

fn statuses() -> Vec<Vec<u8>> {
    let peer = PeerStatus {
        peer: "somebody".to_owned(),
        name: Some("Ward 3".to_owned()),
        role: PeerRole::Member,
        address: "/ip4/192.0.2.1/tcp/1".to_owned(),
        transport: Transport::Tcp,
        way: Way::Punched,
        entries: 3,
        sent: 1,
        received: 2,
        connected_seconds: 4,
        seen_seconds_ago: 5,
    };
    let status = NetworkStatus {
        peer: "me".to_owned(),
        name: Some("ward".to_owned()),
        run: Some("1".to_owned()),
        federation: "f".to_owned(),
        listening: vec!["/ip4/192.0.2.1/tcp/1".to_owned()],
        entries: 6,
        authors: 2,
        sent: 7,
        received: 8,
        cached: 9,
        figures: Some(serde_json::json!({"training": {"epochs": 3}})),
        peers: vec![peer],
        announced: vec!["/ip4/192.0.2.1/tcp/1".to_owned()],
        sought: vec![SoughtPeer {
            peer: "another".to_owned(),
            name: None,
            reason: "refused".to_owned(),
            seconds_ago: 1,
        }],
        unread: 10,
        places: 256,
        banned: vec![],
        refused: Refusals { connections: u64::MAX, requests: 1, gossip: 1 },
        put_off: 11,
    };
    vec![serde_json::to_vec(&status).unwrap(), "[".repeat(4000).into_bytes()]
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    vec![
        Target { name: "sync-request", run: sync_request, seeds: sync_requests },
        Target { name: "sync-answer", run: sync_answer, seeds: sync_answers },
        Target { name: "blob-request", run: blob_request, seeds: blob_requests },
        Target { name: "blob-answer", run: blob_answer, seeds: blob_answers },
        Target { name: "bans", run: kept_bans, seeds: notes_of_bans },
        Target { name: "ports", run: kept_ports, seeds: notes_of_ports },
        Target { name: "peer-list", run: peer_list, seeds: peer_lists },
        Target { name: "peer-address", run: peer_address, seeds: addresses },
        Target { name: "told-addresses", run: told_addresses, seeds: encoded_addresses },
        Target { name: "status", run: status, seeds: statuses },
    ]
}
