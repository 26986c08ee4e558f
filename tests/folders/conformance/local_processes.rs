//! Directory folders only: several processes on one directory, some of them killed.

use super::{harnesses::Local, *};
use peerfold::folder::LocalFolder;
use peerfold::home::Home;
use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Lines, Write, stdout},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

/// Tells the test binary that it is to be a writer: directory, home, first epoch, number of puts.
const ROLE: &str = "PEERFOLD_TEST_WRITER";
const RETURNED: &str = "returned ";

/// Is a test in name only: a process that writes, when one of the tests below starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let [dir, home, first, count] = role.split('\n').collect::<Vec<_>>().try_into().unwrap();
    let home = Home::open(home).unwrap();
    let folder = LocalFolder::open(Path::new(dir), Author::from_home(&home, federation())).unwrap();
    let first: u64 = first.parse().unwrap();
    for number in first..first + count.parse::<u64>().unwrap() {
        let key = match number % 3 {
            0 => Key::update(folder.author(), number),
            other => Key::new(folder.author(), format!("key {other}")).unwrap(),
        };
        let entry = folder.put(&key, &numbered(number), epoch(number)).await.unwrap();
        let hex: Vec<String> = entry.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut out = stdout().lock();
        writeln!(out, "\n{RETURNED}{}", hex.concat()).unwrap();
        out.flush().unwrap();
    }
}

/// A writing process. Killed when dropped.
struct Writer {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(dir: &Path, home: &Path, first: u64, count: u64) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", "conformance::local_processes::child", "--nocapture", "--test-threads=1"])
            .env(
                ROLE,
                [&dir.display().to_string(), &home.display().to_string(), &first.to_string(), &count.to_string()]
                    .map(String::as_str)
                    .join("\n"),
            )
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The entry of the next put that has returned; `None` when the process has ended.
    fn returned(&mut self) -> Option<Arc<SignedEntry>> {
        let hex = self.lines.by_ref().find_map(|line| Some(line.ok()?.strip_prefix(RETURNED)?.to_owned()))?;
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
        // A line that the kill cut short is of a put that may not have returned.
        SignedEntry::decode(&bytes.collect::<Result<Vec<_>, _>>().ok()?).ok().map(Arc::new)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What must stand after these puts: the newest of each key, and two updates.
fn standing(entries: &[Arc<SignedEntry>]) -> BTreeMap<Key, Arc<SignedEntry>> {
    let mut newest = BTreeMap::new();
    let mut updates = Vec::new();
    for entry in entries {
        newest.insert(entry.key.clone(), entry.clone());
        if entry.key.update_epoch().is_some() {
            updates.push(entry.key.clone());
        }
    }
    updates.iter().rev().skip(2).for_each(|key| drop(newest.remove(key)));
    newest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_processes_write_and_one_reads() {
    let storage = Local::new().await;
    let homes = tempfile::tempdir().unwrap();
    let reader = storage.open(author(9)).await;
    let mut watch = reader.watch("");
    let writers: Vec<_> = (0..4)
        .map(|number| {
            let home = homes.path().join(number.to_string());
            let mut writer = Writer::start(storage.dir.path(), &home, number * 1000, 20);
            tokio::task::spawn_blocking(move || {
                let entries: Vec<_> = std::iter::from_fn(|| writer.returned()).collect();
                assert!(writer.process.wait().unwrap().success());
                entries
            })
        })
        .collect();
    let all_written = beside(async move {
        let mut expected = BTreeMap::new();
        for writer in writers {
            let entries = writer.await.unwrap();
            assert_eq!(entries.len(), 20);
            expected.extend(standing(&entries));
        }
        expected
    });
    let told = beside({
        let reader = reader.clone();
        async move {
            let mut expected = None;
            let mut told: BTreeMap<Key, Arc<SignedEntry>> = BTreeMap::new();
            let mut all_written = all_written;
            loop {
                tokio::select! {
                    entry = watch.next() => {
                        match fetch(&*reader, &entry).await {
                            Ok(weights) => assert_eq!(weights, numbered(entry.metadata().unwrap().epoch)),
                            Err(error) => assert!(matches!(error, FolderError::Gone { .. }), "{error}"),
                        }
                        let before = told.insert(entry.key.clone(), entry.clone());
                        assert!(before.is_none_or(|before| before.sequence < entry.sequence));
                    }
                    written = &mut all_written, if expected.is_none() => expected = Some(written.unwrap()),
                }
                let complete = |expected: &mut BTreeMap<Key, Arc<SignedEntry>>| {
                    expected.iter().all(|(key, entry)| told.get(key) == Some(entry))
                };
                if let Some(expected) = expected.take_if(complete) {
                    return expected;
                }
            }
        }
    });
    let expected = tokio::time::timeout(PATIENCE, told).await.expect("it hangs").unwrap();
    let listed = reader.list("").await.unwrap();
    assert_eq!(listed, expected.into_values().collect::<Vec<_>>());
    for entry in listed {
        assert_eq!(fetch(&*reader, &entry).await.unwrap(), numbered(entry.metadata().unwrap().epoch));
    }
    assert!(reader.conflicts().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_writer_loses_nothing_that_was_returned() {
    let storage = Local::new().await;
    let home = tempfile::tempdir().unwrap();
    let watcher = storage.open(author(9)).await;
    let mut last: Option<Arc<SignedEntry>> = None;
    for round in 0..8usize {
        let first = round as u64 * 1000;
        let mut writer = Writer::start(storage.dir.path(), home.path(), first, 900);
        let mut returned = Vec::new();
        // The next put is on its way when the kill comes.
        while returned.len() < 1 + 2 * round {
            returned.push(writer.returned().expect("the writer failed"));
        }
        writer.process.kill().unwrap();
        returned.extend(std::iter::from_fn(|| writer.returned()));
        drop(writer);
        assert!(returned.len() < 900, "it was not killed in the middle");
        assert!(returned.is_sorted_by_key(|entry| entry.sequence));
        assert!(last.is_none_or(|last| last.sequence < returned[0].sequence), "a number was given twice");
        last = returned.last().cloned();

        let late = storage.open(author(8)).await;
        for folder in [&watcher, &late] {
            let found = folder.list("").await.unwrap();
            for entry in &found {
                assert_eq!(fetch(&**folder, entry).await.unwrap(), numbered(entry.metadata().unwrap().epoch));
            }
            for (key, entry) in standing(&returned) {
                // One put more may be there than has returned: the one that was cut off. It may have pushed an update out.
                let newest = found.iter().find(|found| found.key == key);
                let pushed_out = key.update_epoch().is_some()
                    && found.iter().filter(|found| found.key.update_epoch() > key.update_epoch()).count() == 2;
                assert!(pushed_out || newest.is_some_and(|newest| newest.sequence >= entry.sequence), "{key} is lost");
            }
            assert!(folder.conflicts().await.unwrap().is_empty());
        }

        // Its author finds what it left and cleans up.
        let home = Home::open(home.path()).unwrap();
        let own = LocalFolder::open(storage.dir.path(), Author::from_home(&home, federation())).unwrap();
        let files = storage.files(federation(), own.author(), "");
        assert!(!files.iter().any(|name| name.starts_with(".partial-")), "{files:?}");
        let values = files.iter().filter(|name| name.ends_with(".value")).count();
        assert!(values <= own.list("").await.unwrap().len(), "{files:?}");
    }
}
