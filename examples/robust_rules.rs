//! What attackers among the nodes do to a model, by the rule that folds it and by their attack: the tables of
//! docs/robust-rules.md.
//!
//!     cargo run --release --example robust_rules
//!     cargo run --release --example robust_rules -- --dataset mnist --data-dir DIR
//!
//! Beside them: `--rounds R`, `--steps S` of a round, `--seeds N` to take the mean of, `--skew 0..1` of the labels, and
//! `--rule TEXT` for the rules whose name has this in it.
//!
//! Nodes and attackers train in this one process, and every round is one fold of all updates: what each node of a
//! synchronous federation computes, with the strategies and the trainer that nodes have.

use libp2p_identity::Keypair;
use peerfold::{
    experiment::{DataSet, LabelSkew, digits, hold_out, mnist},
    node::Checks,
    strategy::{FoldError, Round, StrategySpec, Update, losses_out_of_line, out_of_line},
    train::{Device, EpochLength, Examples, Model, Train, TrainOptions, trainer},
    weights::{DType, Tensor, Weights},
};
use std::{error::Error, path::Path, sync::Arc};

type Failure = Box<dyn Error + Send + Sync>;

/// What attackers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Nothing: they are honest.
    None,
    /// They train on labels turned round: 9 − label.
    LabelFlips,
    /// They send the opposite of what they have trained: x − Δ.
    SignFlips,
    /// They send a hundred times what they have trained: x + 100·Δ.
    Scaled,
    /// They send a hundred times the opposite: x − 100·Δ.
    ScaledFlips,
    /// Every second example of theirs has a pattern in a corner, and the label 0.
    Backdoor,
}

/// All of them, with what they are called.
pub const ATTACKS: [(Attack, &str); 6] = [
    (Attack::None, "none"),
    (Attack::LabelFlips, "label flips"),
    (Attack::SignFlips, "sign flips"),
    (Attack::Scaled, "×100"),
    (Attack::ScaledFlips, "×-100"),
    (Attack::Backdoor, "backdoor"),
];

/// How updates are folded.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The rule.
    pub strategy: StrategySpec,
    /// `--suspect leave-out`.
    pub leave_out: bool,
    /// `--validation`, of honest nodes; 0 for none.
    pub validation: f64,
}

/// The rules that are compared, told how many attackers there are. `length` is about that of an honest update.
pub fn rules(attackers: usize, nodes: usize, length: f64) -> Vec<Rule> {
    let rule = |strategy| Rule { strategy, leave_out: false, validation: 0.0 };
    let leave_out = |validation| Rule { strategy: StrategySpec::new("fedavg"), leave_out: true, validation };
    let malicious = |name: &str| StrategySpec::new(name).with("num_malicious_clients", attackers);
    vec![
        rule(StrategySpec::new("fedavg")),
        leave_out(0.0),
        leave_out(0.2),
        rule(StrategySpec::new("normbound").with("norm_bound", length)),
        rule(StrategySpec::new("centeredclipping").with("tau", length)),
        rule(StrategySpec::new("fedmedian")),
        rule(StrategySpec::new("fedtrimmedavg").with("beta", 0.26)),
        rule(StrategySpec::new("geometricmedian")),
        rule(malicious("krum")),
        rule(malicious("multikrum").with("num_nodes_to_select", nodes - attackers)),
        rule(malicious("bulyan")),
    ]
}

/// A federation, some of whose nodes are attackers'.
#[derive(Clone)]
pub struct Experiment {
    /// What is trained.
    pub model: Model,
    /// What it is trained on and measured with.
    pub data: Arc<DataSet>,
    /// Nodes, attackers included.
    pub nodes: usize,
    /// How many of them are attackers; they come last.
    pub attackers: usize,
    /// Folds.
    pub rounds: u64,
    /// Training steps of a round.
    pub steps: u64,
    /// Whether every second node does twice and every third three times as many.
    pub uneven: bool,
    /// Adam's.
    pub learning_rate: f64,
    /// How unevenly labels are spread, 0 to 1.
    pub skew: f64,
    /// Decides the first weights, the partition and the order of the data.
    pub seed: u64,
}

