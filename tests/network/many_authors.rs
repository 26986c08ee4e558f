//! One peer that makes up any number of authors: what they make a node keep is bounded, and costs nobody else.

use crate::{
    net::{Happened, Rogue},
    network_tests,
    node::Homes,
    samples::*,
};
use futures::FutureExt;
use libp2p_identity::Keypair;
use peerfold::{
    cache::CacheSettings,
    entries::{EntryLimits, FOLDS_TO_BE_KNOWN},
    folder::SharedFolder,
    weights::{Content, Entry, FederationId, Key, Root, SignedEntry},
};
use std::{fs, path::Path, time::Instant};

const AUTHORS: u32 = 400;
const STRANGERS: usize = 24;

/// The first update of an author that nobody has ever seen.
fn made_up(federation: FederationId, author: u32) -> SignedEntry {
    let mut secret = [9; 32];
    secret[..4].copy_from_slice(&author.to_le_bytes());
    let keypair = Keypair::ed25519_from_bytes(secret).unwrap();
    let layout = numbered(0).layout().clone();
    let root = Root::from_bytes(*blake3::hash(&author.to_le_bytes()).as_bytes());
    let content = Content::Put { root, length: layout.bytes(), metadata: epoch(1) };
    let key = Key::update(keypair.public().to_peer_id(), 1);
    SignedEntry::sign(Entry { federation, layout: layout.id(), key, sequence: 1, content }, &keypair).unwrap()
}

/// Files and their bytes.
fn stored(dir: &Path) -> (usize, u64) {
    let mut all = (0, 0);
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        let found = match fs::metadata(&path) {
            Ok(found) if found.is_dir() => stored(&path),
            // It may have gone just now.
            found => (1, found.map_or(0, |found| found.len())),
        };
        all = (all.0 + found.0, all.1 + found.1);
    }
    all
}

network_tests! {
    /// The node goes on learning of its friend, keeps all of it, and little of the others.
    async fn made_up_authors_push_out_only_each_other() {
        let homes = Homes::new();
        let entries = EntryLimits { strangers: STRANGERS, ..EntryLimits::default() };
        let plan = homes.node("node").training().keeping(CacheSettings { entries, ..CacheSettings::default() });
        let node = plan.open();
        let friend = homes.node("friend").training().knowing(&[node.address()]).open();
        let publish = async |number: u64| {
            let entry = friend.put(&Key::update(friend.id(), number), &numbered(number), epoch(number)).await.unwrap();
            learn(&*node, &entry).await;
            assert_eq!(fetch_at_last(&*node, &entry).await.unwrap(), numbered(number));
            entry
        };
        for number in 1..=u64::from(FOLDS_TO_BE_KNOWN) {
            let entry = publish(number).await;
            node.folded(&[(friend.id(), entry.sequence)]).await;
        }
        let before = stored(&plan.cache());
        let mut rogue = Rogue::new(homes.federation);
        rogue.dial(&node.address());
        while !matches!(rogue.next().await, Happened::Subscribed(peer) if peer == node.id()) {}
        let began = Instant::now();
        for author in 0..AUTHORS {
            rogue.gossip(made_up(homes.federation, author).bytes());
            while rogue.next().now_or_never().is_some() {}
        }
        let last = made_up(homes.federation, AUTHORS - 1);
        let heard = async {
            loop {
                rogue.next().await;
            }
        };
        tokio::select! {
            () = learn(&*node, &last) => {}
            () = heard => {}
        }
        let took = began.elapsed();
        let after = publish(10).await;
        let figures = node.figures().entries.unwrap();
        assert_eq!(figures.strangers as usize, STRANGERS);
        assert!(figures.pushed_out + STRANGERS as u64 >= u64::from(AUTHORS) * 9 / 10, "{figures:?}");
        let listed = node.list("").await.unwrap();
        let of_friend = listed.iter().filter(|entry| entry.key.author() == friend.id()).count();
        assert_eq!((of_friend, listed.len() - of_friend), (2, STRANGERS));
        // Of those whose values never came nothing was written.
        let files = || fs::read_dir(plan.cache().join("entries")).unwrap().count();
        eventually(async || files() == of_friend).await;
        println!("{AUTHORS} authors in {took:?}; files and bytes before {before:?}, after {:?}", stored(&plan.cache()));
        // It is a friend after a restart too.
        drop(node);
        let node = plan.open();
        let of_friend = node.list(&friend.id().to_string()).await.unwrap();
        assert!(of_friend.contains(&after), "{of_friend:?}");
        let known = node.figures().entries.unwrap();
        assert_eq!(known.authors - known.strangers, 1, "{known:?}");
    }
}
