//! What hides a federation's objects in a bucket from who doesn't have its secret: their names, and what is in them.
//!
//! An object's bytes are encrypted with XChaCha20-Poly1305, records whole and packs chunk by chunk, so that a chunk can
//! be read by itself. No nonce is drawn. Each is a keyed hash of all that it encrypts: of a record's name and bytes, of
//! a chunk's holder and hash. So what is written twice is the same bytes, which the uploader depends on, and two
//! different texts never share a nonce, whatever becomes of a node's disk or its random numbers. A record also names its
//! object, and a chunk is found by the hash that its author signed, so nothing passes for anything else.
//!
//! ```text
//! a record: 24 bytes of the nonce | the record, encrypted | 16 bytes of the tag
//! a chunk in a pack: the chunk, encrypted | 16 bytes of the tag
//! a name: 12 bytes of a keyed hash of the name | the name, encrypted with a key stream that follows from them; base32
//! ```
//!
//! What remains to be seen: how many objects there are, how large they are, when they are written, and by which keys of
//! the store.

use crate::{
    pasted::{base32, from_base32},
    secret::Secret,
    weights::{ChunkHash, FederationId},
};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use libp2p_identity::PeerId;

/// Bytes that a sealed chunk is longer than the chunk.
pub(crate) const TAG_BYTES: u64 = 16;
const NONCE_BYTES: usize = 24;
const NAME_TAG_BYTES: usize = 12;

