//! One phase of a demo: runs all nodes once, from start to end.

use super::{
    DemoFlags, Kill,
    bucket::Bucket,
    cuts::{Cut, Cuts},
    directory::Directory,
    event::{ALONE, TOGETHER},
    live::Live,
    process::{Message, NodeProcess},
    table::NodeResult,
};
use crate::{
    bucket::BucketFigures,
    folder::FolderUrl,
    node::{Event, Stop},
    program::{NETWORK_DOWN, NETWORK_UP},
    train::EpochLength,
};
use anyhow::{Context, bail};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::mpsc::{self, SyncSender},
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Builder;

/// Events that may wait for the display.
const MESSAGES: usize = 256;
/// Epochs that the others complete while a killed node is away.
const AWAY_EPOCHS: u64 = 2;
/// Seconds that the others of a synchronous federation wait for a killed node, in each epoch.
const KILL_DEADLINE: u64 = 3;
/// Seconds between two looks at the bucket: a demo's epochs are short.
const POLL: f64 = 0.1;
/// Seconds that peers are waited for before the bucket is asked.
const FALLBACK_AFTER: f64 = 0.5;
/// How long nodes that have done all epochs may take to notice that all is restored.
const NOTICED_WITHIN: Duration = Duration::from_secs(120);
/// Where the nodes listen: on the loopback, so that nobody else hears of a demo.
const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";

/// How a phase ended.
pub(super) enum Outcome {
    /// Every node came to its last epoch.
    Finished(Vec<NodeResult>),
    /// A stop was requested.
    Stopped,
}

/// How nodes reach each other.
#[derive(Clone, Copy, Default)]
pub(super) struct Ways<'a> {
    /// The list by which they find each other in the network.
    pub(super) list: Option<&'a Path>,
    pub(super) bucket: Option<&'a Bucket>,
}

/// The nodes of one phase.
pub(super) struct Phase<'a> {
    flags: &'a DemoFlags,
    directory: &'a Directory,
    name: &'static str,
    ways: Ways<'a>,
}

struct Running {
    process: Option<NodeProcess>,
    result: NodeResult,
    /// What earlier processes of this node have sent and received.
    before: (u64, u64),
    /// What the bucket has cost by the end of the newest epoch of this process.
    paid: BucketFigures,
    epoch: u64,
    /// The newest epoch that this process has published.
    published: Option<u64>,
    /// Whether the network and the bucket work, as it has told last.
    routes: Option<(Option<bool>, bool)>,
    finished: bool,
    killed: bool,
}

impl<'a> Phase<'a> {
    /// The nodes reach each other.
    pub(super) fn together(flags: &'a DemoFlags, directory: &'a Directory, ways: Ways<'a>) -> Self {
        Self { flags, directory, name: TOGETHER, ways }
    }

    /// Each for itself.
    pub(super) fn alone(flags: &'a DemoFlags, directory: &'a Directory) -> Self {
        Self { flags, directory, name: ALONE, ways: Ways::default() }
    }

    fn arguments(&self, node: usize, home: PathBuf) -> Vec<OsString> {
        let flags = self.flags;
        let nodes = usize::from(flags.nodes);
        let Ways { list, bucket } = self.ways;
        let folder = match (list, bucket) {
            (Some(_), _) => FolderUrl::P2p.to_string(),
            (None, Some(bucket)) => bucket.url(),
            (None, None) => FolderUrl::Memory.to_string(),
        };
        let mut arguments: Vec<OsString> = vec!["node".into(), "--json".into(), "--end-with-stdin".into()];
        let mut set = |name: &str, value: OsString| arguments.extend([format!("--{name}").into(), value]);
        set("federation", "demo".into());
        set("folder", folder.into());
        set("home", home.into());
        set("dataset", flags.dataset.to_string().into());
        set("partition", format!("{node}/{nodes}").into());
        set("skew", flags.skew.to_string().into());
        set("epochs", flags.epochs().to_string().into());
        match flags.length() {
            EpochLength::Steps(steps) => set("steps-per-epoch", steps.to_string().into()),
            EpochLength::Period(period) => set("period", period.as_secs_f64().to_string().into()),
        }
        set("seed", flags.seed.to_string().into());
        set("threads", flags.threads().to_string().into());
        if let Some(dir) = &flags.data_dir {
            set("data-dir", dir.into());
        }
        if let Some(list) = list {
            set("bootstrap", list.into());
            set("listen", LISTEN.into());
            if let Some(bucket) = bucket {
                set("fallback", bucket.url().into());
                set("fallback-after", FALLBACK_AFTER.to_string().into());
            }
        }
        if let Some(bucket) = bucket {
            set("s3-endpoint", bucket.endpoint().into());
            set("s3-poll", POLL.to_string().into());
            set("s3-poll-idle", POLL.to_string().into());
        }
        if list.is_some() || bucket.is_some() {
            set("strategy", flags.strategy.clone().into());
            flags.param.iter().for_each(|param| set("param", param.into()));
            set("min-peers", (nodes - 1).to_string().into());
            if flags.sync {
                set("nodes", nodes.to_string().into());
                if flags.kill.is_some() {
                    set("quorum", (nodes - 1).max(1).to_string().into());
                    set("deadline", KILL_DEADLINE.to_string().into());
                }
                arguments.push("--sync".into());
            }
        }
        if list.is_some() {
            // Each stays until all are done, so that a node that was killed finds the others when it comes back.
            arguments.extend(["--no-mdns".into(), "--stay".into()]);
        }
        if bucket.is_some() {
            arguments.push("--s3-allow-http".into());
        }
        arguments
    }

