//! A node that is killed at any step goes on as if it hadn't been.

use crate::nodes;

use bytes::Bytes;
use fail::FailScenario;
use nodes::{
    Peer, Recorder, faulty::FaultyFolder, federation, hooked::HookedStrategy, options, participant, patiently,
};
use nodes::{peers, weights};
use peerfold::{
    folder::{Author, MemoryFolder, MemoryStorage},
    home::Home,
    node::{
        AsyncNode, AsyncOptions, BelowQuorum, Checkpoint, CheckpointError, Event, LocalUpdate, Members, NodeError,
        Origin, Participant, Progress, SavedState, Session, SessionOptions, SyncNode, SyncOptions,
    },
    strategy::{FoldError, Folded, Round, Strategy, StrategySpec},
    weights::{Key, Metadata, Metric, SignedEntry, Tensor, TensorSpec, Weights},
};
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::Path,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

pub(super) const EPOCHS: u64 = 6;
const STEPS: [&str; 5] =
    ["session::trained", "session::trained-saved", "session::put", "session::folded", "session::folded-saved"];

/// A run over all its lives: what outlives the process, and what was seen of it.
pub(super) struct Run {
    pub(super) home: tempfile::TempDir,
    pub(super) storage: MemoryStorage,
    pub(super) events: Recorder,
    pub(super) published: Arc<Mutex<Vec<Arc<SignedEntry>>>>,
}

pub(super) fn fedavgm() -> StrategySpec {
    StrategySpec::new("fedavgm").with("server_momentum", 0.9).with("server_learning_rate", 0.7)
}

pub(super) fn session_options(run_dir: &Path) -> SessionOptions {
    SessionOptions { run_dir: Some(run_dir.to_owned()), ..nodes::session_options() }
}

fn bytes(state: SavedState) -> Bytes {
    let mut bytes = Vec::new();
    state.reader().unwrap().read_to_end(&mut bytes).unwrap();
    bytes.into()
}

/// An epoch of training: any arithmetic that depends on the weights, the epoch and the trainer's state.
pub(super) fn train(weights: &Weights, epoch: u64, trainer: &[u8]) -> (LocalUpdate, Bytes) {
    let steps = u64::from_le_bytes(trainer.try_into().unwrap()) + epoch;
    let step = |element: &[u8; 4]| (f32::from_le_bytes(*element) * 0.9 + steps as f32 * 0.013).to_le_bytes();
    let tensors = weights.tensors().map(|(spec, data)| {
        let data: Vec<u8> = data.as_chunks::<4>().0.iter().flat_map(step).collect();
        Tensor { spec: spec.clone(), data: data.into() }
    });
    let weights = Weights::new(tensors.collect()).unwrap();
    let metrics = vec![Metric { name: "loss".to_owned(), value: 1.0 / epoch as f64 }];
    let local = LocalUpdate { weights, epoch, num_examples: 10 + epoch, metrics };
    (local, steps.to_le_bytes().to_vec().into())
}

impl Run {
    /// A peer has one update in the storage, so that there are folds.
    pub(super) async fn new() -> Self {
        let storage = MemoryStorage::new();
        Peer::new(&storage, 1).publish(0, 2.5).await;
        let home = tempfile::tempdir().unwrap();
        Self { home, storage, events: Recorder::new(), published: Arc::default() }
    }

    /// One life of the process: from its start to the end of the run, if it gets there.
    pub(super) async fn live(self: Arc<Self>) -> Weights {
        self.live_with(|_| true).await
    }

