//! Events as JSON lines.

use crate::{
    demo::DemoEvent,
    node::{Event, EventSink},
};
use std::{io::Write, sync::Arc};

/// Writes each event as one line of JSON to standard output. That nobody reads any more is no reason to stop training.
pub(crate) fn json_sink() -> EventSink {
    Arc::new(|event| {
        if let Ok(line) = serde_json::to_string(event) {
            let mut out = std::io::stdout().lock();
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    })
}

/// A line of JSON that `node` or `demo` writes.
#[derive(schemars::JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is wanted")]
enum Line {
    Node(Event),
    Demo(DemoEvent),
}

/// The JSON schema of a line.
pub(super) fn schema() -> serde_json::Result<String> {
    serde_json::to_string_pretty(&schemars::schema_for!(Line))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn the_schema_in_the_repository_is_the_one_of_the_program() {
        let kept = include_str!("../../schema/events.schema.json");
        let same = kept.trim() == super::schema().unwrap().trim();
        assert!(same, "write it anew: cargo run -- event-schema > schema/events.schema.json");
    }
}
