//! The encoding of messages: `/peerfold/sync/2`, `/peerfold/sync/1` and `/peerfold/blob/1`.
//!
//! A frame is a length (4 bytes, little-endian) and postcard. Blobs follow raw, each after its length, so that a chunk is
//! neither copied nor encoded. Every length is checked before anything of it is read.

use super::{
    message::{Blob, BlobRequest, BlobResponse, Item, MAX_BLOBS, MAX_ITEMS, MAX_NAMED, SyncRequest, SyncResponse},
    protocols::SYNC_PROTOCOL,
};
use crate::{
    entries::{Fingerprints, Position},
    weights::{MAX_ENTRY_BYTES, MAX_MANIFEST_BYTES},
};
use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response::Codec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io;

/// Longest request: hashes of blobs, a position in the order of keys, or two entries.
const MAX_REQUEST: usize = 64 + 33 * MAX_BLOBS;
const _: () = assert!(MAX_REQUEST >= 64 + 2 * (MAX_ENTRY_BYTES + 2));
/// Longest request of sync: the same, and names of items.
const MAX_SYNC_REQUEST: usize = MAX_REQUEST + 8 * MAX_NAMED;
/// Longest answer of sync: a page of proofs.
const MAX_SYNC_ANSWER: usize = 512 + MAX_ITEMS * (2 * MAX_ENTRY_BYTES + 8);
/// Most bytes of blobs in an answer, unless it is a single blob. The asked peer leaves the rest out.
pub(super) const ANSWER_BYTES: usize = 4 << 20;
/// How much of a blob is read at a time. Announcing a length must not allocate more memory than sending the bytes does.
const STEP: usize = 1 << 20;
/// The length of a blob that isn't there.
const NONE: u32 = u32::MAX;

/// Reads and writes sync.
#[derive(Debug, Clone, Copy, Default)]
pub struct SyncCodec;

/// Reads and writes blobs.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlobCodec;

#[derive(Serialize, Deserialize)]
enum SyncAnswer {
    NotMember,
    Same,
    Differs(Vec<u8>),
    Items { items: Vec<Item>, next: Option<Position> },
}

#[derive(Serialize, Deserialize)]
enum BlobAnswer {
    NotMember,
    Blobs(u32),
    Noted,
    Later(u32),
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

async fn read_frame<M: DeserializeOwned>(io: &mut (impl AsyncRead + Unpin + Send), limit: usize) -> io::Result<M> {
    let length = read_length(io).await? as usize;
    if length > limit {
        return Err(malformed("a message over its limit"));
    }
    let mut frame = vec![0; length];
    io.read_exact(&mut frame).await?;
    // What is left over isn't of this version, which would be another protocol.
    match postcard::take_from_bytes(&frame) {
        Ok((message, [])) => Ok(message),
        _ => Err(malformed("a malformed message")),
    }
}

async fn read_length(io: &mut (impl AsyncRead + Unpin + Send)) -> io::Result<u32> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    Ok(u32::from_le_bytes(length))
}

async fn write_frame<M: Serialize + Sync>(io: &mut (impl AsyncWrite + Unpin + Send), message: &M) -> io::Result<()> {
    let encoded = postcard::to_stdvec(message).map_err(io::Error::other)?;
    // One write, so that a small message is one packet.
    let mut frame = Vec::with_capacity(4 + encoded.len());
    frame.extend_from_slice(&(encoded.len() as u32).to_le_bytes());
    frame.extend_from_slice(&encoded);
    io.write_all(&frame).await
}

async fn read_blob(io: &mut (impl AsyncRead + Unpin + Send), length: usize) -> io::Result<Bytes> {
    let mut blob = Vec::with_capacity(length.min(STEP));
    while blob.len() < length {
        let read = blob.len();
        blob.resize(length.min(read + STEP), 0);
        io.read_exact(&mut blob[read..]).await?;
    }
    Ok(blob.into())
}

impl Codec for SyncCodec {
    type Protocol = StreamProtocol;
    type Request = SyncRequest;
    type Response = SyncResponse;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<SyncRequest>
    where
        T: AsyncRead + Unpin + Send,
    {
        match read_frame(io, MAX_SYNC_REQUEST).await? {
            SyncRequest::Others { named, .. } if named.len() > MAX_NAMED => Err(malformed("too many items are named")),
            request => Ok(request),
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<SyncResponse>
    where
        T: AsyncRead + Unpin + Send,
    {
        Ok(match read_frame(io, MAX_SYNC_ANSWER).await? {
            SyncAnswer::NotMember => SyncResponse::NotMember,
            SyncAnswer::Same => SyncResponse::Same,
            SyncAnswer::Differs(bytes) => {
                let (buckets, rest) = bytes.as_chunks::<16>();
                let fingerprints = <Box<[[u8; 16]; 256]>>::try_from(buckets.to_vec().into_boxed_slice());
                let fingerprints = fingerprints.ok().filter(|_| rest.is_empty());
                SyncResponse::Differs(Fingerprints(fingerprints.ok_or_else(|| malformed("not 256 fingerprints"))?))
            }
            SyncAnswer::Items { items, next } if items.len() <= MAX_ITEMS => SyncResponse::Items { items, next },
            SyncAnswer::Items { .. } => return Err(malformed("too many items in a page")),
        })
    }

    async fn write_request<T>(&mut self, protocol: &StreamProtocol, io: &mut T, request: SyncRequest) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let request = match request {
            // The peer is of an earlier version, and gives what is named as well.
            SyncRequest::Others { federation, buckets, after, .. } if *protocol == SYNC_PROTOCOL => {
                SyncRequest::Items { federation, buckets, after }
            }
            request => request,
        };
        write_frame(io, &request).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: SyncResponse) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let answer = match response {
            SyncResponse::NotMember => SyncAnswer::NotMember,
            SyncResponse::Same => SyncAnswer::Same,
            SyncResponse::Differs(fingerprints) => SyncAnswer::Differs(fingerprints.0.as_flattened().to_vec()),
            SyncResponse::Items { items, next } => SyncAnswer::Items { items, next },
        };
        write_frame(io, &answer).await
    }
}

