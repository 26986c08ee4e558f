//! Model and optimizer as bytes, for checkpoints.
//!
//! Not burn's records: those are keyed by parameter ids, which are drawn at random, and reading damaged ones panics.
//! Here everything goes by the tensors' names, as a safetensors file behind a magic number and a hash.

use super::module_weights::{self, ModuleWeightsError, Path, tensor_data};
use crate::weights::{DType, SafetensorsError, Tensor as NamedTensor, TensorSpec, Weights, WeightsError};
use burn::{
    module::{AutodiffModule, ModuleVisitor, Param},
    optim::{Adam, AdamState, AdaptiveMomentumState, Optimizer, adaptor::OptimizerAdaptor, record::AdaptorRecord},
    tensor::{Tensor, TensorData, backend::AutodiffBackend},
};
use bytes::Bytes;
use std::collections::BTreeSet;

/// burn's Adam over a whole module, as `AdamConfig::init` makes it.
pub type AdamOver<M, B> = OptimizerAdaptor<Adam, M, B>;
type Moments<M, B> = <AdamOver<M, B> as Optimizer<M, B>>::Record;

const MAGIC: &[u8; 16] = b"peerfold train 1";
const HASH_BYTES: usize = 32;

/// Whose tensor it is, before its name.
const PARAMETER: &str = "p:";
const FIRST_MOMENT: &str = "m:";
const SECOND_MOMENT: &str = "v:";
const STEPS: &str = "t:";
/// Only with AMSGrad.
const HIGHEST_MOMENT: &str = "x:";

/// Why bytes are no training state, or not this model's. Nothing was changed.
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
    /// A tensor that this module's optimizer doesn't have, or not in this shape.
    #[error("the training state is another model's: {tensor} of the optimizer does not fit")]
    Optimizer {
        /// The tensor.
        tensor: String,
    },
    /// The module's tensors don't fit the limits of weights, with two bytes more in each name.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The state is of another model, or the model can't be read.
    #[error(transparent)]
    Module(#[from] ModuleWeightsError),
}

/// Model and optimizer as bytes, for a checkpoint. Equal states give equal bytes. Learning rate, betas and such are not
/// in them.
pub fn save_adam<B, M>(model: &M, optimizer: &AdamOver<M, B>) -> Result<Vec<u8>, StateError>
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
{
    let weights = module_weights::collect(model)?;
    let parameters = weights.tensors().map(|(spec, data)| {
        let spec = TensorSpec { name: format!("{PARAMETER}{}", spec.name), ..spec.clone() };
        NamedTensor { spec, data: data.clone() }
    });
    let mut tensors: Vec<NamedTensor> = parameters.collect();
    let mut visitor = Save::<M, B> { path: Path::default(), moments: &optimizer.to_record(), found: Vec::new() };
    model.visit(&mut visitor);
    for (name, data) in visitor.found {
        let dtype = module_weights::weights_dtype(data.dtype)
            .ok_or_else(|| ModuleWeightsError::DType { name: name.clone(), dtype: format!("{:?}", data.dtype) })?;
        let shape = data.shape.iter().map(|&side| side as u64).collect();
        let spec = TensorSpec { name, dtype, shape };
        tensors.push(NamedTensor { spec, data: Bytes::copy_from_slice(data.as_bytes()) });
    }
    let file = Weights::new(tensors)?.to_safetensors()?;
    Ok([MAGIC.as_slice(), blake3::hash(&file).as_bytes(), &file].concat())
}

/// Model and optimizer from bytes that [`save_adam`] made of a model of this layout, bit for bit; both keep their
/// settings, and the model its parameters' ids. All is checked before anything is changed, and memory is bounded by
/// the bytes' number.
pub fn restore_adam<B, M>(model: M, optimizer: AdamOver<M, B>, bytes: &[u8]) -> Result<(M, AdamOver<M, B>), StateError>
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
{
    let rest = bytes.strip_prefix(MAGIC).ok_or(StateError::Damaged { what: "it does not begin as one" })?;
    let (hash, file) = rest.split_at_checked(HASH_BYTES).ok_or(StateError::Damaged { what: "it is cut short" })?;
    if blake3::hash(file).as_bytes() != hash {
        return Err(StateError::Damaged { what: "its hash is wrong" });
    }
    let saved = Weights::from_safetensors(&Bytes::copy_from_slice(file))?;
    let (parameters, others): (Vec<_>, Vec<_>) = saved
        .tensors()
        .map(|(spec, data)| NamedTensor { spec: spec.clone(), data: data.clone() })
        .partition(|tensor| tensor.spec.name.starts_with(PARAMETER));
    let parameters = parameters.into_iter().map(|mut tensor| {
        tensor.spec.name.drain(..PARAMETER.len());
        tensor
    });
    let weights = Weights::new(parameters.collect())?;
    let mut visitor = Restore::<M, B> {
        path: Path::default(),
        saved: &saved,
        moments: Moments::<M, B>::default(),
        taken: BTreeSet::new(),
        misfit: None,
    };
    model.visit(&mut visitor);
    let left_over = others.iter().find(|tensor| !visitor.taken.contains(&tensor.spec.name));
    if let Some(tensor) = visitor.misfit.or_else(|| left_over.map(|tensor| tensor.spec.to_string())) {
        return Err(StateError::Optimizer { tensor });
    }
    let moments = visitor.moments;
    Ok((module_weights::apply(model, &weights)?, optimizer.load_record(moments)))
}

