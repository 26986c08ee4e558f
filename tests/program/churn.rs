//! A federation whose nodes are killed, stopped and cut off all the time: all of them finish, no epoch is lost or trained
//! twice, and what they have learned is as good as without.
//!
//! `PEERFOLD_SOAK=1 cargo test --test program churn` is the long form: twenty nodes, and 1,200 of them killed.

use super::process::{LOOK, PATIENCE, Sandbox, event, signal};
use libp2p_identity::PeerId;
use peerfold::{
    home::Home,
    node::{Event, Origin},
};
use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver, Sender},
    thread,
    time::Instant,
};

/// How large a run is.
#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    epochs: u64,
    /// Of this many each.
    steps: u64,
    /// How often nodes are disturbed.
    disturbances: usize,
    /// At least so many of which are kills.
    kills: usize,
}

/// In fewer epochs not all is learned that could be, and whoever was away has learned less: with half of both, one run of
/// eight ends more than a point below an undisturbed one.
const SHORT: Size = Size { nodes: 4, epochs: 48, steps: 25, disturbances: 24, kills: 6 };
/// Some find nobody who could be disturbed: of 3,600, a third of them kills, 1,058 killed somebody.
const LONG: Size = Size { nodes: 20, epochs: 600, steps: 10, disturbances: 4200, kills: 1200 };
/// Final accuracies, 0 to 1, differ by no more than this.
const A_POINT: f64 = 0.01;

/// What is done to a node, and undone once the others have got on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    Kill,
    Stop,
    Cut,
}

/// Something that a node has said, or `None` when its process has ended.
type Said = (usize, u32, Option<String>);

struct Member {
    home: String,
    child: Option<Child>,
    life: u32,
    /// What it is suffering from, and until how many epochs are done in all.
    disturbed: Option<(Disturbance, u64)>,
    published: BTreeMap<u64, String>,
    sequences: BTreeMap<u64, u64>,
    done: BTreeSet<u64>,
    /// Epochs of the others that it took over instead of training them.
    taken_over: BTreeSet<u64>,
    accuracy: Option<f64>,
}

struct Federation {
    size: Size,
    sandbox: Sandbox,
    members: Vec<Member>,
    sender: Sender<Said>,
    said: Receiver<Said>,
    epochs_done: u64,
    kills: usize,
}

fn listen(member: usize) -> String {
    // No other test's, and where it was after a restart.
    format!("/ip4/127.{}.7.{}/tcp/4613", 128 + std::process::id() % 64, member + 1)
}

impl Federation {
    fn start(size: Size) -> Self {
        let (sender, said) = mpsc::channel();
        let member = |number: usize| Member {
            home: format!("member-{number}"),
            child: None,
            life: 0,
            disturbed: None,
            published: BTreeMap::new(),
            sequences: BTreeMap::new(),
            done: BTreeSet::new(),
            taken_over: BTreeSet::new(),
            accuracy: None,
        };
        let members = (0..size.nodes).map(member).collect();
        let mut federation = Self { size, sandbox: Sandbox::alone(), members, sender, said, epochs_done: 0, kills: 0 };
        // A node whose end is that of its standard input begins only in a home that is there.
        (0..size.nodes).for_each(|number| _ = federation.peer(number));
        (0..size.nodes).for_each(|number| federation.live(number));
        federation
    }

    fn peer(&self, member: usize) -> PeerId {
        Home::peer_id(&self.sandbox.path(&self.members[member].home)).unwrap()
    }

