//! Finding out what others have written into the directory.

use super::{
    directory::{Directory, ENTRY, file_names, read_entry},
    failed,
};
use crate::{
    entries::{Board, Refused},
    folder::{Author, FolderError},
    weights::SignedEntry,
};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

/// How often a directory is listed again because a file vanished before it was read.
const LISTINGS: usize = 16;
/// How many of our own entries are remembered by name.
const REMEMBERED: usize = 4096;

/// Which entry files are known. Files never change, so that none is read twice.
pub(super) struct Scan {
    author: Author,
    own_dir: String,
    known: BTreeSet<(String, String)>,
    /// What could not be read this time. It is retried every time.
    unreadable: BTreeSet<PathBuf>,
    /// What could not be read last time, so that it is reported once.
    told: BTreeSet<PathBuf>,
    /// Names of the entries that this handle wrote, by number.
    written: BTreeMap<u64, String>,
    /// An entry of our own author that isn't in `written` is an old one that somebody put back, if its number isn't
    /// above this.
    written_above: u64,
    /// Whether entries of our own found now are the author's earlier ones.
    taking_stock: bool,
    written_elsewhere: bool,
}

impl Scan {
    pub(super) fn new(author: &Author) -> Self {
        Self {
            own_dir: author.peer_id().to_base58(),
            author: author.clone(),
            known: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            told: BTreeSet::new(),
            written: BTreeMap::new(),
            written_above: 0,
            taking_stock: false,
            written_elsewhere: false,
        }
    }

    /// Takes in everything, our own entries too. Later ones that this handle didn't write come from elsewhere.
    pub(super) fn take_stock(&mut self, directory: &Directory, board: &Board) -> Result<(), FolderError> {
        self.taking_stock = true;
        let done = self.run(directory, board);
        self.taking_stock = false;
        self.written_elsewhere = false;
        self.written_above = self.author.last_sequence();
        done
    }

    /// Notes an entry that this handle is about to write.
    pub(super) fn wrote(&mut self, entry: &SignedEntry) {
        let name = Directory::entry_name(entry);
        self.known.insert((self.own_dir.clone(), name.clone()));
        self.written.insert(entry.sequence, name);
        if self.written.len() > REMEMBERED
            && let Some((forgotten, _)) = self.written.pop_first()
        {
            self.written_above = self.written_above.max(forgotten);
        }
    }

    /// Whether an entry of our own author has appeared that this handle didn't write.
    pub(super) fn own_was_written_elsewhere(&self) -> bool {
        self.written_elsewhere
    }

    /// Whether this file of the own author's has been seen or written.
    pub(super) fn knows_own(&self, name: &str) -> bool {
        self.known.contains(&(self.own_dir.clone(), name.to_owned()))
    }

    /// Reads every file again the next time.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// Takes in all entries that aren't known yet. Files that can't be entries or can't be read are left alone, with a
    /// warning: one author's files must not hide the others'.
    pub(super) fn run(&mut self, directory: &Directory, board: &Board) -> Result<(), FolderError> {
        let root = directory.federation_dir();
        let mut found = BTreeSet::new();
        self.told = std::mem::take(&mut self.unreadable);
        for author_dir in fs::read_dir(root).map_err(failed("listing", root))? {
            let author_dir = author_dir.map_err(failed("listing", root))?.path();
            let name = author_dir.file_name().and_then(|name| name.to_str());
            let Some((text, author)) = name.and_then(|name| Some((name.to_owned(), name.parse::<PeerId>().ok()?)))
            else {
                continue;
            };
            // A file that was listed but is gone was replaced by one that the listing may lack; without another look
            // the key would seem empty.
            for _ in 0..LISTINGS {
                match self.look_into(directory, &author_dir, (&text, author), &mut found, board) {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) => {
                        self.tell(&author_dir, &error);
                        break;
                    }
                }
            }
        }
        self.known = found;
        Ok(())
    }

    /// Whether everything that was listed could be read.
    fn look_into(
        &mut self,
        directory: &Directory,
        author_dir: &Path,
        (text, author): (&str, PeerId),
        found: &mut BTreeSet<(String, String)>,
        board: &Board,
    ) -> io::Result<bool> {
        let mut complete = true;
        for file in file_names(author_dir, ENTRY)? {
            let id = (text.to_owned(), file);
            if !self.known.contains(&id) && !found.contains(&id) {
                let path = author_dir.join(&id.1);
                match read_entry(&path) {
                    Ok(bytes) => {
                        directory.counters()[1].fetch_add(bytes.len() as u64, Ordering::Relaxed);
                        self.take_in(&path, author, &bytes, board);
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        complete = false;
                        continue;
                    }
                    Err(error) => {
                        self.tell(&path, &error);
                        continue;
                    }
                }
            }
            found.insert(id);
        }
        Ok(complete)
    }

    fn tell(&mut self, path: &Path, error: &io::Error) {
        if self.unreadable.insert(path.to_owned()) && !self.told.contains(path) {
            tracing::warn!(path = %path.display(), %error, "can't be read");
        }
    }

    fn take_in(&mut self, path: &Path, author: PeerId, bytes: &[u8], board: &Board) {
        let refuse = |reason: String| tracing::warn!(path = %path.display(), %author, reason, "entry refused");
        let entry = match SignedEntry::decode(bytes) {
            Ok(entry) => entry,
            Err(error) => return refuse(error.to_string()),
        };
        if entry.key.author() != author {
            return refuse(format!("it is signed by {}, in another author's directory", entry.key.author()));
        }
        if entry.federation != self.author.federation() {
            return refuse(Refused::OtherFederation.to_string());
        }
        if author == self.author.peer_id() {
            self.take_in_own(&entry);
        }
        match board.insert(Arc::new(entry)) {
            Ok(_) | Err(Refused::Excluded) => {}
            Err(refused) => refuse(refused.to_string()),
        }
    }

    fn take_in_own(&mut self, entry: &SignedEntry) {
        if self.taking_stock {
            self.author.raise_above(entry.sequence);
        } else if entry.sequence > self.written_above {
            let ours = self.written.get(&entry.sequence).is_some_and(|name| *name == Directory::entry_name(entry));
            self.written_elsewhere |= !ours;
        }
    }
}