    /// A life in which this is told of each epoch before it is saved, and says whether the process lives on.
    pub(super) async fn live_with(self: Arc<Self>, mut lives: impl FnMut(u64) -> bool + Send) -> Weights {
        let home = Home::open(self.home.path()).unwrap();
        let run_dir = home.run_dir(&federation()).unwrap();
        let inner = MemoryFolder::new(&self.storage, Author::from_home(&home, federation()));
        let mut folder = FaultyFolder::new(Arc::new(inner));
        folder.published = self.published.clone();
        let participant = participant(Arc::new(folder), &fedavgm(), options(&self.events));
        let mut session = Session::new(AsyncNode::new(participant, AsyncOptions::default()), session_options(&run_dir));
        let start = Bytes::from(0u64.to_le_bytes().to_vec());
        let begun = session.begin((weights(0.5), Origin::Seed), start.clone().into()).await.unwrap();
        let (mut at, mut trainer) = ((begun.weights, begun.epoch), begun.trainer.map_or(start, bytes));
        while at.1 < EPOCHS {
            let (local, state) = train(&at.0, at.1 + 1, &trainer);
            if !lives(at.1 + 1) {
                break;
            }
            let completed = session.epoch_trained(local, state.clone().into()).await.unwrap();
            (at, trainer) = ((completed.weights, completed.epoch), state);
        }
        at.0
    }

    /// No number is used for two entries, and no epoch has two roots.
    pub(super) fn check(&self, place: &str) {
        let (mut by_number, mut by_epoch) = (BTreeMap::new(), BTreeMap::new());
        for entry in self.published.lock().unwrap().iter() {
            assert_eq!(*by_number.entry(entry.sequence).or_insert(entry.hash()), entry.hash(), "{place}");
            if let Some(epoch) = entry.key.update_epoch() {
                assert_eq!(*by_epoch.entry(epoch).or_insert(entry.root()), entry.root(), "{place}: epoch {epoch}");
            }
        }
        assert!(by_epoch.into_keys().eq(1..=EPOCHS), "{place}");
    }

    /// The last fold: its round, and the staleness of the peer's update, which only the roster knows.
    fn last_fold(&self) -> (u64, u64) {
        let folds = self.events.pick(|event| match event {
            Event::Folded { round, updates, .. } => Some((*round, updates[1].staleness)),
            _ => None,
        });
        folds[folds.len() - 1]
    }
}

pub(super) async fn uninterrupted() -> Weights {
    let run = Arc::new(Run::new().await);
    let weights = patiently(run.clone().live()).await;
    run.check("uninterrupted");
    assert_eq!(run.last_fold(), (EPOCHS, EPOCHS - 1));
    weights
}

#[tokio::test]
async fn killed_at_every_step_of_every_epoch_it_ends_with_the_same_bits() {
    let _scenario = FailScenario::setup();
    let expected = uninterrupted().await;
    for step in STEPS {
        for passes in 0..EPOCHS {
            let place = format!("{step} after {passes}");
            let run = Arc::new(Run::new().await);
            fail::cfg(step, &format!("{passes}*off->panic")).unwrap();
            let killed = patiently(tokio::spawn(run.clone().live())).await;
            fail::remove(step);
            assert!(killed.unwrap_err().is_panic(), "{place}");
            let weights = patiently(tokio::spawn(run.clone().live())).await.unwrap();
            assert_eq!(weights, expected, "{place}");
            run.check(&place);
            assert_eq!(run.last_fold().0, EPOCHS, "{place}");
        }
    }
}

#[tokio::test]
async fn killed_again_and_again_it_ends_with_the_same_bits() {
    let _scenario = FailScenario::setup();
    let expected = uninterrupted().await;
    let run = Arc::new(Run::new().await);
    // Each life ends at its first step of this kind; those after the put come nearer to the end each time.
    for _ in 0..4 {
        for step in STEPS {
            fail::cfg(step, "panic").unwrap();
            let _killed_or_done = patiently(tokio::spawn(run.clone().live())).await;
            fail::remove(step);
        }
    }
    assert_eq!(patiently(run.clone().live()).await, expected);
    run.check("again and again");
}

/// Dropped after this many polls, wherever that is: between two steps, or during disk I/O or a fold.
#[test]
fn dropped_anywhere_it_ends_with_the_same_bits() {
    let _scenario = FailScenario::setup();
    let expected = in_its_process(uninterrupted());
    for polls in (1..120).step_by(3) {
        let run = Arc::new(in_its_process(Run::new()));
        let mut life = Box::pin(run.clone().live());
        let mut left = polls;
        in_its_process(std::future::poll_fn(move |context| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            life.as_mut().poll(context).map(Some)
        }));
        let place = format!("dropped after {polls} polls");
        assert_eq!(in_its_process(run.clone().live()), expected, "{place}");
        run.check(&place);
    }
}