/// The keys for one federation's objects.
pub(crate) struct Seal {
    place: String,
    check: String,
    name_tags: [u8; 32],
    name_streams: [u8; 32],
    record_nonces: [u8; 32],
    records: XChaCha20Poly1305,
    chunk_nonces: [u8; 32],
    chunks: XChaCha20Poly1305,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn nonce(key: &[u8; 32], of: &[&[u8]]) -> XNonce {
    let mut hasher = blake3::Hasher::new_keyed(key);
    for part in of {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *XNonce::from_slice(&hasher.finalize().as_bytes()[..NONCE_BYTES])
}

impl Seal {
    pub(crate) fn new(secret: &Secret, federation: FederationId) -> Self {
        let key = |context| secret.derive(context, federation.as_bytes());
        Self {
            place: hex(&key("peerfold 2026 bucket place v1")[..8]),
            check: hex(&secret.derive("peerfold 2026 bucket check v1", &[])),
            name_tags: key("peerfold 2026 bucket name tags v1"),
            name_streams: key("peerfold 2026 bucket name streams v1"),
            record_nonces: key("peerfold 2026 bucket record nonces v1"),
            records: XChaCha20Poly1305::new(&key("peerfold 2026 bucket records v1").into()),
            chunk_nonces: key("peerfold 2026 bucket chunk nonces v1"),
            chunks: XChaCha20Poly1305::new(&key("peerfold 2026 bucket chunks v1").into()),
        }
    }

    /// Under which name the federation's objects lie.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// What shows other nodes whether they have the same secret, and tells nothing of it.
    pub(crate) fn check(&self) -> &str {
        &self.check
    }

    fn name_stream(&self, tag: &[u8], bytes: &mut [u8]) {
        let mut stream = vec![0; bytes.len()];
        blake3::Hasher::new_keyed(&self.name_streams).update(tag).finalize_xof().fill(&mut stream);
        bytes.iter_mut().zip(stream).for_each(|(byte, key)| *byte ^= key);
    }

    /// A name, sealed. Equal names are equal sealed, too.
    pub(crate) fn name(&self, name: &[u8]) -> String {
        let hash = blake3::keyed_hash(&self.name_tags, name);
        let tag = &hash.as_bytes()[..NAME_TAG_BYTES];
        let mut sealed = [tag, name].concat();
        self.name_stream(tag, &mut sealed[NAME_TAG_BYTES..]);
        base32(&sealed)
    }

    /// The name that was sealed so; `None` if none was.
    pub(crate) fn open_name(&self, text: &str) -> Option<Vec<u8>> {
        let mut sealed = from_base32(text)?;
        if sealed.len() < NAME_TAG_BYTES {
            return None;
        }
        let mut name = sealed.split_off(NAME_TAG_BYTES);
        self.name_stream(&sealed, &mut name);
        if blake3::keyed_hash(&self.name_tags, &name).as_bytes()[..NAME_TAG_BYTES] == *sealed {
            Some(name)
        } else {
            None
        }
    }

    /// A record for the object of this sealed name.
    pub(crate) fn record(&self, name: &str, record: &[u8]) -> Vec<u8> {
        let nonce = nonce(&self.record_nonces, &[name.as_bytes(), record]);
        let payload = Payload { msg: record, aad: name.as_bytes() };
        let sealed = self.records.encrypt(&nonce, payload).expect("a record is shorter than 256 GiB");
        [nonce.as_slice(), &sealed].concat()
    }

    /// The record in the object of this sealed name; `None` if it is not as it was sealed.
    pub(crate) fn open_record(&self, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES)?;
        self.records.decrypt(XNonce::from_slice(nonce), Payload { msg: sealed, aad: name.as_bytes() }).ok()
    }

    /// A chunk for one of this node's packs.
    pub(crate) fn chunk(&self, holder: PeerId, hash: ChunkHash, chunk: &[u8]) -> Vec<u8> {
        let nonce = nonce(&self.chunk_nonces, &[&holder.to_bytes(), hash.as_bytes()]);
        self.chunks.encrypt(&nonce, chunk).expect("a chunk is shorter than 256 GiB")
    }

    /// A chunk from one of this node's packs; `None` if it is not as it was sealed.
    pub(crate) fn open_chunk(&self, holder: PeerId, hash: ChunkHash, sealed: &[u8]) -> Option<Vec<u8>> {
        let nonce = nonce(&self.chunk_nonces, &[&holder.to_bytes(), hash.as_bytes()]);
        self.chunks.decrypt(&nonce, sealed).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use libp2p_identity::Keypair;

    fn seal(secret: u8) -> Seal {
        Seal::new(&Secret::from_bytes([secret; 32]), FederationId::new("ward", "1"))
    }

    #[test]
    fn only_the_same_secret_opens_and_only_what_was_not_changed() {
        let (ours, theirs) = (seal(1), seal(2));
        let peer = |n| Keypair::ed25519_from_bytes([n; 32]).unwrap().public().to_peer_id();
        let (holder, chunk) = (peer(1), vec![7; 1000]);
        let hash = ChunkHash::of(&chunk);

        let name = ours.name(b"update.7");
        assert_eq!(ours.open_name(&name).unwrap(), b"update.7");
        assert_eq!(theirs.open_name(&name), None);
        let record = ours.record(&name, b"an entry");
        assert_eq!(ours.open_record(&name, &record).unwrap(), b"an entry");
        assert_eq!(theirs.open_record(&name, &record), None);
        // In another object's place.
        assert_eq!(ours.open_record(&ours.name(b"update.8"), &record), None);
        let sealed = ours.chunk(holder, hash, &chunk);
        assert_eq!(sealed.len() as u64, chunk.len() as u64 + TAG_BYTES);
        assert_eq!(ours.open_chunk(holder, hash, &sealed).unwrap(), chunk);
        assert_eq!(theirs.open_chunk(holder, hash, &sealed), None);
        assert_eq!(ours.open_chunk(peer(2), hash, &sealed), None);
        assert_eq!(ours.open_chunk(holder, ChunkHash::of(b"other"), &sealed), None);

        for at in 0..record.len() {
            let mut changed = record.clone();
            changed[at] ^= 1;
            assert_eq!(ours.open_record(&name, &changed), None, "{at}");
        }
        for end in 0..record.len() {
            assert_eq!(ours.open_record(&name, &record[..end]), None, "{end}");
        }
        for at in 0..name.len() {
            let mut changed = name.clone().into_bytes();
            changed[at] = if changed[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(ours.open_name(std::str::from_utf8(&changed).unwrap()), None, "{at}");
        }
    }

    #[test]
    fn what_is_sealed_twice_is_the_same_and_shows_nothing() {
        let seal = seal(1);
        let (name, record) = (b"00000000000000000012.update.7".as_slice(), [3; 200]);
        let sealed = seal.name(name);
        assert_eq!(sealed, seal.name(name));
        assert_eq!(seal.record(&sealed, &record), seal.record(&sealed, &record));
        assert!(!sealed.contains("update"));
        // No run of equal bytes is left.
        assert!(!seal.record(&sealed, &record).windows(4).any(|four| four.iter().all(|byte| *byte == four[0])));
        assert_ne!(seal.place(), Seal::new(&Secret::from_bytes([1; 32]), FederationId::new("ward", "2")).place());
        // It is of the secret alone, so that it tells nobody which federation this is.
        assert_eq!(seal.check(), Seal::new(&Secret::from_bytes([1; 32]), FederationId::new("x", "2")).check());
    }
}