    fn start(&self, node: usize, messages: &SyncSender<Message>) -> anyhow::Result<NodeProcess> {
        let home = self.directory.home(&format!("{}-{node}", self.name))?;
        let keys = self.ways.bucket.into_iter().flat_map(Bucket::keys);
        NodeProcess::start(node, self.arguments(node, home), keys, messages.clone())
    }

    /// Runs the nodes and shows what they do. An error names the node that failed, and its reason; the others are
    /// killed.
    pub(super) fn run(&self, live: &Live, stop: &Stop) -> anyhow::Result<Outcome> {
        let (sender, messages) = mpsc::sync_channel(MESSAGES);
        forward_stop(stop.clone(), sender.clone())?;
        let mut kill = self.flags.kill.filter(|_| self.name == TOGETHER);
        let nodes = usize::from(self.flags.nodes);
        let mut cuts = match self.flags.cut && self.name == TOGETHER {
            true => Cuts::over(self.flags.epochs()),
            false => Cuts::none(),
        };
        live.begin(self.name, nodes, self.flags.epochs());
        let mut running = Vec::new();
        for node in 0..nodes {
            running.push(Running {
                process: Some(self.start(node, &sender)?),
                result: NodeResult::default(),
                before: (0, 0),
                paid: BucketFigures::default(),
                epoch: 0,
                published: None,
                routes: None,
                finished: false,
                killed: false,
            });
        }
        let mut names = BTreeMap::new();
        // Which ways are open since the last cut.
        let (mut open, mut awaited) = ((true, true), None);
        let mut all_finished = None;
        loop {
            let slow = awaited.and_then(|awaited| running.iter().position(|node| node.routes != Some(awaited)));
            let message = match (running.iter().any(|node| !node.finished || node.killed), slow) {
                (false, None) => break,
                // They stay, so each will have noticed what is open again.
                (false, Some(slow)) => {
                    let passed = all_finished.get_or_insert_with(Instant::now).elapsed();
                    messages.recv_timeout(NOTICED_WITHIN.saturating_sub(passed)).with_context(|| {
                        let seconds = NOTICED_WITHIN.as_secs();
                        format!("node {slow} has not noticed within {seconds} s that all is restored")
                    })
                }
                (true, _) => messages.recv().context("the nodes' events have ended"),
            };
            match message? {
                Message::Stop => return Ok(Outcome::Stopped),
                Message::Event(number, timed) => {
                    let event = &timed.event;
                    if let Event::Started { peer, .. } = event {
                        names.insert(peer.clone(), format!("node {number}"));
                    }
                    live.event(number, &timed, &names);
                    let node = running.get_mut(number).context("an event of an unknown node")?;
                    node.note(event);
                    // Whoever has heard of nobody yet would be through with its epochs before this one is back.
                    if let Some(Kill { node: victim, epoch }) = kill
                        && let Some(now) = running[victim].published.filter(|&now| now >= epoch)
                        && others(&running, victim).all(|other| other.finished || other.result.dealings.has_received())
                        && running[victim].kill()?
                    {
                        kill = Some(Kill { node: victim, epoch: now });
                        live.note(victim, &format!("killed with SIGKILL in its epoch {now}"));
                    }
                }
                Message::Ended(number) => {
                    let node = running.get_mut(number).context("the end of an unknown node")?;
                    let Some(process) = node.process.take() else { continue };
                    let reason = process.wait()?;
                    if node.killed {
                        live.status(number, "killed; the others go on");
                    }
                    if !node.killed
                        && let Some(reason) = reason.or_else(|| node.unfinished())
                    {
                        bail!("node {number} failed: {reason}");
                    }
                }
            }
            let done = running.iter().map(Running::done).min().unwrap_or_default();
            // The next comes when every node has noticed the one before, however slow this machine is.
            while running.iter().all(|node| awaited.is_none_or(|awaited| node.routes == Some(awaited)))
                && let Some(cut) = cuts.due(done)
            {
                self.cut(cut, &mut running, live)?;
                match cut {
                    Cut::NetworkDown | Cut::NetworkUp => open.0 = cut == Cut::NetworkUp,
                    Cut::BucketDown | Cut::BucketUp => open.1 = cut == Cut::BucketUp,
                }
                awaited = Some((Some(open.0), open.1));
            }
            if let Some(Kill { node: victim, epoch }) = kill
                && running[victim].killed
                && running[victim].process.is_none()
                && others_are_at(&running, victim, epoch.saturating_add(AWAY_EPOCHS))
            {
                // Only once: the node publishes the same epoch again.
                kill = None;
                running[victim].process = Some(self.start(victim, &sender)?);
                running[victim].restarted();
                live.note(victim, "started again");
                live.status(victim, "starting again");
            }
        }
        live.end();
        Ok(Outcome::Finished(running.into_iter().map(|node| node.result).collect()))
    }

