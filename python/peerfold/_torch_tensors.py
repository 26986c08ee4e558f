"""Tensors of PyTorch on their way to and from the native half. Imported only where there is PyTorch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from ._errors import WeightsError

if TYPE_CHECKING:
    from ._native import Tensor

_NAMES = {
    torch.float64: "f64",
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int16: "i16",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.bool: "bool",
}
for _name, _short in (("uint16", "u16"), ("uint32", "u32"), ("uint64", "u64")):
    if hasattr(torch, _name):
        _NAMES[getattr(torch, _name)] = _short
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


def tensor(name: str, value: Any) -> Tensor:
    """A tensor on its way: its bytes by DLPack where it lies contiguously in the processor's memory, else a copy."""
    dtype = _NAMES.get(value.dtype)
    if dtype is None:
        raise WeightsError(f"{name}: a tensor of {value.dtype} can't be federated")
    if value.layout != torch.strided:
        raise WeightsError(f"{name}: a tensor of layout {value.layout} can't be federated: make it dense")
    if value.is_meta:
        raise WeightsError(f"{name}: a tensor on the device meta has no data that could be federated")
    flat = value.detach().cpu().contiguous().reshape(-1)
    # As bytes, for NumPy's DLPack knows no bfloat16.
    data = np.from_dlpack(flat.view(torch.uint8))
    return name, dtype, list(value.shape), data.view(np.uint8)


def torch_tensor(dtype: str, shape: Iterable[int], data: npt.NDArray[np.uint8], like: Any = None) -> Any:
    """A tensor that has come: a copy, on the device of `like`."""
    with warnings.catch_warnings():
        # It is copied before anybody could write to it.
        warnings.simplefilter("ignore", UserWarning)
        flat = torch.from_numpy(data)
    device = "cpu" if like is None else like.device
    return flat.clone().view(_DTYPES[dtype]).reshape(tuple(shape)).to(device)
