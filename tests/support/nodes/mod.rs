//! Shared by the node tests: peers over one storage in memory, small weights, and events to wait for.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod faulty;
pub mod hooked;
pub mod share;

use libp2p_identity::{Keypair, PeerId};
use peerfold::{
    entries::Membership,
    folder::{Author, MemoryFolder, MemoryStorage, SharedFolder},
    node::{
        Checks, Event, EventSink, FoldedUpdate, LocalUpdate, Participant, ParticipantOptions, SessionOptions,
        StartOptions, Stop,
    },
    strategy::StrategySpec,
    weights::{DType, FederationId, Key, Metadata, SignedEntry, Tensor, TensorSpec, Weights},
};
use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

/// Longer than any case takes on a loaded machine; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn federation() -> FederationId {
    FederationId::new("nodes", "1")
}

/// Keys whose peer ids ascend with their numbers.
pub fn keypair(number: usize) -> Keypair {
    let mut keypairs: Vec<Keypair> = (1..=40).map(|seed| Keypair::ed25519_from_bytes([seed; 32]).unwrap()).collect();
    keypairs.sort_by_key(|keypair| keypair.public().to_peer_id());
    keypairs.swap_remove(number)
}

/// Ends a case that hangs.
pub async fn patiently<T>(case: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, case).await.expect("it hangs")
}

/// Weights that can be told from those of any other value.
pub fn weights(value: f32) -> Weights {
    let tensor = |name: &str, shape: Vec<u64>, elements: &[f32]| Tensor {
        spec: TensorSpec { name: name.to_owned(), dtype: DType::F32, shape },
        data: elements.iter().flat_map(|element| element.to_le_bytes()).collect::<Vec<_>>().into(),
    };
    let elements: Vec<f32> = (0..6).map(|at| value * (1.0 + 0.1 * at as f32)).collect();
    Weights::new(vec![tensor("bias", vec![1], &[value]), tensor("kernel", vec![2, 3], &elements)]).unwrap()
}

/// The first element: the value of `weights(value)`.
pub fn value_of(weights: &Weights) -> f32 {
    let (_, data) = weights.tensors().next().unwrap();
    f32::from_le_bytes(data[..4].try_into().unwrap())
}

pub fn local(epoch: u64, value: f32) -> LocalUpdate {
    LocalUpdate { weights: weights(value), epoch, num_examples: 10, metrics: Vec::new() }
}

/// An identity over a storage.
#[derive(Clone)]
pub struct Peer {
    pub id: PeerId,
    pub folder: Arc<dyn SharedFolder>,
}

impl Peer {
    /// The peer of this number; ids ascend with the numbers.
    pub fn new(storage: &MemoryStorage, number: usize) -> Self {
        Self::within(storage, number, federation())
    }

    /// Somebody with a new key.
    pub fn stranger(storage: &MemoryStorage) -> Self {
        let author = Author::in_memory(Keypair::generate_ed25519(), federation());
        Self { id: author.peer_id(), folder: Arc::new(MemoryFolder::new(storage, author)) }
    }

    pub fn within(storage: &MemoryStorage, number: usize, federation: FederationId) -> Self {
        let author = Author::in_memory(keypair(number), federation);
        Self { id: author.peer_id(), folder: Arc::new(MemoryFolder::new(storage, author)) }
    }

    pub async fn publish(&self, epoch: u64, value: f32) -> Arc<SignedEntry> {
        self.publish_weights(epoch, &weights(value), 10).await
    }

    pub async fn publish_weights(&self, epoch: u64, weights: &Weights, num_examples: u64) -> Arc<SignedEntry> {
        let metadata = Metadata { epoch, num_examples, ..Metadata::default() };
        self.folder.put(&Key::update(self.id, epoch), weights, metadata).await.unwrap()
    }

    pub async fn publish_start(&self, text: impl Into<Vec<u8>>) {
        let artifact = Weights::artifact(text.into()).unwrap();
        self.folder.put(&Key::start(self.id), &artifact, Metadata::default()).await.unwrap();
    }

    /// FedAvg, with the default checks.
    pub fn participant(&self, events: &Recorder) -> Participant {
        self.participant_with(&StrategySpec::new("fedavg"), options(events))
    }

