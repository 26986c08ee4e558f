//! The steps of a run, in order.

use super::{EpochRecord, History, LearnerError, Metrics, Outgoing, RunError, Trained, Unchanged, history::LastFold};
use crate::{
    bucket::BucketFigures,
    folder::FolderFigures,
    home::Home,
    node::{
        Begun, BlockingSession, Checkpoint, Completed, Event, EventSink, FoldedUpdate, LocalUpdate, NodeConfig,
        NodeError, Origin, Progress, SavedState, Stop,
    },
    weights::{MAX_METRIC_NAME, MAX_METRICS, Metric, Weights},
};
use libp2p_identity::PeerId;
use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

/// What decides an epoch besides its starting weights, by name: the data, their order, the steps. An epoch that was
/// begun by another recipe is trained anew.
pub type Recipe = BTreeMap<String, String>;

/// How a run goes, besides its [`NodeConfig`].
pub struct RunOptions {
    /// After how long the middle of an epoch is saved, again and again, by [`Run::train`]; never if `None`.
    pub checkpoint_every: Option<Duration>,
    /// What decides an epoch besides its starting weights. The middle of an epoch that was begun with a different
    /// recipe is dropped.
    pub recipe: Recipe,
    /// Training steps of an epoch, if that is fixed: for what is told of its middle.
    pub steps_per_epoch: Option<u64>,
    /// What acts on weights before they leave the node.
    pub outgoing: Box<dyn Outgoing>,
    /// When the program began: what the end's seconds are counted from.
    pub began: Instant,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            checkpoint_every: None,
            recipe: Recipe::new(),
            steps_per_epoch: None,
            outgoing: Box::new(Unchanged),
            began: Instant::now(),
        }
    }
}

/// The epoch that is trained now.
pub(super) struct UnderWay {
    epoch: u64,
    pub(super) began: Instant,
    /// How long earlier lives have trained it.
    pub(super) before: Duration,
}

/// An epoch that is published and folded, until its weights are measured.
struct Folded {
    trained: Trained,
    folded: Vec<FoldedUpdate>,
    began: Instant,
    before: Duration,
}

/// The life of one node, from its first weights to its end: see the [module](super) for who calls what.
///
/// **Blocking.** Every step blocks until it is done, inside and outside of async runtimes; the network is answered by a
/// thread of the node's own. To end a step that waits for peers, request the configuration's [`Stop`] from elsewhere.
///
/// **Crashes.** A process that ends at any moment goes on where it was; an epoch that was not trained to its end is
/// trained again, or from where its middle was saved, and one that was trained is never trained or published twice.
///
/// Dropping it leaves the federation, and makes the home free for another.
pub struct Run {
    pub(super) session: BlockingSession,
    pub(super) events: EventSink,
    pub(super) stop: Stop,
    linger: Duration,
    pub(super) options: RunOptions,
    origin: Origin,
    /// The last complete epoch.
    pub(super) epoch: u64,
    /// What it has left.
    pub(super) weights: Weights,
    /// Whether these were let go while the next epoch's state was written, and are on the disk only.
    let_go: bool,
    /// The last epoch wanted, as far as is known.
    last: u64,
    /// What was saved of the next epoch in an earlier life.
    pub(super) progress: Option<Progress>,
    pub(super) under_way: Option<UnderWay>,
    folded: Option<Folded>,
    /// Figures of the weights, once they were measured.
    pub(super) evaluation: Option<Metrics>,
    /// A stop request has cut an epoch's end short.
    cut_short: bool,
    /// Why the middle of an epoch was not saved when a stop was requested.
    pub(super) unsaved: Option<RunError>,
    last_fold: LastFold,
    /// What the bucket had cost at the end of the last epoch.
    paid: BucketFigures,
    history: History,
    run_dir: PathBuf,
    /// Locked until the session is gone.
    home: Home,
}

