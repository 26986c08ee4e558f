//! The strategies as plain formulas over vectors of f64: what the nodes' folds are compared with.
//!
//! x are the node's weights after its last fold, before its first those that it began from.
#![allow(unreachable_pub, clippy::unwrap_used)]

use peerfold::strategy::StrategySpec;
use std::collections::{BTreeMap, BTreeSet};

pub type Vector = Vec<f64>;

/// What a node hands to a strategy of an update.
#[derive(Debug, Clone)]
pub struct Told {
    pub author: usize,
    pub w: Vector,
    pub n: f64,
    pub epoch: u64,
    pub tau: f64,
    pub loss: f64,
    pub degree: Option<u64>,
    pub own: bool,
}

/// From x and the updates in the round's order to the next x.
pub type Rule = Box<dyn FnMut(&[f64], &[Told]) -> Vector + Send>;

pub struct Case {
    pub spec: StrategySpec,
    pub rule: Rule,
}

fn case(name: &str, parameters: &[(&str, f64)], rule: impl FnMut(&[f64], &[Told]) -> Vector + Send + 'static) -> Case {
    let spec = parameters.iter().fold(StrategySpec::new(name), |spec, (name, value)| spec.with(*name, value));
    Case { spec, rule: Box::new(rule) }
}

/// Each strategy with its defaults, and with parameters that make a difference for these weights.
pub fn cases(name: &str) -> Vec<Case> {
    match name {
        "fedavg" | "fedprox" | "faulttolerantfedavg" => vec![case(name, &[], |_, round| by_examples(round))],
        "fedavgm" => vec![
            case(name, &[], fedavgm(1.0, 0.0)),
            case(name, &[("server_learning_rate", 0.7), ("server_momentum", 0.9)], fedavgm(0.7, 0.9)),
        ],
        "fedadagrad" => vec![
            case(name, &[], adaptive(0.1, 0.0, 1e-3, |v, square| v + square)),
            case(name, &[("beta_1", 0.4), ("tau", 0.1)], adaptive(0.1, 0.4, 0.1, |v, square| v + square)),
        ],
        "fedadam" => vec![case(name, &[], adaptive(0.1, 0.9, 1e-3, |v, square| 0.99 * v + 0.01 * square))],
        "fedyogi" => vec![case(
            name,
            &[],
            adaptive(0.01, 0.9, 1e-3, |v, square| v - 0.01 * square * if v > square { 1.0 } else { -1.0 }),
        )],
        "fedmedian" => vec![case(name, &[], |_, round| coordinates(round, |sorted| median(&sorted)))],
        "fedtrimmedavg" => [0.2, 0.3].map(|beta| case(name, &[("beta", beta)], trimmed(beta))).into(),
        "krum" => vec![
            case(name, &[("num_malicious_clients", 1.0)], |_, round| krum(round, 1)[0].w.clone()),
            case(name, &[("num_malicious_clients", 1.0), ("num_clients_to_keep", 2.0)], |_, round| {
                by_examples(&krum(round, 1)[..2])
            }),
        ],
        "multikrum" => vec![case(name, &[("num_malicious_nodes", 1.0), ("num_nodes_to_select", 3.0)], |_, round| {
            by_examples(&krum(round, 1)[..3])
        })],
        "bulyan" => vec![case(name, &[("num_malicious_clients", 1.0)], bulyan)],
        "qfedavg" => vec![
            case(name, &[], qfedavg(0.2, 0.1)),
            case(name, &[("q_param", 2.0), ("qffl_learning_rate", 0.5)], qfedavg(2.0, 0.5)),
        ],
        "unweighted" => vec![case(name, &[], one_after_the_other(|_, _| 0.5))],
        "fedasync" => vec![
            case(name, &[], one_after_the_other(|u, _| 0.6 * (u.tau + 1.0).powf(-0.5))),
            case(name, &[("fedasync_mixing_alpha", 0.5), ("use_staleness", 0.0)], one_after_the_other(|_, _| 0.5)),
            Case {
                spec: StrategySpec::new(name)
                    .with("staleness_function", "hinge")
                    .with("hinge_b", 1)
                    .with("hinge_a", 2)
                    .with("use_sample_weighing", true),
                rule: Box::new(one_after_the_other(|u, total| {
                    let weight = if u.tau <= 1.0 { 1.0 } else { 1.0 / (2.0 * (u.tau - 1.0) + 1.0) };
                    0.6 * weight * u.n / total
                })),
            },
        ],
        "paflm" => vec![
            case(name, &[], |x, round| {
                let clients = round.len() as f64;
                one_after_the_other(move |u, _| 0.9f64.powf(u.tau / clients - 1.0))(x, round)
            }),
            case(
                name,
                &[
                    ("staleness_alpha", 0.5),
                    ("num_clients", 2.0),
                    ("use_sample_weighing", 1.0),
                    ("total_samples", 150.0),
                ],
                one_after_the_other(|u, _| 0.5f64.powf(u.tau / 2.0 - 1.0) * u.n / 150.0),
            ),
        ],
        "asyncfeded" => vec![
            case(name, &[("history", 4.0)], asyncfeded(1.0, 1.0, 4)),
            case(name, &[("lambda", 0.5), ("epsilon", 0.3), ("history", 2.0)], asyncfeded(0.5, 0.3, 2)),
        ],
        "fedbuff" => vec![
            case(name, &[], fedbuff(10, 1.0)),
            case(name, &[("buffer_size", 3.0), ("server_learning_rate", 0.5)], fedbuff(3, 0.5)),
        ],
        "asofed" => vec![case(name, &[], asofed(None)), case(name, &[("total_samples", 1000.0)], asofed(Some(1000.0)))],
        "safa" => vec![case(name, &[], safa(5)), case(name, &[("lag_tolerance", 1.0)], safa(1))],
        "port" => vec![
            case(name, &[], port(10.0, 1.0, 1.0)),
            case(
                name,
                &[("staleness_bound", 2.0), ("similarity_weight", 3.0), ("staleness_weight", 0.5)],
                port(2.0, 3.0, 0.5),
            ),
        ],
        "gossip" => vec![case(name, &[], gossip)],
        "dpsgd" => vec![case(name, &[], dpsgd)],
        "diloco" => vec![
            case(name, &[], diloco(0.7, 0.9)),
            case(name, &[("outer_learning_rate", 0.3), ("outer_momentum", 0.5)], diloco(0.3, 0.5)),
        ],
        "geometricmedian" => vec![case(name, &[], geometric_median)],
        "centeredclipping" => vec![
            case(name, &[("tau", 1.0)], centered_clipping(1.0, 1)),
            case(name, &[("tau", 0.5), ("iterations", 3.0)], centered_clipping(0.5, 3)),
        ],
        "normbound" => vec![case(name, &[("norm_bound", 1.5)], norm_bound(1.5))],
        _ => Vec::new(),
    }
}

