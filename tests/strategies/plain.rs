//! The plain implementation that strategies are compared with: each rule as written in its paper, over vectors of f64.

use peerfold::strategy::StrategySpec;
use std::collections::BTreeMap;

/// An update in plain figures. What is a difference was added to x before.
#[derive(Debug, Clone)]
pub(crate) struct PlainUpdate {
    pub author: Vec<u8>,
    pub w: Vec<f64>,
    pub examples: f64,
    pub epoch: u64,
    pub tau: f64,
    pub loss: f64,
    pub degree: Option<u64>,
    pub own: bool,
}

/// A result that a rule may give.
#[derive(Debug)]
pub(crate) struct Result_ {
    pub values: Vec<f64>,
    /// The updates, by their places in the round, of which the newest gives the integer tensors.
    pub among: Vec<usize>,
}

/// w*_k of SAFA, and what ASO-Fed and FedBuff know of an author.
#[derive(Debug, Clone)]
struct Known {
    epoch: u64,
    examples: f64,
    born: i64,
    w: Option<Vec<f64>>,
}

/// A rule with its memory.
#[derive(Debug)]
pub(crate) struct Plain {
    spec: StrategySpec,
    pub x: Vec<f64>,
    folds: i64,
    m: Vec<f64>,
    v: Vec<f64>,
    /// The x before the last fold, before the one before it, ….
    past: Vec<Vec<f64>>,
    known: BTreeMap<Vec<u8>, Known>,
    buffered: usize,
    /// Whether the rule keeps sums and moments in f32 for weights that are no f64.
    pub rough: bool,
}

fn norm(a: impl IntoIterator<Item = f64>) -> f64 {
    a.into_iter().map(|a| a * a).sum::<f64>().sqrt()
}

fn minus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

fn add(a: &mut [f64], factor: f64, b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += factor * b);
}

/// Σ p_k·w_k / Σ p_k.
fn mean(updates: &[&PlainUpdate], p: &[f64]) -> Vec<f64> {
    let total: f64 = p.iter().sum();
    let mut sum = vec![0.0; updates[0].w.len()];
    updates.iter().zip(p).for_each(|(update, p)| add(&mut sum, p / total, &update.w));
    sum
}

/// The examples, the largest of them cut to a level at which they have `most` of all; found by halving.
pub(crate) fn capped(examples: &[f64], most: f64) -> Vec<f64> {
    let (total, highest) = (examples.iter().sum::<f64>(), examples.iter().copied().fold(0.0, f64::max));
    let above_0 = examples.iter().filter(|&&n| n > 0.0).count() as f64;
    if highest <= most * total {
        return examples.to_vec();
    }
    if above_0 * most <= 1.0 {
        return examples.iter().map(|&n| f64::from(n > 0.0)).collect();
    }
    let cut = |level: f64| examples.iter().map(|&n| n.min(level)).collect::<Vec<_>>();
    let (mut low, mut high) = (0.0, highest);
    for _ in 0..2000 {
        let level = (low + high) / 2.0;
        if level <= most * cut(level).iter().sum::<f64>() { low = level } else { high = level }
    }
    cut(low)
}

/// Krum: the places of these updates, the lowest score first; of equal ones the smaller author.
fn by_score(updates: &[PlainUpdate], among: &[usize], f: usize) -> Vec<usize> {
    let closest = (among.len() as i64 - f as i64 - 2).max(1) as usize;
    let score = |i: usize| -> f64 {
        let others = among.iter().filter(|&&j| j != i);
        let mut distances: Vec<f64> = others.map(|&j| norm(minus(&updates[i].w, &updates[j].w)).powi(2)).collect();
        distances.sort_by(f64::total_cmp);
        distances.iter().take(closest).sum()
    };
    let mut scored: Vec<_> = among.iter().map(|&i| (score(i), updates[i].author.clone(), i)).collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    scored.into_iter().map(|(_, _, i)| i).collect()
}

fn coordinates(updates: &[&PlainUpdate], rule: impl Fn(&mut Vec<f64>) -> f64) -> Vec<f64> {
    (0..updates[0].w.len())
        .map(|at| {
            let mut values: Vec<f64> = updates.iter().map(|update| update.w[at]).collect();
            values.sort_by(f64::total_cmp);
            rule(&mut values)
        })
        .collect()
}

fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    if n % 2 == 1 { sorted[n / 2] } else { (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0 }
}

impl Plain {
    pub(crate) fn new(spec: &StrategySpec, x: &[f64]) -> Self {
        let rough = ["fedavgm", "fedadagrad", "fedadam", "fedyogi", "diloco", "fedbuff"].contains(&spec.name.as_str());
        let zeros = vec![0.0; x.len()];
        Self {
            spec: spec.clone(),
            x: x.to_vec(),
            folds: 0,
            m: zeros.clone(),
            v: zeros,
            past: Vec::new(),
            known: BTreeMap::new(),
            buffered: 0,
            rough,
        }
    }

    fn number(&self, name: &str, default: f64) -> f64 {
        self.spec.params.get(name).map_or(default, |value| value.parse().unwrap())
    }

    fn is(&self, name: &str, default: bool) -> bool {
        self.spec.params.get(name).map_or(default, |value| value == "true")
    }

    fn malicious(&self) -> usize {
        self.number("num_malicious_clients", self.number("num_malicious_nodes", 0.0)) as usize
    }

    /// Takes over the weights that the strategy gave, rounded as they are, as its x.
    pub(crate) fn settle(&mut self, x: Vec<f64>) {
        self.past.insert(0, std::mem::replace(&mut self.x, x));
        self.folds += 1;
    }

