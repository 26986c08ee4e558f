//! A node with its checkpoints: the order in which an epoch is trained, saved, published and folded.

mod saving;

use super::{
    Beginning, Checkpoint, Event, Figures, LocalUpdate, Mode, NodeError, Origin, Phase, Progress, RunFigures,
    SavedState, StartOptions, Stop, TrainingFigures,
    allow_list::AllowListWatcher,
    alone::Company,
    blobs::Blobs,
    comparison::Comparison,
    list_follower::ListFollower,
    progress::{Base, base_of},
    start::{First, LOOK_AROUND, first_weights, publish_beginning, root_of},
    told_by_folder::ToldByFolder,
};
use crate::{
    folder::{HandedOver, Staged},
    weights::{FederationId, Key, Metadata, Weights},
};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How a session runs.
pub struct SessionOptions {
    /// The federation's id.
    pub federation: FederationId,
    /// The federation's name, for what is said to people.
    pub name: String,
    /// Where the checkpoint is kept; without it there is none.
    pub run_dir: Option<PathBuf>,
    /// How to begin without a checkpoint.
    pub start: StartOptions,
    /// What should be the same on all nodes of the federation, by name. Published, and compared with the peers' own.
    pub hyperparameters: BTreeMap<String, String>,
    /// What should differ between nodes, by name. Published, and compared with the peers' own.
    pub distinct: BTreeMap<String, String>,
    /// Whether the weights of each complete epoch are published: see
    /// [`PublishSettings`](super::PublishSettings).
    pub publish_folded: bool,
    /// The request to stop.
    pub stop: Stop,
}

/// What to train on from.
#[derive(Debug, Clone, PartialEq)]
pub struct Begun {
    /// The weights.
    pub weights: Weights,
    /// The last complete epoch; 0 for a new federation.
    pub epoch: u64,
    /// Where the weights came from.
    pub origin: Origin,
    /// What the training program saved with its last complete epoch, if it did so in this run.
    pub trainer: Option<SavedState>,
    /// What was saved in the middle of the next epoch, which was trained from exactly these weights and this state.
    pub progress: Option<Progress>,
}

/// An epoch that was published and folded.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    /// The weights to train on from.
    pub weights: Weights,
    /// The epoch that is complete: the trained one, or a later one if this node has caught up with the others.
    pub epoch: u64,
}

/// A node with its checkpoints: the order of what happens in an epoch.
///
/// 1. the program trains an epoch, writes its state by [`write_state`](Self::write_state) and calls
///    [`epoch_trained`](Self::epoch_trained);
/// 2. the folder takes in the weights, and the checkpoint *trained(e)* is written: its parts are in files of their own,
///    the weights in the folder's files where possible; then one small file that names them is renamed into place;
/// 3. the update is put, which shows what the folder already has; the peers' updates are taken and folded;
/// 4. the checkpoint *folded(e)* follows, which names the same state and, unless nothing was folded, other weights.
///
/// If killed before step 2, the epoch is trained again from the same weights, data order and random numbers. If killed
/// after it, the same root is put again and nothing is trained twice. So no epoch is published twice with different
/// weights. In the middle of an epoch [`save_progress`](Self::save_progress) keeps what was trained of it so far.
///
/// While the disk has no room for *trained(e)*, epoch e isn't published, so that nothing is known of it anywhere that a
/// restart could contradict: an asynchronous node trains on, and a synchronous one, for which others wait, waits for
/// room. For want of room for *folded(e)* a restart folds again.
///
/// An update that a failing folder didn't take is remembered, in the checkpoint too. The next epoch's update replaces
/// it; a restart puts it before anything else, and [`finish`](Self::finish) puts it at the end of a run.
pub struct Session {
    mode: Mode,
    options: SessionOptions,
    /// What its first life began from; there once it has begun.
    beginning: Option<Beginning>,
    trainer: SavedState,
    /// The parts of checkpoints, if any are kept.
    blobs: Option<Arc<Blobs>>,
    /// Whether the checkpoint says that its epoch is complete but not published.
    saved_unpublished: bool,
    /// The last complete epoch, from which the next one is trained, and its result, if there is a checkpoint of it.
    complete: Option<(u64, Option<Base>)>,
    /// The number of the last complete epoch, also while the next one is published and folded.
    completed: u64,
    /// What the folder has taken in but not shown yet.
    staged: Option<Staged>,
    /// Whether it was told that the disk has no room for checkpoints.
    told_full: bool,
    /// The newest epoch, if it is neither saved nor published because the disk has no room.
    unsaved: Option<LocalUpdate>,
    told_by_folder: ToldByFolder,
    /// Compares peers' starts with this node's; there once it has begun.
    comparison: Option<Comparison>,
    company: Company,
    training: TrainingFigures,
    made: Instant,
    /// Where the figures are told after each step, if anywhere.
    told: Option<watch::Sender<serde_json::Value>>,
    /// Rereads the allow-list as long as this lives.
    allow_list: Option<AllowListWatcher>,
    /// Follows the administrator's list as long as this lives.
    signed_list: Option<ListFollower>,
}

