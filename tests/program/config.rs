//! Flags over environment over file over defaults.

use super::process::{Ended, Sandbox};
use peerfold::cli::NodeFlags;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// Every setting: its key, a value as flag and variable have it, and as TOML has it.
const SETTINGS: [(&str, &str, &str); 55] = [
    ("federation", "hospitals", "\"hospitals\""),
    ("run", "2", "\"2\""),
    ("folder", "memory:", "\"memory:\""),
    ("home", "some/where", "\"some/where\""),
    ("bootstrap", "peers.toml", "[\"peers.toml\"]"),
    ("listen", "/ip4/127.0.0.1/tcp/0,/ip6/::1/tcp/0", "[\"/ip4/127.0.0.1/tcp/0\", \"/ip6/::1/tcp/0\"]"),
    ("no-mdns", "true", "true"),
    ("cache-quota", "500MB", "\"500MB\""),
    ("linger", "2.5", "2.5"),
    ("stay", "true", "true"),
    ("fallback", "s3://weights/ward", "\"s3://weights/ward\""),
    ("fallback-after", "1.5", "1.5"),
    ("s3-endpoint", "https://store.example", "\"https://store.example\""),
    ("s3-allow-http", "true", "true"),
    ("s3-poll", "0.5", "0.5"),
    ("s3-poll-idle", "60.5", "60.5"),
    ("s3-grace", "90.5", "90.5"),
    ("dataset", "mnist", "\"mnist\""),
    ("data-dir", "/data", "\"/data\""),
    ("partition", "1/4", "\"1/4\""),
    ("skew", "0.5", "0.5"),
    ("epochs", "7", "7"),
    ("steps-per-epoch", "9", "9"),
    ("period", "2.5", "2.5"),
    ("checkpoint-every", "0.25", "0.25"),
    ("batch-size", "11", "11"),
    ("lr", "0.25", "0.25"),
    ("seed", "3", "3"),
    ("data-seed", "4", "4"),
    ("device", "cuda", "\"cuda\""),
    ("threads", "3", "3"),
    ("init", "a.safetensors", "\"a.safetensors\""),
    ("strategy", "fedadam", "\"fedadam\""),
    ("param", "eta=0.1,tau=0.01", "[\"eta=0.1\", \"tau=0.01\"]"),
    ("ignore-seen", "true", "true"),
    ("participation", "0.75", "0.75"),
    ("epochs-between-folds", "2", "2"),
    ("upload-only", "true", "true"),
    ("max-peers", "5", "5"),
    ("max-staleness", "6", "6"),
    ("max-num-examples", "1000", "1000"),
    ("max-norm", "12.5", "12.5"),
    ("sync", "true", "true"),
    ("nodes", "4", "4"),
    ("quorum", "3", "3"),
    ("deadline", "1.5", "1.5"),
    ("below-quorum", "alone", "\"alone\""),
    ("min-peers", "2", "2"),
    ("start-deadline", "2.5", "2.5"),
    ("allow", "12D3a,12D3b", "[\"12D3a\", \"12D3b\"]"),
    ("readmit", "12D3c", "[\"12D3c\"]"),
    ("json", "true", "true"),
    ("publish-folded", "true", "true"),
    ("out", "b.safetensors", "\"b.safetensors\""),
    ("layout", "burn", "\"burn\""),
];

fn variable(key: &str) -> String {
    match key {
        "data-dir" => "PEERFOLD_DATA".to_owned(),
        _ => format!("PEERFOLD_{}", key.replace('-', "_").to_uppercase()),
    }
}

/// Key → value as TOML, and its source.
fn printed(ended: &Ended) -> BTreeMap<String, (String, String)> {
    let setting = |line: &String| {
        let (setting, source) = line.rsplit_once("  # ").unwrap();
        let (key, value) = setting.split_once(" = ").unwrap();
        (key.to_owned(), (value.trim().to_owned(), source.to_owned()))
    };
    ended.lines.iter().map(setting).collect()
}

fn all_from(source: impl Fn(&str) -> String) -> BTreeMap<String, (String, String)> {
    SETTINGS.iter().map(|&(key, _, toml)| (key.to_owned(), (toml.to_owned(), source(key)))).collect()
}

