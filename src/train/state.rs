//! An optimizer's state as bytes, for checkpoints: any of burn's optimizers, for any module, one parameter after the
//! other.
//!
//! The state is burn's own record, in which parameters have random ids; these are replaced by names, so that equal
//! states are equal bytes. Magic number, optimizer, layout and hash are compared before burn sees anything of it. The
//! weights are not in it, because a checkpoint already has them.

mod entries;
mod record;

use super::module_weights::{self, ModuleWeightsError};
use crate::printable::printable;
use crate::weights::{Layout, LayoutError, MAX_MANIFEST_BYTES, TensorSpec, WeightsError};
use burn::{module::AutodiffModule, optim::Optimizer, tensor::backend::AutodiffBackend};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

const MAGIC: &[u8; 16] = b"peerfold train 3";
const HASH_BYTES: usize = 32;
/// Most bytes of a header, which lists the model's tensors.
const MAX_HEADER_BYTES: u32 = MAX_MANIFEST_BYTES as u32;

/// Why bytes aren't a training state, or not one of this model and optimizer. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Cut short, changed, or something else altogether.
    #[error("the training state is damaged, or none: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
    /// It can't be read or written.
    #[error("reading or writing the training state failed: {0}")]
    Io(#[from] io::Error),
    /// It names tensors that no model can have.
    #[error("the training state is of no acceptable model: {0}")]
    Layout(#[from] LayoutError),
    /// It was made by another kind of optimizer.
    #[error("the training state is of the optimizer {saved}, not of {expected}")]
    Optimizer {
        /// The one that has made it.
        saved: String,
        /// The one that should go on from it.
        expected: String,
    },
    /// The optimizer's record isn't one that it could have made, or can't be written.
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

/// Stands before the parts, each of which is CBOR. Behind them is the hash of all that.
#[derive(Serialize, Deserialize)]
struct Header {
    optimizer: String,
    /// The model's.
    tensors: Vec<TensorSpec>,
    parts: Parts,
}

/// What follows the header.
#[derive(Debug, Serialize, Deserialize)]
enum Parts {
    /// The values of a record that is a map, each with the name of its key and its length.
    Entries(Vec<(String, u64)>),
    /// A record of any other kind, in one part of this length.
    Whole(u64),
}

/// Writes what the optimizer has gathered (moments, velocities, counters), bit for bit. Its settings (learning rate,
/// betas and such) are not in it, nor are the weights. Equal states give equal bytes, whatever the parameters' ids.
///
/// Of an optimizer whose record goes by parameters, as those of burn do, burn copies the state once; it is written from
/// there.
pub fn save_optimizer<B, M, O>(model: &M, optimizer: &O, out: &mut dyn Write) -> Result<(), StateError>
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
    O: Optimizer<M, B>,
{
    let layout = module_weights::layout_of(model)?;
    record::with_encoded::<B, M, O>(model, optimizer, |encoded| {
        let header = Header {
            optimizer: optimizer_name(std::any::type_name::<O>()),
            tensors: layout.tensors().to_vec(),
            parts: encoded.parts(),
        };
        let header = postcard::to_stdvec(&header).map_err(io::Error::other)?;
        let length = u32::try_from(header.len()).ok().filter(|&length| length <= MAX_HEADER_BYTES);
        let length = length.ok_or_else(|| io::Error::other("the model has too many tensors"))?;
        let mut out = Hashed { inner: out, hasher: blake3::Hasher::new() };
        out.write_all(MAGIC)?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&header)?;
        encoded.write(&mut out)?;
        let hash = out.hasher.finalize();
        Ok(out.inner.write_all(hash.as_bytes())?)
    })
}

/// An optimizer that goes on from what [`save_optimizer`] wrote, of a model of this layout and an optimizer of this
/// kind; it keeps its settings. Reads exactly what was written, in pieces. All is checked before burn sees it.
///
/// The hash catches every accident, but it isn't a signature: forged bytes may make burn panic.
pub fn restore_optimizer<B, M, O>(model: &M, optimizer: O, from: &mut dyn Read) -> Result<O, StateError>
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
    O: Optimizer<M, B>,
{
    let mut from = Hashed { inner: from, hasher: blake3::Hasher::new() };
    let mut start = [0; MAGIC.len() + 4];
    from.read_exact(&mut start).map_err(cut_short)?;
    let (magic, length) = start.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(StateError::Damaged { what: "it does not begin as one of this version" });
    }
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
    if length > MAX_HEADER_BYTES {
        return Err(StateError::Damaged { what: "its header is too long" });
    }
    let mut header = Vec::new();
    from.by_ref().take(u64::from(length)).read_to_end(&mut header)?;
    let header = postcard::from_bytes(&header);
    let Header { optimizer: saved, tensors, parts } =
        header.map_err(|_| StateError::Damaged { what: "it can't be decoded" })?;
    let expected = optimizer_name(std::any::type_name::<O>());
    if saved != expected {
        return Err(StateError::Optimizer { saved: printable(&saved).into_owned(), expected });
    }
    if let Some(difference) = module_weights::layout_of(model)?.difference(&Layout::new(tensors)?) {
        return Err(ModuleWeightsError::Difference { difference }.into());
    }
    let record = record::decode::<B, M, O>(model, parts, &mut from, |from| {
        let (hash, mut expected) = (from.hasher.finalize(), [0; HASH_BYTES]);
        from.inner.read_exact(&mut expected).map_err(cut_short)?;
        if *hash.as_bytes() != expected {
            return Err(StateError::Damaged { what: "its hash is wrong" });
        }
        Ok(())
    })?;
    Ok(optimizer.load_record(record))
}

fn cut_short(error: io::Error) -> StateError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => StateError::Damaged { what: "it is cut short" },
        _ => StateError::Io(error),
    }
}

/// Hashes what passes.
struct Hashed<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl Write for Hashed<&mut dyn Write> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Read for Hashed<&mut dyn Read> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hasher.update(&bytes[..read]);
        Ok(read)
    }
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
