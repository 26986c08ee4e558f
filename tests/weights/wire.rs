//! Every message between peers survives encoding and decoding, and rubbish is an error.

use bytes::Bytes;
use futures::{executor::block_on, io::Cursor};
use libp2p::request_response::Codec;
use peerfold::{
    entries::{BucketSet, Fingerprints, Position},
    p2p::{
        BLOB_PROTOCOL, BlobCodec, BlobRequest, BlobResponse, Item, MAX_BLOBS, MAX_ITEMS, MAX_NAMED, SYNC_PROTOCOL,
        SYNC_PROTOCOL_2, SyncCodec, SyncRequest, SyncResponse,
    },
    weights::{BlobHash, Digest, FederationId, MAX_ENTRY_BYTES, MAX_MANIFEST_BYTES, Root},
};
use proptest::{collection::vec, option, prelude::*};

fn hash() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 32]>()
}

fn position() -> impl Strategy<Value = Option<Position>> {
    option::of((any::<u8>(), "[a-zA-Z0-9/]{0,128}").prop_map(|(bucket, text)| Position { bucket, text }))
}

fn item() -> impl Strategy<Value = Item> {
    let entry = || vec(any::<u8>(), 0..=MAX_ENTRY_BYTES);
    prop_oneof![
        entry().prop_map(Item::Entry),
        (entry(), entry()).prop_map(|(first, second)| Item::Proof([first, second]))
    ]
}

fn sync_request() -> impl Strategy<Value = SyncRequest> {
    let federation = || hash().prop_map(FederationId::from_bytes);
    prop_oneof![
        (federation(), hash())
            .prop_map(|(federation, digest)| SyncRequest::Compare { federation, digest: Digest::from_bytes(digest) }),
        (federation(), hash(), position()).prop_map(|(federation, buckets, after)| SyncRequest::Items {
            federation,
            buckets: BucketSet(buckets),
            after
        }),
        (federation(), vec(any::<u8>(), 0..=MAX_ENTRY_BYTES), vec(any::<u8>(), 0..=MAX_ENTRY_BYTES))
            .prop_map(|(federation, first, second)| SyncRequest::Proof { federation, entries: [first, second] }),
        (federation(), hash(), position(), vec(any::<[u8; 8]>(), 0..=MAX_NAMED)).prop_map(
            |(federation, buckets, after, named)| SyncRequest::Others {
                federation,
                buckets: BucketSet(buckets),
                after,
                named
            }
        ),
    ]
}

fn sync_response() -> impl Strategy<Value = SyncResponse> {
    prop_oneof![
        Just(SyncResponse::NotMember),
        Just(SyncResponse::Same),
        vec(any::<[u8; 16]>(), 256)
            .prop_map(|prints| SyncResponse::Differs(Fingerprints(prints.into_boxed_slice().try_into().unwrap()))),
        (vec(item(), 0..=MAX_ITEMS), position()).prop_map(|(items, next)| SyncResponse::Items { items, next }),
    ]
}

fn blob_request() -> impl Strategy<Value = BlobRequest> {
    let federation = || hash().prop_map(FederationId::from_bytes);
    let hashes = || vec(hash(), 0..=MAX_BLOBS);
    prop_oneof![
        (federation(), hashes()).prop_map(|(federation, hashes)| BlobRequest::Get {
            federation,
            hashes: hashes.into_iter().map(BlobHash::from_bytes).collect()
        }),
        (federation(), hashes()).prop_map(|(federation, roots)| BlobRequest::Holds {
            federation,
            roots: roots.into_iter().map(Root::from_bytes).collect()
        }),
        (federation(), vec(any::<u8>(), 0..=MAX_ENTRY_BYTES))
            .prop_map(|(federation, entry)| BlobRequest::Keep { federation, entry: entry.into() }),
        (federation(), hash(), hashes()).prop_map(|(federation, root, hashes)| BlobRequest::Fetching {
            federation,
            root: Root::from_bytes(root),
            hashes: hashes.into_iter().map(BlobHash::from_bytes).collect()
        }),
    ]
}

