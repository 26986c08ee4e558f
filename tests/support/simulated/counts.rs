//! What is counted of a simulation: messages and bytes by their kind, and when an update was known to whom.

use super::Request;
use peerfold::{
    p2p::{Blob, BlobRequest, Item, SyncRequest, SyncResponse},
    weights::EntryHash,
};
use std::{collections::BTreeMap, time::Duration};

/// What messages are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Entries by gossip.
    Gossip,
    /// Gossipsub's own: which messages there are (IHAVE), and which are wanted of those (IWANT).
    Control,
    /// Requests and answers of sync.
    Sync,
    /// Requests and answers of blobs.
    Blobs,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Gossip, Self::Control, Self::Sync, Self::Blobs];
}

/// A topic's name on the wire, which comes with each message and control message.
pub const TOPIC: u64 = 66;
/// A message id on the wire.
pub const ID: u64 = 34;
/// A frame of Yamux, the tag and length of Noise: what each message costs besides its own bytes.
pub const FRAMING: u64 = 12 + 18;
/// A stream that is opened, negotiated and closed, both ways: two Yamux headers, two times multistream's header and the
/// name of a protocol.
pub const STREAM: u64 = 24 + 2 * (20 + 20);

/// Messages and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub messages: u64,
    pub bytes: u64,
}

/// What all nodes have sent, by kind.
#[derive(Debug, Clone, Default)]
pub struct Counts(BTreeMap<Kind, Count>);

impl Counts {
    pub fn sent(&mut self, kind: Kind, bytes: u64) {
        let count = self.0.entry(kind).or_default();
        count.messages += 1;
        count.bytes += bytes;
    }

    pub fn of(&self, kind: Kind) -> Count {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    pub fn all(&self) -> Count {
        self.0.values().fold(Count::default(), |sum, count| Count {
            messages: sum.messages + count.messages,
            bytes: sum.bytes + count.bytes,
        })
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

pub fn kind_of(request: &Request) -> Kind {
    match request {
        Request::Sync(_) => Kind::Sync,
        Request::Blobs(_) => Kind::Blobs,
    }
}

fn text(text: &str) -> u64 {
    text.len() as u64 + 2
}

/// The length of a request, as it is written.
pub fn request_bytes(request: &Request) -> u64 {
    let own = match request {
        Request::Sync(SyncRequest::Compare { .. }) => 69,
        Request::Sync(SyncRequest::Items { after, .. }) => 70 + after.as_ref().map_or(0, |after| 1 + text(&after.text)),
        Request::Sync(SyncRequest::Others { after, named, .. }) => {
            72 + after.as_ref().map_or(0, |after| 1 + text(&after.text)) + 8 * named.len() as u64
        }
        Request::Sync(SyncRequest::Proof { entries, .. }) => {
            37 + entries.iter().map(|entry| entry.len() as u64 + 2).sum::<u64>()
        }
        Request::Blobs(BlobRequest::Get { hashes, .. }) => 38 + 32 * hashes.len() as u64,
        Request::Blobs(BlobRequest::Holds { roots, .. }) => 38 + 32 * roots.len() as u64,
        Request::Blobs(BlobRequest::Keep { entry, .. }) => 39 + entry.len() as u64,
        Request::Blobs(BlobRequest::Fetching { hashes, .. }) => 70 + 32 * hashes.len() as u64,
    };
    own + FRAMING + STREAM
}

/// The length of an answer, as it is written.
pub fn sync_answer_bytes(answer: &SyncResponse) -> u64 {
    let item = |item: &Item| match item {
        Item::Entry(entry) => entry.len() as u64 + 3,
        Item::Proof(entries) => entries.iter().map(|entry| entry.len() as u64 + 2).sum::<u64>() + 1,
    };
    let own = match answer {
        SyncResponse::NotMember | SyncResponse::Same => 5,
        SyncResponse::Differs(_) => 4103,
        SyncResponse::Items { items, next } => {
            let next = next.as_ref().map_or(0, |next| 1 + text(&next.text));
            8 + next + items.iter().map(item).sum::<u64>()
        }
    };
    own + FRAMING
}

/// The length of an answer, as it is written: a frame of Noise has 64 KiB.
pub fn blob_answer_bytes(blobs: &[Blob]) -> u64 {
    let own = 6 + blobs.iter().map(|blob| 4 + blob.as_ref().map_or(0, |blob| blob.len() as u64)).sum::<u64>();
    own + FRAMING * (1 + own / (1 << 16))
}

/// An update that was published, and who has heard of it when.
pub struct News {
    pub author: usize,
    pub at: Duration,
    /// By node; the author and who doesn't want it aside.
    heard: BTreeMap<usize, Duration>,
}

/// All that were published while somebody was counting.
#[derive(Default)]
pub struct AllNews {
    by_hash: BTreeMap<EntryHash, usize>,
    all: Vec<News>,
}

impl AllNews {
    pub fn published(&mut self, entry: EntryHash, author: usize, at: Duration) {
        self.by_hash.insert(entry, self.all.len());
        self.all.push(News { author, at, heard: BTreeMap::new() });
    }

    pub fn heard(&mut self, entry: &EntryHash, node: usize, now: Duration) {
        if let Some(&at) = self.by_hash.get(entry) {
            self.all[at].heard.entry(node).or_insert(now);
        }
    }

    /// What a node hasn't heard of.
    pub fn unheard_by(&self, node: usize) -> Vec<EntryHash> {
        let unheard = |at: usize| self.all[at].author != node && !self.all[at].heard.contains_key(&node);
        self.by_hash.iter().filter(|(_, at)| unheard(**at)).map(|(hash, _)| *hash).collect()
    }

    /// How long it took until so large a part of all who want an update knew it, over all updates; `None` if that many
    /// don't know. `wanting` is how many want each.
    pub fn known_after(&self, part: f64, wanting: usize) -> Option<Duration> {
        let mut delays: Vec<Duration> =
            self.all.iter().flat_map(|news| news.heard.values().map(|heard| *heard - news.at)).collect();
        delays.sort();
        let wanted = (part * (self.all.len() * wanting) as f64).ceil() as usize;
        delays.get(wanted.checked_sub(1)?).copied()
    }

    /// How many have heard of an update, in the mean.
    pub fn heard_by(&self) -> usize {
        self.all.iter().map(|news| news.heard.len()).sum::<usize>() / self.all.len().max(1)
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }
}
