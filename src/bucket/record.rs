//! The content of an entry's object: the signed entry, and the head of its value, which says where its chunks are.
//!
//! ```text
//! u16 length of the entry | the entry | nothing more, if it is a tombstone
//! u32 length of the manifest | the manifest
//! u32 number of packs | of each: 16 bytes of its hash, u32 length
//! of each chunk, in the manifest's order: u32 number of the pack, u32 offset in it
//! ```
//!
//! Numbers are little-endian. Only the entry is signed. The manifest must have the root that the entry names, and the
//! rest is believed only as far as the bytes it points to have the hashes that the manifest lists.

use super::{names::PackId, seal::TAG_BYTES};
use crate::weights::{CHUNK_BYTES, ChunkHash, Content, EntryError, MAX_MANIFEST_BYTES, Manifest, SignedEntry};
use std::collections::BTreeMap;

/// Most bytes of a pack: 16 MiB.
pub(crate) const PACK_BYTES: u64 = 16 << 20;
/// Most bytes of an entry's object. A manifest has 32 bytes for each chunk, what follows it at most 28.
pub(crate) const MAX_RECORD_BYTES: u64 = 3 * MAX_MANIFEST_BYTES as u64;

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    /// In which pack.
    pub(crate) pack: PackId,
    /// At which offset in it.
    pub(crate) offset: u64,
}

/// Where the chunks of a value lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) manifest: Manifest,
    /// The packs with their lengths.
    pub(crate) packs: BTreeMap<PackId, u64>,
    /// The place of each chunk, in the manifest's order.
    pub(crate) spots: Vec<Spot>,
}

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// It doesn't contain a valid entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// Too short for what it says.
    #[error("it ends early")]
    Short,
    /// What follows the entry doesn't belong to it.
    #[error("{0}")]
    Head(&'static str),
}

/// The entry of a record, verified, and what follows it.
pub(crate) fn split(record: &[u8]) -> Result<(SignedEntry, &[u8]), RecordError> {
    let (length, rest) = record.split_first_chunk::<2>().ok_or(RecordError::Short)?;
    let (entry, head) = rest.split_at_checked(u16::from_le_bytes(*length).into()).ok_or(RecordError::Short)?;
    Ok((SignedEntry::decode(entry)?, head))
}

/// The record of an entry. A tombstone has no head.
pub(crate) fn encode(entry: &SignedEntry, head: Option<&Head>) -> Vec<u8> {
    let length = u16::try_from(entry.bytes().len()).expect("an entry has at most 1,024 bytes");
    let mut record = [&length.to_le_bytes()[..], entry.bytes()].concat();
    if let Some(Head { manifest, packs, spots }) = head {
        let manifest = manifest.encode();
        let mut number = |number: usize| record.extend((number as u32).to_le_bytes());
        number(manifest.len());
        record.extend(manifest);
        record.extend((packs.len() as u32).to_le_bytes());
        for (hash, &length) in packs {
            record.extend(hash.as_bytes());
            record.extend((length as u32).to_le_bytes());
        }
        let numbers: BTreeMap<&PackId, u32> = packs.keys().zip(0..).collect();
        for spot in spots {
            record.extend(numbers[&spot.pack].to_le_bytes());
            record.extend((spot.offset as u32).to_le_bytes());
        }
    }
    record
}

impl Head {
    /// What follows an entry in its record. Bounded by its length.
    pub(crate) fn decode(entry: &SignedEntry, bytes: &[u8]) -> Result<Self, RecordError> {
        let Content::Put { root, length, .. } = entry.content else {
            return Err(RecordError::Head("a tombstone has no value"));
        };
        let mut rest = bytes;
        let manifest = take(&mut rest).and_then(|length| split_off(&mut rest, length));
        let manifest = manifest.ok_or(RecordError::Short)?;
        if manifest.len() > MAX_MANIFEST_BYTES || Manifest::root_of(manifest) != root {
            return Err(RecordError::Head("its manifest is not the one that the entry names"));
        }
        let manifest = Manifest::decode(manifest).map_err(|_| RecordError::Head("its author signed no manifest"))?;
        if manifest.layout().id() != entry.layout || manifest.layout().bytes() != length {
            return Err(RecordError::Head("its manifest is of another layout or length than its entry says"));
        }
        let count = take(&mut rest).filter(|&count| count <= manifest.chunks().len());
        let count = count.ok_or(RecordError::Head("it has more packs than chunks"))?;
        let (mut packs, mut numbered) = (BTreeMap::new(), Vec::with_capacity(count));
        for _ in 0..count {
            let (hash, tail) = rest.split_first_chunk::<16>().ok_or(RecordError::Short)?;
            rest = tail;
            let length = take(&mut rest).ok_or(RecordError::Short)? as u64;
            let hash = PackId::from_bytes(*hash);
            if length == 0 || length > PACK_BYTES || packs.insert(hash, length).is_some() {
                return Err(RecordError::Head("a pack of it can't be"));
            }
            numbered.push(hash);
        }
        let mut spots = Vec::with_capacity(manifest.chunks().len());
        for chunk in 0..manifest.chunks().len() {
            let (pack, offset) = take(&mut rest).zip(take(&mut rest)).ok_or(RecordError::Short)?;
            let pack = *numbered.get(pack).ok_or(RecordError::Head("a chunk lies in no pack of it"))?;
            let offset = offset as u64;
            if offset + manifest.plan().length(chunk) > packs[&pack] {
                return Err(RecordError::Head("a chunk lies outside of its pack"));
            }
            spots.push(Spot { pack, offset });
        }
        if !rest.is_empty() {
            return Err(RecordError::Head("something follows it"));
        }
        Ok(Self { manifest, packs, spots })
    }

    /// Where each distinct chunk lies.
    pub(crate) fn places(&self) -> BTreeMap<ChunkHash, Spot> {
        self.manifest.chunks().iter().copied().zip(self.spots.iter().copied()).collect()
    }
}

fn take(rest: &mut &[u8]) -> Option<usize> {
    let (number, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_le_bytes(*number) as usize)
}

fn split_off<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (part, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(part)
}

const _: () = assert!(PACK_BYTES >= CHUNK_BYTES + TAG_BYTES && PACK_BYTES <= u32::MAX as u64);
