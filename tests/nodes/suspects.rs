//! Nodes that learn digits together while one of them sends what is far out of line.
#![cfg(feature = "train")]

use crate::nodes;

use futures::future::join_all;
use nodes::{Peer, Recorder, options, patiently, peers};
use peerfold::{
    experiment::{LabelSkew, digits, hold_out},
    node::{
        AsyncNode, AsyncOptions, Checks, Event, LocalUpdate, Members, Mode, Origin, Participant, ParticipantOptions,
        Session, Suspicion, SyncNode, SyncOptions, Validation,
    },
    strategy::StrategySpec,
    train::{Device, EpochLength, Examples, Model, Train, TrainOptions, trainer, validation},
    weights::{Tensor, Weights},
};
use std::sync::Arc;

const NODES: usize = 5;
/// How unevenly the demo spreads labels.
const SKEW: f64 = 0.9;

/// A node, and what it trains with.
struct Learner {
    id: String,
    session: Session,
    trainer: Box<dyn Train>,
    events: Recorder,
    weights: Weights,
    epoch: u64,
}

/// What a node does with its examples.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// It trains on all of them.
    All,
    /// It holds a fifth of them out, and measures updates on them.
    Validates,
    /// It trains on wrong labels.
    Flips,
}

impl Learner {
    async fn new(
        peer: &Peer,
        number: usize,
        suspect: Suspicion,
        is_synchronous: bool,
        (skew, of_examples): (f64, Use),
    ) -> Self {
        let part = LabelSkew::new(NODES, skew, 1).unwrap().part(&digits().train, number).unwrap();
        let training = TrainOptions { data_seed: number as u64, threads: 1, ..TrainOptions::default() };
        let (part, judge) = match of_examples {
            Use::All => (part, None),
            Use::Flips => (flipped(&part), None),
            Use::Validates => {
                let (part, held) = hold_out(&part, 0.2, 1, &number.to_le_bytes());
                (part, Some(validation(Model::Digits, Device::Cpu, training, held).unwrap()))
            }
        };
        let trainer = trainer(Model::Digits, Device::Cpu, training, Arc::new(part)).unwrap();
        let weights = trainer.weights().unwrap();
        let events = Recorder::new();
        let checks = Checks { suspect, ..Checks::default() };
        let options = ParticipantOptions { checks, ..options(&events) };
        let strategy = StrategySpec::new("fedavg").build().unwrap();
        let participant = Participant::new(peer.folder.clone(), strategy, weights.layout().clone(), options);
        let participant = participant.with_validation(judge);
        let mut session = Session::new(mode(participant, peer, is_synchronous), nodes::session_options());
        let begun = patiently(session.begin((weights, Origin::Seed), Default::default())).await.unwrap();
        let id = peer.id.to_string();
        Self { id, session, trainer, events, weights: begun.weights, epoch: begun.epoch }
    }

    /// Trains an epoch and publishes x + factor·Δ of it.
    async fn epoch(&mut self, factor: f32) {
        self.epoch += 1;
        self.trainer.load_weights(&self.weights).unwrap();
        let length = EpochLength::Steps(30);
        self.trainer.train_epoch(self.epoch, length, Default::default(), &|| false).unwrap();
        let weights = scaled(&self.weights, &self.trainer.weights().unwrap(), factor);
        let num_examples = self.trainer.examples().len() as u64;
        let local = LocalUpdate { weights, epoch: self.epoch, num_examples, metrics: Vec::new() };
        let completed = patiently(self.session.epoch_trained(local, Default::default())).await.unwrap();
        (self.weights, self.epoch) = (completed.weights, completed.epoch);
    }

    fn accuracy(&mut self) -> f64 {
        self.trainer.load_weights(&self.weights).unwrap();
        self.trainer.evaluate(&digits().test, 256).unwrap().accuracy
    }

    /// Author, reason and whether it was left out, of each suspect that was told.
    fn suspects(&self) -> Vec<(String, String, bool)> {
        self.events.pick(|event| match event {
            Event::Suspect { author, reason, left_out, .. } => Some((author.clone(), reason.clone(), *left_out)),
            _ => None,
        })
    }
}

