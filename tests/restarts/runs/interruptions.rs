//! Epochs that are stopped, saved and gone on with in their middle come to the same bits.

use super::bigrams::{Bigrams, STEPS, text};
use fail::FailScenario;
use peerfold::{home::Home, node::Origin, prelude::*};
use std::{
    io::{Read, Write},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

const EPOCHS: u64 = 3;

/// What happens to a life before its end.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Stopped,
    /// As by a kill: nothing is done any more.
    Failing,
}

/// A learner to which something happens after so many steps.
struct Ending {
    inner: Bigrams,
    left: AtomicU64,
    end: End,
    stop: Stop,
}

impl Learner for Ending {
    fn weights(&mut self) -> Result<Weights, LearnerError> {
        self.inner.weights()
    }

    fn load(&mut self, weights: &Weights) -> Result<(), LearnerError> {
        self.inner.load(weights)
    }

    fn train(&mut self, epoch: u64, before: Steps, pause: &(dyn Fn() -> bool + Sync)) -> Result<Trained, LearnerError> {
        let (end, stop, left) = (self.end, &self.stop, &self.left);
        let paused = || {
            if left.load(Ordering::Relaxed) == 0 {
                stop.request();
                return true;
            }
            let pause = pause();
            left.fetch_sub(u64::from(!pause), Ordering::Relaxed);
            pause
        };
        let trained = self.inner.train(epoch, before, &paused)?;
        if end == End::Failing && left.load(Ordering::Relaxed) == 0 && trained.steps.interrupted {
            return Err("the power is gone".into());
        }
        Ok(trained)
    }

    fn save(&mut self, out: &mut dyn Write) -> Result<(), LearnerError> {
        self.inner.save(out)
    }

    fn restore(&mut self, from: &mut dyn Read) -> Result<(), LearnerError> {
        self.inner.restore(from)
    }
}

/// A life of so many steps at most. Gives its events and, if it came to the end, its weights.
fn life(dir: &Path, steps: u64, end: End, options: RunOptions) -> (Vec<Event>, Result<Weights, RunError>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let mut config = NodeConfig::new("tokens", FolderUrl::Memory);
    let heard = events.clone();
    config.events = Arc::new(move |event| heard.lock().unwrap().push(event.clone()));
    let inner = Bigrams::new(text(0, 1));
    let mut learner = Ending { inner, left: steps.into(), end, stop: config.stop.clone() };
    let initial = (learner.weights().unwrap(), Origin::Seed);
    let mut run = Run::start(&config, Home::open(dir).unwrap(), &mut learner, initial, options).unwrap();
    let ended = run.train(&mut learner, EPOCHS).and_then(|()| run.finish());
    let weights = ended.map(|()| run.weights().clone());
    drop(run);
    let events = events.lock().unwrap().clone();
    (events, weights)
}

fn straight() -> Weights {
    let dir = tempfile::tempdir().unwrap();
    life(dir.path(), u64::MAX, End::Stopped, RunOptions::default()).1.unwrap()
}

fn saved(events: &[Event]) -> Vec<(u64, u64, bool)> {
    let saved = events.iter().filter_map(|event| match event {
        Event::ProgressSaved { epoch, steps, steps_per_epoch: Some(STEPS), stopping } => {
            Some((*epoch, *steps, *stopping))
        }
        _ => None,
    });
    saved.collect()
}

fn resumed(events: &[Event]) -> Option<(u64, u64)> {
    events.iter().find_map(|event| match event {
        Event::ProgressResumed { epoch, steps, steps_per_epoch: Some(STEPS) } => Some((*epoch, *steps)),
        _ => None,
    })
}

fn options() -> RunOptions {
    RunOptions { steps_per_epoch: Some(STEPS), ..RunOptions::default() }
}

#[test]
fn stopped_within_epochs_it_goes_on_there_and_is_the_same_run_bit_for_bit() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (events, _) = life(dir.path(), 7, End::Stopped, options());
    assert_eq!(saved(&events), [(1, 7, true)]);
    assert!(matches!(events.last(), Some(Event::Finished { epoch: 0, stopped: true, .. })), "{events:?}");
    // Over the end of an epoch.
    let (events, _) = life(dir.path(), STEPS, End::Stopped, options());
    assert_eq!((resumed(&events), saved(&events)), (Some((1, 7)), vec![(2, 7, true)]));
    // No step at all.
    let (events, _) = life(dir.path(), 0, End::Stopped, options());
    assert_eq!((resumed(&events), saved(&events)), (Some((2, 7)), vec![(2, 7, true)]));
    let (events, weights) = life(dir.path(), u64::MAX, End::Stopped, options());
    assert_eq!(resumed(&events), Some((2, 7)));
    let steps: Vec<(u64, u64)> = events
        .iter()
        .filter_map(|event| match event {
            Event::EpochDone { epoch, steps, .. } => Some((*epoch, *steps)),
            _ => None,
        })
        .collect();
    assert_eq!(steps, [(2, STEPS), (3, STEPS)]);
    assert!(matches!(events.last(), Some(Event::Finished { epoch: EPOCHS, stopped: false, .. })), "{events:?}");
    assert!(weights.unwrap() == straight(), "other bits after stops");
}

#[test]
fn the_middle_is_saved_again_and_again_and_a_process_that_dies_goes_on_from_it() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    // After every step.
    let often = || RunOptions { checkpoint_every: Some(Duration::ZERO), ..options() };
    let (events, error) = life(dir.path(), 5, End::Failing, often());
    assert_eq!(saved(&events), (1..=4).map(|step| (1, step, false)).collect::<Vec<_>>());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("training epoch 1 failed: the power is gone"), "{error}");
    let (events, weights) = life(dir.path(), u64::MAX, End::Stopped, often());
    assert_eq!(resumed(&events), Some((1, 4)));
    assert!(weights.unwrap() == straight(), "other bits after a kill");
}

#[test]
fn by_another_recipe_the_epoch_is_trained_anew_and_this_is_said() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let with = |rate: &str| RunOptions { recipe: [("rate".to_owned(), rate.to_owned())].into(), ..options() };
    life(dir.path(), 7, End::Stopped, with("2")).1.unwrap();
    let (events, weights) = life(dir.path(), u64::MAX, End::Stopped, with("3"));
    let dropped = events.iter().find_map(|event| match event {
        Event::ProgressDropped { epoch, steps, reason } => Some((*epoch, *steps, reason.as_str())),
        _ => None,
    });
    assert_eq!((dropped, resumed(&events)), (Some((Some(1), Some(7), "rate was 2 and is 3")), None));
    assert!(weights.unwrap() == straight());
}
