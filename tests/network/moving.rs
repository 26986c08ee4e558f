//! Moving values: how often each byte is sent, and what happens when the line or the disk is bad.

use crate::{
    net::{Forwarder, Link},
    network_tests,
    node::{Homes, Node, by_way_of},
    samples::*,
};
use bytes::Bytes;
use peerfold::{
    folder::{FolderError, SharedFolder},
    p2p::SwarmLimits,
    weights::{DType, Key, Metadata, SignedEntry, Tensor, TensorSpec, Weights},
};
use std::{fs, path::Path, sync::Arc, time::Duration};

const MIB: usize = 1 << 20;

/// Tensors of 1 MiB, each all of one number.
fn layers(numbers: &[u8]) -> Weights {
    let tensor = |(at, number): (usize, &u8)| Tensor {
        spec: TensorSpec { name: format!("layer {at:02}"), dtype: DType::U8, shape: vec![MIB as u64] },
        // No two chunks are equal, as in real weights.
        data: (0..MIB).map(|byte| (byte / 7) as u8 ^ at as u8 ^ number.wrapping_mul(89)).collect::<Bytes>(),
    };
    Weights::new(numbers.iter().enumerate().map(tensor).collect()).unwrap()
}

async fn publish(node: &Node, number: u64, value: &Weights) -> Arc<SignedEntry> {
    node.put(&Key::update(node.id(), number), value, Metadata { epoch: number, ..Metadata::default() }).await.unwrap()
}

/// The chunk files of a cache.
fn chunk_files(cache: &Path) -> Vec<std::path::PathBuf> {
    let entries = |dir: &Path| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    entries(&cache.join("blobs")).iter().filter(|dir| dir.is_dir()).flat_map(|dir| entries(dir)).collect()
}

