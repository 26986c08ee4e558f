//! Equal updates fold into themselves, bit for bit.

use crate::{
    golden::{author, round, update},
    made::{FLOATS, encode, ordered, tensor},
    rules::{MEMORYLESS, without_reference},
};
use peerfold::weights::{DType, Weights};
use proptest::prelude::*;

/// Any finite number of this dtype, as bits.
pub(crate) fn element(dtype: DType) -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    let size = dtype.size() as usize;
    let finite = move |bytes: &Vec<u8>| crate::made::decode(dtype, bytes).is_finite();
    let any = prop::collection::vec(any::<u8>(), size).prop_filter("finite", finite);
    let (largest, least) = match dtype {
        DType::F64 => (f64::MAX, f64::from_bits(1)),
        DType::F32 => (f32::MAX.into(), f32::from_bits(1).into()),
        DType::F16 => (65504.0, 2f64.powi(-24)),
        _ => (half::bf16::MAX.to_f64(), 2f64.powi(-133)),
    };
    let edges = [largest, -largest, largest / 2.0, least, -least, 3.0 * least, 1.0, 0.0, -0.0];
    prop_oneof![any, prop::sample::select(edges.map(|number| encode(dtype, number)).to_vec())]
}

fn elements() -> impl proptest::strategy::Strategy<Value = Vec<Vec<Vec<u8>>>> {
    FLOATS.map(|dtype| prop::collection::vec(element(dtype), 1..9)).into_iter().collect::<Vec<_>>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Within one unit in the last place, in every dtype, for every number that is one.
    #[test]
    fn they_fold_into_themselves(
        elements in elements(),
        examples in prop::collection::vec(prop_oneof![1..1000u64, 1..100_000_000u64], 1..20),
    ) {
        let tensors = FLOATS.iter().zip(&elements);
        let tensors = tensors.map(|(&dtype, elements)| {
            tensor(&dtype.to_string(), dtype, &[elements.len() as u64], elements.concat())
        });
        let weights = Weights::new(tensors.collect()).unwrap();
        let updates: Vec<_> =
            examples.iter().enumerate().map(|(at, &count)| update(author(at as u8), &weights, count)).collect();
        let mut wrong = Vec::new();
        for spec in without_reference().into_iter().filter(|spec| MEMORYLESS.contains(&spec.name.as_str())) {
            let malicious: usize = ["num_malicious_clients", "num_malicious_nodes"]
                .iter()
                .find_map(|name| spec.params.get(*name).map(|value| value.parse().unwrap()))
                .unwrap_or(0);
            let needed = match spec.name.as_str() {
                "bulyan" => 4 * malicious + 3,
                _ if malicious > 0 => 2 * malicious + 3,
                _ => 1,
            };
            if updates.len() < needed {
                continue;
            }
            let folded = match spec.build().unwrap().fold(&round(1, &updates)) {
                Ok(folded) => folded.weights,
                Err(error) => {
                    wrong.push(format!("{spec}: {error}"));
                    continue;
                }
            };
            for ((tensor, before), (_, after)) in weights.tensors().zip(folded.tensors()) {
                let size = tensor.dtype.size() as usize;
                for (before, after) in before.chunks_exact(size).zip(after.chunks_exact(size)) {
                    if (ordered(before) - ordered(after)).abs() > 1 {
                        let [before, after] = [before, after].map(|bytes| crate::made::decode(tensor.dtype, bytes));
                        wrong.push(format!("{spec} of {}: {before:e} became {after:e}", tensor.dtype));
                    }
                }
            }
        }
        prop_assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
