//! Conformance: only an author can sign under its name, and only once under each number.

use super::*;

pub async fn another_authors_key_is_refused<H: Harness>() {
    let storage = H::new().await;
    let (mine, other) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let entry = other.put(&key(2, "k"), &numbered(1), epoch(1)).await.unwrap();
    learn(&*mine, &entry).await;
    assert_eq!((mine.author(), other.author()), (peer(1), peer(2)));
    let put = mine.put(&key(2, "k"), &numbered(2), epoch(2)).await;
    assert!(matches!(put, Err(FolderError::NotAuthor { signer, .. }) if signer == peer(1)));
    assert!(matches!(mine.remove(&key(2, "k")).await, Err(FolderError::NotAuthor { .. })));
    assert_eq!(mine.list("").await.unwrap(), [entry.clone()]);
    assert_eq!(fetch(&*mine, &entry).await.unwrap(), numbered(1));
}

pub async fn a_forged_entry_is_refused<H: Harness>() {
    let storage = H::new().await;
    let (first, reader) = (storage.open(author(1)).await, storage.open(author(3)).await);
    let entry = first.put(&key(1, "k"), &numbered(1), epoch(1)).await.unwrap();
    learn(&*reader, &entry).await;
    let digest = reader.digest().await.unwrap();
    let genuine = forge(1, "forged", 900, federation()).bytes().to_vec();
    let mut flipped = genuine.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut body = genuine.clone();
    body[120] ^= 1;
    let mut version = genuine.clone();
    version[0] = 2;
    // Under one number, and no proof of anything for a version that can't read them.
    let [delta, later] = [&[&[1][..], &[7; 32]].concat()[..], &[0x80, 1, 2]]
        .map(|encoding| encoded(1, &forge(1, "forged", 903, federation()), encoding));
    let oversize = [genuine.as_slice(), &[0; 1024]].concat();
    let trailing = [genuine.as_slice(), &[0]].concat();
    let forged = [
        flipped,
        body,
        version,
        delta,
        later,
        oversize,
        trailing,
        genuine[..genuine.len() - 1].to_vec(),
        vec![],
        vec![1],
        vec![0xff; 100],
        b"rubbish".to_vec(),
        forge(1, "forged", 902, FederationId::new("conformance", "2")).bytes().to_vec(),
    ];
    // Genuine, but where another's entries are; on a network entries aren't anywhere.
    let misplaced = (!H::NETWORK).then(|| forge(2, "k", 901, federation()).bytes().to_vec());
    for bytes in forged.iter().chain(&misplaced) {
        if !storage.plant(federation(), peer(1), bytes).await {
            return;
        }
        assert_eq!(reader.list("").await.unwrap(), [entry.clone()]);
    }
    assert_eq!(reader.digest().await.unwrap(), digest);
    assert!(reader.conflicts().await.unwrap().is_empty());
    // Neither the author nor a newcomer is disturbed.
    let next = first.put(&key(1, "k"), &numbered(2), epoch(2)).await.unwrap();
    assert_eq!(next.sequence, entry.sequence + 1);
    let late = storage.open(author(4)).await;
    for folder in [&reader, &late] {
        be_told::<H>(folder, &next).await;
        assert_eq!(folder.list("").await.unwrap(), [next.clone()]);
        assert_eq!(fetch(&**folder, &next).await.unwrap(), numbered(2));
    }
    let own_late = storage.open(author(2)).await;
    let own = own_late.put(&key(2, "k"), &numbered(3), epoch(1)).await.unwrap();
    learn(&*reader, &own).await;
}

pub async fn an_old_entry_put_back_changes_nothing<H: Harness>() {
    let storage = H::new().await;
    let (writer, reader) = (storage.open(author(1)).await, storage.open(author(2)).await);
    let old = writer.put(&key(1, "k"), &numbered(1), epoch(1)).await.unwrap();
    let removed = writer.remove(&key(1, "k")).await.unwrap();
    let update = writer.put(&Key::update(peer(1), 1), &numbered(2), epoch(1)).await.unwrap();
    for number in 2..5 {
        writer.put(&Key::update(peer(1), number), &numbered(number), epoch(number)).await.unwrap();
    }
    agree(&*writer, &*reader).await;
    let digest = reader.digest().await.unwrap();
    for entry in [&old, &update] {
        storage.plant(federation(), peer(1), entry.bytes()).await;
    }
    let late = storage.open(author(3)).await;
    for folder in [&writer, &reader, &late] {
        agree(&**folder, &*late).await;
        assert_eq!(folder.digest().await.unwrap(), digest);
        assert_eq!(listed(&**folder, "").await, [("update/3".to_owned(), 5), ("update/4".to_owned(), 6)]);
    }
    // It's the author's own, so it is no sign of a copied identity.
    let again = writer.put(&key(1, "k"), &numbered(9), epoch(9)).await.unwrap();
    assert!(again.sequence > removed.sequence);
    learn(&*reader, &again).await;
}

