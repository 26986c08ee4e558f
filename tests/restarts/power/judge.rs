//! What must be left of a node after a power cut, and what must become of it.

use super::{
    DISK, EPOCHS, Kind, Undisturbed,
    disk::{Tree, lay_out},
    emptied, run_dir,
};
use crate::process::{Ended, event};
use peerfold::{
    cache::{Cache, CacheSettings},
    folder::{Author, LocalFolder, SharedFolder},
    home::Home,
    node::{Checkpoint, Event},
    weights::{FederationId, Manifest, Root, SignedEntry, read_all},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

pub(super) fn federation() -> FederationId {
    FederationId::new("test", "1")
}

/// What a node has said of itself before the cut.
#[derive(Debug, Default)]
pub(super) struct Promised {
    peer: Option<String>,
    /// Of each number the epoch and the root.
    published: BTreeMap<u64, (u64, String)>,
    /// The newest epoch that is complete.
    complete: u64,
    finished: bool,
}

impl Promised {
    pub(super) fn by<'a>(printed: impl Iterator<Item = &'a str>) -> Self {
        let mut promised = Self::default();
        for line in printed {
            promised.add(&event(line)).unwrap();
        }
        promised
    }

    /// Errors if it contradicts what was said before.
    fn add(&mut self, said: &Event) -> Result<(), String> {
        match said {
            Event::Started { peer, .. } => {
                let before = self.peer.get_or_insert_with(|| peer.clone());
                check(before == peer, || "it has another identity".to_owned())?;
            }
            Event::Published { epoch, root, sequence, .. } => {
                let this = (*epoch, root.clone());
                let before = self.published.entry(*sequence).or_insert_with(|| this.clone());
                check(*before == this, || format!("the number {sequence} is used twice"))?;
                let other = self.published.values().find(|(of, other)| of == epoch && other != root);
                check(other.is_none(), || format!("epoch {epoch} is published with other weights"))?;
            }
            Event::EpochDone { epoch, .. } => self.complete = self.complete.max(*epoch),
            Event::Finished { .. } => self.finished = true,
            Event::ProgressDropped { reason, .. } => return Err(format!("steps are dropped: {reason}")),
            _ => {}
        }
        Ok(())
    }

    fn newest(&self) -> Option<(u64, u64)> {
        self.published.iter().next_back().map(|(&number, &(epoch, _))| (number, epoch))
    }
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Looks what is left, and goes on from it with the program.
pub(super) fn judge(
    kind: &Kind,
    tree: &Tree,
    promised: &Promised,
    expected: Option<&Undisturbed>,
) -> Result<(), String> {
    let sandbox = emptied();
    lay_out(tree, &sandbox.path(DISK));
    let disk = sandbox.path(DISK);
    is_left(&disk, promised, expected)?;
    let ended = Ended::of(kind.node(&sandbox, EPOCHS + 1));
    check(ended.status.success() && !ended.log.contains("panicked"), || format!("{}: {}", ended.status, ended.log))?;
    let mut now =
        Promised { published: promised.published.clone(), peer: promised.peer.clone(), ..Promised::default() };
    ended.events().iter().try_for_each(|event| now.add(event))?;
    let newest = now
        .newest()
        .filter(|&(number, epoch)| epoch == EPOCHS + 1 && promised.newest().is_none_or(|(before, _)| number > before));
    check(newest.is_some(), || format!("it published {:?} after {:?}", now.published, promised.published))?;
    is_left(&disk, &now, expected)?;
    serves_what_verifies(&disk)?;
    // Beside `--out` the node may not clean up.
    let mut left = super::disk::tree(&disk).into_keys();
    let litter =
        left.find(|path| path.parent() != Some(Path::new("")) && path.to_string_lossy().contains("/.partial-"));
    check(litter.is_none(), || format!("{litter:?} stays"))?;
    let Some(expected) = expected else { return Ok(()) };
    for (epoch, root) in now.published.values() {
        check(expected.roots.get(epoch) == Some(root), || format!("epoch {epoch} has other weights"))?;
    }
    let model = fs::read(disk.join("model.safetensors")).unwrap();
    check(model == expected.model, || "the last weights are others".to_owned())?;
    let mut left = blobs(&disk);
    if left != expected.blobs {
        // What was still in use at the end goes at the next start. What came back and isn't counted doesn't.
        Ended::of(kind.node(&sandbox, EPOCHS + 1)).success();
        left = blobs(&disk);
    }
    let one_side = |name: &&String| left.contains(*name) != expected.blobs.contains(*name);
    let different: Vec<_> = left.iter().chain(&expected.blobs).filter(one_side).collect();
    check(different.is_empty(), || format!("the cache has {} blobs, with {different:?} or without", left.len()))
}

/// All that was promised is on the disk.
fn is_left(disk: &Path, promised: &Promised, expected: Option<&Undisturbed>) -> Result<(), String> {
    let Some(peer) = &promised.peer else { return Ok(()) };
    let left = Home::existing_peer_id(&disk.join("home")).map_err(|error| error.to_string())?;
    check(left.is_some_and(|left| left.to_string() == *peer), || format!("the identity is {left:?}"))?;
    let home_run = run_dir(disk);
    let checkpoint = Checkpoint::load(&home_run).map_err(|error| error.to_string())?;
    let at = checkpoint.as_ref().map(|checkpoint| (checkpoint.epoch, checkpoint.phase.is_complete()));
    let published = promised.published.values().map(|&(epoch, _)| epoch).max().unwrap_or(0);
    let least = (published.max(promised.complete), promised.complete >= published);
    check(at.unwrap_or_default() >= least || least == (0, true), || {
        format!("the checkpoint is of {at:?}, not {least:?}")
    })?;
    if let (Some(checkpoint), Some(expected)) = (&checkpoint, expected) {
        let root = checkpoint.weights.manifest().root().to_string();
        let known = checkpoint.epoch == 0 || expected.roots.get(&checkpoint.epoch) == Some(&root);
        check(known, || format!("the checkpoint of epoch {} is a mixture", checkpoint.epoch))?;
    }
    let newest = Checkpoint::newest_complete(&home_run).map_err(|error| error.to_string())?;
    let newest = newest.map_or(0, |checkpoint| checkpoint.epoch);
    check(newest >= promised.complete, || format!("the newest complete epoch is {newest}, not {}", promised.complete))?;
    if disk.join("folder").exists() {
        entries_in_directory(disk, promised)
    } else {
        entries_in_cache(&home_run, peer, promised)
    }
}

/// Each update that was published is there with its value, or two newer ones are.
fn is_kept(
    promised: &Promised,
    there: &BTreeMap<u64, u64>,
    whole: impl Fn(u64) -> Result<(), String>,
) -> Result<(), String> {
    for (&number, &(epoch, _)) in &promised.published {
        let stands = there.get(&epoch).is_some_and(|&there| there >= number);
        let replaced = there.values().filter(|&&other| other > number).count() >= 2;
        check(stands || replaced, || format!("the update of epoch {epoch}, number {number}, is lost: {there:?}"))?;
        if stands && !replaced {
            whole(epoch)?;
        }
    }
    Ok(())
}

fn entries_in_cache(run_dir: &Path, peer: &str, promised: &Promised) -> Result<(), String> {
    let cache = run_dir.join("cache");
    let (mut there, mut roots) = (BTreeMap::new(), BTreeMap::new());
    for path in files(&cache.join("entries")) {
        let Ok(entry) = SignedEntry::decode(&fs::read(&path).unwrap()) else { continue };
        let Some(epoch) = entry.key.update_epoch().filter(|_| entry.key.author().to_string() == peer) else { continue };
        if there.insert(epoch, entry.sequence).is_none_or(|before| before < entry.sequence) {
            roots.insert(epoch, entry.root().unwrap());
        }
    }
    is_kept(promised, &there, |epoch| {
        let lost = || format!("the value of epoch {epoch} is lost");
        let manifest = blob(&cache, &roots[&epoch].to_string()).ok_or_else(lost)?;
        check(Root::from_bytes(*blake3::hash(&manifest).as_bytes()) == roots[&epoch], lost)?;
        let manifest = Manifest::decode(&manifest).map_err(|error| error.to_string())?;
        let is_there = |name: String| blob(&cache, &name).is_some_and(|bytes| *blake3::hash(&bytes).to_hex() == *name);
        check(manifest.chunks().iter().map(ToString::to_string).all(is_there), lost)
    })
}

fn blob(cache: &Path, name: &str) -> Option<Vec<u8>> {
    fs::read(cache.join("blobs").join(&name[..2]).join(name)).ok()
}

fn entries_in_directory(disk: &Path, promised: &Promised) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let reader = Author::in_memory(crate::nodes::keypair(0), federation());
        let folder = LocalFolder::open_to_read(&disk.join("folder"), reader).map_err(|error| error.to_string())?;
        let entries = folder.list("").await.map_err(|error| error.to_string())?;
        let (mut there, mut values) = (BTreeMap::new(), BTreeMap::new());
        for entry in entries {
            let Some(epoch) = entry.key.update_epoch() else { continue };
            there.insert(epoch, entry.sequence);
            values.insert(epoch, folder.get(&entry).await);
        }
        is_kept(promised, &there, |epoch| match &values[&epoch] {
            Ok(value) => read_all(value).map(drop).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        })
    })
}

/// Whatever the cache gives to others is what was asked for, also of what was fetched and not flushed.
fn serves_what_verifies(disk: &Path) -> Result<(), String> {
    let dir = run_dir(disk).join("cache");
    if !dir.exists() {
        return Ok(());
    }
    let opened = Cache::open(&dir, federation(), &CacheSettings::default()).map_err(|error| error.to_string())?;
    for name in blobs(disk) {
        let given = opened.cache.blob(name.parse().unwrap()).map_err(|error| error.to_string())?;
        let wrong = given.is_some_and(|bytes| *blake3::hash(&bytes).to_hex() != *name);
        check(!wrong, || format!("{name} is served and damaged"))?;
    }
    Ok(())
}

/// The names of the blobs in the cache, if there is one.
pub(super) fn blobs(disk: &Path) -> Vec<String> {
    let shards = files(&run_dir(disk).join("cache/blobs"));
    let mut names: Vec<String> = shards
        .iter()
        .flat_map(|shard| files(shard))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort_unstable();
    names
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).map_or_else(|_| Vec::new(), |files| files.map(|file| file.unwrap().path()).collect())
}
