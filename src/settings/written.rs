//! Values as people write them in flags, environment variables and files.

use crate::printable::printable;
use bytesize::ByteSize;
use std::{fmt, time::Duration};

/// From here on, f64 doesn't represent every integer.
const EXACT: f64 = 9e15;

/// A setting's value as it was written, whoever wrote it: a time as a number of its unit, a size as text.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// Of [`Form::Switch`].
    Switch(bool),
    /// Of [`Form::Whole`].
    Whole(u64),
    /// Of [`Form::Number`] and of times. May be NaN or an infinity, which no setting is: see [`Range`](super::Range).
    Number(f64),
    /// A word, a name, a path, a size.
    Text(String),
    /// Several.
    List(Vec<String>),
}

/// How a setting is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `true` or `false`; a flag alone is `true`.
    Switch,
    /// A whole number, not negative.
    Whole,
    /// A number.
    Number,
    /// A time: a number of seconds, or one with its unit, `90s`, `5m`, `1h 30m`.
    Seconds,
    /// A time: a number of minutes, or one with its unit.
    Minutes,
    /// A number of bytes: `500MB`, `8GiB`.
    Size,
    /// A text.
    Text,
    /// The path of a file or directory.
    Path,
    /// One of these words, each with what it means.
    Choice(&'static [(&'static str, &'static str)]),
    /// Several texts. A flag can be given several times, and commas separate.
    List,
    /// Several texts that may have commas in them: a flag is given several times, and only in a variable commas separate.
    Files,
    /// Several `NAME=VALUE`, as [`List`](Self::List); in TOML also a table.
    Pairs,
}

impl Form {
    /// Whether there may be several values.
    pub fn is_list(self) -> bool {
        matches!(self, Self::List | Self::Files | Self::Pairs)
    }

    /// Whether it is a number, a time or a size.
    pub fn is_numeric(self) -> bool {
        matches!(self, Self::Whole | Self::Number | Self::Seconds | Self::Minutes | Self::Size)
    }

