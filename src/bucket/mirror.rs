//! What is known of a bucket and what follows from it, without I/O: which objects to read, which entries to upload (our
//! own, and those of authors who don't reach the bucket), and which of our own objects can go.

mod own_object;
mod uploading;

pub(crate) use self::own_object::{Written, plain};

use self::own_object::{Own, Tags};
use super::{
    names::{EntryName, Name, PackId},
    record::{self, Head, RecordError},
};
use crate::{
    entries::{EntrySet, UPDATES_KEPT},
    weights::{ChunkHash, Content, EntryError, EntryHash, SignedEntry},
};
use bytes::Bytes;
use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::Duration,
};

/// Most authors for whom a member relays.
const RELAYED_AUTHORS: usize = 64;
/// Bytes of other authors' heads that are remembered, so that they needn't be read twice.
const HEADS_BYTES: usize = 32 << 20;

/// What a listing shows of an object, which is how a change is noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Bytes.
    pub(crate) size: u64,
    /// When it was written, in milliseconds, by the store's clock.
    pub(crate) modified: i64,
    /// The store's tag of its content, if it gives one.
    pub(crate) tag: Option<String>,
}

impl Mark {
    /// Whether this is the same content, by the tags if both have one: in a restored bucket the times differ.
    fn is_of_the_same(&self, other: &Self) -> bool {
        let same = match (&self.tag, &other.tag) {
            (Some(tag), Some(other)) => plain(tag) == plain(other),
            _ => self.modified == other.modified,
        };
        same && self.size == other.size
    }
}

/// An object of a listing.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) name: Name,
    pub(crate) mark: Mark,
}

/// What became of an entry's object.
struct Read {
    mark: Mark,
    /// The entry and its author; `None` if the entry was refused.
    entry: Option<(EntryHash, PeerId)>,
    /// The head, if it is remembered.
    head: Bytes,
}

/// An entry in the node's own directory: its own, or another's that it relays.
struct Placed {
    name: EntryName,
    object: Own,
    packs: BTreeSet<PackId>,
}

/// An author who has something that is not in the bucket.
#[derive(Clone, Copy)]
struct Absent {
    /// The highest of its numbers that nodes other than this one have brought there.
    shown: Option<u64>,
    /// Since when that number hasn't risen.
    since: Duration,
}

/// An object with an entry.
pub(crate) struct Copy {
    pub(crate) name: EntryName,
    pub(crate) head: Option<Bytes>,
}

/// One of our own packs in the bucket.
struct Pack {
    object: Own,
    /// Whether an earlier process wrote it, as far as name and size can tell.
    found: bool,
    /// Which chunk is where in it.
    chunks: BTreeMap<ChunkHash, u64>,
}

/// The state of a bucket's mirror: see the [module](self).
pub(crate) struct Mirror {
    me: PeerId,
    /// Bytes by which a chunk in a pack is longer than the chunk.
    overhead: u64,
    /// Entries' objects in the last listing.
    listed: BTreeMap<EntryName, Mark>,
    read: BTreeMap<EntryName, Read>,
    heads_bytes: usize,
    /// Own packs in the last listing.
    own_listed: BTreeMap<PackId, Mark>,
    placed: BTreeMap<EntryHash, Placed>,
    /// Authors who have something that is not in the bucket.
    absent: BTreeMap<PeerId, Absent>,
    packs: BTreeMap<PackId, Pack>,
    /// Our own packs that somebody has changed. They don't count as good until they are written again.
    distrusted: BTreeSet<PackId>,
    /// How listings have shown our own objects, in this process or an earlier one.
    noted: BTreeMap<Name, Mark>,
    /// Changes to that, to be kept for the next process.
    notes: Vec<(Name, Option<Mark>)>,
    /// Our own objects that differ from what was noted of them.
    changed: BTreeSet<Name>,
    tags: Tags,
    /// Our own objects that nothing needs, and since when, by the store's clock.
    unneeded: BTreeMap<Name, i64>,
    /// The newest time that the store has shown.
    clock: i64,
    /// When the last listing began, as the time since some fixed moment; `None` before the first.
    seen: Option<Duration>,
    /// Whether any object has been read so far.
    can_read: bool,
    /// The newest number of each directory under which two objects were compared.
    compared: BTreeMap<PeerId, u64>,
}