#[test]
fn every_setting_is_a_flag_a_variable_and_a_key() {
    let names: Vec<String> = match serde_json::to_value(NodeFlags::default()).unwrap() {
        serde_json::Value::Object(settings) => settings.keys().cloned().collect(),
        other => panic!("{other}"),
    };
    let mut known: Vec<&str> = SETTINGS.iter().map(|(key, ..)| *key).collect();
    known.sort_unstable();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(known, names, "this table has all settings");

    let sandbox = Sandbox::new();
    let print = ["node", "--print-config"];
    let flags = SETTINGS.iter().map(|(key, value, _)| format!("--{key}={value}"));
    let by_flags = Ended::of(sandbox.command(print.map(str::to_owned).into_iter().chain(flags))).success();
    assert_eq!(printed(&by_flags), all_from(|_| "flag".to_owned()));

    let mut command = sandbox.command(print);
    command.envs(SETTINGS.iter().map(|(key, value, _)| (variable(key), value)));
    assert_eq!(printed(&Ended::of(command).success()), all_from(variable));

    let file = sandbox.path("all.toml");
    let lines: Vec<String> = SETTINGS.iter().map(|(key, _, toml)| format!("{key} = {toml}\n")).collect();
    fs::write(&file, lines.concat()).unwrap();
    let mut command = sandbox.command(print);
    command.arg("--config").arg(&file);
    assert_eq!(printed(&Ended::of(command).success()), all_from(|_| file.display().to_string()));
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("node.toml");
    fs::write(&file, "epochs = 1\nseed = 1\nlr = 0.5\njson = true\n").unwrap();
    let mut command = sandbox.command(["node", "--print-config", "--epochs", "3", "--json=false"]);
    command.env("PEERFOLD_CONFIG", &file).env("PEERFOLD_EPOCHS", "2").env("PEERFOLD_SEED", "2");
    let settings = printed(&Ended::of(command).success());
    let setting = |key: &str| settings[key].clone();
    let of = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(setting("epochs"), of("3", "flag"));
    assert_eq!(setting("json"), of("false", "flag"));
    assert_eq!(setting("seed"), of("2", "PEERFOLD_SEED"));
    assert_eq!(setting("lr"), of("0.5", &file.display().to_string()));
    assert_eq!(setting("batch-size"), of("32", "default"));
    let home = format!("\"{}\"", sandbox.user_home().join(".peerfold").display());
    assert_eq!(setting("home"), of(&home, "default"));
}

#[test]
fn of_period_and_steps_the_one_of_the_higher_layer_holds() {
    let sandbox = Sandbox::new();
    let settings = |file: &str, variable: (&str, &str), flags: &[&str]| {
        fs::write(sandbox.path("node.toml"), file).unwrap();
        let mut command = sandbox.command(["node", "--print-config", "--config", "node.toml"].iter().chain(flags));
        command.env(variable.0, variable.1);
        let settings = printed(&Ended::of(command).success());
        ["period", "steps-per-epoch"].map(|key| settings.get(key).map(|(value, _)| value.clone()))
    };
    let (period, steps) = (|value: &str| [Some(value.to_owned()), None], |value: &str| [None, Some(value.to_owned())]);
    let (by_period, by_steps) = ("period = 1.5", "steps-per-epoch = 7");
    let nothing = ("PEERFOLD_SEED", "1");
    assert_eq!(settings("", nothing, &[]), steps("60"));
    assert_eq!(settings(by_period, nothing, &[]), period("1.5"));
    assert_eq!(settings(by_period, ("PEERFOLD_STEPS_PER_EPOCH", "8"), &[]), steps("8"));
    assert_eq!(settings(by_steps, ("PEERFOLD_PERIOD", "2.5"), &[]), period("2.5"));
    assert_eq!(settings(by_period, ("PEERFOLD_PERIOD", "2.5"), &["--steps-per-epoch", "9"]), steps("9"));
    assert_eq!(settings(by_steps, ("PEERFOLD_STEPS_PER_EPOCH", "8"), &["--period", "3.5"]), period("3.5"));
}

#[test]
fn parameters_are_a_list_or_a_table() {
    let sandbox = Sandbox::new();
    let list = "[\"beta_1=0.5\", \"eta=2\", \"reference=flwr-1.6\", \"tau=0.001\"]";
    for text in [
        "param = [\"beta_1=0.5\", \"eta=2\", \"reference=flwr-1.6\", \"tau=0.001\"]\n",
        "param = { eta = 2, tau = 1e-3, reference = \"flwr-1.6\", beta_1 = 0.5 }\n",
        "seed = 1\n[param]\neta = 2\ntau = \"0.001\"\nreference = \"flwr-1.6\"\nbeta_1 = 0.5\n",
    ] {
        fs::write(sandbox.path("node.toml"), text).unwrap();
        let mut command = sandbox.command(["node", "--print-config", "--config", "node.toml"]);
        assert_eq!(
            printed(&Ended::of(command).success())["param"],
            (list.to_owned(), "node.toml".to_owned()),
            "{text}"
        );
        // A flag's list takes the place of all of it.
        command = sandbox.command(["node", "--print-config", "--config", "node.toml", "--param", "eta=1"]);
        assert_eq!(printed(&Ended::of(command).success())["param"].0, "[\"eta=1\"]");
    }
}

