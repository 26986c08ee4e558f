//! A node: its run on a thread of its own, and how Python's threads wait for it.
//!
//! The thread owns the [`Run`] and does one job after the other, so nothing of it holds the GIL. A thread of Python's
//! that waits for a job has released the GIL too; a few times a second it looks whether a signal has come. If its handler
//! raises, as Ctrl-C's does, a stop is requested, and the exception is raised as soon as the job has ended, or after
//! [`GRACE`] if it can't be stopped, as a fold under way can't: it ends on the node's own thread.

use crate::{
    arrays::{self, Given},
    errors::Failure,
    events::{EventQueue, Events},
    options,
    rules::GivenRule,
    state::{GivenState, State},
};
use peerfold::{
    bucket::{BucketKeys, BucketSettings},
    folder::{FolderUrl, MemoryStorage},
    home::Home,
    node::{AsyncOptions, NodeConfig, NodeError, Origin, Pace, Stop, SyncOptions},
    run::{Metrics, Middle, Run, RunError, RunOptions, Steps, Trained},
    secret::SecretSettings,
    settings::{Settings, Value, Values, Written},
    weights::Weights,
};
use pyo3::{
    prelude::*,
    types::{PyDict, PyList},
};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

/// How often a waiting thread looks for signals.
const SIGNALS: Duration = Duration::from_millis(50);
/// For how long an interrupted job is waited for.
const GRACE: Duration = Duration::from_secs(2);
/// Longest that the end of a node is waited for.
const MAX_CLOSE: Duration = Duration::from_secs(120);

/// What several nodes of this process share: the memory behind `InMemoryFolder`.
#[pyclass(frozen, module = "peerfold._native")]
pub(crate) struct Memory(MemoryStorage);

#[pymethods]
impl Memory {
    #[new]
    fn new() -> Self {
        Self(MemoryStorage::new())
    }
}

type Job = Box<dyn FnOnce(&mut Life) + Send>;

/// What the node's thread has.
struct Life {
    config: NodeConfig,
    home_dir: PathBuf,
    recipe: BTreeMap<String, String>,
    /// Open from the first question for it until the run has it.
    home: Option<Home>,
    run: Option<Run>,
    /// The last epoch that was asked for, if the program asks.
    last: u64,
}

impl Life {
    fn home(&mut self) -> Result<Home, Failure> {
        match self.home.take() {
            Some(home) => Ok(home),
            None => Ok(Home::open(&self.home_dir).map_err(NodeError::from)?),
        }
    }

    fn run(&mut self) -> Result<&mut Run, Failure> {
        self.run.as_mut().ok_or_else(|| Failure::usage("this node has not begun: call begin(weights) first"))
    }

    fn begin(&mut self, initial: Weights, state: &State) -> Result<State, Failure> {
        if self.run.is_some() {
            return Err(Failure::usage("this node has begun already"));
        }
        let home = self.home()?;
        let options = RunOptions { recipe: self.recipe.clone(), ..RunOptions::default() };
        let begun = Run::begin(&self.config, home, (initial, Origin::Seed), |out| state.write(out), options);
        let (run, saved) = begun?;
        self.run = Some(run);
        State::saved(saved)
    }

    fn peer_id(&mut self) -> Result<String, Failure> {
        if let Some(run) = &self.run {
            return Ok(run.peer_id().to_string());
        }
        let home = self.home()?;
        let peer_id = home.keypair().public().to_peer_id().to_string();
        self.home = Some(home);
        Ok(peer_id)
    }
}

/// Says that the thread has ended, however it ends.
struct Ended {
    ended: Arc<(Mutex<bool>, Condvar)>,
    events: EventQueue,
}

impl Drop for Ended {
    fn drop(&mut self) {
        *self.ended.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.1.notify_all();
        self.events.close();
    }
}

/// No job is under way, however it ends.
struct Idle(Arc<AtomicBool>);

impl Drop for Idle {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What the handles in Python need of the thread. In a child of `fork` the thread isn't there, and this is left alone:
/// the locks in it may be held by threads that no longer are.
struct Handle {
    jobs: Mutex<Option<SyncSender<Job>>>,
    busy: Arc<AtomicBool>,
    ended: Arc<(Mutex<bool>, Condvar)>,
    events: EventQueue,
    stop: Stop,
}

/// A node of a federation.
#[pyclass(frozen, module = "peerfold._native")]
pub(crate) struct Node {
    /// `None` only while it is dropped.
    handle: Option<Handle>,
    process: u32,
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.process != process::id() {
            std::mem::forget(self.handle.take());
        } else if let Some(handle) = &self.handle {
            handle.stop.request();
        }
    }
}

