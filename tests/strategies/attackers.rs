//! Attackers that may send any numbers, but fewer of them than a rule withstands.

use crate::{
    equal::element,
    golden::{author, round, update},
    made::{Draws, FLOATS, decode, distance, encode, ordered, single, singles, tensor, values},
    rules::spec,
};
use peerfold::{
    strategy::{Folded, StrategySpec, Update},
    weights::{DType, Weights},
};
use proptest::prelude::*;

fn fold(spec: &StrategySpec, x: Option<&Weights>, weights: &[Weights], examples: &[u64]) -> Folded {
    let updates: Vec<Update<'_>> =
        (0..).zip(weights.iter().zip(examples)).map(|(number, (w, &n))| update(author(number), w, n)).collect();
    let mut strategy = spec.build().unwrap();
    if let Some(x) = x {
        strategy.begin(x);
    }
    strategy.fold(&round(1, &updates)).unwrap_or_else(|error| panic!("{spec}: {error}"))
}

/// What an attacker may send for a coordinate of which these are the honest values.
fn malice(dtype: DType, draws: &mut Draws, honest: &[Vec<u8>]) -> Vec<u8> {
    let largest = match dtype {
        DType::F64 => f64::MAX,
        DType::F32 => f32::MAX.into(),
        DType::F16 => 65504.0,
        _ => half::bf16::MAX.to_f64(),
    };
    let number = match draws.below(9) {
        0 => largest,
        1 => -largest,
        2 => 0.0,
        3 => -0.0,
        4 => f64::from_bits(draws.bits() % 100),
        5 => 1e4 * draws.number(),
        6 => largest * draws.number(),
        _ => return honest[draws.below(honest.len())].clone(),
    };
    encode(dtype, number)
}

/// Dtype, the elements that each update has, and for each of them the range of the honest ones.
type PoisonedTensor = (DType, Vec<Vec<u8>>, Vec<(i128, i128)>);
/// For each dtype the updates, of which the first `attackers` are attackers', and the coordinates' honest ranges.
type Poisoned = Vec<PoisonedTensor>;

/// All send the same for all coordinates of a dtype, or what comes.
fn poisoned(honest: &[Vec<Vec<u8>>], attackers: usize, seed: u64) -> Poisoned {
    let mut draws = Draws(seed);
    let together = draws.below(2) == 0;
    FLOATS
        .iter()
        .zip(honest)
        .map(|(&dtype, elements)| {
            // Three coordinates; the honest ones' elements follow each other.
            let coordinates: Vec<&[Vec<u8>]> = elements.chunks(elements.len() / 3).take(3).collect();
            let mut updates: Vec<Vec<u8>> = Vec::new();
            for _ in 0..attackers {
                if together && !updates.is_empty() {
                    updates.push(updates[0].clone());
                } else {
                    updates.push(coordinates.iter().flat_map(|honest| malice(dtype, &mut draws, honest)).collect());
                }
            }
            for at in 0..elements.len() / 3 {
                updates.push(coordinates.iter().flat_map(|honest| honest[at].clone()).collect());
            }
            let range = |honest: &&[Vec<u8>]| {
                let order = || honest.iter().map(|element| ordered(element));
                (order().min().unwrap(), order().max().unwrap())
            };
            (dtype, updates, coordinates.iter().map(range).collect())
        })
        .collect()
}

/// Folds them in this order of authors, and gives the elements with their ranges and dtypes.
fn fold_poisoned(spec: &StrategySpec, poisoned: &Poisoned, order: &[usize]) -> Vec<(DType, Vec<u8>, (i128, i128))> {
    let weights: Vec<Weights> = order
        .iter()
        .map(|&at| {
            let tensors = poisoned.iter().map(|(dtype, updates, ranges)| {
                tensor(&dtype.to_string(), *dtype, &[ranges.len() as u64], updates[at].clone())
            });
            Weights::new(tensors.collect()).unwrap()
        })
        .collect();
    let folded = fold(spec, None, &weights, &vec![7; weights.len()]).weights;
    let of_dtype = |(dtype, _, ranges): &PoisonedTensor| {
        let data = folded.get(&dtype.to_string()).unwrap().1.clone();
        let elements: Vec<_> = data.chunks_exact(dtype.size() as usize).map(<[u8]>::to_vec).collect();
        let dtype = *dtype;
        elements
            .into_iter()
            .zip(ranges.clone())
            .map(move |(element, range)| (dtype, element, range))
            .collect::<Vec<_>>()
    };
    poisoned.iter().flat_map(of_dtype).collect()
}

