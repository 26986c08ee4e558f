//! The demo's bootstrap node, as a process of its own.

use super::{
    directory::{Directory, program},
    process::lines,
};
use anyhow::{Context, bail};
use std::{
    io::BufReader,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
    thread,
};

/// Where it listens, for the demo's nodes alone.
const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";

/// A running bootstrap node. Dropping it kills it.
pub(super) struct Bootstrap {
    child: Child,
    /// It ends when this does.
    _stdin: Option<ChildStdin>,
    list: PathBuf,
}

impl Bootstrap {
    /// Starts it with a home in the directory, and writes a list with its address there.
    pub(super) fn start(directory: &Directory) -> anyhow::Result<Self> {
        let home = directory.home("bootstrap")?;
        let mut command = program()?;
        command.args(["bootstrap", "--end-with-stdin", "--listen", LISTEN, "--home"]).arg(home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("the bootstrap node can't be started")?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut bootstrap = Self { child, _stdin: stdin, list: PathBuf::new() };
        let mut addresses = lines(BufReader::new(stdout.context("the bootstrap node's output")?));
        let Some(address) = addresses.next() else {
            let log: Vec<String> = stderr.into_iter().flat_map(|err| lines(BufReader::new(err))).collect();
            bail!("the bootstrap node failed: {}", log.last().map_or("it gave no reason", String::as_str));
        };
        bootstrap.list = directory.write("peers.txt", &format!("# The demo's bootstrap node\n{address}\n"))?;
        thread::spawn(move || {
            let log = stderr.into_iter().flat_map(|err| lines(BufReader::new(err)));
            log.for_each(|line| tracing::info!(bootstrap = true, "{line}"));
        });
        Ok(bootstrap)
    }

    /// The list that leads to it.
    pub(super) fn list(&self) -> &Path {
        &self.list
    }
}

impl Drop for Bootstrap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
