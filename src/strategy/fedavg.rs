//! FedAvg: the mean of the updates, weighted by their examples.

use super::{
    FoldError, Folded, Round, Strategy,
    engine::{self, Plane},
    mean::{Mean, Rounding, Scratch, write_to},
    registry::{ACCEPT_FAILURES, ParameterInfo, Parameters, REFERENCE, Reference, StrategyError, StrategyInfo},
    source::Source,
};
use crate::weights::Weights;

pub(super) const INFO: StrategyInfo = StrategyInfo {
    name: "fedavg",
    summary: "mean of the weights, weighted by examples: Σ n_k·w_k / N",
    paper: "McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data",
    parameters: &[
        ParameterInfo {
            name: "inplace",
            default: "true with reference flwr-1.41",
            meaning: "which of Flower's two means to repeat, only with reference flwr-1.41 (flwr-1.6 knows false only)",
        },
        ACCEPT_FAILURES,
        REFERENCE,
    ],
    build,
};

/// w = Σ n_k·w_k / N, N = Σ n_k (McMahan et al. 2017, algorithm 1). It has no memory.
struct FedAvg {
    rounding: Rounding,
    accept_failures: bool,
}

fn build(parameters: &Parameters<'_>) -> Result<Box<dyn Strategy>, StrategyError> {
    let reference = parameters.reference()?;
    let inplace = parameters.flag("inplace")?;
    let rounding = match (reference, inplace) {
        (Some(Reference::Flwr141), Some(true)) | (Some(Reference::Flwr141), None) => Rounding::ShareInDouble,
        (Some(Reference::Flwr141), Some(false)) | (Some(Reference::Flwr16), Some(false) | None) => {
            Rounding::SumThenDivide
        }
        (Some(Reference::Flwr141Message), None) => Rounding::ShareInSingle,
        (None, None) => Rounding::Once,
        _ => return Err(parameters.rejected("inplace", "reference = flwr-1.41 beside it")),
    };
    Ok(Box::new(FedAvg { rounding, accept_failures: parameters.accept_failures()? }))
}

impl Strategy for FedAvg {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn begin(&mut self, _initial: &Weights) {}

    fn fold(&mut self, round: &Round<'_>) -> Result<Folded, FoldError> {
        let source = Source::check(round, None, self.accept_failures)?;
        let mean = Mean::new(&source, self.rounding);
        let layout = source.layout();
        let planes = engine::run(layout, &[Plane::Weights], Scratch::default, |scratch, piece, outputs| {
            let [weights] = outputs else { unreachable!("one plane was asked for") };
            let dtype = layout.tensors()[piece.tensor].dtype;
            if dtype.is_float() {
                mean.piece(dtype, piece, scratch, &mut write_to(dtype, weights))?;
            } else {
                weights.copy_from_slice(&mean.newest(piece)?);
            }
            Ok(())
        })?
        .planes;
        let weights = engine::weights(layout, planes.into_iter().next().unwrap_or_default());
        Ok(Folded { weights, shares: source.shares() })
    }

    fn save(&self) -> Vec<u8> {
        Vec::new()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), FoldError> {
        if state.is_empty() {
            return Ok(());
        }
        let what = format!("{} bytes where there are none", state.len());
        Err(FoldError::State { strategy: INFO.name, what })
    }
}
