//! The training program's state besides the weights, as it is kept in the home: bytes, or named arrays.
//!
//! A byte says which: `b` and the bytes, or `a` and a safetensors file. Nothing of it is ever executed.

use crate::{
    arrays::{self, Given},
    errors::Failure,
};
use bytes::Bytes;
use peerfold::{node::SavedState, run::LearnerError, weights::Weights};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyTuple},
};
use std::io::{Read, Write};

const BYTES: u8 = b'b';
const ARRAYS: u8 = b'a';

/// A state.
pub(crate) enum State {
    /// There is none.
    None,
    /// Bytes that only the program understands.
    Bytes(Bytes),
    /// Arrays by name.
    Arrays(Weights),
}

/// A state as Python gives it.
#[derive(FromPyObject)]
pub(crate) enum GivenState<'py> {
    /// Bytes.
    Bytes(Bound<'py, PyBytes>),
    /// Tensors.
    Arrays(Vec<Given<'py>>),
}

impl State {
    /// What Python gave.
    pub(crate) fn given(state: Option<GivenState<'_>>) -> PyResult<Self> {
        Ok(match state {
            None => Self::None,
            Some(GivenState::Bytes(bytes)) => Self::Bytes(Bytes::copy_from_slice(bytes.as_bytes())),
            Some(GivenState::Arrays(given)) => Self::Arrays(arrays::weights_of(given)?),
        })
    }

    /// Writes it for [`read`](Self::read). Equal states write equal bytes.
    pub(crate) fn write(&self, out: &mut dyn Write) -> Result<(), LearnerError> {
        match self {
            Self::None => {}
            Self::Bytes(bytes) => {
                out.write_all(&[BYTES])?;
                out.write_all(bytes)?;
            }
            Self::Arrays(arrays) => {
                out.write_all(&[ARRAYS])?;
                arrays.write_safetensors(out)?;
            }
        }
        Ok(())
    }

    /// Reads what [`write`](Self::write) wrote, which the home has verified.
    pub(crate) fn read(from: &mut dyn Read) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::new("CheckpointError", format!("the saved state can't be used: {what}"));
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|error| wrong(&error.to_string()))?;
        let bytes = Bytes::from(bytes);
        match bytes.first() {
            None => Ok(Self::None),
            Some(&BYTES) => Ok(Self::Bytes(bytes.slice(1..))),
            Some(&ARRAYS) => {
                let arrays = Weights::from_safetensors(&bytes.slice(1..));
                Ok(Self::Arrays(arrays.map_err(|error| wrong(&error.to_string()))?))
            }
            Some(_) => Err(wrong("it isn't one of the Python package's; give this program a home of its own")),
        }
    }

    /// What a checkpoint has saved.
    pub(crate) fn saved(saved: Option<SavedState>) -> Result<Self, Failure> {
        match saved {
            Some(saved) => Self::read(&mut *saved.reader()?),
            None => Ok(Self::None),
        }
    }

    /// As Python gets it: `None`, bytes, or a tuple with a list of tensors in it.
    pub(crate) fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(match self {
            Self::None => py.None(),
            Self::Bytes(bytes) => PyBytes::new(py, &bytes).into_any().unbind(),
            Self::Arrays(arrays) => PyTuple::new(py, [arrays::views(py, &arrays)?])?.into_any().unbind(),
        })
    }
}
