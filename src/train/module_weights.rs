//! Collects a burn module's tensors as weights, and applies weights to a module.

use crate::weights::{DType, Layout, LayoutError, TensorSpec, Weights, WeightsError};
use burn::{
    module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{
        Bool, DType as BurnDType, Element, Int, Tensor, TensorData,
        backend::{AutodiffBackend, Backend},
        bf16, f16,
    },
};
use bytes::Bytes;

#[cfg(target_endian = "big")]
compile_error!("weights are little-endian, and burn gives and takes the machine's order");

/// Why weights can't be collected from a module, or applied to it.
#[derive(Debug, thiserror::Error)]
pub enum ModuleWeightsError {
    /// The module has a tensor of a type that weights can't have.
    #[error("tensor {name:?} of the model has the dtype {dtype}, which Peerfold doesn't fold")]
    DType {
        /// The tensor.
        name: String,
        /// burn's name of its type.
        dtype: String,
    },
    /// The module's tensors don't form a valid layout.
    #[error("the model's tensors are not acceptable: {0}")]
    Layout(#[from] LayoutError),
    /// burn gave fewer or more elements than the shape says.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The weights are another model's.
    #[error("the weights don't fit the model: {difference}")]
    Difference {
        /// The first difference.
        difference: String,
    },
    /// burn could not hand out a tensor's elements (a fault of the device).
    #[error("reading tensor {name:?} from the device failed: {what}")]
    Read {
        /// The tensor.
        name: String,
        /// burn's error.
        what: String,
    },
}

/// Names, dtypes and shapes of a module's tensors. No element is read.
pub fn layout_of<B: Backend, M: Module<B>>(module: &M) -> Result<Layout, ModuleWeightsError> {
    let mut visitor = Specs { path: Path::default(), specs: Vec::new(), error: None };
    module.visit(&mut visitor);
    match visitor.error {
        Some(error) => Err(error),
        None => Ok(Layout::new(visitor.specs)?),
    }
}

/// The weights of a module: all its tensors, trained or not, running statistics included, named by the dotted path of
/// their fields, in the dtype that they have, as burn's own stores save them.
///
/// Running statistics that a forward pass has computed, but burn hasn't taken over yet, are taken over first.
pub fn collect<B: Backend, M: Module<B>>(module: &M) -> Result<Weights, ModuleWeightsError> {
    settle(module);
    let layout = layout_of(module)?;
    let mut visitor =
        Elements { path: Path::default(), found: Vec::with_capacity(layout.tensors().len()), error: None };
    module.visit(&mut visitor);
    if let Some(error) = visitor.error {
        return Err(error);
    }
    visitor.found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Weights::from_layout(layout, visitor.found.into_iter().map(|(_, data)| data).collect())?)
}

/// The module with these weights. Everything else about it stays: its parameters' ids, by which the optimizer knows
/// their moments, which of them are trained, and the device.
///
/// Names, dtypes and shapes must be the module's, none missing and none left over; that is checked before anything is
/// changed. Running statistics are shared between clones of a module (burn's choice), so they change in all of them.
pub fn apply<B: Backend, M: Module<B>>(module: M, weights: &Weights) -> Result<M, ModuleWeightsError> {
    if let Some(difference) = layout_of(&module)?.difference(weights.layout()) {
        return Err(ModuleWeightsError::Difference { difference });
    }
    // What burn has pending would overwrite the new statistics at the next forward pass.
    settle(&module);
    Ok(module.map(&mut Apply { path: Path::default(), weights }))
}

/// Names of the float tensors that no gradient changes: running statistics, and parameters that are frozen.
pub(super) fn untrained<B: AutodiffBackend, M: AutodiffModule<B>>(module: &M) -> Vec<String> {
    let mut visitor = Untrained { path: Path::default(), names: Vec::new() };
    module.visit(&mut visitor);
    visitor.names
}

/// Makes running statistics take over what forward passes left pending. Turning a module into its record is the one
/// public way to that; the clone shares the statistics.
fn settle<B: Backend, M: Module<B>>(module: &M) {
    let _ = module.clone().into_record();
}

/// The dotted path to the tensor that is visited.
#[derive(Default)]
pub(super) struct Path(Vec<String>);

impl Path {
    pub(super) fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    pub(super) fn exit(&mut self) {
        self.0.pop();
    }

    pub(super) fn name(&self) -> String {
        self.0.join(".")
    }
}

struct Specs {
    path: Path,
    specs: Vec<TensorSpec>,
    error: Option<ModuleWeightsError>,
}

impl Specs {
    fn add(&mut self, shape: Vec<usize>, dtype: BurnDType) {
        let name = self.path.name();
        match weights_dtype(dtype) {
            Some(dtype) => {
                let shape = shape.into_iter().map(|side| side as u64).collect();
                self.specs.push(TensorSpec { name, dtype, shape });
            }
            None => {
                self.error.get_or_insert(ModuleWeightsError::DType { name, dtype: format!("{dtype:?}") });
            }
        }
    }
}

impl<B: Backend> ModuleVisitor<B> for Specs {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = param.transform_for_save().val();
        self.add(tensor.shape().to_vec(), tensor.dtype());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<B, D, Int>>) {
        let tensor = param.transform_for_save().val();
        self.add(tensor.shape().to_vec(), tensor.dtype());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<B, D, Bool>>) {
        let tensor = param.transform_for_save().val();
        self.add(tensor.shape().to_vec(), tensor.dtype());
    }
}

