//! What Rust's half logs, on its way to Python's `logging`.

use crate::events::{EventQueue, Events};
use peerfold::logs::{Gathered, NODE};
use pyo3::prelude::*;
use std::{
    fmt::{Debug, Write},
    process,
};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{EnvFilter, Layer, filter::FilterExt, layer::Context, prelude::*};

/// What is an event of the node as well.
const EVENTS_TOO: &str = "peerfold::node::complaints=off,peerfold::node::participant=off,peerfold::node::asynchronous=off,\
                          peerfold::node::session=off";

/// Gives log lines to a queue.
struct ToPython {
    lines: EventQueue,
    process: u32,
}

impl<S: Subscriber> Layer<S> for ToPython {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let (metadata, text) = (event.metadata(), text.message + &text.fields);
        if self.process == process::id() {
            let (level, target) = (metadata.level().as_str(), metadata.target());
            let line = serde_json::json!({ "level": level, "target": target, "message": text });
            self.lines.push(line.to_string());
        } else {
            // After a fork nobody takes them, and the queue's lock may be held by a thread that is no more.
            eprintln!("{text}");
        }
    }
}

/// An event's message, and its other fields as ` name=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // A string takes whatever is written.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// From now on what is logged in this process goes here, as JSON: level, target, message. `RUST_LOG` chooses it. `None` if
/// it goes somewhere already.
#[pyfunction]
pub(crate) fn follow_logs() -> Option<Events> {
    let lines = EventQueue::default();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("{NODE},{EVENTS_TOO}")));
    let gathered = Gathered::new(|line| eprintln!("{line}"));
    let layer = ToPython { lines: lines.clone(), process: process::id() };
    let registry = tracing_subscriber::registry().with(layer.with_filter(filter.and(gathered)));
    registry.try_init().ok().map(|()| Events(lines))
}
