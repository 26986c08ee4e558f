use super::{
    Checks, Event, EventSink, FoldedFrom, NodeError, Rejection, Roster, UnaveragedTensors,
    fold::{Input, Outcome, Unread, fold_readable},
    roster::Stale,
};
use crate::{
    folder::{FolderError, SharedFolder, Value},
    strategy::{Folded, Strategy, Unaveraged},
    weights::{EntryHash, Key, Layout, MAX_METRICS, Metadata, Metric, Root, SignedEntry, TensorReader, Weights},
};
use libp2p_identity::PeerId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// How often a listing is taken anew because a value was replaced between the listing and the reading.
const LISTINGS: usize = 4;
/// How long the values of one look may be on their way, all together; what comes later counts at the next look.
const PATIENCE: Duration = Duration::from_secs(10);
/// What each of them has in any case: time enough for one that is there.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);
/// The metric that says how many authors a node knows, for strategies that ask for it.
pub(super) const DEGREE: &str = "degree";
/// Most characters of the reason for a rejection.
const MAX_REASON_CHARS: usize = 500;

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
    pub(super) fn metadata(&self) -> Metadata {
        Metadata { epoch: self.epoch, num_examples: self.num_examples, metrics: self.metrics.clone() }
    }
}

/// What asynchronous and synchronous nodes need alike.
pub struct ParticipantOptions {
    /// What an update must satisfy.
    pub checks: Checks,
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
    pub(super) value: Arc<Value>,
}

impl Arrived {
    pub(super) fn author(&self) -> PeerId {
        self.entry.key.author()
    }

    pub(super) fn folded_from(&self, weight: f64) -> FoldedFrom {
        let Metadata { epoch, num_examples, .. } = self.metadata;
        FoldedFrom { author: self.author().to_string(), epoch, num_examples, weight }
    }
}

/// Other authors' updates, the newest first.
pub(super) type Listing = BTreeMap<PeerId, Vec<Arc<SignedEntry>>>;

/// What has been said of an update that doesn't count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Complaint {
    /// It will never count.
    Rejected,
    /// It could not be read, and is tried again.
    OutOfReach,
}

/// One member of a federation: publishes, takes in, checks and folds. How long it waits and for whom is decided by
/// [`AsyncNode`](super::AsyncNode) and [`SyncNode`](super::SyncNode).
pub struct Participant {
    folder: Arc<dyn SharedFolder>,
    /// Away while it works, and for good if a fold was cancelled: it may have taken half a step.
    strategy: Arc<Mutex<Option<Box<dyn Strategy>>>>,
    strategy_name: &'static str,
    needs_degrees: bool,
    layout: Arc<Layout>,
    options: ParticipantOptions,
    pub(super) roster: Roster,
    /// Checked updates by root, those of the last look only.
    arrived: BTreeMap<(PeerId, Root), Arrived>,
    /// Updates in the folder that don't count, so that it is said once and nothing is read twice.
    complained: BTreeMap<EntryHash, Complaint>,
    /// Updates in the folder that were told as too old.
    left_out: BTreeSet<EntryHash>,
    excluded: BTreeSet<PeerId>,
    /// What peers say of their starts: the root that was compared, and the differences told.
    compared: BTreeMap<PeerId, (Root, Vec<String>)>,
    /// Chosen updates that could not be used, at the last look.
    failures: u64,
    /// Whether an update of a peer's was folded since this was made.
    folded_peers: bool,
    /// The node's newest update, until it is in the folder.
    unpublished: Option<LocalUpdate>,
    /// The epoch of the newest fold, and what was folded.
    pub(super) folded: Option<(u64, Vec<FoldedFrom>)>,
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
            strategy_name: strategy.name(),
            needs_degrees: strategy.needs_degrees(),
            strategy: Arc::new(Mutex::new(Some(strategy))),
            layout,
            options,
            roster: Roster::default(),
            arrived: BTreeMap::new(),
            complained: BTreeMap::new(),
            left_out: BTreeSet::new(),
            excluded: BTreeSet::new(),
            compared: BTreeMap::new(),
            failures: 0,
            folded_peers: false,
            unpublished: None,
            folded: None,
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

