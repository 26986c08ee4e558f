//! Settings: flags override the environment, which overrides the file, which overrides the defaults.

use super::process::{Ended, Sandbox};
use peerfold::{
    cli::node_settings,
    settings::{Field, Form},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

/// Settings whose values are not just of their form: the key, a value as flag and variable have it, and as TOML has it.
const SETTINGS: [(&str, &str, &str); 63] = [
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
    ("validation", "0.25", "0.25"),
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
    ("exec", "sh train.sh", "\"sh train.sh\""),
    ("init", "a.safetensors", "\"a.safetensors\""),
    ("strategy", "fedadam", "\"fedadam\""),
    ("param", "eta=0.1,tau=0.01", "[\"eta=0.1\", \"tau=0.01\"]"),
    ("ignore-seen", "true", "true"),
    ("participation", "0.75", "0.75"),
    ("epochs-between-folds", "2", "2"),
    ("upload-only", "true", "true"),
    ("max-peers", "5", "5"),
    ("max-wait", "0.25", "0.25"),
    ("max-staleness", "6", "6"),
    ("max-num-examples", "1000", "1000"),
    ("max-examples-ratio", "2.5", "2.5"),
    ("max-norm", "12.5", "12.5"),
    ("max-norm-ratio", "50.5", "50.5"),
    ("suspect", "leave-out", "\"leave-out\""),
    ("sync", "true", "true"),
    ("nodes", "4", "4"),
    ("quorum", "3", "3"),
    ("deadline", "1.5", "1.5"),
    ("below-quorum", "alone", "\"alone\""),
    ("min-peers", "2", "2"),
    ("start-deadline", "2.5", "2.5"),
    ("allow", "12D3a,12D3b", "[\"12D3a\", \"12D3b\"]"),
    (
        "admin",
        "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
        "\"12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN\"",
    ),
    ("readmit", "12D3c", "[\"12D3c\"]"),
    ("json", "true", "true"),
    ("publish-folded", "true", "true"),
    ("secret", "federation.secret", "\"federation.secret\""),
    ("out", "b.safetensors", "\"b.safetensors\""),
    ("layout", "burn", "\"burn\""),
];

/// Every setting as [`SETTINGS`] has it, or with some value of its form.
fn all() -> Vec<(&'static str, String, String)> {
    let value = |field: &Field| {
        if let Some((_, text, toml)) = SETTINGS.iter().find(|(key, ..)| *key == field.key) {
            return (field.key, (*text).to_owned(), (*toml).to_owned());
        }
        let (text, toml) = match field.form {
            Form::Switch => ("true", "true"),
            Form::Whole => ("7", "7"),
            Form::Number => ("0.5", "0.5"),
            Form::Seconds => ("1m 30s", "90"),
            Form::Minutes => ("90s", "1.5"),
            Form::Size => ("500MB", "\"500MB\""),
            form => panic!("{} is a {form:?}: give it a value in SETTINGS", field.key),
        };
        (field.key, text.to_owned(), toml.to_owned())
    };
    node_settings().iter().map(value).collect()
}

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
    all().into_iter().map(|(key, _, toml)| (key.to_owned(), (toml, source(key)))).collect()
}

#[test]
fn every_setting_is_a_flag_a_variable_and_a_key() {
    let names: BTreeSet<&str> = node_settings().iter().map(|field| field.key).collect();
    assert_eq!(names.len(), node_settings().len(), "no two settings have one name");
    assert!(SETTINGS.iter().all(|(key, ..)| names.contains(key)), "a setting is gone: {names:?}");
    let all = all();

    let sandbox = Sandbox::new();
    let print = ["node", "--print-config"];
    let flags = all.iter().map(|(key, value, _)| format!("--{key}={value}"));
    let by_flags = Ended::of(sandbox.command(print.map(str::to_owned).into_iter().chain(flags))).success();
    assert_eq!(printed(&by_flags), all_from(|_| "flag".to_owned()));

    let mut command = sandbox.command(print);
    command.envs(all.iter().map(|(key, value, _)| (variable(key), value)));
    assert_eq!(printed(&Ended::of(command).success()), all_from(variable));

    let file = sandbox.path("all.toml");
    let lines: Vec<String> = all.iter().map(|(key, _, toml)| format!("{key} = {toml}\n")).collect();
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
    assert!(node_settings().iter().all(|field| all.contains(&format!("--{}", field.key))), "{all:?}");
    let (brief, whole) = (flags(&["demo", "-h"]), flags(&["demo", "--help"]));
    assert!(brief.len() < whole.len() && brief.is_subset(&whole) && brief.contains("--folder"), "{brief:?}");
    assert!(Ended::of(sandbox.command(["demo", "-h"])).success().text().contains("peerfold demo --help"));
}