fn scaled(x: &Weights, trained: &Weights, factor: f32) -> Weights {
    let number = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
    let tensors = trained.tensors().zip(x.tensors()).map(|((spec, trained), (_, x))| {
        let pairs = trained.as_chunks().0.iter().map(number).zip(x.as_chunks().0.iter().map(number));
        let data: Vec<u8> = pairs.flat_map(|(w, x)| (x + factor * (w - x)).to_le_bytes()).collect();
        Tensor { spec: spec.clone(), data: data.into() }
    });
    Weights::new(tensors.collect()).unwrap()
}

fn flipped(examples: &Examples) -> Examples {
    let labels = examples.labels().iter().map(|label| 9 - label).collect();
    let features = (0..examples.len()).flat_map(|at| examples.image(at)).copied().collect();
    Examples::new(features, examples.shape(), labels, examples.classes()).unwrap()
}

/// One that never waits, or one that waits for all five.
fn mode(participant: Participant, peer: &Peer, is_synchronous: bool) -> Mode {
    if !is_synchronous {
        return AsyncNode::new(participant, AsyncOptions::default()).into();
    }
    let options = SyncOptions { nodes: NODES, quorum: NODES, ..SyncOptions::default() };
    SyncNode::new(participant, options, Members::first_seen(peer.id, NODES)).into()
}

async fn learners(suspect: Suspicion, of_examples: Use) -> Vec<Learner> {
    learners_with(suspect, false, SKEW, [of_examples; NODES]).await
}

async fn learners_with(suspect: Suspicion, is_synchronous: bool, skew: f64, of_examples: [Use; NODES]) -> Vec<Learner> {
    let (_storage, peers) = peers(NODES);
    let mut learners = Vec::new();
    for (number, (peer, of_examples)) in peers.iter().zip(of_examples).enumerate() {
        learners.push(Learner::new(peer, number, suspect, is_synchronous, (skew, of_examples)).await);
    }
    learners
}

/// The mean accuracy of the honest nodes after some epochs in which the last one sends x − 100·Δ.
async fn attacked(suspect: Suspicion) -> (f64, Vec<Learner>) {
    let mut learners = learners(suspect, Use::All).await;
    for _ in 0..5 {
        for (number, learner) in learners.iter_mut().enumerate() {
            learner.epoch(if number == NODES - 1 { -100.0 } else { 1.0 }).await;
        }
    }
    let sum: f64 = learners[..NODES - 1].iter_mut().map(Learner::accuracy).sum();
    (sum / (NODES - 1) as f64, learners)
}

#[tokio::test]
async fn an_update_far_out_of_line_is_told_and_left_out_only_if_that_is_wanted() {
    let (warned_accuracy, warned) = attacked(Suspicion::Warn).await;
    let attacker = warned[NODES - 1].id.clone();
    for learner in &warned[..NODES - 1] {
        // What is folded all the same throws the honest nodes apart, so that later ones needn't stand out.
        let suspects = learner.suspects();
        assert!(suspects.first().is_some_and(|(author, ..)| *author == attacker), "{suspects:?}");
        assert!(suspects.iter().all(|(.., left_out)| !left_out), "{suspects:?}");
        let folded = learner.events.folded_authors();
        assert!(folded.iter().skip(1).all(|fold| fold.contains(&attacker)));
    }
    let (accuracy, left_out) = attacked(Suspicion::LeaveOut).await;
    for learner in &left_out[..NODES - 1] {
        let suspects = learner.suspects();
        assert!(suspects.len() >= 4 && suspects.iter().all(|(author, ..)| *author == attacker), "{suspects:?}");
        assert!(suspects.iter().all(|(_, reason, left_out)| *left_out && reason.contains("median")), "{suspects:?}");
        let folded = learner.events.folded_authors();
        assert!(folded.len() >= 4 && folded.iter().all(|fold| !fold.contains(&attacker)));
        let figures = learner.session.figures().fold;
        assert!(figures.suspected >= 4 && figures.suspects_left_out >= 4, "{figures:?}");
    }
    assert!(accuracy > 0.6 && accuracy > warned_accuracy + 0.2, "{accuracy} and {warned_accuracy}");
    let (_, off) = attacked(Suspicion::Off).await;
    assert!(off.iter().all(|learner| learner.suspects().is_empty()));
}

