//! Federations of a thousand and of ten thousand nodes, simulated: real cores, boards and signatures on virtual time.
//!
//! `cargo bench --bench simulation [-- NODES… few]`. For each size it prints how nodes are connected, what an epoch costs
//! each of them in messages, bytes and memory, and how long until an update is known to all who follow its author: if that
//! is everybody, and if nodes follow 256 at most (`--max-followed`), as those do that fold a sample; with `few` only the
//! latter. `tests/support/simulated` says what is modelled and what isn't.
//!
//! Where all nodes can't publish, because each would have to check too many signatures, some do. What an entry costs
//! doesn't depend on how many others there are, but for the ids that are named together, so an epoch in which all publish
//! costs each node so many times more.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../tests/support/simulated/mod.rs"]
mod simulated;

use rand::{RngExt, seq::SliceRandom};
use simulated::{Counts, Kind, Script, Topology, World};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// Up to so many nodes all publish.
const ALL_PUBLISH: usize = 1000;
/// Of more nodes so many do.
const SOME: usize = 50;
/// Whom a node follows, if it folds a sample.
const FOLLOWED: usize = 256;
/// How many it folds.
const SAMPLE: usize = 8;
/// When nodes have found each other, and the first syncs are over.
const SETTLED: f64 = 100.0;
/// How long an epoch is.
const EPOCH: f64 = 60.0;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is done by the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller has to see to.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller has to see to.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> usize {
    HELD.load(Ordering::Relaxed)
}

fn main() {
    let mut sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![1000, 10_000];
    }
    let only_few = std::env::args().any(|argument| argument == "few");
    for nodes in sizes {
        if !only_few {
            simulate(nodes, None);
        }
        simulate(nodes, Some(FOLLOWED));
    }
}

fn simulate(nodes: usize, view: Option<usize>) {
    let began = Instant::now();
    let mut world = World::federation(1, Topology::of(nodes), 0, false, view);
    let degrees = world.degrees();
    println!("{nodes} nodes, {}", if view.is_some() { "who follow 256 at most" } else { "who follow everybody" });
    println!(
        "  connections of a node:          {} to {}, median {}; {} hang together",
        degrees[0],
        degrees[nodes - 1],
        degrees[nodes / 2],
        world.largest_part()
    );
    let before = held();
    world.run_until(SETTLED);
    println!("  a node that knows nobody's entry: {} KiB", ((held() - before) / nodes) >> 10);
    world.counts.clear();
    world.run_until(SETTLED + EPOCH);
    print(&world.counts, nodes, 1.0, "an idle minute");

    let all = nodes <= ALL_PUBLISH || view.is_some();
    let publish = if all { nodes } else { SOME };
    let times = nodes as f64 / publish as f64;
    let mut authors: Vec<usize> = (0..nodes).collect();
    authors.shuffle(world.random());
    // So that some of many share heartbeats as all would.
    let span = if all { EPOCH } else { EPOCH * SOME as f64 / nodes as f64 * 20.0 };
    let from = SETTLED + EPOCH;
    for &author in &authors[..publish] {
        let at = from + world.random().random_range(0.0..span);
        world.at(at, Script::Publish(author));
    }
    world.counts.clear();
    let before = held();
    world.run_until(from + span + EPOCH);
    print(&world.counts, nodes, times, &format!("an epoch ({publish} publish)"));
    println!("  what a node has learned:        {} KiB of memory", ((held() - before) / nodes) >> 10);
    // Everybody knows as much as it follows.
    let wanting = if view.is_some() { world.news.heard_by() } else { nodes - 1 };
    println!("  an update is known to {wanting} others; a node knows {} authors at most", world.most_known());
    let within = |part| match world.news.known_after(part, wanting) {
        Some(delay) => seconds(delay),
        None => "not at all".to_owned(),
    };
    println!("  known to half: {}, to 99 %: {}, to all: {}", within(0.5), within(0.99), within(1.0));
    let known = world.known_by();
    println!("  a node is known to {} others at least, median {}", known[0], known[nodes / 2]);
    println!("  if each folds {SAMPLE}, {} updates are folded by nobody", world.folded_by_nobody(SAMPLE));
    println!("  simulated in {:.0} s", began.elapsed().as_secs_f64());
}

fn seconds(delay: Duration) -> String {
    format!("{:.2} s", delay.as_secs_f64())
}

/// What each node has sent.
fn print(counts: &Counts, nodes: usize, times: f64, what: &str) {
    let of_node = |count: u64| count as f64 * times / nodes as f64;
    let all = counts.all();
    println!("  {what}, of each node: {:.0} messages, {:.1} KiB", of_node(all.messages), of_node(all.bytes) / 1024.0);
    for kind in Kind::ALL {
        let count = counts.of(kind);
        if count.messages > 0 {
            println!(
                "    {:<10} {:>9.0} messages {:>11.1} KiB",
                format!("{kind:?}"),
                of_node(count.messages),
                of_node(count.bytes) / 1024.0
            );
        }
    }
}