/// A runtime as one process has it: none of its threads is left when the next one starts.
fn in_its_process<T>(life: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { patiently(life).await })
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_used_is_a_clear_error() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (_storage, peers) = peers(1);
    let begin = async |strategy: &StrategySpec, initial: Weights| {
        let events = Recorder::new();
        let (folder, layout) = (peers[0].folder.clone(), initial.layout().clone());
        let participant = Participant::new(folder, strategy.build().unwrap(), layout, options(&events));
        let mut session =
            Session::new(AsyncNode::new(participant, AsyncOptions::default()), session_options(dir.path()));
        patiently(session.begin((initial, Origin::Seed), Default::default())).await
    };
    begin(&fedavgm(), weights(1.0)).await.unwrap();
    assert_eq!(begin(&fedavgm(), weights(2.0)).await.unwrap().weights, weights(1.0));
    let error = begin(&StrategySpec::new("fedavg"), weights(1.0)).await.unwrap_err();
    assert!(matches!(error, NodeError::Checkpoint(CheckpointError::Settings { .. })), "{error}");
    assert!(error.to_string().contains("the strategy fedavgm, not fedavg"), "{error}");
    let reference = fedavgm().with("reference", "flwr-1.6");
    let error = begin(&reference, weights(1.0)).await.unwrap_err();
    assert!(matches!(error, NodeError::Fold(_)), "{error}");
    let spec = TensorSpec { name: "bias".to_owned(), dtype: peerfold::weights::DType::F32, shape: vec![1] };
    let other = Weights::new(vec![Tensor { spec, data: vec![0; 4].into() }]).unwrap();
    let error = begin(&fedavgm(), other).await.unwrap_err();
    assert!(error.to_string().contains("another model"), "{error}");
    let path = Checkpoint::path(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = begin(&fedavgm(), weights(1.0)).await.unwrap_err();
    assert!(matches!(error, NodeError::Checkpoint(CheckpointError::Damaged { .. })), "{error}");
    assert!(error.to_string().contains("remove it to begin anew"), "{error}");
}

#[tokio::test]
async fn a_synchronous_node_stopped_in_its_wait_goes_on_with_the_same_members() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (_storage, peers) = peers(3);
    let make = |events: &Recorder| {
        let deadline = Duration::from_secs(3600);
        let pace = SyncOptions { nodes: 2, quorum: 2, deadline, below_quorum: BelowQuorum::Wait };
        let node = SyncNode::new(peers[0].participant(events), pace, Members::first_seen(peers[0].id, 2));
        let options = session_options(dir.path());
        let stop = options.stop.clone();
        (Session::new(node, options), stop)
    };
    let events = Recorder::new();
    let (mut session, stop) = make(&events);
    patiently(session.begin((weights(0.0), Origin::Seed), Default::default())).await.unwrap();
    peers[2].publish(1, 4.0).await;
    let task = tokio::spawn(async move {
        session.epoch_trained(nodes::local(1, 0.0), Default::default()).await.unwrap();
        session.epoch_trained(nodes::local(2, 0.0), Default::default()).await
    });
    events.wait_for(|event| matches!(event, Event::Waiting { epoch: 2, .. }).then_some(())).await;
    stop.request();
    assert!(matches!(patiently(task).await.unwrap(), Err(NodeError::Stopped)));
    let standing = peers[1].folder.list(&Key::update(peers[0].id, 2).to_string()).await.unwrap();
    // Another author comes first in the order of the ids, but too late to be a member.
    peers[1].publish(2, 100.0).await;
    let events = Recorder::new();
    let (mut session, _) = make(&events);
    let task = tokio::spawn(async move { session.begin((weights(0.0), Origin::Seed), Default::default()).await });
    events.wait_for(|event| matches!(event, Event::Waiting { epoch: 2, .. }).then_some(())).await;
    peers[2].publish(2, 6.0).await;
    let begun = patiently(task).await.unwrap().unwrap();
    assert_eq!((nodes::value_of(&begun.weights), begun.epoch), (3.0, 2));
    assert_eq!(peers[1].folder.list(&Key::update(peers[0].id, 2).to_string()).await.unwrap(), standing);
}

