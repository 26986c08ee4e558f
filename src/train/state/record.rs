//! An optimizer's record as canonical bytes.
//!
//! burn's own recorders lose what the backend has more of than their fixed precision, unwrap on bad bytes, and write
//! hash maps in random order under random ids. So the record's serde form is taken, as a tree: CBOR names its fields,
//! so that another optimizer's record is an error of decoding and not a misreading.

use super::{StateError, optimizer_name};
use crate::train::module_weights::Path;
use burn::{
    module::{AutodiffModule, ModuleVisitor, Param, ParamId},
    optim::Optimizer,
    record::{DoublePrecisionSettings, PrecisionSettings, Record},
    tensor::{Bool, DType, Element, Int, Tensor, backend::AutodiffBackend},
};
use ciborium::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Before a parameter's name, where burn has its id. No id has a colon.
const PARAMETER: &str = "parameter:";

/// Exact for every backend whose floats are not `f64`.
#[derive(Debug, Clone, Default)]
struct Single;

impl PrecisionSettings for Single {
    type FloatElem = f32;
    type IntElem = i64;
}

pub(super) fn save<B, M, O>(model: &M, optimizer: &O) -> Result<Vec<u8>, StateError>
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
    O: Optimizer<M, B>,
{
    let unusable = |what: String| unusable::<O>(what);
    let record = optimizer.to_record();
    let tree = match backend_dtype::<B>() {
        DType::F64 => Value::serialized(&record.into_item::<DoublePrecisionSettings>()),
        _ => Value::serialized(&record.into_item::<Single>()),
    };
    let mut tree = tree.map_err(|error| unusable(error.to_string()))?;
    let parameters = Parameters::of::<B, M>(model);
    let mut used = BTreeSet::new();
    let rename = &mut |text: &str| {
        let name = parameters.names.get(text)?;
        used.insert(name.clone());
        Some(format!("{PARAMETER}{name}"))
    };
    rename_all(&mut tree, rename);
    let backend = backend_dtype::<B>();
    if let Some((tensor, dtype)) =
        parameters.floats.iter().find(|(name, dtype)| used.contains(*name) && **dtype != backend)
    {
        let [dtype, backend] = [dtype, &backend].map(|dtype| format!("{dtype:?}"));
        return Err(StateError::Precision { tensor: tensor.clone(), dtype, backend });
    }
    let mut bytes = Vec::new();
    ciborium::into_writer(&tree, &mut bytes).map_err(|error| unusable(error.to_string()))?;
    Ok(bytes)
}

/// The record for a model of the same layout.
pub(super) fn load<B, M, O>(model: &M, bytes: &[u8]) -> Result<O::Record, StateError>
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
    O: Optimizer<M, B>,
{
    let unusable = |what: String| unusable::<O>(what);
    let mut tree: Value = ciborium::from_reader(bytes).map_err(|error| unusable(error.to_string()))?;
    let ids: BTreeMap<String, String> =
        Parameters::of::<B, M>(model).names.into_iter().map(|(id, name)| (name, id)).collect();
    let mut stranger = None;
    rename_all(&mut tree, &mut |text| {
        let name = text.strip_prefix(PARAMETER)?;
        // Of a tensor that is there under two names, burn knows one id.
        let id = ids.get(name).cloned();
        if id.is_none() {
            stranger.get_or_insert(name.to_owned());
        }
        id
    });
    if let Some(name) = stranger {
        return Err(unusable(format!("the model has no tensor {name:?}")));
    }
    let device = model.devices().into_iter().next().unwrap_or_default();
    Ok(match backend_dtype::<B>() {
        DType::F64 => {
            let item = tree.deserialized().map_err(|error| unusable(error.to_string()))?;
            O::Record::from_item::<DoublePrecisionSettings>(item, &device)
        }
        _ => {
            let item = tree.deserialized().map_err(|error| unusable(error.to_string()))?;
            O::Record::from_item::<Single>(item, &device)
        }
    })
}

fn unusable<O>(what: String) -> StateError {
    StateError::Record { optimizer: optimizer_name(std::any::type_name::<O>()), what }
}

fn backend_dtype<B: AutodiffBackend>() -> DType {
    <B::FloatElem as Element>::dtype()
}

/// Replaces texts, keys of maps included, and sorts maps whose keys are texts.
fn rename_all(tree: &mut Value, rename: &mut impl FnMut(&str) -> Option<String>) {
    match tree {
        Value::Text(text) => {
            if let Some(new) = rename(text) {
                *text = new;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename_all(item, rename)),
        Value::Tag(_, inner) => rename_all(inner, rename),
        Value::Map(entries) => {
            for (key, value) in entries.iter_mut() {
                rename_all(key, rename);
                rename_all(value, rename);
            }
            if entries.iter().all(|(key, _)| key.is_text()) {
                entries.sort_by(|(a, _), (b, _)| a.as_text().cmp(&b.as_text()));
            }
        }
        _ => {}
    }
}

/// What the model calls its parameters.
#[derive(Default)]
struct Parameters {
    path: Path,
    /// By id. A tensor that is there twice goes by the name that comes first.
    names: BTreeMap<String, String>,
    floats: BTreeMap<String, DType>,
}

impl Parameters {
    fn of<B: AutodiffBackend, M: AutodiffModule<B>>(model: &M) -> Self {
        let mut parameters = Self::default();
        model.visit(&mut parameters);
        parameters
    }

    fn add(&mut self, id: ParamId) {
        let name = self.path.name();
        self.names.entry(id.serialize()).or_insert(name);
    }
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Parameters {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.add(param.id);
        self.floats.insert(self.path.name(), param.dtype());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<B, D, Int>>) {
        self.add(param.id);
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<B, D, Bool>>) {
        self.add(param.id);
    }
}