#[test]
fn an_empty_variable_is_not_set() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(["node", "--print-config"]);
    command.envs(node_settings().iter().map(|field| (variable(field.key), ""))).env("PEERFOLD_CONFIG", "");
    let settings = printed(&Ended::of(command).success());
    assert!(settings.values().all(|(_, source)| source == "default"), "{settings:#?}");
}

/// Values that a number of this setting can't be.
fn impossible(field: &Field) -> Vec<String> {
    let below = field.range.outside().map(|number| number.to_string());
    ["inf", "-inf", "nan", "-1"]
        .map(str::to_owned)
        .into_iter()
        .chain(below)
        .filter(|value| can_not_be(field, value))
        .collect()
}

/// A number of this setting may be negative.
fn can_not_be(field: &Field, value: &str) -> bool {
    value != "-1" || field.form != Form::Number || field.range.outside().is_some()
}

#[test]
fn every_number_is_checked_wherever_it_is_written() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("node.toml");
    let mut checked = 0;
    for field in node_settings().into_iter().filter(|field| field.form.is_numeric()) {
        let key = field.key;
        for value in impossible(&field) {
            let told = |mut command: Command, place: &str| {
                command.args(["--folder", "memory:", "--federation", "none"]);
                let ended = Ended::of(command);
                let error = ended.error();
                assert!(error.contains(place), "{key} {value}: {place} is not in: {error}");
                assert!(matches!(ended.status.code(), Some(1 | 2)), "{key} {value}: {error}");
                error.to_owned()
            };
            let error = told(sandbox.command(["node".to_owned(), format!("--{key}={value}")]), &format!("--{key}"));
            assert!(!error.contains("PEERFOLD_"), "{error}");
            let mut command = sandbox.command(["node"]);
            command.env(variable(key), &value);
            let error = told(command, &variable(key));
            assert!(!error.contains("--") || error.contains("see --help"), "{error}");
            // TOML has numbers that are not finite, and a size is a text there.
            let quote = if field.form == Form::Size { "\"" } else { "" };
            fs::write(&file, format!("{key} = {quote}{value}{quote}\n")).unwrap();
            let mut command = sandbox.command(["node", "--config"]);
            command.arg(&file);
            let error = told(command, &file.display().to_string());
            assert!(error.contains(key), "{key} {value}: {error}");
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} values were tried");
}

#[test]
fn times_may_have_their_unit() {
    let sandbox = Sandbox::new();
    let printed_of = |key: &str, value: &str| {
        let flag = format!("--{key}={value}");
        let by_flag = printed(&Ended::of(sandbox.command(["node", "--print-config", &flag])).success())[key].0.clone();
        fs::write(sandbox.path("node.toml"), format!("{key} = \"{value}\"\n")).unwrap();
        let by_file = ["node", "--print-config", "--config", "node.toml"];
        assert_eq!(printed(&Ended::of(sandbox.command(by_file)).success())[key].0, by_flag);
        by_flag
    };
    for (value, seconds) in [("90", "90"), ("90s", "90"), ("5m", "300"), ("1h 30m", "5400"), ("1500ms", "1.5")] {
        assert_eq!(printed_of("linger", value), seconds);
    }
    // Minutes, unless it says otherwise.
    for (value, minutes) in [("2", "2"), ("90s", "1.5"), ("1h", "60")] {
        assert_eq!(printed_of("checkpoint-every", value), minutes);
    }
    let ended = Ended::of(sandbox.command(["node", "--linger", "soon"]));
    assert!(ended.error().contains("--linger") && ended.error().contains("90s, 5m, 1h 30m"), "{}", ended.error());
}

/// A new setting is a line in its layer's struct, and what uses it: nowhere else in the sources does its key stand.
#[test]
fn a_setting_is_said_once() {
    fn files(dir: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut sources = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    for field in node_settings() {
        let declaration = format!(" as \"{}\": ", field.key);
        let declared: Vec<&String> =
            sources.iter().filter(|(_, text)| text.contains(&declaration)).map(|(path, _)| path).collect();
        assert_eq!(declared.len(), 1, "{}: {declared:?}", field.key);
    }
    // But for errors, which say what to do.
    let says =
        |line: &str| (line.contains("cache-quota") || line.contains("cache_quota")) && !line.contains("#[error(");
    let quota = sources.iter().filter(|(_, text)| text.lines().any(says));
    assert_eq!(quota.count(), 1, "it is nobody else's affair what the cache's quota is called");
}
