//! The callback for burn modules: a [run](crate::run) that the program's own training loop drives.

use super::{
    Draws, Partial,
    module_weights::{self, ModuleWeightsError},
    state::{self, StateError},
};
use crate::{
    home::Home,
    node::{Completed, NodeConfig, NodeError, Origin},
    run::{History, Metrics, Middle, Outgoing, Run, RunError, RunOptions, Steps, Trained},
};
use burn::{module::AutodiffModule, optim::Optimizer, tensor::backend::AutodiffBackend};
use libp2p_identity::PeerId;
use std::{io::Write, path::PathBuf};

/// Why a module can't be federated, or not any longer.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// The node can't begin or go on.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// Metrics that no entry can have.
    #[error("the metrics of epoch {epoch} are not acceptable: {what}")]
    Metrics {
        /// The epoch.
        epoch: u64,
        /// What is wrong with them.
        what: String,
    },
    /// The module's tensors can't be weights, or folded weights don't fit it.
    #[error(transparent)]
    Module(#[from] ModuleWeightsError),
    /// The training state can't be saved, or that of the checkpoint is another optimizer's.
    #[error(transparent)]
    State(#[from] StateError),
    /// What acts on the weights before they leave the node has failed.
    #[error(transparent)]
    Run(RunError),
}

impl From<RunError> for CallbackError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Node(error) | RunError::Unpublished(error) => Self::Node(error),
            RunError::Metrics { epoch, what } => Self::Metrics { epoch, what },
            RunError::Learner { doing, source } => match source.downcast::<StateError>() {
                Ok(error) => Self::State(*error),
                Err(source) => Self::Run(RunError::Learner { doing, source }),
            },
            error => Self::Run(error),
        }
    }
}

/// What a node tells of a trained epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Epoch {
    trained: Trained,
}

impl Epoch {
    /// An epoch that was trained on this many examples: how much the update counts in a mean.
    pub fn of(num_examples: u64) -> Self {
        Self { trained: Trained::on(num_examples) }
    }

    /// Adds a figure that peers may see. Of two with the same name the last one counts. At most
    /// [`MAX_METRICS`](crate::weights::MAX_METRICS), with names of at most
    /// [`MAX_METRIC_NAME`](crate::weights::MAX_METRIC_NAME) bytes, or [`on_epoch_end`](FederatedCallback::on_epoch_end)
    /// is an error.
    #[must_use]
    pub fn metric(self, name: impl Into<String>, value: f64) -> Self {
        Self { trained: self.trained.metric(name, value) }
    }

    /// Says how many steps it had, for [`Event::EpochDone`](crate::node::Event::EpochDone); 0 unless it is said.
    #[must_use]
    pub fn steps(mut self, steps: u64) -> Self {
        self.trained.steps.done = steps;
        self
    }
}

