//! Authors that nobody has seen before and that claim whatever they like, against nodes that train.

use crate::{
    net::{Happened, Rogue},
    network_tests,
    node::{Homes, Node},
    samples::*,
};
use peerfold::{
    entries::Membership,
    node::{
        AsyncNode, AsyncOptions, Checks, Event, LocalUpdate, Origin, Participant, ParticipantOptions, Session,
        SessionOptions, StartOptions, Stop,
    },
    p2p::{BlobRequest, PeerAddress, SyncResponse},
    strategy::StrategySpec,
    weights::{Content, DType, Entry, FederationId, Key, Metadata, Root, SignedEntry, Tensor, TensorSpec, Weights},
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

fn weights(value: f32) -> Weights {
    let spec = TensorSpec { name: "kernel".to_owned(), dtype: DType::F32, shape: vec![1000] };
    Weights::new(vec![Tensor { spec, data: value.to_le_bytes().repeat(1000).into() }]).unwrap()
}

/// A node that trains, with its checkpoints.
struct Trainer {
    session: Session,
    events: Arc<Mutex<Vec<Event>>>,
    node: Node,
    epoch: u64,
}

impl Trainer {
    async fn begin(homes: &Homes, name: &str, known: &[PeerAddress]) -> Self {
        let plan = homes.node(name).training_layout(weights(0.0).layout().id()).knowing(known);
        let node = plan.open();
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = events.clone();
        let options = ParticipantOptions {
            checks: Checks::default(),
            membership: Arc::new(Membership::open()),
            events: Arc::new(move |event: &Event| sink.lock().unwrap().push(event.clone())),
        };
        let strategy = StrategySpec::new("fedavg").build().unwrap();
        let participant = Participant::new(node.folder(), strategy, weights(0.0).layout().clone(), options);
        let options = SessionOptions {
            federation: homes.federation,
            name: "test".to_owned(),
            run_dir: Some(plan.home().to_owned()),
            start: StartOptions::default(),
            hyperparameters: Default::default(),
            distinct: Default::default(),
            publish_folded: false,
            stop: Stop::new(),
        };
        let mut session = Session::new(AsyncNode::new(participant, AsyncOptions::default()), options);
        let begun = session.begin((weights(0.0), Origin::Seed), Default::default()).await.unwrap();
        Self { session, events, node, epoch: begun.epoch }
    }

    /// Trains an epoch, and says which authors it was folded with.
    async fn train(&mut self) -> Vec<String> {
        let before = self.events.lock().unwrap().len();
        let update =
            LocalUpdate { weights: weights(1.0), epoch: self.epoch + 1, num_examples: 10, metrics: Vec::new() };
        let completed = self.session.epoch_trained(update, Default::default()).await.unwrap();
        assert_eq!(completed.epoch, self.epoch + 1, "taken along");
        self.epoch = completed.epoch;
        let events = self.events.lock().unwrap();
        let folded = events[before..].iter().find_map(|event| match event {
            Event::Folded { updates, .. } => Some(updates.iter().map(|update| update.author.clone()).collect()),
            _ => None,
        });
        folded.unwrap_or_default()
    }

    /// Trains epochs, a moment each, until it folds this one's newest update.
    async fn train_until_folded(&mut self, other: &Self) {
        eventually(async || self.train().await.contains(&other.node.id().to_string())).await;
    }
}

/// An update signed by a fresh key.
fn claim(federation: FederationId, epoch: u64, root: Root) -> SignedEntry {
    let keypair = libp2p_identity::Keypair::generate_ed25519();
    let layout = weights(0.0).layout().clone();
    let metadata = Metadata { epoch, num_examples: 10, ..Metadata::default() };
    let entry = Entry {
        federation,
        layout: layout.id(),
        key: Key::update(keypair.public().to_peer_id(), epoch),
        sequence: epoch,
        content: Content::Put { root, length: layout.bytes(), metadata },
    };
    SignedEntry::sign(entry, &keypair).unwrap()
}

/// Tells the nodes of these entries, says that it holds their values, and never gives one. Says when both listen.
async fn announce(nodes: Vec<PeerAddress>, entries: Vec<SignedEntry>, told: oneshot::Sender<()>) {
    let mut told = Some(told);
    let mut rogue = Rogue::new(entries[0].federation);
    for node in &nodes {
        rogue.dial(node);
    }
    let mut listening = 0;
    // Neither answered nor refused.
    let mut asked = Vec::new();
    loop {
        match rogue.next().await {
            Happened::Subscribed(peer) => {
                listening += 1;
                let roots = entries.iter().filter_map(|entry| entry.root()).collect();
                rogue.blob(peer, BlobRequest::Holds { federation: entries[0].federation, roots });
                if listening == nodes.len() {
                    entries.iter().for_each(|entry| assert!(rogue.gossip(entry.bytes())));
                    let _ = told.take().map(|told| told.send(()));
                }
            }
            Happened::SyncAsked(_, _, channel) => rogue.say(channel, SyncResponse::Same),
            Happened::BlobAsked(_, BlobRequest::Get { .. }, channel) => asked.push(channel),
            Happened::BlobAsked(_, _, channel) => rogue.give(channel, peerfold::p2p::BlobResponse::Noted),
            _ => {}
        }
    }
}

network_tests! {
    /// Two nodes train; nine authors that nobody knows claim far epochs, for values that never come and for one that is
    /// sound. The two go on folding each other in their own epochs, one that comes begins where they are, and one that is
    /// started again folds them as before.
    async fn made_up_authors_with_far_epochs_move_nobody() {
        let homes = Homes::new();
        let mut first = Trainer::begin(&homes, "first", &[]).await;
        let known = [first.node.address()];
        let mut second = Trainer::begin(&homes, "second", &known).await;
        first.node.meets(&second.node).await;
        first.train().await;
        second.train_until_folded(&first).await;
        first.train_until_folded(&second).await;

        // Its weights are sound, and honest peers hold them.
        let sound = weights(1.0).manifest().root();
        let claims = [500, 999_999_999, u64::MAX - 1].into_iter().flat_map(|epoch| {
            [sound, Root::from_bytes(rand::random()), Root::from_bytes(rand::random())]
                .map(|root| claim(homes.federation, epoch, root))
        });
        let claims: Vec<SignedEntry> = claims.collect();
        let (told, is_told) = oneshot::channel();
        let nodes = vec![first.node.address(), second.node.address()];
        let rogue = tokio::spawn(announce(nodes, claims.clone(), told));
        is_told.await.unwrap();
        for claim in &claims {
            learn(&*first.node, claim).await;
            learn(&*second.node, claim).await;
        }

        let began = Instant::now();
        for _ in 0..15 {
            first.train_until_folded(&second).await;
            second.train_until_folded(&first).await;
        }
        // It would be ten seconds a fold.
        assert!(began.elapsed() < Duration::from_secs(60), "they were made to wait");

        let mut third = Trainer::begin(&homes, "third", &known).await;
        let newest = first.epoch.max(second.epoch);
        assert!((1..=newest).contains(&third.epoch), "it begins at epoch {} of {newest}", third.epoch);
        third.train_until_folded(&first).await;
        third.train_until_folded(&second).await;

        // Without the liar, and with what it has left behind in the entries.
        rogue.abort();
        let epoch = second.epoch;
        drop(second);
        let mut second = Trainer::begin(&homes, "second", &known).await;
        assert_eq!(second.epoch, epoch);
        second.node.meets(&first.node).await;
        second.train_until_folded(&first).await;
        first.train_until_folded(&second).await;
    }
}
