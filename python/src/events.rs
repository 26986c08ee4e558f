//! The queue between a node, which must not wait for Python, and Python, which may be busy. Events go through one, and
//! log lines through another.

use peerfold::node::{Event, EventSink};
use pyo3::prelude::*;
use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// Events that wait to be taken. Of more the oldest are lost, and counted.
const MAX_WAITING: usize = 10_000;

#[derive(Default)]
struct Waiting {
    events: VecDeque<String>,
    lost: u64,
    closed: bool,
}

/// A node's events, as JSON, on their way to Python.
#[derive(Clone, Default)]
pub(crate) struct EventQueue {
    waiting: Arc<(Mutex<Waiting>, Condvar)>,
}

impl EventQueue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the node's events go. Never waits: it is called on the node's runtime.
    pub(crate) fn sink(&self) -> EventSink {
        let queue = self.clone();
        Arc::new(move |event: &Event| {
            if let Ok(json) = serde_json::to_string(event) {
                queue.push(json);
            }
        })
    }

    /// One more, without waiting.
    pub(crate) fn push(&self, json: String) {
        let mut waiting = self.lock();
        if waiting.events.len() >= MAX_WAITING {
            waiting.events.pop_front();
            waiting.lost += 1;
        }
        waiting.events.push_back(json);
        self.waiting.1.notify_one();
    }

    /// No event follows: readers get what waits, and then the end.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.waiting.1.notify_all();
    }

    /// The next event, and how many were lost before it; `None` at the end.
    fn next(&self) -> Option<(String, u64)> {
        let mut waiting = self.lock();
        loop {
            if let Some(event) = waiting.events.pop_front() {
                return Some((event, std::mem::take(&mut waiting.lost)));
            }
            if waiting.closed {
                return None;
            }
            waiting = self.waiting.1.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// What comes through a queue: a node's events, or log lines. It doesn't keep the node alive.
#[pyclass(frozen, module = "peerfold._native")]
pub(crate) struct Events(pub(crate) EventQueue);

#[pymethods]
impl Events {
    /// Waits for the next event, with the GIL released: its JSON, and how many before it were lost because nobody took
    /// them; `None` at the end.
    fn next(&self, py: Python<'_>) -> Option<(String, u64)> {
        py.detach(|| self.0.next())
    }

    /// Nothing follows: whoever waits gets the end.
    fn close(&self) {
        self.0.close();
    }
}
