//! Running statistics, which no rule steps: values that are positive in every update stay positive.

use crate::{
    golden::{author, round, update},
    made::{floats, values},
    rules::without_reference,
};
use peerfold::{
    strategy::Update,
    weights::{DType, Weights},
};

fn model(weight: f64, name: &str, variance: f64) -> Weights {
    Weights::new(vec![floats("a.weight", DType::F32, &[weight]), floats(name, DType::F32, &[variance])]).unwrap()
}

/// Every rule, with the variance far below where it began, as after the first epoch of a network with BatchNorm.
#[test]
fn under_no_rule_they_turn_negative() {
    for (name, buffers) in [("bn.running_var", vec![]), ("spread", vec!["spread".to_owned()])] {
        for spec in without_reference() {
            let mut strategy = spec.build_for(&buffers).unwrap();
            strategy.begin(&model(1.0, name, 1.0));
            for number in 1..=8 {
                let models: Vec<Weights> =
                    (0..7).map(|at| model(0.5, name, 0.02 * (1.0 + f64::from(at) / 6.0))).collect();
                let updates: Vec<Update<'_>> = (0..)
                    .zip(&models)
                    .map(|(at, weights)| Update {
                        epoch: number,
                        loss: Some(1.0),
                        own: at == 0,
                        ..update(author(at), weights, 10)
                    })
                    .collect();
                let folded = strategy.fold(&round(number, &updates)).unwrap_or_else(|error| panic!("{spec}: {error}"));
                let variance = values(&folded.weights)[1];
                assert!((0.0199..=1.0001).contains(&variance), "{spec} {name}: {variance} after {number}");
                let told = folded.turned_negative.iter().any(|tensor| tensor == name);
                assert!(!told, "{spec}: {:?}", folded.turned_negative);
            }
        }
    }
}

/// Stepped all the same where it is asked for, and then said.
#[test]
fn what_is_stepped_below_zero_on_request_is_said() {
    let spec = crate::rules::spec("diloco outer_learning_rate=1.5 step=*running_var");
    let (x, update_of_a) = (model(0.5, "bn.running_var", 1.0), model(0.5, "bn.running_var", 0.02));
    let mut strategy = spec.build().unwrap();
    strategy.begin(&x);
    let folded = strategy.fold(&round(1, &[update(author(0), &update_of_a, 10)])).unwrap();
    assert!(values(&folded.weights)[1] < 0.0);
    assert_eq!(folded.turned_negative, ["bn.running_var"]);
}
