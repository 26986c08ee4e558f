//! Attackers among nodes that learn 8×8 digits: the short form of the experiment of docs/robust-rules.md.

#[path = "../../examples/robust_rules.rs"]
#[allow(unreachable_pub)]
mod experiment;

use experiment::{Attack, Experiment, Outcome, Rule, rules};
use peerfold::{experiment::digits, strategy::StrategySpec, train::Model};
use std::sync::Arc;

fn federation(nodes: usize, attackers: usize) -> Experiment {
    Experiment {
        model: Model::Digits,
        data: Arc::new(digits()),
        nodes,
        attackers,
        rounds: 5,
        steps: 20,
        uneven: false,
        learning_rate: 3e-3,
        skew: 0.5,
        seed: 1,
    }
}

fn fedavg(leave_out: bool) -> Rule {
    Rule { strategy: StrategySpec::new("fedavg"), leave_out, validation: 0.0 }
}

fn run(experiment: &Experiment, rule: &Rule, attack: Attack) -> Outcome {
    experiment.run(rule, attack).unwrap().unwrap()
}

/// Labels as uneven as the demo's and more, and nodes that train three times as much as others.
#[test]
fn honest_nodes_with_few_labels_each_are_never_suspect() {
    for (nodes, skew, uneven, validation) in
        [(5, 0.9, false, 0.0), (5, 1.0, true, 0.0), (8, 0.9, true, 0.0), (8, 0.9, true, 0.2)]
    {
        let experiment = Experiment { skew, uneven, rounds: 12, ..federation(nodes, 0) };
        let outcome = run(&experiment, &Rule { validation, ..fedavg(false) }, Attack::None);
        let of = format!("{nodes} nodes, skew {skew}, uneven {uneven}, validation {validation}");
        // Some loss stands out by chance.
        let most = if validation > 0.0 { 0.005 } else { 0.0 };
        assert!(outcome.suspected[0] <= most, "{of}: {outcome:?}");
    }
}

#[test]
fn leaving_suspects_out_keeps_the_model_from_what_spoils_a_mean() {
    for (nodes, attackers) in [(5, 1), (8, 2)] {
        let experiment = federation(nodes, attackers);
        let honest = run(&experiment, &fedavg(false), Attack::None).accuracy;
        let spoiled = run(&experiment, &fedavg(false), Attack::ScaledFlips).accuracy;
        let left_out = run(&experiment, &fedavg(true), Attack::ScaledFlips);
        assert!(spoiled < 0.5 && left_out.accuracy > honest - 0.1, "{honest}, {spoiled}, {left_out:?}");
        assert_eq!(left_out.suspected, [0.0, 1.0]);
    }
}

#[test]
fn a_robust_rule_keeps_the_model_too_and_bulyan_says_how_many_it_needs() {
    let experiment = federation(5, 1);
    for rule in rules(1, 5, 1.5) {
        match (rule.strategy.name.as_str(), experiment.run(&rule, Attack::Scaled).unwrap()) {
            ("bulyan", outcome) => assert!(outcome.is_none()),
            ("fedavg", Some(outcome)) if !rule.leave_out => assert!(outcome.accuracy < 0.7, "{outcome:?}"),
            (name, outcome) => assert!(outcome.unwrap().accuracy > 0.6, "{name}: {outcome:?}"),
        }
    }
}
