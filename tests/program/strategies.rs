//! `peerfold strategies`: lists the strategies and their parameters.

use super::process::{Ended, Sandbox};
use peerfold::strategy::{STRATEGIES, StrategySpec, TENSOR_PARAMETERS};
use serde_json::Value;

fn listed(args: &[&str]) -> String {
    let ended = Ended::of(Sandbox::new().command(["strategies"].iter().chain(args))).success();
    assert_eq!(ended.log, "");
    ended.text()
}

#[test]
fn all_of_them_with_their_parameters_and_papers() {
    let text = listed(&[]);
    let json: Vec<Value> = serde_json::from_str(&listed(&["--json"])).unwrap();
    assert_eq!(json.len(), STRATEGIES.len());
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(json[0]["name"], "fedavg");
    let named = text.lines().filter(|line| !line.starts_with([' ', '─']) && !line.is_empty());
    assert_eq!(named.map(|line| line.split(' ').next().unwrap()).next(), Some("fedavg"), "{text}");
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with('─')).collect();
    let mut groups: Vec<String> =
        json.iter().map(|object| format!("── {} ──", object["group"].as_str().unwrap())).collect();
    groups.dedup();
    groups.push("── every strategy has besides ──".to_owned());
    assert_eq!(headings, groups);
    for info in STRATEGIES {
        let object = json.iter().find(|object| object["name"] == info.name).unwrap();
        assert!(text.lines().any(|line| line.split(' ').next() == Some(info.name)), "{text}");
        assert_eq!((&object["name"], &object["paper"]), (&info.name.into(), &info.paper.into()));
        assert!(!info.summary.is_empty() && object["summary"] == info.summary);
        let parameters = object["parameters"].as_array().unwrap();
        assert_eq!(parameters.len(), info.parameters.len() + TENSOR_PARAMETERS.len());
        for (parameter, object) in info.parameters.iter().chain(TENSOR_PARAMETERS).zip(parameters) {
            assert!(text.contains(&format!("\n    {} ", parameter.name)), "{text}");
            assert_eq!((&object["name"], &object["default"]), (&parameter.name.into(), &parameter.default.into()));
            assert_eq!(object["meaning"], parameter.meaning);
        }
    }
}

#[test]
fn only_one_of_them_under_any_of_its_names() {
    let one = listed(&["Fed-Adam"]);
    assert_eq!(one.lines().next(), Some("fedadam"));
    assert_eq!(one.lines().filter(|line| !line.starts_with(' ')).count(), 1, "{one}");
    assert!(one.contains("integers") && one.contains("beta_2") && one.contains("[default: 0.99]"), "{one}");
    let object: Value = serde_json::from_str(&listed(&["fed_adam", "--json"])).unwrap();
    assert_eq!(object["name"], "fedadam");
    for info in STRATEGIES {
        StrategySpec::new(info.name).build().unwrap();
        for name in info.aliases {
            assert!(listed(&[name]).starts_with(info.name), "{name}");
        }
    }
    let unknown = Ended::of(Sandbox::new().command(["strategies", "fedx"]));
    assert_eq!(unknown.status.code(), Some(2));
    assert!(unknown.error().contains("no strategy \"fedx\"; there are") && unknown.error().contains("fedavgm"));
    let alike = Ended::of(Sandbox::new().command(["strategies", "fedadams"]));
    assert!(alike.error().contains("; did you mean fedadam?"), "{}", alike.error());
}
