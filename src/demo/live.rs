//! What the demo shows while it runs: a line for each node that is updated in place on a terminal, plain lines when
//! piped, JSON lines with `--json`.

use super::{
    event::{ALONE, DemoEvent, DemoLine},
    table::{Summary, amount},
};
use crate::{
    bucket::BucketFigures,
    node::{Event, FoldedUpdate, Origin, Stop},
    program::{TimedEvent, columns, routes_text, sentence, short_peer},
};
use anyhow::Context;
use console::{Term, measure_text_width};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    time::SystemTime,
};

/// How often a terminal is drawn in a second, at most.
const DRAWINGS: u8 = 20;
/// Columns of a bar.
const BAR: usize = 6;

enum Form {
    /// One for each phase: what it has drawn stays where it is when the next one begins.
    Terminal(RefCell<MultiProgress>),
    Lines,
    Json,
}

struct Row {
    bar: Option<ProgressBar>,
    folded: String,
}

/// The display.
pub(super) struct Live {
    form: Form,
    /// The stop that is requested when nobody reads any more.
    stop: Stop,
    /// Why a line could not be written, unless its reader has left.
    failed: RefCell<Option<io::Error>>,
    phase: Cell<&'static str>,
    rows: RefCell<Vec<Row>>,
}

impl Live {
    pub(super) fn new(json: bool, stop: Stop) -> Self {
        let form = if json {
            Form::Json
        } else if std::io::stdout().is_terminal() {
            Form::Terminal(RefCell::new(bars()))
        } else {
            Form::Lines
        };
        Self { form, stop, failed: RefCell::default(), phase: Cell::new(""), rows: RefCell::default() }
    }

    /// A line between the phases.
    pub(super) fn headline(&self, text: &str) {
        match self.form {
            Form::Json => {}
            _ => self.line(&sentence(text, columns())),
        }
    }

    /// The nodes of a phase begin.
    pub(super) fn begin(&self, phase: &'static str, nodes: usize, epochs: u64) {
        self.phase.set(phase);
        if let Form::Terminal(drawn) = &self.form {
            drawn.replace(bars());
        }
        let row = |number: usize| {
            let bar = match &self.form {
                Form::Terminal(bars) => {
                    let bar = bars.borrow().add(ProgressBar::new(epochs));
                    let template = format!("{{prefix}} {{bar:{BAR}.cyan/dim}} {{wide_msg}}");
                    if let Ok(style) = ProgressStyle::with_template(&template) {
                        bar.set_style(style);
                    }
                    bar.set_prefix(format!("node {number}"));
                    bar.set_message("starting");
                    Some(bar)
                }
                _ => None,
            };
            Row { bar, folded: String::new() }
        };
        *self.rows.borrow_mut() = (0..nodes).map(row).collect();
    }

    /// The phase is over, however it ended; its lines stay.
    pub(super) fn end(&self) {
        let rows = self.rows.take();
        let bars: Vec<_> = rows.iter().filter_map(|row| row.bar.as_ref()).collect();
        bars.iter().for_each(|bar| bar.abandon());
        if !bars.is_empty() {
            self.line("");
        }
    }

