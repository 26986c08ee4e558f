//! A node in the network: the handle, and the task that does what the core says.
//!
//! The network has threads of its own, so that it answers while its program trains, whatever runtime that uses or none.
//! Everything is asked for over one bounded channel; the task never waits for anybody.

pub(super) mod bans;
mod commands;
mod connected;
mod discovery;
mod driver;
mod events;
mod jobs;
mod outputs;
mod pending;
pub(super) mod ports;
mod reach;
mod serving;
mod table_queries;
mod task;

#[cfg(unix)]
use super::status_socket::StatusSocket;
use super::{
    addresses::PeerAddress,
    core::{FetchError, HandedOver},
    figures::{Counters, DroppedPeer, NetworkFigures, ReachedPeer},
    settings::NetworkOptions,
    status::NetworkStatus,
    surroundings::Surroundings,
    transport::NetworkError,
};
use crate::{
    cache::{Cache, KnownPeer},
    entries::{Board, MemberList, Membership},
    weights::{FederationId, LayoutId, SignedEntry},
};
use driver::Driver;
use libp2p_identity::{Keypair, PeerId};
use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc},
    thread,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{broadcast, mpsc, oneshot, watch},
};

/// Requests of the handle that may wait for the task.
const COMMANDS: usize = 64;
/// Threads that run connections, if there are cores for them. On two cores a second thread only competes with hashing
/// and writing: a value took 10 to 20 % longer.
const THREADS: usize = 2;
/// Threads that read and write the cache.
const BLOCKING_THREADS: usize = 4;
/// How long a handle that is dropped waits for the task to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a node needs to take part in the network.
pub(crate) struct Setup {
    pub(crate) keypair: Keypair,
    pub(crate) federation: FederationId,
    /// Newest updates of this layout are fetched when they are announced.
    pub(crate) layout: Option<LayoutId>,
    /// Of these only those of authors who are [expected](Network::expects).
    pub(crate) sampled: bool,
    /// Who may take part.
    pub(crate) membership: Arc<Membership>,
    /// Its changes since the board was filled.
    pub(crate) membership_changes: watch::Receiver<Option<Arc<MemberList>>>,
    /// What is known. At the start, what the cache held.
    pub(crate) board: Arc<Board>,
    pub(crate) cache: Cache,
    /// Peers met in the last run.
    pub(crate) known: Vec<KnownPeer>,
    /// Called with sequence numbers of our own entries that peers show, so that we continue above them.
    pub(crate) raise_above: Box<dyn Fn(u64) + Send>,
    /// Where `peerfold peers` asks.
    pub(crate) socket: Option<PathBuf>,
    pub(crate) options: NetworkOptions,
}

/// What the handle asks of the task.
enum Command {
    /// One of our own entries is on the board and in the cache.
    Published(Arc<SignedEntry>),
    /// The board was changed without going through the core.
    BoardChanged,
    /// Whose updates are folded next.
    Expects(BTreeSet<PeerId>),
    /// Entries learned from somewhere other than peers.
    Learned(Vec<Arc<SignedEntry>>),
    /// A value is wanted.
    Fetch(Arc<SignedEntry>, oneshot::Sender<Result<(), FetchError>>),
    /// Answered when what this node has published (or, if it is excluded, the proof against it) would outlive it, or
    /// when there is nobody who could take it. The node works towards that for as long as somebody waits.
    HandOver(oneshot::Sender<HandedOver>),
    /// How far that has got.
    HandedOver(oneshot::Sender<HandedOver>),
    /// Answered when we know what all the peers know that can be found now.
    LookAround(oneshot::Sender<Surroundings>),
    /// Which peers have been found so far.
    Surroundings(oneshot::Sender<Surroundings>),
    Status(oneshot::Sender<NetworkStatus>),
}

/// A node in the network. Dropping it leaves.
pub(crate) struct Network {
    /// There until the drop.
    commands: Option<mpsc::Sender<Command>>,
    runtime: Option<Runtime>,
    ended: Mutex<std_mpsc::Receiver<()>>,
    listening: Vec<PeerAddress>,
    counters: Arc<Counters>,
}