impl Mirror {
    /// A mirror that knows nothing yet, except how our own objects were shown to earlier processes, as far as they
    /// noted it.
    pub(crate) fn new(me: PeerId, noted: BTreeMap<Name, Mark>) -> Self {
        Self {
            me,
            overhead: 0,
            listed: BTreeMap::new(),
            read: BTreeMap::new(),
            heads_bytes: 0,
            own_listed: BTreeMap::new(),
            placed: BTreeMap::new(),
            absent: BTreeMap::new(),
            packs: BTreeMap::new(),
            distrusted: BTreeSet::new(),
            noted,
            notes: Vec::new(),
            changed: BTreeSet::new(),
            tags: Tags::default(),
            unneeded: BTreeMap::new(),
            clock: i64::MIN,
            seen: None,
            can_read: false,
            compared: BTreeMap::new(),
        }
    }

    /// The same, where a chunk in a pack is longer by so many bytes.
    pub(crate) fn with_overhead(self, overhead: u64) -> Self {
        Self { overhead, ..self }
    }

    /// Takes in a listing that began this long after some fixed moment. Returns our own objects that somebody has
    /// changed or removed: their entries are wanted again.
    pub(crate) fn listed(&mut self, objects: Vec<Listed>, began: Duration) -> Vec<Name> {
        self.seen = Some(began);
        self.listed.clear();
        self.own_listed.clear();
        for Listed { name, mark } in objects {
            self.clock = self.clock.max(mark.modified);
            match name {
                Name::Entry(name) => drop(self.listed.insert(name, mark)),
                Name::Pack { holder, hash } if holder == self.me => drop(self.own_listed.insert(hash, mark)),
                Name::Pack { .. } => {}
            }
        }
        let (listed, heads_bytes) = (&self.listed, &mut self.heads_bytes);
        self.read.retain(|name, read| {
            let stands = listed.get(name) == Some(&read.mark);
            *heads_bytes -= if stands { 0 } else { read.head.len() };
            stands
        });
        self.check_own(began)
    }

    fn check_own(&mut self, began: Duration) -> Vec<Name> {
        let (mut lost, tags) = (Vec::new(), &mut self.tags);
        let mut marks = BTreeMap::new();
        self.packs.retain(|&hash, pack| {
            let name = Name::Pack { holder: self.me, hash };
            let stands = pack.object.is_as_it_was(self.own_listed.get(&hash), began, tags);
            if stands {
                marks.insert(name, pack.object.mark.clone());
            } else {
                self.distrusted.insert(hash);
                lost.push(name);
            }
            stands
        });
        let (packs, listed) = (&self.packs, &self.listed);
        self.placed.retain(|_, placed| {
            let name = Name::Entry(placed.name.clone());
            let stands = placed.object.is_as_it_was(listed.get(&placed.name), began, tags);
            if stands {
                marks.insert(name, placed.object.mark.clone());
            } else {
                lost.push(name);
            }
            stands && placed.packs.iter().all(|pack| packs.contains_key(pack))
        });
        // An unknown object may still turn out to be ours, put there by an earlier process.
        let (listed, own_listed) = (&self.listed, &self.own_listed);
        let is_listed = |name: &Name| match name {
            Name::Entry(name) => listed.contains_key(name),
            Name::Pack { hash, .. } => own_listed.contains_key(hash),
        };
        let gone = self.noted.keys().filter(|name| !marks.contains_key(*name) && !is_listed(name));
        let gone: Vec<Name> = gone.cloned().collect();
        for name in gone {
            self.noted.remove(&name);
            self.notes.push((name, None));
        }
        for (name, mark) in marks {
            self.note(name, mark);
        }
        lost
    }

    fn note(&mut self, name: Name, mark: Option<Mark>) {
        if let Some(mark) = mark
            && self.noted.get(&name) != Some(&mark)
        {
            self.noted.insert(name.clone(), mark.clone());
            self.notes.push((name, Some(mark)));
        }
    }

    /// What to keep for the next process: how our own objects were shown, or that they are gone. Each is returned once.
    pub(crate) fn take_notes(&mut self) -> Vec<(Name, Option<Mark>)> {
        mem::take(&mut self.notes)
    }

    /// Our own objects that somebody has changed while no process of this node was running: their entries are wanted
    /// again. Each is returned once.
    pub(crate) fn take_changed(&mut self) -> BTreeSet<Name> {
        mem::take(&mut self.changed)
    }

