//! A loop of the program's own drives the steps: the same events and the same history as by a learner.

use super::bigrams::{Bigrams, text};
use fail::FailScenario;
use peerfold::{
    home::Home,
    node::{Origin, SavedState},
    prelude::*,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

const EPOCHS: u64 = 3;

type Recorded = Arc<Mutex<Vec<Event>>>;

fn recording() -> (NodeConfig, Recorded) {
    let events = Recorded::default();
    let mut config = NodeConfig::new("tokens", FolderUrl::Memory);
    let heard = events.clone();
    config.events = Arc::new(move |event| heard.lock().unwrap().push(event.clone()));
    (config, events)
}

/// Without what differs from run to run: times, and who it is.
fn timeless(event: &Event) -> serde_json::Value {
    let mut json = serde_json::to_value(event).unwrap();
    let object = json.as_object_mut().unwrap();
    for name in ["seconds", "peer", "updates", "reason"] {
        object.remove(name);
    }
    json
}

#[test]
fn the_steps_tell_and_record_what_the_loop_does() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (config, by_loop) = recording();
    let mut learner = Bigrams::new(text(0, 1));
    let driven = federate(&config, dir.path().join("a"), &mut learner, EPOCHS).unwrap().unwrap();

    let (config, by_steps) = recording();
    let mut bigrams = Bigrams::new(text(0, 1));
    let initial = (bigrams.weights().unwrap(), Origin::Seed);
    let home = Home::open(dir.path().join("b")).unwrap();
    let (mut run, saved) = Run::begin(&config, home, initial, |out| bigrams.save(out), RunOptions::default()).unwrap();
    assert!(saved.is_none());
    while let Some(epoch) = run.next_epoch(EPOCHS) {
        assert_eq!(run.next_epoch(EPOCHS), Some(epoch));
        let trained = bigrams.train(epoch, Steps::default(), &|| false).unwrap();
        let loss = trained.steps.loss().unwrap();
        let state = run.write_state(|out| bigrams.save(out)).unwrap();
        let weights = bigrams.weights().unwrap();
        let completed = run.publish(weights, trained.metric("loss", loss), state).unwrap();
        bigrams.load(&completed.unwrap().weights).unwrap();
        run.epoch_done(bigrams.evaluate().unwrap());
        // Once is enough.
        run.epoch_done(Metrics::new());
    }
    run.finish().unwrap();

    let timeless = |events: &Recorded| events.lock().unwrap().iter().map(timeless).collect::<Vec<_>>();
    assert_eq!(timeless(&by_loop), timeless(&by_steps));
    assert!(matches!(by_steps.lock().unwrap().last(), Some(Event::Finished { epoch: EPOCHS, stopped: false, .. })));

    let of = |run: &Run| {
        let epochs = run.history().epochs();
        epochs.map(|it| (it.epoch, it.metrics.clone(), it.steps, it.num_examples, it.written)).collect::<Vec<_>>()
    };
    assert_eq!(of(&driven), of(&run));
    assert_eq!(run.history().epochs().map(|record| record.epoch).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(run.history().last().unwrap().metrics["perplexity"] < 300.0);
}

#[test]
fn an_epoch_that_is_not_measured_is_done_all_the_same() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (config, events) = recording();
    let weights = |value: f32| Weights::from_f32s(&[("w", &[1], &[value])]).unwrap();
    let mut run = Run::join(&config, dir.path(), weights(0.0)).unwrap();
    while let Some(epoch) = run.next_epoch(2) {
        let trained = Trained::on(1).metric("loss", f64::INFINITY).metric("depth", 2.0);
        run.publish(weights(epoch as f32), trained, SavedState::default()).unwrap();
    }
    run.finish().unwrap();
    let done: Vec<(u64, Metrics)> = events
        .lock()
        .unwrap()
        .iter()
        .filter_map(|event| match event {
            Event::EpochDone { epoch, epochs: 2, metrics, .. } => Some((*epoch, metrics.clone())),
            _ => None,
        })
        .collect();
    // JSON has no number for what isn't finite.
    let metrics = Metrics::from([("depth".to_owned(), 2.0)]);
    assert_eq!(done, [(1, metrics.clone()), (2, metrics)]);
}