#[test]
fn of_several_bootstrap_lists_each_is_a_flag_or_between_commas() {
    let sandbox = Sandbox::new();
    let all = "[\"one.toml\", \"two, and more\"]";
    let flags = ["node", "--print-config", "--bootstrap", "one.toml", "--bootstrap", "two, and more"];
    let by_flags = Ended::of(sandbox.command(flags)).success();
    assert_eq!(printed(&by_flags)["bootstrap"], (all.to_owned(), "flag".to_owned()));
    let mut command = sandbox.command(["node", "--print-config"]);
    command.env("PEERFOLD_BOOTSTRAP", "one.toml, two.toml,");
    let (value, source) = printed(&Ended::of(command).success())["bootstrap"].clone();
    assert_eq!((value.as_str(), source.as_str()), ("[\"one.toml\", \"two.toml\"]", "PEERFOLD_BOOTSTRAP"));
}

#[test]
fn what_is_printed_can_be_read_again() {
    let sandbox = Sandbox::new();
    for args in [&["node", "--print-config"][..], &["node", "--print-config", "--sync", "--partition", "2/3"]] {
        let first = Ended::of(sandbox.command(args)).success();
        let file = sandbox.path("printed.toml");
        fs::write(&file, first.text()).unwrap();
        let mut command = sandbox.command(["node", "--print-config", "--config"]);
        command.arg(&file);
        let (first, second) = (printed(&first), printed(&Ended::of(command).success()));
        assert!(second.values().all(|(_, source)| *source == file.display().to_string()));
        assert!(first.iter().map(|(key, (value, _))| (key, value)).eq(second.iter().map(|(k, (v, _))| (k, v))));
    }
}

#[test]
fn numbers_are_printed_as_people_write_them() {
    let sandbox = Sandbox::new();
    let settings =
        printed(&Ended::of(sandbox.command(["node", "--print-config", "--lr", "0.003", "--skew=0"])).success());
    for (key, value) in [
        ("start-deadline", "60"),
        ("s3-grace", "300"),
        ("linger", "10"),
        ("lr", "0.003"),
        ("skew", "0"),
        ("cache-quota", "\"8 GiB\""),
    ] {
        assert_eq!(settings[key].0, value, "{key}");
    }
}

#[test]
fn short_help_has_what_a_newcomer_needs() {
    let sandbox = Sandbox::new();
    let flags = |args: &[&str]| -> BTreeSet<String> {
        let lines = Ended::of(sandbox.command(args)).success().lines;
        let lines = lines.iter().map(|line| line.trim()).filter(|line| line.starts_with('-'));
        let flags = lines.filter_map(|line| line.split([' ', '[', '=']).find(|word| word.starts_with("--")));
        flags.map(|flag| flag.trim_end_matches(',').to_owned()).collect()
    };
    let wanted = "federation home bootstrap folder dataset data-dir partition epochs min-peers stay out help";
    let wanted: BTreeSet<String> = wanted.split(' ').map(|flag| format!("--{flag}")).collect();
    assert_eq!(flags(&["node", "-h"]), wanted);
    let text = Ended::of(sandbox.command(["node", "-h"])).success().text();
    assert!(text.contains("`peerfold node --help` shows ") && text.lines().count() < 60, "{text}");
    let all = flags(&["node", "--help"]);
    assert!(SETTINGS.iter().all(|(key, ..)| all.contains(&format!("--{key}"))), "{all:?}");
    let (brief, whole) = (flags(&["demo", "-h"]), flags(&["demo", "--help"]));
    assert!(brief.len() < whole.len() && brief.is_subset(&whole) && brief.contains("--folder"), "{brief:?}");
    assert!(Ended::of(sandbox.command(["demo", "-h"])).success().text().contains("peerfold demo --help"));
}

#[test]
fn an_empty_variable_is_not_set() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(["node", "--print-config"]);
    command.envs(SETTINGS.iter().map(|(key, ..)| (variable(key), ""))).env("PEERFOLD_CONFIG", "");
    let settings = printed(&Ended::of(command).success());
    assert!(settings.values().all(|(_, source)| source == "default"), "{settings:#?}");
}
