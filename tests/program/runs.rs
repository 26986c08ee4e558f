//! A program of one's own is told what `peerfold node --json` tells, in the same order.

use super::process::{Ended, Running, Sandbox};
use peerfold::{home::Home, node::Origin, prelude::*};
use std::{
    io::{Read, Write},
    path::Path,
    sync::{Arc, Mutex},
};

const STEPS: u64 = 5;
/// Steps before the stop: an epoch, and the beginning of the next.
const BEFORE_THE_STOP: u64 = 7;
const FIRST: u64 = 2;
const EPOCHS: u64 = 4;

fn kinds(events: &[Event]) -> Vec<String> {
    let kind = |event| serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned();
    events.iter().map(kind).collect()
}

/// One number that grows; a stop is requested before the step that isn't left any more.
struct Growing {
    value: f32,
    left: u64,
    stop: Stop,
}

impl Learner for Growing {
    fn weights(&mut self) -> Result<Weights, LearnerError> {
        Ok(Weights::from_f32s(&[("value", &[1], &[self.value])])?)
    }

    fn load(&mut self, weights: &Weights) -> Result<(), LearnerError> {
        self.value = weights.f32s("value").ok_or("no value")?[0];
        Ok(())
    }

    fn train(&mut self, _: u64, before: Steps, pause: &(dyn Fn() -> bool + Sync)) -> Result<Trained, LearnerError> {
        let mut steps = before;
        while steps.done < STEPS {
            if self.left == 0 {
                self.stop.request();
            }
            if pause() {
                steps.interrupted = true;
                break;
            }
            self.value += 0.5;
            (self.left, steps.done) = (self.left - 1, steps.done + 1);
        }
        Ok(Trained { steps, ..Trained::on(STEPS) })
    }

    fn save(&mut self, _: &mut dyn Write) -> Result<(), LearnerError> {
        Ok(())
    }

    fn restore(&mut self, _: &mut dyn Read) -> Result<(), LearnerError> {
        Ok(())
    }
}

/// A life of the program of one's own.
fn own(dir: &Path, home: &str, steps: u64, epochs: u64) -> Vec<String> {
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let mut config = NodeConfig::new("test", FolderUrl::Local(dir.join("folder")));
    let heard = events.clone();
    config.events = Arc::new(move |event| heard.lock().unwrap().push(event.clone()));
    let mut learner = Growing { value: 0.0, left: steps, stop: config.stop.clone() };
    let initial = (learner.weights().unwrap(), Origin::Seed);
    let home = Home::open(dir.join(home)).unwrap();
    let mut run = Run::start(&config, home, &mut learner, initial, RunOptions::default()).unwrap();
    run.train(&mut learner, epochs).unwrap();
    run.finish().unwrap();
    kinds(&events.lock().unwrap())
}

#[test]
fn a_program_of_ones_own_hears_what_a_node_tells() {
    let sandbox = Sandbox::new();
    let node = |home: &str, epochs: u64| {
        let mut command = sandbox.node("node", &["--folder", &sandbox.folder(), "--epochs", &epochs.to_string()]);
        command.env("PEERFOLD_HOME", sandbox.path(home));
        command
    };
    let first = kinds(&Ended::of(node("a", FIRST)).success().events());
    let mut slow = node("b", EPOCHS);
    slow.env("FAILPOINTS", format!("train::step={BEFORE_THE_STOP}*off->sleep(300)"));
    let mut stopping = Running::start(slow);
    stopping.event(|event| matches!(event, Event::Started { .. }));
    stopping.sleeps();
    stopping.signal("TERM");
    let stopped = kinds(&stopping.wait().success().events());
    let last = kinds(&Ended::of(node("b", EPOCHS)).success().events());

    for (events, expected) in [
        (&first, &["started", "published", "epoch_done", "finished"][..]),
        (&stopped, &["started", "received", "folded", "progress_saved", "finished"]),
        (&last, &["started", "progress_resumed", "epoch_done", "finished"]),
    ] {
        let has = |kind: &&&str| events.iter().any(|event| event == *kind);
        assert_eq!(expected.iter().filter(has).count(), expected.len(), "{events:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(own(dir.path(), "a", u64::MAX, FIRST), first);
    assert_eq!(own(dir.path(), "b", BEFORE_THE_STOP, EPOCHS), stopped);
    assert_eq!(own(dir.path(), "b", u64::MAX, EPOCHS), last);
}
