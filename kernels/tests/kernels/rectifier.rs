//! ReLU and its gradient, NaN and infinities included.

use crate::plain::{bits, nan, values};
use peerfold_kernels::rectifier;

const SPECIAL: [f32; 8] = [
    f32::NAN,
    -0.0,
    0.0,
    f32::NEG_INFINITY,
    f32::INFINITY,
    f32::MIN_POSITIVE / 2.0,
    -f32::MIN_POSITIVE / 2.0,
    -f32::NAN,
];

#[test]
fn nothing_is_below_zero_and_what_is_not_a_number_stays_so() {
    for len in [0, 1, 7, 8, 100, 70_001] {
        let mut x = values(len, 1);
        x.iter_mut().zip(SPECIAL).for_each(|(x, special)| *x = special);
        let mut out = nan(len);
        rectifier::forward(&x, &mut out);
        for (&x, &out) in x.iter().zip(&out) {
            assert!(if x.is_nan() { out.is_nan() } else { out == x.max(0.0) }, "{out} for {x}");
        }
    }
}

#[test]
fn the_gradient_passes_where_the_result_is_above_zero() {
    for len in [0, 1, 7, 8, 100, 70_001] {
        let (mut x, gradient) = (values(len, 1), values(len, 2));
        x.iter_mut().zip(SPECIAL).for_each(|(x, special)| *x = special);
        let mut output = nan(len);
        rectifier::forward(&x, &mut output);
        let plain: Vec<f32> =
            x.iter().zip(&gradient).map(|(&x, &gradient)| if x > 0.0 { gradient } else { 0.0 }).collect();
        for of in [&output, &x] {
            let mut through = gradient.clone();
            rectifier::backward(of, &mut through);
            assert_eq!(bits(&through), bits(&plain));
        }
    }
}

#[test]
fn no_gradient_is_multiplied_by_zero() {
    let mut gradient = [f32::NAN, f32::INFINITY, f32::NAN];
    rectifier::backward(&[-1.0, 0.0, 1.0], &mut gradient);
    assert_eq!(gradient[..2], [0.0, 0.0]);
    assert!(gradient[2].is_nan());
}

#[test]
fn slices_of_two_lengths_are_refused() {
    assert!(std::panic::catch_unwind(|| rectifier::forward(&[1.0; 3], &mut [0.0; 2])).is_err());
    assert!(std::panic::catch_unwind(|| rectifier::backward(&[1.0; 2], &mut [0.0; 3])).is_err());
}
