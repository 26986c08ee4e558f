//! The demo's temporary directory, and the guard that removes it.

use crate::home::Home;
use anyhow::{Context, bail};
use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    path::PathBuf,
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
    /// The guard makes the directory, so that there is never a moment in which nobody would remove it.
    pub(super) fn create() -> anyhow::Result<Self> {
        let mut command = program()?;
        command.arg("demo-guard").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut guard = command.spawn().context("the demo's guard can't be started")?;
        let (pipe, stdout) = (guard.stdin.take(), guard.stdout.take());
        let mut path = String::new();
        BufReader::new(stdout.context("the guard's output")?).read_line(&mut path).context("the guard's output")?;
        if path.is_empty() {
            let output = guard.wait_with_output().context("waiting for the guard")?;
            let reason = String::from_utf8_lossy(&output.stderr);
            let reason = reason.trim();
            bail!("no temporary directory: {}", reason.strip_prefix("error: ").unwrap_or(reason));
        }
        Ok(Self { path: path.trim_end_matches('\n').into(), guard, pipe })
    }

    /// Makes an empty home in the directory.
    pub(super) fn home(&self, name: &str) -> anyhow::Result<PathBuf> {
        let home = self.path.join(name);
        fs::create_dir_all(&home).with_context(|| format!("creating {}", home.display()))?;
        Ok(home)
    }

    /// Writes a file in the directory; gives its path.
    pub(super) fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
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

/// This program, in a separate process group, so that Ctrl-C reaches only the demo. Settings of the user's own nodes,
/// and keys to their buckets, aren't passed on.
pub(super) fn program() -> anyhow::Result<Command> {
    let path = std::env::current_exe().context("the demo can't find its own program")?;
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy();
        if name.starts_with("PEERFOLD_") || name.starts_with("AWS_") {
            command.env_remove(variable);
        }
    }
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    Ok(command)
}

/// Makes the directory and writes its path to standard output. Waits for the end of standard input, then until no node
/// uses a home in the directory, then removes it.
pub(crate) fn guard() -> anyhow::Result<()> {
    let dir = tempfile::Builder::new().prefix("peerfold-demo-").tempdir()?;
    let path = dir.path().to_str().with_context(|| format!("{} is not UTF-8", dir.path().display()))?;
    // If nobody reads this, standard input has ended too.
    let _ = writeln!(io::stdout(), "{path}");
    io::stdin().read_to_end(&mut Vec::new()).context("waiting for the demo")?;
    let dir = dir.keep();
    while dir.exists() {
        // A node that is just starting finds its home locked or gone, and doesn't create one.
        let files: Vec<PathBuf> =
            fs::read_dir(&dir)?.map(|file| file.map(|file| file.path())).collect::<Result<_, _>>()?;
        let homes = files.iter().filter(|file| file.is_dir());
        let locks = homes.map(|home| Home::wait_until_free(home)).collect::<Result<Vec<_>, _>>()?;
        match fs::remove_dir_all(&dir) {
            Err(error) if !is_transient(&error) => {
                return Err(error).with_context(|| format!("removing {}", dir.display()));
            }
            _ => drop(locks),
        }
    }
    Ok(())
}

/// Whether somebody created a file between the listing and the removal.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound)
}
