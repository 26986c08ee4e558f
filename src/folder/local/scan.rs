//! Finding out what others have written.

use super::{
    directory::{Directory, ENTRY, file_names},
    failed,
};
use crate::{
    folder::{FolderError, Refused, watch::Board},
    weights::{MAX_ENTRY_BYTES, SignedEntry},
};
use libp2p_identity::PeerId;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::Path,
    sync::{Arc, atomic::Ordering},
};

/// Which entry files are known. Files never change, so that none is read twice.
pub(super) struct Scan {
    author: PeerId,
    known: BTreeSet<(String, String)>,
    /// Whether entries of the own author that this handle didn't write are still expected: at the opening they are.
    opening: bool,
    written_elsewhere: bool,
}

impl Scan {
    pub(super) fn new(author: PeerId) -> Self {
        Self { author, known: BTreeSet::new(), opening: true, written_elsewhere: false }
    }

    /// From now on only this handle writes entries of its author.
    pub(super) fn own_is_known(&mut self) {
        self.opening = false;
    }

    /// Notes an entry that this handle is about to write.
    pub(super) fn wrote(&mut self, entry: &SignedEntry) {
        self.known.insert((self.author.to_base58(), Directory::entry_name(entry)));
    }

    /// Whether an entry of the own author has appeared that this handle didn't write.
    pub(super) fn own_was_written_elsewhere(&self) -> bool {
        self.written_elsewhere
    }

    /// Takes in all entries that are not known yet. What can't be an entry is left alone, with a warning.
    pub(super) fn run(&mut self, directory: &Directory, board: &Board) -> Result<(), FolderError> {
        let root = directory.federation_dir();
        let mut found = BTreeSet::new();
        for author_dir in fs::read_dir(root).map_err(failed("listing", root))? {
            let author_dir = author_dir.map_err(failed("listing", root))?.path();
            let name = author_dir.file_name().and_then(|name| name.to_str());
            let Some((text, author)) = name.and_then(|name| Some((name.to_owned(), name.parse::<PeerId>().ok()?)))
            else {
                continue;
            };
            let files = match file_names(&author_dir, ENTRY) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                listed => listed.map_err(failed("listing", &author_dir))?,
            };
            for file in files {
                let id = (text.clone(), file);
                if !self.known.contains(&id) {
                    let path = author_dir.join(&id.1);
                    let Some(bytes) = read_entry(&path)? else { continue };
                    directory.counters()[1].fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    self.take_in(&path, author, &bytes, board);
                }
                found.insert(id);
            }
        }
        self.known = found;
        Ok(())
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
        if author == self.author && !self.opening {
            self.written_elsewhere = true;
        }
        match board.insert(Arc::new(entry)) {
            Ok(_) | Err(Refused::Excluded) => {}
            Err(refused) => refuse(refused.to_string()),
        }
    }
}

/// The file's bytes, or `None` if it was superseded and removed meanwhile.
fn read_entry(path: &Path) -> Result<Option<Vec<u8>>, FolderError> {
    let mut bytes = Vec::with_capacity(MAX_ENTRY_BYTES + 1);
    // One more than allowed, so that what is too long is refused rather than cut.
    let read = File::open(path).and_then(|file| file.take(MAX_ENTRY_BYTES as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("reading", path)(error)),
    }
}
