//! Settings in layers: flags override the environment, which overrides the TOML file, which overrides the defaults.

use super::{
    derived,
    settings::{SettingsError, node_settings},
    source::{Given, Setting, Source},
};
use crate::{
    printable::printable,
    program::did_you_mean,
    settings::{Field, Values},
};
use std::{cmp::Ordering, collections::BTreeMap, fs, path::Path};
use toml::Spanned;

/// Merges the layers. Every number among them is in its bounds.
pub(super) fn resolve(given: &Given, config: Option<&Path>) -> Result<Given, SettingsError> {
    let fields = node_settings();
    let mut settings = match config {
        Some(path) => read_toml(path, &fields)?,
        None => Given::new(),
    };
    check(&fields, &settings)?;
    check(&fields, given)?;
    settings.extend(given.clone());
    keep_nearer(&mut settings, "period", "steps-per-epoch");
    let defaults = derived::defaults(&values(&settings)).map_err(|error| sourced(error, &settings))?;
    for (key, value) in defaults {
        settings.entry(key).or_insert(Setting { value, source: Source::Default });
    }
    Ok(settings)
}

fn check(fields: &[Field], settings: &Given) -> Result<(), SettingsError> {
    for field in fields {
        if let Some(setting) = settings.get(field.key) {
            field.check(&setting.value).map_err(|mistake| sourced(mistake.into(), settings))?;
        }
    }
    Ok(())
}

/// If two settings say the same thing, the one from the higher layer wins. If both are from one layer, both stay, so
/// that it can be reported.
fn keep_nearer(settings: &mut Given, a: &str, b: &str) {
    let rank = |key: &str| settings.get(key).map(|setting| setting.source.rank());
    let (Some(rank_a), Some(rank_b)) = (rank(a), rank(b)) else { return };
    match rank_a.cmp(&rank_b) {
        Ordering::Less => settings.remove(a),
        Ordering::Greater => settings.remove(b),
        Ordering::Equal => None,
    };
}

/// The settings without their sources.
pub(super) fn values(settings: &Given) -> Values {
    settings.iter().map(|(key, setting)| (key.clone(), setting.value.clone())).collect()
}

/// The error, with the source of the value if it is about one.
fn sourced(error: SettingsError, settings: &Given) -> SettingsError {
    error.told_of(|key| Some(settings.get(key)?.source.clone()))
}

/// The same for any error.
pub(super) fn blamed(error: anyhow::Error, settings: &Given) -> anyhow::Error {
    match error.downcast::<SettingsError>() {
        Ok(error) => sourced(error, settings).into(),
        Err(error) => error,
    }
}

/// The settings as TOML, each with its source in a comment.
pub(super) fn render(settings: &Given) -> String {
    let line = |(key, setting): (&String, &Setting)| format!("{key} = {}", setting.value.to_toml());
    let lines: Vec<String> = settings.iter().map(line).collect();
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    lines
        .iter()
        .zip(settings.values())
        .map(|(line, setting)| format!("{line:width$}  # {}\n", setting.source))
        .collect()
}

fn read_toml(path: &Path, fields: &[Field]) -> Result<Given, SettingsError> {
    let read = fs::read_to_string(path);
    let text = read.map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
    parse_toml(path, &text, fields)
}

/// The settings in the text of the file at `path`.
pub(super) fn parse_toml(path: &Path, text: &str, fields: &[Field]) -> Result<Given, SettingsError> {
    let wrong = |at: Option<usize>, message: String| {
        let place = at.map(|at| place(text, at)).unwrap_or_default();
        SettingsError::Toml { path: path.to_owned(), place, message }
    };
    let table: BTreeMap<Spanned<String>, Spanned<toml::Value>> = toml::from_str(text).map_err(|error| {
        wrong(error.span().map(|span| span.start), printable(&error.message().replace('\n', " ")).into_owned())
    })?;
    let mut settings = Given::new();
    for (key, value) in table {
        let at = Some(key.span().start);
        let key = key.into_inner();
        let field = fields.iter().find(|field| field.key == key);
        let field = field.ok_or_else(|| wrong(at, unknown(&key, fields)))?;
        let value = field.form.read_toml(value.into_inner()).map_err(|what| wrong(at, what))?;
        settings.insert(key, Setting { value, source: Source::File(path.to_owned()) });
    }
    Ok(settings)
}

/// The error for an unknown setting, with a suggestion.
fn unknown(key: &str, fields: &[Field]) -> String {
    format!("there is no setting `{}`{}", printable(key), did_you_mean(key, fields.iter().map(|field| field.key)))
}

/// ` at line N (key)`: where in a TOML file something is wrong.
fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let number = before.matches('\n').count();
    let key = text.lines().nth(number).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
    let key = key.map(|key| format!(" ({})", printable(key))).unwrap_or_default();
    format!(" at line {}{key}", number + 1)
}