    /// The results that are right; none, if there must be an error.
    pub(crate) fn fold(&mut self, updates: &[PlainUpdate]) -> Vec<Result_> {
        let all: Vec<usize> = (0..updates.len()).collect();
        let each: Vec<&PlainUpdate> = updates.iter().collect();
        let n = updates.len();
        let examples: Vec<f64> = updates.iter().map(|update| update.examples).collect();
        let by_examples = |among: &[usize]| -> Option<Vec<f64>> {
            let counts: Vec<f64> = among.iter().map(|&i| examples[i]).collect();
            (counts.iter().sum::<f64>() > 0.0).then(|| capped(&counts, self.number("max_share", 1.0)))
        };
        let one = |values: Vec<f64>, among: Vec<usize>| vec![Result_ { values, among }];
        let f = self.malicious();
        match self.spec.name.as_str() {
            "fedavg" | "fedprox" | "faulttolerantfedavg" => {
                by_examples(&all).map_or(vec![], |p| one(mean(&each, &p), all))
            }
            "fedavgm" | "fedadagrad" | "fedadam" | "fedyogi" | "diloco" => {
                let p = if self.spec.name == "diloco" { Some(vec![1.0; n]) } else { by_examples(&all) };
                let Some(p) = p else { return vec![] };
                let average = mean(&each, &p);
                one(self.step(&average), all)
            }
            "fedmedian" => one(coordinates(&each, |values| median(values)), all),
            "fedtrimmedavg" => {
                let cut = (self.number("beta", 0.2) * n as f64).floor() as usize;
                let of_the_rest = |values: &mut Vec<f64>| {
                    let kept = &values[cut..n - cut];
                    // Of differences: a sum of values may overflow.
                    kept[0] + kept.iter().map(|value| value - kept[0]).sum::<f64>() / kept.len() as f64
                };
                one(coordinates(&each, of_the_rest), all)
            }
            "krum" | "multikrum" => {
                if f > 0 && n < 2 * f + 3 {
                    return vec![];
                }
                let mut best = by_score(updates, &all, f);
                let keep = match self.spec.name.as_str() {
                    "krum" => self.number("num_clients_to_keep", 0.0),
                    _ => self.number("num_nodes_to_select", 1.0),
                };
                if keep == 0.0 {
                    return one(updates[best[0]].w.clone(), best[..1].to_vec());
                }
                best.truncate(keep as usize);
                let kept: Vec<&PlainUpdate> = best.iter().map(|&i| &updates[i]).collect();
                by_examples(&best).map_or(vec![], |p| one(mean(&kept, &p), best))
            }
            "bulyan" => {
                if n < 4 * f + 3 {
                    return vec![];
                }
                let (mut rest, mut picked) = (all, Vec::new());
                while picked.len() < n - 2 * f {
                    let best = by_score(updates, &rest, f)[0];
                    rest.retain(|&i| i != best);
                    picked.push(best);
                }
                let chosen: Vec<&PlainUpdate> = picked.iter().map(|&i| &updates[i]).collect();
                let near_median = |values: &mut Vec<f64>| {
                    let center = median(values);
                    // Of two that are equally far, the lower one.
                    values.sort_by(|a, b| (a - center).abs().total_cmp(&(b - center).abs()).then(a.total_cmp(b)));
                    values.truncate(n - 4 * f);
                    values.iter().sum::<f64>() / values.len() as f64
                };
                one(coordinates(&chosen, near_median), picked)
            }
            "qfedavg" => {
                let q = self.number("q_param", self.number("q", 0.2));
                let l = 1.0 / self.number("qffl_learning_rate", self.number("client_learning_rate", 0.1));
                let (mut sum, mut h) = (vec![0.0; self.x.len()], 0.0);
                for update in updates {
                    let loss = update.loss + 1e-10;
                    let g: Vec<f64> = minus(&self.x, &update.w).iter().map(|d| l * d).collect();
                    h += q * loss.powf(q - 1.0) * norm(g.iter().copied()).powi(2) + l * loss.powf(q);
                    add(&mut sum, loss.powf(q), &g);
                }
                let mut x = self.x.clone();
                add(&mut x, -1.0 / h, &sum);
                one(x, all)
            }
            "unweighted" | "fedasync" | "paflm" => self.mixed(updates).map_or(vec![], |x| one(x, all)),
            "asyncfeded" => {
                let (lambda, epsilon) = (self.number("lambda", 1.0), self.number("epsilon", 1.0));
                // How many are kept if it isn't said is no rule: as many as there are folds in these tests.
                let history = (self.number("history", f64::INFINITY)).min(self.past.len() as f64) as usize;
                let mut x = self.x.clone();
                for update in updates {
                    let ago = (update.tau.round() as usize).min(history);
                    let base = if ago == 0 { &self.x } else { &self.past[ago - 1] };
                    let delta = minus(&update.w, base);
                    let length = norm(delta.iter().copied());
                    if length > 0.0 {
                        let gamma = norm(minus(&x, base)) / length;
                        add(&mut x, lambda / (gamma + epsilon), &delta);
                    }
                }
                one(x, all)
            }
            "fedbuff" => one(self.buffer(updates), all),
            "asofed" => {
                self.hear(updates);
                let known: f64 = self.known.values().map(|known| known.examples).sum();
                let total = self.number("total_samples", known).max(examples.iter().sum());
                if total == 0.0 {
                    return vec![];
                }
                let mut x = self.x.clone();
                updates.iter().for_each(|update| add(&mut x, update.examples / total, &minus(&update.w, &self.x)));
                one(x, all)
            }
            "safa" => {
                self.hear(updates);
                let tolerance = self.number("lag_tolerance", 5.0) as i64;
                for known in self.known.values_mut().filter(|known| self.folds - known.born > tolerance) {
                    known.w = None;
                }
                let counts: Vec<f64> = self.known.values().map(|known| known.examples).collect();
                if counts.iter().sum::<f64>() == 0.0 {
                    return vec![];
                }
                let p = capped(&counts, self.number("max_share", 1.0));
                let total: f64 = p.iter().sum();
                let mut x = vec![0.0; self.x.len()];
                for (known, p) in self.known.values().zip(p) {
                    add(&mut x, p / total, known.w.as_ref().unwrap_or(&self.x));
                }
                one(x, all)
            }
            "port" => {
                let Some(p) = by_examples(&all) else { return vec![] };
                let (s, a) = (self.number("staleness_bound", 10.0), self.number("similarity_weight", 1.0));
                let b = self.number("staleness_weight", 1.0);
                let cosine = |update: &PlainUpdate| {
                    let (Some(before), delta) = (self.past.first(), minus(&update.w, &self.x)) else { return 1.0 };
                    let moved = minus(&self.x, before);
                    let lengths = norm(moved.iter().copied()) * norm(delta.iter().copied());
                    let product: f64 = moved.iter().zip(&delta).map(|(a, b)| a * b).sum();
                    if lengths > 0.0 { product / lengths } else { 1.0 }
                };
                let weight = |update: &PlainUpdate| a * (1.0 + cosine(update)) / 2.0 + b * s / (s + update.tau);
                let p: Vec<f64> = updates.iter().zip(p).map(|(update, p)| p * weight(update)).collect();
                one(mean(&each, &p), all)
            }
            "gossip" => {
                // With whom, the pairing decides: everybody else may be it, and nobody if their number is odd.
                let own = updates.iter().position(|update| update.own).unwrap_or(0);
                let pair = |other: usize| {
                    let among = if other == own { vec![own] } else { vec![own, other] };
                    let both: Vec<&PlainUpdate> = among.iter().map(|&i| &updates[i]).collect();
                    Result_ { values: mean(&both, &vec![1.0; among.len()]), among }
                };
                all.into_iter().filter(|&other| other != own || n % 2 == 1).map(pair).collect()
            }
            "dpsgd" => {
                let own = updates.iter().position(|update| update.own).unwrap_or(0);
                let degree = updates[own].degree.unwrap_or(0).max(n as u64 - 1);
                let weight = |update: &PlainUpdate| 1.0 / (1.0 + update.degree.unwrap_or(degree).max(degree) as f64);
                let mut p: Vec<f64> = updates.iter().map(weight).collect();
                p[own] = 1.0 - (0..n).filter(|&i| i != own).map(|i| p[i]).sum::<f64>();
                one(mean(&each, &p), all)
            }
            "geometricmedian" => {
                let Some(alpha) = by_examples(&all) else { return vec![] };
                let total: f64 = alpha.iter().sum();
                let eps = self.number("eps", 1e-5);
                let mut v = mean(&each, &alpha);
                let mut before = f64::INFINITY;
                for _ in 0..self.number("maxiter", 100.0) as usize {
                    let distances: Vec<f64> = updates.iter().map(|update| norm(minus(&v, &update.w))).collect();
                    let objective: f64 = alpha.iter().zip(&distances).map(|(a, d)| a / total * d).sum();
                    if (before - objective).abs() <= self.number("ftol", 1e-10) * objective {
                        break;
                    }
                    before = objective;
                    let p: Vec<f64> = alpha.iter().zip(&distances).map(|(a, d)| a / d.max(eps)).collect();
                    v = mean(&each, &p);
                }
                one(v, all)
            }
            "centeredclipping" => {
                let tau = self.number("tau", 10.0);
                let mut v = self.x.clone();
                for _ in 0..self.number("iterations", 1.0) as usize {
                    let mut step = vec![0.0; v.len()];
                    for update in updates {
                        let d = minus(&update.w, &v);
                        add(&mut step, (tau / norm(d.iter().copied())).min(1.0) / n as f64, &d);
                    }
                    add(&mut v, 1.0, &step);
                }
                one(v, all)
            }
            "normbound" => {
                let Some(p) = by_examples(&all) else { return vec![] };
                let (bound, total) = (self.number("norm_bound", 10.0), p.iter().sum::<f64>());
                let mut x = self.x.clone();
                for (update, p) in updates.iter().zip(p) {
                    let d = minus(&update.w, &self.x);
                    add(&mut x, p / total * (bound / norm(d.iter().copied())).min(1.0), &d);
                }
                one(x, all)
            }
            other => panic!("{other} is compared with nothing"),
        }
    }