impl Run {
    /// Opens the configuration's folder and begins: from the home's checkpoint of this federation and run, whose state of
    /// the learner is given back; else from a fold of the updates that are there; else from the weights in `initial`,
    /// which therefore must be the same on all nodes, and which have `Origin::Seed` or `Origin::Init`. `save` writes the
    /// learner's state before its first step.
    ///
    /// Blocks while it waits for the peers that the configuration wants at the start, and in a synchronous federation
    /// for the fold of an epoch that was trained before a restart.
    ///
    /// Errors if the folder can't be written, a stop was requested meanwhile ([`RunError::is_stopped`]), or the checkpoint
    /// is of another model or strategy.
    pub fn begin(
        config: &NodeConfig,
        home: Home,
        initial: (Weights, Origin),
        save: impl FnOnce(&mut dyn Write) -> Result<(), LearnerError>,
        options: RunOptions,
    ) -> Result<(Self, Option<SavedState>), RunError> {
        let last_fold = LastFold::default();
        let config = NodeConfig { events: last_fold.listening(config.events.clone()), ..config.clone() };
        let run_dir = home.run_dir(&config.federation_id()).map_err(NodeError::from)?;
        let mut session = config.open(&home, initial.0.layout().clone())?;
        let state = written(&session, save)?;
        let Begun { weights, epoch, origin, trainer, progress } = session.begin(initial, state)?;
        let run = Self {
            session,
            events: config.events,
            stop: config.stop,
            linger: config.end.linger,
            options,
            origin,
            epoch,
            weights,
            let_go: false,
            last: epoch,
            progress,
            under_way: None,
            folded: None,
            evaluation: None,
            cut_short: false,
            unsaved: None,
            last_fold,
            paid: BucketFigures::default(),
            history: History::default(),
            run_dir,
            home,
        };
        Ok((run, trainer))
    }

    /// [Begins](Self::begin) for a program whose weights are all it has, in the home in `home_dir`, which is made, with a
    /// new identity, if there is none. [`weights`](Self::weights) are those to train on from.
    pub fn join(config: &NodeConfig, home_dir: impl Into<PathBuf>, initial: Weights) -> Result<Self, RunError> {
        let home = Home::open(home_dir).map_err(NodeError::from)?;
        let (run, _) = Self::begin(config, home, (initial, Origin::Seed), |_| Ok(()), RunOptions::default())?;
        Ok(run)
    }

    /// Makes this act on weights before they leave the node, from the next epoch on.
    pub fn set_outgoing(&mut self, outgoing: impl Outgoing + 'static) {
        self.options.outgoing = Box::new(outgoing);
    }

    /// The epoch to train now, from 1, or `None` if epoch `last` is complete or a stop was requested. Asking again
    /// gives the same. Numbers may be left out: a synchronous node that was behind takes over the epoch of the others.
    pub fn next_epoch(&mut self, last: u64) -> Option<u64> {
        self.settle();
        self.regain();
        self.last = last;
        if self.is_stopped() || self.epoch >= last {
            return None;
        }
        let epoch = self.epoch + 1;
        if self.under_way.as_ref().is_none_or(|under_way| under_way.epoch != epoch) {
            self.under_way = Some(UnderWay { epoch, began: Instant::now(), before: Duration::ZERO });
        }
        Some(epoch)
    }

    /// Writes a learner's state after a complete epoch to the disk, for [`publish`](Self::publish): whatever `save`
    /// writes, piece by piece. It comes before the weights are copied, so that what `save` copies is gone by then; the
    /// weights that the epoch began from are let go, unless what acts on the update
    /// [needs them](Outgoing::needs_start): until `publish` has ended [`weights`](Self::weights) has no tensors. Without
    /// `publish` they are back with the next call of [`next_epoch`](Self::next_epoch) or [`finish`](Self::finish).
    pub fn write_state(
        &mut self,
        save: impl FnOnce(&mut dyn Write) -> Result<(), LearnerError>,
    ) -> Result<SavedState, RunError> {
        if let (false, Ok(none)) = (self.options.outgoing.needs_start(), Weights::new(Vec::new())) {
            (self.weights, self.let_go) = (none, true);
        }
        written(&self.session, save).inspect_err(|_| self.take_back())
    }