    /// A life of a member, which knows two of the others by a list and remembers those that it has met.
    fn live(&mut self, number: usize) {
        let partition = format!("{number}/{}", self.size.nodes);
        let mut args = vec!["--folder".to_owned(), "p2p:".to_owned(), "--no-mdns".to_owned()];
        args.extend(["--listen".to_owned(), listen(number), "--partition".to_owned(), partition]);
        args.extend(["--min-peers".to_owned(), "1".to_owned(), "--stay".to_owned(), "--end-with-stdin".to_owned()]);
        for known in [0, 1].into_iter().filter(|known| *known != number) {
            args.extend(["--bootstrap".to_owned(), format!("{}/p2p/{}", listen(known), self.peer(known))]);
        }
        args.extend(["--epochs".to_owned(), self.size.epochs.to_string()]);
        args.extend([
            "--steps-per-epoch".to_owned(),
            self.size.steps.to_string(),
            "--threads".to_owned(),
            "1".to_owned(),
        ]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = self.sandbox.node(&self.members[number].home, &args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (stdout, sender) = (child.stdout.take().unwrap(), self.sender.clone());
        let member = &mut self.members[number];
        (member.life, member.child) = (member.life + 1, Some(child));
        let life = member.life;
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send((number, life, Some(line)));
            }
            let _ = sender.send((number, life, None));
        });
    }

    /// Takes in one thing that a member has said.
    fn listen(&mut self) {
        let (number, life, line) = self.said.recv_timeout(PATIENCE).expect("nobody says anything");
        let member = &mut self.members[number];
        let Some(line) = line else {
            assert!(life < member.life || member.child.is_none(), "{number} ended by itself");
            return;
        };
        // A kill may have cut it.
        if !line.ends_with('}') {
            return;
        }
        match event(&line) {
            Event::Published { epoch, root, sequence, .. } => {
                let before = member.published.entry(epoch).or_insert_with(|| root.clone());
                assert_eq!(*before, root, "{number}: epoch {epoch} was published with different weights");
                let before = member.sequences.entry(sequence).or_insert(epoch);
                assert_eq!(*before, epoch, "{number}: the number {sequence} was used twice");
            }
            Event::EpochDone { epoch, .. } => {
                assert!(member.done.insert(epoch), "{number}: epoch {epoch} was trained twice");
                self.epochs_done += 1;
            }
            Event::CaughtUp { from, epoch } => member.taken_over.extend(from + 1..=epoch),
            // It had nothing of its own yet, and begins where the others are.
            Event::Started { epoch, origin: Origin::Fold, .. } => member.taken_over.extend(1..=epoch),
            Event::Finished { metrics, stopped: false, .. } => member.accuracy = Some(metrics["accuracy"]),
            Event::Failed { reason } => panic!("{number}: {reason}"),
            _ => {}
        }
    }

    /// Does something to a member that is well.
    fn disturb(&mut self, random: &mut ChaCha8Rng, disturbance: Disturbance) {
        let well =
            |member: &&usize| self.members[**member].disturbed.is_none() && self.members[**member].accuracy.is_none();
        let all: Vec<usize> = (0..self.members.len()).collect();
        let well: Vec<usize> = all.iter().filter(well).copied().collect();
        let Some(&number) = well.choose(random) else { return };
        let until = self.epochs_done + random.random_range(1..3 * self.size.nodes as u64);
        let member = &mut self.members[number];
        member.disturbed = Some((disturbance, until));
        match disturbance {
            Disturbance::Kill => {
                let mut child = member.child.take().unwrap();
                child.kill().unwrap();
                child.wait().unwrap();
                self.kills += 1;
            }
            Disturbance::Stop => signal(member.child.as_ref().unwrap().id(), "STOP"),
            Disturbance::Cut => member.tell("network down"),
        }
    }

    /// Ends what members have suffered for long enough, or all of it.
    fn relieve(&mut self, all: bool) {
        for number in 0..self.members.len() {
            let member = &mut self.members[number];
            let Some((disturbance, until)) = member.disturbed else { continue };
            if !all && self.epochs_done < until {
                continue;
            }
            member.disturbed = None;
            match disturbance {
                Disturbance::Kill => self.live(number),
                Disturbance::Stop => signal(member.child.as_ref().unwrap().id(), "CONT"),
                Disturbance::Cut => member.tell("network up"),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.members.iter().all(|member| member.accuracy.is_some())
    }

    /// Those who haven't ended and could get on.
    fn someone_gets_on(&self) -> bool {
        let gets_on = |member: &Member| {
            member.accuracy.is_none() && !matches!(member.disturbed, Some((Disturbance::Kill | Disturbance::Stop, _)))
        };
        self.members.iter().any(gets_on)
    }

    /// Until all have finished; the mean of their accuracies.
    fn run(mut self, seed: u64, disturbances: usize) -> (f64, usize) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let all_epochs = self.size.nodes as u64 * self.size.epochs;
        let every = all_epochs as f64 / (disturbances + 1) as f64;
        let kinds = [Disturbance::Kill, Disturbance::Stop, Disturbance::Cut];
        let mut disturbed = 0;
        while !self.is_over() {
            self.listen();
            while disturbed < disturbances && self.epochs_done as f64 >= every * (disturbed + 1) as f64 {
                self.disturb(&mut random, kinds[disturbed % kinds.len()]);
                disturbed += 1;
            }
            let all = !self.someone_gets_on();
            self.relieve(all);
        }
        for (number, member) in self.members.iter().enumerate() {
            let lost: Vec<u64> = (1..=self.size.epochs)
                .filter(|epoch| !member.published.contains_key(epoch) && !member.taken_over.contains(epoch))
                .collect();
            assert_eq!(lost, [0; 0], "{number} has lost epochs");
        }
        let sum: f64 = self.members.iter().filter_map(|member| member.accuracy).sum();
        (sum / self.size.nodes as f64, self.kills)
    }
}

impl Member {
    fn tell(&mut self, order: &str) {
        let stdin = self.child.as_mut().and_then(|child| child.stdin.as_mut()).unwrap();
        writeln!(stdin, "{order}").unwrap();
    }
}

impl Drop for Federation {
    fn drop(&mut self) {
        for child in self.members.iter_mut().filter_map(|member| member.child.as_mut()) {
            let _ = child.kill();
        }
        let began = Instant::now();
        for mut child in self.members.iter_mut().filter_map(|member| member.child.take()) {
            while child.try_wait().is_ok_and(|ended| ended.is_none()) && began.elapsed() < PATIENCE {
                thread::sleep(LOOK);
            }
        }
    }
}

#[test]
fn disturbed_all_the_time_they_finish_as_well_as_undisturbed() {
    let size = if env::var_os("PEERFOLD_SOAK").is_some() { LONG } else { SHORT };
    let (undisturbed, _) = Federation::start(size).run(1, 0);
    let (disturbed, kills) = Federation::start(size).run(1, size.disturbances);
    println!("undisturbed {undisturbed:.4}, after {kills} kills {disturbed:.4}");
    assert!(kills >= size.kills, "only {kills} kills");
    assert!(disturbed > undisturbed - A_POINT, "{disturbed} instead of {undisturbed}");
}
