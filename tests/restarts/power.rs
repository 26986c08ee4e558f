//! The power is cut while a node runs: what was written and not flushed is lost, or half there. The node goes on from
//! what is left as if nothing had happened.
//!
//! `strace` records what the program does to its files; the disk is rebuilt from that, as it may be after a cut at any
//! moment, and the program is started on it.
//!
//! `PEERFOLD_TEST_CUTS=n` makes n cuts in each life that is recorded.

mod disk;
mod judge;
mod record;

use crate::process::{Ended, Running, Sandbox, event};
use disk::{Disk, LEFT, Left};
use judge::Promised;
use peerfold::{node::Event, p2p::NetworkStatus};
use rand::{SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Of the node that is recorded. Who goes on after a cut trains one more.
const EPOCHS: u64 = 3;
/// Of each recorded life.
const CUTS: usize = 36;
/// Of each life that begins with what a killed one left.
const CUTS_OF_KILL: usize = 4;
/// The directory that is lost in part.
const DISK: &str = "disk";

/// How a node runs.
struct Kind {
    folder: fn(&Sandbox) -> String,
    args: &'static [&'static str],
    in_network: bool,
}

const NETWORK: &[&str] = &["--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns", "--linger", "0"];

/// In the cache, with the middles of epochs.
const ALONE: Kind = Kind {
    folder: |_| "p2p:".to_owned(),
    args: &["--strategy", "fedavgm", "--publish-folded", "--checkpoint-every", "0.000001"],
    in_network: true,
};

const DIRECTORY: Kind = Kind {
    folder: |sandbox| url::Url::from_directory_path(sandbox.path("disk/folder")).unwrap().to_string(),
    args: &["--strategy", "fedavgm"],
    in_network: false,
};

const AMONG_PEERS: Kind = Kind { folder: |_| "p2p:".to_owned(), args: &[], in_network: true };

impl Kind {
    fn node(&self, sandbox: &Sandbox, epochs: u64) -> Command {
        let mut command =
            sandbox.node("disk/home", &["--folder", &(self.folder)(sandbox), "--epochs", &epochs.to_string()]);
        if self.in_network {
            command.args(NETWORK);
        }
        command.args(self.args).arg("--out").arg(sandbox.path("disk/model.safetensors"));
        command
    }
}

/// What a node of this kind publishes that nobody disturbs, and the model that it ends with.
struct Undisturbed {
    roots: BTreeMap<u64, String>,
    model: Vec<u8>,
    blobs: Vec<String>,
}

impl Undisturbed {
    fn of(kind: &Kind) -> Self {
        let sandbox = emptied();
        let ended = Ended::of(kind.node(&sandbox, EPOCHS + 1)).success();
        let published = ended.events().into_iter().filter_map(|event| match event {
            Event::Published { epoch, root, .. } => Some((epoch, root)),
            _ => None,
        });
        let model = fs::read(sandbox.path("disk/model.safetensors")).unwrap();
        // What was still in use at the end goes at the next start.
        Ended::of(kind.node(&sandbox, EPOCHS + 1)).success();
        Self { roots: published.collect(), model, blobs: judge::blobs(&sandbox.path(DISK)) }
    }
}

fn emptied() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path(DISK)).unwrap();
    sandbox
}

/// A life of the node, which is recorded.
fn recorded(disk: &mut Disk, command: &Command, sandbox: &Sandbox) -> Ended {
    let record = sandbox.path("record");
    let ended = Ended::of(record::watched(command, &record)).success();
    disk.goes_on(&record);
    let (seen, there) = (disk.seen(), disk::tree(&sandbox.path(DISK)));
    let differs = |path: &&PathBuf| seen.get(*path) != there.get(*path);
    let different: Vec<_> = seen.keys().chain(there.keys()).filter(differs).collect();
    assert!(different.is_empty(), "the record doesn't tell what became of {different:?}");
    ended
}

/// The moments at which the node said that something is published or complete.
fn promises(disk: &Disk) -> Vec<usize> {
    let is_promise = |line: &str| matches!(event(line), Event::Published { .. } | Event::EpochDone { .. });
    disk.printed.iter().filter(|(_, line)| is_promise(line)).map(|&(moment, _)| moment).collect()
}

/// How many cuts are made in a life.
fn cuts() -> usize {
    env::var("PEERFOLD_TEST_CUTS").map_or(CUTS, |cuts| cuts.parse().unwrap())
}

/// Power cuts, and what became of those that lost something.
#[derive(Default)]
struct Cuts {
    made: usize,
    missed: Vec<String>,
}

