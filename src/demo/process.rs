//! A node as a process of its own.

use super::directory::program;
use crate::program::TimedEvent;
use anyhow::Context;
use std::{
    collections::VecDeque,
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::SyncSender,
    thread::{self, JoinHandle},
};

/// The longest line that is read from a node.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// Lines of a node's log that are kept to explain its end.
const LOG_LINES: usize = 20;

/// What comes from the processes and from the user.
pub(super) enum Message {
    /// A node's event.
    Event(usize, Box<TimedEvent>),
    /// A node's standard output has ended.
    Ended(usize),
    /// A stop was requested.
    Stop,
}

/// A running node. Dropping it kills it.
pub(super) struct NodeProcess {
    child: Child,
    /// The node ends when this does, and obeys what is written here.
    stdin: Option<ChildStdin>,
    log: Option<JoinHandle<VecDeque<String>>>,
}

impl NodeProcess {
    /// Starts node `number`, whose events go to `messages`.
    pub(super) fn start(
        number: usize,
        arguments: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (&'static str, String)>,
        messages: SyncSender<Message>,
    ) -> anyhow::Result<Self> {
        let mut command = program()?;
        command.args(arguments).envs(variables);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("node {number} can't be started"))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        thread::spawn(move || {
            for line in stdout.into_iter().flat_map(|out| lines(BufReader::new(out))) {
                if let Ok(event) = serde_json::from_str(&line) {
                    let _ = messages.send(Message::Event(number, Box::new(event)));
                }
            }
            let _ = messages.send(Message::Ended(number));
        });
        let log = thread::spawn(move || {
            let mut log = VecDeque::new();
            for line in stderr.into_iter().flat_map(|err| lines(BufReader::new(err))) {
                tracing::info!(node = number, "{line}");
                log.push_back(line);
                if log.len() > LOG_LINES {
                    log.pop_front();
                }
            }
            log
        });
        Ok(Self { child, stdin, log: Some(log) })
    }

    /// Sends the node a command. It is ignored if the node has gone.
    pub(super) fn tell(&mut self, order: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = writeln!(stdin, "{order}");
        }
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("a node can't be killed")
    }

    /// Waits for the end; the reason, if it failed.
    pub(super) fn wait(mut self) -> anyhow::Result<Option<String>> {
        let status = self.child.wait().context("waiting for a node")?;
        let log = self.log.take().and_then(|log| log.join().ok()).unwrap_or_default();
        if status.success() {
            return Ok(None);
        }
        let error = log.iter().rev().find_map(|line| line.strip_prefix("error: "));
        // Without an error it has panicked, or somebody has killed it, which its log doesn't show.
        let error = error.or(status.code().and(log.back().map(String::as_str)));
        Ok(Some(error.map_or_else(|| format!("it ended with {status}"), str::to_owned)))
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of bounded length; a longer one is cut in pieces.
pub(super) fn lines(mut reader: impl BufRead) -> impl Iterator<Item = String> {
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        let read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).ok()?;
        (read > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
    })
}