    /// Whether an object written by an earlier process is still what it was then, as far as that was noted.
    fn is_as_noted(&mut self, name: Name, mark: &Mark) -> bool {
        let is_as_noted = self.noted.get(&name).is_none_or(|noted| noted.is_of_the_same(mark));
        if !is_as_noted {
            self.changed.insert(name);
        }
        is_as_noted
    }

    /// Whether the last listing lacks one of our objects that hasn't been given up yet.
    pub(crate) fn misses(&self) -> bool {
        let packs = self.packs.values().map(|pack| &pack.object);
        packs.chain(self.placed.values().map(|placed| &placed.object)).any(|object| object.missed.is_some())
    }

    /// The entries' objects to read next, at most this many, with their marks and without those that are `absent`. Of
    /// an author's updates only the newest count; older ones are read only if newer ones turn out to be invalid, so ask
    /// again after reading these.
    pub(crate) fn to_read(&self, absent: &BTreeSet<EntryName>, most: usize) -> Vec<(EntryName, Mark)> {
        let (mut found, mut author, mut updates) = (Vec::new(), None, 0);
        for (name, mark) in self.listed.iter().rev() {
            if found.len() >= most {
                break;
            }
            let of = (name.holder, &name.relayed);
            if author != Some(of) {
                (author, updates) = (Some(of), 0);
            }
            let known = match self.read.get(name) {
                Some(read) => Some(read.entry.is_some()),
                None if absent.contains(name) => Some(false),
                None => self.is_placed(name).then_some(true),
            };
            match known {
                Some(is_entry) => updates += usize::from(is_entry && name.claims_update()),
                None if name.claims_update() && updates >= UPDATES_KEPT => {}
                None => {
                    updates += usize::from(name.claims_update());
                    found.push((name.clone(), mark.clone()));
                }
            }
        }
        found
    }

    /// Of each directory the newest two objects of its own author under one number, unless they were compared. They prove
    /// that its home was copied, also where they are older than what [`to_read`](Self::to_read) asks for.
    pub(crate) fn twice(&self) -> Vec<[(EntryName, Mark); 2]> {
        let (mut found, mut before) = (Vec::<[(EntryName, Mark); 2]>::new(), None::<(&EntryName, &Mark)>);
        for (name, mark) in self.listed.iter().rev().filter(|(name, _)| name.relayed.is_none()) {
            let same = before.filter(|(other, _)| (other.holder, other.sequence) == (name.holder, name.sequence));
            let is_first = found.last().is_none_or(|[(last, _), _]| last.holder != name.holder);
            if let Some((other, other_mark)) = same
                && is_first
                && self.compared.get(&name.holder) != Some(&name.sequence)
            {
                found.push([(other.clone(), other_mark.clone()), (name.clone(), mark.clone())]);
            }
            before = Some((name, mark));
        }
        found
    }

    /// Two objects with the same number were read and needn't be read again.
    pub(crate) fn compared(&mut self, name: &EntryName) {
        self.compared.insert(name.holder, name.sequence);
    }

    fn is_placed(&self, name: &EntryName) -> bool {
        name.holder == self.me && self.placed.values().any(|placed| placed.name == *name)
    }

    /// Takes in the content of an entry's object. An error says why it isn't one; it isn't read again until it changes.
    /// An object of a newer version of this program is an error too.
    pub(crate) fn read(&mut self, name: &EntryName, mark: &Mark, record: &Bytes) -> Result<Arc<SignedEntry>, String> {
        self.can_read = true;
        let result = judge(name, record);
        let (entry, mut head) = match &result {
            Ok((entry, head)) => (Some((entry.hash(), entry.key.author())), head.clone()),
            Err(_) => (None, Bytes::new()),
        };
        if let Ok((entry, head)) = &result
            && name.holder == self.me
        {
            self.found_own(name, mark, entry, head);
        }
        if self.heads_bytes + head.len() > HEADS_BYTES {
            head.clear();
        }
        self.remember(name, Read { mark: mark.clone(), entry, head });
        result.map(|(entry, _)| entry)
    }

    /// An entry's object can't be read, or is too large to be one. It isn't asked for again until it changes.
    pub(crate) fn refuse(&mut self, name: &EntryName, mark: Mark) {
        self.remember(name, Read { mark, entry: None, head: Bytes::new() });
    }

