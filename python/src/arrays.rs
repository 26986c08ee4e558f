//! Weights from NumPy arrays, and arrays from weights.
//!
//! The package's Python half gives and takes each tensor as its name, the name of its dtype, its shape, and its bytes as
//! an array of `uint8`: NumPy has a view of any contiguous array as that, and no bfloat16 of its own.

use crate::errors::Failure;
use bytes::Bytes;
use numpy::{PyArray1, PyArrayMethods, PyUntypedArrayMethods, ndarray::ArrayView1};
use peerfold::weights::{DType, Tensor, TensorSpec, Weights};
use pyo3::{prelude::*, types::PyList};

/// Bases of arrays that are looked through for a [`Buffer`]. NumPy itself collapses chains of views.
const MAX_BASES: usize = 8;

/// Bytes that never change, which arrays are views of.
#[pyclass(frozen, module = "peerfold._native")]
pub(crate) struct Buffer(Bytes);

/// A tensor as Python gives it: name, dtype, shape, bytes.
pub(crate) type Given<'py> = (String, String, Vec<u64>, Bound<'py, PyArray1<u8>>);

/// A tensor as Python gets it: name, dtype, shape, read-only bytes.
pub(crate) type Got<'py> = (String, String, Vec<u64>, Bound<'py, PyArray1<u8>>);

/// The weights of these arrays. What is a view of a [`Buffer`] is shared; what the program may still change is copied,
/// because weights outlive the call: they are hashed, sent and folded while the program trains on.
pub(crate) fn weights_of(given: Vec<Given<'_>>) -> Result<Weights, PyErr> {
    let tensors = given.into_iter().map(|(name, dtype, shape, array)| {
        let known = DType::ALL.into_iter().find(|known| known.to_string() == dtype);
        let dtype = known.ok_or_else(|| Failure::weights(format!("{name}: there is no dtype {dtype}")))?;
        Ok(Tensor { spec: TensorSpec { name, dtype, shape }, data: bytes_of(&array)? })
    });
    let tensors = tensors.collect::<PyResult<Vec<_>>>()?;
    Ok(Weights::new(tensors).map_err(Failure::from)?)
}

fn bytes_of(array: &Bound<'_, PyArray1<u8>>) -> PyResult<Bytes> {
    if let Some(shared) = shared(array) {
        return Ok(shared);
    }
    let array = array.try_readonly()?;
    let contiguous = array.as_slice()?;
    Ok(Bytes::copy_from_slice(contiguous))
}

/// The bytes of a view of a [`Buffer`].
fn shared(array: &Bound<'_, PyArray1<u8>>) -> Option<Bytes> {
    if !array.is_contiguous() {
        return None;
    }
    let mut base = array.as_any().getattr("base").ok()?;
    for _ in 0..MAX_BASES {
        if let Ok(buffer) = base.cast::<Buffer>() {
            let Buffer(bytes) = buffer.get();
            let start = (array.data() as usize).checked_sub(bytes.as_ptr() as usize)?;
            let end = start.checked_add(array.len())?;
            return (end <= bytes.len()).then(|| bytes.slice(start..end));
        }
        base = base.getattr("base").ok()?;
    }
    None
}

/// Read-only views of the weights, in order of their names. Nothing is copied.
pub(crate) fn views<'py>(py: Python<'py>, weights: &Weights) -> PyResult<Bound<'py, PyList>> {
    let got = weights.tensors().map(|(spec, bytes)| got(py, spec, bytes)).collect::<PyResult<Vec<Got<'py>>>>()?;
    PyList::new(py, got)
}

fn got<'py>(py: Python<'py>, spec: &TensorSpec, bytes: &Bytes) -> PyResult<Got<'py>> {
    let buffer = Bound::new(py, Buffer(bytes.clone()))?;
    let view = ArrayView1::from(&buffer.get().0[..]);
    // SAFETY: the array keeps `buffer` as its base, for as long as it or a view of it lives. The class is frozen, so the
    // bytes stay where they are; and the array is made read-only before anybody else sees it, so nobody writes to them.
    let array = unsafe { PyArray1::borrow_from_array(&view, buffer.clone().into_any()) };
    array.call_method1("setflags", (false,))?;
    Ok((spec.name.clone(), spec.dtype.to_string(), spec.shape.clone(), array))
}
