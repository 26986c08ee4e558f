//! One member of a federation: what asynchronous and synchronous nodes have in common.

mod looking;

use super::{
    Checks, Event, EventSink, FoldFigures, FoldedFrom, LocalUpdate, NodeError, Roster, Standpoint, Stop,
    UnaveragedTensors,
    background::off_runtime,
    complaints::Complaints,
    event::tell,
    fold::{Cut, Input, Outcome, Unread, cut_claims, fold_readable},
    patience::Patience,
    roster::Stale,
    sample::Sample,
    suspects::{Measures, find_suspects},
    suspicion::{Suspect, Suspicion},
    update::{Arrived, DEGREE, Listing},
    validation::Validation,
    values::Values,
};
use crate::{
    entries::Membership,
    folder::{FolderError, SharedFolder},
    strategy::{Folded, Strategy, Unaveraged},
    weights::{Key, Layout, LayoutId, MAX_METRICS, Metadata, Metric, Root, SignedEntry, Weights},
};
use libp2p_identity::PeerId;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

/// Options that asynchronous and synchronous nodes have in common.
pub struct ParticipantOptions {
    /// What an update must satisfy.
    pub checks: Checks,
    /// Whose updates count.
    pub membership: Arc<Membership>,
    /// Where events go.
    pub events: EventSink,
}

impl ParticipantOptions {
    /// Why an update of another can't count, as far as its entry says.
    fn objection(&self, layout: LayoutId, entry: &SignedEntry, metadata: &Metadata) -> Option<Cow<'static, str>> {
        let epoch = metadata.epoch;
        if !self.membership.allows(entry.key.author()) {
            Some("its author is not on this node's allow-list".into())
        } else if entry.layout != layout {
            Some("it has another layout than this node's model".into())
        } else if entry.key.update_epoch() != Some(epoch) {
            Some("its key and its entry name different epochs".into())
        } else {
            self.checks.claim(epoch, metadata.num_examples).err().map(|rejection| rejection.to_string().into())
        }
    }
}

