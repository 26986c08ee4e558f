//! The names of the objects in a bucket.
//!
//! ```text
//! <prefix>/<federation>/<author>/entries/<number>.<key's name>.<hash>.entry
//! <prefix>/<federation>/<author>/packs/<hash>.pack
//! <prefix>/<federation>/<member>/relayed/<author>.<number>.<key's name>.<hash>.entry
//! ```
//!
//! The last is what a member has relayed for an author who can't reach the bucket: its chunks are in the member's
//! packs. Each node writes and deletes only in its own directory.
//!
//! The name has the first 16 digits of the federation's id, the first 8 of an entry's hash, the first 32 of a pack's,
//! the last 6 characters of a relayed entry's author, and at most 20 characters of a key's name (12 if relayed),
//! because some stores sit on file systems that don't allow long names. With a prefix of 20 characters a name has at
//! most 156.
//!
//! With a secret, an object is called
//!
//! ```text
//! <prefix>/<16 digits that follow from secret and federation>/<its whole name, sealed>
//! ```
//!
//! where the name is the same as above with its numbers as bytes, see [`Place`], and has at most 160 characters.
//! `<prefix>/peerfold-sealed` shows whether a node has the same secret.
//!
//! A name tells people what is in the object, and tells a reader what it needn't read. Nothing is believed because of
//! it: what counts is signed, or has a hash that something signed names.

use super::seal::Seal;
use crate::weights::{FederationId, SignedEntry};
use libp2p_identity::PeerId;
use object_store::path::{Path, PathPart};
use std::{fmt, str::FromStr, sync::Arc};

const ENTRIES: &str = "entries";
const RELAYED: &str = "relayed";
const PACKS: &str = "packs";
const ENTRY: &str = "entry";
const PACK: &str = "pack";
/// Digits of an entry's hash in its name.
const SHORT: usize = 8;
/// The beginning of an update's name.
const UPDATE: &str = "update.";
/// Characters of a key's name.
const KEY: usize = 20;
/// The same, of a relayed entry's.
const RELAYED_KEY: usize = 12;
/// Characters of a relayed entry's author.
const AUTHOR: usize = 6;
/// Digits of a federation's id.
const FEDERATION: usize = 16;

/// A pack's name: the first half of the BLAKE3 hash of its bytes. The hashes of its chunks say which bytes those should
/// be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PackId([u8; 16]);

impl PackId {
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The name of a pack with this hash.
    pub(crate) fn of(hash: blake3::Hash) -> Self {
        let (half, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        Self(*half)
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for PackId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let id = u128::from_str_radix(text, 16).map(|number| Self(number.to_be_bytes())).map_err(|_| ())?;
        // One spelling only.
        if id.to_string() == text { Ok(id) } else { Err(()) }
    }
}

/// What an object is, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Name {
    /// An entry, with the head of its value.
    Entry(EntryName),
    /// Chunks.
    Pack {
        /// Whose directory it is in.
        holder: PeerId,
        /// The hash of its bytes.
        hash: PackId,
    },
}

/// The name of an entry's object. Ordered by directory, author and number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EntryName {
    /// Whose directory it is in.
    pub(crate) holder: PeerId,
    /// The end of its author's name, if that is another than the holder.
    pub(crate) relayed: Option<String>,
    /// The number that it claims.
    pub(crate) sequence: u64,
    /// The file's name without that of the author.
    file: String,
}

impl Name {
    /// Whose directory it is in.
    pub(super) fn holder(&self) -> PeerId {
        match self {
            Self::Entry(name) => name.holder,
            Self::Pack { holder, .. } => *holder,
        }
    }
}

impl EntryName {
    /// Where its author writes an entry.
    pub(crate) fn of(entry: &SignedEntry) -> Self {
        Self::held_by(entry.key.author(), entry)
    }

