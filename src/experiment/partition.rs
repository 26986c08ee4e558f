//! Splits examples between nodes with label skew, as in the flwr-serverless paper.

use crate::train::{Draws, Examples};

/// Most nodes that examples can be split between.
pub const MAX_NODES: usize = 1 << 20;

/// Why there is no such split, or nothing in it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PartitionError {
    /// No nodes, or more than [`MAX_NODES`].
    #[error("examples can be split between 1 and {MAX_NODES} nodes, not {nodes}")]
    Nodes {
        /// Nodes asked for.
        nodes: usize,
    },
    /// The skew isn't a probability.
    #[error("the label skew must be between 0 and 1, not {skew}")]
    Skew {
        /// The skew asked for.
        skew: f64,
    },
    /// There is no such node.
    #[error("there is no node {node} among {nodes}: they are numbered from 0")]
    Node {
        /// The node asked for.
        node: usize,
        /// Nodes there are.
        nodes: usize,
    },
    /// The node gets no example.
    #[error("node {node} of {nodes} gets none of the {examples} examples: use fewer nodes or a lower label skew")]
    Empty {
        /// The node.
        node: usize,
        /// Nodes there are.
        nodes: usize,
        /// Examples split.
        examples: usize,
    },
}

/// A split of examples between nodes in which each has its own favourite labels, as in the flwr-serverless paper.
///
/// The classes are cut into as many contiguous groups as there are nodes, the first ones longer by one if they don't
/// come out even (`numpy.array_split`: ten classes on three nodes are 0–3, 4–6, 7–9). With probability `skew` an
/// example goes to the node that owns its label, else to any node, each equally likely (the owner too). So 0 is an even
/// split and 1 a disjoint one. With more nodes than classes, the nodes after the last class own no label and get only
/// what is spread evenly.
///
/// The split follows from the seed, the labels and the numbers here: every node computes the same one, everywhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LabelSkew {
    nodes: usize,
    skew: f64,
    seed: u64,
}

impl LabelSkew {
    /// A split between `nodes` (1 to [`MAX_NODES`]) with `skew` (0 to 1).
    pub fn new(nodes: usize, skew: f64, seed: u64) -> Result<Self, PartitionError> {
        if !(1..=MAX_NODES).contains(&nodes) {
            return Err(PartitionError::Nodes { nodes });
        }
        if !(0.0..=1.0).contains(&skew) {
            return Err(PartitionError::Skew { skew });
        }
        Ok(Self { nodes, skew, seed })
    }

    /// The node of each example, in the examples' order.
    pub fn assign(&self, examples: &Examples) -> Vec<usize> {
        let mut draws = Draws::new("label skew", self.seed, b"");
        let owners: Vec<usize> = (0..examples.classes()).map(|class| self.owner(class, examples.classes())).collect();
        let node_of = |&label: &u8| {
            // Both are drawn for each example, so that a seed makes the same draws at every skew.
            let (luck, any) = (draws.unit(), draws.below(self.nodes as u64) as usize);
            if luck < self.skew { owners[usize::from(label)] } else { any }
        };
        examples.labels().iter().map(node_of).collect()
    }

    /// The examples of one node (numbered from 0), in the order in which they stand in the whole. Never none.
    pub fn part(&self, examples: &Examples, node: usize) -> Result<Examples, PartitionError> {
        if node >= self.nodes {
            return Err(PartitionError::Node { node, nodes: self.nodes });
        }
        let nodes = self.assign(examples);
        let indices: Vec<usize> = (0..nodes.len()).filter(|&index| nodes[index] == node).collect();
        if indices.is_empty() {
            return Err(PartitionError::Empty { node, nodes: self.nodes, examples: examples.len() });
        }
        Ok(examples.select(&indices))
    }

