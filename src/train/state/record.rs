//! An optimizer's record as canonical bytes.
//!
//! burn's own recorders lose precision beyond their fixed one, unwrap on bad bytes, and write hash maps in random order
//! under random ids. So the record's serde form is used: CBOR names its fields, so another optimizer's record is a
//! decoding error and isn't misread. The record of an optimizer that works by parameter is a map, which is written
//! entry by entry; any other record is a tree in memory.

use super::{
    Hashed, Parts, StateError,
    entries::{self, Entry},
    optimizer_name,
};
use crate::train::module_weights::Path;
use burn::{
    module::{AutodiffModule, ModuleVisitor, Param, ParamId},
    optim::Optimizer,
    record::{DoublePrecisionSettings, PrecisionSettings, Record},
    tensor::{Bool, DType, Element, Int, Tensor, backend::AutodiffBackend},
};
use ciborium::Value;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
};

/// Before a parameter's name, where burn has its id. No id has a colon.
const PARAMETER: &str = "parameter:";
/// Major types of CBOR.
const CBOR_TEXT: u8 = 3;
const CBOR_MAP: u8 = 5;

/// Exact for every backend whose floats are not `f64`.
#[derive(Debug, Clone, Default)]
struct Single;

impl PrecisionSettings for Single {
    type FloatElem = f32;
    type IntElem = i64;
}

/// A record that can be written.
pub(super) trait Encoded {
    /// What [`write`](Self::write) writes.
    fn parts(&self) -> Parts;

    fn write(&self, out: &mut dyn Write) -> Result<(), StateError>;
}

/// A map, whose values are written from where they lie, in the order of their names.
struct Entries<'a, I> {
    item: &'a I,
    /// Name, number in the map's own order, length.
    entries: Vec<(String, usize, u64)>,
    unusable: fn(String) -> StateError,
}

impl<I: Serialize> Encoded for Entries<'_, I> {
    fn parts(&self) -> Parts {
        Parts::Entries(self.entries.iter().map(|(name, _, length)| (name.clone(), *length)).collect())
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), StateError> {
        self.entries
            .iter()
            .try_for_each(|&(_, number, _)| entries::write(self.item, number, out).map_err(self.unusable))
    }
}

/// Anything else, as one tree.
struct Whole(Vec<u8>);

impl Encoded for Whole {
    fn parts(&self) -> Parts {
        Parts::Whole(self.0.len() as u64)
    }

    fn write(&self, out: &mut dyn Write) -> Result<(), StateError> {
        Ok(out.write_all(&self.0)?)
    }
}

/// Gives the optimizer's record to `work`.
pub(super) fn with_encoded<B, M, O>(
    model: &M,
    optimizer: &O,
    work: impl FnOnce(&dyn Encoded) -> Result<(), StateError>,
) -> Result<(), StateError>
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
    O: Optimizer<M, B>,
{
    let (record, parameters) = (optimizer.to_record(), Parameters::of::<B, M>(model));
    let (backend, unusable) = (backend_dtype::<B>(), unusable::<O>);
    match backend {
        DType::F64 => encode(&record.into_item::<DoublePrecisionSettings>(), &parameters, backend, unusable, work),
        _ => encode(&record.into_item::<Single>(), &parameters, backend, unusable, work),
    }
}

fn encode<I: Serialize>(
    item: &I,
    parameters: &Parameters,
    backend: DType,
    unusable: fn(String) -> StateError,
    work: impl FnOnce(&dyn Encoded) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let mut used = BTreeSet::new();
    let mut renamed = |text: &str| {
        let name = parameters.names.get(text)?;
        used.insert(name.clone());
        Some(format!("{PARAMETER}{name}"))
    };
    let listed = entries::list(item, &|text| parameters.names.contains_key(text)).map_err(unusable)?;
    // A record that has ids in other places is renamed as a tree.
    let listed = listed.filter(|listed| listed.iter().all(|entry| !entry.has_text));
    let encoded: Box<dyn Encoded + '_> = match listed {
        Some(listed) => {
            let named = listed.into_iter().enumerate().map(|(number, Entry { key, length, .. })| {
                let name = renamed(&key).unwrap_or(key);
                (name, number, length)
            });
            let mut entries: Vec<_> = named.collect();
            entries.sort_unstable();
            Box::new(Entries { item, entries, unusable })
        }
        None => {
            let mut tree = Value::serialized(item).map_err(|error| unusable(error.to_string()))?;
            rename_all(&mut tree, &mut renamed);
            let mut bytes = Vec::new();
            ciborium::into_writer(&tree, &mut bytes).map_err(|error| unusable(error.to_string()))?;
            Box::new(Whole(bytes))
        }
    };
    let mut floats = parameters.floats.iter();
    if let Some((tensor, dtype)) = floats.find(|(name, dtype)| used.contains(*name) && **dtype != backend) {
        let [dtype, backend] = [dtype, &backend].map(|dtype| format!("{dtype:?}"));
        return Err(StateError::Precision { tensor: tensor.clone(), dtype, backend });
    }
    work(encoded.as_ref())
}

