//! Many asynchronous nodes over one storage, in a seeded order.

use crate::nodes;

use nodes::{Recorder, local, options, patiently, peers};
use peerfold::{
    node::{AsyncNode, AsyncOptions, Event, Roster, Standpoint},
    strategy::StrategySpec,
    weights::{Digest, Root, Weights},
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

const NODES: usize = 30;
const EXCHANGES: usize = 300;

/// A run in the order that the seed draws: slow and fast nodes, and a few that publish rubbish now and then. Gives what
/// every node came to, and what they all see.
async fn simulate(seed: u64) -> (Vec<Weights>, Digest) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (_storage, peers) = peers(NODES + 3);
    let (members, cheats) = peers.split_at(NODES);
    let cheats_ids: BTreeSet<String> = cheats.iter().map(|peer| peer.id.to_string()).collect();
    let mut nodes = Vec::new();
    for peer in members {
        let events = Recorder::new();
        let options_of_node = AsyncOptions {
            ignore_seen: random.random(),
            participation: if random.random() { 1.0 } else { 0.7 },
            max_peers: random.random::<bool>().then(|| random.random_range(1..8)),
            seed: random.random(),
            ..AsyncOptions::default()
        };
        let participant = peer.participant_with(&StrategySpec::new("fedavg"), options(&events));
        nodes.push((AsyncNode::new(participant, options_of_node), events, local(0, random.random_range(-1.0..1.0))));
    }
    for exchange in 0..EXCHANGES {
        if exchange % 20 == 7 {
            // An epoch of its own fancy, weights that nobody can use.
            let cheat = &cheats[random.random_range(0..cheats.len())];
            cheat.publish(random.random_range(0..u64::MAX), f32::NAN).await;
        }
        // The first nodes are the fastest.
        let fast: usize = random.random_range(0..NODES);
        let (node, _, update) = &mut nodes[random.random_range(0..=fast)];
        update.epoch += 1;
        update.weights = patiently(node.exchange(update)).await.unwrap().0;
    }
    for (_, events, _) in &nodes {
        check_events(events, &cheats_ids);
    }
    let digests: BTreeSet<String> = {
        let mut digests = BTreeSet::new();
        for peer in &peers {
            digests.insert(peer.folder.digest().await.unwrap().to_string());
        }
        digests
    };
    assert_eq!(digests.len(), 1);
    let digest = digests.into_iter().next().unwrap().parse().unwrap();
    (nodes.into_iter().map(|(.., update)| update.weights).collect(), digest)
}

fn check_events(events: &Recorder, cheats: &BTreeSet<String>) {
    let mut said = BTreeSet::new();
    for (rounds, event) in events
        .pick(|event| match event {
            Event::Folded { .. } => Some(event.clone()),
            _ => None,
        })
        .into_iter()
        .enumerate()
    {
        let Event::Folded { round, updates, .. } = event else { continue };
        assert_eq!(round, rounds as u64 + 1);
        assert!(updates[0].own && updates.len() > 1);
        assert!((updates.iter().map(|update| update.weight).sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(updates.iter().all(|update| update.staleness <= 10 && !cheats.contains(&update.author)));
        let authors: BTreeSet<&String> = updates.iter().map(|update| &update.author).collect();
        assert_eq!(authors.len(), updates.len());
    }
    for event in events.all() {
        match event {
            Event::Rejected { author, epoch, .. } => {
                assert!(cheats.contains(&author));
                assert!(said.insert((author, epoch)), "said twice");
            }
            Event::LeftOut { staleness, .. } => assert!(staleness > 10),
            Event::FolderFailed { .. } | Event::Excluded { .. } | Event::Mismatch { .. } => panic!("{event:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn whatever_the_order_nothing_bad_is_folded_and_a_seed_repeats_a_run() {
    let first = simulate(1).await;
    assert_eq!(simulate(1).await, first);
    for seed in 2..6 {
        assert_ne!(simulate(seed).await, first);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Against a model that remembers everything: staleness is the larger of what was waited and how far the author is
    /// behind the lower median of the claims that the node has seen to be possible, none of them later than its own
    /// epoch; and no claim lowers it below the waiting.
    #[test]
    fn staleness_is_that_of_a_plain_model(
        steps in prop::collection::vec((0usize..5, 0u64..6, 0u64..400, any::<bool>(), 0u64..60), 1..60),
        reach in 0u64..30,
    ) {
        let authors: Vec<_> = nodes_ids();
        let mut roster = Roster::default();
        // Sequence, epoch and the count of folds when it was first seen.
        let mut model: Vec<Option<(u64, u64, u64)>> = vec![None; authors.len()];
        // In which of the folds each author came to a later epoch.
        let mut grown: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); authors.len()];
        let mut folds = 0;
        for (at, sequence, epoch, fold, own) in steps {
            let root = Root::from_bytes([(sequence * 40 + epoch) as u8; 32]);
            roster.saw(authors[at], sequence, root, epoch);
            if let Some((newest, known, _)) = model[at] && newest < sequence && known < epoch {
                grown[at].insert(folds);
            }
            if model[at].is_none_or(|(newest, ..)| newest < sequence) {
                model[at] = Some((sequence, epoch, folds));
            }
            if fold {
                roster.folded([(authors[at], epoch, Some(sequence))]);
                folds += 1;
            }
            let from = Standpoint { epoch: Some(own), reach };
            let believed = |at: usize, epoch: u64| epoch <= own + reach + 100 * grown[at].len() as u64;
            let known = model.iter().enumerate().filter_map(|(at, known)| Some((at, (*known)?.1)));
            let mut epochs: Vec<u64> = known.filter(|&(at, epoch)| believed(at, epoch)).map(|(_, epoch)| epoch).collect();
            epochs.sort_unstable();
            let median = epochs.len().checked_sub(1).map(|last| epochs[last / 2].min(own));
            prop_assert_eq!(roster.median_epoch(from), median);
            for (at, newest) in model.iter().enumerate() {
                let Some((_, epoch, seen_at)) = *newest else { continue };
                let expected = (folds - seen_at).max(median.unwrap_or(0).saturating_sub(epoch));
                prop_assert_eq!(roster.staleness(authors[at], epoch, from), expected);
                prop_assert!(roster.staleness(authors[at], u64::MAX, from) <= expected);
                prop_assert_eq!(roster.believes(authors[at], epoch, own, reach), believed(at, epoch));
            }
        }
        prop_assert_eq!(roster.folds(), folds);
    }
}

fn nodes_ids() -> Vec<libp2p_identity::PeerId> {
    (0..5).map(|number| nodes::keypair(number).public().to_peer_id()).collect()
}
