use super::{Checks, Event, EventSink, NodeError, Rejection, Roster, event::FoldedUpdate};
use crate::{
    folder::{FolderError, SharedFolder, Value},
    strategy::{FoldError, Folded, Round, Strategy, Update},
    weights::{Key, Layout, Metadata, Metric, Root, SignedEntry, TensorReader, Weights},
};
use bytes::Bytes;
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

/// How often a listing is taken anew because a value was replaced between the listing and the reading.
const LISTINGS: usize = 4;

/// What a node publishes after an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalUpdate {
    /// The trained weights, before any fold.
    pub weights: Weights,
    /// The epoch that they come after.
    pub epoch: u64,
    /// Examples trained on in it.
    pub num_examples: u64,
    /// Figures for the entry, in ascending order of their names; `loss` is what strategies look at.
    pub metrics: Vec<Metric>,
}

impl LocalUpdate {
    fn metadata(&self) -> Metadata {
        Metadata { epoch: self.epoch, num_examples: self.num_examples, metrics: self.metrics.clone() }
    }
}

/// What asynchronous and synchronous nodes need alike.
pub struct ParticipantOptions {
    /// What an update must satisfy.
    pub checks: Checks,
    /// Updates with a higher staleness τ are left out of a fold.
    pub max_staleness: u64,
    /// The only authors whose updates count; everybody's if `None`.
    pub allow: Option<BTreeSet<PeerId>>,
    /// Where events go.
    pub events: EventSink,
}

/// A peer's update that has passed the checks.
#[derive(Clone)]
pub(super) struct Arrived {
    pub(super) entry: Arc<SignedEntry>,
    pub(super) metadata: Metadata,
    value: Arc<Value>,
}

impl Arrived {
    pub(super) fn author(&self) -> PeerId {
        self.entry.key.author()
    }
}

/// One member of a federation: publishes, takes in, checks and folds. How long it waits and for whom is decided by
/// [`AsyncNode`](super::AsyncNode) and [`SyncNode`](super::SyncNode).
pub struct Participant {
    folder: Arc<dyn SharedFolder>,
    strategy: Arc<Mutex<Box<dyn Strategy>>>,
    layout: Arc<Layout>,
    options: ParticipantOptions,
    pub(super) roster: Roster,
    /// Checked updates by root, those of the last look only.
    arrived: BTreeMap<(PeerId, Root), Arrived>,
    /// Updates and authors that were complained of, so that it is said once.
    complained: BTreeSet<(PeerId, Option<Root>)>,
    compared: BTreeSet<Root>,
    /// Chosen updates that could not be used, at the last look.
    failures: u64,
}

impl Participant {
    /// A member that trains weights of this layout.
    pub fn new(
        folder: Arc<dyn SharedFolder>,
        strategy: Box<dyn Strategy>,
        layout: Arc<Layout>,
        options: ParticipantOptions,
    ) -> Self {
        Self {
            folder,
            strategy: Arc::new(Mutex::new(strategy)),
            layout,
            options,
            roster: Roster::default(),
            arrived: BTreeMap::new(),
            complained: BTreeSet::new(),
            compared: BTreeSet::new(),
            failures: 0,
        }
    }

    /// Its peer id.
    pub fn peer_id(&self) -> PeerId {
        self.folder.author()
    }

    /// The folder it publishes in.
    pub fn folder(&self) -> &Arc<dyn SharedFolder> {
        &self.folder
    }