fn async_session(folder: &FaultyFolder, events: &Recorder, options: SessionOptions) -> Session {
    let participant = participant(Arc::new(folder.clone()), &fedavgm(), nodes::options(events));
    Session::new(AsyncNode::new(participant, AsyncOptions::default()), options)
}

/// The epochs that stand in the folder.
async fn epochs_of(peer: &Peer) -> Vec<u64> {
    let entries = peer.folder.list(&peer.id.to_string()).await.unwrap();
    entries.iter().filter_map(|entry| entry.key.update_epoch()).collect()
}

#[tokio::test]
async fn the_last_update_is_put_again_when_the_folder_that_failed_is_repaired() {
    let _scenario = FailScenario::setup();
    for by_finish in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (_storage, peers) = peers(1);
        let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
        let mut session = async_session(&folder, &events, session_options(dir.path()));
        patiently(session.begin((weights(0.0), Origin::Seed), Default::default())).await.unwrap();
        patiently(session.finish()).await.unwrap();
        folder.set(|faults| faults.put = true);
        for epoch in 1..=2 {
            let completed = session.epoch_trained(nodes::local(epoch, epoch as f32), Default::default());
            assert_eq!(patiently(completed).await.unwrap().weights, weights(epoch as f32));
        }
        for _ in 0..2 {
            let error = patiently(session.finish()).await.unwrap_err();
            assert!(matches!(error, NodeError::Folder(_)), "{error}");
        }
        // A restart before the repair loses nothing either.
        drop(session);
        let mut session = async_session(&folder, &events, session_options(dir.path()));
        let begun = patiently(session.begin((weights(0.0), Origin::Seed), Default::default())).await.unwrap();
        assert_eq!((begun.epoch, begun.weights), (2, weights(2.0)));
        assert!(epochs_of(&peers[0]).await.is_empty());
        folder.set(|faults| faults.put = false);
        if by_finish {
            patiently(session.finish()).await.unwrap();
            assert_eq!(epochs_of(&peers[0]).await, [2]);
        }
        drop(session);
        let published = events.pick(|event| matches!(event, Event::Published { .. }).then_some(())).len();
        let mut session = async_session(&folder, &events, session_options(dir.path()));
        let begun = patiently(session.begin((weights(0.0), Origin::Seed), Default::default())).await.unwrap();
        assert_eq!((begun.epoch, begun.weights), (2, weights(2.0)));
        assert_eq!(epochs_of(&peers[0]).await, [2]);
        let again = events.pick(|event| matches!(event, Event::Published { .. }).then_some(())).len() - published;
        assert_eq!(again, usize::from(!by_finish));
        patiently(session.finish()).await.unwrap();
    }
}

#[tokio::test]
async fn a_stopped_member_whose_folder_failed_publishes_at_the_end_and_still_has_its_epoch_to_fold() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (_storage, peers) = peers(2);
    let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
    let participant = participant(Arc::new(folder.clone()), &fedavgm(), options(&events));
    let pace =
        SyncOptions { nodes: 2, quorum: 2, deadline: Duration::from_secs(3600), below_quorum: BelowQuorum::Wait };
    let options = session_options(dir.path());
    let stop = options.stop.clone();
    let mut session = Session::new(SyncNode::new(participant, pace, Members::first_seen(peers[0].id, 2)), options);
    patiently(session.begin((weights(0.0), Origin::Seed), Default::default())).await.unwrap();
    folder.set(|faults| faults.put = true);
    stop.request();
    let stopped = patiently(session.epoch_trained(nodes::local(1, 1.0), Default::default())).await;
    assert!(matches!(stopped, Err(NodeError::Stopped)));
    folder.set(|faults| faults.put = false);
    patiently(session.finish()).await.unwrap();
    assert_eq!(epochs_of(&peers[0]).await, [1]);
    let checkpoint = Checkpoint::load(dir.path()).unwrap().unwrap();
    assert!(matches!(checkpoint.phase, peerfold::node::Phase::Trained { .. }));
}

