//! `peerfold demo`: several nodes as processes of this machine, first learning together, then each alone.
//!
//! The nodes are `peerfold node` processes with homes of their own in one temporary directory. They find each other
//! through a bootstrap node, or meet in a bucket of an S3 server, which are processes too, and share nothing but
//! sockets; the demo reads their events. Nothing is left behind, whatever happens to the demo: each node ends when its
//! standard input does, and a guard process that outlives the demo removes the directory once the nodes are gone.

mod bootstrap;
mod bucket;
#[cfg(feature = "demo-s3")]
mod bucket_server;
mod cuts;
mod directory;
mod event;
mod live;
mod phase;
mod process;
mod table;
mod verdict;

#[cfg(feature = "demo-s3")]
pub(crate) use bucket_server::serve as serve_bucket;
pub(crate) use directory::guard;
pub(crate) use event::DemoLine;

use crate::{
    experiment::DataSettings,
    node::Stop,
    program::{did_you_mean, of_flag, one_line, stop_on_signals, strategy_of},
    settings::{Form, Settings, Written},
    train::{EpochLength, Model, ParseModelError, RunSettings},
};
use anyhow::{anyhow, bail};
use bootstrap::Bootstrap;
use bucket::Bucket;
use clap::{Args, ValueEnum};
use cuts::Cuts;
use directory::Directory;
use live::Live;
use phase::{Outcome, Phase, Ways};
use std::{
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    thread,
    time::{Duration, Instant},
};
use table::Summary;
use verdict::Dealings;

/// How long an epoch is in a demo that cuts something, unless it is said.
const CUT_PERIOD: Duration = Duration::from_millis(300);
/// Exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

#[derive(Args, Clone)]
pub(crate) struct DemoFlags {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Epochs of each node. [default: 8, with --cut 32]
    #[arg(long, value_name = "E", value_parser = clap::value_parser!(u64).range(1..))]
    epochs: Option<u64>,
    /// Where the nodes meet: p2p is the network, s3 a bucket on an S3 server that the demo starts for itself.
    #[arg(long, default_value = "p2p", value_name = "KIND")]
    folder: Meeting,
    /// Put such a bucket behind the network.
    #[arg(long)]
    fallback: bool,
    /// Cut the network for a quarter of the epochs, then the bucket.
    #[arg(long, requires = "fallback")]
    cut: bool,
    /// What to learn: digits (embedded) or mnist (in --data-dir).
    #[arg(long, default_value = "digits", value_name = "NAME", value_parser = parse_model)]
    dataset: Model,
    /// Directory with MNIST's files, or with a folder mnist of them.
    #[arg(long, env = "PEERFOLD_DATA", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Label skew: the probability with which an example goes to the node that owns its label.
    #[arg(long, default_value_t = 0.9, value_name = "0..1")]
    skew: f64,
    /// Training steps between two folds. [default: digits 60, mnist 100, with --cut a period of 0.3 s]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
    steps_per_epoch: Option<u64>,
    /// Instead: train for so long between two folds, as many steps as fit.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "steps_per_epoch")]
    period: Option<f64>,
    /// Threads that train in each node. [default: the machine's processors shared by the nodes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// How to fold: see `peerfold strategies`.
    #[arg(long, default_value = "fedavg", value_name = "NAME")]
    strategy: String,
    /// A parameter of the strategy; may be given several times.
    #[arg(long, value_name = "K=V")]
    param: Vec<String>,
    /// Wait after each epoch for the others' updates of that epoch.
    #[arg(long)]
    sync: bool,
    /// Kill a node with SIGKILL in one of its epochs, and start it again two epochs later: 1@3 is node 1, epoch 3, or a
    /// later one if another node has received nothing by then.
    #[arg(long, value_name = "NODE@EPOCH")]
    kill: Option<Kill>,
    /// Decides partition, first weights and data order.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
    /// Write events as JSON lines instead of text: those of the nodes with the node's number, then a summary.
    #[arg(long)]
    json: bool,
}

/// Where the nodes of a demo meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Meeting {
    P2p,
    S3,
}

/// Which node is killed, and in which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kill {
    node: usize,
    epoch: u64,
}

impl FromStr for Kill {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('@').and_then(|(node, epoch)| Some((node.parse().ok()?, epoch.parse().ok()?)));
        let (node, epoch) = parsed.ok_or("write NODE@EPOCH: 1@3 kills node 1 in its epoch 3")?;
        if epoch == 0 {
            return Err("epochs are numbered from 1".to_owned());
        }
        Ok(Self { node, epoch })
    }
}

fn parse_model(name: &str) -> Result<Model, String> {
    let meant = || did_you_mean(name, Model::ALL.map(Model::name));
    name.parse().map_err(|error: ParseModelError| format!("{error}{}", meant()))
}

fn seconds(text: &str) -> Result<f64, String> {
    match Form::Seconds.read_text(text)? {
        Written::Number(seconds) => Ok(seconds),
        other => Err(format!("{other} is no number")),
    }
}

/// Checks a number by what the layer says whose setting it is for the nodes.
fn check<T: Settings>(key: &str, number: f64) -> anyhow::Result<()> {
    let checked = T::field(key).map_or(Ok(()), |field| field.check(&Written::Number(number)));
    checked.map_err(|mistake| anyhow!(of_flag(&mistake)))
}

