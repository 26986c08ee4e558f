//! What this crate's programs have in common: arguments, logs, signals, errors on one line, and wrapping text.

mod environment;
mod mistakes;
mod page;
#[cfg(feature = "cli")]
mod sheet;
#[cfg(feature = "cli")]
mod show;
mod signals;
#[cfg(feature = "cli")]
mod strategy;
mod suggestion;
#[cfg(feature = "cli")]
mod timed_event;

pub(crate) use self::signals::stop_on_signals;
#[cfg(feature = "cli")]
pub use self::timed_event::TimedEvent;
#[cfg(feature = "cli")]
pub(crate) use self::{
    mistakes::{of_flag, one_line},
    page::{columns, sentence, wrapped},
    sheet::{Column, Sheet},
    show::{routes_text, short_peer, some_names, text as event_text},
    strategy::{for_strategy, strategy_error, strategy_of, strategy_spec},
    suggestion::did_you_mean,
    timed_event::rfc_3339,
};

use crate::{descriptors, logs::Gathered};
use anyhow::Context;
use clap::ArgMatches;
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    thread,
};
use tracing_subscriber::{EnvFilter, Layer, filter::FilterExt, layer::SubscriberExt, util::SubscriberInitExt};

/// Raises the limit of open files, parses the arguments and does the work that they ask for. What went wrong is one
/// line on standard error; the exit code is 0 for success, 2 for arguments that can't be, 1 for all else.
///
/// `logs` says what is logged to standard error if `RUST_LOG` doesn't. Variables of the environment that begin with the
/// prefix and that nothing reads are warned of.
pub(crate) fn run(
    command: clap::Command,
    prefix: &str,
    logs: impl FnOnce(&ArgMatches) -> &'static str,
    work: impl FnOnce(&ArgMatches) -> anyhow::Result<ExitCode>,
) -> ExitCode {
    descriptors::raise_limit();
    let unread = environment::unread(&command, prefix);
    let warn = || unread.iter().for_each(|warning| mistakes::tell("warning", warning));
    let arguments: Vec<_> = std::env::args_os().collect();
    let matches = match environment::parse(&environment::without_empty_variables(command), &arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // It may be the reason why something is missing.
            if error.use_stderr() {
                warn();
            }
            return mistakes::in_arguments(&error);
        }
    };
    warn();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(logs(&matches)));
    let color = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(color);
    let gathered = Gathered::new(|line| drop(writeln!(io::stderr().lock(), "{line}")));
    tracing_subscriber::registry().with(lines.with_filter(filter.and(gathered))).init();
    match work(&matches) {
        Ok(code) => code,
        Err(error) => match error.downcast::<clap::Error>() {
            Ok(error) => mistakes::in_arguments(&error),
            Err(error) => {
                mistakes::tell("error", &mistakes::one_line(&error));
                ExitCode::FAILURE
            }
        },
    }
}

/// Writes to standard output. It is no error if its reader has left.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The result of a write to standard output. It is no error if its reader has left.
fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
        _ => Ok(()),
    }
}

/// Commands that a node started by a program obeys, one line each on its standard input: behave as if there were no
/// network, and restore it.
#[cfg(feature = "cli")]
pub(crate) const NETWORK_DOWN: &str = "network down";
#[cfg(feature = "cli")]
pub(crate) const NETWORK_UP: &str = "network up";

/// Ends the process when standard input ends, because the program that started it has gone. Until then each line is a
/// command.
pub(crate) fn end_with_stdin(mut obey: impl FnMut(&str) + Send + 'static) {
    thread::spawn(move || {
        io::stdin().lines().map_while(Result::ok).for_each(|line| obey(&line));
        std::process::exit(1);
    });
}