    fn remember(&mut self, name: &EntryName, read: Read) {
        self.heads_bytes += read.head.len();
        if let Some(old) = self.read.insert(name.clone(), read) {
            self.heads_bytes -= old.head.len();
        }
    }

    /// Whether any object has been read so far. If so, one that can't be read is itself to blame, not the bucket.
    pub(crate) fn can_read(&self) -> bool {
        self.can_read
    }

    /// An entry that an earlier process of this node has uploaded, or this one.
    fn found_own(&mut self, name: &EntryName, mark: &Mark, entry: &SignedEntry, head: &Bytes) {
        let head = match entry.root() {
            None => None,
            Some(_) => match Head::decode(entry, head) {
                Ok(head) => Some(head),
                // Somebody has changed it, so it will be written again.
                Err(_) => return,
            },
        };
        let packs = head.as_ref().map(|head| head.packs.clone()).unwrap_or_default();
        let mut is_good = self.is_as_noted(Name::Entry(name.clone()), mark);
        for (&hash, &length) in &packs {
            let is_written = self.packs.get(&hash).is_some_and(|pack| !pack.found);
            let listed = self.own_listed.get(&hash).filter(|mark| mark.size == length).cloned();
            is_good &= is_written
                || !self.distrusted.contains(&hash)
                    && listed.is_some_and(|mark| self.is_as_noted(Name::Pack { holder: self.me, hash }, &mark));
        }
        if is_good {
            for (hash, length) in packs {
                let mark = self.own_listed.get(&hash).cloned();
                let found = || Pack { object: Own::found(length, mark.clone()), found: true, chunks: BTreeMap::new() };
                if self.packs.entry(hash).or_insert_with(found).found {
                    self.note(Name::Pack { holder: self.me, hash }, mark);
                }
            }
            self.note(Name::Entry(name.clone()), Some(mark.clone()));
            self.place(name.clone(), entry.hash(), head.as_ref(), Own::found(mark.size, Some(mark.clone())));
        }
    }

    /// Where an entry may be: in its author's object first, then in those of members that relay it. The author's is
    /// given even if no listing shows it yet. Each comes with its head, undecoded, if that is remembered.
    pub(crate) fn copies(&self, entry: &SignedEntry) -> Vec<Copy> {
        let (known, of_author) = (Some((entry.hash(), entry.key.author())), EntryName::of(entry));
        let head = |read: &Read| Some(read.head.clone()).filter(|head| read.entry == known && !head.is_empty());
        let relayed = self.read.iter().filter(|(name, read)| name.relayed.is_some() && read.entry == known);
        let mut copies: Vec<Copy> = relayed.map(|(name, read)| Copy { name: name.clone(), head: head(read) }).collect();
        if copies.is_empty() || self.listed.contains_key(&of_author) {
            copies.insert(0, Copy { head: self.read.get(&of_author).and_then(head), name: of_author });
        }
        copies
    }

    /// What the last listing shows of an entry's object.
    pub(crate) fn mark(&self, name: &EntryName) -> Option<Mark> {
        self.listed.get(name).cloned()
    }

    /// When an entry's object was written, in milliseconds, by the last listing.
    pub(crate) fn written(&self, entry: &SignedEntry) -> Option<i64> {
        let copies = self.copies(entry);
        copies.iter().filter_map(|copy| self.listed.get(&copy.name)).map(|mark| mark.modified).min()
    }

    /// Whether a listing was taken in.
    pub(crate) fn is_known(&self) -> bool {
        self.seen.is_some()
    }

    /// Our own current entries that aren't in the bucket, in order of their numbers. Before the first listing that is
    /// all of them; one that is listed but not read yet isn't included. If this node is excluded, also the two entries
    /// that prove it, as far as the bucket doesn't show them.
    pub(crate) fn wanting(&self, set: &EntrySet) -> Vec<Arc<SignedEntry>> {
        let is_unread = |entry: &SignedEntry| {
            let name = EntryName::of(entry);
            self.listed.contains_key(&name) && !self.read.contains_key(&name)
        };
        let missing = |entry: &&Arc<SignedEntry>| !self.placed.contains_key(&entry.hash()) && !is_unread(entry);
        let proof = set.conflict(&self.me).into_iter().flat_map(|proof| &proof.entries);
        let proof = proof.filter(|entry| !self.listed.contains_key(&EntryName::of(entry)));
        set.of_author(self.me).chain(proof).filter(missing).cloned().collect()
    }