    /// FedAvgM, FedAdagrad, FedAdam, FedYogi and DiLoCo, coordinate by coordinate.
    fn step(&mut self, average: &[f64]) -> Vec<f64> {
        let name = self.spec.name.clone();
        let yogi = name == "fedyogi";
        let eta = self.number("eta", if yogi { 0.01 } else { 0.1 });
        let beta_1 = self.number("beta_1", if name == "fedadagrad" { 0.0 } else { 0.9 });
        let (beta_2, tau) = (self.number("beta_2", 0.99), self.number("tau", 1e-3));
        let (rate, momentum) = (self.number("server_learning_rate", 1.0), self.number("server_momentum", 0.0));
        let outer = (self.number("outer_learning_rate", 0.7), self.number("outer_momentum", 0.9));
        let first = self.folds == 0;
        let coordinates = self.x.iter().zip(average).zip(self.m.iter_mut().zip(&mut self.v));
        coordinates
            .map(|((&x, &average), (m, v))| {
                let delta = average - x;
                match name.as_str() {
                    "fedavgm" => {
                        *m = if first { -delta } else { momentum * *m - delta };
                        return x - rate * *m;
                    }
                    "diloco" => {
                        *m = outer.1 * *m - delta;
                        return x - outer.0 * (-delta + outer.1 * *m);
                    }
                    "fedadagrad" => *v += delta * delta,
                    "fedadam" => *v = beta_2 * *v + (1.0 - beta_2) * delta * delta,
                    _ if *v > delta * delta => *v -= (1.0 - beta_2) * delta * delta,
                    _ if *v < delta * delta => *v += (1.0 - beta_2) * delta * delta,
                    _ => {}
                }
                *m = beta_1 * *m + (1.0 - beta_1) * delta;
                x + eta * *m / (v.sqrt() + tau)
            })
            .collect()
    }

