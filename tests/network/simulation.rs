//! Nodes over a simulated network, in a seeded order: what they know and hold at the end, and what it costs. Thirty over a
//! bad one, two hundred over a usual one, and two that know ten thousand authors.

use crate::simulated;

use libp2p_identity::Keypair;
use peerfold::{
    entries::{EntrySet, Standing},
    weights::{BlobHash, Content, Digest, Entry, FederationId, Key, LayoutId, Metadata, Metric, Root, SignedEntry},
};
use rand::RngExt;
use simulated::{Character, Conditions, Kind, Node, Script, Topology, World};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// Federation, chunks of a value, how many.
const GROUPS: [(&str, u64, usize); 3] = [("one", 3, 13), ("one", 1, 6), ("two", 3, 8)];
/// From when on nothing bad happens but that a few messages are lost.
const CALM: f64 = 300.0;
const END: f64 = 900.0;

fn nodes() -> (Vec<Node>, BTreeSet<(usize, usize)>) {
    let (mut nodes, mut edges) = (Vec::new(), BTreeSet::new());
    for (federation, chunks, count) in GROUPS {
        let first = nodes.len();
        for at in 0..count {
            nodes.push(Node::new(nodes.len(), Character::Honest, federation, chunks));
            // A ring, so that any one of them can go.
            edges.insert((first + at, first + (at + 1) % count));
        }
    }
    for character in [Character::Liar, Character::Vandal, Character::Cheat] {
        edges.extend([(3, nodes.len()), (8, nodes.len())]);
        nodes.push(Node::new(nodes.len(), character, "one", 3));
    }
    (nodes, edges)
}

struct Outcome {
    trace: String,
    world: World,
    /// Nodes that are gone for good.
    gone: usize,
}

fn simulate(seed: u64, traced: bool) -> Outcome {
    let (nodes, mut edges) = nodes();
    let count = nodes.len();
    let (liar, vandal, cheat) = (count - 3, count - 2, count - 1);
    // The edges are drawn by a world of its own.
    let mut draw = World::new(seed, Vec::new(), BTreeSet::new());
    for node in 0..count {
        for _ in 0..3 {
            let other = draw.random().random_range(0..count);
            edges.insert((node.min(other), node.max(other)));
        }
    }
    edges.retain(|(one, other)| one != other);
    let mut world = World::under(Conditions { traced, ..Conditions::bad() }, seed, nodes, edges);
    let random = |world: &mut World, from: f64, to: f64| world.random().random_range(from..to);
    let gone = world.random().random_range(0..GROUPS[0].2);
    let late: BTreeSet<usize> = [1, 15, 22].into_iter().map(|node| node + usize::from(node == gone)).collect();
    for node in 0..count {
        let start = if late.contains(&node) { random(&mut world, 150.0, 250.0) } else { random(&mut world, 0.0, 2.0) };
        if node != vandal {
            world.at(start, Script::Start(node));
        }
        if node <= liar {
            let mut at = start + random(&mut world, 1.0, 10.0);
            while at < CALM - 20.0 {
                world.at(at, Script::Publish(node));
                at += random(&mut world, 20.0, 80.0);
            }
        }
        for _ in 0..3 {
            let at = random(&mut world, start, CALM + 100.0);
            world.at(at, Script::Want(node));
        }
    }
    for _ in 0..8 {
        let node = world.random().random_range(0..liar);
        if node != gone && !late.contains(&node) {
            let at = random(&mut world, 20.0, 200.0);
            world.at(at, Script::Kill(node));
            let again = at + random(&mut world, 0.1, 60.0);
            world.at(again, Script::Start(node));
        }
    }
    world.at(250.0, Script::Kill(gone));
    for at in [10.0, 100.0, 240.0] {
        world.at(at, Script::Vandalise(vandal));
    }
    world.at(10.0, Script::Cheat(cheat));
    let side = (0..count).filter(|_| world.random().random()).collect();
    world.at(70.0, Script::Part(side));
    world.at(130.0, Script::Heal);
    world.at(0.0, Script::Lose(0.15));
    world.at(CALM, Script::Lose(0.02));
    world.run_until(END);
    Outcome { trace: world.trace(), world, gone }
}

