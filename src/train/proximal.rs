//! FedProx's proximal term, added to the gradients of local training.

use burn::{
    module::{AutodiffModule, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Tensor, backend::AutodiffBackend},
};

/// Adds the gradient μ(w − w_start) of FedProx' proximal term μ/2·‖w − w_start‖² (Li et al., 2020, arXiv:1812.06127) to
/// the gradients of all trained parameters: what local training needs for the strategy `fedprox`, between
/// `GradientsParams::from_grads` and the optimizer's step.
///
/// `start` is a clone of `module` from the epoch's beginning, after the fold. It costs nothing to take: the memory is
/// shared until the first step. With `mu` 0 nothing is done.
///
/// Panics if `start` isn't a clone of an earlier `module`, with the same parameter ids.
///
/// ```
/// use burn::{backend::Autodiff, nn::LinearConfig, optim::{GradientsParams, Optimizer, SgdConfig}, tensor::Tensor};
/// use peerfold::prelude::*;
///
/// type B = Autodiff<Cpu>;
/// let device = Default::default();
/// let mut model = init_seeded(LinearConfig::new(2, 1).init::<B>(&device), 0);
/// let mut optimizer = SgdConfig::new().init();
/// let start = model.clone();
/// for _step in 0..3 {
///     let loss = model.forward(Tensor::<B, 2>::ones([1, 2], &device)).sum();
///     let mut gradients = GradientsParams::from_grads(loss.backward(), &model);
///     add_proximal_gradient(&mut gradients, &model, &start, 0.01);
///     model = optimizer.step(0.1, model, gradients);
/// }
/// ```
pub fn add_proximal_gradient<B, M>(gradients: &mut GradientsParams, module: &M, start: &M, mu: f64)
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
{
    if mu == 0.0 {
        return;
    }
    let mut values = Values { by_id: GradientsParams::new() };
    start.visit(&mut values);
    module.visit(&mut Pull { gradients, start: &values.by_id, mu });
}

/// Collects parameters of any rank by id, in burn's container for gradients, because burn has no other such map.
struct Values {
    by_id: GradientsParams,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.by_id.register(param.id, param.val().inner());
    }
}

struct Pull<'a> {
    gradients: &'a mut GradientsParams,
    start: &'a GradientsParams,
    mu: f64,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Pull<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if !param.is_require_grad() {
            return;
        }
        let start = self.start.get::<B::InnerBackend, D>(param.id).expect("start is a clone of the module");
        let pull = (param.val().inner() - start) * self.mu;
        // A parameter that the loss didn't need has a gradient of the term alone.
        let gradient = match self.gradients.remove::<B::InnerBackend, D>(param.id) {
            Some(gradient) => gradient + pull,
            None => pull,
        };
        self.gradients.register(param.id, gradient);
    }
}

#[cfg(test)]
mod tests;
