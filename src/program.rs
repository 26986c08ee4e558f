//! What this crate's programs have in common: arguments, logs, signals, and every mistake as one line.

mod mistakes;
mod signals;

pub(crate) use self::{mistakes::one_line, signals::stop_on_signals};

use crate::descriptors;
use anyhow::Context;
use clap::ArgMatches;
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    thread,
};
use tracing_subscriber::EnvFilter;

/// Raises the limit of open files, parses the arguments and does the work that they ask for. What went wrong is one line on standard error; the exit code
/// is 0 for success, 2 for arguments that can't be, 1 for all else.
///
/// `logs` says what is logged to standard error if `RUST_LOG` doesn't.
pub(crate) fn run(
    command: clap::Command,
    logs: impl FnOnce(&ArgMatches) -> &'static str,
    work: impl FnOnce(&ArgMatches) -> anyhow::Result<ExitCode>,
) -> ExitCode {
    descriptors::raise_limit();
    let matches = match without_empty_variables(command).try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return mistakes::in_arguments(&error),
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(logs(&matches)));
    let color = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(color).init();
    match work(&matches) {
        Ok(code) => code,
        Err(error) => match error.downcast::<clap::Error>() {
            Ok(error) => mistakes::in_arguments(&error),
            Err(error) => {
                eprintln!("error: {}", one_line(&error));
                ExitCode::FAILURE
            }
        },
    }
}

/// A variable of the environment that is empty is one that is not set.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_env().map(std::env::var_os) {
        Some(Some(value)) if value.is_empty() => arg.env(None),
        _ => arg,
    });
    command.mut_subcommands(without_empty_variables)
}

/// Writes to standard output. That its reader has left is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// What has become of a write to standard output. That its reader has left is no error.
fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
        _ => Ok(()),
    }
}

/// Ends the process when standard input ends: whoever started it is gone. Until then each of its lines is obeyed.
pub(crate) fn end_with_stdin(mut obey: impl FnMut(&str) + Send + 'static) {
    thread::spawn(move || {
        io::stdin().lines().map_while(Result::ok).for_each(|line| obey(&line));
        std::process::exit(1);
    });
}
