//! ReLU and its gradient on slices.

use super::{
    instructions::{self, vectorized},
    parts,
};

/// `out = max(x, 0)`; NaN stays NaN.
pub fn forward(x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len());
    let part = parts::units(1);
    parts::each(out, part, |number, out| forward_part(instructions::best(), &x[number * part..][..out.len()], out));
}

/// `gradient` becomes 0 where `output` (or, which is the same, the input) is not above 0.
pub fn backward(output: &[f32], gradient: &mut [f32]) {
    assert_eq!(output.len(), gradient.len());
    let part = parts::units(1);
    parts::each(gradient, part, |number, gradient| {
        backward_part(instructions::best(), &output[number * part..][..gradient.len()], gradient);
    });
}

vectorized! {
    fn forward_part<'a>(x: &'a [f32], out: &'a mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = if x < 0.0 { 0.0 } else { x };
        }
    }
}

vectorized! {
    fn backward_part<'a>(output: &'a [f32], gradient: &'a mut [f32]) {
        for (gradient, &output) in gradient.iter_mut().zip(output) {
            *gradient = if output > 0.0 { *gradient } else { 0.0 };
        }
    }
}