#[tokio::test]
async fn a_restart_publishes_the_first_start_with_the_settings_of_today() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (_storage, peers) = peers(2);
    let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
    let key = Key::start(peers[0].id);
    let begin = async |rate: &str| {
        let mut options = session_options(dir.path());
        options.hyperparameters = BTreeMap::from([("lr".to_owned(), rate.to_owned())]);
        let mut session = async_session(&folder, &events, options);
        patiently(session.begin((weights(0.5), Origin::Seed), Default::default())).await.unwrap();
        session
    };
    let standing = async || {
        let entry = peers[1].folder.list(&key.to_string()).await.unwrap().remove(0);
        let value = peers[1].folder.get(&entry).await.unwrap();
        let text = peerfold::weights::read_all(&value).unwrap().artifact_bytes().unwrap().to_vec();
        (entry, serde_json::from_slice::<serde_json::Value>(&text).unwrap())
    };
    let mut session = begin("0.1").await;
    patiently(session.epoch_trained(nodes::local(1, 3.0), Default::default())).await.unwrap();
    drop(session);
    let first = standing().await;
    assert_eq!(first.1["weights"], weights(0.5).manifest().root().to_string());
    // Without anything new there is no new entry.
    drop(begin("0.1").await);
    assert_eq!(standing().await, first);
    // A folder that has lost it gets it again; one that fails ends nothing.
    folder.set(|faults| faults.put = true);
    drop(begin("0.1").await);
    assert_eq!(events.pick(|event| matches!(event, Event::FolderFailed { .. }).then_some(())).len(), 1);
    folder.set(|faults| faults.put = false);
    peers[0].folder.remove(&key).await.unwrap();
    drop(begin("0.1").await);
    assert_eq!(standing().await.1, first.1);
    let mut session = begin("0.2").await;
    let mut expected = first.1.clone();
    expected["hyperparameters"]["lr"] = "0.2".into();
    assert_eq!(standing().await.1, expected);
    // It is kept over many lives.
    patiently(session.epoch_trained(nodes::local(2, 4.0), Default::default())).await.unwrap();
    drop((session, begin("0.2").await));
    assert_eq!(standing().await.1, expected);
}

#[tokio::test]
async fn the_strategy_works_off_the_runtime() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (_storage, peers) = peers(2);
    peers[1].publish(0, 2.0).await;
    for (epoch, expected) in
        [(1, ["begin", "save", "save", "fold", "save"]), (2, ["restore", "save", "fold", "save", ""])]
    {
        let strategy = HookedStrategy::new();
        let calls = strategy.calls.clone();
        let (folder, layout) = (peers[0].folder.clone(), weights(0.0).layout().clone());
        let participant = Participant::new(folder, Box::new(strategy), layout, options(&Recorder::new()));
        let node = AsyncNode::new(participant, AsyncOptions::default());
        let mut session = Session::new(node, session_options(dir.path()));
        patiently(session.begin((weights(0.5), Origin::Seed), Default::default())).await.unwrap();
        patiently(session.epoch_trained(nodes::local(epoch, 1.0), Default::default())).await.unwrap();
        let calls = calls.lock().unwrap();
        assert!(calls.iter().all(|(_, thread)| *thread != std::thread::current().id()));
        let methods = calls.iter().map(|(method, _)| *method);
        assert!(methods.eq(expected.into_iter().filter(|method| !method.is_empty())), "{calls:?}");
    }
}

/// FedAvg that asks for degrees and records what it is given at the last fold, in the round's order.
struct Degrees(Box<dyn Strategy>, Arc<Mutex<Vec<Option<u64>>>>);

