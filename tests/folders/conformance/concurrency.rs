//! Conformance: several writers and readers at the same time, and puts that are cancelled.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

pub async fn several_authors_write_at_once<H: Harness>() {
    let storage = H::new().await;
    let mut tasks = Vec::new();
    let mut folders = Vec::new();
    for seed in 1..=4 {
        let folder = storage.open(author(seed)).await;
        folders.push(folder.clone());
        tasks.push(beside(async move {
            let mut standing = Vec::new();
            for number in 0..12 {
                let value = numbered(u64::from(seed) * 1000 + number);
                let key = key(seed, &format!("{}", number % 4));
                standing.push(folder.put(&key, &value, epoch(number)).await.unwrap());
            }
            standing.split_off(8)
        }));
    }
    let mut standing = Vec::new();
    for task in tasks {
        standing.extend(task.await.unwrap());
    }
    for folder in &folders {
        // Two that agree on a network may lack the same.
        for entry in &standing {
            be_told::<H>(folder, entry).await;
        }
        agree(&**folder, &*folders[0]).await;
        let entries = folder.list("").await.unwrap();
        assert_eq!(entries.len(), 16);
        for entry in entries {
            let number = entry.metadata().unwrap().epoch;
            assert!(number >= 8);
            let seed = (1..=4).find(|&seed| peer(seed) == entry.key.author()).unwrap();
            assert_eq!(fetch(&**folder, &entry).await.unwrap(), numbered(u64::from(seed) * 1000 + number));
        }
        assert!(folder.conflicts().await.unwrap().is_empty());
    }
}

pub async fn one_author_writes_from_several_tasks<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let tasks: Vec<_> = (0..6u64)
        .map(|task| {
            let writer = writer.clone();
            beside(async move {
                let mut entries = Vec::new();
                for number in 0..6 {
                    // Each has a key of its own, and all write one together.
                    let value = numbered(task * 100 + number);
                    entries.push(writer.put(&key(1, &format!("{task}")), &value, epoch(number)).await.unwrap());
                    entries.push(writer.put(&key(1, "shared"), &value, epoch(task * 100 + number)).await.unwrap());
                    // A key that nobody else writes can be read at any moment.
                    assert_eq!(fetch(&*writer, &entries[entries.len() - 2]).await.unwrap(), value);
                }
                entries
            })
        })
        .collect();
    let mut entries = Vec::new();
    for task in tasks {
        entries.extend(task.await.unwrap());
    }
    entries.sort_by_key(|entry| entry.sequence);
    assert!(entries.windows(2).all(|pair| pair[0].sequence < pair[1].sequence), "a number was given twice");
    agree(&*writer, &*reader).await;
    assert!(reader.conflicts().await.unwrap().is_empty());
    for entry in reader.list("").await.unwrap() {
        let newest = entries.iter().rfind(|other| other.key == entry.key).unwrap();
        assert_eq!(entry, *newest);
        fetch(&*reader, &entry).await.unwrap();
    }
}

pub async fn readers_never_see_half_a_value<H: Harness>() {
    let storage = H::new().await;
    let writer = storage.open(author(1)).await;
    let done = Arc::new(AtomicBool::new(false));
    let (read, mut reads) = watch::channel(0);
    let mut readers = Vec::new();
    for seed in 2..5 {
        let reader = storage.open(author(seed)).await;
        let (done, read) = (done.clone(), read.clone());
        readers.push(beside(async move {
            while !done.load(Ordering::Relaxed) {
                for entry in reader.list("").await.unwrap() {
                    match fetch(&*reader, &entry).await {
                        Ok(weights) => {
                            assert_eq!(weights, numbered(entry.metadata().unwrap().epoch));
                            read.send_modify(|reads| *reads += 1);
                        }
                        Err(error) => assert!(matches!(error, FolderError::Gone { .. }), "{error}"),
                    }
                }
            }
        }));
    }
    // So that the wait below ends if all readers have failed.
    drop(read);
    let mut number = 0;
    while number < 60 || *reads.borrow_and_update() < 20 {
        writer.put(&key(1, "k"), &numbered(number), epoch(number)).await.unwrap();
        number += 1;
        // On a busy machine a value would be gone before anybody has read it.
        if number > 60 {
            reads.changed().await.unwrap();
        }
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
}

pub async fn a_cancelled_put_is_whole_or_nothing<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let k = key(1, "k");
    writer.put(&k, &numbered(0), epoch(0)).await.unwrap();
    for number in 1..20 {
        let value = numbered(number);
        tokio::select! {
            biased;
            put = writer.put(&k, &value, epoch(number)) => { put.unwrap(); }
            () = async { for _ in 0..number { tokio::task::yield_now().await } } => {}
        }
        let entries = reader.list("").await.unwrap();
        if let Some(entry) = entries.first() {
            match fetch(&*reader, entry).await {
                Ok(weights) => assert_eq!(weights, numbered(entry.metadata().unwrap().epoch)),
                Err(error) => assert!(matches!(error, FolderError::Gone { .. }), "{error}"),
            }
        }
    }
    let last = writer.put(&k, &numbered(77), epoch(77)).await.unwrap();
    // A put that was cancelled may still come to its end, with a number of its own, and never as a second voice.
    eventually(async || listed(&*reader, "").await.iter().any(|(_, sequence)| *sequence >= last.sequence)).await;
    assert!(reader.conflicts().await.unwrap().is_empty());
}