struct Untrained {
    path: Path,
    names: Vec<String>,
}

impl<B: Backend> ModuleVisitor<B> for Untrained {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if !param.val().is_require_grad() {
            self.names.push(self.path.name());
        }
    }
}

struct Elements {
    path: Path,
    found: Vec<(String, Bytes)>,
    error: Option<ModuleWeightsError>,
}

impl Elements {
    fn add<E: std::fmt::Debug>(&mut self, data: Result<TensorData, E>) {
        let name = self.path.name();
        match data {
            Ok(data) => self.found.push((name, data_bytes(data))),
            Err(error) => {
                self.error.get_or_insert(ModuleWeightsError::Read { name, what: format!("{error:?}") });
            }
        }
    }
}

impl<B: Backend> ModuleVisitor<B> for Elements {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.add(param.transform_for_save().val().try_into_data());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<B, D, Int>>) {
        self.add(param.transform_for_save().val().try_into_data());
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<B, D, Bool>>) {
        self.add(param.transform_for_save().val().try_into_data());
    }
}

/// Sets tensors. The layouts have been compared, so a tensor that isn't found doesn't belong to this module.
struct Apply<'a> {
    path: Path,
    weights: &'a Weights,
}

impl Apply<'_> {
    fn data(&self) -> Option<TensorData> {
        self.weights.get(&self.path.name()).map(|(spec, bytes)| tensor_data(spec, bytes))
    }
}

impl<B: Backend> ModuleMapper<B> for Apply<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let Some(data) = self.data() else { return param };
        let (id, device) = (param.id, param.device());
        let dtype = data.dtype;
        param.transform_for_load(Tensor::from_data(data, (&device, dtype)), id)
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<B, D, Int>>) -> Param<Tensor<B, D, Int>> {
        let Some(data) = self.data() else { return param };
        let (id, device) = (param.id, param.device());
        let dtype = data.dtype;
        param.transform_for_load(Tensor::from_data(data, (&device, dtype)), id)
    }

    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<B, D, Bool>>) -> Param<Tensor<B, D, Bool>> {
        let Some(data) = self.data() else { return param };
        let (id, device) = (param.id, param.device());
        param.transform_for_load(Tensor::from_data(data, &device), id)
    }
}

pub(super) fn weights_dtype(dtype: BurnDType) -> Option<DType> {
    Some(match dtype {
        BurnDType::F64 => DType::F64,
        BurnDType::F32 => DType::F32,
        BurnDType::F16 => DType::F16,
        BurnDType::BF16 => DType::BF16,
        BurnDType::I64 => DType::I64,
        BurnDType::I32 => DType::I32,
        BurnDType::U8 => DType::U8,
        BurnDType::I8 => DType::I8,
        BurnDType::I16 => DType::I16,
        BurnDType::U16 => DType::U16,
        BurnDType::U32 => DType::U32,
        BurnDType::U64 => DType::U64,
        BurnDType::Bool(_) => DType::Bool,
        _ => return None,
    })
}

/// Booleans are stored in several ways, by backend; weights have one byte for each.
fn data_bytes(data: TensorData) -> Bytes {
    match data.dtype {
        BurnDType::Bool(_) => data.iter::<bool>().map(u8::from).collect::<Vec<_>>().into(),
        _ => Bytes::copy_from_slice(data.as_bytes()),
    }
}

/// A tensor's elements as burn wants them: aligned, so they are copied. `bytes` are as many as `spec` says.
pub(super) fn tensor_data(spec: &TensorSpec, bytes: &Bytes) -> TensorData {
    let shape: Vec<usize> = spec.shape.iter().map(|&side| side as usize).collect();
    match spec.dtype {
        DType::F64 => TensorData::new(elements(bytes, f64::from_le_bytes), shape),
        DType::F32 => TensorData::new(elements(bytes, f32::from_le_bytes), shape),
        DType::F16 => TensorData::new(elements(bytes, f16::from_le_bytes), shape),
        DType::BF16 => TensorData::new(elements(bytes, bf16::from_le_bytes), shape),
        DType::I64 => TensorData::new(elements(bytes, i64::from_le_bytes), shape),
        DType::I32 => TensorData::new(elements(bytes, i32::from_le_bytes), shape),
        DType::U8 => TensorData::new(bytes.to_vec(), shape),
        DType::I8 => TensorData::new(elements(bytes, i8::from_le_bytes), shape),
        DType::I16 => TensorData::new(elements(bytes, i16::from_le_bytes), shape),
        DType::U16 => TensorData::new(elements(bytes, u16::from_le_bytes), shape),
        DType::U32 => TensorData::new(elements(bytes, u32::from_le_bytes), shape),
        DType::U64 => TensorData::new(elements(bytes, u64::from_le_bytes), shape),
        DType::Bool => TensorData::new(elements(bytes, |[byte]| byte != 0), shape),
    }
}

fn elements<const N: usize, E: Element>(bytes: &[u8], from: fn([u8; N]) -> E) -> Vec<E> {
    bytes.as_chunks().0.iter().map(|&chunk| from(chunk)).collect()
}

#[cfg(test)]
mod tests;