    /// What tensors it trains.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    pub(super) fn emit(&self, event: &Event) {
        tracing::debug!(?event);
        (self.options.events)(event);
    }

    /// Tells the strategy from which weights the node begins.
    pub(super) fn begin(&self, initial: &Weights) {
        self.strategy.lock().unwrap_or_else(PoisonError::into_inner).begin(initial);
    }

    /// The strategy's name and state.
    pub(super) fn save_strategy(&self) -> (String, Bytes) {
        let strategy = self.strategy.lock().unwrap_or_else(PoisonError::into_inner);
        (strategy.name().to_owned(), strategy.save().into())
    }

    pub(super) fn restore_strategy(&self, state: &[u8]) -> Result<(), FoldError> {
        self.strategy.lock().unwrap_or_else(PoisonError::into_inner).restore(state)
    }

    /// Errors if peers would refuse these weights.
    pub(super) async fn check_own(&self, local: &LocalUpdate) -> Result<(), NodeError> {
        let (checks, weights) = (self.options.checks.clone(), local.weights.clone());
        let checked = off_runtime(move || checks.weights(&weights)).await?;
        checked.map_err(|reason| NodeError::Diverged { epoch: local.epoch, reason })
    }

    /// Puts the update into the folder. Its own checks come first: what peers would refuse is not published.
    pub(super) async fn publish(&mut self, local: &LocalUpdate) -> Result<(), NodeError> {
        self.check_own(local).await?;
        let key = Key::update(self.peer_id(), local.epoch);
        let entry = self.folder.put(&key, &local.weights, local.metadata()).await?;
        let root = entry.root().unwrap_or(Root::from_bytes([0; 32]));
        self.roster.saw(self.peer_id(), entry.sequence, root, local.epoch);
        self.emit(&Event::Published {
            epoch: local.epoch,
            root: root.to_string(),
            bytes: self.layout.bytes(),
            sequence: entry.sequence,
            num_examples: local.num_examples,
        });
        Ok(())
    }

    /// How many other authors have anything in the folder.
    pub(super) async fn peers_present(&self) -> Result<usize, NodeError> {
        let authors: BTreeSet<PeerId> = self.folder.list("").await?.iter().map(|entry| entry.key.author()).collect();
        Ok(authors.iter().filter(|&&author| author != self.peer_id()).count())
    }

    /// What this identity published last, in an earlier life: known only by the folder if the checkpoint is lost.
    pub(super) async fn own_newest_update(&self) -> Result<Option<Arc<SignedEntry>>, NodeError> {
        let own = self.folder.list(&format!("{}/", self.peer_id())).await?;
        let layout = self.layout.id();
        let updates = own.into_iter().filter(|entry| entry.key.update_epoch().is_some() && entry.layout == layout);
        Ok(updates.max_by_key(|entry| entry.sequence).map(Arc::new))
    }

    /// The updates that stand in the folder, by author, the newest first, the node's own left out. Those of another
    /// layout are left out with an event.
    pub(super) async fn list_updates(&mut self) -> Result<BTreeMap<PeerId, Vec<Arc<SignedEntry>>>, NodeError> {
        let me = self.peer_id();
        for conflict in self.folder.conflicts().await? {
            if self.complained.insert((conflict.author(), None)) {
                let (author, reason) = (conflict.author().to_string(), conflict.to_string());
                self.emit(&Event::Excluded { author, reason });
            }
        }
        let layout = self.layout.id();
        let mut present = BTreeSet::new();
        let mut updates: BTreeMap<PeerId, Vec<Arc<SignedEntry>>> = BTreeMap::new();
        for entry in self.folder.list("").await? {
            let (Some(epoch), Some(root)) = (entry.key.update_epoch(), entry.root()) else { continue };
            let author = entry.key.author();
            if author == me {
                continue;
            }
            present.insert(root);
            if self.options.allow.as_ref().is_some_and(|allowed| !allowed.contains(&author)) {
                self.reject(author, root, epoch, &"its author is not on this node's allow-list");
                continue;
            }
            if entry.layout != layout {
                let reason = "it has another layout than this node's model";
                self.reject(author, root, epoch, &reason);
                continue;
            }
            if entry.metadata().is_some_and(|metadata| metadata.epoch != epoch) {
                self.reject(author, root, epoch, &"its key and its entry name different epochs");
                continue;
            }
            updates.entry(author).or_default().push(Arc::new(entry));
        }
        // What was said of updates that are gone need not be remembered: a flood of them would fill the memory.
        self.complained.retain(|(_, root)| root.is_none_or(|root| present.contains(&root)));
        for entries in updates.values_mut() {
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.sequence));
            // The roster takes the newest; the older one stays for who waits for its epoch.
            if let Some((newest, root)) = entries.first().and_then(|entry| Some((entry, entry.root()?))) {
                let epoch = newest.key.update_epoch().unwrap_or_default();
                self.roster.saw(newest.key.author(), newest.sequence, root, epoch);
            }
        }
        Ok(updates)
    }

    /// Takes in the updates that `choose` picks of a listing: reads and checks each once, and remembers the verdict.
    /// An update that was replaced meanwhile makes it list again. Forgets the values of all others.
    pub(super) async fn take_in(
        &mut self,
        mut choose: impl FnMut(&BTreeMap<PeerId, Vec<Arc<SignedEntry>>>, &Roster) -> Vec<Arc<SignedEntry>> + Send,
    ) -> Result<Vec<Arrived>, NodeError> {
        let mut taken = Vec::new();
        for _ in 0..LISTINGS {
            let listing = self.list_updates().await?;
            let chosen = choose(&listing, &self.roster);
            taken.clear();
            let wanted = chosen.len();
            let mut gone = false;
            for entry in chosen {
                match self.arrive(entry).await {
                    Ok(arrived) => taken.extend(arrived),
                    Err(NodeError::Folder(FolderError::Gone { .. })) => gone = true,
                    Err(error) => return Err(error),
                }
            }
            self.failures = (wanted - taken.len()) as u64;
            if !gone {
                break;
            }
        }
        let kept = |arrived: &Arrived| Some(((arrived.author(), arrived.entry.root()?), arrived.clone()));
        self.arrived = taken.iter().filter_map(kept).collect();
        Ok(taken)
    }

    async fn arrive(&mut self, entry: Arc<SignedEntry>) -> Result<Option<Arrived>, NodeError> {
        let author = entry.key.author();
        let (Some(root), Some(metadata)) = (entry.root(), entry.metadata()) else { return Ok(None) };
        if let Some(arrived) = self.arrived.get(&(author, root)) {
            // The same weights may stand under a new number, with other claims.
            if arrived.metadata == *metadata {
                return Ok(Some(arrived.clone()));
            }
        } else if self.complained.contains(&(author, Some(root))) {
            return Ok(None);
        }
        let metadata = metadata.clone();
        let verdict = match self.options.checks.claim(metadata.num_examples) {
            Ok(()) => self.fetch_and_check(&entry).await?,
            Err(rejection) => Err(rejection),
        };
        match verdict {
            Ok(value) => {
                self.emit(&Event::Received {
                    author: author.to_string(),
                    epoch: metadata.epoch,
                    root: root.to_string(),
                    bytes: self.layout.bytes(),
                    num_examples: metadata.num_examples,
                });
                Ok(Some(Arrived { entry, metadata, value }))
            }
            Err(rejection) => {
                self.reject(author, root, metadata.epoch, &rejection);
                if matches!(rejection, Rejection::OutOfReach(_)) {
                    self.complained.remove(&(author, Some(root)));
                }
                Ok(None)
            }
        }
    }

    async fn fetch_and_check(&self, entry: &SignedEntry) -> Result<Result<Arc<Value>, Rejection>, NodeError> {
        let value = match self.folder.get(entry).await {
            Ok(value) => Arc::new(value),
            Err(error @ FolderError::Damaged { .. }) => return Ok(Err(Rejection::Damaged(error.to_string()))),
            // One peer's files being out of reach must not end this node.
            Err(error @ FolderError::Io { .. }) => return Ok(Err(Rejection::OutOfReach(error.to_string()))),
            Err(error) => return Err(error.into()),
        };
        if let Some(difference) = self.layout.difference(value.layout()) {
            return Ok(Err(Rejection::Layout { difference }));
        }
        let checks = self.options.checks.clone();
        off_runtime(move || checks.weights(value.as_ref()).map(|()| value)).await
    }

    fn reject(&mut self, author: PeerId, root: Root, epoch: u64, reason: &(dyn std::fmt::Display + Sync)) {
        if self.complained.insert((author, Some(root))) {
            tracing::warn!(%author, epoch, %reason, "update rejected");
            self.emit(&Event::Rejected { author: author.to_string(), epoch, reason: reason.to_string() });
        }
    }

    /// Those of the updates that are fresh enough, with their staleness.
    pub(super) fn fresh(&self, arrived: Vec<Arrived>) -> Vec<(Arrived, u64)> {
        let with_staleness = arrived.into_iter().map(|arrived| {
            let staleness = self.roster.staleness(arrived.author(), arrived.metadata.epoch);
            (arrived, staleness)
        });
        let (fresh, stale): (Vec<_>, Vec<_>) =
            with_staleness.partition(|&(_, staleness)| staleness <= self.options.max_staleness);
        for (arrived, staleness) in stale {
            let (author, epoch) = (arrived.author().to_string(), arrived.metadata.epoch);
            self.emit(&Event::LeftOut { author, epoch, staleness });
        }
        fresh
    }

    /// Folds. `own_place` says where among the peers' updates the node's own stands. An error of the strategy is told
    /// as an event, and `None` comes back: the node goes on with its own weights.
    pub(super) async fn fold(
        &mut self,
        own: Option<(usize, &LocalUpdate)>,
        peers: Vec<(Arrived, u64)>,
        epoch: u64,
    ) -> Result<Option<Weights>, NodeError> {
        let mut inputs: Vec<Input> =
            peers.into_iter().map(|(arrived, staleness)| Input::of(arrived, staleness)).collect();
        if let Some((place, local)) = own {
            inputs.insert(place, Input::own(self.peer_id(), local));
        }
        let (number, failures) = (self.roster.folds() + 1, self.failures);
        let strategy = self.strategy.clone();
        let worked = off_runtime(move || {
            let updates: Vec<Update<'_>> = inputs.iter().map(Input::update).collect();
            let round = Round { number, updates: &updates, failures };
            let folded = strategy.lock().unwrap_or_else(PoisonError::into_inner).fold(&round);
            drop(updates);
            (folded, inputs)
        });
        let (folded, inputs) = worked.await?;
        let Folded { weights, shares } = match folded {
            Ok(folded) => folded,
            Err(error) => {
                tracing::warn!(epoch, %error, "not folded");
                self.emit(&Event::NotFolded { epoch, reason: error.to_string() });
                return Ok(None);
            }
        };
        self.roster.folded(inputs.iter().map(|input| input.author));
        let updates = inputs.iter().zip(shares).map(|(input, weight)| input.event(weight)).collect();
        self.emit(&Event::Folded { epoch, round: number, updates });
        Ok(Some(weights))
    }

    /// Compares what peers began from with what this node began from, and tells each difference once.
    pub(super) async fn compare_starts(&mut self, own: &super::Beginning) -> Result<(), NodeError> {
        for entry in self.folder.list("").await? {
            let Some(root) = entry.root().filter(|_| entry.key == Key::start(entry.key.author())) else { continue };
            if entry.key.author() == self.peer_id() || !self.compared.insert(root) {
                continue;
            }
            let value = match self.folder.get(&entry).await {
                Ok(value) => value,
                Err(FolderError::Gone { .. } | FolderError::Damaged { .. } | FolderError::Io { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let read = off_runtime(move || super::Beginning::read(&value)).await?;
            let author = entry.key.author().to_string();
            match read.map(|theirs| own.differences(&theirs)) {
                Ok(differences) if differences.is_empty() => {}
                Ok(differences) => self.emit(&Event::Mismatch { author, differences }),
                Err(reason) => tracing::warn!(%author, reason, "what a peer says of its start can't be read"),
            }
        }
        Ok(())
    }
}

/// Folds peers' updates apart from the node's own strategy and count of folds.
pub(super) fn fold_peers(strategy: &mut dyn Strategy, peers: &[(Arrived, u64)]) -> Result<Folded, FoldError> {
    let inputs: Vec<Input> = peers.iter().map(|(arrived, staleness)| Input::of(arrived.clone(), *staleness)).collect();
    let updates: Vec<Update<'_>> = inputs.iter().map(Input::update).collect();
    strategy.fold(&Round { number: 1, updates: &updates, failures: 0 })
}

/// An update with what it borrows from.
struct Input {
    author: PeerId,
    weights: Source,
    metadata: Metadata,
    staleness: u64,
    own: bool,
}

enum Source {
    Own(Weights),
    Peer(Arc<Value>),
}

impl Input {
    fn of(arrived: Arrived, staleness: u64) -> Self {
        let author = arrived.author();
        Self { author, weights: Source::Peer(arrived.value), metadata: arrived.metadata, staleness, own: false }
    }

    fn own(author: PeerId, local: &LocalUpdate) -> Self {
        let weights = Source::Own(local.weights.clone());
        Self { author, weights, metadata: local.metadata(), staleness: 0, own: true }
    }

    fn update(&self) -> Update<'_> {
        let weights: &dyn TensorReader = match &self.weights {
            Source::Own(weights) => weights,
            Source::Peer(value) => value.as_ref(),
        };
        Update {
            author: self.author,
            weights,
            num_examples: self.metadata.num_examples,
            epoch: self.metadata.epoch,
            staleness: self.staleness,
            loss: self.metadata.metric("loss"),
            own: self.own,
        }
    }

    fn event(&self, weight: f64) -> FoldedUpdate {
        FoldedUpdate {
            author: self.author.to_string(),
            epoch: self.metadata.epoch,
            num_examples: self.metadata.num_examples,
            weight,
            staleness: self.staleness,
            own: self.own,
        }
    }
}

/// Runs blocking work on a thread of its own. When the caller is cancelled the work still ends.
pub(super) async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| NodeError::Worker(error.to_string()))
}