/// This many honest ones with three elements of every dtype each, at most this many attackers, and an order of all of
/// them.
fn members(
    most: impl Fn(usize) -> usize + Clone + 'static,
) -> impl proptest::strategy::Strategy<Value = (Vec<Vec<Vec<u8>>>, usize, Vec<usize>, u64)> {
    (1..17usize).prop_flat_map(move |count| (Just(count), 0..=most(count))).prop_flat_map(|(count, attackers)| {
        let honest = 3 * (count - attackers);
        let elements = FLOATS.map(|dtype| {
            prop_oneof![
                prop::collection::vec(element(dtype), honest),
                prop::collection::vec((-2.0..2.0f64).prop_map(move |number| encode(dtype, number)), honest),
            ]
        });
        let order = Just((0..count).collect::<Vec<_>>()).prop_shuffle();
        (elements.into_iter().collect::<Vec<_>>(), Just(attackers), order, any::<u64>())
    })
}

fn inside(spec: &StrategySpec, poisoned: &Poisoned, order: &[usize]) -> Result<(), TestCaseError> {
    for (dtype, element, (low, high)) in fold_poisoned(spec, poisoned, order) {
        let place = ordered(&element);
        let value = decode(dtype, &element);
        prop_assert!(value.is_finite() && low <= place && place <= high, "{} of {}: {:e}", spec, dtype, value);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// f < n/2.
    #[test]
    fn the_median_stays_among_the_honest((honest, attackers, order, seed) in members(|count| (count - 1) / 2)) {
        inside(&spec("fedmedian"), &poisoned(&honest, attackers, seed), &order)?;
    }

    /// f ≤ int(βn).
    #[test]
    fn the_trimmed_mean_stays_among_the_honest(
        (honest, attackers, order, seed) in members(|count| (count - 1) / 2),
        more in 0.0..0.999f64,
    ) {
        let count = order.len() as f64;
        let beta = ((attackers as f64 + more) / count).min(0.499_999);
        prop_assume!((beta * count) as usize >= attackers);
        inside(&spec("fedtrimmedavg").with("beta", beta), &poisoned(&honest, attackers, seed), &order)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Of θ = n − 2f picks at most f are attackers', and θ ≥ 2f + 3: their median is inside the honest range. The β = n − 4f
    /// nearest to it are no further from it than the furthest honest pick, of which there are at least n − 3f. So the
    /// result is no further from the honest range than that is wide. (Inside it, it need not be: an attacker may stand
    /// closer to the median than honest ones of the other side.)
    #[test]
    fn bulyan_stays_near_the_honest(f in 1..4usize, more in 0..3usize, seed in any::<u64>(), far in -3..38i32) {
        let mut draws = Draws(seed);
        let count = 4 * f + 3 + more;
        let coordinates = 1 + draws.below(5);
        let honest: Vec<Vec<f64>> =
            (f..count).map(|_| (0..coordinates).map(|_| draws.normal()).collect()).collect();
        let mut all: Vec<Vec<f64>> = (0..f)
            .map(|_| {
                let near = &honest[draws.below(honest.len())];
                let scale = if draws.below(3) == 0 { 0.0 } else { 10f64.powi(far) };
                near.iter().map(|value| value + scale * draws.number()).collect()
            })
            .collect();
        all.extend(honest.clone());
        let weights: Vec<Weights> = all.iter().map(|numbers| singles(numbers)).collect();
        let spec = spec("bulyan").with("num_malicious_clients", f);
        let folded = values(&fold(&spec, None, &weights, &vec![1; count]).weights);
        for (at, value) in folded.into_iter().enumerate() {
            let range = || weights[f..].iter().map(|weights| values(weights)[at]);
            let (low, high) = (range().fold(f64::MAX, f64::min), range().fold(f64::MIN, f64::max));
            let width = (high - low) * 1.000_001;
            prop_assert!(low - width <= value && value <= high + width, "{} is not near {} to {}", value, low, high);
        }
    }

    /// All honest ones are at most r apart and no attacker is nearer to one than R. An honest one has n − f − 1 honest
    /// others, so its score is at most (n − f − 2)·r². An attacker has f − 1 of its own, so of its n − f − 2 closest at
    /// least n − 2f − 1 ≥ 2 are honest, and its score is at least 2R². R² > (n − f − 2)·r²/2 is far enough.
    #[test]
    fn krum_picks_the_honest_where_attackers_are_far_off(
        f in 1..5usize,
        more in 0..4usize,
        seed in any::<u64>(),
        far in 0..37i32,
    ) {
        let mut draws = Draws(seed);
        let count = 2 * f + 3 + more;
        let coordinates = 1 + draws.below(40);
        let center: Vec<f64> = (0..coordinates).map(|_| 100.0 * draws.number()).collect();
        let place = |draws: &mut Draws, scale: f64| -> Vec<f64> {
            center.iter().map(|value| value + scale * draws.number()).collect()
        };
        let honest: Vec<Weights> = (f..count).map(|_| singles(&place(&mut draws, 1.0))).collect();
        let r = honest.iter().flat_map(|a| honest.iter().map(|b| distance(&values(a), &values(b)))).fold(0.0, f64::max);
        let shift = 10f64.powi(far) * 3.0 * (r + 1.0) * (count as f64).sqrt();
        let direction = if draws.below(2) == 0 { 1.0 } else { -1.0 };
        let together = draws.below(2) == 0;
        let mut weights: Vec<Weights> = Vec::new();
        for at in 0..f {
            let mut values = place(&mut draws, 1.0);
            values[at % coordinates] = (center[at % coordinates] + direction * shift).clamp(-3e38, 3e38);
            weights.push(if together && at > 0 { weights[0].clone() } else { singles(&values) });
        }
        weights.extend(honest);
        let examples: Vec<u64> = (0..count).map(|at| if at < f { 100_000_000 } else { 1 + draws.bits() % 9 }).collect();
        let krum = fold(&spec("krum").with("num_malicious_clients", f), None, &weights, &examples);
        prop_assert!(weights[f..].contains(&krum.weights), "{:?}", krum.shares);
        for text in ["krum num_clients_to_keep=", "multikrum num_nodes_to_select="] {
            let spec = spec(&format!("{text}{}", 1 + draws.below(count - f))).with("num_malicious_nodes", f);
            let folded = fold(&spec, None, &weights, &examples);
            prop_assert_eq!(&folded.shares[..f], &vec![0.0; f][..], "{}", spec);
        }
    }
}

/// By ‖a‖² + ‖b‖² − 2a·b in f32, as Flower's message API has it, distances are lost in the roundings.
#[test]
fn krum_knows_short_distances_of_long_vectors() {
    const COORDINATES: usize = 100_000;
    let mut draws = Draws(11);
    let center: Vec<f64> = (0..COORDINATES).map(|_| 1000.0 + 100.0 * draws.number()).collect();
    let mut near = |scale: f64| singles(&center.iter().map(|value| value + scale * draws.number()).collect::<Vec<_>>());
    // n = 7, f = 2; the attackers' are the first two, and three times as far from all as the honest from each other.
    let weights: Vec<Weights> = (0..7).map(|at| near(if at < 2 { 0.03 } else { 0.01 })).collect();
    let vectors: Vec<Vec<f32>> =
        weights.iter().map(|w| values(w).into_iter().map(|value| value as f32).collect()).collect();
    let dot = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let by_products: Vec<f32> = (3..7)
        .map(|at| {
            dot(&vectors[2], &vectors[2]) + dot(&vectors[at], &vectors[at]) - 2.0 * dot(&vectors[2], &vectors[at])
        })
        .collect();
    let by_differences: Vec<f64> =
        (3..7).map(|at| distance(&values(&weights[2]), &values(&weights[at])).powi(2)).collect();
    let lost = by_products.iter().zip(&by_differences).any(|(a, b)| (f64::from(*a) - b).abs() > *b);
    assert!(lost, "these vectors are no test: {by_products:?} for {by_differences:?}");

    let examples = [100_000_000, 100_000_000, 1, 2, 3, 4, 5];
    let krum = fold(&spec("krum num_malicious_clients=2"), None, &weights, &examples);
    assert!(weights[2..].contains(&krum.weights), "{:?}", krum.shares);
    let multi = fold(&spec("multikrum num_malicious_nodes=2 num_nodes_to_select=5"), None, &weights, &examples);
    assert_eq!(multi.shares[..2], [0.0; 2]);
    assert!(multi.shares[2..].iter().all(|&share| share > 0.0), "{:?}", multi.shares);
}

/// One attacker's f64 weights whose squares are no numbers any more: the robust rules don't stop for it.
#[test]
fn lengths_beyond_all_numbers_are_far_off() {
    for huge in [1e160, 1e300, f64::MAX] {
        for signs in [[1.0, 1.0], [1.0, -1.0], [-1.0, 0.0]] {
            let mut weights: Vec<Weights> =
                (0..7).map(|at| single(DType::F64, &[f64::from(at), 10.0 - f64::from(at)])).collect();
            weights[3] = single(DType::F64, &signs.map(|sign| sign * huge));
            let x = single(DType::F64, &[1.0, 9.0]);
            for text in [
                "krum num_malicious_clients=2",
                "multikrum num_malicious_nodes=2 num_nodes_to_select=5",
                "bulyan num_malicious_clients=1",
                "fedmedian",
                "fedtrimmedavg",
                "geometricmedian",
                "centeredclipping",
                "normbound",
            ] {
                let folded = values(&fold(&spec(text), Some(&x), &weights, &[10; 7]).weights);
                let near = folded.iter().all(|value| (-20.0..=20.0).contains(value));
                assert!(near, "{text} with {huge:e}: {folded:?}");
            }
        }
    }
}

/// The worst of many attacks, bettered step by step: `judge` says how bad one is.
fn worst_attack(
    seed: u64,
    coordinates: usize,
    attackers: usize,
    judge: impl Fn(&[Vec<f64>]) -> f64,
) -> (f64, Vec<Vec<f64>>) {
    let mut draws = Draws(seed);
    let mut worst = (f64::MIN, Vec::new());
    // All at one place at every distance, and each at its own.
    for exponent in -3..=30 {
        for together in [true, false] {
            let mut place = || (0..coordinates).map(|_| 10f64.powi(exponent) * draws.normal()).collect::<Vec<f64>>();
            let first = place();
            let attack: Vec<_> = (0..attackers).map(|_| if together { first.clone() } else { place() }).collect();
            let harm = judge(&attack);
            if harm > worst.0 {
                worst = (harm, attack);
            }
        }
    }
    for step in 0..150 {
        let mut attack = worst.1.clone();
        let scale = [0.01, 0.1, 0.5, 2.0][draws.below(4)];
        let all = draws.below(2) == 0;
        let one = draws.below(attackers);
        let length = attack.iter().flatten().map(|value| value.abs()).fold(0.0, f64::max);
        let moves: Vec<f64> = (0..coordinates).map(|_| scale * length * draws.normal()).collect();
        let factor = if step % 3 == 0 { 1.0 + scale * draws.number() } else { 1.0 };
        for place in attack.iter_mut().enumerate().filter(|(at, _)| all || *at == one).map(|(_, place)| place) {
            place.iter_mut().zip(&moves).for_each(|(value, moved)| *value = *value * factor + moved);
        }
        let harm = judge(&attack);
        if harm > worst.0 {
            worst = (harm, attack);
        }
    }
    worst
}

/// With attackers of a share α < 1/2 of all examples, the geometric median v is, for any point z that no honest update is
/// further from than r, no further from z than 2(1 − α)/(1 − 2α)·r (Lopuhaä and Rousseeuw 1991, theorem 2.2; Minsker 2015,
/// lemma 2.1; Pillutla et al. 2022, lemma 3). For F(v) = Σ a_k·‖v − w_k‖ ≤ F(z), and with D = ‖v − z‖
/// F(v) − F(z) ≥ Σ_honest a_k·(D − 2r) − Σ_attackers a_k·D = (1 − 2α)·D − 2(1 − α)·r.
/// Smoothed by ε, F is at most ε/2 more.
#[test]
fn the_geometric_median_keeps_its_bound() {
    const EPS: f64 = 1e-5;
    for (seed, honest_ones, attackers, claim) in
        [(1, 3, 1, 10), (2, 6, 4, 10), (3, 5, 1, 25), (4, 11, 7, 10), (5, 3, 2, 9)]
    {
        let mut draws = Draws(seed);
        let coordinates = 1 + seed as usize;
        let honest: Vec<Vec<f64>> =
            (0..honest_ones).map(|_| (0..coordinates).map(|_| draws.normal()).collect()).collect();
        let z: Vec<f64> = (0..coordinates)
            .map(|at| honest.iter().map(|place| place[at]).sum::<f64>() / f64::from(honest_ones))
            .collect();
        let r = honest.iter().map(|place| distance(place, &z)).fold(0.0, f64::max);
        let examples: Vec<u64> = (0..attackers).map(|_| claim).chain((0..honest_ones).map(|_| 10)).collect();
        let alpha = (attackers as f64 * claim as f64) / examples.iter().sum::<u64>() as f64;
        assert!(alpha < 0.48);
        let bound = (2.0 * (1.0 - alpha) * r + EPS / 2.0) / (1.0 - 2.0 * alpha);
        let displaced = |attack: &[Vec<f64>]| {
            let weights: Vec<Weights> =
                attack.iter().chain(&honest).map(|numbers| single(DType::F64, numbers)).collect();
            distance(&values(&fold(&spec("geometricmedian"), None, &weights, &examples).weights), &z)
        };
        let (harm, attack) = worst_attack(seed, coordinates, attackers, displaced);
        assert!(harm <= bound * 1.000_1, "{harm:e} where at most {bound} can be, α = {alpha}, by {attack:?}");
        // The search is one: it brings v further than where the honest would have it alone.
        assert!(harm > 0.1 * r, "{harm} of {r}");
    }
}

/// An iteration moves v by a mean of n vectors, none of which is longer than τ (Karimireddy et al. 2021, section 4.2): by
/// at most τ, of which at most τ·f/n is the attackers', whatever they send; another attack moves it by at most twice that.
#[test]
fn centered_clipping_keeps_its_bound() {
    for (seed, honest_ones, attackers, tau) in [(1, 4, 1, 1.0), (2, 6, 5, 0.1), (3, 3, 8, 10.0)] {
        let mut draws = Draws(seed);
        let coordinates = 2 + seed as usize;
        let mut place = |scale: f64| (0..coordinates).map(|_| scale * draws.normal()).collect::<Vec<f64>>();
        let x = place(1.0);
        let honest: Vec<Vec<f64>> = (0..honest_ones).map(|_| place(1.0)).collect();
        let (f, n) = (attackers as f64, f64::from(honest_ones) + attackers as f64);
        for iterations in [1u32, 4] {
            let spec = spec("centeredclipping").with("tau", tau).with("iterations", iterations);
            let folded = |attack: &[Vec<f64>]| {
                let weights: Vec<Weights> =
                    attack.iter().chain(&honest).map(|numbers| single(DType::F64, numbers)).collect();
                values(&fold(&spec, Some(&single(DType::F64, &x)), &weights, &vec![1; weights.len()]).weights)
            };
            // Attackers that send x move nothing.
            let unmoved = folded(&vec![x.clone(); attackers]);
            let (harm, attack) = worst_attack(seed, coordinates, attackers, |attack| {
                let v = folded(attack);
                let moved = distance(&v, &x);
                assert!(moved <= f64::from(iterations) * tau * (1.0 + 1e-9), "{moved} by {attack:?}");
                distance(&v, &unmoved)
            });
            if iterations == 1 {
                let bound = tau * f / n;
                assert!(harm <= bound * (1.0 + 1e-9), "{harm} where at most {bound} can be, by {attack:?}");
                assert!(harm > 0.99 * bound, "the search finds {harm} of {bound}");
            }
        }
    }
}

/// Σ p_k·Δ_k with Σ p_k = 1 and no Δ_k longer than M is no longer than M.
#[test]
fn the_norm_bound_is_one() {
    for (seed, honest_ones, attackers, bound) in [(1, 4, 1, 1.0), (2, 2, 5, 0.1), (3, 1, 3, 10.0)] {
        let mut draws = Draws(seed);
        let coordinates = 1 + seed as usize;
        let mut place = || (0..coordinates).map(|_| draws.normal()).collect::<Vec<f64>>();
        let x = place();
        let honest: Vec<Vec<f64>> = (0..honest_ones).map(|_| place()).collect();
        for (claim, most) in [(1, 1.0), (100_000_000, 1.0), (u64::MAX, 0.3)] {
            let spec = spec("normbound").with("norm_bound", bound).with("max_share", most);
            let moved = |attack: &[Vec<f64>]| {
                let weights: Vec<Weights> =
                    attack.iter().chain(&honest).map(|numbers| single(DType::F64, numbers)).collect();
                let examples: Vec<u64> = (0..weights.len()).map(|at| if at < attackers { claim } else { 10 }).collect();
                distance(&values(&fold(&spec, Some(&single(DType::F64, &x)), &weights, &examples).weights), &x)
            };
            let (harm, attack) = worst_attack(seed, coordinates, attackers, moved);
            assert!(harm <= bound * (1.0 + 1e-9), "{harm} where at most {bound} can be, by {attack:?}");
            assert!(claim < 100_000_000 || most < 1.0 || harm > 0.99 * bound, "the search finds {harm} of {bound}");
        }
    }
}