fn check(seed: u64, outcome: &Outcome) {
    let Outcome { world, gone, .. } = outcome;
    let mut digests: BTreeMap<FederationId, BTreeSet<Digest>> = BTreeMap::new();
    let honest = || world.nodes.iter().enumerate().filter(|(_, node)| node.character == Character::Honest);
    let live = || honest().filter(|(number, _)| number != gone);
    for (number, node) in live() {
        assert!(node.core.is_some(), "seed {seed}: {number} is dead");
        digests.entry(node.federation).or_default().insert(node.board.digest());
        assert_eq!(node.wants.len(), 0, "seed {seed}: {number} still waits");
        for (hash, bytes) in &node.cache.blobs {
            assert_eq!(BlobHash::of(bytes), *hash, "seed {seed}: {number} has stored wrong bytes");
        }
        // Of strangers what is here a part of, and of nobody what is replaced.
        let (saved, lacking) = (node.cache.board(node.federation, None), world.lacking(number));
        let (saved, set) = (saved.set(), node.board.set());
        assert!(saved.iter("").all(|entry| set.holds(&entry.hash())), "seed {seed}: {number} has saved what is gone");
        let is_alike = |other: &Node| (other.federation, other.chunks) == (node.federation, node.chunks);
        let is_here = |of: usize| !lacking.iter().any(|(lacking, _)| *lacking == of);
        let authors = honest().filter(|(of, other)| is_alike(other) && is_here(*of));
        let mut newest = authors.filter_map(|(_, author)| set.newest_update(author.peer));
        assert!(newest.all(|entry| saved.holds(&entry.hash())), "seed {seed}: {number} hasn't saved all");
        let excluded = |set: &EntrySet| set.conflicts().map(|proof| proof.author()).collect::<Vec<_>>();
        assert_eq!(excluded(&saved), excluded(&set), "seed {seed}: {number}");
    }
    assert!(digests.values().all(|digests| digests.len() == 1), "seed {seed}: {digests:?}");
    let (cheat, group) = (world.nodes.last().unwrap().peer, GROUPS[0]);
    // The last update of a node that is gone may be lost. If anybody has it, everybody has.
    let lacks_the_gones = |number: usize| world.lacking(number).iter().any(|(author, _)| author == gone);
    let nowhere = live().filter(|(number, _)| *number < group.2).all(|(number, _)| lacks_the_gones(number));
    for (number, node) in live() {
        let excludes = node.federation == FederationId::new(group.0, "1");
        assert_eq!(node.board.is_excluded(cheat), excludes, "seed {seed}: {number}");
        let mut lacking = world.lacking(number);
        lacking.retain(|(author, _)| author != gone || !nowhere);
        assert_eq!(lacking, [], "seed {seed}: {number} lacks newest updates of these");
        // And their authors know.
        let set = node.board.set();
        let newest = set.newest_update(node.peer).unwrap().root().unwrap();
        drop(set);
        let unheld = node.core.as_ref().unwrap().unheld(&newest);
        let unheld: Vec<_> = live().filter(|(_, other)| unheld.contains(&other.peer)).map(|(other, _)| other).collect();
        assert_eq!(unheld, [0; 0], "seed {seed}: {number} doesn't know of these that they have its update");
    }
}

