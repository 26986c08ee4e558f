//! Linear layers on Peerfold's backend give what they give on burn's flex backend.

use super::alike::{DEVICE, Ours, Plain, Results, assert_results_alike, tensor};
use burn::{
    backend::flex::FlexDevice,
    tensor::{
        Tensor,
        backend::{AutodiffBackend, Backend},
        module::linear,
    },
};
use peerfold::train::Cpu;

fn results<B: AutodiffBackend<Device = FlexDevice>, const D: usize>(
    x: Tensor<B::InnerBackend, D>,
    weight: Tensor<B::InnerBackend, 2>,
) -> Results {
    let x = Tensor::<B, D>::from_inner(x).require_grad();
    let weight = Tensor::<B, 2>::from_inner(weight).require_grad();
    let bias = tensor::<B, 1>([weight.dims()[1]], 3).require_grad();
    let without = linear(x.clone(), weight.clone(), None).into_data();
    let y = linear(x.clone(), weight.clone(), Some(bias.clone()));
    let projection = tensor(y.dims(), 4);
    let gradients = (y.clone() * projection).sum().backward();
    vec![
        ("result without bias".to_owned(), without),
        ("result".to_owned(), y.into_data()),
        ("gradient of x".to_owned(), x.grad(&gradients).unwrap().into_data()),
        ("gradient of the weights".to_owned(), weight.grad(&gradients).unwrap().into_data()),
        ("gradient of the bias".to_owned(), bias.grad(&gradients).unwrap().into_data()),
    ]
}

fn assert_flexs<const D: usize>(x: Tensor<Cpu, D>, outputs: usize) {
    fn row_major<B: Backend<Device = FlexDevice>, const D: usize>(tensor: &Tensor<Cpu, D>) -> Tensor<B, D> {
        Tensor::from_data(tensor.clone().into_data(), &DEVICE)
    }
    let inputs = x.dims()[D - 1];
    let weights = [
        tensor::<Cpu, 2>([inputs, outputs], 2),
        tensor::<Cpu, 2>([outputs, inputs], 2).transpose(),
        tensor::<Cpu, 2>([inputs + 2, outputs + 1], 2).slice([1..inputs + 1, 1..outputs + 1]),
        tensor::<Cpu, 2>([inputs, 1], 2).expand([inputs, outputs]),
        tensor::<Cpu, 2>([inputs, outputs], 2).flip([0]),
    ];
    for (number, weight) in weights.into_iter().enumerate() {
        let plain = results::<Plain, D>(row_major(&x), row_major(&weight));
        let ours = results::<Ours, D>(x.clone(), weight);
        assert_results_alike(&ours, &plain, &format!("{:?} to {outputs}, weight {number}", x.dims()));
    }
}

#[test]
fn linear_layers_of_every_rank_are_flexs() {
    for (inputs, outputs) in [(1, 1), (7, 5), (16, 1), (33, 19)] {
        assert_flexs(tensor::<Cpu, 1>([inputs], 1), outputs);
        assert_flexs(tensor::<Cpu, 2>([1, inputs], 1), outputs);
        assert_flexs(tensor::<Cpu, 2>([6, inputs], 1), outputs);
        assert_flexs(tensor::<Cpu, 3>([3, 4, inputs], 1), outputs);
        assert_flexs(tensor::<Cpu, 4>([2, 3, 4, inputs], 1), outputs);
    }
}

#[test]
fn what_goes_into_a_linear_layer_may_lie_as_it_likes() {
    assert_flexs(tensor::<Cpu, 2>([7, 6], 1).transpose(), 5);
    assert_flexs(tensor::<Cpu, 2>([9, 12], 1).slice([2..8, 3..10]), 5);
    assert_flexs(tensor::<Cpu, 2>([1, 7], 1).expand([6, 7]), 5);
    assert_flexs(tensor::<Cpu, 2>([6, 1], 1).expand([6, 7]), 5);
    assert_flexs(tensor::<Cpu, 2>([6, 7], 1).flip([1]), 5);
    assert_flexs(tensor::<Cpu, 3>([4, 3, 7], 1).swap_dims(0, 1), 5);
    assert_flexs(tensor::<Cpu, 3>([7, 3, 4], 1).permute([2, 1, 0]), 5);
    assert_flexs(tensor::<Cpu, 3>([5, 4, 9], 1).slice([1..4, 0..4, 2..9]), 5);
    assert_flexs(tensor::<Cpu, 1>([20], 1).slice([5..12]), 5);
}

#[test]
fn sides_that_do_not_fit_are_refused() {
    for (inputs, weight, bias) in [(8, [4, 3], 3), (2, [4, 3], 3), (4, [4, 3], 6), (4, [4, 3], 2)] {
        let refused = std::panic::catch_unwind(|| {
            let x = tensor::<Cpu, 2>([4, inputs], 1);
            linear(x, tensor(weight, 2), Some(tensor([bias], 3))).into_data()
        });
        assert!(refused.is_err(), "{inputs} inputs with weights of {weight:?} and a bias of {bias}");
    }
}