impl Node {
    fn handle(&self) -> Result<&Handle, Failure> {
        if self.process != process::id() {
            return Err(Failure::new(
                "ForkError",
                format!(
                    "this node belongs to process {}, and fork() has copied none of its threads into this one: make the \
                     node after the fork, or start processes by multiprocessing's \"spawn\"",
                    self.process
                ),
            ));
        }
        self.handle.as_ref().ok_or_else(closed)
    }

    /// Has the node's thread do this, and waits for it.
    fn ask<T: Send + 'static>(
        &self,
        py: Python<'_>,
        job: impl FnOnce(&mut Life) -> Result<T, Failure> + Send + 'static,
    ) -> PyResult<T> {
        let handle = self.handle()?;
        let jobs = handle.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)?;
        if handle.busy.swap(true, Ordering::AcqRel) {
            let what =
                "this node is in another call, of another thread or one that was interrupted; it does one at a time";
            return Err(Failure::usage(what).into());
        }
        let idle = Idle(handle.busy.clone());
        let (done, mut waiting) = mpsc::sync_channel(1);
        let job: Job = Box::new(move |life| {
            let result = job(life);
            drop(idle);
            // The receiver may have been interrupted.
            _ = done.send(result);
        });
        // It takes jobs one by one, so there is room for this one.
        jobs.send(job).map_err(|_| closed())?;
        drop(jobs);
        loop {
            let came;
            (came, waiting) = py.detach(move || (waiting.recv_timeout(SIGNALS), waiting));
            match came {
                Ok(result) => return Ok(result?),
                Err(RecvTimeoutError::Disconnected) => {
                    let what = "the node's thread has failed; make the node anew, and it goes on from its checkpoint";
                    return Err(Failure::new("Error", what).into());
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(interrupt) = py.check_signals() {
                        handle.stop.request();
                        py.detach(move || _ = waiting.recv_timeout(GRACE));
                        return Err(interrupt);
                    }
                }
            }
        }
    }
}

fn closed() -> Failure {
    Failure::usage("this node is closed; make it anew, and it goes on from its checkpoint")
}

/// How a node is made: what isn't a setting of a layer.
#[derive(FromPyObject)]
pub(crate) struct Making<'py> {
    folder: String,
    memory: Option<Bound<'py, Memory>>,
    federation: String,
    run: String,
    home: PathBuf,
    rule: GivenRule<'py>,
    num_nodes: Option<usize>,
    seed: u64,
    keys: Option<(String, String)>,
    hyperparameters: BTreeMap<String, String>,
    distinct: BTreeMap<String, String>,
    recipe: BTreeMap<String, String>,
}

/// A layer's settings.
fn read<T: Settings>(values: &Values) -> Result<T, Failure> {
    Ok(T::read(values)?)
}

/// Those of a synchronous node: all others are waited for at its start, and all are needed, unless it is said otherwise.
fn pace(values: &mut Values, num_nodes: Option<usize>, seed: u64) -> Result<Pace, Failure> {
    let Some(nodes) = num_nodes else { return Ok(Pace::Async(AsyncOptions { seed, ..read(values)? })) };
    values.insert("nodes".to_owned(), Written::Whole(nodes as u64));
    values.entry("quorum".to_owned()).or_insert(Written::Whole(nodes as u64));
    values.entry("min-peers".to_owned()).or_insert(Written::Whole(nodes.saturating_sub(1) as u64));
    let options: SyncOptions = read(values)?;
    if options.quorum > nodes {
        let what = format!("quorum = {}: there are only {nodes} nodes (num_nodes)", options.quorum);
        return Err(Failure::new("SettingError", what));
    }
    Ok(Pace::Sync(options))
}

