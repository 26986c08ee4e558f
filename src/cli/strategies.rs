//! `peerfold strategies`: what there is to fold by.

use crate::strategy::{ParameterInfo, STRATEGIES, StrategyInfo, StrategySpec, TENSOR_PARAMETERS};
use clap::Args;
use serde::Serialize;

/// Columns of a line.
const WIDTH: usize = 100;
/// Columns before what belongs to a strategy.
const INDENT: usize = 4;

#[derive(Args)]
pub(super) struct StrategiesFlags {
    /// Only this strategy.
    name: Option<String>,
    /// Write a JSON array of objects with name, aliases, summary, paper and parameters, each with name, default and
    /// meaning; for one strategy the object alone.
    #[arg(long)]
    json: bool,
}

/// What is printed.
pub(super) fn text(flags: &StrategiesFlags) -> anyhow::Result<String> {
    let one = match &flags.name {
        Some(name) => {
            let info = StrategySpec::new(name).info();
            Some(info.map_err(|error| clap::Error::raw(clap::error::ErrorKind::ValueValidation, error))?)
        }
        None => None,
    };
    if flags.json {
        let json = match one {
            Some(info) => serde_json::to_string_pretty(&Object::of(info))?,
            None => serde_json::to_string_pretty(&STRATEGIES.iter().map(Object::of).collect::<Vec<_>>())?,
        };
        return Ok(json + "\n");
    }
    let listed = match one {
        Some(info) => vec![paragraph(info, &[info.parameters, TENSOR_PARAMETERS].concat())],
        None => {
            let all = STRATEGIES.iter().map(|info| paragraph(info, info.parameters));
            all.chain([for_all()]).collect()
        }
    };
    Ok(listed.join("\n"))
}

#[derive(Serialize)]
struct Object {
    name: &'static str,
    aliases: &'static [&'static str],
    summary: &'static str,
    paper: &'static str,
    parameters: Vec<Parameter>,
}

#[derive(Serialize)]
struct Parameter {
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
}

impl Object {
    fn of(info: &StrategyInfo) -> Self {
        let StrategyInfo { name, aliases, summary, paper, parameters, .. } = *info;
        let parameters = parameters.iter().chain(TENSOR_PARAMETERS);
        let parameters =
            parameters.map(|&ParameterInfo { name, default, meaning }| Parameter { name, default, meaning });
        Self { name, aliases, summary, paper, parameters: parameters.collect() }
    }
}

/// The parameters that all have.
fn for_all() -> String {
    format!("every strategy has besides\n{}\n", parameter_lines(TENSOR_PARAMETERS).join("\n"))
}

/// A line or two for each parameter.
fn parameter_lines(parameters: &[ParameterInfo]) -> Vec<String> {
    let longest = parameters.iter().map(|parameter| parameter.name.len()).max().unwrap_or(0);
    let lines = parameters.iter().flat_map(|parameter| {
        let meaning = format!("{} [default: {}]", parameter.meaning, parameter.default);
        wrapped(parameter.name, INDENT + longest + 2, &meaning)
    });
    lines.collect()
}

/// The name, what it does, where it comes from, and a line or two for each parameter.
fn paragraph(info: &StrategyInfo, parameters: &[ParameterInfo]) -> String {
    let aliases = info.aliases.join(", ");
    let mut lines = vec![if aliases.is_empty() { info.name.to_owned() } else { format!("{} ({aliases})", info.name) }];
    lines.extend(wrapped("", INDENT, info.summary));
    lines.extend(wrapped("", INDENT, info.paper));
    lines.extend(parameter_lines(parameters));
    lines.join("\n") + "\n"
}

/// The text in lines that begin at this column, the first one with `head` before it.
fn wrapped(head: &str, indent: usize, text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = format!("{:INDENT$}{head}", "");
    let mut at = line.chars().count();
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if at > indent && at + 1 + length > WIDTH {
            lines.push(std::mem::take(&mut line));
            at = 0;
        }
        let space = if at > indent { 1 } else { indent.saturating_sub(at) };
        line += &" ".repeat(space);
        line += word;
        at += space + length;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words() {
        let words = ["abcdefghi"; 12].join(" ");
        let lines = wrapped("k", 8, &words);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], format!("    k   {}", ["abcdefghi"; 9].join(" ")));
        assert_eq!(lines[1], format!("        {}", ["abcdefghi"; 3].join(" ")));
        assert_eq!(wrapped("", 4, "a  b"), ["    a b"]);
        // What can't be broken stands alone.
        let long = "x".repeat(200);
        assert_eq!(
            wrapped("k", 6, &format!("a {long} b")),
            ["    k a".to_owned(), format!("      {long}"), "      b".to_owned()]
        );
    }

    #[test]
    fn every_strategy_is_listed_in_lines_that_can_be_read() {
        for info in STRATEGIES {
            let text = paragraph(info, info.parameters);
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
            for parameter in info.parameters {
                assert!(text.contains(&format!("\n    {} ", parameter.name)), "{text}");
            }
        }
    }
}