    /// Where this member writes an entry, its own or another's.
    pub(crate) fn held_by(holder: PeerId, entry: &SignedEntry) -> Self {
        let author = entry.key.author();
        let relayed = (author != holder).then(|| {
            let text = author.to_base58();
            text[text.len().saturating_sub(AUTHOR)..].to_owned()
        });
        let most = if relayed.is_some() { RELAYED_KEY } else { KEY };
        let kept = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '.' };
        let key: String = match entry.key.update_epoch() {
            Some(epoch) => format!("{UPDATE}{epoch}"),
            None => {
                let name: String = entry.key.name().chars().map(kept).take(most).collect();
                // A name that only looks like an update's must not pass for one.
                if name.starts_with(UPDATE) { format!("_{name}") } else { name }
            }
        };
        let hash = &entry.hash().to_string()[..SHORT];
        let file = format!("{:020}.{key}.{hash}.{ENTRY}", entry.sequence);
        Self { holder, relayed, sequence: entry.sequence, file }
    }

    fn parse(holder: PeerId, relayed: Option<String>, file: &str) -> Option<Self> {
        let stem = file.strip_suffix(ENTRY)?.strip_suffix('.')?;
        let (number, rest) = stem.split_once('.')?;
        let (_, hash) = rest.rsplit_once('.')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if number.len() != 20 || hash.len() != SHORT || !digits(hash) {
            return None;
        }
        let sequence = number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))?;
        Some(Self { holder, relayed, sequence, file: file.to_owned() })
    }

    /// The author, as far as the name says.
    pub(crate) fn author(&self) -> String {
        self.relayed
            .as_ref()
            .map_or_else(|| self.holder.to_string(), |end| format!("…{end}, relayed by {}", self.holder))
    }

    /// Whether this may be its author, going by the name.
    pub(crate) fn may_be_of(&self, author: &PeerId) -> bool {
        match &self.relayed {
            Some(end) => author.to_base58().ends_with(end.as_str()),
            None => self.holder == *author,
        }
    }

    /// Whether it says that it is an update.
    pub(crate) fn claims_update(&self) -> bool {
        self.file.split_once('.').is_some_and(|(_, rest)| rest.starts_with(UPDATE))
    }
}

/// The part of a bucket that belongs to one federation, and whether names in it are sealed.
///
/// What is sealed of a name, without lengths where they follow:
///
/// ```text
/// u8 kind | the holder: 32 bytes of its ed25519 key, or, of another key, u8 length and the peer id
/// of an entry: its number in LEB128, u32 of its hash, of a relayed one 6 characters of its author | the key's name
/// of a pack: 16 bytes of its hash
/// ```
#[derive(Clone)]
pub(crate) struct Place {
    prefix: Path,
    root: Path,
    /// The root if nothing is sealed.
    open: Path,
    seal: Option<Arc<Seal>>,
}

fn open_root(prefix: &Path, federation: FederationId) -> Path {
    prefix.clone().join(PathPart::from(&federation.to_string()[..FEDERATION]))
}

/// The object that shows with which secret a prefix is sealed.
const MARK: &str = "peerfold-sealed";

/// The kinds of names that are sealed.
const ENTRY_KIND: u8 = 0;
const RELAYED_KIND: u8 = 1;
const PACK_KIND: u8 = 2;
/// Added to the kind if the holder is an ed25519 key, which all nodes are: then only the key follows.
const OF_KEY: u8 = 4;
/// What a peer id of an ed25519 key begins with.
const ED25519: [u8; 6] = [0, 36, 8, 1, 18, 32];

/// What is sealed of a name.
fn packed(name: &Name) -> Vec<u8> {
    let (kind, holder, rest) = match name {
        Name::Pack { holder, hash } => (PACK_KIND, holder, hash.as_bytes().to_vec()),
        Name::Entry(EntryName { holder, relayed, sequence, file }) => {
            let stem = file.strip_suffix(ENTRY).and_then(|stem| stem.strip_suffix('.')).unwrap_or(file);
            let (key, hash) = stem.split_once('.').and_then(|(_, rest)| rest.rsplit_once('.')).unwrap_or_default();
            let hash = u32::from_str_radix(hash, 16).unwrap_or_default();
            let author = relayed.as_deref().unwrap_or_default();
            let number = postcard::to_stdvec(sequence).expect("writing to memory");
            let rest = [&number[..], &hash.to_be_bytes(), author.as_bytes(), key.as_bytes()].concat();
            (if relayed.is_some() { RELAYED_KIND } else { ENTRY_KIND }, holder, rest)
        }
    };
    let holder = holder.to_bytes();
    match holder.strip_prefix(&ED25519) {
        Some(key) => [&[kind | OF_KEY], key, &rest].concat(),
        // A peer id has at most 44 bytes.
        None => [&[kind, holder.len() as u8], &holder[..], &rest].concat(),
    }
}