fn config(making: Making<'_>, mut values: Values, events: &EventQueue, stop: &Stop) -> Result<NodeConfig, Failure> {
    let folder = FolderUrl::read(&Written::Text(making.folder))
        .map_err(|unfit| Failure::new("SettingError", format!("folder: {}", unfit.what)))?;
    if making.federation.is_empty() {
        return Err(Failure::new("SettingError", "federation = '': a federation has a name"));
    }
    let pace = pace(&mut values, making.num_nodes, making.seed)?;
    let config = NodeConfig {
        run: making.run,
        network: read(&values)?,
        secret: read::<SecretSettings>(&values)?.secret.map(|file| file.secret),
        bucket: read::<BucketSettings>(&values)?,
        bucket_keys: making.keys.map(|(id, secret)| BucketKeys::new(id, secret)),
        cache: read(&values)?,
        strategy: making.rule.choice()?,
        pace,
        start: read(&values)?,
        checks: read(&values)?,
        trust: read(&values)?,
        end: read(&values)?,
        publish: read(&values)?,
        hyperparameters: making.hyperparameters,
        distinct: making.distinct,
        memory: making.memory.map(|memory| memory.get().0.clone()).unwrap_or_default(),
        events: events.sink(),
        stop: stop.clone(),
        ..NodeConfig::new(making.federation, folder)
    };
    config.check()?;
    Ok(config)
}

