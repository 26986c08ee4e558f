//! A process is killed while it puts and fetches: nothing whose call had returned is lost, and nothing bad is returned.

use crate::caches;

use caches::*;
use peerfold::cache::{CacheError, Opened, Retention};
use peerfold::entries::EntrySet;
use peerfold::weights::*;
use std::{
    collections::BTreeSet,
    env, fs,
    io::{BufRead, BufReader, Lines, Write, stdout},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
};

/// Tells the test binary that it is to be the process that is killed: directory, first epoch.
const ROLE: &str = "PEERFOLD_TEST_CACHE";
const RETURNED: &str = "returned ";
const STEP: &str = "step";
/// How often, unless `PEERFOLD_TEST_KILLS` says otherwise: `PEERFOLD_TEST_KILLS=100 cargo test kill` is the long form of
/// all tests that kill at random moments.
const KILLS: u64 = 20;
/// Room for about five values, the entries and the index: what is fetched is evicted again.
const QUOTA: u64 = 10 << 20;

fn say(line: &str) {
    let mut out = stdout().lock();
    writeln!(out, "\n{line}").unwrap();
    out.flush().unwrap();
}

fn returned(entry: &SignedEntry) {
    let hex: Vec<String> = entry.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    say(&format!("{RETURNED}{}", hex.concat()));
}

/// The value of an author's epoch: its first tensor never changes.
fn value_of(signer: u8, epoch: u64) -> Weights {
    weights(&[(0, 300_000), (epoch * 10 + u64::from(signer), CHUNK_BYTES as usize + 10), (epoch, 50)])
}

/// Is a test in name only: a process that puts and fetches, when the test below starts it.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let (dir, first) = role.split_once('\n').unwrap();
    let Opened { mut cache, entries, .. } = open(Path::new(dir), QUOTA);
    let mut set = EntrySet::new(federation());
    entries.into_iter().for_each(|entry| drop(set.insert(entry)));
    for epoch in first.parse().unwrap().. {
        for signer in [1, 2, 3] {
            let value = value_of(signer, epoch);
            let manifest = value.manifest();
            let entry = Arc::new(entry(signer, &format!("update/{epoch}"), epoch, &manifest));
            if signer == 1 {
                // As the folder does: what may be evicted is decided in each life anew.
                let kept = match cache.put_value(&manifest, &value) {
                    Err(CacheError::Full { .. }) => {
                        cache.retain(|| Retention::of(&set, author(1))).unwrap();
                        cache.put_value(&manifest, &value)
                    }
                    kept => kept,
                };
                let _pin = kept.unwrap();
                say(STEP);
                cache.put_entry(&entry, || set.insert(entry.clone())).unwrap().unwrap();
            } else {
                set.insert(entry.clone()).unwrap();
                cache.save_entry(&entry).unwrap();
                // Of one author a half of each value is fetched.
                fetch_some(&cache, &value, |chunk| {
                    say(STEP);
                    signer == 2 || chunk % 2 == 0
                });
            }
            returned(&entry);
            cache.retain(|| Retention::of(&set, author(1))).unwrap();
            say(STEP);
        }
        if epoch % 2 == 0 {
            cache.close();
            say(STEP);
            cache = open(Path::new(dir), QUOTA).cache;
            say(STEP);
        }
    }
}

/// The process. Killed when dropped.
struct Writer {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(dir: &Path, first: u64) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "cache_crash::child", "--nocapture", "--test-threads=1"])
            .env(ROLE, format!("{}\n{first}", dir.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The next line that it says: an entry that has returned, or another step. `None` when it has ended.
    fn said(&mut self) -> Option<Option<SignedEntry>> {
        let is_said = |line: &String| line == STEP || line.starts_with(RETURNED);
        let line = self.lines.by_ref().map_while(Result::ok).find(is_said)?;
        let hex = line.strip_prefix(RETURNED).unwrap_or("");
        // A line that the kill cut short is of a put that may not have returned.
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok());
        Some(bytes.collect::<Option<Vec<u8>>>().and_then(|bytes| SignedEntry::decode(&bytes).ok()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_killed_process_loses_nothing_that_had_returned() {
    let dir = tempfile::tempdir().unwrap();
    let mut all: Vec<Arc<SignedEntry>> = Vec::new();
    let kills = env::var("PEERFOLD_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    for kill in 0..kills {
        let mut writer = Writer::start(dir.path(), kill * 1000 + 1);
        // The next step is on its way when the kill comes.
        for _ in 0..1 + (kill * 7) % 31 {
            all.extend(writer.said().expect("it failed").map(Arc::new));
        }
        writer.process.kill().unwrap();
        all.extend(std::iter::from_fn(|| writer.said()).flatten().map(Arc::new));
        drop(writer);
        if kill % 5 == 4 {
            fs::remove_dir_all(dir.path().join("index")).unwrap();
        }
        check(dir.path(), &all);
    }
    assert!(all.len() as u64 > kills);
}

fn check(dir: &Path, returned: &[Arc<SignedEntry>]) {
    let opened = open(dir, QUOTA);
    let cache = opened.cache;
    let mut set = EntrySet::new(federation());
    for entry in &opened.entries {
        // Entries that the kill left no time to remove may be there.
        set.insert(entry.clone()).unwrap();
    }
    let found: BTreeSet<EntryHash> = set.iter("").map(|entry| entry.hash()).collect();
    // What had returned adds nothing to what was found: it is there, or something newer is.
    for entry in returned {
        assert!(found.contains(&entry.hash()) || !set.insert(entry.clone()).unwrap(), "{} is lost", entry.key);
    }
    for entry in set.iter("") {
        let (epoch, root) = (entry.metadata().unwrap().epoch, entry.root().unwrap());
        let signer = (1..=3).find(|&signer| author(signer) == entry.key.author()).unwrap();
        match read(&cache, root) {
            Some(bytes) => assert!(bytes == bytes_of(&value_of(signer, epoch))),
            None => assert!(signer != 1, "the value of {} is lost", entry.key),
        }
    }
    let mut bytes = 0;
    for path in files(&dir.join("blobs")) {
        let hash: BlobHash = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let blob = cache.blob(hash).unwrap().unwrap_or_else(|| panic!("{} was damaged", path.display()));
        assert_eq!(BlobHash::of(&blob), hash);
        bytes += blob.len() as u64;
    }
    assert_eq!(cache.used(), bytes);
    let leftovers = |path: &&std::path::PathBuf| path.to_string_lossy().contains("partial");
    let files = files(dir);
    assert_eq!(files.iter().find(leftovers), None);
}