    /// What a text says; of a list, what one of its items says. Says in words why it says nothing.
    pub fn read_text(self, text: &str) -> Result<Written, String> {
        Ok(match self {
            Self::Switch => Written::Switch(text.parse().map_err(|_| "write true or false".to_owned())?),
            Self::Whole => Written::Whole(text.trim().parse().map_err(|error| format!("{error}"))?),
            Self::Number => Written::Number(text.trim().parse().map_err(|error| format!("{error}"))?),
            Self::Seconds => Written::Number(time(text, "seconds", Duration::from_secs(1))?),
            Self::Minutes => Written::Number(time(text, "minutes", Duration::from_secs(60))?),
            Self::Choice(words) if !words.iter().any(|(word, _)| *word == text) => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                return Err(format!("write one of {}", words.join(", ")));
            }
            Self::Path if text.is_empty() => return Err("write a path".to_owned()),
            _ => Written::Text(text.to_owned()),
        })
    }

    /// What a value in TOML says; a text that is no list says what it says in a flag.
    pub fn read_toml(self, value: toml::Value) -> Result<Written, String> {
        let shown = printable(&value.to_string()).into_owned();
        let wrong = |what: &str| Err(format!("{shown}: {what}"));
        match (self, value) {
            (Self::Pairs, toml::Value::Table(table)) => {
                let pairs = table.into_iter().map(|(name, value)| Some(format!("{name}={}", scalar(value)?)));
                pairs.collect::<Option<_>>().map_or_else(|| wrong(PAIRS), |pairs| Ok(Written::List(pairs)))
            }
            (form, toml::Value::Array(items)) if form.is_list() => {
                let texts = items.into_iter().map(|item| match item {
                    toml::Value::String(text) => Some(text),
                    _ => None,
                });
                texts.collect::<Option<_>>().map_or_else(|| wrong(form.of_toml()), |texts| Ok(Written::List(texts)))
            }
            (form, toml::Value::String(text)) if !form.is_list() => {
                form.read_text(&text).map_err(|what| format!("{shown}: {what}"))
            }
            (Self::Switch, toml::Value::Boolean(on)) => Ok(Written::Switch(on)),
            (Self::Whole, toml::Value::Integer(number)) => match number.try_into() {
                Ok(number) => Ok(Written::Whole(number)),
                Err(_) => wrong(Self::Whole.of_toml()),
            },
            (Self::Size, toml::Value::Integer(number)) => Ok(Written::Text(number.to_string())),
            (Self::Number | Self::Seconds | Self::Minutes, toml::Value::Integer(number)) => {
                Ok(Written::Number(number as f64))
            }
            (Self::Number | Self::Seconds | Self::Minutes, toml::Value::Float(number)) => Ok(Written::Number(number)),
            (form, _) => wrong(form.of_toml()),
        }
    }

    /// What to write in TOML.
    fn of_toml(self) -> &'static str {
        match self {
            Self::Switch => "write true or false",
            Self::Whole => "write a whole number, not negative",
            Self::Number => "write a number",
            Self::Seconds => "write a number of seconds, or a time like \"90s\" or \"5m\"",
            Self::Minutes => "write a number of minutes, or a time like \"90s\" or \"5m\"",
            Self::Size => "write a size like \"8GiB\" or \"500MB\"",
            Self::Text | Self::Path | Self::Choice(_) => "write a text in quotes",
            Self::List | Self::Files => "write a list [\"…\", \"…\"]",
            Self::Pairs => PAIRS,
        }
    }

    /// The number that a value is, of bytes if it is a size. `None` if it is none by its form.
    pub(super) fn number(self, written: &Written) -> Result<Option<f64>, String> {
        Ok(match (self, written) {
            (Self::Size, Written::Text(text)) => Some(size(text)?.as_u64() as f64),
            (_, Written::Whole(number)) => Some(*number as f64),
            (_, Written::Number(number)) => Some(*number),
            _ => None,
        })
    }
}

/// What parameters look like in TOML.
const PAIRS: &str = "write a list [\"NAME=VALUE\"] or a table { NAME = VALUE } of numbers, words, true, false";

fn scalar(value: toml::Value) -> Option<String> {
    Some(match value {
        toml::Value::Boolean(value) => value.to_string(),
        toml::Value::Integer(value) => value.to_string(),
        toml::Value::Float(value) => value.to_string(),
        toml::Value::String(value) => value,
        _ => return None,
    })
}

/// A time in its unit: a number, or one that says its unit itself.
fn time(text: &str, name: &str, unit: Duration) -> Result<f64, String> {
    if let Ok(number) = text.trim().parse() {
        return Ok(number);
    }
    let time = humantime::parse_duration(text);
    let time = time.map_err(|_| format!("write a number of {name}, or a time like 90s, 5m, 1h 30m"))?;
    Ok(time.as_secs_f64() / unit.as_secs_f64())
}

/// A number of bytes.
pub(super) fn size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| "write a number of bytes like 8GiB or 500MB".to_owned())
}

/// As it is written in a flag.
impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(on) => on.fmt(f),
            Self::Whole(number) => number.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => f.write_str(&items.join(",")),
        }
    }
}

impl Written {
    /// As it is written in TOML: 60, not 60.0.
    pub fn to_toml(&self) -> String {
        match self {
            Self::Switch(on) => on.to_string(),
            // TOML has no larger integers.
            Self::Whole(number) => match i64::try_from(*number) {
                Ok(number) => number.to_string(),
                Err(_) => format!("\"{number}\""),
            },
            Self::Number(number) if number.fract() == 0.0 && number.abs() < EXACT => number.to_string(),
            Self::Number(number) => toml::Value::Float(*number).to_string(),
            Self::Text(text) => toml::Value::String(text.clone()).to_string(),
            Self::List(items) => toml::Value::from(items.clone()).to_string(),
        }
    }
}