    /// The end of the epoch's training. The weights pass through what acts on them before they
    /// [leave the node](Outgoing), are saved with the learner's state that was [written](Self::write_state), published,
    /// and folded with what the peers have. Gives the epoch that is complete, this one or a later one if the node has
    /// caught up with the others, and the weights to train on from, to be followed by [`epoch_done`](Self::epoch_done).
    ///
    /// `None` if a stop was requested while it waited: the update is published, [`next_epoch`](Self::next_epoch) gives no
    /// more, and a restart folds it.
    ///
    /// The weights of the epoch before are not held meanwhile: in memory are those that are published and those of the
    /// fold, besides the learner's own.
    ///
    /// Errors if the metrics or the weights can't be published, the home can't be written or, by configuration, too few
    /// members answered. What can't be published isn't saved either. A folder that fails is no error for an asynchronous
    /// node: that is an event, and the next epoch tries again.
    pub fn publish(
        &mut self,
        weights: Weights,
        trained: Trained,
        state: SavedState,
    ) -> Result<Option<Completed>, RunError> {
        self.settle();
        let completed = match self.exchange(weights, &trained, state) {
            Err(error) if error.is_stopped() => {
                self.cut_short = true;
                self.take_back();
                return Ok(None);
            }
            Err(error) => {
                // What can't be published can be trained again.
                self.take_back();
                return Err(error);
            }
            Ok(completed) => completed,
        };
        let under_way = self.under_way.take();
        let (began, before) = under_way.map_or((Instant::now(), Duration::ZERO), |way| (way.began, way.before));
        self.folded = Some(Folded { trained, folded: self.last_fold.take(), began, before });
        self.epoch = completed.epoch;
        self.weights = completed.weights.clone();
        self.evaluation = None;
        Ok(Some(completed))
    }

    fn exchange(&mut self, weights: Weights, trained: &Trained, state: SavedState) -> Result<Completed, RunError> {
        let epoch = self.epoch + 1;
        let metrics = metrics_of(&trained.metrics).map_err(|what| RunError::Metrics { epoch, what })?;
        let update = LocalUpdate { weights, epoch, num_examples: trained.num_examples, metrics };
        let update = self.options.outgoing.prepare(update, &self.weights);
        let update = update.map_err(RunError::learner(format!("preparing epoch {epoch} for its publication")))?;
        self.progress = None;
        self.last_fold.take();
        // Shares its bytes: those of the epoch before are on the disk.
        (self.weights, self.let_go) = (update.weights.clone(), false);
        Ok(self.session.epoch_trained(update, state)?)
    }

    /// Takes back what was let go for an epoch that was not published.
    fn regain(&mut self) {
        if self.let_go {
            self.take_back();
        }
    }

    /// Makes the weights those of the last complete epoch again, which the home has, if they can be read.
    fn take_back(&mut self) {
        match Checkpoint::newest_complete(&self.run_dir) {
            Ok(Some(checkpoint)) if checkpoint.epoch == self.epoch => {
                (self.weights, self.let_go) = (checkpoint.weights, false);
            }
            Ok(_) => tracing::warn!(epoch = self.epoch, "the home hasn't kept the last complete epoch's weights"),
            Err(error) => tracing::warn!(%error, "the last complete epoch's weights can't be read"),
        }
    }

    /// Says that the epoch is done, and records it: these are the figures of the weights after the fold, if they were
    /// measured. Does nothing without a [published](Self::publish) epoch; one that it isn't called for is done without
    /// such figures when the next one begins.
    pub fn epoch_done(&mut self, evaluation: Metrics) {
        let Some(Folded { trained, folded, began, before }) = self.folded.take() else { return };
        let FolderFigures { traffic, network, bucket, .. } = self.session.figures().folder;
        let cost = bucket.map(|figures| figures - self.paid);
        self.paid = bucket.unwrap_or_default();
        let evaluation = finite(evaluation);
        let record = EpochRecord {
            epoch: self.epoch,
            metrics: finite(trained.metrics).into_iter().chain(evaluation.clone()).collect(),
            steps: trained.steps.done,
            num_examples: trained.num_examples,
            folded,
            seconds: (before + began.elapsed()).as_secs_f64(),
            written: traffic.written,
            read: traffic.read,
            peers: network.map(|network| network.peers),
            sent: network.map(|network| network.sent),
            received: network.map(|network| network.received),
            bucket: cost,
        };
        self.evaluation = Some(evaluation);
        (self.events)(&record.event(self.last));
        self.history.push(record);
    }

