//! Events on standard output, each a line with its time: as JSON, or as text for people.

use crate::{
    demo::DemoLine,
    node::{Event, EventSink},
    program::{TimedEvent, columns, event_text, sentence},
};
use std::{
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// A node's standard output. If writing fails, that is reported once on standard error, and training goes on.
#[derive(Clone)]
pub(super) struct EventOutput {
    json: bool,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl EventOutput {
    pub(super) fn new(json: bool) -> Self {
        Self { json, failed: Arc::default() }
    }

    /// Where the events go.
    pub(super) fn sink(&self) -> EventSink {
        let output = self.clone();
        Arc::new(move |event| output.event(event))
    }

    pub(super) fn event(&self, event: &Event) {
        // Under the lock, so that no line has an earlier time than the one before.
        let mut out = io::stdout().lock();
        let time = SystemTime::now();
        let line = if self.json {
            serde_json::to_string(&TimedEvent { time, event: event.clone() }).ok()
        } else {
            event_text(event)
                .map(|text| sentence(&format!("{} {text}", humantime::format_rfc3339_millis(time)), columns()))
        };
        if let Some(line) = line {
            self.write(&mut out, &line);
        }
    }

    /// A line for people, which is left out with `--json`.
    pub(super) fn remark(&self, text: &str) {
        if !self.json {
            self.write(&mut io::stdout().lock(), text);
        }
    }

    fn failed(&self) -> MutexGuard<'_, Option<io::Error>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, out: &mut impl Write, line: &str) {
        if self.failed().as_ref().is_some_and(has_left) {
            return;
        }
        let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) else { return };
        let mut failed = self.failed();
        if failed.is_none() {
            if has_left(&error) {
                tracing::warn!("nobody reads standard output any more; going on without it");
            } else {
                tracing::warn!(%error, "standard output can't be written, and events are lost; going on");
            }
            *failed = Some(error);
        }
    }

    /// At the end, errors if events were lost that somebody wanted. A reader that has left wants none.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self.failed().take() {
            Some(error) if !has_left(&error) => {
                Err(anyhow::Error::new(error).context("events were lost: standard output couldn't be written"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether the reader of standard output has closed its end.
fn has_left(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// A line of JSON that `node` or `demo` writes.
#[derive(schemars::JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is wanted")]
enum Line {
    Node(TimedEvent),
    Demo(DemoLine),
}

/// The JSON schema of a line.
pub(super) fn schema() -> serde_json::Result<String> {
    serde_json::to_string_pretty(&schemars::schema_for!(Line))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_schema_in_the_repository_is_the_one_of_the_program() {
        let kept = include_str!("../../schema/events.schema.json");
        let same = kept.trim() == schema().unwrap().trim();
        assert!(same, "write it anew: cargo run -- event-schema > schema/events.schema.json");
    }

    #[test]
    fn a_line_is_the_event_with_its_time() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_005);
        let timed = TimedEvent { time, event: Event::CaughtUp { from: 1, epoch: 4 } };
        let line = serde_json::to_string(&timed).unwrap();
        assert_eq!(line, r#"{"time":"2023-11-14T22:13:20.005Z","event":"caught_up","from":1,"epoch":4}"#);
        assert_eq!(serde_json::from_str::<TimedEvent>(&line).unwrap(), timed);
        assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), timed.event);
        assert!(serde_json::from_str::<TimedEvent>(&line.replace("2023", "x")).is_err());
    }

    /// Fails as long as it is told to.
    struct Faulty(Option<io::ErrorKind>, Vec<u8>);

    impl Write for Faulty {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.0 {
                Some(kind) => Err(kind.into()),
                None => self.1.write(bytes),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_an_error_at_the_end_and_a_reader_that_has_left_is_none() {
        let output = EventOutput::new(true);
        output.write(&mut Faulty(Some(io::ErrorKind::BrokenPipe), vec![]), "lost");
        output.check().unwrap();

        let output = EventOutput::new(true);
        output.write(&mut Faulty(Some(io::ErrorKind::StorageFull), vec![]), "lost");
        // There may be room again.
        let mut repaired = Faulty(None, vec![]);
        output.write(&mut repaired, "line");
        assert_eq!(repaired.1, b"line\n");
        let error = output.check().unwrap_err();
        assert!(error.to_string().contains("events were lost"), "{error}");
    }
}