network_tests! {
    async fn unchanged_tensors_move_once() {
        let homes = Homes::new();
        let mut numbers = [1; 24];
        let author = homes.node("author").open();
        let line = Forwarder::start(author.socket(), Link::default()).await;
        let reads = homes.node("reads").training_layout(layers(&numbers).layout().id());
        let reads = reads.knowing([&by_way_of(&author, line.address())]).open();
        let mut moved = 0;
        for number in 1..=3 {
            let value = layers(&numbers);
            let entry = publish(&author, number, &value).await;
            learn(&*reads, &entry).await;
            assert_eq!(fetch(&*reads, &entry).await.unwrap(), value);
            let all = line.received();
            let (least, most) = if number == 1 { (24 * MIB, 26 * MIB) } else { (MIB, MIB + 300_000) };
            let this = (all - moved) as usize;
            assert!((least..most).contains(&this), "{this} bytes for update {number}");
            moved = all;
            numbers[5 * number as usize] += 1;
        }
        assert!(line.sent() < MIB as u64 / 2, "{} bytes of questions", line.sent());
        // And what is equal lies once on the disk.
        assert!(reads.network().await.cached < 28 * MIB as u64);
    }

    /// They give each other what they have while they still fetch.
    async fn eight_who_read_at_once_cost_the_author_less_than_three() {
        let homes = Homes::new();
        let value = layers(&[5; 32]);
        let layout = value.layout().id();
        let author = homes.node("author").training_layout(layout).open();
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let readers: Vec<Node> = names
            .iter()
            .map(|name| homes.node(name).training_layout(layout).knowing(&[author.address()]).open())
            .collect();
        for (at, reader) in readers.iter().enumerate() {
            author.meets(reader).await;
            for other in &readers[..at] {
                other.meets(reader).await;
            }
        }
        let entry = publish(&author, 1, &value).await;
        let read = readers.iter().map(async |reader| {
            learn(&**reader, &entry).await;
            assert_eq!(fetch_at_last(&**reader, &entry).await.unwrap(), value);
        });
        futures::future::join_all(read).await;
        let given = author.network().await.sent as f64 / value.layout().bytes() as f64;
        // 8.0 if each had it from the author.
        assert!((1.0..2.5).contains(&given), "{given} times its size");
        for reader in &readers {
            let received = reader.received().await as f64 / value.layout().bytes() as f64;
            // On a busy machine a little is late, and comes twice.
            assert!(received < 1.5, "{received} times its size");
        }
    }

    async fn of_sampled_authors_only_those_who_are_expected_are_fetched() {
        let homes = Homes::new();
        let layout = layers(&[0; 4]).layout().id();
        let reads = homes.node("reads").training_layout(layout).sampled().open();
        let authors: Vec<Node> =
            ["a", "b", "c"].iter().map(|name| homes.node(name).knowing(&[reads.address()]).open()).collect();
        let mut entries = Vec::new();
        for (author, number) in authors.iter().zip(1..) {
            entries.push(publish(author, 1, &layers(&[number; 4])).await);
            learn(&*reads, entries.last().unwrap()).await;
        }
        let is_here = async |entry| reads.get_here(entry).await.unwrap().is_some();
        reads.expects([authors[1].id()].into()).await;
        eventually(async || is_here(&entries[1]).await).await;
        reads.expects([authors[2].id()].into()).await;
        eventually(async || is_here(&entries[2]).await).await;
        // Who is expected is followed.
        let newer = publish(&authors[2], 2, &layers(&[9; 4])).await;
        eventually(async || is_here(&newer).await).await;
        assert!(!is_here(&entries[0]).await);
        let received = reads.received().await;
        assert!(received < 13 * MIB as u64, "{received} bytes for three values of 4 MiB");
    }

    /// The second and third come while the first is still on its way to one of the peers: it doesn't lose the author, nor
    /// does the other one wait for it.
    async fn three_quick_updates_and_a_slow_peer() {
        let homes = Homes::new();
        let layout = layers(&[0; 4]).layout().id();
        let author = homes.node("author").training_layout(layout).open();
        let line = Forwarder::start(author.socket(), Link::slow(3 * MIB as u64)).await;
        let slow = homes.node("slow").training_layout(layout).knowing([&by_way_of(&author, line.address())]).open();
        author.meets(&slow).await;
        let first = publish(&author, 1, &layers(&[1; 4])).await;
        learn(&*slow, &first).await;
        let second = publish(&author, 2, &layers(&[2; 4])).await;
        let third = publish(&author, 3, &layers(&[3; 4])).await;
        learn(&*slow, &third).await;
        assert_eq!(fetch_at_last(&*slow, &third).await.unwrap(), layers(&[3; 4]));
        learn(&*slow, &second).await;
        let listed = slow.list("").await.unwrap();
        assert_eq!(listed, [second, third.clone()]);
        author.hand_over(PATIENCE).await;
        // The author may go now.
        let id = author.id();
        drop(author);
        slow.loses(id).await;
        let late = homes.node("late").knowing(&[slow.address()]).open();
        learn(&*late, &third).await;
        assert_eq!(fetch(&*late, &third).await.unwrap(), layers(&[3; 4]));
    }

    /// No request has a time in which it must be done: here a chunk takes longer than a node waits for anything.
    async fn a_line_may_be_as_slow_as_it_is() {
        let homes = Homes::new();
        let impatient = |limits: &mut SwarmLimits| {
            limits.request_timeout = Duration::from_secs(5);
            limits.stall_timeout = Duration::from_secs(5);
        };
        let author = homes.node("author").limited(impatient).open();
        let line = Forwarder::start(author.socket(), Link::slow(MIB as u64 / 8)).await;
        let reads = homes.node("reads").limited(impatient).knowing([&by_way_of(&author, line.address())]).open();
        let value = layers(&[1; 2]);
        let entry = publish(&author, 1, &value).await;
        learn(&*reads, &entry).await;
        assert_eq!(fetch(&*reads, &entry).await.unwrap(), value);
        assert!(line.received() < 5 * MIB as u64 / 2, "{} bytes for 2 MiB", line.received());
    }

    /// An author may publish any number of updates while one of them is on its way to a slow peer.
    async fn what_a_peer_is_fetching_is_given_to_its_end_however_often_it_is_overtaken() {
        let homes = Homes::new();
        let author = homes.node("author").open();
        let line = Forwarder::start(author.socket(), Link::slow(6 * MIB as u64)).await;
        let reads = homes.node("reads").knowing([&by_way_of(&author, line.address())]).open();
        // Longer than what is asked for at once.
        let value = layers(&[1; 32]);
        let first = publish(&author, 1, &value).await;
        learn(&*reads, &first).await;
        let overtaken = async {
            eventually(async || line.received() > MIB as u64).await;
            for number in 2..=6 {
                let newer = publish(&author, number, &layers(&[number as u8])).await;
                learn(&*reads, &newer).await;
            }
            // The last of these has come too, so the author has tidied up by now.
            assert_eq!(author.list("").await.unwrap().len(), 2);
        };
        let (fetched, ()) = tokio::join!(fetch(&*reads, &first), overtaken);
        assert_eq!(fetched.unwrap(), value);
        assert!(!reads.list("").await.unwrap().contains(&first));
    }

    /// What had arrived when the connection broke isn't asked for again.
    async fn an_interrupted_fetch_goes_on() {
        let homes = Homes::new();
        let value = layers(&[9; 24]);
        let author = homes.node("author").open();
        let line = Forwarder::start(author.socket(), Link::slow(8 * MIB as u64)).await;
        let reads = homes.node("reads").knowing([&by_way_of(&author, line.address())]).open();
        let entry = publish(&author, 1, &value).await;
        learn(&*reads, &entry).await;
        let cut = async {
            for part in [6, 12] {
                eventually(async || line.received() > part * MIB as u64).await;
                line.cut();
                line.restore();
            }
        };
        let fetched = tokio::select! {
            fetched = fetch_at_last(&*reads, &entry) => fetched.unwrap(),
            // After a cut the author may find another route to the reader.
            () = async { cut.await; std::future::pending().await } => unreachable!(),
        };
        assert_eq!(fetched, value);
        assert!(line.received() > 6 * MIB as u64);
        // What was on its way at the cuts is lost: sixteen chunks each time, at most.
        let received = reads.received().await;
        assert!(received < (24 + 2 * 9) * MIB as u64, "{received} bytes for 24 MiB");
    }

    async fn a_late_line_loses_nothing() {
        let homes = Homes::new();
        let author = homes.node("author").open();
        let line = Forwarder::start(author.socket(), Link::late(Duration::from_millis(80), 5)).await;
        let reads = homes.node("reads").knowing([&by_way_of(&author, line.address())]).open();
        reads.meets(&author).await;
        let value = layers(&[4; 8]);
        for number in 1..=3 {
            let entry = publish(&author, number, &value).await;
            learn(&*reads, &entry).await;
            assert_eq!(fetch(&*reads, &entry).await.unwrap(), value);
            let own = publish(&reads, number, &layers(&[number as u8])).await;
            learn(&*author, &own).await;
        }
        agree(&*author, &*reads).await;
    }

    async fn a_damaged_chunk_is_dropped_and_fetched_again() {
        let homes = Homes::new();
        let author = homes.node("author").open();
        let plan = homes.node("reads").knowing(&[author.address()]);
        let reads = plan.open();
        let value = layers(&[1, 2, 3]);
        let entry = publish(&author, 1, &value).await;
        learn(&*reads, &entry).await;
        assert_eq!(fetch(&*reads, &entry).await.unwrap(), value);
        let files = chunk_files(&plan.cache());
        assert!(files.len() >= 3);
        for file in &files {
            let intact = fs::read(file).unwrap();
            let damages: [fn(&mut Vec<u8>); 3] =
                [|bytes| bytes[0] ^= 1, |bytes| bytes.truncate(bytes.len() / 2), |bytes| bytes.push(0)];
            for damage in damages {
                let mut bytes = intact.clone();
                damage(&mut bytes);
                fs::write(file, bytes).unwrap();
                match fetch(&*reads, &entry).await {
                    Ok(weights) => assert_eq!(weights, value),
                    Err(FolderError::Read(_) | FolderError::Damaged { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                assert_eq!(fetch(&*reads, &entry).await.unwrap(), value, "{}", file.display());
                assert!(fs::read(file).unwrap() == intact);
            }
            fs::remove_file(file).unwrap();
            let _ = fetch(&*reads, &entry).await;
            assert_eq!(fetch(&*reads, &entry).await.unwrap(), value);
        }
    }

    /// Damaged data isn't passed on either: a peer that asks gets nothing until the holder has it again.
    async fn a_damaged_chunk_is_never_given_away() {
        let homes = Homes::new();
        let author_plan = homes.node("author");
        let author = author_plan.open();
        let plan = homes.node("holds").knowing(&[author.address()]);
        let holds = plan.open();
        let value = layers(&[1, 2, 3]);
        let entry = publish(&author, 1, &value).await;
        learn(&*holds, &entry).await;
        fetch(&*holds, &entry).await.unwrap();
        let id = author.id();
        drop(author);
        holds.loses(id).await;
        for file in chunk_files(&plan.cache()) {
            let mut bytes = fs::read(&file).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
            fs::write(file, bytes).unwrap();
        }
        let asks = homes.node("asks").knowing(&[holds.address()]).open();
        learn(&*asks, &entry).await;
        let refused = fetch(&*asks, &entry).await;
        assert!(matches!(refused, Err(FolderError::Unreachable { .. })), "{refused:?}");
        let author = author_plan.knowing(&[asks.address()]).open();
        asks.meets(&author).await;
        assert_eq!(fetch_at_last(&*asks, &entry).await.unwrap(), value);
    }
}