    /// Where its events go.
    pub(super) fn events(&self) -> EventSink {
        self.options.events.clone()
    }

    pub(super) fn emit(&self, event: &Event) {
        tracing::debug!(?event);
        (self.options.events)(event);
    }

    /// The strategy's name.
    pub(super) fn strategy_name(&self) -> &'static str {
        self.strategy_name
    }

    /// Runs blocking work with the strategy, off the async runtime: its state is as large as the weights. Not for folds:
    /// when the caller is cancelled, the work still ends and the strategy comes back.
    pub(super) async fn with_strategy<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Strategy) -> T + Send + 'static,
    ) -> Result<T, NodeError> {
        let place = self.strategy.clone();
        let mut strategy = self.take_strategy()?;
        off_runtime(move || {
            let result = work(strategy.as_mut());
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(strategy);
            result
        })
        .await
    }

    fn take_strategy(&self) -> Result<Box<dyn Strategy>, NodeError> {
        self.strategy.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(NodeError::FoldCancelled)
    }

    /// Adds to the update how many other authors this node knows, if its strategy wants to know that of its peers and
    /// there is room: without it they take this node for one that knows as many as they do. Before the checkpoint is
    /// written, so that a restart publishes the same.
    pub(super) fn state_degree(&self, local: &mut LocalUpdate) {
        if !self.needs_degrees {
            return;
        }
        let value = self.roster.known_besides(self.peer_id()) as f64;
        let metrics = &mut local.metrics;
        // One's own figure of that name would be taken for it.
        metrics.retain(|metric| metric.name != DEGREE);
        if metrics.len() < MAX_METRICS {
            let place = metrics.partition_point(|metric| metric.name.as_str() < DEGREE);
            metrics.insert(place, Metric { name: DEGREE.to_owned(), value });
        }
    }

    /// Errors if peers would refuse this update.
    pub(super) async fn check_own(&self, local: &LocalUpdate) -> Result<(), NodeError> {
        let claim = self.options.checks.claim(local.epoch, local.num_examples);
        claim.map_err(|reason| NodeError::Claim { epoch: local.epoch, reason })?;
        let (checks, weights) = (self.options.checks.clone(), local.weights.clone());
        let checked = off_runtime(move || checks.weights(&weights)).await?;
        checked.map_err(|reason| NodeError::Diverged { epoch: local.epoch, reason })
    }

    /// The node's newest update, if the folder failed when it was to be published.
    pub(super) fn unpublished(&self) -> Option<&LocalUpdate> {
        self.unpublished.as_ref()
    }

    /// Puts the update into the folder. Its own checks come first: what peers would refuse is not published. Until it
    /// is there it is remembered as unpublished.
    pub(super) async fn publish(&mut self, local: &LocalUpdate) -> Result<(), NodeError> {
        self.check_own(local).await?;
        self.unpublished = Some(local.clone());
        let key = Key::update(self.peer_id(), local.epoch);
        let entry = self.folder.put(&key, &local.weights, local.metadata()).await?;
        self.unpublished = None;
        fail::fail_point!("session::put");
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

    /// Whether an update of a peer's was folded since this participant was made.
    pub(super) fn has_folded_peers(&self) -> bool {
        self.folded_peers
    }

    /// Something of peers' was taken over, past [`fold`](Self::fold).
    pub(super) fn took_from_peers(&mut self) {
        self.folded_peers = true;
    }

    /// Notes that an epoch without a fold goes on with what was trained.
    pub(super) fn made_of_own(&mut self, local: &LocalUpdate, epoch: u64) {
        if self.folded_in(epoch).is_empty() && epoch == local.epoch {
            let author = self.peer_id().to_string();
            let own = FoldedFrom { author, epoch, num_examples: local.num_examples, weight: 1.0 };
            self.folded = Some((epoch, vec![own]));
        }
    }

    /// What was folded in this epoch: the own update alone if nothing else was.
    pub(super) fn folded_in(&self, epoch: u64) -> &[FoldedFrom] {
        self.folded.as_ref().filter(|(of, _)| *of == epoch).map_or(&[], |(_, from)| from)
    }

    /// Tells, once, that somebody else signs as this node, if that is what the error says.
    pub(super) fn tell_copied(&mut self, error: &NodeError) {
        if let NodeError::Folder(error @ FolderError::CopiedIdentity { author }) = error
            && self.excluded.insert(*author)
        {
            self.emit(&Event::Excluded { author: author.to_string(), reason: error.to_string() });
        }
    }

    /// How many other authors that are allowed here have anything in the folder.
    pub(super) async fn peers_present(&self) -> Result<usize, NodeError> {
        let authors: BTreeSet<PeerId> = self.folder.list("").await?.iter().map(|entry| entry.key.author()).collect();
        Ok(authors.iter().filter(|&&author| author != self.peer_id() && self.allows(author)).count())
    }

    fn allows(&self, author: PeerId) -> bool {
        self.options.allow.as_ref().is_none_or(|allowed| allowed.contains(&author))
    }

    /// What this identity published last, in an earlier life: known only by the folder if the checkpoint is lost.
    pub(super) async fn own_newest_update(&self) -> Result<Option<Arc<SignedEntry>>, NodeError> {
        let own = self.folder.list(&format!("{}/", self.peer_id())).await?;
        let layout = self.layout.id();
        let updates = own.into_iter().filter(|entry| entry.key.update_epoch().is_some() && entry.layout == layout);
        Ok(updates.max_by_key(|entry| entry.sequence).map(Arc::new))
    }

    /// The updates that stand in the folder, by author, the newest first, the node's own left out. Those of another
    /// layout, or with claims that nobody believes, are left out with an event: they reach neither the roster nor the
    /// members, and no epoch is taken over from them.
    pub(super) async fn list_updates(&mut self) -> Result<Listing, NodeError> {
        let me = self.peer_id();
        for conflict in self.folder.conflicts().await? {
            // What it claimed counts no more for anybody's staleness.
            self.roster.forget(conflict.author());
            if self.excluded.insert(conflict.author()) {
                let (author, reason) = (conflict.author().to_string(), conflict.to_string());
                self.emit(&Event::Excluded { author, reason });
            }
        }
        let layout = self.layout.id();
        let mut present = BTreeSet::new();
        let mut updates = Listing::new();
        for entry in self.folder.list("").await? {
            let (Some(epoch), Some(metadata)) = (entry.key.update_epoch(), entry.metadata()) else { continue };
            let author = entry.key.author();
            if author == me {
                continue;
            }
            present.insert(entry.hash());
            if !self.allows(author) {
                self.reject(&entry, &"its author is not on this node's allow-list");
            } else if entry.layout != layout {
                self.reject(&entry, &"it has another layout than this node's model");
            } else if metadata.epoch != epoch {
                self.reject(&entry, &"its key and its entry name different epochs");
            } else if let Err(rejection) = self.options.checks.claim(epoch, metadata.num_examples) {
                self.reject(&entry, &rejection);
            } else {
                updates.entry(author).or_default().push(Arc::new(entry));
            }
        }
        // What was said of updates that are gone need not be remembered: a flood of them would fill the memory.
        self.complained.retain(|hash, _| present.contains(hash));
        self.left_out.retain(|hash| present.contains(hash));
        for entries in updates.values_mut() {
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.sequence));
            // The roster takes the newest; the older one stays for who waits for its epoch.
            if let Some((newest, root)) = entries.first().and_then(|entry| Some((entry, entry.root()?))) {
                let epoch = newest.key.update_epoch().unwrap_or_default();
                self.roster.saw(newest.key.author(), newest.sequence, root, epoch);
                self.roster.doubt(newest.key.author(), self.complained.contains_key(&newest.hash()));
            }
        }
        // Whom the folder shows no longer is forgotten, or any number of names would fill memory and checkpoint.
        self.roster.retain(|author| author == me || updates.contains_key(&author));
        Ok(updates)
    }

    /// Takes in the updates that `choose` picks of a listing: reads and checks each once, and remembers the verdict.
    /// An update that was replaced meanwhile makes it list and choose again, and so does one that is found wanting: its
    /// claim may have made others look stale. Forgets the values of all others.
    ///
    /// Cancelling it loses nothing that has arrived.
    pub(super) async fn take_in(
        &mut self,
        mut choose: impl FnMut(&Listing, &Roster) -> Vec<Arc<SignedEntry>> + Send,
    ) -> Result<Vec<Arrived>, NodeError> {
        let (mut taken, mut gone) = (Vec::new(), Vec::new());
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..LISTINGS {
            let listing = self.list_updates().await?;
            let chosen = choose(&listing, &self.roster);
            taken.clear();
            let wanted = chosen.len();
            gone.clear();
            let mut found_wanting = false;
            for entry in chosen {
                let complaint = self.complained.get(&entry.hash()).copied();
                match self.arrive(entry.clone(), deadline).await {
                    Ok(arrived) => taken.extend(arrived),
                    Err(NodeError::Folder(FolderError::Gone { .. })) => gone.push(entry.clone()),
                    Err(error) => return Err(error),
                }
                found_wanting |= self.complained.get(&entry.hash()).copied() != complaint;
            }
            self.failures = (wanted - taken.len()) as u64;
            if gone.is_empty() && !found_wanting {
                break;
            }
        }
        // An entry may come before its value, as on a share whose files arrive one by one: no watch tells of the value.
        for entry in gone {
            self.complain(&entry, Complaint::OutOfReach, &"its value is not there yet");
        }
        let kept: BTreeSet<_> =
            taken.iter().filter_map(|arrived| Some((arrived.author(), arrived.entry.root()?))).collect();
        self.arrived.retain(|key, _| kept.contains(key));
        Ok(taken)
    }

    /// Whether an update that stands in the folder could not be read when it was last tried: it may be later, and
    /// nothing will tell.
    pub(super) fn has_unread(&self) -> bool {
        self.complained.values().any(|&complaint| complaint == Complaint::OutOfReach)
    }

    async fn arrive(&mut self, entry: Arc<SignedEntry>, deadline: Instant) -> Result<Option<Arrived>, NodeError> {
        let author = entry.key.author();
        let (Some(root), Some(metadata)) = (entry.root(), entry.metadata()) else { return Ok(None) };
        // The same weights may stand under a new number, with other claims.
        if let Some(arrived) = self.arrived.get(&(author, root)).filter(|arrived| arrived.metadata == *metadata) {
            return Ok(Some(arrived.clone()));
        }
        if self.complained.get(&entry.hash()) == Some(&Complaint::Rejected) {
            return Ok(None);
        }
        let metadata = metadata.clone();
        // Of a peer's updates the listing has left out such claims, but not of its own from an earlier life.
        let verdict = match self.options.checks.claim(metadata.epoch, metadata.num_examples) {
            Ok(()) => self.fetch_and_check(&entry, deadline).await?,
            Err(rejection) => Err(rejection),
        };
        match verdict {
            Ok(value) => {
                self.complained.remove(&entry.hash());
                self.emit(&Event::Received {
                    author: author.to_string(),
                    epoch: metadata.epoch,
                    root: root.to_string(),
                    bytes: self.layout.bytes(),
                    num_examples: metadata.num_examples,
                });
                let arrived = Arrived { entry, metadata, value };
                self.arrived.insert((author, root), arrived.clone());
                Ok(Some(arrived))
            }
            Err(Rejection::OutOfReach(reason)) => {
                self.complain(&entry, Complaint::OutOfReach, &reason);
                Ok(None)
            }
            Err(rejection) => {
                self.reject(&entry, &rejection);
                Ok(None)
            }
        }
    }

    /// A value that is damaged is had again once: a folder that can fetch it anew then does.
    async fn fetch_and_check(
        &self,
        entry: &SignedEntry,
        deadline: Instant,
    ) -> Result<Result<Arc<Value>, Rejection>, NodeError> {
        match self.fetch_and_check_once(entry, deadline).await? {
            Err(Rejection::Damaged(_)) => self.fetch_and_check_once(entry, deadline).await,
            verdict => Ok(verdict),
        }
    }

    async fn fetch_and_check_once(
        &self,
        entry: &SignedEntry,
        deadline: Instant,
    ) -> Result<Result<Arc<Value>, Rejection>, NodeError> {
        let Ok(got) = timeout_at(deadline.max(Instant::now() + LEAST_PATIENCE), self.folder.get(entry)).await else {
            return Ok(Err(Rejection::OutOfReach("it is still on its way".to_owned())));
        };
        let value = match got {
            Ok(value) => Arc::new(value),
            Err(error @ FolderError::Damaged { .. }) => return Ok(Err(Rejection::Damaged(error.to_string()))),
            // One peer's files being out of reach must not end this node.
            Err(error) if error.may_pass() => return Ok(Err(Rejection::OutOfReach(error.to_string()))),
            Err(error) => return Err(error.into()),
        };
        if let Some(difference) = self.layout.difference(value.layout()) {
            return Ok(Err(Rejection::Layout { difference }));
        }
        let checks = self.options.checks.clone();
        off_runtime(move || checks.weights(value.as_ref()).map(|()| value)).await
    }

    fn reject(&mut self, entry: &SignedEntry, reason: &(dyn std::fmt::Display + Sync)) {
        self.complain(entry, Complaint::Rejected, reason);
    }

    fn complain(&mut self, entry: &SignedEntry, complaint: Complaint, reason: &(dyn std::fmt::Display + Sync)) {
        if self.complained.insert(entry.hash(), complaint) != Some(complaint) {
            let author = entry.key.author();
            let epoch = entry.metadata().map_or(0, |metadata| metadata.epoch);
            // It may name a peer's tensors, and goes to a terminal and a log.
            let mut reason: String =
                reason.to_string().chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect();
            if complaint == Complaint::OutOfReach {
                reason.push_str("; it is tried again");
            }
            tracing::warn!(%author, epoch, reason, "update rejected");
            self.emit(&Event::Rejected { author: author.to_string(), epoch, reason });
        }
    }

    /// Highest staleness τ of an update that is folded.
    pub(super) fn max_staleness(&self) -> u64 {
        self.options.checks.max_staleness
    }

    /// Tells of updates that they are too old, once of each as long as it stands.
    pub(super) fn leave_out(&mut self, stale: Vec<Stale>) {
        for (entry, staleness) in stale {
            if self.left_out.insert(entry.hash()) {
                let author = entry.key.author().to_string();
                let epoch = entry.metadata().map_or(0, |metadata| metadata.epoch);
                self.emit(&Event::LeftOut { author, epoch, staleness });
            }
        }
    }

    /// The updates with their staleness.
    pub(super) fn with_staleness(&self, arrived: Vec<Arrived>) -> Vec<(Arrived, u64)> {
        let staleness = |arrived: &Arrived| self.roster.staleness(arrived.author(), arrived.metadata.epoch);
        arrived.into_iter().map(|arrived| (staleness(&arrived), arrived)).map(|(tau, arrived)| (arrived, tau)).collect()
    }

    /// Folds. `own` says where among the peers' updates the node's own stands. An update that can be read no longer is
    /// left out, with an event; if fewer than `needed` are left, its own included, or no peer's, nothing is folded. An
    /// error of the strategy is told as an event.
    ///
    /// Cancelling it counts no fold. The strategy may have taken its step all the same, so that this participant can't
    /// go on: [`NodeError::FoldCancelled`].
    pub(super) async fn fold(
        &mut self,
        own: Option<(usize, &LocalUpdate)>,
        peers: Vec<(Arrived, u64)>,
        epoch: u64,
        needed: usize,
    ) -> Result<Outcome, NodeError> {
        let mut inputs: Vec<Input> =
            peers.into_iter().map(|(arrived, staleness)| Input::of(arrived, staleness)).collect();
        if let Some((place, local)) = own {
            inputs.insert(place, Input::own(self.peer_id(), local));
        }
        let (number, failures) = (self.roster.folds() + 1, self.failures);
        let mut strategy = self.take_strategy()?;
        let worked = off_runtime(move || {
            let (folded, unread) = fold_readable(strategy.as_mut(), &mut inputs, number, failures, needed);
            (strategy, folded, inputs, unread)
        });
        let (strategy, folded, inputs, unread) = worked.await?;
        *self.strategy.lock().unwrap_or_else(PoisonError::into_inner) = Some(strategy);
        for Unread { entry, complaint, reason } in unread {
            if let Some(root) = entry.root() {
                self.arrived.remove(&(entry.key.author(), root));
            }
            self.complain(&entry, complaint, &reason);
        }
        let Folded { weights, shares, unaveraged, turned_negative } = match folded {
            None => return Ok(Outcome::TooFew(inputs.len())),
            Some(Ok(folded)) => folded,
            Some(Err(error)) => {
                tracing::warn!(epoch, %error, "not folded");
                self.emit(&Event::NotFolded { epoch, reason: error.to_string() });
                return Ok(Outcome::Refused);
            }
        };
        self.roster.folded(inputs.iter().map(|input| input.author));
        self.folded_peers |= inputs.iter().any(|input| input.author != self.peer_id());
        for tensor in &turned_negative {
            tracing::warn!(
                epoch,
                tensor,
                "turned negative by the fold, and no update is; --param average={tensor} averages it"
            );
        }
        let unaveraged = unaveraged.into_iter().map(|Unaveraged { update, tensors }| {
            let author = update.and_then(|place| inputs.get(place)).map(|input| input.author.to_string());
            UnaveragedTensors { author, tensors }
        });
        let unaveraged = unaveraged.collect();
        let updates: Vec<_> = inputs.iter().zip(shares).map(|(input, weight)| input.event(weight)).collect();
        let from = updates.iter().map(|update| FoldedFrom {
            author: update.author.clone(),
            epoch: update.epoch,
            num_examples: update.num_examples,
            weight: update.weight,
        });
        self.folded = Some((epoch, from.collect()));
        self.emit(&Event::Folded { epoch, round: number, updates, unaveraged, turned_negative });
        Ok(Outcome::Weights(weights))
    }

    /// Compares what peers began from with what this node began from, and tells each peer's differences once.
    pub(super) async fn compare_starts(&mut self, own: &super::Beginning) -> Result<(), NodeError> {
        let mut present = BTreeSet::new();
        for entry in self.folder.list("").await? {
            let author = entry.key.author();
            let Some(root) = entry.root().filter(|_| entry.key == Key::start(author)) else { continue };
            if author == self.peer_id() || !self.allows(author) {
                continue;
            }
            present.insert(author);
            if self.compared.get(&author).is_some_and(|&(compared, _)| compared == root) {
                continue;
            }
            // It is compared at the next epoch if it isn't here now.
            let Ok(got) = timeout_at(Instant::now() + LEAST_PATIENCE, self.folder.get(&entry)).await else { continue };
            let value = match got {
                Ok(value) => value,
                Err(FolderError::Gone { .. } | FolderError::Damaged { .. }) => continue,
                Err(error) if error.may_pass() => continue,
                Err(error) => return Err(error.into()),
            };
            let read = off_runtime(move || super::Beginning::read(&value)).await?;
            let differences = read.map(|theirs| own.differences(&theirs)).unwrap_or_else(|reason| {
                tracing::warn!(%author, reason, "what a peer says of its start can't be read");
                Vec::new()
            });
            // A node that began from a fold has put its start twice, and the second may differ in nothing new.
            let told = self.compared.insert(author, (root, differences.clone()));
            if !differences.is_empty() && told.is_none_or(|(_, told)| told != differences) {
                self.emit(&Event::Mismatch { author: author.to_string(), differences });
            }
        }
        self.compared.retain(|author, _| present.contains(author));
        Ok(())
    }
}

/// Runs blocking work on a thread of its own. When the caller is cancelled the work still ends.
pub(super) async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| NodeError::Worker(error.to_string()))
}