    fn cut(&self, cut: Cut, running: &mut [Running], live: &Live) -> anyhow::Result<()> {
        let mut tell =
            |order: &str| running.iter_mut().filter_map(|node| node.process.as_mut()).for_each(|n| n.tell(order));
        match (cut, self.ways.bucket) {
            (Cut::NetworkDown, _) => {
                tell(NETWORK_DOWN);
                live.announce("the network is cut: no node has a connection to another");
            }
            (Cut::NetworkUp, _) => {
                tell(NETWORK_UP);
                live.announce("the network is restored");
            }
            (Cut::BucketDown, Some(bucket)) => {
                bucket.cut();
                live.announce("the bucket is cut: its server is killed");
            }
            (Cut::BucketUp, Some(bucket)) => {
                bucket.resume()?;
                live.announce("the bucket is restored: its server is started again");
            }
            (Cut::BucketDown | Cut::BucketUp, None) => {}
        }
        Ok(())
    }
}

impl Running {
    fn note(&mut self, event: &Event) {
        self.result.dealings.note(event);
        match event {
            Event::Started { peer, .. } => self.result.peer.clone_from(peer),
            Event::Published { epoch, num_examples, .. } => {
                self.published = Some(*epoch);
                self.result.num_examples = *num_examples;
            }
            Event::Routes { network, bucket, .. } => self.routes = Some((*network, *bucket)),
            Event::EpochDone { epoch, seconds, sent, received, bucket, .. } => {
                self.epoch = *epoch;
                self.moved(*sent, *received);
                self.pays(bucket.map(|bucket| self.paid + bucket));
                self.result.seconds += seconds;
            }
            Event::Finished { metrics, stopped, peers, sent, received, bucket, .. } => {
                self.pays(*bucket);
                self.finished = !stopped;
                self.result.accuracy = metrics.get("accuracy").copied().unwrap_or(f64::NAN);
                self.result.peers = peers.unwrap_or_default();
                self.moved(*sent, *received);
            }
            _ => {}
        }
    }

    /// Kills its process. Says whether there was one that is not yet being killed.
    fn kill(&mut self) -> anyhow::Result<bool> {
        let Some(process) = self.process.as_mut().filter(|_| !self.killed) else { return Ok(false) };
        process.kill()?;
        self.killed = true;
        Ok(true)
    }

    fn moved(&mut self, sent: Option<u64>, received: Option<u64>) {
        self.result.sent = self.before.0 + sent.unwrap_or_default();
        self.result.received = self.before.1 + received.unwrap_or_default();
    }

    /// What the bucket has cost this process so far.
    fn pays(&mut self, paid: Option<BucketFigures>) {
        let Some(paid) = paid else { return };
        self.result.bucket = Some(self.result.bucket.unwrap_or_default() + (paid - self.paid));
        self.paid = paid;
    }

    /// Epochs it has completed: all of them, if it has ended.
    fn done(&self) -> u64 {
        if self.finished { u64::MAX } else { self.epoch }
    }

    fn restarted(&mut self) {
        self.paid = BucketFigures::default();
        self.published = None;
        self.routes = None;
        self.killed = false;
        self.finished = false;
        self.before = (self.result.sent, self.result.received);
    }

    fn unfinished(&self) -> Option<String> {
        (!self.finished).then(|| format!("it ended after epoch {}", self.epoch))
    }
}

fn others(running: &[Running], victim: usize) -> impl Iterator<Item = &Running> {
    running.iter().enumerate().filter(move |(number, _)| *number != victim).map(|(_, node)| node)
}

/// Whether all others have reached this epoch or their end.
fn others_are_at(running: &[Running], victim: usize, epoch: u64) -> bool {
    others(running, victim).all(|node| node.epoch >= epoch || node.finished)
}

/// Sends a message when the stop is requested.
fn forward_stop(stop: Stop, messages: SyncSender<Message>) -> anyhow::Result<()> {
    let runtime = Builder::new_current_thread().build().context("starting the stop thread")?;
    thread::spawn(move || {
        runtime.block_on(stop.requested());
        let _ = messages.send(Message::Stop);
    });
    Ok(())
}