    /// Entries' objects that are listed and count but haven't been read yet, so that their content isn't known.
    fn unread(&self) -> Vec<EntryName> {
        self.to_read(&BTreeSet::new(), usize::MAX).into_iter().map(|(name, _)| name).collect()
    }

    /// The current entries, of updates only the newest, of authors who don't reach the bucket. An author counts as one
    /// if for some time neither it nor a member relaying for it has brought anything new there, although there is
    /// something new; `after` says for how long, given the length of its newest value. Each member then waits up to as
    /// long again, each a different time, so that they don't all relay the same. The time has passed when a listing
    /// that began after it still lacks the entry, and none of the author's listed objects is unread. The number of
    /// authors is limited, because anybody who can publish in the network must not be able to fill a bucket. Ask after
    /// each listing.
    pub(crate) fn due_relays(
        &mut self,
        set: &EntrySet,
        may: impl Fn(&PeerId) -> bool,
        after: impl Fn(u64) -> Duration,
        now: Duration,
    ) -> Vec<Arc<SignedEntry>> {
        let Some(seen) = self.seen else { return Vec::new() };
        let unread = self.unread();
        let (mut shown, mut there) = (BTreeMap::<PeerId, u64>::new(), BTreeSet::new());
        for (name, read) in &self.read {
            let Some((hash, author)) = read.entry else { continue };
            there.insert(hash);
            if name.holder != self.me {
                let newest = shown.entry(author).or_default();
                *newest = name.sequence.max(*newest);
            }
        }
        let (mut due, mut authors, mut absent) = (Vec::new(), 0, BTreeMap::new());
        for author in set.authors().filter(|author| *author != self.me && may(author)) {
            if unread.iter().any(|name| name.may_be_of(&author)) {
                continue;
            }
            let newest_update = set.newest_update(author);
            let newest = newest_update.map_or(0, |entry| entry.sequence);
            let kept = set.of_author(author).filter(|entry| {
                entry.key.update_epoch().is_none() || Some(entry.hash()) == newest_update.map(|entry| entry.hash())
            });
            let lacking: Vec<&Arc<SignedEntry>> = kept.filter(|entry| !there.contains(&entry.hash())).collect();
            let shown = shown.get(&author).copied();
            if lacking.is_empty() && shown.is_some_and(|shown| shown >= newest) {
                continue;
            }
            let before = self.absent.get(&author).copied();
            let state = before.filter(|before| before.shown == shown).unwrap_or(Absent { shown, since: now });
            absent.insert(author, state);
            let length = newest_update.map(|entry| match entry.content {
                Content::Put { length, .. } => length,
                Content::Tombstone => 0,
            });
            let after = after(length.unwrap_or(0));
            if seen.saturating_sub(state.since) >= after + after.mul_f64(turn(self.me, author)) {
                authors += 1;
                due.extend(lacking.into_iter().cloned());
            }
            if authors == RELAYED_AUTHORS {
                break;
            }
        }
        self.absent = absent;
        due
    }

    /// The bucket could not be read, so authors who weren't seen there may have had no chance.
    pub(crate) fn interrupted(&mut self) {
        self.absent.clear();
    }

    /// Reads everything again after the next listing.
    pub(crate) fn forget(&mut self) {
        self.read.clear();
        self.heads_bytes = 0;
    }
}

/// When a member's turn comes to relay an author's entries, from 0 to 1.
fn turn(member: PeerId, author: PeerId) -> f64 {
    let hash = blake3::hash(&[author.to_bytes(), member.to_bytes()].concat());
    let [first, second, ..] = *hash.as_bytes();
    f64::from(u16::from_le_bytes([first, second])) / f64::from(u16::MAX)
}

/// The entry of an object of this name, and its head undecoded.
pub(crate) fn judge(name: &EntryName, bytes: &Bytes) -> Result<(Arc<SignedEntry>, Bytes), String> {
    let (entry, head) = record::split(bytes).map_err(|error| match error {
        RecordError::Entry(EntryError::Signature { .. }) => "it is not signed by its author".to_owned(),
        error => error.to_string(),
    })?;
    if EntryName::held_by(name.holder, &entry) != *name {
        return Err(format!(
            "it holds another entry than its name says: {} of number {}",
            entry.key.shown(),
            entry.sequence
        ));
    }
    let head = bytes.slice_ref(head);
    Ok((Arc::new(entry), head))
}

#[cfg(test)]
mod tests;