impl Codec for BlobCodec {
    type Protocol = StreamProtocol;
    type Request = BlobRequest;
    type Response = BlobResponse;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<BlobRequest>
    where
        T: AsyncRead + Unpin + Send,
    {
        let request = read_frame(io, MAX_REQUEST).await?;
        let asked = match &request {
            BlobRequest::Get { hashes, .. } => hashes.len(),
            BlobRequest::Holds { roots, .. } => roots.len(),
            BlobRequest::Fetching { hashes, .. } => hashes.len(),
            BlobRequest::Keep { .. } => 0,
        };
        if asked <= MAX_BLOBS { Ok(request) } else { Err(malformed("too many hashes in a request")) }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<BlobResponse>
    where
        T: AsyncRead + Unpin + Send,
    {
        let count = match read_frame(io, 16).await? {
            BlobAnswer::NotMember => return Ok(BlobResponse::NotMember),
            BlobAnswer::Noted => return Ok(BlobResponse::Noted),
            BlobAnswer::Later(seconds) => return Ok(BlobResponse::Later(seconds)),
            BlobAnswer::Blobs(count) => count as usize,
        };
        if count > MAX_BLOBS {
            return Err(malformed("too many blobs in an answer"));
        }
        let mut blobs: Vec<Blob> = Vec::with_capacity(count);
        let mut total = 0;
        for _ in 0..count {
            let length = match read_length(io).await? {
                NONE => {
                    blobs.push(None);
                    continue;
                }
                length => length as usize,
            };
            total += length;
            let limit = if total == length { MAX_MANIFEST_BYTES } else { ANSWER_BYTES };
            if total > limit {
                return Err(malformed("an answer over its limit"));
            }
            blobs.push(Some(read_blob(io, length).await?));
        }
        Ok(BlobResponse::Blobs(blobs))
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: BlobRequest) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &request).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: BlobResponse) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let blobs = match response {
            BlobResponse::NotMember => return write_frame(io, &BlobAnswer::NotMember).await,
            BlobResponse::Noted => return write_frame(io, &BlobAnswer::Noted).await,
            BlobResponse::Later(seconds) => return write_frame(io, &BlobAnswer::Later(seconds)).await,
            BlobResponse::Blobs(blobs) => blobs,
        };
        write_frame(io, &BlobAnswer::Blobs(blobs.len() as u32)).await?;
        for blob in blobs {
            let length = blob.as_ref().map_or(NONE, |blob| blob.len() as u32);
            io.write_all(&length.to_le_bytes()).await?;
            if let Some(blob) = blob {
                io.write_all(&blob).await?;
            }
        }
        Ok(())
    }
}

/// The approximate size of a message on the wire, for the figures that people see.
pub(super) trait WireBytes {
    fn wire_bytes(&self) -> u64;
}

impl WireBytes for SyncRequest {
    fn wire_bytes(&self) -> u64 {
        match self {
            Self::Compare { .. } => 69,
            Self::Items { after, .. } => 70 + after.as_ref().map_or(0, |position| position.text.len() as u64 + 2),
            Self::Others { after, named, .. } => {
                72 + after.as_ref().map_or(0, |position| position.text.len() as u64 + 2) + 8 * named.len() as u64
            }
            Self::Proof { entries, .. } => 37 + entries.iter().map(|entry| entry.len() as u64 + 2).sum::<u64>(),
        }
    }
}

impl WireBytes for SyncResponse {
    fn wire_bytes(&self) -> u64 {
        match self {
            Self::NotMember | Self::Same => 5,
            Self::Differs(_) => 4103,
            Self::Items { items, .. } => items.iter().fold(8, |sum, item| {
                sum + match item {
                    Item::Entry(entry) => entry.len() as u64 + 3,
                    Item::Proof(entries) => entries.iter().map(|entry| entry.len() as u64 + 2).sum::<u64>() + 1,
                }
            }),
        }
    }
}

impl WireBytes for BlobRequest {
    fn wire_bytes(&self) -> u64 {
        let asked = match self {
            Self::Get { hashes, .. } => hashes.len(),
            Self::Holds { roots, .. } => roots.len(),
            Self::Keep { entry, .. } => return 38 + entry.len() as u64,
            Self::Fetching { hashes, .. } => hashes.len() + 1,
        };
        38 + 32 * asked as u64
    }
}

impl WireBytes for BlobResponse {
    fn wire_bytes(&self) -> u64 {
        match self {
            Self::NotMember | Self::Noted => 5,
            Self::Later(_) => 6,
            Self::Blobs(blobs) => {
                6 + blobs.iter().map(|blob| 4 + blob.as_ref().map_or(0, |blob| blob.len() as u64)).sum::<u64>()
            }
        }
    }
}