/// What has become of the model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// On the test examples, 0 to 1.
    pub accuracy: f64,
    /// The share of the test examples with which the attackers have what they want: that they are taken for 9 − label,
    /// or, if it isn't 0, for a 0 as soon as they have the pattern.
    pub success: Option<f64>,
    /// Of all updates of honest nodes and of attackers, which part was found out of line: by loss, the mean over the
    /// honest nodes, each of which measures its own. What is left out is what the first of them finds.
    pub suspected: [f64; 2],
}

impl Experiment {
    /// Trains to the end. `None` if the rule refuses to fold among so few.
    pub fn run(&self, rule: &Rule, attack: Attack) -> Result<Option<Outcome>, Failure> {
        let honest = self.nodes - self.attackers;
        let (mut trainers, mut held_out) = (Vec::new(), Vec::new());
        for node in 0..self.nodes {
            let (trainer, held) = self.trainer(node, attack, rule.validation)?;
            trainers.push(trainer);
            held_out.push(held);
        }
        let mut x = trainers[0].weights()?;
        let mut strategy = rule.strategy.build()?;
        strategy.begin(&x);
        let authors = (0..self.nodes).map(author).collect::<Result<Vec<_>, _>>()?;
        let mut suspected = [0.0; 2];
        for round in 1..=self.rounds {
            let mut trained = Vec::new();
            for (node, trainer) in trainers.iter_mut().enumerate() {
                trainer.load_weights(&x)?;
                let times = if self.uneven { 1 + node as u64 % 3 } else { 1 };
                trainer.train_epoch(round, EpochLength::Steps(times * self.steps), Default::default(), &|| false)?;
                let weights = trainer.weights()?;
                trained.push(if node < honest { weights } else { tampered(attack, &x, &weights)? });
            }
            let update = |node: usize| Update {
                epoch: round,
                own: node == 0,
                ..Update::new(authors[node], &trained[node], trainers[node].examples().len() as u64)
            };
            // What isn't finite is rejected by every node.
            let sound = (0..self.nodes).filter(|&node| Checks::default().weights(&trained[node]).is_ok());
            let mut updates: Vec<Update<'_>> = sound.map(update).collect();
            let of_attacker = |update: &Update<'_>| authors[honest..].contains(&update.author);
            if !updates.iter().any(|update| update.own) {
                break;
            }
            let found = out_of_line(&Round { number: round, updates: &updates, failures: 0 }, Some(&x))?;
            for (update, _) in updates.iter().zip(&found).filter(|(_, found)| found.is_some()) {
                suspected[usize::from(of_attacker(update))] += 1.0;
            }
            let mut left_out: Vec<bool> = found.iter().map(Option::is_some).collect();
            let in_line: Vec<usize> = (0..updates.len()).filter(|&at| !left_out[at]).collect();
            for (node, held) in held_out[..honest].iter().enumerate().filter(|_| rule.validation > 0.0) {
                let mut loss = |weights: &Weights| -> Result<f64, Failure> {
                    trainers[node].load_weights(weights)?;
                    Ok(trainers[node].evaluate(held, 256)?.loss)
                };
                let of = |&at: &usize| authors.iter().position(|author| *author == updates[at].author);
                let measured = in_line.iter().filter_map(of).map(|author| loss(&trained[author]));
                let losses = measured.collect::<Result<Vec<_>, _>>()?;
                for (&at, found) in in_line.iter().zip(losses_out_of_line(&losses, loss(&x)?)) {
                    if found.is_some() {
                        suspected[usize::from(of_attacker(&updates[at]))] += 1.0 / honest as f64;
                        left_out[at] |= node == 0;
                    }
                }
            }
            if rule.leave_out {
                let mut left_out = left_out.iter();
                updates.retain(|update| left_out.next().is_some_and(|left_out| !left_out) || update.own);
            }
            match strategy.fold(&Round { number: round, updates: &updates, failures: 0 }) {
                Ok(folded) => x = folded.weights,
                Err(FoldError::TooFew { .. }) => return Ok(None),
                // Every node goes on with what it has.
                Err(_) => break,
            }
        }
        let judge = &mut trainers[0];
        judge.load_weights(&x)?;
        let wanted = match attack {
            Attack::LabelFlips => Some(flipped(&self.data.test)?),
            Attack::Backdoor => Some(with_pattern(&self.data.test, |_, label| (label != 0).then_some(true))?),
            _ => None,
        };
        let success = wanted.map(|wanted| judge.evaluate(&wanted, 256)).transpose()?.map(|measured| measured.accuracy);
        let of = [honest, self.attackers].map(|nodes| (nodes as u64 * self.rounds).max(1) as f64);
        let suspected = [suspected[0] / of[0], suspected[1] / of[1]];
        Ok(Some(Outcome { accuracy: judge.evaluate(&self.data.test, 256)?.accuracy, success, suspected }))
    }