    /// Shows what happened in a node. `names` has the nodes' names by peer id.
    pub(super) fn event(&self, number: usize, timed: &TimedEvent, names: &BTreeMap<String, String>) {
        let event = &timed.event;
        if let Form::Json = self.form {
            // The event's own line, with two fields more.
            if let Ok(serde_json::Value::Object(mut line)) = serde_json::to_value(timed) {
                line.insert("phase".to_owned(), self.phase.get().into());
                line.insert("node".to_owned(), number.into());
                self.line(&serde_json::Value::Object(line).to_string());
            }
            return;
        }
        let name = |peer: &str| names.get(peer).cloned().unwrap_or_else(|| short_peer(peer));
        match event {
            Event::Folded { updates, .. } => self.folded(number, format!("folded node {}", stale_text(updates, name))),
            // Alone there is nobody to fold with, which needn't be repeated after each epoch.
            Event::NotFolded { .. } if self.phase.get() == ALONE => {}
            Event::NotFolded { reason, .. } => self.folded(number, format!("not folded: {reason}")),
            Event::FolderFailed { epoch, reason } => self.note(number, &format!("epoch {epoch}: {reason}; trains on")),
            Event::Excluded { author, reason } => self.note(number, &format!("excluded {}: {reason}", name(author))),
            Event::Routes { network, bucket, reason } => {
                self.note(number, &routes_text(*network, *bucket, reason.as_deref()));
            }
            Event::PeerDropped { peer, reason, .. } => self.note(number, &format!("dropped {}: {reason}", name(peer))),
            Event::CaughtUp { from, epoch } => {
                self.note(number, &format!("caught up with the others: from epoch {from} to {epoch}"));
            }
            Event::Started { epoch, origin: Origin::Checkpoint, .. } => {
                self.note(number, &format!("resumed from its checkpoint, epoch {epoch}"));
            }
            Event::Rejected { author, epoch, reason } => {
                self.note(number, &format!("rejected the update of {} for epoch {epoch}: {reason}", name(author)));
            }
            Event::Waiting { reason, present, needed, .. } => {
                self.status(number, &format!("waiting, {present} of {needed} ({reason})"));
            }
            Event::EpochDone { epoch, epochs, metrics, peers, sent, received, bucket, .. } => {
                let metric = |name: &str| metrics.get(name).copied().unwrap_or(f64::NAN);
                let folded = self.rows.borrow().get(number).map(|row| row.folded.clone()).unwrap_or_default();
                let (loss, accuracy) = (metric("loss"), 100.0 * metric("accuracy"));
                let network = peers.zip(sent.zip(*received));
                // Behind a network the bucket is the smaller part.
                let bucket = bucket.filter(|_| network.is_none());
                match self.rows.borrow().get(number).and_then(|row| row.bar.as_ref()) {
                    Some(bar) => {
                        bar.set_position(*epoch);
                        let network = network.map(|(peers, (sent, received))| {
                            format!("⇄{peers} ↑{} ↓{}", amount(sent), amount(received))
                        });
                        let bucket = bucket.map(|bucket| {
                            let BucketFigures { sent, received, .. } = bucket;
                            format!("S3 {} ↑{} ↓{}", bucket.requests(), amount(sent), amount(received))
                        });
                        let figures = format!("{epoch}/{epochs} loss {loss:.3} acc {accuracy:4.1} %");
                        let moved = network.or(bucket).unwrap_or_default();
                        let folded = folded.replace("folded node ", "folded ");
                        let used = measure_text_width(&bar.prefix()) + BAR + 2;
                        let room = columns().map_or(usize::MAX, |columns| columns.saturating_sub(used));
                        bar.set_message(fitting(figures, &moved, &folded, room));
                    }
                    None => {
                        let network = network.map(|(peers, (sent, received))| {
                            let ending = if peers == 1 { "" } else { "s" };
                            format!("{peers} peer{ending}, sent {}, received {}  ", amount(sent), amount(received))
                        });
                        let bucket = bucket.map(|bucket| {
                            let BucketFigures { sent, received, .. } = bucket;
                            let (requests, sent, received) = (bucket.requests(), amount(sent), amount(received));
                            format!("{requests} requests, uploaded {sent}, downloaded {received}  ")
                        });
                        let line = format!(
                            "node {number}  epoch {epoch}/{epochs}  loss {loss:.3}  accuracy {accuracy:4.1} %  \
                             {}{folded}",
                            network.or(bucket).unwrap_or_default(),
                        );
                        self.line(line.trim_end());
                    }
                }
            }
            _ => {}
        }
    }

    /// What a node does now, on a terminal.
    pub(super) fn status(&self, number: usize, text: &str) {
        if let Some(bar) = self.rows.borrow().get(number).and_then(|row| row.bar.as_ref()) {
            bar.set_message(text.to_owned());
        }
    }

    /// Something out of the ordinary, which stays to be seen.
    pub(super) fn note(&self, number: usize, text: &str) {
        self.tell(Some(number), text);
    }

    /// Something that happens to all nodes.
    pub(super) fn announce(&self, text: &str) {
        self.tell(None, text);
    }

