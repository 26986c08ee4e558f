"""Weights as the program has them, and as the native half takes them: named arrays of bytes.

A tensor on its way is `(name, dtype, shape, bytes)`, its bytes an array of `uint8`: of a contiguous array, a view.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._errors import SettingError, WeightsError

if TYPE_CHECKING:
    from ._native import Tensor

#: Weights: names to arrays. NumPy's, or anything with `__dlpack__` or `__array__`, such as PyTorch's tensors.
Weights = Mapping[str, Any]
#: Weights as they are returned.
Arrays = dict[str, Any]

_BY_NUMPY = {
    "float64": "f64",
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "int64": "i64",
    "int32": "i32",
    "int16": "i16",
    "int8": "i8",
    "uint64": "u64",
    "uint32": "u32",
    "uint16": "u16",
    "uint8": "u8",
    "bool": "bool",
}
#: The bits of an exponent, which are all set in what isn't finite, and in what word.
_EXPONENTS: dict[str, tuple[np.dtype[Any], Any]] = {
    "f64": (np.dtype("<u8"), np.uint64(0x7FF0 << 48)),
    "f32": (np.dtype("<u4"), np.uint32(0x7F80 << 16)),
    "f16": (np.dtype("<u2"), np.uint16(0x7C00)),
    "bf16": (np.dtype("<u2"), np.uint16(0x7F80)),
}
_TO_NUMPY = {name: numpy for numpy, name in _BY_NUMPY.items()}


def _dtype(name: str) -> np.dtype[Any]:
    if name != "bf16":
        plain: np.dtype[Any] = np.dtype(_TO_NUMPY[name]).newbyteorder("<")
        return plain
    try:
        import ml_dtypes
    except ImportError:
        raise WeightsError(
            "these weights have tensors of bfloat16, for which NumPy needs the package ml_dtypes: pip install ml_dtypes"
        ) from None
    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


def _has_only_torchs_bfloat16() -> bool:
    from importlib.util import find_spec

    return "torch" in sys.modules and find_spec("ml_dtypes") is None


def is_torch(value: object) -> bool:
    """Whether it is a tensor of PyTorch, if that is imported at all."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def tensor(name: str, value: Any) -> Tensor:
    """An array on its way. A view of it where its layout allows, else a copy.

    Raises `WeightsError` for what isn't numbers.
    """
    if not isinstance(name, str):
        raise WeightsError(f"{name!r} can't name a tensor: names are texts")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise WeightsError(f"{name!r} can't name a tensor: it has half of a character (a surrogate)") from None
    if value is None or isinstance(value, (Mapping, str, bytes)):
        raise WeightsError(f"{name}: {type(value).__name__} is no array: weights are a flat dict of names to arrays")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise WeightsError(f"{name}: masked elements can't be federated: fill them in, as with {name}.filled(0)")
    if is_torch(value):
        from . import _torch_tensors

        return _torch_tensors.tensor(name, value)
    try:
        array = np.asarray(value)
    except Exception as error:
        raise WeightsError(f"{name}: this is no array: {error}") from error
    dtype = _BY_NUMPY.get(array.dtype.name)
    if dtype is None:
        kinds = ", ".join(sorted(_BY_NUMPY))
        raise WeightsError(f"{name}: an array of {array.dtype} can't be federated; there are {kinds}")
    shape = array.shape
    little = array.dtype.newbyteorder("<")
    flat = np.ascontiguousarray(array, dtype=little if array.dtype.byteorder == ">" else None).reshape(-1)
    return name, dtype, list(shape), flat.view(np.uint8)


def not_finite(given: Iterable[Tensor]) -> str | None:
    """The first tensor on its way that has a number that isn't finite."""
    for name, dtype, _, data in given:
        if (kind := _EXPONENTS.get(dtype)) is not None:
            word, ones = kind
            if ((data.view(word) & ones) == ones).any():
                return name
    return None


def check(weights: object, what: str = "weights are") -> None:
    """Raises `WeightsError` for what isn't a dict."""
    if not isinstance(weights, Mapping):
        raise WeightsError(f"{what} a dict of names to arrays, not {type(weights).__name__}")


def tensors(weights: Weights, what: str = "weights are") -> list[Tensor]:
    """All of them, on their way."""
    check(weights, what)
    return [tensor(name, value) for name, value in weights.items()]


def array(dtype: str, shape: Iterable[int], data: npt.NDArray[np.uint8], copy: bool) -> npt.NDArray[Any]:
    """An array that has come. Without `copy` it is read-only and shares its memory with the node."""
    seen: npt.NDArray[Any] = data.view(_dtype(dtype)).reshape(tuple(shape))
    return seen.copy() if copy else seen


def arrays(came: Iterable[Tensor], like: Mapping[str, Any] | None = None, copy: bool = True) -> Arrays:
    """Weights that have come: tensors of PyTorch where those in `like` are, else arrays of NumPy."""
    result: Arrays = {}
    for name, dtype, shape, data in came:
        model = None if like is None else like.get(name)
        if is_torch(model) or (model is None and dtype == "bf16" and _has_only_torchs_bfloat16()):
            from . import _torch_tensors

            result[name] = _torch_tensors.torch_tensor(dtype, shape, data, model)
        else:
            result[name] = array(dtype, shape, data, copy)
    return result


def keeper(filter: Callable[[str], bool] | Iterable[str] | None) -> Callable[[str], bool]:
    """What says whether a tensor of this name is shared: a function, or patterns as in a shell."""
    if filter is None:
        return lambda _: True
    if callable(filter):
        return filter
    from fnmatch import fnmatchcase

    patterns = [filter] if isinstance(filter, str) else list(filter) if isinstance(filter, Iterable) else [None]
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise SettingError(
            f"filter = {filter!r}: give patterns of names, such as ['encoder.*'], or a function of a name"
        )
    return lambda name: any(fnmatchcase(name, pattern) for pattern in patterns)