impl Session {
    /// A session that has not begun.
    pub fn new(mode: impl Into<Mode>, options: SessionOptions) -> Self {
        let mut mode = mode.into();
        mode.participant_mut().end_waits_with(options.stop.clone());
        Self {
            mode,
            blobs: options.run_dir.as_deref().map(|run_dir| Arc::new(Blobs::new(run_dir))),
            options,
            beginning: None,
            trainer: SavedState::default(),
            saved_unpublished: false,
            complete: None,
            completed: 0,
            staged: None,
            told_full: false,
            unsaved: None,
            told_by_folder: ToldByFolder::default(),
            comparison: None,
            company: Company::default(),
            training: TrainingFigures::default(),
            made: Instant::now(),
            told: None,
            allow_list: None,
            signed_list: None,
        }
    }

    /// Begins, or goes on from the checkpoint: what was trained but not folded is published and folded first.
    ///
    /// `initial` are the weights for a federation that has no update yet, with `Origin::Seed` or `Origin::Init`;
    /// `trainer` is the training program's state before its first step.
    pub async fn begin(&mut self, initial: (Weights, Origin), trainer: SavedState) -> Result<Begun, NodeError> {
        let begun = self.try_begin(initial, trainer).await;
        self.tell_figures();
        self.tell_copied(begun)
    }

    /// Tells the figures there after each step.
    pub(super) fn with_figures_told(mut self, told: watch::Sender<serde_json::Value>) -> Self {
        self.told = Some(told);
        self
    }

    /// Follows the files of an allow-list for as long as it lives.
    pub(super) fn with_allow_list(mut self, watcher: Option<AllowListWatcher>) -> Self {
        self.allow_list = watcher;
        self
    }

    /// Follows the administrator's list for as long as it lives.
    pub(super) fn with_signed_list(mut self, follower: Option<ListFollower>) -> Self {
        self.signed_list = follower;
        self
    }

    fn tell_figures(&self) {
        if let Some(told) = &self.told {
            told.send_replace(serde_json::to_value(self.figures()).unwrap_or_default());
        }
    }

    async fn try_begin(&mut self, initial: (Weights, Origin), trainer: SavedState) -> Result<Begun, NodeError> {
        let layout = self.mode.participant().layout().clone();
        if let Some(difference) = layout.difference(initial.0.layout()) {
            return Err(NodeError::Layout { what: "the initial weights".to_owned(), difference });
        }
        let (checkpoint, progress) = self.load().await?;
        let (folder, stop) = (self.mode.participant().folder().clone(), self.options.stop.clone());
        // Before anything is published: the folder may know one of the node's own numbers, and the others' epoch.
        tokio::select! {
            surroundings = folder.look_around(LOOK_AROUND) => self.company.surroundings = surroundings,
            () = stop.requested() => return Err(NodeError::Stopped),
        }
        let participant = self.mode.participant();
        self.told_by_folder = ToldByFolder::follow(&**participant.folder(), &participant.events());
        if checkpoint.is_none() && self.options.start.min_peers > 0 {
            // Before it waits for them.
            self.tell_alone(true).await?;
        }
        let mut begun = match checkpoint {
            Some(checkpoint) => self.resume(checkpoint).await?,
            None => self.begin_anew(initial, trainer).await?,
        };
        begun.progress = self.take_up(progress).await?;
        self.mode.participant_mut().begins_from(&begun.weights);
        if let Err(error) = self.mode.expect_after(begun.epoch).await {
            self.tolerate(begun.epoch, error)?;
        }
        Ok(begun)
    }