    /// What a node trains with, and what it holds out.
    fn trainer(&self, node: usize, attack: Attack, validation: f64) -> Result<(Box<dyn Train>, Examples), Failure> {
        let part = LabelSkew::new(self.nodes, self.skew, self.seed)?.part(&self.data.train, node)?;
        let (part, held) = hold_out(&part, validation, self.seed, &node.to_le_bytes());
        let part = match attack {
            _ if node < self.nodes - self.attackers => part,
            Attack::LabelFlips => flipped(&part)?,
            Attack::Backdoor => with_pattern(&part, |at, _| Some(at % 2 == 0))?,
            _ => part,
        };
        let options = TrainOptions {
            learning_rate: self.learning_rate,
            model_seed: self.seed,
            data_seed: 1000 * self.seed + node as u64,
            threads: 1,
            ..TrainOptions::default()
        };
        Ok((trainer(self.model, Device::Cpu, options, Arc::new(part))?, held))
    }
}

fn author(node: usize) -> Result<libp2p_identity::PeerId, Failure> {
    Ok(Keypair::ed25519_from_bytes([node as u8 + 1; 32])?.public().to_peer_id())
}

/// What an attacker sends instead of what it has trained.
fn tampered(attack: Attack, x: &Weights, trained: &Weights) -> Result<Weights, Failure> {
    let factor = match attack {
        Attack::SignFlips => -1.0,
        Attack::Scaled => 100.0,
        Attack::ScaledFlips => -100.0,
        Attack::None | Attack::LabelFlips | Attack::Backdoor => return Ok(trained.clone()),
    };
    let tensors = trained.tensors().zip(x.tensors()).map(|((spec, trained), (_, x))| {
        assert_eq!(spec.dtype, DType::F32, "the built-in models have no others");
        let number = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
        let pairs = trained.as_chunks().0.iter().map(number).zip(x.as_chunks().0.iter().map(number));
        let data: Vec<u8> = pairs.flat_map(|(w, x)| (x + factor * (w - x)).to_le_bytes()).collect();
        Tensor { spec: spec.clone(), data: data.into() }
    });
    Ok(Weights::new(tensors.collect())?)
}

fn flipped(examples: &Examples) -> Result<Examples, Failure> {
    let labels = examples.labels().iter().map(|&label| examples.classes() as u8 - 1 - label).collect();
    let features = (0..examples.len()).flat_map(|at| examples.image(at)).copied().collect();
    Ok(Examples::new(features, examples.shape(), labels, examples.classes())?)
}

/// The examples that `has_pattern` gives anything for, by number and label; where it says so, with the pattern in a
/// corner and the label 0.
fn with_pattern(examples: &Examples, has_pattern: impl Fn(usize, u8) -> Option<bool>) -> Result<Examples, Failure> {
    let [channels, height, width] = examples.shape();
    let side = width.div_ceil(7);
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    for (at, &label) in examples.labels().iter().enumerate() {
        let Some(has) = has_pattern(at, label) else { continue };
        let mut image = examples.image(at).to_vec();
        if has {
            for row in (0..channels * height).filter(|row| row % height >= height - side) {
                image[(row + 1) * width - side..(row + 1) * width].fill(1.0);
            }
        }
        features.extend(image);
        labels.push(if has { 0 } else { label });
    }
    Ok(Examples::new(features, examples.shape(), labels, examples.classes())?)
}