/// Federates a user's own burn module: what to call before training and at the end of each epoch.
///
/// ```no_run
/// # use peerfold::prelude::*;
/// # use burn::{backend::Autodiff, nn::LinearConfig};
/// # type B = Autodiff<Cpu>;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut model = init_seeded(LinearConfig::new(4, 1).init::<B>(&Default::default()), 0);
/// let mut optimizer = Adam::default().init();
/// let config = NodeConfig::new("demo", "file:///shared/demo".parse()?);
/// let mut federation = FederatedCallback::join(&config, "home", &mut model, &mut optimizer)?;
/// while let Some(epoch) = federation.next_epoch(10) {
///     // … train `model` for an epoch with `optimizer` …
///     federation.on_epoch_end(&mut model, &optimizer, Epoch::of(1000).metric("loss", 0.1))?;
/// }
/// # Ok(()) }
/// ```
///
/// **Blocking.** `join` and `on_epoch_end` block until they are done; the network is answered by a thread of the node's
/// own, also while the program trains. They work outside tokio and inside any of its runtimes, whose thread they block
/// as the training itself does; so does dropping it. If other tasks should run in the meantime, put the whole training
/// into `tokio::task::spawn_blocking`. To end a call that waits for peers, request the configuration's
/// [`Stop`](crate::node::Stop) from elsewhere.
///
/// **Crashes.** After each epoch the home has a checkpoint with weights, optimizer, strategy and epoch. A process that
/// ends at any moment goes on from there with `join`; an epoch that wasn't finished is trained again, and one that was
/// is never trained twice. So the run is the same, bit for bit, as long as the data of an epoch depend on its number
/// alone; see [`seed`](Self::seed), also for dropout.
///
/// **Events.** [`NodeConfig::events`] gets all that `peerfold node --json` tells, [`EpochDone`] after each epoch and
/// [`Finished`] by [`finish`](Self::finish) included. [`history`](Self::history) has the epochs.
///
/// [`EpochDone`]: crate::node::Event::EpochDone
/// [`Finished`]: crate::node::Event::Finished
///
/// **Long epochs.** The loop is the program's, so the callback can't save the middle of an epoch by itself when a stop
/// is requested or time has passed. A loop whose epochs are too long to be trained again calls
/// [`save_progress`](Self::save_progress) then, and [`resume`](Self::resume) at the beginning of an epoch:
///
/// ```no_run
/// # use peerfold::prelude::*;
/// # use burn::{backend::Autodiff, nn::{Linear, LinearConfig}};
/// # type B = Autodiff<Cpu>;
/// # fn step(_: &mut Linear<B>, _: &mut impl burn::optim::Optimizer<Linear<B>, B>, _: u64) -> f64 { 0.0 }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut model = init_seeded(LinearConfig::new(4, 1).init::<B>(&Default::default()), 0);
/// # let mut optimizer = Adam::default().init();
/// # let config = NodeConfig::new("demo", "file:///shared/demo".parse()?);
/// # let mut federation = FederatedCallback::join(&config, "home", &mut model, &mut optimizer)?;
/// while let Some(epoch) = federation.next_epoch(10) {
///     let before = federation.resume(&mut model, &mut optimizer)?.unwrap_or_default();
///     let mut loss = before.get("loss").unwrap_or(0.0);
///     for number in before.steps()..1000 {
///         loss += step(&mut model, &mut optimizer, number);
///         if federation.is_stopped() {
///             return Ok(federation.save_progress(&model, &optimizer, Partial::after(number + 1).figure("loss", loss))?);
///         }
///     }
///     federation.on_epoch_end(&mut model, &optimizer, Epoch::of(32_000).metric("loss", loss / 1000.0))?;
/// }
/// # Ok(()) }
/// ```
///
/// Dropping it leaves the federation, and makes the home free for another.
pub struct FederatedCallback<B: AutodiffBackend> {
    run: Run,
    seed: u64,
    device: B::Device,
}

impl<B: AutodiffBackend> FederatedCallback<B> {
    /// Opens the home in `home_dir` (made, with a new identity, if there is none) and the configuration's folder, and
    /// begins: from the home's checkpoint of this federation and run; else from a fold of the updates that are there;
    /// else from the module's own weights, which therefore must be the same on all nodes: make them by
    /// [`init_seeded`](super::init_seeded), or load them from one file. Model and optimizer become what to train on
    /// with.
    ///
    /// Blocks while it waits for the peers that the configuration wants at the start, and in a synchronous federation
    /// for the fold of an epoch that was trained before a restart.
    ///
    /// Errors if another process or value has the home, the folder can't be written, a stop was requested meanwhile
    /// ([`NodeError::Stopped`]), or the checkpoint is of another model, strategy or optimizer. Model and optimizer are
    /// unchanged then.
    pub fn join<M, O>(
        config: &NodeConfig,
        home_dir: impl Into<PathBuf>,
        model: &mut M,
        optimizer: &mut O,
    ) -> Result<Self, CallbackError>
    where
        M: AutodiffModule<B>,
        O: Optimizer<M, B>,
    {
        let initial = module_weights::collect(model)?;
        let home = Home::open(home_dir).map_err(NodeError::from)?;
        let mut config = config.clone();
        // As it is trained: with weights that were set.
        config.buffers.extend(module_weights::untrained(&module_weights::apply(model.clone(), &initial)?));
        let initial = (initial, Origin::Seed);
        let save = |out: &mut dyn Write| Ok(state::save_optimizer(model, optimizer, out)?);
        let (run, saved) = Run::begin(&config, home, initial, save, RunOptions::default())?;
        let mut begun_optimizer = optimizer.clone();
        if let Some(saved) = saved {
            begun_optimizer = state::restore_optimizer(model, begun_optimizer, &mut saved.reader()?)?;
        }
        (*model, *optimizer) = (module_weights::apply(model.clone(), run.weights())?, begun_optimizer);
        Ok(Self {
            seed: Draws::new("epoch seeds of a node", 0, &run.peer_id().to_bytes()).below(u64::MAX),
            device: model.devices().into_iter().next().unwrap_or_default(),
            run,
        })
    }

