//! Who is connected with whom, once nodes have looked for each other in the table.
//!
//! A model of what nodes do, without the cores: each that starts announces itself where the table's key belongs, asks
//! there who else did, and dials some of them. It does so again and again, and whoever has no room for one more closes its
//! oldest connection. Who has few left dials those again that it knew. What isn't modelled is the way through Kademlia,
//! which always succeeds here, and that authors who are known take the places of others.

use rand::{
    RngExt, SeedableRng,
    seq::{IndexedRandom, SliceRandom},
};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Nodes that are asked and told, the closest to the key.
const CLOSEST: usize = 20;
/// Members that each of them remembers, and a bootstrap node.
const LISTED: usize = 64;
const LISTED_AT_BOOTSTRAP: usize = 20;
/// Rounds of asking after all have started, one a minute.
const ROUNDS: usize = 5;
/// Who has fewer connections dials those again that it knew.
const ENOUGH: usize = 32;
/// Whom a node dials of those that it is told of at once, and once it has enough.
const NAMED_AT_ONCE: usize = 64;
const NAMED_ONCE_ENOUGH: usize = 4;
/// Peers that a node remembers.
const REMEMBERED: usize = 256;

/// What decides who is connected with whom.
#[derive(Debug, Clone, Copy)]
pub struct Topology {
    pub nodes: usize,
    /// Connections of a node with peers of whom it hasn't folded several updates: all, at the beginning.
    pub most: usize,
    /// The part of nodes that can't be dialled.
    pub behind_nat: f64,
}

struct Finding {
    topology: Topology,
    random: ChaCha8Rng,
    /// Each node's connections, the oldest first.
    connections: Vec<VecDeque<usize>>,
    /// Whom each node was ever connected with.
    remembered: Vec<Vec<usize>>,
    hidden: Vec<bool>,
    /// Whom each node's part of the table lists.
    lists: Vec<Vec<usize>>,
    at_bootstrap: Vec<usize>,
    by_distance: BTreeMap<u64, usize>,
}

impl Topology {
    /// A federation of so many at its beginning, a fifth of whom can't be dialled.
    pub fn of(nodes: usize) -> Self {
        Self { nodes, most: 128, behind_nat: 0.2 }
    }

    /// Pairs that are connected.
    pub fn edges(self, seed: u64) -> BTreeSet<(usize, usize)> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let hidden = (0..self.nodes).map(|_| random.random_bool(self.behind_nat)).collect();
        let mut finding = Finding {
            topology: self,
            random,
            connections: vec![VecDeque::new(); self.nodes],
            remembered: vec![Vec::new(); self.nodes],
            hidden,
            lists: vec![Vec::new(); self.nodes],
            at_bootstrap: Vec::new(),
            by_distance: BTreeMap::new(),
        };
        for node in 0..self.nodes {
            let distance = finding.random.random();
            finding.by_distance.insert(distance, node);
            finding.look(node);
        }
        let mut order: Vec<usize> = (0..self.nodes).collect();
        for _ in 0..ROUNDS {
            order.shuffle(&mut finding.random);
            order.iter().for_each(|&node| finding.look(node));
            finding.redial(&order);
        }
        let connections = finding.connections.iter().enumerate();
        connections
            .flat_map(|(one, others)| others.iter().map(move |&other| (one.min(other), one.max(other))))
            .collect()
    }
}

impl Finding {
    /// Announces a node, asks for others and dials them.
    fn look(&mut self, node: usize) {
        let closest: Vec<usize> = self.by_distance.values().copied().take(CLOSEST).collect();
        let mut found: BTreeSet<usize> = self.at_bootstrap.iter().copied().collect();
        for &holder in &closest {
            found.extend(&self.lists[holder]);
            add(&mut self.lists[holder], node, LISTED);
        }
        add(&mut self.at_bootstrap, node, LISTED_AT_BOOTSTRAP);
        let connected = &self.connections[node];
        let mut found: Vec<usize> =
            found.into_iter().filter(|other| *other != node && !connected.contains(other)).collect();
        let most = if connected.len() < ENOUGH { NAMED_AT_ONCE } else { NAMED_ONCE_ENOUGH };
        found.shuffle(&mut self.random);
        found.into_iter().take(most).for_each(|other| self.dial(node, other));
    }

    /// Who has too few dials those that it remembers, one after the other, and who loses a connection by that does too.
    fn redial(&mut self, order: &[usize]) {
        for _ in 0..ENOUGH {
            for &node in order {
                let known: Vec<usize> = self.remembered[node]
                    .iter()
                    .copied()
                    .filter(|peer| !self.connections[node].contains(peer))
                    .collect();
                if self.connections[node].len() < ENOUGH
                    && let Some(&other) = known.choose(&mut self.random)
                {
                    self.dial(node, other);
                }
            }
        }
    }

    fn dial(&mut self, node: usize, other: usize) {
        if self.hidden[other] || self.connections[node].contains(&other) {
            return;
        }
        for (one, other) in [(node, other), (other, node)] {
            if self.connections[one].len() >= self.topology.most
                && let Some(oldest) = self.connections[one].pop_front()
            {
                self.connections[oldest].retain(|peer| *peer != one);
            }
            self.connections[one].push_back(other);
            add(&mut self.remembered[one], other, REMEMBERED);
        }
    }
}

/// Who was first stays.
fn add(list: &mut Vec<usize>, node: usize, most: usize) {
    if list.len() < most && !list.contains(&node) {
        list.push(node);
    }
}
