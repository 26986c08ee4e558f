//! A bad line between a site and the internet, in a namespace of its own: carried by `line.py`.

use super::{run, tool};
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/sites/line.py");

/// What a line does to each packet, each way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quality {
    /// How late it comes at least.
    pub(crate) milliseconds: u32,
    /// How much later some come, so that others overtake them.
    pub(crate) jitter: u32,
    /// Which part never comes.
    pub(crate) loss: f64,
    pub(crate) seed: u64,
}

/// A running line.
pub(super) struct Line {
    process: Child,
}

impl Line {
    /// Between two devices of a namespace.
    pub(super) fn between(namespace: &str, devices: [&str; 2], quality: Quality) -> Result<Self, String> {
        let mut command = Command::new(tool("ip")?);
        command.args(["netns", "exec", namespace, &tool("python3")?, SCRIPT, "carry"]).args(devices);
        let Quality { milliseconds, jitter, loss, seed } = quality;
        command.args([seed.to_string(), milliseconds.to_string(), jitter.to_string(), loss.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let process = command.spawn().map_err(|error| format!("`python3`: {error}"))?;
        let mut line = Self { process };
        let output = line.process.stdout.take().ok_or("`python3` has no output")?;
        let mut said = String::new();
        BufReader::new(output).read_line(&mut said).map_err(|error| format!("`python3`: {error}"))?;
        if said.trim() == "ready" { Ok(line) } else { Err(format!("`{SCRIPT}` can't carry anything: {said:?}")) }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Has a device send what a cable can carry, without what only virtual ones pass on.
pub(super) fn plain(namespace: &str, device: &str) -> Result<(), String> {
    run("python3", &["netns", "exec", namespace, &tool("python3")?, SCRIPT, "plain", device], true)
}