/// The name of which this is sealed.
fn unpacked(bytes: &[u8]) -> Option<Name> {
    let (&kind, rest) = bytes.split_first()?;
    let (holder, rest) = if kind & OF_KEY == 0 {
        let (&length, rest) = rest.split_first()?;
        let (holder, rest) = rest.split_at_checked(length.into())?;
        (holder.to_vec(), rest)
    } else {
        let (key, rest) = rest.split_first_chunk::<32>()?;
        ([&ED25519[..], key].concat(), rest)
    };
    let holder = PeerId::from_bytes(&holder).ok()?;
    let name = if kind & !OF_KEY == PACK_KIND {
        Name::Pack { holder, hash: PackId::from_bytes(rest.try_into().ok()?) }
    } else {
        let (sequence, rest) = postcard::take_from_bytes::<u64>(rest).ok()?;
        let (hash, rest) = rest.split_first_chunk::<4>()?;
        let (author, key) = match kind & !OF_KEY {
            ENTRY_KIND => (None, rest),
            RELAYED_KIND => {
                let (author, key) = rest.split_first_chunk::<AUTHOR>()?;
                (Some(std::str::from_utf8(author).ok()?.to_owned()), key)
            }
            _ => return None,
        };
        let (hash, key) = (u32::from_be_bytes(*hash), std::str::from_utf8(key).ok()?);
        Name::Entry(EntryName::parse(holder, author, &format!("{sequence:020}.{key}.{hash:08x}.{ENTRY}"))?)
    };
    // One spelling only.
    if packed(&name) == bytes { Some(name) } else { None }
}

impl Place {
    /// Under this prefix of the bucket, empty for none.
    pub(crate) fn new(prefix: &Path, federation: FederationId) -> Self {
        let root = open_root(prefix, federation);
        Self { prefix: prefix.clone(), root: root.clone(), open: root, seal: None }
    }

    /// The same for who has a secret.
    pub(crate) fn sealed(prefix: &Path, federation: FederationId, seal: Arc<Seal>) -> Self {
        let root = prefix.clone().join(PathPart::from(seal.place()));
        Self { prefix: prefix.clone(), root, open: open_root(prefix, federation), seal: Some(seal) }
    }

    /// Where the federation's objects would lie without a secret.
    pub(crate) fn open_root(&self) -> &Path {
        &self.open
    }

    /// What seals names and contents here.
    pub(crate) fn seal(&self) -> Option<&Arc<Seal>> {
        self.seal.as_ref()
    }

    /// The prefix of the bucket, under which other federations may lie.
    pub(crate) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// The object that shows with which secret the prefix is sealed.
    pub(crate) fn mark(&self) -> Path {
        self.prefix.clone().join(MARK)
    }

    /// What to list.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where an object lies.
    pub(crate) fn path(&self, name: &Name) -> Path {
        if let Some(seal) = &self.seal {
            return self.root.clone().join(PathPart::from(seal.name(&packed(name))));
        }
        let (holder, kind, file) = match name {
            Name::Entry(EntryName { holder, relayed: None, file, .. }) => (holder, ENTRIES, file.clone()),
            Name::Entry(EntryName { holder, relayed: Some(author), file, .. }) => {
                (holder, RELAYED, format!("{author}.{file}"))
            }
            Name::Pack { holder, hash } => (holder, PACKS, format!("{hash}.{PACK}")),
        };
        self.root.clone().join(PathPart::from(holder.to_base58())).join(kind).join(PathPart::from(file))
    }

    /// What the object at this path is; `None` if it isn't one of ours.
    pub(crate) fn name(&self, path: &Path) -> Option<Name> {
        // One spelling only: of `a` and `%61` one would be read under the other's name.
        self.parsed(path).filter(|name| self.path(name) == *path)
    }