/// One node trains an epoch a turn and others only every second or third turn, and each has few labels, so that an honest
/// update is bad on what another holds out.
#[tokio::test]
async fn honest_nodes_at_different_speeds_are_never_suspect() {
    let mut learners = learners(Suspicion::LeaveOut, Use::Validates).await;
    for turn in 0..18 {
        for (number, learner) in learners.iter_mut().enumerate() {
            if turn % (1 + number % 3) == 0 {
                learner.epoch(1.0).await;
            }
        }
    }
    for learner in &learners {
        assert_eq!(learner.suspects(), []);
        assert!(!learner.events.folds().is_empty());
    }
}

/// All have data of one kind. In the first epochs who learns wrong labels learns as far as the others and, in part, in
/// their direction. The nodes are synchronous, so that all of them are as far as each other.
#[tokio::test]
async fn one_that_learns_wrong_labels_is_found_by_its_loss_and_no_honest_one() {
    let [honest, liar] = [Use::Validates, Use::Flips];
    let uses = [honest, honest, honest, honest, liar];
    let mut learners = learners_with(Suspicion::LeaveOut, true, 0.0, uses).await;
    for _ in 0..3 {
        join_all(learners.iter_mut().map(|learner| learner.epoch(1.0))).await;
    }
    let liar = learners[NODES - 1].id.clone();
    for learner in &learners[..NODES - 1] {
        let suspects = learner.suspects();
        assert!(suspects.iter().all(|(author, ..)| *author == liar), "{suspects:?}");
        let by_loss = suspects.iter().find(|(_, reason, _)| reason.contains("validation part"));
        assert!(by_loss.is_some_and(|(.., left_out)| !left_out), "{suspects:?}");
    }
}

/// A node whose judge gives the last of five updates a loss of 9, in line in length and direction; whom it tells of,
/// whether it leaves that out, and whether it folds it.
async fn judged(is_synchronous: bool) -> (Vec<(String, bool)>, bool, String) {
    let (_storage, peers) = peers(NODES);
    let events = Recorder::new();
    let checks = Checks { suspect: Suspicion::LeaveOut, ..Checks::default() };
    let participant = peers[0]
        .participant_with(&StrategySpec::new("fedavg"), ParticipantOptions { checks, ..options(&events) })
        .with_validation(Some(Validation::new(|weights: &Weights| {
            Ok::<_, std::io::Error>(if nodes::value_of(weights) == 1.25 { 9.0 } else { 0.5 })
        })));
    let mut session = Session::new(mode(participant, &peers[0], is_synchronous), nodes::session_options());
    patiently(session.begin((nodes::weights(0.0), Origin::Seed), Default::default())).await.unwrap();
    for (peer, value) in peers[1..].iter().zip([1.0, 1.125, 0.875, 1.25]) {
        peer.publish(1, value).await;
    }
    patiently(session.epoch_trained(nodes::local(1, 1.0), Default::default())).await.unwrap();
    let suspects = events.pick(|event| match event {
        Event::Suspect { author, left_out, .. } => Some((author.clone(), *left_out)),
        _ => None,
    });
    let last = peers[4].id.to_string();
    (suspects, events.folded_authors().iter().any(|fold| fold.contains(&last)), last)
}

#[tokio::test]
async fn synchronous_nodes_tell_a_high_loss_and_fold_the_update_all_the_same() {
    let (suspects, is_folded, last) = judged(false).await;
    assert_eq!((suspects, is_folded), (vec![(last, true)], false));
    let (suspects, is_folded, last) = judged(true).await;
    assert_eq!((suspects, is_folded), (vec![(last, false)], true));
}