struct Save<'a, M: AutodiffModule<B>, B: AutodiffBackend> {
    path: Path,
    moments: &'a Moments<M, B>,
    found: Vec<(String, TensorData)>,
}

impl<M: AutodiffModule<B>, B: AutodiffBackend> ModuleVisitor<B> for Save<'_, M, B> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        // Tensors that were never trained have no record.
        let Some(record) = self.moments.get(&param.id) else { return };
        let AdaptiveMomentumState { time, moment_1, moment_2, max_moment_2 } =
            record.clone().into_state::<D>().momentum;
        let name = self.path.name();
        let steps = TensorData::new(vec![time as i64], Vec::<usize>::new());
        self.found.push((format!("{FIRST_MOMENT}{name}"), moment_1.into_data()));
        self.found.push((format!("{SECOND_MOMENT}{name}"), moment_2.into_data()));
        self.found.extend(max_moment_2.map(|moment| (format!("{HIGHEST_MOMENT}{name}"), moment.into_data())));
        self.found.push((format!("{STEPS}{name}"), steps));
    }
}

struct Restore<'a, M: AutodiffModule<B>, B: AutodiffBackend> {
    path: Path,
    saved: &'a Weights,
    moments: Moments<M, B>,
    /// Tensors of the file that have found their place.
    taken: BTreeSet<String>,
    /// The first tensor that doesn't fit.
    misfit: Option<String>,
}

impl<M: AutodiffModule<B>, B: AutodiffBackend> Restore<'_, M, B> {
    /// The state of a parameter of this shape; `None` if the file has none.
    fn state<const D: usize>(
        &mut self,
        param: &Param<Tensor<B, D>>,
    ) -> Result<Option<AdamState<B::InnerBackend, D>>, String> {
        let name = self.path.name();
        let [first, second, steps, highest] =
            [FIRST_MOMENT, SECOND_MOMENT, STEPS, HIGHEST_MOMENT].map(|prefix| format!("{prefix}{name}"));
        if [&first, &second, &steps].iter().all(|name| self.saved.get(name).is_none()) {
            return Ok(None);
        }
        let shape: Vec<u64> = param.shape().iter().map(|&side| side as u64).collect();
        let dtype = module_weights::weights_dtype(param.dtype());
        let device = param.device();
        let moment = |name: &String| {
            let found = self.saved.get(name).filter(|(spec, _)| spec.shape == shape && Some(spec.dtype) == dtype);
            let (spec, bytes) = found.ok_or_else(|| name.clone())?;
            Ok::<_, String>(Tensor::from_data(tensor_data(spec, bytes), (&device, param.dtype())))
        };
        let time = self.saved.get(&steps).filter(|(spec, _)| spec.shape.is_empty() && spec.dtype == DType::I64);
        // Adam raises its factors to this power as an i32.
        let time = time.and_then(|(_, bytes)| bytes.as_ref().try_into().ok()).map(i64::from_le_bytes);
        let time = time.and_then(|time| u32::try_from(time).ok()).filter(|time| (1..=i32::MAX as u32).contains(time));
        let time = time.ok_or_else(|| steps.clone())? as usize;
        let mut momentum = AdaptiveMomentumState::new(time, moment(&first)?, moment(&second)?);
        if self.saved.get(&highest).is_some() {
            momentum.max_moment_2 = Some(moment(&highest)?);
            self.taken.insert(highest);
        }
        self.taken.extend([first, second, steps]);
        Ok(Some(AdamState::new(momentum)))
    }
}

impl<M: AutodiffModule<B>, B: AutodiffBackend> ModuleVisitor<B> for Restore<'_, M, B> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        match self.state(param) {
            Ok(Some(state)) => {
                self.moments.insert(param.id, AdaptorRecord::from_state(state));
            }
            Ok(None) => {}
            Err(tensor) => {
                self.misfit.get_or_insert(tensor);
            }
        }
    }
}

#[cfg(test)]
mod tests;