#[test]
fn metrics_that_no_entry_can_have_are_refused_before_anything_is_saved() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (config, _) = recording();
    let weights = || Weights::from_f32s(&[("w", &[1], &[1.0])]).unwrap();
    let mut run = Run::join(&config, dir.path(), weights()).unwrap();
    let error = run.epoch_end(weights(), Trained::on(1).metric("a name of more than 24 bytes", 0.0)).unwrap_err();
    assert!(matches!(error, RunError::Metrics { epoch: 1, .. }), "{error}");
    let many = (0..17).fold(Trained::on(1), |trained, number| trained.metric(number.to_string(), 0.0));
    assert!(run.epoch_end(weights(), many).is_err());
    assert_eq!((run.next_epoch(1), run.epoch_end(weights(), Trained::on(1)).is_ok()), (Some(1), true));
    assert_eq!(run.next_epoch(1), None);
}

fn one(value: f32) -> Weights {
    Weights::from_f32s(&[("w", &[1], &[value])]).unwrap()
}

#[test]
fn what_cannot_be_published_leaves_the_run_as_it_was() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (config, _) = recording();
    let mut run = Run::join(&config, dir.path(), one(0.5)).unwrap();
    let error = run.epoch_end(one(f32::NAN), Trained::on(1)).unwrap_err();
    assert!(matches!(error, RunError::Node(NodeError::Diverged { epoch: 1, .. })), "{error}");
    assert_eq!((run.next_epoch(1), run.weights()), (Some(1), &one(0.5)));
    run.epoch_end(one(0.25), Trained::on(1)).unwrap();
    assert_eq!((run.weights(), run.epoch()), (&one(0.25), 1));
}

#[test]
fn weights_that_were_let_go_for_an_epoch_that_is_never_published_come_back() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (config, events) = recording();
    let mut run = Run::join(&config, dir.path(), one(0.5)).unwrap();
    assert_eq!(run.next_epoch(2), Some(1));
    run.write_state(|out| Ok(out.write_all(b"moments")?)).unwrap();
    // The program could not read its weights, and trains the epoch again.
    assert_eq!((run.next_epoch(2), run.weights()), (Some(1), &one(0.5)));
    run.epoch_end(one(0.25), Trained::on(1)).unwrap();
    assert_eq!(run.next_epoch(2), Some(2));
    run.write_state(|_| Err("no space".into())).unwrap_err();
    assert_eq!(run.weights(), &one(0.25));
    run.write_state(|_| Ok(())).unwrap();
    run.finish().unwrap();
    let events = events.lock().unwrap();
    let Some(Event::Finished { epoch: 1, root, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(*root, one(0.25).manifest().root().to_string());
}

#[test]
fn stopped_while_it_waits_for_the_others_it_is_at_the_epoch_before() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let (mut config, events) = recording();
    config.folder = FolderUrl::Local(dir.path().join("shared"));
    let (deadline, below_quorum) = (Duration::from_secs(600), BelowQuorum::Wait);
    config.pace = Pace::Sync(SyncOptions { nodes: 2, quorum: 2, deadline, below_quorum });
    let (stop, heard) = (config.stop.clone(), config.events.clone());
    config.events = Arc::new(move |event| {
        heard(event);
        if matches!(event, Event::Waiting { .. }) {
            stop.request();
        }
    });
    let mut run = Run::join(&config, dir.path().join("home"), one(0.5)).unwrap();
    assert_eq!(run.next_epoch(3), Some(1));
    assert_eq!(run.publish(one(1.5), Trained::on(1), SavedState::default()).unwrap(), None);
    assert_eq!((run.next_epoch(3), run.epoch(), run.weights(), run.is_stopped()), (None, 0, &one(0.5), true));
    run.finish().unwrap();
    let events = events.lock().unwrap();
    assert!(!events.iter().any(|event| matches!(event, Event::EpochDone { .. })), "{events:?}");
    let Some(Event::Finished { epoch: 0, stopped: true, root, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(*root, one(0.5).manifest().root().to_string());
}
