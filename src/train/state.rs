//! Model and optimizer as bytes, for checkpoints: of any module and any of burn's optimizers.
//!
//! Weights go by their names, as a safetensors file. The optimizer's state is burn's own record of it, which goes by
//! parameter ids that are drawn at random; they become names too, so that equal states are equal bytes. Magic number,
//! hash, optimizer and layout are compared before burn sees anything of it.

mod record;

use super::module_weights::{self, ModuleWeightsError};
use crate::weights::{SafetensorsError, Weights, WeightsError};
use burn::{module::AutodiffModule, optim::Optimizer, tensor::backend::AutodiffBackend};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 16] = b"peerfold train 2";
const HASH_BYTES: usize = 32;

/// Why bytes are no training state, or not this model's and optimizer's. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Cut short, changed, or something else altogether.
    #[error("the training state is damaged, or none: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// The tensors can't be read.
    #[error("the training state is not readable: {0}")]
    Format(#[from] SafetensorsError),
    /// Another kind of optimizer has made it.
    #[error("the training state is of the optimizer {saved}, not of {expected}")]
    Optimizer {
        /// The one that has made it.
        saved: String,
        /// The one that should go on from it.
        expected: String,
    },
    /// The optimizer's record is not such as it makes, or can't be written.
    #[error("the record of the optimizer {optimizer} is not usable: {what}")]
    Record {
        /// The optimizer.
        optimizer: String,
        /// What is wrong.
        what: String,
    },
    /// burn reads an optimizer's tensors back in the backend's own precision only.
    #[error(
        "tensor {tensor:?} is trained as {dtype}, but burn restores the optimizer's state of this backend as {backend}"
    )]
    Precision {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
        /// The backend's.
        backend: String,
    },
    /// The module's tensors don't fit the limits of weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The state is of another model, or the model can't be read.
    #[error(transparent)]
    Module(#[from] ModuleWeightsError),
}

#[derive(Serialize, Deserialize)]
struct Body {
    optimizer: String,
    weights: Bytes,
    record: Bytes,
}

/// Model and optimizer as bytes, for a checkpoint: weights, and what the optimizer has gathered (moments, velocities,
/// counters), bit for bit. Its settings (learning rate, betas and such) are not in them. Equal states give equal bytes,
/// whatever the parameters' ids.
pub fn save_state<B, M, O>(model: &M, optimizer: &O) -> Result<Vec<u8>, StateError>
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
    O: Optimizer<M, B>,
{
    let body = Body {
        optimizer: optimizer_name(std::any::type_name::<O>()),
        weights: module_weights::collect(model)?.to_safetensors()?.into(),
        record: record::save::<B, M, O>(model, optimizer)?.into(),
    };
    let body = postcard::to_stdvec(&body).map_err(|_| StateError::Damaged { what: "it can't be encoded" })?;
    Ok([MAGIC.as_slice(), blake3::hash(&body).as_bytes(), &body].concat())
}

/// Model and optimizer from bytes that [`save_state`] made of a model of this layout and an optimizer of this kind;
/// both keep their settings, and the model its parameters' ids. All is checked before anything is changed.
///
/// The hash finds every accident, but is no signature: bytes that somebody has made up are another program's weights,
/// and burn may panic on such.
pub fn restore_state<B, M, O>(model: M, optimizer: O, bytes: &[u8]) -> Result<(M, O), StateError>
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
    O: Optimizer<M, B>,
{
    let rest = bytes.strip_prefix(MAGIC).ok_or(StateError::Damaged { what: "it does not begin as one" })?;
    let (hash, body) = rest.split_at_checked(HASH_BYTES).ok_or(StateError::Damaged { what: "it is cut short" })?;
    if blake3::hash(body).as_bytes() != hash {
        return Err(StateError::Damaged { what: "its hash is wrong" });
    }
    let body: Body = postcard::from_bytes(body).map_err(|_| StateError::Damaged { what: "it can't be decoded" })?;
    let expected = optimizer_name(std::any::type_name::<O>());
    if body.optimizer != expected {
        return Err(StateError::Optimizer { saved: body.optimizer, expected });
    }
    let weights = Weights::from_safetensors(&body.weights)?;
    if let Some(difference) = module_weights::layout_of(&model)?.difference(weights.layout()) {
        return Err(ModuleWeightsError::Difference { difference }.into());
    }
    let record = record::load::<B, M, O>(&model, &body.record)?;
    Ok((module_weights::apply(model, &weights)?, optimizer.load_record(record)))
}

/// `Adam` for `burn_optim::…::OptimizerAdaptor<burn_optim::…::Adam, my::Model<…>, …>`: neither paths, which versions of
/// burn and of the compiler may change, nor the model and the backend, which are compared by the layout.
fn optimizer_name(type_name: &str) -> String {
    let (outer, arguments) = type_name.split_once('<').unwrap_or((type_name, ""));
    match outer.rsplit("::").next().unwrap_or(outer) {
        "OptimizerAdaptor" => optimizer_name(arguments.split([',', '>']).next().unwrap_or(arguments)),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
