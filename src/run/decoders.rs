//! The decoder of a pause's header, as fuzzers try it.
#![allow(clippy::unwrap_used)]

use super::{Steps, middle::Header};
use crate::untrusted::Target;
use std::time::Duration;

fn pause(mut bytes: &[u8]) {
    let Some(header) = Header::read(&mut bytes) else { return };
    let written = |header: &Header| {
        let mut out = Vec::new();
        header.write(&mut out).unwrap();
        out
    };
    let again = written(&header);
    assert_eq!(written(&Header::read(&mut &again[..]).unwrap()), again);
    let _ = header.differences(&[("lr".to_owned(), "0.1".to_owned())].into());
}

fn pauses() -> Vec<Vec<u8>> {
    let recipe = [("batch-size", "32"), ("lr", "0.01")].map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let steps = Steps { done: 17, loss_sum: 3.5, time: Duration::from_millis(70), interrupted: true };
    let mut out = Vec::new();
    Header { recipe, steps }.write(&mut out).unwrap();
    let longest = [&out[..16], &[0xff; 8]].concat();
    vec![[&out[..], b"a learner's state"].concat(), longest]
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    vec![Target { name: "pause", run: pause, seeds: pauses }]
}
