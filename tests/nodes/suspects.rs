//! Nodes that learn digits together while one of them sends what is far out of line.
#![cfg(feature = "train")]

use crate::nodes;

use nodes::{Peer, Recorder, options, patiently, peers};
use peerfold::{
    experiment::{LabelSkew, digits},
    node::{
        AsyncNode, AsyncOptions, Checks, Event, LocalUpdate, Origin, Participant, ParticipantOptions, Session,
        Suspicion,
    },
    strategy::StrategySpec,
    train::{Device, EpochLength, Model, Train, TrainOptions, trainer},
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

impl Learner {
    async fn new(peer: &Peer, number: usize, suspect: Suspicion) -> Self {
        let part = LabelSkew::new(NODES, SKEW, 1).unwrap().part(&digits().train, number).unwrap();
        let training = TrainOptions { data_seed: number as u64, threads: 1, ..TrainOptions::default() };
        let trainer = trainer(Model::Digits, Device::Cpu, training, Arc::new(part)).unwrap();
        let weights = trainer.weights().unwrap();
        let events = Recorder::new();
        let checks = Checks { suspect, ..Checks::default() };
        let options = ParticipantOptions { checks, ..options(&events) };
        let strategy = StrategySpec::new("fedavg").build().unwrap();
        let participant = Participant::new(peer.folder.clone(), strategy, weights.layout().clone(), options);
        let node = AsyncNode::new(participant, AsyncOptions::default());
        let mut session = Session::new(node, nodes::session_options());
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

async fn learners(suspect: Suspicion) -> Vec<Learner> {
    let (_storage, peers) = peers(NODES);
    let mut learners = Vec::new();
    for (number, peer) in peers.iter().enumerate() {
        learners.push(Learner::new(peer, number, suspect).await);
    }
    learners
}

/// The mean accuracy of the honest nodes after some epochs in which the last one sends x − 100·Δ.
async fn attacked(suspect: Suspicion) -> (f64, Vec<Learner>) {
    let mut learners = learners(suspect).await;
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

/// One node trains an epoch a turn and others only every second or third turn, and each has few labels.
#[tokio::test]
async fn honest_nodes_at_different_speeds_are_never_suspect() {
    let mut learners = learners(Suspicion::LeaveOut).await;
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