fn blob_response() -> impl Strategy<Value = BlobResponse> {
    prop_oneof![
        Just(BlobResponse::NotMember),
        Just(BlobResponse::Noted),
        any::<u32>().prop_map(BlobResponse::Later),
        vec(option::of(vec(any::<u8>(), 0..5000).prop_map(Bytes::from)), 0..=MAX_BLOBS).prop_map(BlobResponse::Blobs),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sync_comes_through(request in sync_request(), response in sync_response(), cut in any::<prop::sample::Index>()) {
        block_on(async {
            let mut written = Vec::new();
            SyncCodec.write_request(&SYNC_PROTOCOL_2, &mut written, request.clone()).await.unwrap();
            assert_eq!(SyncCodec.read_request(&SYNC_PROTOCOL_2, &mut Cursor::new(&written)).await.unwrap(), request);
            let cut_off = &written[..cut.index(written.len())];
            assert!(SyncCodec.read_request(&SYNC_PROTOCOL_2, &mut Cursor::new(cut_off)).await.is_err());
            let mut written = Vec::new();
            SyncCodec.write_response(&SYNC_PROTOCOL, &mut written, response.clone()).await.unwrap();
            assert_eq!(SyncCodec.read_response(&SYNC_PROTOCOL, &mut Cursor::new(&written)).await.unwrap(), response);
            let cut_off = &written[..cut.index(written.len())];
            assert!(SyncCodec.read_response(&SYNC_PROTOCOL, &mut Cursor::new(cut_off)).await.is_err());
        });
    }

    #[test]
    fn blobs_come_through(request in blob_request(), response in blob_response(), cut in any::<prop::sample::Index>()) {
        block_on(async {
            let mut written = Vec::new();
            BlobCodec.write_request(&BLOB_PROTOCOL, &mut written, request.clone()).await.unwrap();
            assert_eq!(BlobCodec.read_request(&BLOB_PROTOCOL, &mut Cursor::new(&written)).await.unwrap(), request);
            let mut written = Vec::new();
            BlobCodec.write_response(&BLOB_PROTOCOL, &mut written, response.clone()).await.unwrap();
            assert_eq!(BlobCodec.read_response(&BLOB_PROTOCOL, &mut Cursor::new(&written)).await.unwrap(), response);
            let cut_off = &written[..cut.index(written.len())];
            assert!(BlobCodec.read_response(&BLOB_PROTOCOL, &mut Cursor::new(cut_off)).await.is_err());
        });
    }

    #[test]
    fn rubbish_is_an_error_or_a_message_but_no_panic(bytes in vec(any::<u8>(), 0..300), length in 0..400u32) {
        block_on(async {
            for bytes in [bytes.clone(), [&length.to_le_bytes()[..], &bytes].concat()] {
                let _ = SyncCodec.read_request(&SYNC_PROTOCOL, &mut Cursor::new(&bytes)).await;
                let _ = SyncCodec.read_response(&SYNC_PROTOCOL, &mut Cursor::new(&bytes)).await;
                let _ = BlobCodec.read_request(&BLOB_PROTOCOL, &mut Cursor::new(&bytes)).await;
                let _ = BlobCodec.read_response(&BLOB_PROTOCOL, &mut Cursor::new(&bytes)).await;
            }
        });
    }
}

#[test]
fn a_peer_of_the_first_version_is_asked_for_all_that_it_has() {
    let (federation, buckets) = (FederationId::from_bytes([1; 32]), BucketSet::ALL);
    let after = Some(Position { bucket: 3, text: "a".to_owned() });
    let items = SyncRequest::Items { federation, buckets, after: after.clone() };
    let others = |count| SyncRequest::Others { federation, buckets, after: after.clone(), named: vec![[2; 8]; count] };
    let passed_on = |protocol, request| {
        let mut written = Vec::new();
        block_on(SyncCodec.write_request(&protocol, &mut written, request)).unwrap();
        block_on(SyncCodec.read_request(&protocol, &mut Cursor::new(&written)))
    };
    assert_eq!(passed_on(SYNC_PROTOCOL, others(2)).unwrap(), items);
    assert_eq!(passed_on(SYNC_PROTOCOL_2, others(MAX_NAMED)).unwrap(), others(MAX_NAMED));
    let error = passed_on(SYNC_PROTOCOL_2, others(MAX_NAMED + 1)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn bytes_left_over_in_a_frame_are_refused() {
    // Compare with all that it has, and Same, each with one byte more.
    let frame = |message: &[u8]| [&(message.len() as u32).to_le_bytes(), message].concat();
    let compare = [&[0][..], &[7; 64]].concat();
    for (message, refused) in [(compare.clone(), false), ([&compare[..], &[0]].concat(), true)] {
        let read = block_on(SyncCodec.read_request(&SYNC_PROTOCOL, &mut Cursor::new(frame(&message))));
        assert_eq!(read.is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidData), refused);
    }
    for (message, refused) in [(&[1][..], false), (&[1, 0], true), (&[1, 1, 2, 3], true)] {
        let read = block_on(SyncCodec.read_response(&SYNC_PROTOCOL, &mut Cursor::new(frame(message))));
        assert_eq!(read.is_err_and(|error| error.kind() == std::io::ErrorKind::InvalidData), refused);
    }
}

#[test]
fn lengths_over_a_limit_are_refused_before_anything_is_read() {
    block_on(async {
        for length in [1 << 20, u32::MAX - 1, u32::MAX] {
            let frame = length.to_le_bytes();
            let error = SyncCodec.read_request(&SYNC_PROTOCOL, &mut Cursor::new(frame)).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
            let error = BlobCodec.read_request(&BLOB_PROTOCOL, &mut Cursor::new(frame)).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        }
        // One blob of an answer may be a manifest; more of that length are too much, and so is a longer one.
        let answer = |lengths: &[usize]| {
            let mut bytes = vec![2, 0, 0, 0, 1, lengths.len() as u8];
            for length in lengths {
                bytes.extend_from_slice(&(*length as u32).to_le_bytes());
                bytes.extend(std::iter::repeat_n(0, if *length <= MAX_MANIFEST_BYTES { *length } else { 0 }));
            }
            bytes
        };
        let read = async |bytes: Vec<u8>| BlobCodec.read_response(&BLOB_PROTOCOL, &mut Cursor::new(bytes)).await;
        assert!(read(answer(&[MAX_MANIFEST_BYTES])).await.is_ok());
        for lengths in [&[MAX_MANIFEST_BYTES + 1][..], &[1, MAX_MANIFEST_BYTES], &[3 << 20, 3 << 20]] {
            let error = read(answer(lengths)).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{lengths:?}");
        }
    });
}