/// The record for a model of the same layout. Once all of it is read, and before burn sees it, `check` is called.
pub(super) fn decode<B, M, O>(
    model: &M,
    parts: Parts,
    from: &mut Hashed<&mut dyn Read>,
    check: impl FnOnce(&mut Hashed<&mut dyn Read>) -> Result<(), StateError>,
) -> Result<O::Record, StateError>
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
    O: Optimizer<M, B>,
{
    let names = Parameters::of::<B, M>(model).names;
    let ids: BTreeMap<String, String> = names.into_iter().map(|(id, name)| (name, id)).collect();
    let device = model.devices().into_iter().next().unwrap_or_default();
    Ok(match backend_dtype::<B>() {
        DType::F64 => {
            let item = read(parts, &ids, from, unusable::<O>)?;
            check(from)?;
            O::Record::from_item::<DoublePrecisionSettings>(item, &device)
        }
        _ => {
            let item = read(parts, &ids, from, unusable::<O>)?;
            check(from)?;
            O::Record::from_item::<Single>(item, &device)
        }
    })
}

fn read<I: DeserializeOwned>(
    parts: Parts,
    ids: &BTreeMap<String, String>,
    from: &mut Hashed<&mut dyn Read>,
    unusable: fn(String) -> StateError,
) -> Result<I, StateError> {
    let mut stranger = None;
    // Of a tensor that is there under two names, burn knows one id.
    let mut renamed = |text: &str| {
        let name = text.strip_prefix(PARAMETER)?;
        let id = ids.get(name).cloned();
        if id.is_none() {
            stranger.get_or_insert(name.to_owned());
        }
        id
    };
    let item = match parts {
        Parts::Entries(entries) => {
            let keys = entries.into_iter().map(|(name, length)| (renamed(&name).unwrap_or(name), length));
            let mut map = MapReader::new(keys.collect(), from);
            let item = ciborium::from_reader(&mut map).map_err(|error| error.to_string());
            item.and_then(|item| if map.is_read() { Ok(item) } else { Err("it is longer than its parts".to_owned()) })
        }
        Parts::Whole(length) => {
            let tree: Result<Value, _> = ciborium::from_reader(from.by_ref().take(length));
            tree.map_err(|error| error.to_string()).and_then(|mut tree| {
                rename_all(&mut tree, &mut renamed);
                tree.deserialized().map_err(|error| error.to_string())
            })
        }
    };
    match (stranger, item) {
        (Some(name), _) => Err(unusable(format!("the model has no tensor {name:?}"))),
        (None, item) => item.map_err(unusable),
    }
}

/// The parts of a map as one map in CBOR, with its keys.
struct MapReader<'a, 'b> {
    entries: std::vec::IntoIter<(String, u64)>,
    /// What comes before the next bytes of a value.
    before: io::Cursor<Vec<u8>>,
    /// Bytes of the value that are not read yet.
    left: u64,
    from: &'a mut Hashed<&'b mut dyn Read>,
}

impl<'a, 'b> MapReader<'a, 'b> {
    fn new(entries: Vec<(String, u64)>, from: &'a mut Hashed<&'b mut dyn Read>) -> Self {
        let before = head(CBOR_MAP, entries.len());
        Self { entries: entries.into_iter(), before: io::Cursor::new(before), left: 0, from }
    }

    fn is_read(&self) -> bool {
        let before = self.before.position() == self.before.get_ref().len() as u64;
        before && self.left == 0 && self.entries.len() == 0
    }
}

impl Read for MapReader<'_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.before.read(bytes)?;
            if read > 0 || bytes.is_empty() {
                return Ok(read);
            }
            if self.left > 0 {
                let most = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                let read = self.from.read(&mut bytes[..most])?;
                self.left -= read as u64;
                return Ok(read);
            }
            let Some((key, length)) = self.entries.next() else { return Ok(0) };
            let before = [head(CBOR_TEXT, key.len()), key.into_bytes()].concat();
            (self.before, self.left) = (io::Cursor::new(before), length);
        }
    }
}

/// A head with the length in eight bytes (RFC 8949, section 3).
fn head(kind: u8, length: usize) -> Vec<u8> {
    [&[kind << 5 | 27][..], &(length as u64).to_be_bytes()].concat()
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
