//! Reports mistakes and failures, each as one line.

use super::{
    page::{error_columns, sentence},
    written,
};
use crate::descriptors;
use crate::printable::printable;
#[cfg(feature = "cli")]
use crate::settings::Mistake;
use clap::error::ErrorKind;
use std::process::ExitCode;

/// Writes a line to standard error: `error: …`. Only on a terminal it is broken, between words.
pub(super) fn tell(what: &str, text: &str) {
    eprintln!("{}", sentence(&format!("{what}: {text}"), error_columns()));
}

/// Reports what is wrong with the arguments, or shows the help that they ask for. The exit code is 2 or 0.
pub(super) fn in_arguments(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            if let Err(error) = written(error.print()) {
                eprintln!("error: {}", one_line(&error));
                return ExitCode::FAILURE;
            }
        }
        _ => {
            let text = format!("{} (see --help)", shortened(&error.render().to_string()));
            tell("error", text.strip_prefix("error: ").unwrap_or(&text));
        }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// What clap says, without its usage and with its tips, on one line.
fn shortened(text: &str) -> String {
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")).collect();
    lines.join("; ")
}

/// An error with its causes, and what to do if it ran out of file descriptors. Causes that the text already contains
/// are left out.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    if error.chain().any(descriptors::exhausted) {
        text = format!("{text}: {}", descriptors::advice());
    }
    let line = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    printable(&line).into_owned()
}

/// What is wrong with a setting that a flag gives.
#[cfg(feature = "cli")]
pub(crate) fn of_flag(mistake: &Mistake) -> String {
    format!("--{} {}: {}", mistake.key, mistake.value, mistake.what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("reading x failed: {0}")]
        struct Outer(#[source] std::fmt::Error);

        let error = Err::<(), _>(Outer(std::fmt::Error)).context("no\nstart").err();
        let line = error.as_ref().map(one_line);
        assert_eq!(line.as_deref(), Some(format!("no start: reading x failed: {}", std::fmt::Error).as_str()));
    }

    #[test]
    fn arguments_that_cannot_be_are_told_without_the_usage() {
        let text = "error: unexpected argument '--nope' found\n\n  tip: a similar argument exists: '--nodes'\n\n\
                    Usage: peerfold node\n\nFor more information, try '--help'.\n";
        let expected = "error: unexpected argument '--nope' found; tip: a similar argument exists: '--nodes'";
        assert_eq!(shortened(text), expected);
    }
}
