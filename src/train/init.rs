//! Initial weights that follow from a seed alone, the same on every machine and backend.

use super::Draws;
use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{Tensor, TensorData, backend::Backend},
};
use std::marker::PhantomData;

/// Replaces the random initial weights of a module by weights that follow from the seed, bit for bit the same on every
/// machine and backend.
///
/// burn draws initial weights from one generator for the whole process, so what a module gets depends on what other
/// threads drew meanwhile. Here every float tensor has its own draws, made from seed and name. Tensors of two or more
/// dimensions become Glorot uniform (first and second dimension are taken for the channels, the others for the kernel);
/// tensors of one dimension called `bias` become zero; all others (norms' scales, running statistics) stay as they are.
/// A module of another precision gets the `f32` values rounded.
pub fn init_seeded<B: Backend, M: Module<B>>(module: M, seed: u64) -> M {
    module.map(&mut Seeded::<B> { seed, path: Vec::new(), backend: PhantomData })
}

struct Seeded<B> {
    seed: u64,
    path: Vec<String>,
    backend: PhantomData<B>,
}

impl<B: Backend> ModuleMapper<B> for Seeded<B> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let shape = param.lazy_shape().to_vec();
        let values = match shape.as_slice() {
            [first, second, kernel @ ..] => {
                let fans = (first + second) * kernel.iter().product::<usize>();
                // A square root is exact to the last bit on every machine; so is all that follows.
                let bound = (6.0 / fans as f64).sqrt();
                let mut draws = Draws::new("initial weights", self.seed, self.path.join(".").as_bytes());
                let elements = shape.iter().product();
                std::iter::repeat_with(|| ((2.0 * draws.unit() - 1.0) * bound) as f32).take(elements).collect()
            }
            [elements] if self.path.last().is_some_and(|name| name == "bias") => vec![0.0; *elements],
            _ => return param,
        };
        let device = param.lazy_device();
        param.map(|old| {
            let new = Tensor::from_data(TensorData::new(values, shape), (&device, old.dtype()));
            new.set_require_grad(old.is_require_grad())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{Cpu, DigitsMlp, MnistCnn, collect};
    use burn::backend::Autodiff;

    type B = Autodiff<Cpu>;

    #[test]
    fn the_seed_alone_decides() {
        let device = Default::default();
        let weights = |seed| collect(&init_seeded(MnistCnn::<B>::new(&device), seed)).unwrap();
        let first = weights(3);
        B::seed(&device, 99);
        std::thread::scope(|scope| {
            // Other threads draw from burn's generator in the meantime.
            scope.spawn(|| (0..50).for_each(|_| drop(collect(&DigitsMlp::<B>::new(&device)))));
            assert_eq!(weights(3), first);
        });
        assert_ne!(weights(4), first);
    }

    /// Nodes that start without a peer must start from the same weights, whatever their version.
    #[test]
    fn the_initial_weights_never_change() {
        let module = init_seeded(DigitsMlp::<B>::new(&Default::default()), 0);
        let root = collect(&module).unwrap().manifest().root().to_string();
        assert_eq!(root, "146b608ea5364055d300326b2f0bbb8f07176b5da20c7b461fd2a1acc16d4a45");
    }

    #[test]
    fn bias_is_zero_and_weights_are_bounded() {
        let weights = collect(&init_seeded(DigitsMlp::<B>::new(&Default::default()), 1)).unwrap();
        let values = |name| {
            let (_, bytes) = weights.get(name).unwrap();
            bytes.chunks_exact(4).map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap())).collect::<Vec<_>>()
        };
        assert!(values("output.bias").iter().all(|&value| value == 0.0));
        let bound = (6.0f32 / (64.0 + 64.0)).sqrt();
        let hidden = values("hidden.weight");
        assert!(hidden.iter().all(|value| value.abs() <= bound));
        assert!(hidden.iter().any(|value| value.abs() > bound * 0.99));
    }
}