    fn parsed(&self, path: &Path) -> Option<Name> {
        let mut parts = path.prefix_match(&self.root)?;
        if let Some(seal) = &self.seal {
            let (sealed, None) = (parts.next()?, parts.next()) else { return None };
            return unpacked(&seal.open_name(sealed.as_ref())?);
        }
        let (holder, kind, file) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let text = holder.as_ref();
        // One spelling only: a peer id has several.
        let holder: PeerId = text.parse().ok().filter(|holder: &PeerId| holder.to_base58() == text)?;
        match kind.as_ref() {
            ENTRIES => EntryName::parse(holder, None, file.as_ref()).map(Name::Entry),
            RELAYED => {
                let (author, file) = file.as_ref().split_once('.').filter(|(author, _)| author.len() == AUTHOR)?;
                EntryName::parse(holder, Some(author.to_owned()), file).map(Name::Entry)
            }
            PACKS => {
                let hash = file.as_ref().strip_suffix(PACK)?.strip_suffix('.')?;
                Some(Name::Pack { holder, hash: hash.parse().ok()? })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::weights::{Content, Entry, Key, LayoutId};
    use libp2p_identity::Keypair;

    fn entry(name: &str, sequence: u64) -> SignedEntry {
        let keypair = Keypair::ed25519_from_bytes([7; 32]).unwrap();
        let key = Key::new(keypair.public().to_peer_id(), name).unwrap();
        let (federation, layout) = (FederationId::new("f", "1"), LayoutId::from_bytes([0; 32]));
        SignedEntry::sign(Entry { federation, layout, key, sequence, content: Content::Tombstone }, &keypair).unwrap()
    }

    #[test]
    fn names_are_read_as_they_were_written() {
        let place = Place::new(&Path::from("a/b c"), FederationId::new("f", "1"));
        for (key, update) in
            [("update/12", true), ("start", false), ("update/x", false), ("update/007", false), ("ä/../%2F ~", false)]
        {
            let entry = entry(key, 12);
            let name = EntryName::of(&entry);
            assert_eq!(name.claims_update(), update, "{key}");
            let path = place.path(&Name::Entry(name.clone()));
            // A store gives back text.
            let path = Path::parse(path.as_ref()).unwrap();
            assert_eq!(place.name(&path), Some(Name::Entry(name)), "{path}");
            let member = Keypair::ed25519_from_bytes([8; 32]).unwrap().public().to_peer_id();
            let name = EntryName::held_by(member, &entry);
            assert!(name.relayed.is_some() && name.claims_update() == update);
            let path = Path::parse(place.path(&Name::Entry(name.clone())).as_ref()).unwrap();
            assert_eq!(place.name(&path), Some(Name::Entry(name)), "{path}");
            assert!(path.as_ref().len() <= 156 - 20 + "a/b c".len(), "{path}");
        }
        let pack = Name::Pack { holder: entry("k", 1).key.author(), hash: PackId::of(blake3::hash(b"x")) };
        assert_eq!(place.name(&place.path(&pack)), Some(pack));
    }

    #[test]
    fn sealed_names_are_read_as_they_were_written_and_tell_nothing() {
        let (prefix, federation) = (Path::from("a/b c"), FederationId::new("f", "1"));
        let place = |secret| {
            let secret = crate::secret::Secret::from_bytes([secret; 32]);
            Place::sealed(&prefix, federation, Arc::new(Seal::new(&secret, federation)))
        };
        let (ours, theirs) = (place(1), place(2));
        assert_ne!(ours.root(), theirs.root());
        assert_ne!(ours.root(), Place::new(&prefix, federation).root());
        let member = Keypair::ed25519_from_bytes([8; 32]).unwrap().public().to_peer_id();
        for key in ["update/12", "start", "update/1000000000", "ä/../%2F ~", "a-name-longer-than-twenty-characters"] {
            let entry = entry(key, 12);
            let pack = Name::Pack { holder: member, hash: PackId::of(blake3::hash(key.as_bytes())) };
            let names = [Name::Entry(EntryName::of(&entry)), Name::Entry(EntryName::held_by(member, &entry)), pack];
            for name in names {
                let path = Path::parse(ours.path(&name).as_ref()).unwrap();
                assert_eq!(ours.name(&path), Some(name.clone()), "{path}");
                assert_eq!(theirs.name(&path), None, "{path}");
                assert!(path.as_ref().len() <= 160 - 20 + "a/b c".len(), "{}: {path}", path.as_ref().len());
                assert!(!path.as_ref().contains("update") && !path.as_ref().contains(&name.holder().to_base58()));
                let longer = Path::parse(format!("{path}/more")).unwrap();
                assert_eq!(ours.name(&longer), None);
            }
        }
        assert_eq!(ours.mark().as_ref(), "a/b c/peerfold-sealed");
    }

    #[test]
    fn what_is_not_ours_has_no_name() {
        let place = Place::new(&Path::from(""), FederationId::new("f", "1"));
        let author = entry("k", 1).key.author();
        let good = place.path(&Name::Entry(EntryName::of(&entry("k", 1)))).to_string();
        for other in [
            good.replace(".entry", ".entries"),
            good.replace("entries", "other"),
            good.replace("00000000000000000001", "1"),
            good.replace("00000000000000000001", "99999999999999999999"),
            good.replace("00000000000000000001", "+0000000000000000001"),
            format!("{good}/more"),
            good.replace(&author.to_base58(), "12D3KooW"),
            format!("{}/{author}/packs/{}.pack", place.root(), "A".repeat(32)),
            format!("{}/{author}/packs/{}.pack", place.root(), "a".repeat(31)),
            place.root().to_string(),
            "README".to_owned(),
        ] {
            assert_eq!(place.name(&Path::parse(&other).unwrap()), None, "{other}");
        }
    }
}