/// One member of a federation: it publishes, takes in, checks and folds. [`AsyncNode`](super::AsyncNode) and
/// [`SyncNode`](super::SyncNode) decide whom to wait for, and how long.
pub struct Participant {
    folder: Arc<dyn SharedFolder>,
    /// `None` while it works, and for good if a fold was cancelled: it may have taken half a step.
    strategy: Arc<Mutex<Option<Box<dyn Strategy>>>>,
    strategy_name: &'static str,
    needs_degrees: bool,
    layout: Arc<Layout>,
    options: ParticipantOptions,
    pub(super) roster: Roster,
    /// Checked updates by root, those of the last look only.
    arrived: BTreeMap<(PeerId, Root), Arrived>,
    /// Fetches the others' values and checks them.
    values: Values,
    /// Ends its waiting for values.
    stop: Stop,
    /// How long it waits for them, if it doesn't need them to go on.
    pub(super) patience: Patience,
    /// Which peers it folds, if not all.
    pub(super) sample: Sample,
    /// How often authors were drawn because too many are untried.
    looks: u64,
    /// What has been reported about updates in the folder that don't count.
    complaints: Complaints,
    excluded: BTreeSet<PeerId>,
    /// Chosen updates that could not be used at the last look.
    failures: u64,
    /// What was taken in and folded; the complaints count for themselves.
    counted: FoldFigures,
    /// Whether a peer's update was folded since this was created.
    folded_peers: bool,
    /// The weights that the epoch under way began with, if updates are compared and it knows them: not for what an
    /// earlier life has trained and not folded.
    began_from: Option<Weights>,
    /// Measures updates, if the node has examples that it doesn't train on.
    validation: Option<Validation>,
    /// Whether what that finds may be left out.
    leaves_out_by_loss: bool,
    /// The norm of the node's newest update.
    own_norm: f64,
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
            values: Values::new(folder.clone(), layout.clone(), options.checks.clone()),
            stop: Stop::new(),
            patience: Patience::new(0.0),
            sample: Sample::default(),
            looks: 0,
            complaints: Complaints::new(options.events.clone()),
            folder,
            strategy_name: strategy.name(),
            needs_degrees: strategy.needs_degrees(),
            strategy: Arc::new(Mutex::new(Some(strategy))),
            layout,
            options,
            roster: Roster::default(),
            arrived: BTreeMap::new(),
            excluded: BTreeSet::new(),
            failures: 0,
            counted: FoldFigures::default(),
            folded_peers: false,
            began_from: None,
            validation: None,
            leaves_out_by_loss: true,
            own_norm: 0.0,
            unpublished: None,
            folded: None,
        }
    }

    /// The same, which measures the updates of each fold by this, unless [`Checks::suspect`] is off.
    #[must_use]
    pub fn with_validation(self, validation: Option<Validation>) -> Self {
        Self { validation, ..self }
    }

    /// The same, which never leaves out an update for its loss.
    pub(super) fn without_leaving_out_by_loss(self) -> Self {
        Self { leaves_out_by_loss: false, ..self }
    }

    /// Waits no more for values that aren't here once this is requested. What has come by then is folded.
    pub(super) fn end_waits_with(&mut self, stop: Stop) {
        self.values.end_waits_with(stop.clone());
        self.stop = stop;
    }

    /// Its peer id.
    pub fn peer_id(&self) -> PeerId {
        self.folder.author()
    }

    /// The folder it publishes in.
    pub fn folder(&self) -> &Arc<dyn SharedFolder> {
        &self.folder
    }

    /// What happened to peers' updates.
    pub(super) fn figures(&self) -> FoldFigures {
        let FoldFigures { rejected, out_of_reach, left_out, suspected, .. } = self.complaints.counted;
        FoldFigures { rejected, out_of_reach, left_out, suspected, ..self.counted }
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
        tell(&self.options.events, event);
    }

    /// The strategy's name.
    pub(super) fn strategy_name(&self) -> &'static str {
        self.strategy_name
    }

    /// Runs blocking work with the strategy off the async runtime, because its state is as large as the weights. Not
    /// for folds. If the caller is cancelled, the work still completes and the strategy comes back.
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

    /// Adds to the update how many other authors this node knows, if its strategy wants that from peers and there is
    /// room; without it, peers assume that this node knows as many as they do. Called before the checkpoint is written,
    /// so that a restart publishes the same.
    pub(super) fn state_degree(&self, local: &mut LocalUpdate) {
        if !self.needs_degrees {
            return;
        }
        let value = self.roster.known_besides(self.peer_id()) as f64;
        let metrics = &mut local.metrics;
        // A user's metric of that name would be mistaken for it.
        metrics.retain(|metric| metric.name != DEGREE);
        if metrics.len() < MAX_METRICS {
            let place = metrics.partition_point(|metric| metric.name.as_str() < DEGREE);
            metrics.insert(place, Metric { name: DEGREE.to_owned(), value });
        }
    }

    /// The norm of this update. Errors if peers would refuse it.
    pub(super) async fn check_own(&self, local: &LocalUpdate) -> Result<f64, NodeError> {
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

    /// Puts the update into the folder, after checking it: what peers would refuse isn't published. Until it is there
    /// it is remembered as unpublished.
    pub(super) async fn publish(&mut self, local: &LocalUpdate) -> Result<(), NodeError> {
        self.own_norm = self.check_own(local).await?;
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

    /// Something was taken over from peers without [`fold`](Self::fold).
    pub(super) fn took_from_peers(&mut self) {
        self.folded_peers = true;
    }

    /// Records that an epoch without a fold goes on with what was trained.
    pub(super) fn made_of_own(&mut self, local: &LocalUpdate, epoch: u64) {
        if self.folded_in(epoch).is_empty() && epoch == local.epoch {
            let author = self.peer_id().to_string();
            let own = FoldedFrom { author, epoch, num_examples: local.num_examples, weight: 1.0 };
            self.folded = Some((epoch, vec![own]));
        }
    }

    /// What was folded in this epoch; only the node's own update if nothing else was.
    pub(super) fn folded_in(&self, epoch: u64) -> &[FoldedFrom] {
        self.folded.as_ref().filter(|(of, _)| *of == epoch).map_or(&[], |(_, from)| from)
    }

    /// If the error says that somebody else signs as this node, reports that once.
    pub(super) fn tell_copied(&mut self, error: &NodeError) {
        if let NodeError::Folder(error @ FolderError::CopiedIdentity { author }) = error
            && self.excluded.insert(*author)
        {
            self.emit(&Event::Excluded { author: author.to_string(), reason: error.to_string() });
        }
    }

    /// How many other allowed authors have anything in the folder.
    pub(super) async fn peers_present(&self) -> Result<usize, NodeError> {
        let authors: BTreeSet<PeerId> = self.folder.list("").await?.iter().map(|entry| entry.key.author()).collect();
        Ok(authors.iter().filter(|&&author| author != self.peer_id() && self.allows(author)).count())
    }

    /// Draws those whose updates it will fold in this later epoch, as far as that is known now, and has the folder fetch
    /// theirs and no others.
    pub(super) async fn expect_for(&mut self, epoch: u64) -> Result<(), NodeError> {
        if !self.sample.is_drawn() {
            return Ok(());
        }
        let from = self.standpoint();
        let updates = self.list_updates().await?;
        let (fresh, _) = self.roster.split_by_staleness(updates.newest().cloned(), from);
        if let Some(expected) = self.sample.expect(epoch, fresh.iter().map(|entry| entry.key.author())) {
            self.folder.expects(expected).await;
        }
        Ok(())
    }

    /// Whose updates count.
    pub(super) fn membership(&self) -> &Arc<Membership> {
        &self.options.membership
    }

    fn allows(&self, author: PeerId) -> bool {
        self.options.membership.allows(author)
    }

    /// What this identity last published in an earlier life. Only the folder knows it if the checkpoint is lost.
    pub(super) async fn own_newest_update(&self) -> Result<Option<Arc<SignedEntry>>, NodeError> {
        let own = self.folder.list(&format!("{}/", self.peer_id())).await?;
        let layout = self.layout.id();
        let updates = own.into_iter().filter(|entry| entry.key.update_epoch().is_some() && entry.layout == layout);
        Ok(updates.max_by_key(|entry| entry.sequence))
    }

    /// The current updates in the folder, by author, newest first, without the node's own. Those of another layout, or
    /// with unbelievable claims, are left out with an event: they reach neither the roster nor the members, and no
    /// epoch is taken over from them.
    pub(super) async fn list_updates(&mut self) -> Result<Listing, NodeError> {
        let me = self.peer_id();
        for conflict in self.folder.conflicts().await? {
            // Its claims no longer count for anybody's staleness.
            self.roster.forget(conflict.author());
            if self.excluded.insert(conflict.author()) {
                let (author, reason) = (conflict.author().to_string(), conflict.to_string());
                self.emit(&Event::Excluded { author, reason });
            }
        }
        let layout = self.layout.id();
        let mut present = HashSet::new();
        let mut updates = self.folder.list("").await?;
        updates.retain(|entry| {
            let Some(metadata) = entry.metadata() else { return false };
            if entry.key.update_epoch().is_none() || entry.key.author() == me {
                return false;
            }
            present.insert(entry.hash());
            let objection = self.options.objection(layout, entry, metadata);
            if let Some(reason) = &objection {
                self.complaints.reject(entry, reason);
            }
            objection.is_none()
        });
        self.complaints.retain(&present);
        let updates = Listing::new(updates);
        // The roster takes the newest. The older one stays for a node that waits for its epoch.
        for newest in updates.newest() {
            let (Some(root), Some(epoch)) = (newest.root(), newest.key.update_epoch()) else { continue };
            self.roster.saw(newest.key.author(), newest.sequence, root, epoch);
            self.roster.doubt(newest.key.author(), self.complaints.of(newest).is_some());
        }
        // Authors that the folder no longer shows are forgotten; otherwise any number of names would fill memory and
        // checkpoint.
        let is_listed = |author| !updates.of(author).is_empty();
        self.roster.retain(|author| author == me || is_listed(author));
        self.complaints.retain_authors(|author| author == me || is_listed(author));
        self.patience.retain(is_listed);
        Ok(updates)
    }

    /// What this node measures others' epochs by: its own newest update, and the highest staleness τ at which an update
    /// is still folded.
    pub(super) fn standpoint(&self) -> Standpoint {
        Standpoint { epoch: self.roster.epoch_of(self.peer_id()), reach: self.options.checks.max_staleness }
    }

    /// Reports updates that are too old, each once for as long as it is current.
    pub(super) fn leave_out(&mut self, stale: Vec<Stale>) {
        self.complaints.leave_out(stale);
    }

    /// The updates with their staleness, as seen from there.
    pub(super) fn with_staleness(&self, arrived: Vec<Arrived>, from: Standpoint) -> Vec<(Arrived, u64)> {
        let staleness = |arrived: &Arrived| self.roster.staleness(arrived.author(), arrived.metadata.epoch, from);
        arrived.into_iter().map(|arrived| (staleness(&arrived), arrived)).map(|(tau, arrived)| (arrived, tau)).collect()
    }

    /// Reports updates that had passed the checks and could not be read when they were to be folded.
    pub(super) fn tell_unread(&mut self, unread: Vec<Unread>) {
        for Unread { entry, complaint, reason } in unread {
            if let Some(root) = entry.root() {
                self.arrived.remove(&(entry.key.author(), root));
            }
            self.complaints.complain(&entry, complaint, &reason);
        }
    }

    /// Lets no update of a fold count for too many examples, and reports those that claim more.
    pub(super) fn cut_claims(&mut self, inputs: &mut [Input]) {
        let ratio = self.options.checks.max_examples_ratio;
        for Cut { author, epoch, claimed, counted } in cut_claims(inputs, ratio) {
            self.counted.cut += 1;
            self.complaints.tell_cut(author, epoch, claimed, counted);
        }
    }

    /// What finds the suspects among updates that were trained from these weights, if they are known.
    pub(super) fn measures(&self, began_from: Option<Weights>) -> Measures {
        Measures {
            checks: self.options.checks.clone(),
            began_from,
            validation: self.validation.clone(),
            leaves_out_by_loss: self.leaves_out_by_loss,
        }
    }

    /// The next epoch begins with these weights: what peers publish of it is compared as differences to them.
    pub(super) fn begins_from(&mut self, weights: &Weights) {
        self.began_from = (self.options.checks.suspect != Suspicion::Off).then(|| weights.clone());
    }

    /// Reports updates that are out of line. Returns how many are left out.
    pub(super) fn tell_suspects(&mut self, suspects: &[Suspect]) -> usize {
        suspects.iter().for_each(|suspect| self.complaints.tell_suspect(suspect));
        let left_out = suspects.iter().filter(|suspect| suspect.left_out).count();
        self.counted.suspects_left_out += left_out as u64;
        left_out
    }

    /// Folds. `own` says where among the peers' updates the node's own stands. An update that can't be read any more is
    /// left out with an event. If fewer than `needed` are left, its own included, or none of a peer, nothing is folded.
    /// An error of the strategy is reported as an event. Those left out as suspect are among the `needed`: they have
    /// answered.
    ///
    /// Cancelling it counts no fold. The strategy may have taken its step anyway, so this participant can't go on:
    /// [`NodeError::FoldCancelled`].
    pub(super) async fn fold(
        &mut self,
        own: Option<(usize, &LocalUpdate)>,
        peers: Vec<(Arrived, u64)>,
        epoch: u64,
        needed: usize,
    ) -> Result<Outcome, NodeError> {
        let numbers: BTreeMap<PeerId, u64> =
            peers.iter().map(|(arrived, _)| (arrived.author(), arrived.entry.sequence)).collect();
        let mut inputs: Vec<Input> =
            peers.into_iter().map(|(arrived, staleness)| Input::of(arrived, staleness)).collect();
        if let Some((place, local)) = own {
            inputs.insert(place, Input::own(self.peer_id(), local, self.own_norm));
        }
        self.cut_claims(&mut inputs);
        let (number, failures) = (self.roster.folds() + 1, self.failures);
        let mut strategy = self.take_strategy()?;
        let measures = self.measures(self.began_from.clone());
        let worked = off_runtime(move || {
            let mut unread = Vec::new();
            let suspects = find_suspects(&measures, &mut inputs, &mut unread);
            drop(measures);
            let left_out = suspects.iter().filter(|suspect| suspect.left_out).count();
            let needed = needed.saturating_sub(left_out);
            let folded = fold_readable(strategy.as_mut(), &mut inputs, number, failures, needed, &mut unread);
            (strategy, folded, inputs, unread, suspects)
        });
        let (strategy, folded, inputs, unread, suspects) = worked.await?;
        *self.strategy.lock().unwrap_or_else(PoisonError::into_inner) = Some(strategy);
        self.tell_unread(unread);
        let left_out = self.tell_suspects(&suspects);
        let Folded { weights, shares, unaveraged, turned_negative } = match folded {
            None if left_out > 0 && inputs.iter().all(|input| input.own) => return Ok(Outcome::AllSuspect(left_out)),
            None => return Ok(Outcome::TooFew(inputs.len() + left_out)),
            Some(Ok(folded)) => folded,
            Some(Err(error)) => {
                tracing::warn!(epoch, %error, "not folded");
                self.counted.refused += 1;
                self.emit(&Event::NotFolded { epoch, reason: error.to_string() });
                return Ok(Outcome::Refused);
            }
        };
        // Of an author whose newest update was late, an older one was folded.
        self.roster.folded(inputs.iter().map(|input| {
            let number = numbers.get(&input.author).copied();
            (input.author, input.epoch(), number)
        }));
        let peers = inputs.iter().filter(|input| input.author != self.peer_id()).count();
        self.folded_peers |= peers > 0;
        self.counted.folds += 1;
        self.counted.folded += peers as u64;
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
        let weighted = || inputs.iter().zip(&shares);
        let updates = weighted().map(|(input, weight)| input.event(*weight)).collect();
        self.folded = Some((epoch, weighted().map(|(input, weight)| input.folded_from(*weight)).collect()));
        self.emit(&Event::Folded { epoch, round: number, updates, unaveraged, turned_negative });
        let known = inputs.iter().filter_map(|input| Some((input.author, *numbers.get(&input.author)?)));
        self.folder.folded(&known.collect::<Vec<_>>()).await;
        self.begins_from(&weights);
        Ok(Outcome::Weights(weights))
    }
}