impl Strategy for Degrees {
    fn name(&self) -> &'static str {
        "degrees"
    }

    fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError> {
        *self.1.lock().unwrap() = round.updates.iter().map(|update| update.degree).collect();
        self.0.fold(round)
    }

    fn needs_degrees(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn how_many_peers_are_known_is_published_where_it_is_asked_for_and_again_after_a_restart() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (_storage, peers) = peers(5);
    let publish = async |number: usize, degree: f64| {
        let metadata = Metadata { epoch: 1, num_examples: 10, ..Metadata::default() };
        let (key, metadata) = (Key::update(peers[number].id, 1), metadata.with_metrics([("degree", degree)]));
        peers[number].folder.put(&key, &weights(1.0), metadata).await.unwrap();
    };
    publish(1, 7.0).await;
    let seen: Arc<Mutex<Vec<Option<u64>>>> = Arc::default();
    let make = || {
        let strategy = Degrees(StrategySpec::new("fedavg").build().unwrap(), seen.clone());
        let (folder, layout) = (peers[0].folder.clone(), weights(0.0).layout().clone());
        let participant = Participant::new(folder, Box::new(strategy), layout, options(&Recorder::new()));
        Session::new(AsyncNode::new(participant, AsyncOptions::default()), session_options(dir.path()))
    };
    let named = |name: &str, value| Metric { name: name.to_owned(), value };
    let trained = move |epoch| {
        let metrics = vec![named("accuracy", 0.5), named("loss", 0.25)];
        LocalUpdate { metrics, ..nodes::local(epoch, 0.0) }
    };
    let newest = async || {
        let own = peers[4].folder.list(&Key::update(peers[0].id, 3).to_string()).await.unwrap();
        own.into_iter().next().unwrap()
    };
    let with_degree = |degree| vec![named("accuracy", 0.5), named("degree", degree), named("loss", 0.25)];

    let mut session = make();
    patiently(session.begin((weights(0.0), Origin::Seed), Default::default())).await.unwrap();
    patiently(session.epoch_trained(trained(2), Default::default())).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [Some(1), Some(7)]);
    fail::cfg("session::put", "panic").unwrap();
    let killed = tokio::spawn(async move { session.epoch_trained(trained(3), Default::default()).await });
    assert!(patiently(killed).await.unwrap_err().is_panic());
    fail::remove("session::put");
    let first = newest().await;
    assert_eq!(first.metadata().unwrap().metrics, with_degree(1.0));

    // What makes no sense is as if it had not been said.
    publish(2, 1.5).await;
    publish(3, -1.0).await;
    let mut session = make();
    patiently(session.begin((weights(0.0), Origin::Seed), Default::default())).await.unwrap();
    assert_eq!(newest().await, first, "the same entry");
    assert_eq!(*seen.lock().unwrap(), [Some(1), Some(7), None, None]);
    patiently(session.epoch_trained(trained(4), Default::default())).await.unwrap();
    assert_eq!(seen.lock().unwrap()[0], Some(3));

    // One's own figure of that name gives way; where there is no room it is left out.
    let full = (0..16).map(|at| named(&format!("m{at:02}"), 0.5)).collect();
    for (epoch, metrics, degree) in [(5, vec![named("degree", 99.0)], Some(3)), (6, full, None)] {
        patiently(session.epoch_trained(LocalUpdate { metrics, ..trained(epoch) }, Default::default())).await.unwrap();
        assert_eq!(seen.lock().unwrap()[0], degree);
    }
}

#[tokio::test]
async fn an_epoch_that_could_not_be_saved_is_trained_again_and_its_middle_saved() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (_storage, peers) = peers(1);
    let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
    let mut session = async_session(&folder, &events, session_options(dir.path()));
    patiently(session.begin((weights(0.0), Origin::Seed), Default::default())).await.unwrap();
    let nothing = session.write_state(|_| Ok::<_, NodeError>(())).unwrap();
    assert_eq!((bytes(nothing.clone()), nothing.is_empty()), (Bytes::new(), true));
    // A file stands where the blobs belong.
    let (blobs, away) = (dir.path().join("blobs"), dir.path().join("away"));
    fs::rename(&blobs, &away).unwrap();
    fs::write(&blobs, "").unwrap();
    patiently(session.epoch_trained(nodes::local(1, 1.0), Default::default())).await.unwrap_err();
    fs::remove_file(&blobs).unwrap();
    fs::rename(&away, &blobs).unwrap();
    assert!(patiently(session.save_progress(3, weights(8.0), Default::default())).await.unwrap());
    drop(session);
    // What a kill left half-written is gone before anything is written.
    let [partial, unnamed] = [".partial-x", "unnamed"].map(|name| blobs.join(name));
    fs::write(&partial, "left").unwrap();
    fs::write(&unnamed, "left").unwrap();
    let mut session = async_session(&folder, &events, session_options(dir.path()));
    let state = session.write_state(|_| {
        assert!(!partial.exists() && !unnamed.exists());
        Ok::<_, NodeError>(())
    });
    let begun = patiently(session.begin((weights(0.0), Origin::Seed), state.unwrap())).await.unwrap();
    assert_eq!(begun.progress.map(|progress| (progress.epoch, progress.steps)), Some((1, 3)));
    patiently(session.epoch_trained(nodes::local(1, 1.0), Default::default())).await.unwrap();
    assert_eq!(session.figures().run.epoch, 1);
}

