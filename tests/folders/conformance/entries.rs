//! Conformance: entries, listings, tombstones, digests and retention.

use super::*;
use peerfold::entries::MAX_ENTRIES_PER_AUTHOR;
use peerfold::weights::{MAX_KEY_BYTES, MAX_METRICS};
use std::collections::BTreeSet;

pub async fn list_is_ordered_and_honours_prefixes<H: Harness>() {
    let storage = H::new().await;
    let (first, second) = (storage.open(author(1)).await, storage.open(author(2)).await);
    for name in ["b", "update/10", "a/b", "a", "update/9", "ab"] {
        first.put(&key(1, name), &artifact(name.to_owned()), epoch(1)).await.unwrap();
        second.put(&key(2, name), &artifact(name.to_owned()), epoch(1)).await.unwrap();
    }
    agree(&*first, &*second).await;
    for folder in [&first, &second] {
        let all = folder.list("").await.unwrap();
        assert_eq!(all.len(), 12);
        assert!(all.is_sorted_by_key(|entry| entry.key.clone()));
        assert!(all.is_sorted_by_key(|entry| entry.key.to_string()));
        let author = peer(1).to_string();
        let cases = [
            (author.clone(), 6),
            (format!("{author}/"), 6),
            (format!("{author}/a"), 3),
            (format!("{author}/a/"), 1),
            (format!("{author}/update/"), 2),
            (format!("{author}/update/1"), 1),
            (format!("{author}/none"), 0),
            (format!("{author}x"), 0),
            ("12D3".to_owned(), 12),
            (author[..51].to_owned(), 6),
            ("/".to_owned(), 0),
            ("a".to_owned(), 0),
            (peer(3).to_string(), 0),
        ];
        for (prefix, count) in cases {
            let expected: Vec<_> = all.iter().filter(|entry| entry.key.to_string().starts_with(&prefix)).collect();
            let found = folder.list(&prefix).await.unwrap();
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{prefix}");
            assert_eq!(found.len(), count, "{prefix}");
        }
    }
}

pub async fn overwriting_replaces<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let mut entries: Vec<Arc<SignedEntry>> = Vec::new();
    for number in 0..4 {
        let entry = writer.put(&key(1, "k"), &numbered(number), epoch(number)).await.unwrap();
        assert!(entries.last().is_none_or(|before| before.sequence < entry.sequence));
        learn(&*reader, &entry).await;
        assert_eq!(reader.list("").await.unwrap(), [entry.clone()]);
        assert_eq!(fetch(&*reader, &entry).await.unwrap(), numbered(number));
        entries.push(entry);
    }
    // An overwritten value is either still there or gone, and nothing else.
    for (number, entry) in entries.iter().enumerate() {
        match fetch(&*reader, entry).await {
            Ok(weights) => assert_eq!(weights, numbered(number as u64)),
            Err(error) => assert!(matches!(&error, FolderError::Gone { sequence, .. } if *sequence == entry.sequence)),
        }
    }
    assert!(matches!(fetch(&*reader, &entries[0]).await, Err(FolderError::Gone { .. })), "kept for ever");
}

pub async fn removing_leaves_a_tombstone<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let put = writer.put(&key(1, "k"), &numbered(1), epoch(1)).await.unwrap();
    let removed = writer.remove(&key(1, "k")).await.unwrap();
    assert!(removed.sequence > put.sequence);
    assert_eq!(removed.content, Content::Tombstone);
    learn(&*reader, &removed).await;
    assert_eq!(listed(&*reader, "").await, []);
    assert_eq!(listed(&*writer, "").await, []);
    assert!(matches!(reader.get(&removed).await, Err(FolderError::Gone { .. })));
    assert_eq!(writer.remove(&key(1, "k")).await.unwrap(), removed, "once is enough");
    let unknown = writer.remove(&key(1, "never there")).await.unwrap();
    assert_eq!(unknown.content, Content::Tombstone);
    // A handle that comes later sees the same.
    let late = storage.open(author(3)).await;
    agree(&*writer, &*late).await;
    assert_eq!(listed(&*late, "").await, []);
    let again = writer.put(&key(1, "k"), &numbered(2), epoch(2)).await.unwrap();
    learn(&*reader, &again).await;
    assert_eq!(fetch(&*reader, &again).await.unwrap(), numbered(2));
}