impl Cuts {
    /// Cuts the power so often after this moment.
    fn make(
        &mut self,
        kind: &Kind,
        disk: &Disk,
        after: usize,
        cuts: usize,
        expected: Option<&Undisturbed>,
        place: &str,
    ) {
        let mut random = ChaCha8Rng::seed_from_u64(self.made as u64);
        // Right after something was promised, right before something is flushed, anywhere, or when the node has ended.
        let moments = [promises(disk), disk.unflushed(), disk.moments(), vec![disk.now]].map(|mut moments| {
            moments.retain(|&moment| moment > after);
            moments
        });
        for number in 0..cuts {
            let of_kind = &moments[number % moments.len()];
            let moment = if number == 0 { of_kind.first() } else { of_kind.choose(&mut random) };
            let Some(&moment) = moment.or(moments[1].last()) else { continue };
            // Most is lost where nothing is left.
            let left = if number < moments.len() { Left::Nothing } else { *LEFT.choose(&mut random).unwrap() };
            let tree = disk.after(moment, left, &mut random);
            let printed = disk.printed.iter().filter(|&&(at, _)| at <= moment).map(|(_, line)| line.as_str());
            if let Err(error) = judge::judge(kind, &tree, &Promised::by(printed), expected) {
                self.missed.push(format!("{place}, cut at {moment} of {}, {left:?} left: {error}", disk.now));
            }
        }
        self.made += cuts;
    }

    fn end(self) {
        let Self { made, missed } = self;
        println!("{made} power cuts");
        assert!(missed.is_empty(), "{} of {made}:\n{}", missed.len(), missed.join("\n"));
    }
}

#[test]
fn a_power_cut_loses_nothing_that_was_promised_and_changes_no_weights() {
    if !record::can_be_made() {
        return;
    }
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut made = Cuts::default();
    for (name, kind) in [("alone", ALONE), ("in a directory", DIRECTORY)] {
        let expected = Undisturbed::of(&kind);
        let sandbox = emptied();
        let mut disk = Disk::new(&sandbox.path(DISK));
        recorded(&mut disk, &kind.node(&sandbox, EPOCHS), &sandbox);
        made.make(&kind, &disk, 0, cuts(), Some(&expected), name);
        // What a life builds on that another one left behind and didn't flush: that of each promise, and anything else.
        let unflushed = disk.unflushed();
        let before = |promise| unflushed.iter().rfind(|&&moment| moment < promise).copied();
        let promised: Vec<usize> = promises(&disk).into_iter().filter_map(before).collect();
        for number in 0..cuts() / CUTS_OF_KILL {
            let moment = promised.get(number).or_else(|| unflushed.choose(&mut random));
            let moment = *moment.unwrap();
            let sandbox = emptied();
            let mut killed = disk.killed(moment, &sandbox.path(DISK));
            recorded(&mut killed, &kind.node(&sandbox, EPOCHS), &sandbox);
            let place = format!("{name}, killed at {moment}");
            made.make(&kind, &killed, moment, CUTS_OF_KILL, Some(&expected), &place);
        }
    }
    made.end();
}

#[test]
fn a_power_cut_among_peers_loses_nothing_that_was_promised() {
    if !record::can_be_made() {
        return;
    }
    let sandbox = emptied();
    let mut peer = sandbox.node("peer", &["--folder", "p2p:", "--partition", "0/2", "--stay", "--epochs", "2"]);
    peer.args(NETWORK);
    let mut peer = Running::start(peer);
    peer.event(|event| matches!(event, Event::Published { epoch: 2, .. }));
    let told = Ended::of(sandbox.command(["peers", "--json", "--home", "peer"])).success().text();
    let address = serde_json::from_str::<NetworkStatus>(&told).unwrap().listening[0].clone();
    let mut disk = Disk::new(&sandbox.path(DISK));
    let mut node = AMONG_PEERS.node(&sandbox, EPOCHS);
    // Long enough for the index to be written meanwhile.
    node.args(["--bootstrap", &address, "--min-peers", "1", "--partition", "1/2", "--period", "0.4"]);
    let ended = recorded(&mut disk, &node, &sandbox);
    assert!(ended.events().iter().any(|event| matches!(event, Event::Folded { .. })), "{}", ended.text());
    peer.kill();
    let mut made = Cuts::default();
    made.make(&AMONG_PEERS, &disk, 0, cuts(), None, "among peers");
    made.end();
}

fn run_dir(disk: &Path) -> PathBuf {
    disk.join("home/runs").join(judge::federation().to_string())
}
