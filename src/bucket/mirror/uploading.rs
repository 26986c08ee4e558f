//! What a node writes to a bucket: how a value's chunks go into packs, what stands after each write, and which of its own
//! objects can go.

use super::{
    super::{
        names::{EntryName, Name, PackId},
        record::{Head, PACK_BYTES, Spot},
    },
    Mark, Mirror, Pack, Placed,
    own_object::{Own, Written},
};
use crate::{
    entries::EntrySet,
    weights::{ChunkHash, EntryHash, Manifest, SignedEntry},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// What to write of a value that isn't in the bucket yet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The chunks of each new pack, by their numbers in the manifest, in the pack's order.
    pub(crate) packs: Vec<Vec<usize>>,
}

impl Mirror {
    /// What must be written before an entry of this value: each distinct chunk that isn't in one of our packs, in packs
    /// of at most [`PACK_BYTES`].
    pub(crate) fn plan(&self, set: &EntrySet, manifest: &Manifest) -> Plan {
        let (mut known, mut packs, mut filled) = (self.places(set), Vec::<Vec<usize>>::new(), PACK_BYTES);
        for (number, &chunk) in manifest.chunks().iter().enumerate() {
            // The first of equal chunks.
            let new = Spot { pack: PackId::from_bytes([0; 16]), offset: 0 };
            if known.contains_key(&chunk) || known.insert(chunk, new).is_some() {
                continue;
            }
            let length = manifest.plan().length(number) + self.overhead;
            if filled + length > PACK_BYTES {
                packs.push(Vec::new());
                filled = 0;
            }
            filled += length;
            packs.last_mut().expect("one was pushed").push(number);
        }
        Plan { packs }
    }

    /// Which chunk is where in our own packs. Packs that were found in the bucket count only if current entries need
    /// them: somebody may have changed one that nobody needs, and it must not be used again.
    fn places(&self, set: &EntrySet) -> BTreeMap<ChunkHash, Spot> {
        let standing = self.placed.iter().filter(|(entry, _)| set.holds(entry));
        let needed: BTreeSet<&PackId> = standing.flat_map(|(_, placed)| &placed.packs).collect();
        let of_pack = |(&pack, held): (&PackId, &Pack)| {
            held.chunks.iter().map(move |(&chunk, &offset)| (chunk, Spot { pack, offset })).collect::<Vec<_>>()
        };
        self.packs.iter().filter(|(hash, pack)| !pack.found || needed.contains(hash)).flat_map(of_pack).collect()
    }

    /// A pack is in the bucket, with these chunks from these bytes on.
    pub(crate) fn packed(&mut self, hash: PackId, chunks: BTreeMap<ChunkHash, u64>, written: Written) {
        self.distrusted.remove(&hash);
        self.note_written(Name::Pack { holder: self.me, hash }, &written);
        self.packs.insert(hash, Pack { object: Own::new(written), found: false, chunks });
    }

    /// The head of a value, if all its chunks are in our own packs.
    pub(crate) fn compose(&self, set: &EntrySet, manifest: &Manifest) -> Option<Head> {
        let places = self.places(set);
        let spots: Vec<Spot> =
            manifest.chunks().iter().map(|chunk| places.get(chunk).copied()).collect::<Option<_>>()?;
        let packs = spots.iter().map(|spot| (spot.pack, self.packs[&spot.pack].object.written.size)).collect();
        Some(Head { manifest: manifest.clone(), packs, spots })
    }

    /// One of our own entries is in the bucket.
    pub(crate) fn uploaded(&mut self, name: EntryName, entry: EntryHash, head: Option<&Head>, written: Written) {
        self.note_written(Name::Entry(name.clone()), &written);
        self.place(name, entry, head, Own::new(written));
    }

    /// This process may end before a listing shows it. The tag of the write will do, if the store's listings show the
    /// same tags.
    pub(super) fn note_written(&mut self, name: Name, written: &Written) {
        if self.tags.agreed && written.tag.is_some() {
            let mark = Mark { size: written.size, modified: i64::MIN, tag: written.tag.clone() };
            self.note(name, Some(mark));
        }
    }

    pub(super) fn place(&mut self, name: EntryName, entry: EntryHash, head: Option<&Head>, object: Own) {
        let packs = head.map(|head| head.packs.keys().copied().collect()).unwrap_or_default();
        for (chunk, spot) in head.into_iter().flat_map(Head::places) {
            if let Some(pack) = self.packs.get_mut(&spot.pack) {
                pack.chunks.insert(chunk, spot.offset);
            }
        }
        self.placed.insert(entry, Placed { name, object, packs });
    }

    /// Our own objects that nothing has needed for at least `grace` of the store's time, if there are at least this
    /// many. Ask while nothing is being uploaded; what is returned counts as gone. Nothing is returned as long as one
    /// of our own entries is listed but not read: it may be one that this process doesn't know.
    pub(crate) fn garbage(&mut self, set: &EntrySet, grace: Duration, least: usize) -> Vec<Name> {
        // Entries already found to be unneeded count as known.
        let is_known = |name: EntryName| self.unneeded.contains_key(&Name::Entry(name));
        if self.unread().into_iter().any(|name| name.holder == self.me && !is_known(name)) {
            return Vec::new();
        }
        let proof = set.conflict(&self.me).into_iter().flat_map(|proof| &proof.entries);
        let own = set.of_author(self.me).chain(proof);
        // Relayed entries, as long as they are current and their authors haven't brought them there.
        let by_author: BTreeSet<EntryHash> = self
            .read
            .iter()
            .filter(|(name, _)| name.relayed.is_none())
            .filter_map(|(_, read)| Some(read.entry?.0))
            .collect();
        let relayed = set.iter("").filter(|entry| {
            let hash = entry.hash();
            entry.key.author() != self.me && self.placed.contains_key(&hash) && !by_author.contains(&hash)
        });
        let standing: Vec<&Arc<SignedEntry>> = own.chain(relayed).collect();
        let needed: BTreeSet<EntryName> = standing.iter().map(|entry| EntryName::held_by(self.me, entry)).collect();
        let standing: BTreeSet<EntryHash> = standing.iter().map(|entry| entry.hash()).collect();
        self.placed.retain(|hash, _| standing.contains(hash));
        let needed_packs: BTreeSet<PackId> =
            self.placed.values().flat_map(|placed| placed.packs.iter().copied()).collect();
        let entries = self.listed.keys().filter(|name| name.holder == self.me && !needed.contains(name));
        let packs = self.own_listed.keys().filter(|hash| !needed_packs.contains(hash));
        let packs = packs.map(|&hash| Name::Pack { holder: self.me, hash });
        let unneeded: BTreeSet<Name> = entries.cloned().map(Name::Entry).chain(packs).collect();
        self.unneeded.retain(|name, _| unneeded.contains(name));
        for name in unneeded {
            self.unneeded.entry(name).or_insert(self.clock);
        }
        let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let old = |since: i64| self.clock.saturating_sub(since) >= grace;
        let garbage: Vec<Name> =
            self.unneeded.iter().filter(|(_, since)| old(**since)).map(|(name, _)| name.clone()).collect();
        if garbage.len() < least {
            return Vec::new();
        }
        for name in &garbage {
            self.unneeded.remove(name);
            match name {
                Name::Entry(name) => drop(self.listed.remove(name)),
                Name::Pack { hash, .. } => {
                    self.own_listed.remove(hash);
                    self.packs.remove(hash);
                }
            }
        }
        garbage
    }
}