    /// A node ends if its home was copied, after reporting that as an event.
    fn tell_copied<T>(&mut self, result: Result<T, NodeError>) -> Result<T, NodeError> {
        result.inspect_err(|error| self.mode.participant_mut().tell_copied(error))
    }

    async fn begin_anew(&mut self, initial: (Weights, Origin), trainer: SavedState) -> Result<Begun, NodeError> {
        let (options, stop) = (self.options.start.clone(), self.options.stop.clone());
        let planned = self.beginning(&initial.0, initial.1, 0).await?;
        let together = matches!(self.mode, Mode::Sync(_));
        let participant = self.mode.participant_mut();
        publish_beginning(participant, &planned).await?;
        let first = first_weights(participant, &options, initial, together, &stop).await?;
        let First { weights, epoch, origin, authors } = first;
        if origin == Origin::Fold {
            participant.took_from_peers();
        }
        let beginning = self.beginning(&weights, origin, epoch).await?;
        let participant = self.mode.participant();
        publish_beginning(participant, &beginning).await?;
        let first = weights.clone();
        participant.with_strategy(move |strategy| strategy.begin(&first)).await?;
        self.started(&beginning, authors);
        self.tell_alone(false).await?;
        self.beginning = Some(beginning.clone());
        self.compare_starts_with(beginning);
        self.trainer = trainer;
        self.save(Phase::Folded, epoch, &weights).await?;
        Ok(Begun { weights, epoch, origin, trainer: None, progress: None })
    }

    async fn resume(&mut self, checkpoint: Checkpoint) -> Result<Begun, NodeError> {
        let Checkpoint { phase, mut epoch, mut weights, trainer, roster, members, beginning, folded_from, .. } =
            checkpoint;
        let participant = self.mode.participant_mut();
        participant.roster = roster;
        participant.folded = Some((epoch, folded_from));
        if let Mode::Sync(node) = &mut self.mode {
            node.members.restore(&members);
        }
        self.trainer = trainer;
        let now = self.beginning(&weights, Origin::Checkpoint, epoch).await?;
        self.started(&now, Vec::new());
        self.tell_alone(false).await?;
        self.tell_changes(&now, &beginning);
        // The folder may have lost it, or never had it; the hyper-parameters may have changed. Unchanged, the put is no
        // new entry.
        let beginning = Beginning { hyperparameters: now.hyperparameters, distinct: now.distinct, ..beginning };
        if let Err(error) = publish_beginning(self.mode.participant(), &beginning).await {
            self.tolerate(epoch, error)?;
        }
        self.beginning = Some(beginning.clone());
        self.compare_starts_with(beginning);
        match phase {
            Phase::Trained { num_examples, metrics } => {
                let local = LocalUpdate { weights, epoch, num_examples, metrics };
                Completed { weights, epoch } = self.exchange(local).await?;
            }
            Phase::Unpublished { num_examples, metrics } => {
                let local = LocalUpdate { weights: weights.clone(), epoch, num_examples, metrics };
                self.saved_unpublished = true;
                match self.mode.participant_mut().publish(&local).await {
                    Ok(()) => self.save_complete(epoch, &weights).await?,
                    Err(error) => self.tolerate(epoch, error)?,
                }
            }
            Phase::Folded => self.publish_model(epoch, &weights).await?,
        }
        if self.complete.is_none() {
            // Nothing was saved anew: the checkpoint is of these.
            self.complete = Some((epoch, Some(base_of(epoch, root_of(&weights).await?, &self.trainer))));
            self.completed = epoch;
        }
        if let Some(caught_up) = self.mode.catch_up(epoch).await? {
            (weights, epoch) = caught_up;
            self.save_complete(epoch, &weights).await?;
        }
        let trainer = Some(self.trainer.clone());
        Ok(Begun { weights, epoch, origin: Origin::Checkpoint, trainer, progress: None })
    }