    fn owner(&self, class: usize, classes: usize) -> usize {
        let (short, longer) = (classes / self.nodes, classes % self.nodes);
        let in_longer = longer * (short + 1);
        if class < in_longer { class / (short + 1) } else { longer + (class - in_longer) / short }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn examples(count: usize) -> Examples {
        let labels: Vec<u8> = (0..count).map(|index| (index % 10) as u8).collect();
        Examples::new((0..count).map(|index| index as f32).collect(), [1, 1, 1], labels, 10).unwrap()
    }

    fn groups(nodes: usize) -> Vec<usize> {
        let skew = LabelSkew::new(nodes, 1.0, 0).unwrap();
        (0..10).map(|class| skew.owner(class, 10)).collect()
    }

    #[test]
    fn classes_are_cut_like_numpy_does() {
        assert_eq!(groups(1), [0; 10]);
        assert_eq!(groups(2), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
        assert_eq!(groups(3), [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]);
        assert_eq!(groups(4), [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]);
        assert_eq!(groups(10), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(groups(10_000), groups(10));
    }

    #[test]
    fn skew_decides_how_much_is_spread() {
        let all = examples(10_000);
        let histogram = |skew| LabelSkew::new(2, skew, 5).unwrap().part(&all, 0).unwrap().histogram();
        assert_eq!(histogram(1.0), [1000, 1000, 1000, 1000, 1000, 0, 0, 0, 0, 0]);
        assert!(histogram(0.0).iter().all(|count| (440..560).contains(count)), "{:?}", histogram(0.0));
        // The owner keeps 0.9 + 0.1 / 2 of a label.
        let skewed = histogram(0.9);
        assert!(skewed[..5].iter().all(|count| (920..980).contains(count)), "{skewed:?}");
        assert!(skewed[5..].iter().all(|count| (20..80).contains(count)), "{skewed:?}");
    }

    #[test]
    fn many_nodes_share_what_is_spread() {
        let all = examples(60_000);
        let split = LabelSkew::new(10_000, 0.5, 1).unwrap();
        let mut counts = vec![0; 10_000];
        split.assign(&all).iter().for_each(|&node| counts[node] += 1);
        assert!(counts[..10].iter().all(|count| *count > 2_500));
        assert!(counts[10..].iter().all(|count| *count < 30));
    }

    #[test]
    fn the_split_never_changes() {
        let split = LabelSkew::new(3, 0.9, 42).unwrap();
        let nodes: String = split.assign(&examples(40)).iter().map(ToString::to_string).collect();
        assert_eq!(nodes, "0000111222000111122201001112020000111222");
    }

    #[test]
    fn what_is_out_of_range_is_an_error() {
        assert_eq!(LabelSkew::new(0, 0.5, 0), Err(PartitionError::Nodes { nodes: 0 }));
        assert_eq!(LabelSkew::new(MAX_NODES + 1, 0.5, 0), Err(PartitionError::Nodes { nodes: MAX_NODES + 1 }));
        for skew in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(LabelSkew::new(2, skew, 0), Err(PartitionError::Skew { .. })));
        }
        let split = LabelSkew::new(11, 1.0, 0).unwrap();
        assert_eq!(split.part(&examples(20), 11), Err(PartitionError::Node { node: 11, nodes: 11 }));
        assert_eq!(split.part(&examples(20), 10), Err(PartitionError::Empty { node: 10, nodes: 11, examples: 20 }));
    }

    proptest! {
        #[test]
        fn every_example_goes_to_one_node(nodes in 1usize..30, skew in 0.0..=1.0f64, seed: u64, count in 0usize..200) {
            let all = examples(count);
            let split = LabelSkew::new(nodes, skew, seed).unwrap();
            let mut seen: Vec<f32> = Vec::new();
            for node in 0..nodes {
                match split.part(&all, node) {
                    Ok(part) => seen.extend((0..part.len()).map(|index| part.image(index)[0])),
                    Err(PartitionError::Empty { .. }) => {}
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                }
            }
            seen.sort_by(f32::total_cmp);
            prop_assert_eq!(seen, (0..count).map(|index| index as f32).collect::<Vec<_>>());
        }
    }
}