pub async fn digests_tell_what_is_known<H: Harness>() {
    let storage = H::new().await;
    let (first, second) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let mut seen = BTreeSet::from([first.digest().await.unwrap()]);
    assert_eq!(second.digest().await.unwrap(), *seen.first().unwrap());
    for number in 0..4 {
        first.put(&key(1, "k"), &artifact("same"), epoch(number)).await.unwrap();
        agree(&*first, &*second).await;
        assert!(seen.insert(second.digest().await.unwrap()));
        second.put(&key(2, &format!("{number}")), &artifact("same"), epoch(0)).await.unwrap();
        agree(&*first, &*second).await;
        assert!(seen.insert(first.digest().await.unwrap()));
    }
    first.remove(&key(1, "k")).await.unwrap();
    agree(&*first, &*second).await;
    assert!(seen.insert(first.digest().await.unwrap()));
    first.remove(&key(1, "unknown")).await.unwrap();
    assert!(seen.insert(first.digest().await.unwrap()));
    // Not what came first, but what stands: a handle that saw none of it happen agrees.
    let late = storage.open(author(3)).await;
    agree(&*first, &*late).await;
    agree(&*second, &*late).await;
}

pub async fn only_two_updates_stay<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let plain = writer.put(&key(1, "update/007"), &numbered(99), epoch(0)).await.unwrap();
    be_told::<H>(&reader, &plain).await;
    let mut entries = Vec::new();
    for number in 1..=6 {
        let entry = writer.put(&Key::update(peer(1), number), &numbered(number), epoch(number)).await.unwrap();
        learn(&*reader, &entry).await;
        entries.push(entry);
        let kept = &entries[entries.len().saturating_sub(2)..];
        let prefix = format!("{}/update/", peer(1));
        let found = reader.list(&prefix).await.unwrap();
        assert_eq!(found.iter().filter(|entry| **entry != plain).collect::<Vec<_>>(), kept.iter().collect::<Vec<_>>());
        assert!(found.contains(&plain), "`update/007` is no update");
        for entry in kept {
            assert_eq!(fetch(&*reader, entry).await.unwrap(), numbered(entry.metadata().unwrap().epoch));
        }
    }
    assert!(matches!(reader.get(&entries[0]).await, Err(FolderError::Gone { .. })));
    // No tombstones pile up: a newcomer learns of three entries.
    let late = storage.open(author(3)).await;
    agree(&*writer, &*late).await;
    let mut watch = late.watch("");
    for _ in 0..3 {
        assert!(watch.next().await.root().is_some());
    }
    assert_eq!(watch.try_next(), None);
}

pub async fn the_same_again_changes_nothing<H: Harness>() {
    let storage = H::new().await;
    let folder = storage.open(author(1)).await;
    let entry = folder.put(&Key::update(peer(1), 1), &numbered(1), epoch(1)).await.unwrap();
    let digest = folder.digest().await.unwrap();
    let mut watch = folder.watch("");
    watch.next().await;
    assert_eq!(folder.put(&entry.key, &numbered(1), epoch(1)).await.unwrap(), entry);
    assert_eq!(folder.digest().await.unwrap(), digest);
    assert_eq!(watch.try_next(), None);
    // Other metadata make it another entry, with the same value.
    let other = folder.put(&entry.key, &numbered(1), epoch(2)).await.unwrap();
    assert_eq!(other.root(), entry.root());
    assert!(other.sequence > entry.sequence);
    // One value under two keys goes only with the last of them.
    let twin = folder.put(&key(1, "twin"), &numbered(1), epoch(1)).await.unwrap();
    folder.remove(&entry.key).await.unwrap();
    for number in 0..3 {
        folder.put(&key(1, "other"), &numbered(50 + number), epoch(1)).await.unwrap();
    }
    assert_eq!(fetch(&*folder, &twin).await.unwrap(), numbered(1));
}

