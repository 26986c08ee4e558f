//! The demo's temporary directory, and the guard that removes it.

use crate::home::Home;
use anyhow::Context;
use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

/// A temporary directory that is removed when this is dropped, and also when this process is killed.
pub(super) struct Directory {
    path: PathBuf,
    guard: Child,
    /// The guard waits for the end of this pipe.
    pipe: Option<ChildStdin>,
}

impl Directory {
    pub(super) fn create() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("peerfold-demo-").tempdir().context("no temporary directory")?;
        let mut command = program()?;
        command.arg("demo-guard").arg(dir.path()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut guard = command.spawn().context("the demo's guard can't be started")?;
        let pipe = guard.stdin.take();
        Ok(Self { path: dir.keep(), guard, pipe })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.pipe = None;
        let removed = self.guard.wait().is_ok_and(|status| status.success());
        if !removed {
            // The guard itself was killed.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// This program, in a process group of its own, so that Ctrl-C reaches the demo alone.
pub(super) fn program() -> anyhow::Result<Command> {
    let path = std::env::current_exe().context("the demo can't find its own program")?;
    let mut command = Command::new(path);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    Ok(command)
}

/// Waits for the end of standard input, then until no node uses a home in the directory, then removes the directory.
pub(crate) fn guard(dir: &Path) -> anyhow::Result<()> {
    io::stdin().read_to_end(&mut Vec::new()).context("waiting for the demo")?;
    let homes = fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?;
    for home in homes {
        let home = home?.path();
        Home::wait_until_free(&home).with_context(|| format!("waiting for {}", home.display()))?;
    }
    fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))
}
