//! Environment variables: blaming the right one for a bad value, and warning about unknown ones.

use super::suggestion::did_you_mean;
use clap::{
    ArgMatches, Command,
    error::{ContextKind, ContextValue},
};
use std::{collections::BTreeSet, env, ffi::OsString};

/// The command as if nothing were in the environment.
fn without_variables(command: Command) -> Command {
    command.mut_args(|arg| arg.env(None)).mut_subcommands(without_variables)
}

/// A variable of the environment that is empty is one that is not set.
pub(super) fn without_empty_variables(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_env().map(env::var_os) {
        Some(Some(value)) if value.is_empty() => arg.env(None),
        _ => arg,
    });
    command.mut_subcommands(without_empty_variables)
}

/// The variables that the command and its subcommands read.
fn variables(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()));
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

/// A line for each variable that begins with the prefix and that nothing reads.
pub(super) fn unread(command: &Command, prefix: &str) -> Vec<String> {
    let known = variables(command);
    let set = env::vars_os().filter(|(_, value)| !value.is_empty());
    let names = set.filter_map(|(name, _)| name.into_string().ok());
    let unread = names.filter(|name| name.starts_with(prefix) && !known.contains(name));
    unread.map(|name| warning(&name, prefix, &known)).collect()
}

fn warning(name: &str, prefix: &str, known: &BTreeSet<String>) -> String {
    // The common prefix would make all of them similar.
    let ends = known.iter().filter_map(|known| known.strip_prefix(prefix));
    let meant = did_you_mean(name.strip_prefix(prefix).unwrap_or(name), ends);
    let meant = meant.replace("did you mean ", &format!("did you mean {prefix}"));
    format!("the environment variable {name} means nothing to this program{meant}")
}

/// Parses the arguments. An invalid value from an environment variable is blamed on the variable.
pub(super) fn parse(command: &Command, arguments: &[OsString]) -> Result<ArgMatches, clap::Error> {
    command.clone().try_get_matches_from(arguments).map_err(|mut error| {
        let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return error };
        let Some(variable) = variable_of(command, arguments, argument) else { return error };
        let without = without_variables(command.clone()).try_get_matches_from(arguments);
        let blames = |other: &clap::Error| other.get(ContextKind::InvalidArg) == error.get(ContextKind::InvalidArg);
        if !without.is_err_and(|other| blames(&other)) {
            error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
        }
        error
    })
}

/// The variable that is set for the argument that clap shows like this: `--lr <F>`.
fn variable_of(command: &Command, arguments: &[OsString], shown: &str) -> Option<String> {
    let mut command = command.clone();
    command.build();
    let used =
        arguments.iter().skip(1).fold(&command, |command, name| command.find_subcommand(name).unwrap_or(command));
    let argument = used.get_arguments().find(|argument| argument.to_string() == shown)?;
    let variable = argument.get_env().filter(|variable| env::var_os(variable).is_some())?;
    Some(variable.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_nothing_reads_is_told_with_what_was_meant() {
        let known = ["PEERFOLD_EPOCHS", "PEERFOLD_EPOCHS_BETWEEN_FOLDS", "PEERFOLD_DATA", "PEERFOLD_LR"];
        let known: BTreeSet<String> = known.map(str::to_owned).into();
        for (name, end) in [
            ("PEERFOLD_EPOCH", "this program; did you mean PEERFOLD_EPOCHS?"),
            ("PEERFOLD_DATA_DIR", "this program; did you mean PEERFOLD_DATA?"),
            ("PEERFOLD_QZX", "PEERFOLD_QZX means nothing to this program"),
        ] {
            let warning = warning(name, "PEERFOLD_", &known);
            assert!(warning.ends_with(end), "{warning}");
        }
    }
}