    fn tell(&self, node: Option<usize>, text: &str) {
        let line = || node.map_or_else(|| text.to_owned(), |number| format!("node {number}  {text}"));
        match &self.form {
            Form::Json => self.json(DemoEvent::Note { phase: self.phase.get(), node, note: text.to_owned() }),
            Form::Terminal(bars) => drop(bars.borrow().println(sentence(&line(), columns()))),
            Form::Lines => self.line(&line()),
        }
    }

    /// The table and what it shows.
    pub(super) fn summary(&self, summary: &Summary) {
        match self.form {
            Form::Json => self.json(DemoEvent::Summary { summary: summary.figures() }),
            _ => {
                self.line(&format!("\n{}\n", summary.table(columns())));
                self.line(&sentence(&summary.sentence(), columns()));
            }
        }
    }

    /// A demo that was stopped says only that.
    pub(super) fn stopped(&self) {
        if let Form::Json = self.form {
            self.json(DemoEvent::Stopped);
        }
    }

    /// Why it failed. For people, the program says so on standard error.
    pub(super) fn failed(&self, reason: &str) {
        if let Form::Json = self.form {
            self.json(DemoEvent::Failed { reason: reason.to_owned() });
        }
    }

    fn json(&self, event: DemoEvent) {
        let line = DemoLine { time: SystemTime::now(), event };
        if let Ok(line) = serde_json::to_string(&line) {
            self.line(&line);
        }
    }

    fn folded(&self, number: usize, text: String) {
        if let Some(row) = self.rows.borrow_mut().get_mut(number) {
            row.folded = text;
        }
    }

    /// Writes a line. The demo ends if nobody reads it any more.
    fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
            if error.kind() != io::ErrorKind::BrokenPipe {
                self.failed.borrow_mut().get_or_insert(error);
            }
            self.stop.request();
        }
    }

    /// Errors if something could not be shown that somebody wanted to see.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.failed.take().map_or(Ok(()), |error| Err(error).context("writing to standard output"))
    }
}

fn bars() -> MultiProgress {
    let screen = Box::new(Screen(Term::buffered_stdout()));
    MultiProgress::with_draw_target(ProgressDrawTarget::term_like_with_hz(screen, DRAWINGS))
}

/// A terminal whose cursor rests at the beginning of the last line. Left at its end, where bars leave it, the `^C` that
/// a terminal echoes would go to a line of its own, and the next drawing would be one line too low.
#[derive(Debug)]
struct Screen(Term);

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.0.size().1
    }

    fn height(&self) -> u16 {
        self.0.size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_left(n)
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.0.write_line(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.0.write_str(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.write_str("\r")?;
        self.0.flush()
    }
}

/// A node's figures with as much of the rest as there is room for: what it folded rather than what was moved. The
/// terminal cuts off what is too long even so.
fn fitting(figures: String, moved: &str, folded: &str, room: usize) -> String {
    let with = |parts: &[&str]| {
        let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
        parts.join(" ")
    };
    let candidates = [with(&[&figures, moved, folded]), with(&[&figures, folded]), with(&[&figures, moved])];
    candidates.into_iter().find(|text| measure_text_width(text) <= room).unwrap_or(figures)
}

/// What was folded, without the node's own update: `node 0, node 2 (1 stale)`.
fn stale_text(updates: &[FoldedUpdate], name: impl Fn(&str) -> String) -> String {
    let name = |peer: &str| name(peer).trim_start_matches("node ").to_owned();
    let peers = updates.iter().filter(|update| !update.own).map(|update| match update.staleness {
        0 => name(&update.author),
        staleness => format!("{} ({staleness} stale)", name(&update.author)),
    });
    peers.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_node_has_what_there_is_room_for() {
        let fitting = |room| fitting("3/8 loss 0.1".to_owned(), "⇄2 ↑1 B ↓2 B", "folded 1, 2", room);
        assert_eq!(fitting(37), "3/8 loss 0.1 ⇄2 ↑1 B ↓2 B folded 1, 2");
        assert_eq!(fitting(36), "3/8 loss 0.1 folded 1, 2");
        assert_eq!(fitting(24), "3/8 loss 0.1 folded 1, 2");
        assert_eq!(fitting(23), "3/8 loss 0.1");
    }
}
