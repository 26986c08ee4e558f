//! The decoder of a rule's memory, as fuzzers try it.
#![allow(clippy::unwrap_used)]

use super::{
    engine::Plane,
    memory::{Form, Kept, Memory, hash},
};
use crate::{
    untrusted::{Target, told},
    weights::{DType, TensorSpec, Weights, decoders::weights},
};
use bytes::Bytes;

const FORM: Form = Form { strategy: "fedadam", reference: None, wide: true, moments: 2 };

/// A state whose hash is right, whatever follows it.
fn state(body: &[u8]) {
    let bytes = [&hash(body).as_bytes()[..], body].concat();
    let Some(memory) = told(Memory::decode(&bytes, &FORM)) else { return };
    let again = memory.encode(&FORM);
    assert_eq!(Memory::decode(&again, &FORM).unwrap().encode(&FORM), again);
}

fn states() -> Vec<Vec<u8>> {
    let x = Weights::from_f32s(&[("a", &[2], &[1.0, 2.0]), ("b", &[], &[3.0])]).unwrap();
    let plane = |plane: Plane| plane.lengths(x.layout()).map(|length| Bytes::from(vec![1; length as usize])).collect();
    let kept = |author: u8, weights| Kept { author: vec![author; 38], epoch: 3, num_examples: 600, fold: 2, weights };
    let full = Memory {
        x: Some(x.clone()),
        wide: plane(Plane::Wide),
        moments: vec![plane(FORM.moment()), plane(FORM.moment())],
        folds: 7,
        buffered: 1,
        kept: vec![kept(1, Some(x.clone())), kept(2, None)],
    };
    let first = Memory { x: Some(weights()), ..Memory::default() };
    let body = |memory: &Memory| memory.encode(&FORM)[32..].to_vec();
    vec![body(&full), body(&first), body(&Memory::default()), promising()]
}

/// A header that names thousands of tensors without an element and thousands of updates of them.
fn promising() -> Vec<u8> {
    let spec = |number: usize| TensorSpec { name: number.to_string(), dtype: DType::F32, shape: vec![0] };
    let specs: Vec<TensorSpec> = (1000..3000).map(spec).collect();
    Memory::promising(&FORM, specs, 2000)
}

/// All of this layer.
pub(crate) fn targets() -> Vec<Target> {
    vec![Target { name: "strategy-state", run: state, seeds: states }]
}
