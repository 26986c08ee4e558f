//! Peers that say they hold a value and give something else.

use crate::{
    net::{Happened, Rogue, random_fingerprints},
    network_tests,
    node::Homes,
    samples::*,
};
use peerfold::{
    entries::Position,
    folder::{FolderError, SharedFolder},
    p2p::{Blob, BlobRequest, BlobResponse, Item, PeerAddress, SyncRequest, SyncResponse},
    weights::{FederationId, Key, Manifest, SignedEntry},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How a liar answers.
#[derive(Debug, Clone, Copy)]
enum Lie {
    /// The manifest, and other chunks.
    WrongChunks,
    /// Another value's manifest.
    WrongManifest,
    /// What isn't asked for, besides.
    TooMuch,
    /// Nothing, although it said that it holds it.
    Nothing,
}

/// Tells a node of an entry that is genuine, says that it holds the value, and lies when it is asked. Ends when the node
/// lets it go.
async fn lie(node: PeerAddress, entry: Arc<SignedEntry>, manifest: Manifest, lie: Lie, asked: Arc<AtomicUsize>) {
    let federation: FederationId = entry.federation;
    let mut rogue = Rogue::new(federation);
    rogue.dial(&node);
    loop {
        match rogue.next().await {
            Happened::Closed(_) => return,
            Happened::SyncAsked(_, request, channel) => {
                let end = Position { bucket: u8::MAX, text: "x".to_owned() };
                let response = match request {
                    SyncRequest::Compare { .. } => SyncResponse::Differs(random_fingerprints()),
                    SyncRequest::Items { after: None, .. } | SyncRequest::Others { after: None, .. } => {
                        SyncResponse::Items { items: vec![Item::Entry(entry.bytes().to_vec())], next: Some(end) }
                    }
                    SyncRequest::Proof { .. } => SyncResponse::Same,
                    SyncRequest::Items { .. } | SyncRequest::Others { .. } => {
                        // It knows the entry now.
                        rogue.blob(node.peer, BlobRequest::Holds { federation, roots: vec![manifest.root()] });
                        SyncResponse::Items { items: vec![], next: None }
                    }
                };
                rogue.say(channel, response);
            }
            Happened::BlobAsked(_, BlobRequest::Get { hashes, .. }, channel) => {
                asked.fetch_add(1, Ordering::Relaxed);
                let answer = |hash: &[u8; 32]| -> Blob {
                    let is_manifest = hash == manifest.root().as_bytes();
                    match lie {
                        Lie::WrongManifest if is_manifest => Some(numbered(999).manifest().encode().into()),
                        Lie::Nothing => None,
                        _ if is_manifest => Some(manifest.encode().into()),
                        _ => Some(vec![0; 1 << 20].into()),
                    }
                };
                let mut blobs: Vec<Blob> = hashes.iter().map(|hash| answer(hash.as_bytes())).collect();
                if matches!(lie, Lie::TooMuch) {
                    blobs.push(Some("more".into()));
                }
                rogue.give(channel, BlobResponse::Blobs(blobs));
            }
            Happened::BlobAsked(_, BlobRequest::Holds { .. }, channel) => rogue.give(channel, BlobResponse::Noted),
            _ => {}
        }
    }
}

network_tests! {
    /// A node that knows only liars gets nothing from them, and drops those that sent wrong bytes; from the first honest
    /// peer that comes it gets the value.
    async fn what_a_liar_gives_is_never_folded() {
        let homes = Homes::new();
        let value = numbered(7);
        let author = homes.node("author").open();
        let entry = author.put(&Key::update(author.id(), 1), &value, epoch(1)).await.unwrap();
        for (number, kind) in [Lie::WrongChunks, Lie::WrongManifest, Lie::TooMuch, Lie::Nothing].into_iter().enumerate() {
            let victim = homes.node(&format!("victim {number}")).open();
            let asked = Arc::new(AtomicUsize::new(0));
            let liar = tokio::spawn(lie(victim.address(), entry.clone(), value.manifest(), kind, asked.clone()));
            learn(&*victim, &entry).await;
            // Asked again and again, until it is dropped; the one that gives nothing has done nothing wrong.
            eventually(async || {
                let refused = fetch(&*victim, &entry).await;
                assert!(matches!(refused, Err(FolderError::Unreachable { .. })), "{kind:?}: {refused:?}");
                let enough = asked.load(Ordering::Relaxed) > 0 && matches!(kind, Lie::Nothing);
                enough || liar.is_finished()
            })
            .await;
            assert!(asked.load(Ordering::Relaxed) > 0, "{kind:?}: it was never asked");
            // What it gave isn't kept.
            assert!(victim.network().await.cached < 1 << 20);
            let helper = homes.node(&format!("helper {number}")).knowing(&[author.address(), victim.address()]).open();
            victim.meets(&helper).await;
            learn(&*helper, &entry).await;
            assert_eq!(fetch(&*helper, &entry).await.unwrap(), value);
            eventually(async || fetch(&*victim, &entry).await.is_ok_and(|weights| weights == value)).await;
            liar.abort();
        }
    }

    /// With honest holders beside them, liars cost at most time.
    async fn a_value_is_had_although_most_holders_lie() {
        let homes = Homes::new();
        let author = homes.node("author").open();
        let victim = homes.node("victim").knowing(&[author.address()]).open();
        victim.meets(&author).await;
        let asked = Arc::new(AtomicUsize::new(0));
        for number in 1..=8 {
            let value = numbered(number);
            let entry = author.put(&Key::update(author.id(), number), &value, epoch(number)).await.unwrap();
            let liars: Vec<_> = [Lie::WrongChunks, Lie::WrongManifest, Lie::Nothing]
                .map(|kind| tokio::spawn(lie(victim.address(), entry.clone(), value.manifest(), kind, asked.clone())))
                .into();
            learn(&*victim, &entry).await;
            assert_eq!(fetch(&*victim, &entry).await.unwrap(), value);
            liars.iter().for_each(|liar| liar.abort());
        }
        victim.meets(&author).await;
    }
}
