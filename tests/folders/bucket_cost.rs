//! What a bucket costs: requests and bytes, counted at the server.

use crate::{bucket_nodes, buckets, samples};

use bucket_nodes::*;
use buckets::{Class, Seen, Server};
use peerfold::{folder::SharedFolder, weights::Weights};
use samples::{PATIENCE, eventually};
use std::time::{Duration, Instant};

async fn in_time(case: impl Future<Output = ()>) {
    tokio::time::timeout(PATIENCE, case).await.expect("it hangs");
}

fn writes(seen: &[Seen]) -> (usize, u64) {
    let puts = seen.iter().filter(|seen| seen.class == Class::Put);
    (puts.clone().count(), puts.map(|seen| seen.request_bytes).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_nothing_to_do_only_lists_and_ever_less_often() {
    in_time(async {
        let (server, homes) = (Server::start(), Homes::new());
        let slower = options_with(server.endpoint(), |settings| settings.poll_idle = Duration::from_secs(3600));
        let node = homes.try_open(1, slower, None).await.unwrap();
        put(&node, "update/1", &value(1), 1).await;
        node.hand_over(SOON).await;
        // A look that finds nothing new any more.
        node.list("").await.unwrap();
        node.list("").await.unwrap();
        server.forget_requests();
        let (began, mut times) = (Instant::now(), Vec::new());
        eventually(async || {
            let seen = server.requests();
            assert!(seen.iter().all(|seen| seen.class == Class::List), "{seen:#?}");
            times.resize(seen.len(), began.elapsed());
            times.len() >= 16
        })
        .await;
        // Each pause is at least a quarter longer than the one before; 16 of the shortest ones would be 0.3 s.
        let pauses = (0..15).map(|number| 0.02 * 1.25f64.powi(number));
        assert!(times[15].as_secs_f64() > pauses.sum::<f64>(), "{times:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_wait_for_each_other_look_often() {
    in_time(async {
        let (server, homes) = (Server::start(), Homes::new());
        let slower = options_with(server.endpoint(), |settings| settings.poll_idle = Duration::from_secs(3600));
        let one = homes.try_open(1, slower.clone(), None).await.unwrap();
        let other = homes.try_open(2, slower, None).await.unwrap();
        // Were each pause as long as the wait before, they would double from answer to answer.
        for number in 1..20 {
            for (speaker, listener) in [(&one, &other), (&other, &one)] {
                let mut heard = listener.watch(&speaker.author().to_string());
                let said = put(speaker, &format!("update/{number}"), &value(number), number).await;
                // Nothing but its own looks tells it.
                while heard.next().await != said {}
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_changed_is_not_written_again() {
    in_time(async {
        let (server, homes) = (Server::start(), Homes::new());
        let node = homes.open(1, server.endpoint()).await;
        let weights = |changed: u64| {
            let tensors = (0..8).map(|at| tensor(&format!("t{at}"), if at == 3 { changed } else { at }, 1 << 20));
            Weights::new(tensors.collect()).unwrap()
        };
        put(&node, "update/1", &weights(100), 1).await;
        node.hand_over(SOON).await;
        let (first, bytes) = writes(&server.requests());
        assert!(first == 2 && (8 << 20..9 << 20).contains(&bytes), "{first} writes, {bytes} bytes");
        // Also by a process that begins anew.
        drop(node);
        let node = homes.open(1, server.endpoint()).await;
        for epoch in 2..6 {
            server.forget_requests();
            put(&node, &format!("update/{epoch}"), &weights(100 + epoch), epoch).await;
            node.hand_over(SOON).await;
            let (count, bytes) = writes(&server.requests());
            assert!(count == 2 && (1 << 20..(1 << 20) + 10_000).contains(&bytes), "{count} writes, {bytes} bytes");
        }
        // The same once more is an entry alone.
        server.forget_requests();
        put(&node, "copy", &weights(105), 0).await;
        node.hand_over(SOON).await;
        let (count, bytes) = writes(&server.requests());
        assert!(count == 1 && bytes < 10_000, "{count} writes, {bytes} bytes");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_update_is_few_writes_and_few_reads() {
    in_time(async {
        let (server, homes) = (Server::start(), Homes::new());
        let (node, reader) = (homes.open(1, server.endpoint()).await, homes.open(2, server.endpoint()).await);
        let weights = |number: u64| {
            let tensors = (0..5).map(|at| tensor(&format!("t{at}"), number * 10 + at, 8 << 20));
            Weights::new(tensors.collect()).unwrap()
        };
        for epoch in 1..3 {
            server.forget_requests();
            let entry = put(&node, &format!("update/{epoch}"), &weights(epoch), epoch).await;
            node.hand_over(PATIENCE).await;
            let (count, bytes) = writes(&server.requests());
            assert!(count <= 40 / 8 + 3, "{count} writes");
            assert!((40 << 20..41 << 20).contains(&bytes), "{bytes} bytes");
            server.forget_requests();
            arrives(&reader, &entry, &weights(epoch)).await;
            let seen = server.requests();
            let reads = seen.iter().filter(|seen| seen.class == Class::Get && seen.key().contains(&author_dir(1)));
            assert!(reads.clone().count() <= 40 / 8 + 3, "{} reads", reads.count());
            let bytes: u64 = seen.iter().filter(|seen| seen.class == Class::Get).map(|seen| seen.response_bytes).sum();
            assert!(bytes < 41 << 20, "{bytes} bytes");
            // Once it is here nothing is asked for.
            server.forget_requests();
            arrives(&reader, &entry, &weights(epoch)).await;
            assert!(server.requests().iter().all(|seen| seen.class != Class::Get));
        }
    })
    .await;
}
