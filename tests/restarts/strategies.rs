//! Every strategy among several nodes, against plain formulas: x, Δ, τ, F, degrees and buffers are what they should be,
//! also after a node was killed.

use crate::{nodes, rules};

use bytes::Bytes;
use fail::FailScenario;
use futures::future::join_all;
use nodes::{Peer, Recorder, options, patiently, peers, weights};
use peerfold::{
    node::{
        AsyncNode, AsyncOptions, BelowQuorum, Event, LocalUpdate, Members, Origin, SavedState, Session, SessionOptions,
        SyncNode, SyncOptions,
    },
    strategy::{STRATEGIES, StrategySpec},
    weights::{Key, Metadata, Metric, Weights},
};
use rules::{Case, Told, Vector, cases};
use std::{path::Path, time::Duration};

const ALL: usize = 7;
/// The number of the node that is looked at; ids ascend with the numbers.
const OWN: usize = 3;
const EPOCHS: u64 = 6;

/// What the others publish before the node's own epochs: number and epoch.
const PUBLISHED: [&[(usize, u64)]; EPOCHS as usize] = [
    &[(0, 1), (1, 1), (2, 1), (4, 1), (5, 1), (6, 1)],
    &[(0, 2), (1, 2)],
    &[(2, 3), (4, 2), (5, 4)],
    &[(0, 4), (1, 7), (2, 6), (5, 6)],
    &[],
    &[(0, 5), (4, 3), (6, 4)],
];

/// τ of the updates that are folded beside its own if each is folded again until a newer one comes. It is the larger of
/// the node's folds since the update was there and of what it lacks to the median of the seven newest epochs, which are
/// 1, 1, 2, 4, 5 and 6 in turn.
const STALENESS: [[(usize, u64); ALL - 1]; EPOCHS as usize] = [
    [(0, 0), (1, 0), (2, 0), (4, 0), (5, 0), (6, 0)],
    [(0, 0), (1, 0), (2, 1), (4, 1), (5, 1), (6, 1)],
    [(0, 1), (1, 1), (2, 0), (4, 0), (5, 0), (6, 2)],
    [(0, 0), (1, 0), (2, 0), (4, 2), (5, 0), (6, 3)],
    [(0, 1), (1, 1), (2, 1), (4, 3), (5, 1), (6, 4)],
    [(0, 1), (1, 2), (2, 2), (4, 3), (5, 2), (6, 2)],
];

/// The same if each is folded once: nothing to fold in epoch 5.
const STALENESS_ONCE: [&[(usize, u64)]; EPOCHS as usize] = [
    &[(0, 0), (1, 0), (2, 0), (4, 0), (5, 0), (6, 0)],
    &[(0, 0), (1, 0)],
    &[(2, 0), (4, 0), (5, 0)],
    &[(0, 0), (1, 0), (2, 0), (5, 0)],
    &[],
    &[(0, 1), (4, 3), (6, 2)],
];

/// What the others say of how many peers they know.
const DEGREES: [Option<u64>; ALL] = [Some(2), Some(9), None, None, Some(12), Some(6), Some(3)];

/// Weights as a vector, tensor by tensor.
fn vector(weights: &Weights) -> Vector {
    let elements = weights.tensors().flat_map(|(_, data)| data.as_chunks::<4>().0);
    elements.map(|&element| f32::from_le_bytes(element).into()).collect()
}

/// Some weights for each author and epoch, none like the others.
fn trained(author: usize, epoch: u64) -> Weights {
    let layout = weights(0.0).layout().clone();
    let mut at = 1.7 * author as f32 + 0.9 * epoch as f32;
    let mut next = || {
        at += 2.3;
        (at.sin() + 0.1 * author as f32).to_le_bytes()
    };
    let tensors = layout.tensors().iter().map(|spec| {
        let elements = spec.shape.iter().product::<u64>() as usize;
        std::iter::repeat_with(&mut next).take(elements).flatten().collect::<Vec<u8>>().into()
    });
    let data: Vec<Bytes> = tensors.collect();
    Weights::from_layout(layout, data).unwrap()
}

fn examples(author: usize, epoch: u64) -> u64 {
    10 + 3 * author as u64 + 7 * (epoch % 3)
}

fn loss(author: usize, epoch: u64) -> f64 {
    0.1 + 0.07 * author as f64 + 0.3 / epoch as f64
}

fn told(author: usize, epoch: u64, tau: u64, degree: Option<u64>, own: bool) -> Told {
    let (w, n, loss) = (vector(&trained(author, epoch)), examples(author, epoch) as f64, loss(author, epoch));
    Told { author, w, n, epoch, tau: tau as f64, loss, degree, own }
}