    /// Makes [`seed`](Self::seed) follow from this number instead of the node's identity: for runs that are to be
    /// repeated in other homes. Each node should have its own.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Makes this act on the weights between their training and their publication, from the next epoch on.
    #[must_use]
    pub fn with_outgoing(mut self, outgoing: impl Outgoing + 'static) -> Self {
        self.run.set_outgoing(outgoing);
        self
    }

    /// The epoch to train now, from 1, or `None` if epoch `last` is complete or a stop was requested. Asking again
    /// gives the same. Numbers may be left out: a synchronous node that was behind takes over the epoch of the others.
    ///
    /// Sets burn's random numbers (dropout, noise) by [`seed`](Self::seed), so that a restarted run draws the same.
    /// burn's CPU backend has one generator for the whole process: that holds only while nothing else in the process
    /// draws, so not for two nodes that train with dropout in two threads.
    pub fn next_epoch(&mut self, last: u64) -> Option<u64> {
        let epoch = self.run.next_epoch(last)?;
        B::seed(&self.device, self.seed(epoch));
        Some(epoch)
    }

    /// A number that depends on the node and the epoch only, for what must be the same when an epoch is trained again
    /// after a crash: the order of the data, their augmentation.
    pub fn seed(&self, epoch: u64) -> u64 {
        Draws::new("epoch seed", self.seed, &epoch.to_le_bytes()).below(u64::MAX)
    }

    /// Goes on in the middle of the epoch that [`next_epoch`](Self::next_epoch) gave, if it was
    /// [saved](Self::save_progress): model and optimizer become what they were then, and what is given says how far the
    /// epoch has come. `None` if the epoch begins at its beginning; a second call gives `None` too.
    ///
    /// It is up to the program to train the rest as it did the beginning (batch size, order of the data). A loop that
    /// needs the weights from which the epoch began, as FedProx does, keeps a clone of the model before.
    ///
    /// Errors if what was saved is of another model or optimizer; both are unchanged then.
    pub fn resume<M, O>(&mut self, model: &mut M, optimizer: &mut O) -> Result<Option<Partial>, CallbackError>
    where
        M: AutodiffModule<B>,
        O: Optimizer<M, B>,
    {
        let resumed = self.run.take_up(|Middle { weights, state, .. }| {
            let partial = Partial::read(state)?;
            let restored = state::restore_optimizer(model, optimizer.clone(), state)?;
            (*model, *optimizer) = (module_weights::apply(model.clone(), weights)?, restored);
            Ok::<_, CallbackError>(partial)
        })?;
        if let Some(partial) = &resumed {
            self.seed_part(partial);
        }
        Ok(resumed)
    }