    /// Publishes a trained epoch and folds. `trainer` is the training program's state after the epoch.
    ///
    /// With the weights of `local` and those of the fold there are two copies of the model in memory, beside what the
    /// strategy remembers and, unless [`Checks::suspect`](super::Checks::suspect) is off, what the epoch began with and,
    /// if there is a [`Validation`](super::Validation), its model and the update that it measures; the training program
    /// should hold no other meanwhile. On the disk each byte is written once: the trained weights, which are the published
    /// value, the folded ones, and the state, if it was [written](Self::write_state).
    ///
    /// For a strategy that [needs degrees](crate::strategy::Strategy::needs_degrees) the metric `degree` is added: the number of other
    /// authors that this node knows.
    ///
    /// On [`NodeError::Diverged`] nothing is saved: a restart trains the epoch again. On [`NodeError::Stopped`] the
    /// update is published and the checkpoint is *trained(e)*: a restart folds it.
    pub async fn epoch_trained(&mut self, mut local: LocalUpdate, trainer: SavedState) -> Result<Completed, NodeError> {
        let layout = self.mode.participant().layout();
        if let Some(difference) = layout.difference(local.weights.layout()) {
            return Err(NodeError::Layout { what: "the trained weights".to_owned(), difference });
        }
        self.mode.participant().state_degree(&mut local);
        // Before it is saved: a restart would go on from it, and fail again.
        self.mode.participant().check_own(&local).await?;
        self.trainer = trainer;
        self.company.trained = Some(local.epoch);
        self.training.epochs += 1;
        self.training.examples += local.num_examples;
        let phase = Phase::Trained { num_examples: local.num_examples, metrics: local.metrics.clone() };
        fail::fail_point!("session::trained");
        if !self.save_when_there_is_room(phase, &local).await? {
            let (weights, epoch) = (local.weights.clone(), local.epoch);
            (self.complete, self.completed) = (Some((epoch, None)), epoch);
            let participant = self.mode.participant_mut();
            participant.made_of_own(&local, epoch);
            participant.begins_from(&weights);
            self.unsaved = Some(local);
            self.tell_figures();
            return Ok(Completed { weights, epoch });
        }
        self.saved_unpublished = false;
        fail::fail_point!("session::trained-saved");
        let completed = self.exchange(local).await;
        self.tell_figures();
        self.tell_copied(completed)
    }

    async fn exchange(&mut self, local: LocalUpdate) -> Result<Completed, NodeError> {
        let stop = self.options.stop.clone();
        let exchanged = self.mode.exchange(&local, &stop).await;
        // The entry names it, or the folder has failed.
        self.staged = None;
        let (weights, epoch) = exchanged?;
        let participant = self.mode.participant_mut();
        participant.made_of_own(&local, epoch);
        participant.begins_from(&weights);
        drop(local);
        fail::fail_point!("session::folded");
        self.compare_starts();
        self.save_complete(epoch, &weights).await?;
        fail::fail_point!("session::folded-saved");
        self.publish_model(epoch, &weights).await?;
        self.staged = None;
        Ok(Completed { weights, epoch })
    }

    /// Publishes the weights that the node goes on with, if it is configured to. If they haven't changed, the put makes
    /// no new entry. A failing folder is reported; the next epoch's put replaces this one.
    async fn publish_model(&self, epoch: u64, weights: &Weights) -> Result<(), NodeError> {
        if !self.options.publish_folded || epoch == 0 {
            return Ok(());
        }
        let participant = self.mode.participant();
        let from = participant.folded_in(epoch);
        let num_examples = from.iter().fold(0, |sum: u64, update| sum.saturating_add(update.num_examples));
        let metadata = Metadata { epoch, num_examples, ..Metadata::default() };
        let metadata = metadata.with_metrics([("folded", from.len() as f64)]);
        let key = Key::model(participant.peer_id());
        match participant.folder().put(&key, weights, metadata).await {
            Ok(_) => Ok(()),
            Err(error) => self.tolerate(epoch, error.into()),
        }
    }

    /// The end of a run: puts this node's newest update again if the folder failed when it should have been published.
    /// Does nothing if it is published already. An error says that peers don't have the update; it stays in the
    /// checkpoint, and opening the session again publishes it. After an error it may be called again.
    ///
    /// If no peer's update was folded in this run, an event says so. What peers began from is still told, if it is
    /// known within a few seconds and no stop is requested.
    pub async fn finish(&mut self) -> Result<(), NodeError> {
        if let Some(comparison) = &self.comparison {
            tokio::select! {
                () = comparison.settle() => {}
                () = self.options.stop.requested() => {}
            }
        }
        if self.mode.folds() {
            self.company.tell_end(self.mode.participant(), &self.options.name);
        }
        if let Some(unsaved) = self.unsaved.take() {
            // Before it is published, as ever.
            let phase = Phase::Trained { num_examples: unsaved.num_examples, metrics: unsaved.metrics.clone() };
            if let Err(error) = self.save(phase, unsaved.epoch, &unsaved.weights).await {
                self.unsaved = Some(unsaved);
                return Err(error);
            }
            let published = self.mode.participant_mut().publish(&unsaved).await;
            self.tell_figures();
            self.tell_copied(published)?;
            return self.save_complete(unsaved.epoch, &unsaved.weights).await;
        }
        let Some(update) = self.mode.participant().unpublished().cloned() else { return Ok(()) };
        let published = self.mode.participant_mut().publish(&update).await;
        self.tell_figures();
        self.tell_copied(published)?;
        // A checkpoint *trained(e)* stays one: there is still something to fold.
        if self.saved_unpublished {
            self.save_complete(update.epoch, &update.weights).await?;
        }
        Ok(())
    }