#[test]
fn all_know_and_hold_the_same_in_the_end() {
    // PEERFOLD_SEEDS=500 for a long night.
    let seeds = std::env::var("PEERFOLD_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(6);
    let (mut wrong_blobs, mut dropped) = (0, BTreeSet::new());
    for seed in 0..seeds {
        let mut outcome = simulate(seed, false);
        check(seed, &outcome);
        wrong_blobs += outcome.world.wrong_blobs;
        dropped.extend(outcome.world.dropped.keys().copied());
        // When there is nothing to say, nobody says more than that once in a while.
        outcome.world.syncs = 0;
        outcome.world.run_until(END + 200.0);
        let syncs = outcome.world.syncs;
        assert!(syncs < 30 * 10 * 3, "seed {seed}: {syncs} questions in 200 s among nodes that agree");
    }
    assert!(wrong_blobs > 0 && dropped.contains(&Character::Liar) && dropped.contains(&Character::Vandal));
}

#[test]
fn equal_seeds_run_equally() {
    let trace = simulate(3, true).trace;
    assert_eq!(simulate(3, true).trace, trace);
    assert_ne!(simulate(4, true).trace, trace);
}

/// Thirty nodes in a ring with a few chords, all honest and of one kind.
fn ring(seed: u64) -> World {
    let nodes = (0..30).map(|number| Node::new(number, Character::Honest, "one", 1)).collect();
    let mut edges: BTreeSet<_> = (0..30).map(|at| (at, (at + 1) % 30)).collect();
    edges.extend((0..10).map(|at| (at, at + 13)));
    let mut world = World::new(seed, nodes, edges);
    (0..30).for_each(|node| world.at(0.0, Script::Start(node)));
    world
}

fn digests(world: &World) -> BTreeSet<Digest> {
    world.nodes.iter().map(|node| node.board.digest()).collect()
}

#[test]
fn healed_halves_agree_in_a_moment() {
    let mut world = ring(1);
    world.at(1.0, Script::Part((0..15).collect()));
    (0..30).for_each(|node| world.at(10.0, Script::Publish(node)));
    world.run_until(60.0);
    assert_eq!(digests(&world).len(), 2);
    world.at(60.0, Script::Heal);
    world.run_until(64.0);
    assert_eq!(digests(&world).len(), 1);
}

#[test]
fn an_update_reaches_those_far_from_its_author_soon() {
    let mut world = ring(2);
    world.at(5.0, Script::Publish(20));
    world.run_until(25.0);
    let lacking: Vec<usize> = (0..30).filter(|&node| !world.lacking(node).is_empty()).collect();
    assert_eq!(lacking, [0; 0]);
}

/// Two hundred, connected as they would be: some lie, some die and come back, connections break, and for half a minute one
/// half doesn't reach the other.
#[test]
fn two_hundred_come_to_know_and_hold_the_same() {
    let (count, liars) = (200, 5);
    let mut world = World::federation(7, Topology::of(count), liars, true, None);
    assert_eq!(world.largest_part(), count);
    for author in (0..count).step_by(25).chain(count - 2..count) {
        let at = world.random().random_range(20.0..60.0);
        world.at(at, Script::Publish(author));
    }
    for node in (5..count - liars).step_by(40) {
        let at = world.random().random_range(25.0..60.0);
        world.at(at, Script::Kill(node));
        world.at(at + 10.0, Script::Start(node));
    }
    for _ in 0..30 {
        let (node, at) = (world.random().random_range(0..count), world.random().random_range(20.0..90.0));
        world.at(at, Script::Break(node));
    }
    world.at(40.0, Script::Part((0..count / 2).collect()));
    world.at(70.0, Script::Heal);
    world.run_until(140.0);
    assert_eq!(digests(&world).len(), 1);
    for node in 0..count {
        assert_eq!(world.lacking(node), [], "{node} lacks newest updates of these");
    }
    assert!(world.wrong_blobs > 0);
}

/// What is published reaches everybody in two seconds, nearly all in one, and what a node sends of it doesn't grow with
/// the number of nodes.
#[test]
fn two_hundred_hear_of_an_update_at_once() {
    let (count, published) = (200, 10);
    let mut world = World::federation(8, Topology::of(count), 0, false, None);
    world.run_until(60.0);
    world.counts.clear();
    for author in 0..published {
        world.at(60.0, Script::Publish(author * 7));
    }
    world.run_until(70.0);
    let after = |part| world.news.known_after(part, count - 1).unwrap();
    assert!(after(0.99) < Duration::from_secs(1) && after(1.0) < Duration::from_secs(2), "{:?}", after(1.0));
    // Each node forwards to its mesh what it hears, and its author sends it to all who are connected with it.
    let each = world.counts.of(Kind::Gossip).messages as f64 / (count * published) as f64;
    assert!(each < 12.0, "{each}");
}

/// A federation in which nodes follow fewer authors than there are, after its second epoch; and what a node has sent in
/// that.
fn narrow(nodes: usize) -> (World, u64) {
    let topology = Topology { most: 32, ..Topology::of(nodes) };
    let mut world = World::federation(9, topology, 0, false, Some(48));
    for epoch in 0..2 {
        let begins = 60.0 + 60.0 * f64::from(epoch);
        world.run_until(begins);
        world.counts.clear();
        for author in 0..nodes {
            let at = begins + world.random().random_range(0.0..20.0);
            world.at(at, Script::Publish(author));
        }
    }
    world.run_until(180.0);
    let sent = world.counts.all().bytes / nodes as u64;
    (world, sent)
}

/// Twice as many nodes: each knows as few of them as before, sends no more, and is known by as many.
#[test]
fn who_follows_a_few_is_spared_the_number_of_the_others() {
    let ((small, sent), (large, sent_of_many)) = (narrow(90), narrow(180));
    for world in [&small, &large] {
        assert!(world.most_known() <= 48, "{}", world.most_known());
        // Each connected peer follows it, and can fold what it has learned.
        let known = world.known_by();
        assert!(known[0] >= 8, "{known:?}");
    }
    assert!(sent_of_many < sent * 5 / 4, "{sent} bytes, and {sent_of_many} among twice as many");
}

/// An update as nodes publish it.
fn update(author: u32, epoch: u64) -> Arc<SignedEntry> {
    let mut secret = [3; 32];
    secret[..4].copy_from_slice(&author.to_le_bytes());
    let keypair = Keypair::ed25519_from_bytes(secret).unwrap();
    let metric = |name: &str, value| Metric { name: name.to_owned(), value };
    let metrics = vec![metric("accuracy", 0.9), metric("loss", 0.1)];
    let metadata = Metadata { epoch, num_examples: 60_000, metrics };
    let root = Root::from_bytes(*blake3::hash(&[&secret[..], &epoch.to_le_bytes()].concat()).as_bytes());
    let content = Content::Put { root, length: 87_000, metadata };
    let key = Key::update(keypair.public().to_peer_id(), epoch);
    let federation = FederationId::new("many", "1");
    let layout = LayoutId::from_bytes([1; 32]);
    Arc::new(SignedEntry::sign(Entry { federation, layout, key, sequence: epoch, content }, &keypair).unwrap())
}

/// What two nodes send each other, of sync, until they agree.
fn bytes_to_agree(known: [Vec<Arc<SignedEntry>>; 2]) -> u64 {
    let mut nodes: Vec<Node> =
        (0..2).map(|number| Node { fetches: false, ..Node::new(number, Character::Honest, "many", 1) }).collect();
    for (node, known) in nodes.iter_mut().zip(known) {
        node.cache.saved = known.into_iter().map(Standing::Entry).collect();
    }
    let mut world = World::under(Conditions::internet(), 1, nodes, [(0, 1)].into());
    (0..2).for_each(|node| world.at(0.0, Script::Start(node)));
    world.run_until(30.0);
    assert_eq!(digests(&world).len(), 1);
    world.counts.of(Kind::Sync).bytes
}

/// Ten thousand authors: what differs is all that two nodes tell each other, and a little more.
#[test]
fn two_who_differ_in_a_few_of_ten_thousand_tell_each_other_little_else() {
    let all: Vec<Arc<SignedEntry>> = (0..10_000).map(|author| update(author, 1)).collect();
    let newer = |authors: std::ops::Range<u32>| {
        let newer = authors.map(|author| update(author, 2));
        all.iter().cloned().chain(newer).collect::<Vec<_>>()
    };
    let of_one = all[0].bytes().len() as u64;
    // Each has five updates that the other lacks.
    let few = bytes_to_agree([newer(0..5), newer(5..10)]);
    assert!(few < 30_000, "{few} bytes for ten entries of {of_one}");
    // One was away when everybody published: of each author it lacks one entry.
    let epoch = bytes_to_agree([all.clone(), newer(0..10_000)]);
    assert!(epoch < 10_000 * (of_one + 64), "{epoch} bytes for 10,000 entries of {of_one}");
    // And one that knows nothing gets all.
    let nothing = bytes_to_agree([Vec::new(), all]);
    assert!(nothing < 10_000 * (of_one + 64), "{nothing} bytes for 10,000 entries of {of_one}");
    println!("{few}, {epoch}, {nothing} bytes; an entry has {of_one}");
}
