//! `peerfold strategies`: lists the strategies and their parameters.

use crate::{
    program::{columns, for_strategy, wrapped},
    strategy::{ParameterInfo, STRATEGIES, StrategyInfo, StrategySpec, TENSOR_PARAMETERS},
};
use clap::Args;
use serde::Serialize;

/// Columns of a line, where the terminal has no fewer.
const WIDTH: usize = 100;

/// Columns before what belongs to a strategy.
const INDENT: usize = 4;

/// The strategies by what they do, from what most federations need to what few do.
const GROUPS: [(&str, &[&str]); 5] = [
    ("means", &["fedavg", "fedprox", "faulttolerantfedavg"]),
    ("steps towards the mean", &["fedavgm", "fedadagrad", "fedadam", "fedyogi", "qfedavg", "diloco"]),
    (
        "robust",
        &[
            "fedmedian",
            "fedtrimmedavg",
            "krum",
            "multikrum",
            "bulyan",
            "geometricmedian",
            "centeredclipping",
            "normbound",
        ],
    ),
    ("asynchronous", &["unweighted", "fedasync", "paflm", "asyncfeded", "fedbuff", "asofed", "safa", "port"]),
    ("decentralised", &["gossip", "dpsgd"]),
];

#[derive(Args)]
pub(super) struct StrategiesFlags {
    /// Only this strategy.
    name: Option<String>,
    /// Write a JSON array of objects with name, group, aliases, summary, paper and parameters, each with name, default
    /// and meaning; for one strategy the object alone.
    #[arg(long)]
    json: bool,
}

/// What is printed.
pub(super) fn text(flags: &StrategiesFlags) -> anyhow::Result<String> {
    let columns = columns().unwrap_or(WIDTH).min(WIDTH);
    if let Some(name) = &flags.name {
        let info = StrategySpec::new(name)
            .info()
            .map_err(|error| clap::Error::raw(clap::error::ErrorKind::ValueValidation, for_strategy(&error)))?;
        return Ok(if flags.json {
            serde_json::to_string_pretty(&Object::of(info))? + "\n"
        } else {
            paragraph(info, &[info.parameters, TENSOR_PARAMETERS].concat(), columns)
        });
    }
    let groups = GROUPS.iter().map(|(group, names)| (group, names.iter().filter_map(|name| of_name(name))));
    if flags.json {
        let objects: Vec<Object> = groups.flat_map(|(_, infos)| infos.map(Object::of)).collect();
        return Ok(serde_json::to_string_pretty(&objects)? + "\n");
    }
    let sections = groups.map(|(group, infos)| {
        let paragraphs: Vec<String> = infos.map(|info| paragraph(info, info.parameters, columns)).collect();
        format!("── {group} ──\n\n{}", paragraphs.join("\n"))
    });
    Ok(sections.chain([for_all(columns)]).collect::<Vec<_>>().join("\n"))
}

fn of_name(name: &str) -> Option<&'static StrategyInfo> {
    STRATEGIES.iter().find(|info| info.name == name)
}

/// The group that a strategy is listed in.
fn group_of(name: &str) -> &'static str {
    GROUPS.iter().find(|(_, names)| names.contains(&name)).map_or("", |(group, _)| group)
}

#[derive(Serialize)]
struct Object {
    name: &'static str,
    group: &'static str,
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
        Self { name, group: group_of(name), aliases, summary, paper, parameters: parameters.collect() }
    }
}

/// The parameters that all have.
fn for_all(columns: usize) -> String {
    format!("── every strategy has besides ──\n\n{}\n", parameter_lines(TENSOR_PARAMETERS, columns).join("\n"))
}

/// A line or two for each parameter.
fn parameter_lines(parameters: &[ParameterInfo], columns: usize) -> Vec<String> {
    let longest = parameters.iter().map(|parameter| parameter.name.len()).max().unwrap_or(0);
    let lines = parameters.iter().flat_map(|parameter| {
        let meaning = format!("{} [default: {}]", parameter.meaning, parameter.default);
        let head = format!("{:INDENT$}{}", "", parameter.name);
        wrapped(&head, INDENT + longest + 2, &meaning, columns)
    });
    lines.collect()
}

/// The name, what it does, where it comes from, and a line or two for each parameter.
fn paragraph(info: &StrategyInfo, parameters: &[ParameterInfo], columns: usize) -> String {
    let aliases = info.aliases.join(", ");
    let mut lines = vec![if aliases.is_empty() { info.name.to_owned() } else { format!("{} ({aliases})", info.name) }];
    lines.extend(wrapped("", INDENT, info.summary, columns));
    lines.extend(wrapped("", INDENT, info.paper, columns));
    lines.extend(parameter_lines(parameters, columns));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_strategy_is_in_one_group() {
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let once: BTreeSet<&str> = grouped.iter().copied().collect();
        let known: BTreeSet<&str> = STRATEGIES.iter().map(|info| info.name).collect();
        assert_eq!((once, grouped.len()), (known, STRATEGIES.len()));
    }

    #[test]
    fn the_groups_are_those_of_the_readme() {
        for (group, names) in GROUPS {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let row = include_str!("../../README.md").lines().find(|line| line.starts_with(&format!("| {group} |")));
            // A remark about one of them may follow in brackets.
            let listed: Vec<String> =
                row.unwrap_or_default().split('`').skip(1).step_by(2).map(|n| format!("`{n}`")).collect();
            assert_eq!(listed, names, "{group}");
        }
    }

    #[test]
    fn every_strategy_is_listed_in_lines_that_can_be_read() {
        for (info, columns) in STRATEGIES.iter().flat_map(|info| [(info, WIDTH), (info, 80), (info, 60)]) {
            let text = paragraph(info, info.parameters, columns);
            let long = |line: &&str| line.chars().count() > columns && line.split_whitespace().count() > 1;
            assert_eq!(text.lines().find(long), None, "{columns} columns");
            for parameter in info.parameters {
                assert!(text.contains(&format!("\n    {} ", parameter.name)), "{text}");
            }
        }
    }
}