    /// A failing folder is reported as an event; any other error is returned.
    fn tolerate(&self, epoch: u64, error: NodeError) -> Result<(), NodeError> {
        match error {
            NodeError::Folder(error) if error.may_pass() => {
                let reason = error.to_string();
                self.mode.participant().emit(&Event::FolderFailed { epoch, reason });
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Waits, after [`finish`](Self::finish), until what this node has published would outlive it: until the connected
    /// peers have its newest update. At most `patience`; a stop request ends it at once. Says how far that has got,
    /// unless it was stopped.
    pub async fn hand_over(&self, patience: Duration) -> Option<HandedOver> {
        tokio::select! {
            handed_over = self.mode.participant().folder().hand_over(patience) => Some(handed_over),
            () = self.options.stop.requested() => None,
        }
    }

    /// Answers peers until a stop is requested.
    pub async fn stay(&self) {
        self.options.stop.requested().await;
    }

    /// All figures of the node as they are now, those of its folder among them.
    pub fn figures(&self) -> Figures {
        let participant = self.mode.participant();
        Figures {
            folder: participant.folder().figures(),
            fold: participant.figures(),
            training: self.training,
            run: RunFigures { epoch: self.completed, seconds: self.made.elapsed().as_secs_f64() },
            members: self.signed_list.as_ref().map(ListFollower::figures).unwrap_or_default(),
        }
    }

    async fn beginning(&self, weights: &Weights, origin: Origin, epoch: u64) -> Result<Beginning, NodeError> {
        let root = root_of(weights).await?.to_string();
        let SessionOptions { hyperparameters, distinct, .. } = &self.options;
        let (hyperparameters, distinct) = (hyperparameters.clone(), distinct.clone());
        Ok(Beginning { origin, weights: root, epoch, hyperparameters, distinct })
    }

    /// Reports once if nobody else is there, and whether this node waits for somebody.
    async fn tell_alone(&mut self, waits: bool) -> Result<(), NodeError> {
        match self.company.tell_start(self.mode.participant(), &self.options.name, waits).await {
            // If this fails, so will the next look, which knows what that means.
            Err(NodeError::Folder(_)) => Ok(()),
            told => told,
        }
    }

    fn started(&self, beginning: &Beginning, authors: Vec<String>) {
        let federation = self.options.federation.to_string();
        let participant = self.mode.participant();
        participant.emit(&Event::Started {
            peer: participant.peer_id().to_string(),
            federation,
            layout: participant.layout().id().to_string(),
            epoch: beginning.epoch,
            origin: beginning.origin,
            root: beginning.weights.clone(),
            authors,
        });
    }

    /// Starts comparing what peers began from with this, in the background.
    fn compare_starts_with(&mut self, beginning: Beginning) {
        let participant = self.mode.participant();
        let (folder, events) = (participant.folder().clone(), participant.events());
        let membership = participant.membership().clone();
        self.comparison = Some(Comparison::start(folder, membership, events, beginning));
        self.compare_starts();
    }

    /// Doesn't wait: findings come as events.
    fn compare_starts(&self) {
        self.comparison.iter().for_each(Comparison::look);
    }

    /// Reports what has changed since the checkpoint, as a mismatch of this node with itself.
    fn tell_changes(&self, now: &Beginning, saved: &Beginning) {
        let differences = now.changes(saved);
        if !differences.is_empty() {
            tracing::warn!(?differences, "settings have changed since the checkpoint");
            let participant = self.mode.participant();
            participant.emit(&Event::Mismatch { author: participant.peer_id().to_string(), differences });
        }
    }
}