    /// Unweighted, FedAsync and PAFLM.
    fn mixed(&self, updates: &[PlainUpdate]) -> Option<Vec<f64>> {
        let here: f64 = updates.iter().map(|update| update.examples).sum();
        let total = self.number("total_samples", here);
        let weighing = self.is("use_sample_weighing", false);
        if weighing && total == 0.0 && self.spec.name != "unweighted" {
            return None;
        }
        let mut x = self.x.clone();
        for update in updates {
            let sample = if weighing { update.examples / total } else { 1.0 };
            let staleness = match self.spec.params.get("staleness_function").map(String::as_str) {
                _ if !self.is("use_staleness", true) => 1.0,
                Some("constant") => 1.0,
                Some("hinge") => {
                    let (a, b) = (self.number("hinge_a", 10.0), self.number("hinge_b", 4.0));
                    if update.tau <= b { 1.0 } else { 1.0 / (a * (update.tau - b) + 1.0) }
                }
                _ => (update.tau + 1.0).powf(-self.number("fedasync_a", 0.5)),
            };
            let rate = match self.spec.name.as_str() {
                "unweighted" => 0.5,
                "fedasync" => (self.number("fedasync_mixing_alpha", 0.6) * staleness * sample).clamp(0.0, 1.0),
                _ => {
                    let clients = self.number("num_clients", updates.len() as f64);
                    let alpha = self.number("staleness_alpha", 0.9);
                    sample * if self.is("use_staleness", true) { alpha.powf(update.tau / clients - 1.0) } else { 1.0 }
                }
            };
            let d = minus(&update.w, &x);
            add(&mut x, rate, &d);
        }
        Some(x)
    }

    /// FedBuff: each update once, by author.
    fn buffer(&mut self, updates: &[PlainUpdate]) -> Vec<f64> {
        let (size, rate) = (self.number("buffer_size", 10.0) as usize, self.number("server_learning_rate", 1.0));
        let mut new: Vec<&PlainUpdate> = updates.iter().collect();
        new.retain(|update| self.known.get(&update.author).is_none_or(|known| known.epoch < update.epoch));
        new.sort_by(|a, b| a.author.cmp(&b.author));
        let mut x = self.x.clone();
        for update in new {
            // Δ is what the update says, whatever x has become in this fold.
            add(&mut self.m, 1.0 / (1.0 + update.tau).sqrt(), &minus(&update.w, &self.x));
            self.buffered += 1;
            if self.buffered == size {
                add(&mut x, rate / size as f64, &self.m);
                (self.m, self.buffered) = (vec![0.0; x.len()], 0);
            }
        }
        self.hear(updates);
        x
    }

    /// Remembers what is newer than what is known of its author.
    fn hear(&mut self, updates: &[PlainUpdate]) {
        for update in updates {
            let known = self.known.get(&update.author);
            if known.is_some_and(|known| known.epoch > update.epoch) {
                continue;
            }
            let seen = known.filter(|known| known.epoch == update.epoch).map_or(self.folds, |known| known.born);
            // As many versions old as is said of it, and as it is known.
            let born = seen.min(self.folds - update.tau.ceil() as i64).max(0);
            let w = Some(update.w.clone());
            self.known.insert(update.author.clone(), Known { epoch: update.epoch, examples: update.examples, born, w });
        }
    }
}
