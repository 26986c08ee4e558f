"""Distributed training in PyTorch: the process of rank 0 has the node, and tells the others what came of it.

Nothing is pickled: what goes from process to process is JSON and bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from . import _arrays, _errors

if TYPE_CHECKING:
    from ._native import Tensor

#: The rank that has the node.
_FIRST = 0


def count() -> int:
    """How many processes train one model together; 1 outside of distributed training."""
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return 1
    return int(distributed.get_world_size())


def is_first() -> bool:
    """Whether this process has the node."""
    return count() == 1 or int(torch.distributed.get_rank()) == _FIRST


def total(number: int) -> int:
    """The sum of what all processes give."""
    if count() == 1:
        return number
    summed = torch.tensor([number], dtype=torch.int64, device=_device())
    torch.distributed.all_reduce(summed)
    return int(summed)


def _device() -> Any:
    """Where the process group moves tensors: NCCL only on its own device."""
    if "nccl" in str(torch.distributed.get_backend()):
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def _broadcast(values: Any) -> Any:
    """The first process's `uint8` values in all of them."""
    moved = values.to(_device())
    torch.distributed.broadcast(moved, src=_FIRST)
    return moved


def tell(said: Any = None) -> Any:
    """What the first process says, which JSON must have, in all of them."""
    size = torch.zeros(1, dtype=torch.int64)
    data = torch.zeros(0, dtype=torch.uint8)
    if is_first():
        data = torch.from_numpy(np.frombuffer(json.dumps(said).encode(), np.uint8).copy())
        size[0] = len(data)
    size = _broadcast(size).cpu()
    if not is_first():
        data = torch.zeros(int(size), dtype=torch.uint8)
    return json.loads(bytes(_broadcast(data).cpu().numpy()))


def lead(call: Callable[[], Any]) -> Any:
    """Has the first process do this, and gives what it gives in all of them. What it raises is raised in all."""
    if count() == 1:
        return call()
    if not is_first():
        told = tell()
        if "error" in told:
            kind, message = told["error"]
            cls = getattr(_errors, kind, _errors.Error)
            raise cls(message)
        return told["gave"]
    try:
        gave = call()
    except Exception as error:
        kind = type(error).__name__ if isinstance(error, _errors.Error) else _errors.Error.__name__
        tell({"error": [kind, f"in the process of rank {_FIRST}: {error}"]})
        raise
    return tell({"gave": gave})["gave"]


def spread(tensors: Iterable[Any]) -> None:
    """Makes the values of these tensors those of the first process, in place. All processes have the same ones."""
    if count() == 1:
        return
    with torch.no_grad():
        for tensor in tensors:
            if not tensor.numel():
                continue
            # As bytes: a process group knows fewer dtypes than PyTorch.
            flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            came = _broadcast(flat)
            if not is_first():
                tensor.copy_(came.to(tensor.device).view(tensor.dtype).reshape(tensor.shape))


def spread_state(state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The first process's arrays by name, in all of them."""
    if count() == 1:
        return None if state is None else dict(state)
    given: list[Tensor] = [] if state is None else _arrays.tensors(state)
    listed = tell(None if state is None else [(name, dtype, shape, len(data)) for name, dtype, shape, data in given])
    if listed is None:
        return None
    came: list[Tensor] = []
    for at, (name, dtype, shape, length) in enumerate(listed):
        data = torch.from_numpy(given[at][3].copy()) if given else torch.zeros(length, dtype=torch.uint8)
        came.append((name, dtype, shape, _broadcast(data).cpu().numpy() if length else data.numpy()))
    return _arrays.arrays(came)
