//! Directory folders only: damaged files, leftovers, and files that aren't entries.

use super::{harnesses::Local, *};
use peerfold::folder::LocalFolder;
use std::{fs, os::unix::fs::symlink, process::Command};

#[tokio::test]
async fn any_damaged_byte_is_an_error() {
    let storage = Local::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let entry = writer.put(&key(1, "k"), &numbered(1), epoch(1)).await.unwrap();
    let path = storage.value_file(&entry);
    let intact = fs::read(&path).unwrap();
    let manifest = u32::from_le_bytes(intact[..4].try_into().unwrap()) as usize;
    let damaged = async |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let error = fetch(&*reader, &entry).await.expect_err(what);
        let read = matches!(error, FolderError::Read(peerfold::weights::ReadError::Damaged { .. }));
        assert!(read || matches!(error, FolderError::Damaged { .. }), "{what}: {error}");
    };
    // All of the head, and places all over the chunks.
    let positions = (0..4 + manifest).chain((4 + manifest..intact.len()).step_by(200_003)).chain([intact.len() - 1]);
    for at in positions {
        let mut bytes = intact.clone();
        bytes[at] ^= 1;
        damaged(&bytes, &format!("byte {at}")).await;
    }
    for length in [0, 3, 4, 5, 3 + manifest, 4 + manifest, 5 + manifest, intact.len() / 2, intact.len() - 1] {
        damaged(&intact[..length], &format!("cut at {length}")).await;
    }
    damaged(&[&intact[..], b"x"].concat(), "too long").await;
    damaged(&[0xff; 64], "rubbish").await;
    let mut other = intact.clone();
    other.rotate_left(1 << 20);
    damaged(&other, "rotated").await;
    fs::write(&path, &intact).unwrap();
    assert_eq!(fetch(&*reader, &entry).await.unwrap(), numbered(1));
    // A handle that was opened before the damage notices it too.
    let handle = reader.get(&entry).await.unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
    assert!(matches!(read(handle).await, Err(FolderError::Read(_))));
    fs::remove_file(&path).unwrap();
    assert!(matches!(reader.get(&entry).await, Err(FolderError::Gone { .. })));
    // Who put it can put it again.
    let again = writer.put(&key(1, "k"), &numbered(1), epoch(1)).await.unwrap();
    learn(&*reader, &again).await;
    assert_eq!(fetch(&*reader, &again).await.unwrap(), numbered(1));
}

#[tokio::test]
async fn what_is_no_entry_disturbs_nothing() {
    let storage = Local::new().await;
    let writer = storage.open(author(1)).await;
    let entry = writer.put(&key(1, "k"), &numbered(1), epoch(1)).await.unwrap();
    let root = storage.dir.path().join(federation().to_string());
    let own = storage.author_dir(federation(), peer(1));
    fs::write(root.join("README"), "hello").unwrap();
    fs::write(root.join(peer(9).to_base58()), "a file where an author's directory would be").unwrap();
    fs::create_dir(root.join("lost+found")).unwrap();
    fs::create_dir(own.join("directory.entry")).unwrap();
    fs::create_dir(own.join("directory.value")).unwrap();
    symlink("/dev/zero", own.join("endless.entry")).unwrap();
    symlink("nowhere", own.join("dangling.entry")).unwrap();
    // To open a pipe would wait for its writer, which never comes.
    assert!(Command::new("mkfifo").arg(own.join("pipe.entry")).status().unwrap().success());
    fs::File::create(own.join("huge.entry")).unwrap().set_len(1 << 40).unwrap();
    let reader = storage.open(author(2)).await;
    for folder in [&writer, &reader] {
        assert_eq!(folder.list("").await.unwrap(), [entry.clone()]);
    }
    let next = writer.put(&key(1, "k"), &numbered(2), epoch(2)).await.unwrap();
    assert_eq!(reader.list("").await.unwrap(), [next.clone()]);
    let again = storage.open(author(1)).await;
    assert_eq!(again.list("").await.unwrap(), [next.clone()]);
    assert!(own.join("huge.entry").exists(), "what isn't understood isn't removed");
    // Nor is a value that isn't a file waited for.
    fs::remove_file(storage.value_file(&next)).unwrap();
    assert!(Command::new("mkfifo").arg(storage.value_file(&next)).status().unwrap().success());
    assert!(reader.get(&next).await.is_err());
}