/// What [`Node::begin`] gives: weights, the last complete epoch, where the weights came from, the saved state.
type Begun = (Py<PyList>, u64, &'static str, Py<PyAny>);
/// What [`Node::take_up`] gives: steps done, weights, the state after them.
type TakenUp = (u64, Py<PyList>, Py<PyAny>);

#[pymethods]
impl Node {
    /// A node that has not begun. Opens nothing yet, but reads the files that options name.
    #[new]
    fn new(making: Making<'_>, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        let (events, stop) = (EventQueue::default(), Stop::new());
        let (home_dir, recipe) = (making.home.clone(), making.recipe.clone());
        let config = config(making, options::values(options)?, &events, &stop)?;
        let (jobs, taken) = mpsc::sync_channel::<Job>(1);
        let ended = Ended { ended: Arc::default(), events: events.clone() };
        let handle =
            Handle { jobs: Mutex::new(Some(jobs)), busy: Arc::default(), ended: ended.ended.clone(), events, stop };
        let live = move || {
            let ended = ended;
            let mut life = Life { config, home_dir, recipe, home: None, run: None, last: 0 };
            while let Ok(job) = taken.recv() {
                if catch_unwind(AssertUnwindSafe(|| job(&mut life))).is_err() {
                    // What is on the disk is whole; what is in memory may not be.
                    life.run = None;
                }
            }
            drop(life);
            drop(ended);
        };
        let thread = thread::Builder::new().name("peerfold-node".to_owned()).spawn(live);
        thread.map_err(|error| Failure::new("Error", format!("this node's thread can't be started: {error}")))?;
        Ok(Self { handle: Some(handle), process: process::id() })
    }

    /// Where the node's events are taken.
    #[getter]
    fn events(&self) -> PyResult<Events> {
        Ok(Events(self.handle()?.events.clone()))
    }

    /// This node's name among its peers. Opens the home.
    fn peer_id(&self, py: Python<'_>) -> PyResult<String> {
        self.ask(py, Life::peer_id)
    }

    /// Begins; see `Run::begin`.
    fn begin(&self, py: Python<'_>, given: Vec<Given<'_>>, state: Option<GivenState<'_>>) -> PyResult<Begun> {
        let (initial, state) = (arrays::weights_of(given)?, State::given(state)?);
        let (weights, epoch, origin, state) = self.ask(py, move |life| {
            let state = life.begin(initial, &state)?;
            let run = life.run()?;
            Ok((run.weights().clone(), run.epoch(), run.origin(), state))
        })?;
        let origin = match origin {
            Origin::Seed => "seed",
            Origin::Init => "init",
            Origin::Fold => "fold",
            Origin::Checkpoint => "checkpoint",
        };
        Ok((arrays::views(py, &weights)?.unbind(), epoch, origin, state.into_python(py)?))
    }

    /// Whether it has begun.
    fn has_begun(&self, py: Python<'_>) -> PyResult<bool> {
        self.ask(py, |life| Ok(life.run.is_some()))
    }

    /// See `Run::next_epoch`.
    fn next_epoch(&self, py: Python<'_>, last: u64) -> PyResult<Option<u64>> {
        self.ask(py, move |life| {
            life.last = last;
            Ok(life.run()?.next_epoch(last))
        })
    }

    /// See `Run::take_up`.
    fn take_up(&self, py: Python<'_>) -> PyResult<Option<TakenUp>> {
        let taken_up = self.ask(py, |life| {
            let run = life.run()?;
            let middle = run.take_up(|Middle { steps, weights, state, .. }| {
                State::read(state).map(|state| (steps.done, weights.clone(), state)).map_err(Reason)
            });
            middle.map_err(|Reason(failure)| failure)
        })?;
        let Some((steps, weights, state)) = taken_up else { return Ok(None) };
        Ok(Some((steps, arrays::views(py, &weights)?.unbind(), state.into_python(py)?)))
    }

    /// See `Run::save_progress`.
    fn save_progress(
        &self,
        py: Python<'_>,
        given: Vec<Given<'_>>,
        steps: u64,
        state: Option<GivenState<'_>>,
    ) -> PyResult<()> {
        let (weights, state) = (arrays::weights_of(given)?, State::given(state)?);
        self.ask(py, move |life| {
            let run = life.run()?;
            let steps = Steps { done: steps, ..Steps::default() };
            let middle = run.write_middle(steps, |out| state.write(out))?;
            Ok(run.save_progress(weights, middle)?)
        })
    }

    /// The end of an epoch: see `Run::publish`. `None` if a stop was requested while it waited.
    fn update(
        &self,
        py: Python<'_>,
        given: Vec<Given<'_>>,
        num_examples: u64,
        metrics: Metrics,
        state: Option<GivenState<'_>>,
    ) -> PyResult<Option<(Py<PyList>, u64)>> {
        let (weights, state) = (arrays::weights_of(given)?, State::given(state)?);
        let trained = Trained { metrics, ..Trained::on(num_examples) };
        let completed = self.ask(py, move |life| {
            let last = life.last;
            let run = life.run()?;
            if run.is_stopped() {
                return Err(RunError::from(NodeError::Stopped).into());
            }
            // A loop that never asks for an epoch's number has one more each time.
            run.next_epoch(last.max(run.epoch().saturating_add(1)));
            let state = run.write_state(|out| state.write(out))?;
            Ok(run.publish(weights, trained, state)?)
        })?;
        let Some(completed) = completed else { return Ok(None) };
        Ok(Some((arrays::views(py, &completed.weights)?.unbind(), completed.epoch)))
    }

    /// See `Run::epoch_done`.
    fn evaluated(&self, py: Python<'_>, metrics: Metrics) -> PyResult<()> {
        self.ask(py, move |life| {
            life.run()?.epoch_done(metrics);
            Ok(())
        })
    }

    /// The weights that the last complete epoch has left.
    fn weights(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        let weights = self.ask(py, |life| Ok(life.run()?.weights().clone()))?;
        Ok(arrays::views(py, &weights)?.unbind())
    }

    /// The last complete epoch.
    fn epoch(&self, py: Python<'_>) -> PyResult<u64> {
        self.ask(py, |life| Ok(life.run()?.epoch()))
    }

    /// See `Run::finish`.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, |life| Ok(life.run()?.finish()?))
    }

    /// See `Run::stay`.
    fn stay(&self, py: Python<'_>) -> PyResult<()> {
        self.ask(py, |life| Ok(life.run()?.stay()?))
    }

    /// Requests a stop, of any thread: whatever waits for peers ends.
    fn stop(&self) -> PyResult<()> {
        self.handle()?.stop.request();
        Ok(())
    }

    /// Whether a stop was requested.
    fn is_stopped(&self) -> PyResult<bool> {
        Ok(self.handle()?.stop.is_requested())
    }

    /// Leaves the federation and makes the home free. Waits so many seconds for what is under way, or until a signal's
    /// handler raises; `False` if that hasn't ended by then. Does nothing in a child of `fork`.
    fn close(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        if self.process != process::id() {
            return Ok(true);
        }
        let Some(handle) = &self.handle else { return Ok(true) };
        handle.stop.request();
        drop(handle.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let until = Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or_default().min(MAX_CLOSE);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let ended = py.detach(|| {
                let ended = handle.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = handle.ended.1.wait_timeout_while(ended, left.min(SIGNALS), |ended| !*ended);
                *waited.unwrap_or_else(PoisonError::into_inner).0
            });
            if ended || left.is_zero() {
                return Ok(ended);
            }
            py.check_signals()?;
        }
    }
}

/// Why a saved state can't be used, in words for the event about it.
struct Reason(Failure);

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.message())
    }
}