    /// [Publishes](Self::publish) an epoch of a program whose weights are all it has, and says that it is
    /// [done](Self::epoch_done). [`weights`](Self::weights) are those to train on from.
    pub fn epoch_end(&mut self, weights: Weights, trained: Trained) -> Result<(), RunError> {
        self.publish(weights, trained, SavedState::default())?;
        self.settle();
        Ok(())
    }

    /// The end of the run. Publishes the newest update if the folder failed when its turn was, waits on a network until
    /// the connected peers have it, at most [`EndSettings::linger`](crate::node::EndSettings::linger), and says that the run is finished.
    ///
    /// Errors, after that, if the update is not in the folder still (the next life publishes it), or if the middle of an
    /// epoch could not be saved when a stop was requested.
    pub fn finish(&mut self) -> Result<(), RunError> {
        self.settle();
        self.regain();
        let published = self.session.finish();
        let seconds = self.options.began.elapsed().as_secs_f64();
        // A reader of the final event may kill the node, so the others must have its update first.
        self.session.hand_over(self.linger)?;
        let FolderFigures { traffic, network, bucket, .. } = self.session.figures().folder;
        (self.events)(&Event::Finished {
            epoch: self.epoch,
            metrics: self.evaluation.clone().unwrap_or_default(),
            stopped: self.epoch < self.last,
            root: self.weights.manifest().root().to_string(),
            seconds,
            written: traffic.written,
            read: traffic.read,
            peers: network.map(|network| network.peers),
            sent: network.map(|network| network.sent),
            received: network.map(|network| network.received),
            bucket,
        });
        published.map_err(RunError::Unpublished)?;
        self.unsaved.take().map_or(Ok(()), Err)
    }

    /// Answers peers until a stop is requested.
    pub fn stay(&mut self) -> Result<(), RunError> {
        Ok(self.session.stay()?)
    }

    /// The last complete epoch; 0 for a new federation.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The weights that the last complete epoch has left: those to train on from.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Where this life's first weights came from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The epochs that this life has completed.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Whether a stop was requested.
    pub fn is_stopped(&self) -> bool {
        self.cut_short || self.stop.is_requested()
    }

    /// This node's name among its peers.
    pub fn peer_id(&self) -> PeerId {
        self.home.keypair().public().to_peer_id()
    }

    /// An epoch whose weights nobody has measured is done all the same.
    fn settle(&mut self) {
        self.epoch_done(Metrics::new());
    }
}

/// A learner's state on the disk.
pub(super) fn written(
    session: &BlockingSession,
    save: impl FnOnce(&mut dyn Write) -> Result<(), LearnerError>,
) -> Result<SavedState, RunError> {
    session.write_state(|out| save(out).map_err(RunError::learner("saving the training state")))
}

/// As an entry wants them. Checked here, because what is saved for a restart must be publishable.
fn metrics_of(metrics: &Metrics) -> Result<Vec<Metric>, String> {
    if metrics.len() > MAX_METRICS {
        return Err(format!("{} of them, but at most {MAX_METRICS} are allowed", metrics.len()));
    }
    if let Some(name) = metrics.keys().find(|name| name.len() > MAX_METRIC_NAME) {
        return Err(format!("the name {name:.40?} has over {MAX_METRIC_NAME} bytes"));
    }
    Ok(metrics.iter().map(|(name, &value)| Metric { name: name.clone(), value }).collect())
}

/// JSON has no number for what isn't finite.
pub(super) fn finite(metrics: Metrics) -> Metrics {
    metrics.into_iter().filter(|(_, value)| value.is_finite()).collect()
}