    pub fn participant_with(&self, strategy: &StrategySpec, options: ParticipantOptions) -> Participant {
        participant(self.folder.clone(), strategy, options)
    }
}

pub fn participant(folder: Arc<dyn SharedFolder>, strategy: &StrategySpec, options: ParticipantOptions) -> Participant {
    Participant::new(folder, strategy.build().unwrap(), weights(0.0).layout().clone(), options)
}

pub fn options(events: &Recorder) -> ParticipantOptions {
    let membership = Arc::new(Membership::open());
    ParticipantOptions { checks: Checks::default(), membership, events: events.sink() }
}

/// A session without a checkpoint, that waits for nobody at its start.
pub fn session_options() -> SessionOptions {
    SessionOptions {
        federation: federation(),
        name: "test".to_owned(),
        run_dir: None,
        start: StartOptions::default(),
        hyperparameters: Default::default(),
        distinct: Default::default(),
        publish_folded: false,
        stop: Stop::new(),
    }
}

/// Peers over one storage.
pub fn peers(count: usize) -> (MemoryStorage, Vec<Peer>) {
    let storage = MemoryStorage::new();
    let peers = (0..count).map(|number| Peer::new(&storage, number)).collect();
    (storage, peers)
}

/// Keeps a node's events.
#[derive(Clone, Default)]
pub struct Recorder {
    events: Arc<Mutex<Vec<Event>>>,
    count: watch::Sender<usize>,
}

impl Recorder {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn sink(&self) -> EventSink {
        let recorder = self.clone();
        Arc::new(move |event| {
            let mut events = recorder.events.lock().unwrap();
            events.push(event.clone());
            recorder.count.send_replace(events.len());
        })
    }

    pub fn all(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    pub fn clear(&self) {
        self.events.lock().unwrap().clear();
    }

    /// What `pick` makes of each event, in their order.
    pub fn pick<T>(&self, pick: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        self.all().iter().filter_map(pick).collect()
    }

    /// Waits until there are so many events that `pick` takes.
    pub async fn wait_for_all<T>(&self, number: usize, pick: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        let mut count = self.count.subscribe();
        let found = async {
            loop {
                count.mark_unchanged();
                let found = self.pick(&pick);
                if found.len() >= number {
                    return found;
                }
                count.changed().await.unwrap();
            }
        };
        patiently(found).await
    }

    /// Waits until an event is there that `pick` takes, an earlier one too.
    pub async fn wait_for<T>(&self, pick: impl Fn(&Event) -> Option<T>) -> T {
        self.wait_for_all(1, pick).await.remove(0)
    }

    /// Authors and reasons of the rejections.
    pub fn rejected(&self) -> Vec<(String, String)> {
        self.pick(|event| match event {
            Event::Rejected { author, reason, .. } => Some((author.clone(), reason.clone())),
            _ => None,
        })
    }

    /// What went into each fold.
    pub fn folds(&self) -> Vec<Vec<FoldedUpdate>> {
        self.pick(|event| match event {
            Event::Folded { updates, .. } => Some(updates.clone()),
            _ => None,
        })
    }

    /// The authors of each fold, in the order of the sum.
    pub fn folded_authors(&self) -> Vec<Vec<String>> {
        let authors = |fold: Vec<FoldedUpdate>| fold.into_iter().map(|update| update.author).collect();
        self.folds().into_iter().map(authors).collect()
    }

    /// Reasons why there was no fold.
    pub fn not_folded(&self) -> Vec<String> {
        self.pick(|event| match event {
            Event::NotFolded { reason, .. } => Some(reason.clone()),
            _ => None,
        })
    }

    /// Authors whose updates were read and have passed the checks.
    pub fn received(&self) -> Vec<String> {
        self.pick(|event| match event {
            Event::Received { author, .. } => Some(author.clone()),
            _ => None,
        })
    }

    /// How many were present each time that it said that it waits.
    pub fn waiting(&self) -> Vec<usize> {
        self.pick(|event| match event {
            Event::Waiting { present, .. } => Some(*present),
            _ => None,
        })
    }
}
