//! Settings as flags and environment variables.

use super::{
    settings::{node_settings, variable},
    source::{Given, Setting, Source},
};
use crate::settings::{Field, Form, Written};
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint,
    builder::{BoolValueParser, PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser},
    parser::ValueSource,
};

/// The flags of a node: one for each setting.
pub(super) struct NodeFlags(pub(super) Given);

/// The flags of a node that say how to reach its shared folder.
pub(super) struct WayFlags(pub(super) Given);

/// The settings that [`WayFlags`] has.
const WAYS: [&str; 7] = ["secret", "s3-endpoint", "s3-allow-http", "bootstrap", "readmit", "listen", "no-mdns"];

/// The flags that say what the sites of a federation have in common, and its secret.
pub(super) struct InvitedFlags(pub(super) Given);

/// The settings that the sites of a federation have in common, so that an invitation may set them. None names a file.
pub(super) const SHARED: [&str; 24] = [
    "federation",
    "run",
    "folder",
    "bootstrap",
    "fallback",
    "admin",
    "s3-endpoint",
    "s3-allow-http",
    "dataset",
    "skew",
    "seed",
    "steps-per-epoch",
    "period",
    "batch-size",
    "lr",
    "strategy",
    "param",
    "sync",
    "nodes",
    "quorum",
    "deadline",
    "below-quorum",
    "min-peers",
    "max-staleness",
];

/// The flags of the settings that `peerfold check` tries out.
pub(super) struct CheckedFlags(pub(super) Given);

/// The settings that [`CheckedFlags`] has.
const CHECKED: [&str; 7] = ["federation", "run", "home", "secret", "bootstrap", "listen", "handshake-timeout"];

/// The flags of an administrator's commands.
pub(super) struct AdminFlags(pub(super) Given);

/// The settings that [`AdminFlags`] has: which list, and how to reach those who follow it.
const ADMINISTERED: [&str; 13] = [
    "federation",
    "run",
    "home",
    "folder",
    "bootstrap",
    "fallback",
    "admin",
    "secret",
    "s3-endpoint",
    "s3-allow-http",
    "readmit",
    "listen",
    "no-mdns",
];

fn administered() -> Vec<Field> {
    let is_administered = |field: &Field| ADMINISTERED.contains(&field.key);
    node_settings().into_iter().filter(is_administered).map(|field| Field { heading: None, ..field }).collect()
}

fn checked() -> Vec<Field> {
    let is_checked = |field: &Field| CHECKED.contains(&field.key);
    node_settings().into_iter().filter(is_checked).map(|field| Field { heading: None, ..field }).collect()
}

fn invited() -> Vec<Field> {
    let is_invited = |field: &Field| matches!(field.key, "secret" | "home") || SHARED.contains(&field.key);
    node_settings().into_iter().filter(is_invited).map(|field| Field { heading: None, ..field }).collect()
}

fn ways() -> Vec<Field> {
    let fields = node_settings();
    let field = |key| fields.iter().find(|field| field.key == key);
    WAYS.into_iter().filter_map(field).map(|field| Field { heading: None, ..*field }).collect()
}

/// A type whose flags are those of a list of settings.
macro_rules! flags {
    ($type:ident, $fields:path) => {
        impl Args for $type {
            fn augment_args(command: Command) -> Command {
                $fields().iter().fold(command, |command, field| command.arg(argument(field)))
            }

            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }

        impl FromArgMatches for $type {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self(
                    $fields().iter().filter_map(|field| Some((field.key.to_owned(), given(matches, field)?))).collect(),
                ))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0.extend(Self::from_arg_matches(matches)?.0);
                Ok(())
            }
        }
    };
}

flags!(NodeFlags, node_settings);
flags!(WayFlags, ways);
flags!(InvitedFlags, invited);
flags!(AdminFlags, administered);
flags!(CheckedFlags, checked);

/// The flag of a setting.
fn argument(field: &Field) -> Arg {
    let form = field.form;
    let help = field.help();
    let argument = Arg::new(field.key)
        .long(field.key)
        .env(variable(field.key))
        .value_name(field.value_name)
        .help(help.strip_suffix('.').map_or(help.clone(), str::to_owned))
        .help_heading(field.heading);
    match form {
        Form::Switch => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(BoolValueParser::new().map(Written::Switch)),
        Form::Choice(words) => {
            let words = words.iter().map(|(word, meaning)| PossibleValue::new(*word).help(*meaning));
            argument.value_parser(PossibleValuesParser::new(words).map(Written::Text))
        }
        _ => {
            let argument = argument.value_parser(ValueParser::from(move |text: &str| form.read_text(text)));
            let argument = if form.is_list() { argument.action(ArgAction::Append) } else { argument };
            match form {
                Form::List | Form::Pairs => argument.value_delimiter(','),
                Form::Path => argument.value_hint(ValueHint::AnyPath),
                _ => argument,
            }
        }
    }
}

/// What a flag or its variable says, if anything.
fn given(matches: &ArgMatches, field: &Field) -> Option<Setting> {
    let source = match matches.value_source(field.key)? {
        ValueSource::EnvVariable => Source::Environment(variable(field.key)),
        ValueSource::CommandLine => Source::Flag,
        _ => return None,
    };
    if !field.form.is_list() {
        return Some(Setting { value: matches.get_one::<Written>(field.key)?.clone(), source });
    }
    let texts = matches.get_many::<Written>(field.key)?.map(ToString::to_string);
    // A variable can be given once, so there commas separate; a flag can name a file that has one.
    let texts = match (field.form, &source) {
        (Form::Files, Source::Environment(_)) => {
            let split = texts.flat_map(|text| text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>());
            split.filter(|text| !text.is_empty()).collect()
        }
        _ => texts.collect(),
    };
    Some(Setting { value: Written::List(texts), source })
}