    /// Saves the middle of the epoch under way, in the home: model, optimizer, and how far it has come. A process that
    /// ends after it goes on there, by [`join`](Self::join) and [`resume`](Self::resume); what was saved before is
    /// replaced, and removed with the epoch's end.
    ///
    /// burn can't report the state of its random numbers, so they are seeded again, by the number of steps. With
    /// dropout, a run that saves draws other numbers than one that doesn't, but the same as one that ends there and
    /// goes on.
    pub fn save_progress<M, O>(&mut self, model: &M, optimizer: &O, partial: Partial) -> Result<(), CallbackError>
    where
        M: AutodiffModule<B>,
        O: Optimizer<M, B>,
    {
        let steps = Steps { done: partial.steps(), interrupted: true, ..Steps::default() };
        let middle = self.run.write_middle(steps, |out| {
            partial.write(out)?;
            Ok(state::save_optimizer(model, optimizer, out)?)
        })?;
        self.run.save_progress(module_weights::collect(model)?, middle)?;
        self.seed_part(&partial);
        Ok(())
    }

    /// Sets burn's random numbers for the rest of an epoch.
    fn seed_part(&self, partial: &Partial) {
        let place = [self.run.epoch() + 1, partial.steps()].map(u64::to_le_bytes).concat();
        B::seed(&self.device, Draws::new("seed within an epoch", self.seed, &place).below(u64::MAX));
    }

    /// Publishes the model as it was trained, saves it with the optimizer, takes what the peers have, and folds: the
    /// model becomes the one to train on with. Its optimizer's moments and its parameters' ids stay.
    ///
    /// Returns the epoch that is complete: the one from [`next_epoch`](Self::next_epoch), or a later one if this node
    /// has caught up with the others. If a stop was requested while it waited, it is the epoch before, the model is as
    /// trained, `next_epoch` gives no more, and a restart folds what is published and saved already.
    ///
    /// On an error the model is unchanged. Errors if the weights are not finite, the home can't be written or, by
    /// configuration, too few members answered. For an asynchronous node a failing folder isn't an error: it is
    /// reported as an event, and the next epoch tries again.
    pub fn on_epoch_end<M, O>(&mut self, model: &mut M, optimizer: &O, report: Epoch) -> Result<u64, CallbackError>
    where
        M: AutodiffModule<B>,
        O: Optimizer<M, B>,
    {
        self.on_epoch_end_with(model, optimizer, report, |_| Metrics::new())
    }

    /// [`on_epoch_end`](Self::on_epoch_end), which then measures the model as it is after the fold: these figures are
    /// told in [`Event::EpochDone`](crate::node::Event::EpochDone) beside those of `report`, and at the end of the run.
    /// Not called if a stop has cut the epoch's end short.
    pub fn on_epoch_end_with<M, O>(
        &mut self,
        model: &mut M,
        optimizer: &O,
        report: Epoch,
        evaluate: impl FnOnce(&M) -> Metrics,
    ) -> Result<u64, CallbackError>
    where
        M: AutodiffModule<B>,
        O: Optimizer<M, B>,
    {
        // What it copies of its state is gone before there is a copy of the weights.
        let state = self.run.write_state(|out| Ok(state::save_optimizer(model, optimizer, out)?))?;
        let weights = module_weights::collect(model)?;
        if let Some(Completed { weights, .. }) = self.run.publish(weights, report.trained, state)? {
            *model = module_weights::apply(model.clone(), &weights)?;
            self.run.epoch_done(evaluate(model));
        }
        Ok(self.run.epoch())
    }

    /// Publishes the newest update if the folder failed when its turn was, and, on a network, waits until the connected
    /// peers have it, at most [`EndSettings::linger`](crate::node::EndSettings::linger), and says that the run is
    /// [finished](crate::node::Event::Finished): to be called after the last epoch. On an error the update is in the home,
    /// and the next [`join`](Self::join) publishes it.
    pub fn finish(mut self) -> Result<(), CallbackError> {
        Ok(self.run.finish()?)
    }

    /// The last complete epoch; 0 for a new federation.
    pub fn epoch(&self) -> u64 {
        self.run.epoch()
    }

    /// The epochs that this process has completed.
    pub fn history(&self) -> &History {
        self.run.history()
    }

    /// Whether a stop was requested.
    pub fn is_stopped(&self) -> bool {
        self.run.is_stopped()
    }

    /// This node's name among its peers.
    pub fn peer_id(&self) -> PeerId {
        self.run.peer_id()
    }
}