impl DemoFlags {
    fn epochs(&self) -> u64 {
        self.epochs.unwrap_or(if self.cut { 32 } else { 8 })
    }

    fn has_bucket(&self) -> bool {
        self.fallback || self.folder == Meeting::S3
    }

    fn threads(&self) -> usize {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(|| (processors / usize::from(self.nodes)).max(1), usize::from)
    }

    fn length(&self) -> EpochLength {
        match self.period {
            Some(seconds) => EpochLength::Period(Duration::from_secs_f64(seconds)),
            // Long enough to see what a cut does.
            None if self.cut && self.steps_per_epoch.is_none() => EpochLength::Period(CUT_PERIOD),
            None => EpochLength::Steps(self.steps_per_epoch.unwrap_or(match self.dataset {
                Model::Digits => 60,
                Model::Mnist => 100,
            })),
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        check::<DataSettings>("skew", self.skew)?;
        if let Some(period) = self.period {
            check::<RunSettings>("period", period)?;
        }
        strategy_of(&self.strategy, &self.param).map_err(|mistake| anyhow!(of_flag(&mistake)))?;
        if let Some(kill) = self.kill {
            let last = usize::from(self.nodes) - 1;
            if kill.node > last {
                bail!("--kill {}@{}: nodes are numbered from 0 to {last}", kill.node, kill.epoch);
            }
            if kill.epoch > self.epochs() {
                bail!("--kill {}@{}: there are only {} epochs", kill.node, kill.epoch, self.epochs());
            }
        }
        if self.fallback && self.folder != Meeting::P2p {
            bail!("--fallback: --folder s3 is no network for a bucket to be behind");
        }
        if self.cut && self.epochs() < Cuts::LEAST_EPOCHS {
            bail!("--cut needs at least {} epochs", Cuts::LEAST_EPOCHS);
        }
        if self.has_bucket() && cfg!(not(feature = "demo-s3")) {
            bail!("this program was built without the demo's S3 server: build it with the feature demo-s3");
        }
        if self.dataset == Model::Mnist && self.data_dir.is_none() {
            bail!("--dataset mnist needs --data-dir (or PEERFOLD_DATA), a directory with MNIST's four files");
        }
        Ok(())
    }
}

/// Runs the demo. Exit code 130 after Ctrl-C; an error if a node fails, or if one of several never folded what another
/// has learned.
pub(crate) fn run(flags: &DemoFlags) -> anyhow::Result<ExitCode> {
    flags.check()?;
    let stop = Stop::new();
    stop_on_signals(stop.clone())?;
    let live = Live::new(flags.json, stop.clone());
    let shown = show(flags, &live, &stop);
    live.end();
    match shown {
        Ok(Some(summary)) => {
            live.summary(&summary);
            live.check()?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(None) => {
            live.stopped();
            live.check()?;
            Ok(ExitCode::from(INTERRUPTED))
        }
        Err(error) => {
            live.failed(&one_line(&error));
            Err(error)
        }
    }
}

/// Shows both phases; `None` if a stop was requested.
fn show(flags: &DemoFlags, live: &Live, stop: &Stop) -> anyhow::Result<Option<Summary>> {
    let began = Instant::now();
    let directory = Directory::create()?;
    let (length, alike) = match flags.length() {
        EpochLength::Steps(steps) => (format!("{steps} steps"), "number of steps"),
        EpochLength::Period(period) => (format!("{} seconds", period.as_secs_f64()), "time to train"),
    };
    live.headline(&format!(
        "{} nodes learn {} together: {} epochs of {length}, label skew {}.",
        flags.nodes,
        flags.dataset,
        flags.epochs(),
        flags.skew,
    ));
    live.headline(match (flags.folder, flags.fallback) {
        (Meeting::P2p, false) => {
            "Each is a process of its own. A bootstrap node introduces them; they share nothing but connections."
        }
        (Meeting::P2p, true) => {
            "Each is a process of its own. A bootstrap node introduces them, and a bucket is behind the network."
        }
        (Meeting::S3, _) => "Each is a process of its own. They share nothing but a bucket.",
    });
    let bootstrap = (flags.folder == Meeting::P2p).then(|| Bootstrap::start(&directory)).transpose()?;
    let bucket = flags.has_bucket().then(|| Bucket::start(&directory)).transpose()?;
    if let Some(bucket) = &bucket {
        live.headline(&format!("The bucket is {}, on an S3 server of the demo's own.", bucket.url()));
    }
    let ways = Ways { list: bootstrap.as_ref().map(Bootstrap::list), bucket: bucket.as_ref() };
    let together = Phase::together(flags, &directory, ways).run(live, stop);
    drop((bootstrap, bucket));
    let Outcome::Finished(together) = together? else { return Ok(None) };
    let dealings: Vec<Dealings> = together.iter().map(|node| node.dealings.clone()).collect();
    if let Some(reason) = verdict::failure(&dealings) {
        // If the nodes learned alone, there is nothing to compare.
        bail!("the demo has failed: {reason}");
    }
    live.headline(&format!("The same nodes alone: same data, seeds and {alike}, no peers."));
    let Outcome::Finished(alone) = Phase::alone(flags, &directory).run(live, stop)? else { return Ok(None) };
    drop(directory);
    Ok(Some(Summary::new(&together, &alone, began.elapsed())))
}