pub async fn what_cannot_be_signed_leaves_nothing<H: Harness>() {
    let storage = H::new().await;
    let folder = storage.open(author(1)).await;
    let standing = folder.put(&key(1, "k"), &numbered(1), epoch(1)).await.unwrap();
    let names: Vec<String> = (0..=MAX_METRICS).map(|number| number.to_string()).collect();
    let many = Metadata::default().with_metrics(names.iter().map(|name| (name.as_str(), 0.0)));
    let long = Metadata::default().with_metrics([("a name of twenty-five bytes", 0.0)]);
    for metadata in [many, long] {
        let refused = folder.put(&key(1, "k"), &numbered(2), metadata).await;
        assert!(matches!(refused, Err(FolderError::Entry(_))));
    }
    assert_eq!(folder.list("").await.unwrap(), [standing.clone()]);
    let never = forge(1, "k", 2, federation());
    assert!(matches!(folder.get(&never).await, Err(FolderError::Gone { .. })), "a refused value is stored");
    let next = folder.put(&key(1, "k"), &numbered(3), epoch(1)).await.unwrap();
    assert_eq!(next.sequence, standing.sequence + 1, "a refused entry costs a number");
}

pub async fn keys_are_bounded<H: Harness>() {
    let storage = H::new().await;
    let folder = storage.open(author(1)).await;
    for number in 0..MAX_ENTRIES_PER_AUTHOR {
        folder.put(&key(1, &format!("{number}")), &artifact("x"), epoch(0)).await.unwrap();
    }
    let digest = folder.digest().await.unwrap();
    for refused in [
        folder.put(&key(1, "one more"), &numbered(1), epoch(0)).await,
        folder.put(&Key::update(peer(1), 1), &numbered(1), epoch(0)).await,
        folder.remove(&key(1, "unknown")).await,
    ] {
        assert!(matches!(refused, Err(FolderError::TooManyKeys { .. })));
    }
    assert_eq!(folder.digest().await.unwrap(), digest);
    let never = forge(1, "one more", 1, federation());
    assert!(matches!(folder.get(&never).await, Err(FolderError::Gone { .. })), "a refused value is stored");
    // What is there can still be changed, and another handle sees it all.
    folder.put(&key(1, "7"), &artifact("y"), epoch(0)).await.unwrap();
    folder.remove(&key(1, "8")).await.unwrap();
    let late = storage.open(author(2)).await;
    agree(&*folder, &*late).await;
    assert_eq!(late.list("").await.unwrap().len(), MAX_ENTRIES_PER_AUTHOR - 1);
}

pub async fn odd_keys<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let longest = MAX_KEY_BYTES - peer(1).to_string().len() - 1;
    assert_eq!(longest, 75);
    let names = [
        ".",
        "..",
        "../..",
        "/",
        "//",
        "a//b",
        "/etc/passwd",
        "../../../escape",
        "a/",
        " ",
        "  a  ",
        "a b",
        "\t",
        "\n",
        "line\nbreak",
        "\0",
        "nul\0inside",
        "\"",
        "'",
        "`",
        "\\",
        "C:\\con",
        "con",
        "nul.txt",
        "*?<>|",
        "%2e%2e",
        "&;$()",
        "case",
        "CASE",
        "Case",
        "ü",
        "u\u{308}",
        "日本語",
        "🦀",
        "\u{202e}rtl",
        "\u{feff}bom",
        ".partial-x",
        "x.entry",
        "x.value",
        "-rf",
        "~",
        "update/",
        "update/x",
        "update/-1",
        "update/+1",
        "update/01",
        "update/18446744073709551616",
    ];
    let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    names.push("x".repeat(longest));
    names.push("é".repeat(longest / 2));
    let mut expected = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let value = artifact(format!("{number} {name}"));
        let entry = writer.put(&key(1, name), &value, epoch(0)).await.unwrap();
        assert_eq!(entry.key.name(), name);
        expected.push(entry);
    }
    assert!(Key::new(peer(1), "x".repeat(longest + 1)).is_err());
    agree(&*writer, &*reader).await;
    for (number, entry) in expected.iter().enumerate() {
        let value = fetch(&*reader, entry).await.unwrap();
        assert_eq!(value, artifact(format!("{number} {}", names[number])));
        assert_eq!(entry.key.to_string().parse::<Key>().unwrap(), entry.key);
        assert!(reader.list(&entry.key.to_string()).await.unwrap().contains(entry));
    }
    expected.sort_by_key(|entry| entry.key.clone());
    assert_eq!(reader.list("").await.unwrap(), expected);
    for name in &names {
        writer.remove(&key(1, name)).await.unwrap();
    }
    agree(&*writer, &*reader).await;
    assert_eq!(listed(&*reader, "").await, []);
}