pub async fn a_copied_identity_is_found_out<H: Harness>() {
    let (storage, elsewhere) = (H::new().await, H::new().await);
    let third = storage.open(author(3)).await;
    let (original, copy) = (storage.open(author(1)).await, storage.open(author(1)).await);
    let honest = third.put(&key(3, "k"), &numbered(3), epoch(1)).await.unwrap();
    let first = original.put(&key(1, "a"), &numbered(1), epoch(1)).await.unwrap();
    // The copy signs another value under the same number, where it can't see the original.
    let second = elsewhere.open(author(1)).await.put(&key(1, "b"), &numbered(2), epoch(1)).await.unwrap();
    assert_eq!(first.sequence, second.sequence);
    be_told::<H>(&third, &first).await;
    storage.plant(federation(), peer(1), second.bytes()).await;
    if H::NETWORK {
        eventually(async || !copy.conflicts().await.unwrap().is_empty()).await;
    }
    let copied = |result: Result<Arc<SignedEntry>, FolderError>| matches!(result, Err(FolderError::CopiedIdentity { author }) if author == peer(1));
    assert!(copied(copy.put(&key(1, "b"), &numbered(2), epoch(1)).await));
    eventually(async || !third.conflicts().await.unwrap().is_empty()).await;
    let [conflict] = third.conflicts().await.unwrap().try_into().unwrap();
    assert_eq!(conflict.author(), peer(1));
    let mut proof = [first.clone(), second.clone()];
    proof.sort_by_key(|entry| entry.hash());
    assert_eq!(conflict.entries, proof);
    // Nothing of it counts any more, and others aren't disturbed.
    assert_eq!(third.list("").await.unwrap(), [honest.clone()]);
    for handle in [&original, &copy] {
        eventually(async || handle.list("").await.is_err()).await;
        assert!(copied(handle.put(&key(1, "a"), &numbered(4), epoch(2)).await));
        assert!(copied(handle.remove(&key(1, "a")).await));
        assert!(matches!(handle.list("").await, Err(FolderError::CopiedIdentity { .. })));
        assert!(matches!(handle.digest().await, Err(FolderError::CopiedIdentity { .. })));
    }
    let late = storage.open(author(4)).await;
    agree(&*third, &*late).await;
    assert_eq!(late.conflicts().await.unwrap(), [conflict]);
    // The operator stops the copy, and says otherwise.
    drop(copy);
    for handle in [&third, &late, &original] {
        H::readmit(handle, peer(1)).await;
        eventually(async || handle.conflicts().await.unwrap().is_empty()).await;
    }
    let [_, larger] = proof;
    let of_copied = peer(1).to_string();
    assert_eq!(third.list(&of_copied).await.unwrap(), [larger]);
    let next = original.put(&key(1, "a"), &numbered(4), epoch(2)).await.unwrap();
    assert!(next.sequence > first.sequence);
    learn(&*third, &next).await;
    assert_eq!(fetch(&*third, &next).await.unwrap(), numbered(4));
    assert!(third.list("").await.unwrap().contains(&honest));
}

pub async fn federations_are_invisible_to_each_other<H: Harness>() {
    let storage = H::new().await;
    let here = storage.open(author(1)).await;
    let run = FederationId::new("conformance", "2");
    let there = storage.open(Author::in_memory(keypair(1), run)).await;
    let empty = there.digest().await.unwrap();
    let entry = here.put(&key(1, "k"), &numbered(1), epoch(1)).await.unwrap();
    assert_eq!(there.list("").await.unwrap(), []);
    assert_eq!(there.digest().await.unwrap(), empty);
    assert!(matches!(there.get(&entry).await, Err(FolderError::Gone { .. })));
    // An own entry carried over is no sign of a copied identity.
    storage.plant(run, peer(1), entry.bytes()).await;
    assert_eq!(there.list("").await.unwrap(), []);
    let other = there.put(&key(1, "k"), &numbered(2), epoch(1)).await.unwrap();
    assert_eq!(there.list("").await.unwrap(), [other.clone()]);
    assert_eq!(here.list("").await.unwrap(), [entry]);
    assert_eq!(fetch(&*there, &other).await.unwrap(), numbered(2));
}

pub async fn a_late_handle_goes_on_above_its_own_numbers<H: Harness>() {
    let storage = H::new().await;
    let mut last = 0;
    let mut before = None;
    for run in 0..3 {
        drop(before.take());
        let folder = storage.open(author(1)).await;
        for number in 0..3 {
            let entry = folder.put(&key(1, &format!("{number}")), &numbered(run), epoch(run)).await.unwrap();
            assert!(entry.sequence > last);
            last = entry.sequence;
        }
        // The highest number may be a tombstone's.
        last = folder.remove(&key(1, "gone")).await.unwrap().sequence.max(last);
        // On a network what nobody alive knows can't be learned.
        before = Some(folder);
    }
    let reader = storage.open(author(2)).await;
    eventually(async || listed(&*reader, "").await.len() == 3).await;
    assert!(reader.conflicts().await.unwrap().is_empty());
}
