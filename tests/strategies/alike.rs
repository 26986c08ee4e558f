//! Every strategy against the plain implementation.

use crate::{
    golden::{author, round, update},
    made::{Draws, mark, numbers, of_all_kinds, rounded, values},
    plain::{Plain, PlainUpdate, Result_},
    rules::without_reference,
};
use peerfold::{
    strategy::{FoldError, Update},
    weights::{DType, Weights},
};
use proptest::prelude::*;

/// What a member sends in a round.
#[derive(Debug, Clone)]
struct Sent {
    member: u8,
    examples: u64,
    epoch: u64,
    staleness: f64,
    loss: f64,
    degree: Option<u64>,
    delta: bool,
}

fn sent(number: u64) -> impl proptest::strategy::Strategy<Value = Vec<Sent>> {
    let examples = prop_oneof![0..100u64, 1..2_000_000u64];
    let staleness = prop_oneof![Just(0.0), (0..4u32).prop_map(f64::from), 0.0..20.0];
    let figures = (examples, staleness, prop_oneof![Just(0.0), 0.01..5.0], prop::option::of(0..12u64), any::<bool>());
    let one = (figures, prop_oneof![4 => Just(number), 1 => 1..=number]);
    prop::collection::btree_map(0..11u8, one, 1..9).prop_map(|members| {
        let one = |(member, ((examples, staleness, loss, degree, delta), epoch))| Sent {
            member,
            examples,
            epoch,
            staleness,
            loss,
            degree,
            delta,
        };
        members.into_iter().map(one).collect()
    })
}

/// How far apart the result and the plain one may be: a rounding to the dtype, and what sums and moments lose.
fn allowed(dtype: DType, rough: bool, result: f64, scale: f64) -> f64 {
    let (epsilon, least) = match dtype {
        DType::F64 => (f64::EPSILON, f64::from_bits(1)),
        DType::F32 => (f64::from(f32::EPSILON), f64::from(f32::from_bits(1))),
        DType::F16 => (2f64.powi(-10), 2f64.powi(-24)),
        _ => (2f64.powi(-7), 2f64.powi(-133)),
    };
    let lost = if rough && dtype != DType::F64 { 2e-6 } else { 2e-8 };
    // Half a unit in the last place, of a value that lies between two powers of two.
    epsilon * result.abs() * 0.5001
        + least
        + if dtype == DType::F64 { 1e-11 * scale } else { lost * 1e-3 * scale }
        + if rough { lost * scale } else { 0.0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_strategy_does_what_its_rule_says(
        rounds in (sent(1), sent(2), sent(3), sent(4)),
        seed in any::<u64>(),
        deltas in any::<bool>(),
        own in any::<prop::sample::Index>(),
        spread in prop_oneof![Just(1.0), Just(0.01), Just(30.0)],
    ) {
        let mut draws = Draws(seed);
        let initial = of_all_kinds(100, || draws.number());
        let rounds = [rounds.0, rounds.1, rounds.2, rounds.3];
        // Differences and weights, by member and round.
        let made: Vec<Vec<Weights>> = rounds
            .iter()
            .enumerate()
            .map(|(number, sent)| {
                let weights = |at| of_all_kinds((10 * number + at) as u8, || spread * draws.number());
                (0..sent.len()).map(weights).collect()
            })
            .collect();
        let mut wrong = Vec::new();
        for spec in without_reference() {
            let mut strategy = spec.build().unwrap();
            strategy.begin(&initial);
            let mut plain = Plain::new(&spec, &values(&initial));
            let mut last = initial.clone();
            // The largest of each coordinate so far.
            let mut scale: Vec<f64> = plain.x.iter().map(|x| x.abs()).collect();
            for (number, (sent, made)) in rounds.iter().zip(&made).enumerate() {
                let own = own.index(sent.len());
                let updates: Vec<Update<'_>> = sent
                    .iter()
                    .zip(made)
                    .enumerate()
                    .map(|(at, (sent, weights))| Update {
                        // In each round at least one: rules without a memory keep x from one round of them to the next.
                        delta: deltas && (sent.delta || at == 0),
                        epoch: sent.epoch,
                        staleness: sent.staleness,
                        loss: Some(sent.loss),
                        degree: sent.degree,
                        own: at == own,
                        ..update(author(sent.member), weights, sent.examples)
                    })
                    .collect();
                let figures: Vec<PlainUpdate> = updates.iter().zip(made).map(|(update, made)| {
                    let w = numbers(made).into_iter().zip(&plain.x);
                    let w = w.map(|((dtype, w), x)| if update.delta { rounded(dtype, x + w) } else { w }).collect();
                    PlainUpdate {
                        author: update.author.to_bytes(),
                        w,
                        examples: update.num_examples as f64,
                        epoch: update.epoch,
                        tau: update.staleness,
                        loss: update.loss.unwrap(),
                        degree: update.degree,
                        own: update.own,
                    }
                }).collect();
                let saved = strategy.save();
                if !saved.is_empty() {
                    let mut again = spec.build().unwrap();
                    again.restore(&saved).unwrap();
                    prop_assert_eq!(again.save(), saved, "{}", &spec);
                    strategy = again;
                }
                let expected = plain.fold(&figures);
                let folded = match strategy.fold(&round(number as u64 + 1, &updates)) {
                    Ok(folded) => folded,
                    Err(error) => {
                        // What the rule says may be beyond all numbers of a dtype.
                        let dtypes = numbers(&initial).into_iter().map(|(dtype, _)| dtype);
                        let beyond = |result: &Result_| {
                            dtypes.clone().zip(&result.values).any(|(dtype, &value)| !rounded(dtype, value).is_finite())
                        };
                        let overflows = matches!(error, FoldError::NotFinite { .. }) && expected.iter().any(beyond);
                        if !expected.is_empty() && !overflows {
                            wrong.push(format!("{spec} round {number}: {error}"));
                        }
                        break;
                    }
                };
                let got = numbers(&folded.weights);
                for (at, scale) in scale.iter_mut().enumerate() {
                    *scale = figures.iter().map(|figure| figure.w[at].abs()).fold(scale.max(got[at].1.abs()), f64::max);
                }
                let rough = plain.rough;
                let far = |result: &Result_| {
                    got.iter().zip(&result.values).zip(&scale).position(|((&(dtype, got), &value), &scale)| {
                        (got - value).abs() > allowed(dtype, rough, value, scale)
                    })
                };
                let right = expected.iter().find(|result| far(result).is_none());
                let Some(right) = right else {
                    let differing =
                        expected.iter().filter_map(|result| far(result).map(|at| (at, got[at], result.values[at])));
                    let differing: Vec<_> = differing.collect();
                    wrong.push(format!("{spec} round {number} of {} updates: {differing:?}", sent.len()));
                    break;
                };
                // Integers are those of the newest update that counts; differences of them were added to x.
                let newest = right.among.iter().copied()
                    .min_by_key(|&at| (std::cmp::Reverse(updates[at].epoch), updates[at].author)).unwrap();
                if !deltas {
                    prop_assert_eq!(mark(&folded.weights), mark(&made[newest]), "{}", &spec);
                }
                prop_assert_eq!(folded.weights.layout(), last.layout());
                prop_assert_eq!(folded.shares.len(), updates.len());
                plain.settle(values(&folded.weights));
                last = folded.weights;
            }
        }
        prop_assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
