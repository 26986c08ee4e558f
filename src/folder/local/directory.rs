//! The files of a directory folder: their names, and how they are written and removed.

use super::{Counters, failed, value_file};
use crate::{
    durable_file,
    entries::Board,
    folder::{FolderError, StagedFiles, Value},
    weights::{Entry, FederationId, MAX_ENTRY_BYTES, Manifest, Root, SignedEntry, Weights},
};
use libp2p_identity::PeerId;
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::SystemTime,
};

pub(super) const ENTRY: &str = "entry";
const VALUE: &str = "value";

pub(super) struct Directory {
    federation: PathBuf,
    own: PathBuf,
    counters: Counters,
    only_read: bool,
}

impl Directory {
    pub(super) fn create(dir: &Path, federation: FederationId, author: PeerId) -> Result<Self, FolderError> {
        let federation = dir.join(federation.to_string());
        let own = federation.join(author.to_base58());
        durable_file::create_dir_all(&own, false).map_err(failed("creating", &own))?;
        durable_file::remove_partial(&own).map_err(failed("cleaning", &own))?;
        // An entry that is here is published, and nobody writes it again.
        [&own, &federation]
            .into_iter()
            .try_for_each(|dir| durable_file::settle(dir))
            .map_err(failed("flushing", &own))?;
        // Report a directory that can't be written now, not after the first epoch.
        tempfile::tempfile_in(&own).map_err(failed("writing into", &own))?;
        Ok(Self { federation, own, counters: Counters::default(), only_read: false })
    }

    /// What is there, to be read only.
    pub(super) fn existing(dir: &Path, federation: FederationId, author: PeerId) -> Self {
        let federation = dir.join(federation.to_string());
        let own = federation.join(author.to_base58());
        Self { federation, own, counters: Counters::default(), only_read: true }
    }

    pub(super) fn is_only_read(&self) -> bool {
        self.only_read
    }

    /// When the file of an entry was written.
    pub(super) fn written_at(&self, entry: &SignedEntry) -> Option<SystemTime> {
        let dir = self.federation.join(entry.key.author().to_base58());
        fs::metadata(dir.join(Self::entry_name(entry))).ok()?.modified().ok()
    }

