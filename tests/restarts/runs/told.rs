//! The example for plain arrays: two nodes learn what neither sees alone, and all is told.

use super::own_weights::{EPOCHS, node};
use fail::FailScenario;
use peerfold::prelude::*;
use std::{
    sync::{Arc, Mutex},
    thread,
};

#[test]
fn the_example_learns_the_line_and_tells_its_events() {
    let _scenario = FailScenario::setup();
    let dir = tempfile::tempdir().unwrap();
    let events: Arc<Mutex<Vec<Event>>> = Arc::default();
    let (heard, other) = (events.clone(), dir.path().to_owned());
    let second = thread::spawn(move || node(1, &other, |_| ()).unwrap());
    let error = node(0, dir.path(), move |event| heard.lock().unwrap().push(event.clone())).unwrap();
    assert!(error < 0.01, "off by {error}");
    assert!(second.join().unwrap() < 0.01);
    let events = events.lock().unwrap();
    let done = events.iter().filter(|event| matches!(event, Event::EpochDone { .. })).count() as u64;
    assert_eq!(done, EPOCHS);
    assert!(events.iter().any(|event| matches!(event, Event::Folded { updates, .. } if updates.len() == 2)));
    let Some(Event::Finished { epoch: EPOCHS, metrics, stopped: false, .. }) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!(metrics["test_loss"], error);
}