fn local(author: usize, epoch: u64) -> LocalUpdate {
    let metrics = vec![Metric { name: "loss".to_owned(), value: loss(author, epoch) }];
    LocalUpdate { weights: trained(author, epoch), epoch, num_examples: examples(author, epoch), metrics }
}

async fn publish(peer: &Peer, author: usize, epoch: u64) {
    let metadata = Metadata { epoch, num_examples: examples(author, epoch), ..Metadata::default() };
    let degree = DEGREES[author].map(|degree| ("degree", degree as f64));
    let metadata = metadata.with_metrics([("loss", loss(author, epoch))].into_iter().chain(degree));
    peer.folder.put(&Key::update(peer.id, epoch), &trained(author, epoch), metadata).await.unwrap();
}

/// What every node begins from.
fn beginning() -> (Weights, Origin) {
    (trained(0, 0), Origin::Seed)
}

fn session_options(dir: Option<&Path>) -> SessionOptions {
    SessionOptions { run_dir: dir.map(Path::to_owned), ..nodes::session_options() }
}

/// What rounding to f32 does to a few operations is no difference.
fn compare(got: &[f64], expected: &[f64], place: &str) {
    assert_eq!(got.len(), expected.len());
    let near = |(got, expected): (&f64, &f64)| (got - expected).abs() <= 2e-6 * (1.0 + expected.abs());
    assert!(got.iter().zip(expected).all(near), "{place}:\n{got:?} and not\n{expected:?}");
}

/// Number, epoch and τ of the updates of a fold, in the round's order.
type Inputs = Vec<(usize, u64, u64)>;

/// An asynchronous node among six others: what it goes on with after each epoch.
struct Run<'a> {
    peers: Vec<Peer>,
    spec: &'a StrategySpec,
    once: bool,
    dir: tempfile::TempDir,
    events: Recorder,
}

impl<'a> Run<'a> {
    fn new(spec: &'a StrategySpec, once: bool) -> Self {
        let (_, peers) = peers(ALL);
        Self { peers, spec, once, dir: tempfile::tempdir().unwrap(), events: Recorder::new() }
    }

    /// A life of the node, from its checkpoint if there is one; and what it begins with.
    async fn live(&self) -> (Session, Weights) {
        let participant = self.peers[OWN].participant_with(self.spec, options(&self.events));
        let node = AsyncNode::new(participant, AsyncOptions { ignore_seen: self.once, ..AsyncOptions::default() });
        let mut session = Session::new(node, session_options(Some(self.dir.path())));
        let begun = patiently(session.begin(beginning(), SavedState::default())).await.unwrap();
        (session, begun.weights)
    }

    async fn others_publish(&self, epoch: u64) {
        for &(author, of) in PUBLISHED[epoch as usize - 1] {
            publish(&self.peers[author], author, of).await;
        }
    }

    /// From the start to the end in one life.
    async fn straight(&self) -> Vec<Weights> {
        let (mut session, first) = self.live().await;
        assert_eq!(first, beginning().0);
        let mut all = Vec::new();
        for epoch in 1..=EPOCHS {
            self.others_publish(epoch).await;
            let completed = patiently(session.epoch_trained(local(OWN, epoch), SavedState::default())).await.unwrap();
            all.push(completed.weights);
        }
        all
    }

    /// Killed in every epoch, after its fold and before that was saved: the next life folds again.
    async fn killed(&self) -> Vec<Weights> {
        let mut all = Vec::new();
        let (mut session, _) = self.live().await;
        for epoch in 1..=EPOCHS {
            self.others_publish(epoch).await;
            fail::cfg("session::folded", "panic").unwrap();
            let life =
                tokio::spawn(async move { session.epoch_trained(local(OWN, epoch), SavedState::default()).await });
            assert!(patiently(life).await.unwrap_err().is_panic());
            fail::remove("session::folded");
            let weights;
            (session, weights) = self.live().await;
            all.push(weights);
        }
        all
    }

    /// What went into the folds, with the node's epoch.
    fn folds(&self) -> Vec<(u64, Inputs)> {
        let number = |id: &str| self.peers.iter().position(|peer| peer.id.to_string() == id).unwrap();
        self.events.pick(|event| match event {
            Event::Folded { epoch, updates, .. } => {
                Some((*epoch, updates.iter().map(|u| (number(&u.author), u.epoch, u.staleness)).collect()))
            }
            _ => None,
        })
    }
}