    pub(super) fn federation_dir(&self) -> &Path {
        &self.federation
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Number first, so that a listing is in order; the hash, so that two entries under one number both stay as proof.
    pub(super) fn entry_name(entry: &SignedEntry) -> String {
        format!("{:020}-{}.{ENTRY}", entry.sequence, &entry.hash().to_string()[..16])
    }

    fn value_path(&self, author: PeerId, root: Root) -> PathBuf {
        self.federation.join(author.to_base58()).join(format!("{root}.{VALUE}"))
    }

    /// Whether the value of an entry is stored as it was published. Reads all of it.
    pub(super) fn value_is_whole(&self, entry: &Entry) -> bool {
        let chunks = |value: Value| (0..value.manifest().chunks().len()).all(|chunk| value.chunk(chunk).is_ok());
        self.open_value(entry).is_ok_and(chunks)
    }

    pub(super) fn write_value(&self, manifest: &Manifest, value: &Weights) -> Result<(), FolderError> {
        let path = self.own_value_path(manifest.root());
        let mut written = 0;
        durable_file::replace(&path, false, |file| {
            written = value_file::write(file, manifest, value)?;
            Ok(())
        })
        .map_err(failed("writing", &path))?;
        self.counters[0].fetch_add(written, Ordering::Relaxed);
        Ok(())
    }

    /// Whether there is a file of the right length for this author's value.
    pub(super) fn has_value(&self, manifest: &Manifest) -> bool {
        let expected = value_file::start(manifest) + manifest.layout().bytes();
        fs::metadata(self.own_value_path(manifest.root())).is_ok_and(|file| file.is_file() && file.len() == expected)
    }

    /// Where the bytes of a value of this author's lie.
    pub(super) fn own_value_files(&self, manifest: &Manifest) -> StagedFiles {
        StagedFiles::Whole { path: self.own_value_path(manifest.root()), start: value_file::start(manifest) }
    }

    fn own_value_path(&self, root: Root) -> PathBuf {
        self.own.join(format!("{root}.{VALUE}"))
    }

    pub(super) fn open_value(&self, entry: &Entry) -> Result<Value, FolderError> {
        let gone = || FolderError::Gone { key: entry.key.clone(), sequence: entry.sequence };
        let root = entry.root().ok_or_else(gone)?;
        let path = self.value_path(entry.key.author(), root);
        match open_file(&path) {
            Ok(file) => value_file::open(file, path, entry, self.counters.clone()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(gone()),
            Err(error) => Err(failed("opening", &path)(error)),
        }
    }

    pub(super) fn write_entry(&self, entry: &SignedEntry) -> Result<(), FolderError> {
        let path = self.own.join(Self::entry_name(entry));
        durable_file::replace(&path, false, |file| file.write_all(entry.bytes())).map_err(failed("writing", &path))?;
        self.counters[0].fetch_add(entry.bytes().len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the author's entries that `newest` or an earlier one took the place of, and the values that were unnamed
    /// before `newest` was written, but for the one that is `staged`. A name that isn't known yet is left: it may be the
    /// proof of a copied identity.
    pub(super) fn remove_superseded(
        &self,
        board: &Board,
        newest: &SignedEntry,
        is_known: impl Fn(&str) -> bool,
        staged: Option<Root>,
    ) -> Result<(), FolderError> {
        let standing: Vec<_> = board.set().of_author(newest.key.author()).cloned().collect();
        let named: BTreeSet<String> = standing.iter().map(|entry| Self::entry_name(entry)).collect();
        let mut roots: BTreeSet<Root> = standing.iter().filter_map(|entry| entry.root()).chain(staged).collect();
        let mut superseded = Vec::new();
        for name in self.own_files(ENTRY)? {
            if named.contains(&name) || !is_known(&name) {
                continue;
            }
            let path = self.own.join(&name);
            let entry = read_entry(&path).ok().and_then(|bytes| SignedEntry::decode(&bytes).ok());
            // Rubbish, and files written by a newer version of this program, aren't ours to remove.
            let earlier = |entry: &SignedEntry| {
                entry.key.author() == newest.key.author()
                    && entry.federation == newest.federation
                    && entry.sequence < newest.sequence
            };
            if let Some(entry) = entry.filter(earlier) {
                // Its value stays for now: somebody may have just listed it.
                roots.extend(entry.root());
                superseded.push(path);
            }
        }
        superseded.iter().try_for_each(|path| remove_file(path))?;
        self.remove_values_except(&roots)
    }

    /// Removes the author's values that no entry names.
    pub(super) fn remove_unnamed_values(&self, board: &Board) -> Result<(), FolderError> {
        let Some(author) = self.own.file_name().and_then(|name| name.to_str()?.parse().ok()) else { return Ok(()) };
        let roots = board.set().of_author(author).filter_map(|entry| entry.root()).collect();
        self.remove_values_except(&roots)
    }

    fn remove_values_except(&self, roots: &BTreeSet<Root>) -> Result<(), FolderError> {
        let is_newer = |name: &String| {
            let bytes = read_entry(&self.own.join(name));
            bytes.is_ok_and(|bytes| SignedEntry::decode(&bytes).is_err_and(|error| error.is_newer()))
        };
        if self.own_files(ENTRY)?.iter().any(is_newer) {
            // It shows a value to those who can read it, and which one only they know.
            return Ok(());
        }
        for name in self.own_files(VALUE)? {
            let root = name.strip_suffix(VALUE).and_then(|name| name.strip_suffix('.')?.parse::<Root>().ok());
            if root.is_some_and(|root| !roots.contains(&root)) {
                remove_file(&self.own.join(name))?;
            }
        }
        Ok(())
    }

    fn own_files(&self, extension: &str) -> Result<Vec<String>, FolderError> {
        file_names(&self.own, extension).map_err(failed("listing", &self.own))
    }
}

/// Opens a file for reading. Anything else is an error: opening a pipe would wait for its writer.
fn open_file(path: &Path) -> io::Result<fs::File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    fs::File::open(path)
}

/// The bytes of a possible entry.
pub(super) fn read_entry(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(MAX_ENTRY_BYTES + 1);
    // One more than allowed, so that what is too long is refused rather than cut.
    open_file(path)?.take(MAX_ENTRY_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn remove_file(path: &Path) -> Result<(), FolderError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", path)(error)),
        _ => Ok(()),
    }
}

/// Names of the files in `dir` with this extension, in order.
pub(super) fn file_names(dir: &Path, extension: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(dir)? {
        if let Ok(name) = file?.file_name().into_string()
            && Path::new(&name).extension().is_some_and(|found| found == extension)
            && !name.starts_with('.')
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