impl Network {
    /// Joins the network, and comes back when the node listens. Blocks for that long.
    pub(crate) fn start(setup: Setup) -> Result<Self, NetworkError> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let built = Builder::new_multi_thread()
            .worker_threads((cores / 2).clamp(1, THREADS))
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("peerfold-net")
            .enable_all()
            .build();
        let runtime = built.map_err(|error| NetworkError::Start { reason: error.to_string() })?;
        let (commands, requests) = mpsc::channel(COMMANDS);
        #[cfg(unix)]
        if let Some(path) = &setup.socket {
            let _inside = runtime.enter();
            runtime.spawn(answer(StatusSocket::bind(path)?, commands.downgrade()));
        }
        let (ready, started) = std_mpsc::sync_channel(1);
        let (farewell, ended) = std_mpsc::sync_channel(1);
        let counters = Arc::<Counters>::default();
        let counted = counters.clone();
        runtime.spawn(async move {
            match Driver::new(setup, counted, ready.clone()) {
                Ok(driver) => driver.run(requests).await,
                // The receiver is the waiting caller.
                Err(error) => drop(ready.send(Err(error))),
            }
            let _ = farewell.send(());
        });
        let gone = || NetworkError::Start { reason: "its task ended early".to_owned() };
        match started.recv().map_err(|_| gone()).flatten() {
            Ok(listening) => {
                let (commands, runtime, ended) = (Some(commands), Some(runtime), Mutex::new(ended));
                Ok(Self { commands, runtime, ended, listening, counters })
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Where the node listened when it started.
    pub(crate) fn listening(&self) -> &[PeerAddress] {
        &self.listening
    }

    /// The node's figures in it.
    pub(crate) fn figures(&self) -> NetworkFigures {
        self.counters.figures()
    }

    /// How many members are connected, as it changes.
    pub(crate) fn members(&self) -> watch::Receiver<usize> {
        self.counters.members.subscribe()
    }

    async fn ask(&self, command: Command) {
        if let Some(commands) = &self.commands {
            // The task lives as long as this handle does, except at the end of the program.
            let _ = commands.send(command).await;
        }
    }

    /// Tells the network about one of our own entries. Blocks while the task is busy.
    pub(crate) fn published(&self, entry: Arc<SignedEntry>) {
        if let Some(commands) = &self.commands {
            let _ = commands.blocking_send(Command::Published(entry));
        }
    }

    /// Tells it that an author was readmitted. A task that is too busy finds out at the next sync.
    pub(crate) fn board_changed(&self) {
        if let Some(commands) = &self.commands {
            let _ = commands.try_send(Command::BoardChanged);
        }
    }

    /// Tells it whose updates will be folded next, if it was to fetch only those.
    pub(crate) async fn expects(&self, authors: BTreeSet<PeerId>) {
        self.ask(Command::Expects(authors)).await;
    }

    /// Passes it entries found in a bucket, which are taken in as if a peer had sent them.
    pub(crate) async fn learned(&self, entries: Vec<Arc<SignedEntry>>) {
        self.ask(Command::Learned(entries)).await;
    }

    /// Fetches a value into the cache. Returns an error when no connected peer has it; never hangs. Dropping the future
    /// abandons the value.
    pub(crate) async fn fetch(&self, entry: Arc<SignedEntry>) -> Result<(), FetchError> {
        let (done, fetched) = oneshot::channel();
        self.ask(Command::Fetch(entry, done)).await;
        fetched.await.unwrap_or(Err(FetchError::Ended))
    }

    /// Waits until what this node has published (or, if it is excluded, the proof against it) would outlive it: at most
    /// `patience`, and not at all if nobody is there. Says how far that has got. Dropping the future abandons it.
    pub(crate) async fn hand_over(&self, patience: Duration) -> HandedOver {
        match tokio::time::timeout(patience, self.answer(Command::HandOver)).await {
            Ok(Some(handed_over)) => handed_over,
            _ => self.answer(Command::HandedOver).await.unwrap_or_default(),
        }
    }

    /// Waits until every peer that can be found has told what it knows, or until it is clear that there is nobody; at
    /// most `patience`. Says who is there.
    pub(crate) async fn look_around(&self, patience: Duration) -> Surroundings {
        match tokio::time::timeout(patience, self.answer(Command::LookAround)).await {
            Ok(Some(surroundings)) => surroundings,
            _ => self.answer(Command::Surroundings).await.unwrap_or_default(),
        }
    }

    /// Peers that are dropped from now on.
    pub(crate) fn dropped_peers(&self) -> broadcast::Receiver<DroppedPeer> {
        self.counters.dropped.subscribe()
    }

    /// How peers have been reached until now, if this is the first who asks, and how from now on, as that changes.
    pub(crate) fn reached_peers(&self) -> (Vec<ReachedPeer>, broadcast::Receiver<ReachedPeer>) {
        self.counters.reached()
    }

    /// `None` if the network has ended.
    async fn answer<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (done, answer) = oneshot::channel();
        self.ask(question(done)).await;
        answer.await.ok()
    }

    /// Who is connected. `None` if the network has ended.
    pub(crate) async fn status(&self) -> Option<NetworkStatus> {
        self.answer(Command::Status).await
    }
}

/// Answers `peerfold peers` as long as the network runs.
#[cfg(unix)]
async fn answer(socket: StatusSocket, commands: mpsc::WeakSender<Command>) {
    let status = || async {
        let (done, status) = oneshot::channel();
        commands.upgrade()?.send(Command::Status(done)).await.ok()?;
        status.await.ok()
    };
    socket.serve(status).await;
}

impl Drop for Network {
    fn drop(&mut self) {
        self.commands = None;
        // The task closes its handle to the cache, so that the home can be opened again.
        let _ = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(FAREWELL);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
