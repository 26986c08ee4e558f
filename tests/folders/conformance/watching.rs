//! Conformance: watchers learn of every change.

use super::*;
use std::collections::BTreeMap;

pub async fn existing_first_then_changes<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let mut standing = vec![
        writer.put(&key(1, "a"), &artifact("a"), epoch(1)).await.unwrap(),
        writer.put(&key(1, "b"), &artifact("b"), epoch(1)).await.unwrap(),
        reader.put(&key(2, "c"), &artifact("c"), epoch(1)).await.unwrap(),
    ];
    agree(&*writer, &*reader).await;
    let mut watch = reader.watch("");
    let mut told = vec![watch.next().await, watch.next().await, watch.next().await];
    told.sort_by_key(|entry| entry.hash());
    standing.sort_by_key(|entry| entry.hash());
    assert_eq!(told, standing);
    assert_eq!(watch.try_next(), None);
    for (name, by) in [("a", &writer), ("d", &writer), ("c", &reader)] {
        let key = Key::new(by.author(), name).unwrap();
        let changed = by.put(&key, &artifact("new"), epoch(2)).await.unwrap();
        assert_eq!(watch.next().await, changed);
    }
    assert_eq!(watch.try_next(), None);
}

pub async fn tombstones_are_told<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let entry = writer.put(&key(1, "k"), &artifact("x"), epoch(1)).await.unwrap();
    let mut watch = reader.watch("");
    assert_eq!(watch.next().await, entry);
    let tombstone = writer.remove(&key(1, "k")).await.unwrap();
    assert_eq!(watch.next().await, tombstone);
    assert_eq!(tombstone.content, Content::Tombstone);
    // A later watcher sees the tombstone as the current entry.
    assert_eq!(reader.watch("").next().await, tombstone);
}

pub async fn prefixes_are_honoured<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let mut updates = reader.watch(&format!("{}/update/", peer(1)));
    let mut nobody = reader.watch("no such author");
    let mut all = reader.watch("");
    for number in 0..5 {
        let other = writer.put(&key(1, &format!("m{number}")), &artifact("m"), epoch(number)).await.unwrap();
        let update = writer.put(&Key::update(peer(1), number), &artifact("u"), epoch(number)).await.unwrap();
        assert_eq!(updates.next().await, update);
        assert_eq!(updates.try_next(), None);
        assert_eq!(next_entries::<H>(&mut all, 2).await, [other, update]);
    }
    assert_eq!(nobody.try_next(), None);
}

pub async fn many_watchers<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let last = 30;
    let watchers: Vec<_> = (0..8)
        .map(|number| {
            let mut watch = [&writer, &reader][number % 2].watch("");
            beside(async move {
                let mut newest: BTreeMap<Key, u64> = BTreeMap::new();
                loop {
                    let entry = watch.next().await;
                    let before = newest.insert(entry.key.clone(), entry.sequence);
                    assert!(before.is_none_or(|before| before < entry.sequence), "told twice, or backwards");
                    if entry.sequence == last {
                        return newest;
                    }
                }
            })
        })
        .collect();
    for number in 0..last {
        writer.put(&key(1, &format!("{}", number % 3)), &artifact(number.to_string()), epoch(0)).await.unwrap();
    }
    for watcher in watchers {
        let newest = watcher.await.unwrap();
        assert_eq!(newest[&key(1, &format!("{}", (last - 1) % 3))], last);
        assert!(newest.len() <= 3);
    }
}

pub async fn cancelling_loses_nothing<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let mut watch = reader.watch("");
    let writing = beside(async move {
        let mut written = Vec::new();
        for number in 0..40 {
            let key = key(1, &format!("k{number}"));
            written.push(writer.put(&key, &artifact("x"), epoch(number)).await.unwrap());
        }
        // On a network the writer has to stay until it has told.
        (written, writer)
    });
    let mut told = Vec::new();
    while told.len() < 40 {
        // Every other wait is given up at its first pause.
        tokio::select! {
            biased;
            entry = watch.next() => told.push(entry),
            () = tokio::task::yield_now() => {
                told.push(watch.next().await);
            }
        }
    }
    let (written, _writer) = writing.await.unwrap();
    assert_eq!(in_order::<H>(told), written);
}

pub async fn of_several_changes_the_newest<H: Harness>() {
    let storage = H::new().await;
    let folder = storage.open(author(1)).await;
    let mut watch = folder.watch("");
    for number in 0..5 {
        folder.put(&key(1, "k"), &artifact("x"), epoch(number)).await.unwrap();
    }
    let newest = folder.put(&key(1, "k"), &artifact("y"), epoch(9)).await.unwrap();
    assert_eq!(watch.next().await, newest);
    assert_eq!(watch.try_next(), None);
}