/// The mean over some seeds; `None` if the rule refuses.
pub fn mean(experiment: &Experiment, seeds: u64, rule: &Rule, attack: Attack) -> Result<Option<Outcome>, Failure> {
    let mut sum = Outcome::default();
    for seed in 0..seeds {
        let Some(one) = (Experiment { seed, ..experiment.clone() }).run(rule, attack)? else { return Ok(None) };
        sum.accuracy += one.accuracy / seeds as f64;
        sum.success = one.success.map(|success| sum.success.unwrap_or_default() + success / seeds as f64);
        sum.suspected.iter_mut().zip(one.suspected).for_each(|(sum, one)| *sum += one / seeds as f64);
    }
    Ok(Some(sum))
}

#[allow(dead_code)]
fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (mut dataset, mut data_dir, mut only) = ("digits".to_owned(), String::new(), String::new());
    let (mut rounds, mut steps, mut seeds, mut skew) = (None, None, None, 0.5);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--dataset" => dataset = value,
            "--data-dir" => data_dir = value,
            "--rule" => only = value,
            "--rounds" => rounds = Some(value.parse()?),
            "--steps" => steps = Some(value.parse()?),
            "--seeds" => seeds = Some(value.parse()?),
            "--skew" => skew = value.parse()?,
            _ => return Err(format!("there is no option {name}").into()),
        }
    }
    let model: Model = dataset.parse()?;
    let (data, learning_rate, length, usual) = match model {
        Model::Digits => (digits(), 3e-3, 1.5, (10, 20, 3)),
        Model::Mnist => (mnist(Path::new(&data_dir))?, 1e-3, 1.0, (5, 25, 1)),
    };
    let (rounds, steps, seeds) = (rounds.unwrap_or(usual.0), steps.unwrap_or(usual.1), seeds.unwrap_or(usual.2));
    println!("{model}: {rounds} rounds of {steps} steps, label skew {skew}, mean of {seeds} seeds; percent");
    let uneven = false;
    let data = Arc::new(data);
    for (nodes, attackers) in [(5, 1), (8, 2)] {
        println!("\n{attackers} of {nodes} are attackers. Accuracy; with label flips and backdoor / attack success.\n");
        println!("| rule | {} |", ATTACKS.map(|(_, name)| name).join(" | "));
        println!("| --- |{}", " --- |".repeat(ATTACKS.len()));
        let data = data.clone();
        let seed = 0;
        let experiment = Experiment { model, data, nodes, attackers, rounds, steps, uneven, learning_rate, skew, seed };
        for rule in rules(attackers, nodes, length) {
            let mut name = rule.strategy.to_string();
            if rule.leave_out {
                name += " --suspect leave-out";
            }
            if rule.validation > 0.0 {
                name += &format!(" --validation {}", rule.validation);
            }
            if !name.contains(&only) {
                continue;
            }
            let mut row = format!("| {name} |");
            let mut found = String::new();
            for (attack, _) in ATTACKS {
                let Some(outcome) = mean(&experiment, seeds, &rule, attack)? else {
                    row += " refuses |";
                    continue;
                };
                row += &format!(" {:.1}", 100.0 * outcome.accuracy);
                if let Some(success) = outcome.success {
                    row += &format!(" / {:.1}", 100.0 * success);
                }
                row += " |";
                let [of_honest, of_attackers] = outcome.suspected.map(|part| 100.0 * part);
                found += &format!(" {of_attackers:.0} / {of_honest:.0} |");
            }
            println!("{row}");
            if rule.leave_out {
                println!("| (left out: of attackers' / of honest updates) |{found}");
            }
        }
    }
    Ok(())
}