#[tokio::test]
async fn the_middle_of_an_epoch_is_gone_on_with_from_what_it_was_trained_from_only() {
    let _scenario = FailScenario::setup();
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_storage, peers) = peers(1);
    let (events, folder) = (Recorder::new(), FaultyFolder::new(peers[0].folder.clone()));
    let begin = async |dir: &Path| {
        let mut session = async_session(&folder, &events, session_options(dir));
        let begun = patiently(session.begin((weights(0.0), Origin::Seed), Default::default())).await.unwrap();
        (
            session,
            begun.progress.map(|progress| (progress.epoch, progress.steps, progress.weights, bytes(progress.trainer))),
        )
    };
    let dropped = || {
        events.pick(|event| match event {
            Event::ProgressDropped { epoch, steps, .. } => Some((*epoch, *steps)),
            _ => None,
        })
    };
    let state = Bytes::from_static(b"half an epoch");
    let (mut session, none) = begin(dir.path()).await;
    assert_eq!(none, None);
    // What was saved last holds.
    patiently(session.save_progress(3, weights(8.0), Default::default())).await.unwrap();
    patiently(session.save_progress(5, weights(9.0), state.clone().into())).await.unwrap();
    for _ in 0..2 {
        let (_, progress) = begin(dir.path()).await;
        assert_eq!(progress, Some((1, 5, weights(9.0), state.clone())));
    }
    fs::copy(Progress::path(dir.path()), other.path().join("kept")).unwrap();
    // Trained: of no more use, even if a kill has left it there.
    let (mut session, _) = begin(dir.path()).await;
    folder.set(|faults| faults.put = true);
    patiently(session.epoch_trained(nodes::local(1, 1.0), Default::default())).await.unwrap();
    assert!(!Progress::path(dir.path()).exists());
    fs::copy(other.path().join("kept"), Progress::path(dir.path())).unwrap();
    let (mut session, progress) = begin(dir.path()).await;
    assert_eq!((progress, Progress::path(dir.path()).exists()), (None, false));
    // That the epoch before could not be published, and then could be, changes nothing of what this one is trained from.
    patiently(session.save_progress(7, weights(9.0), state.clone().into())).await.unwrap();
    let (session, progress) = begin(dir.path()).await;
    assert_eq!(progress, Some((2, 7, weights(9.0), state.clone())));
    drop(session);
    folder.set(|faults| faults.put = false);
    for _ in 0..2 {
        let (mut session, progress) = begin(dir.path()).await;
        assert_eq!(progress, Some((2, 7, weights(9.0), state.clone())));
        patiently(session.finish()).await.unwrap();
    }
    assert_eq!(dropped(), []);
    // Of another run's second epoch.
    let (mut session, _) = begin(other.path()).await;
    patiently(session.epoch_trained(nodes::local(1, 9.0), Default::default())).await.unwrap();
    fs::copy(Progress::path(dir.path()), Progress::path(other.path())).unwrap();
    drop(session);
    let (_, progress) = begin(other.path()).await;
    assert_eq!((progress, dropped()), (None, vec![(Some(2), Some(7))]));
    assert!(!Progress::path(other.path()).exists());
    // And if there is no checkpoint at all.
    fs::remove_file(Checkpoint::path(dir.path())).unwrap();
    let (_, progress) = begin(dir.path()).await;
    assert_eq!((progress, dropped().len()), (None, 2));
}