fn minus(a: &[f64], b: &[f64]) -> Vector {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// a + c·b.
fn plus(a: &[f64], c: f64, b: &[f64]) -> Vector {
    a.iter().zip(b).map(|(a, b)| a + c * b).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn weighted(round: &[Told], weight: impl Fn(&Told) -> f64) -> Vector {
    let total: f64 = round.iter().map(&weight).sum();
    round.iter().fold(vec![0.0; round[0].w.len()], |sum, u| plus(&sum, weight(u) / total, &u.w))
}

fn by_examples(round: &[Told]) -> Vector {
    weighted(round, |u| u.n)
}

fn total(round: &[Told]) -> f64 {
    round.iter().map(|u| u.n).sum()
}

fn coordinates(round: &[Told], rule: impl Fn(Vector) -> f64) -> Vector {
    let sorted = |at: usize| {
        let mut values: Vector = round.iter().map(|u| u.w[at]).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    (0..round[0].w.len()).map(|at| rule(sorted(at))).collect()
}

fn median(sorted: &[f64]) -> f64 {
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

fn trimmed(beta: f64) -> impl FnMut(&[f64], &[Told]) -> Vector {
    move |_, round| {
        let cut = (beta * round.len() as f64) as usize;
        coordinates(round, |sorted| {
            let rest = &sorted[cut..sorted.len() - cut];
            rest.iter().sum::<f64>() / rest.len() as f64
        })
    }
}

fn fedavgm(rate: f64, momentum: f64) -> impl FnMut(&[f64], &[Told]) -> Vector {
    let mut m = Vec::new();
    move |x, round| {
        let g = minus(x, &by_examples(round));
        m = if m.is_empty() { g } else { plus(&g, momentum, &m) };
        plus(x, -rate, &m)
    }
}

fn adaptive(
    eta: f64,
    beta_1: f64,
    tau: f64,
    second: impl Fn(f64, f64) -> f64,
) -> impl FnMut(&[f64], &[Told]) -> Vector {
    let mut moments: Vec<(f64, f64)> = Vec::new();
    move |x, round| {
        let delta = minus(&by_examples(round), x);
        moments.resize(x.len(), (0.0, 0.0));
        let step = |((x, delta), (m, v)): ((&f64, f64), &mut (f64, f64))| {
            *m = beta_1 * *m + (1.0 - beta_1) * delta;
            *v = second(*v, delta * delta);
            x + eta * *m / (v.sqrt() + tau)
        };
        x.iter().zip(delta).zip(&mut moments).map(step).collect()
    }
}

fn diloco(rate: f64, momentum: f64) -> impl FnMut(&[f64], &[Told]) -> Vector {
    let mut v = Vec::new();
    move |x, round| {
        let g = minus(x, &weighted(round, |_| 1.0));
        v = if v.is_empty() { g.clone() } else { plus(&g, momentum, &v) };
        plus(x, -rate, &plus(&g, momentum, &v))
    }
}

/// The updates in ascending order of their scores, of equal ones in that of their authors.
fn krum(round: &[Told], f: usize) -> Vec<Told> {
    let closest = round.len().saturating_sub(f + 2).max(1);
    let score = |u: &Told| -> f64 {
        let others = round.iter().filter(|other| other.author != u.author);
        let mut distances: Vector = others.map(|other| norm(&minus(&other.w, &u.w)).powi(2)).collect();
        distances.sort_by(f64::total_cmp);
        distances[..closest].iter().sum()
    };
    let mut sorted = round.to_vec();
    sorted.sort_by_key(|u| u.author);
    sorted.sort_by(|a, b| score(a).total_cmp(&score(b)));
    sorted
}

fn bulyan(_: &[f64], round: &[Told]) -> Vector {
    let (f, mut rest, mut picked) = (1, round.to_vec(), Vec::new());
    while picked.len() < round.len() - 2 * f {
        let best = krum(&rest, f).remove(0);
        rest.retain(|u| u.author != best.author);
        picked.push(best);
    }
    coordinates(&picked, |mut values| {
        let (median, count) = (median(&values), values.len() - 2 * f);
        values.sort_by(|a, b| (a - median).abs().total_cmp(&(b - median).abs()));
        values[..count].iter().sum::<f64>() / count as f64
    })
}

fn qfedavg(q: f64, rate: f64) -> impl FnMut(&[f64], &[Told]) -> Vector {
    move |x, round| {
        let l = 1.0 / rate;
        let (mut delta, mut h) = (vec![0.0; x.len()], 0.0);
        for u in round {
            let (loss, g) = (u.loss + 1e-10, minus(x, &u.w).into_iter().map(|d| l * d).collect::<Vector>());
            delta = plus(&delta, loss.powf(q), &g);
            h += q * loss.powf(q - 1.0) * dot(&g, &g) + l * loss.powf(q);
        }
        plus(x, -1.0 / h, &delta)
    }
}

/// x ← x + rate·(w − x); the rate is told all examples of the round.
fn one_after_the_other(rate: impl Fn(&Told, f64) -> f64) -> impl FnMut(&[f64], &[Told]) -> Vector {
    move |x, round| round.iter().fold(x.to_vec(), |x, u| plus(&x, rate(u, total(round)), &minus(&u.w, &x)))
}

fn asyncfeded(lambda: f64, epsilon: f64, history: usize) -> impl FnMut(&[f64], &[Told]) -> Vector {
    // The x of earlier folds, the last one first.
    let mut past: Vec<Vector> = Vec::new();
    move |x, round| {
        past.insert(0, x.to_vec());
        past.truncate(1 + history);
        let mut now = x.to_vec();
        for u in round {
            let base = &past[(u.tau as usize).min(past.len() - 1)];
            let delta = minus(&u.w, base);
            let gamma = norm(&minus(&now, base)) / norm(&delta);
            now = plus(&now, lambda / (gamma + epsilon), &delta);
        }
        now
    }
}

fn fedbuff(size: usize, rate: f64) -> impl FnMut(&[f64], &[Told]) -> Vector {
    let (mut seen, mut sum, mut buffered) = (BTreeSet::new(), Vec::new(), 0);
    move |x, round| {
        let mut stepped = x.to_vec();
        let mut round = round.to_vec();
        round.sort_by_key(|u| u.author);
        for u in round {
            if !seen.insert((u.author, u.epoch)) {
                continue;
            }
            sum.resize(x.len(), 0.0);
            // What an update has moved by does not change with what others have moved x by in the same round.
            sum = plus(&sum, 1.0 / (1.0 + u.tau).sqrt(), &minus(&u.w, x));
            buffered += 1;
            if buffered == size {
                stepped = plus(&stepped, rate / size as f64, &sum);
                (sum, buffered) = (Vec::new(), 0);
            }
        }
        stepped
    }
}

fn asofed(total_samples: Option<f64>) -> impl FnMut(&[f64], &[Told]) -> Vector {
    let mut known = BTreeMap::new();
    move |x, round| {
        known.extend(round.iter().map(|u| (u.author, u.n)));
        let all = total_samples.unwrap_or(known.values().sum());
        round.iter().fold(x.to_vec(), |sum, u| plus(&sum, u.n / all, &minus(&u.w, x)))
    }
}

fn safa(tolerance: u64) -> impl FnMut(&[f64], &[Told]) -> Vector {
    struct Cached {
        epoch: u64,
        n: f64,
        w: Option<Vector>,
        /// Folds since it came, or its staleness when it did.
        age: u64,
    }
    let mut cache: BTreeMap<usize, Cached> = BTreeMap::new();
    move |x, round| {
        cache.values_mut().for_each(|cached| cached.age += 1);
        for u in round {
            let grown = cache.get(&u.author).filter(|cached| cached.epoch == u.epoch).map_or(0, |cached| cached.age);
            let age = grown.max(u.tau as u64);
            cache.insert(u.author, Cached { epoch: u.epoch, n: u.n, w: Some(u.w.clone()), age });
        }
        let all: f64 = cache.values().map(|cached| cached.n).sum();
        cache.values_mut().filter(|cached| cached.age > tolerance).for_each(|cached| cached.w = None);
        let weights = cache.values().map(|cached| (cached.n / all, cached.w.as_deref().unwrap_or(x)));
        weights.fold(vec![0.0; x.len()], |sum, (weight, w)| plus(&sum, weight, w))
    }
}

fn port(bound: f64, similarity: f64, staleness: f64) -> impl FnMut(&[f64], &[Told]) -> Vector {
    let mut before: Option<Vector> = None;
    move |x, round| {
        let moved = before.replace(x.to_vec()).map(|before| minus(x, &before));
        weighted(round, |u| {
            let delta = minus(&u.w, x);
            let cosine = moved.as_ref().map_or(1.0, |moved| dot(&delta, moved) / norm(&delta) / norm(moved));
            u.n * (similarity * (1.0 + cosine) / 2.0 + staleness * bound / (bound + u.tau))
        })
    }
}

/// In round r of the tournament those meet whose places add up to r modulo the number of rounds; who would meet itself
/// meets the last one.
fn gossip(_: &[f64], round: &[Told]) -> Vector {
    let mut players: Vec<&Told> = round.iter().collect();
    players.sort_by_key(|u| u.author);
    let own = players.iter().position(|u| u.own).unwrap();
    let last = players.len() - 1 + players.len() % 2;
    let turn = players[own].epoch as usize % last;
    let meets = |a: usize, b: usize| match (a == last, b == last) {
        (false, false) => (a + b) % last == turn,
        (true, _) => 2 * b % last == turn,
        (_, true) => 2 * a % last == turn,
    };
    match (0..players.len()).find(|&other| other != own && meets(own, other)) {
        Some(other) => weighted(&[players[own].clone(), players[other].clone()], |_| 1.0),
        None => players[own].w.clone(),
    }
}

fn dpsgd(_: &[f64], round: &[Told]) -> Vector {
    let own = round.iter().find(|u| u.own).unwrap();
    let degree = own.degree.unwrap_or(0).max(round.len() as u64 - 1);
    let weight = |u: &Told| 1.0 / (1.0 + u.degree.unwrap_or(degree).max(degree) as f64);
    let others: f64 = round.iter().filter(|u| !u.own).map(weight).sum();
    round.iter().fold(vec![0.0; own.w.len()], |sum, u| plus(&sum, if u.own { 1.0 - others } else { weight(u) }, &u.w))
}

fn geometric_median(_: &[f64], round: &[Told]) -> Vector {
    let (mut v, mut before) = (by_examples(round), f64::INFINITY);
    for _ in 0..100 {
        let objective: f64 = round.iter().map(|u| u.n / total(round) * norm(&minus(&u.w, &v))).sum();
        if (before - objective).abs() <= 1e-10 * objective {
            break;
        }
        before = objective;
        v = weighted(round, |u| u.n / norm(&minus(&u.w, &v)).max(1e-5));
    }
    v
}

fn clipped(delta: &[f64], bound: f64) -> Vector {
    let factor = (bound / norm(delta)).min(1.0);
    delta.iter().map(|d| factor * d).collect()
}

fn centered_clipping(tau: f64, iterations: usize) -> impl FnMut(&[f64], &[Told]) -> Vector {
    move |x, round| {
        (0..iterations).fold(x.to_vec(), |v, _| {
            let count = round.len() as f64;
            round.iter().fold(v.clone(), |sum, u| plus(&sum, 1.0 / count, &clipped(&minus(&u.w, &v), tau)))
        })
    }
}

fn norm_bound(bound: f64) -> impl FnMut(&[f64], &[Told]) -> Vector {
    move |x, round| {
        round.iter().fold(x.to_vec(), |sum, u| plus(&sum, u.n / total(round), &clipped(&minus(&u.w, x), bound)))
    }
}