#[tokio::test]
async fn leftovers_are_cleaned_by_their_author_alone() {
    let storage = Local::new().await;
    let writer = storage.open(author(1)).await;
    let entry = writer.put(&key(1, "k"), &numbered(1), epoch(1)).await.unwrap();
    drop(writer);
    let own = storage.author_dir(federation(), peer(1));
    fs::write(own.join(".partial-abc"), "half").unwrap();
    fs::write(own.join(format!("{}.value", forge(1, "k", 8, federation()).root().unwrap())), "unnamed").unwrap();
    fs::write(own.join("notes.value"), "someone's").unwrap();
    let reader = storage.open(author(2)).await;
    assert_eq!(reader.list("").await.unwrap(), [entry.clone()]);
    assert!(own.join(".partial-abc").exists(), "another's directory is left alone");
    let writer = storage.open(author(1)).await;
    assert!(!own.join(".partial-abc").exists());
    let mut values = storage.files(federation(), peer(1), ".value");
    values.sort();
    let mut expected = [format!("{}.value", entry.root().unwrap()), "notes.value".to_owned()];
    expected.sort();
    assert_eq!(values, expected);
    let next = writer.put(&key(1, "k"), &numbered(2), epoch(2)).await.unwrap();
    assert!(next.sequence > entry.sequence);
    fetch(&*reader, &next).await.unwrap();
}

#[tokio::test]
async fn old_files_are_cleaned_up() {
    let storage = Local::new().await;
    let writer = storage.open(author(1)).await;
    for number in 0..10 {
        writer.put(&Key::update(peer(1), number), &numbered(number), epoch(number)).await.unwrap();
        writer.put(&key(1, "k"), &numbered(100 + number), epoch(number)).await.unwrap();
        assert!(storage.files(federation(), peer(1), ".entry").len() <= 3);
        // Three that stand, and one that someone may have listed just now.
        assert!(storage.files(federation(), peer(1), ".value").len() <= 4);
    }
    writer.remove(&key(1, "k")).await.unwrap();
    writer.put(&key(1, "other"), &artifact("x"), epoch(0)).await.unwrap();
    assert_eq!(storage.files(federation(), peer(1), ".entry").len(), 4);
    assert_eq!(storage.files(federation(), peer(1), ".value").len(), 3);
    assert_eq!(storage.files(federation(), peer(1), "").len(), 7);
}

#[tokio::test]
async fn refused_puts_leave_no_file() {
    let storage = Local::new().await;
    let writer = storage.open(author(1)).await;
    for number in 0..peerfold::entries::MAX_ENTRIES_PER_AUTHOR {
        writer.put(&key(1, &format!("{number}")), &artifact("x"), epoch(0)).await.unwrap();
    }
    let before = storage.files(federation(), peer(1), "");
    let refused = writer.put(&key(1, "one more"), &numbered(1), epoch(0)).await;
    assert!(matches!(refused, Err(FolderError::TooManyKeys { .. })));
    assert_eq!(storage.files(federation(), peer(1), ""), before);
}

/// A handle that opens while a file is superseded must not take the key for empty.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_overwritten_is_never_missing() {
    let storage = Arc::new(Local::new().await);
    let writer = storage.open(author(1)).await;
    writer.put(&key(1, "k"), &artifact("first"), epoch(0)).await.unwrap();
    let opening = {
        let dir = storage.dir.path().to_owned();
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for number in 0..300 {
                let fresh = LocalFolder::open(&dir, author(2)).unwrap();
                assert_eq!(runtime.block_on(fresh.list("")).unwrap().len(), 1, "in round {number}");
            }
        })
    };
    let mut number = 0;
    while !opening.is_finished() {
        number += 1;
        writer.put(&key(1, "k"), &artifact(format!("{number}")), epoch(number)).await.unwrap();
    }
    opening.await.unwrap();
}

#[tokio::test]
async fn an_excluded_author_can_open_and_be_readmitted() {
    let storage = Local::new().await;
    let writer = storage.open(author(1)).await;
    let entry = writer.put(&key(1, "k"), &numbered(1), epoch(1)).await.unwrap();
    drop(writer);
    storage.plant(federation(), peer(1), forge(1, "other", entry.sequence, federation()).bytes()).await;
    let writer = storage.open(author(1)).await;
    assert_eq!(writer.conflicts().await.unwrap().len(), 1);
    assert!(matches!(writer.list("").await, Err(FolderError::CopiedIdentity { .. })));
    assert!(storage.value_file(&entry).exists(), "nothing is cleaned up before the operator has looked");
    writer.readmit(peer(1)).unwrap();
    let next = writer.put(&key(1, "k"), &numbered(2), epoch(2)).await.unwrap();
    assert!(next.sequence > entry.sequence);
    assert!(writer.list("").await.unwrap().contains(&next));
}