/// The updates that are to be folded in an epoch, in the round's order: its own first, then by author.
fn round(epoch: u64, once: bool) -> Vec<Told> {
    let at = epoch as usize - 1;
    let staleness = if once { STALENESS_ONCE[at] } else { &STALENESS[at] };
    if staleness.is_empty() {
        return Vec::new();
    }
    let newest = |author: usize| {
        let published = PUBLISHED[..=at].iter().flat_map(|published| published.iter());
        published.filter(|(of, _)| *of == author).map(|(_, epoch)| *epoch).max().unwrap()
    };
    // Before its first look at the folder it knows nobody.
    let known = if epoch == 1 { 0 } else { ALL as u64 - 1 };
    let others = staleness.iter().map(|&(author, tau)| told(author, newest(author), tau, DEGREES[author], false));
    std::iter::once(told(OWN, epoch, 0, Some(known), true)).chain(others).collect()
}

/// Rules that refuse the rounds of few updates.
const OF_MANY: [&str; 3] = ["krum", "multikrum", "bulyan"];

#[tokio::test]
async fn an_asynchronous_node_folds_by_the_formula_also_when_it_is_killed_in_every_epoch() {
    let _scenario = FailScenario::setup();
    for info in STRATEGIES {
        assert!(!cases(info.name).is_empty(), "{} has no formula here", info.name);
        for once in [false, true] {
            if once && OF_MANY.contains(&info.name) {
                continue;
            }
            for Case { spec, mut rule } in cases(info.name) {
                let run = Run::new(&spec, once);
                let straight = run.straight().await;
                let (mut x, mut folds) = (vector(&beginning().0), run.folds().into_iter());
                for (epoch, weights) in (1..).zip(&straight) {
                    let place = format!("{spec}, folding each update once: {once}, epoch {epoch}");
                    let round = round(epoch, once);
                    if round.is_empty() {
                        assert_eq!(*weights, trained(OWN, epoch), "{place}");
                        continue;
                    }
                    let inputs = round.iter().map(|u| (u.author, u.epoch, u.tau as u64)).collect();
                    assert_eq!(folds.next(), Some((epoch, inputs)), "{place}");
                    compare(&vector(weights), &rule(&x, &round), &place);
                    x = vector(weights);
                }
                assert_eq!(folds.next(), None);
                assert!(Run::new(&spec, once).killed().await == straight, "{spec}: other bits after a kill");
            }
        }
    }
}

#[tokio::test]
async fn synchronous_nodes_fold_by_the_formula() {
    let _scenario = FailScenario::setup();
    for info in STRATEGIES {
        for (case, Case { spec, .. }) in cases(info.name).into_iter().enumerate() {
            let (_storage, peers) = peers(ALL);
            let mut sessions: Vec<Session> = peers
                .iter()
                .map(|peer| {
                    let deadline = Duration::from_secs(3600);
                    let pace = SyncOptions { nodes: ALL, quorum: ALL, deadline, below_quorum: BelowQuorum::Stop };
                    let participant = peer.participant_with(&spec, options(&Recorder::new()));
                    let node = SyncNode::new(participant, pace, Members::first_seen(peer.id, ALL));
                    Session::new(node, session_options(None))
                })
                .collect();
            let mut rules: Vec<_> = (0..ALL).map(|_| cases(info.name).swap_remove(case).rule).collect();
            let mut xs = vec![vector(&beginning().0); ALL];
            for session in &mut sessions {
                patiently(session.begin(beginning(), SavedState::default())).await.unwrap();
            }
            for epoch in 1..=3 {
                let exchanged = sessions
                    .iter_mut()
                    .enumerate()
                    .map(|(author, session)| session.epoch_trained(local(author, epoch), SavedState::default()));
                let completed = patiently(join_all(exchanged)).await;
                let all: Vec<Weights> = completed.into_iter().map(|completed| completed.unwrap().weights).collect();
                for (own, (weights, rule)) in all.iter().zip(&mut rules).enumerate() {
                    let known = (epoch > 1).then_some(ALL as u64 - 1);
                    let round: Vec<Told> =
                        (0..ALL).map(|author| told(author, epoch, 0, known, author == own)).collect();
                    compare(&vector(weights), &rule(&xs[own], &round), &format!("{spec}, epoch {epoch}, node {own}"));
                    xs[own] = vector(weights);
                }
                // Of a pair each has the mean; all others have it of all.
                let alike = all.iter().filter(|weights| **weights == all[0]).count();
                assert_eq!(alike, if info.name == "gossip" { alike.min(2) } else { ALL }, "{spec}, epoch {epoch}");
            }
        }
    }
}
