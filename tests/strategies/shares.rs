//! Shares and `max_share`: how much one update can contribute to the result.

use crate::{
    golden::{author, round, update},
    made::{singles, values},
    plain::capped,
    rules::spec,
};
use peerfold::{
    strategy::{Folded, StrategySpec},
    weights::Weights,
};
use proptest::prelude::*;

/// Rules whose shares are the examples' and nothing else's.
const BY_EXAMPLES: [&str; 8] = [
    "fedavg",
    "fedprox",
    "faulttolerantfedavg",
    "fedavgm",
    "fedadam",
    "krum num_clients_to_keep=100",
    "multikrum num_nodes_to_select=100",
    "safa",
];

/// Each update is one coordinate of its own, so that the result is the shares.
fn fold(spec: &StrategySpec, examples: &[u64]) -> Folded {
    let unit = |at: usize| singles(&(0..examples.len()).map(|i| f64::from(i == at)).collect::<Vec<_>>());
    let weights: Vec<Weights> = (0..examples.len()).map(unit).collect();
    let updates: Vec<_> =
        weights.iter().zip(examples).enumerate().map(|(at, (w, &n))| update(author(at as u8), w, n)).collect();
    let mut strategy = spec.build().unwrap();
    strategy.begin(&singles(&vec![0.0; examples.len()]));
    strategy.fold(&round(1, &updates)).unwrap()
}

fn examples() -> impl proptest::strategy::Strategy<Value = Vec<u64>> {
    let one = prop_oneof![Just(0u64), 1..1000u64, 1..1_000_000_000u64, Just(1_000_000_000_000_000), Just(u64::MAX)];
    prop::collection::vec(one, 1..14).prop_filter("somebody trained", |counts| counts.iter().any(|&n| n > 0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn none_is_above_the_cap_and_their_order_stays(
        examples in examples(),
        most in prop_oneof![0.001..1.0f64, Just(0.5), Just(1.0 / 3.0), Just(0.25)],
        rule in prop::sample::select(BY_EXAMPLES.to_vec()),
    ) {
        let spec = spec(rule).with("max_share", most);
        let folded = fold(&spec, &examples);
        let above_0 = examples.iter().filter(|&&n| n > 0).count() as f64;
        // So few that one must be above it: then all are equal.
        let limit = most.max(1.0 / above_0) + 1e-12;
        prop_assert!((folded.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{:?}", folded.shares);
        for (a, &n) in folded.shares.iter().zip(&examples) {
            prop_assert!(*a <= limit && *a >= 0.0, "{} of {}: {:?}", spec, limit, folded.shares);
            prop_assert_eq!(*a == 0.0, n == 0, "{:?}", &folded.shares);
            for (b, &m) in folded.shares.iter().zip(&examples) {
                prop_assert!(n < m || a >= b, "{} examples count {} and {} count {}", n, a, m, b);
            }
        }
        // As much as there is, where the cap isn't reached: all that are below it keep their proportions.
        let counts: Vec<f64> = examples.iter().map(|&n| n as f64).collect();
        let cut = capped(&counts, most);
        let total: f64 = cut.iter().sum();
        for (share, n) in folded.shares.iter().zip(cut) {
            prop_assert!((share - n / total).abs() < 1e-9, "{:?}", folded.shares);
        }
        if !["fedavgm", "fedadam"].contains(&spec.name.as_str()) {
            for (value, share) in values(&folded.weights).into_iter().zip(&folded.shares) {
                prop_assert!((value - share).abs() <= 1e-7, "the weights {} are not the share {}", value, share);
            }
        }
    }

    #[test]
    fn a_cap_of_1_is_none_at_all(examples in examples(), rule in prop::sample::select(BY_EXAMPLES.to_vec())) {
        prop_assert_eq!(fold(&spec(rule).with("max_share", 1), &examples), fold(&spec(rule), &examples));
    }
}

#[test]
fn who_claims_most_gets_no_more_than_the_cap() {
    for rule in BY_EXAMPLES {
        for claim in [1_000_000_000_000_000, u64::MAX] {
            let folded = fold(&spec(rule).with("max_share", 0.4), &[100, 200, claim, 300]);
            for (share, expected) in folded.shares.iter().zip([0.1, 0.2, 0.4, 0.3]) {
                assert!((share - expected).abs() < 1e-12, "{rule}: {:?}", folded.shares);
            }
        }
    }
}

/// One that trained among newcomers that did not.
#[test]
fn the_only_one_with_examples_is_the_mean() {
    for rule in BY_EXAMPLES {
        for most in ["0.01", "0.3", "0.999", "1"] {
            for examples in [[0, 7, 0], [u64::MAX, 0, 0], [0, 0, 1]] {
                let folded = fold(&spec(rule).with("max_share", most), &examples);
                assert_eq!(folded.shares, examples.map(|n| f64::from(n > 0)), "{rule} max_share={most}");
                if rule == "fedavg" {
                    assert_eq!(values(&folded.weights), folded.shares);
                }
            }
        }
    }
}

#[test]
fn a_cap_must_be_one() {
    for value in ["0", "-0.1", "1.0001", "NaN", "inf", "half"] {
        assert!(spec("fedavg").with("max_share", value).build().is_err(), "{value}");
    }
    assert!(spec("fedavg max_share=0.5 reference=flwr-1.6").build().is_err(), "no reference has a cap");
}
